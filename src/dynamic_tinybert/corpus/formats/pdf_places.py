"""Find where a part of a PDF's text stands on its pages, and draw a page with it marked."""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from ctypes import c_double
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dynamic_tinybert.corpus.errors import UnreadableError
from dynamic_tinybert.corpus.formats.pdf import (
    HYPHEN,
    PDFIUM,
    Words,
    characters,
    is_right,
    opened,
    page_texts,
    upright,
    whole_units,
)
from dynamic_tinybert.corpus.formats.png import as_png
from dynamic_tinybert.corpus.formats.reading import CONTROL, Complain

CHANGED = "no longer has this text at this place: it has changed since it was read"
"""Why a place is not found."""

_DPI = 144  # of a picture, if that makes no side too long
_LONGEST_SIDE = 2000  # pixels
_APART = 4.0  # heights of a line: what is further away in the same line has a box of its own
_NO_INK = 0.05  # points: nothing that is drawn is so thin
_MARGIN = 1.5  # points around a box that are marked, too
_MARK, _EDGE = (255, 236, 120), (214, 120, 0)  # colours: of the mark, and of the line around it


@dataclass(frozen=True, kw_only=True)
class Span:
    """A part of the text of a PDF.

    Attributes:
        start: Its start, in characters of the whole text.
        end: Its end.
        text: A piece of the text that must be there; it may be longer than the part.
        text_start: The start of that piece.
        picture: Whether its first page is drawn.
    """

    start: int
    end: int
    text: str
    text_start: int
    picture: bool = False


class Rectangle(NamedTuple):
    """A rectangle in the coordinates of a PDF, in points: x to the right, y up, the page not turned."""

    left: float
    bottom: float
    right: float
    top: float


class _Place(NamedTuple):
    """Where text stands on a page: its number from 1, its size as it is shown, and lines as `_as_shown` has them."""

    page: int
    width: float
    height: float
    lines: list[tuple[float, float, float, float]]


def pdf_places(path: Path, span: Span, complain: Complain) -> Iterator[str]:
    """Yield the boxes of a part of a text, as a line of JSON; with a picture its PNG, too, in base64.

    A box is `[page, left, top, right, bottom, page width, page height]`: the page from 1, the others in points from the
    upper left corner of the page as it is shown.

    Raises:
        UnreadableError: The file is broken, has a password, or has another text there.
        OSError: The file cannot be opened.
    """
    from pypdfium2 import PdfiumError

    with opened(path) as document:
        places: list[_Place] = []
        for place in _places(document, span, complain):
            if place is None:
                yield ""  # so that many pages are no long silence
            else:
                places.append(place)
        boxes = [
            [place.page, *(round(value, 2) for value in (*line, place.width, place.height))]
            for place in places
            for line in place.lines
        ]
        yield json.dumps(boxes) + "\n"
        if span.picture:
            if not places:
                raise UnreadableError("has no glyphs at this place: there is nothing to mark")
            try:
                with PDFIUM:
                    png = _picture(document, places[0])
            except PdfiumError:
                raise UnreadableError("has a page that cannot be drawn") from None
            yield base64.b64encode(png).decode()


def _places(document: Any, span: Span, complain: Complain) -> Iterator[_Place | None]:
    """Yield None for each page that is read, to the end of the part, and then the places, if the text is the same."""
    words, at, text_end = Words(), 0, span.text_start + len(span.text)
    found: list[_Place] = []
    for number, text in enumerate(page_texts(document, words, complain)):
        if number:
            _compare("\f", at - 1, span)
        _compare(text, at, span)
        first, last = max(span.start - at, 0), min(span.end - at, len(text))
        if first < last:
            with PDFIUM:
                place = _on_page(document, number, text, (first, last), words)
            if place.lines:
                found.append(place)
        yield None
        at += len(text) + 1
        if at > max(span.end, text_end):
            break
    if at - 1 < max(span.end, text_end):
        raise UnreadableError(CHANGED)
    yield from found


def _compare(text: str, at: int, span: Span) -> None:
    low, high = max(at, span.text_start), min(at + len(text), span.text_start + len(span.text))
    if low < high and text[low - at : high - at] != span.text[low - span.text_start : high - span.text_start]:
        raise UnreadableError(CHANGED)


