"""Texts in any script, and the tokens of them."""

from __future__ import annotations

import unicodedata

import numpy as np
from hypothesis import strategies as st

from dynamic_tinybert.inference import TextTokenizer, Tokens, Window, cut_windows

QUESTION = "Who designed the tower, and when was it built?"
PROSE = (
    "The tower was designed by Maurice Koechlin and Émile Nouguier — two engineers — in 1884. It's 330 m tall; "
    "über die Brücke, naïve façade, 東京タワーは333メートル, Москва, αβγ, שָׁלוֹם, مرحبا, हिन्दी, 한국어 tokenized.\r\n\t"
)

# Marks that stand on the character before them, of many scripts; joiners and variation selectors too.
MARKS = "\u0300\u0301\u0308\u0327\u0332\u0361\u0488\u05b0\u05c1\u064b\u0651\u093f\u0941\u094d\u0e31\u0e48\u200d\ufe0f"
STRIPPED = "".join(c for c in MARKS if unicodedata.category(c) == "Mn" or c in "\u200d\ufe0f")
SCRIPTS = "aZé9ßİıﬁǅΩЖшאתعمकषไท中文東京ひカ한글각ㄱ😀👍🏽👩👧🇫🇷€.,!?'\"()[]-_#*"
SPACES = " \n\r\t\u00a0\u2003\u2028\u3000"
INVISIBLE = "\x00\x01\x0b\x0c\x1c\x1f\x7f\x85\u00ad\u200b\u200e\u200f\u2060\ufeff\ufffd\ue000"

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
mixed_text = st.text(st.sampled_from(SCRIPTS + MARKS + SPACES + INVISIBLE), max_size=60)
texts = any_text | mixed_text | st.lists(st.sampled_from([*PROSE.split(), "[SEP]", "\r\n", " "])).map(" ".join)


def columns(t: Tokens) -> list[np.ndarray]:
    return [t.ids, t.start, t.end, t.word_start, t.word_end]


def tokens(tokenizer: TextTokenizer, text: str) -> Tokens:
    """The tokens of a text, all pieces together."""
    pieces = [columns(piece) for piece in tokenizer.text(text)]
    assert all(len(column) == len(piece[0]) > 0 for piece in pieces for column in piece)
    if not pieces:
        return Tokens(*[np.empty(0, np.int64)] * 5)
    return Tokens(*map(np.concatenate, zip(*pieces, strict=True)))


def same(a: Tokens, b: Tokens) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(columns(a), columns(b), strict=True))


def cut(tokenizer: TextTokenizer, question: str, text: str, *, max_seq_len: int, doc_stride: int) -> list[Window]:
    ids = tokenizer.question(question)
    return list(cut_windows(tokenizer, ids, tokenizer.text(text), max_seq_len=max_seq_len, doc_stride=doc_stride))


def is_mark(character: str) -> bool:
    """Whether a character stands on the one before it."""
    return unicodedata.category(character) in ("Mn", "Mc", "Me") or character in "\u200d\ufe0e\ufe0f"


def splits_a_character(text: str, position: int) -> bool:
    """Whether a cut here parts a mark from what it stands on."""
    if not 0 < position < len(text) or not is_mark(text[position]):
        return False
    base = text[:position].rstrip(MARKS)[-1:]
    return bool(base) and not base.isspace() and unicodedata.category(base) not in ("Cc", "Cf", "Cn", "Co")
