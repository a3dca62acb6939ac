"""What waits, and what is read next: fair order, batches by tokens, load control. No threads and no clock in sight.

Order is that of fair queueing (Demers, Keshav and Shenker 1989): each request that waits gets an equal share of the
tokens that are read, so that a short question does not wait for the long text, or the long list, that came before it.

A batch is the next window and others like it: of the same configuration and of nearly its length, since padding costs
what tokens cost; and no more than so many tokens. Nobody waits for a batch to fill.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from dynamic_tinybert.serve.control import Arrivals, Objective, Queue, choose
from dynamic_tinybert.serve.costs import Costs, Floats

_LOOKAHEAD = 64  # questions among which company for a window is looked for
_SEEN = 256  # questions that load control looks at
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
        next: Its first window that is in no batch yet.
    """

    request: Hashable
    sizes: Sequence[int]
    cap: int
    arrived: float
    objective: float = math.inf
    place: int | None = None
    begun: float | None = None
    tag: float = 0.0
    next: int = 0
    number: int = 0

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
        max_batch_tokens: Tokens of a batch, padding counted; a longer window makes a batch of its own.
        most_rows: Windows of a batch at most.
    """

    def __init__(
        self,
        costs: Costs,
        objective: Objective | None = None,
        *,
        lowest: int | None = None,
        threads: int = 1,
        max_batch_tokens: int = 512,
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
        tag = self._virtual
        for question in questions:
            question.tag, question.number = tag, self._number
            self._number += 1
            tag += sum(question.sizes)
            self._requests[question.request] += 1
            insort(self._waiting, question)
            self._arrivals.add(self._window_cost(question) * question.windows, now)

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
        head = self._waiting[0]
        batch = Batch([], self._place(head, place), head.sizes[head.next], now)
        for question in [head, *self._waiting[1:_LOOKAHEAD]]:
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
        return float(self._newcomer(self._waiting[:_SEEN], now)[self.lowest])

    def overloaded(self, now: float) -> bool:
        """Whether a newcomer would wait too long, even if all is read as cheaply as may be.

        Too long is the whole objective; and where more comes than can be read so, its margin: a burst may wait longer
        than a flood.
        """
        if math.isinf(self.objective.seconds):
            return False
        flood = bool(self._arrivals.rate(now)[self.lowest] > self._threads)
        return self.wait(now) > self.objective.seconds * (self.objective.margin if flood else 1)

    def _place(self, question: Waiting, place: int) -> int:
        """The configuration of a question: what it got, or else what load control gives, within its cap."""
        return question.place if question.place is not None else max(question.cap, min(place, self.lowest))

    def _fits(self, batch: Batch, size: int) -> bool:
        rows = len(batch.windows)
        if not rows:
            return True
        length = max(batch.length, size)
        shortest = min(size, *(question.sizes[i] for question, i in batch.windows))
        return rows < self._most_rows and length * (rows + 1) <= self._tokens and shortest >= _LIKE * length

    def _handed_out(self, batch: Batch, now: float) -> None:
        """Note what a batch took out of the queue."""
        tokens = 0
        for question, i in batch.windows:
            question.place = batch.place
            question.begun = now if question.begun is None else question.begun
            question.tag += question.sizes[i]
            tokens += question.sizes[i]
        self._virtual += tokens / len(self._requests)
        touched = {id(question) for question, _ in batch.windows}
        kept = [question for question in self._waiting if id(question) not in touched]
        for question in {id(q): q for q, _ in batch.windows}.values():
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

    def _window_cost(self, question: Waiting) -> Floats:
        """What a window of a question takes at each configuration that load control might choose."""
        size = math.ceil(sum(question.sizes[question.next :]) / question.windows)
        seconds = self.costs.seconds(1, size)
        places = np.arange(len(seconds))
        return seconds[[self._place(question, int(place)) for place in places]]

    def _queue(self, now: float) -> Queue:
        seen = self._waiting[:_SEEN]
        configurations = len(self.costs.ladder)
        if not seen:
            ends, slack = np.zeros((0, configurations)), np.zeros(0)
        else:
            cost = np.stack([self._window_cost(question) for question in seen])
            windows = np.array([question.windows for question in seen])
            tags = np.array([question.tag for question in seen])
            spacing = np.array([sum(q.sizes[q.next :]) / q.windows for q in seen])
            last = tags + (windows - 1) * spacing
            # Windows of each question that come before the last one of each: tags are as far apart as windows are long.
            before = np.clip(np.floor((last[:, None] - tags) / spacing) + 1, 0, windows)
            order = np.arange(len(seen))
            same = (last[:, None] == tags) & (order > order[:, None])  # of equals the one that came first
            before = np.where(same, np.maximum(before - 1, 0), before)
            ends = (before @ cost) / self._threads + self._occupied(now)
            # What is read in one piece takes no less for there being other threads.
            ends = np.maximum(ends, cost * windows[:, None] / min(self._threads, windows.max()))
            slack = np.array([self.objective.margin * q.objective - (now - q.arrived) for q in seen])
        return Queue(
            ends=ends,
            slack=slack,
            newcomer=self._newcomer(seen, now),
            rate=self._arrivals.rate(now) / self._threads,
        )

    def _newcomer(self, seen: Sequence[Waiting], now: float) -> Floats:
        """When a question that comes now is begun, at each configuration."""
        waits = np.full(len(self.costs.ladder), self._occupied(now))
        for question in seen:
            if question.tag > self._virtual:
                break
            spacing = sum(question.sizes[question.next :]) / question.windows
            ahead = min(question.windows, math.floor((self._virtual - question.tag) / spacing) + 1)
            waits += ahead * self._window_cost(question) / self._threads
        return waits

    def _occupied(self, now: float) -> float:
        """Seconds, over all threads, for which they have something to read."""
        return sum(max(batch.expected - (now - batch.began), 0.0) for batch in self._reading) / self._threads
