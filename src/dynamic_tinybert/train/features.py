"""Training features: the windows that answering makes, with the answers' places in them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dynamic_tinybert.squad import Question
from dynamic_tinybert.squad.unanswerable import other_paragraphs
from dynamic_tinybert.stream import Progress
from dynamic_tinybert.train.errors import TrainingError
from dynamic_tinybert.windows import TextTokenizer, Tokens, check_lengths, windows

Batch: TypeAlias = "dict[str, Tensor]"
Answers: TypeAlias = Literal["first", "all"]
Spans: TypeAlias = "tuple[tuple[int, int], ...]"

NO_ANSWER: Spans = ((0, 0),)
"""The label of a window that holds no answer: [CLS]."""

NO_SPAN = -1
"""Fills up the spans of a batch."""


class FeatureError(TrainingError):
    """Data that nothing can be learned from; one line that says why."""


@dataclass(frozen=True, eq=False)
class Feature:
    """A window of a question and a text, and what is right in it.

    Attributes:
        ids: The window, `[tokens]`.
        offset: Where its text begins.
        spans: First and last token of each correct answer, in the window; `NO_ANSWER` if it holds none.
    """

    ids: npt.NDArray[np.int32]
    offset: int
    spans: Spans

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """How features are made of questions.

    Attributes:
        answers: `all` takes every occurrence of an answer's text, as whole words, for correct (the loss sums their
            probabilities); `first` trusts the offset of the first answer alone.
        impossible: As many questions as this share of all are asked a second time, of another paragraph of their
            article that holds none of their answers. Above 0, or where some questions have no answer by themselves, as
            in SQuAD 2.0, every window without an answer is kept too.
        max_seq_len: The longest window, in tokens.
        doc_stride: How much neighbouring windows overlap, in tokens.
        max_question_len: The longest question, in tokens; a longer one is cut.
        seed: Picks the questions and paragraphs of `impossible`.
    """

    answers: Answers = "all"
    impossible: float = 0.0
    max_seq_len: int = 384
    doc_stride: int = 128
    max_question_len: int = 64
    seed: int = 0


def make_features(
    tokenizer: TextTokenizer,
    questions: Sequence[Question],
    settings: FeatureSettings,
    *,
    progress: Progress | None = None,
) -> list[Feature]:
    """Make the features of questions, always in the same order.

    Args:
        tokenizer: The tokenizer of the model to be trained.
        questions: The questions.
        settings: How.
        progress: Called with the questions done and their number.

    Raises:
        FeatureError: No question gives any.
        WindowError: The lengths do not fit each other.
    """
    check_lengths(
        max_seq_len=settings.max_seq_len,
        doc_stride=settings.doc_stride,
        max_question_len=settings.max_question_len,
        positions=settings.max_seq_len,
    )
    asked = [(question, question.context, not question.impossible) for question in questions]
    again = round(settings.impossible * len(questions))
    asked += [(question, text, False) for question, text in other_paragraphs(questions, again, seed=settings.seed)]
    keep_empty = settings.impossible > 0 or any(question.impossible for question in questions)
    features: list[Feature] = []
    context, text = "", _tokens(tokenizer, "")
    for number, (question, about, possible) in enumerate(asked):
        if about != context:
            context, text = about, _tokens(tokenizer, about)
        ids = tokenizer.question(question.question)[: settings.max_question_len]
        places = list(_places(question, text, settings.answers)) if possible else []
        if len(ids) and (places or not possible):
            features += _windows(tokenizer, ids, text, places, settings, keep_empty=keep_empty)
        if progress:
            progress(number + 1, len(asked))
    if not features:
        raise FeatureError(f"none of {len(questions):,} questions has an answer that can be found in its text")
    return features


def collate(features: Sequence[tuple[int, Feature]], pad_id: int) -> Batch:
    """Put numbered features together.

    Returns:
        `input_ids`, `attention_mask`, `token_type_ids` `[batch, tokens]`; `spans` `[batch, most spans, 2]`, filled up
        with `NO_SPAN`; and `index` `[batch]`, their numbers.
    """
    longest = max(len(feature) for _, feature in features)
    ids = np.full((len(features), longest), pad_id, np.int64)
    mask, types = np.zeros_like(ids), np.zeros_like(ids)
    spans = np.full((len(features), max(len(feature.spans) for _, feature in features), 2), NO_SPAN, np.int64)
    for row, (_, feature) in enumerate(features):
        ids[row, : len(feature)] = feature.ids
        mask[row, : len(feature)] = 1
        types[row, feature.offset : len(feature)] = 1
        spans[row, : len(feature.spans)] = feature.spans
    arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types, "spans": spans}
    arrays["index"] = np.array([number for number, _ in features], np.int64)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def fingerprint(features: Sequence[Feature]) -> str:
    """Tell features apart: a SHA-256 of their tokens, in order."""
    digest = hashlib.sha256()
    for feature in features:
        digest.update(np.int32(len(feature)).tobytes() + feature.ids.tobytes())
    return digest.hexdigest()


def _tokens(tokenizer: TextTokenizer, text: str) -> Tokens:
    none = np.zeros(0, np.int64)
    tokens = Tokens(none, none, none, none, none)
    for piece in tokenizer.text(text):
        tokens = tokens + piece
    return tokens


def _places(question: Question, text: Tokens, answers: Answers) -> Iterator[tuple[int, int]]:
    """Yield first and last token, in the text, of each correct answer, each once."""
    seen = set()
    for number, (answer, given) in enumerate(zip(question.answers, question.answer_starts, strict=True)):
        if not answer.strip() or (answers == "first" and number):
            continue
        if given is not None and not (given >= 0 and question.context.startswith(answer, given)):
            given = None  # another text stands there
        starts = [] if given is None else [given]
        if answers == "all" or given is None:
            starts += _occurrences(question.context, answer)
        for start in starts:
            end = start + len(answer)
            first = int(np.searchsorted(text.end, start, side="right"))
            last = int(np.searchsorted(text.begin, end, side="left")) - 1
            if not 0 <= first <= last < len(text):
                continue
            whole = text.word_begin[first] >= start and text.word_end[last] <= end
            if (start == given or whole) and (first, last) not in seen:
                seen.add((first, last))
                yield first, last
                if answers == "first":
                    return


def _occurrences(text: str, answer: str) -> Iterator[int]:
    at = text.find(answer)
    while at >= 0:
        yield at
        at = text.find(answer, at + 1)


def _windows(
    tokenizer: TextTokenizer,
    question: npt.NDArray[np.int64],
    text: Tokens,
    places: list[tuple[int, int]],
    settings: FeatureSettings,
    *,
    keep_empty: bool,
) -> Iterator[Feature]:
    """Yield the windows that hold a whole answer and, where wanted, those that touch none."""
    start = 0  # of the window, in the text's tokens
    for window in windows(
        tokenizer,
        question,
        [text] if len(text) else [],
        max_seq_len=settings.max_seq_len,
        doc_stride=settings.doc_stride,
    ):
        end = start + len(window.text)
        shift = window.offset - start
        spans = tuple((a + shift, b + shift) for a, b in places if a >= start and b < end)
        touched = any(b >= start and a < end for a, b in places)
        if spans or (keep_empty and not touched):
            yield Feature(window.ids.astype(np.int32), window.offset, spans or NO_ANSWER)
        start += window.settled
