"""Plain text and Markdown."""

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
"""The ends of the names of Markdown files, which have titles."""

_LONGEST_HEADING = 1000  # characters
_BEGINNINGS = (1 << 14, 1 << 17, 1 << 30)  # characters among which a heading is looked for, one after the other
_REFERENCE = re.compile(r"!?\[([^\]]*)\]\[[^\]]*\]")  # what it refers to may be at the end of the file
_ATTRIBUTES = re.compile(r"[ \t]*\{#[^}]*\}$")
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n(.*?\n)?(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:[ \t]*(?![>|][-+\d]*[ \t\r]*$)(\S.*)$", re.MULTILINE | re.IGNORECASE)


def read_text(path: Path, reading: Reading, complain: Complain) -> Iterator[str]:
    """Yield the title of a text file, which only Markdown has, then its text."""
    with path.open("rb") as file:
        blocks = decoded(file, reading.encoding)
        first = next(blocks, "")
        yield _title(first) if path.suffix.lower() in MARKDOWN else ""
        yield first
        yield from blocks


def _title(source: str) -> str:
    """Return the title of Markdown: that of its front matter, otherwise its first heading; empty if it has neither."""
    matter = _FRONT_MATTER.match(source)
    if matter:
        named = _FRONT_TITLE.search(matter[1])
        if named:
            return named[1].strip().strip("\"'")
        source = source[matter.end() :]
    for size in _BEGINNINGS:
        title = _heading(source[: source.find("\n", size) + 1 or len(source)])
        if title or size >= len(source):
            return title
    return ""


def _heading(source: str) -> str:
    """Return the first heading of Markdown that is in no list or quotation, as plain text."""
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
    """Return what finds the blocks of Markdown, and leaves what is in them for later."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).disable("text_join").disable("inline")


def _plain(tokens: list[Token]) -> str:
    """Return the text of inline tokens, of pictures that which stands for them; without marks and tags."""
    texts = []
    for token in tokens:
        if token.type in ("softbreak", "hardbreak"):
            texts.append(" ")
        elif token.type == "image":
            texts.append(_plain(token.children or []))
        elif token.type != "html_inline":
            texts.append(token.content)
    return "".join(texts)
