"""Replacements for the question-answering pipeline of transformers 5.2 and the extractive reader of haystack."""

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
    """Import a replacement at its first use: a user may have the packages that one needs, but not the other."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
