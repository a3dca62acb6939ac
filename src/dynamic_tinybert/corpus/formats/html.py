"""Read HTML files as the text that a browser shows."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dynamic_tinybert.corpus.errors import UnreadableError
from dynamic_tinybert.corpus.formats.html_tree import MARK, PREFORMATTED, escaped, narrow, prepare
from dynamic_tinybert.corpus.formats.reading import (
    Complain,
    Reading,
    as_unreadable,
    decoded,
    encoding_of,
    is_encoding,
    is_utf8,
)

_LARGEST_HTML = 64 << 20  # bytes; the tree takes about 25 times as much memory
_DECLARING = re.compile(rb"<(meta|\?xml)\b([^<>]*)", re.IGNORECASE)  # each match ends before the next begins
_CHARSET = re.compile(rb"""\bcharset\s*=\s*(?:["']\s*)?([\w.:-]+)""", re.IGNORECASE)
_ENCODING = re.compile(rb"""\bencoding\s*=\s*["']([\w.:-]+)""", re.IGNORECASE)
_OTHER_META = re.compile(rb"\b(?:name|property|itemprop)\s*=", re.IGNORECASE)
_NO_MARKUP = re.compile(rb"<!--.*?(?:-->|\Z)|<script\b.*?(?:</script|\Z)", re.DOTALL | re.IGNORECASE)
_BLOCKS = (  # elements that start a new line; inscriptis would put them inside a line
    *("body", "section", "search", "hr", "center", "dialog", "details", "summary", "dl", "dt", "dd", "menu", "dir"),
    *("form", "fieldset", "legend", "optgroup", "option", "caption", "tr", "td", "th"),
)


def read_html(path: Path, reading: Reading, complain: Complain) -> Iterator[str]:
    """Yield the title of an HTML file, then its text."""
    with path.open("rb") as file:
        data = file.read(_LARGEST_HTML + 1)
    if len(data) > _LARGEST_HTML:
        raise UnreadableError(f"is too large: HTML is read up to {_LARGEST_HTML >> 20} MiB")
    with as_unreadable("an HTML file"):
        title, text = rendered(_markup(data, reading, complain), main=reading.html == "main")
    yield title
    yield text


def rendered(markup: str, *, main: bool = False) -> tuple[str, str]:
    """Return the title of HTML, and its text as a browser shows it: each block and each table row on a line.

    With `main`, the text is only that of the main content: see `Reading.html`.
    """
    from inscriptis.css_profiles import CSS_PROFILES
    from inscriptis.html_engine import Inscriptis
    from inscriptis.html_properties import Display, WhiteSpace
    from inscriptis.model.config import ParserConfig
    from inscriptis.model.html_element import HtmlElement
    from inscriptis.model.tag import CustomHtmlTagHandlerMapping
    from lxml import etree, html

    parser = html.HTMLParser(encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True)
    try:
        tree = html.document_fromstring(markup.encode("utf-8", "replace"), parser=parser)
    except etree.ParserError:  # the document is empty
        return "", ""
    for sibling in list(tree.itersiblings()):  # what follows </html>
        tree.append(sibling)
    title = str(tree.xpath("string(//title[not(ancestor::svg)])"))
    if main:
        narrow(tree)
    prepare(tree)
    css = CSS_PROFILES["strict"] | {name: HtmlElement(display=Display.block) for name in _BLOCKS}
    css |= {name: HtmlElement(display=Display.block, whitespace=WhiteSpace.pre) for name in PREFORMATTED}
    handlers = CustomHtmlTagHandlerMapping(
        start_tag_mapping={"li": _open_item}, end_tag_mapping={"table": _close_table}
    )
    text = Inscriptis(tree, ParserConfig(css=css, custom_html_tag_handler_mapping=handlers)).get_text()
    if main and not text.strip():  # what is marked as the main content is not shown
        return rendered(markup)
    return title, text


def _open_item(state: Any, attributes: Any) -> None:
    state.tags[-1].list_bullet = attributes.get(MARK, "")


def _close_table(state: Any) -> None:
    """Write a table of inscriptis: first the text outside the cells, then each row.

    inscriptis itself pads each cell to the width of its column, so one long cell would make many long cells.
    """
    from inscriptis.html_properties import WhiteSpace

    table, (around, outside) = state.current_table.pop(), state.tags[-2:]
    parts = [outside.canvas.get_text(), *(_row([cell.get_text() for cell in row.columns]) for row in table.rows)]
    text = "\n".join(part for part in parts if part.strip())
    around.canvas.flush_inline()
    if text:
        around.canvas.write(around, escaped(f"{text}\n"), whitespace=WhiteSpace.pre)
        around.canvas.flush_inline()


def _row(cells: list[str]) -> str:
    """Return the cells of a row on one line. If a cell has several lines, each cell starts on a new line."""
    filled = [cell.strip("\n") for cell in cells if cell.strip()]
    return ("\n" if any("\n" in cell for cell in filled) else "  ").join(filled)


def _markup(data: bytes, reading: Reading, complain: Complain) -> str:
    declared = _declared_encoding(data)
    file = io.BytesIO(data)
    if declared is None or is_utf8(file):
        return "".join(decoded(file, "utf-8" if declared else encoding_of(file, reading)))
    markup = "".join(decoded(file, declared, "replace"))
    if "\ufffd" in markup:
        complain(f"has bytes that are not text in {declared.upper()}")
    return markup


def _declared_encoding(data: bytes) -> str | None:
    """Return the encoding that HTML declares in its first bytes, as browsers interpret it; None if it is unknown."""
    import webencodings

    found = None
    for tag in _DECLARING.finditer(_NO_MARKUP.sub(b"", data[: 1 << 16]), 0, 4096):
        if tag[1].startswith(b"?"):
            found = _ENCODING.search(tag[2])
        elif not _OTHER_META.search(tag[2]):
            found = _CHARSET.search(tag[2])
        if found:
            break
    if not found:
        return None
    name = found[1].decode("ascii").lower()
    known = webencodings.lookup(name)
    if name.startswith("utf-32") or (known and known.name.startswith("utf-16")):
        return "utf-8"
    if known is None or known.name in ("replacement", "x-user-defined"):
        return name if is_encoding(name) else None
    python = "gb18030" if known.name == "gbk" else str(known.codec_info.name)
    return python.replace("_", "-")
