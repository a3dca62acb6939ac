"""Layouts: text as it comes out of PDF and HTML files, with every answer as it was."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_tinybert.train.data import Passage, lay_out

TEXT = (
    "The lighthouse of Port Ellis was constructed by Agnes Moreau in 1871, with considerable difficulties. Its keeper, "
    "Barnaby Whitlock, lived there with two extraordinarily intelligent goats. Agnes Moreau returned several times; "
    "the last documented visit was in 1895. The administration of the neighbouring municipality remembers her."
)


def laid_out(text: str, *answers: str, seed: int = 0, title: str = "Port_Ellis_%28town%29") -> Passage:
    right = tuple((text.index(answer), text.index(answer) + len(answer)) for answer in answers)
    passage = lay_out(Passage(text, right, (0, len(text))), title, answers, random.Random(seed))
    assert [passage.text[a:b] for a, b in passage.right] == list(answers)
    return passage


def pages(*answers: str, count: int = 200) -> list[str]:
    return [laid_out(TEXT, *answers, seed=seed).text for seed in range(count)]


def test_all_of_pdf_and_html_is_drawn() -> None:
    found = pages("Barnaby Whitlock")
    for what in (
        r"[a-z]-\n[a-z]", r"\n• ", r"\n1\. ", r"^(?:\d+\. )?Port Ellis \(town\)\n", r"\n(?:- )?\d+(?: -)?\n",
        r"Page \d+", r"Home \| About", r"Chapter \d",
    ):  # fmt: skip
        assert any(re.search(what, text) for text in found), what


def test_lines_are_60_to_100_characters() -> None:
    passages = [laid_out(TEXT, "1871", seed=seed).text for seed in range(100)]
    wrapped = [text for text in passages if re.search(r"[a-z,]-?\n[a-z]", text)]
    assert len(wrapped) > 30
    for text in wrapped:
        assert max(map(len, text.split("\n"))) <= 101  # and the hyphen
        assert max(map(len, text.split("\n"))) > 45


def test_an_answer_is_never_broken() -> None:
    answer = "two extraordinarily intelligent goats. Agnes Moreau returned several times; the last documented visit"
    for seed in range(100):
        laid_out(TEXT, answer, "administration", seed=seed)  # asserts it


@pytest.mark.parametrize("answer", ["1", "2", "Port Ellis", "town", "Introduction", "History", "Email"])
def test_nothing_that_is_inserted_holds_an_answer(answer: str) -> None:
    text = "It was built by Agnes Moreau. It fell later. It was rebuilt. Nobody knows."
    for seed in range(150):
        passage = lay_out(Passage(text, (), (0, len(text))), "Port_Ellis_(town)", [answer], random.Random(seed))
        assert not re.search(rf"\b{answer}\b", passage.text, re.IGNORECASE)


def test_what_was_there_is_still_there() -> None:
    """Without what is inserted, the words are those of before."""
    for text in pages("1871"):
        letters = iter(re.sub(r"-\n", "", text))
        assert all(letter in letters for letter in TEXT if not letter.isspace())  # in this order


WORDS = st.lists(st.sampled_from(["Émile.", "東京。", "Zoë", "constructed", "\n", "5."]), max_size=60).map(" ".join)


@given(
    text=st.text(max_size=200) | WORDS,
    span=st.tuples(st.integers(0, 200), st.integers(1, 30)),
    title=st.text(max_size=10),
    seed=st.integers(0, 1000),
)
def test_any_text_can_be_laid_out(text: str, span: tuple[int, int], title: str, seed: int) -> None:
    start = min(span[0], len(text))
    right = ((start, min(len(text), start + span[1])),) if start < len(text) else ()
    passage = Passage(text, right, (0, len(text)))
    changed = lay_out(passage, title, [text[a:b] for a, b in right], random.Random(seed))
    assert [changed.text[a:b] for a, b in changed.right] == [text[a:b] for a, b in right]


@pytest.mark.parametrize("text", ["", " ", "word", "x" * 5000, "東京" * 3000, TEXT * 300])
def test_texts_of_any_length(text: str) -> None:
    for seed in range(6):
        laid_out(text, seed=seed)
