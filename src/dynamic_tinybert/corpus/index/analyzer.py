"""Split documents and questions into the same words, for each engine."""

from __future__ import annotations

import re
import unicodedata

import tantivy

from dynamic_tinybert.files import encodable

_LONGEST_QUESTION = 10_000  # characters of a question that retrieval uses
_MOST_TERMS = 256
_SINGLE = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"  # written without spaces
_WORDS = rf"[{_SINGLE}]|[[\p{{L}}\p{{M}}\p{{N}}]--[{_SINGLE}]]+"
_ASKING = {"what", "which", "who", "whom", "whose", "when", "where", "why", "how", "did", "does", "do", "many", "much"}
_QUESTION_WORD = re.compile(r"\w+")


def make_analyzer() -> tantivy.TextAnalyzer:
    """Make the analyzer: words of any script, in lower case, without accents, English stop words and suffixes."""
    filters = tantivy.Filter
    return (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.regex(_WORDS))
        .filter(filters.remove_long(100))
        .filter(filters.lowercase())
        .filter(filters.ascii_fold())
        .filter(filters.stopword("english"))
        .filter(filters.stemmer("english"))
        .build()
    )


_ANALYZER = make_analyzer()


def words_of(text: str) -> list[str]:
    """Return the words of a text in order, as the analyzer writes them."""
    return _ANALYZER.analyze(normal(text))


def question_words(question: str) -> list[str]:
    """Return the words of a question for retrieval, without question words (such as "who") if others remain."""
    question = normal(encodable(question[:_LONGEST_QUESTION]))
    telling = _QUESTION_WORD.sub(lambda m: " " if m.group().lower() in _ASKING else m.group(), question)
    return (_ANALYZER.analyze(telling) or _ANALYZER.analyze(question))[:_MOST_TERMS]


def normal(text: str) -> str:
    """Normalize a text to NFKC, the form in which words are compared."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text)
