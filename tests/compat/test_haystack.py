"""The haystack reader: in pipelines, beside stored answers of TransformersExtractiveReader, and by itself."""

from __future__ import annotations

import asyncio
import copy
import inspect
import itertools
import json
import logging
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
pytest.importorskip("haystack", reason="needs haystack-ai: pip install 'dynamic-tinybert[haystack]'")

from haystack import Document, ExtractedAnswer, Pipeline
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import ComponentDevice, Secret

from dynamic_tinybert import BudgetError, ModelFolderError
from dynamic_tinybert.files import install_command
from dynamic_tinybert.haystack import ExtractiveReader

pytestmark = pytest.mark.haystack

ROOT = Path(__file__).parents[2]
NAME = "haystack_integrations.components.readers.dynamic_tinybert.ExtractiveReader"
QUERY = "Where is the tower?"
TOWER = "The tower stands in Paris. Everybody knows that it is in Paris. It was built in 1889."
OTHER = "The lighthouse of Port Ellis was built by Agnes Moreau in 1871."
TEXTS = [OTHER, TOWER, "Cheese is made of milk.", f"{OTHER} " * 60 + TOWER]


@pytest.fixture(scope="module")
def reader() -> ExtractiveReader:
    reader = ExtractiveReader()
    reader.warm_up()
    return reader


@pytest.fixture(scope="module")
def quick(tiny_folder: Path) -> ExtractiveReader:
    reader = ExtractiveReader(tiny_folder)
    reader.warm_up()
    return reader


def documents(*texts: str | None) -> list[Document]:
    return [Document(content=text, id=str(number)) for number, text in enumerate(texts or TEXTS)]


def ask(reader: ExtractiveReader, *texts: str | None, query: str = QUERY, **options: Any) -> list[ExtractedAnswer]:
    answers: list[ExtractedAnswer] = reader.run(query=query, documents=documents(*texts), **options)["answers"]
    return answers


def places(answers: list[ExtractedAnswer]) -> list[Any]:
    return [(a.data, a.document and a.document.id, a.document_offset, round(a.score, 5)) for a in answers]


# Beside TransformersExtractiveReader


