"""The base of this package's errors, and warnings that name the caller's line."""

from __future__ import annotations

import sys
import warnings
from typing import ClassVar


class DynamicTinyBertError(Exception):
    """What this package raises: one line that says what is wrong, the value, and what to do.

    Attributes:
        misuse: Whether an argument is wrong, not a file or a model: the command line then ends with status 2, not 1.
    """

    misuse: ClassVar[bool] = False


def one_line(error: BaseException) -> str:
    """Return the first line of what an error says, or the name of its class if it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def warn(message: str) -> None:
    """Warn at the first frame that is not of this package."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
