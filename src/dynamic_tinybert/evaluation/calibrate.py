"""Fitting what tells a model's right answers from wrong ones: its calibration, and its no-answer thresholds.

Both are fitted on questions that the model was not trained on, half of them without an answer, and measured again on
others. Needs neither PyTorch nor any extra.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.model import Budget, Calibration, CalibrationError
from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.squad import Question, SquadFile, Version, score_question
from dynamic_tinybert.squad.unanswerable import KINDS, unanswerable

_BINS = 10
_RESAMPLES = 200
_COLUMNS = ("margin", "log_score", "exact", "f1", "answerable")  # of observations
_LEAST = 1e-12  # a score whose logarithm is taken


@dataclass(frozen=True, eq=False)
class Observations:
    """Answers of a model to questions, whether or not these have one: the best span of each.

    Attributes:
        margin: By how much its logit exceeds that of no answer, `[questions]`; minus infinity for a text without words.
        log_score: The natural logarithm of its score within its text.
        exact: 1 where it is right by exact match, 0 where it is not or the question has no answer.
        f1: Its F1, in [0, 1], likewise.
        answerable: Whether the question has an answer.
    """

    margin: npt.NDArray[np.float64]
    log_score: npt.NDArray[np.float64]
    exact: npt.NDArray[np.float64]
    f1: npt.NDArray[np.float64]
    answerable: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.margin)

    @property
    def rows(self) -> npt.NDArray[np.float64]:
        """What a calibration is fitted on: margin, `log_score` and `exact` of the spans there are, `[answers, 3]`."""
        rows = np.column_stack([self.margin, self.log_score, self.exact])
        return rows[np.isfinite(self.margin)]


def observe(
    qa: QuestionAnswerer,
    questions: Sequence[Question],
    *,
    budget: Budget = "full",
    version: Version = "2.0",
    progress: Callable[[int], None] | None = None,
) -> Observations:
    """Answer questions as if each had an answer, and keep what tells whether it has.

    Args:
        qa: The model.
        questions: The questions; `impossible` says which have no answer.
        budget: What may be spent.
        version: Of SQuAD, whose rules score.
        progress: Called with the questions answered so far.
    """
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of questions that are cut, and of tables that nobody measured
        answers = qa((q.question for q in questions), (q.context for q in questions), budget=budget)
        for question, answer in zip(questions, answers, strict=True):
            exact, f1 = (0.0, 0.0)
            if not question.impossible:
                exact, f1 = score_question(question, answer.text, version=version)
            margin = answer.logit - answer.no_answer_logit if answer.text else -math.inf
            rows.append((margin, math.log(max(answer.score, _LEAST)), exact, f1))
            if progress:
                progress(len(rows))
    table = np.array(rows, np.float64).reshape(-1, 4)
    answerable = np.array([not question.impossible for question in questions], bool)
    return Observations(table[:, 0], table[:, 1], table[:, 2], table[:, 3], answerable)


# Confidence.


def fit(rows: npt.NDArray[np.float64], *, ridge: float = 1e-3, steps: int = 100) -> Calibration:
    """Fit a logistic regression by Newton's method.

    Args:
        rows: See `Observations.rows`.
        ridge: How much large coefficients cost, so that data which can be told apart perfectly has a solution.
        steps: Steps at the most.

    Raises:
        CalibrationError: There are no rows.
    """
    if not len(rows):
        raise CalibrationError(
            "nothing can be calibrated: not one of the questions has an answer to tell right or wrong"
        )
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
        CalibrationError: There are no rows.
    """
    if not len(rows):
        raise CalibrationError("no calibration can be measured: not one of the questions has an answer")
    said = np.array([calibration.confidence(logit=m, null=0.0, score=math.exp(s)) for m, s, _ in rows])
    right = rows[:, 2]
    bins = np.minimum((said * _BINS).astype(int), _BINS - 1)
    error = sum(abs(said[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in set(bins.tolist()))
    return {"brier": float(((said - right) ** 2).mean()), "expected_error": float(error), "right": float(right.mean())}


def stored(calibration: Calibration, measured_on: str, figures: dict[str, float]) -> dict[str, Any]:
    """Return what goes into `length_configs.json` as `calibration`."""
    return {**asdict(calibration), "measured_on": measured_on, **{name: round(x, 4) for name, x in figures.items()}}


# Thresholds.


def fit_threshold(found: Observations, *, share: float = 0.5, seed: int = 0) -> float:
    """Fit the no-answer threshold: the mean of the best ones of 200 resamples (bagging; Breiman, 1996).

    F1 is flat around its best, and the best of a single sample lies anywhere there; the mean varies less. Questions
    with an answer and those without are resampled by themselves.

    Args:
        found: Answers to questions with and without an answer.
        share: Of the questions that it is for, the share that has no answer: the observations are weighted so.
        seed: Of the resamples.

    Raises:
        CalibrationError: As `best_threshold`.
    """
    best_threshold(found, share=share)  # what is wrong with all of them is said of all of them
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(found.answerable), np.flatnonzero(~found.answerable)]
    fitted = []
    for _ in range(_RESAMPLES):
        sample = _at(found, np.concatenate([rng.choice(group, len(group)) for group in groups]))
        if np.isfinite(sample.margin).any():
            fitted.append(best_threshold(sample, share=share))
    return round(float(np.mean(fitted)), 4)


def best_threshold(found: Observations, *, share: float = 0.5) -> float:
    """Find the no-answer threshold of the best F1 on some observations, by the rules of SQuAD 2.0.

    Where the logit of no answer less the span's exceeds it, there is none. It lies in the middle between two
    observations.

    Args:
        found: Answers to questions with and without an answer.
        share: The share of questions without an answer, by which the observations are weighted.

    Raises:
        CalibrationError: All questions have an answer, or none has; no text has words; or the share is not between 0
            and 1.
    """
    has, weights = found.answerable, _weights(found, share)
    gains = np.where(has, weights * found.f1, -weights)
    there = np.isfinite(found.margin)  # of other texts the answer is none at any threshold
    if not there.any():
        raise CalibrationError("no threshold can be fitted: not one text has words")
    differences, which = np.unique(-found.margin[there], return_inverse=True)
    # Gained if the questions up to each difference are answered; before the first, if none is.
    gained = np.append(0.0, np.cumsum(np.bincount(which, gains[there])))
    best = int(gained.argmax())
    around = np.concatenate([[differences[0] - 2.0], differences, [differences[-1] + 2.0]])
    return round(float(around[best] + around[best + 1]) / 2, 4)


def threshold_figures(found: Observations, threshold: float, *, share: float = 0.5) -> dict[str, float]:
    """What a threshold is worth, in percent.

    Returns:
        `exact_match` and `f1`, weighted as `best_threshold` does; `HasAns_f1` and `NoAns_f1`, over those that have an
        answer and those that have none; `auc`, how often a question with an answer has the greater margin than one
        without, which no threshold changes.

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
    """Weights of sum 1, that give those without an answer their share."""
    if not 0 < share < 1:
        raise CalibrationError(f"the share of questions without an answer is between 0 and 1, not {share}")
    with_answer = int(found.answerable.sum())
    if not 0 < with_answer < len(found):
        lacking = "with an answer" if not with_answer else "without one"
        raise CalibrationError(
            f"a no-answer threshold needs questions with an answer and without, and none is {lacking}"
        )
    return np.where(found.answerable, (1 - share) / with_answer, share / (len(found) - with_answer))


def _auc(higher: npt.NDArray[np.float64], lower: npt.NDArray[np.float64]) -> float:
    """How often one of the first is greater than one of the second, ties counted half."""
    ordered = np.sort(lower)
    below, not_above = (np.searchsorted(ordered, higher, side=side) for side in ("left", "right"))
    return float((below + not_above).mean() / 2 / len(lower))


# All of it, for a model.


@dataclass(frozen=True)
class Sample:
    """Questions to fit or to measure on.

    Attributes:
        name: Where they come from.
        answerable: Questions with an answer.
        hard: Questions without, for thresholds.
        easy: Questions without, for the confidence.
        made: Whether these were made, and not written by people.
    """

    name: str
    answerable: tuple[Question, ...]
    hard: tuple[Question, ...]
    easy: tuple[Question, ...]
    made: bool

    @property
    def description(self) -> str:
        """How many of what, for people and for `measured_on`."""
        what = "made" if self.made else "written"
        return f"{len(self.answerable):,} questions of {self.name} and {len(self.hard):,} {what} without an answer"


def draw(name: str, data: SquadFile, number: int, *, seed: int = 0) -> Sample:
    """Draw questions with and without an answer, always the same; fewer are among more.

    Those without are the file's own, if it has any, and serve for both; or else each question drawn is asked again. For
    thresholds half of them are `swapped`, as far as they can be, and the others asked of the `nearest` paragraph; for
    the confidence all are asked of any `other`, since what it tells apart is texts. See `squad.unanswerable`.

    Args:
        name: What to call them.
        data: A SQuAD file.
        number: How many with an answer, and how many without; all, if there are fewer.
        seed: Of the draw.

    Raises:
        CalibrationError: There are none with an answer, or none without.
    """

    def some(questions: Sequence[Question]) -> list[Question]:
        return random.Random(seed).sample(questions, len(questions))[:number]

    possible = some([question for question in data.questions if not question.impossible])
    written = some([question for question in data.questions if question.impossible])
    hard, easy = written, written
    if not written:
        other, nearest, swapped = (
            {made.id.removesuffix(f"-{kind}"): made for made in unanswerable(data.questions, kind, seed=seed)}
            for kind in KINDS
        )
        half = dict.fromkeys([question.id for question in possible if question.id in swapped][: number // 2])
        hard = [swapped[id_] for id_ in half]
        hard += [nearest[q.id] for q in possible if q.id in nearest and q.id not in half]
        easy = [other[question.id] for question in possible if question.id in other]
    if not possible:
        raise CalibrationError(f"{name}: no question has an answer")
    if not hard or not easy:
        raise CalibrationError(
            f"{name}: no question without an answer can be made, which takes articles of several paragraphs"
        )
    return Sample(name, tuple(possible), tuple(hard), tuple(easy), not written)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What was fitted, and what it is worth on the questions that confirm.

    Attributes:
        calibration: The confidence.
        quality: Its figures: see `quality`.
        quality_before: Those of the calibration that the model has had, or None.
        threshold: Of no answer.
        figures: Its figures: see `threshold_figures`.
        threshold_before: The one that the model has had, 0 if none.
        figures_before: Its figures.
        threshold_at_best: The one that would have been best on these very questions.
        figures_at_best: Its figures: an upper bound.
        share: Of questions without an answer, for which the threshold is.
        configuration: At which all of it was observed.
        fitted_on: On what.
        measured_on: What the figures are of.
    """

    calibration: Calibration
    quality: Mapping[str, float]
    quality_before: Mapping[str, float] | None
    threshold: float
    figures: Mapping[str, float]
    threshold_before: float
    figures_before: Mapping[str, float]
    threshold_at_best: float
    figures_at_best: Mapping[str, float]
    share: float
    configuration: str
    fitted_on: str
    measured_on: str

    @property
    def better(self) -> bool:
        """Whether the confidence is better than the one that the model has had: of a lesser Brier score."""
        return self.quality_before is None or self.quality["brier"] < self.quality_before["brier"]

    def to_dict(self) -> dict[str, Any]:
        """Return what `calibrate --json` prints."""
        return {
            "no_answer_threshold": self.threshold,
            "no_answer_share": self.share,
            "configuration": self.configuration,
            "fitted_on": self.fitted_on,
            "measured_on": self.measured_on,
            "figures": dict(self.figures),
            "threshold_before": self.threshold_before,
            "figures_before": dict(self.figures_before),
            "threshold_at_best": self.threshold_at_best,
            "figures_at_best": dict(self.figures_at_best),
            "calibration": asdict(self.calibration),
            "quality": dict(self.quality),
            "quality_before": None if self.quality_before is None else dict(self.quality_before),
        }

    def store(self, before: Mapping[str, Any] | None, *, confidence: bool = True) -> dict[str, Any]:
        """Return what `length_configs.json` holds with it.

        Args:
            before: What it has held, or None.
            confidence: Whether the calibration goes in; or else that of `before` stays.
        """
        measured_on = f"fitted on {self.fitted_on}; figures of {self.measured_on}"
        table = dict(before or {})
        if confidence:
            table["calibration"] = stored(self.calibration, measured_on, dict(self.quality))
        table["no_answer"] = {
            "threshold": self.threshold,
            "measured_on": measured_on,
            "configuration": self.configuration,
            "share": self.share,
            **{name: round(x, 4 if name == "auc" else 2) for name, x in self.figures.items()},
        }
        return table


def calibrate(
    qa: QuestionAnswerer,
    select: Sample,
    confirm: Sample,
    *,
    budget: Budget = "full",
    share: float = 0.5,
    progress: Callable[[int, int], None] | None = None,
) -> Fitted:
    """Fit a model's confidence and its no-answer threshold, and measure both on other questions.

    Args:
        qa: The model.
        select: What they are fitted on.
        confirm: What they are measured on.
        budget: At which the model answers.
        share: Of the questions that the threshold is for, the share that has no answer.
        progress: Called with the questions answered and how many there are.

    Raises:
        CalibrationError: Nothing can be fitted.
        BudgetError: The budget makes no sense.
    """
    choice = qa.table.select(qa.shape, budget)
    samples = (select, confirm)
    parts = [part for sample in samples for part in (sample.answerable, sample.hard, sample.easy)]
    done, total = 0, sum(len(sample.answerable) + len(sample.hard) + len(sample.easy) for sample in samples)
    found: list[Observations] = []
    for part in parts:
        move = None if progress is None else partial(_move, progress, done, total)
        found.append(observe(qa, part, budget=budget, progress=move))
        done += len(part)
    fitting, holding = (_joined(found[i], found[i + 1]) for i in (0, 3))
    rows, held = (np.concatenate([found[i].rows, found[i + 2].rows]) for i in (0, 3))
    calibration, threshold = fit(rows), fit_threshold(fitting, share=share)
    before, best = qa.table.threshold(), best_threshold(holding, share=share)
    return Fitted(
        calibration=calibration,
        quality=quality(calibration, held),
        quality_before=None if qa.calibration is None else quality(qa.calibration, held),
        threshold=threshold,
        figures=threshold_figures(holding, threshold, share=share),
        threshold_before=before,
        figures_before=threshold_figures(holding, before, share=share),
        threshold_at_best=best,
        figures_at_best=threshold_figures(holding, best, share=share),
        share=share,
        configuration=choice.name,
        fitted_on=select.description,
        measured_on=confirm.description,
    )


def _move(progress: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _at(found: Observations, which: npt.NDArray[np.int64]) -> Observations:
    return Observations(*(getattr(found, name)[which] for name in _COLUMNS))


def _joined(*parts: Observations) -> Observations:
    return Observations(*(np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS))
