"""Draws the pictures of the documentation, from the embedded model, its table and the recipes; and writes out the
commands' help.

usage: draw_docs.py [--output docs/pictures] [--commands docs/commands.md] [--style docs/_static/pictures.css]

The pictures are SVG of a few kilobytes. Their colours are CSS variables: as files they follow the reader's light or
dark scheme, and in a page of the site, which takes them in as they are, the page's.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import typer.main
import yaml
from tokenizers import Tokenizer
from typer.testing import CliRunner

from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.cli.app import app
from dynamic_tinybert.folder import EMBEDDED
from dynamic_tinybert.inference import Window
from dynamic_tinybert.model import Budget, MeasuredConfig

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "src" / "dynamic_tinybert" / EMBEDDED
TOWER, MOON = (ROOT / "examples" / name for name in ("eiffel-tower.txt", "apollo-11.txt"))

WIDTH = 640
SIZE = 13  # of type, in pixels
CHARACTER = 0.6 * SIZE  # of the monospaced type, whose text is set to this whatever font there is

# Name, in a light page, in a dark one. Shades 0 to 6 are of tokens by how far they came.
COLOURS = {
    "paper": ("#ffffff", "#15181d"),
    "ink": ("#1f2328", "#e6edf3"),
    "soft": ("#57606a", "#9aa5b1"),
    "line": ("#c9d1d9", "#3f4650"),
    "box": ("#f2f5f8", "#22272f"),
    "accent": ("#0757b5", "#6cb2ff"),
    "mark": ("#b4470b", "#f5a45d"),
    "shade0": ("#f5f6f8", "#1b1f25"),
    "shade1": ("#eceff3", "#20262e"),
    "shade2": ("#dfe8f2", "#223040"),
    "shade3": ("#c3d9f0", "#234263"),
    "shade4": ("#98c1ea", "#255a8f"),
    "shade5": ("#6aa6e0", "#3f86cc"),
    "shade6": ("#0f5fbd", "#8cc4ff"),
    "on0": ("#68717b", "#8d98a5"),
    "on1": ("#68717b", "#8d98a5"),
    "on2": ("#57606a", "#a7b2be"),
    "on3": ("#1f2328", "#e6edf3"),
    "on4": ("#1f2328", "#e6edf3"),
    "on5": ("#101418", "#ffffff"),
    "on6": ("#ffffff", "#0b1520"),
}


class Drawing:
    """An SVG drawing of `WIDTH` pixels; what it says to those who cannot see it is its title."""

    def __init__(self, name: str, title: str) -> None:
        self.name = name
        self.title = title
        self.height = 0.0
        self._parts: list[str] = []

    def _add(self, tag: str, bottom: float, content: str | None = None, **attributes: object) -> None:
        self.height = max(self.height, bottom)
        written = " ".join(
            f'{key.rstrip("_").replace("_", "-")}="{_short(value)}"'
            for key, value in attributes.items()
            if value is not None
        )
        self._parts.append(f"<{tag} {written}/>" if content is None else f"<{tag} {written}>{content}</{tag}>")

    def box(
        self, x: float, y: float, width: float, height: float, fill: str | None = "box", *, stroke: str | None = None,
        radius: float = 3, dash: str | None = None,
    ) -> None:  # fmt: skip
        self._add(
            "rect", y + height, x=x, y=y, width=width, height=height, rx=radius, stroke_dasharray=dash,
            class_=_classes(fill, stroke),
        )  # fmt: skip

    def text(
        self, x: float, y: float, text: str, fill: str = "ink", *, anchor: str | None = None, bold: bool = False,
        mono: bool = False, small: bool = False, fit: bool = False,
    ) -> None:  # fmt: skip
        """Set a line of text on the base line y; `fit` sets monospaced text to its reckoned width."""
        classes = _classes(fill, None) + " b" * bold + " m" * mono + " s" * small
        self._add(
            "text", y + 4, escape(text, quote=False), x=x, y=y, class_=classes, text_anchor=anchor,
            textLength=CHARACTER * len(text) if fit else None,
        )  # fmt: skip

    def line(
        self, points: Sequence[tuple[float, float]], stroke: str = "line", *, dash: str | None = None,
        arrow: bool = False, width: float = 1.5,
    ) -> None:  # fmt: skip
        self._add(
            "polyline", max(y for _, y in points), points=" ".join(f"{_short(x)},{_short(y)}" for x, y in points),
            class_=_classes(None, stroke), stroke_dasharray=dash, stroke_width=width,
            marker_end=f"url(#{self.name}-arrow)" if arrow else None,
        )  # fmt: skip

    def dot(self, x: float, y: float, radius: float, fill: str, stroke: str) -> None:
        self._add("circle", y + radius, cx=x, cy=y, r=radius, class_=_classes(fill, stroke))

    def svg(self) -> str:
        height = round(self.height + 12)
        root = f"svg.dt-{self.name}"
        drawn = "\n".join(self._parts)
        fills = {"paper", "line"} | {k for k in COLOURS if f"f-{k}" in drawn}
        strokes = {k for k in COLOURS if f"k-{k}" in drawn}
        classes = "".join(
            f"{root} .f-{k}{{fill:var(--dt-{k})}}" * (k in fills)
            + f"{root} .k-{k}{{stroke:var(--dt-{k})}}" * (k in strokes)
            for k in COLOURS
        )
        used = [k for k in COLOURS if k in fills | strokes]
        light, dark = (";".join(f"--dt-{k}:{COLOURS[k][i]}" for k in used) for i in (0, 1))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="dt dt-{self.name}" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img" aria-labelledby="dt-{self.name}-title">\n'
            f'<title id="dt-{self.name}-title">{escape(self.title, quote=False)}</title>\n'
            f"<style>{root}{{{light}}}\n@media (prefers-color-scheme:dark){{{root}{{{dark}}}}}\n{classes}\n"
            f"{root} text{{font:{SIZE}px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif}}"
            f"{root} .m{{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace}}"
            f"{root} .s{{font-size:11.5px}}{root} .b{{font-weight:600}}{root} .n{{fill:none}}</style>\n"
            f'<defs><marker id="{self.name}-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" class="f-line"/></marker></defs>\n'
            f'<rect width="{WIDTH}" height="{height}" rx="6" class="f-paper"/>\n{drawn}\n</svg>\n'
        )


def _classes(fill: str | None, stroke: str | None) -> str:
    return " ".join([f"f-{fill}" if fill else "n"] + [f"k-{stroke}"] * bool(stroke))


def _short(value: object) -> str:
    return f"{round(value, 1):g}" if isinstance(value, float) else str(value)


# What there is to draw.


@dataclass
class Read:
    """A question and a text, read at a budget: one window's tokens, and how many layers each passed."""

    question: str
    text: str
    choice: MeasuredConfig
    pieces: list[str]
    passed: list[int]
    answer: str
    layers: int


