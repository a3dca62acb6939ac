"""Documents from files: plain text, Markdown, HTML, PDF, Word and JSON Lines."""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import re
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, TypeAlias

from dynamic_tinybert.corpus.errors import UnreadableError
from dynamic_tinybert.errors import warn
from dynamic_tinybert.files.text import SURROGATE, NoTextError, UndecodableError, encodable, text_blocks

_VERSION = 2  # of the text that is read from a file; to be raised where that changes
_LONGEST_TITLE = 300
_LONGEST_HEADING = 1000  # characters of a line of Markdown that may be one
_LONGEST_LINE = 64 << 20  # characters of a line of JSON Lines
_LARGEST_HTML = 64 << 20  # bytes; as a tree, some 25 times as much
_LARGEST_ARCHIVE = 1 << 30  # bytes of all parts of a Word document, unpacked
_LARGEST_XML = 32 << 20  # bytes of those that are XML; as a tree, some 45 times as much
_PDFIUM = threading.RLock()  # PDFium is one for the process, and not for many threads at once

Complain: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How files are read.

    Attributes:
        text_field: The field of a JSON Lines record that holds the text. In "a.b", b is looked for in the object a,
            unless the record has a field of the name "a.b".
        title_field: The field that holds its title, if any.
        id_field: The field that holds its id, if any.
        encoding: The encoding of text files, HTML files that name none, and JSON Lines, where they have no byte order
            mark; None is UTF-8.

    Raises:
        ValueError: There is no such encoding.
    """

    text_field: str = "text"
    title_field: str = "title"
    id_field: str = "id"
    encoding: str | None = None

    def __post_init__(self) -> None:
        if self.encoding is not None and not _is_encoding(self.encoding):
            raise ValueError(f"there is no encoding {self.encoding!r}; there are, for example, latin-1 and gb18030")

    def signature(self, path: Path) -> str:
        """A short text that tells what is read from a file: it differs where an option differs that matters to it."""
        suffix = path.suffix.lower()
        encoding = codecs.lookup(self.encoding or "utf-8").name
        if suffix in (".pdf", ".docx"):
            return json.dumps([_VERSION])
        if suffix in (".jsonl", ".ndjson"):
            return json.dumps([_VERSION, encoding, self.text_field, self.title_field, self.id_field])
        return json.dumps([_VERSION, encoding])


@dataclass(frozen=True)
class Draft:
    """A document as a file gives it.

    Attributes:
        id: Its id in its file: of a JSON Lines record its own, or the number of its line, from 1; empty where the file
            is one document.
        title: Its title, on one line of 300 characters at the most; may be empty.
        blocks: Its text, in blocks of any size; to be consumed before the next draft is asked for. Can be encoded as
            UTF-8. Raises what `read` raises.
    """

    id: str
    title: str
    blocks: Iterator[str]


Kind: TypeAlias = Callable[[Path, Reading, Complain], Iterator[Draft]]


def is_readable(path: Path) -> bool:
    """Return whether a file is of a kind that is read, by its name."""
    return path.suffix.lower() in KINDS


def read(path: Path, reading: Reading, *, complain: Complain = warn) -> Iterator[Draft]:
    """Yield the documents of a file, in its order.

    Args:
        path: The file. The end of its name tells its kind.
        reading: How to read it.
        complain: Is told in a line, without the path, of each record or page that is left out because it is broken.

    Raises:
        UnreadableError: The file cannot be read as what its name says; also while the blocks of a draft are consumed.
        OSError: It cannot be opened or read.
        ImportError: The package that reads this kind is not installed.
    """
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise UnreadableError(f"is of no kind that is read, which are {', '.join(sorted(KINDS))}")
    yield from kind(path, reading, complain)


def _one_document(parts: Callable[[Path, Reading, Complain], Iterator[str]]) -> Kind:
    """Return the reader of a kind whose files are one document each; `parts` yields the title, then the text."""

    def drafts(path: Path, reading: Reading, complain: Complain) -> Iterator[Draft]:
        pieces = parts(path, reading, complain)
        title = encodable(next(pieces))
        yield Draft("", _one_line(title), map(encodable, pieces))

    return drafts


def _text(path: Path, reading: Reading, complain: Complain) -> Iterator[str]:
    with path.open("rb") as file:
        blocks = _decoded(file, reading.encoding)
        first = next(blocks, "")
        yield _heading(first) if path.suffix.lower() in _MARKDOWN else ""
        yield first
        yield from blocks


def _html(path: Path, reading: Reading, complain: Complain) -> Iterator[str]:
    with path.open("rb") as file:
        data = file.read(_LARGEST_HTML + 1)
    if len(data) > _LARGEST_HTML:
        raise UnreadableError(f"is too large: HTML is read up to {_LARGEST_HTML >> 20} MiB")
    with _broken("an HTML file"):
        title, text = _rendered(_markup(data, reading, complain))
    yield title
    yield text


def _pdf(path: Path, reading: Reading, complain: Complain) -> Iterator[str]:
    from pypdfium2 import PdfDocument, PdfiumError

    with path.open("rb") as file:
        try:
            with _PDFIUM:
                document = PdfDocument(file)
        except PdfiumError as error:
            locked = "password" in str(error).lower()
            raise UnreadableError("is a PDF behind a password" if locked else "is a broken PDF, or none") from None
        try:
            with _PDFIUM:
                title, pages = _pdf_title(document), len(document)
            yield title
            empty = True
            for number in range(pages):
                text = _page(document, number, complain)
                empty = empty and not text.strip()
                yield "\f" * (number > 0) + text
        finally:
            with _PDFIUM:
                document.close()
    if empty:
        raise UnreadableError("is a PDF without text: if its pages are scanned, they need OCR first")


def _pdf_title(document: Any) -> str:
    try:
        return str(document.get_metadata_value("Title"))
    except UnicodeDecodeError:
        return ""


def _page(document: Any, number: int, complain: Complain) -> str:
    """Return the text of a page, from 0, or an empty one where the page is broken."""
    from pypdfium2 import PdfiumError

    try:
        with _PDFIUM, contextlib.closing(document[number]) as page, contextlib.closing(page.get_textpage()) as content:
            text = str(content.get_text_bounded())
    except PdfiumError:
        complain(f"page {number + 1:,} is broken")
        return ""
    return _CONTROL.sub("", _PDF_HYPHEN.sub(_rejoined, text.replace("\r\n", "\n")))


def _rejoined(hyphen: re.Match[str]) -> str:
    """Return what stands for a hyphen at the end of a line: nothing within a word, itself in Jean-Paul or COVID-19."""
    following = hyphen.string[hyphen.end() : hyphen.end() + 1]
    return "" if following.islower() else "-"


def _docx(path: Path, reading: Reading, complain: Complain) -> Iterator[str]:
    import mammoth

    with path.open("rb") as file, _broken("a Word document"):
        title = _check_docx(file)
        file.seek(0)
        html = mammoth.convert_to_html(file, convert_image=lambda image: [], include_embedded_style_map=False)
        text = _rendered(html.value)[1]
    for element in dict.fromkeys(_left_out([message.message for message in html.messages])):
        complain(f"left out: {element}")
    yield title
    yield text


def _left_out(messages: list[str]) -> Iterator[str]:
    """Yield the names of the elements that mammoth says it left out, less those that hold no text."""
    for message in messages:
        left_out = _UNRECOGNISED.match(message)
        if left_out and not _TEXTLESS.fullmatch(left_out["local"]):
            yield left_out["name"]


def _check_docx(file: BinaryIO) -> str:
    """Return the title of a Word document that can be unpacked in the memory there is.

    Raises:
        UnreadableError: It is too large, or of another format.
    """
    if file.read(len(_OLE)) == _OLE:
        raise UnreadableError("is a Word document behind a password, or in Word's old format")
    with zipfile.ZipFile(file) as archive:
        if sum(part.file_size for part in archive.infolist()) > _LARGEST_ARCHIVE:
            raise UnreadableError(f"is too large: a Word document is read up to {_LARGEST_ARCHIVE >> 30} GiB, unpacked")
        if sum(part.file_size for part in archive.infolist() if _is_xml(archive, part)) > _LARGEST_XML:
            raise UnreadableError(f"is too large: a Word document is read up to {_LARGEST_XML >> 20} MiB of XML")
        return _docx_title(archive)


def _is_xml(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> bool:
    """Return whether a part may be XML, whatever its name."""
    with archive.open(part) as file:
        return file.read(512).lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n")[:1] in (b"", b"<")


def _docx_title(archive: zipfile.ZipFile) -> str:
    from lxml import etree

    try:
        core = etree.fromstring(archive.read("docProps/core.xml"), etree.XMLParser(resolve_entities=False))
    except (KeyError, etree.XMLSyntaxError):
        return ""
    return core.findtext("{http://purl.org/dc/elements/1.1/}title") or ""


def _rendered(markup: str) -> tuple[str, str]:
    """Return the title of HTML, and its text as a browser lays it out: blocks on lines, rows of tables too."""
    from inscriptis.css_profiles import CSS_PROFILES
    from inscriptis.html_engine import Inscriptis
    from inscriptis.html_properties import Display
    from inscriptis.model.config import ParserConfig
    from inscriptis.model.html_element import HtmlElement
    from inscriptis.model.tag import CustomHtmlTagHandlerMapping
    from lxml import etree, html

    parser = html.HTMLParser(encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True)
    try:
        tree = html.document_fromstring(markup.encode("utf-8", "replace"), parser=parser)
    except etree.ParserError:  # nothing there
        return "", ""
    for sibling in list(tree.itersiblings()):  # what follows </html>
        tree.append(sibling)
    title = str(tree.xpath("string(//title[not(ancestor::svg)])"))
    _prepare(tree)
    css = CSS_PROFILES["strict"] | {name: HtmlElement(display=Display.block) for name in _BLOCKS}
    handlers = CustomHtmlTagHandlerMapping(start_tag_mapping={}, end_tag_mapping={"table": _close_table})
    return title, Inscriptis(tree, ParserConfig(css=css, custom_html_tag_handler_mapping=handlers)).get_text()


def _prepare(tree: Any) -> None:
    """Make a tree such that inscriptis renders it as it stands, and hides what a browser hides."""
    for element in tree.iter():
        element.text = _escaped(element.text)
        element.tail = _escaped(element.tail)
        if "hidden" in element.attrib:
            element.set("style", "display:none")
        elif "style" in element.attrib:  # without lengths, of which inscriptis makes as many spaces or lines
            element.set("style", ";".join(_STYLE.findall(element.get("style").lower())))


def _escaped(text: str | None) -> str | None:
    """Return text that inscriptis, which takes it for HTML once more, writes as it is; lxml takes no control codes."""
    return _CONTROL.sub(" ", text).replace("&", "&amp;") if text else text


def _close_table(state: Any) -> None:
    """Write a table of inscriptis: first what is in no cell, then each row.

    inscriptis itself pads each cell to the widest of its column, and so makes of one long cell many.
    """
    from inscriptis.html_properties import WhiteSpace

    table, (around, outside) = state.current_table.pop(), state.tags[-2:]
    parts = [outside.canvas.get_text(), *(_row([cell.get_text() for cell in row.columns]) for row in table.rows)]
    text = "\n".join(part for part in parts if part.strip())
    around.canvas.flush_inline()
    if text:
        around.canvas.write(around, _escaped(f"{text}\n"), whitespace=WhiteSpace.pre)
        around.canvas.flush_inline()


def _row(cells: list[str]) -> str:
    """Return the cells of a row on one line, or where one of them has several lines, each from a new line on."""
    filled = [cell.strip("\n") for cell in cells if cell.strip()]
    return ("\n" if any("\n" in cell for cell in filled) else "  ").join(filled)


def _markup(data: bytes, reading: Reading, complain: Complain) -> str:
    """Return the text of an HTML file."""
    declared = _declared_encoding(data)
    if declared is None or _is_utf8(data):
        return "".join(_decoded(io.BytesIO(data), "utf-8" if declared else reading.encoding))
    markup = "".join(_decoded(io.BytesIO(data), declared, "replace"))
    if "\ufffd" in markup:
        complain(f"has bytes that are no text in {declared.upper()}")
    return markup


def _is_utf8(data: bytes) -> bool:
    """Return whether bytes are UTF-8 that is not ASCII, as which text in other encodings may pass."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return not data.isascii()


