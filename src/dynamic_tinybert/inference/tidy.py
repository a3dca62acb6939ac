"""Spans that a person would underline: what is written together stays together, and nothing crosses a line of a list.

None of these rules needs the model. SQuAD's `select` articles were used to check that no rule costs accuracy
(results/quality/spans.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from dynamic_tinybert.inference.characters import whole_characters
from dynamic_tinybert.inference.tokenizer import Tokens

_REACH = 2000  # characters around a window that decide about its line breaks
_CHUNK = 100  # the longest part of a number, an address or a name outside a span, in characters
_PAIR = 40  # how far the other bracket of a pair may be from a span, in characters
_CURRENCY = "USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD|SEK|NOK|DKK|PLN|CZK|BRL|KRW"
_TOGETHER = re.compile(
    rf"""
      (?:https?://|ftp://|www\.)[^\s<>"'`]*[^\s<>"'`.,;:!?()\[\]{{}}»”’]  # an address of a page
    | [\w.+-]*\w@\w[\w-]*(?:\.[\w-]*\w)+                                  # of a person
    | (?<![\w-])--?[A-Za-z][\w-]*                                         # an option of a command
    | (?<!\w)@[A-Za-z_]\w*(?:\.\w+)*                                      # a decorator, a handle
    | (?<![\w/])(?:~|\.{{1,2}})?/\w[\w.-]*(?:/[\w.-]*\w)+                 # a path
    | (?:(?:\b(?:{_CURRENCY})|[$€£¥])[^\S\n]?)?\d+(?:[.,:]\d+)*(?:[^\S\n]?(?:[$€£¥%‰]|°[CF]?|(?:{_CURRENCY})\b))?
    | [^\W\d]\w*(?:\.(?![A-Z][a-z])\w+)+(?:\(\))?                         # a file, a name in code
    | [A-Za-z0-9]+(?:_[A-Za-z0-9]+)+(?:\(\))?
    """,
    re.VERBOSE,
)
_UNSPACED = re.compile(  # Thai, Lao, Myanmar, Khmer, Kana, Han: words have no spaces between them
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
)
_BREAK = re.compile(r"\n[^\S\n]*\n|[\f\t]|(?<=\s)\|(?=\s)|\n")
_ITEM = re.compile(r"[^\S\n]*(?:[-*•‣–#>|]|\(?\w{1,3}[.)])[^\S\n]")
_CLOSED = re.compile(r"[!?:;。！？][\"'”’»)\]]*$|(?<!\b[A-Z])(?<!\b[MD]r)(?<!\bSt)(?<!\bMrs)\.[\"'”’»)\]]*$")
_RAGGED = 0.8  # lines of wrapped text are at least so long, relative to the longest
_WORD = re.compile(r"\w+")
_STOP_WORD = re.compile(
    "an?|and|are|as|at|be|been|but|by|for|from|in|is|its?|of|on|or|that|the|these|this|those|to|was|were|with",
    re.IGNORECASE,
)
_NO_BEGIN = ",;:.!?"  # if white space follows
_NO_END = ",;:"
_OPEN = dict(zip("([{“«「『", ")]}”»」』", strict=True))
_CLOSE = {close: open_ for open_, close in _OPEN.items()}


def words_of_unspaced(text: str, tokens: Tokens) -> Tokens:
    """Return tokens of which each is a word of its own, where it is of a script without spaces between words.

    Args:
        text: The text.
        tokens: Some of its tokens.
    """
    if text.isascii() or not len(tokens) or not _UNSPACED.search(text, int(tokens.start[0]), int(tokens.end[-1])):
        return tokens
    first, last = tokens.word_start.copy(), tokens.word_end.copy()
    for i, (start, end) in enumerate(zip(tokens.start.tolist(), tokens.end.tolist(), strict=True)):
        if start < end and _UNSPACED.search(text, start, end):
            first[i], last[i] = whole_characters(text, start, end)
    return replace(tokens, word_start=first, word_end=last)


def stretched(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a span with the whole of a number, an address or a name in code that it begins or ends in.

    Args:
        text: The text.
        start: Where the span starts, in characters.
        end: Where it ends.
    """
    # Most spans begin and end at white space, or before a comma and a space.
    before, after = text[max(0, start - 1) : start], text[end : end + 2]
    glued = (before and not before.isspace()) or (len(after) == 2 and not (after[0].isspace() or after[1].isspace()))
    if not glued and not text[start].isdigit() and not text[end - 1].isdigit():
        return start, end
    low, high = max(0, start - _CHUNK), min(len(text), end + _CHUNK)
    while low > 0 and low < start and not text[low - 1].isspace():  # not in the middle of a word
        low += 1
    for found in _TOGETHER.finditer(text, low, high):
        first, last = found.span()
        if first >= end:
            break
        if first < start < last:
            start = first
        if first < end < last:
            end = last
    return start, end


def is_sensible(text: str, start: int, end: int) -> bool:
    """Return whether a span has a letter or a digit, and is more than one stop word."""
    words = _WORD.finditer(text, start, end)
    first = next(words, None)
    return first is not None and (not _STOP_WORD.fullmatch(first.group()) or next(words, None) is not None)


def line_ends(text: str, low: int, high: int) -> Iterator[int]:
    """Yield where a paragraph, an item, a heading, a cell or a page ends, from `low` to `high`, in characters.

    A span that a person would underline crosses none of these.

    A line break inside wrapped text is no such place. There the first word of the next line would not have fitted.
    """
    if not any(mark in text[low:high] for mark in "\n\f\t|"):
        return
    for found in _BREAK.finditer(text, low, high):
        if found.group() != "\n" or _ends_a_line(text, found.start()):
            yield found.start()


def _ends_a_line(text: str, at: int) -> bool:
    """Return whether a line break, at a character, is there on purpose and not because the line was full."""
    low, high = max(0, at - _REACH), at + 1 + _REACH
    if _ITEM.match(text, at + 1):
        return True
    begin = max(low, text.rfind("\n\n", low, at) + 2, text.rfind("\f", low, at) + 1)
    stop = min((x for x in (text.find("\n\n", at + 1, high), text.find("\f", at + 1, high)) if x >= 0), default=high)
    line = text[max(begin, text.rfind("\n", begin, at) + 1) : at].rstrip()
    following = text[at + 1 : stop].partition("\n")[0]
    if _CLOSED.search(line) or "\t" in line or "\t" in following:
        return True
    width = max(len(one.rstrip()) for one in text[begin:stop].split("\n"))
    first = following.split(None, 1)[:1]
    return not first or len(line) + 1 + len(first[0]) <= _RAGGED * width


def whole_pairs(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a span with its brackets and quotation marks in pairs, without a comma at its begin or end.

    The other one of a pair is taken along if it is near. Otherwise a bracket at an end of the span is left out.

    Args:
        text: The text.
        start: Where the span starts, in characters.
        end: Where it ends.
    """
    span = text[start:end]
    if span.count('"') % 2:
        if text[end : end + 1] == '"':
            end += 1
        elif text[max(0, start - 1) : start] == '"':
            start -= 1
        elif len(span) > 1 and span[0] == '"':
            start += 1
        elif len(span) > 1 and span[-1] == '"':
            end -= 1
    opened: list[int] = []
    lonely: list[int] = []  # closing brackets without their partner
    for at in range(start, end):
        if text[at] in _OPEN:
            opened.append(at)
        elif text[at] in _CLOSE:
            if opened and _OPEN[text[opened[-1]]] == text[at]:
                opened.pop()
            else:
                lonely.append(at)
    for at in reversed(opened):
        close = _partner(text, end, _OPEN[text[at]], text[at], 1)
        if close is not None and at > start:
            end = max(end, close + 1)
        elif close == end:  # the whole is in brackets
            end += 1
        elif at == start:
            start += 1
        else:
            end = at
    for at in lonely:
        if not start <= at < end:
            continue
        open_ = _partner(text, start - 1, _CLOSE[text[at]], text[at], -1)
        if open_ is not None and (at < end - 1 or open_ == start - 1):
            start = open_
        elif at == end - 1:
            end -= 1
        else:
            start = at + 1
    while start < end and (text[start].isspace() or (text[start] in _NO_BEGIN and text[start + 1 : start + 2] <= " ")):
        start += 1
    while end > start and (text[end - 1].isspace() or text[end - 1] in _NO_END):
        end -= 1
    return start, end


def _partner(text: str, at: int, wanted: str, other: str, step: int) -> int | None:
    """Find the other bracket of a pair from a place on, in one direction; None if it is far, or another line."""
    depth = 0
    for i in range(at, at + step * _PAIR, step):
        if not 0 <= i < len(text) or text[i] in "\n\f":
            return None
        if text[i] == wanted:
            if not depth:
                return i
            depth -= 1
        elif text[i] == other:
            depth += 1
    return None
