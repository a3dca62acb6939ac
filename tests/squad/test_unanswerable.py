"""Unanswerable questions made of answerable ones: of the kind they say, without the answer, and always the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_tinybert.squad import KINDS, Kind, Question, make_unanswerable, normalize_answer, read_squad
from dynamic_tinybert.squad.unanswerable import OPPOSITES
from support.data import SQUAD, needs_squad

RECIPES = Path(__file__).parents[2] / "recipes"
all_kinds = pytest.mark.parametrize("kind", KINDS)

ELLIS = "The lighthouse of Port Ellis was built by Agnes Moreau in 1871. It is the largest of the coast."
KEEPERS = "Its first keeper was Barnaby Whitlock, who lit the lamp of the lighthouse for 31 years, until 1902."
GOATS = "The goats of the keeper, it is said by Zoë Brontë, ate the flag of the town of Saint-Malo in 1899."


def ask(question: str, *answers: str, text: str = ELLIS, title: str = "Lighthouses", id_: str = "") -> Question:
    return Question(
        id=id_ or question,
        title=title,
        question=question,
        context=text,
        answers=answers,
        answer_starts=tuple(text.find(answer) for answer in answers),
        impossible=not answers,
    )


ARTICLE = [
    ask("Who built the lighthouse of Port Ellis in 1871?", "Agnes Moreau"),
    ask("For how long did the keeper light the lamp?", "31 years", text=KEEPERS),
    ask("What did the goats eat?", "the flag of the town of Saint-Malo", text=GOATS),
    ask("Who painted it?", text=GOATS),
    ask("What is red?", "Mars", text="Mars is red.", title="Planets"),
]


def made(questions: list[Question], kind: Kind, **options: int) -> list[Question]:
    return list(make_unanswerable(questions, kind, **options))


@all_kinds
def test_they_have_no_answer_and_keep_their_article(kind: Kind) -> None:
    by_id = {q.id: q for q in ARTICLE}
    found = made(ARTICLE, kind)
    assert found
    for question in found:
        of = by_id[question.id.removesuffix(f"-{kind}")]
        assert of.answers
        assert (question.answers, question.answer_starts, question.impossible) == ((), (), True)
        assert question.title == of.title == "Lighthouses"
        assert (question.context == of.context) == (kind == "swapped") == (question.question != of.question)
        if kind != "swapped":
            assert question.context in (ELLIS, KEEPERS, GOATS)
            assert normalize_answer(of.answers[0]) not in normalize_answer(question.context)


@all_kinds
def test_they_are_always_the_same(kind: Kind) -> None:
    assert made(ARTICLE, kind) == made(ARTICLE, kind)
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from test_unanswerable import ARTICLE, made\n"
        f"print(ascii([(q.id, q.question, q.context) for q in made(ARTICLE, {kind!r})]))"
    )
    asked = [sys.executable, "-c", code, *map(str, Path(__file__).parents[:2])]
    printed = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()  # of other hashes
    assert printed == ascii([(q.id, q.question, q.context) for q in made(ARTICLE, kind)])


@pytest.mark.parametrize("kind", ["other", "swapped"])
def test_another_seed_draws_others(kind: Kind) -> None:
    questions = [ask(f"When did Port Ellis see the first of {n} goats?", "1871", id_=str(n)) for n in range(20)]
    questions += [ask("?", "x", text=f"{text} x", id_=text) for text in (KEEPERS, GOATS, "And so on.")]
    assert made(questions, kind, seed=0) == made(questions, kind, seed=0) != made(questions, kind, seed=1)


def test_the_nearest_paragraph_shares_the_question_s_rare_words() -> None:
    (first, *_) = made(ARTICLE, "nearest")
    assert first.context == KEEPERS  # "lighthouse", which the goats' paragraph lacks
    goats = ask("How many goats of Saint-Malo did the keeper light the lamp for?", "Agnes Moreau")
    assert made([*ARTICLE, goats], "nearest")[-1].context == GOATS


def test_a_paragraph_that_holds_an_answer_is_passed_over() -> None:
    held = ask("Whose goats lit the lamp of the lighthouse?", "Agnes Moreau", "the barnaby  WHITLOCK!")
    (found,) = made([held, *ARTICLE[3:]], "nearest")
    assert found.context == GOATS
    assert made([held, ask("?", "x", text=KEEPERS)], "nearest")[0].id == "?-nearest"


@pytest.mark.parametrize(
    ("question", "possible"),
    [
        ("Who built the lighthouse?", set()),
        ("Who built the largest lighthouse?", {"Who built the smallest lighthouse?"}),
        ("Who built it in 1871?", {f"Who built it in {year}?" for year in (1902, 1899)}),
        (
            "Who built Port Ellis's lighthouse?",
            {"Who built Barnaby Whitlock's lighthouse?", "Who built Zoë Brontë's lighthouse?"},
        ),
        ("When did Port Ellis have 7,000?", {f"When did {n} have 7,000?" for n in ("Barnaby Whitlock", "Zoë Brontë")}),
        ("Was it the most or the last?", {"Was it the least or the last?", "Was it the most or the first?"}),
    ],
)  # fmt: skip
def test_what_is_exchanged(question: str, possible: set[str]) -> None:
    found = {
        q.question
        for seed in range(20)
        for q in made([ask(question, "Agnes Moreau"), *ARTICLE[1:3]], "swapped", seed=seed)
        if q.context == ELLIS
    }
    assert found == possible


def test_what_takes_the_place_does_not_occur_in_the_paragraph() -> None:
    first = ask("When did the first keeper come?", "1871", text="The first keeper came in 1871, the last in 1902.")
    assert made([first], "swapped") == []
    year = ask("What was in 1871?", "it", text="In 1870, 1871, 1872, and then again from 1868 to 1875 it was.")
    assert {made([year], "swapped", seed=n)[0].question for n in range(9)} <= {
        f"What was in {n}?" for n in (1869, 1873, 1874)
    }


def test_the_opposite_of_an_opposite_leads_back_or_on() -> None:
    assert all(OPPOSITES[other] != word or OPPOSITES[word] == other for word, other in OPPOSITES.items())
    assert all(word.isalpha() and word == word.lower() and word != other for word, other in OPPOSITES.items())


@all_kinds
def test_of_nothing_and_of_what_has_no_answer_there_is_none(kind: Kind) -> None:
    assert made([], kind) == []
    assert made([ask("Who painted it?"), ask("Why?", text=GOATS)], kind) == []
    assert made([ask("Who?", "Mars", text="Mars.", title="Planets")], kind) == []


def test_no_such_kind() -> None:
    with pytest.raises(ValueError, match=r"other, nearest, swapped, not 'harder'"):
        made(ARTICLE, "harder")  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30), st.text(max_size=60)), max_size=4))
def test_whatever_the_text(rows: list[tuple[str, str, str]]) -> None:
    questions = [ask(q, a, text=text, id_=str(i)) for i, (q, a, text) in enumerate(rows)]
    for kind in KINDS:
        found = made(questions, kind)
        assert len({q.id for q in found}) == len(found) <= len(questions)


def test_a_huge_paragraph() -> None:
    text = "The Tower of Babel was the first of 1,000 towers, in 1871. " * 20_000
    questions = [ask("Who built the first Tower of Babel?", "nobody", text=text), *ARTICLE]
    for kind in KINDS:
        assert made(questions, kind)


@pytest.mark.slow
@needs_squad
def test_of_real_articles_most_questions_give_one() -> None:
    titles = {*(RECIPES / "heldout-select.txt").read_text("utf-8").splitlines()} - {""}
    data = read_squad(SQUAD / "train-v1.1.json.gz", titles=titles)
    shares = {kind: len(made(list(data.questions), kind)) / len(data.questions) for kind in KINDS}
    assert min(shares["other"], shares["nearest"]) > 0.99
    assert 0.7 < shares["swapped"] < 0.9
