"""Answers that a text writes a little differently."""

from __future__ import annotations

import unicodedata

import pytest

from dynamic_tinybert.train.data import find_loosely


@pytest.mark.parametrize(
    ("text", "answer", "found"),
    [
        ("In PARIS and Paris", "paris", ["PARIS", "Paris"]),
        ("Parisian", "paris", ["Paris"]),
        (unicodedata.normalize("NFD", "in Zürich, ja"), "Zürich", [unicodedata.normalize("NFD", "Zürich")]),
        ("in Zürich, ja", unicodedata.normalize("NFD", "zürich"), ["Zürich"]),
        ("the  New\n York Times", "New York", ["New\n York"]),
        ("he said “it’s” – no", '"it\'s" - no', ["“it’s” – no"]),
        ("Straße 12", "STRASSE 12", ["Straße 12"]),
        ("co\u00adoperate \u200bnow", "cooperate now", ["co\u00adoperate \u200bnow"]),
        ("価格は１２３円", "123", ["１２３"]),
        ("aa aa aa", "aa aa", ["aa aa", "aa aa"]),
        ("(x) [y]", "[Y]", ["[y]"]),
        ("anything", " \u200b ", []),
        ("", "a", []),
    ],
)
def test_an_answer_is_found_however_it_is_written(text: str, answer: str, found: list[str]) -> None:
    assert [text[start:end] for start, end in find_loosely(text, answer)] == found


def test_a_huge_text_takes_no_quadratic_time() -> None:
    assert find_loosely("a " * 500_000, "b") == []
    assert len(find_loosely("ab " * 100_000, "AB")) == 100_000
