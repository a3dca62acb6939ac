"""Split documents and questions into the same words, for each engine."""

from __future__ import annotations

import functools
import re
import unicodedata

import tantivy

from dynamic_tinybert.corpus.index.language import DEFAULT, NONE
from dynamic_tinybert.files import encodable

_LONGEST_QUESTION = 10_000  # characters of a question that retrieval uses
_MOST_TERMS = 256
_SINGLE = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"  # written without spaces
_WORDS = rf"[{_SINGLE}]|[[\p{{L}}\p{{M}}\p{{N}}]--[{_SINGLE}]]+"
_ASKING = {"what", "which", "who", "whom", "whose", "when", "where", "why", "how", "did", "does", "do", "many", "much"}
_QUESTION_WORD = re.compile(r"\w+")


def _characters(*ranges: str) -> frozenset[str]:
    """Return all characters of ranges, each given by its first and last character."""
    return frozenset(chr(code) for each in ranges for code in range(ord(each[0]), ord(each[-1]) + 1))


_HIDDEN = _characters(  # what is not seen, and would split a word: soft hyphen, joiners, directions, variants
    *("\u00ad", "\u034f", "\u061c", "\u115f\u1160", "\u17b4\u17b5", "\u180b\u180f", "\u200b\u200f", "\u202a\u202e"),
    *("\u2060\u2064", "\u2066\u206f", "\ufe00\ufe0f", "\ufeff"),
)
_MARKS = _characters(  # what many texts of a language leave out
    *("\u0300\u036f", "\u0483\u0487"),  # accents that are not part of a letter, such as the stress in Cyrillic
    *("\u0591\u05bd", "\u05bf", "\u05c1\u05c2", "\u05c4\u05c5", "\u05c7"),  # Hebrew points and cantillation
    *("\u0610\u061a", "\u0640", "\u064b\u065f", "\u0670", "\u06d6\u06dc", "\u06df\u06e4"),  # Arabic, with tatweel
    *("\u06e7\u06e8", "\u06ea\u06ed"),
)
_LETTERS = {
    letter: unicodedata.normalize("NFD", letter)[0] for letter in _characters("\u0370\u03ff", "\u1f00\u1fff")
} | dict(zip("İıЁёЀѐЍѝς", "IiЕеЕеИиσ", strict=True))  # й, ї and ў are letters of their own, and stay
_FOLD = str.maketrans({letter: base for letter, base in _LETTERS.items() if letter != base} | dict.fromkeys(_MARKS, ""))
_HIDES = re.compile(f"[{''.join(sorted(_HIDDEN))}]+")
_FOLDS = re.compile(f"[{''.join(map(chr, sorted(_FOLD)))}]+")


@functools.cache
def make_analyzer(language: str = DEFAULT) -> tantivy.TextAnalyzer:
    """Make the analyzer of a language: words of any script, in lower case, without accents, and without suffixes.

    In English, stop words are removed. In other languages they stay: BM25 gives words that stand everywhere no weight.
    Their stemmers need the accents, so these go last.
    """
    filters = tantivy.Filter
    builder = (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.regex(_WORDS))
        .filter(filters.remove_long(100))
        .filter(filters.lowercase())
    )
    if language == DEFAULT:
        builder = builder.filter(filters.ascii_fold()).filter(filters.stopword("english"))
        return builder.filter(filters.stemmer("english")).build()
    if language != NONE:
        builder = builder.filter(filters.stemmer(language))
    return builder.filter(filters.ascii_fold()).build()


def words_of(text: str, language: str = DEFAULT) -> list[str]:
    """Return the words of a text in order, as the analyzer writes them."""
    return make_analyzer(language).analyze(normal(text))


def question_words(question: str, language: str = DEFAULT) -> list[str]:
    """Return the words of a question for retrieval; in English, without question words ("who") if others remain."""
    analyze = make_analyzer(language).analyze
    question = normal(encodable(question[:_LONGEST_QUESTION]))
    if language != DEFAULT:
        return analyze(question)[:_MOST_TERMS]
    telling = _QUESTION_WORD.sub(lambda m: " " if m.group().lower() in _ASKING else m.group(), question)
    return (analyze(telling) or analyze(question))[:_MOST_TERMS]


def normal(text: str) -> str:
    """Normalize a text to the form in which words are compared; it is not stored, and has no offsets.

    This is NFKC without characters that are not seen, and without marks that a question may leave out. Accents of Latin
    letters are left to the analyzer. An index of an earlier version has other words only where these characters are.
    """
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", _HIDES.sub("", text))
    return _FOLDS.sub(lambda found: found.group().translate(_FOLD), text)
