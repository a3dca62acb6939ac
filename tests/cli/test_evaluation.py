"""`evaluate` and `score`."""

from __future__ import annotations

import errno
import gzip
import json
import os
import stat
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.cli import console
from dynamic_tinybert.cli.app import app
from dynamic_tinybert.evaluation import Evaluation, evaluate
from dynamic_tinybert.squad import read_squad, score
from support.commands import complaint

CONTEXT = "The lighthouse of Port Ellis was built by Agnes Moreau in 1871. Its keeper was Barnaby Whitlock."
Run = Callable[..., Result]


def document(version: str = "1.1") -> dict[str, Any]:
    qas: list[dict[str, Any]] = [
        {"id": "a", "question": "Who built the lighthouse?", "answers": [{"text": "Agnes Moreau", "answer_start": 42}]},
        {"id": "b", "question": "When was it built?", "answers": [{"text": "the year 1871", "answer_start": 58}]},
        {"id": "ç", "question": "Who was the keeper?", "answers": [{"text": "Barnaby Whitlock", "answer_start": 79}]},
    ]
    if version == "v2.0":
        qas.append({"id": "d", "question": "What is the price of copper?", "answers": [], "is_impossible": True})
    return {"version": version, "data": [{"title": "x", "paragraphs": [{"context": CONTEXT, "qas": qas}]}]}


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "dev.json", document())


