"""The official metrics of SQuAD, by hand and against the published figures."""

from __future__ import annotations

import random
import re

import pytest

from dynamic_tinybert.squad import (
    Question,
    SquadError,
    SquadFile,
    Version,
    exact_match,
    f1_score,
    holds_answer,
    normalize_answer,
    read_predictions,
    read_squad,
    score,
    score_question,
)
from support.data import SQUAD, needs_squad

VERSIONS: tuple[Version, ...] = ("1.1", "2.0")
both_versions = pytest.mark.parametrize("version", VERSIONS)


def ask(id_: str, *answers: str, impossible: bool = False) -> Question:
    return Question(
        id=id_,
        title="",
        question="?",
        context="",
        answers=answers,
        answer_starts=(None,) * len(answers),
        impossible=impossible,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Eiffel Tower", "eiffel tower"),
        ("a cat, an owl and THE dog", "cat owl and dog"),
        ("theatre banana Ann", "theatre banana ann"),
        ("up…the…hill", "up… …hill"),
        ("U.S.A.", "usa"),
        ("well-known", "wellknown"),
        ("T.H.E. end", "end"),
        ("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", ""),
        ("  many \t white\nspaces\u00a0here\u3000", "many white spaces here"),
        ("ÉCOLE Ωmega", "école ωmega"),
        ("“quoted” 5\u202f°C", "“quoted” 5 °c"),
        ("東京は大きい。", "東京は大きい。"),
        ("à la carte", "à la carte"),
        ("the", ""),
        ("", ""),
    ],
)
def test_normalization(text: str, expected: str) -> None:
    assert normalize_answer(text) == expected


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("In 2016 the  Denver Broncos won.", ["Carolina", "the Denver Broncos"], True),
        ("In 2016 Denver won.", ["Denver Broncos"], False),
        ("In 2016 Denver won.", ["the", "..."], False),  # no words are left of these
        ("", ["Denver"], False),
        ("In 2016 Denver won.", [], False),
    ],
)
def test_a_text_holds_an_answer(text: str, answers: list[str], expected: bool) -> None:
    assert holds_answer(text, answers) is expected


def test_exact_match_is_of_normalized_answers() -> None:
    assert exact_match("the Denver  Broncos.", "Denver Broncos")
    assert not exact_match("Broncos Denver", "Denver Broncos")
    assert not exact_match("Denver", "Denver Broncos")


@both_versions
@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        ("Denver Broncos", "the Denver Broncos!", 1.0),
        ("Broncos Denver", "Denver Broncos", 1.0),  # order does not count
        ("the big red dog ran", "red dog", 2 / 3),  # precision 2/4, recall 2/2
        ("red dog", "the big red dog ran", 2 / 3),
        ("yes yes no", "yes", 1 / 2),  # a word counts as often as both have it: precision 1/3, recall 1/1
        ("yes yes no", "yes yes yes", 2 / 3),
        ("one two three", "three four", 2 / 5),  # precision 1/3, recall 1/2
        ("cat", "dog", 0.0),
        ("cat", "the", 0.0),
        ("", "cat", 0.0),
    ],
)
def test_f1_by_hand(prediction: str, truth: str, expected: float, version: Version) -> None:
    assert f1_score(prediction, truth, version=version) == pytest.approx(expected, abs=1e-12)


def test_two_empty_answers_agree_in_2_only() -> None:
    assert f1_score("", "the", version="1.1") == f1_score("", "the") == 0.0
    assert f1_score("", "the", version="2.0") == 1.0
    assert exact_match("", "the")


@both_versions
def test_each_metric_takes_its_own_best_reference(version: Version) -> None:
    question = ask("q", "in the year 1973", "October 1973", "1973")
    assert score_question(question, "1973", version=version) == (1.0, 1.0)
    exact, f1 = score_question(question, "October of 1973", version=version)
    assert exact == 0.0
    assert f1 == pytest.approx(4 / 5)  # with the second: precision 2/3, recall 2/2


def test_references_that_are_empty_once_normalized_count_in_1_only() -> None:
    question = ask("q", "The", "cat")
    assert score_question(question, "a", version="1.1") == (1.0, 0.0)
    assert score_question(question, "a", version="2.0") == (0.0, 0.0)
    assert score_question(ask("q", "The", "..."), "a", version="2.0") == (1.0, 1.0)


