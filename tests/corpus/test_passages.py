from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dynamic_tinybert.corpus.passages import cut

TEXTS = st.text(alphabet=st.sampled_from("abc .!?\n\r\f\t。é́😀\u200d東 "), max_size=600)


@given(TEXTS, st.integers(50, 120), st.integers(1, 90))
@example("\n" * 500, 50, 7)
@example("e" + "\u0301" * 400, 50, 7)
def test_passages_joined_are_the_text_and_none_is_too_long(text: str, size: int, block: int) -> None:
    blocks = [text[i : i + block] for i in range(0, len(text), block)]
    passages = list(cut(blocks, size))
    assert "".join(passages) == text
    assert all(1 <= len(passage) <= size for passage in passages)


@given(TEXTS, st.integers(50, 120))
def test_passages_do_not_depend_on_the_blocks_that_a_text_comes_in(text: str, size: int) -> None:
    assert list(cut([text], size)) == list(cut(list(text), size))


def test_whole_paragraphs_go_together_as_far_as_they_fit() -> None:
    paragraphs = [
        "One stands here.\n\n",
        "Two stands there.\n \n",
        "Three is far from both of them, and long.\n\n",
        "Four.",
    ]
    assert list(cut(["".join(paragraphs)], 60)) == ["".join(paragraphs[:2]), "".join(paragraphs[2:])]


def test_a_long_paragraph_is_cut_at_ends_of_sentences_into_parts_of_like_length() -> None:
    text = "".join(f"Sentence number {number} says a little. " for number in range(10))
    passages = list(cut([text], 300))
    assert [passage.rstrip()[-1] for passage in passages] == ["."] * len(passages)
    assert len(passages) == 2
    assert abs(len(passages[0]) - len(passages[1])) < 80


def test_chinese_is_cut_at_its_full_stops() -> None:
    text = "铁塔位于巴黎市中心的战神广场上。" * 20
    assert all(passage.endswith("。") for passage in cut([text], 100))


def test_a_text_without_any_place_to_cut_is_cut_between_whole_characters() -> None:
    passages = list(cut(["e\u0301" * 200], 51))
    assert all(not passage.startswith("\u0301") for passage in passages)
    assert "".join(passages) == "e\u0301" * 200


def test_no_text_has_no_passages() -> None:
    assert list(cut([], 100)) == list(cut(["", ""], 100)) == []


@pytest.mark.parametrize("size", [0, 49, 1_000_001, True, 60.0, "100"])
def test_sizes_that_make_no_sense_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="the passage size must be from 50"):
        list(cut(["text"], size))


@pytest.mark.slow
def test_a_huge_text_is_cut_in_bounded_memory() -> None:
    import tracemalloc

    draw = random.Random(0)
    block = " ".join("".join(draw.choices("abcdefgh", k=6)) for _ in range(15_000))
    tracemalloc.start()
    count = sum(1 for _ in cut((block for _ in range(100)), 1000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count > 10_000
    assert peak < 5e6
