"""Read plain text, Markdown and reStructuredText files."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dynamic_tinybert.corpus.formats.reading import Complain, Reading, decoded, encoding_of

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

MARKDOWN = (".md", ".markdown")
"""The suffixes of Markdown files."""

_LONGEST_HEADING = 1000  # characters
_BEGINNINGS = (1 << 14, 1 << 17, 1 << 30)  # characters in which to look for a heading, tried in this order
_REFERENCE = re.compile(r"!?\[([^\]]*)\]\[[^\]]*\]")  # its target may be at the end of the file
_ATTRIBUTES = re.compile(r"[ \t]*\{#[^}]*\}$")
_MAY_BE_HEADING = re.compile(  # parsing a megabyte takes ten seconds, so not without need
    r"(?:\A|[\r\n]) {0,3}#{1,6}(?:[ \t\r\n]|\Z)|[^ \t\r\n][ \t]*(?:\r\n|[\r\n]) {0,3}(?:=+|-+)[ \t]*(?:[\r\n]|\Z)"
)
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n(.*?\n)?(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:[ \t]*(?![>|][-+\d]*[ \t\r]*$)(\S.*)$", re.MULTILINE | re.IGNORECASE)

_LONGEST_FIRST_LINE = 100  # characters of a title of plain text
_BEGINNING = 1 << 14  # characters of other text in which to look for a title
_END_OF_SENTENCE = re.compile(r"[.!?…。！？؟।,;:،、；：][\"'”’»)\]」]*\Z")  # or of a part of it
_ITEM = re.compile(r"[-*+•‣>#]\s|\(?\w{1,3}[.)]\s")  # of a list
_MOST_LINES = 50  # of the beginning, to see whether text follows a title
_LEAST_MARKS = 4  # under a title that is longer
_LINE_OF_MARKS = re.compile(r"([!-/:-@\[-`{-~])\1+")
_ROLES = re.compile(r":[\w.:+-]+:(?=`)")
_TARGETS = re.compile(r"(?<=\S)\s*<[^<>]*>(?=`)")
_MARKS = re.compile(r"`{1,2}([^`]+)`{1,2}_{0,2}|\*{1,2}([^*\s](?:[^*]*[^*\s])?)\*{1,2}")


def read_text(path: Path, reading: Reading, complain: Complain) -> Iterator[str]:
    """Yield the title of a text file, which may be empty, then its text."""
    with path.open("rb") as file:
        blocks = decoded(file, encoding_of(file, reading))
        first = next(blocks, "")
        suffix = path.suffix.lower()
        title_of = _markdown_title if suffix in MARKDOWN else _rst_title if suffix == ".rst" else _plain_title
        yield title_of(first)
        yield first
        yield from blocks


def _plain_title(source: str) -> str:
    """Return the first line of a text if it looks like a title: short, before an empty line, and no sentence."""
    first, following, *rest = [*source[:_BEGINNING].lstrip().splitlines(), "", ""][:_MOST_LINES]
    title = first.strip()
    alone = not following.strip() and any(line.strip() for line in rest)
    if not alone or len(title) > _LONGEST_FIRST_LINE or not any(map(str.isalpha, title)):
        return ""
    return "" if _END_OF_SENTENCE.search(title) or _ITEM.match(title) else title


def _rst_title(source: str) -> str:
    """Return the first section title of reStructuredText: a line with a line of equal marks below, perhaps above."""
    lines = ["", "", *source[:_BEGINNING].splitlines()]
    for above, upper, line, below in zip(lines, lines[1:], lines[2:], lines[3:], strict=False):
        title, under = line.strip(), below.rstrip()
        if not title or not _LINE_OF_MARKS.fullmatch(under) or _LINE_OF_MARKS.fullmatch(title):
            continue
        over = upper.rstrip() == under and not above.strip()
        begins = over or (not line[0].isspace() and (not upper.strip() or upper.startswith("..")))
        if begins and len(under) >= min(len(title), _LEAST_MARKS) and len(title) <= _LONGEST_HEADING:
            plain = _TARGETS.sub("", _ROLES.sub("", title))
            return _MARKS.sub(lambda mark: mark[1] or mark[2], plain)
    return ""


def _markdown_title(source: str) -> str:
    """Return the title of Markdown: from its front matter, otherwise its first heading; empty if both are missing."""
    matter = _FRONT_MATTER.match(source)
    if matter:
        named = _FRONT_TITLE.search(matter[1])
        if named:
            return named[1].strip().strip("\"'")
        source = source[matter.end() :]
    if not _MAY_BE_HEADING.search(source):
        return ""
    for size in _BEGINNINGS:
        title = _heading(source[: source.find("\n", size) + 1 or len(source)])
        if title or size >= len(source):
            return title
    return ""


def _heading(source: str) -> str:
    """Return the first heading of Markdown outside lists and quotations, as plain text."""
    markdown, env = _markdown(), dict[str, object]()
    for opening, inline in itertools.pairwise(markdown.parse(source, env)):
        if opening.type == "heading_open" and not opening.level and len(inline.content) <= _LONGEST_HEADING:
            tokens: list[Token] = []
            content = _REFERENCE.sub(r"\1", _ATTRIBUTES.sub("", inline.content))
            markdown.inline.parse(content, markdown, env, tokens)
            if title := _plain(tokens).strip():
                return title
    return ""


@functools.cache
def _markdown() -> MarkdownIt:
    """Return a parser of Markdown blocks that does not parse their inline content."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).disable("text_join").disable("inline")


def _plain(tokens: list[Token]) -> str:
    """Return the text of inline tokens without marks and tags; images give their alternative text."""
    texts = []
    for token in tokens:
        if token.type in ("softbreak", "hardbreak"):
            texts.append(" ")
        elif token.type == "image":
            texts.append(_plain(token.children or []))
        elif token.type != "html_inline":
            texts.append(token.content)
    return "".join(texts)
