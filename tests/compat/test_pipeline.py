"""The pipeline that transformers had until 5.2, beside stored results of transformers 5.2 and by itself."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dynamic_tinybert
from dynamic_tinybert import BudgetError, ModelFolderError, QuestionAnswerer, QuestionAnsweringPipeline, WindowError
from dynamic_tinybert import pipeline as make
from dynamic_tinybert.compat.transformers_ranking import WindowRanker
from dynamic_tinybert.inference import Tokens, Window

ROOT = Path(__file__).parents[2]
QUESTION = "Where is the tower?"
TEXT = "The tower stands in Paris. Everybody knows that it is in Paris. It was built in 1889."
OTHER = "The lighthouse of Port Ellis was built by Agnes Moreau in 1871."
LONG = f"{OTHER} " * 60 + TEXT


@pytest.fixture(scope="module")
def ask(qa: QuestionAnswerer) -> QuestionAnsweringPipeline:
    return make("question-answering", model=qa)


def test_a_pipeline_can_be_pickled_and_copied(ask: QuestionAnsweringPipeline) -> None:
    asked = {"question": "Where is the tower?", "context": "The tower stands in Paris."}
    for other in (pickle.loads(pickle.dumps(ask)), copy.deepcopy(ask)):
        assert other(**asked) == ask(**asked)


@pytest.fixture(scope="module")
def quick(tiny: QuestionAnswerer) -> QuestionAnsweringPipeline:
    return make("question-answering", model=tiny)


# Beside transformers 5.2


STORED = ROOT / "tests/compat/transformers_5_2.json"
REFERENCE: dict[str, Any] = json.loads(STORED.read_text("utf-8")) if STORED.exists() else {"runs": []}


# How many answers of a run are elsewhere, or are overlapped by one that is.
ELSEWHERE = {"long {'top_k': 20}": 2, "long {'align_to_words': False, 'top_k': 20}": 2}


@pytest.mark.slow
@pytest.mark.parametrize("run", REFERENCE["runs"], ids=lambda run: f"{run['which']} {run['options']}")
def test_answers_are_those_of_transformers(ask: QuestionAnsweringPipeline, run: dict[str, Any]) -> None:
    """But for the place of one that stands in the text several times: theirs is the first mention, ours the best."""
    asked = REFERENCE["questions"][run["which"]]
    ours = ask([{"question": question, "context": context} for question, context in asked], **run["options"])
    elsewhere = 0
    for (_, context), theirs, results in zip(asked, run["results"], ours, strict=True):
        mine = {result["answer"].lower(): result for result in ([results] if isinstance(results, dict) else results)}
        kept: list[dict[str, Any]] = []
        for answer in [theirs] if isinstance(theirs, dict) else theirs:
            if any(answer["start"] < other["end"] and other["start"] < answer["end"] for other in kept):
                continue
            kept.append(answer)
            words = answer["answer"].lower()
            same = mine.get(words)  # missing if a better answer, at its best place, overlaps it
            elsewhere += same is None or same["start"] != answer["start"]
            if same is not None:
                assert same["start"] == answer["start"] or context.lower().count(words) > 1
                answer = {**answer, **{name: same[name] for name in ("start", "end", "answer")}}
                assert same == pytest.approx(answer, abs=1e-4)
    assert elsewhere == ELSEWHERE.get(f"{run['which']} {run['options']}", 0)


# The ranking


def window(words: str, offset: int = 2) -> Window:
    """A window over words of one token each, whose text begins at 0."""
    ends = np.cumsum([len(word) + 1 for word in words.split()]) - 1
    begins = ends - [len(word) for word in words.split()]
    tokens = Tokens(np.arange(len(ends)), begins, ends, begins, ends)
    ids = np.arange(offset + len(ends) + 1)
    return Window(ids=ids, type_ids=np.zeros_like(ids), text=tokens, offset=offset, settled=len(ends))


def rank(words: str, start: list[float], end: list[float], **options: Any) -> list[tuple[str, float]]:
    """Rank the spans of a window; the first logits are those of [CLS]."""
    options = {"top_k": 1, "max_answer_len": 15, **options}
    ranker = WindowRanker(words, **options)
    logits = (np.array([x[0], 9.0, *x[1:], 9.0], np.float32) for x in (start, end))
    ranker.add(window(words), *logits)
    return [(words[span.start : span.end], span.score) for span in ranker.ranked()]


def test_a_score_is_the_softmax_of_start_times_that_of_end() -> None:
    ((text, score),) = rank("a b c", [1.0, 0.0, 3.0, 0.0], [1.0, 0.0, 0.0, 2.0], align_to_words=False)
    assert text == "b c"
    assert score == pytest.approx(np.exp(3) / (np.e + 2 + np.exp(3)) * np.exp(2) / (np.e + 2 + np.exp(2)), abs=1e-6)


def test_no_answer_ends_inside_a_character_without_words_either() -> None:
    text = "বাংলা e\u0301t"  # tokens that end before a mark
    begins, ends = np.array([0, 4, 6, 7]), np.array([4, 5, 7, 9])
    tokens = Tokens(np.arange(4), begins, ends, begins, ends)
    ids = np.arange(7)
    part = Window(ids=ids, type_ids=np.zeros_like(ids), text=tokens, offset=2, settled=4)
    for best, whole in ((0, "বাংলা"), (1, "লা"), (2, "e\u0301"), (3, "e\u0301t")):
        ranker = WindowRanker(text, top_k=1, max_answer_len=15, align_to_words=False)
        logits = np.zeros(7, np.float32)
        logits[2 + best] = 9.0
        ranker.add(part, logits, logits)
        (span,) = ranker.ranked()
        assert text[span.start : span.end] == whole


def test_equal_answers_are_added_up_and_stand_where_the_first_was() -> None:
    start, end = [0.0, 5.0, 0.0, 4.0], [0.0, 5.0, 0.0, 4.0]
    one = rank("Yes or yes", start, end, align_to_words=False)
    ((text, score),) = rank("Yes or yes", start, end)
    assert text == one[0][0] == "Yes"
    p, q = (np.exp(x) / (2 + np.exp(5) + np.exp(4)) for x in (5, 4))
    assert score == pytest.approx(p * p + q * q, abs=1e-6)


def test_the_answer_that_there_is_none_is_scored_by_the_first_token() -> None:
    best, none = rank("a b", [2.0, 3.0, 0.0], [2.0, 3.0, 0.0], top_k=2, handle_impossible_answer=True)[:2]
    assert best[0] == "a"
    assert none == ("", pytest.approx((np.exp(2) / (np.exp(2) + np.exp(3) + 1)) ** 2, abs=1e-6))


def test_as_many_come_as_are_asked_for() -> None:
    found = rank("a b c d e", [0, 9.0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 9.0], top_k=5, max_answer_len=1)
    assert sorted(text for text, _ in found) == ["a", "b", "c", "d", "e"]
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)


def test_what_overlaps_a_better_answer_does_not_come(ask: QuestionAnsweringPipeline) -> None:
    found = ask(question=QUESTION, context=TEXT, top_k=5)
    spans = sorted((answer["start"], answer["end"]) for answer in found)
    assert len(found) == 5
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    assert found[0]["score"] == pytest.approx(ask(question=QUESTION, context=TEXT)["score"], abs=0.05)


# Forms


def test_a_question_gives_a_dict(ask: QuestionAnsweringPipeline) -> None:
    answer = ask(question=QUESTION, context=TEXT)
    assert {name: type(value) for name, value in answer.items()} == {
        "score": float,
        "start": int,
        "end": int,
        "answer": str,
    }
    assert (answer["answer"], answer["start"], answer["end"]) == ("Paris", 20, 25)
    assert json.loads(json.dumps(answer)) == answer


def test_every_form_of_one_question_gives_the_same(ask: QuestionAnsweringPipeline) -> None:
    item = {"question": QUESTION, "context": TEXT}
    expected = ask(**item)
    assert ask(item) == ask([item]) == ask(QUESTION, TEXT) == ask({**item, "id": "1"}) == expected
    assert ask(SimpleNamespace(question_text=QUESTION, context_text=TEXT)) == expected
    assert ask(question=[QUESTION], context=TEXT) == ask(question=[QUESTION], context=[TEXT]) == expected


def test_every_form_of_many_gives_a_list_in_order(ask: QuestionAnsweringPipeline) -> None:
    questions, texts = [QUESTION, "Who built the lighthouse?"], [TEXT, OTHER]
    items = [{"question": q, "context": c} for q, c in zip(questions, texts, strict=True)]
    found = ask(question=questions, context=texts)
    assert [answer["answer"] for answer in found] == ["Paris", "Agnes Moreau"]
    for form in (ask(items), ask(*items), ask(questions, texts), list(ask(item for item in items))):
        assert [(answer["start"], answer["end"]) for answer in form] == [(a["start"], a["end"]) for a in found]
    assert [len(answers) for answers in ask(items, top_k=2)] == [2, 2]
    assert len(ask(question=questions, context=TEXT)) == len(ask(question=QUESTION, context=texts)) == 2


def test_columns_and_datasets_are_lists(quick: QuestionAnsweringPipeline) -> None:
    items = [{"question": QUESTION, "context": text} for text in (TEXT, OTHER)]
    expected = quick(items)

    class Dataset:  # as PyTorch's
        def __len__(self) -> int:
            return 2

        def __getitem__(self, i: int) -> dict[str, str]:
            return items[i % 2]

    assert quick(Dataset()) == quick(tuple(items)) == expected
    questions, texts = ([item[name] for item in items] for name in ("question", "context"))
    assert quick(question=np.array(questions), context=tuple(texts)) == expected
    assert quick(question=QUESTION, context=np.array(texts)) == expected


def test_a_generator_gives_a_generator(quick: QuestionAnsweringPipeline) -> None:
    read = []

    def items() -> Iterator[dict[str, str]]:
        for number in range(1000):
            read.append(number)
            yield {"question": QUESTION, "context": f"It stands in town {number}."}

    answers = quick(items())
    assert not read
    assert isinstance(next(answers), dict)
    assert len(read) < 300


def test_no_questions_have_no_answers(quick: QuestionAnsweringPipeline) -> None:
    assert quick([]) == quick(question=[], context=[]) == quick(question=[], context=TEXT) == []


def test_with_top_k_one_answer_is_a_list_too(quick: QuestionAnsweringPipeline) -> None:
    (answer,) = quick(question=QUESTION, context="Paris", top_k=3)
    assert answer["answer"] == "Paris"


def test_topk_is_top_k_with_a_warning(quick: QuestionAnsweringPipeline) -> None:
    with pytest.warns(UserWarning, match="top_k"):
        found = quick(question=QUESTION, context=TEXT, topk=2)
    assert found == quick(question=QUESTION, context=TEXT, top_k=2)


def test_options_of_the_pipeline_are_defaults_of_a_call(tiny: QuestionAnswerer) -> None:
    ask = make("question-answering", model=tiny, top_k=2, max_answer_len=1)
    assert len(ask(question=QUESTION, context=TEXT)) == 2
    assert isinstance(ask(question=QUESTION, context=TEXT, top_k=1), dict)
    assert len(ask(question=QUESTION, context=TEXT, top_k=None)) == 2


def test_padding_and_batches_change_no_answer(quick: QuestionAnsweringPipeline) -> None:
    plain = quick(question=QUESTION, context=TEXT)
    assert quick(question=QUESTION, context=TEXT, padding="max_length", batch_size=8, num_workers=2) == plain


def test_a_budget_can_be_given(ask: QuestionAnsweringPipeline) -> None:
    full = ask(question=QUESTION, context=TEXT, budget="full")
    cheap = ask(question=QUESTION, context=TEXT, budget=0.4)
    assert full == ask(question=QUESTION, context=TEXT)
    assert cheap["score"] != full["score"]


# Lengths


def test_a_default_overlap_gives_way_to_a_long_question(quick: QuestionAnsweringPipeline) -> None:
    question = "Where is the tower of the town? " * 6
    assert quick(question=question, context=LONG, max_seq_len=64)["answer"]


def test_an_overlap_that_leaves_no_room_is_one_clear_line(quick: QuestionAnsweringPipeline) -> None:
    assert quick(question=QUESTION, context=TEXT, max_seq_len=64, doc_stride=60)["answer"]  # a text of one window
    with pytest.raises(ValueError, match="doc_stride 60"):
        quick(question=QUESTION, context=LONG, max_seq_len=64, doc_stride=60)
    with pytest.raises(WindowError, match="more than max_seq_len"):
        quick(question=QUESTION, context=TEXT, max_seq_len=64, doc_stride=65)


def test_a_question_that_fills_the_window_is_one_clear_line(quick: QuestionAnsweringPipeline) -> None:
    with pytest.raises(ValueError, match="no room for the text"):
        quick(question="where " * 400, context=TEXT)


def test_a_long_question_is_cut_only_where_asked(quick: QuestionAnsweringPipeline) -> None:
    question = "where " * 100
    whole = quick(question=question, context=TEXT)
    with pytest.warns(UserWarning, match="was cut to max_question_len"):
        cut = quick(question=question, context=TEXT, max_question_len=5)
    assert cut == quick(question="where " * 5, context=TEXT) != whole


def test_a_window_is_no_longer_than_the_model_reads(quick: QuestionAnsweringPipeline) -> None:
    assert quick(question=QUESTION, context=LONG, max_seq_len=5000) == quick(
        question=QUESTION, context=LONG, max_seq_len=512
    )


@pytest.mark.slow
def test_a_huge_text_is_read(quick: QuestionAnsweringPipeline) -> None:
    text = f"{OTHER} " * 4000
    answer = quick(question=QUESTION, context=text, top_k=3)[0]
    assert text[answer["start"] : answer["end"]] == answer["answer"] != ""


@settings(max_examples=60)
@given(
    text=st.text(st.characters(), min_size=1, max_size=60) | st.text("aé \u0301\u200d👩🇫中ش.[SEP]\ud83d", min_size=1),
    top_k=st.integers(1, 5),
    align=st.booleans(),
)
def test_offsets_are_exact_in_any_text(quick: QuestionAnsweringPipeline, text: str, top_k: int, align: bool) -> None:
    found = quick(question="Who?", context=text, top_k=top_k, align_to_words=align, handle_impossible_answer=True)
    answers = [found] if top_k == 1 else found
    assert len(answers) <= top_k
    for answer in answers:
        assert text[answer["start"] : answer["end"]] == answer["answer"]
        assert answer["score"] >= 0


def test_a_model_s_no_answer_threshold_is_none_of_the_pipeline_s_business(tiny: QuestionAnswerer) -> None:
    """transformers has none."""
    options: dict[str, Any] = {"question": QUESTION, "context": LONG, "handle_impossible_answer": True, "top_k": 5}
    found = make(model=tiny)(**options)
    for threshold in (-1e6, 1e6):
        table = replace(tiny.table, no_answer_threshold=threshold)
        tuned = QuestionAnswerer.from_reader(tiny.reader, tiny.shape, table, name="tuned")
        assert make(model=tuned)(**options) == found
        assert bool(tuned(QUESTION, LONG, handle_impossible_answer=True).text) == (threshold > 0)


def test_a_text_without_words_has_an_empty_answer(quick: QuestionAnsweringPipeline) -> None:
    nothing = {"score": 0.0, "start": 0, "end": 0, "answer": ""}
    assert quick(question=QUESTION, context=" \n") == nothing
    assert quick(question=QUESTION, context=" \n", top_k=2) == [nothing]
    surely = quick(question=QUESTION, context=" \n", handle_impossible_answer=True)
    assert surely == {**nothing, "score": 1.0}


# What is wrong


@pytest.mark.parametrize(
    ("inputs", "error", "says"),
    [
        ({"question": "", "context": TEXT}, ValueError, "the question is empty"),
        ({"question": QUESTION, "context": ""}, ValueError, "the context is empty"),
        ({"question": None, "context": TEXT}, TypeError, "give question= and context="),
        ({"question": QUESTION}, TypeError, "give question= and context="),
        ({"question": 1, "context": TEXT}, TypeError, "not int"),
        ({"question": [QUESTION, 1], "context": TEXT}, TypeError, "number 1"),
        ({"question": [QUESTION], "context": [TEXT, TEXT]}, ValueError, "1 questions and 2 contexts"),
        ({"question": QUESTION, "context": TEXT, "top_k": 0}, ValueError, "top_k must be at least 1"),
        ({"question": QUESTION, "context": TEXT, "top_k": 1.5}, ValueError, "top_k must be a whole number"),
        ({"question": QUESTION, "context": TEXT, "max_answer_len": 0}, ValueError, "max_answer_len must be at least 1"),
        ({"question": QUESTION, "context": TEXT, "doc_stride": -1}, ValueError, "doc_stride must be at least 0"),
        ({"question": QUESTION, "context": TEXT, "budget": 2}, BudgetError, "budget"),
        ({"question": QUESTION, "context": TEXT, "padding": "right"}, ValueError, "padding"),
        ({"question": QUESTION, "context": TEXT, "max_anwser_len": 3}, TypeError, "max_anwser_len"),
    ],
)
def test_what_is_wrong_is_one_clear_line(
    quick: QuestionAnsweringPipeline, inputs: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as raised:
        quick(**inputs)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("item", [QUESTION, 3, [3], [{"question": QUESTION}], [{"question": None, "context": TEXT}]])
def test_what_is_no_input_is_refused(quick: QuestionAnsweringPipeline, item: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        quick(item)


def test_what_a_generator_does_wrong_is_raised_in_its_turn(quick: QuestionAnsweringPipeline) -> None:
    answers = quick(item for item in [{"question": QUESTION, "context": TEXT}, {"question": QUESTION}])
    assert next(answers)["answer"]
    with pytest.raises(ValueError, match="input 1 has no 'context'"):
        next(answers)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"task": "summarization"}, ValueError, "the task must be 'question-answering'"),
        ({"model": object()}, TypeError, "save_pretrained"),
        ({"model": "/no/such/folder"}, ModelFolderError, "no such folder"),
        ({"tokenizer": "another/one"}, ValueError, "its own tokenizer"),
        ({"device": "mps"}, ValueError, "device must be"),
        ({"device_map": {"": 0}}, ValueError, "device_map"),
        ({"no_such": 1}, TypeError, "no_such"),
    ],
)
def test_a_pipeline_that_cannot_be_is_refused(given: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make(**given)


def test_what_pytorch_needed_is_taken(tiny_folder: Path) -> None:
    ask = make(
        "question-answering", model=str(tiny_folder), tokenizer=str(tiny_folder), device=-1, device_map="auto",
        dtype="auto", use_fast=True, framework="pt", trust_remote_code=False, batch_size=4,
        model_kwargs={"local_files_only": True},
    )  # fmt: skip
    assert ask.task == "question-answering"
    assert ask(question=QUESTION, context=TEXT)["answer"]
    with pytest.warns(UserWarning, match="not float16"):
        make(model=str(tiny_folder), torch_dtype="torch.float16")
    with pytest.warns(UserWarning, match="attn_implementation"):
        make(model=str(tiny_folder), model_kwargs={"attn_implementation": "eager"})


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="there is CUDA")
def test_the_number_of_a_gpu_that_is_not_there_is_the_cpu(tiny_folder: Path) -> None:
    with pytest.warns(UserWarning, match="the CPU answers"):
        ask = make(model=str(tiny_folder), device=0)
    assert ask(question=QUESTION, context=TEXT)["answer"]
    with pytest.raises(ValueError, match="CUDA"):
        make(model=str(tiny_folder), device="cuda")


@pytest.mark.slow
def test_the_function_is_what_is_imported_always() -> None:
    code = (
        "import dynamic_tinybert.compat.transformers\n"
        "from dynamic_tinybert import pipeline\n"
        "import dynamic_tinybert, sys\n"
        "assert callable(pipeline) and dynamic_tinybert.pipeline is pipeline\n"
        "assert pipeline('question-answering')('Where is it?', 'It is in Paris.')['answer']\n"
        "assert not {'torch', 'transformers'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert dynamic_tinybert.pipeline is make


def test_pipeline_shown_names_its_model(qa: QuestionAnswerer) -> None:
    assert repr(QuestionAnsweringPipeline(qa)) == f"<QuestionAnsweringPipeline of {qa!r}>"


@pytest.mark.parametrize(
    "given",
    [
        {"device": "mps"}, {"tokenizer": "other"}, {"config": "x"}, {"precision": "int8"}, {"threads": 2},
        {"revision": "v"}, {"providers": ["X"]}, {"model_kwargs": {"foo": 1}}, {"dtype": "float16"},
        {"device_map": "weird"}, {"token": "t"},
    ],
)  # fmt: skip
def test_options_for_loading_are_refused_with_a_model_that_is_loaded(
    tiny: QuestionAnswerer, given: dict[str, Any]
) -> None:
    with pytest.raises(TypeError, match=f"{next(iter(given))} is for loading a model"):
        make("question-answering", tiny, **given)
    assert (
        make("question-answering", tiny, precision="fp32", framework="pt", model_kwargs={}).task == "question-answering"
    )
