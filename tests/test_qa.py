"""The road end to end: question and text in, answers out."""

from __future__ import annotations

import copy
import inspect
import itertools
import json
import math
import multiprocessing
import pickle
import shutil
import subprocess
import sys
import unicodedata
import warnings
import weakref
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from conftest import quiet
from dynamic_tinybert import (
    Answer,
    BudgetError,
    LengthConfig,
    ModelFolderError,
    QuestionAnswerer,
    WindowError,
    ask_passages,
)
from dynamic_tinybert.folder import open_folder
from dynamic_tinybert.inference import SpanRanker, TextTokenizer, cut_windows
from dynamic_tinybert.model import BERT_BASE, macs

TEXT = (
    "The lighthouse of Port Ellis was built by Agnes Moreau in 1871. It stands on a cliff north of the harbour. "
    "Its keeper, Barnaby Whitlock, lived there with his wife and two goats."
)
QUESTION = "Who built the lighthouse?"
PAIRS = [
    ("Who built the lighthouse?", TEXT, "Agnes Moreau"),
    ("When was the lighthouse built?", TEXT, "1871"),
    ("Where is the tower?", "The tower stands in Paris.", "Paris"),
    ("What is the capital of Japan?", "Japan's capital is Tokyo (東京), a city of 14 million.", "Tokyo"),
    ("Who wrote the letter?", "The letter was written by Émile Zola\r\nin 1898.", "Émile Zola"),
]
FILLER = (
    "The coast is rough there, and ships keep away from it in winter. Fishermen mend their nets by the harbour "
    "and wait for better weather. In spring the ferries run again, twice a day, and the market opens. "
)
READ_AHEAD = 130  # questions: what a pool of windows holds, and a little

SCRIPTS = "aZé9ßİΩЖשאתعمकษไท中文東ひ한각😀👍🏽👩🇫🇷.,!?'\"()[]-#*"
ODDITIES = "\u0300\u0301\u05b0\u0651\u094d\u0e48\u200d\ufe0f \n\r\t\u00a0\u3000\x00\x01\u00ad\u200b\u200e\ufeff"
words = [*TEXT.split(), "東京", "Москва", "e\u0301te\u0301", "שָׁלוֹם", "[SEP]", "👩\u200d👧", "\r\n", "10,000", "\0"]
any_text = (
    st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
    | st.text(st.sampled_from(SCRIPTS + ODDITIES), max_size=80)
    | st.lists(st.sampled_from(words), max_size=60).map(" ".join)
)
some_question = st.sampled_from([QUESTION, "What?", "Где это?", "何ですか", "Who\r\nwas [SEP] it?"]) | any_text.map(
    lambda text: text[:20]
).filter(lambda text: any(c.isalnum() and c.isascii() for c in text))


def sound(text: str, answer: Answer) -> None:
    """What holds of every answer."""
    assert text[answer.start : answer.end] == answer.text
    assert 0 <= answer.start <= answer.end <= len(text)
    assert 0 <= answer.score <= 1
    assert np.isfinite(answer.logit) == bool(answer.text)
    assert {type(answer.start), type(answer.end), type(answer.score), type(answer.logit)} == {int, float}


def agree(a: Answer, b: Answer) -> None:
    assert (a.text, a.start, a.end) == (b.text, b.start, b.end)
    assert a.logit == pytest.approx(b.logit, abs=1e-4)
    assert a.score == pytest.approx(b.score, abs=1e-4)
    assert a.spent == b.spent


