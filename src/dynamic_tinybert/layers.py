"""Show an answer in its text, and which tokens of the text were left after each layer."""

from __future__ import annotations

import html
import itertools
import re
import sys
from dataclasses import dataclass, field

_MOST_SHOWN = 6000  # characters of a text, around its answer
_MOST_PRINTED = 240  # in a terminal
_LEAST_COLOUR, _MOST_COLOUR = (0xEB, 0xF0, 0xF5), (0x0B, 0x4F, 0x9F)
_DARK = 0.7  # from this part of the way on, a colour has white letters
_MARK = "background:#ffdc73;color:#1d1600;padding:.1em .15em;border-radius:2px"


@dataclass(frozen=True, kw_only=True)
class TokenLayers:
    """For each token of a text, how many layers it passed before it was dropped.

    Attributes:
        start: Where each token starts, in characters of the text.
        end: Where each token ends.
        layers: How many layers each token passed; `depth` if it was never dropped. Of a token that is in two windows,
            the higher number counts.
        depth: How many layers the model has.
        text: The text.
    """

    start: list[int]
    end: list[int]
    layers: list[int]
    depth: int
    text: str = field(repr=False)

    def kept(self, layer: int) -> list[int]:
        """Return which tokens were left after a layer, from 1 to `depth`: their indices."""
        return [i for i, passed in enumerate(self.layers) if passed >= layer]


