"""Text to windows: a question and a piece of the text, as the model gets them. No model in sight."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dynamic_tinybert.inference.characters import Ints
from dynamic_tinybert.inference.tokenizer import TextTokenizer, Tokens, WindowError


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """`[CLS] question [SEP] piece of the text [SEP]`, or with the special tokens that the model has instead.

    Attributes:
        ids: The whole window, `[tokens]`.
        type_ids: 0 for the question's half, its special tokens among it, and 1 for the text's, `[tokens]`; whether the
            model embeds them or not.
        text: The tokens of the text in it; the first is at `ids[offset]`.
        offset: Where the text begins in the window.
        settled: How many of the text's tokens in it, from the left, no later window holds.
    """

    ids: Ints
    type_ids: Ints
    text: Tokens
    offset: int
    settled: int

    def __len__(self) -> int:
        return len(self.ids)


def check_lengths(
    *, max_seq_len: int, doc_stride: int, max_question_len: int, positions: int, specials: int = 3
) -> None:
    """Check that a text can be cut into windows.

    Args:
        max_seq_len: The longest window, in tokens.
        doc_stride: How much neighbouring windows overlap, in tokens.
        max_question_len: The longest question, in tokens; a longer one is cut.
        positions: The longest sequence that the model can read.
        specials: The special tokens of a window.

    Raises:
        WindowError: One of them is out of range, or a window of the longest question would not move on.
    """
    if max_question_len < 1:
        raise WindowError(f"max_question_len is at least 1 token, not {max_question_len}")
    if doc_stride < 0:
        raise WindowError(f"doc_stride, the overlap of windows, is at least 0 tokens, not {doc_stride}")
    if max_seq_len > positions:
        raise WindowError(f"max_seq_len {max_seq_len} is more than the {positions} tokens that the model can read")
    room = max_seq_len - max_question_len - specials
    if room <= doc_stride:
        raise WindowError(
            f"max_seq_len {max_seq_len} less max_question_len {max_question_len} and {specials} special tokens leaves "
            f"{room} tokens for the text, no more than the overlap doc_stride {doc_stride}: raise max_seq_len, or "
            "lower doc_stride or max_question_len"
        )


def cut_windows(
    tokenizer: TextTokenizer, question: Ints, text: Iterable[Tokens], *, max_seq_len: int, doc_stride: int
) -> Iterator[Window]:
    """Yield overlapping windows over a text, first to last; none for a text without tokens.

    Args:
        tokenizer: Gives the special tokens.
        question: The question's token ids, at most the `max_question_len` that `check_lengths` was asked about.
        text: The text's tokens, in pieces of any size.
        max_seq_len: The longest window, in tokens.
        doc_stride: How much neighbouring windows overlap, in tokens.
    """
    head = np.concatenate([[tokenizer.cls], question, tokenizer.between])
    tail = np.array([tokenizer.sep])
    room = max_seq_len - len(head) - 1

    def window(tokens: Tokens, settled: int) -> Window:
        ids = np.concatenate([head, tokens.ids, tail])
        type_ids = np.zeros_like(ids)
        type_ids[len(head) :] = 1
        return Window(ids=ids, type_ids=type_ids, text=tokens, offset=len(head), settled=settled)

    waiting: Tokens | None = None
    for piece in text:
        waiting = piece if waiting is None else waiting + piece
        while len(waiting) > room:
            yield window(waiting[:room], room - doc_stride)
            waiting = waiting[room - doc_stride :]
    if waiting is not None:
        yield window(waiting, len(waiting))


def pad(batch: Sequence[Window], pad_id: int) -> tuple[Ints, Ints, Ints]:
    """Return token ids, token types and attention mask of windows, `[windows, longest window]` each."""
    lengths = np.array([len(window) for window in batch])
    ids = np.full((len(batch), lengths.max()), pad_id, np.int64)
    type_ids = np.zeros_like(ids)
    for row, window in enumerate(batch):
        ids[row, : len(window)] = window.ids
        type_ids[row, : len(window)] = window.type_ids
    return ids, type_ids, (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
