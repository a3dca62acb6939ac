"""The index in Milvus: BM25 on a server, or on a cluster of them. All that knows Milvus.

`COLLECTION` holds the passages, and `COLLECTION_sources` a row for each source. Milvus has no transactions; what must
change at once in several rows goes by numbered batches, as in other stores of many versions:

1. A writer adds passages and rows of sources under the number of its batch, which it has written into the row of the
   commit as taken. No reader sees them: all reading asks for batches up to the one that is committed.
2. It commits by one write to that row.
3. It deletes what the batch replaced. Until that is done, rows of sources name it, and readers leave it out.

A writer that was killed in step 1 leaves a number that is taken: the next writer puts it on the list of the lost, which
nobody reads, and deletes its rows; what of them arrives later is not seen either. One that was killed in step 3 leaves
what the next one finishes. So that there is one writer at a time, over all machines, each makes a
collection `COLLECTION_writer`, of which Milvus lets there be one; a beat that changes tells that its writer lives.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import grpc
from pymilvus import DataType, Function, FunctionType, MilvusClient, MilvusException

from dynamic_tinybert.corpus.errors import CorpusError
from dynamic_tinybert.corpus.index.analyzer import question_words, words_of
from dynamic_tinybert.corpus.index.location import MilvusAddress
from dynamic_tinybert.corpus.index.protocol import Counts, DocumentInfo, Hit, Passage, Source, Writer, info_of, key_of
from dynamic_tinybert.corpus.passages import PASSAGE_SIZE, check_size
from dynamic_tinybert.files.text import encodable

_FORMAT = 1
_COMMIT = "commit"  # the row of the committed batch; all others are named by digests
_LONGEST = 65_535  # bytes of a VARCHAR
_MOST_PASSAGE_SIZE = 16_000  # characters, of four bytes at the most
_MOST_HITS = 16_384  # that a search of Milvus gives
_K1, _B = 1.2, 0.75  # of BM25, as the engine of folders has them
_ROWS, _CHARACTERS = 500, 1 << 20  # of a portion that is sent: messages end at 64 MB
_SEALED = 100  # passages from which on a segment is made of them; until then each question reads them all
_KEYS = 500  # named in an expression
_TRIES = 5  # of a reading during which something was committed
_CONNECT_S, _CALL_S = 5.0, 60.0
_OFTEN = {"grpc.initial_reconnect_backoff_ms": 200, "grpc.max_reconnect_backoff_ms": 1000}  # connect anew
_AGAIN_S = 6.0  # for which a server that is gone is tried again
_BEAT_S = 2.0
_STALE_S = 15.0  # without a beat, a writer is taken for dead
_LOST = 1000  # numbers of lost batches that are kept in mind
_LOOKS = 16  # for a source, until all are fetched at once
_RELEASED = 101  # a code of Milvus: the collection is not in memory, as after a restart of its embedded server
_NO_COLLECTION = 100
_UNREACHABLE = 2

logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it writes tracebacks of what it raises


class MilvusIndex:
    """An index in Milvus. See `Index` for what its methods promise.

    Args:
        address: Where it is.
        create: Make it, if there is none.
        passage_size: Characters of a passage at the most, of an index that is made; by default `PASSAGE_SIZE`.

    Attributes:
        address: Where it is.
        passage_size: Characters of a passage at the most.

    Raises:
        CorpusError: Milvus does not answer, or refuses; there is no index; the collection is something else, or of
            another version; or the index exists and its passages are of another size.
        ValueError: The size is out of range.
    """

    def __init__(self, address: MilvusAddress, *, create: bool = False, passage_size: int | None = None) -> None:
        self.address = address
        if passage_size is not None and check_size(passage_size) > _MOST_PASSAGE_SIZE:
            raise ValueError(f"a passage in Milvus has {_MOST_PASSAGE_SIZE:,} characters at the most")
        self._server = _Server(address)
        note = self._read_note()
        if note is None:
            if not create:
                raise CorpusError(
                    f"{address} holds no index: `dynamic-tinybert index add PATH --index {address}` makes one"
                )
            note = self._create(passage_size or PASSAGE_SIZE)
        if note["format"] != _FORMAT:
            raise CorpusError(
                f"{address} is an index of format {note['format']!r:.20}; this version reads {_FORMAT}: make it anew"
            )
        self.passage_size: int = note["passage_size"]
        self._name: str = note["name"]
        if passage_size not in (None, self.passage_size):
            raise CorpusError(
                f"the passages of {address} have {self.passage_size} characters at the most, not {passage_size}: an "
                "index has one size"
            )
        self._lock = threading.Lock()
        self._seen: tuple[_Commit | None, str] = None, ""  # a commit, and what is asked to see it

    def _read_note(self) -> dict[str, Any] | None:
        """Return what the row of the commit says of the index, or None where there is no index."""
        server = self._server
        if not server.has(server.sources):
            if server.has(server.passages):
                raise CorpusError(f"{self.address} is a collection of something else: give the index one of its own")
            return None
        fields = {one["name"] for one in server.call("describe_collection", server.sources)["fields"]}
        if not fields >= {"id", "batch", "record", "doomed"}:
            raise CorpusError(f"{self.address}_sources is a collection of something else")
        if not server.has(server.passages):
            return None
        commit = server.commit()
        return None if commit is None else commit.note

    def _create(self, passage_size: int) -> dict[str, Any]:
        """Make an index; the row of the commit comes last, so that a kill leaves none or a whole one."""
        server = self._server
        server.create()
        with _Turn(server):
            commit = server.commit()  # of another process, perhaps, by now
            if commit is None:
                note = {"format": _FORMAT, "passage_size": passage_size, "name": secrets.token_hex(8)}
                commit = _Commit(0, note)
                server.put_commit(commit)
        return commit.note

    def is_current(self) -> bool:
        """Return whether this is still the index of its name, which may have been dropped or made anew."""
        try:
            commit = self._server.commit()
        except CorpusError as error:
            if _is_absence(error):
                return False
            raise
        return commit is not None and commit.note["name"] == self._name

    def _visible(self) -> tuple[_Commit, str]:
        """Return what is committed, and the expression for the passages that are seen at it."""
        commit = self._server.present()
        with self._lock:
            if self._seen[0] == commit:
                return commit, self._seen[1]
        doomed = [one for row in self._server.changes(commit) for one in json.loads(row["doomed"])]
        expression = commit.seen
        for kind in ("version", "part"):
            names = [name for one, name in doomed if one == kind]
            if names:
                expression += f" and {kind} not in {json.dumps(names)}"
        with self._lock:
            self._seen = commit, expression
        return commit, expression

    def _steady(self) -> Iterator[str]:
        """Yield what is asked to see the passages, anew where something was committed during the reading before.

        Raises:
            CorpusError: It is changed all the time.
        """
        for _ in range(_TRIES):
            commit, visible = self._visible()
            yield visible
            if self._server.present().batch == commit.batch:
                return
        raise CorpusError(f"{self.address} is being changed too often to be read: try it again")

    def search(self, question: str, k: int) -> list[Hit]:
        """Return the `k` passages that match a question best by BM25, the best first; 16,384 at the most."""
        words = question_words(question)
        if not words or k < 1:
            return []
        found: Sequence[Any] = ()
        for visible in self._steady():
            [found] = self._server.call(
                "search",
                self._server.passages,
                data=[" ".join(words)],
                anns_field="bm25",
                limit=min(k, _MOST_HITS),
                filter=visible,
                output_fields=_PASSAGE,
                search_params={"metric_type": "BM25"},
                consistency_level="Strong",
            )
        # Its embedded server gives distances, which are negative.
        return [Hit(_passage(hit["entity"]), abs(float(hit["distance"]))) for hit in found]

    def document(self, name: str) -> Iterator[Passage]:
        """Yield the passages of a document, in order; none if there is no such document."""
        found: list[Passage] = []
        for visible in self._steady():
            rows = self._server.rows(
                self._server.passages, f'document_key == "{key_of(encodable(name))}" and {visible}', _PASSAGE
            )
            found = [_passage(row) for row in rows]
        yield from sorted(found, key=lambda passage: passage.number)

    def documents(self) -> Iterator[DocumentInfo]:
        """Yield what is known of all documents, in the order of their names."""
        infos: list[DocumentInfo] = []
        for visible in self._steady():
            last = map(_passage, self._server.rows(self._server.passages, f"last == true and {visible}", _PASSAGE))
            infos = list(map(info_of, last))
        yield from sorted(infos, key=lambda info: info.name)

    def sources(self) -> Iterator[Source]:
        """Yield all sources, in no order."""
        found: dict[str, tuple[int, str]] = {}
        for _ in self._steady():
            expression, found = f"{_OF_SOURCES} and {self._server.present().seen}", {}
            for row in self._server.rows(self._server.sources, expression, ["id", "batch", "record"]):
                key = row["id"].partition(":")[0]
                if row["batch"] >= found.get(key, (-1, ""))[0]:
                    found[key] = row["batch"], row["record"]
        yield from (_source(record) for _, record in found.values() if record)

    def counts(self) -> Counts:
        """Return how many documents and passages there are."""
        documents = passages = 0
        for visible in self._steady():
            documents = self._server.count(self._server.passages, f"last == true and {visible}")
            passages = self._server.count(self._server.passages, visible)
        return Counts(documents, passages)

    def size(self) -> None:
        """Return None: Milvus does not say what an index takes."""

    @contextlib.contextmanager
    def writer(self) -> Iterator[Writer]:
        """Open the index for changes; what was not committed is dropped at the end.

        Raises:
            CorpusError: Another process is changing the index.
        """
        with _Turn(self._server) as turn:
            writer = _MilvusWriter(self._server, turn)
            try:
                yield writer
            finally:
                writer.close()


class _MilvusWriter:
    """See `Writer`. Passages are sent as they come; rows of sources when they are committed."""

    def __init__(self, server: _Server, turn: _Turn) -> None:
        self._server = server
        self._turn = turn
        before = server.present()
        lost = before.lost if before.taken is None else (*before.lost, before.taken)[-_LOST:]
        self._batch = max(before.batch, *lost, 0) + 1  # that this writer fills
        self._commit = replace(before, lost=lost, taken=self._batch)
        self._known: dict[str, str] | None = None  # records of all sources, by key
        self._looks = 0
        self._rows: list[dict[str, Any]] = []  # passages that are still to be sent
        self._characters = 0
        self._added = 0  # passages sent since the writer was opened
        self._sent = False  # whether there are any of the batch that is not committed
        self._changed: dict[str, _Change] = {}  # by name
        server.put_commit(self._commit)
        if lost:  # of the last ones something may have arrived late
            self._undo(lost)
        self._finish()

    def _undo(self, batches: Sequence[int]) -> None:
        """Delete what batches hold that were not committed."""
        for collection in (self._server.passages, self._server.sources):
            self._server.delete(collection, f"batch in {list(batches)}")

    def _finish(self) -> None:
        """Delete what the committed batch replaced, and make its rows of sources those that there are."""
        rows = self._server.changes(self._commit)
        doomed = [one for row in rows for one in json.loads(row["doomed"])]
        for kind in ("version", "part"):
            for names in _portions([name for one, name in doomed if one == kind]):
                self._server.delete(self._server.passages, f"{kind} in {json.dumps(names)}")
        kept = [row | {"id": row["id"].partition(":")[0], "doomed": "", "v": _NO_VECTOR} for row in rows]
        self._turn.check()
        self._server.put(self._server.sources, [row for row in kept if row["record"]])
        gone = [row["id"] for row in kept if not row["record"]] + [row["id"] for row in rows]
        for keys in _portions(gone):
            self._server.call("delete", self._server.sources, ids=keys)

    def source(self, name: str) -> Source | None:
        """Return the source of a name as this writer knows it, or None."""
        if name in self._changed:
            return self._changed[name].source
        key = key_of(name)
        if self._known is None and self._looks >= _LOOKS:
            rows = self._server.rows(self._server.sources, _SETTLED, ["id", "record"])
            self._known = {row["id"]: row["record"] for row in rows}
        self._looks += 1
        if self._known is not None:
            return _source(self._known[key]) if key in self._known else None
        found = self._server.call("get", self._server.sources, ids=[key], output_fields=["record"])
        return _source(found[0]["record"]) if found else None

    def sources(self) -> Iterator[Source]:
        """Yield all sources there were when the writer was opened."""
        records = [row["record"] for row in self._server.rows(self._server.sources, _SETTLED, ["record"])]
        return map(_source, records)

    def add(self, version: str, passage: Passage, *, last: bool) -> None:
        """Add a passage of a version of a source; `last` marks a document's last."""
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
                "words": _cut(" ".join(words_of(f"{passage.title}\n{passage.text}"))),
            }
        )
        self._characters += len(passage.text)
        if len(self._rows) >= _ROWS or self._characters >= _CHARACTERS:
            self._send()

    def put(self, source: Source) -> None:
        """Record a source after its passages; other versions of the same source go."""
        before = self.source(source.name)
        change = self._change(source.name)
        if before is not None and before.version == source.version:
            source = replace(source, revision=before.revision + 1)
        elif before is not None:
            change.doomed.append(("version", before.version))
        change.source = source

    def discard(self, version: str) -> None:
        """Take back the passages of a version."""
        self._rows = [row for row in self._rows if row["version"] != version]
        if self._sent:
            self._server.delete(self._server.passages, f'version == "{version}" and batch == {self._batch}')
        for source in self._of_version(version):
            self.remove_source(source)

    def remove_source(self, source: Source) -> None:
        """Remove a source, and the documents that came from it."""
        change = self._change(source.name)
        change.source = None
        change.doomed.append(("version", source.version))

    def remove_document(self, name: str) -> None:
        """Remove a document that was there when the writer was opened from the source that it came from."""
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
        """Return the source that a version is of, as this writer knows it, if there is one."""
        found = [change.source for change in self._changed.values() if change.source is not None]
        rows = self._server.rows(self._server.sources, f'version == "{version}"', ["record"])
        names = [_source(row["record"]).name for row in rows if row["record"]]
        found += [source for name in names if name not in self._changed and (source := self.source(name)) is not None]
        return [source for source in found if source.version == version]

    def commit(self) -> None:
        """Make all changes so far lasting and seen, at once.

        Raises:
            CorpusError: They cannot be written, or another process has taken this one for dead.
        """
        self._send()
        if not self._sent and not self._changed:
            return
        self._turn.check()
        self._server.put(
            self._server.sources,
            [row for name, change in self._changed.items() for row in _rows_of(key_of(name), self._batch, change)],
        )
        self._turn.check()
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
        """Drop what was not committed, and have what was gathered sealed, so that it is searched by its index."""
        self._rows.clear()
        with contextlib.suppress(CorpusError):  # the next writer does it
            self._turn.check()
            if self._sent:
                self._undo([self._batch])
            else:
                self._server.put_commit(replace(self._commit, taken=None))
        if self._added >= _SEALED:
            with contextlib.suppress(CorpusError):  # Milvus does it by itself, in time
                self._server.call("flush", self._server.passages)

    def _change(self, name: str) -> _Change:
        return self._changed.setdefault(name, _Change())

    def _send(self) -> None:
        if self._rows:
            self._turn.check()  # what another's writer has committed would make these seen
            self._sent = True
            self._server.call("upsert", self._server.passages, data=self._rows)  # it may be sent twice
            self._added += len(self._rows)
            self._rows, self._characters = [], 0


