"""Text from bytes: byte order marks, encodings, and what is no text."""

from __future__ import annotations

import codecs
import gzip
import io
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_tinybert.files import NoTextError, UndecodableError, text_blocks

TEXT = "Été à Zürich 😀\r\n\r\nبرج إيفل في باريس\n東京\re\u0301\u2028\x0c end"


def read(data: bytes, **options: int | str) -> str:
    return "".join(text_blocks(io.BytesIO(data), **options))  # type: ignore[arg-type]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), st.integers(1, 64))
def test_a_text_in_utf8_comes_back_whatever_the_size_of_the_blocks(text: str, size: int) -> None:
    data = text.encode()
    blocks = list(text_blocks(io.BytesIO(codecs.BOM_UTF8 + data), size=size))
    assert "".join(blocks) == text
    assert all(blocks)
    if not text.startswith("\ufeff") and not data.startswith((b"%PDF-", b"PK\x03\x04", b"\x7fELF")):
        assert read(data, size=size) == text


@pytest.mark.parametrize("size", [1, 3, 1 << 20])
@pytest.mark.parametrize(
    "data",
    [
        codecs.BOM_UTF8 + TEXT.encode(),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"),
        codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"),
    ],
    ids=["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"],
)
def test_a_byte_order_mark_names_the_encoding_before_all_else(data: bytes, size: int) -> None:
    assert read(data, size=size) == TEXT
    assert read(data, size=size, encoding="latin-1") == TEXT


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("latin-1", "à Zürich"), ("cp1251", "Москва"), ("gb18030", "東京"), ("shift_jis", "東京")],
)
def test_another_encoding_is_read_where_it_is_named(encoding: str, text: str) -> None:
    data = text.encode(encoding)
    assert read(data, encoding=encoding, size=1) == text
    with pytest.raises(UndecodableError):
        read(data)


def test_nothing_is_an_empty_text() -> None:
    assert list(text_blocks(io.BytesIO())) == []
    assert list(text_blocks(io.BytesIO(codecs.BOM_UTF8))) == []


@pytest.mark.parametrize("size", [1, 4, 1 << 20])
@pytest.mark.parametrize(
    ("data", "encoding", "position"),
    [
        ("Paris é".encode()[:-1], "UTF-8", 6),
        (b"a" * 2000 + b"\xe9t\xe9", "UTF-8", 2000),
        (codecs.BOM_UTF8 + b"ab\xff", "UTF-8", 5),
        (codecs.BOM_UTF16_LE + b"a\0\0\xd8b\0", "UTF-16", 4),
        (codecs.BOM_UTF16_LE + b"a\0b", "UTF-16", 4),
        (b"\xed\xa0\x80", "UTF-8", 0),  # a surrogate
    ],
)
def test_bytes_that_are_no_text_are_told_with_their_place(data: bytes, encoding: str, position: int, size: int) -> None:
    with pytest.raises(UndecodableError) as caught:
        read(data, size=size)
    assert (caught.value.encoding, caught.value.position) == (encoding, position)
    assert str(caught.value) == f"is not text in {encoding} (byte {position:,})"


def test_text_before_the_wrong_bytes_is_given() -> None:
    blocks = text_blocks(io.BytesIO(b"a" * 100 + b"\xff"), size=10)
    assert next(blocks) == "a" * 10


def test_wrong_bytes_can_be_replaced() -> None:
    assert read(b"caf\xe9 noir", errors="replace") == "caf\ufffd noir"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"%PDF-1.7\n", "a PDF"),
        (b"PK\x03\x04", "a ZIP archive"),
        (gzip.compress(b"text", mtime=0), "compressed with gzip"),
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        (b"\xff\xd8\xff\xe0", "a JPEG picture"),
        (b"\x7fELF", "a program"),
        (b"a\0b", "NUL"),
        (b"a" * 100 + b"\0", "NUL"),
        (codecs.BOM_UTF16_LE + b"a\0\0\0", "NUL"),
    ],
)
def test_other_kinds_of_files_are_named(data: bytes, why: str) -> None:
    for encoding in ("utf-8", "latin-1"):
        with pytest.raises(NoTextError, match=why):
            read(data, size=4, encoding=encoding)


@pytest.mark.long
def test_a_long_text_is_read_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    with path.open("w", encoding="utf-8") as file:
        for _ in range(64):
            file.write("Été à 東京\n" * (1 << 16))
    tracemalloc.start()
    try:
        with path.open("rb") as stream:
            characters = sum(map(len, text_blocks(stream)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert characters == 64 * (1 << 16) * 9
    assert path.stat().st_size > 40 << 20
    assert peak < 16 << 20
