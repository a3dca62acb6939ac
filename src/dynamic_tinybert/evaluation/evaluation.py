"""Evaluate a model on a SQuAD file: its scores and what it spends."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dynamic_tinybert.model import logistic
from dynamic_tinybert.qa import Options, QuestionAnswerer
from dynamic_tinybert.squad import Scores, SquadFile, oracle, score

if TYPE_CHECKING:
    from typing_extensions import Unpack


_CERTAIN = 1e9  # the logit of no answer minus the span's, for a text without words


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        scores: The official metrics.
        configuration: The length configuration that the budget selected.
        macs_share: Its multiply-accumulates divided by those of `full`, counted at 384 tokens.
        speedup: BERT-base's multiply-accumulates on the same windows divided by ours.
        seconds: The time it took, with tokenizing and ranking.
        predictions: Question id -> answer text.
        no_answer_threshold: By how much the logit of no answer had to exceed the best span's logit. None if every
            question had to get an answer.
        na_probs: Question id -> the probability of no answer against the best span alone: `1 / (1 + exp(-x))`, where x
            is the logit of no answer minus the span's logit. None if every question had to get an answer.
        oracle: `exact` and `f1`, each in percent with its threshold in logits: the best that any threshold gives on
            these same questions. The threshold is None if it is best to answer nothing. An upper bound, not a result.
    """

    scores: Scores
    configuration: str
    macs_share: float
    speedup: float
    seconds: float
    predictions: dict[str, str]
    no_answer_threshold: float | None = None
    na_probs: dict[str, float] | None = None
    oracle: dict[str, tuple[float, float | None]] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what `evaluate --json` prints."""
        return {
            **self.scores.to_dict(),
            "configuration": self.configuration,
            "macs_share": round(self.macs_share, 4),
            "speedup_over_bert_base": round(self.speedup, 3),
            "seconds": round(self.seconds, 1),
            **self._of_no_answer(),
        }

    def _of_no_answer(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.no_answer_threshold is not None:
            found["no_answer_threshold"] = self.no_answer_threshold
        for name, (value, threshold) in (self.oracle or {}).items():
            found |= {f"oracle_{name}": value, f"oracle_{name}_threshold": threshold}
        return found


def evaluate(qa: QuestionAnswerer, data: SquadFile, **options: Unpack[Options]) -> Evaluation:
    """Answer all questions of a SQuAD file and score the answers.

    In a file of version 2.0, a question gets no answer if the logit of no answer exceeds the best span's logit by more
    than the model's threshold for SQuAD 2.0.

    Args:
        qa: The model.
        data: The questions.
        options: The options of `QuestionAnswerer.__call__`. `progress` is called with the number of questions answered
            and their total.

    Raises:
        BudgetError: The budget is not valid.
    """
    began = time.perf_counter()
    choice = qa.table.select(qa.shape, options.get("budget", "full"))
    progress = options.pop("progress", None)
    may_be_none = options.setdefault("handle_impossible_answer", data.version == "2.0")
    if options.get("no_answer_threshold") is None and data.version == "2.0":
        options["no_answer_threshold"] = "squad2"
    threshold = qa.table.threshold(options.get("no_answer_threshold"))
    predictions: dict[str, str] = {}
    spans: dict[str, str] = {}  # the best span of each text, even if the prediction is no answer
    differences: dict[str, float] = {}
    spent = base = 0
    questions, texts = (x.question for x in data.questions), (x.context for x in data.questions)
    # If no answer is allowed, it may rank first: the second is then the best span.
    answers = qa(questions, texts, top_k=2 if may_be_none else 1, **options)
    for question, ranked in zip(data.questions, answers, strict=True):
        predictions[question.id] = ranked[0].text if ranked else ""
        span = next((answer for answer in ranked if answer.text), None)
        spans[question.id] = span.text if span else ""
        differences[question.id] = span.no_answer_logit - span.logit if span else _CERTAIN
        for answer in ranked[:1]:
            spent += answer.spent.macs
            base += answer.spent.bert_base_macs
        if progress:
            progress(len(predictions), len(data.questions))
    unsure = may_be_none and data.version == "2.0"
    return Evaluation(
        scores=score(data, predictions),
        configuration=choice.name,
        macs_share=choice.share,
        speedup=base / max(spent, 1),
        seconds=time.perf_counter() - began,
        predictions=predictions,
        no_answer_threshold=float(threshold) if may_be_none else None,
        na_probs={id_: logistic(x) for id_, x in differences.items()} if may_be_none else None,
        oracle=oracle(data, spans, differences) if unsure else None,
    )
