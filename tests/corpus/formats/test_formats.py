"""Documents from files of every kind, and every way in which files can be broken."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import json
import os
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynamic_tinybert.corpus.errors import UnreadableError
from dynamic_tinybert.corpus.formats import formats
from dynamic_tinybert.corpus.formats.formats import KINDS, Reading, is_readable, read

TEXT = "Été à Zürich 😀\r\n\r\nبرج إيفل في باريس\n東京\re\u0301\u2028\x0c end"
PLAIN = Reading()


class Read:
    """A file as it was read: ids, titles, texts and complaints, in order."""

    def __init__(self, path: Path, reading: Reading = PLAIN) -> None:
        self.complaints: list[str] = []
        self.documents = [
            (draft.id, draft.title, "".join(draft.blocks)) for draft in read(path, reading, complain=self.complain)
        ]

    def complain(self, line: str) -> None:
        assert "\n" not in line
        self.complaints.append(line)

    @property
    def only(self) -> tuple[str, str]:
        """The title and the text of a file that is one document, read without complaint."""
        ((id_, title, text),) = self.documents
        assert id_ == ""
        assert self.complaints == []
        text.encode()
        return title, text


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def unreadable(path: Path, reading: Reading = PLAIN) -> str:
    """Why a file cannot be read: one line, without its path, which the caller names."""
    with pytest.raises(UnreadableError) as caught:
        Read(path, reading)
    why = str(caught.value)
    assert "\n" not in why
    assert str(path) not in why
    return why


# Kinds


def test_kinds_are_told_by_the_end_of_the_name() -> None:
    for name in ("a.txt", "a.TXT", "dir/b.rst", "c.md", "d.Markdown", "e.htm", "e.HTML", "f.xhtml", "g.PDF", "h.docx"):
        assert is_readable(Path(name))
    for name in ("a", "txt", ".txt", "a.doc", "a.txt.gz", "a.py", "a.json", "a.txt~", ""):
        assert not is_readable(Path(name))
    assert {".jsonl", ".ndjson"} <= KINDS.keys()


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    why = unreadable(write(tmp_path / "a.exe", "text"))
    assert ".docx" in why
    assert ".txt" in why


@pytest.mark.parametrize("suffix", sorted(KINDS))
def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(FileNotFoundError):
        Read(tmp_path / f"absent{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(OSError, match="folder"):
        Read(tmp_path / f"folder{suffix}")


@pytest.mark.parametrize(("suffix", "package"), [(".html", "inscriptis"), (".docx", "mammoth"), (".pdf", "pypdfium2")])
def test_a_package_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, package: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)  # type: ignore[arg-type]
    with pytest.raises(ImportError) as caught:
        Read(write(tmp_path / f"a{suffix}", "<p>text"))
    assert (caught.value.name or "").startswith(package)


# Options


def test_options_have_a_signature_that_tells_them_apart() -> None:
    readings = [
        PLAIN,
        Reading(text_field="body"),
        Reading(title_field="body"),
        Reading(id_field="body"),
        Reading(encoding="latin-1"),
        Reading(encoding="cp1252"),
        Reading(text_field="a b", title_field="c"),
        Reading(text_field="a", title_field="b c"),
    ]
    lines = Path("a.jsonl")
    assert len({reading.signature(lines) for reading in readings}) == len(readings)
    assert all(len(reading.signature(lines)) < 100 for reading in readings)
    for path in (Path("a.txt"), lines):
        assert Reading().signature(path) == Reading(encoding="UTF8").signature(path)
        assert Reading(encoding="latin1").signature(path) == Reading(encoding="ISO-8859-1").signature(path)


def test_options_that_do_not_matter_to_a_file_leave_its_signature_alone() -> None:
    other = Reading(text_field="body", title_field="name", id_field="key")
    for name in ("a.txt", "a.md", "a.HTML", "a.pdf", "a.docx"):
        assert PLAIN.signature(Path(name)) == other.signature(Path(name))
    for name, matters in (("a.txt", True), ("a.html", True), ("a.PDF", False), ("a.docx", False)):
        assert (PLAIN.signature(Path(name)) != Reading(encoding="latin-1").signature(Path(name))) == matters


@pytest.mark.parametrize("encoding", ["", "nonsense", "utf-9", "hex", "rot13", "undefined", "a\0b"])
def test_an_encoding_that_is_none_is_refused(encoding: str) -> None:
    with pytest.raises(ValueError, match="encoding"):
        Reading(encoding=encoding)


# Plain text and Markdown


@pytest.mark.parametrize("suffix", [".txt", ".text", ".rst", ".md", ".TXT"])
def test_the_text_of_a_text_file_is_what_it_holds(tmp_path: Path, suffix: str) -> None:
    assert Read(write(tmp_path / f"a{suffix}", TEXT)).only == ("", TEXT)
    assert Read(write(tmp_path / f"a{suffix}", codecs.BOM_UTF8 + TEXT.encode())).only == ("", TEXT)
    assert Read(write(tmp_path / f"a{suffix}", codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"))).only == ("", TEXT)
    assert Read(write(tmp_path / f"a{suffix}", "")).only == ("", "")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_text_comes_back(tmp_path: Path, text: str) -> None:
    for suffix in (".txt", ".md"):
        assert Read(write(tmp_path / f"a{suffix}", codecs.BOM_UTF8 + text.encode())).only[1] == text


def test_another_encoding_is_read_where_it_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "Le café".encode("latin-1"))
    assert Read(path, Reading(encoding="latin-1")).only == ("", "Le café")
    assert unreadable(path).startswith("is no text in UTF-8 (byte 6): if it is in another encoding, name that")


@pytest.mark.parametrize("encoding", ["idna", "punycode"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_encodings_that_are_not_for_files_say_so(tmp_path: Path, name: str, encoding: str) -> None:
    path = write(tmp_path / name, b"xn--\xff " * 9)
    assert "is no text in" in unreadable(path, Reading(encoding=encoding))


def test_text_that_utf8_cannot_hold_is_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", rb"a\ud83db")
    assert Read(path, Reading(encoding="unicode_escape")).only == ("", "a\ufffdb")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (bytes(range(256)), "is no text"),
        (b"%PDF-1.7\n", "is no text but a PDF"),
        (gzip.compress(b"text", mtime=0), "is no text but compressed with gzip"),
        (b"a" * (2 << 20) + b"\0", "is no text: it holds NUL"),
        (b"a" * (2 << 20) + b"\xff", "is no text in UTF-8 (byte 2,097,152)"),
    ],
)
@pytest.mark.parametrize("suffix", [".txt", ".md", ".html", ".jsonl"])
def test_what_is_no_text_is_refused_whatever_its_name(tmp_path: Path, content: bytes, why: str, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", content)
    if suffix == ".jsonl" and "2,097,152" in why:  # the only record, of one line
        why = "has no record that can be read, of 1"
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
        ("", ""),
    ],
)
def test_the_title_of_markdown_is_its_first_heading(tmp_path: Path, source: str, title: str) -> None:
    assert Read(write(tmp_path / "a.md", source)).only == (title, source.removeprefix("\ufeff"))


def test_lines_that_take_long_to_match_are_passed_over(tmp_path: Path) -> None:
    for line in ("# " + " " * 900_000 + "x", "[" * 900_000, "---\ntitle: " + " " * 900_000 + "\n---"):
        assert Read(write(tmp_path / "a.md", line)).only[1] == line


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


# HTML


def html(body: str, head: str = "") -> str:
    return f"<!DOCTYPE html><html><head>{head}</head><body>{body}</body></html>"


def test_html_becomes_text_as_a_browser_shows_it(tmp_path: Path) -> None:
    page = html(
        "<nav>Menu</nav><!-- hidden --><h1>The tower</h1><p>It stands in\n <b>Par</b>is &amp; is tall.<br>Très."
        "<?php echo 1 ?> After.<script>alert('no')</script><p>برج 東京 &#128512; e&#x301;"
        "<table><tr><th>City</th><th>Height</th></tr><tr><td>Paris</td><td>330 m</td></tr></table>"
        "<ul><li>one<li>two</ul>",
        "<title>\n The\n tower </title><style>p {color: red}</style><script>var hidden</script>",
    )
    title, text = Read(write(tmp_path / "a.html", page)).only
    assert title == "The tower"
    for shown in ("Menu", "\n\nIt stands in Paris & is tall.\nTrès. After.\n\n", "برج 東京 😀 e\u0301", "* one"):
        assert shown in text
    assert "\nCity  Height\nParis  330 m\n" in text
    for hidden in ("hidden", "alert", "color", "<", "The\n"):
        assert hidden not in text


@pytest.mark.parametrize(
    ("content", "reading"),
    [
        (html("Été 東京").encode(), PLAIN),
        (html("Été 東京").encode(), Reading(encoding="UTF-8")),
        (codecs.BOM_UTF8 + html("Été 東京", "<meta charset=latin-1>").encode(), PLAIN),
        (html("Été 東京").encode("utf-16"), PLAIN),
        (html("Été 東京", '<meta charset="utf-8">').encode(), Reading(encoding="latin-1")),
        (html("Été 東京", "<meta charset='gb2312'>").encode("gb18030"), PLAIN),
        (html("Été 東京").encode("gb18030"), Reading(encoding="gb18030")),
        (html("Été 東京", '<meta charset="UTF-16">').encode(), PLAIN),
        (html("Été 東京", '<meta charset="nonsense">').encode(), PLAIN),
        (b'<?xml version="1.0" encoding="EUC-JP"?>' + html("&Eacute;t&eacute; 東京").encode("euc-jp"), PLAIN),
        (html("&Eacute;t&eacute; 東京", '<META content="text/html; charset=Shift_JIS">').encode("sjis"), PLAIN),
        (html("Été 東京", "<meta charset=latin-1>").encode(), PLAIN),
        (html("Été 東京", "<!-- <meta charset=latin-1> --><meta charset=gb18030>").encode("gb18030"), PLAIN),
        (html("Été 東京", "<script>'<meta charset=latin-1>'</script><meta charset=gbk>").encode("gb18030"), PLAIN),
        (html("Été 東京", "<meta name=x content='charset=latin-1'><meta charset=gbk>").encode("gb18030"), PLAIN),
        (html("&Eacute;t&eacute; 東京", "<meta charset=iso-2022-jp>").encode("iso-2022-jp"), PLAIN),
    ],
)  # fmt: skip
def test_html_is_decoded_by_its_mark_or_what_it_declares(tmp_path: Path, content: bytes, reading: Reading) -> None:
    assert Read(write(tmp_path / "a.html", content), reading).only[1].strip() == "Été 東京"


def test_html_in_latin_1_is_read_as_browsers_do(tmp_path: Path) -> None:
    page = html("“Café” – 5 €", "<meta charset=iso-8859-1>").encode("cp1252")
    assert Read(write(tmp_path / "a.html", page)).only[1].strip() == "“Café” – 5 €"
    assert "byte" in unreadable(write(tmp_path / "b.html", html("Café").encode("latin-1")))


@pytest.mark.parametrize(
    ("label", "encoding", "word"),
    [
        ("windows-874", "cp874", "หอ"),
        ("iso-8859-8-i", "iso-8859-8", "מגדל"),
        ("x-mac-cyrillic", "mac_cyrillic", "Башня"),
    ],
)
def test_encodings_that_browsers_name_in_their_own_way_are_known(
    tmp_path: Path, label: str, encoding: str, word: str
) -> None:
    page = html(word, f"<meta charset={label}>").encode(encoding)
    assert Read(write(tmp_path / "a.html", page)).only[1].strip() == word


def test_html_that_is_not_what_it_declares_is_complained_of(tmp_path: Path) -> None:
    for label, name in (("utf-8", "UTF-8"), ("euc-jp", "EUC-JP")):
        done = Read(
            write(tmp_path / "a.html", html("Le caf\xe9 de Paris", f"<meta charset={label}>").encode("latin-1"))
        )
        assert done.complaints == [f"has bytes that are no text in {name}"]
        assert "Paris" in done.documents[0][2]


@pytest.mark.parametrize("label", ["undefined", "idna", "punycode", "hex", "unicode_escape", "utf-7"])
def test_encodings_that_no_page_has_do_no_harm(tmp_path: Path, label: str) -> None:
    path = write(tmp_path / "a.html", html("Café \\ud800 +2AA-", f"<meta charset={label}>"))
    with contextlib.suppress(UnreadableError):
        assert "Caf" in Read(path).only[1]


@pytest.mark.parametrize("content", ["", " \n", "<!-- nothing -->", "<html></html>", html(""), "<p>"])
def test_html_without_text_is_an_empty_text(tmp_path: Path, content: str) -> None:
    title, text = Read(write(tmp_path / "a.html", content)).only
    assert title == ""
    assert text.strip() == ""


def test_html_with_a_title_alone_has_a_title(tmp_path: Path) -> None:
    assert Read(write(tmp_path / "a.html", html("", "<title>The tower</title>"))).only[0] == "The tower"
    svg = "<svg><title>Icon</title></svg>Text"
    assert Read(write(tmp_path / "a.html", html(svg))).only[0] == ""
    for page in (html(f"{svg}<title>The tower</title>"), f"<p>{svg}</html><title>The tower</title>"):
        assert Read(write(tmp_path / "a.html", page)).only[0] == "The tower"


def test_what_follows_the_end_of_html_is_read(tmp_path: Path) -> None:
    for more in ("after", "<p>after", "<b>after</b>", "<!-- x -->\n<html><body>after</body></html>"):
        text = Read(write(tmp_path / "a.html", html("before") + more)).only[1]
        assert text.split() == ["before", "after"]


@pytest.mark.parametrize(
    "tag",
    [
        "p",
        "div",
        "section",
        "article",
        "aside",
        "header",
        "footer",
        "nav",
        "main",
        "figure",
        "figcaption",
        "address",
        "dl",
        "dt",
        "dd",
        "details",
        "summary",
        "form",
        "fieldset",
        "legend",
        "center",
        "dialog",
        "blockquote",
        "li",
        "tr",
        "td",
        "caption",
        "h6",
    ],
)
def test_block_elements_are_on_lines_of_their_own(tmp_path: Path, tag: str) -> None:
    text = Read(write(tmp_path / "a.html", html(f"one<{tag}>two</{tag}><{tag}>three</{tag}>four"))).only[1]
    assert [line.strip(" *") for line in text.splitlines() if line.strip()] == ["one", "two", "three", "four"]


def test_options_and_rules_part_lines(tmp_path: Path) -> None:
    page = html("<select><option>one<option>two</select><div style='display: flex'>three</div>four<hr>five")
    assert Read(write(tmp_path / "a.html", page)).only[1].split() == ["one", "two", "three", "four", "five"]


@pytest.mark.parametrize("frame", ["{}", "<pre>{}</pre>", "<table><tr><td>{}</table>", "<table>{}</table>"])
@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("&amp;lt;div&amp;gt;", "&lt;div&gt;"),
        ("?a=1&amp;copy=2", "?a=1&copy=2"),
        ("&lt;b&gt; &amp; &copy;", "<b> & ©"),
        ("<b>a</b>&amp;amp;<!-- x -->&amp;lt;", "a&amp;&lt;"),
        ("a&amp;b\x01c", "a&b c"),
    ],
)
def test_entities_are_decoded_once(tmp_path: Path, frame: str, source: str, shown: str) -> None:
    assert Read(write(tmp_path / "a.html", html(frame.format(source)))).only[1].strip() == shown
    nested = html("<table><tr><td>" * 9 + source + "</table>" * 9)
    assert Read(write(tmp_path / "a.html", nested)).only[1].strip() == shown


def test_what_a_browser_hides_is_left_out(tmp_path: Path) -> None:
    page = html(
        "a<p hidden>no<b>no</b></p>b<span style='DISPLAY:none !important'>no</span>c<table hidden><td>no</table>"
    )
    assert Read(write(tmp_path / "a.html", page)).only[1].split() == ["abc"]


def test_lengths_in_styles_do_not_fill_the_memory(tmp_path: Path) -> None:
    page = html("<p style='margin-top: 99999em; padding-left: 99999em; display\x0c: none'>text</p>" * 9)
    assert len(Read(write(tmp_path / "a.html", page)).only[1]) < 100


# Tables


def test_the_rows_of_a_table_are_lines(tmp_path: Path) -> None:
    page = html(
        "before<table>loose<caption>caption</caption><thead><tr><th>City<th>Height</thead><tr><td colspan=2>"
        "<p>Paris</p><td><td>330 m<tr><td><p>one<p>two<td>three</table>between<table><tr><td>x<td>y</table>after"
    )
    text = Read(write(tmp_path / "a.html", page)).only[1]
    assert [line for line in text.splitlines() if line] == [
        *("before", "loose", "caption", "City  Height", "Paris  330 m", "one", "two", "three"),
        *("between", "x  y", "after"),
    ]


def test_tables_in_tables_are_read_in_order(tmp_path: Path) -> None:
    page = html("<table><tr><td>a<table><tr><td>b<td>c<tr><td>d</table>e<td><table><tr><td>f</table></table>g")
    assert Read(write(tmp_path / "a.html", page)).only[1].split() == list("abcdefg")


def test_tables_take_no_more_than_their_text(tmp_path: Path) -> None:
    page = html("<table>" + "<tr><td>a<td>b" * 8000 + f"<tr><td>{'x' * 10_000}<td>{'y' * 10_000}</table>")
    assert len(Read(write(tmp_path / "a.html", page)).only[1]) < 80_000
    for depth in (1, 150):
        page = html("<table><tr><td>" * depth + "x" * 10_000 + "</table>" * depth)
        assert len(Read(write(tmp_path / "a.html", page)).only[1]) < 11_000


def test_a_file_that_does_not_fit_in_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(markup: str) -> None:
        raise MemoryError

    monkeypatch.setattr(formats, "_rendered", fill)
    for path in (write(tmp_path / "a.html", "text"), docx(tmp_path / "a.docx", paragraph("text"))):
        assert unreadable(path) == "is too large for the memory there is"


@pytest.mark.parametrize("content", ["text & more", "<p>text", "<b><i>text</b></i>", "</div>text<", "<p a='text"])
def test_html_that_is_wrong_is_read_as_far_as_it_goes(tmp_path: Path, content: str) -> None:
    assert "text" in Read(write(tmp_path / "a.html", content)).only[1] or content.startswith("<p a")


def test_html_nested_too_deep_is_refused(tmp_path: Path) -> None:
    assert Read(write(tmp_path / "a.html", "<div>" * 200 + "deep")).only[1].strip() == "deep"
    for tag in ("<div>", "<b>", "<table><tr><td>", "<ul><li>"):
        assert "nested too deep" in unreadable(write(tmp_path / "a.html", tag * 10_000 + "deep"))


def test_a_long_paragraph_of_html_is_read_whole(tmp_path: Path) -> None:
    text = Read(write(tmp_path / "a.html", "<p>" + "tower " * 2_000_000 + "</p><p>end")).only[1]
    assert text.count("tower") == 2_000_000
    assert text.rstrip().endswith("end")


def test_html_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_LARGEST_HTML", 1 << 20)
    assert "too large" in unreadable(write(tmp_path / "a.html", b"a" * ((1 << 20) + 1)))
    assert len(Read(write(tmp_path / "a.html", b"a" * (1 << 20))).only[1].strip()) == 1 << 20


def test_references_to_other_files_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "secret.txt", "secret")
    page = '<!DOCTYPE html [<!ENTITY x SYSTEM "secret.txt">]><p>&x; <iframe src="secret.txt"></iframe>'
    assert "secret\n" not in Read(write(tmp_path / "a.html", page)).only[1]


# PDF


def pdf(pages: list[str], *, title: str = "", more: str = "", broken: int | None = None) -> bytes:
    """A PDF with a page for each text; `broken` is a page that is none. Written in the encoding of Windows."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {len(pages)}/Kids[{' '.join(f'{5 + 2 * i} 0 R' for i in range(len(pages)))}]>>".encode(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
        b"<</Title<" + title.encode("utf-16").hex().encode() + b">>>",
    ]
    for i, page in enumerate(pages):
        lines = b" ".join(b"(" + line.encode("cp1252") + b") '" for line in page.split("\n")) if page else b""
        content = b"BT /F 12 Tf 14 TL 72 720 Td " + lines + b" ET"
        kind = b"/Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F 3 0 R>>>>/Contents %d 0 R"
        objects.append(b"42" if i == broken else b"<<" + kind % (6 + 2 * i) + b">>")
        objects.append(b"<</Length %d>>stream\n%s\nendstream" % (len(content), content))
    return assembled(objects, more)


