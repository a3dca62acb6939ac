"""Find the answers in the retrieved passages, coarse to fine.

The model predicts on each passage with a cheap length configuration, in the order of retrieval. It predicts again on
the best passages with the length configuration of the budget. A candidate's value is the log-odds of the model's
confidence plus a weight times BM25; after two predictions, it is the mean of both. The first round stops when the next
passage is unlikely to win: it would not come first even with log-odds of 0.5, a confidence of 0.62. The weights and
bounds were chosen on `select` (results/corpus/corpus-choice.md).

Passages with the same text, but for white space and case, count once: many copies of a text must not take the places
of other passages.
"""

from __future__ import annotations

import math
import numbers
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

from dynamic_tinybert.answer import Answer, Spent
from dynamic_tinybert.corpus.answers import CorpusAnswer
from dynamic_tinybert.corpus.index import Hit, Retriever
from dynamic_tinybert.errors import check_from_one
from dynamic_tinybert.inference import check_pair
from dynamic_tinybert.model import Budget, MeasuredConfig
from dynamic_tinybert.qa import QuestionAnswerer

PASSAGES = 20
"""How many passages are retrieved. The model predicts on all of them unless it stops early."""

_COARSE = 0.55  # the budget of the coarse configuration, as a share
_AGAIN = 2  # passages of the second round, unless more answers are wanted
_CHUNK = 2  # passages between two checks whether to stop; the first check comes after one passage
_RETRIEVAL_WEIGHT = 0.2  # of BM25, relative to log-odds
_RETRIEVAL_WEIGHT_LOGITS = 0.5  # of BM25, relative to logits, for a model without calibration
_PLACE_WEIGHT = 1.0  # of the logarithm of a place in a list, relative to log-odds
_MOST_LOG_ODDS = 0.5  # expected of a passage further down: a confidence of 0.62
_LEAST = 1e-9  # log-odds are clipped to this distance from 0 and 1
_PASSAGE_OVERHEAD = 200  # the fixed cost of a passage, in characters
_CAUTION = 1.2  # factor on estimates of time
_MORE = 4  # so many times more passages are drawn as long as too few of them are different
_MOST_DRAWN = 1000  # unless more passages are wanted


class PassageOptions(TypedDict, total=False):
    """The options of a question to passages, other than `top_k` and the model: see `ask_passages`."""

    budget: Budget
    max_latency_ms: float | None
    max_seq_len: int | None
    doc_stride: int | None
    max_question_len: int
    max_answer_len: int
    align_to_words: bool
    score_threshold: float


class CorpusOptions(PassageOptions, total=False):
    """The options of a question to a corpus, other than `top_k`: see `Corpus.__call__`."""

    passages: int


