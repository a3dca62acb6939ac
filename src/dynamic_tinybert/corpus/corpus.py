"""A corpus: documents in, answers out."""

from __future__ import annotations

import math
import numbers
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, overload

from dynamic_tinybert.corpus.answering import PASSAGES, Asking, Pace, make_plan
from dynamic_tinybert.corpus.answers import CorpusAnswer
from dynamic_tinybert.corpus.formats import Reading
from dynamic_tinybert.corpus.index import Counts, DocumentInfo, Hit, Index, MilvusAddress, open_index, parse
from dynamic_tinybert.corpus.ingest import Progress, Report, add_files, add_texts, remove
from dynamic_tinybert.corpus.passages import check_size
from dynamic_tinybert.errors import check_from_one
from dynamic_tinybert.inference import check_pair
from dynamic_tinybert.model import Budget
from dynamic_tinybert.qa import QuestionAnswerer

if TYPE_CHECKING:
    from typing_extensions import Unpack


class CorpusOptions(TypedDict, total=False):
    """What may be said of a question beside itself and `top_k`: see `Corpus.__call__`."""

    budget: Budget
    max_latency_ms: float | None
    passages: int
    max_seq_len: int | None
    doc_stride: int | None
    max_question_len: int
    max_answer_len: int
    align_to_words: bool


@dataclass(frozen=True, kw_only=True)
class Status:
    """What an index holds.

    Attributes:
        directory: Where it is: a folder, or an address.
        files: Files and texts given by name that documents came from.
        documents: Documents.
        passages: Their passages.
        characters: Characters of all documents.
        bytes: What the index takes on disk, or None: of an index in Milvus that is not known.
        passage_size: The most characters of a passage.
        incomplete: Files whose adding was interrupted; adding them again goes on.
    """

    directory: str
    files: int
    documents: int
    passages: int
    characters: int
    bytes: int | None
    passage_size: int
    incomplete: Sequence[str]