def assembled(objects: list[bytes], more: str = "") -> bytes:
    data, places = b"%PDF-1.7\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer<</Size %d/Root 1 0 R/Info 4 0 R%s>>\nstartxref\n%d\n%%%%EOF\n"
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    return data + head + table + end % (len(objects) + 1, more.encode(), len(data))


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
        (b"", "is a broken PDF, or none"),
        (b"The tower stands in Paris.", "is a broken PDF, or none"),
        (b"%PDF-1.7\n", "is a broken PDF, or none"),
        (pdf([]), "is a broken PDF, or none"),
        (pdf(["One"])[:150], "is a broken PDF, or none"),
        (pdf(["One"], more=LOCKED), "is a PDF behind a password"),
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


# Word


W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
CORE = "http://schemas.openxmlformats.org/package/2006/metadata/core-properties"


def paragraph(text: str) -> str:
    return f'<w:p><w:r><w:t xml:space="preserve">{text}</w:t></w:r></w:p>'


def docx(
    path: Path, body: str, *, title: str | None = None, doctype: str = "", more: dict[str, str] | None = None
) -> Path:
    parts = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
        "word/document.xml": f'{doctype}<w:document xmlns:w="{W}"><w:body>{body}</w:body></w:document>',
    }
    if title is not None:
        parts["docProps/core.xml"] = (
            f'<cp:coreProperties xmlns:cp="{CORE}" xmlns:dc="http://purl.org/dc/elements/1.1/">'
            f"<dc:title>{title}</dc:title></cp:coreProperties>"
        )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (parts | (more or {})).items():
            archive.writestr(name, content)
    return path


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
    monkeypatch.setattr(formats, "_LARGEST_XML", 1 << 20)
    monkeypatch.setattr(formats, "_LARGEST_ARCHIVE", 1 << 22)
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


