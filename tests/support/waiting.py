"""Waiting in tests for what comes at once, unless the machine is slow."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

WAIT_S = 20


def eventually(what: Callable[[], Any]) -> bool:
    """Whether something comes true."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.005)
    return False
