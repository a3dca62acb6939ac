"""Documents, passages, the index, retrieval: questions to a corpus."""

from dynamic_tinybert.corpus.answering import PASSAGES
from dynamic_tinybert.corpus.answers import CorpusAnswer, CorpusSpent
from dynamic_tinybert.corpus.corpus import Corpus, CorpusOptions, Status
from dynamic_tinybert.corpus.errors import CorpusError
from dynamic_tinybert.corpus.formats.formats import Reading
from dynamic_tinybert.corpus.index.protocol import DocumentInfo, Hit, Passage
from dynamic_tinybert.corpus.ingest import Report

__all__ = [
    "PASSAGES",
    "Corpus",
    "CorpusAnswer",
    "CorpusError",
    "CorpusOptions",
    "CorpusSpent",
    "DocumentInfo",
    "Hit",
    "Passage",
    "Reading",
    "Report",
    "Status",
]
