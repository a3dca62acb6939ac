"""Rank the paragraphs of an article by how near they are to a question, with BM25."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dynamic_tinybert.squad.data import Question
from dynamic_tinybert.squad.metrics import holds_answer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_K1, _B = 1.2, 0.75  # the usual parameters of BM25
_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """Return the words of a text in order, case-folded."""
    return [word.casefold() for word in _WORD.findall(text)]


class Bm25:
    """Score texts by the words that they share with a question: BM25 (Robertson and Zaragoza, 2009).

    Args:
        texts: The texts, `[texts]`.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        import numpy as np  # here, so that reading SQuAD and scoring do not need NumPy

        counts = [Counter(words_of(text)) for text in texts]
        lengths = [sum(each.values()) for each in counts]
        mean = sum(lengths) / max(1, len(lengths)) or 1.0
        holding: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, each in enumerate(counts):
            for word, count in each.items():
                holding[word].append((number, count))
        self._norms = np.array([_K1 * (1 - _B + _B * length / mean) for length in lengths])
        self._holding = dict(holding)

    def scores(self, question: str) -> npt.NDArray[np.float64]:
        """Return the score of each text for a question, `[texts]`; 0 for a text that shares no word with it."""
        found = self._norms * 0
        for word in sorted(set(words_of(question))):
            holding = self._holding.get(word, [])
            rarity = math.log(1 + (len(self._norms) - len(holding) + 0.5) / (len(holding) + 0.5))
            for number, count in holding:
                found[number] += rarity * count * (_K1 + 1) / (count + self._norms[number])
        return found


class Article:
    """The paragraphs of an article, ranked for its questions.

    Args:
        texts: The paragraphs.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = list(texts)
        self._ranking = Bm25(texts)

    def nearest(self, question: Question) -> str | None:
        """Return the paragraph nearest to a question, without its own and those that hold one of its answers.

        If paragraphs are equally near, the first is returned; if no paragraph is left, None.
        """
        order: list[int] = (-self._ranking.scores(question.question)).argsort(kind="stable").tolist()
        others = (self._texts[i] for i in order if self._texts[i] != question.context)
        return next((text for text in others if not holds_answer(text, question.answers)), None)
