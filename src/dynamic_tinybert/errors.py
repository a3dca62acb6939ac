"""Warnings that name the caller's line, however deep in this package they arise."""

from __future__ import annotations

import sys
import warnings


def warn(message: str) -> None:
    """Warn at the first frame that is not of this package."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
