"""The results of peers.py: what is kept, the tables, the picture."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.common import BLUE, GREEN, GREY, ORANGE, UNDISTURBED, machine_line, table

_BASE = "transformers"
_PARTS = (
    "torch", "transformers", "haystack-ai", "transformers-haystack", "txtai", "dynamic-tinybert", "onnxruntime",
    "tokenizers", "numpy",
)  # fmt: skip


@dataclass(frozen=True)
class System:
    """A peer as it is run.

    Attributes:
        key: Its name in files.
        name: Its name in tables.
        environment: The environment that it lives in.
        peer: What `peer_worker.py` calls it.
        budget: The budget, of ours.
    """

    key: str
    name: str
    environment: str
    peer: str
    budget: str = "full"


@dataclass(frozen=True, kw_only=True)
class PeersReport:
    """All that a run measured; `peers.json` holds just this.

    Attributes:
        counts: How many questions each set has.
        words: Of the long texts.
        installed: Bytes of each environment.
        versions: What is installed, by system.
        shapes: By shape, what was measured: see `peers.Runner`.
    """

    command: str
    machine: dict[str, Any]
    python: str
    threads: int
    model: str
    systems: list[System]
    counts: dict[str, int]
    words: list[int]
    installed: dict[str, int]
    versions: dict[str, dict[str, str]]
    shapes: dict[str, dict[str, Any]]

    @property
    def others(self) -> float:
        """The largest share of the processor that other processes took."""
        return max(float(found["others"]) for found in self.shapes.values())

    @property
    def dates(self) -> tuple[str, str]:
        """When the first part and the last part were done."""
        dates = [part["date"] for found in self.shapes.values() for part in found.values() if _has_date(part)]
        return min(dates), max(dates)


def _has_date(part: object) -> bool:
    return isinstance(part, dict) and "date" in part


def to_json(report: PeersReport) -> str:
    """Return all of it but the answers to the list, which are many and judged already."""
    kept = asdict(report)
    for found in kept["shapes"].values():
        found["many"].pop("answers")
    return json.dumps(kept, indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Figures:
    """What is known of a system on a shape; None where it does not run."""

    per_second: float
    median: float
    p95: float
    speedup: float | None
    f1: float
    unanswered: int
    found: int
    long: float
    peak: int
    long_peak: int
    start: float


def figures(found: Mapping[str, Any], system: System, many: int) -> Figures | None:
    one, listed, long = found["one"], found["many"], found["long"]
    key = system.key
    if key not in one["seconds"]:
        return None
    base = one["seconds"].get(_BASE)
    return Figures(
        per_second=many / median(listed["seconds"][key]),
        median=median(one["seconds"][key]),
        p95=float(np.percentile(one["seconds"][key], 95)),
        speedup=median(base) / median(one["seconds"][key]) if base else None,
        f1=listed["f1"][key],
        unanswered=listed["unanswered"][key],
        found=long["found"][key],
        long=median(long["seconds"][key]),
        peak=one["peak"][key],
        long_peak=long["peak"][key],
        start=median(found["start"]["seconds"][system.peer]),
    )


# Tables.


def markdown(report: PeersReport) -> str:
    """Return the report as a page of tables."""
    counts = report.counts
    first, last = report.dates
    parts = [
        "# Peers",
        f"`{report.command}`, {first} to {last}",
        f"{machine_line(report.machine)}; other processes took at most {report.others:.1%} of the processor meanwhile"
        + (". " if report.others < UNDISTURBED else ", **too much for these figures to mean anything**. ")
        + f"Python {report.python}, {report.threads} threads for every system, fp32.",
        f"Every system has the same weights: those of the {report.model} model (6 layers of 384: MiniLM's shape), made "
        "wider and deeper without training (benchmarks/peers/peer_models.py), so that all of them answer. The shape of "
        "DistilBERT has no token types, which its model then does without; else nothing is lost"
        f"{_agreement(report)}. F1 says whether a system gets out of these weights what is in them; a model trained in "
        "one of the larger shapes answers better than these.",
        "- **answers/s**: a list of "
        f"{counts['many']} questions of SQuAD dev with their paragraphs, asked as each peer's users ask many; "
        "**F1** is of these answers; **silent**: to how many it gave none\n"
        f"- **median, 95%**: {counts['one']} of them one at a time, the systems taking "
        'turns; "as fast" is against the median of transformers 5.2, 2.0 being twice as fast\n'
        f"- **last sentence**: of {counts['long']} texts of {min(report.words):,} to {max(report.words):,} words whose "
        "last sentence answers, how many times the answer was found (F1 of one half or more), and the median seconds a "
        "text takes. The questions are those of whose answers the model is surest when it reads nothing but that "
        "sentence\n"
        "- **peak**: the process's memory at its highest, one question at a time from the start on; and then with the "
        "long texts\n"
        "- **start**: process start to first answer, the disk's cache warm",
    ]  # fmt: skip
    for shape, found in report.shapes.items():
        parts += [f"## {_title(shape)}", _shape_table(report, found)]
        for reason in dict.fromkeys(found["failed"].values()):
            names = [x.name for x in report.systems if found["failed"].get(x.key) == reason]
            parts.append(f"Does not run: {', '.join(names)}: `{reason}`")
    parts += ["## Installed", _installed(report), _NOTES]
    return "\n\n".join(parts) + "\n"


def _agreement(report: PeersReport) -> str:
    """Say how often the shapes give the same answers in transformers."""
    answers = {
        shape: found["many"]["answers"][_BASE]
        for shape, found in report.shapes.items()
        if _BASE in found["many"]["answers"]
    }
    small = answers.pop("MiniLM", None)
    if small is None or not answers:
        return ""
    same = {
        shape: sum(x == y for x, y in zip(small, given, strict=True)) / len(small) for shape, given in answers.items()
    }
    said = ", ".join(f"{shape}'s {share:.1%}" for shape, share in same.items())
    return f" (of the answers that transformers gives with MiniLM's shape, it gives the very same with {said})"


_NOTES = """Sizes are of everything in site-packages, in environments without pip, compiled modules included, models
apart (ours brings the embedded model, 23 MB, which is not used here).

