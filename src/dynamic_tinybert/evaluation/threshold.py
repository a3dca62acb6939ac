"""Fit the no-answer threshold: by how much the logit of no answer must exceed the best span's logit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.evaluation.observations import Observations
from dynamic_tinybert.model import CalibrationError

_RESAMPLES = 200


def fit_threshold(found: Observations, *, share: float = 0.5, seed: int = 0) -> float:
    """Fit the no-answer threshold: the mean of the best ones of 200 resamples (bagging; Breiman, 1996).

    F1 is flat around its maximum, so the best threshold of a single sample varies much; the mean varies less.
    Questions with an answer and questions without are resampled separately.

    Args:
        found: Answers to questions with and without an answer.
        share: The share of questions without an answer that the threshold is made for: it weights the observations.
        seed: The seed of the resamples.

    Raises:
        CalibrationError: As `best_threshold`.
    """
    best_threshold(found, share=share)  # raises the errors that concern the observations as a whole
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(found.answerable), np.flatnonzero(~found.answerable)]
    fitted = []
    for _ in range(_RESAMPLES):
        sample = found.at(np.concatenate([rng.choice(group, len(group)) for group in groups]))
        if np.isfinite(sample.margin).any():
            fitted.append(best_threshold(sample, share=share))
    return round(float(np.mean(fitted)), 4)


def rejecting_threshold(found: Observations, *, reject: float) -> float:
    """Find the lowest no-answer threshold that rejects at most a share of the questions that have an answer.

    Args:
        found: Answers to questions, some with an answer.
        reject: The share, in [0, 1).

    Raises:
        CalibrationError: No question has an answer, or the share is out of range.
    """
    if not 0 <= reject < 1:
        raise CalibrationError(f"the share of rejected questions must be at least 0 and below 1, not {reject}")
    differences = np.sort(-found.margin[found.answerable])
    if not len(differences) or not np.isfinite(differences[0]):
        raise CalibrationError("cannot fit a threshold: no question has an answer in a text with words")
    keep = len(differences) - int(reject * len(differences))
    return round(float(differences[np.isfinite(differences)][:keep][-1]) + 5e-5, 4)


def best_threshold(found: Observations, *, share: float = 0.5) -> float:
    """Find the no-answer threshold with the best F1 on some observations, by the rules of SQuAD 2.0.

    A question gets no answer if the logit of no answer minus the span's logit exceeds the threshold. The threshold is
    the midpoint between two neighbouring observations.

    Args:
        found: Answers to questions with and without an answer.
        share: The share of questions without an answer, which weights the observations.

    Raises:
        CalibrationError: All questions have an answer, or none has; no text has words; or the share is not between 0
            and 1.
    """
    has, weights = found.answerable, _weights(found, share)
    gains = np.where(has, weights * found.f1, -weights)
    there = np.isfinite(found.margin)  # texts without words get no answer at any threshold
    if not there.any():
        raise CalibrationError("cannot fit a threshold: none of the texts has words")
    differences, which = np.unique(-found.margin[there], return_inverse=True)
    # The gain if the questions up to each difference are answered; the first entry is the gain of answering nothing.
    gained = np.append(0.0, np.cumsum(np.bincount(which, gains[there])))
    best = int(gained.argmax())
    around = np.concatenate([[differences[0] - 2.0], differences, [differences[-1] + 2.0]])
    return round(float(around[best] + around[best + 1]) / 2, 4)


def threshold_figures(found: Observations, threshold: float, *, share: float = 0.5) -> dict[str, float]:
    """Measure a no-answer threshold.

    Returns:
        In percent: `exact_match` and `f1`, weighted as in `best_threshold`; `HasAns_f1` and `NoAns_f1`, over the
        questions with and without an answer. In [0, 1]: `auc`, how often a question with an answer has a greater
        margin than one without; it does not depend on the threshold.

    Raises:
        CalibrationError: As `best_threshold`.
    """
    has, weights = found.answerable, _weights(found, share)
    none = -found.margin > threshold

    def mean(points: npt.NDArray[np.float64]) -> float:
        return float(100 * (weights * np.where(has, points * ~none, none)).sum())

    return {
        "exact_match": mean(found.exact),
        "f1": mean(found.f1),
        "HasAns_f1": float(100 * (found.f1 * ~none)[has].mean()),
        "NoAns_f1": float(100 * none[~has].mean()),
        "auc": _auc(found.margin[has], found.margin[~has]),
    }


def _weights(found: Observations, share: float) -> npt.NDArray[np.float64]:
    """Return weights that sum to 1 and give questions without an answer their share."""
    if not 0 < share < 1:
        raise CalibrationError(f"the share of questions without an answer must be between 0 and 1, not {share}")
    with_answer = int(found.answerable.sum())
    if not 0 < with_answer < len(found):
        lacking = "with an answer" if not with_answer else "without one"
        raise CalibrationError(
            f"a no-answer threshold needs questions with and without an answer, and there are none {lacking}"
        )
    return np.where(found.answerable, (1 - share) / with_answer, share / (len(found) - with_answer))


def _auc(higher: npt.NDArray[np.float64], lower: npt.NDArray[np.float64]) -> float:
    """Return how often a value of `higher` exceeds one of `lower`; a tie counts half."""
    ordered = np.sort(lower)
    below, not_above = (np.searchsorted(ordered, higher, side=side) for side in ("left", "right"))
    return float((below + not_above).mean() / 2 / len(lower))
