"""Answers, and what they cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from dynamic_tinybert.errors import DynamicTinyBertError


class EmptyQuestionError(DynamicTinyBertError, ValueError):
    """A question without a word that could be read."""

    misuse = True


class LogitsError(DynamicTinyBertError, ValueError):
    """A model computes logits that are not finite; one line that says so."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What an answer cost.

    Attributes:
        configuration: The name of the length configuration in the model's table; of a corpus, the one that the budget
            bought, at which the best passages were read.
        share: Its multiply-accumulates over those of `full`, counted at 384 tokens.
        windows: Windows that were read.
        macs: Multiply-accumulates of these windows at their own lengths.
        bert_base_macs: What BERT-base would have spent on the same windows.
        coarse: Of a corpus: the configuration at which all passages were read before, or None if there was one reading.
        retrieved: Of a corpus: passages that were found.
        read: How many of them were read before no other could win, or the time was over.
        read_again: How many of these were read again at `configuration`.
        seconds: Of a corpus: from the question to the answer.
    """

    configuration: str
    share: float
    windows: int
    macs: int
    bert_base_macs: int
    coarse: str | None = None
    retrieved: int = 0
    read: int = 0
    read_again: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer: `text[answer.start:answer.end] == answer.text`.

    Attributes:
        text: The words of the text that answer; empty where there are none (an empty text, an impossible answer).
        start: Where they begin, in characters of the text as given.
        end: Where they end.
        score: Softmax over the candidate spans of all windows of the text, in [0, 1].
        logit: Start logit plus end logit, raw; minus infinity where the text has no words.
        confidence: Calibrated probability that the text answers the question and that this is the answer; None for a
            model without calibration.
        no_answer_logit: The logit of there being no answer: start plus end logit of [CLS], raw, in the window that is
            least sure of it; infinite where the text has no words. Less `logit` it is held against a no-answer
            threshold.
        spent: What was spent on the question.
    """

    text: str
    start: int
    end: int
    score: float
    logit: float
    confidence: float | None = None
    no_answer_logit: float = field(default=math.inf, repr=False)
    spent: Spent = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as what `--json` prints."""
        return {
            "text": self.text,
            "start": self.start,
            "end": self.end,
            "score": self.score,
            "logit": self.logit if math.isfinite(self.logit) else None,
            "confidence": self.confidence,
            "configuration": self.spent.configuration,
            "share": self.spent.share,
        }
