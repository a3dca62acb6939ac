"""The search space: ratios, and the configurations that they make."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_tinybert.model import LengthConfig
from dynamic_tinybert.search import SearchError, SearchSpace

LOW = 0.4
ratio_lists = st.lists(st.floats(LOW, 1.0), min_size=1, max_size=24)


@given(ratio_lists)
def test_every_sample_is_a_configuration_within_the_range(ratios: list[float]) -> None:
    fractions = SearchSpace(len(ratios), LOW).config(ratios).fractions
    assert len(fractions) == len(ratios)
    np.testing.assert_allclose(fractions, np.maximum(np.cumprod(ratios), 1e-6), atol=5.1e-7)
    assert all(0 < after <= before <= 1 for before, after in itertools.pairwise((1.0, *fractions)))
    assert fractions == tuple(round(fraction, 6) for fraction in fractions)


@given(ratio_lists)
def test_a_configuration_of_the_space_is_its_own_nearest(ratios: list[float]) -> None:
    space = SearchSpace(len(ratios), LOW)
    config = space.config(ratios)
    back = space.ratios(config)
    assert all(LOW <= ratio <= 1 for ratio in back)
    if config.fractions[-1] > 0.01:  # smaller ones lose digits of their ratio
        np.testing.assert_allclose(back, ratios, atol=2e-4)
        np.testing.assert_allclose(space.config(back).fractions, config.fractions, atol=1.1e-6)


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=12))
def test_what_lies_outside_is_led_into_the_range(fractions: list[float]) -> None:
    space = SearchSpace(len(fractions), LOW)
    ratios = space.ratios(LengthConfig(tuple(sorted(fractions, reverse=True))))
    assert all(LOW <= ratio <= 1 for ratio in ratios)
    space.config(ratios)


def test_by_hand() -> None:
    space = SearchSpace(4, 0.5)
    assert space.names == ("ratio_1", "ratio_2", "ratio_3", "ratio_4")
    assert space.config([1, 0.5, 1, 0.9]).fractions == (1.0, 0.5, 0.5, 0.45)
    assert space.ratios(LengthConfig((1, 0.5, 0.5, 0.45))) == pytest.approx((1, 0.5, 1, 0.9))
    # The third layer may not drop so much; the fourth then makes up for it as far as it may.
    assert space.nearest(LengthConfig((1, 1, 0.25, 0.2))).fractions == (1.0, 1.0, 0.5, 0.25)
    assert space.nearest(LengthConfig.full(4)) == LengthConfig.full(4)


def test_many_layers_never_come_to_nothing() -> None:
    assert SearchSpace(48, 0.4).config([0.4] * 48).fractions[-1] == 1e-6


@pytest.mark.parametrize("low", [0, 1, -0.1, 1.5, float("nan")])
def test_a_range_without_room_is_refused(low: float) -> None:
    with pytest.raises(SearchError, match="least ratio must be between 0 and 1"):
        SearchSpace(6, low)


def test_what_is_of_other_layers_is_refused() -> None:
    with pytest.raises(SearchError, match="2 layers, where the model has 6"):
        SearchSpace(6).ratios(LengthConfig((1, 0.5)))
    with pytest.raises(SearchError, match="for each of 6 layers"):
        SearchSpace(6).config([1.0])
    with pytest.raises(SearchError, match="in \\(0, 1\\]"):
        SearchSpace(2).config([1.0, 1.1])
    with pytest.raises(SearchError):
        SearchSpace(0)
