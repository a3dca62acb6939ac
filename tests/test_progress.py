"""The progress bar, on a terminal and elsewhere."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from dynamic_tinybert.progress import progress_bar
from dynamic_tinybert.train import Reporter


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Let standard error be a terminal, and return what is written on it. pytest replaces it before each test."""
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return screen


def test_progress_bar_on_a_terminal_counts_units_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    with progress_bar("searching", "trials") as move:
        assert move is not None
        move(1_500, 3_000, ", best F1 88.00")
    assert "searching" in terminal.getvalue()
    assert "1,500 of 3,000 trials, best F1 88.00" in terminal.getvalue()


def test_progress_bar_without_a_unit_shows_a_percentage(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    with progress_bar("teacher", None, console=Console(stderr=True, force_terminal=True)) as move:
        assert move is not None
        move(0.25, 1, "epoch 0.50")
    assert " 25%" in terminal.getvalue()
    assert "epoch 0.50" in terminal.getvalue()


@pytest.mark.parametrize("show", [True, False])
def test_progress_bar_elsewhere_is_not_shown(capsys: pytest.CaptureFixture[str], show: bool) -> None:
    with progress_bar("searching", "trials", show=show) as move:
        assert move is None
    assert capsys.readouterr() == ("", "")


def test_reporter_on_a_terminal_says_lines_above_its_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    reporter = Reporter()
    with reporter.bar("features") as bar:
        bar.update(0.5, "half")
        reporter.say("12 features of 3 questions")
    assert "features" in terminal.getvalue()
    assert " 50%" in terminal.getvalue()
    assert "12 features of 3 questions" in terminal.getvalue()


def test_reporter_elsewhere_prints_lines_with_the_time(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter()
    with reporter.bar("features") as bar:
        bar.update(0.5)
        reporter.say("12 features")
    assert capsys.readouterr().err.endswith(" 12 features\n")
    Reporter(quiet=True).say("nothing")
    assert capsys.readouterr().err == ""
