"""The name by which haystack finds the reader in a saved pipeline."""

from dynamic_tinybert.compat import ExtractiveReader

__all__ = ["ExtractiveReader"]
