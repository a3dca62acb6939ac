"""Word documents: paragraphs, tables, and archives that are none."""

from __future__ import annotations

import contextlib
import html
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dynamic_tinybert.corpus.errors import UnreadableError
from dynamic_tinybert.corpus.formats import docx as word
from support.formats import Read, W, docx, paragraph, unreadable, write
from support.hostile import DEEP_TABLE, LAUGHS


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
        (lambda path: docx(path, DEEP_TABLE), "nested too deep"),
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


STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main"
WPS = "http://schemas.microsoft.com/office/word/2010/wordprocessingShape"
MC = "http://schemas.openxmlformats.org/markup-compatibility/2006"
DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"
DIAGRAM = f"{DRAWING.removesuffix('main')}diagram"
MATH = "http://schemas.openxmlformats.org/officeDocument/2006/math"


def run(text: str, properties: str = "") -> str:
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def text_of(path: Path, body: str, **more: str) -> str:
    """The text of a document, without empty lines and indents."""
    parts = {f"word/{name}.xml": f'<w:{name} xmlns:w="{W}">{content}</w:{name}>' for name, content in more.items()}
    lines = Read(docx(path / "a.docx", body, more=parts)).only[1].splitlines()
    return "\n".join(line.strip() for line in lines if line.strip())


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (f"<w:fldSimple w:instr='PAGE'>{run('one')}</w:fldSimple>", "one"),
        (f"<w:smartTag><w:smartTagPr/>{run('one')}</w:smartTag>", "one"),
        (f"<w:customXml><w:bdo w:val='rtl'>{run('one')}</w:bdo></w:customXml><w:dir>{run(' two')}</w:dir>", "one two"),
        (f"<w:sdt><w:sdtPr><w:alias/></w:sdtPr><w:sdtContent>{run('one')}</w:sdtContent></w:sdt>", "one"),
        (f"<w:ins>{run('one')}</w:ins><w:moveTo>{run(' two')}</w:moveTo>", "one two"),
        (f"{run('one')}<w:del><w:r><w:delText>no</w:delText></w:r></w:del><w:moveFrom>{run('no')}</w:moveFrom>", "one"),
        (f"<w:hyperlink r:id='rId9' xmlns:r='x'>{run('one')}</w:hyperlink>", "one"),
        (f"<w:someday>{run('one')}</w:someday><w:permStart/><w:permEnd/><w:proofErr/>", "one"),
        (f"<w:r><w:ruby><w:rubyPr/><w:rt>{run('とう')}</w:rt><w:rubyBase>{run('東')}</w:rubyBase></w:ruby></w:r>",
         "東(とう)"),
        ("<w:r><w:t>one</w:t><w:br/><w:t>two</w:t><w:cr/><w:t>three</w:t></w:r>", "one\ntwo\nthree"),
        ("<w:r><w:t>one</w:t><w:br w:type='page'/><w:t>two</w:t></w:r>", "one\ntwo"),
        ("<w:r><w:t>one</w:t><w:br w:type='column'/><w:t>two</w:t></w:r>", "one\ntwo"),
        ("<w:r><w:t>one</w:t><w:tab/><w:t>two</w:t><w:ptab/><w:t>three</w:t></w:r>", "one two three"),
        ("<w:r><w:t>o</w:t><w:lastRenderedPageBreak/><w:t>ne</w:t></w:r>", "one"),
        ("<w:r><w:t>COVID</w:t><w:noBreakHyphen/><w:t>1 in</w:t><w:softHyphen/><w:t>put</w:t></w:r>", "COVID-1 input"),
        ("<w:r><w:sym w:font='Symbol' w:char='F061'/><w:sym w:font='Arial' w:char='00E9'/></w:r>", "αé"),
        ("<w:r><w:sym w:font='Wingdings' w:char='F0FE'/></w:r>", "🗹"),
        (run("one") + run("no", "<w:vanish/>") + run(" two", "<w:vanish w:val='0'/>"), "one two"),
        (run("no", "<w:vanish w:val='true'/>") + run("one", "<w:webHidden/>"), "one"),
        (f"<w:pPr><w:tabs><w:tab w:val='left'/></w:tabs></w:pPr>{run('one')}", "one"),
        ("<w:r><w:fldChar w:fldCharType='begin'><w:ffData><w:checkBox><w:default w:val='0'/><w:checked/></w:checkBox>"
         f"</w:ffData></w:fldChar><w:instrText>FORMCHECKBOX</w:instrText></w:r>{run(' one')}", "☒ one"),
        ("<w:r><w:fldChar><w:ffData><w:ddList><w:result w:val='1'/><w:listEntry w:val='a'/><w:listEntry w:val='b'/>"
         "</w:ddList></w:ffData></w:fldChar></w:r>", "b"),
        ("<w:sdt><w:sdtPr><x:checkbox xmlns:x='http://schemas.microsoft.com/office/word/2010/wordml'/></w:sdtPr>"
         f"<w:sdtContent>{run('☐')}</w:sdtContent></w:sdt>{run(' one')}", "☐ one"),
    ],
)  # fmt: skip
def test_all_text_that_word_shows_is_read(tmp_path: Path, content: str, shown: str) -> None:
    assert text_of(tmp_path, f"<w:p>{content}</w:p>") == shown
    assert text_of(tmp_path, f"<w:tbl><w:tr><w:tc><w:p>{content}</w:p></w:tc></w:tr></w:tbl>") == shown
    notes = f"<w:footnote w:id='2'><w:p>{content}</w:p></w:footnote>"
    reference = f"<w:p>{run('text')}<w:r><w:footnoteReference w:id='2'/></w:r></w:p>"
    assert text_of(tmp_path, reference, footnotes=notes) == f"text[1]\n1. {shown}"


