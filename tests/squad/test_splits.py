"""The questions that choose and those that confirm."""

from __future__ import annotations

import pytest

from dynamic_tinybert.squad import Question, Questions, SplitError, SquadFile, check_apart, halves, sample


def questions(*titles: str, each: int = 3, name: str = "dev") -> Questions:
    found = tuple(
        Question(
            id=f"{title}-{i}-{j}",
            title="" if title.startswith("untitled") else title,
            question="Who?",
            context=f"Paragraph {i} of {title}.",
            answers=("Paragraph",),
            answer_starts=(0,),
            impossible=False,
        )
        for j, title in enumerate(titles)
        for i in range(each)
    )
    return Questions(name, SquadFile("1.1", found))


def ids(part: Questions) -> list[str]:
    return [question.id for question in part.data.questions]


def test_a_sample_is_drawn_by_its_seed() -> None:
    everything = questions("a", "b", "c", each=40)
    first = sample(everything, 20, 0)
    assert ids(first) == ids(sample(everything, 20, 0)) != ids(sample(everything, 20, 1))
    assert len(set(ids(first))) == 20
    assert ids(first) == [i for i in ids(everything) if i in set(ids(first))]  # in their order
    assert ids(sample(everything, 1000, 0)) == ids(sample(everything, None, 0)) == ids(everything)
    assert first.name != everything.name  # a table tells a sample from the whole
    with pytest.raises(SplitError, match="at least one question"):
        sample(everything, 0, 0)


def test_halves_are_of_whole_articles_and_always_the_same() -> None:
    titles = ["Zürich", "東京", "Oslo", "Port Ellis", "O'Brien", "Łódź"]
    first, second = halves(questions(*titles))
    assert sorted(ids(first) + ids(second)) == sorted(ids(questions(*titles)))
    assert len(ids(first)) == len(ids(second)) == 9
    assert not {x.title for x in first.data.questions} & {x.title for x in second.data.questions}
    again, _ = halves(questions(*titles[::-1]))
    assert {x.title for x in again.data.questions} == {x.title for x in first.data.questions}
    check_apart(first, second)


def test_without_titles_paragraphs_are_split() -> None:
    first, second = halves(questions("untitled", each=6))
    assert len(ids(first)) == len(ids(second)) == 3


def test_a_single_article_cannot_be_split() -> None:
    with pytest.raises(SplitError, match="dev has a single article"):
        halves(questions("a"))


def test_what_chooses_must_not_confirm() -> None:
    with pytest.raises(SplitError, match="3 paragraphs are in both dev and other"):
        check_apart(questions("a", "b"), questions("b", "c", name="other"))


def test_fingerprints_tell_questions_apart() -> None:
    assert questions("a", "b").fingerprint == questions("a", "b", name="elsewhere").fingerprint
    assert len({questions(*titles).fingerprint for titles in (["a"], ["b"], ["a", "b"], ["b", "a"])}) == 4


def test_the_description_is_what_a_table_says() -> None:
    assert questions("a", each=1200, name="heldout-confirm").description == (
        "SQuAD 1.1, the 1,200 questions of heldout-confirm"
    )
