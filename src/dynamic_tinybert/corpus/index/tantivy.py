"""The index in tantivy, with BM25 and transactions.

Each passage is a document of tantivy. One passage of a source also stores the record of the source. So both are
committed together, and a source that was added has no document without words, which would change BM25's average length.
A source from which records were removed has one.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import tantivy

from dynamic_tinybert.corpus.errors import CorpusError
from dynamic_tinybert.corpus.index.analyzer import make_analyzer, normal, question_words
from dynamic_tinybert.corpus.index.faults import damaged, is_panic, is_refused_lock, translate_errors
from dynamic_tinybert.corpus.index.language import DEFAULT, FORMATS, check_language, language_of, note_of
from dynamic_tinybert.corpus.index.protocol import Counts, DocumentInfo, Hit, Passage, Source, Writer, info_of, key_of
from dynamic_tinybert.corpus.index.schema import SCHEMA, TOKENIZER, all_of, document_of, passage_of, sources_of, term
from dynamic_tinybert.corpus.index.segments import META, DamagedError, Segments, have_changed, read_segments, view
from dynamic_tinybert.corpus.passages import PASSAGE_SIZE, check_size
from dynamic_tinybert.files import encodable, processors, write_whole

NOTE = "dynamic-tinybert-index.json"
_ENGINE = "tantivy"
_HEAP = 64_000_000  # bytes for the passages that a thread of the writer collects
_LONGEST_NOTE = 1 << 16  # bytes
_TRIES, _PAUSE_S = 10, 0.1  # of opening an index that another process changes meanwhile
_SHARE_S = 0.5  # how often a writer gives its files the permissions of the others


class TantivyIndex:
    """An index in a folder. See `Index` for what its methods promise.

    Args:
        directory: The folder.
        create: Create the index if it does not exist.
        passage_size: The most characters of a passage, for a new index; by default `PASSAGE_SIZE`.
        language: The language whose stems are compared, for a new index; by default English.

    Attributes:
        directory: The folder.
        passage_size: The most characters of a passage.
        language: The language whose stems are compared, or "none".

    Raises:
        CorpusError: There is no index; the folder contains other files; the index is damaged, or has another version,
            passage size or language.
        ValueError: The passage size is out of range, or the language is unknown.
    """

    def __repr__(self) -> str:
        return f"<TantivyIndex {str(self.directory)!r}>"

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        create: bool = False,
        passage_size: int | None = None,
        language: str | None = None,
    ) -> None:
        self.directory = Path(directory)
        if passage_size is not None:
            check_size(passage_size)
        language = None if language is None else check_language(language)
        note = self._read_note()
        if note is None:
            if not create:
                raise CorpusError(
                    f"{self.directory} contains no index: `dynamic-tinybert index add PATH --index {self.directory}` "
                    "makes one"
                )
            note = self._create(passage_size or PASSAGE_SIZE, language or DEFAULT)
        self.passage_size: int = note["passage_size"]
        if passage_size not in (None, self.passage_size):
            raise CorpusError(
                f"the passages of {self.directory} have {self.passage_size} characters at most, not "
                f"{passage_size}: an index has one size"
            )
        self.language = language_of(self.directory, note, language)
        self._note_state = _state_of(self.directory / NOTE)
        self._lock = threading.Lock()
        self._open()

    @property
    def _engine(self) -> Path:
        return self.directory / _ENGINE

    def _translated(self) -> contextlib.AbstractContextManager[None]:
        return translate_errors(self.directory, self._engine)

    def _read_note(self) -> dict[str, Any] | None:
        path = self.directory / NOTE
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise CorpusError(damaged(self.directory, f"{NOTE} is not a file"))
            with path.open("rb") as file:
                note: dict[str, Any] = json.loads(file.read(_LONGEST_NOTE))
            if note["format"] in FORMATS:
                check_size(note["passage_size"])
                return note
        except FileNotFoundError:
            if self.directory.is_symlink() and not self.directory.exists():
                raise CorpusError(f"{self.directory} is a link to nothing: remove it, or make its target") from None
            return None
        except NotADirectoryError:
            raise CorpusError(f"{self.directory} is a file: an index is a folder") from None
        except OSError as error:
            raise CorpusError(f"{path} cannot be read: {error.strerror}") from None
        except (KeyError, TypeError, ValueError, RecursionError):
            raise CorpusError(damaged(self.directory, f"{NOTE} does not describe an index")) from None
        raise CorpusError(
            f"{self.directory} is an index of format {note['format']!r:.20}; this version reads up to "
            f"{FORMATS[-1]}: delete this folder, and make the index again with `dynamic-tinybert index add`"
        )

    def _create(self, passage_size: int, language: str) -> dict[str, Any]:
        """Create an index. Its note comes last, so a kill leaves no index or a complete one."""
        note = {"format": 0, "engine": _ENGINE} | note_of(passage_size, language)
        with self._translated():
            self.directory.mkdir(parents=True, exist_ok=True)
            others = [entry.name for entry in self.directory.iterdir()]
            if any(name not in (_ENGINE, NOTE) and not name.startswith(f".{NOTE}.") for name in others):
                raise CorpusError(
                    f"{self.directory} contains other files and no index: name another folder for the index"
                )
            self._engine.mkdir(exist_ok=True)
            tantivy.Index(SCHEMA, path=str(self._engine))
            write_whole(self.directory / NOTE, (json.dumps(note, indent=2) + "\n").encode())
        _share(self.directory)
        return note

    def is_current(self) -> bool:
        """Return whether the index was not deleted or made again since it was opened."""
        return _state_of(self.directory / NOTE) == self._note_state

    def _state(self) -> tuple[int, ...]:
        state = _state_of(self._engine / META)
        if state is None:
            raise CorpusError(damaged(self.directory, f"{META} is missing"))
        return state

    def _open(self) -> None:
        """Check and open the last commit. Another process may replace it meanwhile: then it is opened again."""
        with self._translated():
            for left in reversed(range(_TRIES)):
                state = self._state()
                try:
                    segments = read_segments(self._engine)
                    index = self._mapped(segments)
                except (ValueError, OSError) as error:  # a commit is unreadable for others until it is shared
                    if not left or not (isinstance(error, PermissionError) or self._state() != state):
                        raise
                    time.sleep(_PAUSE_S)
                else:
                    if not left or self._state() == state:
                        self._index, self._segments, self._seen = index, segments, state
                        return

    def _mapped(self, segments: Segments) -> tantivy.Index:
        """Open the files of a commit, also if this user may not write the lock file of the engine."""
        try:
            return _engine_of(self._engine)
        except ValueError as error:
            if not is_refused_lock(error):
                raise
            try:
                with view(segments) as folder:
                    return _engine_of(folder)
            except OSError:
                raise error from None

    def _searcher(self) -> tantivy.Searcher:
        """Return a searcher of the last commit, which another process may have made."""
        if not self._is_as_opened():
            with self._lock:
                if not self._is_as_opened():
                    self._open()
        return self._index.searcher()

    def _is_as_opened(self) -> bool:
        with self._translated():
            return self._state() == self._seen and not have_changed(self._segments)

    def search(self, question: str, k: int) -> list[Hit]:
        """Return the `k` passages that match a question best by BM25, the best first."""
        words = question_words(question, self.language)
        if not words or k < 1:
            return []
        schema = self._index.schema
        queries = [(tantivy.Occur.Should, tantivy.Query.term_query(schema, "words", word, "freq")) for word in words]
        searcher = self._searcher()
        with self._translated():
            most = min(k, max(1, searcher.num_docs))  # the engine allocates memory for so many
            found = searcher.search(tantivy.Query.boolean_query(queries), most, count=False).hits
            return [Hit(passage_of(searcher.doc(address)), float(score)) for score, address in found]

    def document(self, name: str) -> Iterator[Passage]:
        """Yield the passages of a document in order, or nothing if there is no such document."""
        searcher = self._searcher()
        with self._translated():
            for address in all_of(searcher, term("document", encodable(name)), order="number"):
                yield passage_of(searcher.doc(address))

    def documents(self) -> Iterator[DocumentInfo]:
        """Yield a description of each document, sorted by name."""
        searcher = self._searcher()
        with self._translated():
            last = (passage_of(searcher.doc(address)) for address in all_of(searcher, term("mark", "last")))
            infos = list(map(info_of, last))
        yield from sorted(infos, key=lambda info: info.name)

    def sources(self) -> Iterator[Source]:
        """Yield all sources, in any order."""
        searcher = self._searcher()
        with self._translated():
            return sources_of(searcher)

    def counts(self) -> Counts:
        """Count the documents and passages."""
        searcher = self._searcher()
        with self._translated():
            found: list[Any] = [searcher.search(term("mark", mark), 1) for mark in ("last", "bare")]
            return Counts(found[0].count, searcher.num_docs - found[1].count)

    def size(self) -> int:
        """Return the bytes that the index takes on disk."""
        total = 0
        with self._translated():
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
        self._searcher()  # checks the files before the engine opens them
        with self._translated():
            index = _engine_of(self._engine)
            index.register_tokenizer(TOKENIZER, make_analyzer(self.language))
            engine = index.writer(_HEAP * _writer_threads(), _writer_threads())
            try:
                read_segments(self._engine)  # a merge would give damaged content a new checksum
                engine.garbage_collect_files()  # files of a killed writer would block new files of the same names
                index.reload()
                searcher = index.searcher()
            except BaseException:
                _finish(engine)
                raise
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
        self._shared = time.monotonic()

    def source(self, name: str) -> Source | None:
        """Return the source of this name, with the changes of this writer, or None."""
        if name in self._written:
            return self._written[name]
        return next((s for s in self._found(term("source", key_of(name))) if s.name == name), None)

    def sources(self) -> Iterator[Source]:
        """Yield all sources that existed when the writer was opened."""
        return self._found(term("mark", "record"))

    def _found(self, query: tantivy.Query) -> Iterator[Source]:
        with translate_errors(self._directory, self._directory / _ENGINE):
            return sources_of(self._searcher, query)

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
            self._delete_bare(source.version)  # each entry counts in BM25, also one without words
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
        with translate_errors(self._directory, self._directory / _ENGINE):
            stored = [self._searcher.doc(address) for address in all_of(self._searcher, term("document", name))]
        self._delete("document", name)
        for version in {str(document.get_first("version")) for document in stored}:
            query = term("version", version).and_must_match(term("mark", "record"))
            for source in [self.source(found.name) for found in self._found(query)]:
                if source is not None and source.version == version:
                    gone = [passage_of(document) for document in stored if document.get_first("version") == version]
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
        with translate_errors(self._directory, self._directory / _ENGINE):
            self._engine.commit()
        _share(self._directory)

    def close(self) -> None:
        """Drop what was not committed, and wait until the engine has merged its segments."""
        _finish(self._engine)  # the commit has already reported a full disk
        _share(self._directory)

    def _send(self) -> None:
        if self._waiting is not None:
            with translate_errors(self._directory, self._directory / _ENGINE):
                self._engine.add_document(document_of(self._waiting))
            self._waiting = None
        if time.monotonic() - self._shared > _SHARE_S:
            _share(self._directory)
            self._shared = time.monotonic()

    def _delete_bare(self, version: str) -> None:
        """Delete the earlier entry of a version that has no passage, only a record."""
        self._send()
        with translate_errors(self._directory, self._directory / _ENGINE):
            bare = term("version", version).and_must_match(term("mark", "bare"))
            self._engine.delete_documents_by_query(bare)

    def _delete(self, field: str, value: str) -> None:
        self._send()
        with translate_errors(self._directory, self._directory / _ENGINE):
            self._engine.delete_documents_by_term(field, value)


def _engine_of(folder: str | os.PathLike[str]) -> tantivy.Index:
    index = tantivy.Index.open(str(folder))
    if index.schema != SCHEMA:
        raise DamagedError(f"{META} describes other fields")
    index.config_reader("manual")
    return index


def _state_of(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _finish(engine: tantivy.IndexWriter) -> None:
    """Close the engine's writer, whatever happened to it, so that its lock is free."""
    try:
        engine.wait_merging_threads()
    except Exception:
        pass
    except BaseException as error:
        if not is_panic(error):
            raise


def _share(directory: Path) -> None:
    """Give the files that the engine makes for its own user alone the permissions of the index's note."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):
        mode = stat.S_IMODE((directory / NOTE).stat().st_mode) & 0o666
        for path in (directory / _ENGINE / META, directory / _ENGINE / ".managed.json"):
            with contextlib.suppress(OSError):  # the file of another user, or none yet
                if stat.S_IMODE(path.stat().st_mode) != mode:
                    path.chmod(mode)


def _writer_threads() -> int:
    return max(1, min(4, processors()))
