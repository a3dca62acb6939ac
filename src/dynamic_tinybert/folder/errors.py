"""What every part of this room raises."""

from __future__ import annotations

from dynamic_tinybert.errors import DynamicTinyBertError


class ModelFolderError(DynamicTinyBertError, ValueError):
    """A model folder that cannot be read or written: one line, what is wrong and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))
