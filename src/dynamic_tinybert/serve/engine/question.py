"""A question to a text on its way through the engine, and what it comes to."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dynamic_tinybert.answer import Answer, Spent
from dynamic_tinybert.inference import Ints, Pending, Reader, Settings, Window
from dynamic_tinybert.model import MeasuredConfig, ModelShape
from dynamic_tinybert.runtime import Logits
from dynamic_tinybert.serve.engine.errors import Stopped, TooMuch
from dynamic_tinybert.serve.engine.scheduler import Waiting

if TYPE_CHECKING:
    from dynamic_tinybert.corpus import CorpusAnswer

MOST_WINDOWS = 4096  # of a request: each holds some kilobytes while it waits


@dataclass(frozen=True, kw_only=True)
class TokenLayers:
    """For each token of a text its place, in characters, and the layers it passed before it was dropped."""

    start: list[int]
    end: list[int]
    layers: list[int]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a question came to.

    Attributes:
        answers: The best first.
        spent: What was spent, at the length configuration that it got.
        queue_seconds: From its arrival to its first batch.
        read_seconds: From there to its answer.
        tokens: The layers that its text's tokens passed, if that was asked for.
    """

    answers: Sequence[Answer] | Sequence[CorpusAnswer]
    spent: Spent
    queue_seconds: float
    read_seconds: float
    tokens: TokenLayers | None = None


class TextQuestion:
    """A question to a text on its way through the engine.

    Args:
        question: The question.
        text: The text.
        settings: How to answer.
        shape: The model.
        ladder: Its length configurations, by place.
        explain: Tell the layers that the tokens of the text passed.

    Attributes:
        windows: The windows of the text.
        waiting: What the scheduler knows of it, if it has windows.
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
        self._layers = _LayersOfText() if explain else None
        self._tokens = None if self._layers is None else self._layers.tokens()
        self._answers: Sequence[Answer] = ()

    def cut(self, reader: Reader, left: threading.Event, most: int) -> None:
        """Cut the text into windows, unless the client has left meanwhile.

        Args:
            reader: What cuts.
            left: Whether the client has left.
            most: How many windows there may be.

        Raises:
            EmptyQuestionError: The question has no tokens.
            TooMuch: There are more windows than may be.
            Stopped: The client has left.
        """
        for window in self._pending.windows(reader):
            if left.is_set():
                raise Stopped("the question was cancelled")
            if len(self.windows) == most:
                raise TooMuch(f"the texts make more than {MOST_WINDOWS} windows")
            self.windows.append(window)

    def add(self, window: Window, logits: Logits) -> None:
        """Take in what the model says of the next window; with the last one there are answers."""
        self._pending.add(window, logits.start, logits.end)
        if self._layers is not None:
            self._layers.add(window, logits.layers_passed)
        if len(self._pending.lengths) == len(self.windows):
            assert self.waiting is not None
            assert self.waiting.place is not None
            self._choice = self._ladder[self.waiting.place]
            self._answers = self._pending.answers(self._shape, self._choice)
            self._tokens = None if self._layers is None else self._layers.tokens()

    def result(self, arrived: float, now: float) -> Result:
        """Return what the question came to, when all its windows have been predicted."""
        spent = self._answers[0].spent if self._answers else self._pending.spent(self._shape, self._choice)
        begun = now if self.waiting is None or self.waiting.begun is None else self.waiting.begun
        return Result(
            answers=self._answers,
            spent=spent,
            queue_seconds=begun - arrived,
            read_seconds=now - begun,
            tokens=self._tokens,
        )


class _LayersOfText:
    """Collects the layers that a text's tokens passed; of a token in two windows, the better."""

    def __init__(self) -> None:
        self._parts: list[tuple[Ints, Ints, Ints]] = []
        self._shared: Ints = np.zeros(0, np.int64)

    def add(self, window: Window, layers: Ints) -> None:
        passed = layers[window.offset : window.offset + len(window.text)].copy()
        overlap = len(self._shared)
        passed[:overlap] = np.maximum(passed[:overlap], self._shared)
        settled = window.settled
        self._shared = passed[settled:]
        self._parts.append((window.text.start[:settled], window.text.end[:settled], passed[:settled]))

    def tokens(self) -> TokenLayers:
        begin, end, layers = ([int(value) for part in self._parts for value in part[column]] for column in range(3))
        return TokenLayers(start=begin, end=end, layers=layers)