@dataclass(frozen=True)
class _Commit:
    """What is committed.

    Attributes:
        batch: The last batch that is.
        note: What the index is: its format, the size of its passages, and a name that no other has.
        lost: Numbers of batches up to that which were never committed.
        taken: The number of the batch that a writer fills, if there is one.
    """

    batch: int
    note: dict[str, Any]
    lost: tuple[int, ...] = ()
    taken: int | None = None

    @property
    def seen(self) -> str:
        """The expression for the rows of committed batches."""
        return f"batch <= {self.batch}" + (f" and batch not in {list(self.lost)}" if self.lost else "")


@dataclass
class _Change:
    """What a batch makes of a source: another record, or none; and the versions or parts of them that go with it."""

    source: Source | None = None
    doomed: list[tuple[str, str]] = field(default_factory=list)


def _rows_of(key: str, batch: int, change: _Change) -> Iterator[dict[str, Any]]:
    """Yield the rows of a change: one, or more where it dooms more than a field holds, which the others do alone."""
    source = change.source
    for number, doomed in enumerate(list(_portions(change.doomed)) or [[]]):
        first = number == 0 and source is not None
        yield {
            "id": f"{key}.{number}:{batch}" if number else f"{key}:{batch}",
            "batch": batch,
            "version": source.version if source is not None and first else "",
            "record": json.dumps(asdict(source)) if source is not None and first else "",
            "doomed": json.dumps(doomed),
            "v": _NO_VECTOR,
        }


