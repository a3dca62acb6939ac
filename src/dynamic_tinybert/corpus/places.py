"""Find where an answer stands on the pages of a PDF."""

from __future__ import annotations

import base64
import binascii
import json
import numbers
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dynamic_tinybert.corpus.errors import UnreadableError
from dynamic_tinybert.corpus.formats import SIGNATURE, Span, find_places

if TYPE_CHECKING:
    from dynamic_tinybert.corpus.index import Passage

_RECORD = re.compile(r"\.(?:jsonl|ndjson)#", re.IGNORECASE)  # in the name of a document: it is a record of a file
_OF_A_FILE = " (file)"  # added to the name of a document whose path looks like that of a record


@dataclass(frozen=True)
class Box:
    """A rectangle on a page of a PDF that covers one line of an answer.

    All lengths are in points, 1/72 inch. The origin is the upper left corner of the page as viewers show it: cropped,
    and turned if the page says so. x goes to the right, y goes down.

    Attributes:
        page: The number of the page, from 1.
        left: The least x.
        top: The least y.
        right: The greatest x.
        bottom: The greatest y.
        page_width: The width of the page.
        page_height: The height of the page.
    """

    page: int
    left: float
    top: float
    right: float
    bottom: float
    page_width: float
    page_height: float


def locate(path: str | os.PathLike[str], start: int, end: int, *, text: str | None = None) -> list[Box]:
    """Find where a part of a PDF's text stands on its pages.

    The file is read again, in a process of its own with limits on memory and time, as far as the part.

    Args:
        path: The PDF.
        start: The start of the part, in characters of the whole text, as in `FileAnswer` and `CorpusAnswer`.
        end: Its end.
        text: The part itself. If it is given and the file has other words there, that is an error.

    Returns:
        A box for each line of the part; none if the part is white space.

    Raises:
        UnreadableError: The file is no PDF, is broken, has a password, or has changed since it was read.
        OSError: The file cannot be opened.
        ImportError: pypdfium2 is not installed (extra `corpus`).
        ValueError: The part does not begin before its end.

    Example:
        >>> from dynamic_tinybert.corpus import locate
        >>> for box in locate("manual.pdf", 1204, 1219):  # doctest: +SKIP
        ...     print(box.page, box.left, box.top, box.right, box.bottom)
        3 72.6 108.4 161.9 119.3
    """
    return find(path, check_span(start, end, start, text or ""))[0]


def check_span(start: int, end: int, text_start: int, text: str, *, picture: bool = False) -> Span:
    """Return a part of a text if it is one.

    Raises:
        ValueError: It does not begin before its end, or these are not whole numbers.
    """
    if not (isinstance(start, numbers.Integral) and isinstance(end, numbers.Integral) and 0 <= start < end):
        raise ValueError(f"a part of a text must start before its end, from 0, not at {start} and end at {end}")
    return Span(start=int(start), end=int(end), text=text, text_start=text_start, picture=picture)


def span_in(passages: Iterable[Passage], start: int, end: int, *, picture: bool = False) -> Span:
    """Return a part of a document, with the text that its passages have there.

    Args:
        passages: All passages of the document, in order.
        start: The start of the part, in characters of the document.
        end: Its end.
        picture: Whether its page is drawn.

    Raises:
        ValueError: The document has no such characters.
    """
    there = [one for one in passages if one.start < end and start < one.start + len(one.text)]
    span = check_span(start, end, there[0].start if there else 0, "".join(one.text for one in there), picture=picture)
    if not there or end > span.text_start + len(span.text):
        raise ValueError(f"the document has no characters from {start} to {end}")
    return span


def is_paged(document: str) -> bool:
    """Return whether a document, by its name, is a PDF, so that its text has places on pages. A record is none."""
    if not document.endswith(_OF_A_FILE) and _RECORD.search(document):
        return False
    return _is_pdf(path_of(document))


def check_paged(document: str) -> None:
    """Check that a document, by its name, is a PDF.

    Raises:
        UnreadableError: It is not.
    """
    if not is_paged(document):
        raise not_paged(document)


def not_paged(name: str) -> UnreadableError:
    """Return the error for a document or a file that is not a PDF."""
    return UnreadableError(f"{name} is not a PDF: only the text of a PDF has places on pages")


def _is_pdf(path: str) -> bool:
    return path.lower().endswith(".pdf")


def path_of(document: str) -> str:
    """Return the path of the file that a document, by its name, is the whole of."""
    return document.removesuffix(_OF_A_FILE)


def find(path: str | os.PathLike[str], span: Span) -> tuple[list[Box], bytes]:
    """Find a part of a text on the pages of a PDF, and draw its first page if it says so: a PNG; otherwise empty.

    Raises:
        UnreadableError, OSError, ImportError: See `locate`.
    """
    name = os.fspath(path)
    if not _is_pdf(name):
        raise not_paged(name)
    try:
        told = "".join(find_places(Path(name), span, lambda why: None))
        return _parsed(told)
    except UnreadableError as error:
        raise UnreadableError(f"{name} {error}") from None


def _parsed(told: str) -> tuple[list[Box], bytes]:
    """Return the boxes and the picture. They come from a process that a file may have taken over."""
    boxes, _, picture = told.partition("\n")
    try:
        found = [Box(int(page), *map(float, lengths)) for page, *lengths in json.loads(boxes)]
        png = base64.b64decode(picture, validate=True)
    except (ValueError, TypeError, binascii.Error):
        raise UnreadableError("cannot be read: its reader said nothing that makes sense") from None
    if png and not png.startswith(SIGNATURE):
        raise UnreadableError("has a page that cannot be drawn")
    return found, png
