"""The page of the measurements in a browser."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import common

_SORTS = (
    ("this package", r"^package/src/"),
    ("ONNX Runtime Web: JavaScript", r"onnxruntime-web/.*\.mjs$"),
    ("ONNX Runtime Web: WebAssembly", r"\.wasm$"),
    ("the model: graph and weights", r"/model\.onnx$"),
    ("the model: tokenizer, table", r"/(tokenizer|answering)\.json$"),
)


def page(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page, from the parts that were measured."""
    machine = common.machine_line(common.describe_machine())
    versions = common.listed(common.versions("onnxruntime", "tokenizers", "playwright"))
    sections = [f"# In the browser\n\n{machine}; {versions}; Chromium headless, onnxruntime-web 1.30.0 (WebAssembly)."]
    writers: dict[str, Callable[[Any], str]] = {"sizes": _sizes, "start": _starts, "speed": _speed}
    for name, write in writers.items():
        if name in parts:
            sections.append(f"{write(parts[name]['found'])}\n\n{_about(parts[name])}")
    if compared := [parts[name] for name in ("fp32", "int8") if name in parts]:
        rows = [row for part in compared for row in part["found"]]
        sections.append("\n\n".join([_equal(rows), *map(_about, compared)]))
    return "\n\n".join(sections) + "\n"


def _about(part: Mapping[str, Any]) -> str:
    return f"`{part['command']}`, {part['when']}; other processes took {part['others']:.0%} of the processor."


def _sizes(files: list[dict[str, Any]]) -> str:
    columns = ("bytes", "gzip", "brotli")
    rows = []
    for what, pattern in (*_SORTS, ("all", "")):
        chosen = [file for file in files if re.search(pattern, file["name"])]
        sums = (sum(file[column] for file in chosen) / 1e6 for column in columns)
        rows.append((what, *(f"{size:.2f}" for size in sums)))
    head = ("MB", "as it is", "gzip", "brotli")
    return "## Size over the wire\n\nAll that a page loads until its first answer, in INT8.\n\n" + common.table(
        head, rows
    )


def _starts(found: Mapping[str, list[list[float]]]) -> str:
    rows = []
    for name in sorted(found):
        opened, first = (statistics.median(run[column] for run in found[name]) / 1e3 for column in (0, 1))
        rows.append((name, str(len(found[name])), f"{opened:.2f}", f"{first:.2f}"))
    head = ("seconds, median", "starts", "model open", "first answer")
    return (
        "## Time to the first answer\n\nA new browser with an empty cache, from the request for the page on; all files "
        "come from this machine, so the network is not in it. Python: from the first import on. One thread.\n\n"
        + common.table(head, rows)
    )


def _speed(found: Mapping[str, list[float]]) -> str:
    rows = []
    for name in sorted(name for name in found if name.startswith("Chromium")):
        other = name.replace("Chromium", "Python")
        here, there = statistics.mean(found[name]), statistics.mean(found[other])
        ratio = statistics.median(a / b for a, b in zip(found[name], found[other], strict=True))
        rows.append((name.removeprefix("Chromium, "), f"{1e3 / here:.1f}", f"{1e3 / there:.1f}", f"{ratio:.1f}"))
    count = len(next(iter(found.values())))
    return (
        f"## Answers a second\n\n{count} questions of SQuAD's `select` articles, one at a time, with their paragraphs. "
        "The last column is the median over the questions of Chromium's time divided by Python's.\n\n"
        + common.table(("", "Chromium", "Python", "times Python's time"), rows)
    )


def _equal(rows: list[dict[str, Any]]) -> str:
    lines = [
        (
            f"{row['precision']}, {row['budget']}",
            f"{row['same']} of {row['questions']}",
            f"{row['median_difference']:.1e}",
            f"{row['greatest_difference']:.1e}",
            f"{row['f1_page']:.2f}",
            f"{row['f1_python']:.2f}",
        )
        for row in rows
    ]
    head = ("", "same text and place", "score differs: median", "at most", "F1, Chromium", "F1, Python")
    return "## Equality with Python\n\nScores are compared where the answers are the same.\n\n" + common.table(
        head, lines
    )
