"""Read PDF files with PDFium."""

from __future__ import annotations

import contextlib
import math
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dynamic_tinybert.corpus.errors import UnreadableError
from dynamic_tinybert.corpus.formats.reading import CONTROL, Complain, Reading

PDFIUM = threading.RLock()
"""PDFium has one state for the process, and is not safe to use from many threads."""

HYPHEN = re.compile("[\x02\ufffe]\n?")
"""What PDFium writes for a hyphen at the end of a line."""

_LETTERS = r"[^\W\d_]+"
_AROUND_WORD = ".,;:!?()[]{}<>\"'“”‘’«»…"
_LAST_LETTERS, _FIRST_LETTERS = re.compile(rf"(?<![^\W\d_]){_LETTERS}\Z"), re.compile(_LETTERS)
_LAST_WORD = re.compile(r"(?<![\w-])[\w-]+\Z")
_LINK = re.compile(r"://|www\.|@", re.IGNORECASE)
_LONGEST_LINK = 300  # characters before a hyphen in which the start of its word is searched
_SHORTEST_PART = 3  # letters: "in-put" is rarer than a divided "input"
_SAMPLED = 32  # characters of a page whose direction is asked for
_MOST_WORDS = 1 << 20  # of a document that are remembered


def read_pdf(path: Path, reading: Reading, complain: Complain) -> Iterator[str]:
    """Yield the title of a PDF, then its pages, with form feeds between them."""
    with opened(path) as document:
        with PDFIUM:
            title = _pdf_title(document)
        yield title
        empty = True
        for number, text in enumerate(page_texts(document, Words(), complain)):
            empty = empty and not text.strip()
            yield "\f" * (number > 0) + text
    if empty:
        raise UnreadableError("is a PDF without text: if its pages are scanned, they need OCR first")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a PDF.

    Raises:
        UnreadableError: It is broken, or has a password.
        OSError: The file cannot be opened.
    """
    from pypdfium2 import PdfDocument, PdfiumError

    with path.open("rb") as file:
        try:
            with PDFIUM:
                document = PdfDocument(file)
        except PdfiumError as error:
            locked = "password" in str(error).lower()
            raise UnreadableError("is a PDF with a password" if locked else "is a broken PDF, or not a PDF") from None
        try:
            yield document
        finally:
            with PDFIUM:
                document.close()


def page_texts(document: Any, words: Words, complain: Complain) -> Iterator[str]:
    """Yield the text of each page as a document has it; `words` learns those of the pages so far."""
    with PDFIUM:
        pages = len(document)
    for number in range(pages):
        yield words.rejoined(_page(document, number, complain))


def _pdf_title(document: Any) -> str:
    try:
        return str(document.get_metadata_value("Title"))
    except UnicodeDecodeError:
        return ""


def _page(document: Any, number: int, complain: Complain) -> str:
    """Return the text of a page, counted from 0, with marks for hyphens at line ends; empty if the page is broken."""
    from pypdfium2 import PdfiumError

    try:
        with PDFIUM, upright(document, number) as (page, content, _):
            return _shown(content, page.get_bbox())
    except PdfiumError:
        complain(f"page {number + 1:,} is broken")
        return ""


@contextlib.contextmanager
def upright(document: Any, number: int) -> Iterator[tuple[Any, Any, int]]:
    """Open a page, counted from 0, turned so that most of its text is upright; and its text, and its own rotation.

    Raises:
        PdfiumError: The page is broken.
    """
    with contextlib.closing(document[number]) as page:
        content, rotation = page.get_textpage(), page.get_rotation()
        try:
            upwards = _upright(content)
            if upwards != rotation:
                content.close()
                page.set_rotation(upwards)
                content = page.get_textpage()
            yield page, content, rotation
        finally:
            content.close()
            page.set_rotation(rotation)  # otherwise the document keeps the other one


def _upright(content: Any) -> int:
    """Return the rotation of a page, in degrees, that makes most of its text upright: PDFium then orders its lines."""
    from pypdfium2 import raw

    count = content.count_chars()
    rotations: Counter[int] = Counter()
    for index in range(0, count, count // _SAMPLED + 1):
        if raw.FPDFText_IsGenerated(content, index) == 0:
            rotations[-round(raw.FPDFText_GetCharAngle(content, index) / (math.pi / 2)) % 4 * 90] += 1
    return max(rotations, key=rotations.__getitem__, default=0)


def _shown(content: Any, bounds: tuple[float, float, float, float]) -> str:
    """Return the text within the bounds of a page.

    PDFium's text of a page includes what is outside the bounds, and lacks characters beyond the Basic Multilingual
    Plane. Its text of an area has neither fault, but lacks spaces between table cells and ends of sideways lines. So
    if the two texts have the same characters, the first is right; otherwise each character is asked for.
    """
    whole = whole_units(content).decode("utf-16-le", "ignore")
    text = whole if is_right(content, whole, bounds) else _joined(c for c, _ in characters(content, bounds))
    return text.replace("\r\n", "\n")


def is_right(content: Any, whole: str, bounds: tuple[float, float, float, float]) -> bool:
    """Return whether PDFium's text of a page has all characters within the bounds, and no others."""
    area = str(content.get_text_bounded(*bounds))
    return "".join(whole.split()).replace("\ufffe", "\x02") == "".join(area.split()).replace("\ufffe", "\x02")


