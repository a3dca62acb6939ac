"""Read plain text and Markdown files."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dynamic_tinybert.corpus.formats.reading import Complain, Reading, decoded

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

MARKDOWN = (".md", ".markdown")
"""The suffixes of Markdown files. Their documents have titles."""

_LONGEST_HEADING = 1000  # characters
_BEGINNINGS = (1 << 14, 1 << 17, 1 << 30)  # characters in which to look for a heading, tried in this order
_REFERENCE = re.compile(r"!?\[([^\]]*)\]\[[^\]]*\]")  # its target may be at the end of the file
_ATTRIBUTES = re.compile(r"[ \t]*\{#[^}]*\}$")
_MAY_BE_HEADING = re.compile(  # parsing a megabyte takes ten seconds, so not without need
    r"(?:\A|[\r\n]) {0,3}#{1,6}(?:[ \t\r\n]|\Z)|[^ \t\r\n][ \t]*(?:\r\n|[\r\n]) {0,3}(?:=+|-+)[ \t]*(?:[\r\n]|\Z)"
)
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n(.*?\n)?(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:[ \t]*(?![>|][-+\d]*[ \t\r]*$)(\S.*)$", re.MULTILINE | re.IGNORECASE)


def read_text(path: Path, reading: Reading, complain: Complain) -> Iterator[str]:
    """Yield the title of a text file, then its text. The title is empty if the file is not Markdown."""
    with path.open("rb") as file:
        blocks = decoded(file, reading.encoding)
        first = next(blocks, "")
        yield _title(first) if path.suffix.lower() in MARKDOWN else ""
        yield first
        yield from blocks


def _title(source: str) -> str:
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
