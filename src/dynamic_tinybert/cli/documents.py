"""Read the documents that a question is asked of: files of every kind, folders, standard input."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dynamic_tinybert.cli import console

_EXTRACTED = frozenset((".html", ".htm", ".xhtml", ".pdf", ".docx", ".jsonl", ".ndjson"))
_PAGE_END = "\f"

# A sentence ends after a full stop and the like, at an empty line, and before a line that begins an item or a heading.
# A single line break is inside it: text is often broken into lines of equal length.
SENTENCE_END = re.compile(r"[.!?][\"')\]]*\s|\n[^\S\n]*\n|\f|\n(?=[^\S\n]*(?:[-*•‣–#>|]|\(?\w{1,3}[.)])\s)")


class Document(NamedTuple):
    """A text with its source.

    Attributes:
        name: The path, with the id of a JSON Lines record; empty if the text was given as it is.
        text: The text.
        paged: Whether form feeds divide the text into pages.
    """

    name: str
    text: str
    paged: bool = False

    def page(self, at: int) -> int | None:
        """Return the page of a character, from 1; None without pages."""
        return self.text.count(_PAGE_END, 0, at) + 1 if self.paged else None

    def sentence(self, start: int, end: int) -> tuple[int, int]:
        """Return where the sentence of an answer starts and ends."""
        begin = max((m.end() for m in SENTENCE_END.finditer(self.text, max(0, start - 2000), start)), default=None)
        stop = SENTENCE_END.search(self.text, max(end - 1, start), end + 2000)
        last = min(end + 2000, len(self.text)) if stop is None else stop.end()
        return max(0, start - 2000) if begin is None else begin, last


def read_documents(paths: Sequence[str]) -> list[Document]:
    """Read files, folders with everything in them, and standard input (`-`).

    HTML, PDF, Word and JSON Lines are extracted as `index add` does; every other file is read as text. A file of a
    folder that cannot be read is reported and skipped.

    Raises:
        typer.Exit: A file given by name cannot be read, or there is no document. One line is printed that says so.
    """
    found: list[Document] = []
    for path in paths:
        if path == "-":
            found.append(Document("", console.read_text("-")))
        elif os.path.isdir(path):
            found.extend(_of_folder(path))
        else:
            found.extend(_of_file(path, path))
    if not found:
        console.fail(f"there is no document in {', '.join(paths)}")
    return found


def _of_folder(folder: str) -> Iterator[Document]:
    from dynamic_tinybert.corpus import UnreadableError, find_files

    def skip(path: str, why: str) -> None:
        console.complain("skipped", f"{console.plain(path)}: {why}")

    top = os.path.abspath(folder)
    for path, _ in find_files([folder], Counter(), skip):
        name = os.path.join(folder, os.path.relpath(path, top))
        try:
            yield from _drafts(path, name)
        except UnreadableError as error:
            skip(name, str(error))


def _of_file(path: str, name: str) -> Iterator[Document]:
    if Path(path).suffix.lower() not in _EXTRACTED:
        yield Document(name, console.read_text(path))
        return
    from dynamic_tinybert.corpus import UnreadableError

    try:
        yield from _drafts(path, name)
    except UnreadableError as error:
        console.fail(f"{name} {error}")


def _drafts(path: str, name: str) -> Iterator[Document]:
    from dynamic_tinybert.corpus import Reading, read_file

    def complain(why: str) -> None:
        console.complain("warning", f"{console.plain(name)}: {why}")

    paged = Path(path).suffix.lower() == ".pdf"
    for draft in read_file(Path(path), Reading(), complain=complain):
        yield Document(f"{name}#{draft.id}" if draft.id else name, "".join(draft.blocks), paged)
