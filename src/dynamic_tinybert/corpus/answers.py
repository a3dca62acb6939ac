"""Answers from a corpus."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from dynamic_tinybert.answer import Spent

_SPENT = (  # what `--json` prints of it
    "configuration", "coarse", "retrieved", "read", "read_again", "windows", "macs", "bert_base_macs", "seconds",
)  # fmt: skip


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
    spent: Spent = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as what `--json` prints."""
        row = asdict(self) | {"logit": self.logit if math.isfinite(self.logit) else None}
        row["spent"] = {name: row["spent"][name] for name in _SPENT} | {"seconds": round(self.spent.seconds, 4)}
        return row
