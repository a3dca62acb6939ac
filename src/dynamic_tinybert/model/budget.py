"""Length configurations, their cost, and the budgets that a caller may give."""

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
"""The model that every speedup is compared with."""

SHARE_TOKENS = 384
"""The length at which a configuration's share is counted, in tokens."""

SHARE_ROUNDING = 5e-5
"""The tolerance of a budget: shares are printed with four digits, and a user may copy one as a budget."""

LEAST_LENGTH = 2
"""The least number of tokens that a sequence keeps, if it has so many."""

LENGTH_ROUNDING = 1e-6
"""The part of a token that is ignored when a fraction becomes a length: in floats 0.07 x 100 is a bit more than 7."""


class BudgetError(DynamicTinyBertError, ValueError):
    """A budget, a length configuration or a table of them is invalid."""

    misuse = True


@dataclass(frozen=True)
class LengthConfig:
    """A length configuration: the fraction of a sequence's real tokens that remains after each layer.

    Kim and Cho (2020) count the tokens of a padded sequence. Fractions of the real tokens apply to any length.

    Attributes:
        fractions: One for each layer, in (0, 1], never greater than the one before.

    Raises:
        BudgetError: There are no fractions, one is out of range, or one is greater than the one before.
    """

    fractions: tuple[float, ...]

    def __post_init__(self) -> None:
        values = tuple(float(f) for f in self.fractions)
        object.__setattr__(self, "fractions", values)
        if not values or not all(0 < f <= 1 for f in values):
            raise BudgetError(f"a length configuration must have one fraction in (0, 1] for each layer: {values}")
        if any(b > a for a, b in itertools.pairwise(values)):
            raise BudgetError(f"a length configuration must not grow from one layer to the next: {values}")

    @classmethod
    def full(cls, layers: int) -> LengthConfig:
        """Return the configuration that drops no token."""
        return cls((1.0,) * layers)

    @classmethod
    def uniform(cls, layers: int, retention: float) -> LengthConfig:
        """Return the configuration in which every layer keeps the fraction `retention`, in (0, 1], of its tokens.

        Raises:
            BudgetError: `retention` is out of range.
        """
        if not 0 < retention <= 1:
            raise BudgetError(f"a retention must be in (0, 1], not {retention}")
        return cls(tuple(max(round(retention ** (i + 1), 6), 1e-6) for i in range(layers)))

    def lengths(self, tokens: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return how many tokens remain after each layer: `max(2, ceil(fraction * tokens - 1e-6))`.

        Args:
            tokens: The number of real tokens of each sequence, `[batch]`.

        Returns:
            `[batch, layers]`.
        """
        real = np.asarray(tokens, np.int64)[:, None]
        kept: npt.NDArray[np.int64] = np.ceil(np.asarray(self.fractions) * real - LENGTH_ROUNDING).astype(np.int64)
        return np.clip(kept, np.minimum(LEAST_LENGTH, real), real)


Budget: TypeAlias = float | Literal["full", "balanced", "fast"] | LengthConfig
"""What an answer may cost: a share in (0, 1], a name, or a length configuration."""


def macs(shape: ModelShape, tokens: npt.ArrayLike, config: LengthConfig | None = None) -> int:
    """Count the multiply-accumulates of windows: `4 H^2 k(i-1) + 2 H k(i-1)^2 + 2 H F k(i)`, summed over layers i.

    Layer i keeps k(i) tokens of a window; k(0) is the window's length. A significance head adds `H k(i-1)` in a layer
    that drops tokens (with a bottleneck `K k(i-1)`). DeBERTa adds `2 S H k(i-1)` for each kind of scores by relative
    position, with S buckets to each side. ModernBERT's gate makes `2 H F k(i)` into `3 H F k(i)`, and its head adds
    `H^2 k(0)`, once. MobileBERT's sum, with a bottleneck of width K and n feed-forwards, is `(2 H K + 3 K^2) k(i-1) +
    2 K k(i-1)^2 + (2 H K + 2 n K F) k(i)`, and once `3 E H k(0)` for the embeddings of width E.

    Args:
        shape: The sizes of the model.
        tokens: The number of real tokens of each window, `[windows]`.
        config: The length configuration; None for `full`.
    """
    return int(macs_of_each(shape, tokens, config).sum())


def macs_of_each(shape: ModelShape, tokens: npt.ArrayLike, config: LengthConfig | None = None) -> npt.NDArray[np.int64]:
    """Count the multiply-accumulates of each window, `[windows]`: see `macs`."""
    real = np.atleast_1d(np.asarray(tokens, np.int64))
    kept = (config or LengthConfig.full(shape.layers)).lengths(real)
    before = np.concatenate([real[:, None], kept[:, :-1]], axis=1)
    h, f = shape.hidden, shape.feed_forward
    once = shape.inner_width * (before * (kept < before)).sum(axis=1) if shape.significance_head else 0
    each: npt.NDArray[np.int64]
    if shape.bottleneck:
        k, count = shape.bottleneck.width, shape.bottleneck.feed_forwards
        layers = (2 * h * k + 3 * k * k) * before + 2 * k * before**2 + (2 * h * k + 2 * count * k * f) * kept
        each = layers.sum(axis=1) + 3 * shape.embedding_width * h * real + once
        return each
    relative = shape.disentangled
    by_position = 2 * relative.span * (relative.products - 1) if relative else 0
    projections = 3 if shape.modern else 2
    layers = (4 * h + by_position) * h * before + 2 * h * before**2 + projections * h * f * kept
    each = layers.sum(axis=1) + (h * h * real if shape.modern else 0) + once
    return each


def share(shape: ModelShape, config: LengthConfig) -> float:
    """Return a configuration's multiply-accumulates divided by those of `full`, counted at 384 tokens."""
    return macs(shape, SHARE_TOKENS, config) / macs(shape, SHARE_TOKENS)


def parse_budget(text: str) -> Budget:
    """Parse a budget from the text of a command line or a request.

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
        raise BudgetError(f"a budget must be a share in (0, 1], 'full', 'balanced' or 'fast', not {text!r}")
    return value
