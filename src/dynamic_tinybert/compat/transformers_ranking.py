"""Turn logits into answers by the rules of transformers 5.2's question-answering pipeline."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.inference import Span, SpanPool, Window, span_logits, text_logits, whole_characters

_SPARE = 10  # candidates of a window in addition to twice `top_k`: some become equal when aligned to words


class _Found(NamedTuple):
    """Candidates of a window, the best first: probabilities, and where they start and end in the text."""

    score: npt.NDArray[np.float64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]


class WindowRanker:
    """Rank the spans of one text by their probability in their window, and add up equal answers.

    A span's probability is the softmax of its start times the softmax of its end, each over [CLS] and the text's tokens
    in the window. The best `2 top_k + 10` spans of each window count, or `top_k` if they are not aligned to words.
    Answers that differ only in upper and lower case are one answer. Its score is the sum of theirs over all windows, so
    it may be above 1. These are the rules of transformers 5.2, but for one: the answer is at the place of the best of
    them, not of the first, which may be a mention of the same words that answers nothing.

    If answers overlap, the better one stays. If fewer than `top_k` are left, the best other spans follow with their own
    probabilities. They do not overlap or equal an answer before them. So there are `top_k` answers if the text has so
    many.

    Args:
        text: The text.
        top_k: How many answers are wanted.
        max_answer_len: The longest answer, in tokens, before it is stretched to whole words.
        align_to_words: Whether an answer that begins or ends inside a word is stretched to the whole word.
        handle_impossible_answer: Whether "no answer" is a candidate. Its score is the probability of [CLS], the minimum
            over the windows.

    Attributes:
        null: See `Ranking`; here it is the log of a probability.

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
        # The spans that follow if there are too few answers.
        self._pool = SpanPool(top_k=top_k, max_answer_len=max_answer_len, align_to_words=align_to_words)

    def add(self, window: Window, start: npt.NDArray[np.float32], end: npt.NDArray[np.float32]) -> None:
        """Add the next window of the text: see `Ranking.add`."""
        start, end = _log_softmax(window, start), _log_softmax(window, end)
        self.null = min(self.null, float(start[0]) + float(end[0]))
        spans = span_logits(*text_logits(window, start, end, align_to_words=self._align), self._longest)
        self._found.append(self._best(window, spans.ravel()))
        self._pool.add(window, spans)

    def _best(self, window: Window, logit: npt.NDArray[np.float32]) -> _Found:
        best = np.argpartition(-logit, min(self._each, len(logit)) - 1)[: self._each]
        best = best[logit[best] > -np.inf]
        best = best[np.argsort(-logit[best], kind="stable")]
        first, extra = np.divmod(best, self._longest)
        text = window.text
        begins, ends = (text.word_start, text.word_end) if self._align else (text.start, text.end)
        return _Found(np.exp(logit[best].astype(np.float64)), begins[first], ends[first + extra])

    def ranked(self) -> list[Span]:
        """Return the best answers, best first, at most `top_k`; without tokens only "no answer", if it is allowed."""
        answers = sorted(self._merged(), key=lambda answer: -answer.score)
        chosen = self._apart_from([], answers)
        if len(chosen) < self._top_k:
            chosen = self._apart_from(chosen, self._others())
        if self._may_be_none:  # certain if the text has no tokens
            chosen.append(_span(0, 0, math.exp(self.null) if math.isfinite(self.null) else 1.0))
        return sorted(chosen, key=lambda answer: -answer.score)[: self._top_k]

    def _merged(self) -> Iterable[Span]:
        """Return the answers of all windows, with equal ones merged."""
        answers: dict[str, Span] = {}
        best: dict[str, float] = {}
        for found in self._found:
            for score, begin, end in zip(found.score.tolist(), found.start.tolist(), found.end.tolist(), strict=True):
                begin, end = self._whole(begin, end)
                key = self._text[begin:end].lower()
                total = score + (answers[key].score if key in answers else 0.0)
                if score > best.get(key, -math.inf):
                    best[key] = score
                else:
                    begin, end = answers[key][:2]
                answers[key] = _span(begin, end, total)
        return answers.values()

    def _others(self) -> Iterator[Span]:
        """Yield all spans, best first."""
        spans = self._pool.best()
        for i in np.argsort(-spans.value, kind="stable"):
            yield _span(*self._whole(int(spans.start[i]), int(spans.end[i])), math.exp(spans.value[i]))

    def _whole(self, start: int, end: int) -> tuple[int, int]:
        """Stretch a span of tokens to whole characters; words are whole already."""
        return (start, end) if self._align else whole_characters(self._text, start, end)

    def _apart_from(self, chosen: list[Span], others: Iterable[Span]) -> list[Span]:
        """Add spans to `chosen` up to `top_k`. Skip spans that overlap or equal one chosen before."""
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
    """Return each token's log probability among [CLS] and the text's tokens; the values of others have no meaning."""
    inside = np.append(logits[window.offset :][: len(window.text)], logits[0]).astype(np.float64)
    top = inside.max()
    total = top + np.log(np.exp(inside - top).sum())
    scaled: npt.NDArray[np.float32] = (logits - total).astype(np.float32)
    return scaled
