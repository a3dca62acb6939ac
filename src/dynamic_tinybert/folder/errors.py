"""The error of a model folder."""

from __future__ import annotations

from dynamic_tinybert.errors import DynamicTinyBertError


class ModelFolderError(DynamicTinyBertError, ValueError):
    """A model folder cannot be read or written. One line says what is wrong and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))