# JSON Lines


def lines(path: Path, *records: Any) -> Path:
    """Write records, or lines as they stand where they are strings."""
    written = [record if isinstance(record, str) else json.dumps(record, ensure_ascii=False) for record in records]
    return write(path, "\n".join(written))


def test_each_record_of_json_lines_is_a_document(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "a.jsonl",
        {"id": "tower", "title": "The\n tower", "text": TEXT},
        {"id": 17, "text": ""},
        "",
        "  \r",
        {"text": "no id"},
        {"id": None, "title": None, "text": "none"},
        {"id": "", "title": 1984, "text": "empty"},
        {"id": 1.5, "text": "\u2028 東京 😀", "more": [1, {"x": None}]},
    )
    done = Read(path)
    assert done.complaints == []
    assert done.documents == [
        ("tower", "The tower", TEXT),
        ("17", "", ""),
        ("5", "", "no id"),
        ("6", "", "none"),
        ("7", "1984", "empty"),
        ("1.5", "", "\u2028 東京 😀"),
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.JSONL"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_line_ends_and_marks_are_no_obstacle(tmp_path: Path, name: str, end: bytes) -> None:
    record = '{"text": "Été"}'
    for content in (record.encode() + end, codecs.BOM_UTF8 + record.encode() + end, record.encode("utf-16")):
        assert Read(write(tmp_path / name, content)).documents == [("1", "", "Été")]


def test_json_lines_without_records_have_no_documents(tmp_path: Path) -> None:
    for content in ("", "\n\n", "\ufeff", " \r\n"):
        done = Read(write(tmp_path / "a.jsonl", content))
        assert (done.documents, done.complaints) == ([], [])


def test_fields_are_named_and_may_be_nested(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "a.jsonl",
        {"doc": {"body": {"text": "nested"}, "name": "N"}, "key": {"id": 1}},
        {"doc.body.text": "literal", "doc": {"body": {"text": "nested"}}, "key.id": "2"},
        {"doc": {"body.text": "half"}, "key": {"id": "3"}},
        {"doc": "no object"},
        {"doc": {"body": [1]}},
    )
    done = Read(path, Reading(text_field="doc.body.text", title_field="doc.name", id_field="key.id"))
    assert done.documents == [("1", "N", "nested"), ("2", "", "literal"), ("3", "", "half")]
    assert done.complaints == [f"line {number}: has no text in 'doc.body.text'" for number in (4, 5)]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "is no JSON: Expecting property name enclosed in double quotes (column 2)"),
        ("text", "is no JSON: Expecting value (column 1)"),
        ('{"text": "a"} {"text": "b"}', "is no JSON: Extra data (column 15)"),
        ('{"text": "a\tb"}', "is no JSON: Invalid control character at (column 12)"),
        ("[" * 100_000, "is no JSON that can be read: "),
        ('{"text": "a", "id": ' + "1" * 5000 + "}", "is no JSON that can be read: "),
        ("[]", "is no JSON object"),
        ('"text"', "is no JSON object"),
        ("null", "is no JSON object"),
        ("{}", "has no text in 'text'"),
        ('{"text": null}', "has no text in 'text'"),
        ('{"text": ["a"]}', "has no text in 'text'"),
        ('{"text": "a", "id": ["a"]}', "has in 'id' neither a string nor a number"),
        ('{"text": "a", "id": true}', "has in 'id' neither a string nor a number"),
        ('{"text": "a", "title": {}}', "has in 'title' neither a string nor a number"),
        (r'{"text": "a \ud83d b"}', "has half a character (a lone surrogate)"),
        (r'{"text": "a", "id": "\udc00"}', "has half a character (a lone surrogate)"),
        (r'{"text": "a", "title": "\udc00"}', "has half a character (a lone surrogate)"),
    ],
)
def test_broken_records_are_complained_of_and_the_others_read(tmp_path: Path, line: str, why: str) -> None:
    if "1" * 5000 in line and not hasattr(sys, "set_int_max_str_digits"):
        pytest.skip("this Python reads integers of any length")
    done = Read(lines(tmp_path / "a.jsonl", {"text": "first"}, line, {"text": "third"}))
    assert done.documents == [("1", "", "first"), ("3", "", "third")]
    assert len(done.complaints) == 1
    assert done.complaints[0].startswith(f"line 2: {why}")


