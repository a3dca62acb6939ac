"""Convert the text parts of a Word document to HTML, as Word shows them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import IO, Any
from xml.parsers import expat

from dynamic_tinybert.corpus.formats.docx_lists import LEVELS, Item, Numbering, Styles, is_true
from dynamic_tinybert.corpus.formats.docx_math import Formulas

_PREFIXES = {
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main": "w:",
    "http://purl.oclc.org/ooxml/wordprocessingml/main": "w:",
    "http://schemas.openxmlformats.org/drawingml/2006/main": "a:",
    "http://purl.oclc.org/ooxml/drawingml/main": "a:",
    "http://schemas.openxmlformats.org/drawingml/2006/diagram": "dgm:",
    "http://purl.oclc.org/ooxml/drawingml/diagram": "dgm:",
    "http://schemas.openxmlformats.org/officeDocument/2006/math": "m:",
    "http://purl.oclc.org/ooxml/officeDocument/math": "m:",
    "http://schemas.openxmlformats.org/markup-compatibility/2006": "mc:",
    "urn:schemas-microsoft-com:vml": "v:",
}
_ELSEWHERE = ("w:altChunk", "w:subDoc")  # text in parts of other formats
_DEEPEST = 1000  # elements in elements
_NOT_SHOWN = (  # properties, former properties, deleted text, and what fields are computed from
    *("w:sectPr", "w:tblPr", "w:tblPrEx", "w:tblGrid", "w:sdtPr", "w:sdtEndPr", "w:rubyPr", "w:smartTagPr", "w:tabs"),
    *("w:customXmlPr", "w:pPrChange", "w:rPrChange", "w:trPrChange", "w:tcPrChange", "w:numberingChange"),
    *("w:moveFrom", "w:delText", "w:instrText", "w:delInstrText", "w:fldData"),
)
_PIECES = {"w:br": "<br>", "w:cr": "<br>", "a:br": "<br>", "w:tab": "\t", "w:ptab": "\t", "w:noBreakHyphen": "-"}
_TEXTS = ("w:t", "a:t", "m:t")
_CODE = re.compile("[0-9A-Fa-f]{1,5}")
_PRIVATE = range(0xF000, 0xF100)  # where the characters of symbol fonts are
_ITEM = '<li style="list-style:none">'


@dataclass
class _Blocks:
    """Blocks of text one below the other: of the document, of a row, of a cell, of a text box, of a note."""

    parts: list[str] = field(default_factory=list)
    depth: int = 0  # of the lists that are open
    pending: list[str] = field(default_factory=list)  # text of paragraphs whose ends are not shown
    dropped: bool = False
    emptied: bool = False

    def add(self, html: str, depth: int = 0) -> None:
        if self.pending:
            text, self.pending = "".join(self.pending), []
            self.add(f"<p>{text}</p>")
        if depth != self.depth:
            self.parts.append("<ul>" * (depth - self.depth) or "</ul>" * (self.depth - depth))
            self.depth = depth
        self.parts.append(html)

    def html(self) -> str:
        self.add("")
        return "" if self.emptied else "".join(self.parts)


@dataclass
class _Paragraph:
    text: list[str] = field(default_factory=list)
    boxes: list[str] = field(default_factory=list)  # text boxes: they follow the paragraph
    style: str | None = None
    number: str | None = None
    level: int | None = None
    item: Item | None = None
    counted: bool = True
    ends: bool = True  # the end is neither deleted nor hidden


@dataclass
class _Form:
    """A field of a form: a check box, or a list of which one entry is shown."""

    box: bool = False
    checked: bool | None = None
    default: str | None = None
    result: str | None = None
    entries: list[str] = field(default_factory=list)

    def shown(self) -> str:
        if self.box:
            checked = self.checked if self.checked is not None else is_true(self.default or "0")
            return "☒" if checked else "☐"
        chosen = self.result or self.default or "0"
        return self.entries[int(chosen)] if chosen in map(str, range(len(self.entries))) else ""


class Body:
    """A reader of the parts of a document that contain text.

    Args:
        styles: The styles of the document.
        numbering: Its lists.
        symbols: The Unicode characters of the characters of symbol fonts, by font and code.
        diagram: Returns the text of a diagram as HTML, by the id of its part; None if there is no such part.

    Attributes:
        notes: The notes as HTML, by kind and id.
        references: The notes that the text refers to, with their numbers.
        left_out: What was left out, in order.
    """

    def __init__(
        self,
        styles: Styles,
        numbering: Numbering,
        symbols: Mapping[tuple[Any, int], int],
        diagram: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self.notes: dict[tuple[str, str], str] = {}
        self.references: dict[tuple[str, str], int] = {}
        self.left_out: dict[str, None] = {}
        self._styles, self._numbering, self._symbols, self._diagram = styles, numbering, symbols, diagram
        self._names: dict[str, str] = {}
        self._starts: dict[str, Callable[[dict[str, str]], None]] = {
            "w:p": self._start_paragraph,
            "a:p": self._start_paragraph,
            "w:pStyle": self._set_style,
            "w:numId": self._set_number,
            "w:ilvl": self._set_level,
            "w:r": self._start_run,
            "w:rStyle": self._set_run_style,
            "w:vanish": self._hide,
            "w:specVanish": self._count,
            "w:del": self._delete,
            "w:ruby": lambda _: self._rubies.append(""),
            "w:rt": lambda _: self._sinks.append([]),
            "w:sym": self._write_symbol,
            "w:tbl": self._start_blocks,
            "w:tr": self._start_blocks,
            "w:tc": self._start_blocks,
            "w:vMerge": self._merge_cell,
            "w:cellDel": self._drop,
            "w:txbxContent": self._start_blocks,
            "a:txBody": self._start_blocks,
            "v:textpath": self._write_text_path,
            "dgm:relIds": self._write_diagram,
            "w:footnoteReference": lambda attributes: self._refer("footnote", attributes),
            "w:endnoteReference": lambda attributes: self._refer("endnote", attributes),
            "w:footnote": self._start_note,
            "w:endnote": self._start_note,
            "mc:AlternateContent": lambda _: self._alternatives.append(self._written),
            "mc:Choice": self._start_alternative,
            "mc:Fallback": self._start_alternative,
            "w:ffData": lambda _: self._forms.append(_Form()),
            **dict.fromkeys(("w:checkBox", "w:checked", "w:default", "w:result", "w:listEntry"), self._set_form),
        }
        self._ends: dict[str, Callable[[], None]] = {
            "w:p": self._end_paragraph,
            "a:p": self._end_paragraph,
            "w:pPr": self._number,
            "w:r": self._end_run,
            "w:rt": self._end_ruby_text,
            "w:ruby": self._end_ruby,
            "w:tbl": lambda: self._end_blocks("table"),
            "w:tr": lambda: self._end_blocks("tr"),
            "w:tc": lambda: self._end_blocks("td"),
            "w:txbxContent": self._end_box,
            "a:txBody": self._end_box,
            "w:footnote": lambda: self._end_note("footnote"),
            "w:endnote": lambda: self._end_note("endnote"),
            "mc:AlternateContent": self._end_alternatives,
            "w:ffData": self._end_form,
        }

    def read(self, file: IO[bytes]) -> str:
        """Return a part as HTML, without its notes: these are kept in `notes`.

        Raises:
            ValueError: The part has a document type, and so perhaps entities: no part of a Word document has.
            expat.ExpatError: It is not XML.
        """
        self._path: list[str] = []
        self._not_shown = 0  # the depth of the element that is not shown, if we are in one
        self._written = 0  # pieces of text
        self._blocks = [_Blocks()]
        self._paragraphs: list[_Paragraph] = []
        self._sinks = [self._blocks[0].parts]  # text goes to the last
        self._hidden: list[bool] = []  # of the runs that are open
        self._rubies: list[str] = []
        self._alternatives: list[int] = []  # pieces of text before each
        self._forms: list[_Form] = []
        self._formulas = Formulas(self._sinks)
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = refuse_document_type
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.ParseFile(file)
        return self._blocks[0].html()

    def _start(self, raw: str, attributes: dict[str, str]) -> None:
        name = self._names.get(raw) or self._named(raw)
        self._path.append(name)
        if len(self._path) > _DEEPEST:
            raise RecursionError
        if self._not_shown:
            return
        if name in _NOT_SHOWN:
            self._skip()
        elif name in _PIECES:
            self._write(_PIECES[name])
        elif name in self._starts:
            self._starts[name](attributes)
        elif name in _ELSEWHERE:
            self.left_out[name] = None
        elif name.startswith("m:"):
            self._formulas.start(name, _get(attributes, "val"))

    def _end(self, raw: str) -> None:
        if self._not_shown:
            if self._not_shown == len(self._path):
                self._not_shown = 0
            self._path.pop()
            return
        name = self._path.pop()
        if name in self._ends:
            self._ends[name]()
        elif name.startswith("m:"):
            self._formulas.end(name)

    def _characters(self, text: str) -> None:
        if not self._not_shown and self._path[-1] in _TEXTS:
            self._write(escape(text, quote=False))

    def _named(self, raw: str) -> str:
        uri, _, local = raw.rpartition(" ")
        name = self._names[raw] = _PREFIXES.get(uri, ":") + local
        return name

    def _skip(self) -> None:
        """Do not show the element that starts."""
        self._not_shown = len(self._path)

    def _write(self, text: str) -> None:
        if text and not (self._hidden and self._hidden[-1]):
            self._sinks[-1].append(text)
            self._written += 1

    def _start_paragraph(self, _: dict[str, str]) -> None:
        self._paragraphs.append(_Paragraph())
        self._sinks.append(self._paragraphs[-1].text)

    def _set_style(self, attributes: dict[str, str]) -> None:
        if self._paragraphs:
            self._paragraphs[-1].style = _get(attributes, "val")

    def _set_number(self, attributes: dict[str, str]) -> None:
        if self._paragraphs:
            self._paragraphs[-1].number = _get(attributes, "val")

    def _set_level(self, attributes: dict[str, str]) -> None:
        level = _get(attributes, "val") or ""
        if self._paragraphs and level in map(str, range(LEVELS)):
            self._paragraphs[-1].level = int(level)

    def _number(self) -> None:
        if self._paragraphs and self._paragraphs[-1].counted:
            own = self._paragraphs[-1]
            own.item = self._numbering.item(own.style, own.number, own.level)

    def _end_paragraph(self) -> None:
        self._sinks.pop()
        own, blocks = self._paragraphs.pop(), self._blocks[-1]
        if own.item:
            own.text.insert(0, escape(own.item.label, quote=False))
        if not own.ends:
            blocks.pending += own.text
        else:
            text, blocks.pending = "".join(blocks.pending + own.text), []
            if own.item:
                blocks.add(f"{_ITEM}{text}</li>", own.item.level + 1)
            elif text:
                blocks.add(f"<p>{text}</p>")
        for box in own.boxes:
            blocks.add(box)

    def _start_run(self, _: dict[str, str]) -> None:
        style = self._paragraphs[-1].style if self._paragraphs else None
        self._hidden.append(self._hidden[-1:] == [True] or bool(self._styles.hidden(style)))

    def _end_run(self) -> None:
        self._hidden.pop()

    def _set_run_style(self, attributes: dict[str, str]) -> None:
        hidden = self._styles.hidden(_get(attributes, "val"))
        if hidden is not None and self._path[-3:-1] == ["w:r", "w:rPr"]:
            self._hidden[-1] = hidden or self._hidden[-2:-1] == [True]

    def _hide(self, attributes: dict[str, str]) -> None:
        hidden = is_true(_get(attributes, "val"))
        if self._path[-3:-1] == ["w:r", "w:rPr"]:
            self._hidden[-1] = hidden or self._hidden[-2:-1] == [True]
        elif self._path[-3:-1] == ["w:pPr", "w:rPr"] and self._paragraphs and hidden:
            self._paragraphs[-1].ends = self._paragraphs[-1].counted = False

    def _count(self, _: dict[str, str]) -> None:
        """Number a paragraph that continues in the next: Word hides its end for a heading within a line."""
        if self._paragraphs:
            self._paragraphs[-1].counted = True

    def _delete(self, _: dict[str, str]) -> None:
        if self._path[-2:-1] == ["w:rPr"]:
            if self._path[-3:-2] == ["w:pPr"] and self._paragraphs:
                self._paragraphs[-1].ends = self._paragraphs[-1].counted = False
        elif self._path[-2:-1] == ["w:trPr"]:
            self._blocks[-1].dropped = True
        else:
            self._skip()

    def _end_ruby_text(self) -> None:
        text = "".join(self._sinks.pop())
        if self._rubies:
            self._rubies[-1] += text

    def _end_ruby(self) -> None:
        text = self._rubies.pop()
        self._write(f"({text})" if text else "")

    def _write_symbol(self, attributes: dict[str, str]) -> None:
        font, code = _get(attributes, "font"), _get(attributes, "char") or ""
        number = int(code, 16) if _CODE.fullmatch(code) else 0
        known = self._symbols.get((font, number)) or self._symbols.get((font, number - _PRIVATE.start))
        if known or (number >= 32 and number not in _PRIVATE):
            self._write(escape(chr(known or number), quote=False))
        else:
            self.left_out["w:sym"] = None

    def _write_text_path(self, attributes: dict[str, str]) -> None:
        text = escape(attributes.get("string", ""), quote=False)
        self._write_box(f"<p>{text}</p>" if text else "")

    def _write_diagram(self, attributes: dict[str, str]) -> None:
        html = self._diagram(_get(attributes, "dm") or "")
        if html is None:
            self.left_out["a diagram"] = None
        else:
            self._write_box(html)

    def _write_box(self, html: str) -> None:
        if html and self._paragraphs and self._hidden[-1:] != [True]:
            self._paragraphs[-1].boxes.append(html)
            self._written += 1

    def _start_blocks(self, _: dict[str, str]) -> None:
        self._blocks.append(_Blocks())
        self._sinks.append(self._blocks[-1].parts)

    def _end_blocks(self, tag: str) -> None:
        self._sinks.pop()
        blocks = self._blocks.pop()
        if not blocks.dropped:
            self._blocks[-1].add(f"<{tag}>{blocks.html()}</{tag}>")

    def _end_box(self) -> None:
        self._sinks.pop()
        html = self._blocks.pop().html()
        if self._paragraphs:
            self._paragraphs[-1].boxes.append(html)
        else:
            self._blocks[-1].add(html)

    def _merge_cell(self, attributes: dict[str, str]) -> None:
        self._blocks[-1].emptied = _get(attributes, "val") in (None, "", "continue")

    def _drop(self, _: dict[str, str]) -> None:
        self._blocks[-1].dropped = True

    def _refer(self, kind: str, attributes: dict[str, str]) -> None:
        if self._hidden[-1:] != [True]:
            number = self.references.setdefault((kind, _get(attributes, "id") or ""), len(self.references) + 1)
            self._write(f"[{number}]")

    def _start_note(self, attributes: dict[str, str]) -> None:
        self._note = _get(attributes, "id") or ""
        self._start_blocks(attributes)

    def _end_note(self, kind: str) -> None:
        self._sinks.pop()
        self.notes[kind, self._note] = self._blocks.pop().html()

    def _start_alternative(self, _: dict[str, str]) -> None:
        """Show the first of several contents that has text: Word shows the first that it can show."""
        if self._alternatives and self._written > self._alternatives[-1]:
            self._skip()

    def _end_alternatives(self) -> None:
        self._alternatives.pop()

    def _set_form(self, attributes: dict[str, str]) -> None:
        if not self._forms:
            return
        form, value = self._forms[-1], _get(attributes, "val")
        match self._path[-1]:
            case "w:checkBox":
                form.box = True
            case "w:checked":
                form.checked = is_true(value)
            case "w:default":
                form.default = "1" if value is None else value
            case "w:result":
                form.result = value
            case "w:listEntry":
                form.entries.append(value or "")

    def _end_form(self) -> None:
        self._write(escape(self._forms.pop().shown(), quote=False))


def refuse_document_type(*_: Any) -> None:
    """Refuse a part that declares a document type: its entities could make much text from few bytes."""
    raise ValueError("it has a document type (DOCTYPE), which no Word document has")


def _get(attributes: dict[str, str], name: str) -> str | None:
    """Return an attribute, whatever its namespace."""
    return next((value for key, value in attributes.items() if key.rpartition(" ")[2] == name), None)
