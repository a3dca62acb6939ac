"""Files and texts into an index: only what is new or changed, each source in one transaction or a resumable row."""

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
from dynamic_tinybert.corpus.errors import CorpusError, UnreadableError
from dynamic_tinybert.corpus.formats import Reading, read
from dynamic_tinybert.corpus.index import Index, Passage, Source, Writer
from dynamic_tinybert.corpus.passages import cut
from dynamic_tinybert.files import encodable

Progress: TypeAlias = Callable[[int, int, str], None]

_COMMIT_SECONDS = 5.0  # a commit costs a tenth of a second: it waits for the disk
_COMMIT_CHARACTERS = 50_000_000
_COMPLAINTS = 10  # of a file's records that are passed on one by one
_GIVEN = "given"  # how a text was read that came by name


@dataclass(kw_only=True)
class Report:
    """What became of the files that were to be added.

    Attributes:
        added: Files that are new in the index.
        replaced: Files that had changed.
        unchanged: Files that were in the index as they are.
        removed: Files that are gone, and were taken out.
        skipped: Files, records and folders that could not be read: path, and why.
        ignored: Files of other types, by suffix.
        documents: Documents that were added.
        passages: Passages that were added.
        seconds: What it took.
    """

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    removed: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
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
    progress: Progress | None = None,
    skipped: Callable[[str, str], None] | None = None,
) -> Report:
    """Add files, and those of folders, to an index.

    A file that is in the index as it is (by size and time of change, otherwise by its content) is left alone; one that
    changed is replaced at once with all its documents. What cannot be read is reported and skipped; what is in the
    index of it stays. After a kill the same call goes on: every commit holds whole documents.

    Args:
        index: The index.
        passage_size: The most characters of a passage.
        paths: Files, whatever their suffix if it is known, and folders, of which all files of known types.
        reading: How files are read.
        prune: Remove what came from these folders and is gone.
        progress: Called with the bytes of files read, those there are, and the file's name.
        skipped: Called with a path and the reason, as soon as something is skipped.

    Raises:
        CorpusError: Another process is changing the index, or it cannot be written.
        FileNotFoundError: One of the paths is not there; nothing has been added.
    """
    begin, report = time.perf_counter(), Report()

    def skip(path: str, why: str) -> None:
        report.skipped.append((path, why))
        if skipped:
            skipped(path, why)

    for path in paths:
        os.stat(path)
    with index.writer() as writer:
        adding = _Adding(writer, passage_size, reading or Reading(), report, skip)
        files = list(find_files(paths, report.ignored, skip))
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
    """Add texts by name: name, title, text of each. One of the same name is replaced. All are committed, or none.

    Returns:
        How many were added.

    Raises:
        CorpusError: Another process is changing the index, or it cannot be written.
        ValueError: A name is empty or too long.
    """
    with index.writer() as writer:
        count = 0
        for name, title, text in texts:
            if not name or len(name) > LONGEST_NAME:
                raise ValueError(f"a document's name has 1 to {LONGEST_NAME} characters, not {len(name)}")
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
    """Tell how far the adding is: `part` characters into a file of `size` bytes."""
    if progress:
        progress(done + min(part, size), total, name)


