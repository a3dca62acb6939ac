"""Split the questions of a SQuAD file into those that choose and those that confirm."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass, replace

from dynamic_tinybert.errors import DynamicTinyBertError
from dynamic_tinybert.squad.data import Question, SquadFile


class SplitError(DynamicTinyBertError, ValueError):
    """Questions cannot choose or confirm; the message says in one line why, and what to do."""

    misuse = True


@dataclass(frozen=True)
class Questions:
    """Questions with the name that a table of figures gives them.

    Attributes:
        name: Where the questions come from, for example `heldout-confirm`.
        data: The questions.
    """

    name: str
    data: SquadFile

    @property
    def description(self) -> str:
        """The value for `measured_on` in a table: the version of SQuAD, the number of questions, and the name."""
        return f"SQuAD {self.data.version}, the {len(self.data.questions):,} questions of {self.name}"

    @property
    def fingerprint(self) -> str:
        """A SHA-256 of the version and of all ids, questions, texts and answers, in order."""
        content = [[x.id, x.question, x.context, *x.answers] for x in self.data.questions]
        return hashlib.sha256(json.dumps([self.data.version, content]).encode()).hexdigest()


def sample(questions: Questions, number: int | None, seed: int) -> Questions:
    """Draw a random sample of the questions, in their order.

    Args:
        questions: The questions to draw from.
        number: How many to draw; None, or more than there are, returns all of them.
        seed: Another seed draws other questions.

    Raises:
        SplitError: `number` is below 1.
    """
    if number is not None and number < 1:
        raise SplitError(f"a sample must have at least one question, not {number}")
    everything = questions.data.questions
    if number is None or number >= len(everything):
        return questions
    drawn = sorted(random.Random(seed).sample(range(len(everything)), number))
    part = replace(questions.data, questions=tuple(everything[i] for i in drawn))
    return Questions(f"a sample of {questions.name}", part)


def halves(questions: Questions) -> tuple[Questions, Questions]:
    """Split questions into two halves of whole articles, by a hash of the title: the same halves every time.

    If a question has no title, its paragraph is used as the title.

    Returns:
        The questions that choose, and those that confirm.

    Raises:
        SplitError: There are fewer than two articles.
    """

    def article(question: Question) -> str:
        return question.title or question.context

    articles = sorted({article(x) for x in questions.data.questions}, key=lambda x: hashlib.sha256(x.encode()).digest())
    if len(articles) < 2:
        raise SplitError(
            f"{questions.name} has a single article, which cannot be split into select and confirm: give other "
            "questions to confirm"
        )
    choosing = set(articles[::2])
    first, second = (
        tuple(x for x in questions.data.questions if (article(x) in choosing) is chooses) for chooses in (True, False)
    )
    return (
        Questions(f"one half of the articles of {questions.name}", replace(questions.data, questions=first)),
        Questions(f"the other half of the articles of {questions.name}", replace(questions.data, questions=second)),
    )


def check_apart(select: Questions, confirm: Questions) -> None:
    """Check that no paragraph is in both sets of questions.

    Raises:
        SplitError: A paragraph is in both.
    """
    both = {x.context for x in select.data.questions} & {x.context for x in confirm.data.questions}
    if both:
        raise SplitError(
            f"select and confirm must be different: {len(both):,} paragraphs are in both {select.name} and "
            f"{confirm.name}; give other articles to confirm, or give none to split the articles in two halves"
        )
