"""Training features: the windows that answering makes, with the answers' places in them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dynamic_tinybert.inference import Progress, TextTokenizer, Tokens, check_lengths, cut_windows
from dynamic_tinybert.squad import Question, other_paragraphs
from dynamic_tinybert.train.data import (
    Articles,
    Distractors,
    Passage,
    as_typed,
    beside,
    check_article_lengths,
    drawn,
    lay_out,
    place_window,
)
from dynamic_tinybert.train.errors import TrainingError

Batch: TypeAlias = "dict[str, Tensor]"
Answers: TypeAlias = Literal["first", "all"]
Spans: TypeAlias = "tuple[tuple[int, int], ...]"
Places: TypeAlias = "list[tuple[int, int]]"

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
        articles: This share of what is asked is asked in a window of its whole article: the paragraph among its
            neighbours, in a random place. Right answers are those in the paragraph; the same words in a neighbour are
            not labelled.
        article_lengths: The shortest and the longest of these windows, in tokens, the question included; every length
            is equally probable.
        distractors: About as many questions as this share of all are asked a second time: half of the nearest other
            paragraph of their article (BM25) that holds none of their answers, half of their own paragraph with 1 to 3
            sentences of other paragraphs inserted that share their words. Above 0 every window without an answer is
            kept too.
        typed: This share of what is asked is asked as people type it: without a question mark, in lower case, in
            keywords, as an order, or with a typo.
        layout: This share of what is asked is asked of a text as it comes out of PDF or HTML: broken lines, hyphens,
            list markers, headings, feet of pages, menus.
        max_seq_len: The longest window, in tokens.
        doc_stride: How much neighbouring windows overlap, in tokens.
        max_question_len: The longest question, in tokens; a longer one is cut.
        seed: Picks what is asked a second time and what is changed.
    """

    answers: Answers = "all"
    impossible: float = 0.0
    articles: float = 0.0
    article_lengths: tuple[int, int] = (128, 384)
    distractors: float = 0.0
    typed: float = 0.0
    layout: float = 0.0
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
        TrainingError: Nor do those of windows of articles.
    """
    check_lengths(
        max_seq_len=settings.max_seq_len,
        doc_stride=settings.doc_stride,
        max_question_len=settings.max_question_len,
        positions=settings.max_seq_len,
    )
    if settings.articles:
        check_article_lengths(
            settings.article_lengths, max_seq_len=settings.max_seq_len, max_question_len=settings.max_question_len
        )
    asked = list(_asked(questions, settings))
    maker = _Maker(tokenizer, questions, settings)
    features: list[Feature] = []
    for number, ask in enumerate(asked):
        features += maker.features(ask)
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


@dataclass(frozen=True)
class _Ask:
    """A question, asked of a text.

    Attributes:
        question: The question.
        text: A paragraph of its article.
        possible: Whether it has its answers in it.
        kind: Tells it from the other times that the question is asked.
        inserted: Sentences that are inserted in the paragraph.
    """

    question: Question
    text: str
    possible: bool
    kind: str = ""
    inserted: tuple[str, ...] = ()


def _asked(questions: Sequence[Question], settings: FeatureSettings) -> Iterator[_Ask]:
    """Yield what is asked: each question, then those of `impossible`, then those of `distractors`."""
    for question in questions:
        yield _Ask(question, question.context, not question.impossible)
    again = round(settings.impossible * len(questions))
    for question, text in other_paragraphs(questions, again, seed=settings.seed):
        yield _Ask(question, text, False, " impossible")
    near = Distractors(questions)
    for question in questions:
        draw = drawn(settings.distractors, "distractors", settings.seed, question.id)
        if draw is None or question.impossible:
            continue
        if draw.random() < 0.5:
            paragraph = near.nearest(question)
            if paragraph is not None:
                yield _Ask(question, paragraph, False, " distractor")
        elif sentences := near.sentences(question, draw):
            yield _Ask(question, question.context, True, " distractor", sentences)


class _Maker:
    """Makes the features of what is asked."""

    def __init__(self, tokenizer: TextTokenizer, questions: Sequence[Question], settings: FeatureSettings) -> None:
        self._tokenizer = tokenizer
        self._settings = settings
        self._articles = Articles(questions)
        self._keep_empty = bool(
            settings.impossible > 0 or settings.distractors > 0 or any(question.impossible for question in questions)
        )
        self._tokens = lru_cache(512)(self._read)  # paragraphs, each asked of again and again

    def features(self, ask: _Ask) -> Iterator[Feature]:
        """Yield the features of one question about one text; none if its answer cannot be found."""
        settings, question = self._settings, ask.question.question
        if draw := self._drawn(settings.typed, "typed", ask):
            question = as_typed(question, draw)
        ids = self._tokenizer.question(question)[: settings.max_question_len]
        text = self._tokens(ask.text)
        places = list(_places(ask.question, text, settings.answers)) if ask.possible else []
        if not len(ids) or not len(text) or (ask.possible and not places):
            return
        text, places = self._changed(ask, text, places, len(ids) + self._tokenizer.specials)
        yield from _windows(self._tokenizer, ids, text, places, settings, keep_empty=self._keep_empty)

    def _changed(self, ask: _Ask, text: Tokens, places: Places, head: int) -> tuple[Tokens, Places]:
        """The text after all changes that are drawn for it, and the places in it; `head` tokens are not the text's."""
        settings, question = self._settings, ask.question
        # What a neighbour says to a question that its file calls unanswerable is not known.
        article = None if question.impossible else self._drawn(settings.articles, "articles", ask)
        layout = self._drawn(settings.layout, "layout", ask)
        if not (ask.inserted or article or layout):
            return text, places
        right = tuple((int(text.start[first]), int(text.end[last])) for first, last in places)
        passage = Passage(ask.text, right, (0, len(ask.text)))
        if ask.inserted:
            passage = beside(passage, ask.inserted, random.Random(f"{settings.seed} beside {question.id}"))
        room = 0
        if article:
            room = article.randint(*settings.article_lengths) - head
            separator = article.choice(["\n\n", "\n"])
            more = room - len(text)
            passage = self._articles.surround(passage, question, ask.text, more, self._length, separator)
        if layout:
            passage = lay_out(passage, question.title, question.answers, layout)
        text = self._read(passage.text)
        places = [_tokens_of(text, start, end) for start, end in passage.right]
        if article:
            first, last = _tokens_of(text, *passage.paragraph)
            a, b = places[0] if places else [article.randint(first, last)] * 2
            begin, end = place_window(len(text), (first, last + 1), (a, b + 1), room, article)
            text, places = text[begin:end], [(a - begin, b - begin) for a, b in places]
        return text, places

    def _drawn(self, share: float, setting: str, ask: _Ask) -> random.Random | None:
        return drawn(share, setting, self._settings.seed, ask.question.id + ask.kind)

    def _length(self, text: str) -> int:
        return len(self._tokens(text))

    def _read(self, text: str) -> Tokens:
        none = np.zeros(0, np.int64)
        tokens = Tokens(none, none, none, none, none)
        for piece in self._tokenizer.text(text):
            tokens = tokens + piece
        return tokens


def _tokens_of(text: Tokens, start: int, end: int) -> tuple[int, int]:
    """First and last token that have a character from `start` to `end`."""
    first = np.searchsorted(text.end, start, side="right")
    return int(first), int(np.searchsorted(text.start, end, side="left")) - 1


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
            first, last = _tokens_of(text, start, end)
            if not 0 <= first <= last < len(text):
                continue
            whole = text.word_start[first] >= start and text.word_end[last] <= end
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
    places: Places,
    settings: FeatureSettings,
    *,
    keep_empty: bool,
) -> Iterator[Feature]:
    """Yield the windows that hold a whole answer and, where wanted, those that touch none."""
    start = 0  # of the window, in the text's tokens
    for window in cut_windows(
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
