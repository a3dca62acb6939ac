"""Fit what tells a model's right answers from wrong ones: its calibration and its no-answer threshold.

Both are fitted on questions that the model was not trained on, with and without an answer, and measured on other
questions. This needs neither PyTorch nor an extra.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from dynamic_tinybert.evaluation.confidence import calibration_entry, calibration_figures, fit_calibration
from dynamic_tinybert.evaluation.observations import Observations, observe
from dynamic_tinybert.evaluation.threshold import best_threshold, fit_threshold, rejecting_threshold, threshold_figures
from dynamic_tinybert.model import Budget, Calibration, CalibrationError
from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.squad import KINDS, Question, SquadFile, make_unanswerable


@dataclass(frozen=True)
class Sample:
    """Questions to fit or to measure on.

    Attributes:
        name: Where the questions come from.
        answerable: Questions with an answer.
        hard: Questions without an answer, to fit the threshold.
        easy: Questions without an answer, to fit the confidence.
        made: Whether a program made the questions without an answer; otherwise people wrote them.
    """

    name: str
    answerable: tuple[Question, ...]
    hard: tuple[Question, ...]
    easy: tuple[Question, ...]
    made: bool

    @property
    def description(self) -> str:
        """How many questions of which kind there are, for people and for `measured_on`."""
        what = "made" if self.made else "written"
        return f"{len(self.answerable):,} questions of {self.name} and {len(self.hard):,} {what} without an answer"


def draw_sample(name: str, data: SquadFile, number: int, *, seed: int = 0) -> Sample:
    """Draw questions with and without an answer.

    The same arguments give the same questions. A larger `number` keeps the questions with an answer and adds others.

    If the file has questions without an answer, they are drawn for both the threshold and the confidence. If it has
    none, they are made from the questions drawn, see `squad.make_unanswerable`. For the threshold, half of them are
    `swapped`, as far as possible, and the others `nearest`. For the confidence, all are `other`: the confidence must
    tell texts apart.

    Args:
        name: What to call the questions.
        data: A SQuAD file.
        number: How many questions with an answer, and how many without; if there are fewer, all of them.
        seed: The seed of the draw.

    Raises:
        CalibrationError: There are no questions with an answer, or none without.
    """

    def some(questions: Sequence[Question]) -> list[Question]:
        return random.Random(seed).sample(questions, len(questions))[:number]

    possible = some([question for question in data.questions if not question.impossible])
    written = some([question for question in data.questions if question.impossible])
    hard, easy = written, written
    if not written:
        other, nearest, swapped = (
            {made.id.removesuffix(f"-{kind}"): made for made in make_unanswerable(data.questions, kind, seed=seed)}
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
    """The fitted calibration and thresholds, with their figures on the questions that confirm.

    Attributes:
        calibration: The calibration, which gives the confidence.
        quality: Figures of the calibration: see `calibration_figures`.
        quality_before: Figures of the model's calibration before, or None if it had none.
        threshold: The no-answer threshold for people: it rejects few questions that have an answer.
        reject: The share of questions with an answer that it may reject, of those that it was fitted on.
        rejected: The share that it rejects, of those that confirm.
        caught: The share of questions without an answer that it catches, of those that confirm.
        squad2: The threshold with the best F1 on the mix that `share` says.
        figures: Figures of `squad2`: see `threshold_figures`.
        threshold_before: The model's own `squad2` threshold before; 0 if it had none.
        figures_before: Figures of the threshold before.
        threshold_at_best: The best such threshold on the questions that confirm.
        figures_at_best: Figures of the best threshold: an upper bound.
        share: The share of questions without an answer that `squad2` is made for.
        configuration: The length configuration at which the model answered.
        fitted_on: The questions that both were fitted on.
        measured_on: The questions that the figures were measured on.
    """

    calibration: Calibration
    quality: Mapping[str, float]
    quality_before: Mapping[str, float] | None
    threshold: float
    reject: float
    rejected: float
    caught: float
    squad2: float
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
        """Whether the new calibration has a lower Brier score than the one before, or there was none before."""
        return self.quality_before is None or self.quality["brier"] < self.quality_before["brier"]

    def to_dict(self) -> dict[str, Any]:
        """Return what `calibrate --json` prints."""
        return {
            "no_answer_threshold": self.threshold,
            "reject": self.reject,
            "rejected": self.rejected,
            "caught": self.caught,
            "squad2_threshold": self.squad2,
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
        """Return the new content of `length_configs.json`.

        Args:
            before: Its content before, or None.
            confidence: Whether to write the new calibration; otherwise that of `before` stays.
        """
        measured_on = f"fitted on {self.fitted_on}; figures of {self.measured_on}"
        table = dict(before or {})
        if confidence:
            table["calibration"] = calibration_entry(self.calibration, measured_on, dict(self.quality))
        table["no_answer"] = {
            "threshold": self.threshold,
            "measured_on": measured_on,
            "configuration": self.configuration,
            "rejected": round(self.rejected, 4),
            "caught": round(self.caught, 4),
            "squad2": {
                "threshold": self.squad2,
                "share": self.share,
                **{name: round(x, 4 if name == "auc" else 2) for name, x in self.figures.items()},
            },
        }
        return table


def calibrate(
    qa: QuestionAnswerer,
    select: Sample,
    confirm: Sample,
    *,
    budget: Budget = "full",
    share: float = 0.5,
    reject: float = 0.03,
    progress: Callable[[int, int], None] | None = None,
) -> Fitted:
    """Fit a model's confidence and its no-answer thresholds, and measure them on other questions.

    Args:
        qa: The model.
        select: The questions to fit on.
        confirm: The questions to measure on.
        budget: The budget at which the model answers.
        share: The share of questions without an answer that the `squad2` threshold is made for.
        reject: The share of questions with an answer that the default threshold may reject.
        progress: Called with the number of questions answered and their total.

    Raises:
        CalibrationError: Nothing can be fitted.
        BudgetError: The budget is not valid.
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
    fitting, holding = (found[i].joined(found[i + 1]) for i in (0, 3))
    rows, held = (np.concatenate([found[i].rows, found[i + 2].rows]) for i in (0, 3))
    calibration, squad2 = fit_calibration(rows), fit_threshold(fitting, share=share)
    threshold = rejecting_threshold(fitting, reject=reject)
    before, best = qa.table.threshold("squad2"), best_threshold(holding, share=share)
    none = -holding.margin > threshold
    return Fitted(
        calibration=calibration,
        quality=calibration_figures(calibration, held),
        quality_before=None if qa.calibration is None else calibration_figures(qa.calibration, held),
        threshold=threshold,
        reject=reject,
        rejected=float(none[holding.answerable].mean()),
        caught=float(none[~holding.answerable].mean()),
        squad2=squad2,
        figures=threshold_figures(holding, squad2, share=share),
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