def test_text_hidden_by_a_style_is_left_out(tmp_path: Path) -> None:
    styles = (
        "<w:style w:styleId='Secret'><w:rPr><w:vanish/></w:rPr></w:style>"
        "<w:style w:styleId='Below'><w:basedOn w:val='Secret'/></w:style>"
        "<w:style w:styleId='Shown'><w:basedOn w:val='Loop'/><w:rPr><w:vanish w:val='0'/></w:rPr></w:style>"
        "<w:style w:styleId='Loop'><w:basedOn w:val='Loop'/></w:style>"
    )
    below, loop, shown = (run(text, f"<w:rStyle w:val='{name}'/>") for text, name in
                          (("no", "Below"), ("", "Loop"), ("two", "Shown")))  # fmt: skip
    hidden = f"<w:p><w:pPr><w:pStyle w:val='Secret'/></w:pPr>{run('no')}{shown}</w:p>"
    body = f"<w:p>{run('one')}{below}{loop}</w:p>"
    assert text_of(tmp_path, body + hidden, styles=styles) == "one\ntwo"


@pytest.mark.parametrize(
    "wrapped",
    [
        "<mc:AlternateContent><mc:Choice>{drawing}</mc:Choice><mc:Fallback>{picture}</mc:Fallback></mc:AlternateContent>",
        "<mc:AlternateContent><mc:Choice>{drawing}</mc:Choice></mc:AlternateContent>",
        "<mc:AlternateContent><mc:Choice/><mc:Choice/><mc:Fallback>{picture}</mc:Fallback></mc:AlternateContent>",
        "{drawing}",
        "{picture}",
    ],
)
def test_a_text_box_is_read_once_after_its_paragraph(tmp_path: Path, wrapped: str) -> None:
    box = f"<w:txbxContent>{paragraph('box')}{paragraph('end')}</w:txbxContent>"
    drawing = f"<w:drawing><x xmlns=''><s:wsp xmlns:s='{WPS}'><s:txbx>{box}</s:txbx></s:wsp></x></w:drawing>"
    picture = f"<w:pict><v:oval xmlns:v='urn:schemas-microsoft-com:vml'><v:textbox>{box}</v:textbox></v:oval></w:pict>"
    content = wrapped.format(drawing=drawing, picture=picture)
    body = f"<w:p xmlns:mc='{MC}'>{run('before ')}<w:r>{content}</w:r>{run('after')}</w:p>{paragraph('next')}"
    assert text_of(tmp_path, body) == "before after\nbox\nend\nnext"


