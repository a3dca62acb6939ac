"""Characters: where a text can be cut, and which of its characters are a token's. No token's id in sight."""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_PIECE = 1 << 16  # characters tokenized at a time
_MARKS = 64  # marks that a character may have before it is cut from them
_JOINERS = frozenset("\u200c\u200d\ufe0e\ufe0f")  # joiners and variation selectors belong to the character before


def pieces(text: str) -> Iterator[tuple[int, int]]:
    """Cut a text into pieces of bounded length: before the first of some white space, otherwise after punctuation.

    Where there is neither for 32,000 characters, anywhere but within a character: that is no word.
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
    """Whether BERT takes it for white space; the other controls that Python does, BERT removes within a word."""
    return character in "\t\n\r " or unicodedata.category(character) in ("Zs", "Zl", "Zp")


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def _continues(character: str) -> bool:
    """Whether a code point belongs to the character before it."""
    return character in _JOINERS or unicodedata.category(character) in ("Mn", "Mc", "Me")


def marks_of_the_token_before(text: str, offsets: Ints) -> npt.NDArray[np.bool_]:
    """Which tokens begin with a mark that belongs to the token before, or with a letter right after a mark."""
    marks = np.zeros(len(offsets), np.bool_)
    for i in np.flatnonzero((offsets[1:, 0] <= offsets[:-1, 1]) & (offsets[1:, 0] < offsets[1:, 1])) + 1:
        first = int(offsets[i, 0])
        marks[i] = _continues(text[first]) or (text[first].isalnum() and first > 0 and _continues(text[first - 1]))
    return marks


def at_punctuation(text: str, offsets: Ints) -> npt.NDArray[np.bool_]:
    """Which tokens begin with punctuation or after it, as words of BERT do."""
    return np.array(
        [
            begin < end and (_is_punctuation(text[begin]) or (begin > 0 and _is_punctuation(text[begin - 1])))
            for begin, end in offsets.tolist()
        ],
        np.bool_,
    )


def leave_spaces(text: str, offsets: Ints) -> None:
    """Leave the white space around each token out; what is nothing else has no character then."""
    for i, (begin, end) in enumerate(offsets.tolist()):
        if begin < end and text[begin].isspace():
            offsets[i, 0] = begin = next((at for at in range(begin, end) if not text[at].isspace()), end)
        while begin < end and text[end - 1].isspace():
            offsets[i, 1] = end = end - 1


def word_bounds(offsets: Ints, starts: Ints) -> Ints:
    """Where words begin and end, `[words, 2]`, by the tokens with which they begin: from those that are not blank."""
    ends = np.append(starts[1:], len(offsets)) - 1
    blank = offsets[:, 0] == offsets[:, 1]
    if not blank.any():
        return np.stack([offsets[starts, 0], offsets[ends, 1]], 1)
    begin = np.minimum.reduceat(np.where(blank, np.iinfo(np.int64).max, offsets[:, 0]), starts)
    end = np.maximum.reduceat(np.where(blank, -1, offsets[:, 1]), starts)
    nothing = end < begin
    return np.stack([np.where(nothing, offsets[ends, 1], begin), np.where(nothing, offsets[ends, 1], end)], 1)


def keep_characters_whole(text: str, offsets: Ints) -> None:
    """Stretch the end of each token over the marks that the normalizer took away from its last character."""
    following = np.append(offsets[1:, 0], len(text))
    for i in np.flatnonzero(offsets[:, 1] < following):
        end = int(offsets[i, 1])
        while end < following[i] and _continues(text[end]):
            end += 1
        offsets[i, 1] = end