def read(qa: QuestionAnswerer, question: str, text: str, budget: Budget) -> Read:
    """Read a question and a text that fit into one window."""
    choice = qa.table.select(qa.shape, budget)
    (window,) = windows_of(qa, question, text)
    logits = qa.reader.predict([window], [choice.config])
    return Read(
        question=question,
        text=text,
        choice=choice,
        pieces=pieces_of(window, question, text),
        passed=[int(n) for n in logits.layers_passed[0, : len(window)]],
        answer=qa(question, text, budget=budget).text,
        layers=qa.shape.layers,
    )


def windows_of(qa: QuestionAnswerer, question: str, text: str) -> list[Window]:
    return list(qa.reader.windows(question, text, max_seq_len=384, doc_stride=128, max_question_len=64))


def pieces_of(window: Window, question: str, text: str) -> list[str]:
    """The characters of each token; those that go on a word begin with ##."""
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    asked = tokenizer.encode(question, add_special_tokens=False)
    words: list[str] = []
    for (begin, end), token in zip(asked.offsets, asked.tokens, strict=True):
        words.append("##" * token.startswith("##") + question[begin:end])
    found = [
        ("" if begin == word else "##") + text[begin:end]
        for begin, end, word in zip(window.text.start, window.text.end, window.text.word_start, strict=True)
    ]
    pieces = ["[CLS]", *words, "[SEP]", *found, "[SEP]"]
    assert len(pieces) == len(window), "a question that was cut"
    return pieces


