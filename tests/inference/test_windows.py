"""Windows: those that a text is cut into, and the lengths that are refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from dynamic_tinybert.inference import TextTokenizer, Tokens, WindowError, check_lengths, cut_windows
from support.texts import PROSE, QUESTION, cut, is_mark


@pytest.mark.parametrize(("max_seq_len", "doc_stride"), [(384, 128), (384, 0), (64, 20), (64, 49), (30, 1), (512, 300)])
@pytest.mark.parametrize("repeats", [1, 7, 40])
def test_windows_are_those_of_the_whole_text_cut_as_transformers_does(
    tokenizer: TextTokenizer, plain: Tokenizer, repeats: int, max_seq_len: int, doc_stride: int
) -> None:
    text = PROSE * repeats
    plain.enable_truncation(max_seq_len, stride=doc_stride, strategy="only_second")
    first = plain.encode(QUESTION, text)
    expected = [first, *first.overflowing]
    found = cut(tokenizer, QUESTION, text, max_seq_len=max_seq_len, doc_stride=doc_stride)
    assert [window.ids.tolist() for window in found] == [encoding.ids for encoding in expected]
    assert [window.type_ids.tolist() for window in found] == [encoding.type_ids for encoding in expected]
    for window, encoding in zip(found, expected, strict=True):
        assert len(window) == len(encoding.ids)
        offsets = encoding.offsets[window.offset : -1]
        assert window.text.start.tolist() == [begin for begin, _ in offsets]
        # An end is theirs, or after the marks that theirs leaves behind.
        assert all(is_mark(c) for (_, a), b in zip(offsets, window.text.end, strict=True) for c in text[a:b])


@given(
    pieces=st.lists(st.integers(1, 40), max_size=8),
    question=st.integers(0, 6),
    room_for_text=st.integers(1, 30),
    overlap=st.integers(0, 29),
)
def test_windows_overlap_exactly_and_lose_no_token(
    pieces: list[int], question: int, room_for_text: int, overlap: int
) -> None:
    assume(overlap < room_for_text)
    total = sum(pieces)
    column = np.arange(total)
    everything = Tokens(column + 1000, column, column + 1, column, column + 1)
    ends = np.cumsum(pieces).tolist()
    parts = [everything[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    special = cast(TextTokenizer, SimpleNamespace(cls=1, sep=2, pad=0, between=[2]))
    ask = np.full(question, 7)
    found = list(cut_windows(special, ask, parts, max_seq_len=question + 3 + room_for_text, doc_stride=overlap))

    assert bool(found) == bool(total)
    settled: list[int] = []
    for i, window in enumerate(found):
        last = i == len(found) - 1
        assert window.ids.tolist() == [1, *ask, 2, *window.text.ids, 2]
        assert window.type_ids.tolist() == [0] * (question + 2) + [1] * (len(window.text) + 1)
        assert window.ids[window.offset : window.offset + len(window.text)].tolist() == window.text.ids.tolist()
        assert len(window.text) <= room_for_text if last else len(window.text) == room_for_text
        if not last:
            following = found[i + 1].text.start
            assert window.text.start[-overlap:].tolist() == following[:overlap].tolist() or not overlap
            assert window.settled == room_for_text - overlap
            assert following[0] == window.text.start[window.settled - 1] + 1
        settled += window.text.start[: window.settled].tolist()
    assert settled == list(range(total))


def test_a_text_without_tokens_has_no_window(tokenizer: TextTokenizer) -> None:
    for text in ("", " \n\t\r\n\u3000", "\x00\x01\u200b", "\u0301"):
        assert cut(tokenizer, QUESTION, text, max_seq_len=384, doc_stride=128) == []


def test_a_text_that_just_fits_is_one_window_and_a_token_more_is_two(tokenizer: TextTokenizer) -> None:
    space = 64 - len(tokenizer.question(QUESTION)) - 3
    for count, expected in ((space, [space]), (space + 1, [space, 11])):
        found = cut(tokenizer, QUESTION, "tower " * count, max_seq_len=64, doc_stride=10)
        assert [len(window.text) for window in found] == expected


# Lengths

DEFAULTS = {"max_seq_len": 384, "doc_stride": 128, "max_question_len": 64, "positions": 512}


@pytest.mark.parametrize(
    "lengths",
    [
        {},
        {"max_seq_len": 512},
        {"doc_stride": 0},
        {"doc_stride": 316},  # a window moves on by one token
        {"max_question_len": 252},
        {"max_question_len": 1, "max_seq_len": 5, "doc_stride": 0},
        {"positions": 384},
    ],
)
def test_lengths_that_fit(lengths: dict[str, int]) -> None:
    check_lengths(**DEFAULTS | lengths)


@pytest.mark.parametrize(
    ("lengths", "named"),
    [
        ({"max_question_len": 0}, "max_question_len"),
        ({"doc_stride": -1}, "doc_stride"),
        ({"max_seq_len": 513}, "512"),
        ({"max_seq_len": 10**9}, "512"),
        ({"positions": 383}, "383"),
        ({"doc_stride": 317}, "doc_stride 317"),
        ({"doc_stride": 10**9}, "doc_stride"),
        ({"max_question_len": 253}, "max_question_len 253"),
        ({"max_question_len": 1, "max_seq_len": 4, "doc_stride": 0}, "max_seq_len 4"),
        ({"max_seq_len": 0}, "max_seq_len 0"),
        ({"max_seq_len": -384}, "max_seq_len -384"),
    ],
)
def test_lengths_that_do_not_fit_are_refused_in_a_line(lengths: dict[str, int], named: str) -> None:
    with pytest.raises(WindowError) as caught:
        check_lengths(**DEFAULTS | lengths)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@given(
    max_seq_len=st.integers(-5, 60),
    doc_stride=st.integers(-5, 60),
    max_question_len=st.integers(-5, 20),
    positions=st.integers(1, 50),
    question=st.integers(1, 20),
)
def test_lengths_are_refused_or_work(
    tokenizer: TextTokenizer, max_seq_len: int, doc_stride: int, max_question_len: int, positions: int, question: int
) -> None:
    try:
        check_lengths(
            max_seq_len=max_seq_len, doc_stride=doc_stride, max_question_len=max_question_len, positions=positions
        )
    except WindowError:
        return
    ids = tokenizer.question("tower " * question)[:max_question_len]
    text = tokenizer.text("Paris " * 90)
    found = list(cut_windows(tokenizer, ids, text, max_seq_len=max_seq_len, doc_stride=doc_stride))
    assert max(len(window) for window in found) <= min(max_seq_len, positions)
    assert sum(window.settled for window in found) == 90