class Pace:
    """Measured seconds per character of a prediction, by length configuration."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}  # per character

    def observe(self, choice: MeasuredConfig, characters: int, seconds: float) -> None:
        """Record how long a prediction took."""
        now, before = seconds / characters, self._seconds.get(choice.name)
        self._seconds[choice.name] = now if before is None else 0.7 * before + 0.3 * now

    def estimate(self, choice: MeasuredConfig, characters: int) -> float | None:
        """Estimate the seconds of a prediction on so many characters, or return None if nothing was measured."""
        known = self._seconds.get(choice.name)
        return None if known is None else _CAUTION * known * characters


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to answer a question to a corpus.

    Attributes:
        fine: The length configuration that the budget selects.
        coarse: The length configuration of the first round; equal to `fine` if there is only one round.
        passages: How many passages are retrieved.
        answers: How many answers are wanted.
        deadline: When the answer is due, in seconds of `time.perf_counter`, or infinity.
        stops: Whether the first round stops when the next passage is unlikely to win.
        chunk: How many passages there are between two checks whether to stop.
        options: The options of `QuestionAnswerer.__call__` for the predictions.
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
    top_k: int | None,
    max_latency_ms: float | None,
    options: Mapping[str, Any],
) -> Plan:
    """Make the `Plan` of a question that is asked now.

    Raises:
        BudgetError: The budget is invalid.
    """
    fine = coarse = qa.table.select(qa.shape, budget)
    if qa.table.measured_on is not None:  # in an unmeasured table, a cheap configuration may find nothing
        coarse = min(fine, qa.table.select(qa.shape, _COARSE), key=lambda choice: choice.share)
    answers = 1 if top_k is None else top_k
    return Plan(
        fine=fine,
        coarse=coarse,
        passages=max(passages, answers),
        answers=answers,
        deadline=math.inf if max_latency_ms is None else time.perf_counter() + max_latency_ms / 1000,
        options=options,
    )


def check_asked(
    question: object,
    options: Mapping[str, Any],
    known: type[PassageOptions],
    whose: str,
    *,
    max_latency_ms: object,
    **from_one: object,
) -> None:
    """Check the arguments of a question.

    Args:
        question: The question.
        options: Options by name.
        known: The options that there are.
        whose: What they are options of, for the message.
        max_latency_ms: The time limit.
        from_one: Values that must be whole numbers of at least 1.

    Raises:
        TypeError: The question is not a string, or there is no such option.
        ValueError: The question is empty, or a value is out of range.
    """
    check_pair(question, "", None)
    unknown = options.keys() - known.__annotations__
    if unknown:
        raise TypeError(f"unknown options {whose}: {', '.join(sorted(unknown))}")
    check_from_one(**from_one)
    check_latency(max_latency_ms)


def check_latency(max_latency_ms: object) -> None:
    """Check a time limit.

    Raises:
        ValueError: It is neither None nor a number of milliseconds above 0.
    """
    if max_latency_ms is not None and not (isinstance(max_latency_ms, numbers.Real) and float(max_latency_ms) > 0):
        raise ValueError(f"max_latency_ms must be a number of milliseconds above 0, not {max_latency_ms!r:.50}")


@dataclass(frozen=True)
class _Candidate:
    """An answer in a passage, and its value from the model and the retrieval together."""

    hit: Hit
    answer: Answer
    value: float


class Asking:
    """Answer one question from retrieved passages. Each question needs a new instance.

    Args:
        index: The index, or another retriever.
        qa: The model.
        pace: Measured times of predictions; this question adds to them.
        plan: How to answer.
    """

    def __init__(self, index: Retriever, qa: QuestionAnswerer, pace: Pace, plan: Plan) -> None:
        self._index = index
        self._qa = qa
        self._pace = pace
        self._plan = plan
        self._began = time.perf_counter()
        self._windows = self._macs = self._bert_base_macs = 0

    def __call__(self, question: str) -> list[CorpusAnswer]:
        """Return the answers, the best first, or one empty answer if no passage contains a word of the question.

        Raises:
            ValueError: The question is empty, or an option is out of range.
            CorpusError: The index cannot be read.
        """
        plan = self._plan
        hits = retrieve(self._index, question, plan.passages)
        if not hits:
            self._qa(question, "", budget=plan.fine.config, **plan.options)  # raises if an option is out of range
        coarse: list[_Candidate] = []
        read = 0
        for chunk in self._chunks(hits):
            read += len(chunk)
            coarse += self._read(question, chunk, plan.coarse)
            if plan.stops and self._settled(coarse, hits[read:]):
                break
        chosen: Sequence[_Candidate] = []
        left: list[_Candidate] = []
        if plan.coarse != plan.fine:
            best = sorted(_best_of_passages(coarse), key=lambda c: -c.value)
            wanted = best[: max(_AGAIN, plan.answers)]
            chosen = self._affordable(wanted)
            if len(chosen) < len(wanted):  # the answers that there is no time to improve stay
                again = {_key(c.hit) for c in chosen}
                left = [c for c in coarse if _key(c.hit) not in again]
        final = [*self._again(question, chosen), *left] if chosen else coarse
        return self._answers(final, retrieved=len(hits), read=read, again=len(chosen))

    def _chunks(self, hits: Sequence[Hit]) -> Iterator[Sequence[Hit]]:
        """Yield the passages of the first round: at least one, then as many as there is time for."""
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
        """Return for how many passages there is time in the first round, if one passage is predicted again."""
        left = self._plan.deadline - time.perf_counter()
        fine = 0.0 if self._plan.fine == self._plan.coarse else self._seconds(hits[:1], self._plan.fine)
        left -= fine if fine < left else 0.0
        return next((n for n in range(len(hits), 0, -1) if self._seconds(hits[:n], self._plan.coarse) <= left), 0)

    def _affordable(self, best: Sequence[_Candidate]) -> Sequence[_Candidate]:
        """Return the candidates for whose passages there is time in the second round."""
        left = self._plan.deadline - time.perf_counter()
        for count in range(len(best), 0, -1):
            if self._seconds([c.hit for c in best[:count]], self._plan.fine) <= left:
                return best[:count]
        return []

    def _seconds(self, hits: Sequence[Hit], choice: MeasuredConfig) -> float:
        """Estimate how long a prediction takes.

        The coarse configuration is measured at each question, the fine one is not. So the estimate for the fine one is
        at most twice what the coarse pace predicts: otherwise one slow measurement could exclude it for ever.
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
        self._pace.observe(choice, _weight(hits), time.perf_counter() - began)
        candidates = []
        for hit, answers in zip(hits, found, strict=True):
            candidates += [_Candidate(hit, answer, _value(answer, hit)) for answer in answers]
            for answer in answers[:1]:
                self._windows += answer.spent.windows
                self._macs += answer.spent.macs
                self._bert_base_macs += answer.spent.bert_base_macs
        return candidates

    def _again(self, question: str, chosen: Sequence[_Candidate]) -> list[_Candidate]:
        """Predict again on passages.

        The new value of a passage's best candidate is the mean of both rounds. Its other candidates move as far, so
        they get nothing from the best one.
        """
        first = {_key(c.hit): c.value for c in chosen}
        read = self._read(question, [c.hit for c in chosen], self._plan.fine)
        best = {_key(c.hit): c.value for c in _best_of_passages(read)}
        return [replace(c, value=c.value + (first[_key(c.hit)] - best[_key(c.hit)]) / 2) for c in read]

    def _settled(self, candidates: Sequence[_Candidate], unread: Sequence[Hit]) -> bool:
        """Return whether the remaining passages are unlikely to change the wanted answers."""
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


