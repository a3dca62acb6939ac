"""Fitting a model's calibration."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.calibration import Calibration
from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.squad import Question, exact_match
from dynamic_tinybert.train.errors import TrainingError

_BINS = 10


def examples(qa: QuestionAnswerer, questions: Sequence[tuple[Question, str, bool]]) -> npt.NDArray[np.float64]:
    """Answer questions, and keep what tells right answers from wrong ones.

    Args:
        qa: The model.
        questions: Questions, the text to ask them of, and whether it answers them.

    Returns:
        `[answers, 3]`: by how much the logit exceeds that of no answer; the logarithm of the score; 1 where the answer
        is right by exact match, and 0 where it is not or there is none. Texts without words give no row.
    """
    seen = _Seen()
    numbers = iter(seen.numbers)
    asker = QuestionAnswerer.from_reader(qa.reader, qa.shape, qa.table, name=qa.name, calibration=seen)
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of questions that are cut
        answers = asker([question.question for question, _, _ in questions], [text for _, text, _ in questions])
    for answer, (question, _, possible) in zip(answers, questions, strict=True):
        if answer.text:
            margin, score = next(numbers)
            right = possible and any(exact_match(answer.text, truth) for truth in question.answers)
            rows.append((margin, math.log(max(score, 1e-12)), float(right)))
    return np.array(rows, np.float64).reshape(-1, 3)


class _Seen(Calibration):
    """Stands where a calibration will, and keeps what it would be given."""

    def __init__(self) -> None:
        super().__init__(margin=0.0, log_score=0.0, bias=0.0)
        object.__setattr__(self, "numbers", [])

    numbers: list[tuple[float, float]]

    def confidence(self, *, logit: float, null: float, score: float) -> float:
        self.numbers.append((logit - null, score))
        return 0.0


def fit(rows: npt.NDArray[np.float64], *, ridge: float = 1e-3, steps: int = 100) -> Calibration:
    """Fit a logistic regression by Newton's method.

    Args:
        rows: See `examples`.
        ridge: How much large coefficients cost, so that data which can be told apart perfectly has a solution.
        steps: Steps at the most.

    Raises:
        TrainingError: There are no rows.
    """
    if not len(rows):
        raise TrainingError("nothing can be calibrated: not one of the questions has an answer to tell right or wrong")
    x = np.column_stack([rows[:, :2], np.ones(len(rows))])
    scale = np.maximum(np.abs(x).max(0), 1e-3)  # what hardly differs from 0 gets no great coefficient
    x, y = x / scale, rows[:, 2]
    w = np.zeros(3)

    def cost(at: npt.NDArray[np.float64]) -> float:
        z = x @ at
        return float((np.logaddexp(0, z) - y * z).sum() + ridge * (at**2).sum() / 2)

    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -500, 500)))
        slope = x.T @ (p - y) + ridge * w
        step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + ridge * np.eye(3), slope)
        size = 1.0
        while cost(w - size * step) > cost(w) and size > 1e-6:
            size /= 2
        w = w - size * step
        if np.abs(step).max() < 1e-9:
            break
    margin, log_score, bias = (w / scale).tolist()
    return Calibration(margin=round(margin, 6), log_score=round(log_score, 6), bias=round(bias, 6))


def quality(calibration: Calibration, rows: npt.NDArray[np.float64]) -> dict[str, float]:
    """How well a calibration's probabilities hold.

    Returns:
        `brier`: the mean squared error; `expected_error`: the mean distance between confidence and accuracy over ten
        equal ranges of confidence; `right`: the share of right answers.

    Raises:
        TrainingError: There are no rows.
    """
    if not len(rows):
        raise TrainingError("no calibration can be measured: not one of the questions has an answer")
    said = np.array([calibration.confidence(logit=m, null=0.0, score=math.exp(s)) for m, s, _ in rows])
    right = rows[:, 2]
    bins = np.minimum((said * _BINS).astype(int), _BINS - 1)
    error = sum(abs(said[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in set(bins.tolist()))
    return {"brier": float(((said - right) ** 2).mean()), "expected_error": float(error), "right": float(right.mean())}


def stored(calibration: Calibration, measured_on: str, figures: dict[str, float]) -> dict[str, Any]:
    """Return what goes into `length_configs.json` as `calibration`."""
    return {**asdict(calibration), "measured_on": measured_on, **{name: round(x, 4) for name, x in figures.items()}}
