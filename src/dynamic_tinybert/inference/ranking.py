"""Ranking: what each rule offers that makes answers of the logits of a text's windows."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.inference.windows import Window


class Span(NamedTuple):
    """A ranked answer.

    Attributes:
        start: Where it starts, in characters of the text as given.
        end: Where it ends; both 0 for the answer that there is none.
        logit: Start logit plus end logit.
        score: Softmax of `logit` over the candidate spans of all windows of the text; that of no answer counts less by
            the threshold.
        confidence: Calibrated probability that it answers; 0 for the answer that there is none, None without
            calibration.
    """

    start: int
    end: int
    logit: float
    score: float
    confidence: float | None = None


class Ranking(Protocol):
    """Ranks the spans of one text, window after window. For one thread at a time."""

    @property
    def null(self) -> float:
        """The logit of there being no answer, of the window that is least sure of it; infinite without windows."""
        ...

    def add(self, window: Window, start: npt.NDArray[np.float32], end: npt.NDArray[np.float32]) -> None:
        """Add the next window of the text.

        Args:
            window: The window; windows come in the order of the text.
            start: Its start logits, `[tokens or more]`.
            end: Its end logits, likewise.
        """
        ...

    def ranked(self) -> list[Span]:
        """Return the best answers, the best first; none if the text has no tokens."""
        ...
