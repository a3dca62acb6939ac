"""Errors of a corpus."""

from dynamic_tinybert.errors import DynamicTinyBertError


class CorpusError(DynamicTinyBertError):
    """An index or a corpus cannot be used. The message is one line that says why."""


class UnknownDocumentError(CorpusError, KeyError):
    """An index has no document of this name."""

    __str__ = Exception.__str__  # that of a KeyError quotes the message


class UnreadableError(CorpusError):
    """A file cannot be read as a document. The message is one line without the path: the caller adds it."""


class ReaderDiedError(UnreadableError):
    """A file ended the process that read it, or had to be stopped: it is broken, or made to do harm.

    Attributes:
        again: Whether the same file will surely do the same again.
    """

    def __init__(self, message: str, *, again: bool = False) -> None:
        super().__init__(message)
        self.again = again