class Corpus:
    """Documents that questions can be asked of. Safe to use from many threads.

    Args:
        directory: The folder of the index, or its address in Milvus: `milvus://HOST:PORT/COLLECTION` (a string; extra
            `milvus`). It is made when something is added.
        qa: The model that reads; by default the one that came with the package, loaded at the first question.
        passage_size: The most characters of a passage, for a new index; by default 1,200.

    Raises:
        CorpusError: The address is not of the form that addresses have.
        ValueError: The size of passages is out of range.

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
    ) -> None:
        if passage_size is not None:
            check_size(passage_size)
        self.directory = parse(directory)
        self._qa = qa
        self._passage_size = passage_size
        self._opened: Index | None = None
        self._pace = Pace()
        self._lock = threading.Lock()

    def _open(self, *, create: bool = False) -> Index:
        opened = self._opened
        if opened is not None and opened.is_current():  # which may ask a server: others need not wait for it
            return opened
        with self._lock:
            if self._opened is None or self._opened is opened:
                self._opened = open_index(self.directory, create=create, passage_size=self._passage_size)
            return self._opened

    @property
    def index(self) -> Index:
        """The index.

        Raises:
            CorpusError: There is none, or it cannot be used.
        """
        return self._open()

    @property
    def qa(self) -> QuestionAnswerer:
        """The model that reads."""
        with self._lock:
            if self._qa is None:
                self._qa = QuestionAnswerer()
            return self._qa

    def add(
        self,
        *paths: str | os.PathLike[str],
        reading: Reading | None = None,
        prune: bool = False,
        progress: Progress | None = None,
        skipped: Callable[[str, str], None] | None = None,
    ) -> Report:
        """Add files, and those of folders: text, Markdown, HTML, PDF, DOCX, JSON Lines.

        A file that is in the index as it is, is left alone; one that changed is replaced. What cannot be read is
        reported and skipped. After a kill the same call goes on.

        Args:
            paths: Files and folders.
            reading: How files are read: the names of fields in JSON Lines, the encoding of text.
            prune: Remove what came from these folders and is gone.
            progress: Called with the bytes of files read, those there are, and a file's name.
            skipped: Called with a path and the reason, as soon as something is skipped.

        Raises:
            CorpusError: Another process is changing the index, or it cannot be used or written.
            FileNotFoundError: One of the paths is not there; nothing has been added.
        """
        for path in paths:
            os.stat(path)
        index = self._open(create=True)
        return add_files(
            index, index.passage_size, paths, reading=reading, prune=prune, progress=progress, skipped=skipped
        )

    def put(self, name: str, text: str, *, title: str = "") -> None:
        """Add a text by name; one of the same name is replaced.

        Each call is a transaction, which costs a tenth of a second: many texts go by `put_many`.

        Raises:
            CorpusError: Another process is changing the index, or it cannot be used or written.
            ValueError: The name is empty, or longer than 1,000 characters.
        """
        self.put_many([(name, title, text)])

    def put_many(self, texts: Iterable[tuple[str, str, str]]) -> int:
        """Add many texts, each its name, title and text, in one transaction; of each only its name stays in memory.

        Returns:
            How many there were.

        Raises:
            CorpusError: Another process is changing the index, or it cannot be used or written.
            ValueError: A name is empty, or longer than 1,000 characters; nothing has been added.
        """
        index = self._open(create=True)
        return add_texts(index, index.passage_size, texts)

    def remove(self, *names: str) -> Mapping[str, int]:
        """Remove documents by name, files by path, or folders with all that came from them; all of them, or nothing.

        Returns:
            How many documents each name removed.

        Raises:
            CorpusError: There is nothing of one of the names; or another process is changing the index.
            ValueError: A name is empty.
        """
        return remove(self.index, names)

    def documents(self) -> Iterator[DocumentInfo]:
        """Yield what is known of all documents, in the order of their names.

        Raises:
            CorpusError: The index cannot be used.
        """
        return self.index.documents()

    def text(self, document: str) -> str:
        """Return the text of a document, in which answers have their offsets.

        Raises:
            KeyError: There is no such document.
            CorpusError: The index cannot be used.
        """
        passages = [passage.text for passage in self.index.document(document)]
        if not passages:
            raise KeyError(document)
        return "".join(passages)

    def find(self, question: str, k: int = PASSAGES) -> list[Hit]:
        """Return the passages that match a question best, and their BM25 scores, without reading them.

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
        """Return what the index holds.

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

        Passages are retrieved by BM25, read at a cheap length configuration, and the best of them again at the one that
        the budget buys; reading stops when an unread passage is unlikely to win. Where no passage shares a word with
        the question there is no answer: a `CorpusAnswer` of no text and score 0, with `top_k` an empty list.

        Args:
            question: The question.
            top_k: How many answers to give: of at least as many passages, if there are so many and time for them.
            budget: What reading a passage may cost: see `QuestionAnswerer.__call__`.
            max_latency_ms: Milliseconds that the answer may take, from here; the model's loading not counted. Fewer
                passages are read, as the pace of former readings tells; at least one.
            passages: Passages to retrieve.
            options: `max_seq_len`, `doc_stride`, `max_question_len`, `max_answer_len`, `align_to_words`: see
                `QuestionAnswerer.__call__`.

        Raises:
            TypeError: The question is no string.
            ValueError: The question is empty, or an option is out of range.
            CorpusError: The index cannot be used.
        """
        check_pair(question, "", None)
        unknown = options.keys() - CorpusOptions.__annotations__
        if unknown:
            raise TypeError(f"no option of a corpus: {', '.join(sorted(unknown))}")
        check_from_one(passages=passages, top_k=1 if top_k is None else top_k)
        if max_latency_ms is not None and not (isinstance(max_latency_ms, numbers.Real) and max_latency_ms > 0):
            raise ValueError(f"max_latency_ms is a number of milliseconds above 0, not {max_latency_ms!r:.50}")
        index, qa = self.index, self.qa
        plan = make_plan(
            qa,
            budget,
            passages=passages,
            answers=1 if top_k is None else top_k,
            deadline=math.inf if max_latency_ms is None else time.perf_counter() + max_latency_ms / 1000,
            options=options,
        )
        answers = Asking(index, qa, self._pace, plan)(question)
        if top_k is None:
            return answers[0]
        return [answer for answer in answers if answer.text]
