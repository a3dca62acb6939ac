"""The documents that the tools work on, and what the tools do with them."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dynamic_tinybert.corpus import Corpus, CorpusError, Passage, ask_passages, is_paged
from dynamic_tinybert.errors import DynamicTinyBertError
from dynamic_tinybert.mcp.results import (
    Answers,
    DocumentPart,
    Documents,
    FoundPassage,
    ListedDocument,
    Passages,
    QuotedAnswer,
)
from dynamic_tinybert.model import Budget
from dynamic_tinybert.qa import QuestionAnswerer

logger = logging.getLogger("dynamic_tinybert.mcp")

LEAST_CONFIDENCE = 0.05
"""An answer of less confidence is left out: one of twenty such answers or fewer would be right."""

_WHOLE = 60  # passages; of a document with more, only those that match the question best are predicted
_LONGEST_PASSAGE = 5000  # characters; an index may have passages of a million
_SHORT = 2  # characters of words that say little
_WORD = re.compile(r"\w+")
_NOTHING = (
    "The documents do not seem to answer this question. Try other words, or `find` for passages to read yourself."
)
_UNSURE = "The model has no calibrated confidence: check each answer against its sentence."


class RequestError(DynamicTinyBertError):
    """A request cannot be answered. The message is one line for the client: it contains no path of this machine."""


@dataclass(frozen=True)
class Shelf:
    """An index with a name.

    Attributes:
        name: The name, which clients see.
        corpus: The index.
        root: The start of the documents' names that clients do not see.
        wait: Called before each use; returns when the index is complete.
        ready: Whether `wait` would return at once.
    """

    name: str
    corpus: Corpus
    root: str = ""
    wait: Callable[[], None] = lambda: None
    ready: Callable[[], bool] = lambda: True

    def shown(self, document: str) -> str:
        """Return a document's name as clients see it."""
        return document.removeprefix(self.root)

    @contextlib.contextmanager
    def open(self) -> Iterator[Corpus]:
        """Return the corpus when it is complete.

        Raises:
            RequestError: The index cannot be used. The log says why.
        """
        try:
            self.wait()
            yield self.corpus
        except (CorpusError, OSError) as error:
            logger.warning("index %r: %s", self.name, error)
            raise RequestError(f"the index {self.name!r} cannot be used: the server's log says why") from None