def test_other_ways_to_write_text_are_read(tmp_path: Path) -> None:
    emoji = "<mc:Choice><x xmlns=''/></mc:Choice><mc:Fallback><w:t>😀</w:t></mc:Fallback>"
    emoji = f"<mc:AlternateContent xmlns:mc='{MC}'>{emoji}</mc:AlternateContent>"
    assert text_of(tmp_path, f"<w:p><w:r>{emoji}</w:r></w:p>") == "😀"
    art = "<v:shape xmlns:v='urn:schemas-microsoft-com:vml'><v:textpath string='A &amp;lt; B'/></v:shape>"
    assert text_of(tmp_path, f"<w:p><w:r><w:pict>{art}</w:pict></w:r></w:p>") == "A &lt; B"
    shape = f"<a:txBody xmlns:a='{DRAWING}'><a:p><a:r><a:t>one</a:t></a:r></a:p></a:txBody>"
    assert text_of(tmp_path, f"<w:p><w:r><w:drawing>{shape}</w:drawing></w:r></w:p>") == "one"


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("<m:r><m:t>E=m</m:t></m:r><m:sSup><m:e><m:r><m:t>c</m:t></m:r></m:e><m:sup><m:r><m:t>2</m:t></m:r></m:sup></m:sSup>",
         "E=mc^2"),
        ("<m:f><m:num><m:r><m:t>a+b</m:t></m:r></m:num><m:den><m:r><m:t>2</m:t></m:r></m:den></m:f>", "(a+b)/2"),
        ("<m:rad><m:radPr/><m:deg/><m:e><m:r><m:t>a&lt;b</m:t></m:r></m:e></m:rad>", "√(a<b)"),
        ("<m:d><m:dPr><m:begChr m:val='['/></m:dPr><m:e><m:r><m:t>x</m:t></m:r></m:e></m:d>", "[x)"),
        ("<m:nary><m:naryPr><m:chr m:val='∑'/></m:naryPr><m:sub><m:r><m:t>i</m:t></m:r></m:sub><m:sup/><m:e><m:r>"
         "<m:t>x</m:t></m:r></m:e></m:nary>", "∑_ix"),
        ("<m:r/>", ""),
    ],
)  # fmt: skip
def test_formulas_are_written_on_one_line(tmp_path: Path, content: str, shown: str) -> None:
    formula = f"<m:oMathPara xmlns:m='{MATH}'><m:oMath>{content}</m:oMath></m:oMathPara>"
    body = f"<w:p>{run('is ')}{formula}{run(' so')}</w:p>"
    assert text_of(tmp_path, body) == f"is {shown} so".replace("  ", " ")


def level(index: int, form: str = "decimal", text: str | None = None, more: str = "", start: int = 1) -> str:
    label = f"%{index + 1}." if text is None else text
    return (
        f"<w:lvl w:ilvl='{index}'><w:start w:val='{start}'/><w:numFmt w:val='{form}'/>{more}"
        f"<w:lvlText w:val='{label}'/></w:lvl>"
    )


def item(number: int, index: int, text: str = "x", style: str = "") -> str:
    numbered = f"<w:numPr><w:ilvl w:val='{index}'/><w:numId w:val='{number}'/></w:numPr>"
    return f"<w:p><w:pPr>{style}{numbered}</w:pPr>{run(text)}</w:p>"


