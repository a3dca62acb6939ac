"""PDF: pages, broken ones, and passwords."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dynamic_tinybert.corpus.errors import UnreadableError
from dynamic_tinybert.corpus.formats import read
from support.formats import PLAIN, Read, assembled, pdf, unreadable, write


def test_the_pages_of_a_pdf_are_blocks_with_form_feeds_between(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.pdf", pdf(["The tower\nstands in café “Paris”.", "", "It is tall."], title=" The\ntower ")
    )
    assert Read(path).only == ("The tower", "The tower\nstands in café “Paris”.\f\fIt is tall.")
    (draft,) = read(path, PLAIN)
    assert list(draft.blocks) == ["The tower\nstands in café “Paris”.", "\f", "\fIt is tall."]


def test_the_title_of_a_pdf_may_be_of_any_script_or_missing(tmp_path: Path) -> None:
    assert Read(write(tmp_path / "a.pdf", pdf(["x"], title="برج 東京 😀"))).only[0] == "برج 東京 😀"
    assert Read(write(tmp_path / "a.pdf", pdf(["x"]))).only[0] == ""
    half = pdf(["x"], title="AB").replace("AB".encode("utf-16").hex().encode(), b"fffe4100003d")
    assert Read(write(tmp_path / "a.pdf", half)).only[1] == "x"


def test_words_that_a_line_end_parts_are_joined(tmp_path: Path) -> None:
    text = Read(write(tmp_path / "a.pdf", pdf(["An exam-\nple of Jean-\nPaul, 1914-\n1918."]))).only[1]
    assert "example" in text
    assert "Jean-Paul" in text
    assert "1914-" in text
    assert not {"\ufffe", "\x02", "\r"} & set(text)


def test_scripts_beyond_latin_are_read_from_a_pdf(tmp_path: Path) -> None:
    table = (
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def "
        b"1 begincodespacerange <0000> <FFFF> endcodespacerange 3 beginbfchar <0001> <D83DDE00> <0002> <6771> "
        b"<0003> <00660066> endbfchar endcmap end end"
    )
    content = b"BT /F 12 Tf 72 720 Td <000100020003> Tj ET"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[5 0 R]/Count 1>>",
        b"<</Type/Font/Subtype/Type0/BaseFont/X/Encoding/Identity-H/DescendantFonts[7 0 R]/ToUnicode 8 0 R>>",
        b"<<>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F 3 0 R>>>>/Contents 6 0 R>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/CIDFontType2/BaseFont/X/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)"
        b"/Supplement 0>>/DW 1000/FontDescriptor 9 0 R>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(table), table),
        b"<</Type/FontDescriptor/FontName/X/Flags 4/FontBBox[0 0 1000 1000]/ItalicAngle 0/Ascent 800/Descent -200"
        b"/CapHeight 700/StemV 80>>",
    ]
    assert Read(write(tmp_path / "a.pdf", assembled(objects))).only == ("", "😀東ff")


def test_a_broken_page_is_complained_of_and_the_others_read(tmp_path: Path) -> None:
    done = Read(write(tmp_path / "a.pdf", pdf(["One", "Two", "Three"], broken=1)))
    assert [text for _, _, text in done.documents] == ["One\f\fThree"]
    assert done.complaints == ["page 2 is broken"]


LOCKED = "/ID[<00><00>]/Encrypt<</Filter/Standard/V 1/R 2/P -4/Length 40/O<{0}>/U<{0}>>>".format("61" * 32)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is a broken PDF, or not a PDF"),
        (b"The tower stands in Paris.", "is a broken PDF, or not a PDF"),
        (b"%PDF-1.7\n", "is a broken PDF, or not a PDF"),
        (pdf([]), "is a broken PDF, or not a PDF"),
        (pdf(["One"])[:150], "is a broken PDF, or not a PDF"),
        (pdf(["One"], more=LOCKED), "is a PDF with a password"),
        (pdf([""]), "without text"),
        (pdf([" ", "", " \n "]), "OCR"),
    ],
)
def test_pdfs_that_cannot_be_read_say_why(tmp_path: Path, content: bytes, why: str) -> None:
    assert why in unreadable(write(tmp_path / "a.pdf", content))


def test_pdfs_cut_anywhere_are_read_or_refused(tmp_path: Path) -> None:
    whole = pdf(["One", "Two"])
    read_whole = 0
    for end in [*range(0, len(whole), 37), len(whole)]:
        path = write(tmp_path / "a.pdf", whole[:end] + b"\0" * (end % 2))
        try:
            ((_, _, text),) = Read(path).documents
        except UnreadableError:
            continue
        assert "One" in text or "Two" in text
        read_whole += text == "One\fTwo"
    assert read_whole


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux shows them")
@pytest.mark.parametrize("name", ["a.pdf", "a.txt", "a.jsonl"])
def test_files_are_closed_however_the_reading_ends(tmp_path: Path, name: str) -> None:
    content = pdf(["One", "Two"]) if name == "a.pdf" else '{"text": "One"}\n' * 3
    path = write(tmp_path / name, content)

    def opened() -> bool:
        links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return str(path) in [os.readlink(link) for link in links if os.path.lexists(link)]

    drafts = read(path, PLAIN)
    draft = next(drafts)
    next(draft.blocks)
    assert opened()
    del drafts, draft
    assert not opened()
    Read(path)
    assert not opened()


def test_a_file_with_an_odd_name_is_read(tmp_path: Path) -> None:
    for name, content in (("été 東京 😀.pdf", pdf(["One"])), ("~ %41 *.pdf".replace("*", "'"), pdf(["One"]))):
        assert Read(write(tmp_path / name, content)).only[1] == "One"
