"""Documents, passages, the index, retrieval: questions to a corpus."""

from dynamic_tinybert.corpus.adding import Report
from dynamic_tinybert.corpus.answers import CorpusAnswer, CorpusSpent
from dynamic_tinybert.corpus.asking import PASSAGES
from dynamic_tinybert.corpus.corpus import Corpus, CorpusOptions, Status
from dynamic_tinybert.corpus.errors import CorpusError
from dynamic_tinybert.corpus.formats import Reading
from dynamic_tinybert.corpus.index import DocumentInfo, Hit, Passage

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
