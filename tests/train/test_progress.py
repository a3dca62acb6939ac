"""What a run shows while it works."""

from __future__ import annotations

import re

import pytest

from dynamic_tinybert.train import progress
from dynamic_tinybert.train.progress import Reporter
from support.clock import Time


class Clock(Time):
    """A clock whose hours and minutes are the seconds from now."""

    def time(self) -> float:
        return self.now

    def localtime(self, seconds: float) -> float:
        return seconds

    def strftime(self, form: str, at: float | None = None) -> str:
        return f"+{(at or self.now) - self.now:.0f}s"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(progress, "time", fake)
    return fake


def seconds_left(capsys: pytest.CaptureFixture[str]) -> float | None:
    """The seconds until the end, as the last line since the last call has them; None if there was no line."""
    lines = capsys.readouterr().err.splitlines()
    if not lines:
        return None
    found = re.search(r"ends about \+(\d+)s", lines[-1])
    assert found is not None
    return float(found[1])


def test_bar_says_when_work_ends_by_its_pace(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter().bar("work") as bar:
        for step in range(201):  # ten seconds each, of a thousand
            bar.update(step / 1000)
            clock.now += 10
    assert seconds_left(capsys) == pytest.approx(8000, rel=0.02)


@pytest.mark.parametrize("stop", [3600, 86400])
def test_bar_after_the_process_was_stopped_says_the_end_by_its_pace_again(
    stop: float, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Reporter().bar("work") as bar:
        for step in range(301):
            bar.update(step / 1000)
            clock.now += 10 + (stop if step == 50 else 0)
    assert seconds_left(capsys) == pytest.approx(7000, rel=0.02)


def test_bar_counts_evaluations_evenly(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter().bar("work") as bar:
        for step in range(601):
            bar.update(step / 1000)
            clock.now += 10 + (120 if step % 60 == 59 else 0)  # two minutes of evaluation after ten of work
            if step > 300 and (left := seconds_left(capsys)) is not None:
                assert left == pytest.approx((1000 - step) * 12, rel=0.12)


def test_bar_of_a_resumed_run_counts_only_what_it_did_itself(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter().bar("work") as bar:
        for step in range(500, 600):
            bar.update(step / 1000)
            clock.now += 10
    assert seconds_left(capsys) == pytest.approx(4000, rel=0.05)


def test_bar_that_cannot_know_its_pace_says_no_end(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter().bar("work") as bar:
        for _ in range(100):
            bar.update(0.25, "epoch 1")
            clock.now += 10
    assert capsys.readouterr().err.splitlines()[-1].endswith("work: 25%, epoch 1")
