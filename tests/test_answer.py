"""The sentence of an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.answer import find_sentence, sentence_of


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("One. The tower is in Paris now. Two.", "The tower is in Paris now."),
        ("Paris", "Paris"),
        ("The tower stands\nin Paris, and\nis  tall.\nIt", "The tower stands in Paris, and is tall."),
        ("Dr. J. Smith met Mrs. Ray in Paris, e.g. at noon. So", "Dr. J. Smith met Mrs. Ray in Paris, e.g. at noon."),
        ("It costs 4.50 in Paris! Really", "It costs 4.50 in Paris!"),
        ("東京は首都です。「Parisは大きい。」終", "「Parisは大きい。」"),
        ("a\r\n\r\nIn Paris\r\n\r\nb", "In Paris"),
        ("Towns:\n- Paris\n- Rome", "- Paris"),
        ("Said John\nF. Kennedy in Paris. So", "Said John F. Kennedy in Paris."),
        ("Prof. A. Smith of Inc. in Paris at 5 a.m. then. So", "Prof. A. Smith of Inc. in Paris at 5 a.m. then."),
        ("one.\n\n\nin Paris\fthree", "in Paris"),
        ('He said "go." Then "to Paris." Ok', 'Then "to Paris."'),
    ],
)  # fmt: skip
def test_the_sentence_of_an_answer(text: str, sentence: str) -> None:
    start = text.index("Paris")
    assert sentence_of(text, start, start + 5) == sentence


def test_an_answer_may_begin_with_the_marker_of_its_item() -> None:
    text = "The list\n- Paris is big\n- Rome"
    assert sentence_of(text, 9, 16) == "- Paris is big"


def test_the_answer_may_contain_the_full_stop() -> None:
    assert sentence_of("One. Paris. Two.", 5, 11) == "Paris."


@given(st.text(alphabet='ab. \n\r\f。-1)"', max_size=60), st.integers(0, 60), st.integers(1, 20))
def test_the_sentence_contains_the_answer(text: str, start: int, length: int) -> None:
    start = min(start, len(text))
    end = min(start + length, len(text))
    begin, stop = find_sentence(text, start, end)
    assert 0 <= begin <= start
    assert end <= stop <= len(text) or start == end


def test_a_huge_sentence_is_cut_and_found_at_once() -> None:
    text = "a" * 5_000_000
    assert find_sentence(text, 2_000_000, 2_000_003) == (1_999_500, 2_000_503)
    assert find_sentence(". " * 1_000_000, 1_000_000, 1_000_001)[1] == 1_000_001


def test_an_answer_has_its_sentence(qa: QuestionAnswerer) -> None:
    text = "The river is wide. The tower stands\nin Paris. It is tall."
    assert qa("Where is the tower?", text).sentence == "The tower stands in Paris."
    assert qa("Where is the tower?", " ").sentence == ""
    impossible = qa("Where is the tower?", text, handle_impossible_answer=True, no_answer_threshold=-1e9)
    assert (impossible.text, impossible.sentence) == ("", "")
