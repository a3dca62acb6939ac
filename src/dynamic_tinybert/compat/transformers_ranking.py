"""Logits to answers by the rules of transformers 5.2's question-answering pipeline. No model in sight."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.inference import Span, SpanPool, Window, span_logits, text_logits

_SPARE = 10  # candidates of a window beyond twice `top_k`: aligned to words, some become one


class _Found(NamedTuple):
    """Candidates of a window, the best first: probabilities, and where they begin and end in the text."""

    score: npt.NDArray[np.float64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]


class WindowRanker:
    """Ranks the spans of one text by their probability within their window, and adds up equal answers.

    That of a span is the softmax of its start times that of its end, each over [CLS] and the window's tokens of the
    text. Of every window the best `2 top_k + 10` spans count, `top_k` if they are not aligned to words. Answers that
    are equal, but for upper and lower case, are one, at the place where the first was found; its score is their sum, in
    all windows, and so may pass 1. So far transformers 5.2.

    Of answers that overlap, the better stays. Where fewer than `top_k` are left, the best spans that neither overlap
    nor equal one of them follow, with their own probabilities, so that `top_k` come if there are as many.

    Args:
        text: The text.
        top_k: How many answers are wanted.
        max_answer_len: The longest answer, in tokens, before it is stretched to whole words.
        align_to_words: Whether an answer that begins or ends inside a word is stretched to the whole word.
        handle_impossible_answer: Whether the answer may be that there is none: the probability of [CLS], in the window
            that is least sure of it.

    Attributes:
        null: See `Ranking`; here a log of a probability.

    Raises:
        ValueError: `top_k` or `max_answer_len` is below 1.
    """

    def __init__(
        self,
        text: str,
        *,
        top_k: int,
        max_answer_len: int,
        align_to_words: bool = True,
        handle_impossible_answer: bool = False,
    ) -> None:
        self.null = math.inf
        self._text = text
        self._top_k = top_k
        self._longest = max_answer_len
        self._align = align_to_words
        self._each = 2 * top_k + _SPARE if align_to_words else top_k
        self._may_be_none = handle_impossible_answer
        self._found: list[_Found] = []
        # What fills up the answers.
        self._pool = SpanPool(top_k=top_k, max_answer_len=max_answer_len, align_to_words=align_to_words)

    def add(self, window: Window, start: npt.NDArray[np.float32], end: npt.NDArray[np.float32]) -> None:
        """Add the next window of the text: see `Ranking.add`."""
        start, end = _log_softmax(window, start), _log_softmax(window, end)
        self.null = min(self.null, float(start[0]) + float(end[0]))
        spans = span_logits(*text_logits(window, start, end, align_to_words=self._align), self._longest)
        self._found.append(self._best(window, spans.ravel()))
        self._pool.add(window, spans)

    def _best(self, window: Window, logit: npt.NDArray[np.float32]) -> _Found:
        """The best spans of a window, by their logits."""
        best = np.argpartition(-logit, min(self._each, len(logit)) - 1)[: self._each]
        best = best[logit[best] > -np.inf]
        best = best[np.argsort(-logit[best], kind="stable")]
        first, extra = np.divmod(best, self._longest)
        text = window.text
        begins, ends = (text.word_start, text.word_end) if self._align else (text.start, text.end)
        return _Found(np.exp(logit[best].astype(np.float64)), begins[first], ends[first + extra])

    def ranked(self) -> list[Span]:
        """Return the best answers, best first, at most `top_k`; none if the text has no tokens."""
        answers = sorted(self._merged(), key=lambda answer: -answer.score)
        chosen = self._apart_from([], answers)
        if len(chosen) < self._top_k:
            chosen = self._apart_from(chosen, self._others())
        if self._may_be_none:  # surely so where there is nothing to read
            chosen.append(_span(0, 0, math.exp(self.null) if math.isfinite(self.null) else 1.0))
        return sorted(chosen, key=lambda answer: -answer.score)[: self._top_k]

    def _merged(self) -> Iterable[Span]:
        """The answers that the windows gave, equal ones as one."""
        answers: dict[str, Span] = {}
        for found in self._found:
            for score, begin, end in zip(found.score.tolist(), found.start.tolist(), found.end.tolist(), strict=True):
                key = self._text[begin:end].lower()
                same = answers.get(key)
                answers[key] = _span(begin, end, score) if same is None else _span(*same[:2], same.score + score)
        return answers.values()

    def _others(self) -> Iterator[Span]:
        """All spans, best first."""
        spans = self._pool.best()
        for i in np.argsort(-spans.logit, kind="stable"):
            yield _span(int(spans.start[i]), int(spans.end[i]), math.exp(spans.logit[i]))

    def _apart_from(self, chosen: list[Span], others: Iterable[Span]) -> list[Span]:
        """Choose, until there are `top_k`, the first spans that neither overlap nor equal one chosen before."""
        chosen = list(chosen)
        equal = {self._text[span.start : span.end].lower() for span in chosen}
        for span in others:
            if len(chosen) == self._top_k:
                break
            if any(span.start < other.end and other.start < span.end for other in chosen):
                continue
            key = self._text[span.start : span.end].lower()
            if key not in equal:
                equal.add(key)
                chosen.append(span)
        return chosen


def _span(begin: int, end: int, score: float) -> Span:
    return Span(begin, end, math.log(score) if score > 0 else -math.inf, score)


def _log_softmax(window: Window, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The log of each token's probability among [CLS] and the window's tokens of the text; elsewhere no meaning."""
    inside = np.append(logits[window.offset :][: len(window.text)], logits[0]).astype(np.float64)
    top = inside.max()
    total = top + np.log(np.exp(inside - top).sum())
    scaled: npt.NDArray[np.float32] = (logits - total).astype(np.float32)
    return scaled