def test_the_answer_to_an_unanswerable_question_is_none() -> None:
    question = ask("q", impossible=True)
    assert score_question(question, "", version="2.0") == (1.0, 1.0)
    assert score_question(question, "the", version="2.0") == (1.0, 1.0)
    assert score_question(question, "cat", version="2.0") == (0.0, 0.0)


def test_a_question_of_1_needs_a_reference() -> None:
    with pytest.raises(SquadError, match="question 'q' has no answer to score against"):
        score_question(ask("q"), "cat", version="1.1")


def test_scores_of_1() -> None:
    data = SquadFile("1.1", (ask("a", "cat"), ask("b", "red dog"), ask("c", "owl"), ask("d", "fox")))
    scores = score(data, {"a": "a cat", "b": "dog", "c": "hen", "other": "ignored"})
    expected = {"exact_match": 25.0, "f1": pytest.approx(100 * (1 + 2 / 3) / 4), "total": 4, "missing": 1}
    assert scores.to_dict() == expected
    assert scores.has_ans_total is None
    assert scores.no_ans_total is None


def test_scores_of_2_with_the_official_breakdown() -> None:
    data = SquadFile(
        "2.0",
        (
            ask("a", "cat"),
            ask("b", "red dog"),
            ask("c", impossible=True),
            ask("d", impossible=True),
            ask("e", impossible=True),  # no prediction: not taken for the empty answer
        ),
    )
    scores = score(data, {"a": "", "b": "dog", "c": "", "d": "cat"})
    assert scores.to_dict() == {
        "exact_match": 20.0,
        "f1": pytest.approx(100 * (2 / 3 + 1) / 5),
        "total": 5,
        "missing": 1,
        "HasAns_exact": 0.0,
        "HasAns_f1": pytest.approx(100 / 3),
        "HasAns_total": 2,
        "NoAns_exact": pytest.approx(100 / 3),
        "NoAns_f1": pytest.approx(100 / 3),
        "NoAns_total": 3,
    }


def test_the_breakdown_goes_by_references_and_leaves_out_an_empty_part() -> None:
    scores = score(SquadFile("2.0", (ask("a", "cat", impossible=True),)), {"a": "cat"})
    assert (scores.has_ans_exact, scores.has_ans_f1, scores.has_ans_total) == (100.0, 100.0, 1)
    assert (scores.no_ans_exact, scores.no_ans_f1, scores.no_ans_total) == (None, None, None)
    assert not any(key.startswith("NoAns") for key in scores.to_dict())


@both_versions
@pytest.mark.parametrize(
    ("predictions", "given"), [({"x1": "cat", "x2": "dog"}, "like 'x1'"), ({}, "none")], ids=["others", "none"]
)
def test_predictions_for_another_data_set(version: Version, predictions: dict[str, str], given: str) -> None:
    data = SquadFile(version, (ask("a", "cat"), ask("b", "dog")))
    line = f"no prediction has an id of this data set: ids here are like 'a', in the predictions {given}"
    with pytest.raises(SquadError, match=f"^{re.escape(line)}$"):
        score(data, predictions)


@pytest.mark.slow
@needs_squad
@pytest.mark.parametrize(
    ("data", "predictions", "exact", "f1"),
    [
        ("dev-v1.1", "predictions-bert-ensemble", 86.206, 92.196),
        ("dev-v1.1", "predictions-logistic-regression-baseline", 40.142, 50.982),
        ("dev-v2.0", "predictions-v2.0-bert-single", 78.742, 81.775),
    ],
)
def test_published_predictions_have_their_published_scores(
    data: str, predictions: str, exact: float, f1: float
) -> None:
    scores = score(read_squad(SQUAD / f"{data}.json.gz"), read_predictions(SQUAD / f"{predictions}.json.gz"))
    assert scores.exact_match == pytest.approx(exact, abs=1e-3)
    assert scores.f1 == pytest.approx(f1, abs=1e-3)


# Probabilities of no answer.

