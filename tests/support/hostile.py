"""Files that break readers: folders of them, made from code, with what must be said of each.

`HOSTILE` has the files that lie beside others in a folder of documents; `MODELS` has folders that are no models. Each
is small on disk, whatever it becomes when it is read.
"""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import dynamic_tinybert
from dynamic_tinybert.folder import EMBEDDED
from support.formats import W, assembled, docx, html, paragraph, pdf, write

READ = ""
"""In place of a reason: the file is read, in whole or in part, and its neighbours do not suffer."""
EITHER = None
"""In place of a reason: read or refused with any reason, as the versions of a library do."""


class Hostile(NamedTuple):
    """A hostile file.

    Attributes:
        name: Its path in the folder.
        make: Makes it.
        why: A part of the reason for which it is left out; or `READ` or `EITHER`.
        long: Whether it may become a text of which a model takes minutes, as it would of any such text.
    """

    name: str
    make: Callable[[Path], object]
    why: str | None
    long: bool = False


# Pieces that tests of single formats use, too.

HEADS_WITHOUT_END = (
    b"<meta " * 680 + b"charset=" + b" " * 4000 + b"\0",
    b"<meta charset=" + b" " * 100_000,
    b"<meta name" * 5000,
    b"<?xml encoding=" * 5000,
    b"<!--" * 20_000,
    b"<script" * 20_000,
)
LAUGHS = '<!DOCTYPE x [<!ENTITY a0 "ha">{}]>'.format(
    "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
)
DEEP_TABLE = "<w:tbl><w:tr><w:tc>" * 5000 + "</w:tc></w:tr></w:tbl>" * 5000


def form_that_draws_itself(names: str = "F") -> bytes:
    """A PDF of which a form draws itself twice; or the next of several forms, and the last the first."""
    resources = "<</XObject<<{}>>>>".format("".join(f"/{name} {5 + i} 0 R" for i, name in enumerate(names)))
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R/Resources{resources}>>".encode(),
        _stream(f"/{names[0]} Do".encode()),
    ]
    for following in names[1:] + names[0]:
        kind = f"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources{resources}".encode()
        objects.append(_stream(f"/{following} Do /{following} Do".encode(), kind))
    return assembled(objects)


def _stream(content: bytes, more: bytes = b"") -> bytes:
    return b"<<%s/Length %d>>stream\n%s\nendstream" % (more, len(content), content)


def page_of(content: bytes, packed: int = 0) -> bytes:
    """A PDF with one page of this content, which is compressed so many times."""
    for _ in range(packed):
        content = zlib.compress(content, 9)
    filters = b"/Filter[%s]" % (b"/FlateDecode" * packed)
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count 1/Kids[5 0 R]>>",
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        b"<<>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F 3 0 R>>>>/Contents 6 0 R>>",
        _stream(content, filters),
    ]
    return assembled(objects)


