"""Answers from passages that the caller brings."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from dynamic_tinybert import Corpus, QuestionAnswerer, ask_passages
from dynamic_tinybert.corpus import PassageAnswer, answering
from dynamic_tinybert.corpus.given import text_of

PASSAGES = [
    "The lighthouse of Port Ellis was lit in 1871.",
    "The tower stands in Paris, on the Champ de Mars. It was built in 1889.",
    "Nothing of this is said here.",
]
QUESTION = "Where is the tower?"


@dataclass
class Document:
    """As LangChain has them."""

    page_content: str
    metadata: dict[str, Any]


FORMS = {
    "strings": list,
    "a generator": iter,
    "objects": lambda texts: [Document(text, {"page": i}) for i, text in enumerate(texts)],
    "mappings": lambda texts: [{"content": text, "id": i} for i, text in enumerate(texts)],
    "others": lambda texts: tuple(SimpleNamespace(text=text) for text in texts),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_answer_comes_with_its_passage(qa: QuestionAnswerer, form: str) -> None:
    given = FORMS[form](PASSAGES)
    kept = given if isinstance(given, (list, tuple)) else None
    answer = ask_passages(QUESTION, given, qa=qa)
    assert answer.text.startswith("Paris")
    assert answer.number == 1
    assert kept is None or answer.passage is kept[1]
    assert text_of(answer.passage)[answer.start : answer.end] == answer.text
    assert answer.sentence == "The tower stands in Paris, on the Champ de Mars."
    assert 0 < answer.score <= 1
    assert 2 <= answer.spent.read <= 3


def test_one_ranked_list_over_all_passages(qa: QuestionAnswerer) -> None:
    answers = ask_passages("When was it built or lit?", PASSAGES, qa=qa, top_k=5)
    assert {answer.number for answer in answers[:2]} == {0, 1}
    assert [answer.score for answer in answers] == sorted((answer.score for answer in answers), reverse=True)
    assert all(isinstance(answer, PassageAnswer) and answer.text for answer in answers)


def test_it_is_what_a_corpus_finds_in_the_same_passages(qa: QuestionAnswerer, tmp_path: Any) -> None:
    corpus = Corpus(tmp_path, qa=qa)
    corpus.put_many((str(i), "", text) for i, text in enumerate(PASSAGES))
    found = corpus(QUESTION, budget="balanced")
    same = ask_passages(QUESTION, [hit.passage for hit in corpus.find(QUESTION)], qa=qa, budget="balanced")
    assert (same.text, same.passage.document) == (found.text, found.document)


def test_of_equal_passages_the_first_wins_and_the_rest_is_not_read(qa: QuestionAnswerer) -> None:
    towers = [f"The tower stands in {city}." for city in ("Oslo", "Rome", "Paris", "Lima", "Cairo", "Delhi")]
    for passages in (towers, towers[::-1]):
        answer = ask_passages(QUESTION, passages, qa=qa)
        assert answer.number == 0
        assert answer.spent.read < len(passages)


def test_order_of_passages_that_are_not_ranked_does_not_matter(qa: QuestionAnswerer) -> None:
    for passages in (PASSAGES, PASSAGES[::-1]):
        answer = ask_passages(QUESTION, passages * 4, qa=qa, ranked=False)
        assert answer.sentence.startswith("The tower stands in Paris")
    assert answer.spent.read == len(PASSAGES)  # the same words count once


def test_passages_that_are_not_ranked_are_all_read_within_a_long_time_limit(qa: QuestionAnswerer) -> None:
    passages = [*PASSAGES[1:2], *(f"Nothing is said in part {number}." for number in range(15))]
    assert ask_passages(QUESTION, passages, qa=qa, ranked=False, max_latency_ms=1e9).spent.read == 16


def test_a_sure_answer_wins_from_the_end_of_the_list(qa: QuestionAnswerer) -> None:
    passages = [*(f"Nothing is said in part {number}." for number in range(15)), PASSAGES[1]]
    assert ask_passages(QUESTION, passages, qa=qa).number == 15


def test_nothing_to_look_in(qa: QuestionAnswerer) -> None:
    for passages in ([], ["", "  \n"]):
        answer = ask_passages(QUESTION, passages, qa=qa)
        assert (answer.text, answer.passage, answer.number, answer.sentence) == ("", None, -1, "")
        assert ask_passages(QUESTION, passages, qa=qa, top_k=3) == []


def test_the_time_limit_reads_at_least_the_first(qa: QuestionAnswerer) -> None:
    ask_passages(QUESTION, PASSAGES, qa=qa)
    answer = ask_passages(QUESTION, [*PASSAGES[1:2], *PASSAGES * 50], qa=qa, max_latency_ms=0.001)
    assert answer.number == 0
    assert answer.spent.read == 1


def test_the_same_words_twice_count_once(qa: QuestionAnswerer) -> None:
    answers = ask_passages(QUESTION, [PASSAGES[1]] * 20 + PASSAGES[:1], qa=qa, top_k=4)
    assert {answer.number for answer in answers} <= {0, 20}


@pytest.mark.parametrize(
    ("passages", "options", "error", "said"),
    [
        ([1], {}, TypeError, "a passage must be a string, or have a text"),
        ([{"body": "x"}], {}, TypeError, "page_content or content"),
        ("one text", {}, TypeError, "passages must be a list"),
        (PASSAGES, {"handle_impossible_answer": True}, TypeError, "unknown options for passages"),
        (PASSAGES, {"top_k": 0}, ValueError, "top_k"),
        (PASSAGES, {"max_latency_ms": 0}, ValueError, "max_latency_ms must be a number"),
        (PASSAGES, {"budget": 2}, ValueError, "budget"),
    ],
)
def test_what_makes_no_sense_is_refused(
    qa: QuestionAnswerer, passages: Any, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        ask_passages(QUESTION, passages, qa=qa, **options)


def test_a_question_without_words_is_refused(qa: QuestionAnswerer) -> None:
    with pytest.raises(ValueError, match="empty"):
        ask_passages("  ", PASSAGES, qa=qa)


LIGHTHOUSES = [
    "The lighthouse of Graz was built by Odo Lind. The lighthouse of Lyon was built by Ida Falk.",
    "The harbour is named after Erik Holm.",
]


def test_a_second_answer_of_a_passage_gets_nothing_from_its_best_one(qa: QuestionAnswerer) -> None:
    """Ida Falk is no answer, but stands beside the right one; Erik Holm is, a little."""
    question = "Who built the lighthouse of Graz?"
    for top_k in (2, 3):
        found = ask_passages(question, LIGHTHOUSES, qa=qa, ranked=False, top_k=top_k)
        assert [answer.text for answer in found][:2] == ["Odo Lind", "Erik Holm"]
        assert found[0].score > 10 * found[1].score
    alone = ask_passages(question, LIGHTHOUSES, qa=qa, ranked=False)
    assert (alone.text, alone.confidence) == (found[0].text, found[0].confidence)


def test_answers_that_there_is_no_time_to_improve_stay(qa: QuestionAnswerer, monkeypatch: pytest.MonkeyPatch) -> None:
    builders = {"Lyon": "Odo Lind", "Graz": "Clara Voss", "Oslo": "Agnes Moreau", "Bern": "Ida Falk"}
    mills = [f"The mill of {city} was built by {name}." for city, name in builders.items()]
    monkeypatch.setattr(answering.Asking, "_affordable", lambda self, best: best[:1])
    found = ask_passages("Who built the mill?", mills, qa=qa, ranked=False, top_k=4, max_latency_ms=1e6)
    assert {answer.text for answer in found} == set(builders.values())
    assert (found[0].spent.read, found[0].spent.read_again) == (4, 1)
