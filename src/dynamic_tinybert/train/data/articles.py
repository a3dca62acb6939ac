"""Make windows of a whole article: a paragraph with its neighbours, in the article's order."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from dynamic_tinybert.squad import Question, paragraphs_of
from dynamic_tinybert.train.data.passage import Passage, holds
from dynamic_tinybert.train.errors import TrainingError


def check_article_lengths(lengths: tuple[int, int], *, max_seq_len: int, max_question_len: int) -> None:
    """Check the lengths of article windows.

    Args:
        lengths: The shortest and the longest article window, in tokens.
        max_seq_len: The longest window of any kind, in tokens.
        max_question_len: The longest question, in tokens.

    Raises:
        TrainingError: The lengths are in the wrong order, too long, or leave too little room for the text.
    """
    shortest, longest = lengths
    if shortest > longest:
        raise TrainingError(f"article_lengths begins with {shortest}, more than {longest}: put the shorter first")
    if longest > max_seq_len:
        raise TrainingError(f"article_lengths goes up to {longest} tokens: it is at most max_seq_len, {max_seq_len}")
    if shortest < 2 * max_question_len:
        raise TrainingError(
            f"article_lengths begins with {shortest} tokens: it is at least twice max_question_len, {max_question_len},"
            " so that half of a window is text"
        )


class Articles:
    """The paragraphs of articles, by title, in order.

    Args:
        questions: The questions about the paragraphs.
    """

    def __init__(self, questions: Sequence[Question]) -> None:
        self._texts: Mapping[str, list[str]] = {title: list(texts) for title, texts in paragraphs_of(questions).items()}
        self._at = {title: {text: i for i, text in enumerate(texts)} for title, texts in self._texts.items()}

    def surround(
        self, passage: Passage, question: Question, text: str, tokens: int, length: Callable[[str], int], separator: str
    ) -> Passage:
        """Add the neighbours of a paragraph before and after it.

        If the paragraph holds a right answer, any neighbours are added; an occurrence of the answer in them is not
        labelled. If it does not, neighbours are added up to the first one that holds an answer or is the question's own
        paragraph; that one is left out.

        Args:
            passage: The paragraph, perhaps changed.
            question: The question.
            text: The paragraph as it is in the article.
            tokens: Add neighbours on each side until they have this many tokens, or there are no more.
            length: Returns the number of tokens of a text.
            separator: The text between paragraphs.
        """
        texts = self._texts[question.title]
        at = self._at[question.title][text]

        def side(numbers: range) -> list[str]:
            found, there = [], 0
            for number in numbers:
                near = texts[number]
                if there >= tokens or (
                    not passage.right and (near == question.context or holds(near, question.answers))
                ):
                    break
                found.append(near)
                there += length(near)
            return found

        before = side(range(at - 1, -1, -1))[::-1]
        after = side(range(at + 1, len(texts)))
        return passage.edited(
            [
                *((0, 0, near + separator) for near in before),
                *((len(passage.text), len(passage.text), separator + near) for near in after),
            ]
        )


def place_window(
    total: int, paragraph: tuple[int, int], answer: tuple[int, int], room: int, draw: random.Random
) -> tuple[int, int]:
    """Draw the place of a window in a text.

    The window holds the whole paragraph. If the paragraph is longer than the window, the window lies in the paragraph
    and holds the whole answer. All such places are equally probable.

    Args:
        total: The length of the text, in tokens.
        paragraph: Start and end of the paragraph, in tokens; the end is exclusive.
        answer: Start and end of the answer, likewise; if there is no answer, of any part of the paragraph.
        room: The length of the window, in tokens. The window is longer if the answer is longer.
        draw: Draws the place.

    Returns:
        Start and end of the window, in tokens; the end is exclusive.
    """
    room = min(total, max(room, answer[1] - answer[0]))
    begin, end = paragraph
    if end - begin <= room:
        least, most = max(0, end - room), min(begin, total - room)
    else:
        least, most = max(begin, answer[1] - room), min(answer[0], end - room)
    start = draw.randint(least, most)
    return start, start + room
