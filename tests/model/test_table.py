"""The table of a model's length configurations, and what a budget buys in it."""

from __future__ import annotations

import json
import math
import warnings
from typing import Any

import numpy as np
import pytest

from dynamic_tinybert.model import (
    BudgetError,
    ConfigTable,
    LengthConfig,
    ModelShape,
    dump_table,
    share,
)
from support.budgets import refused

TINY = ModelShape(layers=2, hidden=2, heads=1, feed_forward=3, vocabulary=10, positions=512)


def bert(layers: int) -> ModelShape:
    return ModelShape(layers=layers, hidden=64, heads=4, feed_forward=256, vocabulary=100, positions=512)


# Tables.


def table_json(*rows: tuple[str, tuple[float, ...], float], **more: Any) -> dict[str, Any]:
    configs = [{"name": name, "fractions": list(f), "exact_match": f1 - 8, "f1": f1} for name, f, f1 in rows]
    return {"configs": configs, "measured_on": "SQuAD 1.1 dev", **more}


FULL = ("full", (1.0, 1.0), 88.0)
LATE = ("late", (1.0, 0.5), 87.5)
HALF = ("half", (0.6, 0.4), 87.0)
WORSE = ("worse", (0.7, 0.5), 84.0)  # dearer than half and worse: not Pareto-optimal
THIRD = ("third", (0.4, 0.2), 85.0)
LEAST = ("least", (0.2, 0.1), 60.0)
ROWS = (FULL, LATE, HALF, WORSE, THIRD, LEAST)


@pytest.fixture
def table() -> ConfigTable:
    return ConfigTable.read(TINY, table_json(*ROWS))


def cost(row: tuple[str, tuple[float, ...], float]) -> float:
    return share(TINY, LengthConfig(row[1]))


def test_a_table_comes_from_json_the_dearest_first() -> None:
    text = json.dumps(table_json(LEAST, FULL, HALF, THIRD))
    table = ConfigTable.read(TINY, json.loads(text))
    assert [choice.name for choice in table.choices] == ["full", "half", "third", "least"]
    assert table.measured_on == "SQuAD 1.1 dev"
    half = table.choices[1]
    assert half.config == LengthConfig((0.6, 0.4))
    assert (half.exact_match, half.f1) == (79.0, 87.0)
    assert half.share == pytest.approx(cost(HALF))


def test_what_else_a_table_holds_is_left_alone() -> None:
    value = table_json(*ROWS, calibration={"scale": 1.0}, note="a note")
    value["configs"][0]["seconds"] = 3.5
    assert len(ConfigTable.read(TINY, value).choices) == len(ROWS)


def test_whole_numbers_are_numbers_too() -> None:
    row = {"name": "full", "fractions": [1, 1], "exact_match": 80, "f1": 88}
    table = ConfigTable.read(TINY, {"configs": [row], "measured_on": "dev"})
    assert table.select(TINY, "full").f1 == 88.0


def broken(**changes: Any) -> dict[str, Any]:
    """A sound table but for one row."""
    value = table_json(FULL, HALF)
    value["configs"][1].update(changes)
    return value


def without(key: str) -> dict[str, Any]:
    value = broken()
    del value["configs"][1][key]
    return value


MALFORMED = {
    "a list": [],
    "text": "configs",
    "a number": 5,
    "empty": {},
    "no measured_on": {"configs": table_json(FULL)["configs"]},
    "configs null": {"configs": None, "measured_on": "dev"},
    "configs a number": {"configs": 3, "measured_on": "dev"},
    "configs an object": {"configs": {"full": [1, 1]}, "measured_on": "dev"},
    "configs of text": {"configs": ["full"], "measured_on": "dev"},
    "configs of null": {"configs": [None], "measured_on": "dev"},
    "configs of lists": {"configs": [[1, 1]], "measured_on": "dev"},
    "no configs": {"configs": [], "measured_on": "dev"},
    "no full": table_json(HALF, LEAST),
    "no name": without("name"),
    "no fractions": without("fractions"),
    "no f1": without("f1"),
    "no exact_match": without("exact_match"),
    "fractions null": broken(fractions=None),
    "fractions a number": broken(fractions=0.5),
    "fractions of text": broken(fractions=["a", "b"]),
    "fractions of lists": broken(fractions=[[1], [1]]),
    "fractions of null": broken(fractions=[None, None]),
    "fractions an object of names": broken(fractions={"a": 1, "b": 1}),
    "no fraction": broken(fractions=[]),
    "too few fractions": broken(fractions=[1.0]),
    "too many fractions": broken(fractions=[1.0, 0.5, 0.5]),
    "growing fractions": broken(fractions=[0.5, 0.6]),
    "a fraction of 0": broken(fractions=[0.5, 0]),
    "a fraction above 1": broken(fractions=[384, 200]),
    "a negative fraction": broken(fractions=[1, -1]),
    "a fraction of NaN": broken(fractions=[1, math.nan]),
    "a fraction of infinity": broken(fractions=[math.inf, 1]),
    "f1 null": broken(f1=None),
    "f1 of text": broken(f1="high"),
    "f1 a list": broken(f1=[88]),
    "f1 above 100": broken(f1=100.5),
    "f1 below 0": broken(f1=-0.5),
    "f1 NaN": broken(f1=math.nan),
    "f1 infinite": broken(f1=math.inf),
    "exact_match null": broken(exact_match=None),
    "exact_match above 100": broken(exact_match=101),
    "exact_match below 0": broken(exact_match=-1),
    "exact_match NaN": broken(exact_match=math.nan),
}


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_table_is_refused_in_one_line(value: Any) -> None:
    assert "length_configs.json" in refused(ConfigTable.read, TINY, value)


