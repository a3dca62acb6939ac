"""Rank the spans of all windows of a text by their logits."""

from __future__ import annotations

import math
import numbers
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.inference.characters import whole_characters
from dynamic_tinybert.inference.ranking import Span
from dynamic_tinybert.inference.tidy import is_sensible, line_ends, sensible, stretched, whole_pairs, words_of_unspaced
from dynamic_tinybert.inference.windows import Window
from dynamic_tinybert.model import Calibration

_POOL = 1 << 18  # candidates held before those that cannot win are dropped


class Spans(NamedTuple):
    """Spans as arrays of equal length.

    Attributes:
        value: What they are ranked by.
        base: What was subtracted from their logits.
        start: Where they start, in characters of the text.
        end: Where they end.
    """

    value: npt.NDArray[np.float64]
    base: npt.NDArray[np.float64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]

    def at(self, which: npt.NDArray[np.int64] | list[int]) -> Spans:
        """Return the spans with these indices."""
        return Spans(self.value[which], self.base[which], self.start[which], self.end[which])


class SpanPool:
    """The candidate spans of one text, window after window.

    Memory does not grow with the text. It grows with `top_k` times `max_answer_len` squared.

    A candidate is a span of at most `max_answer_len` tokens inside a window. Where two windows overlap, a span in both
    is one candidate, with the greater of its values.

    Args:
        top_k: How many spans without overlap are wanted.
        max_answer_len: The longest span, in tokens, before it is stretched to whole words.
        align_to_words: Whether a span that begins or ends inside a word is stretched to the whole word.

    Attributes:
        total: The log of the sum of exp(value) over the candidates so far.

    Raises:
        ValueError: `top_k` or `max_answer_len` is below 1.
    """

    def __init__(self, *, top_k: int, max_answer_len: int, align_to_words: bool) -> None:
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, not {top_k}")
        if max_answer_len < 1:
            raise ValueError(f"max_answer_len must be at least 1 token, not {max_answer_len}")
        self.total = -np.inf
        self._align = align_to_words
        # At most (2m - 1) m different spans overlap a span of m words, including itself.
        self._enough = top_k * (2 * max_answer_len - 1) * max_answer_len
        self._shared = np.empty((2, 0, max_answer_len))  # values, bases of those also in the next window
        self._parts: list[Spans] = []
        self._count = 0

    def add(
        self,
        window: Window,
        logits: npt.NDArray[np.float32],
        base: float = 0.0,
        *,
        wanted: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Add the spans of the next window of the text.

        Args:
            window: The window; windows come in the order of the text.
            logits: The result of `span_logits` for it.
            base: The value of a span is its logit minus this.
            wanted: Which spans can be answers, of the shape of `logits`; None means all. The others count in `total`.
        """
        values = logits.astype(np.float64) - base  # in float64, so that the order in a window stays that of logits
        found = np.stack([values, np.full_like(values, base)])
        overlap = self._shared.shape[1]
        before = self._shared[0] > found[0, :overlap]
        found[:, :overlap] = np.where(before, self._shared, found[:, :overlap])
        self._shared = found[:, window.settled :]
        self._settle(window, found[0, : window.settled], found[1, : window.settled], wanted)

    def _settle(
        self,
        window: Window,
        values: npt.NDArray[np.float64],
        bases: npt.NDArray[np.float64],
        wanted: npt.NDArray[np.bool_] | None,
    ) -> None:
        first, extra = np.nonzero(values > -np.inf)
        if not len(first):
            return
        value, base = values[first, extra], bases[first, extra]
        top = float(value.max())
        here = top + float(np.log(np.exp(value - top).sum()))
        self.total = float(np.logaddexp(self.total, here))
        if wanted is not None:
            kept = wanted[first, extra]
            first, extra, value, base = first[kept], extra[kept], value[kept], base[kept]
        text = window.text
        begins, ends = (text.word_start, text.word_end) if self._align else (text.start, text.end)
        self._parts.append(Spans(value, base, begins[first], ends[first + extra]))
        self._count += len(value)
        if self._count > max(_POOL, 2 * self._enough):
            self._parts = [self.best()]
            self._count = len(self._parts[0].value)

    def best(self) -> Spans:
        """Return the candidates that can still be among the best `top_k` without overlap, in the order of the text.

        The best `_enough` different ones are sufficient. Several spans can become equal when they are aligned to words.
        """
        if not self._parts:
            none, nowhere = np.empty(0), np.empty(0, np.int64)
            return Spans(none, none, nowhere, nowhere)
        spans = Spans(*map(np.concatenate, zip(*self._parts, strict=True)))
        if len(spans.value) <= max(self._enough, _POOL // 2):
            return spans
        order = np.lexsort((-spans.value, spans.end, spans.start))
        begin, end = spans.start[order], spans.end[order]
        new = np.append(True, (np.diff(begin) != 0) | (np.diff(end) != 0))
        order = order[new]
        if len(order) > self._enough:
            order = order[np.argpartition(-spans.value[order], self._enough)[: self._enough]]
        order.sort()
        return spans.at(order)


class SpanRanker:
    """Rank the spans of one text. If candidates overlap, the better one stays.

    The value of a span is its logit minus the logit of no answer in the same window. Each window's logits have a level
    of their own, and this difference makes spans of different windows comparable. In one window it changes no order.

    Args:
        text: The text; without it, answers are only stretched to whole words.
        top_k: How many answers are wanted. Fewer are found if too few spans do not overlap a better one.
        max_answer_len: The longest answer, in tokens, before it is stretched to whole words.
        align_to_words: Whether answers are what a person would underline: stretched to whole words, numbers, addresses
            and names; with brackets and quotation marks in pairs; not across the end of a paragraph, an item or a cell;
            not only punctuation or a stop word, unless the text has nothing else.
        score_threshold: Leave out answers with less than this share of the best one's score, in [0, 1].
        handle_impossible_answer: Whether "no answer" is a candidate. Its logit is start plus end logit of [CLS], as in
            the SQuAD 2.0 baselines.
        no_answer_threshold: By how much the logit of no answer must exceed that of the best span, in the window of this
            span, to rank before it. The value of no answer is minus the threshold.
        calibration: Turns logits into confidences, if the model has it.

    Attributes:
        null: See `Ranking`.

    Raises:
        ValueError: `top_k` or `max_answer_len` is below 1, or `score_threshold` is not in [0, 1].
    """

    def __init__(
        self,
        text: str | None = None,
        *,
        top_k: int,
        max_answer_len: int,
        align_to_words: bool = True,
        score_threshold: float = 0.0,
        handle_impossible_answer: bool = False,
        no_answer_threshold: float = 0.0,
        calibration: Calibration | None = None,
    ) -> None:
        number = isinstance(score_threshold, numbers.Real) and not isinstance(score_threshold, bool)
        if not number or not 0 <= score_threshold <= 1:
            raise ValueError(f"score_threshold must be from 0 to 1, not {score_threshold!r}")
        self.null = math.inf
        self._lowest = math.log(score_threshold) if score_threshold else -math.inf  # relative to the best value
        self._text = text or ""
        self._tidy = align_to_words and text is not None
        self._top_k = top_k
        self._longest = max_answer_len
        self._align = align_to_words
        self._impossible = handle_impossible_answer
        self._threshold = no_answer_threshold
        self._calibration = calibration
        self._looks = top_k > 1  # whether to look at all spans of a window, not only at its best one
        pool = partial(SpanPool, top_k=top_k, max_answer_len=max_answer_len, align_to_words=align_to_words)
        self._pool = pool()
        self._rest = pool() if self._tidy else None  # all spans, until a window has a sensible one

    def add(self, window: Window, start: npt.NDArray[np.float32], end: npt.NDArray[np.float32]) -> None:
        """Add the next window of the text: see `Ranking.add`."""
        null = float(start[0]) + float(end[0])
        self.null = min(self.null, null)
        logits = span_logits(*text_logits(window, start, end, align_to_words=self._align), self._longest)
        wanted = None
        if self._tidy:
            # Once one was looked at, all are: what is not sensible there may be in the next window, too.
            self._looks = self._looks or not self._begins_well(window, logits)
            if self._looks:
                wanted = sensible(self._text, window.text, self._longest)
            window = replace(window, text=words_of_unspaced(self._text, window.text))
        if self._rest is not None:
            possible = logits > -np.inf
            if np.any(possible if wanted is None else possible & wanted):
                self._rest = None
            else:
                self._rest.add(window, logits, null)
        self._pool.add(window, logits, null, wanted=wanted)

    def ranked(self) -> list[Span]:
        """Return the best answers, best first, at most `top_k`; an empty list if the text has no tokens."""
        found = self._chosen((self._rest or self._pool).best())
        total = self._pool.total
        if self._impossible and math.isfinite(self.null):
            total = float(np.logaddexp(total, -self._threshold))
            found.append((-self._threshold, self.null, 0, 0))  # overlaps nothing; among equals it comes last
            found = sorted(found, key=lambda x: -x[0])[: self._top_k]
        return [
            Span(
                start=begin,
                end=end,
                logit=value + null if end > begin else null,
                score=float(np.exp(value - total)),
                null=null,
                confidence=self._confidence(begin, end, value),
            )
            for value, null, begin, end in found
        ]

    def _begins_well(self, window: Window, logits: npt.NDArray[np.float32]) -> bool:
        """Return whether the best span of a window is sensible; then no other needs to be looked at."""
        if not logits.size:
            return True
        first, extra = divmod(int(logits.argmax()), self._longest)
        if logits[first, extra] == -np.inf:
            return True
        begin, end = int(window.text.word_start[first]), int(window.text.word_end[first + extra])
        return next(line_ends(self._text, begin, end), None) is None and is_sensible(self._text, begin, end)

    def _chosen(self, spans: Spans) -> list[tuple[float, float, int, int]]:
        """Choose the best spans that do not overlap: value, base, start and end of each, best first."""
        left = spans.value.copy()
        chosen: list[tuple[float, float, int, int]] = []
        while len(chosen) < self._top_k and len(left):
            best = int(left.argmax())
            value, begin, end = float(left[best]), int(spans.start[best]), int(spans.end[best])
            if value == -np.inf or (chosen and value < chosen[0][0] + self._lowest):
                break
            start, stop = self._finished(begin, end)
            if not any(start < other[3] and other[2] < stop for other in chosen):
                begin, end = start, stop
            chosen.append((value, float(spans.base[best]), begin, end))
            left[(spans.start < end) & (spans.end > begin)] = -np.inf
            left[best] = -np.inf
        return chosen

    def _finished(self, start: int, end: int) -> tuple[int, int]:
        """Return a span with whole characters and, if it is aligned, whole numbers, names and pairs of brackets."""
        if not self._text:
            return start, end
        if self._tidy:
            start, end = stretched(self._text, start, end)
            start, end = whole_pairs(self._text, start, end)
        return whole_characters(self._text, start, end)

    def _confidence(self, begin: int, end: int, value: float) -> float | None:
        if self._calibration is None:
            return None
        if begin == end:
            return 0.0
        alone = float(np.exp(value - self._pool.total))  # the score among the spans, without "no answer"
        return self._calibration.confidence(logit=value, null=0.0, score=alone)


def text_logits(
    window: Window, start: npt.NDArray[np.float32], end: npt.NDArray[np.float32], *, align_to_words: bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the start and end logits of the text's tokens in a window, `[tokens of the text]` each.

    An answer cannot start or end with a blank word (only white space): its logits are minus infinity. An answer that is
    not stretched to words cannot end with a blank token either. It can start with one, because words of RoBERTa and
    ALBERT may begin with a blank token. The text of the answer still begins without a space.
    """
    inside = slice(window.offset, window.offset + len(window.text))
    blank = window.text.start == window.text.end
    if not blank.any():
        return start[inside], end[inside]
    text = window.text
    words = np.cumsum((np.diff(text.word_start, prepend=-1) != 0) | (np.diff(text.word_end, prepend=-1) != 0))
    void = ~np.isin(words, words[~blank])
    no = np.float32(-np.inf)
    return np.where(void, no, start[inside]), np.where(void if align_to_words else blank, no, end[inside])


def span_logits(start: npt.NDArray[np.float32], end: npt.NDArray[np.float32], longest: int) -> npt.NDArray[np.float32]:
    """Return start logit plus end logit of every span; minus infinity for a span beyond the end of the window.

    Args:
        start: Start logits of the text's tokens in a window, `[tokens]`.
        end: Their end logits, `[tokens]`.
        longest: The longest span, in tokens.

    Returns:
        `[tokens, longest]`: the indices are the span's first token and its length minus one.
    """
    n = len(start)
    band = np.full((n, longest), -np.inf, np.float32)
    for extra in range(min(longest, n)):
        band[: n - extra, extra] = start[: n - extra] + end[extra:]
    return band
