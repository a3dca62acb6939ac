"""Text to windows: the tokens, their offsets in any Unicode, the windows, and what is refused."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

import dynamic_tinybert.inference.characters as room
from dynamic_tinybert.inference import TextTokenizer, Tokens, Window, WindowError, check_lengths, cut_windows

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


@pytest.fixture(scope="module")
def tokenizer(embedded: Path) -> TextTokenizer:
    return TextTokenizer(embedded)


@pytest.fixture(scope="module")
def plain(embedded: Path) -> Tokenizer:
    """The tokenizers library's own, as transformers uses it."""
    return Tokenizer.from_file(str(embedded / "tokenizer.json"))


@pytest.fixture
def piece(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set how many characters are tokenized at a time."""
    return lambda size: monkeypatch.setattr(room, "_PIECE", size)


def columns(t: Tokens) -> list[np.ndarray]:
    return [t.ids, t.begin, t.end, t.word_begin, t.word_end]


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


# Windows


@pytest.mark.parametrize(("max_seq_len", "doc_stride"), [(384, 128), (384, 0), (64, 20), (64, 49), (30, 1), (512, 300)])
@pytest.mark.parametrize("repeats", [1, 7, 40])
def test_windows_are_those_of_the_whole_text_cut_as_transformers_does(
    tokenizer: TextTokenizer, plain: Tokenizer, repeats: int, max_seq_len: int, doc_stride: int
) -> None:
    text = PROSE * repeats
    plain.enable_truncation(max_seq_len, stride=doc_stride, strategy="only_second")
    first = plain.encode(QUESTION, text)
    expected = [first, *first.overflowing]
    found = cut(tokenizer, QUESTION, text, max_seq_len=max_seq_len, doc_stride=doc_stride)
    assert [window.ids.tolist() for window in found] == [encoding.ids for encoding in expected]
    assert [window.type_ids.tolist() for window in found] == [encoding.type_ids for encoding in expected]
    for window, encoding in zip(found, expected, strict=True):
        assert len(window) == len(encoding.ids)
        offsets = encoding.offsets[window.offset : -1]
        assert window.text.begin.tolist() == [begin for begin, _ in offsets]
        # An end is theirs, or after the marks that theirs leaves behind.
        assert all(is_mark(c) for (_, a), b in zip(offsets, window.text.end, strict=True) for c in text[a:b])


@given(
    pieces=st.lists(st.integers(1, 40), max_size=8),
    question=st.integers(0, 6),
    room_for_text=st.integers(1, 30),
    overlap=st.integers(0, 29),
)
def test_windows_overlap_exactly_and_lose_no_token(
    pieces: list[int], question: int, room_for_text: int, overlap: int
) -> None:
    assume(overlap < room_for_text)
    total = sum(pieces)
    column = np.arange(total)
    everything = Tokens(column + 1000, column, column + 1, column, column + 1)
    ends = np.cumsum(pieces).tolist()
    parts = [everything[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    special = cast(TextTokenizer, SimpleNamespace(cls=1, sep=2, pad=0, between=[2]))
    ask = np.full(question, 7)
    found = list(cut_windows(special, ask, parts, max_seq_len=question + 3 + room_for_text, doc_stride=overlap))

    assert bool(found) == bool(total)
    settled: list[int] = []
    for i, window in enumerate(found):
        last = i == len(found) - 1
        assert window.ids.tolist() == [1, *ask, 2, *window.text.ids, 2]
        assert window.type_ids.tolist() == [0] * (question + 2) + [1] * (len(window.text) + 1)
        assert window.ids[window.offset : window.offset + len(window.text)].tolist() == window.text.ids.tolist()
        assert len(window.text) <= room_for_text if last else len(window.text) == room_for_text
        if not last:
            following = found[i + 1].text.begin
            assert window.text.begin[-overlap:].tolist() == following[:overlap].tolist() or not overlap
            assert window.settled == room_for_text - overlap
            assert following[0] == window.text.begin[window.settled - 1] + 1
        settled += window.text.begin[: window.settled].tolist()
    assert settled == list(range(total))


def test_a_text_without_tokens_has_no_window(tokenizer: TextTokenizer) -> None:
    for text in ("", " \n\t\r\n\u3000", "\x00\x01\u200b", "\u0301"):
        assert cut(tokenizer, QUESTION, text, max_seq_len=384, doc_stride=128) == []


def test_a_text_that_just_fits_is_one_window_and_a_token_more_is_two(tokenizer: TextTokenizer) -> None:
    space = 64 - len(tokenizer.question(QUESTION)) - 3
    for count, expected in ((space, [space]), (space + 1, [space, 11])):
        found = cut(tokenizer, QUESTION, "tower " * count, max_seq_len=64, doc_stride=10)
        assert [len(window.text) for window in found] == expected


# Tokens and their offsets


@settings(max_examples=400)
@given(text=texts)
@example(text="e\u0301te\u0301 x")
@example(text="한국어 각 가나다")
@example(text="한\u0301")
@example(text="\u0301abc\u0301\u0301")
@example(text="👩\u200d👩\u200d👧 👍🏽 1\ufe0f\u20e3")
def test_offsets_are_exact_in_any_text(tokenizer: TextTokenizer, text: str) -> None:
    t = tokens(tokenizer, text)
    assert ((t.begin >= 0) & (t.begin < t.end) & (t.end <= len(text))).all()
    again = (t.begin[1:] == t.begin[:-1]) & (t.end[1:] >= t.end[:-1])  # a character may be several tokens
    assert (again | (t.begin[1:] >= t.end[:-1])).all()
    assert ((t.word_begin <= t.begin) & (t.end <= t.word_end)).all()
    same_word = (t.word_begin[1:] == t.word_begin[:-1]) & (t.word_end[1:] == t.word_end[:-1])
    assert (same_word | (t.word_begin[1:] >= t.word_end[:-1])).all()
    for begin, end in zip(t.word_begin.tolist(), t.word_end.tolist(), strict=True):
        word = text[begin:end]
        assert word == word.strip(" \n\r\t\u00a0\u3000")
        assert not any(c.isspace() and unicodedata.category(c) != "Cc" for c in word)
    covered = {i for begin, end in zip(t.begin.tolist(), t.end.tolist(), strict=True) for i in range(begin, end)}
    for i, character in enumerate(text):
        if unicodedata.category(character) in ("Lu", "Ll", "Nd"):
            assert i in covered, f"{character!r} at {i} is in no token"


@settings(max_examples=200)
@given(text=texts)
def test_a_token_has_the_offsets_that_its_own_characters_have(tokenizer: TextTokenizer, text: str) -> None:
    """A word read alone is the same tokens as in its text, so no offset has slipped."""
    t = tokens(tokenizer, text)
    for begin, end in {*zip(t.word_begin.tolist(), t.word_end.tolist(), strict=True)}:
        inside = (t.word_begin == begin) & (t.word_end == end)
        alone = tokens(tokenizer, text[begin:end])
        assert alone.ids.tolist() == t.ids[inside].tolist()
        assert (alone.begin + begin).tolist() == t.begin[inside].tolist()


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
    cuts = {*t.word_begin.tolist(), *t.word_end.tolist()}
    assert [i for i in sorted(cuts) if splits_a_character(text, i)] == []


@given(text=marked(STRIPPED))
@example(text="caf\u0065\u0301!\u0301 中\U000e0100文 ❤\ufe0f, ‼\ufe0f")
def test_no_token_parts_a_character_from_a_mark_that_is_not_read(tokenizer: TextTokenizer, text: str) -> None:
    t = tokens(tokenizer, text)
    last = np.append(t.begin[1:] != t.begin[:-1], True)[: len(t)]  # of the tokens of one character
    cuts = {*t.begin.tolist(), *t.end[last].tolist()}
    assert [i for i in sorted(cuts) if splits_a_character(text, i)] == []


def test_offsets_count_characters_and_not_bytes_or_utf16(tokenizer: TextTokenizer) -> None:
    text = "😀 é\r\n東 Paris"
    t = tokens(tokenizer, text)
    assert [text[a:b] for a, b in zip(t.begin, t.end, strict=True)] == ["😀", "é", "東", "Paris"]


def test_words_hold_their_tokens(tokenizer: TextTokenizer) -> None:
    text = "Koechlin's tower"
    t = tokens(tokenizer, text)
    assert len(t) > 4
    words = [text[a:b] for a, b in zip(t.word_begin, t.word_end, strict=True)]
    assert list(dict.fromkeys(words)) == ["Koechlin", "'", "s", "tower"]


def test_what_looks_like_a_special_token_is_text(tokenizer: TextTokenizer) -> None:
    special = {tokenizer.cls, tokenizer.sep, tokenizer.pad}
    text = "The [SEP] token, [CLS] and [PAD] [MASK][UNK]."
    t = tokens(tokenizer, text)
    assert not special & {*t.ids.tolist()}
    assert "".join(text[a:b] for a, b in zip(t.begin, t.end, strict=True)) == text.replace(" ", "")
    assert not special & {*tokenizer.question("What is [SEP] for?").tolist()}
    (window,) = cut(tokenizer, "What is [SEP] for?", text, max_seq_len=384, doc_stride=128)
    assert (window.ids == tokenizer.sep).sum() == 2
    assert (window.ids == tokenizer.cls).sum() == 1


def test_a_question_is_read_without_special_tokens_and_white_space(tokenizer: TextTokenizer, plain: Tokenizer) -> None:
    expected = plain.encode(QUESTION, add_special_tokens=False).ids
    assert tokenizer.question(f" \n{QUESTION}\t ").tolist() == expected
    assert tokenizer.question(" \u200b\n").tolist() == []


# Pieces

word = st.text(st.sampled_from("abcdeéß中한कि😀.,'\u0301\u200d\x00\x0b\x0c\x1c\x85"), min_size=1, max_size=15)
gap = st.text(st.sampled_from(SPACES), min_size=1, max_size=4)


@given(parts=st.lists(st.tuples(word, gap), max_size=25), size=st.integers(32, 48), lead=gap | st.just(""))
def test_a_text_in_pieces_is_the_same_tokens_as_in_one_go(
    tokenizer: TextTokenizer, piece: Callable[[int], None], parts: list[tuple[str, str]], size: int, lead: str
) -> None:
    text = lead + "".join(a + b for a, b in parts)
    piece(1 << 16)
    whole = tokens(tokenizer, text)
    piece(size)
    assert same(tokens(tokenizer, text), whole)


@given(text=st.text(st.sampled_from("abc中文ह한😀.\u0301\u0308\ufe0f"), max_size=120), size=st.integers(4, 20))
def test_a_text_without_white_space_in_pieces_keeps_its_characters(
    tokenizer: TextTokenizer, piece: Callable[[int], None], text: str, size: int
) -> None:
    piece(1 << 16)
    whole = tokens(tokenizer, text)
    piece(size)
    found = tokens(tokenizer, text)

    def characters(t: Tokens) -> set[int]:
        return {i for begin, end in zip(t.begin.tolist(), t.end.tolist(), strict=True) for i in range(begin, end)}

    assert characters(found) == characters(whole)
    assert ((found.begin[1:] >= found.end[:-1]) | (found.begin[1:] == found.begin[:-1])).all()
    assert not any(splits_a_character(text, i) for i in found.begin.tolist())


@pytest.mark.parametrize("before", range(-2, 3))
@pytest.mark.parametrize("unit", ["tower ", "été\u0301\r\n", "中", "東京。", "a\u0301 ", "\u00a0\u2003x"])
def test_long_texts_lose_nothing_at_the_real_border(
    tokenizer: TextTokenizer, piece: Callable[[int], None], unit: str, before: int
) -> None:
    border = room._PIECE
    text = (unit * (2 * border // len(unit)))[: border + before] + " Paris is here " + unit * 3
    assert len(text) > border
    found = tokens(tokenizer, text)
    piece(1 << 30)
    assert same(found, tokens(tokenizer, text))


def test_texts_about_as_long_as_a_piece(tokenizer: TextTokenizer, piece: Callable[[int], None]) -> None:
    piece(64)
    for length in range(60, 135):
        text = ("tower " * 30)[:length]
        assert len(list(tokenizer.text(text))) == (1 if length <= 64 else 2 if length <= 59 + 64 else 3)
        found = tokens(tokenizer, text)
        assert [text[a:b] for a, b in zip(found.begin, found.end, strict=True)] != []
        assert (
            "".join(text[a:b] for a, b in zip(found.word_begin, found.word_end, strict=True)).count("tower")
            == (length + 1) // 6
        )


def test_pieces_are_read_only_as_they_are_wanted(
    tokenizer: TextTokenizer, piece: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a text of any size passes in bounded memory: each piece is at most the bound, and none is read ahead."""
    piece(64)
    inner = tokenizer._tokenizer
    read: list[int] = []

    class Counting:
        def encode(self, text: str, **options: Any) -> Any:
            read.append(len(text))
            return inner.encode(text, **options)

    monkeypatch.setattr(tokenizer, "_tokenizer", Counting())
    stream = tokenizer.text("a bit of text " * 100)
    for count in range(1, 6):
        next(stream)
        assert len(read) == count
    list(stream)
    assert sum(read) == 1400
    assert max(read) <= 64


@pytest.mark.parametrize("control", "\x0b\x0c\x1c\x1d\x1e\x1f\x85")
def test_a_word_with_a_control_character_inside_is_not_cut(
    tokenizer: TextTokenizer, piece: Callable[[int], None], control: str
) -> None:
    piece(64)
    text = "tower " * 10 + f"to{control}wer " + "tower " * 10
    found = tokens(tokenizer, text)
    piece(1 << 16)
    assert same(found, tokens(tokenizer, text))


@pytest.mark.parametrize("unit", ["tower,", "ひらがなの文。", "tower\u2028", "tower\u2029"])
def test_a_long_text_without_spaces_is_cut_between_words(
    tokenizer: TextTokenizer, piece: Callable[[int], None], unit: str
) -> None:
    text = unit * (room._PIECE // len(unit) + 10)
    found = tokens(tokenizer, text)
    piece(1 << 30)
    assert same(found, tokens(tokenizer, text))


def test_a_huge_word_is_read(tokenizer: TextTokenizer) -> None:
    text = "x" * 200_000 + " end"
    t = tokens(tokenizer, text)
    assert text[t.begin[-1] : t.end[-1]] == "end"
    assert t.begin[0] == 0
    assert t.end[-2] == 200_000
    assert len(t) < 10


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
    assert {*t.word_begin.tolist()} == {0}
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


def test_a_vocabulary_that_is_no_text_or_has_broken_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe\xfa")
    assert "cannot be read" in refusal(tmp_path)
    folder_with(tmp_path, SMALL)
    for content in ("{", "[]", '{"do_lower_case": "perhaps"}'):
        (tmp_path / "tokenizer_config.json").write_text(content, "utf-8")
        assert "cannot be read" in refusal(tmp_path)


def test_a_tokenizer_of_another_kind_is_refused(tmp_path: Path) -> None:
    Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")])).save(str(tmp_path / "tokenizer.json"))
    assert "no [PAD] or <pad>: it is no tokenizer of a model that is read here" in refusal(tmp_path)


def test_the_whole_tokenizer_goes_before_the_vocabulary(
    tmp_path: Path, embedded: Path, tokenizer: TextTokenizer
) -> None:
    folder_with(tmp_path, SMALL)
    shutil.copyfile(embedded / "tokenizer.json", tmp_path / "tokenizer.json")
    assert same(tokens(TextTokenizer(tmp_path), PROSE), tokens(tokenizer, PROSE))


# Lengths

DEFAULTS = {"max_seq_len": 384, "doc_stride": 128, "max_question_len": 64, "positions": 512}


@pytest.mark.parametrize(
    "lengths",
    [
        {},
        {"max_seq_len": 512},
        {"doc_stride": 0},
        {"doc_stride": 316},  # a window moves on by one token
        {"max_question_len": 252},
        {"max_question_len": 1, "max_seq_len": 5, "doc_stride": 0},
        {"positions": 384},
    ],
)
def test_lengths_that_fit(lengths: dict[str, int]) -> None:
    check_lengths(**DEFAULTS | lengths)


@pytest.mark.parametrize(
    ("lengths", "named"),
    [
        ({"max_question_len": 0}, "max_question_len"),
        ({"doc_stride": -1}, "doc_stride"),
        ({"max_seq_len": 513}, "512"),
        ({"max_seq_len": 10**9}, "512"),
        ({"positions": 383}, "383"),
        ({"doc_stride": 317}, "doc_stride 317"),
        ({"doc_stride": 10**9}, "doc_stride"),
        ({"max_question_len": 253}, "max_question_len 253"),
        ({"max_question_len": 1, "max_seq_len": 4, "doc_stride": 0}, "max_seq_len 4"),
        ({"max_seq_len": 0}, "max_seq_len 0"),
        ({"max_seq_len": -384}, "max_seq_len -384"),
    ],
)
def test_lengths_that_do_not_fit_are_refused_in_a_line(lengths: dict[str, int], named: str) -> None:
    with pytest.raises(WindowError) as caught:
        check_lengths(**DEFAULTS | lengths)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@given(
    max_seq_len=st.integers(-5, 60),
    doc_stride=st.integers(-5, 60),
    max_question_len=st.integers(-5, 20),
    positions=st.integers(1, 50),
    question=st.integers(1, 20),
)
def test_lengths_are_refused_or_work(
    tokenizer: TextTokenizer, max_seq_len: int, doc_stride: int, max_question_len: int, positions: int, question: int
) -> None:
    try:
        check_lengths(
            max_seq_len=max_seq_len, doc_stride=doc_stride, max_question_len=max_question_len, positions=positions
        )
    except WindowError:
        return
    ids = tokenizer.question("tower " * question)[:max_question_len]
    text = tokenizer.text("Paris " * 90)
    found = list(cut_windows(tokenizer, ids, text, max_seq_len=max_seq_len, doc_stride=doc_stride))
    assert max(len(window) for window in found) <= min(max_seq_len, positions)
    assert sum(window.settled for window in found) == 90
