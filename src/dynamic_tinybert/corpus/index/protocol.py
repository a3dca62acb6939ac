"""The interface between the corpus and the engine of an index."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A piece of a document.

    Attributes:
        document: The name of the document.
        title: The title of the document; may be empty.
        number: The position of the passage among the document's passages, from 0.
        start: The start of the passage, in characters of the document's text.
        text: The text of the passage.
    """

    document: str
    title: str
    number: int
    start: int
    text: str


@dataclass(frozen=True)
class Hit:
    """A retrieved passage.

    Attributes:
        passage: The passage.
        score: The BM25 score of the passage for the question, from 0; more is better.
    """

    passage: Passage
    score: float


@dataclass(frozen=True, kw_only=True)
class DocumentInfo:
    """The description of a document, without its text.

    Attributes:
        name: The path of the file, `path#id` for a record of JSON Lines, or the name that was given.
        title: The title; may be empty.
        passages: The number of passages.
        characters: The length of the text.
    """

    name: str
    title: str
    passages: int
    characters: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The origin of documents: a file, or a text given by name. All documents of a source are replaced together.

    Attributes:
        name: The path of the file, or the name of the text.
        version: An id of this version of the source; its passages carry it.
        size: Bytes of the file, or -1 for a text given by name.
        modified: The time of the file's last change, in nanoseconds since 1970, or -1.
        digest: The digest of the content.
        reading: The signature of the options with which it was read.
        drafts: Documents that were read from it, including those that were removed later.
        documents: Documents of it that are in the index.
        passages: Passages of these documents.
        characters: Characters of these documents.
        complete: Whether all of it is in the index; of an interrupted file of records, only the first records are.
        revision: The number of this record of the version, set by the writer: the highest one counts.
        left_out: Records or other parts of it that could not be read.
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
    left_out: int = 0


def key_of(name: str) -> str:
    """Return the lookup key of a name. Paths may not be UTF-8, or contain characters that a query cannot contain."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def info_of(last: Passage) -> DocumentInfo:
    """Describe a document from its last passage."""
    return DocumentInfo(
        name=last.document, title=last.title, passages=last.number + 1, characters=last.start + len(last.text)
    )


def source_of(record: str | bytes) -> Source:
    """Read the record of a source, JSON; what a later version of this package added to it is ignored."""
    known = {one.name for one in fields(Source)}
    return Source(**{name: value for name, value in json.loads(record).items() if name in known})


class Counts(NamedTuple):
    """The numbers of documents and passages in an index."""

    documents: int
    passages: int


class Writer(Protocol):
    """Changes of an index. Readers do not see them before `commit`; a kill undoes what was not committed."""

    def source(self, name: str) -> Source | None:
        """Return the source of this name, with the changes of this writer, or None."""
        ...

    def sources(self) -> Iterator[Source]:
        """Yield all sources that existed when the writer was opened."""
        ...

    def add(self, version: str, passage: Passage, *, last: bool) -> None:
        """Add a passage of a version of a source; `last` marks the last passage of a document."""
        ...

    def put(self, source: Source) -> None:
        """Record a source after its passages, and delete its other versions."""
        ...

    def discard(self, version: str) -> None:
        """Delete the passages of a version."""
        ...

    def remove_source(self, source: Source) -> None:
        """Remove a source and its documents."""
        ...

    def remove_document(self, name: str) -> None:
        """Remove a document from its source. It must have existed when the writer was opened."""
        ...

    def commit(self) -> None:
        """Commit all changes so far: they become durable and visible together.

        Raises:
            CorpusError: The changes cannot be written, for example because the disk is full.
        """
        ...


class Retriever(Protocol):
    """Finds passages for a question."""

    def search(self, question: str, k: int) -> list[Hit]:
        """Return the `k` passages that match a question best, the best first; an index does so by BM25."""
        ...


class Index(Retriever, Protocol):
    """An index of passages. Safe to use from many threads, and to search while another process writes."""

    def is_current(self) -> bool:
        """Return whether the index was not deleted or made again since it was opened."""
        ...

    def document(self, name: str) -> Iterator[Passage]:
        """Yield the passages of a document in order, or nothing if there is no such document."""
        ...

    def documents(self) -> Iterator[DocumentInfo]:
        """Yield a description of each document, sorted by name."""
        ...

    def sources(self) -> Iterator[Source]:
        """Yield all sources, in any order."""
        ...

    def counts(self) -> Counts:
        """Count the documents and passages."""
        ...

    @property
    def passage_size(self) -> int:
        """The most characters of a passage."""
        ...

    @property
    def language(self) -> str:
        """The language whose stems are compared, or "none"."""
        ...

    def size(self) -> int | None:
        """Return the bytes that the index takes on disk, or None if its engine does not say."""
        ...

    def writer(self) -> AbstractContextManager[Writer]:
        """Open the index for changes; changes that are not committed are dropped at the end.

        Raises:
            CorpusError: Another process is changing the index.
        """
        ...
