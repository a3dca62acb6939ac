"""Write the formulas of a Word document on one line: a/b, x^2, √(a+b)."""

from __future__ import annotations

_DEEPEST = 20  # parts in parts that are joined; below, only their text is kept
_BEFORE = {"m:den": "/", "m:sup": "^", "m:sub": "_"}
_ENCLOSED = ("m:num", "m:den", "m:sup", "m:sub", "m:rad", "m:deg", "m:d")


class Formulas:
    """What writes a formula, element by element.

    Args:
        sinks: Where text goes: to the last of these.
    """

    def __init__(self, sinks: list[list[str]]) -> None:
        self._sinks = sinks
        self._open: list[tuple[str, int]] = []  # elements, and how many pieces of text were before them
        self._around: list[list[str]] = []  # the brackets of elements with brackets
        self._operator = "∫"

    def start(self, name: str, value: str | None) -> None:
        """Begin an element; `value` is its attribute "val"."""
        if name in _ENCLOSED:
            self._open.append((name, len(self._sinks[-1])))
        if name == "m:d":
            self._around.append(["(", ")"])
        elif name in ("m:begChr", "m:endChr") and self._around:
            self._around[-1][name == "m:endChr"] = value or ""
        elif name == "m:naryPr":
            self._operator = "∫"
        elif name == "m:chr":
            self._operator = value or ""

    def end(self, name: str) -> None:
        """End an element."""
        sink = self._sinks[-1]
        if name == "m:naryPr":
            sink.append(self._operator)
        if name not in _ENCLOSED:
            return
        name, begin = self._open.pop()
        around = self._around.pop() if name == "m:d" else ["", ""]
        if len(self._open) >= _DEEPEST:
            return
        text = "".join(sink[begin:])
        del sink[begin:]
        if name == "m:d":
            sink.append(f"{around[0]}{text}{around[1]}")
        elif name == "m:rad":
            sink.append(f"√{_grouped(text)}")
        elif text:
            sink.append(_BEFORE.get(name, "") + _grouped(text))


def _grouped(text: str) -> str:
    whole = len(text) < 2 or text.isalnum() or text.replace(".", "").isdigit()
    return text if whole else f"({text})"
