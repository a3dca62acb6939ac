"""Number the paragraphs of a Word document: the labels that Word shows before headings and list items."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dynamic_tinybert.corpus.formats.html_tree import BULLETS, ordinal

LEVELS = 9
_LONGEST_CHAIN = 50  # styles that are based on one another
_LONGEST_LABEL = 100
_MOST_LETTERS = 30  # Word writes 27 as aa, 53 as aaa
_PLACE = re.compile("%([1-9])")
_FALSE = ("0", "false", "off")


@dataclass(frozen=True)
class _Level:
    start: int = 1
    format: str = "decimal"
    text: str | None = None
    suffix: str = " "
    restart: int | None = None
    legal: bool = False  # all numbers are decimal
    style: str | None = None


@dataclass
class _Number:
    """A list of paragraphs: several may have the same counters."""

    counters: str
    levels: dict[int, _Level]
    restarts: dict[int, int]
    style_link: str | None = None
    used: bool = False


@dataclass(frozen=True)
class _Style:
    based_on: str | None = None
    number: str | None = None
    level: int | None = None
    hidden: bool | None = None


@dataclass(frozen=True)
class Item:
    """A numbered paragraph: its level, from 0, and the label before its text."""

    level: int
    label: str


@dataclass
class Styles:
    """The styles of a document, as far as they hide or number text."""

    styles: dict[str, _Style] = field(default_factory=dict)
    _hidden: dict[str | None, bool | None] = field(default_factory=dict)

    @classmethod
    def read(cls, root: Any) -> Styles:
        """Return the styles of the part that contains them; none if there is no such part."""
        found = {}
        for style in _children(root, "style"):
            numbering = _child(_child(style, "pPr"), "numPr")
            found[_attribute(style, "styleId") or ""] = _Style(
                _value(style, "basedOn"),
                _value(numbering, "numId"),
                _integer(_value(numbering, "ilvl")),
                is_on(_child(_child(style, "rPr"), "vanish")),
            )
        return cls(found)

    def hidden(self, style: str | None) -> bool | None:
        """Return whether a style hides text; None if it does not say."""
        if style not in self._hidden:
            values = (one.hidden for _, one in self._chain(style))
            self._hidden[style] = next((hidden for hidden in values if hidden is not None), None)
        return self._hidden[style]

    def number(self, style: str | None) -> tuple[str | None, str | None, int | None]:
        """Return the list that a style numbers its paragraphs in, with the style that says so, and the level."""
        chain = list(self._chain(style))
        level = next((one.level for _, one in chain if one.level is not None), None)
        return next(((one.number, name, level) for name, one in chain if one.number is not None), (None, None, level))

    def _chain(self, style: str | None) -> Iterator[tuple[str, _Style]]:
        for _ in range(_LONGEST_CHAIN):
            if style is None or style not in self.styles:
                return
            yield style, self.styles[style]
            style = self.styles[style].based_on


class Numbering:
    """The lists of a document, with the numbers that their paragraphs have had so far."""

    def __init__(self, styles: Styles, root: Any = None) -> None:
        self._styles = styles
        abstract = {_attribute(one, "abstractNumId"): one for one in _children(root, "abstractNum")}
        levels = {name: _levels(one) for name, one in abstract.items()}
        self._numbers: dict[str, _Number] = {}
        for number in _children(root, "num"):
            name = _value(number, "abstractNumId")
            if name is not None and name in abstract:
                own, restarts = _overrides(number, levels[name])
                link = _value(abstract[name], "numStyleLink")
                self._numbers[_attribute(number, "numId") or ""] = _Number(name, own, restarts, link)
        self._counters: dict[str, dict[int, int]] = {}

    def item(self, style: str | None, number: str | None, level: int | None) -> Item | None:
        """Count a paragraph, and return its level and label; None if it is not numbered.

        Args:
            style: The paragraph's style.
            number: The list that the paragraph itself names; "0" is none.
            level: The level that the paragraph itself names.
        """
        by_style, source, style_level = self._styles.number(style)
        found = self._found(by_style if number is None else number)
        if found is None:
            return None
        if level is None and number is None:
            linked: dict[str | None, int | None] = {
                one.style: index for index, one in found.levels.items() if one.style
            }
            level = linked.get(style, style_level)
            level = linked.get(source) if level is None else level
        level = min(max(level or 0, 0), LEVELS - 1)
        return Item(level, self._label(found, level)) if level in found.levels else None

    def _found(self, name: str | None) -> _Number | None:
        for _ in range(_LONGEST_CHAIN):
            number = self._numbers.get(name or "")
            if number is None or number.style_link is None:
                return number
            name = self._styles.number(number.style_link)[0]
        return None

    def _label(self, number: _Number, level: int) -> str:
        counters = self._counters.setdefault(number.counters, {})
        if not number.used:
            number.used = True
            for index in number.restarts:
                counters.pop(index, None)

        def start(index: int) -> int:
            return number.restarts.get(index, number.levels[index].start if index in number.levels else 1)

        counters[level] = counters[level] + 1 if level in counters else start(level)
        for index in [index for index in counters if index > level]:
            restart = number.levels[index].restart if index in number.levels else None
            if restart is None or level < restart:
                del counters[index]
        for index in range(level):
            counters.setdefault(index, start(index))
        own = number.levels[level]
        if own.format == "bullet":
            return BULLETS[level % len(BULLETS)]

        def shown(place: re.Match[str]) -> str:
            index = int(place[1]) - 1
            form = number.levels[index].format if index in number.levels else "decimal"
            return _formatted(counters.get(index, start(index)), "decimal" if own.legal else form)

        text = f"%{level + 1}." if own.text is None else own.text[:_LONGEST_LABEL]
        return _PLACE.sub(shown, text)[:_LONGEST_LABEL] + own.suffix


def is_on(element: Any) -> bool | None:
    """Return the value of an element that is true or false; None if there is no such element."""
    return None if element is None else (_attribute(element, "val") or "1") not in _FALSE


def is_true(value: str | None) -> bool:
    """Return the meaning of the attribute of an element that is true or false."""
    return value not in _FALSE


def _levels(parent: Any) -> dict[int, _Level]:
    return {
        min(max(_integer(_attribute(one, "ilvl")) or 0, 0), LEVELS - 1): _level(one) for one in _children(parent, "lvl")
    }


def _level(element: Any) -> _Level:
    start, suffix = _integer(_value(element, "start")), _value(element, "suff")
    form = _value(element, "numFmt")
    return _Level(
        start=1 if start is None else start,
        format=form or "decimal",
        text="" if form == "none" else _value(element, "lvlText"),
        suffix="" if suffix == "nothing" else " ",
        restart=_integer(_value(element, "lvlRestart")),
        legal=bool(is_on(_child(element, "isLgl"))),
        style=_value(element, "pStyle"),
    )


def _overrides(number: Any, levels: dict[int, _Level]) -> tuple[dict[int, _Level], dict[int, int]]:
    own, restarts = dict(levels), {}
    for override in _children(number, "lvlOverride"):
        index = _integer(_attribute(override, "ilvl"))
        if index is None or not 0 <= index < LEVELS:
            continue
        level, start = _child(override, "lvl"), _integer(_value(override, "startOverride"))
        if level is not None:
            own[index] = _level(level)
        if start is not None:
            restarts[index] = start
    return own, restarts


def _formatted(number: int, form: str) -> str:
    if form in ("lowerLetter", "upperLetter") and 0 < number <= 26 * _MOST_LETTERS:
        letter = chr(ord("a") + (number - 1) % 26) * ((number - 1) // 26 + 1)
        return letter.upper() if form == "upperLetter" else letter
    if form in ("lowerRoman", "upperRoman"):
        return ordinal(number, "i" if form == "lowerRoman" else "I")
    if form == "decimalZero":
        return f"{number:02}"
    if form == "ordinal":
        ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
        return f"{number}{ending}"
    return "" if form == "none" else str(number)


def _children(parent: Any, name: str) -> Iterator[Any]:
    if parent is not None:
        for child in parent:
            if isinstance(child.tag, str) and child.tag.rpartition("}")[2] == name:
                yield child


def _child(parent: Any, name: str) -> Any:
    return next(_children(parent, name), None)


def _value(parent: Any, name: str) -> str | None:
    """Return the attribute "val" of a child of this name."""
    child = _child(parent, name)
    return None if child is None else _attribute(child, "val")


def _attribute(element: Any, name: str) -> str | None:
    return next((str(value) for key, value in element.attrib.items() if key.rpartition("}")[2] == name), None)


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch("-?[0-9]{1,9}", text) else None
