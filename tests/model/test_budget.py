"""Length configurations, what they cost, and budgets as text."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamic_tinybert.model import (
    BERT_BASE,
    Bottleneck,
    BudgetError,
    Disentangled,
    LengthConfig,
    ModelShape,
    Modern,
    macs,
    parse_budget,
    share,
)
from support.budgets import refused

TINYBERT_6L = ModelShape(layers=6, hidden=768, heads=12, feed_forward=3072, vocabulary=30522, positions=512)
SIX_LAYERS_384 = ModelShape(layers=6, hidden=384, heads=12, feed_forward=1536, vocabulary=30522, positions=512)
TINY = ModelShape(layers=2, hidden=2, heads=1, feed_forward=3, vocabulary=10, positions=512)


# Length configurations.


def falling_fractions(layers: int | None = None) -> st.SearchStrategy[tuple[float, ...]]:
    count = {"min_size": 1, "max_size": 6} if layers is None else {"min_size": layers, "max_size": layers}
    fraction = st.floats(0, 1, exclude_min=True)
    return st.lists(fraction, **count).map(lambda values: tuple(sorted(values, reverse=True)))


def test_lengths_by_hand() -> None:
    config = LengthConfig((1.0, 0.5, 0.25, 0.01))
    assert config.lengths([384, 169, 10, 7]).tolist() == [
        [384, 192, 96, 4],
        [169, 85, 43, 2],
        [10, 5, 3, 2],
        [7, 4, 2, 2],
    ]


def test_lengths_never_fall_below_two_nor_exceed_a_short_sequence() -> None:
    config = LengthConfig((0.9, 0.001))
    assert config.lengths([4, 3, 2, 1]).tolist() == [[4, 2], [3, 2], [2, 2], [1, 1]]


def test_lengths_are_integers_of_one_row_for_each_sequence() -> None:
    lengths = LengthConfig((0.5,)).lengths(np.array([10, 20, 30]))
    assert lengths.shape == (3, 1)
    assert lengths.dtype == np.int64


@pytest.mark.parametrize(
    ("fraction", "tokens", "kept"),
    [
        (0.07, 100, 7),  # 0.07 * 100 is 7.000000000000001
        (0.57, 100, 57),
        (1.1 - 0.8, 10, 3),
        (1 / 3, 384, 128),
        (2 / 3, 384, 256),
        (0.333333, 384, 128),
        (0.3334, 384, 129),
        (0.5, 5, 3),
        (0.500001, 4, 3),
        (0.5 + 1e-9, 4, 2),  # less than 1e-6 of a token is nothing
        (1.0, 512, 512),
        (1e-9, 512, 2),
    ],
)
def test_rounding_error_keeps_no_extra_token(fraction: float, tokens: int, kept: int) -> None:
    assert LengthConfig((fraction,)).lengths([tokens]).item() == kept


@given(falling_fractions(), st.lists(st.integers(1, 600), min_size=1, max_size=5))
@settings(deadline=None, database=None, max_examples=60)
def test_lengths_are_the_formula_and_never_grow(fractions: tuple[float, ...], tokens: list[int]) -> None:
    lengths = LengthConfig(fractions).lengths(tokens)
    for row, real in zip(lengths.tolist(), tokens, strict=True):
        assert row == [min(real, max(2, math.ceil(f * real - 1e-6))) for f in fractions]
        assert all(a >= b for a, b in zip([real, *row], row, strict=False))
        assert min(row) >= min(2, real)


@given(falling_fractions(), st.integers(1, 600))
@settings(deadline=None, database=None, max_examples=30)
def test_lengths_of_a_sequence_do_not_depend_on_its_neighbours(fractions: tuple[float, ...], tokens: int) -> None:
    config = LengthConfig(fractions)
    assert config.lengths([500, tokens, 3])[1].tolist() == config.lengths([tokens])[0].tolist()


@pytest.mark.parametrize(
    "fractions",
    [
        (),
        (0.0,),
        (1.0, 0.0),
        (-0.5,),
        (1.0001,),
        (2, 1),
        (0.5, 0.6),
        (1.0, 0.5, 0.50001),
        (math.nan,),
        (1.0, math.nan, 0.5),
        (math.inf,),
        (-math.inf,),
    ],
)
def test_senseless_fractions_are_refused(fractions: tuple[float, ...]) -> None:
    refused(LengthConfig, fractions)


def test_configurations_are_values() -> None:
    config = LengthConfig([1, 0.5])  # type: ignore[arg-type]
    assert config.fractions == (1.0, 0.5)
    assert config == LengthConfig((1.0, 0.5))
    assert hash(config) == hash(LengthConfig((1.0, 0.5)))
    assert config != LengthConfig((1.0, 0.4))
    with pytest.raises(AttributeError):
        config.fractions = (1.0,)  # type: ignore[misc]


def test_full_and_uniform() -> None:
    assert LengthConfig.full(3).fractions == (1.0, 1.0, 1.0)
    assert LengthConfig.uniform(3, 1.0) == LengthConfig.full(3)
    assert LengthConfig.uniform(3, 0.5).fractions == (0.5, 0.25, 0.125)
    assert LengthConfig.uniform(4, 0.8).fractions == pytest.approx([0.8, 0.64, 0.512, 0.4096], abs=1e-6)


@pytest.mark.parametrize("retention", [0.0, -0.5, 1.5, math.nan])
def test_uniform_refuses_a_senseless_retention(retention: float) -> None:
    refused(LengthConfig.uniform, 3, retention)


@pytest.mark.parametrize("layers", [16, 24])
def test_uniform_goes_as_deep_as_bert_large(layers: int) -> None:
    config = LengthConfig.uniform(layers, 0.4)
    assert len(config.fractions) == layers
    assert config.lengths([384])[0, -1] == 2


# Multiply-accumulates.


def test_macs_by_hand() -> None:
    # Layer 1: 4*4*10 + 2*2*10^2 + 2*2*3*10 = 160 + 400 + 120; layer 2 the same.
    assert macs(TINY, [10]) == 2 * 680
    # k = 10, 5, 3. Layer 1: 160 + 400 + 12*5 = 620. Layer 2: 16*5 + 4*25 + 12*3 = 216.
    assert macs(TINY, [10], LengthConfig((0.5, 0.3))) == 620 + 216
    # k = 3, 2, 2: (16*3 + 4*9 + 12*2) + (16*2 + 4*4 + 12*2) = 108 + 72.
    assert macs(TINY, [3], LengthConfig((0.5, 0.3))) == 108 + 72


def test_macs_of_a_significance_head_by_hand() -> None:
    head = replace(TINY, significance_head=True)
    assert macs(head, [10]) == macs(TINY, [10])  # no layer drops
    assert macs(head, [10], LengthConfig((0.5, 0.3))) == 836 + 2 * 10 + 2 * 5
    assert (
        macs(head, [10, 3], LengthConfig((1.0, 0.3))) == macs(TINY, [10, 3], LengthConfig((1.0, 0.3))) + 2 * 10 + 2 * 3
    )
    narrow = Bottleneck(width=1, feed_forwards=3)
    config = LengthConfig((0.5, 0.3))
    assert (
        macs(replace(head, bottleneck=narrow), [10], config)
        == macs(replace(TINY, bottleneck=narrow), [10], config) + 15
    )


def test_macs_of_bert_base_by_hand() -> None:
    layer = 4 * 768**2 * 384 + 2 * 768 * 384**2 + 2 * 768 * 3072 * 384
    assert layer == 2_944_401_408
    assert macs(BERT_BASE, 384) == 12 * layer


def test_macs_of_deberta_and_modernbert_by_hand() -> None:
    # k = 10, 5, 3 as above: 836; and for two kinds of scores by 2 * 4 buckets, 2 * 2 * 8 * (10 + 5).
    scores = Disentangled(span=4, to_position=True, to_content=True)
    assert macs(replace(TINY, disentangled=scores), [10], LengthConfig((0.5, 0.3))) == 836 + 480
    one = Disentangled(span=4, longest=6, to_content=True)
    assert macs(replace(TINY, disentangled=one), [10], LengthConfig((0.5, 0.3))) == 836 + 240
    assert macs(replace(TINY, disentangled=Disentangled()), [10]) == macs(TINY, [10])
    # A bottleneck of width 1, three feed-forwards, embeddings of width 2: before attention 2 * 2 + 3 = 7 and 2 k^2,
    # after it 4 + 2 * 3 * 3 = 22; the embeddings 3 * 2 * 2 * 10.
    narrow = replace(TINY, bottleneck=Bottleneck(width=1, feed_forwards=3))
    assert macs(narrow, [10], LengthConfig((0.5, 0.3))) == 7 * 15 + 2 * (100 + 25) + 22 * 8 + 120
    # The gate is a third projection, 2 * 3 * (5 + 3); the head is once for each token, 2 * 2 * 10.
    modern = Modern(bases=(1e4, 1e4), local=(False, True), reach=2)
    assert macs(replace(TINY, modern=modern), [10], LengthConfig((0.5, 0.3))) == 836 + 48 + 40


def test_macs_add_up_over_windows_at_their_own_lengths() -> None:
    config = LengthConfig((0.7, 0.2))
    windows = [384, 12, 2, 77]
    assert macs(TINY, windows, config) == sum(macs(TINY, [tokens], config) for tokens in windows)
    assert macs(TINY, windows, LengthConfig.full(2)) == macs(TINY, windows)
    assert macs(TINY, 77) == macs(TINY, [77]) == macs(TINY, np.array([77], np.int32))


def test_macs_are_exact_integers_over_a_whole_data_set() -> None:
    total = macs(BERT_BASE, [384] * 100_000)
    assert isinstance(total, int)
    assert total == 100_000 * macs(BERT_BASE, [384])


@given(falling_fractions(2), st.integers(1, 512))
@settings(deadline=None, database=None, max_examples=40)
def test_macs_are_the_contract_s_sum(fractions: tuple[float, ...], tokens: int) -> None:
    config = LengthConfig(fractions)
    h, f, kept = 2, 3, [tokens, *config.lengths([tokens])[0].tolist()]
    wanted = sum(4 * h**2 * kept[i] + 2 * h * kept[i] ** 2 + 2 * h * f * kept[i + 1] for i in range(2))
    assert macs(TINY, [tokens], config) == wanted
    assert wanted <= macs(TINY, [tokens])


def test_share_is_counted_at_384_tokens() -> None:
    config = LengthConfig((0.5, 0.25))
    assert share(TINY, config) == pytest.approx(float(Fraction(macs(TINY, [384], config), macs(TINY, [384]))))
    layer_1, layer_2 = 16 * 384 + 4 * 384**2 + 12 * 192, 16 * 192 + 4 * 192**2 + 12 * 96
    assert share(TINY, config) == pytest.approx((layer_1 + layer_2) / macs(TINY, [384]))
    assert share(TINY, LengthConfig.full(2)) == 1.0


@pytest.mark.parametrize(("retention", "wanted"), [(0.75, 0.45), (0.65, 0.33)])
def test_share_of_a_geometric_series_is_as_measured_before(retention: float, wanted: float) -> None:
    for shape in (TINYBERT_6L, SIX_LAYERS_384):
        assert share(shape, LengthConfig.uniform(6, retention)) == pytest.approx(wanted, abs=0.02)


def test_tinybert_6l_is_twice_as_fast_as_bert_base_at_any_length() -> None:
    for windows in ([384], [169], [2, 77, 512]):
        assert macs(BERT_BASE, windows) == 2 * macs(TINYBERT_6L, windows)


def test_six_layers_of_384_are_7_7_times_as_fast_as_bert_base_on_squad_s_own_lengths() -> None:
    assert macs(BERT_BASE, [169]) / macs(SIX_LAYERS_384, [169]) == pytest.approx(7.7, abs=0.05)


# Budgets as text.


@pytest.mark.parametrize("name", ["full", "balanced", "fast"])
def test_a_named_budget_is_read(name: str) -> None:
    assert parse_budget(name) == name


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1.0), ("1.0", 1.0), ("0.5", 0.5), (".25", 0.25), ("1e-3", 0.001), ("+0.5", 0.5)]
)
def test_a_share_is_read(text: str, value: float) -> None:
    budget = parse_budget(text)
    assert budget == value
    assert isinstance(budget, float)


@pytest.mark.parametrize(
    "text",
    ["", " ", "0", "0.0", "-0", "-0.5", "1.01", "2", "50", "50%", "0,5", "nan", "NaN", "inf", "-inf", "1e999", "1/2",
     "True", "None", "Full", "cheap", "full,fast", "[1.0, 0.5]", "0.5 0.6", "fu\nll"],
)  # fmt: skip
def test_senseless_text_is_refused_in_one_line(text: str) -> None:
    line = refused(parse_budget, text)
    assert repr(text) in line
    assert "'full'" in line


@given(st.text(max_size=8))
@settings(deadline=None, database=None, max_examples=100)
def test_any_text_is_a_budget_or_refused(text: str) -> None:
    try:
        budget = parse_budget(text)
    except BudgetError as error:
        lines = str(error).splitlines()
    else:
        lines = ["a budget"]
        assert budget in ("full", "balanced", "fast") or 0 < budget <= 1
    assert len(lines) == 1
