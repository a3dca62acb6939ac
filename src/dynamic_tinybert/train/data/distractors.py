"""Find text that shares words with a question but does not answer it."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dynamic_tinybert.squad import Article, Bm25, Question, holds_answer, paragraphs_of
from dynamic_tinybert.train.data.passage import Edit, Passage, sentence_gaps

_NEAREST = 6  # sentences to draw from
_LEAST = 0.3  # of the greatest score: a sentence below it shares only common words, so it is not a distractor
_LENGTHS = 40, 400  # shortest and longest sentence, in characters
_REFERS_BACK = re.compile(
    r"[\"“‘'(\[]*(?:he|she|it|they|this|these|that|those|such|his|her|its|their|him|them|there|here|however|but|and|"
    r"or|so|thus|therefore|then|also|another|other|others|both|each|one|instead|later|afterwards|moreover|furthermore|"
    r"in addition|for example|for instance|as a result|the (?:latter|former|same|two))\b",
    re.IGNORECASE,
)
"""The beginning of a sentence that refers to the one before it."""


class Distractors:
    """Rank the paragraphs and sentences of articles for their questions, by BM25.

    Only the index of the latest article is kept, so ask about one article after another.

    Args:
        questions: The questions about the paragraphs.
    """

    def __init__(self, questions: Sequence[Question]) -> None:
        self._texts = {title: list(texts) for title, texts in paragraphs_of(questions).items()}
        self._title: str | None = None

    def nearest(self, question: Question) -> str | None:
        """Return the nearest other paragraph of the article that holds none of the answers, or None."""
        self._rank(question.title)
        return self._article.nearest(question)

    def sentences(self, question: Question, draw: random.Random) -> tuple[str, ...]:
        """Draw 1 to 3 of the nearest sentences of other paragraphs; each shares a word with the question.

        No sentence holds an answer. No sentence begins with a word that refers back ("It", "However"), since it would
        mean something else in another paragraph. The result is empty if there is no such sentence.
        """
        self._rank(question.title)
        scores = self._ranking.scores(question.question)
        least = max(_LEAST * scores.max(initial=0), 1e-9)
        order: list[int] = np.argsort(-scores, kind="stable").tolist()
        found: list[str] = []
        for i in order:
            paragraph, sentence = self._sentences[i]
            if len(found) == _NEAREST or scores[i] < least:
                break
            if paragraph == question.context or sentence in question.context or sentence in found:
                continue
            if not holds_answer(sentence, question.answers):
                found.append(sentence)
        return tuple(draw.sample(found, min(len(found), draw.randint(1, 3))))

    def _rank(self, title: str) -> None:
        if title != self._title:
            texts = self._texts[title]
            self._title, self._article = title, Article(texts)
            self._sentences = [(text, sentence) for text in texts for sentence in _standing_alone(text)]
            self._ranking = Bm25([sentence for _, sentence in self._sentences])


def beside(passage: Passage, sentences: Sequence[str], draw: random.Random) -> Passage:
    """Insert sentences into a passage: before it, after it, or between two of its sentences.

    No sentence is inserted before a sentence that refers back, or inside a right answer.

    Args:
        passage: The passage.
        sentences: The sentences to insert.
        draw: Draws the place of each.
    """
    text = passage.text
    edits: list[Edit] = [(0, 0, "{} "), (len(text), len(text), " {}")]
    edits += [
        (start, start, " {}")
        for start, end in sentence_gaps(text)
        if passage.is_free(start, end) and not _REFERS_BACK.match(text, end)
    ]
    if _REFERS_BACK.match(text):
        del edits[0]
    places = sorted(draw.choice(edits) for _ in sentences)
    changed = passage.edited(
        (start, end, form.replace("{}", new)) for (start, end, form), new in zip(places, sentences, strict=True)
    )
    return replace(changed, paragraph=(0, len(changed.text)))


def _standing_alone(text: str) -> list[str]:
    """Return the sentences of a text that do not refer back and are neither too short nor too long."""
    gaps = [*sentence_gaps(text), (len(text), len(text))]
    begins = [0, *(end for _, end in gaps)]
    sentences = [text[begin:end].strip() for begin, (end, _) in zip(begins, gaps, strict=False)]
    shortest, longest = _LENGTHS
    return [each for each in sentences if shortest <= len(each) <= longest and not _REFERS_BACK.match(each)]