def is_notebook() -> bool:
    """Return whether this is a notebook, which shows HTML."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def show(markup: str, text: str) -> None:
    """Show HTML in a notebook, or print a text elsewhere."""
    if is_notebook():
        from importlib import import_module

        display = import_module("IPython.display")
        display.display(display.HTML(markup))
    else:
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        print(text.encode(encoding, "replace").decode(encoding))


def as_html(head: str, text: str, start: int, end: int, tokens: TokenLayers | None = None) -> str:
    """Return a text with its answer marked, as HTML; with `tokens`, as a heat map of the layers that each passed.

    Args:
        head: What to write above it.
        text: The text.
        start: Where the answer starts, in characters of the text.
        end: Where it ends.
        tokens: Its tokens.
    """
    low, high = _part(text, start, end, _MOST_SHOWN)
    parts = [(low, high, None)] if tokens is None else _runs(tokens, low, high)
    body = "… " * (low > 0)
    for begin, stop, layer in parts:
        # An answer may begin or end within a run.
        cuts = sorted({begin, stop, *(at for at in (start, end) if begin < at < stop)})
        for first, last in itertools.pairwise(cuts):
            body += _span(text[first:last], layer, tokens, marked=start <= first < end)
    body += " …" * (high < len(text))
    legend = "" if tokens is None else _legend(tokens)
    return _without_surrogates(
        '<div style="max-width:60em;line-height:1.9">'
        f'<div style="margin-bottom:.3em;white-space:pre-wrap">{html.escape(head)}</div>{legend}'
        f'<div style="white-space:pre-wrap;overflow-wrap:anywhere">{body}</div></div>'
    )


def as_text(head: str, text: str, start: int, end: int, tokens: TokenLayers | None = None) -> str:
    """Return a text with its answer in brackets; with `tokens`, once for each layer, dots for what it had dropped.

    The arguments are those of `as_html`.
    """
    low, high = _part(text, start, end, _MOST_PRINTED)
    ends = ("… " if low > 0 else "", " …" if high < len(text) else "")
    shown = f"{text[low:start]}[{text[start:end]}]{text[end:high]}" if start < end else text[low:high]
    lines = [*(_clean(line) for line in head.split("\n")), *_wrapped(ends[0] + shown + ends[1])]
    for first, last, kept in [] if tokens is None else _steps(tokens):
        assert tokens is not None
        characters = list(text[low:high])
        for begin, stop in _dropped(tokens, first):
            for at in range(max(begin, low), min(stop, high)):
                if not text[at].isspace():
                    characters[at - low] = "·"
        which = f"layer {first}" if first == last else f"layers {first} to {last}"
        lines.append(f"after {which}: {kept} of {len(tokens.layers)} tokens")
        lines += _wrapped(ends[0] + "".join(characters) + ends[1])
    if tokens is not None and tokens.layers and not _steps(tokens):
        lines.append("no token was dropped: ask at a lower budget")
    return "\n".join(lines)


def _steps(tokens: TokenLayers) -> list[tuple[int, int, int]]:
    """Return the layers after which the same tokens are left, `(first, last, how many)`, from the first that drops."""
    steps: list[tuple[int, int, int]] = []
    for layer in range(1, tokens.depth + 1):
        kept = len(tokens.kept(layer))
        if steps and steps[-1][2] == kept:
            steps[-1] = (steps[-1][0], layer, kept)
        elif kept < len(tokens.layers):
            steps.append((layer, layer, kept))
    return steps


def _clean(text: str) -> str:
    """Replace control characters, which a terminal would obey, and half pairs of UTF-16, which cannot be written."""
    return _without_surrogates(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text))


def _without_surrogates(text: str) -> str:
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(_clean(text), 96, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _part(text: str, start: int, end: int, most: int) -> tuple[int, int]:
    """Return the part of a text to show: all of it, or so many characters around the answer, of whole words."""
    if len(text) <= most:
        return 0, len(text)
    low = max(0, min((start + end - most) // 2, len(text) - most))
    high = min(len(text), low + most)
    space = re.compile(r"\s")
    after, before = space.search(text, low, start), [m.start() for m in space.finditer(text, end, high)]
    return (low if low == 0 or after is None else after.end()), (
        high if high == len(text) or not before else before[-1]
    )


def _runs(tokens: TokenLayers, low: int, high: int) -> list[tuple[int, int, int | None]]:
    """Return neighbouring tokens of one layer as runs, `(start, end, layer)`, and what no token covers as None."""
    runs: list[tuple[int, int, int | None]] = []
    at = low
    for start, end, layer in zip(tokens.start, tokens.end, tokens.layers, strict=True):
        first, last = max(start, at), min(end, high)
        if first >= last:
            continue
        if first > at:
            runs.append((at, first, None))
        runs.append((first, last, layer))
        at = last
    return [*runs, (at, high, None)] if at < high else runs


def _dropped(tokens: TokenLayers, layer: int) -> list[tuple[int, int]]:
    return [(s, e) for s, e, passed in zip(tokens.start, tokens.end, tokens.layers, strict=True) if passed < layer]


def _span(text: str, layer: int | None, tokens: TokenLayers | None, *, marked: bool) -> str:
    escaped = html.escape(text)
    if layer is None or tokens is None:
        return f'<mark style="{_MARK}">{escaped}</mark>' if marked and text.strip() else escaped
    outline = "outline:2px solid #b4470b;" if marked else ""
    return (
        f'<span title="{_passed(layer, tokens.depth)}" style="{outline}{_colour(layer, tokens.depth)}">{escaped}</span>'
    )


def _colour(layer: int, depth: int) -> str:
    way = layer / depth
    mixed = (round(a + (b - a) * way) for a, b in zip(_LEAST_COLOUR, _MOST_COLOUR, strict=True))
    letters = "#ffffff" if way >= _DARK else "#545c66" if way == 0 else "#08111b"
    return f"background:#{''.join(f'{value:02x}' for value in mixed)};color:{letters};padding:.1em 0;border-radius:2px"


def _passed(layer: int, depth: int) -> str:
    if layer >= depth:
        return f"never dropped: passed all {depth} layers"
    return f"dropped in layer {layer + 1}, after passing {layer} of {depth}" if layer else "dropped in the first layer"


def _legend(tokens: TokenLayers) -> str:
    cells = "".join(
        f'<span title="{_passed(layer, tokens.depth)}" style="{_colour(layer, tokens.depth)};padding:.15em .6em;'
        f'margin-right:3px;white-space:nowrap">{layer}: {tokens.layers.count(layer)}</span>'
        for layer in range(tokens.depth + 1)
    )
    return (
        '<div style="margin-bottom:.5em;font-size:.85em">How many layers tokens passed before they were dropped '
        f"({tokens.depth}: they never were), and how many tokens did: {cells}</div>"
    )