def paragraph(beginning: str) -> str:
    """The paragraph of the text about the tower that begins so."""
    return next(p for p in TOWER.read_text("utf-8").splitlines() if p.startswith(beginning))


QUESTION = "Which building took the record in 1930?"


# The pictures.


def draw_drop(qa: QuestionAnswerer) -> Drawing:
    """Tokens of a real paragraph, each coloured by the layers that it passed, at two budgets."""
    text = paragraph("When it was completed")
    reads = [(budget, read(qa, QUESTION, text, budget)) for budget in ("balanced", "fast")]
    d = Drawing(
        "drop",
        f'The tokens of the question "{QUESTION}" and of a paragraph, each shaded by the number of layers that it '
        "passed before it was dropped, at the budgets balanced and fast. "
        + " ".join(f"{b}: {r.answer}." for b, r in reads),
    )
    y = 28.0
    d.text(16, y, "layers passed whole:", "soft")
    x = 156.0
    layers = reads[0][1].layers
    for n in range(layers + 1):
        d.box(x, y - 14, 26, 20, f"shade{_shade(n, layers)}", radius=3)
        d.text(x + 13, y + 1, str(n), f"on{_shade(n, layers)}", anchor="middle", small=True)
        x += 30
    d.text(x + 4, y, f"of {layers}; underlined: the answer", "soft")
    for budget, r in reads:
        y += 40
        counts = [sum(p >= n for p in r.passed) for n in range(r.layers + 1)]
        d.text(16, y, budget, bold=True)
        d.text(
            92, y,
            f"{r.choice.name}, share {r.choice.share:.2f}; tokens after each layer: {' '.join(map(str, counts[1:]))}",
            "soft",
        )  # fmt: skip
        y = _tokens(d, r, y + 12)
    return d


def _shade(passed: int, layers: int) -> int:
    return round(6 * passed / layers)


def _tokens(d: Drawing, r: Read, y: float) -> float:
    """Draw tokens line by line; words stay whole."""
    left, right, height, space = 16.0, WIDTH - 16.0, 20.0, 3.0
    words: list[list[int]] = []
    for i, piece in enumerate(r.pieces):
        if piece.startswith("##") and words:
            words[-1].append(i)
        else:
            words.append([i])
    answer = _answer_words(r, words)
    x = left
    for number, word in enumerate(words):
        bare = [r.pieces[i].removeprefix("##") for i in word]
        width = sum(CHARACTER * len(b) for b in bare) + 6
        if x + width > right:
            x, y = left, y + height + 4
        begin = x
        for place, (i, piece) in enumerate(zip(word, bare, strict=True)):
            pad = 3 * (place == 0) + 3 * (place == len(word) - 1)
            cell = CHARACTER * len(piece) + pad
            shade = _shade(r.passed[i], r.layers)
            d.box(x, y, cell, height, f"shade{shade}", radius=2)
            d.text(x + 3 * (place == 0), y + 14.5, piece, f"on{shade}", mono=True, fit=True)
            x += cell
        if number in answer:
            d.line([(begin, y + height + 1.5), (x, y + height + 1.5)], "mark", width=2)
        x += space
        if r.pieces[word[-1]] == "[SEP]" and number < len(words) - 1:
            x, y = left, y + height + 4
    return y + height


