"""Rewrite questions as people type them: without a question mark, as keywords, as an order, with a typo."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

_MARKS = " \t\n?.!"
_WORD = re.compile(r"[^\s]+")
_LETTERS = re.compile(r"(?<!\S)[\"“'(]?([^\W\d_]{4,})(?=[\"”')?,.;:!]*(?:['’]s)?[?,.;:!]*(?:\s|$))")
_DROP = """
    a an the is are was were be been being do does did has have had what which that this these those of in on at for
    it its there and also
"""
# "who" and "when" stay, since they say what kind of answer is wanted; `by`, `from`, `to` and `not` stay, since the
# question means something else without them.
_DROPPED = frozenset(_DROP.split())

_AUXILIARIES = """
    is are was were am be do does did has have had can could will would shall should may might must isn't aren't
    wasn't weren't don't doesn't didn't
"""
_INVERTS = frozenset(_AUXILIARIES.split())
_ASKING = re.compile(r"(?:who|what|which|how (?:many|much))\b", re.IGNORECASE)
_FIRST = re.compile(
    r"(?:who|whom|whose|what|which|when|where|why|how|in|on|at|by|for|from|to|of|with|during|after|before|under"
    r"|about|the|is|are|was|were|do|does|did)\b",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"what(?: (?:is|was|are|were)|['’]s) (the (?:\w+ ){0,2}?(?:name|names|title|number|population|capital|date|year|"
    r"percentage|size|length|height|area|cost|price|temperature|age|purpose|meaning|cause|result|source|origin|"
    r"definition|nickname|motto|currency|language|religion|location|color|colour) (?:of|for) .+)",
    re.IGNORECASE,
)
_LEFT_HANGING = re.compile(
    r"(?:called|named|known|located|considered|\bas|\bin|\bof|\bat|\bto|\bfor|\bwith|\bby|\bon)$"
)


def as_typed(question: str, draw: random.Random) -> str:
    """Return a question as somebody may type it. Each variant that is possible is equally probable.

    The variants:

    - without its question mark;
    - in lower case without its question mark (the same for an uncased tokenizer);
    - only its keywords;
    - as an order: "Tell me who built the tower";
    - with one typo in a word, never in a number: two letters swapped, one missing, or one doubled.

    Args:
        question: The question. If it has no variant, it is returned unchanged.
        draw: Draws the variant.
    """
    ways: list[Callable[[str, random.Random], str | None]] = [_unmarked, _lower, _keywords, _order, _typo]
    draw.shuffle(ways)
    for way in ways:
        typed = way(question, draw)
        if typed is not None and typed != question:
            return typed
    return question


def _unmarked(question: str, _: random.Random) -> str | None:
    return question.strip().rstrip(_MARKS) or None


def _lower(question: str, _: random.Random) -> str | None:
    return question.lower().strip().rstrip(_MARKS) or None


def _keywords(question: str, draw: random.Random) -> str | None:
    """Return the words without stop words, in order; None if fewer than two stay, or none is dropped."""
    words = question.strip().rstrip(_MARKS).split()
    kept = [word for word in words if word.lower().strip("\"“”'(),;:") not in _DROPPED]
    if len(kept) < 2 or len(kept) == len(words):
        return None
    keywords = " ".join(word.strip(",;:") for word in kept)
    return keywords.lower() if draw.random() < 0.7 else keywords


def _order(question: str, draw: random.Random) -> str | None:
    """Return an order. If the words would need to be rearranged, a colon and the unchanged question follow instead."""
    asked = question.strip().rstrip(_MARKS)
    if not asked:
        return None
    named = _NAMED.fullmatch(asked)
    if named and not _LEFT_HANGING.search(asked):
        return f"{draw.choice(['Tell me', 'Give me', 'Find', 'Name'])} {named[1]}{draw.choice(['.', ''])}"
    words = {word.strip(",;:").lower() for word in asked.split()}
    if _ASKING.match(asked) and not words & _INVERTS:
        lead = draw.choice(["Tell me", "Please tell me", "I want to know"])
        return f"{lead} {asked[0].lower()}{asked[1:]}{draw.choice(['.', ''])}"
    if _FIRST.match(asked):
        asked = asked[0].lower() + asked[1:]
    return f"{draw.choice(['Tell me', 'Please tell me', 'Can you tell me', 'Quick question'])}: {asked}?"


def _typo(question: str, draw: random.Random) -> str | None:
    """Make one typo in a word of at least 4 letters, not in its first letter; None if there is no such word."""
    words = list(_LETTERS.finditer(question))
    if not words:
        return None
    start, end = draw.choice(words).span(1)
    word = question[start:end]
    at = draw.randrange(1, len(word) - 1)
    kind = draw.choice(["swap", "missing", "double"])
    if kind == "swap" and word[at] != word[at + 1]:
        new = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    elif kind == "missing":
        new = word[:at] + word[at + 1 :]
    else:
        new = word[: at + 1] + word[at:]
    return question[:start] + new + question[end:]
