"""Edit a text and keep track of the places of right answers in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from dynamic_tinybert.squad import normalize_answer, words_of

Edit: TypeAlias = "tuple[int, int, str]"
"""Start and end of the replaced characters, and the replacement. For an insertion, start equals end."""

_END = re.compile(r"(?<=[.!?])[\"”’')\]]*(?:\[\d+\])*(\s+)(?=[\"“‘'(\[]*[A-Z0-9])")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"“.])(?:[A-Z]|Mr|Mrs|Ms|Dr|St|Sr|Jr|Gen|Col|Lt|Capt|Sgt|Rev|Hon|Prof|Gov|Sen|Rep|Pres|Mt|Ft|No|Nos"
    r"|vs|etc|ca|c|cf|e\.g|i\.e|approx|Inc|Ltd|Co|Corp|Bros|vol|Vol|ed|pp?|Jan|Feb|Mar|Apr|Aug|Sept?|Oct|Nov|Dec)\.$"
)


@dataclass(frozen=True)
class Passage:
    """A text that a question is asked about.

    Attributes:
        text: The text.
        right: Start and end of each right answer, in characters of `text`.
        paragraph: Start and end of the paragraph that the question belongs to, in characters of `text`.
    """

    text: str
    right: tuple[tuple[int, int], ...]
    paragraph: tuple[int, int]

    def is_free(self, start: int, end: int) -> bool:
        """Return whether an edit from `start` to `end` leaves every right answer unchanged."""
        return not any(start < b and a < end if start < end else a < start < b for a, b in self.right)

    def edited(self, edits: Iterable[Edit]) -> Passage:
        """Return the passage after edits, with the same right answers at their new places.

        Args:
            edits: Edits that do not overlap. Insertions at the same place keep their order.

        Raises:
            ValueError: Two edits overlap, or one is inside a right answer.
        """
        pieces: list[str] = []
        moves: list[tuple[int, int, int]] = []
        at = 0
        for start, end, new in sorted(edits, key=lambda edit: edit[:2]):
            if start < at or not self.is_free(start, end):
                raise ValueError(f"an edit at {start} to {end} overlaps another, or a right answer")
            pieces += [self.text[at:start], new]
            moves.append((start, end, len(new) - (end - start)))
            at = end
        text = "".join([*pieces, self.text[at:]])

        def start_of(place: int) -> int:
            return place + sum(more for _, end, more in moves if end <= place)

        def end_of(place: int) -> int:  # text that is inserted at the end is outside
            return place + sum(more for start, end, more in moves if end <= place and start < place)

        right = tuple((start_of(a), start_of(a) + b - a) for a, b in self.right)
        return Passage(text, right, (start_of(self.paragraph[0]), end_of(self.paragraph[1])))


def sentence_gaps(text: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of the white space between sentences, by simple rules for English.

    A full stop after an initial or a common abbreviation does not end a sentence.
    """
    for found in _END.finditer(text):
        if not _ABBREVIATION.search(text[max(0, found.start() - 8) : found.start()]):
            yield found.span(1)


def holds(text: str, answers: Iterable[str]) -> bool:
    """Return whether a text holds one of the answers as whole words.

    Words are compared in two ways: as `words_of` splits them, and as `normalize_answer` of SQuAD's metrics does. So
    "4.1" holds "4", "1", "4.1" and "41".
    """
    forms = (normalize_answer, lambda words: " ".join(words_of(words)))
    answers = list(answers)
    for form in forms:
        plain = f" {form(text)} "
        if any(answer and f" {answer} " in plain for answer in map(form, answers)):
            return True
    return False
