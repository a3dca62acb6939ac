"""Data that the project does not carry, in the folder that an environment variable names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

VARIABLE = "DYNAMIC_TINYBERT_DATA"
SQUAD = Path(os.environ.get(VARIABLE, ""), "squad")

_Test = TypeVar("_Test", bound=Callable[..., None])


def needs_squad(test: _Test) -> _Test:
    """Mark a test that reads files of `SQUAD`, and skip it if the variable is not set."""
    reason = f"{VARIABLE} is not set: it names the folder that holds squad/"
    marked: _Test = pytest.mark.data(pytest.mark.skipif(not os.environ.get(VARIABLE), reason=reason)(test))
    return marked
