"""Estimate the time of a prediction from its length configuration and length. Measured at the start and while serving.

A batch of n windows, padded to L tokens, takes `f_c (a + r n macs_c(L))` seconds with the configuration c. The overhead
a and the pace r are fitted once. The measured time of each batch changes the factor f_c of its configuration, and the
other factors half as much: what slows one configuration (other work on the machine) mostly slows all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.model import MeasuredConfig, ModelShape, macs_of_each

Floats = npt.NDArray[np.float64]

_LEARN = 0.1  # the learning rate of a configuration's factor, in logarithms ...
_LEARN_OTHERS = 0.05  # ... and of the other factors
_MOST_STEP = np.log(4.0)  # limits outliers, for example if the machine slept
_LENGTHS = (24, 96, 256)  # tokens of the windows for the fit
_ROUNDS = 3  # the fastest round counts


class Costs:
    """Estimates of the time of a prediction, in seconds.

    Args:
        shape: The shape of the model.
        ladder: Length configurations, the most expensive first.
        overhead: The constant part of a batch, in seconds.
        pace: Seconds per multiply-accumulate.
        factors: One for each configuration, by which it is slower than the estimate.
    """

    def __init__(
        self,
        shape: ModelShape,
        ladder: Sequence[MeasuredConfig],
        *,
        overhead: float = 0.001,
        pace: float = 1e-11,
        factors: Sequence[float] | None = None,
    ) -> None:
        self.ladder = tuple(ladder)
        self._overhead = overhead
        self._pace = pace
        self._factors: Floats = np.ones(len(self.ladder)) if factors is None else np.array(factors, np.float64)
        self._macs = np.zeros((shape.positions + 1, len(self.ladder)))
        lengths = np.arange(1, shape.positions + 1)
        for i, choice in enumerate(self.ladder):
            self._macs[1:, i] = macs_of_each(shape, lengths, choice.config)

    @property
    def factors(self) -> Floats:
        """The current factors; multiply them with `units`, `[configurations]`."""
        return self._factors

    def units(self, length: int) -> Floats:
        """Return the seconds of a window of `length` tokens, without the factors, `[configurations]`."""
        unit: Floats = self._overhead + self._pace * self._macs[length]
        return unit

    def seconds(self, rows: int, length: int) -> Floats:
        """Return the seconds of a batch with each configuration, `[configurations]`.

        Args:
            rows: The number of windows.
            length: The tokens of each window, with padding.
        """
        estimate: Floats = self._factors * (self._overhead + self._pace * rows * self._macs[length])
        return estimate

    def observe(self, index: int, rows: int, length: int, seconds: float) -> None:
        """Update the factors with the measured time of a batch."""
        expected = self.seconds(rows, length)[index]
        step = float(np.clip(np.log(max(seconds, 1e-6) / expected), -_MOST_STEP, _MOST_STEP))
        learn = np.full(len(self.ladder), _LEARN_OTHERS)
        learn[index] = _LEARN
        self._factors *= np.exp(learn * step)

    @classmethod
    def measure(
        cls,
        shape: ModelShape,
        ladder: Sequence[MeasuredConfig],
        read: Callable[[int, MeasuredConfig], None],
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> Costs:
        """Measure each configuration at a few lengths; the fastest of three rounds counts. It also warms up the model.

        Args:
            shape: The shape of the model.
            ladder: Length configurations, the most expensive first.
            read: Predicts on a window of this many tokens with this configuration.
            clock: Returns the time in seconds.
        """
        lengths = [length for length in _LENGTHS if length <= shape.positions] or [shape.positions]
        taken = np.full((len(lengths), len(ladder)), np.inf)
        for _ in range(_ROUNDS):
            for i, length in enumerate(lengths):
                for j, choice in enumerate(ladder):
                    began = clock()
                    read(length, choice)
                    taken[i, j] = min(taken[i, j], clock() - began)
        costs = cls(shape, ladder)
        work = costs._macs[lengths]
        # Minimize relative errors, so that the fit is as good for short windows as for long ones.
        system = np.stack([1 / taken.ravel(), (work / taken).ravel()], axis=1)
        overhead, pace = np.linalg.lstsq(system, np.ones(taken.size), rcond=None)[0]
        costs._overhead = max(float(overhead), 1e-6)
        costs._pace = max(float(pace), 1e-15)
        expected = costs._overhead + costs._pace * work
        costs._factors = np.exp(np.log(taken / expected).mean(axis=0))
        return costs
