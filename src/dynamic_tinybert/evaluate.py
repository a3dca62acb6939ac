"""How good a model is on a SQuAD file, and what it spends there."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dynamic_tinybert.qa import Options, QuestionAnswerer
from dynamic_tinybert.squad import Scores, SquadFile, score

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        scores: The official metrics.
        configuration: The length configuration that the budget bought.
        macs_share: Its multiply-accumulates over those of `full`, counted at 384 tokens.
        speedup: BERT-base's multiply-accumulates on the same windows over ours.
        seconds: What it took, tokenizing and ranking included.
        predictions: Question id -> answer text.
    """

    scores: Scores
    configuration: str
    macs_share: float
    speedup: float
    seconds: float
    predictions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return what `evaluate --json` prints."""
        return {
            **self.scores.to_dict(),
            "configuration": self.configuration,
            "macs_share": round(self.macs_share, 4),
            "speedup_over_bert_base": round(self.speedup, 3),
            "seconds": round(self.seconds, 1),
        }


def evaluate(qa: QuestionAnswerer, data: SquadFile, **options: Unpack[Options]) -> Evaluation:
    """Answer all questions of a SQuAD file and score the answers.

    In a file of version 2.0 the answer may be that there is none.

    Args:
        qa: The model.
        data: The questions.
        options: Those of `QuestionAnswerer.__call__`; `progress` is called with the questions answered and their
            total.

    Raises:
        BudgetError: The budget makes no sense.
    """
    began = time.perf_counter()
    choice = qa.table.select(qa.shape, options.get("budget", "full"))
    progress = options.pop("progress", None)
    options.setdefault("handle_impossible_answer", data.version == "2.0")
    predictions: dict[str, str] = {}
    spent = base = 0
    questions, texts = (x.question for x in data.questions), (x.context for x in data.questions)
    answers = qa(questions, texts, **options)
    for question, answer in zip(data.questions, answers, strict=True):
        predictions[question.id] = answer.text
        spent += answer.spent.macs
        base += answer.spent.bert_base_macs
        if progress:
            progress(len(predictions), len(data.questions))
    return Evaluation(
        scores=score(data, predictions),
        configuration=choice.name,
        macs_share=choice.share,
        speedup=base / max(spent, 1),
        seconds=time.perf_counter() - began,
        predictions=predictions,
    )
