"""Turn logits into candidates and answers by the rules of haystack's extractive reader."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.answer import Answer
from dynamic_tinybert.errors import whole_number
from dynamic_tinybert.inference import Span, Window, whole_characters
from dynamic_tinybert.model import logistic

if TYPE_CHECKING:
    from haystack import Document


class CandidateRanker:
    """Select the best spans of every window of one text, and score each separately.

    The score is the logistic function of the span's logit times a factor. Scores are not normalized over a window or a
    text, so scores of different texts can be compared. Spans can be as long as a window, overlap, and begin or end
    inside a word, but not inside a character and its marks, nor with white space. Where two windows overlap, a span in
    both is one candidate, with the greater of its logits.

    Args:
        text: The text.
        answers_per_seq: How many spans of a window are candidates.
        calibration_factor: The factor of the logit.

    Attributes:
        null: See `Ranking`.

    Raises:
        ValueError: `answers_per_seq` is below 1.
    """

    def __init__(self, text: str, *, answers_per_seq: int, calibration_factor: float) -> None:
        self.null = math.inf
        self._each = whole_number(answers_per_seq, "answers_per_seq", least=1)
        self._factor = calibration_factor
        self._text = text
        self._logits: dict[tuple[int, int], float] = {}

    def add(self, window: Window, start: npt.NDArray[np.float32], end: npt.NDArray[np.float32]) -> None:
        """Add the next window of the text: see `Ranking.add`."""
        self.null = min(self.null, float(start[0]) + float(end[0]))
        text = window.text
        inside = slice(window.offset, window.offset + len(text))
        for first, last, logit in best_spans(start[inside], end[inside], self._each):
            place = self._trimmed(*whole_characters(self._text, int(text.start[first]), int(text.end[last])))
            if place[0] < place[1]:  # some tokens have no characters
                self._logits[place] = max(logit, self._logits.get(place, -math.inf))

    def _trimmed(self, start: int, end: int) -> tuple[int, int]:
        part = self._text[start:end]
        return end - len(part.lstrip()), start + len(part.rstrip())

    def ranked(self) -> list[Span]:
        """Return the candidates of all windows, best first; an empty list if the text has no tokens."""
        found = sorted(self._logits.items(), key=lambda item: -item[1])
        return [Span(begin, end, logit, logistic(self._factor * logit)) for (begin, end), logit in found]


def best_spans(
    start: npt.NDArray[np.float32], end: npt.NDArray[np.float32], count: int
) -> list[tuple[int, int, float]]:
    """Return the spans with the greatest logits: first token, last token, start logit plus end logit; best first.

    Args:
        start: Start logits of the text's tokens in a window, `[tokens]`.
        end: Their end logits, `[tokens]`.
        count: How many spans to return; fewer come only if there are no more.
    """
    # The logit of the best span from each first token. The `count` best spans begin with the `count` best such tokens.
    reach = start + np.maximum.accumulate(end[::-1])[::-1]
    first = np.sort(np.argpartition(-reach, min(count, len(reach)) - 1)[:count])
    logit = start[first, None] + end
    logit[first[:, None] > np.arange(len(end))] = -np.inf
    flat = logit.ravel()
    best = np.sort(np.argpartition(-flat, min(count, len(flat)) - 1)[:count])
    best = best[np.argsort(-flat[best], kind="stable")]
    rows, last = np.divmod(best[flat[best] > -np.inf], len(end))
    return list(zip(first[rows].tolist(), last.tolist(), logit[rows, last].tolist(), strict=True))


class Candidate(NamedTuple):
    """An answer and its document."""

    answer: Answer
    document: Document


def apart(candidates: Sequence[Candidate], top_k: int, overlap_threshold: float | None) -> list[Candidate]:
    """Choose the best candidates, best first. Two of a document may not share too much of the shorter one."""
    chosen: list[Candidate] = []
    places: dict[str, list[Answer]] = {}
    for candidate in candidates:
        if len(chosen) == top_k:
            break
        answer, others = candidate.answer, places.setdefault(candidate.document.id, [])
        if overlap_threshold is None or not any(_shared(answer, other) > overlap_threshold for other in others):
            chosen.append(candidate)
            others.append(answer)
    return chosen


def _shared(one: Answer, other: Answer) -> float:
    """Return the overlap of two answers from one text, divided by the length of the shorter one."""
    common = min(one.end, other.end) - max(one.start, other.start)
    return max(0, common) / min(one.end - one.start, other.end - other.start)