BULLET = "\uf0b7"
UNBROKEN = "<w:suff w:val='nothing'/><w:lvlRestart w:val='0'/>"
HEADINGS = [f"<w:pStyle w:val='Heading{number}'/>" for number in (1, 2)]
LISTS = (
    f"<w:abstractNum w:abstractNumId='0'>{level(0)}{level(1, 'lowerLetter', '%2)')}{level(2, 'decimal', '%1.%2.%3')}"
    f"{level(3, 'decimal', '%1.%2.%4', '<w:isLgl/>')}</w:abstractNum>"
    f"<w:abstractNum w:abstractNumId='1'>{level(0, 'upperRoman', 'Article %1:', start=4)}"
    f"{level(1, 'decimalZero', '§ %2', UNBROKEN)}</w:abstractNum>"
    f"<w:abstractNum w:abstractNumId='2'>{level(0, 'bullet', BULLET)}{level(1, 'bullet', 'o')}</w:abstractNum>"
    f"<w:abstractNum w:abstractNumId='3'>{level(0, more=HEADINGS[0], text='%1')}"
    f"{level(1, more=HEADINGS[1], text='%1.%2')}</w:abstractNum>"
    "<w:num w:numId='1'><w:abstractNumId w:val='0'/></w:num><w:num w:numId='2'><w:abstractNumId w:val='0'/></w:num>"
    "<w:num w:numId='3'><w:abstractNumId w:val='0'/><w:lvlOverride w:ilvl='0'><w:startOverride w:val='7'/>"
    "</w:lvlOverride></w:num><w:num w:numId='4'><w:abstractNumId w:val='1'/></w:num>"
    "<w:num w:numId='5'><w:abstractNumId w:val='2'/></w:num><w:num w:numId='6'><w:abstractNumId w:val='3'/></w:num>"
    "<w:num w:numId='7'><w:abstractNumId w:val='99'/></w:num>"
)
STYLES = (
    "<w:style w:styleId='Heading1'><w:name w:val='heading 1'/><w:pPr><w:numPr><w:numId w:val='6'/></w:numPr></w:pPr>"
    "</w:style><w:style w:styleId='Heading2'><w:basedOn w:val='Heading1'/><w:pPr><w:numPr><w:ilvl w:val='1'/></w:numPr>"
    "</w:pPr></w:style>"
)


def heading(style: str, more: str = "") -> str:
    return f"<w:p><w:pPr><w:pStyle w:val='{style}'/>{more}</w:pPr>{run('x')}</w:p>"


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (item(1, 0) + item(1, 0), "1. x|2. x"),
        (item(1, 0) + paragraph("between") + item(1, 0), "1. x|between|2. x"),
        (item(1, 0) + item(2, 0), "1. x|2. x"),
        (item(1, 0) + item(3, 0) + item(3, 0) + item(1, 0), "1. x|7. x|8. x|9. x"),
        (item(1, 0) + item(1, 1) + item(1, 1) + item(1, 0) + item(1, 1), "1. x|a) x|b) x|2. x|a) x"),
        (item(1, 2) + item(1, 3) + item(1, 2), "1.a.1 x|1.1.1 x|1.a.2 x"),
        (item(4, 0) + item(4, 1) + item(4, 0) + item(4, 1), "Article IV: x|§ 01x|Article V: x|§ 02x"),
        (item(5, 0) + item(5, 1) + item(5, 0), "* x|+ x|* x"),
        (heading("Heading1") + heading("Heading2") + heading("Heading2") + heading("Heading1"), "1 x|1.1 x|1.2 x|2 x"),
        (heading("Heading1", "<w:numPr><w:numId w:val='0'/></w:numPr>") + heading("Heading1"), "x|1 x"),
        (item(7, 0) + item(8, 0) + item(1, 8), "x|x|x"),
        (item(1, 0) + f"<w:tbl><w:tr><w:tc>{item(1, 0)}</w:tc><w:tc>{item(1, 0)}</w:tc></w:tr></w:tbl>",
         "1. x|2. x      3. x"),
        (item(1, 0) + item(1, 0, "") + item(1, 0), "1. x|2.|3. x"),
    ],
)  # fmt: skip
def test_lists_and_headings_have_the_numbers_that_word_shows(tmp_path: Path, body: str, shown: str) -> None:
    assert text_of(tmp_path, body, numbering=LISTS, styles=STYLES) == shown.replace("|", "\n")


def test_a_long_list_counts_as_word_does(tmp_path: Path) -> None:
    numbering = (
        f"<w:abstractNum w:abstractNumId='0'>{level(0, 'upperLetter')}</w:abstractNum>"
        f"<w:abstractNum w:abstractNumId='1'>{level(0, 'ordinal', '%1')}</w:abstractNum>"
        "<w:num w:numId='1'><w:abstractNumId w:val='0'/></w:num><w:num w:numId='2'><w:abstractNumId w:val='1'/></w:num>"
    )
    lines = text_of(tmp_path, item(1, 0) * 28 + item(2, 0) * 22, numbering=numbering).splitlines()
    assert [lines[25], lines[26], lines[27]] == ["Z. x", "AA. x", "BB. x"]
    assert [lines[28], lines[29], lines[38], lines[49]] == ["1st x", "2nd x", "11th x", "22nd x"]


