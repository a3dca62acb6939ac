"""A server on paper: the scheduler, driven by recorded arrivals and by a clock that only the simulation moves."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dynamic_tinybert.serve.engine.scheduler import Scheduler, Waiting


@dataclass(frozen=True)
class Served:
    """What became of a question."""

    arrived: float
    latency: float | None  # None: refused
    place: int | None


def simulate(
    scheduler: Scheduler,
    arrivals: Sequence[tuple[float, Sequence[int]]],
    takes: Callable[[int, int, int], float],
    *,
    threads: int = 1,
    cap: int = 0,
    overhead: float = 0.0,
) -> list[Served]:
    """Serve questions that arrive at recorded times.

    Args:
        scheduler: What decides.
        arrivals: Of each question when it comes, in seconds, and the tokens of its windows.
        takes: What a batch really takes, of its windows, length and configuration.
        threads: How many batches are read at once.
        cap: The dearest configuration that questions may have.
        overhead: Seconds of each answer that the scheduler does not see.
    """
    served: dict[int, Served] = {}
    left: dict[int, int] = {}
    events: list[tuple[float, int, str, object]] = []
    number = 0

    def add(at: float, kind: str, what: object) -> None:
        nonlocal number
        heapq.heappush(events, (at, number, kind, what))
        number += 1

    for i, (at, sizes) in enumerate(arrivals):
        add(at, "arrives", (i, sizes))
    idle = threads
    while events:
        now, _, kind, what = heapq.heappop(events)
        if kind == "arrives":
            i, sizes = what  # type: ignore[misc]
            if scheduler.overloaded(now):
                scheduler.refused(now)
                served[i] = Served(now, None, None)
            else:
                left[i] = len(sizes)
                question = Waiting(i, sizes, cap, now, scheduler.objective.seconds)
                scheduler.submit([question], now)
        else:
            batch = what
            idle += 1
            scheduler.finished(batch, now - batch.began)  # type: ignore[arg-type, attr-defined]
            for question, _ in batch.windows:  # type: ignore[attr-defined]
                left[question.request] -= 1
                if not left[question.request]:
                    served[question.request] = Served(
                        question.arrived, now - question.arrived + overhead, question.place
                    )
        while idle and (made := scheduler.next_batch(now)):
            idle -= 1
            add(now + takes(len(made.windows), made.length, made.place), "read", made)
    return [served[i] for i in range(len(arrivals))]


def poisson(rate: float, seconds: float, seed: int, sizes: Sequence[int]) -> list[tuple[float, list[int]]]:
    """Arrivals of questions of one window, at a mean rate."""
    random = np.random.default_rng(seed)
    gaps = random.exponential(1 / rate, int(rate * seconds * 1.5) + 50)
    times = gaps.cumsum()
    times = times[times < seconds]
    return [(float(at), [int(size)]) for at, size in zip(times, random.choice(sizes, len(times)), strict=True)]
