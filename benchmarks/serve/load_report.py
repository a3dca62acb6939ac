"""What the measurement of load found: the tables, the targets, the picture."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import BLUE, GREY, ORANGE, UNDISTURBED, Target, listed, machine_line, number, table, target_table
from benchmarks.serve.load_figures import MODES, Capacity, Check, Figures, Mode

TARGET_RATE = 2.0  # times what the full model can serve
_COLOURS = {"with": BLUE, "without": ORANGE}


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """All that a run measured; `load.json` holds just this, and the records what it is made of."""

    command: str
    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    seed: int
    slo_ms: float
    warm_up_s: float
    seconds: float
    questions: int
    info: dict[str, Any]
    capacity: Capacity
    check: Check
    steps: list[Figures]

    def of(self, mode: Mode, times: float) -> Figures | None:
        return next((x for x in self.steps if x.mode == mode and x.times == times), None)

    def rates(self) -> list[float]:
        return sorted({x.times for x in self.steps})


def targets(report: LoadReport) -> list[Target]:
    """The targets, at twice the full model's capacity and with load control."""
    x = report.of("with", TARGET_RATE)
    drop = None if x is None or x.drop is None or x.table_drop is None else x.drop - x.table_drop
    within = None if x is None or x.within is None else 100 * x.within
    return [
        Target(f"accepted requests answered within {report.slo_ms:g} ms", within, ">=", 99.0, "%"),
        Target("requests refused", None if x is None else 100 * x.refused, "<=", 0.0, "%"),
        Target("requests with neither an answer nor a refusal", None if x is None else x.errors, "<=", 0.0, ""),
        Target("F1 lost, beyond what the table of configurations says", drop, "<=", 0.0, " points"),
    ]


def to_dict(report: LoadReport) -> dict[str, Any]:
    """Return what `load.json` holds, the targets with it."""
    judged = [{**x._asdict(), "met": x.met()} for x in targets(report)]
    return {**asdict(report), "capacity_rate": report.capacity.rate, "targets": judged}


# Tables.


def markdown(report: LoadReport) -> str:
    """Return the report as a page of tables."""
    return "\n\n".join([*_about(report), *_targets(report), *_tables(report)]) + "\n"


def _about(report: LoadReport) -> list[str]:
    machine, capacity = report.machine, report.capacity
    worst = max((x.others_share for x in report.steps), default=0.0)
    runs = ", ".join(f"{rate:.1f} with {connections}" for connections, rate in capacity.runs.items())
    after = "" if capacity.after is None else f" After all else it was {capacity.after:.1f}."
    return [
        "# Load",
        f"`{report.command}`, {report.date}",
        f"{machine_line(machine)}; other processes took at most {worst:.1%} of the processor. "
        f"{listed(report.versions)}.",
        "A `dynamic-tinybert serve` of its own for each line, asked over HTTP on 127.0.0.1 by a generator that shares "
        f"its {machine['cores']} cores. Requests come at random (Poisson, seed {report.seed}), whatever the server "
        "does: the same questions at the same moments with load control "
        f"(`--slo-ms {report.slo_ms:g}`) and without (`--slo-ms 0`). Each is one question of SQuAD dev with its "
        f"paragraph, {report.questions:,} in all. Time counts from the moment at which the request was due to when its "
        f"answer was read. {report.warm_up_s:g} s at the rate came first and do not count; then {report.seconds:g} s "
        "that do.",
        f"**The full model serves {capacity.rate:.1f} questions a second.** Clients that each ask anew as soon as they "
        f"have their answer, no load control, {capacity.seconds:g} s for each number of them: {runs}. The best counts."
        f"{after} Rates below are multiples of it.",
    ]


def _targets(report: LoadReport) -> list[str]:
    x = report.of("with", TARGET_RATE)
    void = x is not None and x.others_share >= UNDISTURBED
    loss = "How much F1 was lost was not measured."
    if x is not None and x.drop is not None and x.table_drop is not None:
        loss = (
            f"F1 lost there: {x.drop:.2f} ± {x.drop_error or 0:.2f} on the {x.accepted - x.errors:,} questions that "
            f"were answered; the table of configurations says {x.table_drop:.2f}."
        )
    return [
        "## Targets",
        f"With load control at {TARGET_RATE:g} times what the full model can serve."
        + (" **Void: others took too much of the processor.**" if void else ""),
        target_table(targets(report), void=void),
        loss,
    ]


def _tables(report: LoadReport) -> list[str]:
    return [
        "## Time",
        'Times are of answers; "within" is the share of what was accepted (not refused) that was answered within '
        f'{report.slo_ms:g} ms. "Late" is how much later than due the generator sent a request (99th percentile); it '
        "is part of the times.",
        _time_table(report),
        "## What was spent, and what it cost",
        "Share: multiply-accumulates over those of `full`, the mean over answers. F1 at `full`: of the very questions "
        'that were answered, by the library; "lost" is the difference, ± its standard error. "Table" is the F1 that '
        "the table of configurations says to be lost: the mean over answers of its F1 at `full` less that at the "
        f"answer's configuration. The table was measured on {report.info.get('measured_on') or 'nothing'}.",
        _spent_table(report),
        f"Of {report.check.compared:,} answers given under load, drawn at random, {report.check.different:,} are not "
        "those of the library at the same configuration.",
        "## Configurations",
        "Share of the answers that each gave, with load control, by rate.",
        _configuration_table(report),
        "## The processor",
        "Cores kept busy, and the share of all that other processes took.",
        _processor_table(report),
        "Every request is in `load-records/`: when it was due, how late it was sent, what it took, its status, "
        "configuration and answer.",
    ]