def _answer_words(r: Read, words: list[list[int]]) -> set[int]:
    """The words that are the answer, at its last place."""
    spelled = ["".join(r.pieces[i].removeprefix("##") for i in word) for word in words]
    wanted = r.answer.split()
    for begin in range(len(words) - len(wanted), -1, -1):
        if spelled[begin : begin + len(wanted)] == wanted:
            return set(range(begin, begin + len(wanted)))
    return set()


def draw_layers(qa: QuestionAnswerer) -> Drawing:
    """A short window, token by token and layer by layer: what goes on, what is dropped, what is restored."""
    r = read(qa, "Where is the tower?", "The tower stands in Paris.", "fast")
    d = Drawing(
        "layers",
        "Fourteen tokens go through six layers. In each layer some are dropped; at the end every token has its logits: "
        "a dropped one those of the last layer that it passed whole.",
    )
    left, step, cell, row = 100.0, (WIDTH - 100.0 - 78) / len(r.pieces), 26.0, 34.0
    top = 74.0

    def at(i: int) -> float:
        return left + step * (i + 0.5)

    for i, piece in enumerate(r.pieces):
        d.text(at(i), top - 26 + (13 if i % 2 else 0), piece, mono=True, small=True, anchor="middle")
    d.text(16, top - 26, "tokens", "soft")
    bottom = top + row * (r.layers + 1) + 30
    for n in range(r.layers + 1):
        y = top + row * n
        kept = [i for i, passed in enumerate(r.passed) if passed >= n]
        d.text(16, y + 5, f"layer {n}" if n else "embeddings", "soft")
        d.text(WIDTH - 16, y + 5, f"{len(kept)} of {len(r.pieces)}", "soft", anchor="end")
        for i, passed in enumerate(r.passed):
            x = at(i)
            if passed >= n:
                if n < r.layers and passed > n:
                    d.line([(x, y + 9), (x, y + row - 9)], "line")
                d.box(x - cell / 2, y - 9, cell, 18, f"shade{_shade(n, r.layers)}", stroke="line")
            else:
                d.box(x - cell / 2, y - 9, cell, 18, None, stroke="line", dash="2 3")
    y = bottom
    d.text(16, y + 5, "logits", bold=True)
    d.text(WIDTH - 16, y + 5, "all", "soft", anchor="end")
    for i, passed in enumerate(r.passed):
        x, shade = at(i), _shade(passed, r.layers)
        begin = top + row * passed + 9
        if passed < r.layers:
            side = x + cell / 2 + 2.5
            d.line([(x + cell / 2, begin - 9), (side, begin - 9), (side, y - 16), (x, y - 16), (x, y - 10)], "mark", width=1.2)  # fmt: skip  # noqa: E501
        else:
            d.line([(x, begin), (x, y - 10)], "line")
        d.box(x - cell / 2, y - 9, cell, 18, f"shade{shade}", stroke="line")
        d.text(x, y + 4.5, str(passed), f"on{shade}", anchor="middle", small=True)
    y += 34
    d.box(16, y - 9, 14, 12, "shade4", stroke="line", radius=2)
    d.text(36, y + 2, "goes on", "soft")
    d.box(110, y - 9, 14, 12, None, stroke="line", dash="2 3", radius=2)
    d.text(130, y + 2, "dropped: no arithmetic", "soft")
    d.line([(290, y - 3), (310, y - 3)], "mark")
    d.text(318, y + 2, "restored, from the last layer that it passed", "soft")
    return d