def _on_page(document: Any, number: int, text: str, part: tuple[int, int], words: Words) -> _Place:
    """Return the place of a part of the text of a page, counted from 0."""
    with upright(document, number) as (page, content, rotation):
        bounds = page.get_bbox()
        traced = _traced(content, bounds).sub(HYPHEN, words.joint).sub(CONTROL, lambda _: "")
        if traced.text != text:
            raise UnreadableError(CHANGED)
        inked = [i for i in range(*part) if not text[i].isspace()]
        if not inked:
            return _Place(number + 1, 0, 0, [])
        # All glyphs between the first and the last: also hyphens that are not in the text.
        glyphs = _glyphs(content, traced.sources[inked[0]], traced.sources[inked[-1]], bounds)
        lines = [_as_shown(line, bounds, rotation) for line in _lines(glyphs)]
    width, height = bounds[2] - bounds[0], bounds[3] - bounds[1]
    size = (width, height) if rotation % 180 == 0 else (height, width)
    return _Place(number + 1, *size, lines)


class _Traced(NamedTuple):
    """A text, and for each of its characters the number that it has in PDFium."""

    text: str
    sources: list[int]

    def sub(self, pattern: re.Pattern[str], replace: Callable[[re.Match[str]], str]) -> _Traced:
        """Replace what a pattern matches."""
        text, sources, done = "", [], 0
        for match in pattern.finditer(self.text):
            new = replace(match)
            text += self.text[done : match.start()] + new
            sources += self.sources[done : match.start()] + [self.sources[match.start()]] * len(new)
            done = match.end()
        return _Traced(text + self.text[done:], sources + self.sources[done:])


def _traced(content: Any, bounds: tuple[float, float, float, float]) -> _Traced:
    """Return the text of a page as `read_pdf` takes it from PDFium, before hyphens are replaced."""
    from pypdfium2 import raw

    whole = whole_units(content)
    if is_right(content, whole.decode("utf-16-le", "ignore"), bounds):
        units = (chr(unit) for (unit,) in struct.iter_unpack("<H", whole))
        found = [(unit, raw.FPDFText_GetCharIndexFromTextIndex(content, i)) for i, unit in enumerate(units)]
    else:
        found = list(characters(content, bounds))
    return _whole_characters(found).sub(re.compile("\r\n"), lambda _: "\n")


def _whole_characters(found: Sequence[tuple[str, int]]) -> _Traced:
    """Join halves of characters, and leave out those without the other half."""
    text, sources = "", []
    codes = [ord(character) for character, _ in found] + [0]
    for place, (character, index) in enumerate(found):
        code, following = codes[place], codes[place + 1]
        if 0xD800 <= code < 0xDC00 <= following < 0xE000:
            character = chr(0x10000 + ((code - 0xD800) << 10) + (following - 0xDC00))
        elif 0xD800 <= code < 0xE000:
            continue
        text += character
        sources.append(index)
    return _Traced(text, sources)


class _Glyph(NamedTuple):
    """The ink of a glyph; the room that its font gives it, for lines; and whether it is written upwards or down."""

    ink: Rectangle
    room: Rectangle
    vertical: bool


def _glyphs(content: Any, first: int, last: int, bounds: tuple[float, float, float, float]) -> Iterator[_Glyph]:
    """Yield the glyphs of PDFium's characters from the first to the last that are within the bounds of the page."""
    from pypdfium2 import raw

    left, bottom, right, top = bounds
    for index in range(first, last + 1):
        if raw.FPDFText_IsGenerated(content, index) == 1 or chr(raw.FPDFText_GetUnicode(content, index)).isspace():
            continue
        ink, room = _box(content, index), _box(content, index, loose=True)
        room = room or ink
        if ink is None or room is None:
            continue
        if min(ink.right - ink.left, ink.top - ink.bottom) < _NO_INK:  # its font does not draw it
            ink = room
        if ink.right < left or ink.left > right or ink.top < bottom or ink.bottom > top:
            continue
        ink = Rectangle(max(ink.left, left), max(ink.bottom, bottom), min(ink.right, right), min(ink.top, top))
        quarters = round(raw.FPDFText_GetCharAngle(content, index) / (math.pi / 2))
        yield _Glyph(ink, room, quarters % 2 == 1)


