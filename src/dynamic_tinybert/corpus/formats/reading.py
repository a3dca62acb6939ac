"""The common parts of all formats: the options of reading, the type of a document, the handling of errors."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

from dynamic_tinybert.corpus.errors import UnreadableError
from dynamic_tinybert.files import NoTextError, UndecodableError, encodable, text_blocks

_VERSION = 4  # raise it when the readers produce another text from the same file
_LONGEST_TITLE = 300
_GROWN = 1 << 26  # bytes that a file may grow while it is read
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")

_COMPLAINTS = 10  # so many complaints of a file are passed on one by one

Complain: TypeAlias = Callable[[str], None]


class Complaints:
    """Pass on the first complaints about the parts of a file, and the number of the others.

    Args:
        pass_on: Called with one line for each.

    Attributes:
        count: The number of complaints so far.
    """

    def __init__(self, pass_on: Complain) -> None:
        self._pass_on = pass_on
        self.count = 0

    def __call__(self, why: str) -> None:
        """Count a complaint, and pass it on if it is one of the first."""
        self.count += 1
        if self.count <= _COMPLAINTS:
            self._pass_on(why)

    def finish(self) -> None:
        """Pass on how many complaints were left out."""
        if self.count > _COMPLAINTS:
            self._pass_on(f"{self.count - _COMPLAINTS:,} more like these")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Options for reading files.

    Attributes:
        text_field: The field of a JSON Lines record that contains the text. "a.b" means the field b of the object a,
            unless the record has a field with the name "a.b".
        title_field: The field that contains the title; it may be missing.
        id_field: The field that contains the id; it may be missing.
        encoding: The encoding of text files, JSON Lines, and HTML files that declare no encoding, if they are not UTF-8
            and have no byte order mark; None is UTF-8.
        html: What to read of HTML: "all" that a browser shows; or "main", the element that the page marks as its main
            content (`<main>`, or the role `main`). A page without such a mark is read without what it marks as
            navigation, header, footer or search.

    Raises:
        ValueError: There is no such encoding, or `html` is another word.
    """

    text_field: str = "text"
    title_field: str = "title"
    id_field: str = "id"
    encoding: str | None = None
    html: Literal["all", "main"] = "all"

    def __post_init__(self) -> None:
        if self.encoding is not None and not is_encoding(self.encoding):
            raise ValueError(f"there is no encoding {self.encoding!r}; there are, for example, latin-1 and gb18030")
        if self.html not in ("all", "main"):
            raise ValueError(f"of HTML, all or main can be read, not {self.html!r:.50}")

    def signature(self, path: Path) -> str:
        """Return a short text that changes if an option changes that affects how the file is read."""
        suffix = path.suffix.lower()
        encoding = codecs.lookup(self.encoding or "utf-8").name
        encoding += "" if encoding == "utf-8" else " if not utf-8"
        if suffix in (".pdf", ".docx"):
            return json.dumps([_VERSION])
        if suffix in (".jsonl", ".ndjson"):
            return json.dumps([_VERSION, encoding, self.text_field, self.title_field, self.id_field])
        narrowed = [self.html] if self.html != "all" and suffix in (".html", ".htm", ".xhtml") else []
        return json.dumps([_VERSION, encoding, *narrowed])


@dataclass(frozen=True)
class Draft:
    """A document as it is in a file.

    Attributes:
        id: The id of a JSON Lines record, or its line number from 1 if it has no id; empty if the file is one document.
        title: The title, on one line of at most 300 characters; may be empty.
        blocks: The text, in blocks of any size. It can be encoded as UTF-8. Consume it before you ask for the next
            draft. It raises the same errors as `read`.
    """

    id: str
    title: str
    blocks: Iterator[str]


Kind: TypeAlias = Callable[[Path, Reading, Complain], Iterator[Draft]]


def one_document(parts: Callable[[Path, Reading, Complain], Iterator[str]]) -> Kind:
    """Return a reader for files that are one document each; `parts` yields the title, then the text."""

    def drafts(path: Path, reading: Reading, complain: Complain) -> Iterator[Draft]:
        pieces = parts(path, reading, complain)
        title = encodable(next(pieces))
        yield Draft("", one_line(title), map(encodable, pieces))

    return drafts


def decoded(file: BinaryIO, encoding: str | None, errors: str = "strict", *, nul: bool = False) -> Iterator[str]:
    """Yield the text of a file in blocks.

    Raises:
        UnreadableError: The file is not text, or does not end.
        OSError: The file cannot be read.
    """
    most, done = most_bytes(file), 0
    try:
        for text in text_blocks(file, encoding=encoding, errors=errors, nul=nul):
            done += len(text)
            if most is not None and done > most:
                raise endless()
            yield text
    except UndecodableError as error:
        raise UnreadableError(
            f"{error}: if it is in another encoding, convert it to UTF-8, or add it with index add --encoding NAME"
        ) from None
    except NoTextError as error:
        raise UnreadableError(str(error)) from None
    except UnicodeError:  # raised by encodings that are not for files, such as IDNA
        raise UnreadableError(f"is not text in {encoding}") from None


def encoding_of(file: BinaryIO, reading: Reading) -> str | None:
    """Return the encoding of a text file, open at its beginning: `reading.encoding`, unless it is UTF-8 beyond ASCII.

    Text in another encoding is hardly ever valid UTF-8. ASCII bytes may be text in another encoding.

    Raises:
        OSError: The file cannot be read.
    """
    if reading.encoding is None or not file.seekable():
        return reading.encoding
    return "utf-8" if is_utf8(file) else reading.encoding


def is_utf8(file: BinaryIO) -> bool:
    """Return whether a file is UTF-8 with characters beyond ASCII; it is open at its beginning, and again afterwards.

    Raises:
        OSError: The file cannot be read.
    """
    decoder, ascii_only, most, done = codecs.getincrementaldecoder("utf-8")(), True, most_bytes(file), 0
    try:
        while block := file.read(1 << 20):
            decoder.decode(block)
            ascii_only = ascii_only and block.isascii()
            done += len(block)
            if most is not None and done > most:  # reported by who reads it
                break
        decoder.decode(b"", True)
    except UnicodeDecodeError:
        return False
    finally:
        file.seek(0)
    return not ascii_only


def most_bytes(file: BinaryIO) -> int | None:
    """Return how much may be read of a file; None if it has no size, as a pipe or what is in memory."""
    try:
        status = os.fstat(file.fileno())
    except OSError:  # io.UnsupportedOperation
        return None
    return status.st_size + _GROWN if stat.S_ISREG(status.st_mode) else None


def endless() -> UnreadableError:
    """Return the error for a file of which more than `most_bytes` can be read, perhaps without end."""
    return UnreadableError("has more content than its size says")


@contextlib.contextmanager
def as_unreadable(what: str) -> Iterator[None]:
    """Convert the errors that a library raises for a broken file to an `UnreadableError` of one line."""
    try:
        yield
    except (UnreadableError, ImportError):
        raise
    except MemoryError:
        raise UnreadableError("is too large for the memory there is") from None
    except RecursionError:
        raise UnreadableError(f"is {what} nested too deep to be read") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # about the file, not about its content
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
