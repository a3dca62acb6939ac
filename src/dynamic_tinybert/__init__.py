"""Extractive question answering at any computational budget.

>>> from dynamic_tinybert import QuestionAnswerer
>>> qa = QuestionAnswerer()
>>> qa("Where is the tower?", "The tower stands in Paris.").text
'Paris'
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynamic_tinybert.answer import Answer, Spent
    from dynamic_tinybert.compat import QuestionAnsweringPipeline, pipeline
    from dynamic_tinybert.corpus import (
        Corpus,
        CorpusAnswer,
        CorpusError,
        FileAnswer,
        PassageAnswer,
        ask_files,
        ask_passages,
    )
    from dynamic_tinybert.errors import DynamicTinyBertError
    from dynamic_tinybert.folder import ModelFolderError
    from dynamic_tinybert.inference import WindowError
    from dynamic_tinybert.model import Budget, BudgetError, LengthConfig
    from dynamic_tinybert.qa import QuestionAnswerer

    __version__: str

# ONNX Runtime, since 1.29, writes an id of this machine and reports its use, unless this is set before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "Answer": "answer",
    "Budget": "model",
    "BudgetError": "model",
    "Corpus": "corpus",
    "CorpusAnswer": "corpus",
    "CorpusError": "corpus",
    "DynamicTinyBertError": "errors",
    "FileAnswer": "corpus",
    "LengthConfig": "model",
    "ModelFolderError": "folder",
    "PassageAnswer": "corpus",
    "QuestionAnswerer": "qa",
    "QuestionAnsweringPipeline": "compat",
    "Spent": "answer",
    "WindowError": "inference",
    "ask_files": "corpus",
    "ask_passages": "corpus",
    "pipeline": "compat",
}

__all__ = [
    "Answer",
    "Budget",
    "BudgetError",
    "Corpus",
    "CorpusAnswer",
    "CorpusError",
    "DynamicTinyBertError",
    "FileAnswer",
    "LengthConfig",
    "ModelFolderError",
    "PassageAnswer",
    "QuestionAnswerer",
    "QuestionAnsweringPipeline",
    "Spent",
    "WindowError",
    "__version__",
    "ask_files",
    "ask_passages",
    "pipeline",
]


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, so that importing the package is fast."""
    if name == "__version__":
        return _version()
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def _version() -> str:
    """Return the version of the installed distribution, which comes from the tags of the repository."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("dynamic-tinybert")
    except PackageNotFoundError:  # the files are on the path, but not installed
        return "0.0"


def __dir__() -> list[str]:
    return sorted(__all__)
