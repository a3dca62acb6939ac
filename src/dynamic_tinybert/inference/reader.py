"""The reader: windows in, logits out. The middle of the road, for callers who batch by themselves."""

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
    """What makes logits of tokens, as `Runtime` does; a model in training is another."""

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
    """A tokenizer and a model, together. Safe to use from many threads.

    Attributes:
        tokenizer: Makes tokens of questions and texts.
        runtime: Makes logits of tokens.
    """

    def __init__(self, tokenizer: TextTokenizer, runtime: LogitsSource) -> None:
        self.tokenizer = tokenizer
        self.runtime = runtime

    def windows(
        self, question: str, text: str, *, max_seq_len: int, doc_stride: int, max_question_len: int
    ) -> Iterator[Window]:
        """Yield the windows of a question and a text; none for a text without words. Warns of a question that is cut.

        Args:
            question: The question.
            text: The text.
            max_seq_len: The longest window, in tokens.
            doc_stride: How much neighbouring windows overlap, in tokens.
            max_question_len: The longest question, in tokens; `check_lengths` says what goes together.

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
        """Run a batch of windows, each at a length configuration of its own.

        Args:
            batch: Windows of any question and text.
            configs: A length configuration for each.

        Returns:
            Logits, and the layers that each token passed, `[windows, longest window]`; a window's first `len(window)`
            values are its own.

        Raises:
            LogitsError: The model computes logits that are not finite.
        """
        ids, type_ids, mask = pad(batch, self.tokenizer.pad)
        lengths = np.concatenate([config.lengths([len(window)]) for window, config in zip(batch, configs, strict=True)])
        logits = self.runtime.run(ids, type_ids, mask, lengths)
        if not (np.isfinite(logits.start[mask == 1]).all() and np.isfinite(logits.end[mask == 1]).all()):
            raise LogitsError("the model computes logits that are not finite: its weights are damaged, or overflow")
        return logits
