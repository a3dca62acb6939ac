"""Lay out text as it is extracted from PDF and HTML: lines, hyphens, list markers, headings, page footers, menus."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from urllib.parse import unquote

from dynamic_tinybert.train.data.passage import Edit, Passage, holds, sentence_gaps

_HEADINGS = (
    "Introduction", "Overview", "Background", "Summary", "Description", "History", "Details", "General information",
    "Contents", "Notes", "Abstract", "Discussion", "About",
)  # fmt: skip
_FOOTERS = (
    "{page}", "- {page} -", "Page {page}", "Page {page} of {pages}", "{page} | {title}", "{title}   {page}",
    "www.example.org   {page}", "Printed from www.example.org", "© All rights reserved.   {page}",
    "Draft - do not distribute   {page}",
)  # fmt: skip
_MENUS = (
    "Home > {title}", "Home | About | Contact", "Skip to main content", "Jump to navigation Jump to search",
    "Share  Print  Email", "Read more", "Advertisement", "Back to top", "Accept all cookies", "Sign in  Register",
    "[edit]", "View source  History",
)  # fmt: skip
_MARKERS = "• ", "- ", "* ", "– ", "{number}. ", "{number}) ", "({number}) "
_LONG_WORD = re.compile(r"[A-Za-z]{7,}")
_BREAK = re.compile(r"(?<=[A-Za-z]{3})(?<=[aeiouynrlstmcd])(?=[bcdfghjklmnpqrstvwxz][aeiouy][A-Za-z])")


def lay_out(passage: Passage, title: str, answers: Iterable[str], draw: random.Random) -> Passage:
    """Return a passage as it is extracted from a PDF or an HTML file, each with probability 1/2.

    - PDF: lines of at most 60 to 100 characters, most often with hyphenated words at their ends; sometimes with a
      heading at the start, list markers, and a page footer between two lines.
    - HTML: one or more of list markers before sentences, a heading at the start, and menu lines at the start or end.
      There are no lines of fixed width.

    A right answer is never broken, and inserted text holds no answer.

    Args:
        passage: The passage.
        title: The title of the article, for headings.
        answers: The question's answers.
        draw: Draws the changes.
    """
    title = " ".join(unquote(title).replace("_", " ").split())
    answers = list(answers)
    if draw.random() < 0.5:
        if draw.random() < 0.3:
            passage = _listed(passage, answers, draw)
        if draw.random() < 0.4:
            passage = _headed(passage, title, answers, draw)
        passage = _wrapped(passage, draw.randint(60, 100), draw.random() < 0.7, draw)
        if draw.random() < 0.5:
            passage = _footed(passage, title, answers, draw)
        return passage
    kinds = draw.choice(["list", "heading", "menu", "list heading", "heading menu", "list heading menu"])
    if "list" in kinds:
        passage = _listed(passage, answers, draw)
    if "heading" in kinds:
        passage = _headed(passage, title, answers, draw)
    if "menu" in kinds:
        passage = _with_menu(passage, title, answers, draw)
    return passage


def _listed(passage: Passage, answers: list[str], draw: random.Random) -> Passage:
    """Make each sentence, or each from some sentence on, an item of a list."""
    gaps = [gap for gap in sentence_gaps(passage.text) if passage.is_free(*gap)]
    marker = draw.choice(_MARKERS)
    edits: list[Edit] = [(start, end, "\n") for start, end in gaps]
    if draw.random() < 0.5:
        edits.insert(0, (0, 0, ""))
    edits = edits[draw.randrange(len(edits)) if edits and draw.random() < 0.3 else 0 :]
    marked = [
        (start, end, new + marker.format(number=number)) for number, (start, end, new) in enumerate(edits, start=1)
    ]
    if any(holds(new, answers) for _, _, new in marked):
        marked = [(start, end, f"{new}• ") for start, end, new in edits]
    return passage.edited(marked)


def _headed(passage: Passage, title: str, answers: list[str], draw: random.Random) -> Passage:
    heading = draw.choice([*_HEADINGS, *[title] * 5])
    number = draw.choice(["", "", "", "{a}. ", "{a}.{b} ", "Chapter {a}: ", "Section {a}.{b} "])
    heading = number.format(a=draw.randint(1, 12), b=draw.randint(1, 9)) + heading
    heading = heading.upper() if draw.random() < 0.2 else heading
    return passage if not heading.strip() or holds(heading, answers) else passage.edited([(0, 0, heading + "\n")])


def _footed(passage: Passage, title: str, answers: list[str], draw: random.Random) -> Passage:
    """Insert a page footer between two lines, but not inside a hyphenated word."""
    page = draw.randint(1, 400)
    foot = draw.choice(_FOOTERS).format(page=page, pages=page + draw.randint(0, 300), title=title)
    places = [found.start() for found in re.finditer("(?<!-)\n", passage.text) if passage.is_free(*found.span())]
    if not places or holds(foot, answers):
        return passage
    at = draw.choice(places)
    return passage.edited([(at, at, "\n" + foot)])


def _with_menu(passage: Passage, title: str, answers: list[str], draw: random.Random) -> Passage:
    lines = [line.format(title=title) for line in draw.sample(_MENUS, draw.randint(1, 3))]
    lines = [line for line in lines if not holds(line, answers)]
    end = len(passage.text)
    return passage.edited((0, 0, line + "\n") if draw.random() < 0.6 else (end, end, "\n" + line) for line in lines)


def _wrapped(passage: Passage, width: int, hyphens: bool, draw: random.Random) -> Passage:
    """Break a passage into lines of at most `width` characters, longer only to keep a right answer or a word whole."""
    text = passage.text
    edits: list[Edit] = []
    begin = 0
    while len(text) - begin > width:
        line = text.find("\n", begin, begin + width + 1)
        if line >= 0:
            begin = line + 1
            continue
        at = _space(passage, begin, width)
        if at is None:
            break
        cut = _hyphen(passage, at + 1, begin + width) if hyphens and draw.random() < 0.5 else None
        if cut is None:
            edits.append((at, at + 1, "\n"))
            begin = at + 1
        else:
            edits.append((cut, cut, "-\n"))
            begin = cut
    return passage.edited(edits)


def _space(passage: Passage, begin: int, width: int) -> int | None:
    """Return the last space at which a line may end; if there is none within `width`, the first one after it."""
    text = passage.text
    at = text.rfind(" ", begin + 1, begin + width + 1)
    while at > begin and not passage.is_free(at, at + 1):
        at = text.rfind(" ", begin + 1, at)
    if at > begin:
        return at
    at = text.find(" ", begin + width + 1)
    while at >= 0 and not passage.is_free(at, at + 1):
        at = text.find(" ", at + 1)
    return at if at >= 0 else None


def _hyphen(passage: Passage, begin: int, limit: int) -> int | None:
    """Return the last place before `limit` to hyphenate the word at `begin`; a consonant and a vowel follow it."""
    word = _LONG_WORD.match(passage.text, begin)
    if word is None or not passage.is_free(*word.span()):
        return None
    cuts = [found.start() for found in _BREAK.finditer(passage.text, *word.span()) if found.start() < limit]
    return max((cut for cut in cuts if cut - begin >= 3), default=None)