@pytest.fixture
def run(qa: QuestionAnswerer, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process; the embedded model is there already."""
    load = console.load
    monkeypatch.setattr(console, "load", lambda model, *options: qa if model == "embedded" else load(model, *options))

    def invoke(*arguments: object) -> Result:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


def printed(result: Result) -> dict[str, Any]:
    """The one JSON object that `--json` printed."""
    assert result.exit_code == 0, result.stderr
    assert len(result.stdout.splitlines()) == 1
    value = json.loads(result.stdout)
    assert isinstance(value, dict)
    return value


# evaluate


@pytest.mark.parametrize("version", ["1.1", "v2.0"])
def test_evaluate_prints_the_figures_of_the_contract(
    run: Run, qa: QuestionAnswerer, tmp_path: Path, version: str
) -> None:
    path = write(tmp_path / "dev.json", document(version))
    found = printed(run("evaluate", path, "--json"))
    expected = evaluate(qa, read_squad(path)).to_dict()
    assert {"exact_match", "f1", "total", "macs_share", "seconds"} <= found.keys()
    assert found.keys() == expected.keys()
    assert {k: v for k, v in found.items() if k != "seconds"} == {k: v for k, v in expected.items() if k != "seconds"}
    assert found["total"] == len(document(version)["data"][0]["paragraphs"][0]["qas"])
    assert found["f1"] > 50
    assert isinstance(found["seconds"], float)


def test_evaluate_says_the_same_to_people(run: Run, data: Path) -> None:
    found = printed(run("evaluate", data, "--json"))
    result = run("evaluate", data)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert float(lines["exact_match"]) == pytest.approx(found["exact_match"], abs=1e-3)
    assert float(lines["f1"]) == pytest.approx(found["f1"], abs=1e-3)
    assert lines["total"] == "3"
    assert lines["macs_share"].split() == ["1.0000", "(full)"]
    assert "seconds" in lines


def test_evaluate_takes_a_budget_and_a_limit(run: Run, data: Path, qa: QuestionAnswerer) -> None:
    found = printed(run("evaluate", data, "--budget", "0.5", "--limit", "2", "--json"))
    assert found["total"] == 2
    assert found["macs_share"] == round(qa.table.select(qa.shape, 0.5).share, 4) < 1
    assert found["speedup_over_bert_base"] > printed(run("evaluate", data, "--json"))["speedup_over_bert_base"]


def test_evaluate_writes_predictions_that_score_the_same(run: Run, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    found = printed(run("evaluate", data, "--predictions", path, "--json"))
    predictions = json.loads(path.read_text("utf-8"))
    assert list(predictions) == ["a", "b", "ç"]
    assert predictions["a"] == "Agnes Moreau"
    scores = printed(run("score", data, path, "--json"))
    assert {key: found[key] for key in scores} == scores


def test_evaluate_reads_gzip_and_takes_a_model(run: Run, tmp_path: Path, tiny_folder: Path) -> None:
    path = tmp_path / "dev.json.gz"
    path.write_bytes(gzip.compress(json.dumps(document()).encode()))
    found = printed(run("evaluate", path, "--model", tiny_folder, "--threads", "1", "--json"))
    assert found["total"] == 3


def test_evaluate_of_2_tells_the_threshold_and_the_oracle(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "dev.json", document("v2.0"))
    answers, na_probs = tmp_path / "answers.json", tmp_path / "na.json.gz"
    options = ("--no-answer-threshold", "1e9", "--predictions", answers, "--na-probs", na_probs)
    found = printed(run("evaluate", path, *options, "--json"))
    assert found["no_answer_threshold"] == 1e9
    assert (found["NoAns_f1"], found["HasAns_total"]) == (0.0, 3)
    # score, and evaluate-v2.0.py, find the same best figures in what was written.
    scored = printed(run("score", path, answers, "--na-probs", na_probs, "--json"))
    assert (scored["best_f1"], scored["best_exact"]) == (found["oracle_f1"], found["oracle_exact"])
    assert scored["f1"] == found["f1"]  # probabilities are at most 1, the threshold there
    tuned = printed(
        run(
            "score", path, answers, "--na-probs", na_probs, "--na-prob-thresh", repr(scored["best_f1_thresh"]), "--json"
        )
    )
    assert tuned["f1"] == pytest.approx(scored["best_f1"])
    shown = run("evaluate", path, *options[:2]).stdout
    assert "oracle_f1" in shown
    assert "the best threshold for these same questions" in shown
    assert f"best_f1      {scored['best_f1']:.3f}" in run("score", path, answers, "--na-probs", na_probs).stdout


def test_what_goes_with_2_is_refused_with_1(run: Run, data: Path, tmp_path: Path) -> None:
    for option, value in (("--na-probs", tmp_path / "na.json"), ("--no-answer-threshold", "0")):
        line = complaint(run("evaluate", data, option, value), 2)
        assert f"{option} needs SQuAD 2.0 data" in line
    assert not (tmp_path / "na.json").exists()
    answers = write(tmp_path / "answers.json", {"a": "Agnes Moreau"})
    na_probs = write(tmp_path / "na.json", {"a": 0.5})
    assert "needs --na-probs" in complaint(run("score", data, answers, "--na-prob-thresh", "0.5"), 2)
    assert "not nan" in complaint(run("score", data, answers, "--na-probs", na_probs, "--na-prob-thresh", "nan"), 2)
    both = ("--predictions", tmp_path / "x.json", "--na-probs", tmp_path / "x.json")
    assert "name the same file" in complaint(run("evaluate", data, *both), 2)
    assert "probabilities of no answer are for 2.0" in complaint(run("score", data, answers, "--na-probs", na_probs), 1)


@pytest.mark.parametrize("value", ["0.5", None, True, [0.5], float("nan"), 10**400])
def test_score_refuses_what_is_no_probability(run: Run, tmp_path: Path, value: object) -> None:
    path = write(tmp_path / "dev.json", document("v2.0"))
    answers = write(tmp_path / "answers.json", {"ç": "nobody"})
    na_probs = write(tmp_path / "na.json", {"ç": value})
    assert "has 'ç', but it is not a number up to 1e9" in complaint(
        run("score", path, answers, "--na-probs", na_probs), 1
    )
    assert "not an object" in complaint(run("score", path, answers, "--na-probs", write(na_probs, [0.5])), 1)
    assert "no probability of no answer" in complaint(run("score", path, answers, "--na-probs", write(na_probs, {})), 1)


def test_evaluate_in_a_process_of_its_own(data: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dynamic_tinybert", "evaluate", str(data), "--json"], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["total"] == 3


def test_evaluate_refuses_what_is_not_there_or_no_squad(run: Run, data: Path, tmp_path: Path) -> None:
    assert "No such file" in complaint(run("evaluate", tmp_path / "nothing.json"), 1)
    assert "directory" in complaint(run("evaluate", tmp_path), 1)
    text = tmp_path / "text.json"
    text.write_text("The tower.")
    assert "is not JSON" in complaint(run("evaluate", text), 1)
    assert "has no 'data'" in complaint(run("evaluate", write(text, {"a": 1})), 1)
    assert "no questions" in complaint(run("evaluate", write(text, {"data": []})), 1)
    assert "no such folder" in complaint(run("evaluate", data, "--model", tmp_path / "nowhere"), 1)
    nowhere = tmp_path / "no" / "answers.json"
    assert str(nowhere) in complaint(run("evaluate", data, "--predictions", nowhere), 1)


@pytest.mark.parametrize("budget", ["0", "2", "cheap", "nan"])
def test_evaluate_refuses_a_budget_without_sense(run: Run, data: Path, budget: str) -> None:
    assert "a budget must be" in complaint(run("evaluate", data, "--budget", budget), 2)


@pytest.mark.parametrize("arguments", [[], ["dev.json", "--limit", "0"], ["dev.json", "--limit", "x"], ["a", "b"]])
def test_evaluate_put_wrongly_is_misuse(run: Run, arguments: list[str]) -> None:
    result = run("evaluate", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error" in result.stderr


def test_evaluate_finds_at_once_that_predictions_cannot_be_written(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: list[object] = []

    def recorded(*arguments: Any, **options: Any) -> Evaluation:
        answered.append(arguments)
        return evaluate(*arguments, **options)

    monkeypatch.setattr("dynamic_tinybert.evaluation.evaluate", recorded)
    (tmp_path / "answers").mkdir()
    complaint(run("evaluate", data, "--predictions", tmp_path / "answers"), 1)
    assert not answered


def test_predictions_never_replace_the_data(run: Run, data: Path) -> None:
    before = data.read_bytes()
    assert "is an input" in complaint(run("evaluate", data, "--predictions", data), 2)
    assert data.read_bytes() == before


def test_predictions_never_replace_the_list_of_titles(run: Run, data: Path, tmp_path: Path) -> None:
    titles = tmp_path / "titles.txt"
    titles.write_text("x\n", "utf-8")
    assert "is an input" in complaint(run("evaluate", data, "--titles", titles, "--predictions", titles), 2)
    assert titles.read_text("utf-8") == "x\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_predictions_go_into_a_pipe(run: Run, data: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    assert run("evaluate", data, "--predictions", pipe).exit_code == 0
    reader.join(60)
    assert isinstance(json.loads(read[0]), dict)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_figures_are_printed_even_if_predictions_cannot_be_written(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("dynamic_tinybert.cli.console.write_result", full)
    result = run("evaluate", data, "--predictions", tmp_path / "answers.json")
    assert result.exit_code == 1
    assert "macs_share" in result.stdout
    assert "No space left" in result.stderr


def test_predictions_are_written_even_if_figures_cannot_be_printed(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("dynamic_tinybert.cli.evaluation._print_evaluation", full)
    assert run("evaluate", data, "--predictions", tmp_path / "answers.json").exit_code != 0
    assert isinstance(json.loads((tmp_path / "answers.json").read_text("utf-8")), dict)


def test_predictions_are_packed_where_their_name_says_so(run: Run, data: Path, tmp_path: Path) -> None:
    assert run("evaluate", data, "--predictions", tmp_path / "answers.json.gz").exit_code == 0
    assert (tmp_path / "answers.json.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert run("score", data, tmp_path / "answers.json.gz").exit_code == 0


def test_a_model_that_is_not_there_leaves_no_predictions(run: Run, data: Path, tmp_path: Path) -> None:
    complaint(run("evaluate", data, "--model", "/nowhere", "--predictions", tmp_path / "answers.json"), 1)
    assert not (tmp_path / "answers.json").exists()


# score


@pytest.mark.parametrize("version", ["1.1", "v2.0"])
def test_score_is_the_official_metric(run: Run, tmp_path: Path, version: str) -> None:
    path = write(tmp_path / "dev.json", document(version))
    predictions = {"a": "Agnes Moreau", "b": "1871", "ç": "nobody", "d": ""}
    answers = write(tmp_path / "answers.json", predictions)
    found = printed(run("score", path, answers, "--json"))
    assert found == score(read_squad(path), predictions).to_dict()
    assert found["exact_match"] == pytest.approx(100 / 3 if version == "1.1" else 50)
    assert found["f1"] == pytest.approx((1 + 2 / 3) / 3 * 100 if version == "1.1" else (2 + 2 / 3) / 4 * 100)
    shown = run("score", path, answers)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert f"{found['f1']:.3f}" in shown.stdout
    assert len(shown.stdout.splitlines()) == len(found)


def test_score_warns_of_missing_predictions(run: Run, data: Path, tmp_path: Path) -> None:
    result = run("score", data, write(tmp_path / "answers.json", {"a": "Agnes Moreau"}), "--json")
    assert printed(result)["missing"] == 2
    assert result.stderr.splitlines() == [
        "dynamic-tinybert: warning: 2 of 3 questions have no prediction, and count as wrong"
    ]


def test_score_refuses_what_is_no_file_of_predictions(run: Run, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    assert "No such file" in complaint(run("score", data, path), 1)
    assert "No such file" in complaint(run("score", path, data), 1)
    assert "not an object" in complaint(run("score", data, write(path, ["Paris"])), 1)
    assert "not a string" in complaint(run("score", data, write(path, {"a": 1871})), 1)
    assert "no prediction has an id" in complaint(run("score", data, write(path, {"x": "Paris"})), 1)
    path.write_bytes(b"\xff\xfe{}")
    assert "not UTF-8" in complaint(run("score", data, path), 1)


def test_score_loads_no_model(data: Path, tmp_path: Path) -> None:
    answers = write(tmp_path / "answers.json", {"a": "Agnes Moreau"})
    script = (
        "import sys\nfrom typer.testing import CliRunner\nfrom dynamic_tinybert.cli.app import app\n"
        f"result = CliRunner().invoke(app, ['score', {str(data)!r}, {str(answers)!r}])\n"
        "assert result.exit_code == 0, result.output\n"
        "assert not {'onnxruntime', 'tokenizers'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.skipif(os.name != "posix", reason="makes symbolic links")
def test_a_link_to_predictions_stays_a_link(run: Run, data: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to("elsewhere.json")
    complaint(run("evaluate", data, "--model", "/nowhere", "--predictions", link), 1)
    assert link.is_symlink()
    assert not link.exists()
    assert run("evaluate", data, "--predictions", link).exit_code == 0
    assert link.is_symlink()
    assert run("score", data, tmp_path / "elsewhere.json").exit_code == 0


def test_half_a_character_in_a_context_costs_nothing(run: Run, tmp_path: Path) -> None:
    content = document("1.1")
    content["data"][0]["paragraphs"][0]["context"] += " \ud800"
    path = tmp_path / "dev.json"
    path.write_text(json.dumps(content))
    assert run("evaluate", path, "--predictions", tmp_path / "answers.json").exit_code == 0
    assert run("score", path, tmp_path / "answers.json").exit_code == 0
