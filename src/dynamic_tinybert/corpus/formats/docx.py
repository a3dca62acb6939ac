"""Read Word documents: their text becomes HTML, and that becomes text."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from dynamic_tinybert.corpus.errors import UnreadableError
from dynamic_tinybert.corpus.formats.docx_body import Body, refuse_document_type
from dynamic_tinybert.corpus.formats.docx_lists import Numbering, Styles
from dynamic_tinybert.corpus.formats.html import rendered
from dynamic_tinybert.corpus.formats.reading import Complain, Reading, as_unreadable

_LARGEST_ARCHIVE = 1 << 30  # bytes of all parts of a Word document, unpacked
_LARGEST_XML = 32 << 20  # bytes of the XML parts; the tree of their HTML takes about 45 times as much memory
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def read_docx(path: Path, reading: Reading, complain: Complain) -> Iterator[str]:
    """Yield the title of a Word document, then its text."""
    from mammoth.docx.dingbats import dingbats  # the Unicode characters of symbol fonts

    with path.open("rb") as file, as_unreadable("a Word document"):
        title = _checked_title(file)
        html, left_out = _html(file, dingbats)
        text = rendered(html)[1]
    for what in left_out:
        complain(f"left out: {what}")
    yield title
    yield text


def _html(file: BinaryIO, symbols: Mapping[tuple[Any, int], int]) -> tuple[str, list[str]]:
    """Return a document as HTML with its notes at the end, and what was left out of it."""
    with zipfile.ZipFile(file) as archive:
        main = _relations(archive, "").kind("officeDocument", "word/document.xml")
        if main is None:
            raise ValueError("Could not find main document part")
        relations = _relations(archive, main)
        styles = Styles.read(_root(archive, relations.kind("styles")))
        numbering = Numbering(styles, _root(archive, relations.kind("numbering")))
        diagrams = dict(relations.diagrams)

        def diagram(id_: str) -> str | None:
            """Return the text of a diagram as HTML, the first time that it is asked for; None if there is none."""
            name = diagrams.get(id_)
            if name is None:
                return None
            diagrams[id_] = ""
            return read(Body(styles, numbering, symbols), name) if name else ""

        def read(body: Body, name: str) -> str:
            with archive.open(name) as part:
                return body.read(part)

        body = Body(styles, numbering, symbols, diagram)
        text = read(body, main)
        for kind in ("footnotes", "endnotes"):
            name = relations.kind(kind)
            if name is not None:
                read(body, name)
    notes = [
        f'<li value="{number}">{body.notes[note]}</li>'
        for note, number in body.references.items()
        if note in body.notes
    ]
    return f"{text}<ol>{''.join(notes)}</ol>", list(body.left_out)


@dataclass
class _Relations:
    """The parts that a part names, if they exist: the first of each kind, and the text of diagrams by their ids."""

    archive: zipfile.ZipFile
    folder: str
    kinds: dict[str, str] = field(default_factory=dict)
    diagrams: dict[str, str] = field(default_factory=dict)

    def kind(self, kind: str, default: str = "") -> str | None:
        name = self.kinds.get(kind) or default or posixpath.join(self.folder, f"{kind}.xml")
        return name if name in self.archive.NameToInfo else None


def _relations(archive: zipfile.ZipFile, part: str) -> _Relations:
    folder, name = posixpath.split(part)
    found = _Relations(archive, folder)
    root = _root(archive, posixpath.join(folder, "_rels", f"{name}.rels"))
    for relation in () if root is None else root:
        target = posixpath.normpath(posixpath.join("/", folder, relation.get("Target", ""))).lstrip("/")
        if target in archive.NameToInfo:
            kind = relation.get("Type", "").rpartition("/")[2]
            found.kinds.setdefault(kind, target)
            if kind == "diagramData":
                found.diagrams[relation.get("Id", "")] = target
    return found


def _root(archive: zipfile.ZipFile, name: str | None) -> Any:
    """Return the tree of a part; None if there is no such part.

    Raises:
        ValueError: It has a document type, and so perhaps entities.
    """
    from lxml import etree

    if name is None or name not in archive.NameToInfo:
        return None
    parser = etree.XMLParser(resolve_entities=False, remove_comments=True, remove_pis=True)
    root = etree.fromstring(archive.read(name), parser)
    if root.getroottree().docinfo.doctype:
        refuse_document_type()
    return root


def _checked_title(file: BinaryIO) -> str:
    """Return the title of a Word document, after a check that it can be unpacked in memory.

    Raises:
        UnreadableError: The document is too large, or has another format.
    """
    if file.read(len(_OLE)) == _OLE:
        raise UnreadableError("is a Word document with a password, or in Word's old format")
    with zipfile.ZipFile(file) as archive:
        if sum(part.file_size for part in archive.infolist()) > _LARGEST_ARCHIVE:
            raise UnreadableError(f"is too large: a Word document is read up to {_LARGEST_ARCHIVE >> 30} GiB, unpacked")
        if sum(part.file_size for part in archive.infolist() if _is_xml(archive, part)) > _LARGEST_XML:
            raise UnreadableError(f"is too large: a Word document is read up to {_LARGEST_XML >> 20} MiB of XML")
        return _docx_title(archive)


def _is_xml(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> bool:
    """Return whether a part may be XML, from its content: its name may be wrong."""
    with archive.open(part) as file:
        return file.read(512).lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n")[:1] in (b"", b"<")


def _docx_title(archive: zipfile.ZipFile) -> str:
    from lxml import etree

    try:
        core = etree.fromstring(archive.read("docProps/core.xml"), etree.XMLParser(resolve_entities=False))
    except (KeyError, etree.XMLSyntaxError):
        return ""
    return core.findtext("{http://purl.org/dc/elements/1.1/}title") or ""
