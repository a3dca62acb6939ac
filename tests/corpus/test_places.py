"""Where answers stand on the pages of PDFs.

What should be found is drawn in red. So a page that is drawn tells where the boxes must be.
"""

from __future__ import annotations

import contextlib
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("pypdfium2", reason="needs the extra: pip install 'dynamic-tinybert[corpus]'")

from dynamic_tinybert.corpus import Box, Corpus, FileAnswer, UnreadableError, ask_files, locate
from dynamic_tinybert.corpus.formats import child
from dynamic_tinybert.corpus.places import check_span, find
from dynamic_tinybert.qa import QuestionAnswerer
from support.formats import HELVETICA, Read, beyond_latin, drawn, pdf, placed, write

SCALE = 4  # pixels of a point
NEAR = 0.8  # points
RED, BLACK = "1 0 0 rg\n", "0 g\n"


def red(path: Path, page: int) -> npt.NDArray[np.bool_]:
    """Where a page, counted from 1, is red: [y, x], in pixels from the upper left of the page as it is shown."""
    from pypdfium2 import PdfDocument

    with contextlib.closing(PdfDocument(path)) as document:
        pixels = document[page - 1].render(scale=SCALE, rev_byteorder=True).to_numpy().astype(int)
    found: npt.NDArray[np.bool_] = (pixels[..., 0] > 200) & (pixels[..., 1] < 128) & (pixels[..., 2] < 128)
    return found


def holds(path: Path, boxes: list[Box]) -> None:
    """The boxes cover all that is red, and no more than that."""
    assert boxes
    for page in {box.page for box in boxes}:
        ink, seen = red(path, page), np.zeros(red(path, page).shape, bool)
        for box in (box for box in boxes if box.page == page):
            assert (abs(box.page_width * SCALE - ink.shape[1]), abs(box.page_height * SCALE - ink.shape[0])) < (1, 1)
            x0, y0, x1, y1 = (round(v * SCALE) for v in (box.left, box.top, box.right, box.bottom))
            margin = round(NEAR * SCALE)
            around = np.s_[max(0, y0 - margin) : y1 + margin, max(0, x0 - margin) : x1 + margin]
            seen[around] = True
            rows, columns = (np.flatnonzero(ink[around].any(axis=axis)) for axis in (1, 0))
            assert rows[0] <= 2 * margin, box
            assert columns[0] <= 2 * margin, box
            assert y1 - y0 - (rows[-1] - rows[0]) <= 2 * margin, box
            assert x1 - x0 - (columns[-1] - columns[0]) <= 2 * margin, box
        assert not (ink & ~seen).any()


def found(path: Path, words: str) -> list[Box]:
    """The boxes of words of a file, which has them once."""
    text = Read(path).only[1]
    assert text.count(words) == 1, text
    start = text.index(words)
    return locate(path, start, start + len(words), text=words)


def lines(words: list[str], x: float = 72, y: float = 700) -> str:
    return "".join(placed(x, y - 14 * i, line) for i, line in enumerate(words))


def test_a_box_is_where_the_words_were_written(tmp_path: Path) -> None:
    page = placed(72, 700, "The tower stands in") + placed(300, 700, "Paris") + placed(72, 686, "It is tall.")
    path = write(tmp_path / "a.pdf", drawn(placed(72, 700, "Nothing."), page))
    (box,) = found(path, "Paris")
    width = 12 * (0.667 + 0.556 + 0.333 + 0.222 + 0.5)  # of Helvetica's letters
    assert (box.page, box.page_width, box.page_height) == (2, 612, 792)
    assert (box.left, box.right) == pytest.approx((300, 300 + width), abs=2)
    assert (box.top, box.bottom) == pytest.approx((792 - 700 - 12 * 0.718, 792 - 700), abs=1)


def test_words_on_two_lines_have_two_boxes(tmp_path: Path) -> None:
    page = placed(72, 664, "The prize was given to") + RED + placed(210, 664, "Marie Sklodowska")
    page += placed(72, 650, "Curie") + BLACK + placed(110, 650, "in the year 1903.")
    path = write(tmp_path / "a.pdf", drawn(page))
    boxes = found(path, "Marie Sklodowska\nCurie")
    assert len(boxes) == 2
    holds(path, boxes)


