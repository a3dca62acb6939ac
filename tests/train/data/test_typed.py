"""Questions as people type them: the same question, in other words or letters."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_tinybert.train.data import as_typed
from dynamic_tinybert.train.data.typed import _keywords, _order, _typo


def variants(question: str, count: int = 200) -> set[str]:
    return {as_typed(question, random.Random(seed)) for seed in range(count)}


def test_all_variants_are_drawn() -> None:
    found = variants("When was the lighthouse of Port Ellis built in 1871?")
    assert "When was the lighthouse of Port Ellis built in 1871" in found
    assert "when was the lighthouse of port ellis built in 1871" in found
    assert "when lighthouse port ellis built 1871" in found
    assert "Tell me: when was the lighthouse of Port Ellis built in 1871?" in found
    assert len(found) > 10  # typos
    assert "When was the lighthouse of Port Ellis built in 1871?" not in found


def test_a_draw_is_the_same_by_seed() -> None:
    question = "Who built the lighthouse of Port Ellis?"
    assert as_typed(question, random.Random(5)) == as_typed(question, random.Random(5))


@pytest.mark.parametrize(
    ("question", "keywords"),
    [
        ("Who was defeated by Napoleon?", "who defeated by napoleon"),
        ("What is the capital of France?", "capital france"),
        ("How many goats did the keeper have?", "how many goats keeper"),
        ("Which city is not in Spain?", "city not spain"),
        ("Who kept goats?", None),  # nothing to leave out
        ("What is it?", None),
        ("What is gold?", None),  # a single word asks nothing
        ("", None),
    ],
)
def test_keywords_keep_what_says_what_is_asked(question: str, keywords: str | None) -> None:
    found = {_keywords(question, random.Random(seed)) for seed in range(20)}
    assert {each and each.lower() for each in found} == {keywords}


@pytest.mark.parametrize(
    ("question", "order"),
    [
        ("Who built the tower?", r"(Tell me|Please tell me|I want to know) who built the tower\.?"),
        ("How many people live there?", r"(Tell me|Please tell me|I want to know) how many people live there\.?"),
        ("What is the name of the ship?", r"(Tell me|Give me|Find|Name) the name of the ship\.?"),
        ("What was the name of the ship called?", r"[\w ]+: what was the name of the ship called\?"),
        ("Which prize did Curie win?", r"[\w ]+: which prize did Curie win\?"),
        ("When was it built?", r"[\w ]+: when was it built\?"),
        ("Émile lived where?", r"[\w ]+: Émile lived where\?"),
    ],
)
def test_an_order_is_grammatical(question: str, order: str) -> None:
    for seed in range(20):
        assert re.fullmatch(order, _order(question, random.Random(seed)) or "")


@given(
    st.text(max_size=40) | st.sampled_from(["Who built the lighthouse in 1871?", "Où était Émile Zola?", "18711 x2"])
)
def test_a_typo_changes_one_word_of_letters_by_one_slip(question: str) -> None:
    typed = _typo(question, random.Random(0))
    if typed is None:
        assert not re.search(r"(?:^| )[a-z]{4,}(?: |$)", question)
        return
    assert abs(len(typed) - len(question)) <= 1
    assert re.findall(r"\d", typed) == re.findall(r"\d", question)
    assert len(typed.split()) == len(question.split())
    pairs = [(a, b) for a, b in zip(question.split(), typed.split(), strict=True) if a != b]
    assert len(pairs) == 1
    assert abs(len(set(pairs[0][0]) - set(pairs[0][1]))) <= 1


@pytest.mark.parametrize("question", ["In 18711871?", "1871", "a b c", "?", "", "x1871y2000"])
def test_numbers_and_short_words_get_no_typo(question: str) -> None:
    assert all(_typo(question, random.Random(seed)) is None for seed in range(20))


@given(st.text(max_size=60), st.integers(0, 10))
def test_any_question_has_a_form_that_is_not_empty(question: str, seed: int) -> None:
    assert as_typed(question, random.Random(seed)) or not question


def test_a_very_long_question_is_typed_too() -> None:
    assert variants("Who " + "really " * 20_000 + "built it?", 5)
