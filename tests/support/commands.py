"""What the tests of the commands share."""

from __future__ import annotations

import signal

from typer.testing import Result


def complaint(result: Result, status: int = 1) -> str:
    """The one line that an error is."""
    assert result.exit_code == status, (result.stdout, result.stderr)
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("dynamic-tinybert: error: ")
    return lines[0]


def heed_interrupts() -> None:
    """Let a child process be interrupted, even if the tests run in a background that ignores it, as some CI does."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
