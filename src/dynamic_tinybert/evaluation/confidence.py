"""Fit the confidence, a logistic regression on a model's answers, and measure how well it holds."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.model import Calibration, CalibrationError

_BINS = 10


def fit_calibration(rows: npt.NDArray[np.float64], *, ridge: float = 1e-3, steps: int = 100) -> Calibration:
    """Fit a logistic regression by Newton's method.

    Args:
        rows: See `Observations.rows`.
        ridge: The L2 penalty on the coefficients. Without it, perfectly separable data have no solution.
        steps: The greatest number of steps.

    Raises:
        CalibrationError: There are no rows.
    """
    if not len(rows):
        raise CalibrationError("cannot calibrate: none of the questions has an answer to compare with")
    x = np.column_stack([rows[:, :2], np.ones(len(rows))])
    scale = np.maximum(np.abs(x).max(0), 1e-3)  # so a column of values near 0 gets no large coefficient
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


def calibration_figures(calibration: Calibration, rows: npt.NDArray[np.float64]) -> dict[str, float]:
    """Measure how well a calibration's probabilities hold.

    Returns:
        `brier`: the mean squared error; `expected_error`: the mean distance between confidence and accuracy over ten
        equal ranges of confidence; `right`: the share of right answers.

    Raises:
        CalibrationError: There are no rows.
    """
    if not len(rows):
        raise CalibrationError("cannot measure a calibration: none of the questions has an answer")
    said = np.array([calibration.confidence(logit=m, null=0.0, score=math.exp(s)) for m, s, _ in rows])
    right = rows[:, 2]
    bins = np.minimum((said * _BINS).astype(int), _BINS - 1)
    error = sum(abs(said[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in set(bins.tolist()))
    return {"brier": float(((said - right) ** 2).mean()), "expected_error": float(error), "right": float(right.mean())}


def calibration_entry(calibration: Calibration, measured_on: str, figures: dict[str, float]) -> dict[str, Any]:
    """Return what goes into `length_configs.json` as `calibration`."""
    return {**asdict(calibration), "measured_on": measured_on, **{name: round(x, 4) for name, x in figures.items()}}
