"""HTML: blocks, tables, entities, encodings, and what is hidden."""

from __future__ import annotations

import codecs
import contextlib
from pathlib import Path

import pytest

from dynamic_tinybert.corpus.errors import UnreadableError
from dynamic_tinybert.corpus.formats import Reading
from dynamic_tinybert.corpus.formats import docx as word
from dynamic_tinybert.corpus.formats import html as html_format
from support.formats import PLAIN, Read, docx, html, paragraph, unreadable, write
from support.hostile import HEADS_WITHOUT_END


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
        ("l5", "cp1254", "“Kule” ğ"),
        ("koi8", "koi8-r", "Башня"),
        ("x-x-big5", "big5hkscs", "東京"),
        ("windows-949", "cp949", "도쿄 똠"),
        ("hz-gb-2312", "hz", "北京"),
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
        assert done.complaints == [f"has bytes that are not text in {name}"]
        assert "Paris" in done.documents[0][2]


@pytest.mark.parametrize("head", HEADS_WITHOUT_END, ids=lambda head: repr(head[:14]))
def test_a_head_without_end_takes_no_time(tmp_path: Path, head: bytes) -> None:
    with contextlib.suppress(UnreadableError):
        Read(write(tmp_path / "a.html", head))


def test_a_name_or_a_property_declares_no_encoding(tmp_path: Path) -> None:
    page = html("Café", "<meta name=x content='charset=koi8-r'><meta charset='iso-8859-1'>").encode("cp1252")
    assert Read(write(tmp_path / "a.html", page)).only[1].strip() == "Café"
    page = b"<?xml version='1.0' encoding='iso-8859-1'?><p>Caf\xe9</p>"
    assert Read(write(tmp_path / "a.html", page)).only[1].strip() == "Café"


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
        "dialog open",
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


@pytest.mark.parametrize(
    "hidden",
    [
        "<template>no</template>",
        "<template><p>no<table><tr><td>no</table></template>",
        "<noscript>no</noscript>",
        "<dialog>no<b>no</b></dialog>",
        "<iframe src=x>no</iframe>",
        "<object data=x><p>no</object>",
        "<video src=x>no <a href=y>no</a></video>",
        "<audio controls>no</audio>",
        "<canvas>no</canvas>",
        "<datalist><option>no</datalist>",
        "<i style='color: red; visibility: hidden'>no<b>no</b></i>",
        "<i style='visibility:collapse'>no</i>",
        "<i hidden>no</i>",
        "<ul hidden><li>no</ul>",
    ],
)
def test_elements_that_a_browser_does_not_show_are_left_out(tmp_path: Path, hidden: str) -> None:
    assert Read(write(tmp_path / "a.html", html(f"a {hidden} b"))).only[1].split() == ["a", "b"]
    table = f"<table><tr><td>a<td>{hidden}<tr><td>b</table>"
    assert Read(write(tmp_path / "a.html", html(table))).only[1].split() == ["a", "b"]


def test_what_a_browser_shows_or_finds_is_kept(tmp_path: Path) -> None:
    shown = (
        "<dialog open>one</dialog>",
        "<details><summary>two</summary>three</details>",
        "<div style='visibility: hidden'>no<b style='visibility: visible'>four</b>no</div>",
        "<p hidden=until-found>five</p>",
        "<object>six</object>",
        "<div style='content-visibility: hidden; backface-visibility: hidden; x-display: none'>seven</div>",
        "<select><option>eight</select>",
        "<template shadowrootmode=open>nine</template>",
        "<dialog style='display: block'>ten</dialog>",
        "<p hidden style='display: flex'>eleven</p>",
    )
    assert Read(write(tmp_path / "a.html", html("".join(shown)))).only[1].split() == (
        ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]
    )


