"""Observe a model's answers to questions with and without an answer, to fit a calibration and a threshold on."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.model import Budget
from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.squad import Question, Version, score_question

_COLUMNS = ("margin", "log_score", "exact", "f1", "answerable")
_LEAST = 1e-12  # the least score, so that it has a logarithm


@dataclass(frozen=True, eq=False)
class Observations:
    """The best span of each question, whether or not the question has an answer. Each array is `[questions]`.

    Attributes:
        margin: The span's logit minus that of no answer; minus infinity for a text without words.
        log_score: The natural logarithm of the span's score within its text.
        exact: 1 if the span is an exact match, otherwise 0; 0 if the question has no answer.
        f1: The span's F1, in [0, 1]; 0 if the question has no answer.
        answerable: Whether the question has an answer.
    """

    margin: npt.NDArray[np.float64]
    log_score: npt.NDArray[np.float64]
    exact: npt.NDArray[np.float64]
    f1: npt.NDArray[np.float64]
    answerable: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.margin)

    def at(self, which: npt.NDArray[np.int64]) -> Observations:
        """Return the observations with these indices."""
        return Observations(*(getattr(self, name)[which] for name in _COLUMNS))

    def joined(self, other: Observations) -> Observations:
        """Return these observations followed by others."""
        return Observations(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in _COLUMNS))

    @property
    def rows(self) -> npt.NDArray[np.float64]:
        """Margin, `log_score` and `exact` of each text that has words, `[answers, 3]`, to fit a calibration on."""
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
    """Answer each question with its best span, and keep what tells whether the question has an answer.

    Args:
        qa: The model.
        questions: The questions; `impossible` says which have no answer.
        budget: The budget at which the model answers.
        version: The version of SQuAD whose rules score.
        progress: Called with the number of questions answered so far.
    """
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about questions that are cut and tables without measurements
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