def test_a_list_without_details_counts_from_one(tmp_path: Path) -> None:
    numbering = (
        "<w:abstractNum w:abstractNumId='0'><w:lvl w:ilvl='0'/></w:abstractNum>"
        "<w:num w:numId='1'><w:abstractNumId w:val='0'/></w:num>"
    )
    assert text_of(tmp_path, item(1, 0) * 2, numbering=numbering) == "1. x\n2. x"


def test_deleted_ends_rows_and_cells_are_not_shown(tmp_path: Path) -> None:
    deleted = f"<w:p><w:pPr><w:rPr><w:del/></w:rPr></w:pPr>{run('one ')}</w:p>"
    assert text_of(tmp_path, deleted * 2 + paragraph("two")) == "one one two"
    assert text_of(tmp_path, deleted) == "one"
    cell = f"<w:tc>{paragraph('cell')}</w:tc>"
    gone = f"<w:tc><w:tcPr><w:cellDel/></w:tcPr>{paragraph('no')}</w:tc>"
    merged = f"<w:tc><w:tcPr><w:vMerge/></w:tcPr>{paragraph('no')}</w:tc>"
    table = f"<w:tbl><w:tr><w:trPr><w:del/></w:trPr>{cell}</w:tr><w:tr>{cell}{gone}{merged}</w:tr></w:tbl>"
    assert text_of(tmp_path, deleted + table) == "one\ncell"


def test_a_heading_within_a_line_keeps_its_number(tmp_path: Path) -> None:
    mark = "<w:numPr><w:numId w:val='6'/></w:numPr><w:rPr><w:vanish/><w:specVanish/></w:rPr>"
    body = f"<w:p><w:pPr>{mark}</w:pPr>{run('Scope. ')}</w:p>{paragraph('This law is for all.')}"
    assert text_of(tmp_path, body, numbering=LISTS) == "1 Scope. This law is for all."


def test_notes_have_their_numbers(tmp_path: Path) -> None:
    def note(kind: str, name: str, text: str) -> str:
        return f"<w:{kind} w:id='{name}'>{paragraph(text)}</w:{kind}>"

    references = "".join(
        f"<w:p>{run(text)}<w:r><w:{kind}Reference w:id='{name}'/></w:r></w:p>"
        for text, kind, name in
        (("a", "endnote", "3"), ("b", "footnote", "3"), ("c", "footnote", "9"), ("d", "endnote", "3"))
    )  # fmt: skip
    foot, end = note("footnote", "3", "foot") + note("footnote", "4", "no"), note("endnote", "3", "end")
    shown = text_of(tmp_path, references, footnotes=foot, endnotes=end)
    assert shown.split() == ["a[1]", "b[2]", "c[3]", "d[1]", "1.", "end", "2.", "foot"]


def test_parts_are_found_by_their_relations(tmp_path: Path) -> None:
    kind = "http://purl.oclc.org/ooxml/officeDocument/relationships/"
    rels = "<Relationships xmlns='http://schemas.openxmlformats.org/package/2006/relationships'>{}</Relationships>"
    more = {
        "_rels/.rels": rels.format(f"<Relationship Type='{kind}officeDocument' Target='/other/main.xml'/>"),
        "other/_rels/main.xml.rels": rels.format(f"<Relationship Type='{kind}numbering' Target='../lists.xml'/>"),
        "other/main.xml": f"<w:document xmlns:w='{STRICT}'>{item(1, 0)}</w:document>",
        "lists.xml": f"<w:numbering xmlns:w='{STRICT}'>{LISTS}</w:numbering>",
    }
    assert Read(docx(tmp_path / "a.docx", paragraph("no"), more=more)).only[1].strip() == "1. x"