def test_invisible_text_takes_its_place(tmp_path: Path) -> None:
    page = html("a<i style='visibility: hidden'>no</i>b")
    assert Read(write(tmp_path / "a.html", page)).only[1].strip() == "a b"


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("<pre><code>if a:\n    b\n\n<b>c</b>  d</code></pre>", "if a:\n    b\n\nc  d"),
        ("<pre>\n<span>a\n</span><span> b\n</span></pre>", "a\n b\n"),
        ("<textarea>\n one\n  two</textarea>", " one\n  two"),
        ("<div style='white-space: pre-wrap'>one\n<i>two\nthree</i></div>", "one\ntwo\nthree"),
        ("<pre style='white-space: normal'>one\n<i>two\nthree</i></pre>", "one two three"),
        ("<table><tr><td><pre><code>one\n two</code></pre></table>", "one\n two"),
        ("x<pre><code>a&amp;lt;\x01\n  b</code></pre>", "x\na&lt; \n  b"),
    ],
)
def test_preformatted_text_keeps_its_lines(tmp_path: Path, source: str, shown: str) -> None:
    assert Read(write(tmp_path / "a.html", html(source))).only[1].strip("\n") == shown.strip("\n")


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("<ol><li>a<li>b</ol>", "1. a 2. b"),
        ("<ol start=3><li>a<li>b</ol>", "3. a 4. b"),
        ("<ol start=-1><li>a<li>b<li>c</ol>", "-1. a 0. b 1. c"),
        ("<ol reversed><li>a<li hidden>no<li>b</ol>", "2. a 1. b"),
        ("<ol reversed start=9><li>a<li>b</ol>", "9. a 8. b"),
        ("<ol type=a><li>a<li>b<li value=28>c</ol>", "a. a b. b ab. c"),
        ("<ol type=A start=26><li>a<li>b</ol>", "Z. a AA. b"),
        ("<ol type=i start=3><li>a<li>b<li value=0>c</ol>", "iii. a iv. b 0. c"),
        ("<ol type=I><li value=1994>a<li type=1>b</ol>", "MCMXCIV. a 1995. b"),
        ("<ol><li value=7>a<li>b<ul><li>c</ul><li>d</ol>", "7. a 8. b + c 9. d"),
        ("<ol><li>a<ol type=a><li>b<li>c</ol><li>d</ol>", "1. a a. b b. c 2. d"),
        ("<ol start=x><li value=99999999999999999999>a<li value=' 5x'>b</ol>", "1. a 5. b"),
        ("<ul><li value=5>a</ul><li>b<menu><li>c</menu>", "* a * b * c"),
        ("<ol><li data-mark='x'>a<p data-mark='y'>b</ol>", "1. a b"),
    ],
)
def test_the_items_of_a_list_have_the_marks_that_a_browser_shows(tmp_path: Path, source: str, shown: str) -> None:
    assert " ".join(Read(write(tmp_path / "a.html", html(source))).only[1].split()) == shown


def test_lengths_in_styles_do_not_fill_the_memory(tmp_path: Path) -> None:
    page = html("<p style='margin-top: 99999em; padding-left: 99999em; display\x0c: none'>text</p>" * 9)
    assert len(Read(write(tmp_path / "a.html", page)).only[1]) < 100


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


@pytest.mark.slow
def test_tables_take_no_more_than_their_text(tmp_path: Path) -> None:
    page = html("<table>" + "<tr><td>a<td>b" * 8000 + f"<tr><td>{'x' * 10_000}<td>{'y' * 10_000}</table>")
    assert len(Read(write(tmp_path / "a.html", page)).only[1]) < 80_000
    for depth in (1, 150):
        page = html("<table><tr><td>" * depth + "x" * 10_000 + "</table>" * depth)
        assert len(Read(write(tmp_path / "a.html", page)).only[1]) < 11_000


def test_a_file_that_does_not_fit_in_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(markup: str, **options: object) -> None:
        raise MemoryError

    for module in (html_format, word):
        monkeypatch.setattr(module, "rendered", fill)
    for path in (write(tmp_path / "a.html", "text"), docx(tmp_path / "a.docx", paragraph("text"))):
        assert unreadable(path) == "is too large for the memory there is"


@pytest.mark.parametrize("content", ["text & more", "<p>text", "<b><i>text</b></i>", "</div>text<", "<p a='text"])
def test_html_that_is_wrong_is_read_as_far_as_it_goes(tmp_path: Path, content: str) -> None:
    assert "text" in Read(write(tmp_path / "a.html", content)).only[1] or content.startswith("<p a")


