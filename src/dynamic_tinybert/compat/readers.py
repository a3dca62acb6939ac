"""Readers that check or adapt window lengths for each question and text, like other libraries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

import numpy as np

from dynamic_tinybert.inference import Reader, Tokens, Window, WindowError, cut_windows


class FittingReader(Reader):
    """A reader that checks for each question and text whether the window lengths fit.

    Args:
        reader: The reader whose tokenizer and runtime it uses.
        fixed: Whether the overlap of windows is fixed; otherwise it is reduced for a long question.
    """

    def __init__(self, reader: Reader, *, fixed: bool) -> None:
        super().__init__(reader.tokenizer, reader.runtime)
        self._fixed = fixed

    def windows(
        self, question: str, text: str, *, max_seq_len: int, doc_stride: int, max_question_len: int
    ) -> Iterator[Window]:
        """Yield the windows of a question and a text: see `Reader.windows`.

        Raises:
            WindowError: The question leaves no room for the text, or no more than the overlap of two windows.
            ValueError: The question is empty.
        """
        ids = self.tokenizer.question(question, longest=max_question_len)
        if not len(ids):
            raise ValueError("the question is empty")
        specials = self.tokenizer.specials
        room = max_seq_len - len(ids) - specials
        if room < 1:
            raise WindowError(
                f"the question has {len(ids)} tokens, which with {specials} special tokens leaves no room for the text "
                f"in max_seq_len {max_seq_len}: raise max_seq_len or give max_question_len"
            )
        tokens = self.tokenizer.text(text)
        if doc_stride >= room:
            head, longer = _begin(tokens, room)
            if longer and self._fixed:
                raise WindowError(
                    f"max_seq_len {max_seq_len} less {len(ids)} tokens of the question and {specials} special tokens "
                    f"leaves {room} tokens for the text, no more than the overlap doc_stride {doc_stride}: raise "
                    "max_seq_len, or lower doc_stride or max_question_len"
                )
            tokens, doc_stride = chain(head, tokens), room // 2
        yield from cut_windows(self.tokenizer, ids, tokens, max_seq_len=max_seq_len, doc_stride=doc_stride)


class QueryReader(FittingReader):
    """A reader that cuts a longer query to half a window, unless query and document fit in one window.

    Args:
        reader: The reader whose tokenizer and runtime it uses.
        token_types: Whether to tell the model which tokens belong to the document.
    """

    def __init__(self, reader: Reader, *, token_types: bool) -> None:
        super().__init__(reader, fixed=False)
        self._token_types = token_types

    def windows(
        self, question: str, text: str, *, max_seq_len: int, doc_stride: int, max_question_len: int
    ) -> Iterator[Window]:
        """Yield the windows of a query and a document: see `Reader.windows`."""
        room = max_seq_len - self.tokenizer.specials
        asked = len(self.tokenizer.question(question))
        if asked > room // 2 and asked + sum(map(len, self.tokenizer.text(text))) > room:
            max_question_len = room // 2
        for window in super().windows(
            question, text, max_seq_len=max_seq_len, doc_stride=doc_stride, max_question_len=max_question_len
        ):
            yield window if self._token_types else replace(window, type_ids=np.zeros_like(window.type_ids))


def _begin(tokens: Iterator[Tokens], room: int) -> tuple[list[Tokens], bool]:
    """Take pieces of a text until they have more than `room` tokens. Return them, and whether they have more."""
    head: list[Tokens] = []
    for piece in tokens:
        head.append(piece)
        if sum(map(len, head)) > room:
            return head, True
    return head, False
