"""The main content of HTML pages: how much boilerplate `--html main` and trafilatura remove, and what they lose.

usage: python -m benchmarks.quality.main_content FOLDER [--site build/docs] [--output results/quality/main-content.md]

FOLDER is a folder with the unpacked documentation packages of Debian that `PAGES` names; --site is our own site. What
is body and what is boilerplate (menus, navigation bars, footers) is known by the elements that each generator writes.
trafilatura must be installed.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lxml import etree, html

from benchmarks import common
from dynamic_tinybert.corpus.formats.html import rendered

_WORD = re.compile(r"\w+")


def _class(name: str) -> str:
    return f"//*[contains(concat(' ', normalize-space(@class), ' '), ' {name} ')]"


_MAIN = "//*[@role='main']"
_DOXYGEN = f"{_class('contents')} | {_class('headertitle')}"
_NAVIGATION_TABLES = "//table[starts-with(@summary, 'Navigation')]"


@dataclass(frozen=True)
class Pages:
    """Pages of a generator.

    Attributes:
        name: What they are, and what made them.
        files: A pattern of their paths.
        body: XPath of what is body; several elements count together.
        less: XPath of what is boilerplate within it.
    """

    name: str
    files: str
    body: str = "//body"
    less: str = ""


PAGES = (
    Pages("CMake (Sphinx)", "usr/share/doc/cmake-data/html/[mc]*/*.html", _MAIN),
    Pages("Requests (Sphinx)", "usr/share/doc/python-requests-doc/html/*/*.html", _MAIN),
    Pages("Jinja (Sphinx)", "usr/share/doc/python-jinja2-doc/html/*.html", _MAIN),
    Pages("Debian policy (Sphinx)", "usr/share/doc/debian-policy/policy.html/*.html", _MAIN),
    Pages("fish (Sphinx)", "usr/share/doc/fish/cmds/*.html", _MAIN),
    Pages("Django (Sphinx, old theme)", "usr/share/doc/python-django-doc/html/*/*.html", "//div[@id='yui-main']",
          _class("nav")),
    Pages("Eigen (Doxygen)", "usr/share/doc/libeigen3-dev/html/*.html", _DOXYGEN),
    Pages("Doxygen (Doxygen)", "usr/share/doc/doxygen/html/*.html", _DOXYGEN),
    Pages("PostgreSQL (DocBook)", "usr/share/doc/postgresql-doc-15/html/*.html",
          less=f"{_class('navheader')} | {_class('navfooter')}"),
    Pages("maint-guide (DocBook)", "usr/share/doc/maint-guide/html/*.html",
          less=f"{_class('navheader')} | {_class('navfooter')}"),
    Pages("GLib (gtk-doc)", "usr/share/gtk-doc/html/glib/*.html", less=f"{_NAVIGATION_TABLES} | {_class('footer')}"),
    Pages("SLIME (Texinfo)", "usr/share/doc/slime/html/*.html", less=f"{_class('header')} | {_class('nav-panel')}"),
    Pages("NTPsec (AsciiDoc)", "usr/share/doc/ntpsec-doc/html/*.html", less="//*[@id='footer']"),
    Pages("git (AsciiDoc)", "usr/share/doc/git-doc/*/*.html", less="//*[@id='footer']"),
    Pages("Apache (own)", "usr/share/doc/apache2-doc/manual/en/*/*.html", less=" | ".join(
        [*(f"//*[@id='{name}']" for name in ("page-header", "footer", "quickview", "path", "comments_section")),
         *map(_class, ("toplang", "bottomlang", "up", "top"))])),
    Pages("SQLite (own)", "usr/share/doc/sqlite3/*.html", less=_class("nosearch")),
    Pages("Postfix (by hand)", "usr/share/doc/postfix/html/*.html"),
)  # fmt: skip
SITE = Pages("this project (Sphinx, furo)", "docs/*.html", _MAIN)


# Ways to find the main content: the text of a page, as `rendered` makes it or as a library does.


def all_of_it(markup: str) -> str:
    return rendered(markup)[1]


def by_landmarks(markup: str) -> str:
    return rendered(markup, main=True)[1]


def by_trafilatura(markup: str) -> str:
    return str(importlib.import_module("trafilatura").extract(markup, include_comments=False) or "")


def by_trafilatura_recall(markup: str) -> str:
    found = importlib.import_module("trafilatura").extract(markup, include_comments=False, favor_recall=True)
    return str(found or "")


WAYS: dict[str, Callable[[str], str]] = {
    "all": all_of_it,
    "`--html main`": by_landmarks,
    "trafilatura": by_trafilatura,
    "trafilatura, for recall": by_trafilatura_recall,
}


@dataclass
class Score:
    """Words of a way on some pages.

    Attributes:
        body: Words of the body, and `boilerplate` all others.
        lost: Words of the body that are not in the text; `kept` words of the boilerplate that are.
        empty: Pages of which it gave less than a tenth of the body.
        seconds: What it took.
    """

    body: int = 0
    boilerplate: int = 0
    lost: int = 0
    kept: int = 0
    empty: int = 0
    seconds: float = field(default=0.0, compare=False)

    def __add__(self, other: Score) -> Score:
        return Score(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


def main() -> None:
    args = parse()
    scores: dict[str, dict[str, Score]] = {}
    counts: dict[str, int] = {}
    for pages, folder in [*((pages, args.folder) for pages in PAGES), (SITE, args.site)]:
        paths = [path for path in sorted(folder.glob(pages.files)) if 2000 < path.stat().st_size < 500_000]
        paths = random.Random(args.seed).sample(paths, min(args.pages, len(paths)))
        found = [each for path in paths if (each := measured(path, pages))]
        counts[pages.name] = len(found)
        scores[pages.name] = {way: sum((each[way] for each in found), Score()) for way in WAYS}
    common.write_page(markdown(scores, counts), args.output)


def parse() -> argparse.Namespace:
    parser = common.argument_parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="with the packages, unpacked by dpkg -x")
    parser.add_argument("--site", type=Path, default=Path("build/docs"), help="[default: %(default)s]")
    parser.add_argument("--pages", type=int, default=15, help="of each kind [default: %(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="[default: %(default)s]")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the page to this file")
    return parser.parse_args()


def measured(path: Path, pages: Pages) -> dict[str, Score] | None:
    """Return what each way makes of a page; None if it has no body, as an index of links."""
    markup = path.read_bytes().decode("utf-8", "replace")
    body = _words(rendered(_body(markup, pages))[1])
    if body.total() < 50:
        return None
    boilerplate = _words(all_of_it(markup)) - body
    scores = {}
    for way, act in WAYS.items():
        began = time.process_time()
        words = _words(act(markup))
        seconds = time.process_time() - began
        kept = (words - body) & boilerplate
        missing = body - words
        scores[way] = Score(
            body.total(), boilerplate.total(), missing.total(), kept.total(),
            int(missing.total() > 0.9 * body.total()), seconds,
        )  # fmt: skip
    return scores


def _words(text: str) -> Counter[str]:
    return Counter(word.lower() for word in _WORD.findall(text))


def _body(markup: str, pages: Pages) -> str:
    tree = html.document_fromstring(markup.encode(), parser=html.HTMLParser(encoding="utf-8"))
    if pages.less:
        _remove(tree.xpath(pages.less))
    return _markup(tree.xpath(pages.body))


def _remove(elements: Iterable[Any]) -> None:
    for element in elements:
        if element.getparent() is not None:
            element.drop_tree()


def _markup(elements: Iterable[Any]) -> str:
    parts = []
    for element in elements:
        alone = copy.deepcopy(element)
        alone.tail = None
        parts.append(etree.tostring(alone, encoding="unicode", method="html"))
    return f"<html><body>{''.join(parts)}</body></html>"


def markdown(scores: dict[str, dict[str, Score]], counts: dict[str, int]) -> str:
    def cells(score: Score) -> list[str]:
        removed = 1 - score.kept / score.boilerplate if score.boilerplate else None
        lost = score.lost / score.body if score.body else None
        return [common.number(100 * x if x is not None else None, "%", 1) for x in (removed, lost)]

    ways = [way for way in WAYS if way != "all"]
    total = {way: sum((each[way] for each in scores.values()), Score()) for way in WAYS}
    mean = {way: [_mean(scores, way, what) for what in ("kept", "lost")] for way in ways}
    rows = [
        (name, f"{counts[name]}", f"{each['all'].body:,}", f"{each['all'].boilerplate:,}",
         *(cell for way in ways for cell in cells(each[way])))
        for name, each in scores.items()
    ]  # fmt: skip
    rows.append(
        ("**all words**", f"{sum(counts.values())}", f"{total['all'].body:,}", f"{total['all'].boilerplate:,}",
         *(cell for way in ways for cell in cells(total[way])))
    )  # fmt: skip
    rows.append(("**mean of the kinds**", "", "", "", *(cell for way in ways for cell in mean[way])))
    header = ["pages of", "pages", "words of the body", "of boilerplate"]
    parts = [
        "# Main content of HTML pages",
        common.heading("lxml", "inscriptis", "trafilatura"),
        common.table([*header, *(f"{way}: {what}" for way in ways for what in ("removed", "lost"))], rows),
        "Pages of which less than a tenth of the body was left: "
        + ", ".join(f"{way} {total[way].empty}" for way in ways)
        + ". Processor time of a page: "
        + ", ".join(f"{way} {1000 * total[way].seconds / sum(counts.values()):.0f} ms" for way in WAYS)
        + ".",
    ]
    return "\n\n".join(parts) + "\n"


def _mean(scores: dict[str, dict[str, Score]], way: str, what: str) -> str:
    shares = []
    for each in scores.values():
        score = each[way]
        if what == "kept" and score.boilerplate:
            shares.append(1 - score.kept / score.boilerplate)
        elif what == "lost" and score.body:
            shares.append(score.lost / score.body)
    return common.number(100 * sum(shares) / len(shares), "%", 1)


if __name__ == "__main__":
    main()
