"""Words of texts and questions: the same word in another spelling is found."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from dynamic_tinybert.corpus import Corpus
from dynamic_tinybert.corpus.index.analyzer import normal, question_words, words_of

SAME = [  # a word in a text, and in a question
    ("in\u00adter\u00adna\u00adtion\u00adal", "international"),
    ("super\u200bcali\u2060fragi\ufefflistic", "supercalifragilistic"),
    ("\u202amarked\u202c \u2066word\u2069\u200e", "marked word"),
    ("e\u200d\u0301lan", "élan"),
    ("naïve Zürich", "NAIVE zurich"),
    ("STRASSE", "Straße"),
    ("o\u0323\u0301\u0300 n\u0308", "o n"),  # no letter with these accents exists
    ("Đà Nẵng", "da nang"),
    ("İstanbul", "istanbul"),
    ("İSTANBUL", "İstanbul"),
    ("ısı IĞDIR", "isi iğdır"),
    ("Αθήνα", "ΑΘΗΝΑ"),
    ("Αθήνα", "αθηνα"),
    ("οδός", "ΟΔΟΣ"),
    ("Ἀχιλλεύς ᾠδή προϊόν", "Αχιλλευς ωδη προιον"),
    ("Королёв", "КОРОЛЕВ"),
    ("за\u0301мок", "замок"),
    ("Андре\u0301й", "Андрей"),
    ("и\u0306ога", "йога"),
    ("مُحَمَّد", "محمد"),
    ("العـــربية", "العربية"),
    ("ٱلرَّحْمٰنِ", "ٱلرحمن"),
    ("می\u200cخواهم", "میخواهم"),
    ("שָׁלוֹם", "שלום"),
    ("\ufb2aלום", "שלום"),
    ("क\u094d\u200dष", "क\u094dष"),
    ("ক\u09cd\u200cষ", "ক\u09cdষ"),
    ("ശ്രീ\u200d", "ശ്രീ"),
    ("한국", unicodedata.normalize("NFD", "한국")),
    ("ＴＯＫＹＯ", "tokyo"),
    ("葛\ufe00城", "葛城"),
    ("ガス", "ｶﾞｽ"),
]

DIFFERENT = [
    ("мой", "мои"),  # й is a letter of its own
    ("її", "іі"),
    ("ў", "у"),
    ("が", "か"),
    ("क", "क\u093c"),
    ("أب", "اب"),  # letters with hamza are other letters
]


@pytest.mark.parametrize(("text", "question"), SAME)
def test_spellings_of_a_word_are_the_same_words(text: str, question: str, tmp_path: Path) -> None:
    assert words_of(text) == words_of(question) == question_words(question) != []
    assert words_of(question) == question_words(text)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_letters_of_their_own_stay(one: str, other: str) -> None:
    assert words_of(one) != words_of(other)


def test_texts_are_found_in_other_spellings_and_stay_as_given(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "index")
    corpus.put_many([(str(number), "", f"{text}!") for number, (text, _) in enumerate(SAME)])
    for number, (text, question) in enumerate(SAME):
        assert str(number) in {hit.passage.document for hit in corpus.find(question)}
        assert corpus.text(str(number)) == f"{text}!"


def test_normal_leaves_ascii_and_is_stable() -> None:
    text = "".join(map(chr, range(128)))
    assert normal(text) is text
    for each, question in SAME:
        assert normal(normal(each)) == normal(each)
        assert normal(normal(question)) == normal(question)
