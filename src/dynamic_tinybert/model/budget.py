"""Length configurations, what they cost, and the budgets that a caller may give."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.errors import DynamicTinyBertError
from dynamic_tinybert.model.shape import ModelShape

BERT_BASE = ModelShape(layers=12, hidden=768, heads=12, feed_forward=3072, vocabulary=30522, positions=512)
"""What every speedup is counted against."""

SHARE_TOKENS = 384
"""The length at which a configuration's share is counted, in tokens."""

SHARE_ROUNDING = 5e-5
"""Shares are printed to four digits, and a budget may be copied from there."""

LEAST_LENGTH = 2
"""Tokens that a sequence keeps at least, if it has as many."""

LENGTH_ROUNDING = 1e-6
"""Part of a token that does not count where a fraction becomes a length: floats make 0.07 x 100 a bit more than 7."""


class BudgetError(DynamicTinyBertError, ValueError):
    """A budget, a length configuration or a table of them that makes no sense; one line that says why."""

    misuse = True


@dataclass(frozen=True)
class LengthConfig:
    """A length configuration: the share of a sequence's own tokens that remains after each layer.

    Kim and Cho (2020) count tokens of a padded sequence; fractions of the real tokens carry over to any length.

    Attributes:
        fractions: One for each layer, in (0, 1], none greater than the one before.

    Raises:
        BudgetError: There are no fractions, or they are out of range or growing.
    """

    fractions: tuple[float, ...]

    def __post_init__(self) -> None:
        values = tuple(float(f) for f in self.fractions)
        object.__setattr__(self, "fractions", values)
        if not values or not all(0 < f <= 1 for f in values):
            raise BudgetError(f"a length configuration is of fractions in (0, 1], one for each layer: {values}")
        if any(b > a for a, b in itertools.pairwise(values)):
            raise BudgetError(f"a length configuration never grows from one layer to the next: {values}")

    @classmethod
    def full(cls, layers: int) -> LengthConfig:
        """The configuration that drops nothing."""
        return cls((1.0,) * layers)

    @classmethod
    def uniform(cls, layers: int, retention: float) -> LengthConfig:
        """The configuration that keeps the same share of what is left, `retention` in (0, 1], at every layer.

        Raises:
            BudgetError: `retention` is out of range.
        """
        if not 0 < retention <= 1:
            raise BudgetError(f"a retention is in (0, 1], not {retention}")
        return cls(tuple(max(round(retention ** (i + 1), 6), 1e-6) for i in range(layers)))

    def lengths(self, tokens: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return how many tokens remain after each layer: `max(2, ceil(fraction * tokens - 1e-6))`.

        Args:
            tokens: Real tokens of each sequence, `[batch]`.

        Returns:
            `[batch, layers]`.
        """
        real = np.asarray(tokens, np.int64)[:, None]
        kept: npt.NDArray[np.int64] = np.ceil(np.asarray(self.fractions) * real - LENGTH_ROUNDING).astype(np.int64)
        return np.clip(kept, np.minimum(LEAST_LENGTH, real), real)


Budget: TypeAlias = float | Literal["full", "balanced", "fast"] | LengthConfig
"""What a caller may spend: a share in (0, 1], a name, or a configuration itself."""


def macs(shape: ModelShape, tokens: npt.ArrayLike, config: LengthConfig | None = None) -> int:
    """Multiply-accumulates that windows cost: over layers i, `4 H^2 k(i-1) + 2 H k(i-1)^2 + 2 H F k(i)`, k0 = L.

    Args:
        shape: The model.
        tokens: Real tokens of each window, `[windows]`.
        config: The length configuration; none for `full`.
    """
    return int(macs_of_each(shape, tokens, config).sum())


def macs_of_each(shape: ModelShape, tokens: npt.ArrayLike, config: LengthConfig | None = None) -> npt.NDArray[np.int64]:
    """Return what `macs` adds up: those of each window, `[windows]`."""
    real = np.atleast_1d(np.asarray(tokens, np.int64))
    kept = (config or LengthConfig.full(shape.layers)).lengths(real)
    before = np.concatenate([real[:, None], kept[:, :-1]], axis=1)
    h, f = shape.hidden, shape.feed_forward
    each: npt.NDArray[np.int64] = (4 * h * h * before + 2 * h * before**2 + 2 * h * f * kept).sum(axis=1)
    return each


def share(shape: ModelShape, config: LengthConfig) -> float:
    """A configuration's multiply-accumulates over those of `full`, counted at 384 tokens."""
    return macs(shape, SHARE_TOKENS, config) / macs(shape, SHARE_TOKENS)


def parse_budget(text: str) -> Budget:
    """Read a budget as it is written on a command line or in a request.

    Raises:
        BudgetError: It is neither a number nor a known name.
    """
    if text in ("full", "balanced", "fast"):
        return cast("Budget", text)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise BudgetError(f"a budget is a share in (0, 1], 'full', 'balanced' or 'fast', not {text!r}")
    return value
