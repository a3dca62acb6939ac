"""The index in Milvus: BM25 on a server, or on a cluster of them. All that knows Milvus.

`COLLECTION` holds the passages, and `COLLECTION_sources` a row for each source. Milvus has no transactions; what must
change at once in several rows goes by numbered batches, as in other stores of many versions:

1. A writer adds passages and rows of sources under the number of the next batch. No reader sees them: all reading asks
   for batches up to the one that is committed.
2. It commits by one write to one row, which holds that number.
3. It deletes what the batch replaced. Until that is done, rows of sources name it, and readers leave it out.

A writer that was killed in step 1 leaves rows that nobody sees, which the next one deletes; one that was killed in
step 3 leaves what the next one finishes. So that there is one writer at a time, over all machines, each makes a
collection `COLLECTION_writer`, of which Milvus lets there be one; a beat that changes tells that its writer lives.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pymilvus import DataType, Function, FunctionType, MilvusClient, MilvusException

from dynamic_tinybert.corpus.errors import CorpusError
from dynamic_tinybert.corpus.index import Counts, DocumentInfo, Hit, Passage, Source, Writer
from dynamic_tinybert.corpus.location import MilvusAddress
from dynamic_tinybert.corpus.passages import PASSAGE_SIZE, check_size
from dynamic_tinybert.corpus.words import question_words, words_of
from dynamic_tinybert.text import encodable

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
_AGAIN_S = 2.5  # for which a server that is gone is tried again
_BEAT_S = 2.0
_STALE_S = 15.0  # without a beat, a writer is taken for dead
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
        self._seen: tuple[int, str] = (-1, "")  # a batch, and what is asked to see it

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
        server.load()
        row = server.commit_row()
        if row is None:
            return None
        try:
            note: dict[str, Any] = json.loads(row["record"])
            assert {"format", "passage_size", "name"} <= note.keys()
        except (ValueError, AssertionError, AttributeError):
            raise CorpusError(f"{self.address} is damaged: it does not describe an index") from None
        return note

    def _create(self, passage_size: int) -> dict[str, Any]:
        """Make an index; the row of the commit comes last, so that a kill leaves none or a whole one."""
        self._server.create()
        note = {"format": _FORMAT, "passage_size": passage_size, "name": secrets.token_hex(8)}
        self._server.put_commit(0, note)
        return note

    def is_current(self) -> bool:
        """Return whether this is still the index of its name, which may have been dropped or made anew."""
        try:
            row = self._server.commit_row()
        except CorpusError as error:
            if isinstance(error.__cause__, MilvusException) and error.__cause__.code == _NO_COLLECTION:
                return False
            raise
        return row is not None and json.loads(row["record"]).get("name") == self._name

    def _committed(self) -> int:
        row = self._server.commit_row()
        if row is None:
            raise CorpusError(f"{self.address} is damaged: its commit is gone")
        batch: int = row["batch"]
        return batch

    def _visible(self) -> tuple[int, str]:
        """Return the committed batch, and the expression for the passages that are seen at it."""
        batch = self._committed()
        with self._lock:
            if self._seen[0] == batch:
                return self._seen
        doomed = [one for row in self._server.changes() if row["batch"] <= batch for one in json.loads(row["doomed"])]
        expression = f"batch <= {batch}"
        for kind in ("version", "part"):
            names = [name for one, name in doomed if one == kind]
            if names:
                expression += f" and {kind} not in {json.dumps(names)}"
        with self._lock:
            self._seen = batch, expression
        return batch, expression

    def _steady(self) -> Iterator[str]:
        """Yield what is asked to see the passages, anew where something was committed during the reading before."""
        for _ in range(_TRIES):
            batch, visible = self._visible()
            yield visible
            if self._committed() == batch:
                return

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
                self._server.passages, f'document_key == "{_key(encodable(name))}" and {visible}', _PASSAGE
            )
            found = [_passage(row) for row in rows]
        yield from sorted(found, key=lambda passage: passage.number)

    def documents(self) -> Iterator[DocumentInfo]:
        """Yield what is known of all documents, in the order of their names."""
        infos: list[DocumentInfo] = []
        for visible in self._steady():
            last = map(_passage, self._server.rows(self._server.passages, f"last == true and {visible}", _PASSAGE))
            infos = [
                DocumentInfo(name=p.document, title=p.title, passages=p.number + 1, characters=p.start + len(p.text))
                for p in last
            ]
        yield from sorted(infos, key=lambda info: info.name)

    def sources(self) -> Iterator[Source]:
        """Yield all sources, in no order."""
        found: dict[str, tuple[int, str]] = {}
        for _ in self._steady():
            committed, found = self._committed(), {}
            for row in self._server.rows(self._server.sources, _OF_SOURCES, ["id", "batch", "record"]):
                key = row["id"].removesuffix(_NEW)
                if row["batch"] <= committed and row["batch"] >= found.get(key, (-1, ""))[0]:
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
        row = server.commit_row()
        if row is None:
            raise CorpusError(f"{server.address} is damaged: its commit is gone")
        self._committed: int = row["batch"]
        self._note: dict[str, Any] = json.loads(row["record"])
        self._rows: list[dict[str, Any]] = []  # passages that are still to be sent
        self._characters = 0
        self._added = 0  # passages sent since the writer was opened
        self._sent = False  # whether there are any of the batch that is not committed
        self._changed: dict[str, _Change] = {}  # by name
        self._undo()
        self._finish()

    def _undo(self) -> None:
        """Delete what was not committed."""
        for collection in (self._server.passages, self._server.sources):
            self._server.delete(collection, f"batch > {self._committed}")

    def _finish(self) -> None:
        """Delete what the committed batch replaced, and make its rows of sources those that there are."""
        rows = self._server.changes()
        doomed = [one for row in rows for one in json.loads(row["doomed"])]
        for kind in ("version", "part"):
            for names in _portions([name for one, name in doomed if one == kind]):
                self._server.delete(self._server.passages, f"{kind} in {json.dumps(names)}")
        kept = [row | {"id": row["id"].removesuffix(_NEW), "doomed": "", "v": _NO_VECTOR} for row in rows]
        self._server.put(self._server.sources, [row for row in kept if row["record"]])
        gone = [row["id"] for row in kept if not row["record"]] + [row["id"] for row in rows]
        for keys in _portions(gone):
            self._server.call("delete", self._server.sources, ids=keys)

    def source(self, name: str) -> Source | None:
        """Return the source of a name as this writer knows it, or None."""
        if name in self._changed:
            return self._changed[name].source
        rows = self._server.call("get", self._server.sources, ids=[_key(name)], output_fields=["record"])
        return _source(rows[0]["record"]) if rows else None

    def sources(self) -> Iterator[Source]:
        """Yield all sources there were when the writer was opened."""
        records = [row["record"] for row in self._server.rows(self._server.sources, _SETTLED, ["record"])]
        return map(_source, records)

    def add(self, version: str, passage: Passage, *, last: bool) -> None:
        """Add a passage of a version of a source; `last` marks a document's last."""
        key = _key(passage.document)
        self._rows.append(
            {
                "id": f"{version}:{key}:{passage.number}",
                "version": version,
                "part": f"{version}:{key}",
                "batch": self._committed + 1,
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
            self._server.delete(self._server.passages, f'version == "{version}" and batch > {self._committed}')
        for source in self._of_version(version):
            self.remove_source(source)

    def remove_source(self, source: Source) -> None:
        """Remove a source, and the documents that came from it."""
        change = self._change(source.name)
        change.source = None
        change.doomed.append(("version", source.version))

    def remove_document(self, name: str) -> None:
        """Remove a document that was there when the writer was opened from the source that it came from."""
        key = _key(name)
        passages: dict[str, list[str]] = {}
        expression = f'document_key == "{key}" and batch <= {self._committed}'
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
        batch = self._committed + 1
        self._turn.check()
        self._server.put(
            self._server.sources,
            [row for name, change in self._changed.items() for row in _rows_of(_key(name), batch, change)],
        )
        self._turn.check()
        self._server.put_commit(batch, self._note)
        self._committed, self._sent = batch, False
        self._changed.clear()
        self._finish()

    def close(self) -> None:
        """Drop what was not committed, and have what was gathered sealed, so that it is searched by its index."""
        self._rows.clear()
        if self._sent:
            with contextlib.suppress(CorpusError):  # the next writer does it
                self._turn.check()
                self._undo()
        if self._added >= _SEALED:
            with contextlib.suppress(CorpusError):  # Milvus does it by itself, in time
                self._server.call("flush", self._server.passages)

    def _change(self, name: str) -> _Change:
        return self._changed.setdefault(name, _Change())

    def _send(self) -> None:
        if self._rows:
            self._turn.check()  # what another's writer has committed would make these seen
            self._sent = True
            self._server.call("insert", self._server.passages, data=self._rows)
            self._added += len(self._rows)
            self._rows, self._characters = [], 0


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
            "id": (f"{key}.{number}" if number else key) + _NEW,
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
            if isinstance(error.__cause__, MilvusException) and error.__cause__.code == _NO_COLLECTION:
                return None
            raise
        return next((str(f["name"]) for f in found["fields"] if f["name"].startswith("owner_")), "")

    def _wait_for_the_dead(self) -> None:
        """Return when the writer whose turn it is has given no sign of life for some time, and its turn is ended."""
        owner, beat, since = self._present(), self._beat(), time.monotonic()
        while owner is not None and time.monotonic() - since < _STALE_S:
            time.sleep(_BEAT_S / 4)
            if self._present() != owner:
                return
            if self._beat() != beat:
                raise CorpusError(f"another process is changing {self._server.address}: one at a time")
        if owner is not None and self._present() == owner:
            self._server.call("drop_collection", self._server.writer)

    def _beat(self) -> object:
        rows = self._server.call("get", self._server.sources, ids=[_BEAT], output_fields=["record"])
        return rows[0]["record"] if rows else None

    def _live(self) -> None:
        for number in range(1 << 62):
            record = f"{self._owner} {number}"
            row = {"id": _BEAT, "batch": 0, "version": "", "record": record, "doomed": "", "v": _NO_VECTOR}
            with contextlib.suppress(CorpusError):
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
                uri=address.uri, token=address.token, db_name=address.database, timeout=_CONNECT_S
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
                    time.sleep(_AGAIN_S / 5)

    def load(self) -> None:
        """Have the collections in Milvus's memory."""
        with self._told():
            self._load()

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
        self.load()

    def _make(self, name: str, schema: Any, **indexes: dict[str, Any]) -> None:
        if self.has(name):
            return
        params = MilvusClient.prepare_index_params()
        for name_of_field, index in indexes.items():
            params.add_index(name_of_field, **index)
        self.call("create_collection", name, schema=schema, index_params=params, consistency_level="Strong")

    def commit_row(self) -> dict[str, Any] | None:
        """Return the row of the committed batch."""
        rows = self.call("get", self.sources, ids=[_COMMIT], output_fields=["batch", "record"])
        return rows[0] if rows else None

    def put_commit(self, batch: int, note: dict[str, Any]) -> None:
        """Commit a batch."""
        row = {"id": _COMMIT, "batch": batch, "version": "", "doomed": "", "v": _NO_VECTOR}
        self.put(self.sources, [row | {"record": json.dumps(note)}])

    def changes(self) -> list[dict[str, Any]]:
        """Return the rows of sources that a batch brought and that have not taken their places yet."""
        fields = ["id", "batch", "version", "record", "doomed"]
        return list(self.rows(self.sources, 'doomed != ""', fields))

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
        except MilvusException as error:
            why = " ".join(str(error.message).split())[:300]
            if error.code == _UNREACHABLE or "UNAVAILABLE" in why or "Fail connecting" in why:
                raise CorpusError(f"no Milvus answers at {self.address.uri}") from error
            if re.search(r"auth|token|permission", why, re.IGNORECASE):
                raise CorpusError(f"Milvus at {self.address.uri} refuses: {why} (MILVUS_TOKEN is its token)") from error
            raise CorpusError(f"the index {self.address} cannot be used: {why}") from error


_NEW = ":new"
_BEAT = "beat"
_OF_SOURCES = f'id not in ["{_COMMIT}", "{_BEAT}"]'
_SETTLED = f'{_OF_SOURCES} and doomed == ""'
_NO_VECTOR = [0.0, 0.0]
_PASSAGE = ["document", "title", "number", "start", "text"]


def _key(name: str) -> str:
    """Return what a source or a document is looked up by: names may be no UTF-8, and hold what expressions cannot."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


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
