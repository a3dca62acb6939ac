"""The index in Milvus: BM25 on a server or a cluster.

`COLLECTION` holds the passages, and `COLLECTION_sources` holds a row for each source. Milvus has no transactions. So
changes of several rows are numbered batches (multi-version concurrency control):

1. A writer first stores the number of its batch in the row of the commit, as taken. Then it adds passages and rows of
   sources with this number. Readers do not see them: they ask only for batches up to the committed one.
2. It commits with one write to the row of the commit.
3. It deletes what the batch replaced. Until it has, the rows of sources list these versions, and readers exclude them.

If a writer is killed in step 1, its number stays taken. The next writer adds the number to the list of lost batches and
deletes its rows. Readers exclude lost batches, so they never see rows that arrive later. If a writer is killed in
step 3, the next writer finishes the step. There is one writer at a time, over all machines: each writer creates the
collection `COLLECTION_writer`, and Milvus lets only one succeed. A row that changes (the beat) shows that it is alive.
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
from dynamic_tinybert.corpus.index.language import DEFAULT, FORMATS, check_language, language_of, note_of
from dynamic_tinybert.corpus.index.location import MilvusAddress
from dynamic_tinybert.corpus.index.milvus.client import OF_SOURCES, Commit, Server, is_absence
from dynamic_tinybert.corpus.index.milvus.lease import WriterLease
from dynamic_tinybert.corpus.index.milvus.writer import MilvusWriter
from dynamic_tinybert.corpus.index.protocol import (
    Counts,
    DocumentInfo,
    Hit,
    Passage,
    Source,
    Writer,
    info_of,
    key_of,
    source_of,
)
from dynamic_tinybert.corpus.passages import PASSAGE_SIZE, check_size
from dynamic_tinybert.files import encodable

_MOST_PASSAGE_SIZE = 16_000  # characters, each of at most four bytes
_MOST_HITS = 16_384  # the limit of a search in Milvus
_TRIES = 5  # of a query, if something is committed during each try
_PASSAGE = ["document", "title", "number", "start", "text"]


class MilvusIndex:
    """An index in Milvus. See `Index` for what its methods promise.

    Args:
        address: The address of the index.
        create: Create the index if it does not exist.
        passage_size: The most characters of a passage, for a new index; by default `PASSAGE_SIZE`.
        language: The language whose stems are compared, for a new index; by default English.

    Attributes:
        address: The address of the index.
        passage_size: The most characters of a passage.
        language: The language whose stems are compared, or "none".

    Raises:
        CorpusError: Milvus does not answer or refuses access; there is no index; the collection is not an index, or an
            index of another version; or the index has another passage size or language.
        ValueError: The passage size is out of range, or the language is unknown.
    """

    def __repr__(self) -> str:
        return f"<MilvusIndex {str(self.address)!r}>"

    def __init__(
        self,
        address: MilvusAddress,
        *,
        create: bool = False,
        passage_size: int | None = None,
        language: str | None = None,
    ) -> None:
        self.address = address
        if passage_size is not None and check_size(passage_size) > _MOST_PASSAGE_SIZE:
            raise ValueError(f"a passage in Milvus has {_MOST_PASSAGE_SIZE:,} characters at most")
        language = None if language is None else check_language(language)
        self._server = Server(address)
        note = self._read_note()
        if note is None:
            if not create:
                raise CorpusError(
                    f"{address} contains no index: `dynamic-tinybert index add PATH --index {address}` makes one"
                )
            note = self._create(passage_size or PASSAGE_SIZE, language or DEFAULT)
        if note["format"] not in FORMATS:
            raise CorpusError(
                f"{address} is an index of format {note['format']!r:.20}; this version reads up to "
                f"{FORMATS[-1]}: make it again"
            )
        self.passage_size: int = note["passage_size"]
        self._name: str = note["name"]
        if passage_size not in (None, self.passage_size):
            raise CorpusError(
                f"the passages of {address} have {self.passage_size} characters at most, not {passage_size}: an "
                "index has one size"
            )
        self.language = language_of(address, note, language)
        self._lock = threading.Lock()
        self._seen: tuple[Commit | None, str] = None, ""  # a commit, and the filter for its passages

    def _read_note(self) -> dict[str, Any] | None:
        """Return the description of the index from the row of the commit, or None if there is no index."""
        server = self._server
        if not server.has(server.sources):
            if server.has(server.passages):
                raise CorpusError(
                    f"{self.address} is a collection of something else: name another collection for the index"
                )
            return None
        fields = {one["name"] for one in server.call("describe_collection", server.sources)["fields"]}
        if not fields >= {"id", "batch", "record", "doomed"}:
            raise CorpusError(f"{self.address}_sources is a collection of something else")
        if not server.has(server.passages):
            return None
        commit = server.commit()
        return None if commit is None else commit.note

    def _create(self, passage_size: int, language: str) -> dict[str, Any]:
        """Create an index. The row of the commit comes last, so a kill leaves no index or a complete one."""
        server = self._server
        server.create()
        with WriterLease(server):
            commit = server.commit()  # another process may have created the index
            if commit is None:
                note = note_of(passage_size, language) | {"name": secrets.token_hex(8)}
                commit = Commit(0, note)
                server.put_commit(commit)
        return commit.note

    def is_current(self) -> bool:
        """Return whether the index was not dropped or made again since it was opened."""
        try:
            commit = self._server.commit()
        except CorpusError as error:
            if is_absence(error):
                return False
            raise
        return commit is not None and commit.note["name"] == self._name

    def _visible(self) -> tuple[Commit, str]:
        """Return the commit, and the filter for the passages that are visible in it."""
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
        """Yield the filter for the visible passages. Yield it again if there was a commit during the caller's query.

        Raises:
            CorpusError: There was a commit during each try.
        """
        for _ in range(_TRIES):
            commit, visible = self._visible()
            yield visible
            if self._server.present().batch == commit.batch:
                return
        raise CorpusError(f"{self.address} is changed too often to be read: try again")

    def search(self, question: str, k: int) -> list[Hit]:
        """Return the `k` passages that match a question best by BM25, the best first, at most 16,384."""
        words = question_words(question, self.language)
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
        # The embedded server of Milvus returns negative scores.
        return [Hit(_passage(hit["entity"]), abs(float(hit["distance"]))) for hit in found]

    def document(self, name: str) -> Iterator[Passage]:
        """Yield the passages of a document in order, or nothing if there is no such document."""
        found: list[Passage] = []
        for visible in self._steady():
            rows = self._server.rows(
                self._server.passages, f'document_key == "{key_of(encodable(name))}" and {visible}', _PASSAGE
            )
            found = [_passage(row) for row in rows]
        yield from sorted(found, key=lambda passage: passage.number)

    def documents(self) -> Iterator[DocumentInfo]:
        """Yield a description of each document, sorted by name."""
        infos: list[DocumentInfo] = []
        for visible in self._steady():
            last = map(_passage, self._server.rows(self._server.passages, f"last == true and {visible}", _PASSAGE))
            infos = list(map(info_of, last))
        yield from sorted(infos, key=lambda info: info.name)

    def sources(self) -> Iterator[Source]:
        """Yield all sources, in any order."""
        found: dict[str, tuple[int, str]] = {}
        for _ in self._steady():
            expression, found = f"{OF_SOURCES} and {self._server.present().seen}", {}
            for row in self._server.rows(self._server.sources, expression, ["id", "batch", "record"]):
                key = row["id"].partition(":")[0]
                if row["batch"] >= found.get(key, (-1, ""))[0]:
                    found[key] = row["batch"], row["record"]
        yield from (source_of(record) for _, record in found.values() if record)

    def counts(self) -> Counts:
        """Count the documents and passages."""
        documents = passages = 0
        for visible in self._steady():
            documents = self._server.count(self._server.passages, f"last == true and {visible}")
            passages = self._server.count(self._server.passages, visible)
        return Counts(documents, passages)

    def size(self) -> None:
        """Return None: Milvus does not tell the size of an index."""

    @contextlib.contextmanager
    def writer(self) -> Iterator[Writer]:
        """Open the index for changes; changes that are not committed are dropped at the end.

        Raises:
            CorpusError: Another process is changing the index.
        """
        with WriterLease(self._server) as lease:
            writer = MilvusWriter(self._server, lease, self.language)
            try:
                yield writer
            finally:
                writer.close()


def _passage(row: dict[str, Any]) -> Passage:
    return Passage(**{name: row[name] for name in _PASSAGE})
