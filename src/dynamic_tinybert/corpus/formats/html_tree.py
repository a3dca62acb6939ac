"""Prepare the tree of an HTML file for inscriptis: what a browser hides, preformatted text, the marks of lists."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from dynamic_tinybert.corpus.formats.reading import CONTROL

MARK = "data-mark"
"""The attribute of a list item that contains its mark, with a space after it."""

HIDDEN = ("audio", "canvas", "datalist", "iframe", "noscript", "video")
"""Elements whose content a browser does not show: it shows something else in their place, or nothing."""

PREFORMATTED = ("listing", "plaintext", "pre", "textarea", "xmp")
_STARTED_BY_A_LINE = ("listing", "pre", "textarea")  # a line feed after the tag is not part of the text
_STYLE = re.compile(r"(?<![\w-])(display|list-style|list-style-type|visibility|white-space)[ \t\n]*:[ \t\n]*([a-z-]+)")
_DISPLAYS = ("none", "block", "inline")
_SPACES = {
    **dict.fromkeys(("pre", "pre-line", "pre-wrap", "break-spaces"), True),
    **dict.fromkeys(("normal", "nowrap"), False),
}
_VISIBILITIES = {"hidden": False, "collapse": False, "visible": True}
_INTEGER = re.compile(r"[ \t\n\f\r]*([-+]?[0-9]{1,9})(?![0-9])")
BULLETS = ("* ", "+ ", "o ", "- ")  # of lists in lists
_ROMAN = (
    *((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x")),
    *((9, "ix"), (5, "v"), (4, "iv"), (1, "i")),
)


_MOST_MAIN = 9  # a page that marks more elements as its main content has none
_UNSEEN = "ancestor-or-self::*[@hidden or self::script or self::style or self::template or self::noscript or self::svg]"
_MAIN = f"//*[self::main or @role='main'][not({_UNSEEN})][not(ancestor::main or ancestor::*[@role='main'])]"
_BESIDE = (  # header and footer are landmarks only outside of articles and sections
    "//nav | //search | //*[@role='navigation' or @role='banner' or @role='contentinfo' or @role='search'] | "
    "//*[self::header or self::footer][not(ancestor::article or ancestor::aside or ancestor::main or "
    "ancestor::nav or ancestor::section)]"
)


def narrow(tree: Any) -> None:
    """Reduce a page to what it marks as its main content, or remove what it marks as navigation, header or footer.

    Only the marks of the page are used (landmarks of HTML and ARIA), so no text is lost on a guess. If nothing would be
    left, the page stays as it is.
    """
    body = tree.find("body")
    if body is None:
        return
    marked = tree.xpath(_MAIN)
    found = [element for element in marked[:_MOST_MAIN] if element is not body and _length(element)]
    if len(found) == 1 and len(marked) <= _MOST_MAIN:
        (main,) = found
        main.tail = None
        for child in list(body):
            body.remove(child)
        body.text = None
        body.append(main)
        return
    beside: list[Any] = []
    inside: set[Any] = {body}
    for element in tree.xpath(_BESIDE):
        if element not in inside:
            beside.append(element)
            inside.update(element.iter())
    if sum(map(_length, beside)) < _length(body):
        for element in beside:
            element.drop_tree()


def _length(element: Any) -> int:
    """Return how much text an element has, without what a browser never shows."""
    return sum(len(text.strip()) for text in element.xpath(f".//text()[not({_UNSEEN})]"))


@dataclass
class _List:
    """A list that is open."""

    depth: int
    marked: bool = True
    numbered: bool = False
    kind: str = ""
    next: int = 1
    step: int = 1

    def mark(self, item: Any) -> str:
        """Return the mark of the next item."""
        if not self.numbered:
            return BULLETS[self.depth % len(BULLETS)]
        number = _integer(item.get("value"), self.next)
        self.next = number + self.step
        return f"{ordinal(number, item.get('type') or self.kind)}. "


@dataclass(frozen=True)
class _State:
    """What an element inherits."""

    shown: bool = True
    visible: bool = True
    preformatted: bool = False
    list: _List = field(default_factory=lambda: _List(0))
    depth: int = 0  # in lists


def prepare(tree: Any) -> None:
    """Change a tree so that inscriptis keeps its text unchanged and hides what a browser hides."""
    from lxml import etree

    states = [_State()]
    for event, element in etree.iterwalk(tree, events=("start", "end")):
        if event == "start":
            states.append(_opened(element, states[-1]))
            text = _escaped(element.text, states[-1])
            element.text = text.removeprefix("\n") if text and element.tag in _STARTED_BY_A_LINE else text
        else:
            states.pop()
            element.tail = _escaped(element.tail, states[-1])


def escaped(text: str) -> str:
    """Escape text, because inscriptis decodes it as HTML again. Replace control codes, because lxml refuses them."""
    return CONTROL.sub(" ", text).replace("&", "&amp;")


def ordinal(number: int, kind: str) -> str:
    """Return a number as a list shows it, of the kinds of HTML: 1, a, A, i or I."""
    if kind in ("a", "A") and number > 0:
        letters = ""
        while number:
            number, rest = divmod(number - 1, 26)
            letters = chr(ord(kind) + rest) + letters
        return letters
    if kind in ("i", "I") and 0 < number < 4000:
        numeral = ""
        for value, letters in _ROMAN:
            count, number = divmod(number, value)
            numeral += letters * count
        return numeral.upper() if kind == "I" else numeral
    return str(number)


def _opened(element: Any, outer: _State) -> _State:
    """Return the state within an element, and write what inscriptis is to know into its attributes."""
    tag, attributes = element.tag, element.attrib
    attributes.pop(MARK, None)
    styles = dict(_STYLE.findall(attributes.pop("style", "").lower()))
    shown = outer.shown and not _is_hidden(tag, attributes, styles)
    visible = _VISIBILITIES.get(styles.get("visibility", ""), outer.visible)
    preformatted = _SPACES.get(styles.get("white-space", ""), outer.preformatted or tag in PREFORMATTED)
    # The other properties are dropped: inscriptis turns lengths into as many spaces or lines.
    display = styles.get("display") if shown else "none"
    kept = [f"display:{display}"] if display in _DISPLAYS else []
    if preformatted or tag in PREFORMATTED:
        kept.append(f"white-space:{'pre' if preformatted else 'normal'}")
    if kept:
        attributes["style"] = ";".join(kept)
    marked = styles.get("list-style-type", styles.get("list-style")) != "none"
    if tag == "li" and shown:
        mark = outer.list.mark(attributes)
        attributes[MARK] = mark if marked and outer.list.marked else ""
    if tag in ("ol", "ul", "menu", "dir"):
        return _State(shown, visible, preformatted, _new_list(element, outer.depth, marked), outer.depth + 1)
    if (shown, visible, preformatted) == (outer.shown, outer.visible, outer.preformatted):
        return outer
    return _State(shown, visible, preformatted, outer.list, outer.depth)


def _is_hidden(tag: str, attributes: Any, styles: dict[str, str]) -> bool:
    if tag in HIDDEN or (tag == "object" and "data" in attributes):
        return True
    if tag == "template" and "shadowrootmode" not in attributes:
        return True
    if "display" in styles:
        return styles["display"] == "none"
    hidden = "hidden" in attributes and attributes["hidden"].lower() != "until-found"
    return hidden or (tag == "dialog" and "open" not in attributes)


def _new_list(element: Any, depth: int, marked: bool) -> _List:
    if element.tag != "ol":
        return _List(depth, marked)
    backwards = "reversed" in element.attrib
    first = sum(child.tag == "li" and "hidden" not in child.attrib for child in element) if backwards else 1
    return _List(
        depth,
        marked,
        numbered=True,
        kind=element.get("type", ""),
        next=_integer(element.get("start"), first),
        step=-1 if backwards else 1,
    )


def _integer(text: str | None, default: int) -> int:
    found = _INTEGER.match(text or "")
    return int(found[1]) if found else default


def _escaped(text: str | None, state: _State) -> str | None:
    """Return text escaped; a space if the text is invisible, because it takes its place on the page."""
    if not text:
        return text
    return escaped(text) if state.visible else " "
