"""The name by which haystack finds the reader in a saved pipeline."""

from dynamic_tinybert.compat.haystack import ExtractiveReader

__all__ = ["ExtractiveReader"]