STORED = json.loads((ROOT / "tests/compat/transformers_haystack_2.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def untold() -> ExtractiveReader:
    """A reader that does not tell the model which tokens are the document's, as the other does not."""
    return ExtractiveReader(token_types=False)


@pytest.mark.slow
@pytest.mark.parametrize("run", STORED["runs"], ids=lambda run: f"{run['which']} {run['told']} {run['options']}")
def test_answers_are_those_of_transformers(
    reader: ExtractiveReader, untold: ExtractiveReader, run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, given = reader if run["told"] else untold, dict(run["options"])
    for name in [name for name, value in given.items() if value is None or name == "calibration_factor"]:
        monkeypatch.setattr(one, name, given.pop(name))
    for call, theirs in zip(STORED["calls"][run["which"]], run["results"], strict=True):
        ours = ask(one, *call["documents"], query=call["query"], **given)
        scores = {tuple(answer[:4]): answer[4] for answer in theirs}
        assert len(ours) == len(theirs) == len(scores)
        for answer, their in zip(ours, theirs, strict=True):
            place: tuple[Any, ...] = (None,) * 4
            if answer.document and answer.document_offset:
                offset = answer.document_offset
                place = answer.data, int(answer.document.id), offset.start, offset.end
            assert answer.score == pytest.approx(scores[place], abs=1e-4)
            assert scores[place] == pytest.approx(their[4], abs=1e-6)  # float32 orders equal scores by chance


def test_the_signature_is_that_of_transformers() -> None:
    """As of transformers-haystack 2.0.0; the model is the package's own by default."""
    made = {name: p.default for name, p in inspect.signature(ExtractiveReader.__init__).parameters.items()}
    given = {
        "model": None, "device": None, "token": Secret.from_env_var(["HF_API_TOKEN", "HF_TOKEN"], strict=False),
        "top_k": 20, "score_threshold": None, "max_seq_length": 384, "stride": 128, "max_batch_size": None,
        "answers_per_seq": None, "no_answer": True, "calibration_factor": 0.1, "overlap_threshold": 0.01,
        "model_kwargs": None,
    }  # fmt: skip
    assert list(made)[: len(given) + 1] == ["self", *given]
    assert {name: made[name] for name in given} == given
    called = list(inspect.signature(ExtractiveReader.run).parameters)
    assert called[1:11] == [
        "query", "documents", "top_k", "score_threshold", "max_seq_length", "stride", "max_batch_size",
        "answers_per_seq", "no_answer", "overlap_threshold",
    ]  # fmt: skip


# In a pipeline


def retrieving(reader: ExtractiveReader) -> Pipeline:
    store = InMemoryDocumentStore()
    store.write_documents([Document(content=text, meta={"number": i}) for i, text in enumerate(TEXTS[:3])])
    pipeline = Pipeline()
    pipeline.add_component("retriever", InMemoryBM25Retriever(store, top_k=2))
    pipeline.add_component("reader", reader)
    pipeline.connect("retriever.documents", "reader.documents")
    return pipeline


ASKED = {"retriever": {"query": QUERY}, "reader": {"query": QUERY, "top_k": 1}}


def test_a_pipeline_answers_from_what_it_retrieves() -> None:
    best, none = retrieving(ExtractiveReader()).run(ASKED)["reader"]["answers"]
    assert (best.data, best.document.meta["number"], best.query) == ("Paris", 1, QUERY)
    assert best.document.content[best.document_offset.start : best.document_offset.end] == "Paris"
    assert none.data is None
    assert none.document is None
    assert ExtractedAnswer.from_dict(json.loads(json.dumps(best.to_dict()))) == best


def test_a_pipeline_answers_asynchronously() -> None:
    pipeline = retrieving(ExtractiveReader())

    async def many() -> list[dict[str, Any]]:
        return await asyncio.gather(*(pipeline.run_async(ASKED) for _ in range(4)))

    expected = pipeline.run(ASKED)["reader"]["answers"]
    assert [found["reader"]["answers"] for found in asyncio.run(many())] == [expected] * 4


OPTIONS: dict[str, Any] = {
    "token": Secret.from_env_var("SOME_TOKEN", strict=False), "top_k": 3, "score_threshold": 0.1,
    "max_seq_length": 100, "stride": 20, "max_batch_size": 4, "answers_per_seq": 5, "no_answer": False,
    "calibration_factor": 0.2, "overlap_threshold": None, "model_kwargs": {"local_files_only": True}, "budget": 0.6,
    "precision": "int8", "threads": 1, "providers": [("CPUExecutionProvider", {"arena_extend_strategy": "0"})],
}  # fmt: skip


def test_a_saved_pipeline_is_the_same(tiny_folder: Path) -> None:
    pipeline = Pipeline()
    pipeline.add_component("reader", ExtractiveReader(tiny_folder, ComponentDevice.from_str("cpu"), **OPTIONS))
    loaded = Pipeline.loads(pipeline.dumps())
    assert loaded.to_dict() == pipeline.to_dict()
    reader = loaded.get_component("reader")
    assert {name: getattr(reader, name) for name in OPTIONS if name != "providers"} == {
        name: value for name, value in OPTIONS.items() if name != "providers"
    }
    assert reader.device == ComponentDevice.from_str("cpu")
    with pytest.warns(UserWarning, match="no measured table"):
        answers = loaded.run({"reader": {"query": QUERY, "documents": documents()}})["reader"]["answers"]
    assert len(answers) == 3


def test_a_reader_can_be_pickled_and_copied_before_and_after_it_is_loaded(tiny_folder: Path) -> None:
    reader = ExtractiveReader(tiny_folder)
    early = pickle.loads(pickle.dumps(reader))
    answers = ask(reader)
    for other in (early, pickle.loads(pickle.dumps(reader)), copy.deepcopy(reader)):
        assert places(ask(other)) == places(answers)


def test_what_is_not_said_is_saved_as_its_default() -> None:
    saved = ExtractiveReader().to_dict()
    assert saved["type"] == NAME
    assert ExtractiveReader.from_dict(saved).to_dict() == saved
    assert ExtractiveReader.from_dict({"type": NAME, "init_parameters": {}}).to_dict() == saved


@pytest.mark.slow
def test_a_saved_pipeline_loads_where_nothing_was_imported_and_there_is_no_torch() -> None:
    pipeline = Pipeline()
    pipeline.add_component("reader", ExtractiveReader(top_k=1, no_answer=False))
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['torch', 'transformers']))\n"
        "from haystack import Document, Pipeline\n"
        "pipeline = Pipeline.loads(sys.stdin.read())\n"
        "asked = {'query': 'Where is it?', 'documents': [Document(content='It stands in Paris.')]}\n"
        "assert pipeline.run({'reader': asked})['reader']['answers'][0].data == 'Paris'"
    )
    subprocess.run([sys.executable, "-c", code], input=pipeline.dumps(), text=True, check=True)


