"""Change an index in Milvus with numbered batches, which are visible after their commit (see `reader`)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dynamic_tinybert.corpus.errors import CorpusError
from dynamic_tinybert.corpus.index.analyzer import words_of
from dynamic_tinybert.corpus.index.milvus.client import LONGEST_FIELD, NO_VECTOR, SETTLED, Server, portions
from dynamic_tinybert.corpus.index.milvus.lease import WriterLease
from dynamic_tinybert.corpus.index.protocol import Passage, Source, key_of, source_of

_ROWS, _CHARACTERS = 500, 1 << 20  # of one message, which must not exceed 64 MB
_SEALED = 100  # new passages after which a segment is sealed; a search scans unsealed passages one by one
_LOST = 1000  # the most numbers of lost batches in a commit
_LOOKS = 16  # look-ups of single sources before all sources are fetched


class MilvusWriter:
    """See `Writer`. Passages are sent in portions while they are added, rows of sources at the commit."""

    def __init__(self, server: Server, lease: WriterLease, language: str) -> None:
        self._server = server
        self._language = language
        self._lease = lease
        before = server.present()
        lost = before.lost if before.taken is None else (*before.lost, before.taken)[-_LOST:]
        self._batch = max(before.batch, *lost, 0) + 1  # the batch that this writer is filling
        self._commit = replace(before, lost=lost, taken=self._batch)
        self._known: dict[str, str] | None = None  # records of all sources, by key
        self._looks = 0
        self._rows: list[dict[str, Any]] = []  # passages that were not sent yet
        self._characters = 0
        self._added = 0  # passages sent since the writer was opened
        self._sent = False  # whether passages of the uncommitted batch were sent
        self._changed: dict[str, _Change] = {}  # by name
        server.put_commit(self._commit)
        if lost:  # rows of lost batches may have arrived late
            self._undo(lost)
        self._finish()

    def _undo(self, batches: Sequence[int]) -> None:
        """Delete the rows of batches that were not committed."""
        for collection in (self._server.passages, self._server.sources):
            self._server.delete(collection, f"batch in {list(batches)}")

    def _finish(self) -> None:
        """Delete what the committed batch replaced, and give its rows of sources their final ids."""
        rows = self._server.changes(self._commit)
        doomed = [one for row in rows for one in json.loads(row["doomed"])]
        for kind in ("version", "part"):
            for names in portions([name for one, name in doomed if one == kind]):
                self._server.delete(self._server.passages, f"{kind} in {json.dumps(names)}")
        kept = [row | {"id": row["id"].partition(":")[0], "doomed": "", "v": NO_VECTOR} for row in rows]
        self._lease.check()
        self._server.put(self._server.sources, [row for row in kept if row["record"]])
        gone = [row["id"] for row in kept if not row["record"]] + [row["id"] for row in rows]
        for keys in portions(gone):
            self._server.call("delete", self._server.sources, ids=keys)

    def source(self, name: str) -> Source | None:
        """Return the source of this name, with the changes of this writer, or None."""
        if name in self._changed:
            return self._changed[name].source
        key = key_of(name)
        if self._known is None and self._looks >= _LOOKS:
            rows = self._server.rows(self._server.sources, SETTLED, ["id", "record"])
            self._known = {row["id"]: row["record"] for row in rows}
        self._looks += 1
        if self._known is not None:
            return source_of(self._known[key]) if key in self._known else None
        found = self._server.call("get", self._server.sources, ids=[key], output_fields=["record"])
        return source_of(found[0]["record"]) if found else None

    def sources(self) -> Iterator[Source]:
        """Yield all sources that existed when the writer was opened."""
        records = [row["record"] for row in self._server.rows(self._server.sources, SETTLED, ["record"])]
        return map(source_of, records)

    def add(self, version: str, passage: Passage, *, last: bool) -> None:
        """Add a passage of a version of a source; `last` marks the last passage of a document."""
        key = key_of(passage.document)
        self._rows.append(
            {
                "id": f"{version}:{key}:{passage.number}",
                "version": version,
                "part": f"{version}:{key}",
                "batch": self._batch,
                "document_key": key,
                "document": passage.document,
                "title": passage.title,
                "number": passage.number,
                "start": passage.start,
                "last": last,
                "text": passage.text,
                "words": _cut(" ".join(words_of(f"{passage.title}\n{passage.text}", self._language))),
            }
        )
        self._characters += len(passage.text)
        if len(self._rows) >= _ROWS or self._characters >= _CHARACTERS:
            self._send()

    def put(self, source: Source) -> None:
        """Record a source after its passages, and delete its other versions."""
        before = self.source(source.name)
        change = self._change(source.name)
        if before is not None and before.version == source.version:
            source = replace(source, revision=before.revision + 1)
        elif before is not None:
            change.doomed.append(("version", before.version))
        change.source = source

    def discard(self, version: str) -> None:
        """Delete the passages of a version."""
        self._rows = [row for row in self._rows if row["version"] != version]
        if self._sent:
            self._server.delete(self._server.passages, f'version == "{version}" and batch == {self._batch}')
        for source in self._of_version(version):
            self.remove_source(source)

    def remove_source(self, source: Source) -> None:
        """Remove a source and its documents."""
        change = self._change(source.name)
        change.source = None
        change.doomed.append(("version", source.version))

    def remove_document(self, name: str) -> None:
        """Remove a document from its source. It must have existed when the writer was opened."""
        key = key_of(name)
        passages: dict[str, list[str]] = {}
        expression = f'document_key == "{key}" and {self._commit.seen}'
        for row in self._server.rows(self._server.passages, expression, ["version", "text"]):
            passages.setdefault(row["version"], []).append(row["text"])
        for version, texts in passages.items():
            for source in self._of_version(version):
                self._change(source.name).doomed.append(("part", f"{version}:{key}"))
                self.put(
                    replace(
                        source,
                        documents=source.documents - 1,
                        passages=source.passages - len(texts),
                        characters=source.characters - sum(map(len, texts)),
                    )
                )

    def _of_version(self, version: str) -> list[Source]:
        """Return the source of a version, with the changes of this writer, or an empty list."""
        found = [change.source for change in self._changed.values() if change.source is not None]
        rows = self._server.rows(self._server.sources, f'version == "{version}"', ["record"])
        names = [source_of(row["record"]).name for row in rows if row["record"]]
        found += [source for name in names if name not in self._changed and (source := self.source(name)) is not None]
        return [source for source in found if source.version == version]

    def commit(self) -> None:
        """Commit all changes so far: they become durable and visible together.

        Raises:
            CorpusError: The changes cannot be written, or another process has taken over the lease.
        """
        self._send()
        if not self._sent and not self._changed:
            return
        self._lease.check()
        self._server.put(
            self._server.sources,
            [row for name, change in self._changed.items() for row in _rows_of(key_of(name), self._batch, change)],
        )
        self._lease.check()
        commit = replace(self._commit, batch=self._batch, taken=self._batch + 1)
        self._server.put_commit(commit)
        self._commit, self._batch, self._sent = commit, self._batch + 1, False
        if self._known is not None:
            for name, change in self._changed.items():
                self._known.pop(key_of(name), None)
                if change.source is not None:
                    self._known[key_of(name)] = json.dumps(asdict(change.source))
        self._changed.clear()
        self._finish()

    def close(self) -> None:
        """Drop what was not committed, and seal the new passages, so that a search uses their index."""
        self._rows.clear()
        with contextlib.suppress(CorpusError):  # the next writer tries again
            self._lease.check()
            if self._sent:
                self._undo([self._batch])
            else:
                self._server.put_commit(replace(self._commit, taken=None))
        if self._added >= _SEALED:
            with contextlib.suppress(CorpusError):  # Milvus seals them later by itself
                self._server.call("flush", self._server.passages)

    def _change(self, name: str) -> _Change:
        return self._changed.setdefault(name, _Change())

    def _send(self) -> None:
        if self._rows:
            self._lease.check()  # the commit of another writer would make these rows visible
            self._sent = True
            self._server.call("upsert", self._server.passages, data=self._rows)  # a retry may send rows twice
            self._added += len(self._rows)
            self._rows, self._characters = [], 0


@dataclass
class _Change:
    """The change of a source in a batch: its new record, or None; and the versions or parts to delete."""

    source: Source | None = None
    doomed: list[tuple[str, str]] = field(default_factory=list)


def _rows_of(key: str, batch: int, change: _Change) -> Iterator[dict[str, Any]]:
    """Yield the rows of a change. Only the first has the record; more follow if `doomed` does not fit into a field."""
    source = change.source
    for number, doomed in enumerate(list(portions(change.doomed)) or [[]]):
        first = number == 0 and source is not None
        yield {
            "id": f"{key}.{number}:{batch}" if number else f"{key}:{batch}",
            "batch": batch,
            "version": source.version if source is not None and first else "",
            "record": json.dumps(asdict(source)) if source is not None and first else "",
            "doomed": json.dumps(doomed),
            "v": NO_VECTOR,
        }


def _cut(words: str) -> str:
    """Drop the last words if the text does not fit into a field."""
    encoded = words.encode()
    if len(encoded) <= LONGEST_FIELD:
        return words
    return encoded[:LONGEST_FIELD].rpartition(b" ")[0].decode()
