"""What a model answers to questions with and without an answer: what calibration is fitted on."""

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

    def at(self, which: npt.NDArray[np.int64]) -> Observations:
        """Return those of some questions, by their numbers."""
        return Observations(*(getattr(self, name)[which] for name in _COLUMNS))

    def joined(self, other: Observations) -> Observations:
        """Return these observations, and then others."""
        return Observations(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in _COLUMNS))

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
