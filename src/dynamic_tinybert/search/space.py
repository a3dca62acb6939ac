"""The search space: one ratio for each layer; their running product is the length configuration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dynamic_tinybert.model import LengthConfig
from dynamic_tinybert.search.errors import SearchError

_DIGITS = 6  # of a fraction
_LEAST = 10**-_DIGITS


@dataclass(frozen=True)
class SearchSpace:
    """Ratios in [low, 1], one for each layer: the share of its input tokens that a layer keeps.

    Samplers draw from a box. Fractions that must not grow do not fill a box, so a sampler would have to reject or sort
    its draws. Ratios fill a box, and every point in it is a length configuration.

    Attributes:
        layers: The number of layers of the model.
        low: The least ratio, in (0, 1).

    Raises:
        SearchError: `low` or `layers` is out of range.
    """

    layers: int
    low: float = 0.4

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise SearchError(f"a model has at least one layer, not {self.layers}")
        if not (math.isfinite(self.low) and 0 < self.low < 1):
            raise SearchError(f"the least ratio must be between 0 and 1, not {self.low}")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the ratios in a study, from the first layer to the last."""
        return tuple(f"ratio_{layer}" for layer in range(1, self.layers + 1))

    def config(self, ratios: Sequence[float]) -> LengthConfig:
        """Return the configuration of ratios: their running product, rounded to six digits.

        Args:
            ratios: `[layers]`, each in (0, 1].

        Raises:
            SearchError: The number of ratios is not `layers`, or a ratio is out of range.
        """
        if len(ratios) != self.layers or not all(0 < ratio <= 1 for ratio in ratios):
            raise SearchError(f"there is a ratio in (0, 1] for each of {self.layers} layers, not {tuple(ratios)}")
        fractions, product = [], 1.0
        for ratio in ratios:
            product *= ratio
            fractions.append(max(round(product, _DIGITS), _LEAST))
        return LengthConfig(tuple(fractions))

    def ratios(self, config: LengthConfig) -> tuple[float, ...]:
        """Return the ratios `[layers]` of a configuration, or those that follow it as closely as the range allows.

        Raises:
            SearchError: The configuration has another number of layers.
        """
        if len(config.fractions) != self.layers:
            raise SearchError(f"a configuration of {len(config.fractions)} layers, where the model has {self.layers}")
        ratios, product = [], 1.0
        for fraction in config.fractions:
            ratio = min(max(fraction / product, self.low), 1.0)
            ratios.append(ratio)
            product *= ratio
        return tuple(ratios)

    def nearest(self, config: LengthConfig) -> LengthConfig:
        """Return the configuration itself if it is in the range, otherwise the one that follows it closely."""
        return self.config(self.ratios(config))
