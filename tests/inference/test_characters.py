"""The pieces that a text is tokenized in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dynamic_tinybert.inference.characters as room
from dynamic_tinybert.inference import TextTokenizer, Tokens
from support.texts import SPACES, same, splits_a_character, tokens


@pytest.fixture
def piece(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set how many characters are tokenized at a time."""
    return lambda size: monkeypatch.setattr(room, "_PIECE", size)


word = st.text(st.sampled_from("abcdeéß中한कि😀.,'\u0301\u200d\x00\x0b\x0c\x1c\x85"), min_size=1, max_size=15)
gap = st.text(st.sampled_from(SPACES), min_size=1, max_size=4)


@given(parts=st.lists(st.tuples(word, gap), max_size=25), size=st.integers(32, 48), lead=gap | st.just(""))
def test_a_text_in_pieces_is_the_same_tokens_as_in_one_go(
    tokenizer: TextTokenizer, piece: Callable[[int], None], parts: list[tuple[str, str]], size: int, lead: str
) -> None:
    text = lead + "".join(a + b for a, b in parts)
    piece(1 << 16)
    whole = tokens(tokenizer, text)
    piece(size)
    assert same(tokens(tokenizer, text), whole)


@given(text=st.text(st.sampled_from("abc中文ह한😀.\u0301\u0308\ufe0f"), max_size=120), size=st.integers(4, 20))
def test_a_text_without_white_space_in_pieces_keeps_its_characters(
    tokenizer: TextTokenizer, piece: Callable[[int], None], text: str, size: int
) -> None:
    piece(1 << 16)
    whole = tokens(tokenizer, text)
    piece(size)
    found = tokens(tokenizer, text)

    def characters(t: Tokens) -> set[int]:
        return {i for begin, end in zip(t.start.tolist(), t.end.tolist(), strict=True) for i in range(begin, end)}

    assert characters(found) == characters(whole)
    assert ((found.start[1:] >= found.end[:-1]) | (found.start[1:] == found.start[:-1])).all()
    assert not any(splits_a_character(text, i) for i in found.start.tolist())


@pytest.mark.slow
@pytest.mark.parametrize("before", range(-2, 3))
@pytest.mark.parametrize("unit", ["tower ", "été\u0301\r\n", "中", "東京。", "a\u0301 ", "\u00a0\u2003x"])
def test_long_texts_lose_nothing_at_the_real_border(
    tokenizer: TextTokenizer, piece: Callable[[int], None], unit: str, before: int
) -> None:
    border = room._PIECE
    text = (unit * (2 * border // len(unit)))[: border + before] + " Paris is here " + unit * 3
    assert len(text) > border
    found = tokens(tokenizer, text)
    piece(1 << 30)
    assert same(found, tokens(tokenizer, text))


def test_texts_about_as_long_as_a_piece(tokenizer: TextTokenizer, piece: Callable[[int], None]) -> None:
    piece(64)
    for length in range(60, 135):
        text = ("tower " * 30)[:length]
        assert len(list(tokenizer.text(text))) == (1 if length <= 64 else 2 if length <= 59 + 64 else 3)
        found = tokens(tokenizer, text)
        assert [text[a:b] for a, b in zip(found.start, found.end, strict=True)] != []
        assert (
            "".join(text[a:b] for a, b in zip(found.word_start, found.word_end, strict=True)).count("tower")
            == (length + 1) // 6
        )


def test_pieces_are_read_only_as_they_are_wanted(
    tokenizer: TextTokenizer, piece: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a text of any size passes in bounded memory: each piece is at most the bound, and none is read ahead."""
    piece(64)
    inner = tokenizer._tokenizer
    read: list[int] = []

    class Counting:
        def encode(self, text: str, **options: Any) -> Any:
            read.append(len(text))
            return inner.encode(text, **options)

    monkeypatch.setattr(tokenizer, "_tokenizer", Counting())
    stream = tokenizer.text("a bit of text " * 100)
    for count in range(1, 6):
        next(stream)
        assert len(read) == count
    list(stream)
    assert sum(read) == 1400
    assert max(read) <= 64


@pytest.mark.parametrize("control", "\x0b\x0c\x1c\x1d\x1e\x1f\x85")
def test_a_word_with_a_control_character_inside_is_not_cut(
    tokenizer: TextTokenizer, piece: Callable[[int], None], control: str
) -> None:
    piece(64)
    text = "tower " * 10 + f"to{control}wer " + "tower " * 10
    found = tokens(tokenizer, text)
    piece(1 << 16)
    assert same(found, tokens(tokenizer, text))


@pytest.mark.parametrize("unit", ["tower,", "ひらがなの文。", "tower\u2028", "tower\u2029"])
def test_a_long_text_without_spaces_is_cut_between_words(
    tokenizer: TextTokenizer, piece: Callable[[int], None], unit: str
) -> None:
    text = unit * (room._PIECE // len(unit) + 10)
    found = tokens(tokenizer, text)
    piece(1 << 30)
    assert same(found, tokens(tokenizer, text))


def test_a_huge_word_is_read(tokenizer: TextTokenizer) -> None:
    text = "x" * 200_000 + " end"
    t = tokens(tokenizer, text)
    assert text[t.start[-1] : t.end[-1]] == "end"
    assert t.start[0] == 0
    assert t.end[-2] == 200_000
    assert len(t) < 10
