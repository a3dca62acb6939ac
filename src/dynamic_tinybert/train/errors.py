"""The error that training raises."""

from __future__ import annotations

from dynamic_tinybert.errors import DynamicTinyBertError


class TrainingError(DynamicTinyBertError, ValueError):
    """A training run cannot start or continue; the message says in one line what is wrong and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
