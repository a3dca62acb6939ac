"""A question to a text in the engine, and its result."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynamic_tinybert.answer import Answer, Spent
from dynamic_tinybert.inference import LayersOfText, Pending, Reader, Settings, Window
from dynamic_tinybert.layers import TokenLayers
from dynamic_tinybert.model import MeasuredConfig, ModelShape
from dynamic_tinybert.runtime import Logits
from dynamic_tinybert.serve.engine.errors import Stopped, TooMuch
from dynamic_tinybert.serve.engine.scheduler import Waiting

if TYPE_CHECKING:
    from dynamic_tinybert.corpus import CorpusAnswer

MOST_WINDOWS = 4096  # of a request; a waiting window takes some kilobytes


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a question.

    Attributes:
        answers: The answers, the best first.
        spent: The cost, with the length configuration that the question got.
        queue_seconds: The time from the arrival to the first batch.
        read_seconds: The time from the first batch to the answer.
        tokens: The layers that the tokens of the text passed, if requested.
    """

    answers: Sequence[Answer] | Sequence[CorpusAnswer]
    spent: Spent
    queue_seconds: float
    read_seconds: float
    tokens: TokenLayers | None = None


class TextQuestion:
    """A question to a text in the engine.

    Args:
        question: The question.
        text: The text.
        settings: How to answer.
        shape: The shape of the model.
        ladder: The length configurations, by place.
        explain: Collect the layers that the tokens of the text passed.

    Attributes:
        windows: The windows of the text.
        waiting: The question's entry in the scheduler, if it has windows.
    """

    def __init__(
        self,
        question: str,
        text: str,
        settings: Settings,
        *,
        shape: ModelShape,
        ladder: Sequence[MeasuredConfig],
        explain: bool,
    ) -> None:
        self.windows: list[Window] = []
        self.waiting: Waiting | None = None
        self._pending = Pending(question, text, settings)
        self._shape = shape
        self._ladder = ladder
        self._choice = settings.choice
        self._layers = LayersOfText() if explain else None
        self._tokens = None if self._layers is None else self._layers.tokens(text, shape.layers)
        self._answers: Sequence[Answer] = ()

    def cut(self, reader: Reader, left: threading.Event, most: int) -> None:
        """Cut the text into windows, or stop if the client has left.

        Args:
            reader: The reader that cuts.
            left: Set if the client has left.
            most: The most windows.

        Raises:
            EmptyQuestionError: The question has no tokens.
            TooMuch: There are more than `most` windows.
            Stopped: The client has left.
        """
        for window in self._pending.windows(reader):
            if left.is_set():
                raise Stopped("the question was cancelled")
            if len(self.windows) == most:
                raise TooMuch(f"the texts make more than {MOST_WINDOWS} windows")
            self.windows.append(window)

    def add(self, window: Window, logits: Logits) -> None:
        """Add the logits of the next window; after the last window, compute the answers."""
        self._pending.add(window, logits.start, logits.end)
        if self._layers is not None:
            self._layers.add(window, logits.layers_passed)
        if len(self._pending.lengths) == len(self.windows):
            assert self.waiting is not None
            assert self.waiting.place is not None
            self._choice = self._ladder[self.waiting.place]
            self._answers = self._pending.answers(self._shape, self._choice)
            if self._layers is not None:
                self._tokens = self._layers.tokens(self._pending.text, self._shape.layers)

    def result(self, arrived: float, now: float) -> Result:
        """Return the result, after all windows were predicted."""
        spent = self._answers[0].spent if self._answers else self._pending.spent(self._shape, self._choice)
        begun = now if self.waiting is None or self.waiting.begun is None else self.waiting.begun
        return Result(
            answers=self._answers,
            spent=spent,
            queue_seconds=begun - arrived,
            read_seconds=now - begun,
            tokens=self._tokens,
        )
