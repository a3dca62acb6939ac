"""Spans that a person would underline: what is written together stays together, and nothing crosses a line of a list.

None of these rules needs the model. SQuAD's `select` articles were used to check that no rule costs accuracy
(results/quality/spans.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.answer import FULL_STOP
from dynamic_tinybert.inference.characters import whole_characters
from dynamic_tinybert.inference.tokenizer import Tokens

_REACH = 2000  # characters around a line break that decide about it
_CHUNK = 100  # the longest part of a number, an address or a name outside a span, in characters
_PAIR = 40  # how far the other bracket of a pair may be from a span, in characters
_CURRENCY = "USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD|SEK|NOK|DKK|PLN|CZK|BRL|KRW"
_SUFFIX = (  # of files and of sites, so that a full stop without a space joins nothing else
    "py|pyi|typed|toml|json|ya?ml|md|txt|rst|csv|tsv|html?|css|js|ts|xml|pdf|docx?|xlsx?|pptx?|zip|gz|tar|whl|sh|bat|exe|"
    "dll|so|conf|cfg|ini|env|lock|log|sql|db|java|jar|cpp|hpp|rs|go|rb|php|png|jpe?g|gif|svg|mp[34]|onnx|safetensors|"
    "com|org|net|io|dev|edu|gov|info|example"
)
_TOGETHER = re.compile(
    rf"""
      (?:https?://|ftp://|www\.)[^\s<>"'`]*[^\s<>"'`.,;:!?()\[\]{{}}»”’]  # an address of a page
    | [\w.+-]*\w@\w[\w-]*(?:\.[\w-]*\w)+                                  # of a person
    | (?<![\w-])--?[A-Za-z][\w-]*                                         # an option of a command
    | (?<!\w)@[A-Za-z_]\w*(?:\.\w+)*                                      # a decorator, a handle
    | (?<![\w/])(?:~|\.{{1,2}})?/\w[\w.-]*(?:/[\w.-]*\w)+                 # a path
    | (?:(?:\b(?:{_CURRENCY})|[$€£¥])[ \u00a0]?)?(?<!\d)(?!(?:1[5-9]|20)\d\d\.\d)\d+(?:[.,:]\d+)*
      (?:[ \u00a0]?(?:[$€£¥%‰]|°[CF]?|(?:{_CURRENCY})\b))?                # a number, but no year with a footnote
    | [^\W\d]\w*(?:\.\w+)*\.(?:{_SUFFIX})\b                               # a file, a site
    | [^\W\d]\w*(?:\.\w+)*\(\)                                            # a call
    | [A-Za-z0-9]+(?:_[A-Za-z0-9]+)+                                      # a name in code
    """,
    re.VERBOSE,
)
_UNSPACED = re.compile(  # Thai, Lao, Myanmar, Khmer, Kana, Han: words have no spaces between them
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
)
_BREAK = re.compile(r"\n[^\S\n]*\n|[\f\t]|(?<=\s)\|(?=\s)|\n")
_PARAGRAPH = re.compile(r"\n(?:[^\S\n]*\n)+|\f")
_ITEM = re.compile(r"[^\S\n]*(?:[-*•‣–#>|][^\S\n]|\(?(?:\d{1,3}|[a-z])\.[^\S\n]|\((?:\d{1,3}|[a-z])\)[^\S\n])")
_CLOSED = re.compile(rf"(?:[!?:;。！？]|{FULL_STOP})[\"'”’»)\]]*$")
_RAGGED = 0.8  # lines of wrapped text are at least so long, relative to the longest but one
_NARROW = 24  # characters: no text is wrapped to lines so short
_WORD = re.compile("[^\\W_]+(?:_+[^\\W_]+)*|[\u2600-\u27bf\U0001f000-\U0001faff]+")  # emojis say something, too
_STOP_WORD = re.compile(
    "[Aa]n|a|[Aa]nd|[Aa]re|[Aa]s|[Aa]t|[Bb]e|[Bb]een|[Bb]ut|[Bb]y|[Ff]or|[Ff]rom|[Ii]n|[Ii]s|[Ii]ts?|[Oo]f|[Oo]n|[Oo]r|"
    "[Tt]hat|[Tt]he|[Tt]hese|[Tt]his|[Tt]hose|[Tt]o|[Ww]as|[Ww]ere|[Ww]ith"
)
_NO_BEGIN = ",;:.!?"  # if white space follows
_NO_END = ",;:"
_OPEN = dict(zip("([{“「『", ")]}”」』", strict=True))
_CLOSE = {close: open_ for open_, close in _OPEN.items()}
_MARKS = re.compile("[‘’‚„«»‹›<>'`*_]")
_QUOTES = [  # begin, end; “…” is above
    (re.compile("«"), re.compile("»")),
    (re.compile("‹"), re.compile("›")),
    (re.compile("„"), re.compile("[“”]")),
]
_REVERSED = [(re.compile("»"), re.compile("«")), (re.compile("›"), re.compile("‹"))]  # as in German
_AMBIGUOUS = [  # may be an apostrophe, a letter, a decade, or mean less than: taken along, but never left out
    (re.compile(r"(?<!\w)‘(?=[^\W\d])"), re.compile(r"(?<=\S)’(?!\w)")),
    (re.compile(r"(?<!\w)‚(?=\w)"), re.compile(r"(?<=\S)[‘’](?!\w)")),
    (re.compile(r"(?<!\w)'(?=[^\W\d])"), re.compile(r"(?<=\S)'(?!\w)")),
    (re.compile(r"(?<!\w)<(?=[A-Za-z/])"), re.compile(r"(?<![\s=-])>")),
    (re.compile(r"»(?=\w)"), re.compile(r"(?<=\S)»(?!\w)")),  # as in Finnish
]
_EMPHASIS = re.compile("[*_`]{1,5}")  # of Markdown: *x*, **`x`**
_EMPHASIS_END = re.compile("(?<![*_`])[*_`]{1,5}$")


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
    if not glued and not text[start].isdecimal() and not text[end - 1].isdecimal():
        return start, end
    first, last = start, end
    for at in (start, end):
        low, high = max(0, at - _CHUNK), min(len(text), at + _CHUNK)
        while low > 0 and low < at and not text[low - 1].isspace():  # not in the middle of a word
            low += 1
        for found in _TOGETHER.finditer(text, low, high):
            if found.start() < start < found.end():
                first = min(first, found.start())
            if found.start() < end < found.end():
                last = max(last, found.end())
    return first, last


def sensible(text: str, tokens: Tokens, longest: int) -> npt.NDArray[np.bool_]:
    """Return which spans of tokens a person could underline, `[tokens, longest]`, with indices as in `span_logits`.

    A span must not cross the end of a paragraph, an item of a list, a heading, a table cell or a page. It must have a
    letter, a digit or an emoji, and be more than one stop word.

    Args:
        text: The text.
        tokens: Some of its tokens.
        longest: The longest span, in tokens.
    """
    n = len(tokens)
    if not n:
        return np.ones((n, longest), np.bool_)
    low, high = int(tokens.word_start[0]), int(tokens.word_end[-1])  # whole words, also where a window cuts one
    words = [(m.start(), m.end(), bool(_STOP_WORD.fullmatch(m[0]))) for m in _WORD.finditer(text, low, high)]
    begin, end = (np.array([word[side] for word in words] + [high + 1], np.int64) for side in (0, 1))
    stops = np.array([word[2] for word in words] + [False])
    # The first word that ends after the begin of a token, and the last that begins before its end.
    first = np.searchsorted(end, tokens.start, "right")
    last = np.searchsorted(begin, tokens.end, "left") - 1
    until = np.minimum(np.arange(n)[:, None] + np.arange(min(longest, n))[None, :], n - 1)
    lasts, firsts = last[until], first[:, None]
    good = (firsts <= lasts) & ~((firsts == lasts) & stops[first][:, None])
    ends = np.array(list(line_ends(text, low, high)), np.int64)
    if len(ends):
        block = np.searchsorted(ends, tokens.start, "right")
        good &= block[:, None] == block[until]
    if good.shape[1] < longest:
        good = np.pad(good, ((0, 0), (0, longest - good.shape[1])), constant_values=False)
    return np.asarray(good, np.bool_)


def is_sensible(text: str, start: int, end: int) -> bool:
    """Return whether a span has a letter, a digit or an emoji, and is more than one stop word."""
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
    begin = max([low, *(found.end() for found in _PARAGRAPH.finditer(text, low, at))])
    after = _PARAGRAPH.search(text, at + 1, high)
    stop = after.start() if after else high
    line = text[max(begin, text.rfind("\n", begin, at) + 1) : at].rstrip()
    following = text[at + 1 : stop].partition("\n")[0]
    if _CLOSED.search(line) or "\t" in line or "\t" in following:
        return True
    lengths = sorted(len(one.rstrip()) for one in text[begin:stop].split("\n"))
    width = lengths[-2] if len(lengths) > 2 else lengths[-1]  # one line may hold a long address
    first = following.split(None, 1)[:1]
    return not first or width < _NARROW or len(line) + 1 + len(first[0]) <= _RAGGED * width


def whole_pairs(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a span with its brackets and quotation marks in pairs, without a comma at its begin or end.

    The other one of a pair is taken along if it is near. Otherwise a bracket at an end of the span is left out. What
    would leave nothing sensible is not done.

    Args:
        text: The text.
        start: Where the span starts, in characters.
        end: Where it ends.
    """
    first, last = _quoted(text, start, end)
    if _MARKS.search(text, max(0, first - 1), last + 1):
        first, last = _marked(text, first, last)
    opened: list[int] = []
    lonely: list[int] = []  # closing brackets without their partner
    for at in range(first, last):
        if text[at] in "“”" and "„" in text[first:at]:  # „…“ and „…” are pairs, too
            continue
        if text[at] in _OPEN:
            opened.append(at)
        elif text[at] in _CLOSE:
            if opened and _OPEN[text[opened[-1]]] == text[at]:
                opened.pop()
            else:
                lonely.append(at)
    alone = set()
    for at in reversed(opened):
        close = _partner(text, last, _OPEN[text[at]], text[at], 1)
        if close is not None and (at > first or close == last):
            last = max(last, close + 1)
        else:
            alone.add(at)
    for at in lonely:
        open_ = _partner(text, first - 1, _CLOSE[text[at]], text[at], -1)
        if open_ is not None and (at < last - 1 or open_ == first - 1):
            first = open_
        else:
            alone.add(at)
    while first in alone:
        first += 1
    while last - 1 in alone:
        last -= 1
    while first < last and (text[first].isspace() or (text[first] in _NO_BEGIN and text[first + 1 : first + 2] <= " ")):
        first += 1
    while last > first and (text[last - 1].isspace() or text[last - 1] in _NO_END):
        last -= 1
    return (first, last) if first < last and is_sensible(text, first, last) else (start, end)


def _quoted(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a span with straight quotation marks in pairs. One after a digit may mean inches."""
    span = text[start:end]
    count = sum(mark == '"' and not (at and span[at - 1].isdecimal()) for at, mark in enumerate(span))
    if count % 2 == 0:
        return start, end
    if text[end : end + 1] == '"':
        return start, end + 1
    if text[max(0, start - 1) : start] == '"':
        return start - 1, end
    if len(span) > 1 and span[0] == '"':
        return start + 1, end
    return (start, end - 1) if len(span) > 1 and span[-1] == '"' else (start, end)


def _marked(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a span with its low, angle and single quotation marks in pairs, and without half of an emphasis."""
    for begins, ends in _AMBIGUOUS:
        # Only at the ends of a span. A mark depends on its neighbours, which may be outside of it.
        if end - start < 2:
            break
        opened, closes = begins.match(text, start), ends.match(text, end)
        closed, opens = ends.match(text, end - 1), start and begins.match(text, start - 1)
        if opened and closes and not closed:
            end += 1
        elif closed and opens and not opened:
            start -= 1
    span = text[start:end]
    german = not 0 <= span.find("«") < span.rfind("»") or (
        text[max(0, start - 1) : start] == "»" and text[end : end + 1] == "«" and span[0] != "«"
    )
    for begins, ends in [*_QUOTES, *(_REVERSED if german else ())]:
        opening = [m.start() for m in begins.finditer(text, start, end)]
        closing = [m.start() for m in ends.finditer(text, start, end)]
        if opening and not any(at > opening[-1] for at in closing):
            if ends.match(text, end):
                end += 1
            elif opening[-1] == start and len(opening) == 1:
                start += 1
        if closing and not any(at < closing[0] for at in opening):
            if start and begins.match(text, start - 1):
                start -= 1
            elif closing[0] == end - 1 and text[end - 1] not in "“”":  # these have rules of their own
                end -= 1
    return _emphasized(text, start, end)


def _emphasized(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a span without half of an emphasis of Markdown, or with all of it if the span has others of its kind."""
    first, last = _EMPHASIS.match(text, start, end), _EMPHASIS_END.search(text, start, end)
    if first and not last and text.startswith(mark := first[0][::-1], end):
        return (start, end + len(mark)) if text.find(mark, first.end(), end) >= 0 else (first.end(), end)
    if last and not first and text.endswith(mark := last[0][::-1], 0, start):
        return (start - len(mark), end) if text.find(mark, start, last.start()) >= 0 else (start, last.start())
    return start, end


def _partner(text: str, at: int, wanted: str, other: str, step: int) -> int | None:
    """Find the other bracket of a pair from a place on, in one direction; None if it is far, or another line."""
    depth = 0
    for i in range(at, at + step * _PAIR, step):
        if not 0 <= i < len(text) or text[i] in "\n\f\t|":
            return None
        if text[i] == wanted:
            if not depth:
                return i
            depth -= 1
        elif text[i] == other:
            depth += 1
    return None
