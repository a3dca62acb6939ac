"""The results of the benchmarks: what is kept, the tables, the targets, the picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np

from benchmarks.common import BLUE, GREY, ORANGE, UNDISTURBED, Target, listed, machine_line, number, table, target_table

UNIFORM_HALF = "uniform at 0.5"
BERT_BASE = "BERT-base, PyTorch"
DEFAULT_EXPORT = "exported graph (default exporter)"

_HALF = 0.5
_GOALS = 7.5, 9.5  # of the embedded model, for filled windows and real questions; of others: what arithmetic promises
_PUBLISHED = 3.3  # times as fast as BERT-base within 1 F1: Guskin et al. (2021)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was measured of a system.

    Attributes:
        name: The system; a configuration's name for ours.
        kind: PyTorch, a graph exported from it, or ours.
        precision: Its arithmetic.
        share: A configuration's multiply-accumulates over those of `full`; None for others.
        promised: How many times fewer multiply-accumulates it needs than BERT-base, on the same windows.
        seconds: One figure for each window or question.
        peak_bytes: Peak memory of a process of its own.
        f1: F1 on SQuAD dev, in percent.
    """

    name: str
    kind: Literal["pytorch", "exported", "ours"]
    precision: str = "fp32"
    share: float | None = None
    promised: float
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    f1: float | None = None

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def p95(self) -> float:
        return float(np.percentile(self.seconds, 95))


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a run measured; `speed.json` holds just this."""

    command: str
    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    others_share: float
    threads: int
    model: str
    measured_on: str | None
    filled: list[Measurement]
    logits_difference: float
    real: list[Measurement]
    real_tokens: float
    startup_seconds: dict[str, list[float]]
    startup_peak_bytes: dict[str, list[int]]
    installed_bytes: dict[str, int] | None


_CROWDED = 2.0  # F1; names of points on the front that are nearer than this stand upright


def ours(config: str, precision: str) -> str:
    """Name a configuration of ours in a precision."""
    return config if precision == "fp32" else f"{config}, {precision}"


def named(measurements: Iterable[Measurement], name: str) -> Measurement:
    return next(x for x in measurements if x.name == name)


def full(measurements: Iterable[Measurement]) -> Measurement:
    return next(x for x in measurements if x.share == 1 and x.precision == "fp32")


def fastest_export(measurements: Iterable[Measurement], precision: str = "fp32") -> Measurement:
    return min((x for x in measurements if x.kind == "exported" and x.precision == precision), key=lambda x: x.median)


def fastest(measurements: Iterable[Measurement], shape: str) -> Measurement:
    """Return the faster precision of a shape in PyTorch."""
    return min(
        (x for x in measurements if x.kind == "pytorch" and x.name.startswith(f"{shape},")), key=lambda x: x.median
    )


def targets(report: Report) -> list[Target]:
    """The targets, beside what was measured."""
    filled, real = report.filled, report.real
    export, base = fastest_export(filled).median, named(filled, BERT_BASE).median
    halves = [
        x
        for x in filled
        if x.share is not None and x.share <= _HALF and x.precision == "fp32" and x.name != UNIFORM_HALF
    ]
    half = max(halves, key=lambda x: x.share or 0, default=None)
    uniform = named(filled, UNIFORM_HALF)
    int8, real_int8 = named(filled, ours("full", "int8")), named(real, ours("full", "int8"))
    quantized = fastest_export(filled, "int8")
    installed = report.installed_bytes
    seconds = {name: median(values) for name, values in report.startup_seconds.items()}
    embedded = report.model == "embedded"
    filled_goal, real_goal = _GOALS if embedded else (full(filled).promised, full(real).promised)
    found = [
        Target("filled: `full`, time over the faster exported graph's", full(filled).median / export, "<=", 1.05, "x"),
        Target(
            f"filled: the table's share nearest below 0.5 ({f'`{half.name}`' if half else 'none'}), as fast as the "
            "faster exported graph",
            export / half.median if half else None, ">=", 2.2, "x",
        ),
        Target(
            f"filled: uniform retention of share {uniform.share:.3f}, as fast as the faster exported graph",
            export / uniform.median, ">=", 2.2, "x",
        ),
        Target("filled: `full`, as fast as BERT-base in PyTorch", base / full(filled).median, ">=", filled_goal, "x"),
        Target(
            "real: `full`, as fast as BERT-base in PyTorch",
            named(real, BERT_BASE).median / full(real).median, ">=", real_goal, "x",
        ),
        Target("filled: `full` in INT8, as fast as `full`", full(filled).median / int8.median, ">=", 1.5, "x"),
        Target("real: `full` in INT8, as fast as `full`", full(real).median / real_int8.median, ">=", 1.5, "x"),
        Target(
            f"filled: `full` in INT8, as fast as the faster of the exported graphs in INT8 ({quantized.name})",
            quantized.median / int8.median, ">=", 1.3, "x",
        ),
        Target(
            "real: `full` in INT8, as fast as BERT-base in PyTorch in its faster precision",
            fastest(real, "BERT-base").median / real_int8.median, ">=", real_goal, "x",
        ),
        *_as_published(real),
    ]  # fmt: skip
    if not embedded:
        return found
    return [
        *found,
        *(Target(name, seconds[name], "<", 0.35, " s") for name in seconds if "first answer" in name),
        *(Target(name, seconds[name], "<", 0.3, " s") for name in seconds if name.startswith("import ")),
        *(
            Target(f"peak memory for one question, {name}", median(values) / 1e6, "<=", 250, " MB")
            for name, values in report.startup_peak_bytes.items()
        ),
        Target("installed", sum(installed.values()) / 1e6 if installed else None, "<", 250, " MB"),
    ]  # fmt: skip


def _as_published(real: Sequence[Measurement]) -> list[Target]:
    """Compare with what the paper claims, 3.3 times BERT-base within 1 F1, in seconds: by the best of ours, in INT8."""
    known = [x for x in real if x.precision == "int8" and x.f1 is not None]
    best = next((x.f1 for x in known if x.name == ours("full", "int8")), None)
    near = [x for x in known if best is not None and x.f1 is not None and x.f1 >= best - 1]
    if not near:
        return []
    quickest = min(near, key=lambda x: x.median)
    ratio = fastest(real, "BERT-base").median / quickest.median
    name = f"real: `{quickest.name}`, the fastest within 1 F1 of `full`, as fast as BERT-base in its faster precision"
    return [Target(name, ratio, ">=", _PUBLISHED, "x")]


# Tables.


def markdown(report: Report) -> str:
    """Return the report as a page of tables."""
    return "\n\n".join(
        [
            "# Speed",
            f"`{report.command}`, {report.date}",
            f"{machine_line(report.machine)}; other processes took {report.others_share:.1%} of the processor meanwhile"
            + (". " if report.others_share < UNDISTURBED else ", **too much for these figures to mean anything**. ")
            + listed(report.versions)
            + f". {report.threads} threads for every system. Model: {report.model}"
            + ("." if report.measured_on else ", whose configurations nobody has measured: a geometric series."),
            "MB are 10^6 bytes. \"As fast as\" is the other's median time over this one's: 2.0 is twice as fast. "
            '"Promised" is what the multiply-accumulates alone would give, against BERT-base.',
            "## Targets",
            target_table(
                targets(report),
                void=report.others_share >= UNDISTURBED,
                decimals=lambda target: 2 if target.bound < 100 else 0,
            ),
            "## Windows filled with 384 tokens",
            f"One at a time, {len(report.filled[0].seconds)} windows. The exported graphs hold our weights, in ONNX "
            "Runtime with its default options, or in OpenVINO; in float32 their logits and those of `full` differ by "
            f"at most {report.logits_difference:.1g}. Dynamic INT8 is `quantize_dynamic` of ONNX Runtime, which "
            "optimum calls, too; how accurate the graphs in INT8 are is not compared here.",
            _filled_table(report.filled),
            "## Real questions",
            f"One at a time, {len(report.real[0].seconds)} questions of SQuAD dev drawn at random, each at its own "
            f"length ({report.real_tokens:.0f} tokens on average), from question and text to the answer. F1 is on all "
            "of dev.",
            _real_table(report.real, report.filled),
            "Peak memory is of a process of its own that loads the system and answers the 20 longest of the "
            "questions. Padded: the papers' protocol, in which every window is padded to 384 tokens and padding "
            "counts; there every window costs what a filled one does, so these columns are the figures from above.",
            "## Start-up and footprint",
            f"Medians of {len(next(iter(report.startup_seconds.values())))} fresh processes.",
            table(
                ("", "median", "slowest"),
                [
                    *(
                        (name, number(median(seconds), " s", 3), number(max(seconds), " s", 3))
                        for name, seconds in report.startup_seconds.items()
                    ),
                    *(
                        (f"peak memory for one question, {name}", *(number(f(x) / 1e6, " MB") for f in (median, max)))
                        for name, x in report.startup_peak_bytes.items()
                    ),
                ],
            ),
            _installed(report.installed_bytes),
        ]
    ) + "\n"  # fmt: skip


def _filled_table(filled: Sequence[Measurement]) -> str:
    base, fastest, default = named(filled, BERT_BASE), fastest_export(filled), named(filled, DEFAULT_EXPORT)
    return table(
        (
            "system", "share", "median", "p95", "as fast as the faster exported graph", "... the default exporter's",
            "... BERT-base in PyTorch", "promised",
        ),
        [
            (
                _name(x), number(x.share, "", 2), _ms(x.median), _ms(x.p95),
                *(_ratio(y, x) for y in (fastest, default, base)), number(x.promised, "x", 1),
            )
            for x in filled
        ],
    )  # fmt: skip


def _real_table(real: Sequence[Measurement], filled: Sequence[Measurement]) -> str:
    base, padded_base = named(real, BERT_BASE), named(filled, BERT_BASE)
    faster, padded_faster = fastest(real, "BERT-base"), fastest(filled, "BERT-base")
    return table(
        (
            "system", "share", "F1", "median", "p95", "as fast as BERT-base in PyTorch", "... in its faster precision",
            "promised", "peak memory", "padded: median", "padded: as fast as BERT-base", "... in its faster precision",
        ),
        [
            (
                _name(x), number(x.share, "", 2), number(x.f1, "", 2), _ms(x.median), _ms(x.p95), _ratio(base, x),
                _ratio(faster, x), number(x.promised, "x", 1), number((x.peak_bytes or 0) / 1e6, " MB"),
                _ms(named(filled, x.name).median),
                *(_ratio(y, named(filled, x.name)) for y in (padded_base, padded_faster)),
            )
            for x in real
        ],
    )  # fmt: skip


def _installed(sizes: dict[str, int] | None) -> str:
    if sizes is None:
        return "Disk space was not measured: dynamic-tinybert is not installed here."
    rows = [(name, number(size / 1e6, " MB", 1)) for name, size in sizes.items()]
    total = ("**all that `pip install .` brings**", number(sum(sizes.values()) / 1e6, " MB", 1))
    return table(("installed", "size"), [total, *rows])


def _name(x: Measurement) -> str:
    return f"`{x.name}`" if x.kind == "ours" else x.name


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _ratio(other: Measurement, this: Measurement) -> str:
    return f"{other.median / this.median:.2f}x"


# The picture.


def draw(report: Report, path: Path) -> None:
    """Draw F1 against time for our configurations, and how much faster than BERT-base every system is."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [x.name for x in report.filled if x.name != BERT_BASE and not x.name.startswith("uniform")]
    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(13, max(5.0, 0.42 * len(names) + 1.2)), layout="constrained", width_ratios=(1, 1.15)
    )
    _draw_f1(left, [x for x in report.real if x.f1 is not None])
    _draw_ratios(right, names, report)
    figure.suptitle(f"{report.machine['cpu']}, {report.threads} threads, one question at a time, {report.date[:10]}")
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _draw_f1(axes: Any, measured: Sequence[Measurement]) -> None:
    axes.set(title="What the time buys", xlabel="median ms for a real question", ylabel="F1 on SQuAD 1.1 dev")
    axes.grid(color="#E0E0E0")
    if not measured:
        axes.text(0.5, 0.5, "no F1 was given (--f1)", ha="center", transform=axes.transAxes)
        return
    points = sorted((x.median * 1000, x.f1 or 0, x.name) for x in measured)
    front = [(time, f1) for i, (time, f1, _) in enumerate(points) if all(f1 > other for _, other, _ in points[:i])]
    axes.plot(*zip(*front, strict=True), color=BLUE)
    for time, f1, name in points:
        axes.plot(time, f1, "o", color=BLUE)
        best = (time, f1) in front  # nothing is drawn above the front, so that names have room there
        crowded = best and any(abs(f1 - other) < _CROWDED for _, other, also in points if also != name)
        style: dict[str, Any] = {"xytext": (6, -2), "ha": "left", "va": "top"}
        if crowded:
            style = {"xytext": (0, 7), "ha": "left", "va": "center", "rotation": 90, "rotation_mode": "anchor"}
        elif best:
            style = {"xytext": (-6, 2), "ha": "right", "va": "bottom"}
        axes.annotate(name, (time, f1), textcoords="offset points", fontsize=9, **style)
    axes.margins(x=0.3, y=0.15)


def _draw_ratios(axes: Any, names: Sequence[str], report: Report) -> None:
    real, filled = (
        {x.name: named(measured, BERT_BASE).median / x.median for x in measured}
        for measured in (report.real, report.filled)
    )
    for side, colour, title, ratios in (
        (-0.2, BLUE, "real questions", real),
        (0.2, ORANGE, "windows of 384 tokens", filled),
    ):
        here = [i for i, name in enumerate(names) if name in ratios]
        places = [i + (side if names[i] in real else 0) for i in here]
        bars = axes.barh(places, [ratios[names[i]] for i in here], height=0.38, color=colour, label=title)
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    axes.axvline(1, color=GREY, linewidth=1)
    axes.set(title="Times as fast as BERT-base in PyTorch", yticks=range(len(names)), yticklabels=names)
    axes.invert_yaxis()
    axes.margins(x=0.08, y=0.01)
    axes.legend(loc="upper right")