def test_lines_in_another_encoding_are_complained_of_unless_it_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b'{"text": "a"}\n{"text": "caf\xe9"}\n{"text": "c"}\n')
    done = Read(path)
    assert done.documents == [("1", "", "a"), ("3", "", "c")]
    assert done.complaints == ["line 2: is no text in UTF-8"]
    assert Read(path, Reading(encoding="latin-1")).documents[1] == ("2", "", "café")


def test_escaped_pairs_of_surrogates_are_characters(tmp_path: Path) -> None:
    assert Read(write(tmp_path / "a.jsonl", r'{"text": "\ud83d\ude00"}')).documents == [("1", "", "😀")]


def test_a_line_that_is_too_long_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_LONGEST_LINE", 1000)
    long = {"text": "a" * 1000}
    done = Read(lines(tmp_path / "a.jsonl", {"text": "a" * 900}, long, {"text": "c"}, long))
    assert [id_ for id_, _, _ in done.documents] == ["1", "3"]
    assert done.complaints == [f"line {number}: is longer than 1,000 characters" for number in (2, 4)]


@pytest.mark.long
def test_a_line_that_is_too_long_is_never_held_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "')
        for _ in range(160):
            file.write(b"a" * (1 << 20))
        file.write(b'"}\n{"text": "b"}\n')
    tracemalloc.start()
    try:
        done = Read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert done.documents == [("2", "", "b")]
    assert len(done.complaints) == 1
    assert peak < 80 << 20


def test_complaints_are_warnings_unless_they_are_taken(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="line 1: is no JSON"):
        assert len(list(read(write(tmp_path / "a.jsonl", '{\n{"text": "a"}'), PLAIN))) == 1


def test_json_lines_whose_records_are_all_broken_are_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", "{", "", {"body": "a"})
    assert unreadable(path) == "has no record that can be read, of 2"
    assert Read(path, Reading(text_field="body")).complaints == [
        "line 1: is no JSON: Expecting property name enclosed in double quotes (column 2)"
    ]