def retrieve(index: Retriever, question: str, k: int) -> list[Hit]:
    """Return the `k` passages that match a question best; of passages with the same text, only the first.

    Raises:
        CorpusError: The index cannot be read.
    """
    drawn = k
    while True:
        hits = index.search(question, drawn)
        different: dict[str, Hit] = {}
        for hit in hits:
            different.setdefault(" ".join(hit.passage.text.split()).lower(), hit)
        if len(different) >= k or len(hits) < drawn or drawn >= _MOST_DRAWN:
            return list(different.values())[:k]
        drawn = min(_MORE * drawn, _MOST_DRAWN)


def _value(answer: Answer, hit: Hit) -> float:
    """Return the value of an answer from the model and the retrieval together."""
    if answer.confidence is None:
        return answer.logit + _RETRIEVAL_WEIGHT_LOGITS * hit.score
    sure = min(max(answer.confidence, _LEAST), 1 - _LEAST)
    return math.log(sure / (1 - sure)) + _RETRIEVAL_WEIGHT * hit.score


def score_of_place(number: int) -> float:
    """Return what takes the place of BM25 for a passage of a ranked list, counted from 0."""
    return -_PLACE_WEIGHT / _RETRIEVAL_WEIGHT * math.log(1 + number)


def _best_of_passages(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    best: dict[tuple[str, int], _Candidate] = {}
    for candidate in sorted(candidates, key=lambda c: c.value):
        best[_key(candidate.hit)] = candidate
    return list(best.values())


def _key(hit: Hit) -> tuple[str, int]:
    return hit.passage.document, hit.passage.number


def _weight(hits: Sequence[Hit]) -> int:
    return sum(len(hit.passage.text) + _PASSAGE_OVERHEAD for hit in hits)