def _time_table(report: LoadReport) -> str:
    times = ("median", "95th", "99th", "within")
    return table(
        ("rate", "load control", "offered", "served", *times, "refused", "errors", "late"),
        [
            (
                f"{x.times:g}", x.mode, f"{x.offered:.1f}/s", f"{x.served:.1f}/s",
                *(number(value, " ms") for value in (x.p50, x.p95, x.p99)), _share(x.within), _share(x.refused),
                f"{x.errors:,}", number(x.late_p99, " ms", 1),
            )
            for x in _in_order(report)
        ],
    )  # fmt: skip


def _spent_table(report: LoadReport) -> str:
    return table(
        ("rate", "load control", "share", "F1", "F1 at `full`", "lost", "table"),
        [
            (
                f"{x.times:g}", x.mode, number(x.share, "", 3), number(x.f1, "", 2), number(x.full_f1, "", 2),
                f"{number(x.drop, '', 2)} ± {number(x.drop_error, '', 2)}", number(x.table_drop, "", 2),
            )
            for x in _in_order(report)
        ],
    )  # fmt: skip


def _configuration_table(report: LoadReport) -> str:
    found = [x for x in _in_order(report) if x.mode == "with"]
    rows = sorted(report.info["configurations"], key=lambda row: -row["share"])
    used = [row for row in rows if any(row["name"] in x.configurations for x in found)]
    return table(
        ("configuration", "F1 in the table", *(f"{x.times:g}" for x in found)),
        [
            (
                f"`{row['name']}`", number(row["f1"], "", 2),
                *(_share(x.configurations.get(row["name"], 0) / max(1, sum(x.configurations.values()))) for x in found),
            )
            for row in used
        ],
    )  # fmt: skip


def _in_order(report: LoadReport) -> list[Figures]:
    return sorted(report.steps, key=lambda x: (x.times, MODES.index(x.mode)))


def _processor_table(report: LoadReport) -> str:
    head = ("rate", *(f"{name}, {mode}" for name in ("server", "generator", "others") for mode in MODES))
    rows = []
    for times in report.rates():
        found = [report.of(mode, times) for mode in MODES]
        rows.append(
            [
                f"{times:g}",
                *(number(x.server_cores if x else None, "", 2) for x in found),
                *(number(x.generator_cores if x else None, "", 2) for x in found),
                *(_share(x.others_share if x else None) for x in found),
            ]
        )
    return table(head, rows)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


# The picture.


def draw(report: LoadReport, path: Path) -> None:
    """Draw times, what was refused, F1 and share against the load, with load control and without."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator

    figure, axes = pyplot.subplots(
        4, 1, figsize=(9, 12), sharex=True, layout="constrained", height_ratios=(2.2, 1, 1, 1)
    )
    times, refused, f1, share = axes
    for mode in MODES:
        found = [x for x in _in_order(report) if x.mode == mode]
        rates = [x.times for x in found]
        style: dict[str, Any] = {"color": _COLOURS[mode], "marker": "o", "markersize": 4}
        times.plot(rates, [_or_gap(x.p99) for x in found], label=f"99th percentile, {mode}", **style)
        times.plot(rates, [_or_gap(x.p50) for x in found], label=f"median, {mode}", linestyle=":", **style)
        refused.plot(rates, [100 * x.refused for x in found], label=mode, **style)
        f1.plot(rates, [_or_gap(x.f1) for x in found], label=mode, **style)
        share.plot(rates, [_or_gap(x.share) for x in found], label=mode, **style)
    rates = report.rates()
    reference = [report.of("with", rate) or report.of("without", rate) for rate in rates]
    f1.plot(
        rates, [_or_gap(x.full_f1 if x else None) for x in reference],
        color=GREY, linestyle="--", label="the same questions at full",
    )  # fmt: skip
    times.axhline(report.slo_ms, color=GREY, linestyle="--", label=f"objective, {report.slo_ms:g} ms")
    times.set(yscale="log", ylabel="ms to the answer")
    times.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    times.yaxis.set_major_formatter("{x:g}")
    times.yaxis.set_minor_formatter("")
    refused.set(ylabel="refused, %", ylim=(-0.5, max(5.0, *(105 * x.refused for x in report.steps))))
    f1.set(ylabel="F1 of the answers")
    share.set(ylabel="share of full's compute", ylim=(0, 1.05))
    share.set(xlabel=f"requests, over what the full model can serve ({report.capacity.rate:.0f} a second)")
    for part in axes:
        part.grid(color="#E0E0E0")
    for part in (times, f1):
        part.legend(fontsize=8)
    figure.suptitle(
        f"With load control, and without: {report.machine['cpu']}, {report.machine['cores']} cores, {report.date[:10]}"
    )
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _or_gap(value: float | None) -> float:
    return math.nan if value is None else value
