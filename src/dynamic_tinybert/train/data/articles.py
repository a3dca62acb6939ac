"""Windows of a whole article: a paragraph among its neighbours, in the article's order."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from dynamic_tinybert.squad import Question, paragraphs_of
from dynamic_tinybert.train.data.passage import Passage, holds
from dynamic_tinybert.train.errors import TrainingError


def check_article_lengths(lengths: tuple[int, int], *, max_seq_len: int, max_question_len: int) -> None:
    """Check that windows of articles can have the lengths that are wanted.

    Args:
        lengths: The shortest and the longest window, in tokens.
        max_seq_len: The longest window of all, in tokens.
        max_question_len: The longest question, in tokens.

    Raises:
        TrainingError: They are in the wrong order, too long, or leave no room for a text.
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
    """The paragraphs of articles, by their titles, in order.

    Args:
        questions: Those whose paragraphs they are.
    """

    def __init__(self, questions: Sequence[Question]) -> None:
        self._texts: Mapping[str, list[str]] = {title: list(texts) for title, texts in paragraphs_of(questions).items()}
        self._at = {title: {text: i for i, text in enumerate(texts)} for title, texts in self._texts.items()}

    def surround(
        self, passage: Passage, question: Question, text: str, tokens: int, length: Callable[[str], int], separator: str
    ) -> Passage:
        """Put the neighbours of a paragraph around it.

        A paragraph that holds a right answer may have any neighbours: an occurrence of the answer in them is not
        labelled. One that holds none gets neighbours up to the first that holds one, or that is the question's own.

        Args:
            passage: The paragraph, perhaps changed.
            question: The question.
            text: The paragraph as it is in the article.
            tokens: On each side neighbours are added until they have this many tokens, or there are no more.
            length: How many tokens a text has.
            separator: What stands between paragraphs.
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
    """Draw where a window lies in a text.

    Every place is equally probable at which the window holds the whole paragraph; or, if the paragraph is longer than
    the window, at which it lies in the paragraph and holds the whole answer.

    Args:
        total: The length of the text, in tokens.
        paragraph: First token of the paragraph, and the one after its last.
        answer: The same of the answer; if there is no answer, of any part of the paragraph.
        room: The length of the window, in tokens. The window is longer if the answer is.
        draw: Draws the place.

    Returns:
        The first token of the window, and the one after its last.
    """
    room = min(total, max(room, answer[1] - answer[0]))
    begin, end = paragraph
    if end - begin <= room:
        least, most = max(0, end - room), min(begin, total - room)
    else:
        least, most = max(begin, answer[1] - room), min(answer[0], end - room)
    start = draw.randint(least, most)
    return start, start + room
