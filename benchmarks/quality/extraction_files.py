"""Make PDF, HTML and Word files, with the text that they show."""

from __future__ import annotations

import io
import random
import textwrap
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from types import MappingProxyType
from typing import TypeAlias

Made: TypeAlias = tuple[bytes, str]

_COMMON = tuple(
    word
    for line in (
        "the of and in to was is for on as with by that from at it are an be which tower bridge river stands city",
        "height metres century built during engineer government population construction company international water",
        "temperature station museum important development production architecture exhibition restaurant visitors",
        "million year steel iron stone north south between under over first second third university light island",
        "mountain example",
    )
    for word in line.split()
)
_COMPOUND = ("state-of-the-art", "long-term", "well-known", "north-east", "cross-section", "large-scale", "twenty-five")
_CELLS = ("8", "6", "x", "7", "a", "2020", "130", "1.20", "M8", "42 %", "yes", "no", "0", "Nut", "9")


def sentence(rng: random.Random, length: int = 12) -> str:
    chosen = rng.choices(_COMMON, k=length)
    return f"{' '.join(chosen).capitalize()}."


def cells(rng: random.Random, columns: int = 5, rows: int = 6) -> list[list[str]]:
    return [rng.choices(_CELLS, k=columns) for _ in range(rows)]


def joined(rows: Iterable[Iterable[str]]) -> str:
    return "\n".join(" ".join(row) for row in rows)


# PDF


def pdf(pages: Sequence[str]) -> bytes:
    """Return a PDF with a page for each text of drawing operators."""
    kids = " ".join(f"{4 + 2 * page} 0 R" for page in range(len(pages)))
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {len(pages)}/Kids[{kids}]>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
    ]
    for number, page in enumerate(pages):
        resources = f"/Resources<</Font<</F 3 0 R>>>>/Contents {5 + 2 * number} 0 R"
        objects.append(f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]{resources}>>")
        objects.append(f"<</Length {len(page)}>>stream\n{page}\nendstream")
    data, places = b"%PDF-1.7\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj\n{content}\nendobj\n".encode("cp1252")
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"trailer<</Size {len(objects) + 1}/Root 1 0 R>>\nstartxref\n{len(data)}\n%%EOF\n"
    return data + f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}{end}".encode()


def put(x: float, y: float, text: str, turned: str = "1 0 0 1") -> str:
    return f"BT /F 11 Tf {turned} {x} {y} Tm ({text}) Tj ET\n"


def lines(x: float, y: float, texts: Iterable[str], turned: str = "1 0 0 1") -> str:
    _, _, c, d = (int(number) for number in turned.split())
    return "".join(put(x - 14 * c * i, y - 14 * d * i, text, turned) for i, text in enumerate(texts))


def pdf_paragraphs(rng: random.Random) -> Made:
    pages = [textwrap.wrap(" ".join(sentence(rng) for _ in range(6)), 80) for _ in range(2)]
    return pdf([lines(60, 720, page) for page in pages]), "\n".join(" ".join(page) for page in pages)


def pdf_table(rng: random.Random, turned: str = "1 0 0 1") -> Made:
    a, b, c, d = (int(number) for number in turned.split())
    rows = cells(rng)
    page = "".join(
        put(300 + a * (70 * i - 240) - c * 16 * j, 400 + b * (70 * i - 240) - d * 16 * j, cell, turned)
        for j, row in enumerate(rows)
        for i, cell in enumerate(row)
    )
    return pdf([page]), joined(rows)


def pdf_columns(rng: random.Random) -> Made:
    columns = [textwrap.wrap(" ".join(sentence(rng) for _ in range(8)), 40) for _ in range(2)]
    page = lines(60, 720, columns[0]) + lines(320, 720, columns[1])
    return pdf([page]), "\n".join(" ".join(column) for column in columns)


def pdf_sideways(rng: random.Random) -> Made:
    turned = rng.choice(["0 1 -1 0", "0 -1 1 0"])
    text = textwrap.wrap(" ".join(sentence(rng) for _ in range(6)), 70)
    return pdf([lines(300, 200 if turned.startswith("0 1") else 700, text, turned)]), " ".join(text)


