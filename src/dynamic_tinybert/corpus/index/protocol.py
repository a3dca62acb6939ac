"""What the corpus asks of an index: the narrow interface behind which an engine stands."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A piece of a document.

    Attributes:
        document: The document's name.
        title: Its title, or an empty text.
        number: Which of its passages this is, from 0.
        start: Where it begins, in characters of the document's text.
        text: Its text.
    """

    document: str
    title: str
    number: int
    start: int
    text: str


@dataclass(frozen=True)
class Hit:
    """A passage that was found.

    Attributes:
        passage: The passage.
        score: Its BM25 score for the question: more is better, from 0.
    """

    passage: Passage
    score: float


@dataclass(frozen=True, kw_only=True)
class DocumentInfo:
    """What is known of a document without its text.

    Attributes:
        name: Its name: the path of its file; of JSON Lines `path#id`.
        title: Its title, or an empty text.
        passages: How many it has.
        characters: The length of its text.
    """

    name: str
    title: str
    passages: int
    characters: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What documents come from, and are replaced with: a file, or a text given by name.

    Attributes:
        name: The file's path, or the name.
        version: A mark of this reading of it; passages carry it.
        size: Bytes of the file, or -1 for a text given by name.
        modified: When it was changed, in nanoseconds since 1970, or -1.
        digest: Of its content.
        reading: How it was read: the options' signature.
        drafts: Documents that have been read from it; some may have been removed since.
        documents: Documents that it holds.
        passages: Passages of theirs.
        characters: Characters of theirs.
        complete: Whether all of it is in the index; of a long file of records, the first so many may be.
        revision: Which record of the version this is, kept by the writer: the last one counts.
    """

    name: str
    version: str
    size: int
    modified: int
    digest: str
    reading: str
    drafts: int
    documents: int
    passages: int
    characters: int
    complete: bool = True
    revision: int = 0


def key_of(name: str) -> str:
    """Return what a name is looked up by: those of files may be no UTF-8, and hold what an engine's queries cannot."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def info_of(last: Passage) -> DocumentInfo:
    """Return what the last passage of a document tells of all of it."""
    return DocumentInfo(
        name=last.document, title=last.title, passages=last.number + 1, characters=last.start + len(last.text)
    )


class Counts(NamedTuple):
    """How much an index holds."""

    documents: int
    passages: int


class Writer(Protocol):
    """Changes of an index. Nothing is seen of them before `commit`; a kill undoes what was not committed."""

    def source(self, name: str) -> Source | None:
        """Return the source of a name as this writer knows it, or None."""
        ...

    def sources(self) -> Iterator[Source]:
        """Yield all sources there were when the writer was opened."""
        ...

    def add(self, version: str, passage: Passage, *, last: bool) -> None:
        """Add a passage of a version of a source; `last` marks a document's last."""
        ...

    def put(self, source: Source) -> None:
        """Record a source after its passages; other versions of the same source go."""
        ...

    def discard(self, version: str) -> None:
        """Take back the passages of a version."""
        ...

    def remove_source(self, source: Source) -> None:
        """Remove a source, and the documents that came from it."""
        ...

    def remove_document(self, name: str) -> None:
        """Remove a document that was there when the writer was opened from the source that it came from."""
        ...

    def commit(self) -> None:
        """Make all changes so far lasting and seen, at once.

        Raises:
            CorpusError: They cannot be written, for example to a full disk.
        """
        ...


class Index(Protocol):
    """An index of passages. Safe to use from many threads, and to read while another process writes."""

    def search(self, question: str, k: int) -> list[Hit]:
        """Return the `k` passages that match a question best by BM25, the best first."""
        ...

    def is_current(self) -> bool:
        """Return whether this is still the index in its folder, which may have been deleted or made again."""
        ...

    def document(self, name: str) -> Iterator[Passage]:
        """Yield the passages of a document, in order; none if there is no such document."""
        ...

    def documents(self) -> Iterator[DocumentInfo]:
        """Yield what is known of all documents, in the order of their names."""
        ...

    def sources(self) -> Iterator[Source]:
        """Yield all sources, in no order."""
        ...

    def counts(self) -> Counts:
        """Return how many documents and passages there are."""
        ...

    @property
    def passage_size(self) -> int:
        """The most characters of a passage."""
        ...

    def size(self) -> int | None:
        """Return the bytes that the index takes on disk, or None if its engine does not say."""
        ...

    def writer(self) -> AbstractContextManager[Writer]:
        """Open the index for changes; what was not committed is dropped at the end.

        Raises:
            CorpusError: Another process is changing the index.
        """
        ...
