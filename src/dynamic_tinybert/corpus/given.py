"""Answer a question from passages that the caller has retrieved, by any means: one ranked list over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, overload
from weakref import WeakKeyDictionary

from dynamic_tinybert.answer import Spent, sentence_of
from dynamic_tinybert.corpus.answering import Asking, Pace, PassageOptions, check_asked, make_plan, score_of_place
from dynamic_tinybert.corpus.index import Hit, Passage
from dynamic_tinybert.model import Budget
from dynamic_tinybert.qa import QuestionAnswerer

if TYPE_CHECKING:
    from typing_extensions import Unpack

_paces: WeakKeyDictionary[QuestionAnswerer, Pace] = WeakKeyDictionary()
_TEXTS = ("text", "page_content", "content")  # what other libraries call the text of a passage


@dataclass(frozen=True, kw_only=True)
class PassageAnswer:
    """An answer from a passage: `text_of(passage)[answer.start:answer.end] == answer.text`.

    Attributes:
        text: The words that answer the question; empty if no passage contains an answer.
        passage: The passage as the caller gave it; None if there is no answer.
        number: Its position among the passages, from 0; -1 if there is no answer.
        start: The start of the answer, in characters of the passage's text.
        end: The end of the answer, in characters of the passage's text.
        score: Softmax of the candidates' log-odds over all passages that were read last; in [0, 1].
        confidence: Calibrated probability that the passage answers the question and that this is the answer; None for a
            model without calibration.
        logit: Start logit plus end logit, raw; minus infinity if there is no answer.
        sentence: The sentence of the passage that contains the answer, on one line.
        spent: The cost of the question.
    """

    text: str
    passage: Any = field(repr=False)
    number: int
    start: int
    end: int
    score: float
    confidence: float | None
    logit: float
    sentence: str = field(repr=False)
    spent: Spent = field(repr=False)


@dataclass(frozen=True)
class _Given:
    """A retriever that finds what it was given."""

    hits: list[Hit]

    def search(self, question: str, k: int) -> list[Hit]:
        """Return the first `k` passages."""
        return self.hits[:k]


def text_of(passage: Any) -> str:
    """Return the text of a passage: itself, or its `text`, `page_content` or `content`, an attribute or a key.

    Raises:
        TypeError: It has none.
    """
    if isinstance(passage, str):
        return passage
    for name in _TEXTS:
        found = passage.get(name) if isinstance(passage, Mapping) else getattr(passage, name, None)
        if isinstance(found, str):
            return found
    raise TypeError(
        f"a passage must be a string, or have a text, page_content or content that is one, not {type(passage).__name__}"
    )


@overload
def ask_passages(
    question: str,
    passages: Iterable[Any],
    *,
    qa: QuestionAnswerer | None = ...,
    ranked: bool = ...,
    top_k: None = ...,
    **options: Unpack[PassageOptions],
) -> PassageAnswer: ...
@overload
def ask_passages(
    question: str,
    passages: Iterable[Any],
    *,
    qa: QuestionAnswerer | None = ...,
    ranked: bool = ...,
    top_k: int,
    **options: Unpack[PassageOptions],
) -> list[PassageAnswer]: ...


def ask_passages(
    question: str,
    passages: Iterable[Any],
    *,
    qa: QuestionAnswerer | None = None,
    ranked: bool = True,
    top_k: int | None = None,
    budget: Budget = "full",
    max_latency_ms: float | None = None,
    **options: Any,
) -> PassageAnswer | list[PassageAnswer]:
    """Answer a question from passages, the likeliest first, as a retriever gives them.

    The model predicts on the passages with a cheap length configuration, and again on the best of them with that of the
    budget, as `Corpus` does. It stops early when the next passage is unlikely to win. An answer further down the list
    must be surer: passage number n, from 0, counts ln(1 + n) less, in log-odds. A long passage is read whole, in
    overlapping windows.

    Args:
        question: The question.
        passages: Strings; or objects or mappings with a `text`, `page_content` or `content`.
        qa: The model; by default the embedded one.
        ranked: Whether the likeliest passages come first. If not, their order does not count, and all are read.
        top_k: How many answers to give, over all passages.
        budget: The cost of a prediction: see `QuestionAnswerer.__call__`.
        max_latency_ms: The time limit in milliseconds, without the loading of the model. To keep it, the model predicts
            on fewer passages, from the first on, but at least one.
        options: `max_seq_len`, `doc_stride`, `max_question_len`, `max_answer_len`, `align_to_words`,
            `score_threshold` (in each passage): see `QuestionAnswerer.__call__`.

    Returns:
        The best answer; with `top_k` a list, the best first, which may be empty.

    Raises:
        TypeError: The question or the text of a passage is not a string.
        ValueError: The question is empty, or an option is out of range.

    Example:
        >>> from dynamic_tinybert import ask_passages
        >>> found = ask_passages("Where is the tower?", ["It was built in 1889.", "The tower stands in Paris."])
        >>> found.text, found.number
        ('Paris', 1)
    """
    wanted = 1 if top_k is None else top_k
    check_asked(question, options, PassageOptions, "for passages", max_latency_ms=max_latency_ms, top_k=wanted)
    if isinstance(passages, (str, Mapping)):
        raise TypeError(f"passages must be a list of passages, not one {type(passages).__name__}")
    given = list(passages)
    hits = [
        Hit(
            Passage(document=str(number), title="", number=0, start=0, text=text_of(each)),
            score_of_place(number) if ranked else 0.0,
        )
        for number, each in enumerate(given)
    ]
    qa = qa or QuestionAnswerer()
    plan = make_plan(
        qa, budget, passages=max(1, len(hits)), top_k=top_k, max_latency_ms=max_latency_ms, options=options
    )
    if not ranked:
        plan = replace(plan, stops=False)
    found = Asking(_Given(hits), qa, _paces.setdefault(qa, Pace()), plan)(question)
    answers = [
        PassageAnswer(
            text=one.text,
            passage=given[int(one.document)] if one.text else None,
            number=int(one.document) if one.text else -1,
            start=one.start,
            end=one.end,
            score=one.score,
            confidence=one.confidence,
            logit=one.logit,
            sentence=sentence_of(one.passage, one.start, one.end) if one.text else "",
            spent=one.spent,
        )
        for one in found
    ]
    return answers[0] if top_k is None else [answer for answer in answers if answer.text]
