"""Model cards: completed from the folder, and never a word of a person's changed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dynamic_tinybert.folder import ModelFolder, ModelFolderError, open_folder
from dynamic_tinybert.model import BudgetError
from dynamic_tinybert.publish import Card, complete_card
from dynamic_tinybert.publish.card import evaluation_results

NAME = "ada/engine"
PROSE = "\n# Engine\n\nWörter, 言葉 ✓  \nund `Code`\n"
Measured = Callable[[str], ModelFolder]


def parts(text: str) -> tuple[dict[str, Any], str]:
    """The metadata of a card, read as the Hub reads it, and its body."""
    found = re.match(r"(\s*---(?:\r\n|\r|\n))([\S\s]*?)((?:\r\n|\r|\n)---[ \t]*(\r\n|\n|$))", text)
    assert found, text[:200]
    keys = re.findall(r"^([\w-]+):", found[2], re.MULTILINE)
    assert len(keys) == len(set(keys)), "a key is given twice, which the Hub refuses"
    values = yaml.safe_load(found[2])
    assert isinstance(values, dict)
    return values, text[found.end() :]


def finished(text: str | None, folder: ModelFolder, **options: Any) -> tuple[Card, dict[str, Any], str]:
    card = complete_card(text, folder, NAME, **options)
    return card, *parts(card.text)


@pytest.fixture
def tiny_model(tiny_folder: Path) -> ModelFolder:
    return open_folder(tiny_folder)


@pytest.fixture
def measured(tiny_folder: Path, tmp_path: Path) -> Measured:
    """The tiny model with a table of configurations that was measured on some data."""

    def make(data: str) -> ModelFolder:
        folder = shutil.copytree(tiny_folder, tmp_path / "measured")
        configs = [
            {"name": "full", "fractions": [1, 1], "share": 1, "exact_match": 61.234, "f1": 71.5},
            {"name": "a|b", "fractions": [0.5, 0.25], "share": 0.4, "exact_match": 50, "f1": 60},
        ]
        (folder / "length_configs.json").write_text(json.dumps({"measured_on": data, "configs": configs}))
        return open_folder(folder)

    return make


def test_a_card_is_written_where_there_is_none(measured: Measured) -> None:
    card, values, body = finished(None, measured("SQuAD 1.1, the questions of heldout-confirm"), license="mit")
    assert values["license"] == "mit"
    assert values["library_name"] == "dynamic-tinybert"
    assert values["pipeline_tag"] == "question-answering"
    assert {"question-answering", "extractive-qa", "bert", "squad"} <= {*values["tags"]}
    ((result,),) = (index["results"] for index in values["model-index"])
    assert result["task"]["type"] == "question-answering"
    assert result["dataset"] == {"type": "rajpurkar/squad", "name": "SQuAD 1.1, the questions of heldout-confirm"}
    assert {m["type"]: m["value"] for m in result["metrics"]} == {"exact_match": 61.23, "f1": 71.5}
    assert "2 layers, hidden 32, 2 heads, feed-forward 64" in body
    assert re.search(r"^\| a\\\|b \| 0\.\d\d \| 50\.00 \| 60\.00 \| 0\.50 0\.25 \|$", body, re.MULTILINE)
    assert body.count(f'QuestionAnswerer("{NAME}")') == 1
    for heading in ("# engine", "## Architecture", "## How to use it", "## Length configurations", "## Limits"):
        assert f"\n{heading}" in f"\n{body}"
    assert card.missing == ["language", "datasets", "intended use", "training"]


def test_what_the_card_shows_runs(
    tiny_model: ModelFolder, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, body = finished(None, tiny_model, license="mit")
    block = re.findall(r"```python\n(.*?)```", body, re.DOTALL)[0]
    with pytest.warns(UserWarning, match="no measured table"):
        exec(compile(block.replace(NAME, str(tiny_folder)), "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ("SQuAD 1.1, the 4,790 questions of heldout-confirm", "rajpurkar/squad"),
        ("SQuAD 2.0, the 11,873 questions of dev-v2.0", "rajpurkar/squad_v2"),
        ("SQuAD 1.1, the 5,000 questions of the other half of the articles of dev-v1.1", "rajpurkar/squad"),
        ("SQuAD 2.0, the 18 questions of our-mail", "other"),
        ("our mail", "other"),
    ],
)
def test_figures_are_of_the_data_they_were_measured_on(measured: Measured, data: str, kind: str) -> None:
    _, values, _ = finished(None, measured(data), license="mit")
    split = {"split": "validation"} if data.endswith("questions of dev-v2.0") else {}
    assert values["model-index"][0]["results"][0]["dataset"] == {"type": kind, "name": data, **split}


def test_a_card_that_is_nothing_but_metadata_without_a_line_end(tiny_model: ModelFolder) -> None:
    _, values, body = finished("---\nlicense: mit\n---", tiny_model)
    assert (values["license"], values["library_name"]) == ("mit", "dynamic-tinybert")
    assert body.startswith("# engine\n")


def test_figures_of_another_table_are_noticed(measured: Measured) -> None:
    folder = measured("SQuAD 1.1, the 4,790 questions of heldout-confirm")
    prose = f"---\nlicense: mit\n---\n# Engine\n\n| configuration | share | F1 |\n\nmodel {NAME}, {{}} F1\n"
    assert not finished(prose.format("70.00"), folder)[0].has_figures
    assert finished(prose.format("71.50"), folder)[0].has_figures


def test_nothing_is_claimed_that_nobody_measured(tiny_model: ModelFolder) -> None:
    _, values, body = finished(None, tiny_model, license="mit")
    assert "model-index" not in values
    assert "squad" not in values["tags"]
    assert "None was measured" in body


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("block", ["", "---\nlanguage: de  # ja\nlicense: mit\ntags: [mine]\n---\n"])
def test_a_persons_words_stay_as_they_are(tiny_model: ModelFolder, block: str, line_end: str) -> None:
    block, prose = (text.replace("\n", line_end) for text in (block, PROSE))
    card, values, body = finished(block + prose, tiny_model, license="mit")
    assert body.startswith(prose)
    assert block.removesuffix(f"---{line_end}") in card.text
    assert values["license"] == "mit"
    assert values["library_name"] == "dynamic-tinybert"
    if block:
        assert (values["language"], values["tags"]) == ("de", ["mine"])
        assert "tags" not in card.added
    assert line_end == "\n" or not re.search(r"(?<!\r)\n", card.text.removeprefix("---\n") if block else body)


def test_a_card_that_says_all_of_it_stays_whole(embedded: Path) -> None:
    old = (embedded / "README.md").read_text("utf-8")
    card, values, body = finished(old, open_folder())
    assert card.text.startswith(old)
    assert (card.added, card.missing) == (["From the Hub"], [])
    assert values["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert f'QuestionAnswerer("{NAME}")' in body
    again = complete_card(card.text, open_folder(), NAME)
    assert (again.text, again.added) == (card.text, [])


def test_another_models_name_is_not_its_own(tiny_model: ModelFolder) -> None:
    old = f"---\nlicense: mit\n---\n# E\n\nLike {NAME}-2 and eve/{NAME}.\n"
    assert "How to use it" in complete_card(old, tiny_model, NAME).added
    assert "How to use it" not in complete_card(f"{old}See `{NAME}`.\n", tiny_model, NAME).added


def test_code_in_a_card_is_no_heading(tiny_model: ModelFolder) -> None:
    old = "---\nlicense: mit\n---\n# E\n\n```sh\n# how to use it: limits, bias, training\n| share |\n```\n"
    card, _, _ = finished(old, tiny_model)
    assert {"How to use it", "Limits, bias, and what it is not for", "Length configurations"} <= {*card.added}
    assert "training" in card.missing


def test_a_written_card_is_written_anew_until_somebody_changes_it(tiny_model: ModelFolder, measured: Measured) -> None:
    first = complete_card(None, tiny_model, NAME, license="mit").text
    later = measured("SQuAD 1.1")
    _, values, body = finished(first, later)  # the licence is taken over
    assert values["license"] == "mit"
    assert "model-index" in values
    assert "None was measured" not in body
    changed = first.replace("# engine", "# Engine No. 1")
    _, values, body = finished(changed, later)
    assert body.startswith("# Engine No. 1")
    assert "None was measured" in body
    assert "model-index" in values


def test_a_licence_must_be_stated(tiny_model: ModelFolder) -> None:
    for text in (
        None,
        "",
        "# Engine\n",
        "---\nlanguage: en\n---\n",
        "---\nlicense:\n---\n",
        " ---x\nlicense: mit\n---\n",
    ):
        with pytest.raises(ModelFolderError, match=r"--license apache-2\.0"):
            complete_card(text, tiny_model, NAME)
    with pytest.raises(ModelFolderError, match=r"license: mit, not apache-2\.0"):
        complete_card("---\nlicense: mit\n---\n", tiny_model, NAME, license="apache-2.0")
    assert complete_card("---\nlicense: mit\n---\n", tiny_model, NAME, license="mit")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("license: [mit", "not YAML"),
        ("- license\n- mit", "no keys with values"),
        ("mit", "no keys with values"),
        ("{license: mit}", "add library_name"),
        ("license: mit\nx: !!python/object:os.system 1", "not YAML"),
        ("[" * 5000, "not YAML"),
        ("license: mit\n\t- x", "not YAML"),
    ],
)
def test_metadata_that_cannot_be_read_or_added_to_is_named(tiny_model: ModelFolder, block: str, said: str) -> None:
    with pytest.raises(ModelFolderError, match=said) as caught:
        complete_card(f"---\n{block}\n---\n# Engine\n", tiny_model, NAME)
    assert "\n" not in str(caught.value)


def test_a_broken_table_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "broken")
    (folder / "length_configs.json").write_text("{}")
    with pytest.raises(BudgetError, match=r"length_configs\.json"):
        complete_card(None, open_folder(folder), NAME, license="mit")


def test_a_huge_card_is_completed(tiny_model: ModelFolder) -> None:
    old = "---\nlicense: mit\n---\n" + "word `code` ``` # not a heading\n" * 60_000
    assert complete_card(old, tiny_model, NAME).text.count("word `code`") == 60_000


def index_of(*results: str) -> str:
    return "---\nmodel-index:\n- name: m\n  results:\n" + "".join(results) + "---\n"


DEV = "{type: rajpurkar/squad, split: validation}"


def result(task: str = "question-answering", dataset: str = DEV, f1: str = "80.5") -> str:
    metrics = f"[{{type: exact_match, value: 70.0}}, {{type: f1, value: {f1}}}]"
    return f"  - {{task: {{type: {task}}}, dataset: {dataset}, metrics: {metrics}}}\n"


def test_results_on_squad_are_a_file_of_the_hub() -> None:
    second = DEV.replace("squad", "squad_v2")
    found = evaluation_results(index_of(result(), result(f1="1.0"), result(dataset=second)))
    assert found is not None
    first, other = yaml.safe_load(found)
    notes = "F1; exact match 70.0"
    assert first == {"dataset": {"id": "rajpurkar/squad", "task_id": "plain_text"}, "value": 80.5, "notes": notes}
    assert other["dataset"] == {"id": "rajpurkar/squad_v2", "task_id": "squad_v2"}


@pytest.mark.parametrize(
    "changed",
    [
        {"task": "text-generation"},
        {"dataset": "{type: rajpurkar/squad, split: train}"},
        {"dataset": "{type: rajpurkar/squad}"},  # articles of train may have been measured
        {"dataset": "{type: [rajpurkar/squad]}"},
        {"dataset": "mine"},
        {"f1": ".nan"},
        {"f1": ".inf"},
        {"f1": "true"},
        {"f1": "{a: 1}"},
        {"f1": "180"},
    ],
)
def test_what_is_no_result_on_squad_is_not_published(changed: dict[str, str]) -> None:
    assert evaluation_results(index_of(result(**changed))) is None
