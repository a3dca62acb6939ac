"""The reader: it cuts windows and predicts their logits, for callers who batch themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.answer import EmptyQuestionError, LogitsError
from dynamic_tinybert.inference.tokenizer import TextTokenizer
from dynamic_tinybert.inference.windows import Window, cut_windows, pad
from dynamic_tinybert.model import LengthConfig, ModelShape
from dynamic_tinybert.runtime import Logits, Precision


class LogitsSource(Protocol):
    """The interface of a model that predicts logits from tokens: `Runtime`, or a model in training."""

    shape: ModelShape
    precision: Precision
    batch_tokens: int

    def run(
        self,
        input_ids: npt.NDArray[np.int64],
        token_type_ids: npt.NDArray[np.int64],
        attention_mask: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
    ) -> Logits:
        """Run a batch: see `Runtime.run`."""
        ...


class Reader:
    """A tokenizer and a model. Safe to use from many threads.

    Attributes:
        tokenizer: Turns questions and texts into tokens.
        runtime: Predicts logits from tokens.
    """

    def __init__(self, tokenizer: TextTokenizer, runtime: LogitsSource) -> None:
        self.tokenizer = tokenizer
        self.runtime = runtime

    def windows(
        self, question: str, text: str, *, max_seq_len: int, doc_stride: int, max_question_len: int
    ) -> Iterator[Window]:
        """Yield the windows of a question and a text; none for a text without words. Warn if the question is cut.

        Args:
            question: The question.
            text: The text.
            max_seq_len: The longest window, in tokens.
            doc_stride: How much neighbouring windows overlap, in tokens.
            max_question_len: The longest question, in tokens. `check_lengths` checks that the three lengths fit.

        Raises:
            EmptyQuestionError: The question is empty.
        """
        ids = self.tokenizer.question(question, longest=max_question_len)
        if not len(ids):
            raise EmptyQuestionError("the question is empty")
        yield from cut_windows(
            self.tokenizer, ids, self.tokenizer.text(text), max_seq_len=max_seq_len, doc_stride=doc_stride
        )

    def predict(self, batch: Sequence[Window], configs: Sequence[LengthConfig]) -> Logits:
        """Predict the logits of a batch of windows, each at its own length configuration.

        Args:
            batch: Windows of any questions and texts.
            configs: A length configuration for each window.

        Returns:
            Logits, and the number of layers that each token passed, `[windows, longest window]`. The first
            `len(window)` values of a row belong to its window; the others are padding.

        Raises:
            LogitsError: The model computes logits that are not finite.
        """
        ids, type_ids, mask = pad(batch, self.tokenizer.pad)
        lengths = np.concatenate([config.lengths([len(window)]) for window, config in zip(batch, configs, strict=True)])
        logits = self.runtime.run(ids, type_ids, mask, lengths)
        if not (np.isfinite(logits.start[mask == 1]).all() and np.isfinite(logits.end[mask == 1]).all()):
            raise LogitsError("the model computes logits that are not finite: its weights are damaged, or overflow")
        return logits
