"""Passages: right answers stay right when the text is changed around them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_tinybert.train.data.passage import Passage, holds, sentence_gaps

TEXT = "Zoë built it in 1871. It fell."


def test_an_edit_moves_right_answers_and_the_paragraph() -> None:
    at = TEXT.index("1871")
    passage = Passage(TEXT, ((at, at + 4), (0, 3)), (0, len(TEXT)))
    changed = passage.edited([(len(TEXT), len(TEXT), " End."), (0, 0, "One. "), (0, 0, "Two. "), (21, 22, "\n• ")])
    assert changed.text == "One. Two. Zoë built it in 1871.\n• It fell. End."
    assert [changed.text[a:b] for a, b in changed.right] == ["1871", "Zoë"]
    assert changed.text[slice(*changed.paragraph)] == "Zoë built it in 1871.\n• It fell."


def test_an_insertion_at_the_edge_of_an_answer_is_outside_of_it() -> None:
    changed = Passage("abc", ((1, 2),), (0, 3)).edited([(1, 1, "xx"), (2, 2, "yy")])
    assert changed.text == "axxbyyc"
    assert changed.right == ((3, 4),)


@pytest.mark.parametrize("edits", [[(2, 2, "x")], [(0, 2, "")], [(2, 4, "x")], [(5, 8, ""), (7, 9, "")]])
def test_an_edit_that_would_change_an_answer_or_another_edit_is_refused(edits: list[tuple[int, int, str]]) -> None:
    with pytest.raises(ValueError, match="overlaps"):
        Passage("0123456789", ((1, 3),), (0, 10)).edited(edits)


@given(
    text=st.text(min_size=1, max_size=40),
    places=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5)), max_size=6),
    span=st.tuples(st.integers(0, 39), st.integers(1, 8)),
    new=st.text(max_size=4),
)
def test_any_free_edits_leave_the_answer_as_it_is(
    text: str, places: list[tuple[int, int]], span: tuple[int, int], new: str
) -> None:
    start = min(span[0], len(text) - 1)
    passage = Passage(text, ((start, min(len(text), start + span[1])),), (0, len(text)))
    edits, least = [], 0
    for begin, length in sorted(places):
        end = min(len(text), begin + length)
        if least <= begin <= end and passage.is_free(begin, end):
            edits.append((begin, end, new))
            least = end
    changed = passage.edited(edits)
    assert changed.text[slice(*changed.right[0])] == text[slice(*passage.right[0])]
    assert len(changed.text) == len(text) + sum(len(new) - (end - start) for start, end, _ in edits)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It stands. It fell! Why? “So.” 5 goats.", ["It stands.", "It fell!", "Why?", "“So.”", "5 goats."]),
        ("J. K. Rowling met Dr. Smith in St. Louis.", ["J. K. Rowling met Dr. Smith in St. Louis."]),
        ("It cost 5.50 in the U.S. Army.", ["It cost 5.50 in the U.S. Army."]),
        ("It ended.[12] Others began.", ["It ended.[12]", "Others began."]),
        ("東京タワー。 No stop", ["東京タワー。 No stop"]),
        ("", [""]),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    gaps = [*sentence_gaps(text), (len(text), len(text))]
    begins = [0, *(end for _, end in gaps)]
    assert [text[a:b] for a, (b, _) in zip(begins, gaps, strict=False)] == sentences


def test_a_text_holds_an_answer_as_whole_words() -> None:
    assert holds("In 1871, THE tower.", ["tower"])
    assert not holds("In 1871 the towers.", ["tower", "187", "", "71"])
    assert not holds("", ["x"])
    assert holds("Section 4.1", ["1"])
    assert holds("In the U.S. only", ["US"])