def pages_of_pages() -> bytes:
    """A PDF whose tree of pages is its own child."""
    return assembled([b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Count 2147483647/Kids[2 0 R 2 0 R]>>"])


def tables_of_tables() -> bytes:
    """A PDF whose table of objects says that there is another one before it: itself."""
    whole = pdf(["The tower"])
    return whole.replace(b"trailer<<", b"trailer<</Prev %d" % whole.rindex(b"xref\n0 "))


def _bomb(path: Path, name: str, size: int) -> None:
    """A Word document with a part of so many spaces."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as part:
        part.write(f'<w:document xmlns:w="{W}"><w:body>{paragraph("The tower")}'.encode())
        for _ in range(size >> 20):
            part.write(b" " * (1 << 20))


def _cut_zip(path: Path) -> None:
    content = docx(path, paragraph("The tower " * 900)).read_bytes()
    write(path, content[: len(content) // 2])


def _holes(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def _deep(path: Path) -> None:
    """Folders so deep that no path reaches the last one in one step, and a text in the last."""
    path.mkdir()
    here = os.open(path, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    with os.fdopen(os.open("deepest.txt", os.O_WRONLY | os.O_CREAT, dir_fd=here), "w") as file:
        file.write("The deepest lamp was lit by Agnes Moreau.")
    os.close(here)


def _text(content: str | bytes) -> Callable[[Path], object]:
    return lambda path: write(path, content)


def _link(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def _document(body: str, **options: object) -> Callable[[Path], object]:
    return lambda path: docx(path, body, **options)  # type: ignore[arg-type]


_OPERATORS = b"BT /F 12 Tf 72 720 Td " + b"(ab) Tj 0 -1 Td " * 560_000 + b"ET"
_MARKS = "\u00ad\u200b\u2060\u200e\u202e\u2066\ufeff"
_STYLES = "".join(f"<w:style w:styleId='s{i}'><w:basedOn w:val='s{(i + 1) % 9000}'/></w:style>" for i in range(9000))
_EMPTY = "has no record that can be read"

HOSTILE = (
    # PDF: what ended the process, and what took its memory or its time.
    Hostile("pdf/draws-itself.pdf", lambda path: write(path, form_that_draws_itself()), EITHER),
    Hostile("pdf/draw-each-other.pdf", lambda path: write(path, form_that_draws_itself("FGH")), EITHER),
    Hostile("pdf/operators.pdf", lambda path: write(path, page_of(_OPERATORS)), EITHER, long=True),
    Hostile("pdf/packed-operators.pdf", lambda path: write(path, page_of(_OPERATORS, 2)), EITHER, long=True),
    Hostile("pdf/packed-spaces.pdf", lambda path: write(path, page_of(b" " * (1 << 26), 2)), "without text"),
    Hostile("pdf/nested.pdf", lambda path: write(path, page_of(b"q " * 500_000 + b"[" * 500_000)), "without text"),
    Hostile("pdf/pages-of-pages.pdf", lambda path: write(path, pages_of_pages()), EITHER),
    Hostile("pdf/tables-of-tables.pdf", lambda path: write(path, tables_of_tables()), EITHER),
    Hostile("pdf/cut.pdf", lambda path: write(path, pdf(["One"])[:150]), "is a broken PDF"),
    Hostile("pdf/empty.pdf", _text(""), "is a broken PDF"),
    Hostile("pdf/broken-page.pdf", lambda path: write(path, pdf(["One", "Two"], broken=0)), "page 1 is broken"),
    # HTML and Markdown: patterns and parsers that take the square or the cube of the length.
    *(Hostile(f"html/head-{i}.html", _text(head), EITHER) for i, head in enumerate(HEADS_WITHOUT_END)),
    Hostile("html/attributes.html", _text(html(f"<p {' '.join(f'a{i}=1' for i in range(20_000))}>One")), READ),
    Hostile("html/classes.html", _text(html(f"<p class='{'a ' * 500_000}' style='{'x:y;' * 99_999}'>One")), READ),
    Hostile("html/deep.html", _text("<div>" * 10_000 + "deep"), "nested too deep"),
    Hostile("html/deep-tables.html", _text("<table><tr><td>" * 10_000 + "deep"), "nested too deep"),
    Hostile("html/unclosed.html", _text("<b><i>" * 20_000 + "deep"), EITHER),
    Hostile("html/entities.html", _text("<p>" + "&#0;&#x10FFFF;&amp;&nothing;" * 50_000), READ, long=True),
    Hostile("html/lists.html", _text(f"<ol start={'9' * 20}><li value=-9e999>" + "<li>" * 50_000), READ, long=True),
    Hostile("html/lengths.html", _text(html("<p style='margin-left:9999999999em;padding:1e99em'>One")), READ),
    Hostile("html/file.html", _text('<!DOCTYPE h [<!ENTITY x SYSTEM "/etc/passwd">]><p>&x;'), READ),
    Hostile("html/title.html", _text(f"<title>{'long ' * 200_000}</title><p>One"), READ),
    Hostile("html/codes.html", _text(html("\x1b[2J\x1b]0;x\x07 One \x9b31m", "<title>\x1b[31mred</title>")), READ),
    Hostile("md/front-matter.md", _text("---" + "\n" * 200_000), READ),
    Hostile("md/front-title.md", _text("---\ntitle: " + " " * 900_000 + "\n---"), READ),
    Hostile("md/brackets.md", _text("# " + "[" * 900_000), READ, long=True),
    Hostile("md/quotations.md", _text(">" * 200_000 + " # deep"), READ, long=True),
    Hostile("md/emphasis.md", _text("# " + "*a_" * 100_000), READ, long=True),
    Hostile("md/marks.rst", _text("a\n" + "=" * 900_000 + "\n" + ("a\n=\n" * 100_000)), READ, long=True),
    # Word: entities, archives that grow, parts that take long.
    Hostile("docx/laughs.docx", _document(paragraph("&a9;"), doctype=LAUGHS), "DOCTYPE"),
    Hostile("docx/laughs-in-styles.docx", _document("", more={"word/styles.xml": f"{LAUGHS}<x/>"}), "DOCTYPE"),
    Hostile("docx/empty-paragraphs.docx", _document(paragraph("One") + "<w:p/>" * 100_000), READ),
    Hostile("docx/deep.docx", _document(DEEP_TABLE), "nested too deep"),
    Hostile("docx/comment.docx", _document(f"<!--{'x' * 30_000_000}-->{paragraph('One')}"), READ),
    Hostile("docx/styles.docx", _document(f"<w:p><w:pPr><w:pStyle w:val='s0'/></w:pPr>{paragraph('One')[5:]}",
            more={"word/styles.xml": f'<w:styles xmlns:w="{W}">{_STYLES}</w:styles>'}), READ),
    Hostile("docx/bomb.docx", lambda path: _bomb(path, "word/document.xml", 1 << 26), "too large"),
    Hostile("docx/bomb-beside.docx", lambda path: _bomb(path, "word/media/x.xml", 1 << 26), "too large"),
    Hostile("docx/outside.docx", _document(paragraph("One"), more={"../../outside.txt": "no"}), READ),
    Hostile("docx/cut.docx", _cut_zip, "not a zip file"),
    Hostile("docx/text.docx", _text("The tower stands in Paris."), "not a zip file"),
    # JSON Lines and text.
    Hostile("rows/nul.jsonl", _text('{"text": "One"}\n{"text": "t\0wo"}\n'), "line 2: is not JSON"),
    Hostile("rows/deep.jsonl", _text('{"text": "One"}\n' + "[" * 100_000), "line 2: is nested too deeply"),
    Hostile("rows/number.jsonl", _text('{"text": "One", "id": ' + "1" * 5000 + "}\n{}\n"), "has no text in 'text'"),
    Hostile("rows/half.jsonl", _text(rb'{"text": "\ud800"}'), _EMPTY),
    Hostile("rows/none.jsonl", _text("[]\n" * 100_000), _EMPTY),
    Hostile("rows/codes.jsonl", _text(f'{{"text": "One", "id": "\\u001b[2J{"i" * 5000}", "title": "\\u009b"}}'), READ),
    Hostile("rows/same.jsonl", _text('{"text": "One", "id": "same"}\n' * 3000), READ, long=True),
    Hostile("text/marks.txt", _text(_MARKS * 20_000), READ),
    Hostile("text/accents.txt", _text("e" + "\u0301" * 200_000), READ),
    Hostile("text/word.txt", _text("The longest lamp was lit by " + "a" * 2_000_000 + "."), READ),
    Hostile("text/lines.txt", _text("\n" * 2_000_000), READ),
    Hostile("text/nul.txt", _text("The tower\0"), "is not text"),
    Hostile("text/latin.txt", _text("Le café".encode("latin-1")), "is not text in UTF-8"),
    Hostile("text/picture.txt", _text(b"\x89PNG\r\n\x1a\n" + bytes(999)), "is not text"),
    # What is no file, or no file that ends.
    *(Hostile(f"holes/a{suffix}", _holes, "NUL") for suffix in (".txt", ".jsonl", ".pdf", ".html", ".docx", ".md")),
    Hostile("ends/pagemap.txt", _link("/proc/self/pagemap"), EITHER),
    Hostile("ends/pagemap.jsonl", _link("/proc/self/pagemap"), EITHER),
    Hostile("ends/zero.txt", _link("/dev/zero"), "is not a file"),
    Hostile("ends/pipe.html", os.mkfifo, "is not a file"),
    Hostile("ends/nothing.txt", _link("nowhere"), "is a broken link"),
    Hostile("ends/itself.txt", _link("itself.txt"), "oo many"),
    Hostile("ends/up", _link("../.."), READ),
    Hostile("ends/deep", _deep, READ),
    Hostile("names/\x1b[2J\x1b]0;x\x07\n.txt", _text(b"\0"), "is not text"),
    Hostile(f"names/{'n' * 250}.txt", _text(b"\0"), "is not text"),
    Hostile(os.fsdecode(b"names/caf\xe9.pdf"), _text("no PDF"), "is a broken PDF"),
)  # fmt: skip

NEIGHBOURS: dict[str, Callable[[Path], object]] = {
    "lamp-1.txt": _text("The first lamp was lit by Ada Lovelace."),
    "lamp-2.md": _text("# Lamps\n\nThe second lamp was lit by Carl Langhans."),
    "lamp-3.html": _text(html("<p>The third lamp was lit by Maurice Koechlin.")),
    "lamp-4.pdf": lambda path: write(path, pdf(["The fourth lamp was lit by Gustave Eiffel."])),
    "lamp-5.docx": _document(paragraph("The fifth lamp was lit by Berta Benz.")),
    "lamp-6.jsonl": _text('{"id": 6, "text": "The sixth lamp was lit by Emil Nolde."}\n'),
}
"""Files that are as they should be. One lies in each folder of hostile ones; all lie in the folder above."""


def fill(folder: Path, *, long: bool = True) -> list[Hostile]:
    """Write all hostile files, or those that are not long, and their neighbours into a folder; return the former."""
    files = [one for one in HOSTILE if long or not one.long]
    for name, make in NEIGHBOURS.items():
        folder.mkdir(exist_ok=True)
        make(folder / name)
    for one in files:
        path = folder / one.name
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
            write(path.parent / "zz-neighbour.txt", f"The neighbour of {path.parent.name} was Emil Nolde.")
        one.make(path)
    return files


def clear(folder: Path) -> None:
    """Remove a folder that `fill` made: it is too deep for others."""
    subprocess.run(["rm", "-rf", str(folder)], check=True)


# Models.

_EMBEDDED = Path(dynamic_tinybert.__file__).parent / EMBEDDED


def _model(path: Path, **files: str | bytes) -> None:
    """A copy of the embedded model by links, with other content in some files."""
    path.mkdir(parents=True)
    for file in _EMBEDDED.iterdir():
        if file.name not in files and file.is_file():
            (path / file.name).symlink_to(file)
    for name, content in files.items():
        write(path / name, content)


def _tokenizer(**changes: object) -> str:
    return json.dumps(json.loads((_EMBEDDED / "tokenizer.json").read_text("utf-8")) | changes)


def _config(**changes: object) -> str:
    return json.dumps(json.loads((_EMBEDDED / "config.json").read_text("utf-8")) | changes)


def _tensors(path: Path) -> None:
    _model(path)
    (path / "model.safetensors").unlink()
    head = json.dumps({"\x1b[2J" + "t" * 100_000: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    write(path / "model.safetensors", len(head).to_bytes(8, "little") + head + bytes(4))


_PANICS = (
    {"normalizer": {"type": "Precompiled", "precompiled_charsmap": ""}},
    {"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[X]", "type_id": 0}}],
                        "pair": [], "special_tokens": {}}},
)  # fmt: skip
MODELS = (
    Hostile("panic-1", lambda path: _model(path, **{"tokenizer.json": _tokenizer(**_PANICS[0])}), "cannot be"),
    Hostile("panic-2", lambda path: _model(path, **{"tokenizer.json": _tokenizer(**_PANICS[1])}), "cannot be"),
    Hostile("prefix", lambda path: _model(path, **{"tokenizer.json": '{"' + "a" * 10_000_000}), "cannot be"),
    Hostile("deep", lambda path: _model(path, **{"tokenizer.json": "[" * 100_000}), "cannot be"),
    Hostile("string", lambda path: _model(path, **{"config.json": _config(model_type="a" * 10_000_000)}), "model_type"),
    Hostile("codes", lambda path: _model(path, **{"config.json": _config(hidden_act="\x1b[2J\n")}), "hidden_act"),
    Hostile("tensors", _tensors, "tensor"),
    Hostile("card", lambda path: _model(path, **{"README.md": "---" + "\n" * 200_000}), READ),
    Hostile("table", lambda path: _model(path, **{"length_configs.json": "[" * 100_000}), "length_configs"),
    Hostile("\x1b[2J\nname", lambda path: _model(path, **{"config.json": "{"}), "config.json"),
)
"""Folders of models that must be refused in one line, or used."""
