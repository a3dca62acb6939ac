"""Stems by language: inflected words are found, English stays as it was, an index keeps its language."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dynamic_tinybert.corpus import Corpus, CorpusError
from dynamic_tinybert.corpus.index import LANGUAGES
from dynamic_tinybert.corpus.index.analyzer import make_analyzer, question_words, words_of

NOTE = "dynamic-tinybert-index.json"

INFLECTED = [  # a language, a word in a text, and the same word in a question
    ("german", "Häuser", "Haus"),
    ("german", "Straßen", "Strasse"),
    ("german", "Universitäten", "Universität"),
    ("french", "chevaux", "cheval"),
    ("french", "nationales", "national"),
    ("french", "élevées", "élevé"),
    ("spanish", "canciones", "canción"),
    ("spanish", "corriendo", "corrió"),
    ("russian", "книгами", "книга"),
    ("russian", "города", "город"),
    ("russian", "книг\u0430\u0301ми", "книга"),  # with a mark of stress
]


@pytest.mark.parametrize(("language", "text", "question"), INFLECTED)
def test_find_in_a_language_meets_inflected_words(language: str, text: str, question: str, place: Path | str) -> None:
    corpus = Corpus(place, language=language)
    corpus.put_many([("right", "", f"1 {text} 2"), ("wrong", "", "1 xyz 2")])
    assert [hit.passage.document for hit in corpus.find(question)] == ["right"]
    assert corpus.text("right") == f"1 {text} 2"


@pytest.mark.parametrize("language", LANGUAGES)
def test_analyzer_of_each_language_keeps_numbers_names_and_one_spelling(language: str) -> None:
    for word in ("1889", "Nr7"):
        assert words_of(word, language) == words_of(word.upper(), language) == [word.lower()]
    assert words_of("", language) == question_words("?!", language) == []
    assert question_words("\ud800", language) == []
    assert len(question_words("wort " * 5000, language)) == 256
    assert make_analyzer(language) is make_analyzer(language)


def test_analyzer_of_english_is_the_default_and_unchanged() -> None:
    text = "The cats' houses were naïvely repainted in 1889, for THE first time."
    assert (
        words_of(text)
        == words_of(text, "english")
        == ["cat", "hous", "were", "naiv", "repaint", "1889", "first", "time"]
    )
    assert question_words("What did the cats paint?") == ["cat", "paint"]
    assert question_words("Who?") == ["who"]


def test_words_of_other_languages_stay_also_if_they_stand_everywhere() -> None:
    assert words_of("der und die", "german") == ["der", "und", "die"]
    assert words_of("to the houses", "none") == ["to", "the", "houses"]
    assert question_words("Who are they", "none") == ["who", "are", "they"]


@pytest.mark.parametrize("name", ["german", "German", " DE ", "de"])
def test_corpus_takes_a_language_by_name_or_code(name: str, tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "index", language=name)
    corpus.put("a", "Zwei Häuser")
    assert corpus.status().language == "german"
    assert Corpus(tmp_path / "index", language="german").find("Haus")


@pytest.mark.parametrize("name", ["klingon", "", "germ", "\u0434e", "x" * 100_000, 7])
def test_corpus_refuses_an_unknown_language_in_one_short_line(name: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the language must be one of arabic, .*none, not") as caught:
        Corpus(tmp_path / "index", language=name)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert not (tmp_path / "index").exists()


def test_index_keeps_its_language_and_refuses_another(place: Path | str) -> None:
    Corpus(place, language="fr").put("a", "Les chevaux")
    later = Corpus(place)
    assert later.status().language == "french"
    later.put("b", "Deux chevaux")
    assert {hit.passage.document for hit in later.find("cheval")} == {"a", "b"}
    with pytest.raises(CorpusError, match=r"is french, not german: an index has one language$"):
        Corpus(place, language="de").put("c", "Pferd")
    assert later.counts() == (2, 2)


def test_index_of_english_has_the_note_of_earlier_versions(tmp_path: Path) -> None:
    for name, language in (("old", None), ("new", "english")):
        Corpus(tmp_path / name, language=language).put("a", "Two houses")
        note = (tmp_path / name / NOTE).read_text()
        assert note == '{\n  "format": 1,\n  "engine": "tantivy",\n  "passage_size": 1200\n}\n'
    assert Corpus(tmp_path / "old", language="en").find("house")
    with pytest.raises(CorpusError, match="is english, not german"):
        Corpus(tmp_path / "old", language="de").find("house")


@pytest.mark.parametrize("language", ["klingon", 7, None, ["german"]])
def test_index_in_a_language_of_a_later_version_is_refused(language: object, tmp_path: Path) -> None:
    Corpus(tmp_path / "index", language="de").put("a", "Haus")
    path = tmp_path / "index" / NOTE
    note = json.loads(path.read_text())
    assert note["format"] == 2  # a version that knows no languages refuses it
    path.write_text(json.dumps(note | {"language": language}))
    with pytest.raises(CorpusError, match="which this version does not know"):
        Corpus(tmp_path / "index").find("Haus")
