"""The documentation site's pictures, and what its checker finds. `make docs` builds the site and checks it."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from dynamic_tinybert import QuestionAnswerer

ROOT = Path(__file__).parents[2]
PICTURES = sorted((ROOT / "docs" / "pictures").glob("*.svg"))


def tool(name: str) -> ModuleType:
    """Load a file of scripts/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def drawn(qa: QuestionAnswerer) -> dict[str, str]:
    """The pictures as they are drawn now."""
    return {drawing.name: drawing.svg() for drawing in tool("draw_docs").drawings(qa)}


def words(svg: str) -> list[str]:
    """What a picture says, in order."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def shades(svg: str) -> list[str]:
    return re.findall(r'<rect [^>]*class="f-(shade\d)', svg)


@pytest.mark.slow
@pytest.mark.parametrize("picture", PICTURES, ids=lambda p: p.stem)
def test_a_picture_shows_what_is_so_now(picture: Path, drawn: dict[str, str]) -> None:
    """The model, its table, the recipes: if one changes, `python scripts/draw_docs.py` draws what is so then."""
    stored, now = picture.read_text("utf-8"), drawn[picture.stem]
    assert words(stored) == words(now)
    before, after = shades(stored), shades(now)
    assert len(before) == len(after)
    # Which of two tokens of nearly the same significance goes on, the processor may decide.
    assert sum(a == b for a, b in zip(before, after, strict=True)) >= 0.95 * len(before)


def test_the_commands_are_all_on_their_page() -> None:
    page = (ROOT / "docs" / "commands.md").read_text("utf-8")
    assert tool("draw_docs").with_help(page) == page, "python scripts/draw_docs.py writes it"


def test_every_picture_is_there_and_shown(drawn: dict[str, str]) -> None:
    assert {p.stem for p in PICTURES} == set(drawn)
    pages = "".join(p.read_text("utf-8") for p in [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/*.rst")])
    for picture in PICTURES:
        assert f"pictures/{picture.name}" in pages


@pytest.mark.parametrize("picture", PICTURES, ids=lambda p: p.stem)
def test_a_picture_is_small_and_stands_alone(picture: Path) -> None:
    assert picture.stat().st_size < 64_000
    root = ElementTree.parse(picture).getroot()
    title = root.find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert len(title.text or "") > 20  # what it says to those who cannot see it
    assert not re.search(r"(href|src)=|url\((?!#)|@import", picture.read_text("utf-8"))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        assert 0 < float(text.attrib["x"]) < width
        assert 0 < float(text.attrib["y"]) < height


def complaints(folder: Path, page: str, **files: str) -> list[str]:
    (folder / "index.html").write_text(page, "utf-8")
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content, "utf-8")
    return list(tool("check_site").complaints(folder))


@pytest.mark.parametrize(
    "page",
    [
        '<script src="https://cdn.example.org/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example.org/css">',
        '<link rel="preconnect" href="https://fonts.example.org">',
        '<img src="https://example.org/badge.svg">',
        '<p style="background: url(https://example.org/x.png)">',
        "<style>@import 'https://example.org/x.css';</style>",
        '<img src="missing.png">',
        '<a href="missing.html">',
        '<a href="other.html#nowhere">',
        '<a href="#nowhere">',
    ],
)
def test_a_bad_page_is_found(tmp_path: Path, page: str) -> None:
    assert len(complaints(tmp_path, page, other_html="<p id=here>")) == 1


def test_a_bad_style_is_found(tmp_path: Path) -> None:
    style = "@font-face { src: url('https://fonts.example.org/x.woff2') }"
    assert len(complaints(tmp_path, "<p>", site_css=style)) == 1


def test_a_good_page_is_let_be(tmp_path: Path) -> None:
    page = (
        '<link rel="stylesheet" href="site.css?v=1"><link rel="canonical" href="https://example.org/">'
        '<a href="https://example.org/">elsewhere</a><a href="other.html#h%C3%A9re">here</a><a href="#top" id="top">'
        '<img src="data:image/png;base64,AA==">'
    )
    assert complaints(tmp_path, page, other_html="<p id=hére>", site_css="p { color: red }") == []


def test_no_site_at_all_is_found(tmp_path: Path) -> None:
    assert len(list(tool("check_site").complaints(tmp_path))) == 1
