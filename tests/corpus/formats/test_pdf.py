"""PDF: pages, broken ones, and passwords."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dynamic_tinybert.corpus.errors import UnreadableError
from dynamic_tinybert.corpus.formats import read
from support.formats import PLAIN, Read, beyond_latin, drawn, pdf, placed, unreadable, write


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a state-of-the-\nart motor", "state-of-the-art"),
        ("the art of a state-of-the-\nart motor", "state-of-the-art"),
        ("see https://a.org/foo-\nbar-\nbaz.html", "https://a.org/foo-bar-baz.html"),
        ("write to jean-\npaul@a.org", "jeanpaul@a.org"),
        ("write to a@long-\nname.org", "a@long-name.org"),
        ("Long books. A long-\nterm plan has a term.", "long-term"),
        ("Long-term plans. A long-\nterm plan.", "A long-term"),
        ("The longterm plan is long. A long-\nterm plan has a term.", "A longterm"),
        ("It is put in, as in-\nput is.", "input"),
        ("An EXAMPLE of an EXAM-\nPLE", "an EXAMPLE"),
        ("AN EXAM-\nPLE", "EXAM-PLE"),
        ("a well-estab-\nlished fact, established", "well-established"),
        ("see (2019-2020)/exam-\nple", "(2019-2020)/example"),
        ("A micro-\n2 and -\nx", "micro-2"),
    ],
)
def test_a_hyphen_at_the_end_of_a_line_stays_if_it_belongs_to_the_word(tmp_path: Path, text: str, shown: str) -> None:
    assert shown in Read(write(tmp_path / "a.pdf", pdf([text]))).only[1]


def test_the_words_of_earlier_pages_tell_which_hyphens_stay(tmp_path: Path) -> None:
    text = Read(write(tmp_path / "a.pdf", pdf(["A long-term plan.", "A long-\nterm plan, a data-\nbase."]))).only[1]
    assert text.endswith("A long-term plan, a database.")


@pytest.mark.parametrize("gap", [45, 60, 90])
@pytest.mark.parametrize("turned", ["1 0 0 1", "0 1 -1 0", "0 -1 1 0"])
def test_the_cells_of_a_table_are_words_of_their_own(tmp_path: Path, gap: int, turned: str) -> None:
    rows = [("Nut M8", "6", "1.20"), ("2020", "8", "130"), ("x", "y", "z"), ("7", "Nut M6", "2"), ("1", "2", "a")]
    a, b, c, d = (int(number) for number in turned.split())
    page = "".join(
        placed(300 + a * gap * i - c * 14 * j, 400 + b * gap * i - d * 14 * j, cell, turned)
        for j, row in enumerate(rows)
        for i, cell in enumerate(row)
    )
    assert Read(write(tmp_path / "a.pdf", drawn(page))).only[1].split() == " ".join(map(" ".join, rows)).split()


@pytest.mark.parametrize("turned", ["1 0 0 1", "0 1 -1 0", "0 -1 1 0", "-1 0 0 -1"])
def test_lines_in_any_direction_are_lines(tmp_path: Path, turned: str) -> None:
    _, _, c, d = (int(number) for number in turned.split())
    lines = [f"line number {i}" for i in range(6)]
    page = "".join(placed(300 - c * 14 * i, 400 - d * 14 * i, line, turned) for i, line in enumerate(lines))
    assert Read(write(tmp_path / "a.pdf", drawn(page))).only[1].splitlines() == lines
    page += placed(30, 30, "at", "1 0 0 1")
    assert Read(write(tmp_path / "a.pdf", drawn(page))).only[1].splitlines() == [*lines, "at"]


def test_text_outside_the_page_is_not_shown(tmp_path: Path) -> None:
    page = "".join(
        placed(x, 700 - 14 * i, text)
        for i, (x, text) in enumerate([(72, "One"), (900, "Two"), (900, "Three"), (72, "Four"), (-300, "Five")])
    )
    assert Read(write(tmp_path / "a.pdf", drawn(page + placed(72, 500, "Six")))).only[1] == "One\nFour\nSix"
    cells = placed(72, 700, "2020") + placed(120, 700, "8") + placed(160, 700, "130") + placed(900, 700, "no")
    assert Read(write(tmp_path / "a.pdf", drawn(cells))).only[1].split() == ["2020", "8", "130"]


def test_scripts_beyond_latin_are_read_from_a_pdf(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pdf", beyond_latin(b"000100020003"))
    assert Read(path).only == ("", "😀東ff")


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
