"""Files of every format, and how the tests read them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from dynamic_tinybert.corpus.errors import UnreadableError
from dynamic_tinybert.corpus.formats import Reading, read

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


def html(body: str, head: str = "") -> str:
    return f"<!DOCTYPE html><html><head>{head}</head><body>{body}</body></html>"


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


HELVETICA = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>"


def drawn(*pages: str, more: str = "", box: str = "/MediaBox[0 0 612 792]", font: bytes = HELVETICA) -> bytes:
    """A PDF with a page for each text of operators, as `placed` makes them; `box` is the size and turn of a page."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {len(pages)}/Kids[{' '.join(f'{5 + 2 * i} 0 R' for i in range(len(pages)))}]>>".encode(),
        font,
        b"<<>>",
    ]
    for i, page in enumerate(pages):
        kind = b"/Type/Page/Parent 2 0 R%s/Resources<</Font<</F 3 0 R>>>>/Contents %d 0 R"
        objects.append(b"<<" + kind % (box.encode(), 6 + 2 * i) + b">>")
        objects.append(b"<</Length %d>>stream\n%s\nendstream" % (len(page), page.encode("ascii")))
    return assembled(objects, more)


def beyond_latin(codes: bytes) -> bytes:
    """Make a PDF with text of a font whose codes 1, 2 and 3 are 😀, 東 and the ligature ff, and which draws nothing."""
    table = (
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def "
        b"1 begincodespacerange <0000> <FFFF> endcodespacerange 3 beginbfchar <0001> <D83DDE00> <0002> <6771> "
        b"<0003> <00660066> endbfchar endcmap end end"
    )
    content = b"BT /F 12 Tf 72 720 Td <%s> Tj ET" % codes
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
    return assembled(objects)


def placed(x: float, y: float, text: str, turned: str = "1 0 0 1") -> str:
    """Operators that write a text in Helvetica of 12 points from a place on."""
    return f"BT /F 12 Tf {turned} {x} {y} Tm ({text}) Tj ET\n"


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
