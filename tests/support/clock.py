"""A clock that a test moves, in place of the module `time`."""

from __future__ import annotations


class Time:
    """`monotonic` says what the test set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now
