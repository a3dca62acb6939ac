"""From passages to answers: many read coarsely, the most promising again, and no more than can win.

Coarse to fine: every passage is read at a cheap length configuration, in the order of retrieval, and the best of them
again at the one that the budget buys; both readings count half. What retrieval and reading say of a passage is added
up: the log-odds of the reader's confidence plus a weight times BM25. Reading stops when an unread passage is unlikely
to win: when it would not come first even at log-odds of 0.5, a confidence of 0.62. Weights and bounds were chosen on
`select` (results/corpus/corpus-choice.md).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dynamic_tinybert.answer import Answer, Spent
from dynamic_tinybert.corpus.answers import CorpusAnswer
from dynamic_tinybert.corpus.index import Hit, Index
from dynamic_tinybert.model import Budget, MeasuredConfig
from dynamic_tinybert.qa import QuestionAnswerer

PASSAGES = 20
"""Passages that are retrieved, and read unless reading stops before."""

_COARSE = 0.55  # the share that the coarse reading may have
_AGAIN = 2  # passages that are read again, unless more answers are wanted
_CHUNK = 2  # passages read between two looks at whether another can win; first one alone
_RETRIEVAL_WEIGHT = 0.2  # of BM25, beside log-odds
_RETRIEVAL_WEIGHT_LOGITS = 0.5  # of BM25, beside the logits of a model without calibration
_MOST_LOG_ODDS = 0.5  # that are expected of reading a passage further down: a confidence of 0.62
_LEAST = 1e-9  # a confidence for which log-odds are taken
_PASSAGE_OVERHEAD = 200  # characters: what a passage costs beside its length
_CAUTION = 1.2  # of estimates of time


class Pace:
    """Seconds that reading takes, by length configuration, as measured while reading."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}  # for a character

    def saw(self, choice: MeasuredConfig, characters: int, seconds: float) -> None:
        """Take in how long a reading took."""
        now, before = seconds / characters, self._seconds.get(choice.name)
        self._seconds[choice.name] = now if before is None else 0.7 * before + 0.3 * now

    def estimate(self, choice: MeasuredConfig, characters: int) -> float | None:
        """Return the seconds that reading so much will take, or None if nothing is known."""
        known = self._seconds.get(choice.name)
        return None if known is None else _CAUTION * known * characters


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a question to a corpus is answered.

    Attributes:
        fine: The length configuration that the budget buys.
        coarse: The one of the first reading; the same where there is one reading.
        passages: Passages that are retrieved.
        answers: How many answers are wanted.
        deadline: When the answer is due, in seconds of `time.perf_counter`, or infinity.
        stops: Whether reading stops when an unread passage is unlikely to win.
        chunk: Passages that are read between two looks at whether another can win.
        options: Those of `QuestionAnswerer.__call__` that say how a passage is read.
    """

    fine: MeasuredConfig
    coarse: MeasuredConfig
    passages: int
    answers: int
    deadline: float = math.inf
    stops: bool = True
    chunk: int = _CHUNK
    options: Mapping[str, Any] = field(default_factory=dict)


def make_plan(
    qa: QuestionAnswerer,
    budget: Budget,
    *,
    passages: int,
    answers: int,
    deadline: float = math.inf,
    options: Mapping[str, Any] | None = None,
) -> Plan:
    """Plan how to answer: see `Plan`.

    Raises:
        BudgetError: The budget makes no sense.
    """
    fine = coarse = qa.table.select(qa.shape, budget)
    if qa.table.measured_on is not None:  # of a table that nobody measured, a cheap configuration may read nothing
        coarse = min(fine, qa.table.select(qa.shape, _COARSE), key=lambda choice: choice.share)
    return Plan(
        fine=fine,
        coarse=coarse,
        passages=max(passages, answers),
        answers=answers,
        deadline=deadline,
        options=options or {},
    )


@dataclass(frozen=True)
class _Candidate:
    """An answer in a passage, and what reading and retrieval say of it together."""

    hit: Hit
    answer: Answer
    value: float


class Asking:
    """Answers one question from an index. Made again for each.

    Args:
        index: The index.
        qa: The model.
        pace: How long reading takes; learns from this question.
        plan: How to answer.
    """

    def __init__(self, index: Index, qa: QuestionAnswerer, pace: Pace, plan: Plan) -> None:
        self._index = index
        self._qa = qa
        self._pace = pace
        self._plan = plan
        self._began = time.perf_counter()
        self._windows = self._macs = self._bert_base_macs = 0

    def __call__(self, question: str) -> list[CorpusAnswer]:
        """Return the answers, the best first; one of no text where no passage holds a word of the question.

        Raises:
            ValueError: The question is empty, or an option is out of range.
            CorpusError: The index cannot be read.
        """
        plan = self._plan
        hits = self._index.search(question, plan.passages)
        if not hits:
            self._qa(question, "", budget=plan.fine.config, **plan.options)  # refuses what is out of range
        coarse: list[_Candidate] = []
        read = 0
        for chunk in self._chunks(hits):
            read += len(chunk)
            coarse += self._read(question, chunk, plan.coarse)
            if plan.stops and self._settled(coarse, hits[read:]):
                break
        chosen: Sequence[_Candidate] = []
        if plan.coarse != plan.fine:
            best = sorted(_best_of_passages(coarse), key=lambda c: -c.value)
            chosen = self._affordable(best[: max(_AGAIN, plan.answers)])
        final = self._again(question, chosen) if chosen else coarse
        return self._answers(final, retrieved=len(hits), read=read, again=len(chosen))

    def _chunks(self, hits: Sequence[Hit]) -> Iterator[Sequence[Hit]]:
        """Yield passages to read coarsely: at least one, and then as many as there is time for."""
        done = 0
        while done < len(hits):
            size = self._plan.chunk if done or not self._plan.stops else 1
            if math.isfinite(self._plan.deadline) and done:
                size = self._fitting(hits[done : done + size])
                if not size:
                    return
            yield hits[done : done + size]
            done += size

    def _fitting(self, hits: Sequence[Hit]) -> int:
        """Return how many passages can be read coarsely, and one again, before the answer is due."""
        left = self._plan.deadline - time.perf_counter()
        fine = 0.0 if self._plan.fine == self._plan.coarse else self._seconds(hits[:1], self._plan.fine)
        left -= fine if fine < left else 0.0
        return next((n for n in range(len(hits), 0, -1) if self._seconds(hits[:n], self._plan.coarse) <= left), 0)

    def _affordable(self, best: Sequence[_Candidate]) -> Sequence[_Candidate]:
        """Return those whose passages can be read again before the answer is due."""
        left = self._plan.deadline - time.perf_counter()
        for count in range(len(best), 0, -1):
            if self._seconds([c.hit for c in best[:count]], self._plan.fine) <= left:
                return best[:count]
        return []

    def _seconds(self, hits: Sequence[Hit], choice: MeasuredConfig) -> float:
        """Estimate how long reading takes.

        Of the fine configuration, which may not have been read for long, no more than twice what the pace of the coarse
        one, measured at each question, lets expect: so that one slow reading does not keep it from ever being read.
        """
        coarse = self._plan.coarse
        known, pace = (self._pace.estimate(one, _weight(hits)) for one in (choice, coarse))
        expected = (pace or 0.0) * choice.share / coarse.share
        if known is None:
            return expected
        return known if choice == coarse else min(known, 2 * expected)

    def _read(self, question: str, hits: Sequence[Hit], choice: MeasuredConfig) -> list[_Candidate]:
        began = time.perf_counter()
        found = self._qa(
            question,
            [hit.passage.text for hit in hits],
            budget=choice.config,
            top_k=self._plan.answers,
            **self._plan.options,
        )
        self._pace.saw(choice, _weight(hits), time.perf_counter() - began)
        candidates = []
        for hit, answers in zip(hits, found, strict=True):
            candidates += [_Candidate(hit, answer, _value(answer, hit)) for answer in answers]
            for answer in answers[:1]:
                self._windows += answer.spent.windows
                self._macs += answer.spent.macs
                self._bert_base_macs += answer.spent.bert_base_macs
        return candidates

    def _again(self, question: str, chosen: Sequence[_Candidate]) -> list[_Candidate]:
        """Read passages again; what a passage is worth is the mean of both readings."""
        first = {_key(c.hit): c.value for c in chosen}
        read = self._read(question, [c.hit for c in chosen], self._plan.fine)
        return [replace(c, value=(c.value + first[_key(c.hit)]) / 2) for c in read]

    def _settled(self, candidates: Sequence[_Candidate], unread: Sequence[Hit]) -> bool:
        """Whether an unread passage is unlikely to come before as many passages as answers are wanted."""
        if not unread or not candidates or candidates[0].answer.confidence is None:
            return False
        most = _MOST_LOG_ODDS + _RETRIEVAL_WEIGHT * unread[0].score
        return sum(c.value > most for c in _best_of_passages(candidates)) >= self._plan.answers

    def _answers(
        self, candidates: Sequence[_Candidate], *, retrieved: int, read: int, again: int
    ) -> list[CorpusAnswer]:
        plan = self._plan
        ranked = sorted(candidates, key=lambda c: -c.value)
        most = ranked[0].value if ranked else 0.0
        total = sum(math.exp(c.value - most) for c in ranked)
        spent = Spent(
            configuration=plan.fine.name,
            share=plan.fine.share,
            coarse=None if plan.coarse == plan.fine else plan.coarse.name,
            retrieved=retrieved,
            read=read,
            read_again=again,
            windows=self._windows,
            macs=self._macs,
            bert_base_macs=self._bert_base_macs,
            seconds=time.perf_counter() - self._began,
        )
        return [
            CorpusAnswer(
                text=c.answer.text,
                document=c.hit.passage.document,
                title=c.hit.passage.title,
                start=c.hit.passage.start + c.answer.start,
                end=c.hit.passage.start + c.answer.end,
                passage=c.hit.passage.text,
                passage_start=c.hit.passage.start,
                score=math.exp(c.value - most) / total,
                confidence=c.answer.confidence,
                logit=c.answer.logit,
                retrieval=c.hit.score,
                spent=spent,
            )
            for c in ranked[: plan.answers]
        ] or [self._nothing(spent)]

    def _nothing(self, spent: Spent) -> CorpusAnswer:
        return CorpusAnswer(
            text="",
            document="",
            title="",
            start=0,
            end=0,
            passage="",
            passage_start=0,
            score=0.0,
            confidence=None if self._qa.calibration is None else 0.0,
            logit=-math.inf,
            retrieval=0.0,
            spent=spent,
        )


def _value(answer: Answer, hit: Hit) -> float:
    """What reading and retrieval say of an answer together."""
    if answer.confidence is None:
        return answer.logit + _RETRIEVAL_WEIGHT_LOGITS * hit.score
    sure = min(max(answer.confidence, _LEAST), 1 - _LEAST)
    return math.log(sure / (1 - sure)) + _RETRIEVAL_WEIGHT * hit.score


def _best_of_passages(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """Return the best candidate of each passage."""
    best: dict[tuple[str, int], _Candidate] = {}
    for candidate in sorted(candidates, key=lambda c: c.value):
        best[_key(candidate.hit)] = candidate
    return list(best.values())


def _key(hit: Hit) -> tuple[str, int]:
    return hit.passage.document, hit.passage.number


def _weight(hits: Sequence[Hit]) -> int:
    return sum(len(hit.passage.text) + _PASSAGE_OVERHEAD for hit in hits)
