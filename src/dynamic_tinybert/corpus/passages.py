"""Cut a text into passages that do not overlap: the passages of a document, joined, are its text."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator

PASSAGE_SIZE = 1200
"""The most characters of a passage. In English, so many fit into one window of 384 tokens with a question."""

_LEAST, _MOST = 50, 1_000_000
_AHEAD = 4  # passage sizes of text that a cut looks at
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*|\f\s*")
_LINE = re.compile(r"\n\s*")
_SENTENCE = re.compile(r"[.!?…][\"'”’»)\]]*\s+|[。！？]")
_WORD = re.compile(r"\s+")


def check_size(size: int) -> int:
    """Return the passage size if it is valid.

    Raises:
        ValueError: It is not a whole number from 50 to a million.
    """
    if isinstance(size, bool) or not isinstance(size, int) or not _LEAST <= size <= _MOST:
        raise ValueError(f"the passage size must be from {_LEAST} to {_MOST:,} characters, not {size!r:.50}")
    return size


def cut(blocks: Iterable[str], size: int = PASSAGE_SIZE) -> Iterator[str]:
    """Cut a text into passages, in bounded memory.

    A passage holds as many whole paragraphs as fit. A longer paragraph is cut into parts of similar length: at the ends
    of sentences, otherwise of lines, otherwise of words.

    Args:
        blocks: The text, in blocks of any size.
        size: The most characters of a passage.

    Returns:
        Passages of 1 to `size` characters; joined, they are the text. An empty text has no passages.

    Raises:
        ValueError: `size` is out of range.
    """
    check_size(size)
    ahead = _AHEAD * size
    rest = ""
    for block in blocks:
        text, begin = rest + block, 0
        while len(text) - begin > ahead:
            end = begin + _first(text[begin : begin + ahead], size)
            yield text[begin:end]
            begin = end
        rest = text[begin:]
    while rest:
        end = _first(rest, size)
        yield rest[:end]
        rest = rest[end:]


def _first(text: str, size: int) -> int:
    """Return the end of the first passage of a text."""
    if len(text) <= size:
        return len(text)
    begin = len(text) - len(text.lstrip())
    paragraphs = [m.end() for m in _PARAGRAPH.finditer(text) if m.start() > begin]
    fitting = bisect_right(paragraphs, size)
    if fitting:
        return paragraphs[fitting - 1]
    long = paragraphs[0] if paragraphs else len(text)
    like = long / -(-long // size)
    for boundary in (_SENTENCE, _LINE, _WORD):
        ends = [m.end() for m in boundary.finditer(text, 0, size + 1) if size // 4 <= m.end() <= size]
        if ends:
            return min(ends, key=lambda end: abs(end - like))
    return _between_characters(text, size)


def _between_characters(text: str, size: int) -> int:
    """Return a cut at `size` or a little before it, but not between a letter and its combining marks."""
    for end in range(size, max(size - 32, 1), -1):
        joins = text[end - 1] == "\u200d" or text[end] == "\u200d" or unicodedata.category(text[end]).startswith("M")
        if not joins and text[end - 1 : end + 1] != "\r\n":
            return end
    return size
