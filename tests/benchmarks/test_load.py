"""What the measurement of load makes of its records: figures, targets, tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.serve import load, load_figures, load_report
from benchmarks.serve.load_client import CLOSED, NO_CONNECTION, UNANSWERED, Exchange, request_bytes
from benchmarks.serve.load_figures import MISPLACED, Capacity, Check, Figures, Step
from benchmarks.serve.load_report import LoadReport
from dynamic_tinybert.squad import Question

TABLE = {
    "full": {"name": "full", "share": 1.0, "f1": 80.0},
    "half": {"name": "half", "share": 0.5, "f1": 78.0},
}
SLO = 200.0


def step(**changes: Any) -> Step:
    """Ten requests, one a second, of which the first two are the warm-up."""
    return replace(
        Step(
            mode="with",
            times=2.0,
            rate=1.0,
            warm_up_s=2.0,
            seconds=8.0,
            configurations=["full", "half"],
            question=list(range(10)),
            due=[1000.0 * i for i in range(10)],
            late=[0.5] * 10,
            took=[100.0] * 10,
            status=[200] * 10,
            configuration=[0] * 10,
            start=[0] * 10,
            length=[5] * 10,
            server_cpu_s=10.0,
            generator_cpu_s=1.0,
            elapsed_s=10.0,
            others_share=0.0,
            command="serve",
            date="2026-11-25",
        ),
        **changes,
    )


def figures(measured: Step, points: float = 1.0, full: float = 1.0) -> Figures:
    answers = {i: points for i in measured.counted if measured.status[i] == 200}
    return load_figures.figures(measured, SLO, answers, dict.fromkeys(range(10), full), TABLE)


def report(*steps: Figures) -> LoadReport:
    return LoadReport(
        command="load.py",
        date="2026-11-25",
        machine={"cpu": "a", "cpu_flags": [], "cores": 2, "memory_bytes": 10**9, "system": "b"},
        versions={"python": "3"},
        seed=0,
        slo_ms=SLO,
        warm_up_s=2,
        seconds=8,
        questions=10,
        info={"measured_on": "dev", "configurations": list(TABLE.values())},
        capacity=Capacity(runs={8: 40.0, 16: 50.0}, seconds=3.0),
        check=Check(compared=10, different=0),
        steps=list(steps),
    )


def test_the_warm_up_does_not_count() -> None:
    x = figures(step(took=[9000.0] * 2 + [100.0] * 8, status=[429] * 2 + [200] * 8))
    assert (x.requests, x.offered, x.refused, x.p99, x.within) == (8, 1.0, 0.0, 100.0, 1.0)


def test_times_are_of_answers_and_a_failure_is_not_within_the_objective() -> None:
    took: list[float | None] = [0, 0, 100, 100, 100, 300, 1, 1, None, 50]
    x = figures(step(took=took, status=[200] * 6 + [429, 429, UNANSWERED, CLOSED]))
    assert (x.p50, x.p99) == (100.0, pytest.approx(float(np.percentile([100, 100, 100, 300], 99))))
    assert (x.accepted, x.refused, x.errors) == (6, 0.25, 2)
    assert x.within == 3 / 6


def test_served_are_the_answers_that_came_while_requests_were_sent() -> None:
    took: list[float | None] = [100, 1500, *[100] * 7, 1500]  # the second came after the warm-up, the last too late
    assert figures(step(took=took)).served == pytest.approx(8 / 8)


def test_what_the_generator_could_not_send_is_an_error_that_is_told_apart() -> None:
    x = figures(step(status=[200] * 9 + [NO_CONNECTION]))
    assert (x.errors, x.no_connection) == (1, 1)


def test_f1_is_of_the_answers_beside_the_same_questions_at_full_and_the_table() -> None:
    x = figures(step(configuration=[1] * 6 + [0] * 4), points=0.5, full=0.75)
    assert (x.f1, x.full_f1, x.drop) == (50.0, 75.0, 25.0)
    assert x.table_drop == pytest.approx(1.0)  # half of them at 2 below full
    assert x.share == pytest.approx(0.75)
    assert x.configurations == {"full": 4, "half": 4}


def test_a_step_without_an_answer_has_figures_too() -> None:
    x = figures(step(status=[429] * 10))
    assert (x.refused, x.p99, x.f1, x.within, x.accepted) == (1.0, None, None, None, 0)
    assert "| 2 | with | 1.0/s | 0.0/s | - | - | - | - | 100.0% |" in load_report.markdown(report(x))


@pytest.mark.parametrize(
    ("measured", "points", "met"),
    [
        (step(configuration=[1] * 10), 0.99, [True, True, True, True]),
        (step(configuration=[1] * 10), 0.97, [True, True, True, False]),
        (step(took=[300.0] * 10), 1.0, [False, True, True, True]),
        (step(status=[200] * 9 + [429]), 1.0, [True, False, True, True]),
        (step(status=[200] * 9 + [500]), 1.0, [False, True, False, True]),
    ],
)
def test_targets_are_met_or_missed(measured: Step, points: float, met: list[bool]) -> None:
    found = report(figures(measured, points))
    assert [x.met() for x in load_report.targets(found)] == met
    assert ("**missed**" in load_report.markdown(found)) is not all(met)


def test_targets_are_judged_at_twice_the_capacity_with_load_control_only() -> None:
    others = [figures(step(mode="without")), figures(step(times=1.0))]
    assert [x.met() for x in load_report.targets(report(*others))] == [None] * 4
    assert "void" in load_report.markdown(report(figures(step(others_share=0.2))))


def test_the_table_sets_both_side_by_side_by_rate() -> None:
    steps = [figures(step(mode=mode, times=times)) for mode in ("without", "with") for times in (2.0, 1.0)]
    lines = load_report.markdown(report(*steps)).splitlines()
    rows = [line.split(" | ")[:2] for line in lines if "/s |" in line]
    assert rows == [["| 1", "with"], ["| 1", "without"], ["| 2", "with"], ["| 2", "without"]]
    json.dumps(load_report.to_dict(report(*steps)), allow_nan=False)


def test_the_picture_is_drawn_where_nothing_was_answered_too(tmp_path: Path) -> None:
    load_report.draw(report(figures(step()), figures(step(mode="without", status=[429] * 10))), tmp_path / "load.png")
    assert (tmp_path / "load.png").stat().st_size > 10_000


def test_arrivals_are_of_the_rate_in_order_and_always_the_same() -> None:
    due = load.arrivals(50.0, 100.0, 0, 25)
    assert due == load.arrivals(50.0, 100.0, 0, 25) != load.arrivals(50.0, 100.0, 1, 25)
    assert due == sorted(due)
    assert 0 < due[0] < due[-1] < 100
    assert len(due) == pytest.approx(5000, rel=0.05)
    assert np.std(np.diff(due)) == pytest.approx(1 / 50, rel=0.1)  # as of a Poisson process


def test_questions_are_asked_again_only_when_all_were() -> None:
    found = load.drawn(10, 25, 0)
    assert sorted(found[:10]) == sorted(found[10:20]) == list(range(10))
    assert len(found) == 25


@pytest.mark.parametrize(
    ("result", "read"),
    [
        ({"answers": [{"text": "Paris", "start": 3, "end": 8}], "configuration": "half"}, (200, 1, 3, 5)),
        ({"answers": [], "configuration": "full"}, (200, 0, 0, 0)),
        ({"answers": [{"text": "Paris", "start": 4, "end": 9}], "configuration": "full"}, (MISPLACED, 0, 0, 0)),
        ({"answers": [], "configuration": "unknown"}, (MISPLACED, -1, 0, 0)),
    ],
)
def test_an_answer_is_read_and_held_against_its_text(result: dict[str, Any], read: tuple[int, ...]) -> None:
    body = json.dumps({"results": [result]}).encode()
    assert load.read_exchange(Exchange(0, 0, status=200, body=body), "In Paris.", ["full", "half"]) == read


def test_a_refusal_is_read_by_its_status_alone() -> None:
    assert load.read_exchange(Exchange(0, 0, status=429, body=b"{"), "In Paris.", ["full"]) == (429, -1, 0, 0)


def test_records_give_the_predictions_back() -> None:
    question = Question(
        id="1",
        title="",
        question="Where?",
        context="In Paris.",
        answers=("Paris",),
        answer_starts=(3,),
        impossible=False,
    )
    measured = step(question=[0] * 10, start=[3] * 10, length=[5] * 9 + [6])
    assert load.answer_points([question], measured) == dict.fromkeys(range(2, 10), 1.0)
    assert load.predicted([question], measured, 9) == "Paris."


def test_a_request_is_whole() -> None:
    head, _, body = request_bytes("Wo?", "In Zürich.").partition(b"\r\n\r\n")
    assert json.loads(body) == {"question": "Wo?", "text": "In Zürich."}
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
