"""The public path of the reader for haystack pipelines; `dynamic_tinybert.compat` has it."""

from dynamic_tinybert.compat import ExtractiveReader

__all__ = ["ExtractiveReader"]
