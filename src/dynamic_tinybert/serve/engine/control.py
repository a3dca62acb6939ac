"""Load control: the most accurate length configuration with which the objective holds.

For each batch the configurations are gone through, the dearest first, and the first is taken with which

- every question that waits is answered within its objective, as far as the cheapest could do that, and
- so will be one that comes a little later, if questions go on coming as they did: what waits has been read by then, and
  what has come meanwhile at the measured rate has not grown beyond the objective.

If there is none, it is the cheapest. Times are estimates of `Costs`; a margin is left for what they do not see.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.model import ConfigTable, MeasuredConfig
from dynamic_tinybert.serve.engine.costs import Floats

_MEMORY = 2.0  # seconds over which the rate of arrivals is an average
_WEIGHT = 0.05  # of a question in the mean
_HEADROOM = 1.6  # with less than five eighths of the cheapest one's capacity left, the queue is kept shorter


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What load control holds.

    Attributes:
        seconds: From a question's arrival to its answer; infinite if there is none.
        margin: The share of that which a newcomer may wait, by estimate; the rest is for what no estimate sees.
        own_margin: The share of it in which what waits already is to be read, by estimate.
        horizon: How far arrivals are looked ahead, in objectives.
        longest_wait: The share of the objective that a newcomer may wait, while more comes than can be read.
        longest_burst: The same while no more comes: the rest of a burst is answered late rather than refused.
    """

    seconds: float = math.inf
    margin: float = 0.6
    own_margin: float = 0.7
    horizon: float = 3.0
    longest_wait: float = 0.6
    longest_burst: float = 2.0


class Arrivals:
    """The rate at which work comes, at each configuration: seconds of reading per second.

    Args:
        configurations: How many there are.

    Attributes:
        mean: What reading one of the last questions took, `[configurations]`.
    """

    def __init__(self, configurations: int) -> None:
        self.mean: Floats = np.zeros(configurations)
        self._rate: Floats = np.zeros(configurations)
        self._at = -math.inf

    def add(self, seconds: Floats, now: float) -> None:
        """Take in a question: what reading it takes at each configuration."""
        self._rate = self.rate(now) + seconds / _MEMORY
        self._at = now
        self.mean = self.mean + _WEIGHT * (seconds - self.mean)

    def rate(self, now: float) -> Floats:
        """Return the rate, `[configurations]`."""
        if math.isinf(self._at):
            return self._rate
        faded: Floats = self._rate * math.exp(-max(now - self._at, 0.0) / _MEMORY)
        return faded


@dataclass(frozen=True, kw_only=True)
class Queue:
    """What waits at a moment, in the order in which it is read. Seconds, at each configuration.

    Attributes:
        ends: When each question's last window will have been read, from now, `[questions, configurations]`.
        left: What is left of each question's objective, `[questions]`; infinite where it has none.
        slack: The same less the margin: what reading may take, by estimate.
        newcomer: When one that comes now would be begun, `[configurations]`.
        rate: Work that comes, a second, over the threads that read, `[configurations]`.
    """

    ends: Floats
    left: Floats
    slack: Floats
    newcomer: Floats
    rate: Floats


def choose(queue: Queue, objective: Objective, lowest: int) -> int:
    """Return the configuration that a question may have, as its place on the ladder.

    Args:
        queue: What waits.
        objective: What is to hold.
        lowest: The place of the cheapest that may be taken.
    """
    ends, slack = queue.ends[:, : lowest + 1], queue.slack
    # What even the cheapest cannot hold is lost, and asks for nothing; what only the cheapest might, asks for that.
    asks = np.isfinite(slack) & (ends[:, -1] <= queue.left)
    held: npt.NDArray[np.bool_] = np.all(ends[asks] <= slack[asks, None], axis=0)
    if math.isfinite(objective.seconds):
        growth = np.maximum(queue.rate[: lowest + 1] - 1, 0) * objective.horizon * objective.seconds
        # The less the cheapest has left, the longer a burst takes to drain: then less may wait when it comes.
        headroom = min(1.0, _HEADROOM * max(1 - float(queue.rate[lowest]), 0.05))
        held &= queue.newcomer[: lowest + 1] + growth <= headroom * objective.margin * objective.seconds
    return int(held.argmax()) if held.any() else lowest


def ladder_of(table: ConfigTable, budget_floor: MeasuredConfig | None) -> tuple[list[MeasuredConfig], int]:
    """Return the configurations that are worth choosing, the dearest first, and the place of the floor among them.

    `full` is the first; each of the others is more accurate than every cheaper one, where accuracy was measured.

    Args:
        table: The model's.
        budget_floor: What load control goes down to; None for the cheapest.
    """
    choices = sorted(table.choices, key=lambda c: -c.share)
    if table.measured_on is not None:
        choices = [
            c
            for i, c in enumerate(choices)
            if not i or all((c.f1 or 0) > (cheaper.f1 or 0) for cheaper in choices[i + 1 :])
        ]
    if budget_floor is None:
        return choices, len(choices) - 1
    if budget_floor not in choices:
        choices = sorted([*choices, budget_floor], key=lambda c: -c.share)
    return choices, choices.index(budget_floor)


def place(ladder: Sequence[MeasuredConfig], choice: MeasuredConfig) -> int:
    """Return a configuration's place on the ladder, or that of the dearest which costs no more."""
    return next((i for i, c in enumerate(ladder) if c == choice or c.share <= choice.share), len(ladder) - 1)
