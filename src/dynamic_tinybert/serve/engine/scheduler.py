"""The queue of waiting questions and the choice of the next batch. It uses no threads and no clock.

The order is fair queueing (Demers, Keshav and Shenker 1989): each waiting request gets an equal share of the predicted
tokens. So a short question does not wait for a long text or a long list that arrived before it. A question that can no
longer be answered in time lets the others pass: otherwise, in a burst, all questions would be late.

A batch is the next window and similar ones: windows with the same configuration and almost the same length, because
padding costs as much as tokens. Its work is limited, counted in tokens at `full`. No batch waits until it is full.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.serve.engine.control import Arrivals, Objective, Queue, choose
from dynamic_tinybert.serve.engine.costs import Costs, Floats

_LOOKAHEAD = 64  # questions among which to search for similar windows
_SEEN = 256  # questions that load control considers
_QUANTUM = 1024  # the first tokens of a request go in the order of arrival; fair shares start after them
_SPARE = 0.02  # seconds that an answer takes in addition to predictions
_LIKE = 0.85  # the least length of a window, as a share of the batch's length, to limit padding


@dataclass(eq=False)
class Waiting:
    """A question that waits for predictions.

    Attributes:
        request: The request of the question. Each request has its own fair share.
        sizes: The tokens of each window.
        cap: The most expensive configuration that the question may get, as a place on the ladder.
        arrived: The arrival of the request, in seconds of the caller's clock.
        objective: The time from the arrival in which to answer, in seconds; infinite if there is no objective.
        place: The configuration that the question got, as a place on the ladder; the same for all its windows.
        begun: The time when its first window was put into a batch.
        tag: The position in the queue: the question with the smallest tag is next.
        base: The tag of the request.
        offset: The tokens of the request before the question's next window.
        next: The number of its first window that is not in a batch yet.
        number: The order among questions with the same tag.
        spacing: The mean number of tokens of its windows.
        which: The configuration that it would get for each choice of load control, `[configurations]`.
        unit: The seconds of a window with `which`, without the factors of `Costs`, `[configurations]`.
    """

    request: Hashable
    sizes: Sequence[int]
    cap: int
    arrived: float
    objective: float = math.inf
    place: int | None = None
    begun: float | None = None
    tag: float = 0.0
    base: float = 0.0
    offset: int = 0
    next: int = 0
    number: int = 0
    spacing: float = 0.0
    which: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    unit: Floats = field(default_factory=lambda: np.zeros(0))

    def __lt__(self, other: Waiting) -> bool:
        return (self.tag, self.number) < (other.tag, other.number)

    @property
    def windows(self) -> int:
        """The number of its windows that are not in a batch yet."""
        return len(self.sizes) - self.next


@dataclass(eq=False)
class Batch:
    """Windows that are predicted together.

    Attributes:
        windows: Pairs of a question and the number of one of its windows.
        place: The configuration of all windows, as a place on the ladder.
        length: The tokens of the longest window.
        began: The time when the batch was made.
        expected: The estimated time of the prediction, in seconds.
    """

    windows: list[tuple[Waiting, int]]
    place: int
    length: int
    began: float
    expected: float = field(default=0.0)


class Scheduler:
    """Keep the waiting questions and make batches of their windows. Use it from one thread at a time.

    Args:
        costs: Estimates of the time of a prediction.
        objective: The objective of load control.
        lowest: The place on the ladder of the cheapest configuration that load control may choose.
        threads: How many batches are predicted at the same time.
        max_batch_tokens: The most tokens of a batch at `full`, with padding. A cheaper configuration may have as many
            more as it costs less. A longer window is a batch of its own.
        most_rows: The most windows of a batch.
    """

    def __init__(
        self,
        costs: Costs,
        objective: Objective | None = None,
        *,
        lowest: int | None = None,
        threads: int = 1,
        max_batch_tokens: int = 128,
        most_rows: int | None = None,
    ) -> None:
        self.costs = costs
        self.objective = objective or Objective()
        self.lowest = len(costs.ladder) - 1 if lowest is None else lowest
        self._threads = threads
        self._tokens = max_batch_tokens
        self._most_rows = math.inf if most_rows is None else most_rows
        self._waiting: list[Waiting] = []  # sorted by tag
        self._requests: Counter[Hashable] = Counter()  # waiting questions of each request
        self._reading: list[Batch] = []
        self._arrivals = Arrivals(len(costs.ladder))
        self._virtual = 0.0  # tokens that a request that has always waited would have got
        self._number = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, questions: Sequence[Waiting], now: float) -> None:
        """Add the questions of a request.

        Args:
            questions: The questions; each has windows. They use the share of the request in this order.
            now: The current time.
        """
        offset, cost = 0, np.zeros(len(self.costs.ladder))
        for question in questions:
            question.base, question.offset, question.number = self._virtual, offset, self._number
            question.tag = _tag(question, offset)
            question.spacing = sum(question.sizes) / len(question.sizes)
            self._reckon(question)
            self._number += 1
            offset += sum(question.sizes)
            self._requests[question.request] += 1
            insort(self._waiting, question)
            cost += self.costs.factors[question.which] * question.unit * len(question.sizes)
        # Cap the cost of one request: fair shares already protect the others from a long request.
        self._arrivals.add(np.minimum(cost, self.objective.seconds), now)

    def refused(self, now: float) -> None:
        """Record a refused question as a part of the load, with the mean cost of earlier questions."""
        self._arrivals.add(self._arrivals.mean, now)

    def cancel(self, question: Waiting) -> None:
        """Remove a question if it still waits."""
        if question in self._waiting:
            self._waiting.remove(question)
            self._left(question)

    def next_batch(self, now: float) -> Batch | None:
        """Return the next batch, or None if no question waits."""
        if not self._waiting:
            return None
        place = self.present(now)
        near = self._waiting[:_LOOKAHEAD]
        near = [question for question in near if not self._too_late(question, now)] or near
        head = near[0]
        batch = Batch([], self._place(head, place), head.sizes[head.next], now)
        for question in near:
            if self._place(question, place) != batch.place:
                continue
            while question.windows and self._fits(batch, question.sizes[question.next]):
                batch.length = max(batch.length, question.sizes[question.next])
                batch.windows.append((question, question.next))
                question.next += 1
                if question is not head or len(self._requests) > 1:
                    break  # one window per question while other requests wait
        self._handed_out(batch, now)
        return batch

    def finished(self, batch: Batch, seconds: float) -> None:
        """Record that a batch was predicted, and how long it took."""
        self._reading.remove(batch)
        self.costs.observe(batch.place, len(batch.windows), batch.length, seconds)

    def failed(self, batch: Batch) -> None:
        """Record that the prediction of a batch failed."""
        self._reading.remove(batch)

    def present(self, now: float) -> int:
        """Return the place of the configuration that a question without a cap would get now."""
        if math.isinf(self.objective.seconds) and all(math.isinf(q.objective) for q in self._waiting):
            return 0
        return choose(self._queue(now), self.objective, self.lowest)

    def wait(self, now: float) -> float:
        """Return the seconds until a question that arrives now would start, with the cheapest allowed configuration."""
        return float(self._next_start(self._view(), now)[self.lowest])

    def overloaded(self, now: float) -> bool:
        """Return whether a new question would wait too long, even with the cheapest allowed configuration.

        The limit is lower while more questions arrive than can be answered, so that accepted questions are answered in
        time. In a short burst, questions may wait longer.
        """
        if math.isinf(self.objective.seconds):
            return False
        flood = bool(self._arrivals.rate(now)[self.lowest] > self._threads)
        return self.wait(now) > self.objective.seconds * (
            self.objective.longest_wait if flood else self.objective.longest_burst
        )

    def _too_late(self, question: Waiting, now: float) -> bool:
        """Return whether a question is too late for its objective, but not later than twice the objective.

        A question that could never have been answered in time does not count as late.
        """
        if math.isinf(question.objective):
            return False
        cheapest = self.costs.factors[question.which[-1]] * question.unit[-1]
        age = now - question.arrived
        whole = cheapest * len(question.sizes) + _SPARE <= question.objective
        return bool(whole and question.objective < age + cheapest * question.windows + _SPARE < 2 * question.objective)

    def _place(self, question: Waiting, place: int) -> int:
        """Return the configuration that a question got, otherwise the choice of load control within its cap."""
        return question.place if question.place is not None else max(question.cap, place)

    def _fits(self, batch: Batch, size: int) -> bool:
        rows = len(batch.windows)
        if not rows:
            return True
        length = max(batch.length, size)
        shortest = min(size, *(question.sizes[i] for question, i in batch.windows))
        # A cheaper configuration drops tokens, so its tokens count only with their share of the cost.
        tokens = length * (rows + 1) * self.costs.ladder[batch.place].share
        return rows < self._most_rows and tokens <= self._tokens and shortest >= _LIKE * length

    def _handed_out(self, batch: Batch, now: float) -> None:
        """Update the queue after windows were taken for a batch."""
        tokens = 0
        for question, i in batch.windows:
            if question.begun is None:
                question.begun, question.place = now, batch.place
                self._reckon(question)
            question.offset += question.sizes[i]
            question.tag = _tag(question, question.offset)
            tokens += question.sizes[i]
        self._virtual += tokens / len(self._requests)
        touched = {question for question, _ in batch.windows}
        kept = [question for question in self._waiting if question not in touched]
        for question in touched:
            if question.windows:
                insort(kept, question)
            else:
                self._left(question)
        self._waiting = kept
        batch.expected = float(self.costs.seconds(len(batch.windows), batch.length)[batch.place])
        self._reading.append(batch)

    def _left(self, question: Waiting) -> None:
        self._requests[question.request] -= 1
        if not self._requests[question.request]:
            del self._requests[question.request]

    def _reckon(self, question: Waiting) -> None:
        """Set the seconds of a question's window for each configuration that load control may choose."""
        places = np.arange(len(self.costs.ladder))
        chosen = np.maximum(np.minimum(places, self.lowest), question.cap)
        question.which = chosen if question.place is None else np.full(len(places), question.place)
        question.unit = self.costs.units(math.ceil(question.spacing))[question.which]

    def _view(self) -> _View:
        seen = self._waiting[:_SEEN]
        configurations = len(self.costs.ladder)
        if not seen:
            nothing = np.zeros(0)
            return _View(seen, np.zeros((0, configurations)), nothing, nothing, nothing)
        cost = self.costs.factors[np.stack([q.which for q in seen])] * np.stack([q.unit for q in seen])
        windows, tags, last = np.array([(q.windows, q.tag, _last_tag(q)) for q in seen]).T
        spacing = np.maximum((last - tags) / np.maximum(windows - 1, 1), 1e-9)  # not 0 for equal tags
        return _View(seen, cost, windows, tags, spacing)

    def _queue(self, now: float) -> Queue:
        view = self._view()
        ends = np.zeros((0, len(self.costs.ladder)))
        if view.seen:
            before = _windows_before(view)
            ends = (before @ view.cost) / self._threads + self._occupied(now)
            # One thread predicts a window: more threads do not make it faster.
            ends = np.maximum(ends, view.cost * np.ceil(view.windows / self._threads)[:, None])
            ends = _ends_of_requests(view.seen, ends)
        objective = np.array([q.objective for q in view.seen])
        age = now - np.array([q.arrived for q in view.seen])
        return Queue(
            ends=ends,
            left=objective - age,
            slack=self.objective.own_margin * objective - age,
            next_start=self._next_start(view, now),
            rate=self._arrivals.rate(now) / self._threads,
        )

    def _next_start(self, view: _View, now: float) -> Floats:
        """Return the seconds until a question that arrives now would start, `[configurations]`."""
        ahead = np.clip(np.floor((self._virtual - view.tags) / view.spacing) + 1, 0, view.windows)
        waits: Floats = self._occupied(now) + (ahead @ view.cost) / self._threads
        if unseen := len(self._waiting) - len(view.seen):
            waits = waits + unseen * view.cost.mean(axis=0) / self._threads
        return waits

    def _occupied(self, now: float) -> float:
        """Return the mean seconds per thread until the current batches end."""
        return sum(max(batch.expected - (now - batch.began), 0.0) for batch in self._reading) / self._threads