def test_a_divided_word_has_a_box_on_each_line_with_its_hyphen(tmp_path: Path) -> None:
    page = placed(72, 700, "This is an") + RED + placed(140, 700, "exam-") + placed(72, 686, "ple") + BLACK
    path = write(tmp_path / "a.pdf", drawn(page + placed(100, 686, "of words, as in Jean-Paul.")))
    boxes = found(path, "example")
    assert len(boxes) == 2
    holds(path, boxes)
    (box,) = found(path, "Jean-Paul")
    assert box.left > 150


def test_an_answer_in_a_column_has_boxes_in_that_column(tmp_path: Path) -> None:
    left = [f"Line {i} of the left column" for i in range(9)]
    right = [f"Line {i} of the right one" for i in range(9)]
    page = lines(left, 60) + lines(right[:4], 330) + RED + placed(330, 644, "The answer is") + placed(330, 630, "here")
    path = write(tmp_path / "a.pdf", drawn(page + BLACK + lines(right[6:], 330, 616)))
    boxes = found(path, "The answer is") + found(path, "here")
    assert all(box.left > 300 for box in boxes)
    holds(path, boxes)


@pytest.mark.parametrize("turned", ["1 0 0 1", "0 1 -1 0", "0 -1 1 0", "-1 0 0 -1"])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_boxes_are_right_on_pages_that_are_turned_and_cropped(tmp_path: Path, rotation: int, turned: str) -> None:
    c, d = (int(number) for number in turned.split()[2:])
    page = "".join(placed(300 - c * 14 * i, 400 - d * 14 * i, f"line number {i}", turned) for i in range(4))
    page += RED + placed(300 - c * 56, 400 - d * 56, "the answer", turned)
    page += placed(300 - c * 70, 400 - d * 70, "is here", turned) + BLACK
    page += placed(300 - c * 84, 400 - d * 84, "and not there", turned)
    box = f"/MediaBox[0 0 612 792]/CropBox[50 70 580 700]/Rotate {rotation}"
    path = write(tmp_path / "a.pdf", drawn(placed(72, 700, "First."), page, box=box))
    boxes = found(path, "the answer\nis here")
    assert [box.page for box in boxes] == [2, 2]
    holds(path, boxes)


def test_a_ligature_has_the_box_of_its_glyph(tmp_path: Path) -> None:
    font = HELVETICA.replace(b"/WinAnsiEncoding", b"<</BaseEncoding/WinAnsiEncoding/Differences[1/fi]>>")
    page = placed(72, 700, "It was") + RED + placed(130, 700, "de\\001ned") + BLACK + placed(190, 700, "so.")
    path = write(tmp_path / "a.pdf", drawn(page, font=font))
    holds(path, found(path, "defined"))
    whole, half = found(path, "fi"), found(path, "i")
    assert whole == half  # a glyph is not cut


