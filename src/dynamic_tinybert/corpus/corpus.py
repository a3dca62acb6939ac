"""A corpus of documents that answers questions."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from dynamic_tinybert.corpus.answering import PASSAGES, Asking, CorpusOptions, Pace, check_asked, make_plan
from dynamic_tinybert.corpus.answers import CorpusAnswer
from dynamic_tinybert.corpus.errors import UnknownDocumentError
from dynamic_tinybert.corpus.formats import Reading
from dynamic_tinybert.corpus.index import (
    Counts,
    DocumentInfo,
    Hit,
    Index,
    MilvusAddress,
    Passage,
    check_language,
    open_index,
    parse,
    turn,
)
from dynamic_tinybert.corpus.ingest import Progress, Report, add_files, add_texts, remove
from dynamic_tinybert.corpus.passages import check_size
from dynamic_tinybert.corpus.places import Box, check_paged, find, path_of, span_in
from dynamic_tinybert.model import Budget
from dynamic_tinybert.qa import QuestionAnswerer

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True, kw_only=True)
class Status:
    """The content of an index.

    Attributes:
        directory: The location of the index: a folder or an address.
        files: The number of files, and of texts given by name.
        documents: The number of documents.
        passages: The number of passages.
        characters: The number of characters of all documents.
        bytes: The size of the index on disk, or None for an index in Milvus, which does not tell it.
        passage_size: The most characters of a passage.
        language: The language whose stems are compared, or "none".
        incomplete: Files whose adding was interrupted; add them again to continue.
    """

    directory: str
    files: int
    documents: int
    passages: int
    characters: int
    bytes: int | None
    passage_size: int
    language: str
    incomplete: Sequence[str]


class Corpus:
    """Answer questions from documents. Safe to use from many threads: those that change the index wait for each other.

    Args:
        directory: The folder of the index, or its address in Milvus: `milvus://HOST:PORT/COLLECTION` (a string; extra
            `milvus`). The index is created when something is added.
        qa: The model; by default the one that is part of the package, loaded at the first question.
        passage_size: The most characters of a passage, for a new index; by default 1,200.
        language: The language whose stems are compared, for a new index: its English name or its ISO 639-1 code, or
            "none" for no stems; by default English. See [languages](corpus.md#languages).

    Raises:
        CorpusError: The address is not valid.
        ValueError: The passage size is out of range, or the language is unknown.

    Example:
        >>> from dynamic_tinybert import Corpus
        >>> corpus = Corpus("my-index")
        >>> report = corpus.add("my-documents", "faq.html")
        >>> answer = corpus("Who designed the tower?", budget="balanced")
        >>> corpus.text(answer.document)[answer.start:answer.end] == answer.text
        True
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | MilvusAddress,
        *,
        qa: QuestionAnswerer | None = None,
        passage_size: int | None = None,
        language: str | None = None,
    ) -> None:
        if passage_size is not None:
            check_size(passage_size)
        self.directory = parse(directory)
        # Wherever the process goes.
        self._place = self.directory if isinstance(self.directory, MilvusAddress) else self.directory.absolute()
        self._qa = qa
        self._passage_size = passage_size
        self._language = None if language is None else check_language(language)
        self._opened: Index | None = None
        self._pace = Pace()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Corpus {str(self.directory)!r}>"

    def __len__(self) -> int:
        """Return the number of documents.

        Raises:
            CorpusError: There is no index, or it cannot be used.
        """
        return self.counts().documents

    def __iter__(self) -> Iterator[DocumentInfo]:
        return self.documents()

    def __enter__(self) -> Corpus:
        return self

    def __exit__(self, *_: object) -> None:
        """Release the index. The next call opens it again."""
        with self._lock:
            self._opened = None

    def _open(self, *, create: bool = False) -> Index:
        opened = self._opened
        if opened is not None and opened.is_current():  # outside the lock: it may ask a server
            return opened
        with self._lock:
            if self._opened is None or self._opened is opened:
                self._opened = open_index(
                    self._place, create=create, passage_size=self._passage_size, language=self._language
                )
            return self._opened

    @property
    def index(self) -> Index:
        """The index.

        Raises:
            CorpusError: There is no index, or it cannot be used.
        """
        return self._open()

    @property
    def qa(self) -> QuestionAnswerer:
        """The model."""
        with self._lock:
            if self._qa is None:
                self._qa = QuestionAnswerer()
            return self._qa

    def add(
        self,
        *paths: str | os.PathLike[str],
        reading: Reading | None = None,
        prune: bool = False,
        force: bool = False,
        progress: Progress | None = None,
        skipped: Callable[[str, str], None] | None = None,
    ) -> Report:
        """Add files and the files of folders: text, Markdown, HTML, PDF, DOCX, JSON Lines.

        An unchanged file is left alone; a changed file is replaced. A file that cannot be read is reported and skipped.
        If the process is killed, the same call continues the work. Threads of this process wait for their turn.

        Args:
            paths: Files and folders.
            reading: How to read files: the names of fields in JSON Lines, the encoding of text.
            prune: Remove documents from the index if their files in these folders no longer exist.
            force: Read all files again, also unchanged ones. Removed records of them come back.
            progress: Called with the bytes read so far, the bytes in total, and the name of a file.
            skipped: Called with a path and the reason, as soon as something is skipped.

        Raises:
            CorpusError: Another process is changing the index, or the index cannot be used or written.
            FileNotFoundError: A path does not exist; nothing was added.
        """
        for path in paths:
            if not isinstance(path, (str, os.PathLike)):
                hint = ": write add(*paths)" if isinstance(path, Iterable) else ""
                raise TypeError(f"a path must be a string or a Path, not {type(path).__name__}{hint}")
            os.stat(path)
        with turn(self._place):
            index = self._open(create=True)
            return add_files(
                index,
                index.passage_size,
                paths,
                reading=reading,
                prune=prune,
                force=force,
                progress=progress,
                skipped=skipped,
            )

    def put(self, name: str, text: str, *, title: str = "") -> None:
        """Add a text by name; it replaces a text of the same name.

        Each call is a transaction, which costs a tenth of a second. Use `put_many` for many texts.

        Raises:
            CorpusError: Another process is changing the index, or the index cannot be used or written.
            ValueError: The name is empty, or longer than 1,000 characters.
        """
        self.put_many([(name, title, text)])

    def put_many(self, texts: Iterable[tuple[str, str, str]]) -> int:
        """Add many texts in one transaction, given as (name, title, text). Only the names stay in memory.

        Other threads that change this index wait meanwhile. So `texts` must not wait for such a thread.

        Returns:
            The number of texts.

        Raises:
            CorpusError: Another process is changing the index, or the index cannot be used or written.
            ValueError: A name is empty, or longer than 1,000 characters; nothing was added.
        """
        with turn(self._place):
            index = self._open(create=True)
            return add_texts(index, index.passage_size, texts)

    def remove(self, *names: str) -> Mapping[str, int]:
        """Remove documents by name, files by path, or folders with all their documents; all names, or nothing.

        Returns:
            The number of removed documents for each name.

        Raises:
            CorpusError: The index has nothing of this name, or another process is changing the index.
            ValueError: A name is empty.
        """
        with turn(self._place):
            return remove(self.index, names)

    def documents(self) -> Iterator[DocumentInfo]:
        """Yield a description of each document, sorted by name.

        Raises:
            CorpusError: The index cannot be used.
        """
        return self.index.documents()

    def text(self, document: str) -> str:
        """Return the text of a document. The offsets of answers refer to it.

        Raises:
            UnknownDocumentError: There is no such document. It is a KeyError too.
            CorpusError: The index cannot be used.
        """
        return "".join(passage.text for passage in self._passages(document))

    def _passages(self, document: str) -> list[Passage]:
        passages = list(self.index.document(document))
        if not passages:
            raise UnknownDocumentError(f"the index has no document {document!r}: documents() lists them")
        return passages

    def locate(self, document: str, start: int, end: int) -> list[Box]:
        """Find where a part of a document, a PDF, stands on its pages. The file is read again for this.

        Args:
            document: The name of the document.
            start: The start of the part, in characters of its text.
            end: The end.

        Returns:
            A box for each line of the part.

        Raises:
            UnknownDocumentError: There is no such document.
            ValueError: It has no such characters.
            UnreadableError: It is not a PDF, or its file has changed since it was added, or cannot be read any more.
            OSError: Its file cannot be opened.
            CorpusError: The index cannot be used.
        """
        check_paged(document)
        return find(path_of(document), span_in(self._passages(document), start, end))[0]

    def picture(self, document: str, start: int, end: int) -> bytes:
        """Draw the page of a PDF with a part of its text marked: a PNG. The arguments and errors are those of `locate`.

        Of a part on several pages, the first page is drawn. No side of the picture has more than 2,000 pixels.
        """
        check_paged(document)
        return find(path_of(document), span_in(self._passages(document), start, end, picture=True))[1]

    def find(self, question: str, k: int = PASSAGES) -> list[Hit]:
        """Retrieve the passages that match a question best, with their BM25 scores. The model is not used.

        Each passage counts, also if another one has the same words. For an answer, such passages count once.

        Raises:
            CorpusError: The index cannot be used.
        """
        return self.index.search(question, k)

    def counts(self) -> Counts:
        """Return how many documents and passages there are.

        Raises:
            CorpusError: The index cannot be used.
        """
        return self.index.counts()

    def status(self) -> Status:
        """Describe the content of the index.

        Raises:
            CorpusError: The index cannot be used.
        """
        index = self._open()
        counts, sources = index.counts(), list(index.sources())
        return Status(
            directory=str(self.directory),
            files=len(sources),
            documents=counts.documents,
            passages=counts.passages,
            characters=sum(source.characters for source in sources),
            bytes=index.size(),
            passage_size=index.passage_size,
            language=index.language,
            incomplete=sorted(source.name for source in sources if not source.complete),
        )

    @overload
    def __call__(self, question: str, *, top_k: None = ..., **options: Unpack[CorpusOptions]) -> CorpusAnswer: ...
    @overload
    def __call__(self, question: str, *, top_k: int, **options: Unpack[CorpusOptions]) -> list[CorpusAnswer]: ...

    def __call__(
        self,
        question: str,
        *,
        top_k: int | None = None,
        budget: Budget = "full",
        max_latency_ms: float | None = None,
        passages: int = PASSAGES,
        **options: Any,
    ) -> CorpusAnswer | list[CorpusAnswer]:
        """Answer a question from the documents.

        BM25 retrieves passages; of those with the same words, only the first counts. The model predicts on them with a
        cheap length configuration, and again on the best of them with the length configuration of the budget. It stops
        early when the next passage is unlikely to win. If no passage shares a word with the question, there is no
        answer: the result is a `CorpusAnswer` with an empty text and score 0, or an empty list with `top_k`.

        Args:
            question: The question.
            top_k: How many answers to give. At least as many passages are retrieved.
            budget: The cost of a prediction: see `QuestionAnswerer.__call__`.
            max_latency_ms: The time limit in milliseconds, from the call, without the loading of the model. To keep it,
                the model predicts on fewer passages, but at least one. It estimates the time from earlier predictions.
            passages: How many different passages to retrieve.
            options: `max_seq_len`, `doc_stride`, `max_question_len`, `max_answer_len`, `align_to_words`,
                `score_threshold` (in each passage): see `QuestionAnswerer.__call__`.

        Raises:
            TypeError: The question is not a string.
            ValueError: The question is empty, or an option is out of range.
            CorpusError: The index cannot be used.
        """
        wanted = 1 if top_k is None else top_k
        check_asked(
            question, options, CorpusOptions, "of a corpus",
            max_latency_ms=max_latency_ms, passages=passages, top_k=wanted,
        )  # fmt: skip
        index, qa = self.index, self.qa
        plan = make_plan(qa, budget, passages=passages, top_k=top_k, max_latency_ms=max_latency_ms, options=options)
        answers = Asking(index, qa, self._pace, plan)(question)
        if top_k is None:
            return answers[0]
        return [answer for answer in answers if answer.text]
