"""Answer questions from a corpus: documents, passages, the index and retrieval."""

from dynamic_tinybert.corpus.answering import PASSAGES
from dynamic_tinybert.corpus.answers import CorpusAnswer
from dynamic_tinybert.corpus.corpus import Corpus, CorpusOptions, Status
from dynamic_tinybert.corpus.discover import find_files
from dynamic_tinybert.corpus.documents import Document, FileAnswer, ask_documents, ask_files, read_documents
from dynamic_tinybert.corpus.errors import CorpusError, UnknownDocumentError, UnreadableError
from dynamic_tinybert.corpus.formats import Reading
from dynamic_tinybert.corpus.formats import read as read_file
from dynamic_tinybert.corpus.index import DocumentInfo, Hit, Passage, absolute_location
from dynamic_tinybert.corpus.ingest import Report

__all__ = [
    "PASSAGES",
    "Corpus",
    "CorpusAnswer",
    "CorpusError",
    "CorpusOptions",
    "Document",
    "DocumentInfo",
    "FileAnswer",
    "Hit",
    "Passage",
    "Reading",
    "Report",
    "Status",
    "UnknownDocumentError",
    "UnreadableError",
    "absolute_location",
    "ask_documents",
    "ask_files",
    "find_files",
    "read_documents",
    "read_file",
]
