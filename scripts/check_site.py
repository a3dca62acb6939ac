"""Checks a site as it was built: it asks no other host for anything, and every link within it leads somewhere.

usage: check_site.py build/docs

Links to other hosts are for readers to follow, and are left alone; what a page *loads* (scripts, styles, fonts, images)
must lie beside it.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Tag -> attributes whose address a browser fetches by itself.
LOADED = {
    "audio": ("src",), "embed": ("src",), "iframe": ("src",), "img": ("src", "srcset"), "input": ("src",),
    "object": ("data",), "script": ("src",), "source": ("src", "srcset"), "track": ("src",), "video": ("src", "poster"),
    "image": ("href", "xlink:href"), "use": ("href", "xlink:href"),
}  # fmt: skip
FETCHING = {"dns-prefetch", "icon", "manifest", "modulepreload", "preconnect", "prefetch", "preload", "stylesheet"}
_IN_STYLE = re.compile(r"url\(\s*['\"]?(.*?)['\"]?\s*\)|@import\s+['\"](.*?)['\"]")


class Page(HTMLParser):
    """What a page loads, links to, and can be linked to at."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self._in_style = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self._in_style = tag == "style"
        self.loads += [given[name] for name in LOADED.get(tag, ()) if name in given]
        if tag == "link" and FETCHING & set(given.get("rel", "").split()):
            self.loads.append(given.get("href", ""))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        self.loads += _in_style(given.get("style", ""))

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.loads += _in_style(data)

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False


def _in_style(style: str) -> list[str]:
    return [found[0] or found[1] for found in _IN_STYLE.findall(style)]


def complaints(site: Path) -> Iterator[str]:
    """Yield what is wrong with a site, a line each."""
    pages = {path: Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    if not pages:
        yield f"{site} holds no page"
    for path, page in pages.items():
        for address in page.loads:
            yield from _loaded(site, path, address)
        for address in page.links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield f"{path}: a link to {address}, which is not there"
            elif parts.fragment and target.suffix == ".html":
                known = pages.get(site / target.relative_to(site.resolve()))
                if known and unquote(parts.fragment) not in known.anchors:
                    yield f"{path}: a link to {address}, where there is no such place"
    for path in sorted(site.rglob("*.css")):
        for address in _in_style(path.read_text("utf-8")):
            yield from _loaded(site, path, address)


def _loaded(site: Path, path: Path, address: str) -> Iterator[str]:
    parts = urlsplit(address.split()[0] if address.split() else "")
    if parts.scheme == "data" or not (parts.path or parts.netloc):
        return
    if parts.scheme or parts.netloc:
        yield f"{path}: loads {address} from another host"
    elif not (path.parent / unquote(parts.path)).is_file():
        yield f"{path}: loads {address}, which is not there"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path)
    found = list(complaints(parser.parse_args().site))
    print("\n".join(found) or "nothing is loaded from elsewhere; all links within the site lead somewhere")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