def test_what_transformers_reader_saved_loads_by_the_other_name(tiny_folder: Path) -> None:
    saved = {
        "components": {
            "reader": {
                "type": NAME,  # was: haystack_integrations.components.readers.transformers.TransformersExtractiveReader
                "init_parameters": {
                    "model": str(tiny_folder), "device": None,
                    "token": {"type": "env_var", "env_vars": ["HF_API_TOKEN", "HF_TOKEN"], "strict": False},
                    "max_seq_length": 384, "top_k": 20, "score_threshold": None, "stride": 128,
                    "max_batch_size": None, "answers_per_seq": None, "no_answer": True, "calibration_factor": 0.1,
                    "overlap_threshold": 0.01, "model_kwargs": {"device_map": "cpu", "torch_dtype": "torch.float32"},
                },
            }
        },
        "connections": [],
    }  # fmt: skip
    pipeline = Pipeline.from_dict(saved)
    assert pipeline.run({"reader": {"query": QUERY, "documents": documents()}})["reader"]["answers"]


def test_a_token_is_never_saved() -> None:
    with pytest.raises(ValueError, match="Cannot serialize token"):
        ExtractiveReader(token=Secret.from_token("hf_secret")).to_dict()
    with pytest.raises(ValueError, match="model_kwargs contains a token"):
        ExtractiveReader(model_kwargs={"token": "hf_secret"}).to_dict()
    with pytest.raises(TypeError, match="Secret") as raised:
        ExtractiveReader(token="hf_secret")
    assert "hf_secret" not in str(raised.value)


# Loading


def test_the_model_is_loaded_once_and_not_before_it_is_needed(tiny_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    reader = ExtractiveReader(folder)
    reader.warm_up()
    shutil.rmtree(folder)
    reader.warm_up()
    assert ask(reader)
    gone = ExtractiveReader(folder)
    with pytest.raises(ModelFolderError):
        gone.warm_up()
    with pytest.raises(ModelFolderError):
        ask(gone)


def test_many_threads_get_what_one_gets(tiny_folder: Path) -> None:
    reader = ExtractiveReader(tiny_folder)
    start = threading.Barrier(4)

    def run(_: int) -> list[Any]:
        start.wait()
        return places(ask(reader))

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, range(4)))
    assert found == [places(ask(reader))] * 4


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"device": ComponentDevice.from_str("mps")}, ValueError, "device must be 'cpu'"),
        ({"device": "cuda:0"}, TypeError, "ComponentDevice"),
        ({"model_kwargs": {"device_map": {"a": "cpu", "b": 0}}}, ValueError, "one device"),
        ({"top_k": 0}, ValueError, "top_k must be at least 1"),
        ({"top_k": 2.5}, ValueError, "top_k must be a whole number"),
        ({"stride": -1}, ValueError, "stride must be at least 0"),
        ({"stride": 384}, ValueError, "stride 384"),
        ({"max_seq_length": 4}, ValueError, "max_seq_length must be at least 5"),
        ({"max_batch_size": 0}, ValueError, "max_batch_size must be at least 1"),
        ({"answers_per_seq": 0}, ValueError, "answers_per_seq must be at least 1"),
        ({"calibration_factor": 0}, ValueError, "calibration_factor"),
        ({"calibration_factor": math.nan}, ValueError, "calibration_factor"),
        ({"overlap_threshold": -0.1}, ValueError, "overlap_threshold"),
        ({"score_threshold": "0.5"}, ValueError, "score_threshold"),
        ({"budget": 1.5}, BudgetError, "budget"),
        ({"token_types": False, "budget": "fast"}, ValueError, "token_types"),
    ],
)
def test_a_reader_that_cannot_be_is_refused(given: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as raised:
        ExtractiveReader(**given)
    assert "\n" not in str(raised.value)


def test_a_device_is_where_it_runs(tiny_folder: Path) -> None:
    assert ask(ExtractiveReader(tiny_folder, model_kwargs={"device_map": {"": "cpu"}}))
    assert ask(ExtractiveReader(tiny_folder, model_kwargs={"device_map": "auto"}))
    with pytest.raises(ValueError, match="CUDAExecutionProvider"):
        ExtractiveReader(tiny_folder, ComponentDevice.from_str("cuda:0")).warm_up()


def test_without_haystack_one_line_names_the_extra() -> None:
    code = "import sys; sys.modules['haystack'] = None; import dynamic_tinybert.haystack"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: dynamic_tinybert.haystack needs haystack-ai 3 or later: {install_command('haystack')}"
    )
    assert "During handling" not in done.stderr