def draw_budgets(table: dict[str, Any], qa: QuestionAnswerer) -> Drawing:
    """F1 against share: the measured configurations of the embedded model, and what budgets buy of them."""
    rows = table["configs"]
    d = Drawing("budgets", f"F1 against the share of the arithmetic; {table['measured_on']}.")
    low = 5 * int(min(r["f1"] for r in rows) // 5)
    high = 5 * (int(max(r["f1"] for r in rows) // 5) + 1)
    least = int(10 * min(r["share"] for r in rows)) / 10
    x0, x1, y0, y1 = 58.0, WIDTH - 24.0, 340.0, 24.0

    def place(share: float, f1: float) -> tuple[float, float]:
        return x0 + (x1 - x0) * (share - least) / (1.02 - least), y0 + (y1 - y0) * (f1 - low) / (high - low)

    for f1 in range(low, high + 1, 2 if high - low <= 16 else 5):
        _, y = place(1, f1)
        d.line([(x0, y), (x1, y)], "line", width=0.6)
        d.text(x0 - 8, y + 4, str(f1), "soft", anchor="end", small=True)
    for tenth in range(round(10 * least), 11):
        x, _ = place(tenth / 10, low)
        d.line([(x, y0), (x, y0 + 5)], "line")
        d.text(x, y0 + 20, f"{tenth / 10:.1f}", "soft", anchor="middle", small=True)
    d.text((x0 + x1) / 2, y0 + 40, "share of the full model's multiply-accumulates", "soft", anchor="middle")
    d.text(16, y1 + 4, "F1", "soft")
    found = [r for r in rows if not r["name"].startswith("uniform")]
    found.sort(key=lambda r: r["share"])
    d.line([place(r["share"], r["f1"]) for r in found], "accent", width=1.5)
    names = {qa.table.select(qa.shape, b).name: b for b in ("full", "balanced", "fast")}
    for r in rows:
        x, y = place(r["share"], r["f1"])
        uniform = r["name"].startswith("uniform")
        if r["name"] in names:
            d.line([(x, y), (x, y0)], "mark", dash="3 3", width=1)
            d.dot(x, y, 5.5, "mark", "mark")
            d.text(x - 8, y - 22, names[r["name"]], "mark", bold=True, anchor="end")
            d.text(x - 8, y - 7, f"{r['f1']:.1f} at {r['share']:.2f}", "soft", small=True, anchor="end")
        else:
            d.dot(x, y, 3.5, "paper" if uniform else "accent", "soft" if uniform else "accent")
    d.dot(380, y0 - 34, 3.5, "accent", "accent")
    d.text(390, y0 - 30, "found by the search", "soft", small=True)
    d.dot(380, y0 - 16, 3.5, "paper", "soft")
    d.text(390, y0 - 12, "the same retention in every layer", "soft", small=True)
    return d


def draw_road(qa: QuestionAnswerer) -> Drawing:
    """A question of a long text, to scale: windows, runtime, spans, answer."""
    question = "Which president set the goal of reaching the Moon?"
    text = MOON.read_text("utf-8")
    windows = windows_of(qa, question, text)
    choice = qa.table.select(qa.shape, "balanced")
    answers = qa(question, text, top_k=3, budget="balanced")
    best = answers[0]
    tokens: npt.NDArray[np.int64] = np.unique(np.concatenate([w.text.start for w in windows]))
    asked = windows[0].offset - 2
    lengths = choice.config.lengths([len(w) for w in windows])
    d = Drawing(
        "road",
        f"A question of {asked} tokens and a text of {len(tokens)} become {len(windows)} overlapping windows; the "
        "runtime drops tokens layer by layer and gives logits to all; the spans of all windows are ranked together; "
        "the best is the answer.",
    )
    left, right = 130.0, WIDTH - 16.0

    def at(character: float) -> float:
        return left + (right - left) * character / len(text)

    y = 34.0
    d.text(16, y, "question", bold=True)
    d.text(left, y, question)
    y += 30
    d.text(16, y, "text", bold=True)
    d.box(left, y - 12, right - left, 15, "shade3")
    d.text(left + 8, y, f"{len(text):,} characters, {len(tokens):,} tokens", "on3", small=True)
    y += 34
    d.text(16, y, "windows", bold=True)
    d.text(16, y + 17, "of 384 tokens", "soft", small=True)
    d.text(16, y + 32, "overlap 128", "soft", small=True)
    depth = 3
    for n, w in enumerate(windows):
        top = y - 12 + 17 * (n % depth)
        d.box(at(w.text.start[0]), top, at(w.text.end[-1]) - at(w.text.start[0]), 12, "shade4")
    y += 17 * depth + 14
    d.text(16, y + 14, "runtime", bold=True)
    d.text(16, y + 31, "tokens that go", "soft", small=True)
    d.text(16, y + 45, "on, by layer", "soft", small=True)
    bar, most = 66.0, int(lengths.max())
    for n in range(len(windows)):
        middle = left + (right - left) * (n + 0.5) / len(windows)
        for layer, kept in enumerate([len(windows[n]), *lengths[n]]):
            wide = (right - left) / len(windows) * 0.82 * kept / most
            d.box(middle - wide / 2, y + 9 * layer, wide, 7, f"shade{min(6, layer)}", radius=1.5, stroke="line")
    y += bar + 22
    d.text(16, y + 12, "spans", bold=True)
    d.text(16, y + 29, "of all windows,", "soft", small=True)
    d.text(16, y + 43, "ranked together", "soft", small=True)
    d.line([(left, y + 50), (right, y + 50)], "line")
    for rank, answer in enumerate(answers):
        x = at((answer.start + answer.end) / 2)
        tall = 46 * answer.score / best.score + 3
        d.box(x - 3, y + 50 - tall, 6, tall, "mark" if rank == 0 else "soft", radius=1)
        if tall < 10:
            continue
        away = x > (left + right) / 2
        d.text(
            x - 8 if away else x + 8, y + 52 - tall + 8, f"{answer.text}  {answer.score:.2f}",
            "mark" if rank == 0 else "soft", anchor="end" if away else None, small=True, bold=rank == 0,
        )  # fmt: skip
    y += 84
    d.text(16, y, "answer", bold=True)
    shown = f"Answer(text={best.text!r}, start={best.start}, end={best.end}, score={best.score:.2f}, …)"
    d.text(left, y, shown, mono=True, small=True)
    return d


def draw_training() -> Drawing:
    """The stages of a training, as the paper's recipe has them, and the search after it."""
    recipe = yaml.safe_load((ROOT / "recipes" / "paper.yaml").read_text("utf-8"))
    says = {
        "teacher": ("a large model", "learns SQuAD"),
        "intermediate": ("a small model learns", "the teacher's layers"),
        "prediction": ("and the teacher's", "answers"),
        "lengthdrop": ("with tokens dropped", "at random lengths"),
    }
    stages = [s["stage"] for s in recipe["stages"]]
    d = Drawing(
        "training",
        "Training: " + ", then ".join(stages) + "; then the search for length configurations, on questions that "
        "nothing trained on; the result is a model folder.",
    )
    width, gap, top, height = 136.0, 21.0, 62.0, 74.0
    d.text(16, 28, "SQuAD, the articles that are trained on", "soft")
    for n, stage in enumerate(recipe["stages"]):
        x = 16 + (width + gap) * n
        name = stage["stage"]
        d.line([(x + width / 2, 36), (x + width / 2, top - 2)], "line", arrow=True)
        d.box(x, top, width, height, f"shade{n + 1}", stroke="line", radius=5)
        ink = f"on{max(3, n + 1)}"
        d.text(x + width / 2, top + 22, name, ink, bold=True, anchor="middle")
        for i, line in enumerate(says[name]):
            d.text(x + width / 2, top + 42 + 16 * i, line, ink, anchor="middle", small=True)
        if n:
            d.line([(x - gap, top + height / 2), (x - 2, top + height / 2)], "line", arrow=True)
        d.text(
            x + width / 2, top + height + 18, f"paper: {stage['epochs']} epochs", "soft", anchor="middle", small=True
        )
    y = top + height + 44
    last = 16 + (width + gap) * 3
    end = last + width / 2
    d.line([(end, top + height + 26), (end, y + 18)], "line", arrow=True)
    d.box(last - 60, y + 20, width + 60, 56, "box", stroke="line", radius=5)
    d.text(last - 60 + (width + 60) / 2, y + 42, "search", bold=True, anchor="middle")
    d.text(last - 60 + (width + 60) / 2, y + 62, "F1 up, share down: Pareto front", anchor="middle", small=True)
    d.line([(last - 62, y + 48), (last - 62 - 38, y + 48)], "line", arrow=True)
    x = 16.0
    d.box(x, y + 20, last - 62 - 38 - 4 - x, 56, None, stroke="accent", radius=5)
    middle = x + (last - 62 - 38 - 4 - x) / 2
    d.text(middle, y + 42, "model folder", "accent", bold=True, anchor="middle")
    d.text(middle, y + 62, "weights, tokenizer, card, length_configs.json", anchor="middle", small=True)
    d.text(WIDTH - 16, y + 98, "articles held out: select, confirm", "soft", anchor="end", small=True)
    d.line([(end, y + 86), (end, y + 78)], "line", arrow=True)
    return d


def style() -> str:
    """What makes the pictures in a page of the site follow the scheme that its reader has chosen there."""
    light, dark = ("".join(f"  --dt-{k}: {v[i]};\n" for k, v in COLOURS.items() if k != "paper") for i in (0, 1))
    paper = "  --dt-paper: var(--color-background-primary);\n"
    return (
        "/* Written by scripts/draw_docs.py. */\n"
        f'body[data-theme="light"] svg.dt {{\n{light}}}\nbody[data-theme="dark"] svg.dt {{\n{dark}}}\n'
        f"body[data-theme] svg.dt {{\n{paper}}}\n"
    )


def help_of(command: str) -> str:
    """What `dynamic-tinybert COMMAND --help` prints, at a width of 88."""
    result = CliRunner().invoke(
        app, [*command.split(), "--help"], prog_name="dynamic-tinybert", terminal_width=88, catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return "\n".join(line.rstrip() for line in result.stdout.splitlines()) + "\n"


def commands() -> Iterator[str]:
    """All commands, as `ask` and `index add`; a group comes before its own."""

    def walk(command: Any, name: str) -> Iterator[str]:
        for part, inner in getattr(command, "commands", {}).items():
            whole = f"{name} {part}".strip()
            yield whole
            yield from walk(inner, whole)

    return walk(typer.main.get_command(app), "")


def with_help(page: str) -> str:
    """A page with each block of help as it is now; commands that it lacks come at its end."""
    for command in commands():
        if f"$ dynamic-tinybert {command} --help\n" not in page:
            page += f"\n## {command}\n\n```console\n$ dynamic-tinybert {command} --help\n```\n"
    return re.sub(
        r"(?<=^```console\n)\$ dynamic-tinybert(.*?) --help\n.*?(?=^```$)",
        lambda found: f"$ dynamic-tinybert{found[1]} --help\n{help_of(found[1])}",
        page,
        flags=re.MULTILINE | re.DOTALL,
    )


def drawings(qa: QuestionAnswerer) -> Iterator[Drawing]:
    """All of them."""
    yield draw_road(qa)
    yield draw_drop(qa)
    yield draw_layers(qa)
    yield draw_budgets(json.loads((MODEL / "length_configs.json").read_text("utf-8")), qa)
    yield draw_training()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "pictures")
    parser.add_argument("--commands", type=Path, default=ROOT / "docs" / "commands.md")
    parser.add_argument("--style", type=Path, default=ROOT / "docs" / "_static" / "pictures.css")
    args = parser.parse_args()
    args.commands.write_text(with_help(args.commands.read_text("utf-8")), "utf-8", newline="\n")
    args.style.write_text(style(), "utf-8", newline="\n")
    args.output.mkdir(parents=True, exist_ok=True)
    for drawing in drawings(QuestionAnswerer(precision="fp32")):
        file = args.output / f"{drawing.name}.svg"
        file.write_text(drawing.svg(), "utf-8", newline="\n")
        print(file, file.stat().st_size)


if __name__ == "__main__":
    main()
