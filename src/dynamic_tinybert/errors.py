"""The base of this package's errors, warnings that name the caller's line, and checks of numbers."""

from __future__ import annotations

import numbers
import operator
import sys
import warnings
from typing import ClassVar


class DynamicTinyBertError(Exception):
    """The base class of this package's errors. One line says what is wrong, the value, and what to do.

    Attributes:
        misuse: Whether an argument is wrong, not a file or a model. The command line then exits with status 2, not 1.
    """

    misuse: ClassVar[bool] = False


def one_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def warn(message: str) -> None:
    """Warn at the line outside this package that made the call."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def whole_number(value: object, name: str, *, least: int | None = None) -> int:
    """Return an integer of any type as an int.

    Raises:
        ValueError: It is not a whole number, or is less than `least`. The message contains `name`.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"{name} must be a whole number, not {value!r:.50}") from None
    if least is not None and number < least:
        raise ValueError(f"{name} must be at least {least}, not {number}")
    return number


def check_from_one(**values: object) -> None:
    """Raise ValueError if a value is not a whole number of at least 1."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
            raise ValueError(f"{name} must be a whole number from 1, not {value!r:.50}")