def _declared_encoding(data: bytes) -> str | None:
    """Return the encoding that HTML names in its first bytes, as browsers take it; None if it names none they know."""
    found = _CHARSET.search(_NO_MARKUP.sub(b"", data[: 1 << 16]), 0, 4096)
    if not found:
        return None
    name = found[found.lastindex or 0].decode("ascii").lower()
    name = "utf-8" if name.startswith(("utf-16", "utf-32")) else _BROWSERS_TAKE.get(name, name)
    return name if _is_encoding(name) else None


def _json_lines(path: Path, reading: Reading, complain: Complain) -> Iterator[Draft]:
    with path.open("rb") as file:
        lines = _lines(_decoded(file, reading.encoding, "surrogateescape"))
        good = broken = 0
        for number, line in enumerate(lines, 1):
            if line is not None and not line.strip():
                continue
            try:
                draft = _record(line, number, reading)
            except _RecordError as error:
                broken += 1
                complain(f"line {number:,}: {error}")
            else:
                good += 1
                yield draft
    if broken and not good:
        raise UnreadableError(f"has no record that can be read, of {broken:,}")


class _RecordError(ValueError):
    """A record that is left out, and why."""


def _lines(blocks: Iterator[str]) -> Iterator[str | None]:
    """Yield lines without their ends, and None for one that is too long."""
    line: list[str] = []
    length = 0
    for block in blocks:
        for i, piece in enumerate(block.split("\n")):
            if i:
                yield "".join(line) if length <= _LONGEST_LINE else None
                line, length = [], 0
            length += len(piece)
            if length <= _LONGEST_LINE:
                line.append(piece)
            else:
                line.clear()
    if length:
        yield "".join(line) if length <= _LONGEST_LINE else None


