"""Why the engine does not answer."""

from __future__ import annotations

from dynamic_tinybert.errors import DynamicTinyBertError


class TooBusy(DynamicTinyBertError):
    """More waits than may; `retry_after` seconds from now there should be room, and `reason` is for the metrics."""

    def __init__(self, reason: str, retry_after: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class TooMuch(DynamicTinyBertError):
    """The texts of a request are longer than may be predicted at once."""


class Stopped(DynamicTinyBertError):
    """The engine is at its end, or the question was cancelled."""