def test_what_has_no_glyph_has_the_room_of_its_font(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pdf", beyond_latin(b"000200010003"))
    assert Read(path).only[1] == "東😀ff"
    for words, x in (("東", 72), ("😀", 84), ("ff", 96)):
        (box,) = found(path, words)
        assert x - 1 < box.left < box.right < x + 13
        assert box.top < 792 - 720
        assert box.bottom >= 792 - 720 - 3


def test_text_outside_the_page_has_no_box(tmp_path: Path) -> None:
    page = placed(900, 714, "Away") + RED + placed(72, 700, "One") + BLACK + placed(900, 700, "Two")
    path = write(tmp_path / "a.pdf", drawn(page + RED + placed(72, 686, "Three")))
    assert Read(path).only[1].split() == ["One", "Three"]
    holds(path, found(path, "One") + found(path, "Three"))
    holds(path, locate(path, 0, len("One Three")))


def test_a_glyph_that_the_page_cuts_off_has_a_box_on_the_page(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pdf", drawn(placed(20, 15, "The tower"), box="/MediaBox[0 0 30 20]"))
    (box,) = locate(path, 0, 2, text="Th")
    assert (box.right, box.top, box.page_width, box.page_height) == (30, 0, 30, 20)
    assert box.left == pytest.approx(20, abs=1)
    assert box.bottom == pytest.approx(5, abs=1)


def test_a_page_of_any_size_is_drawn_in_a_picture_of_bounded_size(tmp_path: Path) -> None:
    for size, shape in (("1000000 1000000", (1999, 1999)), ("14400 20", (3, 1999)), ("200 100", (200, 400))):
        path = write(tmp_path / "a.pdf", drawn(placed(1, 4, "The tower"), box=f"/MediaBox[0 0 {size}]"))
        assert decoded(find(path, check_span(0, 9, 0, "", picture=True))[1]).shape == (*shape, 3)


def test_cells_far_apart_have_boxes_of_their_own(tmp_path: Path) -> None:
    page = RED + placed(72, 700, "Nut M8") + placed(400, 700, "1.20") + BLACK + placed(72, 686, "Nut M6")
    path = write(tmp_path / "a.pdf", drawn(page))
    text = Read(path).only[1]
    boxes = locate(path, 0, text.index("1.20") + 4)
    assert len(boxes) == 2
    holds(path, boxes)


def test_every_word_of_every_page_is_where_it_was_written(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    places = {}
    pages = []
    for page in range(3):
        content = ""
        for row in range(20):
            for column in range(3):
                word, x = f"w{page}{row:02d}{column}", 60 + 170 * column + float(draw.integers(0, 60))
                places[word] = (page + 1, x, 740 - 30 * row)
                content += placed(x, 740 - 30 * row, word)
        pages.append(content)
    path = write(tmp_path / "a.pdf", drawn(*pages))
    text = Read(path).only[1]
    for word in list(places)[::7]:
        start = text.index(word)
        (box,) = locate(path, start, start + len(word), text=word)
        page, x, y = places[word]
        assert (box.page, box.left, box.bottom) == (page, pytest.approx(x, abs=2), pytest.approx(792 - y, abs=1))


def test_white_space_has_no_boxes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pdf", pdf(["One two", "three"]))
    assert locate(path, 3, 4) == []
    assert [box.page for box in locate(path, 4, 13, text="two\fthree")] == [1, 2]


@pytest.mark.parametrize(("start", "end"), [(2, 2), (3, 1), (-1, 4)])
def test_a_part_that_is_none_is_refused(tmp_path: Path, start: int, end: int) -> None:
    with pytest.raises(ValueError, match="must start before its end"):
        locate(write(tmp_path / "a.pdf", pdf(["One two"])), start, end)


LOCKED = "/ID[<00><00>]/Encrypt<</Filter/Standard/V 1/R 2/P -4/Length 40/O<{0}>/U<{0}>>>".format("61" * 32)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.pdf", pdf(["One tow"]), "has changed since it was read"),
        ("a.pdf", pdf(["One"]), "has changed since it was read"),
        ("a.pdf", pdf([""]), "has changed since it was read"),
        ("a.pdf", pdf(["One two"])[:100], "is a broken PDF, or not a PDF"),
        ("a.pdf", b"One two", "is a broken PDF, or not a PDF"),
        (
            "a.pdf",
            pdf(["One two"], more=LOCKED),
            "is a PDF with a password",
        ),
        ("a.txt", b"One two", "is not a PDF"),
    ],
)  # fmt: skip
def test_a_file_without_the_part_is_one_clear_line(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(UnreadableError) as raised:
        locate(path, 4, 7, text="two")
    assert str(raised.value).startswith(f"{path} ")
    assert why in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        locate(tmp_path / "none.pdf", 0, 3)


def test_a_file_that_ends_its_reader_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = child._Child()
    assert started.is_ready()
    started._process.kill()
    monkeypatch.setattr(child, "_take", lambda: started)
    path = write(tmp_path / "a.pdf", pdf(["One two"]))
    with pytest.raises(UnreadableError, match="ended its reader"):
        locate(path, 0, 3)


TOWER = placed(72, 700, "The tower stands in") + RED + placed(180, 700, "Paris") + BLACK + placed(210, 700, ".")


def decoded(png: bytes) -> npt.NDArray[np.uint8]:
    """The pixels of a PNG of ours."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    size = struct.unpack(">I", png[33:37])[0]
    rows = np.frombuffer(zlib.decompress(png[41 : 41 + size]), np.uint8).reshape(height, 1 + 3 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3)


def marked(png: bytes) -> tuple[npt.NDArray[np.int64], ...]:
    """The rows and columns of a picture that are of the mark's colour."""
    return np.nonzero((decoded(png) == (255, 236, 120)).all(axis=-1))


def test_an_answer_from_a_file_has_boxes_and_a_picture(tmp_path: Path, qa: QuestionAnswerer) -> None:
    path = write(tmp_path / "a.pdf", drawn(placed(72, 700, "A guide."), TOWER))
    answer = ask_files("Where does the tower stand?", path, qa=qa)
    assert (answer.text, answer.page) == ("Paris", 2)
    (box,) = answer.boxes()
    holds(path, [box])
    rows, columns = marked(answer.picture())
    assert rows.min() / 2 == pytest.approx(box.top, abs=4)
    assert rows.max() / 2 == pytest.approx(box.bottom, abs=4)
    assert columns.min() / 2 == pytest.approx(box.left, abs=4)
    assert columns.max() / 2 == pytest.approx(box.right, abs=4)
    write(path, pdf(["The tower stands in London."]))
    with pytest.raises(UnreadableError, match="has changed since it was read"):
        answer.boxes()


def test_an_answer_that_is_not_of_a_pdf_has_no_boxes(tmp_path: Path, qa: QuestionAnswerer) -> None:
    path = write(tmp_path / "a.txt", "The tower stands in Paris.")
    answer = ask_files("Where does the tower stand?", path, qa=qa)
    assert answer.boxes() == []
    with pytest.raises(UnreadableError, match=r"a\.txt is not a PDF"):
        answer.picture()
    path = write(tmp_path / "b.pdf", pdf(["The tower stands in Paris."]))
    nothing = ask_files("Who won the match of 1972?", path, qa=qa, handle_impossible_answer=True)
    assert isinstance(nothing, FileAnswer)
    assert (nothing.text, nothing.boxes()) == ("", [])
    with pytest.raises(UnreadableError, match="there is no answer"):
        nothing.picture()


def test_an_answer_of_an_index_has_boxes_until_its_file_changes(tmp_path: Path, qa: QuestionAnswerer) -> None:
    pytest.importorskip("tantivy", reason="needs the extra: pip install 'dynamic-tinybert[corpus]'")
    path = write(tmp_path / "a.pdf", drawn(placed(72, 700, "A guide."), TOWER))
    corpus = Corpus(tmp_path / "index", qa=qa)
    corpus.add(path)
    answer = corpus("Where does the tower stand?")
    assert answer.text == "Paris"
    holds(path, answer.boxes())
    assert marked(answer.picture())[0].size
    write(path, pdf(["A guide.", "The tower stands in London."]))
    with pytest.raises(UnreadableError, match="has changed since it was read"):
        answer.boxes()
    corpus.put("b.pdf", "The bridge stands in Prague.")
    with pytest.raises(FileNotFoundError):
        corpus("Where does the bridge stand?").boxes()
    assert corpus("Zzz?").boxes() == []


def test_record_whose_id_is_that_of_a_pdf_has_no_places(tmp_path: Path, qa: QuestionAnswerer) -> None:
    records = tmp_path / "data.jsonl"
    records.write_text(json.dumps({"id": "paper.pdf", "text": "The tower stands in Paris."}) + "\n", "utf-8")
    corpus = Corpus(tmp_path / "index", qa=qa)
    corpus.add(records)
    answer = corpus("Where is the tower?")
    assert answer.document.endswith("data.jsonl#paper.pdf")
    assert answer.boxes() == []
    with pytest.raises(UnreadableError, match="is not a PDF"):
        answer.picture()
    with pytest.raises(UnreadableError, match="is not a PDF"):
        corpus.locate(answer.document, answer.start, answer.end)
    (of_file,) = ask_files("Where is the tower?", [records], qa=qa, top_k=1)
    assert (of_file.document, of_file.boxes()) == (answer.document, [])
    with pytest.raises(UnreadableError, match="is not a PDF"):
        of_file.picture()
