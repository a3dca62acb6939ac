"""The index in Milvus: BM25 on a server, or on a cluster of them.

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
import secrets
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from dynamic_tinybert.corpus.errors import CorpusError
from dynamic_tinybert.corpus.index.analyzer import question_words
from dynamic_tinybert.corpus.index.location import MilvusAddress
from dynamic_tinybert.corpus.index.milvus.client import OF_SOURCES, Commit, Server, is_absence, source_of
from dynamic_tinybert.corpus.index.milvus.lease import WriterLease
from dynamic_tinybert.corpus.index.milvus.writer import MilvusWriter
from dynamic_tinybert.corpus.index.protocol import Counts, DocumentInfo, Hit, Passage, Source, Writer, info_of, key_of
from dynamic_tinybert.corpus.passages import PASSAGE_SIZE, check_size
from dynamic_tinybert.files import encodable

_FORMAT = 1
_MOST_PASSAGE_SIZE = 16_000  # characters, each of at most four bytes
_MOST_HITS = 16_384  # that a search of Milvus gives
_TRIES = 5  # of a reading during which something was committed
_PASSAGE = ["document", "title", "number", "start", "text"]


class MilvusIndex:
    """An index in Milvus. See `Index` for what its methods promise.

    Args:
        address: Where it is.
        create: Make it, if there is none.
        passage_size: The most characters of a passage, for a new index; by default `PASSAGE_SIZE`.

    Attributes:
        address: Where it is.
        passage_size: The most characters of a passage.

    Raises:
        CorpusError: Milvus does not answer, or refuses; there is no index; the collection is something else, or of
            another version; or the index exists and its passages are of another size.
        ValueError: The size is out of range.
    """

    def __init__(self, address: MilvusAddress, *, create: bool = False, passage_size: int | None = None) -> None:
        self.address = address
        if passage_size is not None and check_size(passage_size) > _MOST_PASSAGE_SIZE:
            raise ValueError(f"a passage in Milvus has {_MOST_PASSAGE_SIZE:,} characters at the most")
        self._server = Server(address)
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
        self._seen: tuple[Commit | None, str] = None, ""  # a commit, and what is asked to see it

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
        with WriterLease(server):
            commit = server.commit()  # of another process, perhaps, by now
            if commit is None:
                note = {"format": _FORMAT, "passage_size": passage_size, "name": secrets.token_hex(8)}
                commit = Commit(0, note)
                server.put_commit(commit)
        return commit.note

    def is_current(self) -> bool:
        """Return whether this is still the index of its name, which may have been dropped or made again."""
        try:
            commit = self._server.commit()
        except CorpusError as error:
            if is_absence(error):
                return False
            raise
        return commit is not None and commit.note["name"] == self._name

    def _visible(self) -> tuple[Commit, str]:
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
        """Yield what is asked to see the passages, again where something was committed during the reading before.

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
        """Return the `k` passages that match a question best by BM25, the best first; at most 16,384."""
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
            expression, found = f"{OF_SOURCES} and {self._server.present().seen}", {}
            for row in self._server.rows(self._server.sources, expression, ["id", "batch", "record"]):
                key = row["id"].partition(":")[0]
                if row["batch"] >= found.get(key, (-1, ""))[0]:
                    found[key] = row["batch"], row["record"]
        yield from (source_of(record) for _, record in found.values() if record)

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
        with WriterLease(self._server) as lease:
            writer = MilvusWriter(self._server, lease)
            try:
                yield writer
            finally:
                writer.close()


def _passage(row: dict[str, Any]) -> Passage:
    return Passage(**{name: row[name] for name in _PASSAGE})
