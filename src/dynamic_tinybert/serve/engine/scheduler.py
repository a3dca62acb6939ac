"""What waits, and what is read next: fair order, batches by tokens, load control. No threads and no clock in sight.

Order is that of fair queueing (Demers, Keshav and Shenker 1989): each request that waits gets an equal share of the
tokens that are read, so that a short question does not wait for the long text, or the long list, that came before it. A
question that comes too late whatever is done lets those go first that do not: else, in a burst, all would be late.

A batch is the next window and others like it: of the same configuration and of nearly its length, since padding costs
what tokens cost; and of no more work than so many tokens are at `full`. Nobody waits for a batch to fill.
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

_LOOKAHEAD = 64  # questions among which company for a window is looked for
_SEEN = 256  # questions that load control looks at
_QUANTUM = 1024  # tokens of a request that are read in the order of arrival; what is more of it has its share
_SPARE = 0.02  # seconds that an answer takes beside reading
_LIKE = 0.85  # of the batch's length that a window must have, so that little is padded


@dataclass(eq=False)
class Waiting:
    """A question that waits to be read.

    Attributes:
        request: What it came in, which has a share of its own.
        sizes: Tokens of each of its windows.
        cap: The dearest configuration that it may have, as its place on the ladder.
        arrived: When its request came, in seconds of the caller's clock.
        objective: Seconds from then in which it should be answered; infinite if there is no such thing.
        place: The configuration that it got, once it has one: all its windows are read at the same.
        begun: When its first window was put into a batch.
        tag: Its place in the order: the less, the sooner its next window is read.
        base: The tag of its request.
        offset: Tokens of its request that come before its next window.
        next: Its first window that is in no batch yet.
        number: Its place among questions of the same tag.
        spacing: Tokens of its windows, on average.
        which: The configuration it would get if load control chose each, `[configurations]`.
        unit: What a window of it takes at that, before the factors of `Costs`, `[configurations]`.
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
        """How many of its windows are in no batch yet."""
        return len(self.sizes) - self.next


@dataclass(eq=False)
class Batch:
    """Windows that are read together.

    Attributes:
        windows: Each a question, and the number of a window of it.
        place: Their configuration, as its place on the ladder.
        length: Tokens of the longest.
        began: When it was made.
        expected: Seconds that reading it should take.
    """

    windows: list[tuple[Waiting, int]]
    place: int
    length: int
    began: float
    expected: float = field(default=0.0)


