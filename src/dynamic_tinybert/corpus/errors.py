"""What can be wrong with a corpus."""

from dynamic_tinybert.errors import DynamicTinyBertError


class CorpusError(DynamicTinyBertError):
    """An index or a corpus that cannot be used; one line that says why."""


class UnreadableError(CorpusError):
    """A file that cannot be read as a document; one line without its path, which the caller names."""
