"""Windows of articles: where they lie, and which neighbours they have."""

from __future__ import annotations

import random

import pytest

from dynamic_tinybert.squad import Question
from dynamic_tinybert.train import TrainingError
from dynamic_tinybert.train.data import Articles, Passage, check_article_lengths, place_window

TEXTS = ["A first one.", "The keeper had two goats.", "A third one.", "Here are Two Goats again.", "A fifth one."]


def asked(text: str = TEXTS[1], *answers: str) -> Question:
    starts = (None,) * len(answers)
    return Question(
        id="q", title="T", question="?", context=text, answers=answers, answer_starts=starts, impossible=False
    )


def surround(text: str, question: Question, tokens: int, right: tuple[tuple[int, int], ...] = ()) -> Passage:
    articles = Articles([asked(each) for each in TEXTS])
    passage = Passage(text, right, (0, len(text)))
    return articles.surround(passage, question, text, tokens, lambda near: len(near.split()), "\n\n")


def test_neighbours_are_in_the_order_of_the_article() -> None:
    at = TEXTS[1].index("two")
    passage = surround(TEXTS[1], asked(TEXTS[1], "two goats"), 100, ((at, at + 9),))
    assert passage.text == "\n\n".join(TEXTS)
    assert [passage.text[a:b] for a, b in passage.right] == ["two goats"]
    assert passage.text[slice(*passage.paragraph)] == TEXTS[1]


def test_there_are_as_many_neighbours_as_are_needed() -> None:
    assert surround(TEXTS[2], asked(TEXTS[2], "third"), 0, ((2, 7),)).text == TEXTS[2]
    assert surround(TEXTS[2], asked(TEXTS[2], "third"), 5, ((2, 7),)).text == "\n\n".join(TEXTS[1:4])
    assert surround(TEXTS[2], asked(TEXTS[2], "third"), 6, ((2, 7),)).text == "\n\n".join(TEXTS)


def test_around_a_paragraph_without_an_answer_no_neighbour_holds_one() -> None:
    question = asked(TEXTS[1], "two goats")
    assert surround(TEXTS[2], question, 100).text == TEXTS[2]
    assert surround(TEXTS[4], question, 100).text == TEXTS[4]
    assert surround(TEXTS[4], asked(TEXTS[1], "keeper"), 100).text == "\n\n".join(TEXTS[2:])


@pytest.mark.parametrize(
    ("total", "paragraph", "answer", "room"),
    [
        (500, (200, 300), (250, 252), 150),
        (500, (0, 100), (0, 1), 150),
        (500, (400, 500), (499, 500), 150),
        (120, (10, 100), (50, 52), 150),  # the whole text fits
        (500, (100, 400), (100, 103), 150),  # the paragraph does not
        (500, (100, 400), (397, 400), 150),
        (500, (100, 400), (150, 350), 150),  # nor does the answer
        (1, (0, 1), (0, 1), 1),
        (500, (200, 300), (250, 252), -5),
    ],
)
def test_a_window_holds_the_answer_and_where_it_can_the_paragraph(
    total: int, paragraph: tuple[int, int], answer: tuple[int, int], room: int
) -> None:
    starts = set()
    for seed in range(300):
        begin, end = place_window(total, paragraph, answer, room, random.Random(seed))
        assert 0 <= begin <= answer[0] < answer[1] <= end <= total
        assert end - begin == min(total, max(room, answer[1] - answer[0]))
        if paragraph[1] - paragraph[0] <= room:
            assert begin <= paragraph[0] < paragraph[1] <= end
        else:
            assert paragraph[0] <= begin < end <= paragraph[1]
        starts.add(begin)
    if total == 500 and paragraph == (200, 300) and room == 150:
        assert starts > {150, 200}  # from the paragraph's end at the window's end to its start at the window's start


@pytest.mark.parametrize(
    ("lengths", "says"),
    [
        ((300, 200), "put the shorter first"),
        ((128, 400), "at most max_seq_len, 384"),
        ((100, 384), "at least twice max_question_len, 64"),
    ],
)
def test_lengths_that_cannot_be_are_one_line(lengths: tuple[int, int], says: str) -> None:
    with pytest.raises(TrainingError, match=says) as error:
        check_article_lengths(lengths, max_seq_len=384, max_question_len=64)
    assert "\n" not in str(error.value)