ASKED = SquadFile(
    "2.0",
    (
        ask("right", "Paris"),
        ask("half", "Agnes Moreau"),
        ask("wrong", "1871"),
        ask("none", impossible=True),
        ask("none either", impossible=True),
    ),
)
SAID = {"right": "paris", "half": "Moreau", "wrong": "Rome", "none": "Brno", "none either": ""}


def test_the_best_threshold_by_hand() -> None:
    na_probs = {"right": 0.1, "half": 0.2, "wrong": 0.3, "none": 0.4, "none either": 0.5}
    found = score(ASKED, SAID, na_probs=na_probs)
    # Answering up to 0.2 gives the two questions without an answer, `right`, and of `half` two thirds of F1.
    assert (found.best_exact, found.best_exact_thresh) == (60.0, 0.1)
    assert found.best_f1 == pytest.approx(100 * (3 + 2 / 3) / 5)
    assert found.best_f1_thresh == 0.2
    # At the threshold 1 nothing is turned into no answer, and what is empty stays so.
    assert found.exact_match == score(ASKED, SAID).exact_match == 40.0
    assert (found.no_ans_exact, found.has_ans_exact) == (50.0, pytest.approx(100 / 3))


def test_a_threshold_turns_answers_into_none_as_the_official_script_does() -> None:
    na_probs = {"right": 0.1, "half": 0.2, "wrong": 0.3, "none": 0.4, "none either": 0.0}
    found = score(ASKED, SAID, na_probs=na_probs, na_prob_thresh=0.3)  # greater than, not equal
    blank = score(ASKED, {**SAID, "none": ""})
    assert (found.exact_match, found.f1, found.no_ans_f1) == (blank.exact_match, blank.f1, 100.0)
    assert found.best_f1 == score(ASKED, SAID, na_probs=na_probs).best_f1  # of the answers as given


def test_where_it_is_best_to_answer_nothing_the_threshold_is_0() -> None:
    found = score(ASKED, {q.id: "Brno" for q in ASKED.questions}, na_probs=dict.fromkeys(SAID, 0.7))
    assert (found.best_exact, found.best_exact_thresh, found.best_f1, found.best_f1_thresh) == (40.0, 0.0, 40.0, 0.0)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_threshold_is_the_best_of_all(seed: int) -> None:
    """As slow as can be: every threshold is tried."""
    draw = random.Random(seed)
    questions = [ask(str(i), "Port Ellis") if draw.random() < 0.5 else ask(str(i)) for i in range(30)]
    data = SquadFile("2.0", tuple(questions))
    said = {q.id: draw.choice(["Port Ellis", "Port", "Brno", ""]) for q in questions}
    na_probs = {q.id: draw.random() for q in questions}
    found = score(data, said, na_probs=na_probs)
    tried = {t: score(data, said, na_probs=na_probs, na_prob_thresh=t) for t in (0.0, *na_probs.values())}
    assert found.best_f1 == pytest.approx(max(s.f1 for s in tried.values()))
    assert found.best_exact == pytest.approx(max(s.exact_match for s in tried.values()))
    assert found.best_f1_thresh is not None
    assert tried[found.best_f1_thresh].f1 == pytest.approx(found.best_f1)


def test_probabilities_are_for_2_and_for_every_prediction() -> None:
    with pytest.raises(SquadError, match=r"of SQuAD 1\.1 has an answer"):
        score(SquadFile("1.1", ASKED.questions[:2]), SAID, na_probs=dict.fromkeys(SAID, 0.5))
    with pytest.raises(SquadError, match="4 questions have a prediction, but no probability of no answer: 'half'"):
        score(ASKED, SAID, na_probs={"right": 0.5})
    score(ASKED, {"right": "Paris"}, na_probs={"right": 0.5})


@pytest.mark.slow
@needs_squad
def test_published_predictions_gain_nothing_from_probabilities_that_say_what_they_say() -> None:
    data = read_squad(SQUAD / "dev-v2.0.json.gz")
    said = read_predictions(SQUAD / "predictions-v2.0-bert-single.json.gz")
    found = score(data, said, na_probs={id_: float(not text) for id_, text in said.items()})
    assert (round(found.exact_match, 3), round(found.f1, 3)) == (78.742, 81.775)
    assert (found.best_exact, found.best_f1) == pytest.approx((found.exact_match, found.f1))