How each is asked: transformers' pipeline with lists and no batching, as its documentation advises on a CPU; Haystack's
reader a question at a time, for it takes one, with `top_k=1, no_answer=False`; txtai's `Questions` likewise, whose
lists are a loop; the exported graph padded to 384 tokens in batches of 8, with the text truncated to one window and the
argmax of start and of end, as such scripts usually are, and unpadded one by one, as a careful one would be; ours with
lists, which it batches by length.

Haystack's reader passes no token types to the model, and so answers worse where the model has them. An answer that a
peer withholds (txtai below a score of 0.05, the script where end precedes start) or fails to give counts as empty."""


def _title(shape: str) -> str:
    layers = {"BERT-base": "12 layers of 768", "DistilBERT": "6 layers of 768", "MiniLM": "6 layers of 384"}
    return f"{shape}'s shape: {layers[shape]}"


def _shape_table(report: PeersReport, found: Mapping[str, Any]) -> str:
    rows: list[Sequence[str]] = []
    for system in report.systems:
        x = figures(found, system, report.counts["many"])
        if x is None:
            rows.append((system.name, *["-"] * 11))
            continue
        rows.append(
            (
                system.name, f"{x.per_second:.1f}", f"{x.median * 1000:.1f} ms", f"{x.p95 * 1000:.1f} ms",
                f"{x.speedup:.2f}x" if x.speedup else "-", f"{x.f1:.1f}", str(x.unanswered),
                f"{x.found} of {report.counts['long']}", f"{x.long:.2f} s",
                f"{x.peak / 1e6:,.0f} MB", f"{x.long_peak / 1e6:,.0f} MB", f"{x.start:.2f} s",
            )
        )  # fmt: skip
    return table(
        (
            "system", "answers/s", "median", "95%", "as fast", "F1", "silent", "last sentence", "a long text", "peak",
            "... long texts", "start",
        ),
        rows,
    )  # fmt: skip


def _installed(report: PeersReport) -> str:
    rows = []
    for environment, size in report.installed.items():
        system = next(x for x in report.systems if x.environment == environment)
        versions = report.versions.get(system.key, {})
        named = ", ".join(f"{part} {versions[part]}" for part in _PARTS if part in versions)
        rows.append((environment, f"{size / 1e6:,.0f} MB", str(len(versions)), named))
    return table(("environment", "size", "packages", "of them"), rows)


# The picture.


def draw(report: PeersReport, path: Path) -> None:
    """Draw answers per second by shape, and start-up, memory and disk space."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [x.name for x in report.systems]
    shapes = list(report.shapes)
    known = {
        (shape, x.key): figures(report.shapes[shape], x, report.counts["many"])
        for shape in shapes
        for x in report.systems
    }
    figure, axes = pyplot.subplots(2, 3, figsize=(15, 8.5), layout="constrained", sharey=True)
    for place, shape in zip(axes[0], shapes, strict=False):
        rows = [(i, x, found) for i, x in enumerate(report.systems) if (found := known[shape, x.key])]
        bars = place.barh(
            [i for i, _, _ in rows],
            [found.per_second for _, _, found in rows],
            color=[BLUE if x.environment == "ours" else GREY for _, x, _ in rows],
            hatch=["" if found.found else "///" for _, _, found in rows],
            edgecolor="white",
        )
        place.bar_label(
            bars, [f"{found.per_second:.1f}  F1 {found.f1:.0f}" for _, _, found in rows], padding=3, fontsize=8
        )
        place.set(title=f"answers per second, {shape}'s shape")
        place.margins(x=0.3)
        for i in set(range(len(names))) - {i for i, _, _ in rows}:
            place.text(0, i, " does not run", va="center", fontsize=8)
    for place in axes[0][len(shapes) :]:
        place.set_axis_off()
    colours = dict(zip(shapes, (BLUE, ORANGE, GREEN), strict=False))
    for place, title, scale, value in (
        (axes[1][0], "seconds from process start to first answer", 1.0, "start"),
        (axes[1][1], "peak memory with long texts, MB", 1e-6, "long_peak"),
    ):
        for offset, shape in zip(_offsets(len(shapes)), shapes, strict=True):
            some = [(i, found) for i, x in enumerate(report.systems) if (found := known[shape, x.key])]
            bars = place.barh(
                [i + offset for i, _ in some],
                [getattr(found, value) * scale for _, found in some],
                height=0.8 / len(shapes),
                color=colours[shape],
                label=shape,
            )
            place.bar_label(bars, fmt="%.1f" if scale == 1 else "%.0f", padding=3, fontsize=7)
        place.set(title=title)
        place.margins(x=0.12)
    handles, labels = axes[1][0].get_legend_handles_labels()
    figure.legend(handles, [f"{label}'s shape" for label in labels], loc="outside lower center", ncols=len(labels))
    sizes = [report.installed[x.environment] / 1e6 for x in report.systems]
    bars = axes[1][2].barh(range(len(names)), sizes, color=GREY)
    axes[1][2].bar_label(bars, fmt="%.0f", padding=3, fontsize=8)
    axes[1][2].set(title="installed, MB")
    axes[1][2].margins(x=0.12)
    axes[0][0].set(yticks=range(len(names)), yticklabels=names)
    axes[0][0].invert_yaxis()
    figure.suptitle(
        f"The same weights, {report.machine['cpu']}, {report.threads} threads, {report.dates[1][:10]}. "
        "Hatched: finds no answer in the last sentence of a long text"
    )
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _offsets(count: int) -> Iterable[float]:
    return [0.8 / count * (i - (count - 1) / 2) for i in range(count)]