def whole_units(content: Any) -> bytes:
    """Return PDFium's text of a page in UTF-16 (LE), of which each unit has a number in PDFium."""
    from ctypes import c_ushort

    from pypdfium2 import raw

    count = content.count_chars()
    buffer = (c_ushort * (count + 1))()
    written = raw.FPDFText_GetText(content, 0, count, buffer) if count > 0 else 0
    return bytes(buffer)[: 2 * max(0, written - 1)]


def _joined(found: Iterable[str]) -> str:
    return "".join(found).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")


def characters(content: Any, bounds: tuple[float, float, float, float]) -> Iterator[tuple[str, int]]:
    """Yield the characters within the bounds of a page, each with its number in PDFium; some are half a character."""
    from ctypes import c_double

    from pypdfium2 import raw

    left, bottom, right, top = bounds
    x0, x1, y0, y1 = c_double(), c_double(), c_double(), c_double()
    last = "\n"
    outside = False  # whether a character was left out since the last that was not
    for index in range(content.count_chars()):
        code = raw.FPDFText_GetUnicode(content, index)
        character = chr(code) if code <= sys.maxunicode else "\ufffd"
        if character in " \r\n" and raw.FPDFText_IsGenerated(content, index) == 1:
            if outside and last in " \n":
                continue
        elif raw.FPDFText_GetCharBox(content, index, x0, x1, y0, y1):
            outside = x1.value < left or x0.value > right or y1.value < bottom or y0.value > top
            if outside:
                continue
        last = character
        yield character, index


class Words:
    """The words of the pages so far: they tell whether a hyphen at the end of a line belongs to its word."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def rejoined(self, text: str) -> str:
        """Return the text of the next page, with each word whole that the end of a line divides."""
        if len(self._known) < _MOST_WORDS:
            new = set(text.lower().split()) - self._known
            words = {word.strip(_AROUND_WORD) for word in new if "\x02" not in word and "\ufffe" not in word}
            self._known |= words
            self._known.update(part for word in words if "-" in word for part in word.split("-"))
        return CONTROL.sub("", HYPHEN.sub(self.joint, text))

    def joint(self, hyphen: re.Match[str]) -> str:
        """Return "-" if the hyphen is part of the word, as in Jean-Paul, COVID-19 or a web address; otherwise ""."""
        before = hyphen.string[max(0, hyphen.start() - _LONGEST_LINK) : hyphen.start()]
        after = hyphen.string[hyphen.end() : hyphen.end() + _LONGEST_LINK]
        before = before[-1:] if before[-1:].isspace() else before.split()[-1] if before else ""
        word = _LAST_WORD.search(before)
        last, first = _LAST_LETTERS.search(before), _FIRST_LETTERS.match(after)
        if _LINK.search(before) or not (last and first):
            return "" if after[:1].islower() and not _LINK.search(before) else "-"
        parts = last[0].lower(), first[0].lower()
        if "".join(parts) in self._known:
            return ""
        known = all(part in self._known and len(part) >= _SHORTEST_PART for part in parts)
        own = known or "-".join(parts) in self._known or (word and "-" in word[0]) or not after[0].islower()
        return "-" if own else ""
