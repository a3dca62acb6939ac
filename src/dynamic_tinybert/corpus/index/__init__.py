"""The index of a corpus: its interface and its location. The engines are in `tantivy` and `milvus`."""

from dynamic_tinybert.corpus.index.language import LANGUAGES, check_language
from dynamic_tinybert.corpus.index.location import MilvusAddress, absolute_location, open_index, parse, turn
from dynamic_tinybert.corpus.index.protocol import Counts, DocumentInfo, Hit, Index, Passage, Retriever, Source, Writer

__all__ = [
    "LANGUAGES",
    "Counts",
    "DocumentInfo",
    "Hit",
    "Index",
    "MilvusAddress",
    "Passage",
    "Retriever",
    "Source",
    "Writer",
    "absolute_location",
    "check_language",
    "open_index",
    "parse",
    "turn",
]
