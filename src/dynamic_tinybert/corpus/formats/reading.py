"""What all formats have in common: the options of reading, what a document is, and how failures are told."""

from __future__ import annotations

import codecs
import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

from dynamic_tinybert.corpus.errors import UnreadableError
from dynamic_tinybert.files import NoTextError, UndecodableError, encodable, text_blocks

_VERSION = 3  # of the text that is read from a file; to be raised where that changes
_LONGEST_TITLE = 300
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")

Complain: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How files are read.

    Attributes:
        text_field: The field of a JSON Lines record that holds the text. In "a.b", b is looked for in the object a,
            unless the record has a field of the name "a.b".
        title_field: The field that holds its title, if any.
        id_field: The field that holds its id, if any.
        encoding: The encoding of text files, HTML files that name none, and JSON Lines, where they have no byte order
            mark; None is UTF-8.

    Raises:
        ValueError: There is no such encoding.
    """

    text_field: str = "text"
    title_field: str = "title"
    id_field: str = "id"
    encoding: str | None = None

    def __post_init__(self) -> None:
        if self.encoding is not None and not is_encoding(self.encoding):
            raise ValueError(f"there is no encoding {self.encoding!r}; there are, for example, latin-1 and gb18030")

    def signature(self, path: Path) -> str:
        """A short text that tells what is read from a file: it differs where an option differs that matters to it."""
        suffix = path.suffix.lower()
        encoding = codecs.lookup(self.encoding or "utf-8").name
        if suffix in (".pdf", ".docx"):
            return json.dumps([_VERSION])
        if suffix in (".jsonl", ".ndjson"):
            return json.dumps([_VERSION, encoding, self.text_field, self.title_field, self.id_field])
        return json.dumps([_VERSION, encoding])


@dataclass(frozen=True)
class Draft:
    """A document as a file gives it.

    Attributes:
        id: Its id in its file: of a JSON Lines record its own, or the number of its line, from 1; empty where the file
            is one document.
        title: Its title, on one line of at most 300 characters; may be empty.
        blocks: Its text, in blocks of any size; to be consumed before the next draft is asked for. Can be encoded as
            UTF-8. Raises what `read` raises.
    """

    id: str
    title: str
    blocks: Iterator[str]


Kind: TypeAlias = Callable[[Path, Reading, Complain], Iterator[Draft]]


def one_document(parts: Callable[[Path, Reading, Complain], Iterator[str]]) -> Kind:
    """Return the reader of a kind whose files are one document each; `parts` yields the title, then the text."""

    def drafts(path: Path, reading: Reading, complain: Complain) -> Iterator[Draft]:
        pieces = parts(path, reading, complain)
        title = encodable(next(pieces))
        yield Draft("", one_line(title), map(encodable, pieces))

    return drafts


def decoded(file: BinaryIO, encoding: str | None, errors: str = "strict") -> Iterator[str]:
    """Yield the text of a file in blocks.

    Raises:
        UnreadableError: It is no text.
        OSError: It cannot be read.
    """
    try:
        yield from text_blocks(file, encoding=encoding, errors=errors)
    except UndecodableError as error:
        raise UnreadableError(f"{error}: if it is in another encoding, name that, for example latin-1") from None
    except NoTextError as error:
        raise UnreadableError(str(error)) from None
    except UnicodeError:  # of encodings such as IDNA, which are not for files
        raise UnreadableError(f"is no text in {encoding}") from None


@contextlib.contextmanager
def as_unreadable(what: str) -> Iterator[None]:
    """Turn whatever a library makes of a broken file into one line."""
    try:
        yield
    except (UnreadableError, ImportError):
        raise
    except MemoryError:
        raise UnreadableError("is too large for the memory there is") from None
    except RecursionError:
        raise UnreadableError(f"is {what} nested too deep to be read") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the file, and not of what it holds
            raise
        why = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableError(f"is {what} that cannot be read: {why:.200}") from error


def is_encoding(name: str) -> bool:
    """Return whether Python has an encoding of this name for text files."""
    try:
        "a".encode(name)
        codecs.getincrementaldecoder(name)
    except (LookupError, ValueError):
        return False
    return True


def one_line(title: str) -> str:
    """Return a title on one line of at most 300 characters."""
    return " ".join(title.split())[:_LONGEST_TITLE].rstrip()
