"""Components for other frameworks: transformers 5.2's pipeline, haystack's reader, LangChain and LlamaIndex."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynamic_tinybert.compat.haystack import ExtractiveReader
    from dynamic_tinybert.compat.langchain import AnswerCompressor, DocumentAnswer, DocumentAnswerer
    from dynamic_tinybert.compat.llama_index import AnswerRerank, AnswerSynthesizer
    from dynamic_tinybert.compat.transformers import QuestionAnsweringPipeline, pipeline

_HOMES = {
    "AnswerCompressor": "langchain",
    "AnswerRerank": "llama_index",
    "AnswerSynthesizer": "llama_index",
    "DocumentAnswer": "langchain",
    "DocumentAnswerer": "langchain",
    "ExtractiveReader": "haystack",
    "QuestionAnsweringPipeline": "transformers",
    "pipeline": "transformers",
}

__all__ = [
    "AnswerCompressor",
    "AnswerRerank",
    "AnswerSynthesizer",
    "DocumentAnswer",
    "DocumentAnswerer",
    "ExtractiveReader",
    "QuestionAnsweringPipeline",
    "pipeline",
]


def __getattr__(name: str) -> Any:
    """Import a component at its first use: a user may have the packages that one needs, but not the other."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
