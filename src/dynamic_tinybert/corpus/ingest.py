"""Add files and texts to an index: only new or changed ones; an interrupted file of many records can be continued."""

from __future__ import annotations

import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from dynamic_tinybert.corpus.discover import LONGEST_NAME, DocumentNames, find_files, hash_bytes, hash_file, is_gone
from dynamic_tinybert.corpus.errors import CorpusError, ReaderDiedError, UnreadableError
from dynamic_tinybert.corpus.formats import Complaints, Reading, check_beginning, read
from dynamic_tinybert.corpus.index import Index, Passage, Source, Writer
from dynamic_tinybert.corpus.passages import cut
from dynamic_tinybert.files import encodable

Progress: TypeAlias = Callable[[int, int, str], None]

_COMMIT_SECONDS = 5.0  # a commit waits for the disk, a tenth of a second
_COMMIT_CHARACTERS = 50_000_000
_GIVEN = "given"  # the `reading` of a text that was given by name


@dataclass(kw_only=True)
class Report:
    """The result of adding files.

    Attributes:
        added: The number of new files.
        replaced: The number of files that had changed.
        unchanged: The number of files that had not changed since they were added.
        removed: The number of files that `prune` removed from the index.
        skipped: Files, records and folders that could not be read: path and reason.
        left_out: The number of records or other parts of an unchanged file that could not be read when it was added.
        ignored: The number of files of other types, by suffix.
        documents: The number of documents that were added.
        passages: The number of passages that were added.
        seconds: The duration.
    """

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    removed: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    documents: int = 0
    passages: int = 0
    seconds: float = 0.0


def add_files(
    index: Index,
    passage_size: int,
    paths: Sequence[str | os.PathLike[str]],
    *,
    reading: Reading | None = None,
    prune: bool = False,
    force: bool = False,
    progress: Progress | None = None,
    skipped: Callable[[str, str], None] | None = None,
) -> Report:
    """Add files and the files of folders to an index.

    An unchanged file (same size and time of change, otherwise same content) is left alone. A changed file is replaced
    with all its documents in one transaction. A file that cannot be read is reported and skipped; what the index
    already has of it stays. If the process is killed, the same call continues: every commit holds whole documents.

    Args:
        index: The index.
        passage_size: The most characters of a passage.
        paths: Files of known types, and folders: all their files of known types are added.
        reading: How to read files.
        prune: Remove documents from the index if their files in these folders no longer exist, or were found by
            another path than that of a link, which the index has.
        force: Read all files again, also unchanged ones.
        progress: Called with the bytes read so far, the bytes in total, and the name of the file.
        skipped: Called with a path and the reason, as soon as something is skipped.

    Raises:
        CorpusError: Another process is changing the index, or the index cannot be written.
        FileNotFoundError: A path does not exist; nothing was added.
    """
    begin, report = time.perf_counter(), Report()

    def skip(path: str, why: str) -> None:
        report.skipped.append((path, why))
        if skipped:
            skipped(path, why)

    for path in paths:
        os.stat(path)
    with index.writer() as writer:
        adding = _Adding(writer, passage_size, reading or Reading(), report, skip, force=force)
        aliases: list[str] = []
        files = list(find_files(paths, report.ignored, skip, aliases))
        known = _known_below(writer, aliases, {path for path, _ in files})
        if prune:
            known = _without_doubles(writer, known, files, report)
        files += known
        total, done = sum(size for _, size in files), 0
        for path, size in files:
            move = partial(_move, progress, os.path.basename(path), done, size, total)
            adding.file(path, move)
            move(size)
            done += size
        if prune:
            _prune(writer, [os.path.abspath(path) for path in paths], {path for path, _ in files}, report)
        writer.commit()
    report.seconds = time.perf_counter() - begin
    return report


def add_texts(index: Index, passage_size: int, texts: Iterable[tuple[str, str, str]]) -> int:
    """Add texts, given as (name, title, text), in one transaction. A text replaces an earlier one of the same name.

    Returns:
        The number of added texts.

    Raises:
        CorpusError: Another process is changing the index, or the index cannot be written.
        TypeError: The texts are not tuples of three strings.
        ValueError: A name is empty or too long.
    """
    if isinstance(texts, (str, Mapping)):
        raise TypeError(f"texts must be tuples of name, title and text, not a {type(texts).__name__}")
    with index.writer() as writer:
        count = 0
        for each in texts:
            if isinstance(each, str) or len(each) != 3 or not all(isinstance(part, str) for part in each):
                raise TypeError(
                    f"a text must be given as three strings, its name, its title and the text itself, not {each!r:.80}"
                )
            name, title, text = each
            if not name or len(name) > LONGEST_NAME:
                raise ValueError(f"a document's name must have 1 to {LONGEST_NAME} characters, not {len(name)}")
            version = _new_version()
            name, title, text = encodable(name), encodable(title), encodable(text)
            passages, characters = _add_document(writer, version, name, title, [text], passage_size)
            writer.put(
                Source(
                    name=name,
                    version=version,
                    size=-1,
                    modified=-1,
                    digest=hash_bytes(text.encode()),
                    reading=_GIVEN,
                    drafts=1,
                    documents=1,
                    passages=passages,
                    characters=characters,
                )
            )
            count += 1
        writer.commit()
    return count


