"""Distractors: near text without the answers, which leaves the right answer as it is."""

from __future__ import annotations

import random

import pytest

from dynamic_tinybert.squad import Question
from dynamic_tinybert.train.data import Distractors, Passage, beside

LIGHT = "The lighthouse of Port Ellis was built by Agnes Moreau in 1871. It burned twice. Ships see it from afar."
TEXTS = [
    LIGHT,
    "The harbour lies south. Many fishers of the old town live close to the harbour all year.",
    "The second lighthouse of the coast was built by Zoë Brontë in 1902. However, the lighthouse was built too late.",
    "The lighthouse of Port Ellis was built in 1871, says a long inscription that nobody reads.",
]


def asked(*answers: str, text: str = LIGHT, question: str = "When was the lighthouse built?") -> Question:
    return Question(
        id=f"{question} {answers}",
        title="Lighthouses",
        question=question,
        context=text,
        answers=answers,
        answer_starts=tuple(text.find(answer) for answer in answers),
        impossible=False,
    )


@pytest.fixture
def near() -> Distractors:
    return Distractors([asked("x", text=text) for text in TEXTS])


def test_the_nearest_paragraph_holds_no_answer(near: Distractors) -> None:
    assert near.nearest(asked("1871")) == TEXTS[2]
    assert near.nearest(asked("Agnes Moreau", question="Who built it in Port Ellis?")) == TEXTS[3]
    assert near.nearest(asked("1871", "the coast")) == TEXTS[1]
    assert near.nearest(asked("lighthouse", "harbour")) is None


def test_sentences_hold_no_answer_and_stand_alone(near: Distractors) -> None:
    drawn = {each for seed in range(30) for each in near.sentences(asked("1871"), random.Random(seed))}
    assert drawn == {"The second lighthouse of the coast was built by Zoë Brontë in 1902."}
    drawn = {each for seed in range(30) for each in near.sentences(asked("Agnes Moreau"), random.Random(seed))}
    assert drawn == {"The second lighthouse of the coast was built by Zoë Brontë in 1902.", TEXTS[3]}


@pytest.mark.parametrize("question", ["", "???", "Which spaceship?"])
def test_a_question_that_shares_no_word_gets_no_sentence(near: Distractors, question: str) -> None:
    assert near.sentences(asked("1871", question=question), random.Random(0)) == ()


def test_an_article_of_one_paragraph_has_no_distractor() -> None:
    near = Distractors([asked("1871")])
    assert near.nearest(asked("1871")) is None
    assert near.sentences(asked("1871"), random.Random(0)) == ()


def test_sentences_are_inserted_between_sentences_and_around_the_answer() -> None:
    start = LIGHT.index("1871")
    passage = Passage(LIGHT, ((start, start + 4),), (0, len(LIGHT)))
    texts = set()
    for seed in range(60):
        changed = beside(passage, ["One {stands} here.", "Two stand."], random.Random(seed))
        assert [changed.text[a:b] for a, b in changed.right] == ["1871"]
        assert changed.paragraph == (0, len(changed.text))
        left = changed.text
        for new in ("One {stands} here.", "Two stand."):
            assert new in left
            left = left.replace(new, "")
        assert left.split() == LIGHT.split()
        assert "here. It burned" not in changed.text  # what "It" means would change
        texts.add(changed.text)
    assert len(texts) > 5


def test_no_sentence_is_inserted_inside_an_answer() -> None:
    text = "He wrote Stop. Go. Wait."
    passage = Passage(text, ((9, 18),), (0, len(text)))
    for seed in range(30):
        changed = beside(passage, ["New one."], random.Random(seed))
        assert "Stop. Go." in changed.text
        assert [changed.text[a:b] for a, b in changed.right] == ["Stop. Go."]


def test_an_empty_text_takes_sentences() -> None:
    assert beside(Passage("", (), (0, 0)), ["One."], random.Random(0)).text.strip() == "One."