class _Adding:
    """Adds file after file, and commits now and then."""

    def __init__(
        self,
        writer: Writer,
        passage_size: int,
        reading: Reading,
        report: Report,
        skip: Callable[[str, str], None],
    ) -> None:
        self._writer = writer
        self._size = passage_size
        self._reading = reading
        self._report = report
        self._skip = skip
        self._committed = time.monotonic()
        self._characters = 0

    def file(self, path: str, moved: Callable[[int], object]) -> None:
        """Add a file, unless it is there already."""
        before = self._writer.source(path)
        try:
            source = self._unread(path, before)
            if source is None:
                self._report.unchanged += 1
                return
            try:
                self._read(path, source, before, moved)
            except BaseException:
                self._writer.discard(source.version)  # half a document, and all that would be counted again
                raise
        except UnreadableError as error:
            self._skip(path, str(error))
        except OSError as error:
            self._skip(path, error.strerror or str(error))

    def _unread(self, path: str, before: Source | None) -> Source | None:
        """Return what is to be read, or None if it is in the index as it is."""
        status = os.stat(path)
        signature = f"{self._reading.signature(Path(path))} size={self._size}"
        same_reading = before is not None and before.reading == signature
        same_stamp = before is not None and (before.size, before.modified) == (status.st_size, status.st_mtime_ns)
        if before is not None and before.complete and same_reading and same_stamp:
            return None
        digest = hash_file(path)
        if before is not None and same_reading and before.digest == digest:
            now = replace(before, size=status.st_size, modified=status.st_mtime_ns)
            if before.complete:
                self._writer.put(now)
                return None
            return now
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
        """Read a file into the index; go on after the documents of it that are there."""
        source, replaces = begun, before is not None and before.version != begun.version
        names, complaints = DocumentNames(path), _Complaints(path, self._skip)
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
            if not replaces and self._due():  # what replaces another version comes in one transaction
                self._writer.put(source)
                self._commit()
        complaints.finish()
        status = os.stat(path)
        if (status.st_size, status.st_mtime_ns) != (source.size, source.modified):
            raise UnreadableError("changed while it was read: add it again")
        self._writer.put(replace(source, complete=True))
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


class _Complaints:
    """Passes on what is wrong with records of a file: each of the first, and the number of the others."""

    def __init__(self, path: str, skip: Callable[[str, str], None]) -> None:
        self._path = path
        self._skip = skip
        self._count = 0

    def __call__(self, why: str) -> None:
        """Take a complaint."""
        self._count += 1
        if self._count <= _COMPLAINTS:
            self._skip(self._path, why)

    def finish(self) -> None:
        """Tell how many were not passed on."""
        if self._count > _COMPLAINTS:
            self._skip(self._path, f"{self._count - _COMPLAINTS:,} more like these")


def _add_document(
    writer: Writer,
    version: str,
    name: str,
    title: str,
    blocks: Iterable[str],
    size: int,
    moved: Callable[[int], object] | None = None,
) -> tuple[int, int]:
    """Add a document; one without text gets one empty passage, so that it is known. Return passages and characters."""
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


def _prune(writer: Writer, tops: Sequence[str], there: set[str], report: Report) -> None:
    """Remove the sources below folders whose files are gone."""
    below = tuple(os.path.join(top, "") for top in tops)
    for source in list(writer.sources()):
        ours = source.name.startswith(below) and source.reading != _GIVEN and source.name not in there
        if ours and is_gone(source.name):
            writer.remove_source(source)
            report.removed += 1


def remove(index: Index, names: Sequence[str]) -> Mapping[str, int]:
    """Remove documents by name, files by path, or folders with all that came from them; all at once, or nothing.

    Args:
        index: The index.
        names: Names of documents as the index lists them, or paths.

    Returns:
        How many documents each name removed.

    Raises:
        CorpusError: There is nothing of one of the names; or another process is changing the index.
        ValueError: A name is empty.
    """
    removed: dict[str, int] = {}
    with index.writer() as writer:
        for name in dict.fromkeys(names):
            if not name:
                raise ValueError("the name of what is to be removed is empty")
            removed[name] = _remove(index, writer, name)
        writer.commit()
    return removed


def _remove(index: Index, writer: Writer, name: str) -> int:
    path = os.path.abspath(name)
    one = writer.source(name) or writer.source(path)
    sources = [one] if one else [s for s in writer.sources() if s.name.startswith(os.path.join(path, ""))]
    if sources:
        known = [writer.source(source.name) for source in sources]  # as changed by a name before
        for source in sources:
            writer.remove_source(source)
        return sum(source.documents for source in known if source)
    for document in dict.fromkeys((name, path)):
        if next(index.document(document), None) is not None:
            writer.remove_document(document)
            return 1
    raise CorpusError(f"the index holds nothing named {name}: `index list` names what there is")


def _new_version() -> str:
    return secrets.token_hex(8)
