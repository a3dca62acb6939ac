"""Plain text and Markdown, and what is no text whatever its name."""

from __future__ import annotations

import codecs
import gzip
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynamic_tinybert.corpus.formats import Reading, read
from dynamic_tinybert.corpus.formats import text as text_format
from support.formats import PLAIN, TEXT, Read, pdf, unreadable, write


@pytest.mark.parametrize("suffix", [".txt", ".text", ".rst", ".md", ".TXT"])
def test_the_text_of_a_text_file_is_what_it_holds(tmp_path: Path, suffix: str) -> None:
    title = "" if suffix in (".rst", ".md") else TEXT.splitlines()[0]
    for content in (TEXT, codecs.BOM_UTF8 + TEXT.encode(), codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be")):
        assert Read(write(tmp_path / f"a{suffix}", content)).only == (title, TEXT)
    assert Read(write(tmp_path / f"a{suffix}", "")).only == ("", "")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_text_comes_back(tmp_path: Path, text: str) -> None:
    for suffix in (".txt", ".md"):
        assert Read(write(tmp_path / f"a{suffix}", codecs.BOM_UTF8 + text.encode())).only[1] == text


def test_another_encoding_is_read_where_it_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "Le café".encode("latin-1"))
    assert Read(path, Reading(encoding="latin-1")).only == ("", "Le café")
    assert unreadable(path).startswith(
        "is not text in UTF-8 (byte 6): if it is in another encoding, convert it to UTF-8"
    )


@pytest.mark.parametrize("encoding", ["idna", "punycode"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_encodings_that_are_not_for_files_say_so(tmp_path: Path, name: str, encoding: str) -> None:
    path = write(tmp_path / name, b"xn--\xff " * 9)
    assert "is not text in" in unreadable(path, Reading(encoding=encoding))


def test_text_that_utf8_cannot_hold_is_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", rb"a\ud83db")
    assert Read(path, Reading(encoding="unicode_escape")).only == ("", "a\ufffdb")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (bytes(range(256)), "is not text"),
        (b"%PDF-1.7\n", "is not text but a PDF"),
        (gzip.compress(b"text", mtime=0), "is not text but compressed with gzip"),
        (b"a" * (2 << 20) + b"\0", "is not text: it contains NUL"),
        (b"a" * (2 << 20) + b"\xff", "is not text in UTF-8 (byte 2,097,152)"),
    ],
)
@pytest.mark.parametrize("suffix", [".txt", ".md", ".html", ".jsonl"])
def test_what_is_no_text_is_refused_whatever_its_name(tmp_path: Path, content: bytes, why: str, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", content)
    if suffix == ".jsonl" and ("2,097,152" in why or why.endswith(("text", "NUL"))):  # it costs each line that has it
        why = "has no record that can be read, out of "
    assert unreadable(path).startswith(why)


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("# The tower\n\nText.", "The tower"),
        ("Text.\n\n## The *tower* of `Paris` ##\r\nText.", "The tower of Paris"),
        ("  ### [The **tower**](https://example.org) {#tower}\n", "The tower"),
        ("![logo](x.png)\n# my_package __init__ 2\\*3", "my_package init 2*3"),
        ("The tower\n=========\ntext", "The tower"),
        ("\ufeff\nThe _tower_\r\n---\r\ntext", "The tower"),
        ("```\n# a comment\n```\n~~~ sh\n# another\n```\n~~~\n# The tower", "The tower"),
        ("---\nauthor: me\n# no heading\n---\n# The tower", "The tower"),
        ('---\r\ntitle: "The tower: Paris"\r\n---\r\n# Another', "The tower: Paris"),
        ("---\n\n# The tower", "The tower"),
        ("---\ntitle: >-\n  A tower\n---\n# The tower", "The tower"),
        ("---\r\ntitle: |\r\n  A tower\r\n---\r\n# The tower", "The tower"),
        ("---\ntitle: > 9\n---\n# The tower", "> 9"),
        ("- item\n---\n", ""),
        ("#hashtag\n#\n    # code\n", ""),
        ("Text.\n\n***\n\n| a | b |\n| - | - |\n", ""),
        ("# " + "long " * 150, ("long " * 60).strip()),
        ("# 東京 😀 برج", "東京 😀 برج"),
        ("<!--\n# hidden\n-->\n# The tower", "The tower"),
        ("The tower\nof *Paris*\n===\n", "The tower of Paris"),
        ("> # quoted\n\n- # of an item\n\n# The tower", "The tower"),
        ("# 2 * 3 in ~/.bashrc &amp; <b>more</b> ~~less~~", "2 * 3 in ~/.bashrc & more less"),
        ("# The [tower][1] ![of][2] [![Paris](x.png)](y) [1.0]\n", "The tower of Paris [1.0]"),
        ("# <!-- nothing -->\n# The tower", "The tower"),
        ("Text.\n\n" * 30_000 + "# The tower", "The tower"),
        ("", ""),
    ],
)
def test_the_title_of_markdown_is_its_first_heading(tmp_path: Path, source: str, title: str) -> None:
    assert Read(write(tmp_path / "a.md", source)).only == (title, source.removeprefix("\ufeff"))


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("The tower\n\nIt stands in Paris.", "The tower"),
        ("\ufeff\r\n  The tower of 1889 \r\n \t\r\nText.", "The tower of 1889"),
        ("東京タワー\n\n東京にある。", "東京タワー"),
        ("برج إيفل\n\nنص.", "برج إيفل"),
        ("The tower stands in Paris.\n\nText.", ""),
        ("Where is it?\n\nText.", ""),
        ("He said “stop.”\n\nText.", ""),
        ("塔がある。\n\nText.", ""),
        ("Dear Sir,\n\nText.", ""),
        ("The tower\nstands in Paris\n\nText.", ""),
        ("The tower\n", ""),
        ("The tower\n\n \n", ""),
        ("- The tower\n\n- The gate", ""),
        ("1. The tower\n\n2. The gate", ""),
        ("-----\n\nText.", ""),
        ("1889\n\nText.", ""),
        ("long " * 25 + "\n\nText.", ""),
        ("The tower\n\n" + "Text.\n" * 300_000, "The tower"),
        ("\n" * 300_000 + "The tower\n\nText.", ""),
    ],
)
def test_the_title_of_plain_text_is_a_short_first_line(tmp_path: Path, source: str, title: str) -> None:
    assert Read(write(tmp_path / "a.txt", source)).only == (title, source.removeprefix("\ufeff"))


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("The tower\n=========\n\nText.", "The tower"),
        ("=========\nThe tower\n=========\n", "The tower"),
        ("\n\n***********\n The tower\r\n***********\r\nText.", "The tower"),
        (".. _tower:\n\n.. a comment\n   of two lines\n\n:orphan:\n\nThe tower\n---------\n", "The tower"),
        (".. _tower:\nThe tower\n=========\n", "The tower"),
        ("Text first.\n\nThe tower\n~~~~~~~~~\n\nThe gate\n========\n", "The tower"),
        ("The *tower* of ``Paris`` and :ref:`Rome <rome>`, `2 * 3`_\n====\n", "The tower of Paris and Rome, 2 * 3"),
        ("Ab\n--\n", "Ab"),
        ("Abcd\n--\n", ""),
        ("Text of a\nparagraph\n=========\n", ""),
        ("Text.\n\n-----\n\nMore.", ""),
        ("====  ====\nName  Year\n====  ====\nA     1\n====  ====\n", ""),
        ("Code::\n\n    The tower\n    =========\n", ""),
        ("", ""),
    ],
)
def test_the_title_of_restructured_text_is_its_first_section(tmp_path: Path, source: str, title: str) -> None:
    assert Read(write(tmp_path / "a.rst", source)).only == (title, source)