class Library:
    """Answer questions from indexes, and give their documents. Nothing is changed. Safe to use from many threads.

    Args:
        shelves: The indexes.
        load: Returns the model; called once, at the first question.
    """

    def __init__(self, shelves: Sequence[Shelf], load: Callable[[], QuestionAnswerer]) -> None:
        self._shelves = list(shelves)
        self._load = load
        self._qa: QuestionAnswerer | None = None
        self._asked: dict[str, Corpus] = {}  # the same indexes, with the model
        self._lock = threading.Lock()

    @property
    def ready(self) -> bool:
        """Whether all indexes are complete."""
        return all(shelf.ready() for shelf in self._shelves)

    @property
    def names(self) -> list[str]:
        """The names of the indexes."""
        return [shelf.name for shelf in self._shelves]

    def ask(
        self, question: str, *, top_k: int, budget: Budget, document: str | None = None, index: str | None = None
    ) -> Answers:
        """Answer a question, from all documents or from one.

        Raises:
            RequestError: The question is empty, there is no such document or index, or an index cannot be used.
        """
        _check_question(question)
        if document is None:
            ranked = [each for shelf in self._chosen(index) for each in self._ask_all(shelf, question, top_k, budget)]
        else:
            ranked = self._ask_one(document, index, question, top_k, budget)
        if document is None and len(self._shelves) > 1:  # each index ranks its own answers
            ranked.sort(key=lambda pair: pair[0], reverse=True)
        found = [quoted for _, quoted in ranked]
        if any(each.confidence is None for each in found):
            return Answers(answers=found[:top_k], note=_UNSURE)
        sure = [each for each in found if (each.confidence or 0.0) >= LEAST_CONFIDENCE]
        return Answers(answers=sure[:top_k], note=None if sure else _NOTHING)

    def find(self, question: str, *, k: int, index: str | None = None) -> Passages:
        """Find the passages that match a question best. Of several indexes, the best of each come first.

        Raises:
            RequestError: The question is empty, there is no such index, or it cannot be used.
        """
        _check_question(question)
        found: list[tuple[int, FoundPassage]] = []
        for shelf in self._chosen(index):
            with shelf.open() as corpus:
                for rank, hit in enumerate(corpus.find(question, k)):
                    passage = hit.passage
                    text = passage.text[:_LONGEST_PASSAGE]
                    shown = FoundPassage(
                        document=shelf.shown(passage.document),
                        title=passage.title,
                        index=shelf.name,
                        page=_page(corpus, passage.document, passage.start),
                        start=passage.start,
                        end=passage.start + len(text),
                        text=text,
                        score=hit.score,
                    )
                    found.append((rank, shown))
        found.sort(key=lambda pair: pair[0])  # scores of different indexes cannot be compared
        return Passages(passages=[shown for _, shown in found[:k]])

    def documents(self, *, offset: int, limit: int, index: str | None = None) -> Documents:
        """List documents, sorted by index and name.

        Raises:
            RequestError: There is no such index, or it cannot be used.
        """
        listed: list[ListedDocument] = []
        total = 0
        for shelf in self._chosen(index):
            with shelf.open() as corpus:
                here = corpus.counts().documents
                begin = min(max(0, offset - total), here)
                listed += [
                    ListedDocument(
                        name=shelf.shown(info.name), title=info.title, characters=info.characters, index=shelf.name
                    )
                    for info in itertools.islice(corpus.documents(), begin, begin + limit - len(listed))
                ]
                total += here
        following = offset + len(listed)
        return Documents(documents=listed, total=total, next_offset=following if listed and following < total else None)

    def read(self, document: str, *, start: int, length: int, index: str | None = None) -> DocumentPart:
        """Return a part of a document's text.

        Raises:
            RequestError: There is no such document or index, or an index cannot be used.
        """
        shelf, passages = self._document(document, index)
        total = passages[-1].start + len(passages[-1].text)
        text = "".join(
            each.text[max(0, start - each.start) : max(0, start + length - each.start)]
            for each in passages
            if each.start < start + length
        )
        end = start + len(text)
        return DocumentPart(
            document=shelf.shown(passages[0].document),
            title=passages[0].title,
            index=shelf.name,
            start=start,
            end=end,
            text=text,
            characters=total,
            next_start=end if text and end < total else None,
        )

    def _chosen(self, index: str | None) -> list[Shelf]:
        chosen = [shelf for shelf in self._shelves if index in (None, shelf.name)]
        if not chosen:
            raise RequestError(f"there is no index {index!r:.100}: the indexes are {', '.join(self.names)}")
        return chosen

    def _document(self, name: str, index: str | None) -> tuple[Shelf, list[Passage]]:
        """Return the index that contains a document, and the document's passages."""
        for shelf in self._chosen(index):
            with shelf.open() as corpus:
                forms = (name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))
                for known in dict.fromkeys(root + form for form in forms for root in (shelf.root, "")):
                    passages = list(corpus.index.document(known))
                    if passages:
                        return shelf, passages
        raise RequestError(f"there is no document {name!r:.200}: `list` gives the names of all documents")

    def _model(self) -> QuestionAnswerer:
        with self._lock:
            if self._qa is None:
                self._qa = self._load()
            return self._qa

    def _ask_all(
        self, shelf: Shelf, question: str, top_k: int, budget: Budget
    ) -> list[tuple[tuple[float, float], QuotedAnswer]]:
        """Return the answers from an index, each with what it is worth."""
        with shelf.open() as corpus:
            if self._qa is None and not corpus.find(question, 1):  # the model is loaded for a match only
                return []
            qa = self._model()
            with self._lock:
                asked = self._asked.setdefault(shelf.name, Corpus(corpus.directory, qa=qa))
            answers = asked(question, top_k=top_k, budget=budget)
            places = [(answer.document, answer.title, answer.start, answer.end) for answer in answers]
            return [
                (_worth(answer), _quoted(shelf, answer, *place)) for answer, place in zip(answers, places, strict=True)
            ]

    def _ask_one(
        self, document: str, index: str | None, question: str, top_k: int, budget: Budget
    ) -> list[tuple[tuple[float, float], QuotedAnswer]]:
        shelf, passages = self._document(document, index)
        with shelf.open():
            if len(passages) > _WHOLE:
                passages = _nearest(question, passages)[:_WHOLE]
            quoted = []
            qa = self._model()
            for answer in ask_passages(question, passages, qa=qa, ranked=False, top_k=top_k, budget=budget):
                inside: Passage = answer.passage
                begin, end = inside.start + answer.start, inside.start + answer.end
                found = _quoted(shelf, answer, inside.document, inside.title, begin, end)
                quoted.append((_worth(answer), found))
            return quoted


def _worth(answer: Any) -> tuple[float, float]:
    return (0.0 if answer.confidence is None else answer.confidence, answer.logit)


def _nearest(question: str, passages: Sequence[Passage]) -> list[Passage]:
    """Sort passages by the words that they share with a question; a word that few of them have counts more."""
    wanted = {word for word in _WORD.findall(question.casefold()) if len(word) > _SHORT}
    shared = [wanted & set(_WORD.findall(each.text.casefold())) for each in passages]
    counts = Counter(word for words in shared for word in words)
    value = {word: math.log(1 + len(passages) / count) for word, count in counts.items()}
    order = sorted(range(len(passages)), key=lambda i: -sum(value[word] for word in shared[i]))
    return [passages[i] for i in order]


def _check_question(question: str) -> None:
    if not question.strip():
        raise RequestError("the question is empty")


def _quoted(shelf: Shelf, answer: Any, document: str, title: str, start: int, end: int) -> QuotedAnswer:
    return QuotedAnswer(
        text=answer.text,
        sentence=answer.sentence,
        document=shelf.shown(document),
        title=title,
        index=shelf.name,
        page=_page(shelf.corpus, document, start),
        start=start,
        end=end,
        confidence=None if answer.confidence is None else round(answer.confidence, 4),
    )


def _page(corpus: Corpus, document: str, at: int) -> int | None:
    """Return the page of a character in a PDF, from 1; None for other documents."""
    if not is_paged(document):
        return None
    before = itertools.takewhile(lambda each: each.start < at, corpus.index.document(document))
    return 1 + sum(each.text.count("\f", 0, at - each.start) for each in before)