class _Turn:
    """The right to write, of one process at a time.

    Milvus makes a collection once, so that of two writers one is refused. The name of the collection's vector tells its
    writer, and a row that changes every two seconds tells that it lives; one whose row stays as it is for fifteen
    seconds was killed, and the next takes its place. Nobody's clock is compared with another's.
    """

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._owner = f"owner_{secrets.token_hex(8)}"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, name="milvus-writer", daemon=True)

    def __enter__(self) -> _Turn:
        while not self._take():
            self._wait_for_the_dead()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(_CALL_S)
        with contextlib.suppress(CorpusError):
            if self._present() == self._owner:
                self._server.call("drop_collection", self._server.writer)

    def check(self) -> None:
        """Make sure that it is still this writer's turn.

        Raises:
            CorpusError: Another process took this one for dead.
        """
        if self._present() != self._owner:
            raise CorpusError(
                f"another process has begun to change {self._server.address}: what was not committed is lost"
            )

    def _take(self) -> bool:
        server = self._server
        schema = MilvusClient.create_schema(enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, max_length=64, is_primary=True)
        schema.add_field(self._owner, DataType.FLOAT_VECTOR, dim=2)
        try:
            server.call("create_collection", server.writer, schema=schema)
        except CorpusError:
            if self._present() is None:
                raise
            return False
        return self._present() == self._owner

    def _present(self) -> str | None:
        """Return whose turn it is."""
        try:
            found = self._server.call("describe_collection", self._server.writer)
        except CorpusError as error:
            if _is_absence(error):
                return None
            raise
        return next((str(f["name"]) for f in found["fields"] if f["name"].startswith("owner_")), "")

    def _wait_for_the_dead(self) -> None:
        """Return when the writer whose turn it is has given no sign of life for some time, and its turn is ended."""
        owner, beat = self._present(), self._beat()
        if owner is None:
            return
        for _ in range(round(4 * _STALE_S / _BEAT_S)):  # answers count, not seconds: the server may have stood still
            time.sleep(_BEAT_S / 4)
            if self._present() != owner:
                return
            if self._beat() != beat:
                raise CorpusError(f"another process is changing {self._server.address}: one at a time")
        if self._present() == owner:
            self._server.call("drop_collection", self._server.writer)

    def _beat(self) -> object:
        rows = self._server.call("get", self._server.sources, ids=[_BEAT], output_fields=["record"])
        return rows[0]["record"] if rows else None

    def _live(self) -> None:
        for number in range(1 << 62):
            record = f"{self._owner} {number}"
            row = {"id": _BEAT, "batch": 0, "version": "", "record": record, "doomed": "", "v": _NO_VECTOR}
            with contextlib.suppress(Exception):  # it is tried again: without a sign of life another takes its turn
                self._server.put(self._server.sources, [row])
            if self._over.wait(_BEAT_S):
                return


