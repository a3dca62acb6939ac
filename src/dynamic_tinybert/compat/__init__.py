"""Doors for code that was written for others: the pipeline of transformers 5.2, and haystack's reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynamic_tinybert.compat.haystack import ExtractiveReader
    from dynamic_tinybert.compat.transformers import QuestionAnsweringPipeline, pipeline

_HOMES = {
    "ExtractiveReader": "haystack",
    "QuestionAnsweringPipeline": "transformers",
    "pipeline": "transformers",
}

__all__ = ["ExtractiveReader", "QuestionAnsweringPipeline", "pipeline"]


def __getattr__(name: str) -> Any:
    """Import a door when it is asked for: whoever has one has not what another needs."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
