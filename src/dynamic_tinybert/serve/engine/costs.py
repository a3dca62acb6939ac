"""What reading takes, by length configuration and length: measured before serving, and ever after.

The seconds of a batch of n windows, padded to L tokens, at a configuration c: `f_c (a + r n macs_c(L))`. The overhead a
and the pace r are fitted once; what a batch really took moves the factor f_c of its configuration, and those of the
others half as much, since what slows one (other work on the machine, another thread that reads) mostly slows all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.model import MeasuredConfig, ModelShape, macs_of_each

Floats = npt.NDArray[np.float64]

_LEARN = 0.1  # how far a batch moves its configuration's factor, in logarithms ...
_LEARN_OTHERS = 0.05  # ... and the others'
_MOST_STEP = np.log(4.0)  # a batch that the machine slept through says no more than this
_LENGTHS = (24, 96, 256)  # tokens of the windows that the fit is made of
_ROUNDS = 3  # of these the quickest counts


class Costs:
    """Seconds that reading takes.

    Args:
        shape: The model.
        ladder: Length configurations, the dearest first.
        overhead: Seconds of a batch beside its arithmetic.
        pace: Seconds of a multiply-accumulate.
        factors: One for each configuration, by which its arithmetic is slower than the pace.
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
        """What each configuration takes now, of what `units` says, `[configurations]`."""
        return self._factors

    def units(self, length: int) -> Floats:
        """Return what a window of so many tokens takes before the factors, `[configurations]`."""
        unit: Floats = self._overhead + self._pace * self._macs[length]
        return unit

    def seconds(self, rows: int, length: int) -> Floats:
        """Return what a batch takes at each configuration, `[configurations]`.

        Args:
            rows: Its windows.
            length: Their tokens, padding counted.
        """
        estimate: Floats = self._factors * (self._overhead + self._pace * rows * self._macs[length])
        return estimate

    def saw(self, index: int, rows: int, length: int, seconds: float) -> None:
        """Take in what a batch took at a configuration."""
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
        """Measure each configuration at a few lengths, the quickest of three times each; this warms the model up, too.

        Args:
            shape: The model.
            ladder: Length configurations, the dearest first.
            read: Reads a window of so many tokens at a configuration.
            clock: Seconds.
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
        # Relative errors count, so that the shortest windows are as well met as the longest.
        system = np.stack([1 / taken.ravel(), (work / taken).ravel()], axis=1)
        overhead, pace = np.linalg.lstsq(system, np.ones(taken.size), rcond=None)[0]
        costs._overhead = max(float(overhead), 1e-6)
        costs._pace = max(float(pace), 1e-15)
        expected = costs._overhead + costs._pace * work
        costs._factors = np.exp(np.log(taken / expected).mean(axis=0))
        return costs