def _record(line: str | None, number: int, reading: Reading) -> Draft:
    if line is None:
        raise _RecordError(f"is longer than {_LONGEST_LINE:,} characters")
    if SURROGATE.search(line):
        raise _RecordError(f"is no text in {codecs.lookup(reading.encoding or 'utf-8').name.upper()}")
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise _RecordError(f"is no JSON: {error.msg} (column {error.colno:,})") from None
    except (ValueError, RecursionError) as error:
        raise _RecordError(f"is no JSON that can be read: {error}") from None
    if not isinstance(record, dict):
        raise _RecordError("is no JSON object")
    text = _member(record, reading.text_field)
    if not isinstance(text, str):
        raise _RecordError(f"has no text in {reading.text_field!r}")
    id_ = _short(record, reading.id_field) or str(number)
    title = _one_line(_short(record, reading.title_field))
    if any(map(SURROGATE.search, (text, id_, title))):
        raise _RecordError("has half a character (a lone surrogate)")
    return Draft(id_, title, iter([text]))


def _short(record: dict[str, Any], name: str) -> str:
    """Return a field that is a string or a number, or an empty text where there is none.

    Raises:
        _RecordError: It is of another type.
    """
    value = _member(record, name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _RecordError(f"has in {name!r} neither a string nor a number")
    return str(value)


def _member(record: dict[str, Any], name: str) -> object:
    """Return a field, or None if there is none; "a.b" is the field b of the object a, or else the field "a.b"."""
    if name in record:
        return record[name]
    outer, _, inner = name.partition(".")
    value = record.get(outer)
    return _member(value, inner) if inner and isinstance(value, dict) else None


def _decoded(file: BinaryIO, encoding: str | None, errors: str = "strict") -> Iterator[str]:
    """Yield the text of a file in blocks.

    Raises:
        UnreadableError: It is no text.
        OSError: It cannot be read.
    """
    try:
        yield from text_blocks(file, encoding=encoding, errors=errors)
    except UndecodableError as error:
        raise UnreadableError(f"{error}: if it is in another encoding, name that, for example latin-1") from None
    except NoTextError as error:
        raise UnreadableError(str(error)) from None
    except UnicodeError:  # of encodings such as IDNA, which are not for files
        raise UnreadableError(f"is no text in {encoding}") from None


@contextlib.contextmanager
def _broken(what: str) -> Iterator[None]:
    """Turn whatever a library makes of a broken file into one line."""
    try:
        yield
    except (UnreadableError, ImportError):
        raise
    except MemoryError:
        raise UnreadableError("is too large for the memory there is") from None
    except RecursionError:
        raise UnreadableError(f"is {what} nested too deep to be read") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the file, and not of what it holds
            raise
        why = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableError(f"is {what} that cannot be read: {why:.200}") from error


def _heading(source: str) -> str:
    """Return the title of Markdown: that of its front matter, or else its first heading; empty if there is none."""
    matter = _FRONT_MATTER.match(source)
    if matter:
        named = _FRONT_TITLE.search(matter[1])
        if named:
            return named[1].strip().strip("\"'")
    fence = previous = ""
    for line in source[matter.end() if matter else 0 :].splitlines():
        if len(line) > _LONGEST_HEADING:
            previous = ""
            continue
        bar = _FENCE.match(line)
        if fence:
            fence = "" if bar and bar[1].startswith(fence) and not line.strip(" " + fence[0]) else fence
        elif bar:
            fence, previous = bar[1], ""
        elif (heading := _ATX.match(line)) and heading[1]:
            return _unmarked(heading[1])
        elif previous and _UNDERLINE.match(line):
            return _unmarked(previous)
        else:
            previous = "" if _NO_PARAGRAPH.match(line) else line.strip()
    return ""


def _unmarked(markdown: str) -> str:
    """Return a line of Markdown without its marks of links and emphasis."""
    return _MARKUP.sub(r"\3", _LINK.sub(r"\1", markdown)).strip()


def _is_encoding(name: str) -> bool:
    try:
        "a".encode(name)
        codecs.getincrementaldecoder(name)
    except (LookupError, ValueError):
        return False
    return True


def _one_line(title: str) -> str:
    return " ".join(title.split())[:_LONGEST_TITLE].rstrip()


_PDF_HYPHEN = re.compile("[\x02\ufffe]\n?")  # what PDFium puts for a hyphen at the end of a line
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_CHARSET = re.compile(
    rb"""<meta\b(?![^>]*\b(?:name|property|itemprop)\s*=)[^>]*?\bcharset\s*=\s*["']?\s*([\w.:-]+)"""
    rb"""|<\?xml\b[^>]*?\bencoding\s*=\s*["']([\w.:-]+)""",
    re.IGNORECASE,
)
_NO_MARKUP = re.compile(rb"<!--.*?(?:-->|\Z)|<script\b.*?(?:</script|\Z)", re.DOTALL | re.IGNORECASE)
_STYLE = re.compile(r"\bdisplay[ \t\n]*:[ \t\n]*(?:none|block|inline)\b(?!-)|\bwhite-space[ \t\n]*:[ \t\n]*[a-z-]+")
_BLOCKS = (  # elements that start on a new line, and that inscriptis would have within one
    *("body", "section", "search", "hr", "center", "dialog", "details", "summary", "dl", "dt", "dd", "menu", "dir"),
    *("form", "fieldset", "legend", "optgroup", "option", "caption", "tr", "td", "th"),
)
_UNRECOGNISED = re.compile(r"An unrecognised element was ignored: (?:\{.*\})?(?P<name>(?:[^:]*:)?(?P<local>.*))")
_TEXTLESS = re.compile(
    r"\w*(?:Pr|PrEx|Start|End|[sS]eparator)"
    r"|cr|ptab|pgNum|fldData|control|stroke|fill|path|textpath|formulas|handles|lock|OLEObject"
)
_BROWSERS_TAKE = {  # for the encoding that a page names, another that has more characters, or Python's name for it
    "ascii": "cp1252",
    "us-ascii": "cp1252",
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "latin-1": "cp1252",
    "iso-8859-9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "x-sjis": "cp932",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "windows-874": "cp874",
    "iso-8859-8-i": "iso-8859-8",
    "x-mac-cyrillic": "mac_cyrillic",
}
_MARKDOWN = (".md", ".markdown")
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n(.*?\n)?(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:[ \t]*(?![>|][-+\d]*[ \t\r]*$)(\S.*)$", re.MULTILINE | re.IGNORECASE)
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ATX = re.compile(r" {0,3}#{1,6}(?:[ \t]+(.*?))??(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-+)[ \t]*$")
_NO_PARAGRAPH = re.compile(r"\s*$| {4}|\t| {0,3}(?:[-*+>|]|\d+[.)])(?:\s|$)| {0,3}[-*_=]{3,}[ \t]*$")
_LINK = re.compile(r"!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])")
_MARKUP = re.compile(r"</?[a-zA-Z][^>]*>|[ \t]*\{#[^}]*\}$|[*`~]+|(?<!\w)_+|_+(?!\w)|(\\)()([!-/:-@\[-`{-~])")

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        **dict.fromkeys((".txt", ".text", ".rst", *_MARKDOWN), _one_document(_text)),
        **dict.fromkeys((".html", ".htm", ".xhtml"), _one_document(_html)),
        ".pdf": _one_document(_pdf),
        ".docx": _one_document(_docx),
        **dict.fromkeys((".jsonl", ".ndjson"), _json_lines),
    }
)
"""What reads a file, by the end of its name in lower case."""