def _move(progress: Progress | None, name: str, done: int, size: int, total: int, part: int) -> None:
    """Report the progress: `part` characters into a file of `size` bytes."""
    if progress:
        progress(done + min(part, size), total, name)


class _Adding:
    """Add files one by one, and commit from time to time."""

    def __init__(
        self,
        writer: Writer,
        passage_size: int,
        reading: Reading,
        report: Report,
        skip: Callable[[str, str], None],
        *,
        force: bool,
    ) -> None:
        self._writer = writer
        self._size = passage_size
        self._reading = reading
        self._report = report
        self._skip = skip
        self._force = force
        self._committed = time.monotonic()
        self._characters = 0

    def file(self, path: str, moved: Callable[[int], object]) -> None:
        """Add a file if it is new or changed."""
        before = self._writer.source(path)
        try:
            source = self._unread(path, before)
            if source is None:
                self._report.unchanged += 1
                if before is not None and before.left_out:
                    self._report.left_out[path] = before.left_out
                return
            try:
                self._read(path, source, before, moved)
            except BaseException as error:
                self._writer.discard(source.version)  # half of a document, and what a retry would count twice
                if (
                    isinstance(error, ReaderDiedError) and error.again and before is None
                ):  # not again until the file changes
                    self._writer.put(replace(source, complete=True, left_out=1))
                raise
        except UnreadableError as error:
            self._skip(path, str(error))
        except OSError as error:
            self._skip(path, error.strerror or str(error))

    def _unread(self, path: str, before: Source | None) -> Source | None:
        """Return the source to read, or None if the file has not changed."""
        status = os.stat(path)
        signature = f"{self._reading.signature(Path(path))} size={self._size}"
        same_reading = before is not None and before.reading == signature and not self._force
        same_stamp = before is not None and (before.size, before.modified) == (status.st_size, status.st_mtime_ns)
        if before is not None and before.complete and same_reading and same_stamp:
            return None
        check_beginning(Path(path), status.st_size)
        digest = hash_file(path)
        if before is not None and same_reading and before.digest == digest:
            # A complete file whose time alone has changed is hashed each time. To note the time would add a record to
            # the index, and where passages are ranked by BM25, what is retrieved would depend on it.
            return None if before.complete else replace(before, size=status.st_size, modified=status.st_mtime_ns)
        return Source(
            name=path,
            version=_new_version(),
            size=status.st_size,
            modified=status.st_mtime_ns,
            digest=digest,
            reading=signature,
            drafts=0,
            documents=0,
            passages=0,
            characters=0,
            complete=False,
        )

    def _read(self, path: str, begun: Source, before: Source | None, moved: Callable[[int], object]) -> None:
        """Read a file into the index; continue after the documents that are already there."""
        source, replaces = begun, before is not None and before.version != begun.version
        names, complaints = DocumentNames(path), Complaints(partial(self._skip, path))
        for number, draft in enumerate(read(Path(path), self._reading, complain=complaints)):
            name = names.next(draft)
            if number < begun.drafts:
                for _ in draft.blocks:
                    pass
                continue
            passages, characters = _add_document(
                self._writer,
                source.version,
                name,
                draft.title,
                draft.blocks,
                self._size,
                moved=partial(_moved_on, moved, source.characters),
            )
            source = replace(
                source,
                drafts=source.drafts + 1,
                documents=source.documents + 1,
                passages=source.passages + passages,
                characters=source.characters + characters,
            )
            self._characters += characters
            if not replaces and self._due():  # a new version replaces the old one in one transaction
                self._writer.put(source)
                self._commit()
        complaints.finish()
        status = os.stat(path)
        if (status.st_size, status.st_mtime_ns) != (source.size, source.modified):
            raise UnreadableError("changed while it was read: add it again")
        self._writer.put(replace(source, complete=True, left_out=complaints.count))
        self._report.documents += source.documents - begun.documents
        self._report.passages += source.passages - begun.passages
        if replaces:
            self._report.replaced += 1
        else:
            self._report.added += 1
        if self._due():
            self._commit()

    def _due(self) -> bool:
        return self._characters > _COMMIT_CHARACTERS or time.monotonic() - self._committed > _COMMIT_SECONDS

    def _commit(self) -> None:
        self._writer.commit()
        self._committed, self._characters = time.monotonic(), 0