class Scheduler:
    """Keeps what waits, and makes batches of it. For one thread at a time.

    Args:
        costs: What reading takes.
        objective: What load control holds.
        lowest: The place on the ladder of the cheapest configuration that load control may choose.
        threads: How many batches are read at once.
        max_batch_tokens: Tokens of a batch at `full`, padding counted; at a cheaper configuration as many more as that
            costs less. A longer window makes a batch of its own.
        most_rows: Windows of a batch at most.
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
        self._waiting: list[Waiting] = []  # in the order of their tags
        self._requests: Counter[Hashable] = Counter()  # questions of each request that wait
        self._reading: list[Batch] = []
        self._arrivals = Arrivals(len(costs.ladder))
        self._virtual = 0.0  # tokens that a request which waited from the beginning would have got
        self._number = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, questions: Sequence[Waiting], now: float) -> None:
        """Take the questions of a request in; each has windows.

        Args:
            questions: They share the request's share, in order.
            now: The time.
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
        # A request that takes longer than the objective is no flood: it has its share, and leaves the others theirs.
        self._arrivals.add(np.minimum(cost, self.objective.seconds), now)

    def refused(self, now: float) -> None:
        """Take in that a question was refused: it is part of the load, one like those that came before."""
        self._arrivals.add(self._arrivals.mean, now)

    def cancel(self, question: Waiting) -> None:
        """Forget a question; of one that waits no longer, nothing is left to forget."""
        if question in self._waiting:
            self._waiting.remove(question)
            self._left(question)

    def next_batch(self, now: float) -> Batch | None:
        """Return what to read next, or None if nothing waits."""
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
                    break  # one of each, while others wait
        self._handed_out(batch, now)
        return batch

    def finished(self, batch: Batch, seconds: float) -> None:
        """Take in that a batch has been read, and how long it took."""
        self._reading.remove(batch)
        self.costs.saw(batch.place, len(batch.windows), batch.length, seconds)

    def failed(self, batch: Batch) -> None:
        """Take in that a batch could not be read."""
        self._reading.remove(batch)

    def present(self, now: float) -> int:
        """Return the place of the configuration that a question without a cap would get now."""
        if math.isinf(self.objective.seconds) and all(math.isinf(q.objective) for q in self._waiting):
            return 0
        return choose(self._queue(now), self.objective, self.lowest)

    def wait(self, now: float) -> float:
        """Return the seconds after which a question that comes now is begun, if all is read as cheaply as may be."""
        return float(self._newcomer(self._view(), now)[self.lowest])

    def overloaded(self, now: float) -> bool:
        """Whether a newcomer would wait too long, even if all is read as cheaply as may be.

        A flood, where more comes than can be read so, is refused before it waits too long to be answered in time; a
        burst may wait longer, since it passes.
        """
        if math.isinf(self.objective.seconds):
            return False
        flood = bool(self._arrivals.rate(now)[self.lowest] > self._threads)
        return self.wait(now) > self.objective.seconds * (
            self.objective.longest_wait if flood else self.objective.longest_burst
        )

    def _too_late(self, question: Waiting, now: float) -> bool:
        """Whether a question could have been answered in time, and can no longer be; for as long again as it had."""
        if math.isinf(question.objective):
            return False
        cheapest = self.costs.factors[question.which[-1]] * question.unit[-1]
        age = now - question.arrived
        whole = cheapest * len(question.sizes) + _SPARE <= question.objective
        return bool(whole and question.objective < age + cheapest * question.windows + _SPARE < 2 * question.objective)

    def _place(self, question: Waiting, place: int) -> int:
        """The configuration of a question: what it got, or else what load control gives, within its cap."""
        return question.place if question.place is not None else max(question.cap, place)

    def _fits(self, batch: Batch, size: int) -> bool:
        rows = len(batch.windows)
        if not rows:
            return True
        length = max(batch.length, size)
        shortest = min(size, *(question.sizes[i] for question, i in batch.windows))
        # Tokens that a cheaper configuration drops on the way count for what they cost.
        tokens = length * (rows + 1) * self.costs.ladder[batch.place].share
        return rows < self._most_rows and tokens <= self._tokens and shortest >= _LIKE * length

    def _handed_out(self, batch: Batch, now: float) -> None:
        """Note what a batch took out of the queue."""
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
        """Note what a window of a question takes at each configuration that load control might choose."""
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
        spacing = np.maximum((last - tags) / np.maximum(windows - 1, 1), 1e-9)  # read in a row, they hardly differ
        return _View(seen, cost, windows, tags, spacing)

    def _queue(self, now: float) -> Queue:
        view = self._view()
        ends = np.zeros((0, len(self.costs.ladder)))
        if view.seen:
            before = _windows_before(view)
            ends = (before @ view.cost) / self._threads + self._occupied(now)
            # A window is read by one thread: it takes no less for there being others.
            ends = np.maximum(ends, view.cost * np.ceil(view.windows / self._threads)[:, None])
            ends = _ends_of_requests(view.seen, ends)
        objective = np.array([q.objective for q in view.seen])
        age = now - np.array([q.arrived for q in view.seen])
        return Queue(
            ends=ends,
            left=objective - age,
            slack=self.objective.own_margin * objective - age,
            newcomer=self._newcomer(view, now),
            rate=self._arrivals.rate(now) / self._threads,
        )

    def _newcomer(self, view: _View, now: float) -> Floats:
        """When a question that comes now is begun, at each configuration."""
        ahead = np.clip(np.floor((self._virtual - view.tags) / view.spacing) + 1, 0, view.windows)
        waits: Floats = self._occupied(now) + (ahead @ view.cost) / self._threads
        if unseen := len(self._waiting) - len(view.seen):
            waits = waits + unseen * view.cost.mean(axis=0) / self._threads
        return waits

    def _occupied(self, now: float) -> float:
        """Seconds, over all threads, for which they have something to read."""
        return sum(max(batch.expected - (now - batch.began), 0.0) for batch in self._reading) / self._threads


class _View(NamedTuple):
    """What load control looks at, `[questions]`; what a window of each costs, `[questions, configurations]`."""

    seen: Sequence[Waiting]
    cost: Floats
    windows: Floats
    tags: Floats
    spacing: Floats


def _tag(question: Waiting, offset: int) -> float:
    """The tag of a window before which come so many tokens of its request."""
    return question.base + (offset if offset >= _QUANTUM else 0)


def _last_tag(question: Waiting) -> float:
    return _tag(question, question.offset + math.ceil((question.windows - 1) * question.spacing))


def _ends_of_requests(seen: Sequence[Waiting], ends: Floats) -> Floats:
    """A question is of use when all of its request are answered: its end is that of the last of them."""
    numbers: dict[Hashable, int] = {}
    which = np.array([numbers.setdefault(question.request, len(numbers)) for question in seen])
    if len(numbers) == len(seen):
        return ends
    last = np.zeros((len(numbers), ends.shape[1]))
    np.maximum.at(last, which, ends)
    of_each: Floats = last[which]
    return of_each


def _windows_before(view: _View) -> Floats:
    """How many windows of each question are read before the last of each, and with it, `[questions, questions]`."""
    if view.windows.max() == 1:
        return np.tri(len(view.seen))
    last = view.tags + (view.windows - 1) * view.spacing
    # Tags of a question's windows are as far apart as they are long.
    before: Floats = np.clip(np.floor((last[:, None] - view.tags) / view.spacing) + 1, 0, view.windows)
    order = np.arange(len(view.seen))
    later = (last[:, None] == view.tags) & (order > order[:, None])  # of equals the one that came first
    before[later] = np.maximum(before[later] - 1, 0)
    return before
