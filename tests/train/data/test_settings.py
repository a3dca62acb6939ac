"""The four settings together: off they change nothing, and on they change what they say."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dynamic_tinybert.inference import TextTokenizer
from dynamic_tinybert.squad import Question, read_squad
from dynamic_tinybert.train import TrainingError
from dynamic_tinybert.train.features import NO_ANSWER, Feature, FeatureSettings, fingerprint, make_features
from support.training import write_squad

SETTINGS = "articles", "distractors", "typed", "layout"
LENGTHS: dict[str, Any] = {"max_seq_len": 120, "doc_stride": 16, "max_question_len": 20, "article_lengths": (40, 120)}


@pytest.fixture(scope="module")
def tokenizer(embedded: Path) -> TextTokenizer:
    return TextTokenizer(embedded)


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Question, ...]:
    path = tmp_path_factory.mktemp("squad") / "squad.json"
    return read_squad(write_squad(path, [f"Ort {number}" for number in range(6)])).questions


def texts(tokenizer: TextTokenizer, features: list[Feature]) -> list[str]:
    """The words of the texts, without the questions."""
    return [words(tokenizer, feature.ids[feature.offset : -1]) for feature in features]


def words(tokenizer: TextTokenizer, ids: Any) -> str:
    return str(tokenizer._tokenizer.decode([int(i) for i in ids]))


def labelled(tokenizer: TextTokenizer, feature: Feature) -> set[str]:
    return {words(tokenizer, feature.ids[a : b + 1]) for a, b in feature.spans}


def test_without_them_features_are_those_of_before_they_were_there(
    tokenizer: TextTokenizer, questions: tuple[Question, ...]
) -> None:
    """Logits that were stored for them are still theirs."""
    settings = FeatureSettings(impossible=0.3, max_seq_len=40, doc_stride=8, max_question_len=12, seed=3)
    features = make_features(tokenizer, questions, settings)
    labels = hashlib.sha256(repr([(feature.offset, feature.spans) for feature in features]).encode()).hexdigest()
    assert len(features) == 70
    assert fingerprint(features) == "eee7558466a7cb2c63b3e818b19848532b1f321e71e05c43e92de2c42419d10a"
    assert labels == "67c33865664b46c5effaaa1d0986198244386eac8741e2dfe000bf859ad9ca86"


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_the_same_by_seed_and_another_by_another(
    name: str, tokenizer: TextTokenizer, questions: tuple[Question, ...]
) -> None:
    made = [make_features(tokenizer, questions, FeatureSettings(seed=s, **{name: 0.5}, **LENGTHS)) for s in (1, 1, 2)]
    prints = [fingerprint(features) for features in made]
    assert prints[0] == prints[1] != prints[2]
    assert prints[0] != fingerprint(make_features(tokenizer, questions, FeatureSettings(seed=1, **LENGTHS)))


@pytest.mark.parametrize("name", ["articles", "typed", "layout"])
def test_a_changed_question_is_asked_in_place_of_the_plain_one(
    name: str, tokenizer: TextTokenizer, questions: tuple[Question, ...]
) -> None:
    plain = make_features(tokenizer, questions, FeatureSettings(**LENGTHS))
    assert len(plain) == len(questions)
    changed = []
    for share in (0.0, 0.4, 0.8):
        features = make_features(tokenizer, questions, FeatureSettings(**{name: share}, **LENGTHS))
        assert len(features) == len(plain)
        assert all(feature.spans != NO_ANSWER for feature in features)
        changed.append(
            {i for i, (a, b) in enumerate(zip(features, plain, strict=True)) if not np.array_equal(a.ids, b.ids)}
        )
    assert not changed[0]
    assert changed[0] < changed[1] < changed[2]
    assert len(changed[2]) < len(plain)


def test_a_setting_does_not_change_what_another_draws(
    tokenizer: TextTokenizer, questions: tuple[Question, ...]
) -> None:
    """Questions are typed alike whatever happens to the texts, and the reverse."""
    typed = make_features(tokenizer, questions, FeatureSettings(typed=0.5, **LENGTHS))
    both = make_features(tokenizer, questions, FeatureSettings(typed=0.5, layout=0.5, **LENGTHS))
    layout = make_features(tokenizer, questions, FeatureSettings(layout=0.5, **LENGTHS))
    assert [f.ids[: f.offset].tolist() for f in typed] == [f.ids[: f.offset].tolist() for f in both]
    assert texts(tokenizer, layout) == texts(tokenizer, both)


@pytest.mark.parametrize("name", [*SETTINGS, "all"])
def test_labels_are_the_answers(name: str, tokenizer: TextTokenizer, questions: tuple[Question, ...]) -> None:
    """However the text was changed, what is labelled right is an answer."""
    shares = dict.fromkeys(SETTINGS if name == "all" else [name], 1.0)
    for seed in range(3):
        features = make_features(tokenizer, questions, FeatureSettings(seed=seed, **shares, **LENGTHS))
        for question, feature in zip(questions, features, strict=False):
            assert labelled(tokenizer, feature) == {words(tokenizer, tokenizer.question(question.answers[0]))}


def test_a_window_of_an_article_has_a_length_in_range_and_holds_the_paragraph(
    tokenizer: TextTokenizer, questions: tuple[Question, ...]
) -> None:
    features = make_features(tokenizer, questions, FeatureSettings(articles=1.0, **LENGTHS))
    lengths = {len(feature) for feature in features}
    assert all(len(feature) <= 120 for feature in features)
    assert len(lengths) > 15
    assert min(lengths) < 55
    assert max(lengths) > 90
    plain = make_features(tokenizer, questions, FeatureSettings(**LENGTHS))
    places = set()
    for feature, alone in zip(features, plain, strict=True):
        whole, paragraph = (f" {text} " for text in texts(tokenizer, [feature, alone]))
        if len(feature) > len(alone):
            assert paragraph in whole
            places.add(round(whole.index(paragraph) / len(whole), 1))
    assert len(places) > 2


def test_the_same_words_in_a_neighbour_are_not_labelled(tokenizer: TextTokenizer) -> None:
    def asked(text: str, id_: str) -> Question:
        return Question(
            id=id_, title="T", question="When?", context=text, answers=("1871",), answer_starts=(None,),
            impossible=False,
        )  # fmt: skip

    ask = [asked("It was built in 1871, in May 1871.", "a"), asked("It burned in 1871.", "b")]
    lengths = {**LENGTHS, "article_lengths": (60, 60)}
    features = make_features(tokenizer, ask, FeatureSettings(articles=1.0, **lengths))
    assert [texts(tokenizer, [feature])[0].count("1871") for feature in features] == [3, 3]
    assert [len(feature.spans) for feature in features] == [2, 1]


def test_distractors_are_asked_again_with_and_without_an_answer(tokenizer: TextTokenizer) -> None:
    contexts = [
        f"The {name} tower of Port Ellis was built in {1700 + i}. The {name} tower stands by the sea."
        for i, name in enumerate(["old", "red", "tall", "stone", "north", "new", "south", "small", "wooden", "white"])
    ]
    asked = [
        Question(
            id=str(i), title="T", question="When was the tower of Port Ellis built?", context=text,
            answers=(str(1700 + i % 10),), answer_starts=(None,), impossible=False,
        )
        for i, text in enumerate(contexts * 2)
    ]  # fmt: skip
    plain = make_features(tokenizer, asked, FeatureSettings(**LENGTHS))
    features = make_features(tokenizer, asked, FeatureSettings(distractors=1.0, **LENGTHS))
    assert [f.ids.tolist() for f in features[: len(plain)]] == [f.ids.tolist() for f in plain]
    added = features[len(plain) :]
    assert len(added) == len(asked)
    paragraphs = set(texts(tokenizer, plain))
    without = [feature for feature in added if feature.spans == NO_ANSWER]
    inserted = [feature for feature in added if feature.spans != NO_ANSWER]
    assert len(without) > 4
    assert len(inserted) > 4
    assert set(texts(tokenizer, without)) <= paragraphs
    assert not paragraphs & set(texts(tokenizer, inserted))
    for feature in inserted:
        assert words(tokenizer, feature.ids).count("built in") > 1
        (answer,) = labelled(tokenizer, feature)
        (own,) = (text for text in paragraphs if answer in text)
        assert all(sentence in words(tokenizer, feature.ids) for sentence in own.split(". "))


def test_no_window_without_an_answer_holds_one(tokenizer: TextTokenizer, questions: tuple[Question, ...]) -> None:
    """Also not in the neighbours that a window of an article has."""
    shares = {"impossible": 1.0, "articles": 1.0, "distractors": 1.0, "layout": 1.0}
    features = make_features(tokenizer, questions, FeatureSettings(**shares, **LENGTHS))
    by_words = {words(tokenizer, tokenizer.question(q.question)): [] for q in questions}
    for question in questions:
        answer = words(tokenizer, tokenizer.question(question.answers[0]))
        by_words[words(tokenizer, tokenizer.question(question.question))].append(answer)
    empty = [feature for feature in features if feature.spans == NO_ANSWER]
    assert len(empty) > len(questions)
    for feature in empty:
        asked = words(tokenizer, feature.ids[1 : feature.offset - 1])
        (text,) = texts(tokenizer, [feature])
        assert not all(f" {answer} " in f" {text} " for answer in by_words[asked])


def test_a_question_that_its_file_calls_unanswerable_gets_no_neighbours(tokenizer: TextTokenizer) -> None:
    ask = [
        Question(id=str(i), title="T", question="Who?", context=text, answers=(), answer_starts=(), impossible=True)
        for i, text in enumerate(["One is red.", "Two is blue."])
    ]
    plain = make_features(tokenizer, ask, FeatureSettings(**LENGTHS))
    changed = make_features(tokenizer, ask, FeatureSettings(articles=1.0, distractors=1.0, **LENGTHS))
    assert fingerprint(plain) == fingerprint(changed)


@pytest.mark.parametrize("text", ["", " \n", "東京タワーは333メートル。", "\x00\u200b", "שָׁלוֹם עולם Émile " * 2000])
def test_any_text(text: str, tokenizer: TextTokenizer, questions: tuple[Question, ...]) -> None:
    at = {"answers": ("333",), "answer_starts": (text.find("333"),)} if "333" in text else {}
    at = at or {"answers": ("Émile",), "answer_starts": (None,)}
    own = Question(id="own", title="Ort 1", question="Où?", context=text, impossible=False, **at)  # type: ignore[arg-type]
    shares = dict.fromkeys(SETTINGS, 1.0)
    features = make_features(tokenizer, [*questions[:12], own], FeatureSettings(impossible=1.0, **shares, **LENGTHS))
    assert all(len(feature) <= 120 for feature in features)


def test_an_answer_longer_than_the_window_of_an_article_makes_it_longer(tokenizer: TextTokenizer) -> None:
    text = "It had " + " and ".join(f"{n} goats" for n in range(60)) + ". Nothing else."
    answer = text[text.index("0 goats") : text.index(" and 20 goats")]
    own = Question(
        id="x", title="T", question="What?", context=text, answers=(answer,), answer_starts=(7,), impossible=False
    )
    lengths = {**LENGTHS, "article_lengths": (40, 40)}
    (feature,) = make_features(tokenizer, [own], FeatureSettings(articles=1.0, **lengths))
    assert labelled(tokenizer, feature) == {answer}


def test_lengths_of_articles_that_cannot_be_are_refused_where_they_are_used(
    tokenizer: TextTokenizer, questions: tuple[Question, ...]
) -> None:
    lengths = {**LENGTHS, "article_lengths": (40, 121)}
    with pytest.raises(TrainingError, match="at most max_seq_len, 120"):
        make_features(tokenizer, questions, FeatureSettings(articles=0.1, **lengths))
    make_features(tokenizer, questions, FeatureSettings(**lengths))