def _box(content: Any, index: int, *, loose: bool = False) -> Rectangle | None:
    from pypdfium2 import raw

    if loose:
        rectangle = raw.FS_RECTF()
        if not raw.FPDFText_GetLooseCharBox(content, index, rectangle):
            return None
        return _ordered(rectangle.left, rectangle.bottom, rectangle.right, rectangle.top)
    x0, x1, y0, y1 = c_double(), c_double(), c_double(), c_double()
    if not raw.FPDFText_GetCharBox(content, index, x0, x1, y0, y1):
        return None
    return _ordered(x0.value, y0.value, x1.value, y1.value)


def _ordered(x0: float, y0: float, x1: float, y1: float) -> Rectangle | None:
    """Return a rectangle, or None if a broken font gives it no finite place."""
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        return None
    return Rectangle(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))


def _lines(glyphs: Iterator[_Glyph]) -> list[Rectangle]:
    """Return a rectangle for each line of glyphs: what their ink covers."""
    lines: list[Rectangle] = []
    before: _Glyph | None = None
    room = Rectangle(0, 0, 0, 0)
    for glyph in glyphs:
        if before is not None and before.vertical == glyph.vertical and _in_line(room, glyph.room, glyph.vertical):
            lines[-1], room = _around(lines[-1], glyph.ink), _around(room, glyph.room)
        else:
            lines.append(glyph.ink)
            room = glyph.room
        before = glyph
    return lines


def _in_line(line: Rectangle, glyph: Rectangle, vertical: bool) -> bool:
    """Return whether a glyph continues a line: beside it, and not far away."""
    if vertical:
        line, glyph = (Rectangle(one.bottom, one.left, one.top, one.right) for one in (line, glyph))
    height = min(line.top - line.bottom, glyph.top - glyph.bottom)
    shared = min(line.top, glyph.top) - max(line.bottom, glyph.bottom)
    gap = max(line.left, glyph.left) - min(line.right, glyph.right)
    return shared > height / 2 and gap <= _APART * max(glyph.top - glyph.bottom, 1.0)


def _around(a: Rectangle, b: Rectangle) -> Rectangle:
    return Rectangle(min(a.left, b.left), min(a.bottom, b.bottom), max(a.right, b.right), max(a.top, b.top))


def _as_shown(
    line: Rectangle, bounds: tuple[float, float, float, float], rotation: int
) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom from the upper left of the page as it is shown, turned clockwise."""
    left, bottom, right, top = bounds
    if rotation == 90:
        return line.bottom - bottom, line.left - left, line.top - bottom, line.right - left
    if rotation == 180:
        return right - line.right, line.bottom - bottom, right - line.left, line.top - bottom
    if rotation == 270:
        return top - line.top, right - line.right, top - line.bottom, right - line.left
    return line.left - left, top - line.top, line.right - left, top - line.bottom


def _picture(document: Any, place: _Place) -> bytes:
    """Return the PNG of a page with a part marked."""
    import numpy as np

    page = document[place.page - 1]
    try:
        scale = min(_DPI / 72, (_LONGEST_SIDE - 1) / max(place.width, place.height, 1.0))
        bitmap = page.render(scale=scale, rev_byteorder=True, may_draw_forms=False)
        pixels = bitmap.to_numpy()[..., :3].copy()
        bitmap.close()
    finally:
        page.close()
    high, wide = pixels.shape[:2]
    for left, top, right, bottom in place.lines:
        x0, y0 = (max(0, math.floor((value - _MARGIN) * scale)) for value in (left, top))
        x1, y1 = (math.ceil((value + _MARGIN) * scale) for value in (right, bottom))
        within = pixels[y0 : min(y1, high), x0 : min(x1, wide)]
        within[:] = within.astype(np.uint16) * np.array(_MARK, np.uint16) // 255
        for edge in (within[:2], within[-2:], within[:, :2], within[:, -2:]):  # seen on dark pages, too
            edge[:] = _EDGE
    return as_png(pixels)
