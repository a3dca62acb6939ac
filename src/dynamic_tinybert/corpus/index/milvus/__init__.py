"""The index in Milvus. The only place that knows pymilvus, which importing this room imports."""

from dynamic_tinybert.corpus.index.milvus.reader import MilvusIndex

__all__ = ["MilvusIndex"]
