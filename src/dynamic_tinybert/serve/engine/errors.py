"""Errors of the engine."""

from __future__ import annotations

from dynamic_tinybert.errors import DynamicTinyBertError


class TooBusy(DynamicTinyBertError):
    """Too many questions are waiting. There should be room after `retry_after` seconds; `reason` is for the metrics."""

    def __init__(self, reason: str, retry_after: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class TooMuch(DynamicTinyBertError):
    """The texts of a request make too many windows."""


class Stopped(DynamicTinyBertError):
    """The engine has stopped, or the question was cancelled."""