def test_html_nested_too_deep_is_refused(tmp_path: Path) -> None:
    assert Read(write(tmp_path / "a.html", "<div>" * 200 + "deep")).only[1].strip() == "deep"
    for tag in ("<div>", "<b>", "<table><tr><td>", "<ul><li>"):
        assert "nested too deep" in unreadable(write(tmp_path / "a.html", tag * 10_000 + "deep"))


@pytest.mark.slow
def test_a_long_paragraph_of_html_is_read_whole(tmp_path: Path) -> None:
    text = Read(write(tmp_path / "a.html", "<p>" + "tower " * 2_000_000 + "</p><p>end")).only[1]
    assert text.count("tower") == 2_000_000
    assert text.rstrip().endswith("end")


def test_html_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html_format, "_LARGEST_HTML", 1 << 20)
    assert "too large" in unreadable(write(tmp_path / "a.html", b"a" * ((1 << 20) + 1)))
    assert len(Read(write(tmp_path / "a.html", b"a" * (1 << 20))).only[1].strip()) == 1 << 20


ARTICLE = "<article><header>By Ada</header><p>The tower stands in Paris.</p><footer>1889</footer></article>"


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (f"<nav>Menu</nav><div><main>{ARTICLE}</main> after</div><footer>Imprint</footer>", "By Ada The tower 1889"),
        (f"Menu<div role=main>{ARTICLE}<nav>Contents</nav></div>", "By Ada The tower 1889 Contents"),
        (f"<main hidden>old</main><main>{ARTICLE}</main>Menu", "By Ada The tower 1889"),
        (f"<div hidden><main>Loading</main></div><article>{ARTICLE}</article>", "By Ada The tower 1889"),
        (f"<main><script>x</script></main>{ARTICLE}", "By Ada The tower 1889"),
        (f"<main style='display:none'>old</main>{ARTICLE}", "By Ada The tower 1889"),
        (f"<header>{ARTICLE}</header><script>x</script>", "By Ada The tower 1889"),
        (f"<div role=main>Menu<main>{ARTICLE}</main></div>Imprint", "Menu By Ada The tower 1889"),
        (f"<main></main><header>Site</header>{ARTICLE}<footer>Imprint</footer> end", "By Ada The tower 1889 end"),
        (f"<main>One</main><nav>Menu</nav><main>{ARTICLE}</main>", "One By Ada The tower 1889"),
        (f"<div role=navigation>Menu <nav>Sub</nav></div>{ARTICLE}<search>Find</search>", "By Ada The tower 1889"),
        (f"<div class=nav>Menu</div>{ARTICLE}", "Menu By Ada The tower 1889"),
        ("<nav>Only <b>links</b></nav><footer>and more</footer>", "Only links and more"),
        (f"<nav>Menu</nav><table><tr><td>{ARTICLE}<td><aside>Box</aside></table>", "By Ada The tower 1889 Box"),
    ],
)
def test_the_main_content_is_what_the_page_marks(tmp_path: Path, body: str, shown: str) -> None:
    path = write(tmp_path / "a.html", html(body, "<title>Towers</title>"))
    title, text = Read(path, Reading(html="main")).only
    words = text.replace("stands in Paris.", "").split()
    assert (title, words) == ("Towers", shown.split())
    assert set(words) <= set(Read(path).only[1].split())


@pytest.mark.parametrize("page", ["", "text", "<main>", "<body role=main>text", "<frameset>", "<nav>" * 200 + "text"])
def test_the_main_content_of_odd_pages_is_the_text_there_is(tmp_path: Path, page: str) -> None:
    path = write(tmp_path / "a.html", page)
    assert Read(path, Reading(html="main")).only == Read(path).only


def test_the_main_content_of_many_marks_takes_no_time(tmp_path: Path) -> None:
    for tag in ("<main>", "<nav>", "<header>", "<main>text</main>"):
        with contextlib.suppress(UnreadableError):
            Read(write(tmp_path / "a.html", tag * 10_000 + "text"), Reading(html="main"))


def test_references_to_other_files_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "secret.txt", "secret")
    page = '<!DOCTYPE html [<!ENTITY x SYSTEM "secret.txt">]><p>&x; <iframe src="secret.txt"></iframe>'
    assert "secret\n" not in Read(write(tmp_path / "a.html", page)).only[1]
