"""Threads that read: the answers are those of `QuestionAnswerer`, whatever else goes on, and nothing is left behind."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra: pip install 'dynamic-tinybert[serve]'")

from dynamic_tinybert.answer import Answer, LogitsError
from dynamic_tinybert.corpus import Corpus
from dynamic_tinybert.inference import TextTokenizer
from dynamic_tinybert.model import BudgetError, macs
from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.runtime import Logits
from dynamic_tinybert.serve import ServeOptions
from dynamic_tinybert.serve.engine import Engine, Result, Stopped, TooBusy
from dynamic_tinybert.serve.engine.costs import Costs
from support.engines import Running, running
from support.waiting import WAIT_S, eventually

pytestmark = [pytest.mark.serve, pytest.mark.filterwarnings("ignore:.*cut to max_question_len")]

TOWER = "The tower stands in Paris, on the Champ de Mars. It was built in 1889 by the company of Gustave Eiffel."
GATE = "The Brandenburg Gate stands in Berlin. Carl Langhans designed it, and it was finished in 1791."
FILLER = "Other sentences of a report stand here, and say nothing of the matter at hand. "
LONG = FILLER * 14 + TOWER + " " + FILLER * 14
PAIRS = [
    ("Where is the tower?", TOWER),
    ("Who designed the gate?", GATE),
    ("Where is the tower?", LONG),
    ("When was it built?", FILLER * 12 + TOWER),
    ("Who built the tower?", "😀 Ünïcödé 東京 " + TOWER + " é " * 50),
    ("How tall is it?", "It is 300 m tall."),
]


def asked(engine: Engine, *pairs: tuple[str, str], **options: Any) -> Awaitable[list[Result]]:
    """Ask an engine; options are those of a call, and `max_latency` and `explain`."""
    own = {name: options.pop(name) for name in ("max_latency", "explain") if name in options}
    settings = engine.model.settings(**{"top_k": 1, **options})
    return engine.answer(pairs, settings, arrived=time.perf_counter(), **own)


def once(engine: Engine, *pairs: tuple[str, str], **options: Any) -> list[Result]:
    async def ask() -> list[Result]:
        return await asyncio.wait_for(asked(engine, *pairs, **options), WAIT_S)

    return asyncio.run(ask())


async def until(what: Callable[[], Any]) -> None:
    assert await asyncio.to_thread(eventually, what)


def check_same(found: Sequence[Any], expected: Sequence[Any]) -> None:
    """Answers are the same: text and place exactly, numbers but for rounding."""
    assert [(a.text, a.start, a.end) for a in found] == [(a.text, a.start, a.end) for a in expected]
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.logit == pytest.approx(theirs.logit, abs=1e-4)
        assert mine.score == pytest.approx(theirs.score, abs=1e-4)
        if theirs.confidence is None:
            assert mine.confidence is None
        else:
            assert mine.confidence == pytest.approx(theirs.confidence, abs=1e-4)


def check(qa: QuestionAnswerer, result: Result, question: str, text: str, **options: Any) -> None:
    """A result is what the model says at the configuration that the result names."""
    options.pop("budget", None)
    choice = next(choice for choice in qa.table.choices if choice.name == result.spent.configuration)
    expected = qa(question, text, **{"top_k": 1, **options}, budget=choice.config)
    check_same(result.answers, expected)
    assert result.spent.share == choice.share
    if expected:
        assert result.spent == expected[0].spent
        assert all(answer.spent == result.spent for answer in result.answers if isinstance(answer, Answer))


@pytest.fixture(scope="module")
def served(qa: QuestionAnswerer) -> Iterator[Running]:
    """The embedded model, read by two threads, without load control."""
    with running(qa, workers=2) as engine:
        yield engine


@pytest.fixture
def one(tiny: QuestionAnswerer) -> Iterator[Running]:
    """The tiny model, read by one thread, without load control."""
    with running(tiny) as engine:
        yield engine


# Answers


def test_what_is_asked_at_once_is_answered_as_if_alone(served: Running, qa: QuestionAnswerer) -> None:
    random = Random(0)
    requests = [
        (
            random.choices(PAIRS, k=random.randint(1, 3)),
            {
                "budget": random.choice(["full", "balanced", "fast", 0.4, 0.9]),
                "top_k": random.randint(1, 3),
                "max_seq_len": random.choice([128, None]),
                "handle_impossible_answer": random.random() < 0.3,
            },
        )
        for _ in range(10)
    ]

    async def ask() -> list[list[Result]]:
        return await asyncio.gather(*(asked(served.engine, *pairs, **options) for pairs, options in requests))

    for (pairs, options), results in zip(requests, asyncio.run(ask()), strict=True):
        for (question, text), result in zip(pairs, results, strict=True):
            assert result.spent.configuration == qa.table.select(qa.shape, options["budget"]).name  # type: ignore[arg-type]
            check(qa, result, question, text, **options)
    assert eventually(served.is_idle)


def test_windows_of_several_questions_share_batches(one: Running, tiny: QuestionAnswerer) -> None:
    async def ask() -> list[list[Result]]:
        one.held.go.clear()
        first = asyncio.ensure_future(asked(one.engine, PAIRS[0]))
        await asyncio.to_thread(one.held.wait_until_it_reads)
        rest = [asyncio.ensure_future(asked(one.engine, PAIRS[0])) for _ in range(6)]
        await until(lambda: len(one.engine._workers.scheduler) == 6)
        one.held.go.set()
        return await asyncio.gather(first, *rest)

    for (result,) in asyncio.run(ask()):
        check(tiny, result, *PAIRS[0])
    rows = [rows for rows, _ in one.held.shapes]
    assert rows[0] == 1
    assert sum(rows) == 7
    assert len(rows) < 4


def test_a_long_text_does_not_keep_a_short_one_waiting(one: Running) -> None:
    ended = []

    async def ask() -> None:
        one.held.go.clear()

        async def note(name: str, text: str) -> None:
            await asked(one.engine, ("Where is the tower?", text))
            ended.append(name)

        long = asyncio.ensure_future(note("long", LONG * 10))
        await asyncio.to_thread(one.held.wait_until_it_reads)
        short = asyncio.ensure_future(note("short", TOWER))
        await until(lambda: len(one.engine._workers.scheduler) == 2)
        one.held.go.set()
        await asyncio.gather(long, short)

    asyncio.run(ask())
    assert ended == ["short", "long"]


def test_event_loops_and_threads_may_ask_at_once(one: Running, tiny: QuestionAnswerer) -> None:
    with ThreadPoolExecutor(8) as pool:
        loops = [pool.submit(once, one.engine, *PAIRS) for _ in range(4)]
        calls = [pool.submit(one.engine.qa, *pair, top_k=2) for pair in PAIRS]
        for future in loops:
            for pair, result in zip(PAIRS, future.result(WAIT_S), strict=True):
                check(tiny, result, *pair)
        for pair, call in zip(PAIRS, calls, strict=True):
            check_same(call.result(WAIT_S), tiny(*pair, top_k=2))
    assert eventually(one.is_idle)


@pytest.mark.parametrize("text", ["", " \n\t", "\u200b", "\ufeff"])
@pytest.mark.parametrize("impossible", [False, True])
def test_a_text_without_words_has_no_answer(one: Running, tiny: QuestionAnswerer, text: str, impossible: bool) -> None:
    first, second = once(one.engine, ("Where?", text), ("Where?", TOWER), handle_impossible_answer=impossible)
    check_same(first.answers, tiny("Where?", text, top_k=1, handle_impossible_answer=impossible))
    assert not first.answers
    assert (first.spent.windows, first.spent.macs, first.spent.bert_base_macs) == (0, 0, 0)
    check(tiny, second, "Where?", TOWER, handle_impossible_answer=impossible)


def test_there_may_be_no_answer(served: Running, qa: QuestionAnswerer) -> None:
    pairs = [("Who won the match of 1953?", GATE), ("Who won the match of 1953?", LONG), PAIRS[0]]
    for threshold in (None, -1e6, 1e6):
        options = {"handle_impossible_answer": True, "no_answer_threshold": threshold, "top_k": 2}
        results = once(served.engine, *pairs, **options)
        for (question, text), result in zip(pairs, results, strict=True):
            check(qa, result, question, text, **options)
        if threshold is not None:
            assert [not result.answers[0].text for result in results] == [threshold < 0] * 3


def test_a_question_that_is_too_long_is_cut(served: Running, qa: QuestionAnswerer) -> None:
    question = "Where is the tower? " * 100
    (result,) = once(served.engine, (question, LONG))
    check(qa, result, question, LONG)
    (result,) = once(served.engine, (question, LONG), max_question_len=5)
    check(qa, result, question, LONG, max_question_len=5)


def test_at_int8_a_window_is_read_by_itself(tiny_folder: Path) -> None:
    qa = QuestionAnswerer(tiny_folder, precision="int8")
    with running(qa) as served:
        results = once(served.engine, *PAIRS, *PAIRS)
        assert {rows for rows, _ in served.held.shapes} == {1}
        for pair, result in zip([*PAIRS, *PAIRS], results, strict=True):
            check(qa, result, *pair)


@pytest.mark.parametrize("question", ["\u200b", "\ufeff"])
def test_a_question_of_nothing_is_refused(one: Running, question: str) -> None:
    with pytest.raises(ValueError, match="the question is empty"):
        once(one.engine, PAIRS[0], (question, TOWER))
    assert eventually(one.is_idle)


@pytest.mark.parametrize("budget", ["full", "fast", 0.4])
@pytest.mark.parametrize("text", [TOWER, LONG, "😀 Ünïcödé 東京 " + TOWER])
def test_the_layers_of_each_token_are_told(served: Running, qa: QuestionAnswerer, budget: Any, text: str) -> None:
    question = "Where is the tower?"
    lengths = {"max_seq_len": 128, "doc_stride": 32}
    (result,) = once(served.engine, (question, text), budget=budget, explain=True, **lengths)
    config = qa.table.select(qa.shape, budget).config
    expected: dict[tuple[int, int], int] = {}
    for window in qa.reader.windows(question, text, max_question_len=64, **lengths):
        (layers,) = qa.reader.predict([window], [config]).layers_passed
        places = zip(map(int, window.text.start), map(int, window.text.end), strict=True)
        for i, place in enumerate(places, start=window.offset):
            expected[place] = max(int(layers[i]), expected.get(place, 0))
    tokens = result.tokens
    assert tokens is not None
    assert dict(zip(zip(tokens.start, tokens.end, strict=True), tokens.layers, strict=True)) == expected
    assert tokens.start == sorted(tokens.start)
    covered = {i for start, end in zip(tokens.start, tokens.end, strict=True) for i in range(start, end)}
    assert {i for i, character in enumerate(text) if not character.isspace()} <= covered
    assert max(tokens.layers) == qa.shape.layers
    assert (min(tokens.layers) < qa.shape.layers) == (budget != "full")
    check(qa, result, question, text, **lengths)


def test_layers_are_told_when_asked_for(one: Running) -> None:
    assert once(one.engine, PAIRS[0])[0].tokens is None
    empty = once(one.engine, ("Where?", ""), explain=True)[0].tokens
    assert empty is not None
    assert (empty.start, empty.end, empty.layers) == ([], [], [])


# Load control


def window_of(qa: QuestionAnswerer) -> Any:
    (window,) = qa.reader.windows(*PAIRS[0], max_seq_len=384, doc_stride=128, max_question_len=64)
    return window


def paced(qa: QuestionAnswerer, seconds: float) -> Callable[..., Costs]:
    """Costs by which the first of `PAIRS` takes so many seconds at full, and at others as their arithmetic says."""
    full = macs(qa.shape, len(window_of(qa)))

    def make(shape: Any, ladder: Any) -> Costs:
        return Costs(shape, ladder, overhead=0, pace=seconds / full)

    return make


HOURS = 10 * 3600.0


@pytest.mark.parametrize("share", [math.inf, 1.01, 0.8, 0.6, 0.5])
def test_less_time_is_a_cheaper_configuration(qa: QuestionAnswerer, share: float) -> None:
    """A window takes hours, by the costs, so that what passes while the test runs is nothing."""
    for budget in ("full", 0.45):
        with running(qa, measured=paced(qa, HOURS)) as served:
            takes = served.engine._workers.scheduler.costs.seconds(1, len(window_of(qa)))
            latency = share * HOURS / served.engine.objective.own_margin
            (result,) = once(served.engine, PAIRS[0], max_latency=latency, budget=budget)
            fits = [c for c, s in zip(served.engine.ladder, takes, strict=True) if s < share * HOURS]
            most = qa.table.select(qa.shape, budget).share  # a budget is the most that it may be
            assert result.spent.configuration == next(c.name for c in fits if c.share <= most)
            check(qa, result, *PAIRS[0])


def test_questions_that_wait_get_less_and_never_less_than_the_floor(qa: QuestionAnswerer) -> None:
    for questions in (1, 64):
        with running(qa, slo_ms=3_600_000, min_budget=0.5, measured=paced(qa, 1.0)) as served:
            floor = min((c for c in served.engine.ladder if c.share >= 0.5), key=lambda c: c.share)
            results = once(served.engine, *[PAIRS[0]] * questions)
            assert {result.spent.configuration for result in results} == {"full" if questions == 1 else floor.name}
            for result in results[::9]:
                check(qa, result, *PAIRS[0])


def test_a_model_without_a_table_has_no_load_control_unless_it_is_asked_for(tiny: QuestionAnswerer) -> None:
    with pytest.warns(UserWarning, match="load control is off") as told:
        engine = Engine(tiny, ServeOptions())
    assert len(told) == 1
    assert "--min-budget" in str(told[0].message)
    assert math.isinf(engine.objective.seconds)
    for options in (ServeOptions(slo_ms=None), ServeOptions(min_budget=0.5)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            engine = Engine(tiny, options)
        assert math.isinf(engine.objective.seconds) == (options.slo_ms is None)


def test_a_budget_that_makes_no_sense_is_refused(tiny: QuestionAnswerer) -> None:
    for options in ({"budget": 2.0}, {"min_budget": 0.0}, {"budget": "cheap"}):
        with pytest.raises(BudgetError):
            Engine(tiny, ServeOptions(slo_ms=None, **options))


def test_reading_is_measured_before_any_question_comes(tiny: QuestionAnswerer) -> None:
    engine = Engine(tiny, ServeOptions(slo_ms=100, min_budget=0.5))
    engine.start()
    try:
        seconds = engine._workers.scheduler.costs.seconds(1, 128)
        assert np.isfinite(seconds).all()
        assert (seconds > 0).all()
        (result,) = once(engine, PAIRS[0])
        check(tiny, result, *PAIRS[0])
    finally:
        engine.stop()


# Too much


def test_what_does_not_fit_is_refused_at_once_and_whole(one: Running) -> None:
    engine = one.engine
    engine.admit(250)
    engine.admit(6)
    with pytest.raises(TooBusy) as busy:
        engine.admit(1)
    assert (busy.value.reason, busy.value.retry_after >= 1, engine.open) == ("waiting", True, 256)
    engine.release(6)
    with pytest.raises(TooBusy):
        engine.admit(7)
    engine.admit(6)
    engine.release(256)
    assert one.is_idle()
    assert engine.metrics.totals() == {"accepted": 262, "answered": 0, "refused": 8, "given_up": 0}


def test_what_would_wait_longer_than_the_objective_is_refused(tiny: QuestionAnswerer) -> None:
    with running(tiny, slo_ms=200.0, min_budget=0.5, measured=lambda s, c: Costs(s, c, pace=1e-3)) as served:
        engine = served.engine

        async def ask() -> TooBusy:
            served.held.go.clear()
            engine.admit(1)
            first = asyncio.ensure_future(asked(engine, PAIRS[0]))
            await asyncio.to_thread(served.held.wait_until_it_reads)
            with pytest.raises(TooBusy) as busy:
                engine.admit(1)
            served.held.go.set()
            await first
            engine.release(1)
            return busy.value

        busy = asyncio.run(ask())
        assert busy.reason == "objective"
        assert busy.retry_after > 1  # as long as what is read takes, by the costs


# Leaving


def test_what_is_cancelled_leaves_nothing_and_others_are_answered(one: Running, tiny: QuestionAnswerer) -> None:
    async def ask() -> list[Result]:
        one.held.go.clear()
        reading = asyncio.ensure_future(asked(one.engine, ("Where is the tower?", LONG)))
        await asyncio.to_thread(one.held.wait_until_it_reads)
        leaving = [asyncio.ensure_future(asked(one.engine, *PAIRS)) for _ in range(5)]
        staying = asyncio.ensure_future(asked(one.engine, *PAIRS))
        await until(lambda: len(one.engine._workers.scheduler) == 1 + 6 * len(PAIRS))
        for task in (reading, *leaving):
            task.cancel()
        gone = await asyncio.gather(reading, *leaving, return_exceptions=True)
        assert all(isinstance(error, asyncio.CancelledError) for error in gone)
        assert len(one.engine._workers.scheduler) == len(one.engine._workers._jobs) == len(PAIRS)
        one.held.go.set()
        return await staying

    for pair, result in zip(PAIRS, asyncio.run(ask()), strict=True):
        check(tiny, result, *pair)
    assert eventually(one.is_idle)


def test_an_event_loop_that_is_gone_harms_nobody(one: Running, tiny: QuestionAnswerer) -> None:
    async def leave() -> None:
        one.held.go.clear()
        asyncio.ensure_future(asked(one.engine, *PAIRS))  # noqa: RUF006  # asyncio.run cancels it
        await asyncio.to_thread(one.held.wait_until_it_reads)

    asyncio.run(leave())
    one.held.go.set()
    (result,) = once(one.engine, PAIRS[0])
    check(tiny, result, *PAIRS[0])
    assert eventually(one.is_idle)


# Failing


def raises(ids: Any, logits: Logits) -> Logits:
    raise RuntimeError("out of luck")


def not_finite(ids: Any, logits: Logits) -> Logits:
    return logits._replace(start=np.full_like(logits.start, np.nan))


@pytest.mark.parametrize(("fault", "error"), [(raises, RuntimeError), (not_finite, LogitsError)])
def test_a_batch_that_fails_ends_its_own_questions(
    one: Running, tiny: QuestionAnswerer, fault: Any, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    def of_the_long(ids: Any, logits: Logits) -> Logits:
        return fault(ids, logits) if ids.shape[1] > 200 else logits

    one.held.fault = of_the_long

    async def ask() -> list[Any]:
        texts = [TOWER, LONG, TOWER, LONG * 3]
        return await asyncio.gather(
            *(asked(one.engine, ("Where is the tower?", text)) for text in texts), return_exceptions=True
        )

    first, long, second, longer = asyncio.run(ask())
    for (result,) in (first, second):
        check(tiny, result, "Where is the tower?", TOWER)
    assert (type(long), type(longer)) == (error, error)
    assert "a batch could not be read" in caplog.text
    assert eventually(one.is_idle)
    one.held.fault = lambda ids, logits: logits
    (result,) = once(one.engine, ("Where is the tower?", LONG))
    check(tiny, result, "Where is the tower?", LONG)


def test_a_request_of_which_a_question_fails_fails_whole(one: Running) -> None:
    one.held.fault = lambda ids, logits: raises(ids, logits) if ids.shape[1] > 200 else logits
    with pytest.raises(RuntimeError, match="out of luck"):
        once(one.engine, PAIRS[0], ("Where is the tower?", LONG))
    assert eventually(one.is_idle)


# The end


def test_what_waits_when_the_engine_stops_is_told(tiny: QuestionAnswerer) -> None:
    with running(tiny) as served:
        engine = served.engine
        cutting, cut = threading.Event(), threading.Event()
        windows = engine.model.reader.windows

        def slowly(*args: Any, **options: Any) -> Iterator[Any]:
            cutting.set()
            assert cut.wait(WAIT_S)
            yield from windows(*args, **options)

        async def ask() -> list[Any]:
            served.held.go.clear()
            tasks = [asyncio.ensure_future(asked(engine, PAIRS[0]))]
            await asyncio.to_thread(served.held.wait_until_it_reads)
            tasks += [asyncio.ensure_future(asked(engine, pair)) for pair in PAIRS]
            await until(lambda: len(engine._workers.scheduler) == len(PAIRS))
            engine.model.reader.windows = slowly  # type: ignore[method-assign]
            tasks.append(asyncio.ensure_future(asked(engine, PAIRS[0])))
            assert await asyncio.to_thread(cutting.wait, WAIT_S)
            tasks.append(asyncio.ensure_future(asked(engine, PAIRS[0])))  # it waits for the one before to be cut
            await asyncio.sleep(0)
            stopping = asyncio.ensure_future(asyncio.to_thread(engine.stop))
            await until(lambda: engine._workers.stopping)
            served.held.go.set()
            cut.set()
            await stopping
            return await asyncio.gather(*tasks, return_exceptions=True)

        ends = asyncio.run(asyncio.wait_for(ask(), WAIT_S))
        assert all(isinstance(end, Stopped) for end in ends[1:]), ends
        assert isinstance(ends[0], (Stopped, list))  # it was being read
        assert not any(thread.is_alive() for thread in engine._workers._threads)
        with pytest.raises(Stopped):
            once(engine, PAIRS[0])
        engine.stop()  # twice does no harm


# Corpora


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, qa: QuestionAnswerer) -> Path:
    directory = tmp_path_factory.mktemp("index") / "docs"
    corpus = Corpus(directory, qa=qa, passage_size=300)
    corpus.put_many(
        [
            ("tower", "Tower", FILLER * 10 + "\n\n" + TOWER),
            ("gate", "Gate", GATE),
            *((f"other/{i}", "", f"Report {i} says that the gate and the tower need paint.") for i in range(4)),
        ]
    )
    return directory


def asked_of_index(engine: Engine, question: str, **options: Any) -> Awaitable[Result]:
    own = {"top_k": 1, "budget": "full", "arrived": time.perf_counter(), **options}
    return engine.ask("docs", question, options={"max_answer_len": 30}, **own)


def test_an_index_is_asked_as_by_itself(served: Running, qa: QuestionAnswerer, index: Path) -> None:
    served.engine.corpora["docs"] = Corpus(index, qa=served.engine.qa)
    corpus = Corpus(index, qa=qa)
    questions = ["Where is the tower?", "Who designed the gate?", "Xyzzy plugh?"]
    calls = [(question, *how) for question, how in itertools.product(questions, [(1, "full"), (2, "fast"), (1, 0.7)])]

    async def ask() -> list[Any]:
        of_texts = [asked(served.engine, *PAIRS)]
        of_index = [asked_of_index(served.engine, q, top_k=k, budget=b) for q, k, b in calls]
        return await asyncio.gather(*of_index, *of_texts)

    results = asyncio.run(ask())
    for (question, top_k, budget), result in zip(calls, results, strict=False):
        choice = qa.table.select(qa.shape, budget)
        expected = corpus(question, top_k=top_k, budget=budget)
        check_same(result.answers, expected)
        for mine, theirs in zip(result.answers, expected, strict=True):
            places = [(a.document, a.title, a.passage, a.passage_start) for a in (mine, theirs)]
            assert places[0] == places[1]
            assert mine.retrieval == pytest.approx(theirs.retrieval)
            assert (result.spent.windows, result.spent.macs) == (theirs.spent.windows, theirs.spent.macs)
        assert (result.spent.configuration, result.spent.share) == (choice.name, choice.share)
    for results_of_text in results[len(calls) :]:
        for pair, result in zip(PAIRS, results_of_text, strict=True):
            check(qa, result, *pair)
    assert eventually(served.is_idle)


def test_a_question_to_an_index_that_is_cancelled_reads_no_further(one: Running, index: Path) -> None:
    one.engine.corpora["docs"] = Corpus(index, qa=one.engine.qa)

    async def ask() -> None:
        one.held.go.clear()
        tasks = [asyncio.ensure_future(asked_of_index(one.engine, "Where is the tower?")) for _ in range(6)]
        await asyncio.to_thread(one.held.wait_until_it_reads)
        await until(lambda: len(one.engine._workers._jobs) == 4)  # the others wait for a thread
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(ask())
    one.held.go.set()
    assert eventually(one.is_idle)
    one.engine.stop()
    assert sum(rows for rows, _ in one.held.shapes) <= 4  # the first window of those that had begun


def test_a_question_to_an_index_fails_alone(one: Running, tiny: QuestionAnswerer, index: Path) -> None:
    one.engine.corpora["docs"] = Corpus(index, qa=one.engine.qa)
    one.held.fault = raises
    with pytest.raises(RuntimeError, match="out of luck"):
        asyncio.run(asked_of_index(one.engine, "Where is the tower?"))  # type: ignore[arg-type]
    one.held.fault = lambda ids, logits: logits
    result = asyncio.run(asked_of_index(one.engine, "Where is the tower?"))  # type: ignore[arg-type]
    check_same(result.answers, Corpus(index, qa=tiny)("Where is the tower?", top_k=1, max_answer_len=30))
    assert eventually(one.is_idle)


# At the limits


def test_a_list_that_has_no_room_leaves_the_accuracy_of_others_alone(qa: QuestionAnswerer) -> None:
    with running(qa, slo_ms=3_600_000, max_waiting=8) as served:
        for _ in range(200):
            with pytest.raises(TooBusy):
                served.engine.admit(9)
        (result,) = once(served.engine, PAIRS[0])
        assert result.spent.configuration == "full"


def test_a_long_text_is_cut_without_holding_up_a_short_one(
    one: Running, tiny: QuestionAnswerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = "The tower stands in Paris. " * 10_000
    cut, go = threading.Event(), threading.Event()
    whole = TextTokenizer.text

    def text(self: TextTokenizer, text: str) -> Any:
        if len(text) == len(book):
            cut.set()
            assert go.wait(WAIT_S)
        return whole(self, text)

    monkeypatch.setattr(TextTokenizer, "text", text)

    async def ask() -> Result:
        long = asyncio.ensure_future(asked(one.engine, ("Where is the tower?", book)))
        assert await asyncio.to_thread(cut.wait, WAIT_S)
        (short,) = await asked(one.engine, PAIRS[0])
        assert not long.done()
        long.cancel()
        go.set()
        await asyncio.gather(long, return_exceptions=True)
        return short

    check(tiny, asyncio.run(ask()), *PAIRS[0])
    assert eventually(one.is_idle)


def test_an_error_in_a_long_text_does_not_spoil_what_is_known_of_times(qa: QuestionAnswerer) -> None:
    with running(qa) as served:
        before = served.engine._workers.scheduler.costs.factors.copy()

        def fail(ids: Any, logits: Any) -> Any:
            raise MemoryError

        served.held.fault = fail
        with pytest.raises(MemoryError):
            once(served.engine, ("Where is the tower?", "The tower stands in Paris. " * 3_000))
        assert eventually(served.is_idle)
        assert served.engine._workers.scheduler.costs.factors == pytest.approx(before)


def test_an_index_says_what_it_read_at(qa: QuestionAnswerer, index: Path) -> None:
    """With no time for the finer reading, the answer is of the coarse one."""
    with running(qa) as served:
        served.engine.corpora["docs"] = Corpus(index, qa=served.engine.qa)

        async def ask() -> Result:
            return await asked_of_index(served.engine, "Where is the tower?", max_latency=1e-3)

        result = asyncio.run(ask())
        spent = result.answers[0].spent
        assert spent.read_again == 0
        assert result.spent.configuration == spent.coarse != "full"
        assert result.spent.share < 0.6


def test_the_objective_of_a_list_counts_from_each_question_s_turn(qa: QuestionAnswerer, index: Path) -> None:
    """Otherwise the last questions of a list would get the little that the first ones left."""
    with running(qa, slo_ms=3_600_000) as served:
        served.engine.corpora["docs"] = Corpus(index, qa=served.engine.qa)

        async def ask(**since: float) -> Result:
            now = time.perf_counter()
            since = {name: now + seconds for name, seconds in since.items()}
            return await asked_of_index(served.engine, "Where is the tower?", **since)

        late, in_turn = asyncio.run(ask(arrived=-10_000.0)), asyncio.run(ask(arrived=-10_000.0, turn=0.0))
        assert late.spent.configuration != "full"
        alone = asyncio.run(ask(arrived=0.0)).spent
        assert (in_turn.spent.configuration, in_turn.spent.windows) == ("full", alone.windows)
        assert in_turn.queue_seconds >= 10_000
