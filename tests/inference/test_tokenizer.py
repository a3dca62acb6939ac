"""The tokens of a text and their offsets in any Unicode, and the tokenizers that are read."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from dynamic_tinybert.inference import TextTokenizer, WindowError
from support.texts import MARKS, PROSE, QUESTION, SCRIPTS, STRIPPED, cut, same, splits_a_character, texts, tokens


@settings(max_examples=400)
@given(text=texts)
@example(text="e\u0301te\u0301 x")
@example(text="한국어 각 가나다")
@example(text="한\u0301")
@example(text="\u0301abc\u0301\u0301")
@example(text="👩\u200d👩\u200d👧 👍🏽 1\ufe0f\u20e3")
def test_offsets_are_exact_in_any_text(tokenizer: TextTokenizer, text: str) -> None:
    t = tokens(tokenizer, text)
    assert ((t.start >= 0) & (t.start < t.end) & (t.end <= len(text))).all()
    again = (t.start[1:] == t.start[:-1]) & (t.end[1:] >= t.end[:-1])  # a character may be several tokens
    assert (again | (t.start[1:] >= t.end[:-1])).all()
    assert ((t.word_start <= t.start) & (t.end <= t.word_end)).all()
    same_word = (t.word_start[1:] == t.word_start[:-1]) & (t.word_end[1:] == t.word_end[:-1])
    assert (same_word | (t.word_start[1:] >= t.word_end[:-1])).all()
    for begin, end in zip(t.word_start.tolist(), t.word_end.tolist(), strict=True):
        word = text[begin:end]
        assert word == word.strip(" \n\r\t\u00a0\u3000")
        assert not any(c.isspace() and unicodedata.category(c) != "Cc" for c in word)
    covered = {i for begin, end in zip(t.start.tolist(), t.end.tolist(), strict=True) for i in range(begin, end)}
    for i, character in enumerate(text):
        if unicodedata.category(character) in ("Lu", "Ll", "Nd"):
            assert i in covered, f"{character!r} at {i} is in no token"


@settings(max_examples=200)
@given(text=texts)
def test_a_token_has_the_offsets_that_its_own_characters_have(tokenizer: TextTokenizer, text: str) -> None:
    """A word read alone is the same tokens as in its text, so no offset has slipped."""
    t = tokens(tokenizer, text)
    for begin, end in {*zip(t.word_start.tolist(), t.word_end.tolist(), strict=True)}:
        inside = (t.word_start == begin) & (t.word_end == end)
        alone = tokens(tokenizer, text[begin:end])
        assert alone.ids.tolist() == t.ids[inside].tolist()
        assert (alone.start + begin).tolist() == t.start[inside].tolist()


def marked(marks: str) -> st.SearchStrategy[str]:
    """Texts of characters with marks on them."""
    pair = st.tuples(st.sampled_from(SCRIPTS + " \r\n"), st.text(st.sampled_from(marks), max_size=3))
    return st.lists(pair, max_size=20).map(lambda pairs: "".join(a + b for a, b in pairs))


@settings(max_examples=200)
@given(text=marked(MARKS))
@example(text="press #\ufe0f\u20e3 now")
@example(text="中\u093e文")
@example(text="'\u0903' is visarga")
@example(text="שָׁלוֹם عَرَبِيّ ไทย่")
def test_no_word_parts_a_character_from_its_marks(tokenizer: TextTokenizer, text: str) -> None:
    t = tokens(tokenizer, text)
    cuts = {*t.word_start.tolist(), *t.word_end.tolist()}
    assert [i for i in sorted(cuts) if splits_a_character(text, i)] == []


@given(text=marked(STRIPPED))
@example(text="caf\u0065\u0301!\u0301 中\U000e0100文 ❤\ufe0f, ‼\ufe0f")
def test_no_token_parts_a_character_from_a_mark_that_is_not_read(tokenizer: TextTokenizer, text: str) -> None:
    t = tokens(tokenizer, text)
    last = np.append(t.start[1:] != t.start[:-1], True)[: len(t)]  # of the tokens of one character
    cuts = {*t.start.tolist(), *t.end[last].tolist()}
    assert [i for i in sorted(cuts) if splits_a_character(text, i)] == []


def test_offsets_count_characters_and_not_bytes_or_utf16(tokenizer: TextTokenizer) -> None:
    text = "😀 é\r\n東 Paris"
    t = tokens(tokenizer, text)
    assert [text[a:b] for a, b in zip(t.start, t.end, strict=True)] == ["😀", "é", "東", "Paris"]


def test_words_hold_their_tokens(tokenizer: TextTokenizer) -> None:
    text = "Koechlin's tower"
    t = tokens(tokenizer, text)
    assert len(t) > 4
    words = [text[a:b] for a, b in zip(t.word_start, t.word_end, strict=True)]
    assert list(dict.fromkeys(words)) == ["Koechlin", "'", "s", "tower"]


def test_what_looks_like_a_special_token_is_text(tokenizer: TextTokenizer) -> None:
    special = {tokenizer.cls, tokenizer.sep, tokenizer.pad}
    text = "The [SEP] token, [CLS] and [PAD] [MASK][UNK]."
    t = tokens(tokenizer, text)
    assert not special & {*t.ids.tolist()}
    assert "".join(text[a:b] for a, b in zip(t.start, t.end, strict=True)) == text.replace(" ", "")
    assert not special & {*tokenizer.question("What is [SEP] for?").tolist()}
    (window,) = cut(tokenizer, "What is [SEP] for?", text, max_seq_len=384, doc_stride=128)
    assert (window.ids == tokenizer.sep).sum() == 2
    assert (window.ids == tokenizer.cls).sum() == 1


def test_a_question_is_read_without_special_tokens_and_white_space(tokenizer: TextTokenizer, plain: Tokenizer) -> None:
    expected = plain.encode(QUESTION, add_special_tokens=False).ids
    assert tokenizer.question(f" \n{QUESTION}\t ").tolist() == expected
    assert tokenizer.question(" \u200b\n").tolist() == []


# Tokenizers


@pytest.fixture(scope="module")
def vocabulary(embedded: Path) -> list[str]:
    vocab = json.loads((embedded / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    return sorted(vocab, key=vocab.__getitem__)


def folder_with(path: Path, words: list[str], **settings: Any) -> Path:
    (path / "vocab.txt").write_text("\n".join(words) + "\n", "utf-8")
    if settings:
        (path / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return path


def words_of(tokenizer: TextTokenizer, words: list[str], text: str) -> list[str]:
    return [words[i] for i in tokens(tokenizer, text).ids.tolist()]


def test_a_vocabulary_alone_reads_as_the_whole_tokenizer(
    tokenizer: TextTokenizer, vocabulary: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    ours = TextTokenizer(folder_with(tmp_path_factory.mktemp("vocabulary"), vocabulary))
    assert (ours.cls, ours.sep, ours.pad) == (tokenizer.cls, tokenizer.sep, tokenizer.pad)

    @given(text=texts)
    def check(text: str) -> None:
        assert same(tokens(ours, text), tokens(tokenizer, text))
        assert ours.question(text).tolist() == tokenizer.question(text).tolist()

    check()


SMALL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "paris", "Paris", "ete", "été", "Eté", "中", "文", "中文", "##s"]


@pytest.mark.parametrize(
    ("options", "text", "expected"),
    [
        ({}, "Paris Été 中文", ["paris", "ete", "中", "文"]),
        ({"do_lower_case": True}, "Paris Été", ["paris", "ete"]),
        ({"do_lower_case": False}, "Paris Été paris", ["Paris", "[UNK]", "paris"]),
        ({"do_lower_case": False}, "été", ["été"]),
        ({"do_lower_case": True, "strip_accents": False}, "Été", ["été"]),
        ({"do_lower_case": False, "strip_accents": True}, "été", ["ete"]),
        ({"tokenize_chinese_chars": False}, "中文", ["中文"]),
        ({"do_lower_case": True, "strip_accents": None}, "Pariss", ["paris", "##s"]),
    ],
)
def test_the_settings_of_a_tokenizer_are_followed(
    tmp_path: Path, options: dict[str, Any], text: str, expected: list[str]
) -> None:
    tokenizer = TextTokenizer(folder_with(tmp_path, SMALL, **options))
    assert words_of(tokenizer, SMALL, text) == expected


def test_a_cased_vocabulary_keeps_marks_with_their_letters(tmp_path: Path) -> None:
    tokenizer = TextTokenizer(folder_with(tmp_path, [*SMALL, "e", "##\u0301"], do_lower_case=False))
    t = tokens(tokenizer, "e\u0301")
    assert {*t.word_start.tolist()} == {0}
    assert {*t.word_end.tolist()} == {2}


@pytest.mark.parametrize("line", ["a\u2028b", "\x85", "\x1c", "x\x0cy"])
def test_a_vocabulary_has_one_token_a_line_whatever_is_in_it(tmp_path: Path, line: str) -> None:
    words = [*SMALL[:5], line, *SMALL[5:]]
    folder = folder_with(tmp_path, words)
    expected = models.WordPiece.read_file(str(folder / "vocab.txt"))["paris"]
    assert tokens(TextTokenizer(folder), "paris").ids.tolist() == [expected]


def test_lines_of_a_vocabulary_may_end_as_windows_ends_them(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes("\r\n".join(SMALL).encode())
    assert words_of(TextTokenizer(tmp_path), SMALL, "Paris") == ["paris"]


def test_truncation_and_padding_stored_with_a_tokenizer_are_not_applied(
    tokenizer: TextTokenizer, plain: Tokenizer, tmp_path: Path
) -> None:
    """As sentence-transformers stores them: they would cut texts short without a word."""
    plain.enable_truncation(8)
    plain.enable_padding(length=16)
    plain.save(str(tmp_path / "tokenizer.json"))
    ours = TextTokenizer(tmp_path)
    assert same(tokens(ours, PROSE), tokens(tokenizer, PROSE))
    assert ours.question("tower?").tolist() == tokenizer.question("tower?").tolist()
    assert len(ours.question(QUESTION)) > 8


def refusal(folder: Path) -> str:
    with pytest.raises(WindowError) as caught:
        TextTokenizer(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    assert "neither tokenizer.json nor vocab.txt" in refusal(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", '{"version": "1.0", "model": 5}', "\x00", "é" * 50])
def test_a_broken_tokenizer_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content, "utf-8")
    assert "cannot be read" in refusal(tmp_path)


def test_a_truncated_tokenizer_is_refused(tmp_path: Path, embedded: Path) -> None:
    content = (embedded / "tokenizer.json").read_bytes()
    (tmp_path / "tokenizer.json").write_bytes(content[: len(content) // 2])
    assert "cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize(
    "part",
    [
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": ""}},
        {"post_processor": {
            "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[X]", "type_id": 0}}], "pair": [],
            "special_tokens": {},
        }},
    ],
    ids=lambda part: next(iter(part)),
)  # fmt: skip
def test_a_panic_of_the_tokenizers_library_is_one_line(
    tmp_path: Path, embedded: Path, part: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    described = json.loads((embedded / "tokenizer.json").read_text("utf-8"))
    (tmp_path / "tokenizer.json").write_text(json.dumps({**described, **part}), "utf-8")
    assert "cannot be" in refusal(tmp_path)


def test_an_error_at_a_text_is_one_line(tmp_path: Path) -> None:
    folder_with(tmp_path, SMALL)
    tokenizer = TextTokenizer(tmp_path)
    tokenizer._tokenizer.model.unk_token = "nowhere"
    with pytest.raises(WindowError, match="the tokenizer cannot read this text") as caught:
        list(tokenizer.text("zq"))
    assert "\n" not in str(caught.value)


def test_a_vocabulary_that_is_no_text_or_has_broken_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe\xfa")
    assert "cannot be read" in refusal(tmp_path)
    folder_with(tmp_path, SMALL)
    for content in ("{", "[]", '{"do_lower_case": "perhaps"}'):
        (tmp_path / "tokenizer_config.json").write_text(content, "utf-8")
        assert "cannot be read" in refusal(tmp_path)


def test_a_tokenizer_of_another_kind_is_refused(tmp_path: Path) -> None:
    Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")])).save(str(tmp_path / "tokenizer.json"))
    assert "no [PAD] or <pad>: it is not the tokenizer of a supported model" in refusal(tmp_path)


def test_the_whole_tokenizer_goes_before_the_vocabulary(
    tmp_path: Path, embedded: Path, tokenizer: TextTokenizer
) -> None:
    folder_with(tmp_path, SMALL)
    shutil.copyfile(embedded / "tokenizer.json", tmp_path / "tokenizer.json")
    assert same(tokens(TextTokenizer(tmp_path), PROSE), tokens(tokenizer, PROSE))


@pytest.mark.parametrize("mark", ["\f", "\v", "\x1c", "\x1d", "\x1e", "\x1f", "\x85"])
def test_what_ends_a_line_separates_words(tokenizer: TextTokenizer, mark: str) -> None:
    """BERT's normalizer deletes these characters, as those between the pages of a PDF, and would join two words."""
    with_space, with_mark = (next(tokenizer.text(f"by Moreau{x}In 1871")) for x in (" ", mark))
    for name in ("ids", "start", "end", "word_start", "word_end"):
        assert getattr(with_mark, name).tolist() == getattr(with_space, name).tolist()
    assert tokenizer.question(f"by{mark}whom").tolist() == tokenizer.question("by whom").tolist()