def pdf_hyphens(rng: random.Random) -> Made:
    """Lines that end within words: in long ones with a hyphen that is not theirs, in compounds at their own."""
    words = [
        word for _ in range(14) for word in (*rng.choices(_COMMON, k=6), rng.choice(_COMPOUND), rng.choice(_COMMON))
    ]
    shown, line = [], ""
    for word in words:
        if len(line) + len(word) > 60 and len(word) > 7:
            cut = word.rindex("-") + 1 if "-" in word else rng.randint(3, len(word) - 3)
            head, tail = word[:cut], word[cut:]
            shown.append(f"{line} {head}".strip() + ("" if head.endswith("-") else "-"))
            line = tail
        elif len(line) + len(word) > 75:
            shown.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return pdf([lines(60, 720, [*shown, line])]), " ".join(words)


def pdf_outside(rng: random.Random) -> Made:
    texts = [sentence(rng, 8) for _ in range(6)]
    page = "".join(put(60, 700 - 30 * i, text) + put(900, 700 - 30 * i, "outside") for i, text in enumerate(texts))
    return pdf([page]), "\n".join(texts)


# HTML


def html(body: str) -> bytes:
    return f"<!DOCTYPE html><html><head><meta charset=utf-8></head><body>{body}</body></html>".encode()


def html_article(rng: random.Random) -> Made:
    texts = [sentence(rng) for _ in range(5)]
    rows = cells(rng)
    table = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    body = f"<h1>{texts[0]}</h1><p>{texts[1]}<br>{texts[2]}</p><table>{table}</table><div>{texts[3]}</div>{texts[4]}"
    return html(body), "\n".join([*texts[:3], joined(rows), *texts[3:]])


def html_code(rng: random.Random) -> Made:
    code = "\n".join(f"{'    ' * rng.randint(0, 2)}{' '.join(rng.choices(_COMMON, k=3))}" for _ in range(10))
    texts = [sentence(rng), sentence(rng)]
    body = (
        f"<p>{texts[0]}</p><pre><code>{escape(code)}</code></pre><textarea>{escape(code)}</textarea><p>{texts[1]}</p>"
    )
    return html(body), "\n".join([texts[0], code, code, texts[1]])


