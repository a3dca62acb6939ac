"""Answer questions from a corpus: documents, passages, the index and retrieval."""

from dynamic_tinybert.corpus.answering import PASSAGES
from dynamic_tinybert.corpus.answers import CorpusAnswer
from dynamic_tinybert.corpus.corpus import Corpus, CorpusOptions, Status
from dynamic_tinybert.corpus.discover import find_files
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
    "DocumentInfo",
    "Hit",
    "Passage",
    "Reading",
    "Report",
    "Status",
    "UnknownDocumentError",
    "UnreadableError",
    "absolute_location",
    "find_files",
    "read_file",
]
