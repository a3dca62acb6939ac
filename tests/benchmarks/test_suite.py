"""Our own suite of texts and questions: what it holds, and how an answer is judged."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.quality.suite import lenient, read_suite, strict


def test_every_accepted_answer_stands_in_its_text() -> None:
    suite = read_suite()
    assert Counter(Counter(asked.kind for asked in suite).values()) == {10: 20}
    for asked in suite:
        assert asked.answers
        assert asked.question.strip()
        assert all(answer.strip() and answer in asked.text for answer in asked.answers), asked.question


@pytest.mark.parametrize(
    ("answer", "is_strict", "is_lenient"),
    [
        ("the 14 March 2025.", True, True),
        ("on 14 March 2025", False, True),
        ("within a week of 14 March 2025 or so, they said", False, False),
        ("14 March", False, True),
        ("2025", False, False),
        ("", False, False),
        ("14 April 2024", False, False),
    ],
)
def test_an_answer_is_judged_by_its_words(answer: str, is_strict: bool, is_lenient: bool) -> None:
    assert strict(answer, ["14 March 2025"]) == is_strict
    assert lenient(answer, ["14 March 2025"]) == is_lenient
