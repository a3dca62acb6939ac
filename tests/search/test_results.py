"""The table, the CSV files and the picture."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from dynamic_tinybert.model import ConfigTable, LengthConfig, ModelShape, dump_table
from dynamic_tinybert.search import ConfirmedConfig, Measurement, make_table, write_results

SHAPE = ModelShape(layers=2, hidden=32, heads=2, feed_forward=64, vocabulary=100, positions=512)


def measurement(share: float, f1: float, cost: float | None = None) -> Measurement:
    return Measurement(exact_match=f1 / 2, f1=f1, share=share, cost=share if cost is None else cost, seconds=1.0)


def candidate(
    kind: str, fractions: tuple[float, float], share: float, f1: float, cost: float | None = None
) -> ConfirmedConfig:
    found = measurement(share, f1, cost)
    return ConfirmedConfig(
        kind=kind, config=LengthConfig(fractions), select=found, confirm=found, chosen=kind in ("search", "full")
    )


FULL = candidate("full", (1.0, 1.0), 1.0, 70.0)
UNIFORM = candidate("uniform", (0.8, 0.64), 0.6, 40.0)
GOOD = candidate("search", (1.0, 0.3), 0.611, 65.0)
CHEAP = candidate("search", (0.4, 0.16), 0.2, 12.0)
BEATEN = candidate("search", (1.0, 0.5), 0.7, 64.9)
EQUAL = candidate("search", (0.9, 0.5), 0.65, 65.0)
ALL = [BEATEN, CHEAP, FULL, EQUAL, GOOD, UNIFORM]


def test_the_table_has_what_confirm_does_not_show_to_be_beaten() -> None:
    table, names = make_table(ALL, "SQuAD 1.1, the 3 questions of x")
    assert table["measured_on"] == "SQuAD 1.1, the 3 questions of x"
    assert [row["name"] for row in table["configs"]] == ["full", "search-0.62", "uniform-0.60", "search-0.20"]
    assert table["configs"][1] == {
        "name": "search-0.62",
        "fractions": [1.0, 0.3],
        "share": 0.611,
        "exact_match": 32.5,
        "f1": 65.0,
    }
    assert names == {
        FULL.config: "full",
        GOOD.config: "search-0.62",
        UNIFORM.config: "uniform-0.60",
        CHEAP.config: "search-0.20",
    }


def test_neighbours_in_a_table_differ_in_what_they_spare() -> None:
    crowd = [candidate("search", (1.0, 0.3 + i / 1000), 0.6 - i / 500, 50.0 - i) for i in range(12)]
    table, _ = make_table([FULL, *crowd], "x")
    shares = [row["share"] for row in table["configs"][1:]]
    assert shares == [0.6, 0.59, 0.58]  # the dearer stays: a budget gives up no F1 for next to nothing


def test_full_stays_even_where_it_is_beaten() -> None:
    better = candidate("search", (1.0, 0.9), 0.95, 71.0)
    table, _ = make_table([FULL, better], "x")
    assert [row["name"] for row in table["configs"]] == ["full", "search-0.95"]


@pytest.mark.parametrize("share", [0.6, 0.6000001, 0.60001, 0.6049, 0.605, 0.9999, 0.29, 0.57])
def test_a_budget_of_the_number_in_a_name_buys_it(share: float) -> None:
    found = candidate("search", (1.0, 0.3), share, 65.0)
    _, names = make_table([FULL, found], "x")
    assert share <= float(names[found.config].removeprefix("search-")) + 5e-5
    assert float(names[found.config].removeprefix("search-")) < share + 0.0101


def test_names_are_never_given_twice() -> None:
    crowd = [candidate("search", (1.0, 0.3 + i / 100), 0.6051 - i / 50, 50.0 - i) for i in range(4)]
    twins = [candidate("uniform", (0.5, 0.1 + i / 10), 0.6, 30.0) for i in range(3)]
    table, names = make_table([FULL, *crowd, *twins], "x")
    assert len({row["name"] for row in table["configs"]}) == len(table["configs"]) == len(names) == 8


def test_latency_decides_where_latency_is_the_cost() -> None:
    quick = candidate("search", (1.0, 0.3), 0.7, 65.0, cost=0.3)
    slow = candidate("search", (1.0, 0.2), 0.6, 64.0, cost=0.5)
    table, _ = make_table([FULL, quick, slow], "x")
    assert [(row["name"], row["share"]) for row in table["configs"]] == [("full", 1.0), ("search-0.70", 0.7)]


def test_a_table_reads_as_the_contract_says_and_keeps_the_calibration() -> None:
    calibration = {"scale": 0.3, "of": "Zürich"}
    before = {"measured_on": "old", "configs": [], "calibration": calibration}
    table, _ = make_table(ALL, "SQuAD 1.1, the 3 questions of 東京", before)
    written = dump_table(table)
    assert json.loads(written) == table
    assert json.loads(written)["calibration"] == calibration
    assert len(written.decode().splitlines()) == 5 + len(table["configs"]) + 1
    read = ConfigTable.read(SHAPE, json.loads(written))
    assert read.measured_on == "SQuAD 1.1, the 3 questions of 東京"
    assert [c.config for c in read.choices if c.name == "full"] == [FULL.config]


def test_what_is_written(tmp_path: Path) -> None:
    table, names = make_table(ALL, "x")
    unmeasured = ConfirmedConfig(
        kind="uniform", config=LengthConfig((0.5, 0.25)), select=None, confirm=measurement(0.3, 9.0), chosen=False
    )
    trials = [
        {
            "number": 0,
            "state": "complete",
            "name": "full",
            "fractions": [1.0, 0.3],
            "copied": False,
            **measurement(1, 70).to_dict(),
        },
        {"number": 1, "state": "running", "name": ""},
    ]
    write_results(tmp_path, table=table, names=names, candidates=[*ALL, unmeasured], trials=trials, cost="share")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "front.csv",
        "front.png",
        "length_configs.json",
        "trials.csv",
    ]
    with (tmp_path / "trials.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first["fractions"] == "1 0.3"
    assert float(first["f1"]) == 70
    assert second["state"] == "running"
    assert second["f1"] == second["fractions"] == ""
    with (tmp_path / "front.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7
    assert [row["name"] for row in rows if row["name"]] == [row["name"] for row in table["configs"]]
    assert {row["fractions"]: row["confirm_f1"] for row in rows}["1 0.5"] == "64.9"
    assert {row["fractions"]: row["select_f1"] for row in rows}["0.5 0.25"] == ""
    picture = (tmp_path / "front.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000


def test_the_picture_of_a_front_of_one_can_be_drawn(tmp_path: Path) -> None:
    table, names = make_table([FULL], "x")
    write_results(tmp_path, table=table, names=names, candidates=[FULL], trials=[], cost="latency")
    assert (tmp_path / "front.png").stat().st_size > 5_000