class _Server:
    """A connection with Milvus, and the collections of an index there. Safe to use from many threads."""

    def __init__(self, address: MilvusAddress) -> None:
        self.address = address
        self.passages = address.collection
        self.sources = f"{address.collection}_sources"
        self.writer = f"{address.collection}_writer"
        with self._told():
            self._client = MilvusClient(
                uri=address.uri,
                token=address.token,
                db_name=address.database,
                timeout=_CONNECT_S,
                grpc_options=_OFTEN,
            )

    def call(self, method: str, *args: Any, **options: Any) -> Any:
        """Call a method of the client.

        Raises:
            CorpusError: It failed; the cause is the client's exception.
        """
        with self._told():
            end = time.monotonic() + _AGAIN_S
            while True:
                try:
                    return getattr(self._client, method)(*args, **options, timeout=_CALL_S)
                except MilvusException as error:
                    if error.code not in (_RELEASED, _UNREACHABLE) or time.monotonic() > end:
                        raise
                    released = error.code == _RELEASED
                if released:
                    self._load()
                else:  # it was started anew, perhaps, and the connection has not noticed
                    time.sleep(0.5)

    def _load(self) -> None:
        for name in (self.passages, self.sources):
            self._client.load_collection(name, timeout=_CALL_S)

    def has(self, collection: str) -> bool:
        """Return whether there is a collection of this name."""
        return bool(self.call("has_collection", collection))

    def create(self) -> None:
        """Make the collections, those of them that there are not."""
        schema = MilvusClient.create_schema(enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, max_length=200, is_primary=True)
        schema.add_field("batch", DataType.INT64)
        schema.add_field("version", DataType.VARCHAR, max_length=64)
        schema.add_field("record", DataType.VARCHAR, max_length=_LONGEST)
        schema.add_field("doomed", DataType.VARCHAR, max_length=_LONGEST)
        schema.add_field("v", DataType.FLOAT_VECTOR, dim=2)  # Milvus wants one
        self._make(self.sources, schema, v={"index_type": "FLAT", "metric_type": "L2"})
        schema = MilvusClient.create_schema(enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, max_length=200, is_primary=True)
        schema.add_field("version", DataType.VARCHAR, max_length=64)
        schema.add_field("part", DataType.VARCHAR, max_length=128)
        schema.add_field("batch", DataType.INT64)
        schema.add_field("document_key", DataType.VARCHAR, max_length=64)
        for name in ("document", "title", "text"):
            schema.add_field(name, DataType.VARCHAR, max_length=_LONGEST)
        schema.add_field("number", DataType.INT64)
        schema.add_field("start", DataType.INT64)
        schema.add_field("last", DataType.BOOL)
        # The words are ours, and the analyzer finds them between spaces.
        schema.add_field("words", DataType.VARCHAR, max_length=_LONGEST, enable_analyzer=True)
        schema.add_field("bm25", DataType.SPARSE_FLOAT_VECTOR)
        schema.add_function(
            Function(
                name="bm25", function_type=FunctionType.BM25, input_field_names=["words"], output_field_names=["bm25"]
            )
        )
        bm25 = {"inverted_index_algo": "DAAT_MAXSCORE", "bm25_k1": _K1, "bm25_b": _B}
        self._make(
            self.passages,
            schema,
            bm25={"index_type": "SPARSE_INVERTED_INDEX", "metric_type": "BM25", "params": bm25},
            document_key={"index_type": "INVERTED"},
            version={"index_type": "INVERTED"},
        )
        with self._told():
            self._load()

    def _make(self, name: str, schema: Any, **indexes: dict[str, Any]) -> None:
        params = MilvusClient.prepare_index_params()
        for name_of_field, index in indexes.items():
            params.add_index(name_of_field, **index)
        if self.has(name):  # from a making that was broken off, perhaps before its indexes
            with contextlib.suppress(CorpusError):
                self.call("create_index", name, index_params=params)
            return
        self.call("create_collection", name, schema=schema, index_params=params, consistency_level="Strong")

    def commit(self) -> _Commit | None:
        """Return what is committed, or None where no index was made."""
        rows = self.call("get", self.sources, ids=[_COMMIT], output_fields=["batch", "record"])
        if not rows:
            return None
        try:
            record = json.loads(rows[0]["record"])
            note = record["note"]
            assert {"format", "passage_size", "name"} <= note.keys()
            return _Commit(rows[0]["batch"], note, tuple(record["lost"]), record["taken"])
        except (ValueError, AssertionError, AttributeError, KeyError, TypeError):
            raise CorpusError(f"{self.address} is damaged: it does not describe an index") from None

    def present(self) -> _Commit:
        """Return what is committed.

        Raises:
            CorpusError: Nothing is any longer.
        """
        commit = self.commit()
        if commit is None:
            raise CorpusError(f"{self.address} is damaged: its commit is gone")
        return commit

    def put_commit(self, commit: _Commit) -> None:
        """Commit, at once."""
        row = {"id": _COMMIT, "batch": commit.batch, "version": "", "doomed": "", "v": _NO_VECTOR}
        record = {"note": commit.note, "lost": commit.lost, "taken": commit.taken}
        self.put(self.sources, [row | {"record": json.dumps(record)}])

    def changes(self, commit: _Commit) -> list[dict[str, Any]]:
        """Return the rows of sources that committed batches brought and that have not taken their places yet."""
        fields = ["id", "batch", "version", "record", "doomed"]
        return list(self.rows(self.sources, f'doomed != "" and {commit.seen}', fields))

    def put(self, collection: str, rows: Sequence[dict[str, Any]]) -> None:
        """Write rows, in place of those of the same ids."""
        for portion in _portions(rows):
            self.call("upsert", collection, data=portion)

    def delete(self, collection: str, expression: str) -> None:
        """Delete what an expression finds."""
        self.call("delete", collection, filter=expression, consistency_level="Strong")

    def count(self, collection: str, expression: str) -> int:
        """Return how many rows an expression finds."""
        options = {"output_fields": ["count(*)"], "consistency_level": "Strong"}
        return int(self.call("query", collection, filter=expression, **options)[0]["count(*)"])

    def rows(self, collection: str, expression: str, fields: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield all rows that an expression finds."""
        iterator = self.call(
            "query_iterator",
            collection,
            filter=expression,
            output_fields=list(fields),
            batch_size=1000,
            consistency_level="Strong",
        )
        with self._told(), contextlib.closing(iterator):
            while rows := iterator.next():
                yield from rows

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what Milvus and its client complain of into one line."""
        try:
            yield
        except (MilvusException, grpc.RpcError) as error:
            codes, why = _codes(error), " ".join(str(getattr(error, "message", error)).split())[:300]
            if codes & _REFUSALS or _REFUSED.search(why):
                raise CorpusError(f"Milvus at {self.address.uri} refuses the token that is in MILVUS_TOKEN") from error
            if grpc.StatusCode.DEADLINE_EXCEEDED in codes:
                raise CorpusError(f"Milvus at {self.address.uri} does not answer in time") from error
            if grpc.StatusCode.UNAVAILABLE in codes or getattr(error, "code", None) == _UNREACHABLE:
                raise CorpusError(f"no Milvus answers at {self.address.uri}") from error
            raise CorpusError(f"the index {self.address} cannot be used: {why}") from error


_REFUSALS = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
_REFUSED = re.compile("auth check failure|permission deny|privilege", re.IGNORECASE)
_BEAT = "beat"
_OF_SOURCES = f'id not in ["{_COMMIT}", "{_BEAT}"]'
_SETTLED = f'{_OF_SOURCES} and doomed == ""'
_NO_VECTOR = [0.0, 0.0]
_PASSAGE = ["document", "title", "number", "start", "text"]


def _is_absence(error: CorpusError) -> bool:
    """Whether it came of a collection that there is not."""
    return isinstance(error.__cause__, MilvusException) and error.__cause__.code == _NO_COLLECTION


def _codes(error: BaseException | None) -> set[grpc.StatusCode]:
    """Return what gRPC says of an error, and of those that it comes from."""
    found, seen = set(), set[int]()
    while error is not None and id(error) not in seen:  # an error may be its own cause
        seen.add(id(error))
        if isinstance(error, grpc.RpcError) and callable(getattr(error, "code", None)):
            found.add(error.code())
        error = error.__cause__ or error.__context__
    return found


def _source(record: str) -> Source:
    return Source(**json.loads(record))


def _passage(row: dict[str, Any]) -> Passage:
    return Passage(**{name: row[name] for name in _PASSAGE})


def _cut(words: str) -> str:
    """Leave out the last words where all are more than a field holds."""
    encoded = words.encode()
    if len(encoded) <= _LONGEST:
        return words
    return encoded[:_LONGEST].rpartition(b" ")[0].decode()


def _portions(items: Iterable[Any]) -> Iterator[list[Any]]:
    items = list(items)
    return (items[i : i + _KEYS] for i in range(0, len(items), _KEYS))
