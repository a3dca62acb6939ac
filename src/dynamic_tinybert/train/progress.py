"""Show the progress of a run: a bar on a terminal, otherwise a line every minute."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerState, TrainingArguments

from dynamic_tinybert.progress import progress_bar

if TYPE_CHECKING:
    from rich.console import Console

_EVERY = 60.0  # seconds between two lines
# Seconds whose pace says when work ends: a process may have been stopped before, or slowed. Long enough for evaluations
# every ten minutes to count evenly.
_RECENT = 1800.0
_POINT = 5.0  # seconds between the points by which the pace is known


class Reporter:
    """Report the progress of a run on standard error.

    Args:
        quiet: Print nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self.console: Console | None = None  # only on a terminal
        if sys.stderr.isatty() and not quiet:
            from rich.console import Console

            self.console = Console(stderr=True)

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        if self._quiet:
            return
        if self.console is not None:
            self.console.print(line, highlight=False, markup=False)
        else:
            print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)

    def bar(self, label: str) -> Bar:
        """Return a bar; it is shown once it is entered as a context manager."""
        return Bar(label, self)


class Bar:
    """Show the share of a piece of work that is done, and its expected end."""

    def __init__(self, label: str, reporter: Reporter) -> None:
        self._label = label
        self._reporter = reporter
        self._said = time.monotonic()
        self._points: deque[tuple[float, float]] = deque()  # of time and share done
        self._shown = progress_bar(label, None, show=reporter.console is not None, console=reporter.console)
        self._move: Callable[..., None] | None = None

    def __enter__(self) -> Bar:
        self._move = self._shown.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._shown.__exit__(*raised)

    def update(self, done: float, note: str = "") -> None:
        """Show the share that is done, in [0, 1], with a note."""
        now = time.monotonic()
        points = self._points
        while len(points) > 1 and now - points[0][0] > _RECENT:
            points.popleft()
        if not points or now - points[-1][0] >= _POINT:
            points.append((now, done))
        began, first = points[0]
        end = ""
        if done - first > 0.0002 and now - began > 2:
            left = (now - began) / (done - first) * (1 - done)
            form = "%H:%M" if left < 43200 else "%a %H:%M"
            end = f"ends about {time.strftime(form, time.localtime(time.time() + left))}"
        words = ", ".join(word for word in (note, end) if word)
        if self._move is not None:
            self._move(done, 1, words)
        elif now - self._said >= _EVERY:
            self._said = now
            self._reporter.say(f"{self._label}: {done:.0%}" + (f", {words}" if words else ""))


class ShowProgress(TrainerCallback):  # type: ignore[misc]
    """Update a stage's bar."""

    def __init__(self, bar: Bar, reporter: Reporter, label: str) -> None:
        self._bar = bar
        self._reporter = reporter
        self._label = label
        self.share_done: Callable[[], float] = lambda: 0.0
        self._loss: float | None = None

    def on_log(self, _args: TrainingArguments, state: TrainerState, _control: Any, logs: Any = None, **_: Any) -> None:
        """Keep the loss, and report the figures of an evaluation."""
        if not logs:
            return
        self._loss = logs.get("loss", self._loss)
        if "eval_f1" in logs:
            figures = " ".join(
                f"{name[5:]} {logs[name]:.2f}" for name in logs if name.startswith("eval_") and name != "eval_score"
            )
            loss = "" if self._loss is None else f", loss {self._loss:.3f}"
            self._reporter.say(
                f"{self._label}: step {state.global_step}, epoch {state.epoch:.2f}{loss}; select {figures}"
            )

    def on_step_end(self, _args: TrainingArguments, state: TrainerState, _control: Any, **_: Any) -> None:
        """Update the bar."""
        note = f"epoch {state.epoch:.2f}" + ("" if self._loss is None else f", loss {self._loss:.3f}")
        self._bar.update(self.share_done(), note)
