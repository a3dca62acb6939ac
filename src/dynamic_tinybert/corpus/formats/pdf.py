"""Read PDF files with PDFium."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dynamic_tinybert.corpus.errors import UnreadableError
from dynamic_tinybert.corpus.formats.reading import CONTROL, Complain, Reading

_PDFIUM = threading.RLock()  # PDFium has one state for the process, and is not safe to use from many threads
_PDF_HYPHEN = re.compile("[\x02\ufffe]\n?")  # PDFium writes these for a hyphen at the end of a line


def read_pdf(path: Path, reading: Reading, complain: Complain) -> Iterator[str]:
    """Yield the title of a PDF, then its pages, with form feeds between them."""
    from pypdfium2 import PdfDocument, PdfiumError

    with path.open("rb") as file:
        try:
            with _PDFIUM:
                document = PdfDocument(file)
        except PdfiumError as error:
            locked = "password" in str(error).lower()
            raise UnreadableError("is a PDF with a password" if locked else "is a broken PDF, or not a PDF") from None
        try:
            with _PDFIUM:
                title, pages = _pdf_title(document), len(document)
            yield title
            empty = True
            for number in range(pages):
                text = _page(document, number, complain)
                empty = empty and not text.strip()
                yield "\f" * (number > 0) + text
        finally:
            with _PDFIUM:
                document.close()
    if empty:
        raise UnreadableError("is a PDF without text: if its pages are scanned, they need OCR first")


def _pdf_title(document: Any) -> str:
    try:
        return str(document.get_metadata_value("Title"))
    except UnicodeDecodeError:
        return ""


def _page(document: Any, number: int, complain: Complain) -> str:
    """Return the text of a page, counted from 0; empty if the page is broken."""
    from pypdfium2 import PdfiumError

    try:
        with _PDFIUM, contextlib.closing(document[number]) as page, contextlib.closing(page.get_textpage()) as content:
            text = str(content.get_text_bounded())
    except PdfiumError:
        complain(f"page {number + 1:,} is broken")
        return ""
    return CONTROL.sub("", _PDF_HYPHEN.sub(_rejoined, text.replace("\r\n", "\n")))


def _rejoined(hyphen: re.Match[str]) -> str:
    """Return the replacement for a hyphen at the end of a line: empty within a word, "-" in Jean-Paul or COVID-19."""
    following = hyphen.string[hyphen.end() : hyphen.end() + 1]
    return "" if following.islower() else "-"
