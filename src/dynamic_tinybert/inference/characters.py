"""Find where a text can be cut, and which characters belong to a token or a word."""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_PIECE = 1 << 16  # characters tokenized at a time
_MARKS = 64  # a character with more combining marks than this may be cut
_JOINERS = frozenset("\u200c\u200d\ufe0e\ufe0f")  # joiners and variation selectors belong to the character before


def pieces(text: str) -> Iterator[tuple[int, int]]:
    """Cut a text into pieces of bounded length and yield the start and end of each.

    A cut is before a run of white space, or otherwise after punctuation. If there is neither in 32,000 characters, the
    cut can be anywhere between two characters, because such a text is not made of words.
    """
    begin = 0
    while len(text) - begin > _PIECE:
        limit = begin + _PIECE
        cuts = range(limit, begin + _PIECE // 2, -1)
        end = next((cut for cut in cuts if text[cut] == " " and not _is_space(text[cut - 1])), None)
        if end is None:
            end = next((cut for cut in cuts if _is_space(text[cut]) and not _is_space(text[cut - 1])), None)
        if end is None:
            end = next((i for i in cuts if _is_punctuation(text[i - 1]) and not _continues(text[i])), limit)
        while end < min(len(text), limit + _MARKS) and _continues(text[end]):
            end += 1
        yield begin, end
        begin = end
    if begin < len(text):
        yield begin, len(text)


def _is_space(character: str) -> bool:
    """Whether BERT treats it as white space. BERT removes the other control characters that Python treats so."""
    return character in "\t\n\r " or unicodedata.category(character) in ("Zs", "Zl", "Zp")


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def _continues(character: str) -> bool:
    """Whether a code point is part of the character before it."""
    if "\U000e0020" <= character <= "\U000e007f":  # a tag, as in the flag of Wales
        return True
    return character in _JOINERS or unicodedata.category(character) in ("Mn", "Mc", "Me")


def whole_characters(text: str, start: int, end: int) -> tuple[int, int]:
    """Stretch a span so that it does not divide what is read as one character.

    That is a letter with its marks and vowel signs, an emoji with its modifier, emojis joined to one, two letters of a
    flag (a part of the grapheme clusters of Unicode's annex 29).

    Args:
        text: The text.
        start: Where the span starts, in code points.
        end: Where it ends; a span without characters stays so.
    """
    if start >= end:
        return start, end
    least, most = max(0, start - _MARKS), min(len(text), end + _MARKS)
    while start > least and _joined(text, start):
        start -= 1
    while end < most and _joined(text, end):
        end += 1
    return start, end


def _joined(text: str, at: int) -> bool:
    """Whether the code points before and at a place are read as one character."""
    here, before = text[at], text[at - 1]
    if before.isspace() and here not in _JOINERS:
        return False
    if _continues(here) or "\U0001f3fb" <= here <= "\U0001f3ff":
        return True
    if before == "\u200d":  # joins emojis
        return unicodedata.category(here) == "So"
    if _is_flag(here) and _is_flag(before):
        first = at
        while first > 0 and _is_flag(text[first - 1]):
            first -= 1
        return (at - first) % 2 == 1
    return False


def _is_flag(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def marks_of_the_token_before(text: str, offsets: Ints) -> npt.NDArray[np.bool_]:
    """Find the tokens that begin with a mark of the token before, or with a letter or digit right after a mark."""
    marks = np.zeros(len(offsets), np.bool_)
    for i in np.flatnonzero((offsets[1:, 0] <= offsets[:-1, 1]) & (offsets[1:, 0] < offsets[1:, 1])) + 1:
        first = int(offsets[i, 0])
        marks[i] = _continues(text[first]) or (text[first].isalnum() and first > 0 and _continues(text[first - 1]))
    return marks


def at_punctuation(text: str, offsets: Ints) -> npt.NDArray[np.bool_]:
    """Find the tokens that begin with punctuation or right after it: BERT begins a word there."""
    return np.array(
        [
            begin < end and (_is_punctuation(text[begin]) or (begin > 0 and _is_punctuation(text[begin - 1])))
            for begin, end in offsets.tolist()
        ],
        np.bool_,
    )


def at_spaces(text: str, offsets: Ints) -> npt.NDArray[np.bool_]:
    """Find blank tokens and those right after white space; offsets are without the white space around a token."""
    return np.array(
        [begin == end or (begin > 0 and text[begin - 1].isspace()) for begin, end in offsets.tolist()], np.bool_
    )


def leave_spaces(text: str, offsets: Ints) -> None:
    """Remove the white space around each token from its offsets, in place; a blank token then has no characters."""
    for i, (begin, end) in enumerate(offsets.tolist()):
        if begin < end and text[begin].isspace():
            offsets[i, 0] = begin = next((at for at in range(begin, end) if not text[at].isspace()), end)
        while begin < end and text[end - 1].isspace():
            offsets[i, 1] = end = end - 1


def word_bounds(offsets: Ints, starts: Ints) -> Ints:
    """Return where words begin and end, `[words, 2]`, without blank tokens; `starts` are the words' first tokens."""
    ends = np.append(starts[1:], len(offsets)) - 1
    blank = offsets[:, 0] == offsets[:, 1]
    if not blank.any():
        return np.stack([offsets[starts, 0], offsets[ends, 1]], 1)
    begin = np.minimum.reduceat(np.where(blank, np.iinfo(np.int64).max, offsets[:, 0]), starts)
    end = np.maximum.reduceat(np.where(blank, -1, offsets[:, 1]), starts)
    nothing = end < begin
    return np.stack([np.where(nothing, offsets[ends, 1], begin), np.where(nothing, offsets[ends, 1], end)], 1)


def keep_characters_whole(text: str, offsets: Ints) -> None:
    """Stretch each token, in place, over the marks that the normalizer removed from its last character."""
    following = np.append(offsets[1:, 0], len(text))
    for i in np.flatnonzero(offsets[:, 1] < following):
        end = int(offsets[i, 1])
        while end < following[i] and _continues(text[end]):
            end += 1
        offsets[i, 1] = end