MISTAKABLE = {
    "measured_on null": table_json(FULL, measured_on=None),
    "measured_on empty": table_json(FULL, measured_on=""),
    "fractions one text": broken(fractions="11"),
    "name null": broken(name=None),
    "f1 true": broken(f1=True),
    "a huge fraction": broken(fractions=[10**400, 1]),
    "a huge f1": broken(f1=10**400),
}


@pytest.mark.parametrize("value", MISTAKABLE.values(), ids=MISTAKABLE)
def test_other_malformed_tables_are_refused_in_one_line(value: Any) -> None:
    assert "length_configs.json" in refused(ConfigTable.read, TINY, value)


def test_the_line_names_what_is_wrong() -> None:
    assert "'f1'" in refused(ConfigTable.read, TINY, without("f1"))
    assert "'half'" in refused(ConfigTable.read, TINY, broken(fractions=[1.0]))
    assert "'half'" in refused(ConfigTable.read, TINY, broken(f1=101))


# What a budget buys.


def test_a_number_buys_the_most_accurate_that_costs_no_more(table: ConfigTable) -> None:
    assert table.select(TINY, cost(LATE)).name == "late"
    assert table.select(TINY, cost(LATE) - 1e-4).name == "half"
    assert table.select(TINY, cost(HALF)).name == "half"
    assert table.select(TINY, cost(HALF) - 1e-4).name == "third"
    assert table.select(TINY, cost(THIRD)).name == "third"


def test_a_dearer_configuration_that_is_worse_is_never_bought(table: ConfigTable) -> None:
    assert cost(HALF) < cost(WORSE) < cost(LATE)
    assert table.select(TINY, cost(WORSE)).name == "half"
    bought = {table.select(TINY, budget / 1000).name for budget in range(1, 1001)}
    assert bought == {"full", "late", "half", "third", "least"}


def test_below_the_cheapest_comes_the_cheapest(table: ConfigTable) -> None:
    assert table.select(TINY, cost(LEAST)).name == "least"
    for budget in (cost(LEAST) / 2, 0.001, 5e-324):
        assert table.select(TINY, budget).name == "least"


def test_the_cheapest_is_by_cost_even_where_a_dearer_one_is_as_good() -> None:
    table = ConfigTable.read(TINY, table_json(FULL, ("a", (0.9, 0.9), 80.0), ("b", (0.5, 0.5), 80.0)))
    assert table.select(TINY, 0.99).name == "b"
    assert table.select(TINY, 1e-6).name == "b"


def test_what_was_bought_says_what_it_costs(table: ConfigTable) -> None:
    choice = table.select(TINY, 0.6)
    assert 0 < choice.share <= 0.6
    assert choice.share == share(TINY, choice.config)


def test_full_is_full(table: ConfigTable) -> None:
    for budget in ("full", 1, 1.0):
        assert table.select(TINY, budget).config == LengthConfig.full(2)
        assert table.select(TINY, budget).share == 1.0


def test_a_budget_of_one_buys_the_most_accurate_even_if_that_drops_tokens() -> None:
    table = ConfigTable.read(TINY, table_json(FULL, ("better", (1.0, 0.5), 88.4)))
    assert table.select(TINY, "full").name == "full"
    assert table.select(TINY, 0.999).name == "better"
    assert table.select(TINY, 1.0).name == "better"


def test_balanced_and_fast_buy_the_cheapest_within_1_and_3_f1(table: ConfigTable) -> None:
    assert table.select(TINY, "balanced").name == "half"  # 87.0: within 1 of 88.0, the bound included
    assert table.select(TINY, "fast").name == "third"  # 85.0


