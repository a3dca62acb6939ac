"""Answer questions from a corpus: documents, passages, the index and retrieval.

A name is imported at its first use: the process that reads foreign files (see `formats.child`) needs only a few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynamic_tinybert.corpus.answering import PASSAGES, CorpusOptions, check_latency
    from dynamic_tinybert.corpus.answers import CorpusAnswer
    from dynamic_tinybert.corpus.corpus import Corpus, Status
    from dynamic_tinybert.corpus.discover import find_files
    from dynamic_tinybert.corpus.documents import Document, FileAnswer, ask_documents, ask_files, read_documents
    from dynamic_tinybert.corpus.errors import CorpusError, UnknownDocumentError, UnreadableError
    from dynamic_tinybert.corpus.formats import Reading
    from dynamic_tinybert.corpus.formats import read as read_file
    from dynamic_tinybert.corpus.given import PassageAnswer, ask_passages
    from dynamic_tinybert.corpus.index import DocumentInfo, Hit, Passage, Retriever, absolute_location
    from dynamic_tinybert.corpus.ingest import Report
    from dynamic_tinybert.corpus.places import Box, is_paged, locate

_HOMES = {
    "PASSAGES": "answering",
    "Box": "places",
    "Corpus": "corpus",
    "CorpusAnswer": "answers",
    "CorpusError": "errors",
    "CorpusOptions": "answering",
    "Document": "documents",
    "DocumentInfo": "index",
    "FileAnswer": "documents",
    "Hit": "index",
    "Passage": "index",
    "PassageAnswer": "given",
    "Reading": "formats",
    "Report": "ingest",
    "Retriever": "index",
    "Status": "corpus",
    "UnknownDocumentError": "errors",
    "UnreadableError": "errors",
    "absolute_location": "index",
    "ask_documents": "documents",
    "ask_files": "documents",
    "ask_passages": "given",
    "check_latency": "answering",
    "find_files": "discover",
    "is_paged": "places",
    "locate": "places",
    "read_documents": "documents",
    "read_file": "formats",
}

__all__ = [
    "PASSAGES",
    "Box",
    "Corpus",
    "CorpusAnswer",
    "CorpusError",
    "CorpusOptions",
    "Document",
    "DocumentInfo",
    "FileAnswer",
    "Hit",
    "Passage",
    "PassageAnswer",
    "Reading",
    "Report",
    "Retriever",
    "Status",
    "UnknownDocumentError",
    "UnreadableError",
    "absolute_location",
    "ask_documents",
    "ask_files",
    "ask_passages",
    "check_latency",
    "find_files",
    "is_paged",
    "locate",
    "read_documents",
    "read_file",
]


def __getattr__(name: str) -> Any:
    """Import a name of this package at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), "read" if name == "read_file" else name)


def __dir__() -> list[str]:
    return sorted(__all__)