def _moved_on(moved: Callable[[int], object], before: int, part: int) -> None:
    moved(before + part)


def _add_document(
    writer: Writer,
    version: str,
    name: str,
    title: str,
    blocks: Iterable[str],
    size: int,
    moved: Callable[[int], object] | None = None,
) -> tuple[int, int]:
    """Add a document and return its numbers of passages and characters. An empty document gets one empty passage."""
    number = start = 0
    title, held = title[:LONGEST_NAME], None
    for text in cut(blocks, size):
        if held is not None:
            writer.add(version, held, last=False)
        held = Passage(document=name, title=title, number=number, start=start, text=text)
        number, start = number + 1, start + len(text)
        if moved:
            moved(start)
    if held is None:
        held, number = Passage(document=name, title=title, number=0, start=0, text=""), 1
    writer.add(version, held, last=True)
    return number, start


def _known_below(writer: Writer, folders: Sequence[str], found: set[str]) -> list[tuple[str, int]]:
    """Return the files with sizes that the index has under links that were not followed; they may have changed."""
    below = tuple(os.path.join(folder, "") for folder in folders)
    names = [s.name for s in writer.sources() if s.name.startswith(below) and s.reading != _GIVEN] if below else []
    return [(name, os.stat(name).st_size) for name in sorted(names) if name not in found and os.path.isfile(name)]


def _without_doubles(
    writer: Writer, known: Sequence[tuple[str, int]], files: Sequence[tuple[str, int]], report: Report
) -> list[tuple[str, int]]:
    """Remove the sources that are a file of `files` under another path, and return the others."""
    there = {os.path.realpath(path) for path, _ in files} if known else set()
    left = []
    for path, size in known:
        if os.path.realpath(path) in there and (source := writer.source(path)) is not None:
            writer.remove_source(source)
            report.removed += 1
        else:
            left.append((path, size))
    return left


def _prune(writer: Writer, tops: Sequence[str], there: set[str], report: Report) -> None:
    """Remove the sources in these folders whose files no longer exist."""
    below = tuple(os.path.join(top, "") for top in tops)
    for source in list(writer.sources()):
        ours = source.name.startswith(below) and source.reading != _GIVEN and source.name not in there
        if ours and is_gone(source.name):
            writer.remove_source(source)
            report.removed += 1


def remove(index: Index, names: Sequence[str]) -> Mapping[str, int]:
    """Remove documents by name, files by path, or folders with all their documents; all names, or nothing.

    Args:
        index: The index.
        names: Names of documents as the index lists them, or paths.

    Returns:
        The number of removed documents for each name.

    Raises:
        CorpusError: The index has nothing of this name, or another process is changing the index.
        ValueError: A name is empty.
    """
    removed: dict[str, int] = {}
    gone: set[str] = set()
    with index.writer() as writer:
        for name in dict.fromkeys(names):
            if not name:
                raise ValueError("the name of the document to remove is empty")
            removed[name] = _remove(index, writer, name, gone)
        writer.commit()
    return removed


def _remove(index: Index, writer: Writer, name: str, gone: set[str]) -> int:
    """Remove what has this name, and add it to `gone`. Return how many documents were removed, 0 if it was gone."""
    path = os.path.abspath(name)
    one = writer.source(name) or writer.source(path)
    sources = [one] if one else [s for s in writer.sources() if s.name.startswith(os.path.join(path, ""))]
    # An earlier name may have removed some of them.
    known = [found for source in sources if (found := writer.source(source.name))]
    for source in known:
        writer.remove_source(source)
        gone.add(source.name)
    if sources:
        return sum(source.documents for source in known)
    for document in dict.fromkeys((name, path)):
        if document in gone or document.rpartition("#")[0] in gone:
            return 0
        if next(index.document(document), None) is not None:
            writer.remove_document(document)
            gone.add(document)
            return 1
    raise CorpusError(f"the index contains nothing named {name}: `index list` shows what it contains")


def _new_version() -> str:
    return secrets.token_hex(8)
