"""The connection with Milvus, the collections of an index in it, and their rows."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from pymilvus import DataType, Function, FunctionType, MilvusClient, MilvusException

from dynamic_tinybert.corpus.errors import CorpusError
from dynamic_tinybert.corpus.index.location import MilvusAddress

LONGEST_FIELD = 65_535  # bytes of a VARCHAR
CALL_S = 60.0
_CONNECT_S = 5.0
_K1, _B = 1.2, 0.75  # of BM25, the same as in tantivy
_KEYS = 500  # in one expression or message
_RECONNECT = {"grpc.initial_reconnect_backoff_ms": 200, "grpc.max_reconnect_backoff_ms": 1000}
_RETRY_S = 6.0  # how long a call is tried again if the server does not answer
_RELEASED = 101  # a code of Milvus: the collection is not in memory, for example after a restart of its embedded server
_NO_COLLECTION = 100
_UNREACHABLE = 2

logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # pymilvus logs a traceback of each error that it raises

_REFUSALS = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
_REFUSED = re.compile("auth check failure|permission deny|privilege", re.IGNORECASE)
_COMMIT = "commit"  # the id of the row of the commit; the ids of other rows are digests
BEAT = "beat"  # the id of the row that shows that a writer is alive
OF_SOURCES = f'id not in ["{_COMMIT}", "{BEAT}"]'
SETTLED = f'{OF_SOURCES} and doomed == ""'
NO_VECTOR = [0.0, 0.0]


@dataclass(frozen=True)
class Commit:
    """The committed state of an index.

    Attributes:
        batch: The number of the last committed batch.
        note: The description of the index: its format, its passage size, and a unique name.
        lost: Numbers up to `batch` whose batches were never committed.
        taken: The number of the batch that a writer is filling, if there is a writer.
    """

    batch: int
    note: dict[str, Any]
    lost: tuple[int, ...] = ()
    taken: int | None = None

    @property
    def seen(self) -> str:
        """The filter for the rows of committed batches."""
        return f"batch <= {self.batch}" + (f" and batch not in {list(self.lost)}" if self.lost else "")


class Server:
    """A connection with Milvus, and the collections of an index in it. Safe to use from many threads."""

    def __init__(self, address: MilvusAddress) -> None:
        self.address = address
        self.passages = address.collection
        self.sources = f"{address.collection}_sources"
        self.writer = f"{address.collection}_writer"
        with self._translate_errors():
            self._client = MilvusClient(
                uri=address.uri,
                token=address.token,
                db_name=address.database,
                timeout=_CONNECT_S,
                grpc_options=_RECONNECT,
            )

    def call(self, method: str, *args: Any, **options: Any) -> Any:
        """Call a method of the client.

        Raises:
            CorpusError: The call failed; `__cause__` is the exception of the client.
        """
        with self._translate_errors():
            end = time.monotonic() + _RETRY_S
            while True:
                try:
                    return getattr(self._client, method)(*args, **options, timeout=CALL_S)
                except MilvusException as error:
                    if error.code not in (_RELEASED, _UNREACHABLE) or time.monotonic() > end:
                        raise
                    released = error.code == _RELEASED
                if released:
                    self._load()
                else:  # the server may have restarted, and the connection has not noticed yet
                    time.sleep(0.5)

    def _load(self) -> None:
        for name in (self.passages, self.sources):
            self._client.load_collection(name, timeout=CALL_S)

    def has(self, collection: str) -> bool:
        """Return whether there is a collection of this name."""
        return bool(self.call("has_collection", collection))

    def create(self) -> None:
        """Create the collections that do not exist yet."""
        schema = MilvusClient.create_schema(enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, max_length=200, is_primary=True)
        schema.add_field("batch", DataType.INT64)
        schema.add_field("version", DataType.VARCHAR, max_length=64)
        schema.add_field("record", DataType.VARCHAR, max_length=LONGEST_FIELD)
        schema.add_field("doomed", DataType.VARCHAR, max_length=LONGEST_FIELD)
        schema.add_field("v", DataType.FLOAT_VECTOR, dim=2)  # Milvus requires a vector
        self._make(self.sources, schema, v={"index_type": "FLAT", "metric_type": "L2"})
        schema = MilvusClient.create_schema(enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, max_length=200, is_primary=True)
        schema.add_field("version", DataType.VARCHAR, max_length=64)
        schema.add_field("part", DataType.VARCHAR, max_length=128)
        schema.add_field("batch", DataType.INT64)
        schema.add_field("document_key", DataType.VARCHAR, max_length=64)
        for name in ("document", "title", "text"):
            schema.add_field(name, DataType.VARCHAR, max_length=LONGEST_FIELD)
        schema.add_field("number", DataType.INT64)
        schema.add_field("start", DataType.INT64)
        schema.add_field("last", DataType.BOOL)
        # Our own analyzer finds the words; the one of Milvus only splits at spaces.
        schema.add_field("words", DataType.VARCHAR, max_length=LONGEST_FIELD, enable_analyzer=True)
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
        with self._translate_errors():
            self._load()

    def _make(self, name: str, schema: Any, **indexes: dict[str, Any]) -> None:
        params = MilvusClient.prepare_index_params()
        for name_of_field, index in indexes.items():
            params.add_index(name_of_field, **index)
        if self.has(name):  # an interrupted creation may have left it without indexes
            with contextlib.suppress(CorpusError):
                self.call("create_index", name, index_params=params)
            return
        self.call("create_collection", name, schema=schema, index_params=params, consistency_level="Strong")

    def commit(self) -> Commit | None:
        """Return the committed state, or None if no index was created."""
        rows = self.call("get", self.sources, ids=[_COMMIT], output_fields=["batch", "record"])
        if not rows:
            return None
        try:
            record = json.loads(rows[0]["record"])
            note = record["note"]
            assert {"format", "passage_size", "name"} <= note.keys()
            return Commit(rows[0]["batch"], note, tuple(record["lost"]), record["taken"])
        except (ValueError, AssertionError, AttributeError, KeyError, TypeError):
            raise CorpusError(f"{self.address} is damaged: it does not describe an index") from None

    def present(self) -> Commit:
        """Return the committed state.

        Raises:
            CorpusError: The row of the commit is missing.
        """
        commit = self.commit()
        if commit is None:
            raise CorpusError(f"{self.address} is damaged: its commit is gone")
        return commit

    def put_commit(self, commit: Commit) -> None:
        """Write the row of the commit."""
        row = {"id": _COMMIT, "batch": commit.batch, "version": "", "doomed": "", "v": NO_VECTOR}
        record = {"note": commit.note, "lost": commit.lost, "taken": commit.taken}
        self.put(self.sources, [row | {"record": json.dumps(record)}])

    def changes(self, commit: Commit) -> list[dict[str, Any]]:
        """Return the rows of sources from committed batches that step 3 of a commit has not processed yet."""
        fields = ["id", "batch", "version", "record", "doomed"]
        return list(self.rows(self.sources, f'doomed != "" and {commit.seen}', fields))

    def put(self, collection: str, rows: Sequence[dict[str, Any]]) -> None:
        """Write rows; they replace rows with the same ids."""
        for portion in portions(rows):
            self.call("upsert", collection, data=portion)

    def delete(self, collection: str, expression: str) -> None:
        """Delete the rows that match an expression."""
        self.call("delete", collection, filter=expression, consistency_level="Strong")

    def count(self, collection: str, expression: str) -> int:
        """Count the rows that match an expression."""
        options = {"output_fields": ["count(*)"], "consistency_level": "Strong"}
        return int(self.call("query", collection, filter=expression, **options)[0]["count(*)"])

    def rows(self, collection: str, expression: str, fields: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield all rows that match an expression."""
        iterator = self.call(
            "query_iterator",
            collection,
            filter=expression,
            output_fields=list(fields),
            batch_size=1000,
            consistency_level="Strong",
        )
        with self._translate_errors(), contextlib.closing(iterator):
            while rows := iterator.next():
                yield from rows

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Convert errors of Milvus and its client to a `CorpusError` of one line."""
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


def is_absence(error: CorpusError) -> bool:
    """Return whether the cause of an error is a missing collection."""
    return isinstance(error.__cause__, MilvusException) and error.__cause__.code == _NO_COLLECTION


def _codes(error: BaseException | None) -> set[grpc.StatusCode]:
    """Return the gRPC status codes of an error and of its causes."""
    found, seen = set(), set[int]()
    while error is not None and id(error) not in seen:  # an error may be its own cause
        seen.add(id(error))
        if isinstance(error, grpc.RpcError) and callable(getattr(error, "code", None)):
            found.add(error.code())
        error = error.__cause__ or error.__context__
    return found


def portions(items: Iterable[Any]) -> Iterator[list[Any]]:
    """Split items into portions that fit into an expression or a message."""
    items = list(items)
    return (items[i : i + _KEYS] for i in range(0, len(items), _KEYS))
