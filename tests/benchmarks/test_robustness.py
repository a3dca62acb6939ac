"""Questions in other forms: what each form changes, and what it must not."""

from __future__ import annotations

import pytest

from benchmarks.quality.robustness import FORMS, Forms, figures
from dynamic_tinybert.squad import Question


def question(number: int, title: str, asked: str, context: str, answer: str) -> Question:
    return Question(
        id=str(number),
        title=title,
        question=asked,
        context=context,
        answers=(answer,),
        answer_starts=(context.index(answer),),
        impossible=False,
    )


TOWER = "Gustave Eiffel built the tower in Paris in 1889. It is 330 metres tall."
BRIDGE = "The bridge in Paris was built in 1607 for the king. Many people built houses on the tower side."
QUESTIONS = [
    question(1, "Paris", "When did Gustave Eiffel build the tower?", TOWER, "1889"),
    question(2, "Paris", "How tall is it?", TOWER, "330 metres"),
    question(3, "Paris", "For whom was the bridge in Paris built?", BRIDGE, "the king"),
    question(4, "Oslo", "When did Edvard Munch paint the Scream?", "Edvard Munch painted the Scream in 1893.", "1893"),
    question(
        5, "Oslo", "In which city did Henrik Ibsen die?", "Henrik Ibsen died in Kristiania in 1906.", "Kristiania"
    ),
]


@pytest.fixture
def forms() -> Forms:
    return Forms(QUESTIONS)


@pytest.mark.parametrize(
    ("form", "asked"),
    [
        ("lower", "when did gustave eiffel build the tower?"),
        ("unmarked", "When did Gustave Eiffel build the tower"),
        ("keywords", "when gustave eiffel build tower"),
    ],
)
def test_a_question_in_another_form(forms: Forms, form: str, asked: str) -> None:
    changed = FORMS[form](forms, QUESTIONS[0])
    assert changed is not None
    assert (changed.question, changed.context, changed.answers) == (asked, TOWER, ("1889",))


def test_the_nearest_sentence_of_another_paragraph_is_added(forms: Forms) -> None:
    changed = FORMS["nearest"](forms, QUESTIONS[0])
    assert changed is not None
    assert changed.context == f"{TOWER} Many people built houses on the tower side."
    assert changed.question == QUESTIONS[0].question


def test_an_answer_is_made_for_another_name(forms: Forms) -> None:
    changed = FORMS["made"](forms, QUESTIONS[0])
    assert changed is not None
    before, added = changed.context[: len(TOWER)], changed.context[len(TOWER) + 1 :]
    assert before == TOWER
    assert "Gustave Eiffel" not in added
    assert added.endswith("build the tower 1893.")
    assert FORMS["made"](Forms(QUESTIONS), QUESTIONS[0]) == changed  # in every run


@pytest.mark.parametrize(
    ("asked", "ending"),
    [
        ("What did the study of 1996 examine?", " examine 5."),  # the auxiliary is no noun that is asked for
        ("How fast do objects fall on 7 planets?", " planets 5."),
        ("According to Darwin what was found in 1859?", " found in 5 was 5."),  # no "in" of a name is cut off
        ("Which people built the 9 towers?", " 5 built the 5 towers."),
    ],
)
def test_an_answer_stands_where_the_question_asks_for_it(asked: str, ending: str) -> None:
    mine = question(1, "Paris", asked, TOWER, "330")
    others = [
        question(n, "Oslo", each, "It is 5.", "5")
        for n, each in enumerate(("What is 5?", "How fast is 5?", "Which are 5?"), 2)
    ]
    changed = FORMS["made"](Forms([mine, *others]), mine)
    assert changed is not None
    assert changed.context.endswith(ending)


def test_nothing_is_made_of_a_question_without_names_and_numbers(forms: Forms) -> None:
    assert FORMS["made"](forms, QUESTIONS[1]) is None


@pytest.mark.parametrize("form", ["nearest", "made"])
def test_no_distractor_holds_an_answer(forms: Forms, form: str) -> None:
    for each in QUESTIONS:
        changed = FORMS[form](forms, each)
        assert changed is None or each.answers[0] not in changed.context[len(each.context) :]


def test_a_loss_is_told_with_its_paired_error() -> None:
    told = figures([100, 100, 0, 100], [100, 0, 0, 100])
    assert told["f1"] - told["as_asked"] == -25
    assert told["error"] == pytest.approx(25)
    assert told["questions"] == 4
    assert figures([100], [0])["error"] is None
