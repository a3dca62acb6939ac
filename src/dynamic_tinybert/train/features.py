"""Make training features: the same windows as for answering, with the places of the answers."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
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
    find_loosely,
    lay_out,
    place_window,
)
from dynamic_tinybert.train.errors import TrainingError

Batch: TypeAlias = "dict[str, Tensor]"
Answers: TypeAlias = Literal["first", "all"]
Spans: TypeAlias = "tuple[tuple[int, int], ...]"
Places: TypeAlias = "list[tuple[int, int]]"

NO_ANSWER: Spans = ((0, 0),)
"""The label of a window without an answer: [CLS]."""

NO_SPAN = -1
"""Pads the spans of a batch."""


class FeatureError(TrainingError):
    """No features can be made from the data; the message says in one line why."""


@dataclass(frozen=True, eq=False)
class Feature:
    """A window of a question and a text, with its correct answers.

    Attributes:
        ids: The token ids of the window, `[tokens]`.
        offset: The index of the first token of the text.
        spans: First and last token of each correct answer, in the window; `NO_ANSWER` if there is no answer in it.
    """

    ids: npt.NDArray[np.int32]
    offset: int
    spans: Spans

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """How features are made from questions. `articles`, `typed` and `layout` apply to questions asked again too.

    Attributes:
        answers: `all`: every occurrence of an answer's text as whole words is correct (the loss sums their
            probabilities). `first`: only the first answer, at its offset, is correct.
        impossible: The share of questions that are asked again with another paragraph of their article that holds none
            of their answers. If it is above 0, or some questions have no answer by themselves (SQuAD 2.0), windows
            without an answer are kept too.
        articles: The share of questions asked in a window of the whole article: the paragraph with its neighbours, at a
            random place. Only answers in the paragraph are labelled, not the same words in a neighbour.
        article_lengths: The shortest and the longest of these windows, in tokens, with the question; every length is
            equally probable.
        distractors: About this share of questions is asked again: half with the nearest other paragraph of the article
            (BM25) that holds none of their answers, half with their own paragraph and 1 to 3 inserted sentences of
            other paragraphs that share words with the question. Above 0, windows without an answer are kept too.
        typed: The share of questions rewritten as people type them: without a question mark, in lower case, as
            keywords, as an order, or with a typo.
        layout: The share of questions whose text is laid out as extracted from PDF or HTML: broken lines, hyphens, list
            markers, headings, page footers, menus.
        max_seq_len: The longest window, in tokens.
        doc_stride: The overlap of neighbouring windows, in tokens.
        max_question_len: The longest question, in tokens; a longer one is cut.
        seed: Seeds all draws.
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
    unusable: Callable[[Question, str], None] | None = None,
) -> list[Feature]:
    """Make the features of questions, always in the same order.

    An answer that is not in the text as it is written is looked for regardless of case, Unicode form, spaces, quotes
    and dashes.

    Args:
        tokenizer: The tokenizer of the model to be trained.
        questions: The questions.
        settings: How to make them.
        progress: Called with the number of questions done and their total.
        unusable: Called with each question that gives no feature, and why.

    Raises:
        FeatureError: No question gives a feature.
        WindowError: The lengths of windows and questions do not fit each other.
        TrainingError: The lengths of article windows do not fit them.
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
        before = len(features)
        features += maker.features(ask)
        if unusable and not ask.kind and len(features) == before:
            unusable(ask.question, maker.why_none(ask))
        if progress:
            progress(number + 1, len(asked))
    if not features:
        raise FeatureError(f"none of {len(questions):,} questions has an answer that can be found in its text")
    return features


def collate(features: Sequence[tuple[int, Feature]], pad_id: int) -> Batch:
    """Collate numbered features into a batch.

    Returns:
        `input_ids`, `attention_mask`, `token_type_ids` `[batch, tokens]`; `spans` `[batch, most spans, 2]`, padded with
        `NO_SPAN`; and `index` `[batch]`, the numbers of the features.
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
    """Return a SHA-256 of the features' tokens, in order."""
    digest = hashlib.sha256()
    for feature in features:
        digest.update(np.int32(len(feature)).tobytes() + feature.ids.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Ask:
    """A question with the text that it is asked about.

    Attributes:
        question: The question.
        text: A paragraph of its article.
        possible: Whether the paragraph holds its answers.
        kind: Distinguishes this from other uses of the question.
        inserted: Sentences to insert into the paragraph.
    """

    question: Question
    text: str
    possible: bool
    kind: str = ""
    inserted: tuple[str, ...] = ()


def _asked(questions: Sequence[Question], settings: FeatureSettings) -> Iterator[_Ask]:
    """Yield each question, then those that `impossible` asks again, then those that `distractors` asks again."""
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
    def __init__(self, tokenizer: TextTokenizer, questions: Sequence[Question], settings: FeatureSettings) -> None:
        self._tokenizer = tokenizer
        self._settings = settings
        self._articles = Articles(questions)
        self._keep_empty = bool(
            settings.impossible > 0 or settings.distractors > 0 or any(question.impossible for question in questions)
        )
        self._tokens = lru_cache(512)(self._read)  # a paragraph has many questions

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

    def why_none(self, ask: _Ask) -> str:
        """Return why a question gives no feature, after its id."""
        if not len(self._tokenizer.question(ask.question.question)):
            return "the question has no words"
        if not len(self._tokens(ask.text)):
            return "the text has no words"
        answer = next((answer for answer in ask.question.answers if answer.strip()), None)
        if not ask.possible or answer is None:
            return "it has no answer" if ask.possible else "its text holds no answer, and such windows are not kept"
        if list(_places(ask.question, self._tokens(ask.text), self._settings.answers)):
            return f"the answer {answer!r:.60} is longer than the overlap of windows"
        return f"the answer {answer!r:.60} is not in the text"

    def _changed(self, ask: _Ask, text: Tokens, places: Places, head: int) -> tuple[Tokens, Places]:
        """Return the text after all drawn changes, and the places in it; a window has `head` tokens before the text."""
        settings, question = self._settings, ask.question
        # A neighbour might answer a question that the file calls unanswerable.
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
    """Return the first and the last token that have a character from `start` to `end`."""
    first = np.searchsorted(text.end, start, side="right")
    return int(first), int(np.searchsorted(text.start, end, side="left")) - 1


def _places(question: Question, text: Tokens, answers: Answers) -> Iterator[tuple[int, int]]:
    """Yield first and last token of each correct answer in the text, without duplicates."""
    seen = set()
    for number, (answer, given) in enumerate(zip(question.answers, question.answer_starts, strict=True)):
        if not answer.strip() or (answers == "first" and number):
            continue
        if given is not None and not (given >= 0 and question.context.startswith(answer, given)):
            given = None  # the file's offset is wrong
        starts = [] if given is None else [given]
        if answers == "all" or given is None:
            starts += _occurrences(question.context, answer)
        found = [(start, start + len(answer)) for start in starts] or find_loosely(question.context, answer)
        for start, end in found:
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
    """Yield the windows that hold a whole answer and, if `keep_empty`, those that hold no part of one."""
    start = 0  # of the window, in tokens of the text
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