def test_balanced_and_fast_are_full_where_nothing_else_is_near() -> None:
    table = ConfigTable.read(TINY, table_json(FULL, LEAST))
    assert table.select(TINY, "balanced").name == "full"
    assert table.select(TINY, "fast").name == "full"


def test_named_budgets_pass_over_what_is_not_pareto_optimal() -> None:
    table = ConfigTable.read(TINY, table_json(FULL, ("cheap and better", (0.5, 0.1), 88.5), ("mid", (0.9, 0.9), 87.9)))
    assert table.select(TINY, "balanced").name == "cheap and better"
    assert table.select(TINY, 0.95).name == "cheap and better"


def test_figures_of_two_decimals_that_differ_by_3_are_within_3() -> None:
    table = ConfigTable.read(TINY, table_json(("full", (1.0, 1.0), 66.98), ("b", (0.5, 0.5), 63.98)))
    assert table.select(TINY, "fast").name == "b"


def test_a_configuration_buys_itself(table: ConfigTable) -> None:
    measured = table.select(TINY, LengthConfig((0.6, 0.4)))
    assert (measured.name, measured.f1) == ("half", 87.0)
    own = table.select(TINY, LengthConfig((0.9, 0.3)))
    assert own.config == LengthConfig((0.9, 0.3))
    assert own.share == pytest.approx(share(TINY, own.config))
    assert own.f1 is None
    assert own.exact_match is None


@pytest.mark.parametrize("fractions", [(1.0,), (1.0, 1.0, 1.0), (0.5,) * 6])
def test_a_configuration_for_another_number_of_layers_is_refused(
    table: ConfigTable, fractions: tuple[float, ...]
) -> None:
    line = refused(table.select, TINY, LengthConfig(fractions))
    assert str(len(fractions)) in line
    assert "2 layers" in line


SENSELESS = [
    math.nan, 0, 0.0, -0.0, -0.5, -1, 1.0000001, 2, 100, math.inf, -math.inf, 10**400, True, False,
    "", "0.5", "Full", "FAST", "cheap", "full ", "fu\nll", None, [], [0.5], (1.0, 0.5), {}, b"full", 1j, np.bool_(True),
]  # fmt: skip


@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.parametrize("budget", SENSELESS, ids=repr)
def test_a_senseless_budget_is_refused_in_one_line(budget: Any, measured: bool) -> None:
    table = ConfigTable.read(TINY, table_json(*ROWS) if measured else None)
    line = refused(table.select, TINY, budget)
    assert repr(budget)[:50] in line
    assert "'full'" in line


def test_budget_errors_are_value_errors() -> None:
    assert issubclass(BudgetError, ValueError)


# Models without a table.


@pytest.mark.parametrize("layers", [1, 2, 6, 12])
def test_a_model_without_a_table_gets_a_geometric_series(layers: int) -> None:
    shape = bert(layers)
    table = ConfigTable.read(shape, None)
    assert table.measured_on is None
    assert table.choices[0].config == LengthConfig.full(layers)
    shares = [choice.share for choice in table.choices]
    assert shares == sorted(shares, reverse=True)
    assert len(shares) > 10
    for choice in table.choices:
        assert choice.f1 is None
        assert choice.exact_match is None
        first = choice.config.fractions[0]
        assert choice.config.fractions == pytest.approx([first ** (i + 1) for i in range(layers)], abs=1e-5)


@pytest.mark.parametrize("layers", [16, 24])
def test_a_deep_model_without_a_table_gets_a_geometric_series(layers: int) -> None:
    assert ConfigTable.read(bert(layers), None).choices[0].config == LengthConfig.full(layers)


def test_a_budget_buys_the_dearest_affordable_of_a_series_that_nobody_measured() -> None:
    shape = bert(6)
    table = ConfigTable.read(shape, None)
    with pytest.warns(UserWarning, match="length_configs.json"):
        choice = table.select(shape, 0.5)
    assert choice.share <= 0.5
    assert not [other for other in table.choices if choice.share < other.share <= 0.5]
    assert choice.share > 0.4  # the series is fine enough to spend what may be spent
    assert table.select(shape, 1e-6) is min(table.choices, key=lambda c: c.share)


@pytest.mark.parametrize("first", [0.5, "balanced", "fast"])
def test_a_table_that_nobody_measured_warns_exactly_once(first: Any) -> None:
    shape = bert(2)
    table = ConfigTable.read(shape, None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for budget in (first, 0.3, "balanced", "fast", 0.7, first, 0.001):
            table.select(shape, budget)
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)


