"""Answer many questions in order, in bounded memory, with batches of windows of similar length."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.answer import Answer, EmptyQuestionError, Spent, surroundings_of
from dynamic_tinybert.inference.layers import LayersOfText
from dynamic_tinybert.inference.loading import WindowError
from dynamic_tinybert.inference.options import Progress, Settings
from dynamic_tinybert.inference.ranking import Ranking
from dynamic_tinybert.inference.reader import Reader
from dynamic_tinybert.inference.tokenizer import TextTokenizer
from dynamic_tinybert.inference.windows import Window
from dynamic_tinybert.model import BERT_BASE, MeasuredConfig, ModelShape, macs

_POOL = 128  # at least so many windows, or questions, are gathered before the windows are sorted and predicted


class Pending:
    """A question whose windows are being predicted; then it has answers. Use it in one thread at a time.

    Args:
        question: The question.
        text: The text.
        settings: How to answer.

    Attributes:
        text: The text.
        lengths: The lengths of the windows added so far, in tokens.
    """

    def __init__(self, question: str, text: str, settings: Settings) -> None:
        self.text = text
        self.lengths: list[int] = []
        self._question = question
        self._settings = settings
        self._ranking: Ranking = settings.ranking(text)
        self._layers = LayersOfText() if settings.explain else None

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

    def add(
        self,
        window: Window,
        start: npt.NDArray[np.float32],
        end: npt.NDArray[np.float32],
        layers: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Add the logits of the next window of the text: see `Ranking.add`; and the layers that its tokens passed."""
        self._ranking.add(window, start, end)
        if self._layers is not None and layers is not None:
            self._layers.add(window, layers)
        self.lengths.append(len(window))

    def spent(self, shape: ModelShape, choice: MeasuredConfig) -> Spent:
        """Return the cost of the windows added so far. The arguments are those of `answers`."""
        return Spent(
            configuration=choice.name,
            share=choice.share,
            windows=len(self.lengths),
            macs=macs(shape, self.lengths, choice.config),
            bert_base_macs=macs(BERT_BASE, self.lengths),
        )

    def answers(self, shape: ModelShape, choice: MeasuredConfig) -> list[Answer]:
        """Return the answers, the best first; at least one if the settings have `always_answers`.

        Args:
            shape: The sizes of the model.
            choice: The length configuration of the prediction.
        """
        spent = self.spent(shape, choice)
        layers = None if self._layers is None else self._layers.tokens(self.text, shape.layers)
        answers = [
            Answer(
                text=self.text[span.start : span.end],
                start=span.start,
                end=span.end,
                score=span.score,
                logit=span.logit,
                confidence=span.confidence,
                no_answer_logit=self._ranking.null if span.null is None else span.null,
                surroundings=surroundings_of(self.text, span.start, span.end),
                spent=spent,
                layers=layers,
            )
            for span in self._ranking.ranked()
        ]
        if not answers and self._settings.always_answers:
            nothing = 0.0 if self._settings.calibrated else None
            empty = Answer(text="", start=0, end=0, score=0.0, logit=-math.inf, confidence=nothing, spent=spent)
            answers.append(replace(empty, layers=layers))
        return answers


@dataclass(eq=False)
class _Request:
    """A question of a stream, and whether all its windows are cut."""

    pending: Pending
    complete: bool = False


