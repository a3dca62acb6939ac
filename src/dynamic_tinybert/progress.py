"""The progress bar of the commands and of training."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@contextlib.contextmanager
def progress_bar(
    label: str, unit: str | None, *, show: bool = True, console: Console | None = None
) -> Iterator[Callable[..., None] | None]:
    """Show a progress bar on standard error, if that is a terminal, and yield the function that updates it.

    The function takes the amount done, the total, and optionally a note. Without a bar, None is yielded.

    Args:
        label: The name of the work.
        unit: The unit of the count. None shows a percentage instead, and no remaining time: the note can say it.
        show: Whether to show the bar.
        console: The console to draw on.
    """
    if not show or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        (TaskProgressColumn(), TimeElapsedColumn(), TextColumn("{task.fields[note]}"))
        if unit is None
        else (
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} {task.fields[unit]}{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
    )
    described = TextColumn("{task.description}"), BarColumn()
    with Progress(*described, *columns, console=console or Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=1, unit=unit, note="")
        yield lambda done, total, note="": bar.update(task, completed=done, total=max(total, 1), note=note)
