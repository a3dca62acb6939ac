"""Read Word documents: mammoth converts them to HTML."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dynamic_tinybert.corpus.errors import UnreadableError
from dynamic_tinybert.corpus.formats.html import rendered
from dynamic_tinybert.corpus.formats.reading import Complain, Reading, as_unreadable

_LARGEST_ARCHIVE = 1 << 30  # bytes of all parts of a Word document, unpacked
_LARGEST_XML = 32 << 20  # bytes of the XML parts; their tree takes about 45 times as much memory
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_UNRECOGNISED = re.compile(r"An unrecognised element was ignored: (?:\{.*\})?(?P<name>(?:[^:]*:)?(?P<local>.*))")
_TEXTLESS = re.compile(
    r"\w*(?:Pr|PrEx|Start|End|[sS]eparator)"
    r"|cr|ptab|pgNum|fldData|control|stroke|fill|path|textpath|formulas|handles|lock|OLEObject"
)


def read_docx(path: Path, reading: Reading, complain: Complain) -> Iterator[str]:
    """Yield the title of a Word document, then its text."""
    import mammoth

    with path.open("rb") as file, as_unreadable("a Word document"):
        title = _checked_title(file)
        file.seek(0)
        html = mammoth.convert_to_html(file, convert_image=lambda image: [], include_embedded_style_map=False)
        text = rendered(html.value)[1]
    for element in dict.fromkeys(_left_out([message.message for message in html.messages])):
        complain(f"left out: {element}")
    yield title
    yield text


def _left_out(messages: list[str]) -> Iterator[str]:
    """Yield the names of the elements that mammoth left out, without those that never contain text."""
    for message in messages:
        left_out = _UNRECOGNISED.match(message)
        if left_out and not _TEXTLESS.fullmatch(left_out["local"]):
            yield left_out["name"]


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
