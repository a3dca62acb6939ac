"""Word documents: paragraphs, tables, and archives that are none."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dynamic_tinybert.corpus.errors import UnreadableError
from dynamic_tinybert.corpus.formats import docx as word
from support.formats import Read, docx, paragraph, unreadable, write


def test_a_word_document_becomes_paragraphs_and_tables(tmp_path: Path) -> None:
    def row(*cells: str) -> str:
        return f"<w:tr>{''.join(f'<w:tc>{paragraph(cell)}</w:tc>' for cell in cells)}</w:tr>"

    body = paragraph("The tower stands in Paris &amp; &lt;is&gt; tall.") + paragraph("برج 東京 😀 e\u0301")
    path = docx(
        tmp_path / "a.docx", f"{body}<w:tbl>{row('City', 'Height')}{row('Paris', '330 m')}</w:tbl>", title="A\n b"
    )
    title, text = Read(path).only
    assert title == "A b"
    assert text.startswith("The tower stands in Paris & <is> tall.\n\nبرج 東京 😀 e\u0301\n\n")
    assert [line.split() for line in text.splitlines() if "City" in line] == [["City", "Height"]]
    assert [line.split() for line in text.splitlines() if "330" in line] == [["Paris", "330", "m"]]


@pytest.mark.parametrize("title", [None, "", " "])
def test_a_word_document_may_have_neither_title_nor_text(tmp_path: Path, title: str | None) -> None:
    assert Read(docx(tmp_path / "a.docx", "", title=title)).only == ("", "")
    assert Read(docx(tmp_path / "b.docx", paragraph(""), more={"docProps/core.xml": "<broken"})).only == ("", "")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: write(path, ""), "not a zip file"),
        (lambda path: write(path, "The tower stands in Paris."), "not a zip file"),
        (lambda path: write(path, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99)), "password, or in Word's old"),
        (lambda path: write(path, docx(path, paragraph("One")).read_bytes()[:200]), "not a zip file"),
        (lambda path: docx(path, "<w:p>"), "cannot be read: mismatched tag"),
        (lambda path: docx(path, paragraph("&nothing;")), "undefined entity"),
        (lambda path: docx(path, "<w:tbl><w:tr><w:tc>" * 5000 + "</w:tc></w:tr></w:tbl>" * 5000), "nested too deep"),
        (lambda path: other_archive(path), "Could not find main document part"),
    ],
)  # fmt: skip
def test_word_documents_that_cannot_be_read_say_why(tmp_path: Path, make: Callable[[Path], Path], why: str) -> None:
    assert why in unreadable(make(tmp_path / "a.docx"))


def other_archive(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "The tower stands in Paris.")
    return path


def test_a_word_document_with_wrong_bytes_anywhere_is_read_or_refused(tmp_path: Path) -> None:
    whole = docx(tmp_path / "a.docx", paragraph("The tower stands in Paris. " * 9), title="Tower").read_bytes()
    read_whole = 0
    for place in range(0, len(whole), 11):
        path = write(tmp_path / "b.docx", whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            ((_, _, text),) = Read(path).documents
        except UnreadableError:
            continue
        assert text.split() == ["The", "tower", "stands", "in", "Paris."] * 9
        read_whole += 1
    assert read_whole


def test_text_that_is_left_out_of_a_word_document_is_complained_of(tmp_path: Path) -> None:
    inner = "<w:r><w:t>lost</w:t></w:r>"
    fields = f"<w:fldSimple>{inner}</w:fldSimple><w:tblPrEx/><w:permStart/><w:permEnd/><w:bdo>{inner}</w:bdo>"
    math = '<m:oMath xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"><m:r/></m:oMath>'
    done = Read(docx(tmp_path / "a.docx", paragraph("kept") + f"<w:p>{fields}{math}</w:p><w:p>{fields}</w:p>"))
    assert done.complaints == ["left out: w:fldSimple", "left out: w:bdo", "left out: oMath"]
    assert done.documents[0][2].strip() == "kept"


def test_a_word_document_shows_entities_as_they_are_written(tmp_path: Path) -> None:
    path = docx(tmp_path / "a.docx", paragraph("&amp;lt;div&amp;gt; ?a=1&amp;copy=2"))
    assert Read(path).only[1].strip() == "&lt;div&gt; ?a=1&copy=2"


def test_a_word_table_takes_no_more_than_its_text(tmp_path: Path) -> None:
    cells = "".join(f"<w:tr><w:tc>{paragraph(text)}</w:tc></w:tr>" for text in ["a"] * 500 + ["x" * 6000])
    assert len(Read(docx(tmp_path / "a.docx", f"<w:tbl>{cells}</w:tbl>")).only[1]) < 8000


def test_word_documents_that_would_fill_the_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word, "_LARGEST_XML", 1 << 20)
    monkeypatch.setattr(word, "_LARGEST_ARCHIVE", 1 << 22)
    text = paragraph("The tower stands in Paris.")
    assert "too large" in unreadable(docx(tmp_path / "a.docx", paragraph("a" * (1 << 20))))
    assert "too large" in unreadable(docx(tmp_path / "b.docx", text, more={"x.bin": " " * (1 << 20) + "<x/>"}))
    assert "too large" in unreadable(docx(tmp_path / "c.docx", text, more={"word/media/x.png": "PNG" * (1 << 21)}))
    assert Read(docx(tmp_path / "d.docx", text, more={"word/media/x.png": "PNG" * (1 << 19)})).only[1]


def test_entities_of_a_word_document_reach_no_file_and_cannot_explode(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.txt", "secret")
    doctype = f'<!DOCTYPE x [<!ENTITY e SYSTEM "{secret.as_uri()}">]>'
    with contextlib.suppress(UnreadableError):
        assert "secret" not in Read(docx(tmp_path / "a.docx", paragraph("The &e; tower"), doctype=doctype)).only[1]
    laughs = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
    doctype = f'<!DOCTYPE x [<!ENTITY a0 "ha">{laughs}]>'
    assert "cannot be read" in unreadable(docx(tmp_path / "b.docx", paragraph("&a9;"), doctype=doctype))
    core = {"docProps/core.xml": f'{doctype}<c xmlns:d="http://purl.org/dc/elements/1.1/"><d:title>&a9;</d:title></c>'}
    assert Read(docx(tmp_path / "c.docx", paragraph("The tower"), more=core)).only == ("", "The tower\n")