def long_text(sentences: int, last: str = "") -> str:
    return FILLER * (sentences // 3) + last


# Answers


@pytest.mark.parametrize(("question", "text", "expected"), PAIRS)
def test_an_answer_is_the_words_of_the_text(qa: QuestionAnswerer, question: str, text: str, expected: str) -> None:
    answer = qa(question, text)
    assert answer.text == expected
    assert answer.start == text.index(expected)
    sound(text, answer)


def test_a_model_without_calibration_has_no_confidence(tiny: QuestionAnswerer) -> None:
    assert tiny(QUESTION, TEXT).confidence is None


def test_an_answer_tells_all_of_itself(qa: QuestionAnswerer) -> None:
    answer = qa(QUESTION, TEXT)
    assert answer.to_dict() == {
        "text": "Agnes Moreau",
        "start": answer.start,
        "end": answer.end,
        "score": answer.score,
        "logit": answer.logit,
        "confidence": answer.confidence,
        "configuration": "full",
        "share": 1.0,
    }
    assert json.loads(json.dumps(answer.to_dict())) == answer.to_dict()
    with pytest.raises(FrozenInstanceError):
        answer.text = "somebody else"  # type: ignore[misc]


@pytest.mark.slow
@settings(max_examples=150)
@given(question=some_question, text=any_text, top_k=st.integers(1, 5), align=st.booleans(), longest=st.integers(1, 30))
@example(question="Who?", text="\u0301e\u0301\u200d \x00\r\n👩\u200d👧", top_k=5, align=True, longest=30)
@example(question="Who?", text="한국어 각 中文[SEP]", top_k=5, align=False, longest=1)
def test_offsets_are_exact_in_any_text(
    tiny: QuestionAnswerer, question: str, text: str, top_k: int, align: bool, longest: int
) -> None:
    try:
        answers = tiny(question, text, top_k=top_k, align_to_words=align, max_answer_len=longest)
    except ValueError as error:
        assume("the question is empty" not in str(error))
        raise
    assert len(answers) <= top_k
    assert sum(answer.score for answer in answers) <= 1 + 1e-6
    for answer in answers:
        sound(text, answer)
        assert answer.text.strip() == answer.text != ""
        assert not unicodedata.combining(text[answer.end : answer.end + 1] or "x") or not align
    spans = sorted((answer.start, answer.end) for answer in answers)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    assert bool(answers) == bool(list(tiny.reader.tokenizer.text(text)))


def test_the_same_words_elsewhere_are_another_answer(qa: QuestionAnswerer) -> None:
    text = "The tower stands in Paris. Everybody knows that it is in Paris."
    first, second = qa("Where is the tower?", text, top_k=2, score_threshold=0)
    assert first.text.strip(".") == second.text.strip(".") == "Paris"
    assert {first.start, second.start} == {20, 57}
    assert first.score > second.score
    assert first.score + second.score <= 1 + 1e-6


def test_top_k_gives_as_many_as_there_are(qa: QuestionAnswerer) -> None:
    for k in (1, 3, 10):
        answers = qa(QUESTION, TEXT, top_k=k, score_threshold=0)
        assert len(answers) == k
        assert [a.score for a in answers] == sorted((a.score for a in answers), reverse=True)
        agree(answers[0], qa(QUESTION, TEXT))
    few = {"top_k": 10, "max_answer_len": 1, "score_threshold": 0}
    assert [len(qa(QUESTION, "Agnes Moreau.", **few, align_to_words=align)) for align in (True, False)] == [2, 4]
    long = long_text(60)
    answers = qa(QUESTION, long, top_k=40, score_threshold=0)
    assert len(answers) == 40
    assert len({(a.start, a.end) for a in answers}) == 40


def test_answers_far_below_the_best_are_left_out(qa: QuestionAnswerer) -> None:
    everything = qa(QUESTION, TEXT, top_k=10, score_threshold=0)
    for share in (0.01, 0.001, 0.9, 1):
        kept = [a for a in everything if a.score >= share * everything[0].score]
        assert 0 < len(kept) < 10
        assert qa(QUESTION, TEXT, top_k=10, score_threshold=share) == kept
    assert len(qa(QUESTION, TEXT, top_k=10)) == sum(a.score >= 0.01 * everything[0].score for a in everything)


def test_what_an_answer_is_worth_does_not_depend_on_how_many_are_wanted(qa: QuestionAnswerer) -> None:
    text = "Members:\n- Agnes Moreau\n- the keeper\n\n" + TEXT
    first, *_ = qa(QUESTION, text, top_k=5)
    assert first == qa(QUESTION, text)


def test_an_answer_is_at_most_so_many_tokens_long(qa: QuestionAnswerer) -> None:
    lengths = []
    for longest in (1, 3, 30):
        answer = qa("What was built by Agnes Moreau?", TEXT, max_answer_len=longest, align_to_words=False)
        lengths.append(sum(map(len, qa.reader.tokenizer.text(answer.text))))
        assert lengths[-1] <= longest
    assert lengths[0] < lengths[-1]


def test_the_default_threshold_rejects_little_that_is_answered(qa: QuestionAnswerer) -> None:
    assert qa("Where does Bo live?", "Bo lives in Oslo.", handle_impossible_answer=True).text == "Oslo"
    assert qa("Who painted the ceiling?", "Bo lives in Oslo.", handle_impossible_answer=True).text == ""
    assert qa.table.threshold("squad2") < qa.table.threshold() < 0


def test_there_may_be_no_answer(qa: QuestionAnswerer) -> None:
    text = "The tower stands in Paris."
    answers = qa("Where is the tower?", text, top_k=20, handle_impossible_answer=True)
    (none,) = (answer for answer in answers if not answer.text)
    assert (none.start, none.end) == (0, 0)
    assert 0 < none.score < 1
    assert none.logit < answers[0].logit
    without = qa("Where is the tower?", text, top_k=20)
    assert all(answer.text for answer in without)
    assert without[0].score > answers[0].score
    assert {answer.no_answer_logit for answer in (*answers, *without)} == {none.logit}


def with_threshold(folder: Path, embedded: Path, threshold: Any) -> QuestionAnswerer:
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copyfile(embedded / name, folder / name)
    table = json.loads((embedded / "length_configs.json").read_text("utf-8"))
    table.pop("no_answer", None)
    if threshold is not None:
        table["no_answer"] = {"threshold": threshold}
    (folder / "length_configs.json").write_text(json.dumps(table), "utf-8")
    return QuestionAnswerer(folder, threads=1)


@pytest.mark.slow
def test_a_model_s_threshold_holds_unless_the_caller_gives_another(embedded: Path, tmp_path: Path) -> None:
    models = {x: with_threshold(tmp_path / str(x), embedded, x) for x in (None, 0.0, -1e6, 1e6)}
    copper = "What is the price of copper in Chile?"
    for question in (QUESTION, copper):
        for config in ("full", "fast", 0.4, LengthConfig.uniform(6, 0.8)):
            plain = models[None](question, TEXT, budget=config)
            margin = plain.no_answer_logit - plain.logit

            def ask(
                of: float | None, given: float | None = None, question: str = question, config: Any = config
            ) -> str:
                options: Any = {} if given is None else {"no_answer_threshold": given}
                return models[of](question, TEXT, budget=config, handle_impossible_answer=True, **options).text

            assert ask(-1e6) == ask(0.0, -1e6) == ask(None, margin - 0.01) == ""
            assert ask(1e6) == ask(0.0, 1e6) == ask(-1e6, margin + 0.01) == plain.text
            assert ask(0.0) == ask(None) == ask(1e6, 0.0)
    assert models[-1e6](copper, TEXT).text  # there must be an answer
    mixed = models[0.0]([QUESTION, copper] * 3, TEXT, handle_impossible_answer=True, no_answer_threshold=-5.0)
    alone = [models[0.0](q, TEXT, handle_impossible_answer=True, no_answer_threshold=-5.0) for q in (QUESTION, copper)]
    assert [a.text for a in mixed] == [a.text for a in alone] * 3
    for one, other in zip(mixed, alone * 3, strict=True):
        assert (one.score, one.confidence) == pytest.approx((other.score, other.confidence), abs=1e-4)


@pytest.mark.parametrize("value", ["0", True, [1], math.nan, math.inf])
def test_a_threshold_without_sense_is_refused(qa: QuestionAnswerer, value: Any) -> None:
    with pytest.raises(BudgetError, match="a no-answer threshold must be 'squad2' or a difference of logits") as error:
        qa(QUESTION, TEXT, handle_impossible_answer=True, no_answer_threshold=value)
    assert "\n" not in str(error.value)


# What a model is called with


def test_one_question_of_one_text(qa: QuestionAnswerer) -> None:
    assert isinstance(qa(QUESTION, TEXT), Answer)
    answers = qa(QUESTION, TEXT, top_k=1)
    assert isinstance(answers, list)
    assert isinstance(answers[0], Answer)


@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_in_lists_out_in_their_order(qa: QuestionAnswerer, kind: type) -> None:
    pairs = [PAIRS[i] for i in (3, 0, 4, 2, 1, 0)]
    answers = qa(kind(q for q, _, _ in pairs), kind(t for _, t, _ in pairs))
    assert isinstance(answers, list)
    assert [a.text for a in answers] == [expected for _, _, expected in pairs]
    ranked = qa(kind(q for q, _, _ in pairs), kind(t for _, t, _ in pairs), top_k=2, score_threshold=0)
    assert [[len(x), x[0].text] for x in ranked] == [[2, expected] for _, _, expected in pairs]


def test_one_question_of_many_texts_and_many_questions_of_one_text(qa: QuestionAnswerer) -> None:
    texts = ["The tower is in Rome.", "The tower is in Oslo.", TEXT]
    answers = qa("Where is the tower?", texts)
    assert [a.text for a in answers[:2]] == ["Rome", "Oslo"]
    for text, answer in zip(texts, answers, strict=True):
        agree(answer, qa("Where is the tower?", text))
    questions = [q for q, t, _ in PAIRS if t == TEXT]
    assert [a.text for a in qa(questions, TEXT)] == ["Agnes Moreau", "1871"]
    assert [[a.text for a in x] for x in qa(questions, TEXT, top_k=1)] == [["Agnes Moreau"], ["1871"]]


def test_nothing_in_nothing_out(qa: QuestionAnswerer) -> None:
    assert qa([], []) == qa([], TEXT) == qa(QUESTION, []) == qa([], [], top_k=3) == []
    assert list(qa(iter([]), TEXT)) == list(qa(iter([]), iter([]), top_k=2)) == []


@pytest.mark.parametrize("form", ["both", "questions", "texts", "question of texts", "questions of text", "mixed"])
def test_a_generator_in_a_generator_out(qa: QuestionAnswerer, form: str) -> None:
    questions, texts = [q for q, _, _ in PAIRS], [t for _, t, _ in PAIRS]
    inputs: dict[str, tuple[Any, Any]] = {
        "both": ((q for q in questions), (t for t in texts)),
        "questions": ((q for q in questions), texts),
        "texts": (questions, (t for t in texts)),
        "question of texts": (QUESTION, (t for t in texts)),
        "questions of text": ((q for q in questions), TEXT),
        "mixed": (iter(questions), tuple(texts)),
    }
    answers = qa(*inputs[form])
    assert isinstance(answers, Iterator)
    expected = {"question of texts": qa(QUESTION, texts), "questions of text": qa(questions, TEXT)}
    for found, other in zip(answers, expected.get(form, qa(questions, texts)), strict=True):
        agree(found, other)


def test_a_generator_with_top_k_gives_lists(tiny: QuestionAnswerer) -> None:
    answers = tiny((q for q, _, _ in PAIRS), TEXT, top_k=2)
    assert inspect.isgenerator(answers)
    assert [len(ranked) for ranked in answers] == [2] * len(PAIRS)


@pytest.mark.slow
def test_a_generator_is_read_when_answers_are_wanted_and_not_far_ahead(tiny: QuestionAnswerer) -> None:
    read = 0

    def questions() -> Iterator[str]:
        nonlocal read
        for read in range(1, 1001):
            yield f"Who built number {read}?"

    answers = tiny(questions(), TEXT)
    assert read == 0
    ahead = []
    for number, _ in enumerate(answers, 1):
        ahead.append(read - number)
    assert number == read == 1000
    assert 0 <= min(ahead) <= max(ahead) <= READ_AHEAD


@pytest.mark.slow
def test_long_texts_of_a_generator_are_answered_after_few(tiny: QuestionAnswerer) -> None:
    read: list[int] = []

    def texts() -> Iterator[str]:
        for number in range(60):
            read.append(number)
            yield long_text(60)

    windows_each = tiny(QUESTION, long_text(60)).spent.windows
    assert windows_each >= 3
    ahead = [len(read) - number for number, _ in enumerate(tiny(QUESTION, texts()), 1)]
    assert len(ahead) == 60
    assert max(ahead) <= READ_AHEAD / windows_each + 1


def test_a_generator_may_never_end(tiny: QuestionAnswerer) -> None:
    answers = tiny(("Who?" for _ in itertools.count()), (f"It was {i}." for i in itertools.count()))
    for i, answer in enumerate(itertools.islice(answers, 200)):
        sound(f"It was {i}.", answer)
    answers.close()  # type: ignore[attr-defined]


class Text(str):
    """A text whose end can be observed."""


@pytest.mark.slow
@pytest.mark.parametrize("content", ["It was built by Agnes Moreau. " * 30, "", " \n"])
def test_a_generator_of_texts_is_forgotten_as_it_is_answered(tiny: QuestionAnswerer, content: str) -> None:
    alive = 0
    most = 0

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def texts() -> Iterator[str]:
        nonlocal alive, most
        for _ in range(600):
            text = Text(content)
            weakref.finalize(text, gone)
            alive += 1
            most = max(most, alive)
            yield text

    assert sum(1 for _ in tiny(QUESTION, texts())) == 600
    assert most <= READ_AHEAD


def test_a_list_comes_back_in_order_whatever_the_lengths(tiny: QuestionAnswerer) -> None:
    """Batches are made by length: short, long and empty texts must not change places."""
    texts = [(f"Number {i} " + FILLER * (7 * i % 11) if i % 5 else "") for i in range(160)]
    for text, answer in zip(texts, tiny("Which number?", texts), strict=True):
        sound(text, answer)
        assert bool(answer.text) == bool(text)
        assert answer.spent.windows == (0 if not text else tiny("Which number?", text).spent.windows)


# Batches


@pytest.mark.slow
@settings(max_examples=60)
@given(
    batch=st.lists(st.tuples(some_question, any_text), min_size=2, max_size=6),
    budget=st.sampled_from(["full", 0.5, 0.2]),
)
def test_an_answer_does_not_depend_on_its_neighbours(
    qa: QuestionAnswerer, batch: list[tuple[str, str]], budget: Any
) -> None:
    batch = [(q, t) for q, t in batch if len(qa.reader.tokenizer.question(q))]
    together = qa([q for q, _ in batch], [t for _, t in batch], budget=budget)
    for (question, text), answer in zip(batch, together, strict=True):
        alone = qa(question, text, budget=budget, top_k=2)
        if not alone:
            assert answer.text == ""
            continue
        ties = [other for other in alone if alone[0].logit - other.logit < 1e-4]  # which of two equals is a toss
        agree(answer, next((other for other in ties if other.start == answer.start), alone[0]))
        sound(text, answer)


@pytest.mark.parametrize("budget", ["full", 0.5, 0.2])
def test_texts_of_many_windows_do_not_depend_on_their_neighbours(qa: QuestionAnswerer, budget: Any) -> None:
    texts = [TEXT, long_text(30, TEXT), TEXT[:40], FILLER + TEXT, "x"]
    for text, answer in zip(texts, qa(QUESTION, texts, budget=budget, max_seq_len=200, doc_stride=60), strict=True):
        agree(answer, qa(QUESTION, text, budget=budget, max_seq_len=200, doc_stride=60))


def test_int8_answers_too_and_does_not_depend_on_neighbours() -> None:
    qa = QuestionAnswerer(precision="int8", threads=1)
    questions, texts, expected = zip(*PAIRS, strict=True)
    answers = qa(list(questions), list(texts))
    assert sum(a.text == e for a, e in zip(answers, expected, strict=True)) >= 3
    for question, text, answer in zip(questions, texts, answers, strict=True):
        agree(answer, qa(question, text))
        sound(text, answer)


@pytest.mark.parametrize("budget", ["full", 0.5])
def test_an_answer_is_the_same_to_the_last_bit_alone_and_beside_others(budget: Any) -> None:
    qa = QuestionAnswerer(precision="fp32", threads=1)
    questions = [f"Who built {'really ' * i}the bridge?" for i in range(6)]
    texts = [TEXT * 6, TEXT, TEXT * 2, TEXT * 3, TEXT * 4, TEXT]
    together = qa(questions, texts, budget=budget)
    assert together == [qa(q, t, budget=budget) for q, t in zip(questions, texts, strict=True)]


def test_int8_batches_hold_texts_of_one_length_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    qa = QuestionAnswerer(precision="int8", threads=1)
    run, rows = qa.reader.runtime.run, []

    def recorded(ids: Any, types: Any, mask: Any, lengths: Any) -> Any:
        assert mask.all()
        rows.append(len(ids))
        return run(ids, types, mask, lengths)

    monkeypatch.setattr(qa.reader.runtime, "run", recorded)
    texts = [TEXT, TEXT + " It stands.", TEXT, TEXT[:40], TEXT]
    answers = qa(QUESTION, texts)
    assert sorted(rows) == [1, 1, 3]
    for text, answer in zip(texts, answers, strict=True):
        assert answer == qa(QUESTION, text)


# Other processes


@pytest.mark.parametrize("copied", ["pickle", "copy", "deepcopy"])
def test_a_copy_answers_the_same(copied: str, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_folder.parent)
    qa = QuestionAnswerer(tiny_folder.name, precision="int8", threads=1)
    if copied == "pickle":
        sent = pickle.dumps(qa)
        monkeypatch.chdir("/")
        other = pickle.loads(sent)
        assert len(sent) < 1000  # no weights
    else:
        other = getattr(copy, copied)(qa)
    assert (other.name, other.reader.runtime.precision) == (tiny_folder.name, "int8")
    assert other(QUESTION, TEXT) == qa(QUESTION, TEXT)


def test_the_embedded_model_is_pickled_by_name_and_without_a_token(qa: QuestionAnswerer) -> None:
    sent = pickle.dumps([qa, qa])
    assert b"/" not in sent
    one, same = pickle.loads(sent)
    assert one is same
    assert one(QUESTION, TEXT) == qa(QUESTION, TEXT)
    assert b"hf_secret" not in pickle.dumps(QuestionAnswerer(token="hf_secret", threads=1))


class Mine(QuestionAnswerer):
    """As a user would add a method."""

    def best(self) -> str:
        return self(QUESTION, TEXT).text


def test_a_subclass_comes_back_as_itself(tiny_folder: Path) -> None:
    mine = quiet(Mine(tiny_folder, threads=1))
    mine.label = "first"  # type: ignore[attr-defined]
    again = quiet(pickle.loads(pickle.dumps(mine)))
    assert type(again) is Mine
    assert again.best() == mine.best()
    assert again.label == "first"


def test_whole_numbers_of_numpy_are_whole_numbers(tiny_folder: Path) -> None:
    qa = quiet(QuestionAnswerer(tiny_folder, threads=np.int64(1)))  # type: ignore[arg-type]
    assert len(ask_passages(QUESTION, [TEXT], qa=qa, top_k=np.int64(2))) <= 2  # type: ignore[call-overload]
    for wrong in (np.float64(2.0), np.int64(0), np.bool_(True)):
        with pytest.raises(ValueError, match="top_k"):
            ask_passages(QUESTION, [TEXT], qa=qa, top_k=wrong)


def test_many_processes_answer(qa: QuestionAnswerer) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        texts = [answer.text for answer in pool.map(qa, [QUESTION] * 2, [TEXT] * 2)]
    assert texts == [qa(QUESTION, TEXT).text] * 2


def test_what_has_no_folder_cannot_be_pickled(tiny: QuestionAnswerer) -> None:
    made = QuestionAnswerer.from_reader(tiny.reader, tiny.shape, tiny.table, name="mine")
    with pytest.raises(TypeError, match=r"^a QuestionAnswerer made by from_reader cannot be pickled"):
        pickle.dumps(made)


def test_a_model_is_saved_and_loaded_by_the_names_of_the_hub_s_libraries(
    tiny_folder: Path, tiny: QuestionAnswerer, tmp_path: Path
) -> None:
    first = quiet(QuestionAnswerer.from_pretrained(tiny_folder))
    first.save_pretrained(tmp_path / "copy")
    copy = quiet(QuestionAnswerer.from_pretrained(tmp_path / "copy", threads=1))
    assert copy("Where?", "It is in Paris.") == first("Where?", "It is in Paris.")
    with pytest.raises(ModelFolderError, match="is not empty"):
        first.save_pretrained(tmp_path / "copy")
    first.save_pretrained(tmp_path / "copy", overwrite=True)
    made = QuestionAnswerer.from_reader(tiny.reader, tiny.shape, tiny.table, name="made")
    with pytest.raises(TypeError, match="no model folder"):
        made.save_pretrained(tmp_path / "other")


def test_one_instance_answers_many_threads(qa: QuestionAnswerer) -> None:
    jobs = [(q, t, budget) for q, t, _ in PAIRS for budget in ("full", 0.5)] * 4

    def ask(job: tuple[str, str, Any]) -> list[Answer]:
        return qa(job[0], job[1], budget=job[2], top_k=2)

    expected = {job: ask(job) for job in jobs[: 2 * len(PAIRS)]}
    with ThreadPoolExecutor(8) as pool:
        for job, answers in zip(jobs, pool.map(ask, jobs), strict=True):
            for a, b in zip(answers, expected[job], strict=True):
                agree(a, b)


def test_texts_of_like_length_are_read_together(tiny: QuestionAnswerer, monkeypatch: pytest.MonkeyPatch) -> None:
    """So little is spent on padding, and batches are not so large that they cost memory."""
    run, shapes, real = tiny.reader.runtime.run, [], []

    def recorded(ids: Any, types: Any, mask: Any, lengths: Any) -> Any:
        shapes.append(ids.shape)
        real.append(int(mask.sum()))
        return run(ids, types, mask, lengths)

    monkeypatch.setattr(tiny.reader.runtime, "run", recorded)
    texts = ["tower " * (1 + 37 * i % 300) for i in range(120)]
    tiny(QUESTION, texts)
    padded = [rows * tokens for rows, tokens in shapes]
    assert sum(rows for rows, _ in shapes) == 120
    assert len(shapes) < 60
    assert sum(padded) < 1.1 * sum(real)
    assert max(padded) <= 4096


# Empty, strange and huge


@pytest.mark.parametrize(
    "text", ["", " ", "\n\r\n\t", "\u3000\u00a0", "\x00", "\x01\x02\x7f", "\u200b\ufeff", "\u0301"]
)
@pytest.mark.parametrize("options", [{}, {"handle_impossible_answer": True}, {"budget": 0.2}])
def test_a_text_without_words_has_no_answer(qa: QuestionAnswerer, text: str, options: dict[str, Any]) -> None:
    answer = qa(QUESTION, text, **options)
    assert (answer.text, answer.start, answer.end, answer.score) == ("", 0, 0, 0.0)
    assert (answer.spent.windows, answer.spent.macs) == (0, 0)
    assert qa(QUESTION, text, top_k=3, **options) == []
    between = qa(QUESTION, [TEXT, text, TEXT], **options)
    assert [a.text for a in between][::2] == [qa(QUESTION, TEXT, **options).text] * 2
    assert between[1] == answer


@pytest.mark.parametrize("question", ["", " ", "\n\t", "\u200b", "\x00", "\u0301"])
def test_an_empty_question_is_refused(qa: QuestionAnswerer, question: str) -> None:
    for arguments in ((question, TEXT), ([question], [TEXT]), ([QUESTION, question], TEXT), (question, "")):
        with pytest.raises(ValueError, match="the question is empty"):
            qa(*arguments)
    with pytest.raises(ValueError, match="the question is empty"):
        list(qa(iter([question]), TEXT))
    with pytest.raises(ValueError, match=r"the question is empty$"):  # a number is of one of many
        qa(question, TEXT)
    with pytest.raises(ValueError, match=r"the question is empty \(number 1\)"):
        qa([QUESTION, question], TEXT)


def test_a_question_longer_than_its_limit_is_cut_with_one_warning(tiny: QuestionAnswerer) -> None:
    with pytest.warns(UserWarning, match="a question of 100 tokens was cut to max_question_len, 64") as caught:
        cut = tiny("tower " * 100, TEXT)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    agree(cut, tiny("tower " * 64, TEXT))
    assert cut.logit != tiny("tower " * 63, TEXT).logit
    with pytest.warns(UserWarning, match="max_question_len, 3"):
        agree(tiny("tower where " * 3, TEXT, max_question_len=3), tiny("tower where tower", TEXT))
    with pytest.warns(UserWarning, match="400 tokens"):  # longer than a window, too
        agree(tiny("tower " * 400, TEXT, max_question_len=300, doc_stride=20), tiny(
            "tower " * 300, TEXT, max_question_len=300, doc_stride=20))  # fmt: skip


@pytest.mark.parametrize("bad", [None, 5, 2.5, b"bytes", object()])
def test_what_is_no_string_is_refused(tiny: QuestionAnswerer, bad: Any) -> None:
    for arguments in (
        (bad, TEXT),
        (QUESTION, bad),
        ([bad], TEXT),
        ([QUESTION, bad], [TEXT, TEXT]),
        ([QUESTION], [bad]),
    ):
        with pytest.raises(TypeError):
            tiny(*arguments)
    for arguments in ((iter([QUESTION, bad]), TEXT), (QUESTION, iter([TEXT, bad]))):
        with pytest.raises(TypeError, match=r"^a (question|text) must be a string, not "):
            list(tiny(*arguments))


def test_empty_bytes_are_refused_as_other_bytes_are(tiny: QuestionAnswerer) -> None:
    with pytest.raises(TypeError):
        tiny(b"", TEXT)


@pytest.mark.parametrize("stray", ["\udce9", "\udfff\ud800"])
def test_half_a_character_is_read_as_one_that_nobody_knows(tiny: QuestionAnswerer, stray: str) -> None:
    """JSON and command lines bring lone surrogates."""
    text = f"A lone {stray} surrogate{stray}."
    answers, expected = (tiny(QUESTION, t, top_k=9) for t in (text, text.replace(stray, "\ufffd" * len(stray))))
    assert [(a.start, a.end, a.logit) for a in answers] == [(a.start, a.end, a.logit) for a in expected]
    for answer in answers:
        sound(text, answer)
    agree(tiny(f"Who {stray} built it?", TEXT), tiny("Who \ufffd built it?", TEXT))


def test_lists_of_different_length_are_refused_before_anything_is_read(tiny: QuestionAnswerer) -> None:
    with pytest.raises(ValueError, match="more texts than questions"):
        tiny([QUESTION] * 2, [TEXT] * 3)
    with pytest.raises(ValueError, match="more questions than texts"):
        tiny([QUESTION] * 2, [])
    for questions, texts in ((2, 3), (3, 2)):
        with pytest.raises(ValueError, match="there are more"):
            list(tiny(iter([QUESTION] * questions), iter([TEXT] * texts)))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"top_k": 0}, ValueError),
        ({"top_k": -1}, ValueError),
        ({"score_threshold": -0.1}, ValueError),
        ({"score_threshold": 1.1}, ValueError),
        ({"score_threshold": math.nan}, ValueError),
        ({"max_answer_len": 0}, ValueError),
        ({"max_question_len": 0}, WindowError),
        ({"doc_stride": -1}, WindowError),
        ({"doc_stride": 317}, WindowError),
        ({"max_seq_len": 513}, WindowError),
        ({"max_seq_len": 67}, WindowError),
        ({"max_seq_len": -1}, WindowError),
        ({"budget": 0}, BudgetError),
        ({"budget": 1.5}, BudgetError),
        ({"budget": "cheap"}, BudgetError),
        ({"budget": None}, BudgetError),
        ({"budget": LengthConfig((1.0,))}, BudgetError),
        ({"max_seq_len": 0}, WindowError),
    ],
)
def test_options_out_of_range_are_refused_at_once(
    tiny: QuestionAnswerer, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        tiny((q for q in [QUESTION]), TEXT, **options)  # before the first answer is asked for
    assert "\n" not in str(caught.value)


def test_an_unknown_option_is_refused(tiny: QuestionAnswerer) -> None:
    with pytest.raises(TypeError, match="topk"):
        tiny(QUESTION, TEXT, topk=3)


def test_a_huge_word_is_read(qa: QuestionAnswerer) -> None:
    text = "a" * 100_000 + " The tower stands in Paris. " + "b" * 100_000
    answer = qa("Where is the tower?", text)
    sound(text, answer)
    assert answer.text == "Paris"


# Long texts


@pytest.mark.slow
def test_the_last_sentence_of_a_long_text_is_found(qa: QuestionAnswerer) -> None:
    text = long_text(120, "The keeper of the lighthouse is called Barnaby Whitlock.")
    assert len(text.split()) > 1500
    answer = qa("What is the name of the keeper of the lighthouse?", text)
    assert answer.text == "Barnaby Whitlock"
    assert text[answer.start :] == "Barnaby Whitlock."
    assert answer.spent.windows > 5
    sound(text, answer)


@pytest.mark.parametrize("lengths", [(512, 128), (200, 0), (128, 40), (150, 82)])
def test_windows_of_any_size_find_the_answer(qa: QuestionAnswerer, lengths: tuple[int, int]) -> None:
    text = long_text(24, "The keeper of the lighthouse is called Barnaby Whitlock. ") + long_text(6)
    answer = qa(
        "What is the name of the keeper of the lighthouse?", text, max_seq_len=lengths[0], doc_stride=lengths[1]
    )
    assert answer.text == "Barnaby Whitlock"
    sound(text, answer)


def test_scores_are_over_all_windows(tiny: QuestionAnswerer) -> None:
    """So that of two windows of the same text neither has all the probability."""
    text = long_text(30)
    answers = tiny(QUESTION, text, top_k=400, max_answer_len=1, align_to_words=False, doc_stride=0)
    assert answers[0].spent.windows > 1
    space = 384 - 3 - len(tiny.reader.tokenizer.question(QUESTION))
    tokens = sum(len(piece) for piece in tiny.reader.tokenizer.text(text))
    assert tokens > space
    options = {"max_answer_len": 1, "align_to_words": False, "doc_stride": 0, "score_threshold": 0}
    everything = tiny(QUESTION, text, top_k=tokens, **options)
    assert len(everything) == tokens
    assert sum(a.score for a in everything) == pytest.approx(1, abs=1e-4)


MEMORY = """
import json, sys
import psutil
from dynamic_tinybert import QuestionAnswerer

folder, size = sys.argv[1], int(sys.argv[2])
unit = "The tower of the old town, finished in 1893, stands 120 m above the river; its keeper, Émile, lives there.\\n"
qa = QuestionAnswerer(folder, threads=1)
process = psutil.Process()
qa("Who lives there?", unit * 600)
text = unit * (size // len(unit)) + "The last keeper was Barnaby."
before = process.memory_info().rss
calls, peak = [], 0

def progress(done, known):
    global peak
    calls.append((done, known))
    peak = max(peak, process.memory_info().rss)

answer = qa("Who lives there?", text, progress=progress)
print(json.dumps({
    "growth": (peak - before) / 1e6, "calls": calls, "length": len(text), "windows": answer.spent.windows,
    "exact": text[answer.start:answer.end] == answer.text != "",
}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("size", [1_000_000, pytest.param(10_000_000, marks=pytest.mark.long)])
def test_a_text_of_megabytes_passes_in_bounded_memory_and_tells_how_far_it_is(tiny_folder: Path, size: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tiny_folder), str(size)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["exact"]
    assert found["windows"] > size / 1100
    assert found["growth"] < 35, "megabytes, whatever the size of the text"
    read = [a for a, _ in found["calls"]]
    assert len(read) > size / 200_000
    assert read == sorted(read)
    assert read[0] < 0.25 * found["length"]
    assert {known for _, known in found["calls"]} == {found["length"]}
    assert read[-1] == found["length"]
    assert max(read[:-1]) <= found["length"]


def test_progress_of_a_list_ends_with_all_that_is_known(tiny: QuestionAnswerer) -> None:
    calls: list[tuple[int, int]] = []
    texts = [long_text(30), TEXT, TEXT] * 80
    tiny(QUESTION, texts, progress=lambda *call: calls.append(call))
    assert len(calls) > 2
    for column in zip(*calls, strict=True):
        assert list(column) == sorted(column)
    assert all(read <= known for read, known in calls)
    assert calls[-1] == (sum(map(len, texts)),) * 2


def test_progress_is_told_with_empty_texts_among_them(tiny: QuestionAnswerer) -> None:
    calls: list[tuple[int, int]] = []
    tiny(QUESTION, ["", TEXT] * 300, progress=lambda *call: calls.append(call))
    assert len(calls) > 2


# Budgets


@pytest.mark.slow
def test_an_answer_says_what_was_spent(qa: QuestionAnswerer) -> None:
    text = long_text(60)
    for budget in ("full", 0.5, 0.2, LengthConfig.uniform(qa.shape.layers, 0.5)):
        choice = qa.table.select(qa.shape, budget)
        spent = qa(QUESTION, text, budget=budget).spent
        question = qa.reader.tokenizer.question(QUESTION)
        lengths = [
            len(w)
            for w in cut_windows(
                qa.reader.tokenizer, question, qa.reader.tokenizer.text(text), max_seq_len=384, doc_stride=128
            )
        ]
        assert len(lengths) > 2
        assert (spent.configuration, spent.share) == (choice.name, choice.share)
        assert spent.windows == len(lengths)
        assert spent.macs == macs(qa.shape, lengths, choice.config)
        assert spent.bert_base_macs == macs(BERT_BASE, lengths)


def test_a_smaller_budget_spends_less_and_may_answer_otherwise(qa: QuestionAnswerer) -> None:
    text = long_text(12, TEXT)
    full, half, fifth = (qa(QUESTION, text, budget=budget) for budget in ("full", 0.5, 0.2))
    assert full.spent.macs >= half.spent.macs >= fifth.spent.macs
    assert full.spent.macs > fifth.spent.macs
    assert full.spent.share == 1
    assert half.spent.share <= max(0.5, min(choice.share for choice in qa.table.choices))
    assert full.logit != fifth.logit  # something was really dropped
    for answer in (full, half, fifth):
        sound(text, answer)


def test_named_budgets_work(qa: QuestionAnswerer) -> None:
    shares = [qa(QUESTION, TEXT, budget=budget).spent.share for budget in ("full", "balanced", "fast")]
    assert shares == sorted(shares, reverse=True)


def test_a_model_without_a_table_warns_once_and_only_where_it_matters(tiny_folder: Path) -> None:
    qa = QuestionAnswerer(tiny_folder)
    qa(QUESTION, TEXT)
    qa(QUESTION, TEXT, budget="full")
    qa(QUESTION, TEXT, budget=1.0)  # warnings are errors in the tests
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            qa(QUESTION, TEXT, budget=0.5)
        qa(QUESTION, TEXT, budget="fast")
        qa([QUESTION] * 3, TEXT, budget=0.3)
    assert ["no measured table of length configurations" in str(warning.message) for warning in caught] == [True]
    assert caught[0].filename == __file__


def test_a_model_with_a_table_does_not_warn(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "measured"
    shutil.copytree(tiny_folder, folder)
    rows = [
        {"name": "full", "fractions": [1, 1], "exact_match": 70, "f1": 80},
        {"name": "half", "fractions": [0.5, 0.4], "exact_match": 69, "f1": 79.5},
        {"name": "tenth", "fractions": [0.2, 0.1], "exact_match": 67, "f1": 78},
    ]
    (folder / "length_configs.json").write_text(json.dumps({"measured_on": "nothing", "configs": rows}))
    qa = QuestionAnswerer(folder)
    names = [qa(QUESTION, TEXT, budget=b).spent.configuration for b in ("full", "balanced", "fast", 1e-9, 1.0)]
    assert names == ["full", "half", "tenth", "tenth", "full"]


# Models


def test_a_model_is_a_folder_or_the_embedded_one(
    tiny: QuestionAnswerer, tiny_folder: Path, qa: QuestionAnswerer
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model in (tiny_folder, str(tiny_folder)):
            agree(QuestionAnswerer(model)(QUESTION, TEXT), tiny(QUESTION, TEXT))
    assert tiny.name == str(tiny_folder)
    assert qa.name == "embedded"
    agree(QuestionAnswerer("embedded", threads=1)(QUESTION, TEXT), qa(QUESTION, TEXT))


def test_a_model_with_a_broken_tokenizer_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_folder, folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(WindowError, match="cannot be read"):
        QuestionAnswerer(folder)


def test_a_vocabulary_is_as_good_as_a_tokenizer(tiny: QuestionAnswerer, tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(tiny_folder, folder)
    vocab = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in sorted(vocab, key=vocab.__getitem__)), "utf-8")
    agree(QuestionAnswerer(folder)(QUESTION, TEXT), tiny(QUESTION, TEXT))


def test_the_road_is_windows_runtime_spans(tiny: QuestionAnswerer, tiny_folder: Path) -> None:
    """The rooms by hand, a window at a time, give what the whole road gives."""
    text = long_text(30, TEXT)
    tokenizer = TextTokenizer(tiny_folder)
    ranker = SpanRanker(top_k=3, max_answer_len=30)
    pieces = tokenizer.text(text)
    for window in cut_windows(tokenizer, tokenizer.question(QUESTION), pieces, max_seq_len=384, doc_stride=128):
        ones = np.ones((1, len(window)), np.int64)
        lengths = LengthConfig.full(tiny.shape.layers).lengths([len(window)])
        logits = tiny.reader.runtime.run(window.ids[None], window.type_ids[None], ones, lengths)
        ranker.add(window, logits.start[0], logits.end[0])
    for span, answer in zip(ranker.ranked(), tiny(QUESTION, text, top_k=3), strict=True):
        assert (span.start, span.end) == (answer.start, answer.end)
        assert span.logit == pytest.approx(answer.logit, abs=1e-4)
        assert span.score == pytest.approx(answer.score, abs=1e-4)


# What goes wrong in the middle, and what is asked for at the edges.


@pytest.mark.parametrize(("bad", "error"), [("", ValueError), ("  ", ValueError), (None, TypeError), (3, TypeError)])
def test_answers_before_a_bad_question_come_out_of_a_generator(tiny: QuestionAnswerer, bad: Any, error: type) -> None:
    answers = tiny((q for q in [QUESTION, QUESTION, bad, QUESTION]), "The tower stands in Paris.")
    assert [next(answers).spent.windows for _ in range(2)] == [1, 1]
    with pytest.raises(error, match="number 2"):
        next(answers)


def test_answers_before_a_generator_fails_come_out(tiny: QuestionAnswerer) -> None:
    def texts() -> Iterator[str]:
        yield "The tower stands in Paris."
        raise OSError("the disk is gone")

    answers = tiny(QUESTION, texts())
    assert next(answers).text
    with pytest.raises(OSError, match="the disk is gone"):
        next(answers)


def test_generators_of_different_length_say_which_is_longer(tiny: QuestionAnswerer) -> None:
    with pytest.raises(ValueError, match="more questions than texts"):
        list(tiny(iter([QUESTION] * 3), iter(["The tower stands in Paris."] * 2)))


def test_a_bad_item_of_a_list_is_told_before_anything_is_read(
    tiny: QuestionAnswerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny.reader.runtime, "run", lambda *_: pytest.fail("something was read"))
    with pytest.raises(TypeError, match="number 299"):
        tiny([QUESTION] * 299 + [None], "The tower stands in Paris.")  # type: ignore[list-item]


def test_an_array_of_strings_is_a_list(tiny: QuestionAnswerer) -> None:
    answers = tiny(np.array([QUESTION, QUESTION]), "The tower stands in Paris.")  # type: ignore[call-overload]
    assert isinstance(answers, list)
    assert len(answers) == 2


@pytest.mark.parametrize("question", [{"question": QUESTION}, {QUESTION}, None, 3])
def test_what_is_no_list_of_questions_is_refused(tiny: QuestionAnswerer, question: Any) -> None:
    with pytest.raises(TypeError, match="question must be a string"):
        tiny(question, "The tower stands in Paris.")


def test_every_row_of_the_table_can_be_bought_at_its_printed_share(qa: QuestionAnswerer) -> None:
    for choice in qa.table.choices:
        bought = qa.table.select(qa.shape, round(choice.share, 4))
        assert choice.f1 is not None
        assert bought.f1 is not None
        assert bought.f1 >= choice.f1


def test_short_windows_need_no_other_option(tiny: QuestionAnswerer) -> None:
    for longest in (70, 100, 128, 192):
        assert tiny(QUESTION, "The tower stands in Paris. " * 100, max_seq_len=longest).text


def test_an_answer_of_any_length_may_be_asked_for(tiny: QuestionAnswerer) -> None:
    assert tiny(QUESTION, "The tower stands in Paris.", max_answer_len=10**9).text


def test_many_answers_of_a_long_text(tiny: QuestionAnswerer) -> None:
    answers = tiny(QUESTION, "a b c d e f g h i j " * 500, top_k=2000, max_answer_len=2, score_threshold=0)
    assert len(answers) == 2000
    ends = sorted((answer.start, answer.end) for answer in answers)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(ends))


def test_the_total_of_a_list_is_known_from_the_first(tiny: QuestionAnswerer) -> None:
    seen: list[tuple[int, int]] = []
    texts = ["The tower stands in Paris. " * 100] * 20
    tiny(QUESTION, texts, progress=lambda *x: seen.append(x), max_seq_len=100)
    assert len(seen) > 2
    assert {total for _, total in seen} == {sum(map(len, texts))}
    assert seen[-1][0] == seen[-1][1]


def test_logits_that_are_not_finite_are_told(tiny: QuestionAnswerer, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny.reader.runtime.run
    monkeypatch.setattr(
        tiny.reader.runtime, "run", lambda *x: (lambda y: y._replace(start=y.start * np.float32("nan")))(run(*x))
    )
    with pytest.raises(ValueError, match="not finite"):
        tiny(QUESTION, "The tower stands in Paris.")


def test_windows_of_several_requests_are_read_each_at_its_own_configuration(qa: QuestionAnswerer) -> None:
    sizes = {"max_seq_len": 384, "doc_stride": 128, "max_question_len": 64}
    batch = [w for text in ("The tower stands in Paris.", "It was built in 1889 by Koechlin. " * 5)
             for w in qa.reader.windows(QUESTION, text, **sizes)]  # fmt: skip
    configs = [LengthConfig.full(6), LengthConfig.uniform(6, 0.7)]
    together = qa.reader.predict(batch, configs)
    for row, (window, config) in enumerate(zip(batch, configs, strict=True)):
        alone = qa.reader.predict([window], [config])
        np.testing.assert_allclose(together.start[row, : len(window)], alone.start[0], atol=1e-4)
        assert (together.layers_passed[row, : len(window)] == alone.layers_passed[0]).all()


def test_a_loaded_model_takes_little_more_than_twice_its_weights(embedded: Path) -> None:
    code = (
        "import psutil; from dynamic_tinybert import QuestionAnswerer; import onnxruntime, tokenizers, safetensors\n"
        "before = psutil.Process().memory_info().rss\n"
        "qa = QuestionAnswerer()\n"
        "qa('Where is it?', 'It is in Paris.')\n"
        "print(psutil.Process().memory_info().rss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2.4 * 4 * open_folder(embedded).parameters


def test_qa_shown_names_model_and_table(qa: QuestionAnswerer, tiny: QuestionAnswerer) -> None:
    assert repr(qa) == f"<QuestionAnswerer 'embedded': 6 layers of 384, {len(qa.table.choices)} measured>"
    assert repr(tiny).endswith(": 2 layers of 32, unmeasured>")


def test_context_given_for_text_answers_the_same(tiny: QuestionAnswerer) -> None:
    text = "The tower stands in Paris."
    assert tiny(QUESTION, context=text) == tiny(QUESTION, text)
    assert tiny(QUESTION, context=text, top_k=2) == tiny(QUESTION, text, top_k=2)


@pytest.mark.parametrize("given", [{}, {"text": "One.", "context": "Two."}])
def test_not_one_text_is_refused(tiny: QuestionAnswerer, given: dict[str, str]) -> None:
    with pytest.raises(TypeError, match=r"give a text: as `text`, or as `context`"):
        tiny(QUESTION, **given)


def test_another_folder_called_embedded_is_not_the_embedded_model(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_folder, tmp_path / "embedded")
    monkeypatch.chdir(tmp_path)
    mine = QuestionAnswerer(Path("embedded"), threads=1)
    assert pickle.loads(pickle.dumps(mine)).shape == mine.shape
    mine.save_pretrained("copy")
    assert QuestionAnswerer("./copy", threads=1).shape == mine.shape != QuestionAnswerer(threads=1).shape


def test_a_question_without_tokens_is_found_in_a_list_before_any_prediction(tiny: QuestionAnswerer) -> None:
    done: list[int] = []
    with pytest.raises(ValueError, match=r"the question is empty \(number 200\)"):
        tiny(["Where?"] * 200 + ["\u200b"], ["In Paris."] * 201, progress=lambda a, b: done.append(a))
    assert done == []


@pytest.mark.parametrize("threshold", ["0.1", None, True, math.nan, 2.0, -0.5])
def test_a_score_threshold_that_is_none_is_refused(tiny: QuestionAnswerer, threshold: Any) -> None:
    with pytest.raises(ValueError, match="score_threshold must be from 0 to 1"):
        tiny("Where?", "In Paris.", score_threshold=threshold)
