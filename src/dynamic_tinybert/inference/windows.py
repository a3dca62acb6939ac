"""Cut a text into windows, the model's inputs: the question and a part of the text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dynamic_tinybert.inference.characters import Ints
from dynamic_tinybert.inference.loading import WindowError
from dynamic_tinybert.inference.tokenizer import TextTokenizer, Tokens


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """`[CLS] question [SEP] part of the text [SEP]`, with the special tokens of the model.

    Attributes:
        ids: The token ids of the whole window, `[tokens]`.
        type_ids: 0 for the question and its special tokens, 1 for the text and its special token, `[tokens]`, even if
            the model does not embed types.
        text: The text's tokens in the window; the first is at `ids[offset]`.
        offset: Where the text begins in the window.
        settled: How many of the text's tokens, from the left, are in no later window.
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
        specials: The number of special tokens in a window.

    Raises:
        WindowError: A length is out of range, or the longest question leaves no more room for text than the overlap.
    """
    if max_question_len < 1:
        raise WindowError(f"max_question_len must be at least 1 token, not {max_question_len}")
    if doc_stride < 0:
        raise WindowError(f"doc_stride, the overlap of windows, must be at least 0 tokens, not {doc_stride}")
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
    """Yield overlapping windows over a text, from first to last; none for a text without tokens.

    Args:
        tokenizer: Gives the special tokens.
        question: The question's token ids, at most the `max_question_len` that was given to `check_lengths`.
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
    """Pad windows to one length: return token ids, token types and attention mask, `[windows, longest window]` each."""
    lengths = np.array([len(window) for window in batch])
    ids = np.full((len(batch), lengths.max()), pad_id, np.int64)
    type_ids = np.zeros_like(ids)
    for row, window in enumerate(batch):
        ids[row, : len(window)] = window.ids
        type_ids[row, : len(window)] = window.type_ids
    return ids, type_ids, (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