def test_each_model_has_a_warning_of_its_own() -> None:
    shape = bert(2)
    for _ in range(2):
        with pytest.warns(UserWarning, match="unknown"):
            ConfigTable.read(shape, None).select(shape, 0.5)


def test_who_spends_all_or_says_how_is_not_warned() -> None:
    shape = bert(2)
    table = ConfigTable.read(shape, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table.select(shape, "full")
        table.select(shape, 1.0)
        table.select(shape, LengthConfig((0.5, 0.5)))


def test_a_measured_table_never_warns(table: ConfigTable) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for budget in ("full", "balanced", "fast", 0.3, 1.0, LengthConfig((0.5, 0.5))):
            table.select(TINY, budget)


def test_named_budgets_of_a_table_that_nobody_measured_are_full() -> None:
    shape = bert(2)
    table = ConfigTable.read(shape, None)
    with pytest.warns(UserWarning, match="length_configs.json"):
        assert table.select(shape, "balanced").config == LengthConfig.full(2)
    assert table.select(shape, "fast").config == LengthConfig.full(2)


# The no-answer threshold.


@pytest.mark.parametrize("precision", [None, "fp32", "int8"])
def test_a_table_says_in_which_precision_it_was_measured(precision: Any) -> None:
    said = {} if precision is None else {"precision": precision}
    assert ConfigTable.read(TINY, table_json(FULL, **said)).precision == (precision or "fp32")


@pytest.mark.parametrize("precision", ["fp16", 8, None, ["int8"]])
def test_an_unknown_precision_is_refused_in_one_line(precision: Any) -> None:
    with pytest.raises(BudgetError, match="precision must be 'fp32' or 'int8', not "):
        ConfigTable.read(TINY, table_json(FULL, precision=precision))


def test_a_threshold_stands_beside_the_table() -> None:
    assert ConfigTable.read(TINY, table_json(FULL)).no_answer_threshold is None
    assert ConfigTable.read(TINY, None).no_answer_threshold is None
    for value in (-13.5, 0, 2):
        stored = {**table_json(FULL), "no_answer": {"threshold": value, "measured_on": "x", "f1": 60.0}}
        table = ConfigTable.read(TINY, stored)
        assert (table.no_answer_threshold, table.measured_on) == (value, table_json(FULL)["measured_on"])
        assert json.loads(dump_table(stored)) == stored


@pytest.mark.parametrize(
    "value",
    [[], 3, {"length": 3}, *({"max_seq_len": x} for x in (0, -1, True, 1.5, "256", None, 10**30)), {"doc_stride": -1}],
    ids=repr,
)
def test_senseless_windows_are_refused_in_one_line(value: Any) -> None:
    for table in ({"windows": value}, {**table_json(FULL), "windows": value}):
        assert "windows" in refused(ConfigTable.read, TINY, table)


def test_a_threshold_has_a_name() -> None:
    both = ConfigTable.read(TINY, {"no_answer": {"threshold": -3.0, "squad2": {"threshold": -12, "f1": 60.0}}})
    assert [both.threshold(given) for given in (None, "squad2", 4, 0)] == [-3.0, -12.0, 4.0, 0.0]
    one = ConfigTable.read(TINY, {"no_answer": {"threshold": -3.0}})  # as earlier versions wrote it
    assert [one.threshold(given) for given in (None, "squad2")] == [-3.0, -3.0]
    assert [ConfigTable.read(TINY, None).threshold(given) for given in (None, "squad2")] == [0.0, 0.0]
    assert "must be 'squad2' or a difference of logits" in refused(both.threshold, "squad")


@pytest.mark.parametrize("key", ["no_answer", "calibration"])
def test_a_file_without_a_table_is_a_table_that_nobody_measured(key: str) -> None:
    stored = {key: {"threshold": -3.0, "measured_on": "Łódź"}}
    table, bare = ConfigTable.read(TINY, stored), ConfigTable.read(TINY, None)
    assert (table.choices, table.measured_on) == (bare.choices, None)
    assert table.no_answer_threshold == (-3.0 if key == "no_answer" else None)
    assert json.loads(dump_table(stored)) == stored


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        "none",
        3,
        {"threshold": None},
        *({"threshold": 0, "squad2": x} for x in (3, "0", {}, {"threshold": None})),
        *({"threshold": x} for x in ("0", True, [1], math.nan, math.inf, 10**400)),
    ],
    ids=repr,
)
def test_a_senseless_threshold_is_refused_in_one_line(value: Any) -> None:
    for table in ({"no_answer": value}, {**table_json(FULL), "no_answer": value}):
        assert "length_configs.json: no_answer" in refused(ConfigTable.read, TINY, table)
