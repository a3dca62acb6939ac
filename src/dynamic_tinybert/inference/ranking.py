"""The interface of the rules that turn the logits of a text's windows into answers."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.inference.windows import Window


class Span(NamedTuple):
    """A ranked answer.

    Attributes:
        start: Where it starts, in characters of the original text.
        end: Where it ends. Both are 0 for no answer.
        logit: Start logit plus end logit.
        score: Softmax over the candidate spans of all windows of the text; see the ranking.
        confidence: Calibrated probability that it is right; 0 for no answer, None without calibration.
        null: The logit of no answer in the window of the span; None if the ranking compares with `Ranking.null`.
    """

    start: int
    end: int
    logit: float
    score: float
    confidence: float | None = None
    null: float | None = None


class Ranking(Protocol):
    """Rank the spans of one text, window after window. Use it in one thread at a time."""

    @property
    def null(self) -> float:
        """The logit of no answer, the minimum over the windows; infinite without windows."""
        ...

    def add(self, window: Window, start: npt.NDArray[np.float32], end: npt.NDArray[np.float32]) -> None:
        """Add the next window of the text.

        Args:
            window: The window; windows come in the order of the text.
            start: Its start logits, `[tokens or more]`.
            end: Its end logits, of the same shape.
        """
        ...

    def ranked(self) -> list[Span]:
        """Return the best answers, the best first; an empty list if the text has no tokens."""
        ...
