"""The index in Milvus. Only this package imports pymilvus."""

from dynamic_tinybert.corpus.index.milvus.reader import MilvusIndex

__all__ = ["MilvusIndex"]