class AnswerStream:
    """Answer questions one after the other.

    An error in a pair is raised after the answers to all pairs before it.

    Args:
        reader: The tokenizer and the model.
        settings: How to answer.
        progress: A function that is called with the number of finished characters and the total (if unknown, so far).
        total: The number of characters of all texts, if known.
        numbered: Whether errors name the number of the pair.
    """

    def __init__(
        self,
        reader: Reader,
        settings: Settings,
        *,
        progress: Progress | None = None,
        total: int | None = None,
        numbered: bool = True,
    ) -> None:
        self._reader = reader
        self._settings = settings
        self._most = max(_POOL, reader.runtime.batch_tokens // 64)
        self._progress = progress
        self._total = total
        self._numbered = numbered
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
        """Cut pairs into windows, one step at a time. Yield True at each step, since None means the end."""
        for number, (question, text) in enumerate(pairs):
            shown = number if self._numbered else None
            check_pair(question, text, shown)
            request = _Request(Pending(question, text, self._settings))
            self._known += len(text)
            self._waiting.append(request)
            try:
                for window in request.pending.windows(self._reader):
                    self._pool.append((request, window))
                    yield True
            except ValueError as error:  # the question has no tokens, or does not fit the window
                kinds = (WindowError, EmptyQuestionError)
                raise next((kind for kind in kinds if isinstance(error, kind)), ValueError)(
                    f"{error}{_which(shown)}"
                ) from None
            request.complete = True
            yield True

    def _flush(self) -> Iterator[list[Answer]]:
        """Predict what is in the pool, and yield the answers that are complete."""
        pool, self._pool = self._pool, []
        choice = self._settings.choice
        order = sorted(range(len(pool)), key=lambda i: len(pool[i][1]))
        # In INT8, rows with padding need another kernel of attention. It differs in the last bits, and those can become
        # a whole step. Rows of one length have no padding, so the logits of a row are exactly those that it has alone.
        equal, most_rows = self._reader.runtime.precision == "int8", self._settings.most_rows
        logits: dict[int, tuple[Any, ...]] = {}
        lengths, tokens = [len(pool[i][1]) for i in order], self._reader.runtime.batch_tokens
        for batch in batches(lengths, tokens, most_rows=most_rows, equal=equal):
            numbers = [order[i] for i in batch]
            told = self._reader.predict([pool[i][1] for i in numbers], [choice.config] * len(numbers))
            told_of = told if self._settings.explain else told[:2]
            logits |= {i: tuple(each[row] for each in told_of) for row, i in enumerate(numbers)}
        for i, (request, window) in enumerate(pool):
            request.pending.add(window, *logits[i])
            self._settled += int(window.text.end[window.settled - 1] - window.text.start[0])
        while self._waiting and self._waiting[0].complete:
            yield self._waiting.popleft().pending.answers(self._reader.runtime.shape, choice)
        if self._progress:
            total = self._known if self._total is None else self._total
            self._progress(min(self._settled, total), total)


def _which(number: int | None) -> str:
    return "" if number is None else f" (number {number})"


def check_pair(question: object, text: object, number: int | None, tokenizer: TextTokenizer | None = None) -> None:
    """Check a question and a text.

    Args:
        question: The question.
        text: The text.
        number: The index of the pair among many.
        tokenizer: With it, a question without tokens is empty, too.

    Raises:
        TypeError: One is not a string.
        EmptyQuestionError: The question is empty.
    """
    which = _which(number)
    for name, value in (("question", question), ("text", text)):
        if not isinstance(value, str):
            raise TypeError(f"a {name} must be a string, not {type(value).__name__}{which}")
    asked = str(question)
    # A letter or a digit always becomes a token, so few questions are tokenized here.
    lacks_tokens = tokenizer is not None and not any(map(str.isalnum, asked)) and not len(tokenizer.question(asked))
    if lacks_tokens or not asked.strip():
        raise EmptyQuestionError(f"the question is empty{which}")


def batches(lengths: list[int], tokens: int, *, most_rows: int | None = None, equal: bool = False) -> Iterator[range]:
    """Cut ascending lengths into batches of at most `tokens` padded tokens and `most_rows` rows.

    Args:
        lengths: The lengths, ascending.
        tokens: The most tokens of a batch, including padding; a row that alone is longer is a batch.
        most_rows: The most rows of a batch.
        equal: Whether all rows of a batch must have one length.
    """
    begin = 0
    for i, length in enumerate(lengths):
        count = i - begin
        if count and (length * (count + 1) > tokens or count == most_rows or (equal and length != lengths[begin])):
            yield range(begin, i)
            begin = i
    if lengths:
        yield range(begin, len(lengths))