# Answers


def test_the_best_answer_of_all_documents_comes_first(reader: ExtractiveReader) -> None:
    answers = ask(reader, *TEXTS[:3])
    assert answers[0].data == "Paris"
    scores = [answer.score for answer in answers]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert len(answers) <= 21


def test_the_last_sentence_of_a_long_document_is_read(reader: ExtractiveReader) -> None:
    best = ask(reader, TEXTS[3], top_k=1)[0]
    assert best.data == "Paris"
    assert best.document_offset.start > 3000


def test_no_answer_has_the_probability_that_all_others_are_wrong(quick: ExtractiveReader) -> None:
    answers = ask(quick, top_k=5)
    (none,) = (answer for answer in answers if answer.data is None)
    others = [answer for answer in answers if answer.data is not None]
    assert len(others) == 5
    assert none.score == pytest.approx(math.prod(1 - answer.score for answer in others))
    assert places(ask(quick, top_k=5, no_answer=False)) == places(others)


def test_a_threshold_leaves_what_is_sure(reader: ExtractiveReader) -> None:
    every = ask(reader, *TEXTS[:3], score_threshold=0.0)
    sure = ask(reader, *TEXTS[:3], score_threshold=0.6)
    assert 0 < len(sure) < len(every)
    assert places(sure) == places([answer for answer in every if answer.score >= 0.6])
    assert ask(reader, TOWER, score_threshold=1.0) == []


def test_of_answers_that_overlap_the_better_stays(quick: ExtractiveReader) -> None:
    every = ask(quick, no_answer=False, top_k=1000, overlap_threshold=1.0)
    apart = ask(quick, no_answer=False, top_k=1000, overlap_threshold=0.0)
    assert len(apart) < len(every)
    assert apart[0] == every[0]
    for _, answers in itertools.groupby(sorted(apart, key=lambda a: a.document.id), lambda a: a.document.id):
        spans = sorted((answer.document_offset.start, answer.document_offset.end) for answer in answers)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


def test_where_overlap_does_not_matter_no_answer_comes_twice(tiny_folder: Path) -> None:
    reader = ExtractiveReader(tiny_folder, overlap_threshold=None, max_seq_length=48, stride=30)
    answers = ask(reader, top_k=1000, no_answer=False)
    found = [(answer.document.id, answer.document_offset.start, answer.document_offset.end) for answer in answers]
    assert len(found) == len(set(found)) > 100