def test_lines_that_take_long_to_match_are_passed_over(tmp_path: Path) -> None:
    for line in ("# " + " " * 900_000 + "x", "[" * 900_000, "---\ntitle: " + " " * 900_000 + "\n---"):
        assert Read(write(tmp_path / "a.md", line)).only[1] == line


def test_markdown_without_headings_is_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_format, "_heading", lambda source: pytest.fail(f"{source[:20]!r} is parsed"))
    for source in ("Text.\n\n" * 100_000, "#hashtag\n\n---\n", "    # code\n", ""):
        assert Read(write(tmp_path / "a.md", source)).only[0] == ""


@given(st.lists(st.sampled_from(["# ", "===", "---", "a", "[a]: b", "- ", "> ", "```", "\n", "\r\n", "  ", "\t"])))
def test_parts_of_markdown_that_cannot_be_headings_change_no_title(parts: list[str]) -> None:
    source = "".join(parts)
    assert text_format._markdown_title(" \n" + source) == text_format._heading(" \n" + source)


def test_a_draft_outlives_the_reading(tmp_path: Path) -> None:
    for name, content in (("a.txt", TEXT.encode()), ("a.pdf", pdf(["One", "Two"]))):
        draft = next(read(write(tmp_path / name, content), PLAIN))
        assert "".join(draft.blocks)


@pytest.mark.long
@pytest.mark.parametrize("suffix", [".txt", ".md", ".jsonl"])
def test_long_files_are_read_in_little_memory(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"long{suffix}"
    line = json.dumps({"text": "The tower stands in Paris. " * 40})
    with path.open("w", encoding="utf-8") as file:
        for _ in range(80):
            file.write(f"{line}\n" * 1000)
    assert path.stat().st_size > 64 << 20
    tracemalloc.start()
    try:
        characters = sum(len(block) for draft in read(path, PLAIN) for block in draft.blocks)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert characters == (80_000 * 27 * 40 if suffix == ".jsonl" else path.stat().st_size)
    assert peak < 24 << 20
