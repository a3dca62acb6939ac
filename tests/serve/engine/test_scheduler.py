"""What is read next: everything once, in a fair order, in batches within their bound."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamic_tinybert.model import LengthConfig, MeasuredConfig, ModelShape, share
from dynamic_tinybert.serve.engine.control import Objective
from dynamic_tinybert.serve.engine.costs import Costs
from dynamic_tinybert.serve.engine.scheduler import Batch, Scheduler, Waiting

pytestmark = pytest.mark.serve

SHAPE = ModelShape(layers=2, hidden=32, heads=2, feed_forward=64, vocabulary=100, positions=512)
LADDER = [
    MeasuredConfig(name=name, config=(c := LengthConfig.uniform(2, retention)), share=share(SHAPE, c), f1=f1)
    for name, retention, f1 in (("full", 1.0, 80.0), ("half", 0.5, 70.0), ("least", 0.3, 60.0))
]


def scheduler(*, tokens: int = 512, slo: float = math.inf, most_rows: int | None = None) -> Scheduler:
    costs = Costs(SHAPE, LADDER, overhead=0.001, pace=1e-8)
    return Scheduler(costs, Objective(seconds=slo), max_batch_tokens=tokens, most_rows=most_rows)


def waiting(name: object, *sizes: int, cap: int = 0) -> Waiting:
    return Waiting(name, list(sizes), cap, arrived=0.0)  # type: ignore[arg-type]


def drain(s: Scheduler) -> list[Batch]:
    """Read all that waits, one batch after the other."""
    batches = []
    while (batch := s.next_batch(0.0)) is not None:
        s.finished(batch, batch.expected)
        batches.append(batch)
        assert len(batches) < 10_000
    return batches


def names(batches: list[Batch]) -> list[list[object]]:
    return [[question.request for question, _ in batch.windows] for batch in batches]


@settings(max_examples=50)
@given(
    st.lists(st.lists(st.lists(st.integers(3, 384), min_size=1, max_size=8), min_size=1, max_size=4), max_size=12),
    st.integers(1, 1500),
    st.sampled_from([None, 1, 3]),
)
def test_every_window_is_read_once_and_in_order_within_the_bounds(
    requests: list[list[list[int]]], tokens: int, most_rows: int | None
) -> None:
    s = scheduler(tokens=tokens, most_rows=most_rows)
    asked = []
    for number, questions in enumerate(requests):
        request = [waiting(number, *sizes, cap=number % 3) for sizes in questions]
        s.submit(request, 0.0)
        asked += request
    batches = drain(s)
    read = [(question, i) for batch in batches for question, i in batch.windows]
    assert len(read) == len({(id(question), i) for question, i in read})
    for question in asked:
        assert [i for other, i in read if other is question] == list(range(len(question.sizes)))
    for batch in batches:
        sizes = [question.sizes[i] for question, i in batch.windows]
        assert batch.length == max(sizes)
        assert len(sizes) == 1 or batch.length * len(sizes) * LADDER[batch.place].share <= tokens
        assert most_rows is None or len(sizes) <= most_rows
        assert {question.place for question, _ in batch.windows} == {batch.place}
        assert min(sizes) >= 0.85 * max(sizes)  # little is padded
    assert len(s) == 0
    assert s.next_batch(0.0) is None


def test_short_windows_are_read_together_and_long_ones_alone() -> None:
    s = scheduler(tokens=256)
    for i in range(8):
        s.submit([waiting(f"short {i}", 60)], 0.0)
    for i in range(2):
        s.submit([waiting(f"long {i}", 200)], 0.0)
    assert [len(batch.windows) for batch in drain(s)] == [4, 4, 1, 1]


def test_a_short_question_does_not_wait_for_the_long_text_before_it() -> None:
    s = scheduler()
    s.submit([waiting("book", *[384] * 100)], 0.0)
    for _ in range(4):  # a little of each request is read in the order of arrival
        assert s.next_batch(0.0) is not None
    s.submit([waiting("short", 100)], 0.0)
    assert "short" in [question.request for batch in (s.next_batch(0.0), s.next_batch(0.0)) if batch
                       for question, _ in batch.windows]  # fmt: skip


def test_nor_for_a_long_list_of_questions() -> None:
    s = scheduler(tokens=200)
    s.submit([waiting("list", 190) for _ in range(64)], 0.0)
    for _ in range(8):
        s.next_batch(0.0)
    s.submit([waiting("single", 100)], 0.0)
    order = names([batch for batch in (s.next_batch(0.0), s.next_batch(0.0), s.next_batch(0.0)) if batch])
    assert ["single"] in order


def test_a_long_text_is_not_starved_by_short_questions_that_go_on_coming() -> None:
    """Fair queueing: of two that wait, each has half of what is read."""
    s = scheduler(tokens=200)
    s.submit([waiting("book", *[190] * 20)], 0.0)
    read = []
    for i in range(60):
        s.submit([waiting(i, 190)], 0.0)
        batch = s.next_batch(0.0)
        assert batch is not None
        s.finished(batch, batch.expected)
        read += [question.request for question, _ in batch.windows]
    assert read.count("book") >= 5


def test_equals_are_read_in_the_order_in_which_they_came() -> None:
    s = scheduler(tokens=128)
    for i in range(20):
        s.submit([waiting(i, 100)], 0.0)
    assert names(drain(s)) == [[i] for i in range(20)]


def test_questions_of_different_budgets_are_not_read_together() -> None:
    s = scheduler()
    s.submit([waiting("a", 50)], 0.0)
    s.submit([waiting("b", 50, cap=2)], 0.0)
    s.submit([waiting("c", 50)], 0.0)
    batches = drain(s)
    assert names(batches) == [["a", "c"], ["b"]]
    assert [batch.place for batch in batches] == [0, 2]


def test_all_windows_of_a_question_are_read_at_the_same_configuration() -> None:
    """Whatever happens to the load meanwhile, so that the answer is the one that the configuration gives."""
    s = scheduler(tokens=400, slo=0.2)
    book = waiting("book", *[384] * 50)
    s.submit([book], 0.0)
    first = s.next_batch(0.0)
    assert first is not None
    for i in range(500):
        s.submit([waiting(i, 300)], 0.0)
    places = {batch.place for batch in drain(s) if any(question is book for question, _ in batch.windows)}
    assert places == {first.place}


def test_what_is_cancelled_is_not_read() -> None:
    s = scheduler(tokens=100)
    kept, cancelled, half = waiting("kept", 90), waiting("cancelled", 90, 90), waiting("half", 90, 90)
    s.submit([half], 0.0)
    begun = s.next_batch(0.0)
    s.submit([cancelled], 0.0)
    s.submit([kept], 0.0)
    s.cancel(cancelled)
    s.cancel(half)
    s.cancel(half)
    assert begun is not None
    s.finished(begun, begun.expected)
    assert names(drain(s)) == [["kept"]]
    s.cancel(kept)
    assert len(s) == 0


def test_a_batch_that_failed_is_no_longer_reckoned_with() -> None:
    s = scheduler(slo=0.2)
    s.submit([waiting("a", 300)], 0.0)
    batch = s.next_batch(0.0)
    assert batch is not None
    assert s.wait(0.0) > 0
    s.failed(batch)
    assert s.wait(0.0) == 0


def test_the_start_of_the_next_question_moves_with_what_waits_before_it() -> None:
    s = scheduler(slo=10.0)
    waits = [s.wait(0.0)]
    for i in range(5):
        s.submit([waiting(i, 300)], 0.0)
        waits.append(s.wait(0.0))
    assert waits[0] == 0
    assert waits == sorted(set(waits))
    s.submit([waiting("book", *[384] * 100)], 0.0)
    assert s.wait(0.0) < waits[-1] + 2 * (waits[-1] - waits[-2])  # it has its share, not the whole queue


def test_without_an_objective_nobody_is_refused_for_it() -> None:
    s = scheduler()
    for i in range(300):
        s.submit([waiting(i, 384)], 0.0)
    assert not s.overloaded(0.0)
    s = scheduler(slo=0.05)
    for i in range(300):
        s.submit([waiting(i, 384)], 0.0)
    assert s.overloaded(0.0)


def test_in_a_burst_what_is_late_anyway_lets_go_first_what_is_not() -> None:
    s = scheduler(slo=0.2)
    late, soon = waiting("late", 300), waiting("soon", 300)
    late.objective = soon.objective = 0.2
    soon.arrived = 0.19
    s.submit([late], 0.0)
    s.submit([soon], 0.19)
    assert names([batch for batch in (s.next_batch(0.2),) if batch]) == [["soon"]]
    assert names([batch for batch in (s.next_batch(0.2),) if batch]) == [["late"]]
    long_ago, now = waiting("long ago", 300), waiting("now", 100)
    long_ago.objective = now.objective = 0.2
    now.arrived = 0.5
    s.submit([long_ago], 0.0)
    s.submit([now], 0.5)
    assert names([batch for batch in (s.next_batch(0.5),) if batch]) == [["long ago"]]  # but not for ever


def test_a_text_of_two_windows_is_read_in_the_order_of_arrival() -> None:
    s = scheduler(tokens=100)
    for i in range(5):
        s.submit([waiting(i, 384, 384)], 0.0)
    order = [name for batch in names(drain(s)) for name in batch]
    assert order == sorted(order)