def test_what_is_said_of_a_call_counts_though_it_is_nought(tiny_folder: Path) -> None:
    reader = ExtractiveReader(tiny_folder, score_threshold=0.99, stride=20, max_seq_length=64, overlap_threshold=1.0)
    assert not ask(reader, TOWER)
    assert places(ask(reader, TEXTS[3], score_threshold=0.0, stride=0)) == places(
        ask(ExtractiveReader(tiny_folder, max_seq_length=64, stride=0, overlap_threshold=1.0), TEXTS[3])
    )
    assert len(ask(reader, TOWER, score_threshold=0.0, overlap_threshold=0.0)) < len(
        ask(reader, TOWER, score_threshold=0.0)
    )


def test_a_batch_has_no_more_windows_than_it_may_and_changes_nothing(tiny_folder: Path) -> None:
    reader = ExtractiveReader(tiny_folder, max_seq_length=64, stride=10)

    def said(**options: Any) -> list[Any]:  # one document repeats a sentence: which of its equal windows wins is a tie
        return [place[:2] + place[3:] for place in places(ask(reader, **options))]

    expected = said()
    runtime, rows = reader._qa.reader.runtime, []
    run = runtime.run
    runtime.run = lambda ids, *rest: (rows.append(len(ids)), run(ids, *rest))[1]
    assert said() == expected
    assert max(rows) > 3
    rows.clear()
    assert said(max_batch_size=3) == expected
    assert max(rows) == 3


def test_below_full_an_answer_says_what_was_spent(reader: ExtractiveReader) -> None:
    full, cheap = (ask(reader, TOWER, top_k=1, budget=budget)[0] for budget in ("full", 0.5))
    assert full.meta == {}
    assert cheap.meta["share"] <= 0.5
    assert cheap.meta["configuration"] != "full"
    assert cheap.score != full.score
    assert ask(ExtractiveReader(budget=0.5), TOWER, top_k=1)[0] == cheap


def test_the_page_of_an_answer_is_counted(reader: ExtractiveReader, caplog: pytest.LogCaptureFixture) -> None:
    text = f"{OTHER}\f{OTHER}\f{TOWER}"
    document = Document(content=text, meta={"page_number": 3})
    best = reader.run(query=QUERY, documents=[document], top_k=1)["answers"][0]
    assert (best.data, best.meta) == ("Paris", {"answer_page_number": 5})
    with caplog.at_level(logging.WARNING):
        odd = Document(content=text, meta={"page_number": "3"})
        best = reader.run(query=QUERY, documents=[odd], top_k=1)["answers"][0]
    assert best.meta == {}
    assert "page_number" in caplog.text


# Documents that have no answer


def test_no_documents_have_no_answers(quick: ExtractiveReader) -> None:
    assert quick.run(query=QUERY, documents=[]) == {"answers": []}


@pytest.mark.parametrize("texts", [[""], [" \n"], [None], ["", None, "\u200b"]])
def test_documents_without_words_have_no_answer_for_certain(quick: ExtractiveReader, texts: list[str | None]) -> None:
    (none,) = ask(quick, *texts)
    assert (none.data, none.document, none.score, none.query) == (None, None, 1.0, QUERY)
    assert ask(quick, *texts, no_answer=False) == []