def test_the_text_of_a_diagram_is_read_once(tmp_path: Path) -> None:
    points = "".join(
        f"<d:pt><d:t><a:p><a:r><a:t>{text}</a:t></a:r></a:p></d:t></d:pt>" for text in ("one &amp;", "two")
    )
    relation = "<Relationship Id='rId5' Type='x/diagramData' Target='diagrams/data1.xml'/>"
    more = {
        "word/_rels/document.xml.rels": f"<Relationships xmlns='x'>{relation}</Relationships>",
        "word/diagrams/data1.xml": f"<d:dataModel xmlns:d='{DIAGRAM}' xmlns:a='{DRAWING}'>{points}</d:dataModel>",
    }
    drawing = f"<w:r><w:drawing><d:relIds xmlns:d='{DIAGRAM}' r:dm='rId5' xmlns:r='y'/></w:drawing></w:r>"
    path = docx(
        tmp_path / "a.docx", f"<w:p>{drawing}{run('before')}</w:p><w:p>{run('after')}{drawing}</w:p>", more=more
    )
    assert Read(path).only[1].split() == ["before", "one", "&", "two", "after"]


def test_only_text_that_is_lost_is_complained_of(tmp_path: Path) -> None:
    diagram = f"<x:relIds xmlns:x='{DIAGRAM}'/>"
    symbol = "<w:r><w:sym w:font='Own' w:char='F041'/></w:r>"
    lost = f"<w:p><w:r><w:drawing>{diagram}</w:drawing></w:r>{symbol}{symbol}</w:p><w:altChunk/>"
    done = Read(docx(tmp_path / "a.docx", paragraph("kept") + lost))
    assert done.complaints == ["left out: a diagram", "left out: w:sym", "left out: w:altChunk"]
    assert done.documents[0][2].strip() == "kept"


def test_many_empty_paragraphs_take_no_time(tmp_path: Path) -> None:
    begin = time.process_time()
    assert text_of(tmp_path, paragraph("a") + "<w:p/>" * 100_000 + paragraph("b")) == "a\nb"
    assert time.process_time() - begin < 3


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
    assert "DOCTYPE" in unreadable(docx(tmp_path / "b.docx", paragraph("&a9;"), doctype=LAUGHS))
    for part in ("word/numbering.xml", "word/styles.xml", "word/_rels/document.xml.rels", "word/footnotes.xml"):
        more = {part: f"{LAUGHS}<x/>"}
        assert "DOCTYPE" in unreadable(docx(tmp_path / "b.docx", paragraph("The tower"), more=more))
    core = {"docProps/core.xml": f'{LAUGHS}<c xmlns:d="http://purl.org/dc/elements/1.1/"><d:title>&a9;</d:title></c>'}
    assert Read(docx(tmp_path / "c.docx", paragraph("The tower"), more=core)).only == ("", "The tower\n")


def test_hidden_text_of_a_formula_is_left_out(tmp_path: Path) -> None:
    runs = "<m:r><w:rPr><w:vanish/></w:rPr><m:t>hidden</m:t></m:r><m:r><m:t>x+1</m:t></m:r>"
    assert text_of(tmp_path, f"<w:p>{run('Price ')}<m:oMath xmlns:m='{MATH}'>{runs}</m:oMath></w:p>") == "Price x+1"


@pytest.mark.parametrize("bracket", ["&lt;", "&lt;!--", "&lt;/p&gt;&lt;script&gt;"])
def test_brackets_of_a_formula_are_text(tmp_path: Path, bracket: str) -> None:
    inside = f"<m:d><m:dPr><m:begChr m:val='{bracket}'/></m:dPr><m:e><m:r><m:t>x</m:t></m:r></m:e></m:d>"
    body = f"<w:p><m:oMath xmlns:m='{MATH}'>{inside}</m:oMath></w:p>{paragraph('What follows stays.')}"
    assert text_of(tmp_path, body).split("\n") == [f"{html.unescape(bracket)}x)", "What follows stays."]


def test_a_long_comment_is_read_once(tmp_path: Path) -> None:
    """Older versions of expat read a token again with each piece of the file; this would take minutes."""
    path = docx(tmp_path / "a.docx", f"<!--{'x' * 30_000_000}-->{paragraph('One')}")
    assert Read(path).only[1].strip() == "One"


def test_a_ruby_of_many_parts_takes_no_time(tmp_path: Path) -> None:
    parts = "<w:rt><w:r><w:t>ab</w:t></w:r></w:rt>" * 100_000
    ruby = f"<w:ruby>{parts}<w:rubyBase><w:r><w:t>x</w:t></w:r></w:rubyBase></w:ruby>"
    assert text_of(tmp_path, f"<w:p><w:r>{ruby}</w:r></w:p>").count("ab") == 100_000
