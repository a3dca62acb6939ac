"""The index in tantivy, with BM25 and transactions.

Each passage is a document of tantivy. One passage of a source also stores the record of the source. So both are
committed together, and there are no documents without words that change BM25's average length.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import tantivy

from dynamic_tinybert.corpus.errors import CorpusError
from dynamic_tinybert.corpus.index.analyzer import make_analyzer, normal, question_words
from dynamic_tinybert.corpus.index.protocol import Counts, DocumentInfo, Hit, Passage, Source, Writer, info_of, key_of
from dynamic_tinybert.corpus.passages import PASSAGE_SIZE, check_size
from dynamic_tinybert.files import encodable, processors, write_whole

NOTE = "dynamic-tinybert-index.json"
_ENGINE = "tantivy"
_FORMAT = 1
_HEAP = 64_000_000  # bytes for the passages that a thread of the writer collects


class TantivyIndex:
    """An index in a folder. See `Index` for what its methods promise.

    Args:
        directory: The folder.
        create: Create the index if it does not exist.
        passage_size: The most characters of a passage, for a new index; by default `PASSAGE_SIZE`.

    Attributes:
        directory: The folder.
        passage_size: The most characters of a passage.

    Raises:
        CorpusError: There is no index; the folder contains other files; the index is damaged, or has another version or
            another passage size.
        ValueError: The passage size is out of range.
    """

    def __repr__(self) -> str:
        return f"<TantivyIndex {str(self.directory)!r}>"

    def __init__(
        self, directory: str | os.PathLike[str], *, create: bool = False, passage_size: int | None = None
    ) -> None:
        self.directory = Path(directory)
        if passage_size is not None:
            check_size(passage_size)
        note = self._read_note()
        if note is None:
            if not create:
                raise CorpusError(
                    f"{self.directory} contains no index: `dynamic-tinybert index add PATH --index {self.directory}` "
                    "makes one"
                )
            note = self._create(passage_size or PASSAGE_SIZE)
        self.passage_size: int = note["passage_size"]
        if passage_size not in (None, self.passage_size):
            raise CorpusError(
                f"the passages of {self.directory} have {self.passage_size} characters at most, not "
                f"{passage_size}: an index has one size"
            )
        self._note_state = self._state_of(self.directory / NOTE)
        self._seen = self._state()  # before the index is opened, so the next search sees a commit in between
        with _translate_errors(self.directory):
            self._index = _opened(self._engine)
            self._index.reload()
        self._lock = threading.Lock()

    @property
    def _engine(self) -> Path:
        return self.directory / _ENGINE

    def _read_note(self) -> dict[str, Any] | None:
        path = self.directory / NOTE
        try:
            note: dict[str, Any] = json.loads(path.read_bytes())
            if note["format"] == _FORMAT:
                check_size(note["passage_size"])
                return note
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise CorpusError(f"{self.directory} is a file: an index is a folder") from None
        except OSError as error:
            raise CorpusError(f"{path} cannot be read: {error.strerror}") from None
        except (KeyError, TypeError, ValueError):
            raise CorpusError(f"{path} is damaged: it does not describe an index") from None
        raise CorpusError(
            f"{self.directory} is an index of format {note['format']!r:.20}; this version reads {_FORMAT}: make it "
            "again"
        )

    def _create(self, passage_size: int) -> dict[str, Any]:
        """Create an index. Its note comes last, so a kill leaves no index or a complete one."""
        self.directory.mkdir(parents=True, exist_ok=True)
        others = [entry.name for entry in self.directory.iterdir()]
        if any(name not in (_ENGINE, NOTE) and not name.startswith(f".{NOTE}.") for name in others):
            raise CorpusError(f"{self.directory} contains other files and no index: name another folder for the index")
        self._engine.mkdir(exist_ok=True)
        with _translate_errors(self.directory):
            tantivy.Index(_schema(), path=str(self._engine))
        note = {"format": _FORMAT, "engine": _ENGINE, "passage_size": passage_size}
        write_whole(self.directory / NOTE, (json.dumps(note, indent=2) + "\n").encode())
        return note

    def is_current(self) -> bool:
        """Return whether the index was not deleted or made again since it was opened."""
        return self._state_of(self.directory / NOTE) == self._note_state

    def _state(self) -> tuple[int, int]:
        state = self._state_of(self._engine / "meta.json")
        if state is None:
            raise CorpusError(f"{self.directory} is damaged: its files are gone")
        return state

    @staticmethod
    def _state_of(path: Path) -> tuple[int, int] | None:
        try:
            status = path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _searcher(self) -> tantivy.Searcher:
        """Return a searcher of the last commit, which another process may have made."""
        state = self._state()
        if state != self._seen:
            with self._lock, _translate_errors(self.directory):
                self._index.reload()
                self._seen = state
        return self._index.searcher()

    def search(self, question: str, k: int) -> list[Hit]:
        """Return the `k` passages that match a question best by BM25, the best first."""
        words = question_words(question)
        if not words or k < 1:
            return []
        schema = self._index.schema
        queries = [(tantivy.Occur.Should, tantivy.Query.term_query(schema, "words", word, "freq")) for word in words]
        searcher = self._searcher()
        with _translate_errors(self.directory):
            most = min(k, max(1, searcher.num_docs))  # the engine allocates memory for so many
            found = searcher.search(tantivy.Query.boolean_query(queries), most, count=False).hits
            return [Hit(_passage(searcher.doc(address)), float(score)) for score, address in found]

    def document(self, name: str) -> Iterator[Passage]:
        """Yield the passages of a document in order, or nothing if there is no such document."""
        searcher = self._searcher()
        with _translate_errors(self.directory):
            for address in _all(searcher, _term("document", encodable(name)), order="number"):
                yield _passage(searcher.doc(address))

    def documents(self) -> Iterator[DocumentInfo]:
        """Yield a description of each document, sorted by name."""
        searcher = self._searcher()
        with _translate_errors(self.directory):
            last = (_passage(searcher.doc(address)) for address in _all(searcher, _term("mark", "last")))
            infos = list(map(info_of, last))
        yield from sorted(infos, key=lambda info: info.name)

    def sources(self) -> Iterator[Source]:
        """Yield all sources, in any order."""
        return _sources(self._searcher(), self.directory)

    def counts(self) -> Counts:
        """Count the documents and passages."""
        searcher = self._searcher()
        with _translate_errors(self.directory):
            found: list[Any] = [searcher.search(_term("mark", mark), 1) for mark in ("last", "bare")]
            return Counts(found[0].count, searcher.num_docs - found[1].count)

    def size(self) -> int:
        """Return the bytes that the index takes on disk."""
        total = 0
        for entry in self._engine.iterdir():
            with contextlib.suppress(FileNotFoundError):
                total += entry.stat().st_size
        return total

    @contextlib.contextmanager
    def writer(self) -> Iterator[Writer]:
        """Open the index for changes; changes that are not committed are dropped at the end.

        Raises:
            CorpusError: Another process is changing the index, or the disk is full.
        """
        with _translate_errors(self.directory):
            index = _opened(self._engine)  # the current state on disk
            engine = index.writer(_HEAP * _writer_threads(), _writer_threads())
            engine.garbage_collect_files()  # files of a killed writer would block new files of the same names
            index.reload()
            searcher = index.searcher()
        writer = _TantivyWriter(self.directory, engine, searcher)
        try:
            yield writer
        finally:
            writer.close()


class _TantivyWriter:
    """See `Writer`. A passage waits for the next one, because the record of its source may be stored with it."""

    def __init__(self, directory: Path, engine: tantivy.IndexWriter, searcher: tantivy.Searcher) -> None:
        self._directory = directory
        self._engine = engine
        self._searcher = searcher
        self._written: dict[str, Source | None] = {}  # changes of this writer; None for removed sources
        self._waiting: dict[str, Any] | None = None

    def source(self, name: str) -> Source | None:
        """Return the source of this name, with the changes of this writer, or None."""
        if name in self._written:
            return self._written[name]
        return next((s for s in self._found(_term("source", key_of(name))) if s.name == name), None)

    def sources(self) -> Iterator[Source]:
        """Yield all sources that existed when the writer was opened."""
        return self._found(_term("mark", "record"))

    def _found(self, query: tantivy.Query) -> Iterator[Source]:
        return _sources(self._searcher, self._directory, query)

    def add(self, version: str, passage: Passage, *, last: bool) -> None:
        """Add a passage of a version of a source; `last` marks the last passage of a document."""
        self._send()
        self._waiting = {
            "version": version,
            **asdict(passage),
            "words": normal(f"{passage.title}\n{passage.text}"),  # the title is searched, too
            "mark": ["last"] if last else [],
        }

    def put(self, source: Source) -> None:
        """Record a source after its passages, and delete its other versions."""
        before = self.source(source.name)
        if before is not None and before.version == source.version:
            source = replace(source, revision=before.revision + 1)
        elif before is not None:
            self._delete("version", before.version)
        self._written[source.name] = source
        if self._waiting is None or self._waiting["version"] != source.version:
            self._send()
            self._waiting = {"version": source.version, "mark": ["bare"]}
        self._waiting |= {"source": key_of(source.name), "record": json.dumps(asdict(source))}
        self._waiting["mark"].append("record")

    def discard(self, version: str) -> None:
        """Delete the passages of a version."""
        if self._waiting is not None and self._waiting["version"] == version:
            self._waiting = None
        self._delete("version", version)

    def remove_source(self, source: Source) -> None:
        """Remove a source and its documents."""
        self.discard(source.version)
        self._written[source.name] = None

    def remove_document(self, name: str) -> None:
        """Remove a document from its source. It must have existed when the writer was opened."""
        with _translate_errors(self._directory):
            stored = [self._searcher.doc(address) for address in _all(self._searcher, _term("document", name))]
        self._delete("document", name)
        for version in {str(document.get_first("version")) for document in stored}:
            query = _term("version", version).and_must_match(_term("mark", "record"))
            for source in [self.source(found.name) for found in self._found(query)]:
                if source is not None and source.version == version:
                    gone = [_passage(document) for document in stored if document.get_first("version") == version]
                    self.put(
                        replace(
                            source,
                            documents=source.documents - 1,
                            passages=source.passages - len(gone),
                            characters=source.characters - sum(len(passage.text) for passage in gone),
                        )
                    )

    def commit(self) -> None:
        """Commit all changes so far: they become durable and visible together."""
        self._send()
        with _translate_errors(self._directory):
            self._engine.commit()

    def close(self) -> None:
        """Drop what was not committed, and wait until the engine has merged its segments."""
        with contextlib.suppress(Exception):  # the commit has already reported a full disk
            self._engine.wait_merging_threads()

    def _send(self) -> None:
        if self._waiting is not None:
            with _translate_errors(self._directory):
                self._engine.add_document(_document(self._waiting))
            self._waiting = None

    def _delete(self, field: str, value: str) -> None:
        self._send()
        with _translate_errors(self._directory):
            self._engine.delete_documents_by_term(field, value)


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    for field in ("version", "document"):
        builder.add_text_field(field, stored=True, tokenizer_name="raw", index_option="basic")
    for field in ("source", "mark"):
        builder.add_text_field(field, tokenizer_name="raw", index_option="basic")
    builder.add_text_field("words", tokenizer_name=_ENGINE_TOKENIZER, index_option="freq")
    for field in ("title", "text", "record"):  # stored, but not searched
        builder.add_bytes_field(field, stored=True)
    builder.add_unsigned_field("number", stored=True, fast=True)
    builder.add_unsigned_field("start", stored=True)
    return builder.build()


_ENGINE_TOKENIZER = "dynamic-tinybert-words"
_BYTES = {"title", "text", "record"}
_SCHEMA = _schema()


def _term(field: str, value: str) -> tantivy.Query:
    return tantivy.Query.term_query(_SCHEMA, field, value, "basic")


def _all(searcher: tantivy.Searcher, query: tantivy.Query, order: str | None = None) -> Iterator[tantivy.DocAddress]:
    most = max(1, searcher.num_docs)
    hits = searcher.search(query, most, count=False, order_by_field=order, order=tantivy.Order.Asc).hits
    return (address for _, address in hits)


def _sources(searcher: tantivy.Searcher, directory: Path, query: tantivy.Query | None = None) -> Iterator[Source]:
    """Yield the sources whose records match a query, each in its last revision."""
    found: dict[str, Source] = {}
    with _translate_errors(directory):
        for address in _all(searcher, query or _term("mark", "record")):
            source = Source(**json.loads(bytes(searcher.doc(address).get_first("record") or b"")))
            if source.version not in found or source.revision > found[source.version].revision:
                found[source.version] = source
    yield from found.values()


def _document(fields: Mapping[str, Any]) -> tantivy.Document:
    document = tantivy.Document()
    for name, value in fields.items():
        if name in _BYTES:
            document.add_bytes(name, value.encode())
        elif isinstance(value, int):
            document.add_unsigned(name, value)
        else:
            for text in [value] if isinstance(value, str) else value:
                document.add_text(name, text)
    return document


def _passage(stored: tantivy.Document) -> Passage:
    return Passage(
        document=stored.get_first("document") or "",
        title=bytes(stored.get_first("title") or b"").decode(),
        number=stored.get_first("number") or 0,
        start=stored.get_first("start") or 0,
        text=bytes(stored.get_first("text") or b"").decode(),
    )


def _opened(folder: Path) -> tantivy.Index:
    index = tantivy.Index.open(str(folder))
    index.register_tokenizer(_ENGINE_TOKENIZER, make_analyzer())
    index.config_reader("manual")
    return index


def _writer_threads() -> int:
    return max(1, min(4, processors()))


@contextlib.contextmanager
def _translate_errors(directory: Path) -> Iterator[None]:
    """Convert the errors of tantivy to a `CorpusError` of one line."""
    try:
        yield
    except (ValueError, OSError, RuntimeError) as error:
        why = str(error)
        if "LockBusy" in why:
            raise CorpusError(f"another process is changing {directory}: wait until it has finished") from None
        if "writer was killed" in why or "No space left" in why:
            free = shutil.disk_usage(directory).free / 1e6
            raise CorpusError(
                f"{directory} could not be written, and holds what was committed before: {free:,.0f} MB are free there"
            ) from None
        raise CorpusError(f"the index {directory} cannot be used: {why}") from None
