"""Errors of the engine."""

from __future__ import annotations

from dynamic_tinybert.errors import DynamicTinyBertError

_REASONS = {
    "waiting": "as many questions as the server allows are waiting",
    "objective": "the server could not answer in its time limit, even with its cheapest configuration",
    "pages": "as many pages as the server allows are waiting",
}


class TooBusy(DynamicTinyBertError):
    """A question cannot be accepted now. There should be room after `retry_after` seconds.

    Attributes:
        reason: The reason: `waiting` or `objective`, which the metrics count; or `pages`.
    """

    def __init__(self, reason: str, retry_after: int) -> None:
        super().__init__(_REASONS[reason])
        self.reason = reason
        self.retry_after = retry_after


class TooMuch(DynamicTinyBertError):
    """The texts of a request make too many windows."""


class Stopped(DynamicTinyBertError):
    """The engine has stopped, or the question was cancelled."""