def html_lists(rng: random.Random) -> Made:
    """Lists in lists, with every kind of number."""
    kinds: list[tuple[str, Callable[[int], str]]] = [
        ("", str), (" type=a", lambda n: chr(96 + n)), (" type=A", lambda n: chr(64 + n)),
        (" type=i", lambda n: ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x")[n - 1]),
    ]  # fmt: skip
    body, shown = "", []
    for _ in range(4):
        (kind, mark), start, text = rng.choice(kinds), rng.randint(1, 6), sentence(rng, 5)
        inner = [sentence(rng, 4) for _ in range(2)]
        nested = "".join(f"<li>{one}</li>" for one in inner)
        body += f"<ol{kind} start={start}><li>{text}<ol reversed>{nested}</ol></li><li>{text}</li></ol><p>{text}</p>"
        shown += [f"{mark(start)}. {text}", f"2. {inner[0]}", f"1. {inner[1]}", f"{mark(start + 1)}. {text}", text]
    return html(body), "\n".join(shown)


def html_hidden(rng: random.Random) -> Made:
    hidden = (
        "<template><p>{}</p></template>", "<noscript>{}</noscript>", "<dialog>{}</dialog>", "<iframe src=x>{}</iframe>",
        "<object data=x>{}</object>", "<video>{}</video>", "<audio>{}</audio>", "<canvas>{}</canvas>",
        "<datalist><option>{}</datalist>", "<span style='visibility: hidden'>{}</span>", "<p hidden>{}</p>",
        "<span style='display: none'>{}</span>", "<script>{}</script>", "<!-- {} -->",
    )  # fmt: skip
    texts = [sentence(rng, 6) for _ in range(8)]
    body = "".join(f"<p>{text}</p>{rng.choice(hidden).format(sentence(rng, 4))}" for text in texts)
    return html(body), "\n".join(texts)


# Word

_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def docx(body: str, **parts: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        kinds = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
        relations = "http://schemas.openxmlformats.org/package/2006/relationships"
        word = "application/vnd.openxmlformats-officedocument.wordprocessingml"
        overrides = "".join(
            f'<Override PartName="/word/{name}.xml" ContentType="{word}.{name}+xml"/>' for name in parts
        )
        archive.writestr(
            "[Content_Types].xml",
            '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" '
            f'ContentType="application/xml"/><Override PartName="/word/document.xml" ContentType="{word}.document.main'
            f'+xml"/>{overrides}</Types>',
        )
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{relations}"><Relationship Id="rId1" Type="{kinds}/officeDocument" '
            'Target="word/document.xml"/></Relationships>',
        )
        related = "".join(
            f'<Relationship Id="rId{number}" Type="{kinds}/{name}" Target="{name}.xml"/>'
            for number, name in enumerate(parts, 1)
        )
        archive.writestr(
            "word/_rels/document.xml.rels", f'<Relationships xmlns="{relations}">{related}</Relationships>'
        )
        spaces = f'xmlns:w="{_W}" xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
        archive.writestr("word/document.xml", f"<w:document {spaces}><w:body>{body}</w:body></w:document>")
        for name, content in parts.items():
            archive.writestr(f"word/{name}.xml", f'<w:{name} xmlns:w="{_W}">{content}</w:{name}>')
    return file.getvalue()


def run(text: str, properties: str = "") -> str:
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def paragraph(content: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr>{content}</w:p>"


def docx_article(rng: random.Random) -> Made:
    texts, rows = [sentence(rng) for _ in range(5)], cells(rng)
    table = "".join(f"<w:tr>{''.join(f'<w:tc>{paragraph(run(cell))}</w:tc>' for cell in row)}</w:tr>" for row in rows)
    grid = f"<w:tblGrid>{'<w:gridCol/>' * len(rows[0])}</w:tblGrid>"
    body = "".join(paragraph(run(text)) for text in texts[:3]) + f"<w:tbl><w:tblPr/>{grid}{table}</w:tbl>"
    return docx(body + "".join(paragraph(run(text)) for text in texts[3:])), "\n".join(
        [*texts[:3], joined(rows), *texts[3:]]
    )


def docx_breaks(rng: random.Random) -> Made:
    """Words with a break, a tab or a hyphen between them."""
    between = (
        ("<w:br/>", " "), ("<w:br w:type='page'/>", " "), ("<w:cr/>", " "), ("<w:tab/>", " "),
        ("<w:ptab w:relativeTo='margin' w:alignment='right' w:leader='none'/>", " "), ("<w:noBreakHyphen/>", "-"),
        ("<w:softHyphen/>", ""), ("<w:lastRenderedPageBreak/>", ""),
    )  # fmt: skip
    body, shown = "", ""
    for _ in range(6):
        content, text = "", ""
        for word in rng.choices(_COMMON, k=10):
            element, sign = rng.choice(between)
            content += f"<w:r><w:t>{word}</w:t>{element}</w:r>"
            text += word + sign
        body += paragraph(content + run("end"))
        shown += f"{text}end\n"
    return docx(body), shown


def docx_numbers(rng: random.Random) -> Made:
    """A list in parts, with paragraphs between them, levels, and a list that starts again at a number."""
    levels = "".join(
        f"<w:lvl w:ilvl='{level}'><w:start w:val='{start}'/><w:numFmt w:val='{form}'/>"
        f"<w:lvlText w:val='{text}'/></w:lvl>"
        for level, start, form, text in ((0, 3, "decimal", "%1."), (1, 1, "lowerLetter", "%2)"))
    )
    again = "<w:lvlOverride w:ilvl='0'><w:startOverride w:val='7'/></w:lvlOverride>"
    numbering = f"<w:abstractNum w:abstractNumId='0'>{levels}</w:abstractNum>" + "".join(
        f"<w:num w:numId='{number}'><w:abstractNumId w:val='0'/>{more}</w:num>"
        for number, more in ((1, ""), (2, again))
    )

    def item(number: int, level: int, text: str) -> str:
        properties = f"<w:numPr><w:ilvl w:val='{level}'/><w:numId w:val='{number}'/></w:numPr>"
        return paragraph(run(text), properties)

    body, shown = "", []
    for number, first in ((1, 3), (2, 7)):
        for count in range(first, first + 3):
            texts = [sentence(rng, 5) for _ in range(4)]
            body += item(number, 0, texts[0]) + item(number, 1, texts[1]) + item(number, 1, texts[2])
            body += paragraph(run(texts[3]))
            shown += [f"{count}. {texts[0]}", f"a) {texts[1]}", f"b) {texts[2]}", texts[3]]
    return docx(body, numbering=numbering), "\n".join(shown)


def docx_hidden(rng: random.Random) -> Made:
    hidden = (
        lambda text: run(text, "<w:vanish/>"),
        lambda text: f"<w:del w:id='1' w:author='a'><w:r><w:delText>{text}</w:delText></w:r></w:del>",
        lambda text: f"<w:moveFrom w:id='1' w:author='a'>{run(text)}</w:moveFrom>",
    )
    texts = [sentence(rng, 8) for _ in range(8)]
    body = "".join(paragraph(run(text) + rng.choice(hidden)(sentence(rng, 4))) for text in texts)
    return docx(body), "\n".join(texts)


def docx_containers(rng: random.Random) -> Made:
    """Text in fields, tags, content controls, insertions, and text of another direction."""
    containers = (
        "<w:fldSimple w:instr='AUTHOR'>{}</w:fldSimple>", "<w:smartTag w:uri='u' w:element='e'>{}</w:smartTag>",
        "<w:sdt><w:sdtPr/><w:sdtContent>{}</w:sdtContent></w:sdt>", "<w:ins w:id='1' w:author='a'>{}</w:ins>",
        "<w:bdo w:val='ltr'>{}</w:bdo>", "<w:dir w:val='ltr'>{}</w:dir>",
        "<w:hyperlink w:anchor='a'>{}</w:hyperlink>", "<w:moveTo w:id='1' w:author='a'>{}</w:moveTo>",
    )  # fmt: skip
    body, shown = "", []
    for _ in range(8):
        first, second = sentence(rng, 6), sentence(rng, 5)
        body += paragraph(run(f"{first} ") + rng.choice(containers).format(run(second)))
        shown.append(f"{first} {second}")
    return docx(body), "\n".join(shown)


def docx_boxes(rng: random.Random) -> Made:
    """Text boxes, as Word 2010 and later write them, with and without the same for earlier versions."""
    shape = "http://schemas.microsoft.com/office/word/2010/wordprocessingShape"
    drawing = "http://schemas.openxmlformats.org/drawingml/2006/"
    body, shown = "", []
    for _ in range(4):
        before, inside = sentence(rng, 8), sentence(rng, 8)
        box = f"<w:txbxContent>{paragraph(run(inside))}</w:txbxContent>"
        anchor = (
            f'<wp:inline xmlns:wp="{drawing}wordprocessingDrawing"><wp:extent cx="2000000" cy="900000"/>'
            f'<wp:docPr id="1" name="b"/><a:graphic xmlns:a="{drawing}main"><a:graphicData uri="{shape}">'
            f'<wps:wsp xmlns:wps="{shape}"><wps:cNvSpPr txBox="1"/><wps:spPr><a:xfrm><a:off x="0" y="0"/><a:ext '
            'cx="2000000" cy="900000"/></a:xfrm><a:prstGeom prst="rect"><a:avLst/></a:prstGeom></wps:spPr>'
            f"<wps:txbx>{box}</wps:txbx><wps:bodyPr/></wps:wsp></a:graphicData></a:graphic></wp:inline>"
        )
        old = (
            '<w:pict><v:shape xmlns:v="urn:schemas-microsoft-com:vml" style="width:150pt;height:70pt">'
            f"<v:textbox>{box}</v:textbox></v:shape></w:pict>"
        )
        fallback = rng.choice(["", f"<mc:Fallback>{old}</mc:Fallback>"])
        choice = f'<mc:Choice xmlns:wps="{shape}" Requires="wps"><w:drawing>{anchor}</w:drawing></mc:Choice>'
        body += paragraph(run(before) + f"<w:r><mc:AlternateContent>{choice}{fallback}</mc:AlternateContent></w:r>")
        shown += [before, inside]
    return docx(body), "\n".join(shown)


CASES: Mapping[str, tuple[str, Callable[[random.Random], Made]]] = MappingProxyType(
    {
        "paragraphs": (".pdf", pdf_paragraphs),
        "columns": (".pdf", pdf_columns),
        "table": (".pdf", pdf_table),
        "sideways table": (".pdf", lambda rng: pdf_table(rng, rng.choice(["0 1 -1 0", "0 -1 1 0"]))),
        "sideways lines": (".pdf", pdf_sideways),
        "divided words": (".pdf", pdf_hyphens),
        "text outside the page": (".pdf", pdf_outside),
        "article": (".html", html_article),
        "code": (".html", html_code),
        "numbered lists": (".html", html_lists),
        "hidden elements": (".html", html_hidden),
        "document": (".docx", docx_article),
        "breaks": (".docx", docx_breaks),
        "numbered paragraphs": (".docx", docx_numbers),
        "hidden text": (".docx", docx_hidden),
        "containers": (".docx", docx_containers),
        "text boxes": (".docx", docx_boxes),
    }
)
"""The suffix and the maker of the files of each case."""
