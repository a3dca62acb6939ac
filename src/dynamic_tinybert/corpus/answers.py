"""Answers from a corpus, and what they cost."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class CorpusSpent:
    """What an answer from a corpus cost.

    Attributes:
        configuration: The length configuration that the budget bought, at which the best passages were read.
        coarse: The one at which all were read before, or None if there was one reading.
        retrieved: Passages that were found.
        read: How many of them were read before no other could win, or the time was over.
        read_again: How many of these were read again at `configuration`.
        windows: Windows that were read.
        macs: Multiply-accumulates of these windows at their own lengths.
        bert_base_macs: What BERT-base would have spent on as many windows of the same lengths.
        seconds: From the question to the answer.
    """

    configuration: str
    coarse: str | None
    retrieved: int
    read: int
    read_again: int
    windows: int
    macs: int
    bert_base_macs: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class CorpusAnswer:
    """An answer from a corpus: `corpus.text(answer.document)[answer.start:answer.end] == answer.text`.

    Attributes:
        text: The words that answer; empty where no passage holds any.
        document: The name of the document they stand in.
        title: Its title, or an empty text.
        start: Where they begin, in characters of the document's text.
        end: Where they end.
        passage: The passage they stand in.
        passage_start: Where it begins, in characters of the document's text.
        score: Softmax, over the candidates of the passages read last, of what reading and retrieval say together; in
            [0, 1].
        confidence: Calibrated probability that the passage answers the question and that this is the answer; None for a
            model without calibration.
        logit: Start logit plus end logit, raw; minus infinity where there is no answer.
        retrieval: The passage's BM25 score.
        spent: What was spent on the question.
    """

    text: str
    document: str
    title: str
    start: int
    end: int
    passage: str = field(repr=False)
    passage_start: int = field(repr=False)
    score: float
    confidence: float | None = None
    logit: float
    retrieval: float
    spent: CorpusSpent = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as what `--json` prints."""
        row = asdict(self) | {"logit": self.logit if math.isfinite(self.logit) else None}
        row["spent"]["seconds"] = round(self.spent.seconds, 4)
        return row
