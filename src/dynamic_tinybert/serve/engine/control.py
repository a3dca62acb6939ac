"""Load control: choose the most accurate length configuration that meets the objective.

For each batch, load control tries the configurations, the most expensive first. It takes the first one for which

- every waiting question is answered within its objective, if the cheapest configuration could do this, and
- a question that arrives a little later is answered in time, too, if questions continue to arrive at the measured rate.

If there is no such configuration, it takes the cheapest. `Costs` estimates the times; a margin covers its errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.model import ConfigTable, MeasuredConfig
from dynamic_tinybert.serve.engine.costs import Floats

_MEMORY = 2.0  # seconds over which the rate of arrivals is averaged
_WEIGHT = 0.05  # of a new question in the mean
_HEADROOM = 1.6  # keep the queue shorter if less than 1/1.6 of the capacity of the cheapest configuration is left


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The objective of load control.

    Attributes:
        seconds: The time from a question's arrival to its answer; infinite if there is no objective.
        margin: The share of `seconds` that a new question may wait, by estimate; the rest covers errors of estimates.
        own_margin: The share of `seconds` in which waiting questions should be predicted, by estimate.
        horizon: How far ahead arrivals are considered, in multiples of `seconds`.
        longest_wait: The share of `seconds` that a new question may wait, if more arrive than can be answered.
        longest_burst: The same if fewer arrive: the rest of a burst is answered late instead of refused.
    """

    seconds: float = math.inf
    margin: float = 0.6
    own_margin: float = 0.7
    horizon: float = 3.0
    longest_wait: float = 0.6
    longest_burst: float = 2.0


class Arrivals:
    """The rate at which work arrives, for each configuration: seconds of predictions per second.

    Args:
        configurations: The number of configurations.

    Attributes:
        mean: The mean seconds of predictions for one of the last questions, `[configurations]`.
    """

    def __init__(self, configurations: int) -> None:
        self.mean: Floats = np.zeros(configurations)
        self._rate: Floats = np.zeros(configurations)
        self._at = -math.inf

    def add(self, seconds: Floats, now: float) -> None:
        """Add a question, with the seconds of its predictions for each configuration."""
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
    """The waiting questions, in the order of prediction. All times are in seconds from now.

    Attributes:
        ends: The time when each question's last window is predicted, `[questions, configurations]`.
        left: The time left of each question's objective, `[questions]`; infinite if it has no objective.
        slack: The same minus the margin: the time that the estimates may use, `[questions]`.
        next_start: The time when a question that arrives now would start, `[configurations]`.
        rate: Seconds of work that arrive per second and thread, `[configurations]`.
    """

    ends: Floats
    left: Floats
    slack: Floats
    next_start: Floats
    rate: Floats


def choose(queue: Queue, objective: Objective, lowest: int) -> int:
    """Return the configuration for the next questions, as a place on the ladder.

    Args:
        queue: The waiting questions.
        objective: The objective.
        lowest: The place of the cheapest configuration that may be chosen.
    """
    ends, slack = queue.ends[:, : lowest + 1], queue.slack
    # Ignore questions that are late even with the cheapest one. If only the cheapest may be in time, it is chosen.
    asks = np.isfinite(slack) & (ends[:, -1] <= queue.left)
    held: npt.NDArray[np.bool_] = np.all(ends[asks] <= slack[asks, None], axis=0)
    if math.isfinite(objective.seconds):
        growth = np.maximum(queue.rate[: lowest + 1] - 1, 0) * objective.horizon * objective.seconds
        # With little capacity left, a burst takes long to process, so the queue before it must be shorter.
        headroom = min(1.0, _HEADROOM * max(1 - float(queue.rate[lowest]), 0.05))
        held &= queue.next_start[: lowest + 1] + growth <= headroom * objective.margin * objective.seconds
    return int(held.argmax()) if held.any() else lowest


def ladder_of(table: ConfigTable, budget_floor: MeasuredConfig | None) -> tuple[list[MeasuredConfig], int]:
    """Return the useful configurations, the most expensive first, and the place of the floor among them.

    `full` is the first. If accuracy was measured, each of the others is more accurate than every cheaper one.

    Args:
        table: The table of the model.
        budget_floor: The cheapest configuration that load control may choose; None for the cheapest of all.
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
    """Return the place on the ladder of a configuration, or of the most expensive one that costs no more."""
    return next((i for i, c in enumerate(ladder) if c == choice or c.share <= choice.share), len(ladder) - 1)
