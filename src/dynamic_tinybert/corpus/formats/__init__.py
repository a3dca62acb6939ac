"""Read documents from files: plain text, Markdown, HTML, PDF, Word and JSON Lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dynamic_tinybert.corpus.errors import UnreadableError
from dynamic_tinybert.corpus.formats.child import Parts, in_child
from dynamic_tinybert.corpus.formats.docx import read_docx
from dynamic_tinybert.corpus.formats.html import read_html
from dynamic_tinybert.corpus.formats.jsonl import read_json_lines
from dynamic_tinybert.corpus.formats.pdf import read_pdf
from dynamic_tinybert.corpus.formats.pdf_places import Span, pdf_places
from dynamic_tinybert.corpus.formats.png import SIGNATURE
from dynamic_tinybert.corpus.formats.reading import (
    Complain,
    Complaints,
    Draft,
    Kind,
    Reading,
    decoded,
    encoding_of,
    endless,
    most_bytes,
    one_document,
)
from dynamic_tinybert.corpus.formats.text import MARKDOWN, read_text
from dynamic_tinybert.errors import warn

__all__ = [
    "KINDS",
    "PLAIN",
    "SIGNATURE",
    "Complaints",
    "Draft",
    "Reading",
    "Span",
    "check_beginning",
    "decoded",
    "encoding_of",
    "endless",
    "find_places",
    "is_readable",
    "most_bytes",
    "read",
]

_LARGE = 1 << 26  # bytes
_BEGINNING = 1 << 12  # bytes

PLAIN = frozenset((".txt", ".text", ".rst", *MARKDOWN))
"""The suffixes of files that are text as they are, in lower case."""

PARTS: Mapping[str, tuple[Parts[Any], type]] = MappingProxyType(
    {
        "html": (read_html, Reading),
        "pdf": (read_pdf, Reading),
        "docx": (read_docx, Reading),
        "places": (pdf_places, Span),
    }
)
"""What needs foreign parsers, and the type of its options. It runs in a process of its own: see `child`."""

find_places = in_child("places", pdf_places)
"""Find a part of a PDF's text on its pages: see `pdf_places`."""

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        **dict.fromkeys(PLAIN, one_document(read_text)),
        **dict.fromkeys((".html", ".htm", ".xhtml"), one_document(in_child("html", read_html))),
        ".pdf": one_document(in_child("pdf", read_pdf)),
        ".docx": one_document(in_child("docx", read_docx)),
        **dict.fromkeys((".jsonl", ".ndjson"), read_json_lines),
    }
)
"""The reader of each kind of file, by the suffix of its name in lower case."""


def is_readable(path: Path) -> bool:
    """Return whether the suffix of a file is known."""
    return path.suffix.lower() in KINDS


def check_beginning(path: Path, size: int) -> None:
    """Refuse a large file that begins with NUL bytes, before all of it is read to see whether it has changed.

    Raises:
        UnreadableError: It begins so, as a file of holes does.
        OSError: It cannot be opened or read.
    """
    if size <= _LARGE:
        return
    with path.open("rb") as file:
        if not any(file.read(_BEGINNING)):
            raise UnreadableError("is not text: it begins with NUL bytes")


def read(path: Path, reading: Reading, *, complain: Complain = warn) -> Iterator[Draft]:
    """Yield the documents of a file, in the order of the file.

    Args:
        path: The file. The suffix of its name tells its kind.
        reading: How to read it.
        complain: Called with one line, without the path, for each broken record or page that is left out.

    Raises:
        UnreadableError: The file is not of the kind that its suffix says; also raised while a draft's blocks are read.
        OSError: The file cannot be opened or read.
        ImportError: The package that reads this kind is not installed.
    """
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise UnreadableError(f"is not of a kind that can be read, which are {', '.join(sorted(KINDS))}")
    yield from kind(path, reading, complain)