def test_a_document_without_text_is_ignored_and_named(
    reader: ExtractiveReader, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        answers = ask(reader, None, TOWER, None)
    assert "Document 0 has no text" in caplog.text
    expected = ask(reader, TOWER)
    assert [(a.data, a.score) for a in answers] == [(a.data, a.score) for a in expected]
    assert answers[0].document.id == "1"


# Texts and queries of any kind


@pytest.mark.slow
@settings(max_examples=60)
@given(
    texts=st.lists(
        st.text(st.characters(), max_size=60) | st.text("aé \u0301\u200d👩🇫中ش.[SEP]\ud83d"), min_size=1, max_size=3
    ),
    top_k=st.integers(1, 5),
)
def test_offsets_are_exact_in_any_text(quick: ExtractiveReader, texts: list[str], top_k: int) -> None:
    answers = ask(quick, *texts, query="Who?", top_k=top_k)
    assert 1 <= len(answers) <= top_k + 1
    for answer in answers:
        if answer.document:
            place = answer.document_offset
            assert texts[int(answer.document.id)][place.start : place.end] == answer.data != ""
        assert 0 <= answer.score <= 1


@pytest.mark.slow
def test_a_huge_document_is_read(quick: ExtractiveReader) -> None:
    text = f"{OTHER} " * 4000
    best = ask(quick, text, top_k=3)[0]
    assert text[best.document_offset.start : best.document_offset.end] == best.data != ""


def test_many_documents_are_read(quick: ExtractiveReader) -> None:
    texts = [f"It stands in town {number}." for number in range(700)]
    answers = ask(quick, *texts, top_k=700, answers_per_seq=1, no_answer=False)
    assert [answer.document.id for answer in sorted(answers, key=lambda a: int(a.document.id))] == [
        str(number) for number in range(700)
    ]


def test_a_long_query_is_cut_where_it_does_not_fit(quick: ExtractiveReader) -> None:
    query = "where " * 300
    fits = ask(quick, "Paris", query=query)
    assert fits[0].score == ask(quick, "Paris", query="where " * 300, max_seq_length=400)[0].score
    with pytest.warns(UserWarning, match="cut to max_question_len, 190"):
        cut = ask(quick, f"{TOWER} " * 9, query=query)
    assert places(cut) == places(ask(quick, f"{TOWER} " * 9, query="where " * 190))


def test_a_stride_gives_way_to_a_long_query(quick: ExtractiveReader) -> None:
    assert ask(quick, TEXTS[3], query=QUERY * 7, max_seq_length=80, stride=70)[0].data


def test_a_window_is_no_longer_than_the_model_reads(quick: ExtractiveReader) -> None:
    assert places(ask(quick, max_seq_length=5000)) == places(ask(quick, max_seq_length=512))


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"query": ""}, ValueError, "the query is empty"),
        ({"query": " \n"}, ValueError, "the query is empty"),
        ({"query": "\u200b"}, ValueError, "the question is empty"),
        ({"query": 3}, TypeError, "not int"),
        ({"top_k": 0}, ValueError, "top_k"),
        ({"budget": "cheap"}, BudgetError, "budget"),
        ({"stride": 500}, ValueError, "stride 500"),
    ],
)
def test_what_is_wrong_is_one_clear_line(
    quick: ExtractiveReader, given: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as raised:
        ask(quick, **given)
    assert "\n" not in str(raised.value)


def test_a_model_may_be_told_which_tokens_are_the_documents(reader: ExtractiveReader, untold: ExtractiveReader) -> None:
    told, not_told = (ask(one, TOWER, top_k=1)[0].score for one in (reader, untold))
    assert not np.isclose(told, not_told, atol=1e-4)


# What is shown


PAGE = (ROOT / "docs/haystack.md").read_text("utf-8")


def test_what_the_page_shows_runs(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(first, "docs/haystack.md", "exec"), {})
    assert capsys.readouterr().out.split("\n")[0].split()[1] == "Paris"
    names: dict[str, Any] = {}
    exec(compile(second, "docs/haystack.md", "exec"), names)
    assert names["TransformersExtractiveReader"] is ExtractiveReader
    assert f"type: {NAME}\n" in PAGE


def test_the_page_has_every_parameter() -> None:
    for name in list(inspect.signature(ExtractiveReader.__init__).parameters)[1:]:
        assert f"`{name}`" in PAGE.partition("## Parameters")[2].partition("\n## ")[0]


@pytest.mark.slow
def test_the_example_answers() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/haystack_reader.py")], capture_output=True, encoding="utf-8", check=True,
        env={**os.environ, "PYTHONUTF8": "1"},
    )  # fmt: skip
    assert "Which president set the goal of reaching the Moon?\n  0.85  John F. Kennedy   apollo-11.txt" in done.stdout
    assert done.stdout.count("(none of these)") == 10


@pytest.mark.parametrize("given", [{"precision": "int4"}, {"threads": 0}, {"threads": "2"}])
def test_a_component_that_could_not_run_is_refused_at_once(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(given))):
        ExtractiveReader(**given)