class _View(NamedTuple):
    """The questions that load control considers, `[questions]`, and their costs, `[questions, configurations]`."""

    seen: Sequence[Waiting]
    cost: Floats
    windows: Floats
    tags: Floats
    spacing: Floats


def _tag(question: Waiting, offset: int) -> float:
    """Return the tag of a window with `offset` tokens of its request before it."""
    return question.base + (offset if offset >= _QUANTUM else 0)


def _last_tag(question: Waiting) -> float:
    return _tag(question, question.offset + math.ceil((question.windows - 1) * question.spacing))


def _ends_of_requests(seen: Sequence[Waiting], ends: Floats) -> Floats:
    """Set the end of each question to that of the last question of its request, because they are answered together."""
    numbers: dict[Hashable, int] = {}
    which = np.array([numbers.setdefault(question.request, len(numbers)) for question in seen])
    if len(numbers) == len(seen):
        return ends
    last = np.zeros((len(numbers), ends.shape[1]))
    np.maximum.at(last, which, ends)
    of_each: Floats = last[which]
    return of_each


def _windows_before(view: _View) -> Floats:
    """Count each question's windows up to the last window of each question, inclusive, `[questions, questions]`."""
    if view.windows.max() == 1:
        return np.tri(len(view.seen))
    last = view.tags + (view.windows - 1) * view.spacing
    # The distance between the tags of two windows of a question is the length of a window.
    before: Floats = np.clip(np.floor((last[:, None] - view.tags) / view.spacing) + 1, 0, view.windows)
    order = np.arange(len(view.seen))
    later = (last[:, None] == view.tags) & (order > order[:, None])  # with equal tags, the earlier question goes first
    before[later] = np.maximum(before[later] - 1, 0)
    return before
