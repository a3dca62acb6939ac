"""The candidates that the haystack reader takes of a window."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_tinybert.compat.haystack_ranking import CandidateRanker, best_spans
from dynamic_tinybert.inference import Tokens, Window
from dynamic_tinybert.model import logistic


def window(first: int, tokens: int, settled: int, offset: int = 3) -> Window:
    """A window over tokens of one character each, the first of which is at `first`."""
    begin = np.arange(first, first + tokens)
    text = Tokens(begin, begin, begin + 1, begin, begin + 1)
    ids = np.arange(offset + tokens + 1)
    return Window(ids=ids, type_ids=np.zeros_like(ids), text=text, offset=offset, settled=settled)


def rank(
    *windows: tuple[Window, list[float], list[float]], count: int = 20, text: str = "abcdefgh"
) -> list[tuple[int, int, float, float]]:
    ranker = CandidateRanker(text, answers_per_seq=count, calibration_factor=0.1)
    for each, start, end in windows:
        start, end = ([9.0] * each.offset + x + [9.0] for x in (start, end))
        ranker.add(each, np.array(start, np.float32), np.array(end, np.float32))
    return [span[:4] for span in ranker.ranked()]


@given(st.data(), st.integers(1, 12), st.integers(1, 90))
def test_the_best_spans_are_those_of_all_pairs(data: st.DataObject, tokens: int, count: int) -> None:
    numbers = st.lists(st.integers(-9, 9), min_size=tokens, max_size=tokens)
    start, end = (np.array(data.draw(numbers), np.float32) for _ in range(2))
    pairs = [(i, j, float(start[i] + end[j])) for i in range(tokens) for j in range(i, tokens)]
    found = best_spans(start, end, count)
    assert [logit for *_, logit in found] == sorted((logit for *_, logit in pairs), reverse=True)[:count]
    assert len(set(found)) == len(found)
    assert set(found) <= set(pairs)


def test_a_score_is_the_logistic_function_of_the_logit_times_the_factor() -> None:
    found = rank((window(0, 3, 3), [1.0, 5.0, 0.0], [1.0, 2.0, 4.0]), count=2)
    assert found == [(1, 3, 9.0, pytest.approx(1 / (1 + math.exp(-0.9)))), (1, 2, 7.0, pytest.approx(logistic(0.7)))]


def test_what_two_windows_hold_is_one_candidate_with_the_better_logit() -> None:
    found = rank(
        (window(0, 3, 2), [0.0, 0.0, 3.0], [0.0, 0.0, 3.0]),
        (window(2, 2, 2), [5.0, 0.0], [5.0, 0.0]),
    )
    assert [(begin, end) for begin, end, *_ in found].count((2, 3)) == 1
    assert found[0][:3] == (2, 3, 10.0)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("e\u0301ab", {(0, 2), (0, 3), (2, 3)}),
        ("a\n b", {(0, 1)}),
        ("\n\n\n", set()),
        ("👍🏽a", {(0, 2), (0, 3), (2, 3)}),
    ],
)
def test_a_candidate_has_whole_characters_and_no_white_space(text: str, found: set[tuple[int, int]]) -> None:
    """A byte-level tokenizer makes a token of a mark, and of white space."""
    best = rank((window(0, 3, 3), [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]), text=text)
    assert {(start, end) for start, end, *_ in best} == found


def test_no_span_has_no_candidates() -> None:
    assert rank() == []


def test_the_logistic_function_does_not_overflow() -> None:
    assert [logistic(x) for x in (-1e9, 0.0, 1e9)] == [0.0, 0.5, 1.0]


def test_fewer_than_one_candidate_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        CandidateRanker("", answers_per_seq=0, calibration_factor=0.1)
