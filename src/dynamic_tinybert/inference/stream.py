"""Many questions: gathered, predicted in batches of like length, answered in order, in bounded memory."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.answer import Answer, EmptyQuestionError, Spent
from dynamic_tinybert.inference.options import Progress, Settings
from dynamic_tinybert.inference.ranking import Ranking
from dynamic_tinybert.inference.reader import Reader
from dynamic_tinybert.inference.tokenizer import WindowError
from dynamic_tinybert.inference.windows import Window
from dynamic_tinybert.model import BERT_BASE, MeasuredConfig, ModelShape, macs

_POOL = 128  # windows gathered, at least, before they are sorted by length and predicted; as many questions wait


class Pending:
    """A question on its way: its windows are predicted, and then it has answers. For one thread at a time.

    Args:
        question: The question.
        text: The text.
        settings: How to answer.

    Attributes:
        text: The text.
        lengths: The sizes of the windows that have been added, in tokens.
    """

    def __init__(self, question: str, text: str, settings: Settings) -> None:
        self.text = text
        self.lengths: list[int] = []
        self._question = question
        self._settings = settings
        self._ranking: Ranking = settings.ranking(text)

    def windows(self, reader: Reader) -> Iterator[Window]:
        """Yield the windows: see `Reader.windows`."""
        settings = self._settings
        yield from reader.windows(
            self._question,
            self.text,
            max_seq_len=settings.max_seq_len,
            doc_stride=settings.doc_stride,
            max_question_len=settings.max_question_len,
        )

    def add(self, window: Window, start: npt.NDArray[np.float32], end: npt.NDArray[np.float32]) -> None:
        """Add what the model says of the next window of the text: see `Ranking.add`."""
        self._ranking.add(window, start, end)
        self.lengths.append(len(window))

    def spent(self, shape: ModelShape, choice: MeasuredConfig) -> Spent:
        """Return what the windows that have been added cost: for the arguments see `answers`."""
        return Spent(
            configuration=choice.name,
            share=choice.share,
            windows=len(self.lengths),
            macs=macs(shape, self.lengths, choice.config),
            bert_base_macs=macs(BERT_BASE, self.lengths),
        )

    def answers(self, shape: ModelShape, choice: MeasuredConfig) -> list[Answer]:
        """Return the answers, the best first; without `top_k` at least one.

        Args:
            shape: The model that predicted.
            choice: The length configuration at which it did.
        """
        spent = self.spent(shape, choice)
        answers = [
            Answer(
                text=self.text[span.start : span.end],
                start=span.start,
                end=span.end,
                score=span.score,
                logit=span.logit,
                confidence=span.confidence,
                no_answer_logit=self._ranking.null,
                spent=spent,
            )
            for span in self._ranking.ranked()
        ]
        if not answers and self._settings.always_answers:
            nothing = 0.0 if self._settings.calibrated else None
            answers.append(Answer(text="", start=0, end=0, score=0.0, logit=-math.inf, confidence=nothing, spent=spent))
        return answers


@dataclass(eq=False)
class _Request:
    """A question of a stream, and whether it has all its windows."""

    pending: Pending
    complete: bool = False


class AnswerStream:
    """Answers questions one after the other.

    What a pair does wrong is raised in its turn, after the answers to all that came before it.

    Args:
        reader: The tokenizer and the model.
        settings: How to answer.
        progress: Called with the characters of text read, and those there are or, of a generator, are known of.
        total: The characters of all texts, where that is known.
    """

    def __init__(
        self, reader: Reader, settings: Settings, *, progress: Progress | None = None, total: int | None = None
    ) -> None:
        self._reader = reader
        self._settings = settings
        self._most = max(_POOL, reader.runtime.batch_tokens // 64)
        self._progress = progress
        self._total = total
        self._known = 0
        self._settled = 0
        self._waiting: deque[_Request] = deque()
        self._pool: list[tuple[_Request, Window]] = []

    def __call__(self, pairs: Iterable[tuple[str, str]]) -> Iterator[list[Answer]]:
        """Yield the answers to each pair of a question and a text, the best first."""
        steps, failure = self._gather(pairs), None
        while True:
            try:
                if next(steps, None) is None:
                    break
            except Exception as error:
                failure = error
                break
            if len(self._pool) == self._most or len(self._waiting) > self._most:
                yield from self._flush()
        yield from self._flush()
        if failure is not None:
            raise failure
        if self._progress:
            self._progress(self._known, self._known)

    def _gather(self, pairs: Iterable[tuple[str, str]]) -> Iterator[bool]:
        """Turn pairs into windows, a step at a time; True at each, since None ends them."""
        for number, (question, text) in enumerate(pairs):
            check_pair(question, text, number)
            request = _Request(Pending(question, text, self._settings))
            self._known += len(text)
            self._waiting.append(request)
            try:
                for window in request.pending.windows(self._reader):
                    self._pool.append((request, window))
                    yield True
            except ValueError as error:  # a question whose tokens show that it is empty, or does not fit the window
                kinds = (WindowError, EmptyQuestionError)
                raise next((kind for kind in kinds if isinstance(error, kind)), ValueError)(
                    f"{error} (number {number})"
                ) from None
            request.complete = True
            yield True

    def _flush(self) -> Iterator[list[Answer]]:
        """Predict what is in the pool, and yield the answers that are complete."""
        pool, self._pool = self._pool, []
        choice = self._settings.choice
        order = sorted(range(len(pool)), key=lambda i: len(pool[i][1]))
        # At int8 the scales are a whole batch's.
        most_rows = 1 if self._reader.runtime.precision == "int8" else self._settings.most_rows
        logits: dict[int, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = {}
        lengths, tokens = [len(pool[i][1]) for i in order], self._reader.runtime.batch_tokens
        for batch in batches(lengths, tokens, most_rows=most_rows):
            numbers = [order[i] for i in batch]
            start, end, _ = self._reader.predict([pool[i][1] for i in numbers], [choice.config] * len(numbers))
            logits |= {i: (start[row], end[row]) for row, i in enumerate(numbers)}
        for i, (request, window) in enumerate(pool):
            request.pending.add(window, *logits[i])
            self._settled += int(window.text.end[window.settled - 1] - window.text.start[0])
        while self._waiting and self._waiting[0].complete:
            yield self._waiting.popleft().pending.answers(self._reader.runtime.shape, choice)
        if self._progress:
            total = self._known if self._total is None else self._total
            self._progress(min(self._settled, total), total)


def check_pair(question: object, text: object, number: int | None) -> None:
    """Check that a question and a text can be one; `number` says which pair it is of many, from 0.

    Raises:
        TypeError: One is no string.
        EmptyQuestionError: The question is empty.
    """
    which = "" if number is None else f" (number {number})"
    for name, value in (("question", question), ("text", text)):
        if not isinstance(value, str):
            raise TypeError(f"a {name} is a string, not {type(value).__name__}{which}")
    if not str(question).strip():
        raise EmptyQuestionError(f"the question is empty{which}")


def batches(lengths: list[int], tokens: int, *, most_rows: int | None = None) -> Iterator[range]:
    """Cut ascending lengths into runs of at most so many tokens when padded, and so many rows."""
    begin = 0
    for i, length in enumerate(lengths):
        count = i - begin
        if count and (length * (count + 1) > tokens or count == most_rows):
            yield range(begin, i)
            begin = i
    if lengths:
        yield range(begin, len(lengths))
