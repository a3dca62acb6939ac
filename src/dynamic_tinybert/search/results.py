"""Write the results of a search: the table, the trials and the Pareto front as CSV, and a picture."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dynamic_tinybert.files import write_whole
from dynamic_tinybert.folder import LENGTH_CONFIGS
from dynamic_tinybert.model import LengthConfig, Precision, dump_table, table_row
from dynamic_tinybert.search.objective import Cost, Measurement
from dynamic_tinybert.search.pareto import pareto_front

_AXIS: Final[Mapping[Cost, str]] = {
    "share": "share of the multiply-accumulates of full",
    "latency": "latency, as a part of that of full",
}

_STEP = 0.01  # least difference in cost between neighbours in a table


@dataclass(frozen=True, kw_only=True)
class ConfirmedConfig:
    """A configuration that was measured again on the questions that confirm.

    Attributes:
        kind: `full`, `uniform` or `search`; its name in a table begins with it.
        config: The configuration.
        select: Its figures on the questions that choose, or None if it was not measured on them.
        confirm: Its figures on the questions that confirm.
        chosen: Whether it is one of those on the Pareto front of the questions that choose that were to be confirmed.
    """

    kind: str
    config: LengthConfig
    select: Measurement | None
    confirm: Measurement
    chosen: bool


def make_table(
    candidates: Sequence[ConfirmedConfig],
    measured_on: str,
    before: Mapping[str, Any] | None = None,
    precision: Precision = "fp32",
) -> tuple[dict[str, Any], dict[LengthConfig, str]]:
    """Make the content of `length_configs.json` from the configurations that were measured again.

    `full` and the uniform configurations always stay, for comparison. The others stay if they are on the Pareto front
    of the questions that confirm, and cost at least 0.01 less than the next more expensive one of them that stays: a
    budget must not give up F1 for almost nothing. The number in a name is the share, rounded up, so a budget of that
    number selects it. Other keys of the model's table, such as `calibration`, are kept.

    Args:
        candidates: The configurations that were measured again.
        measured_on: The value of `measured_on`.
        before: The model's table before.
        precision: The precision of the measurements.

    Returns:
        The table, and the names in it by configuration.
    """
    front = {candidates[i].config for i in pareto_front([(c.confirm.cost, c.confirm.f1) for c in candidates])}
    names: dict[LengthConfig, str] = {}
    rows: list[dict[str, Any]] = []
    last = math.inf
    kept = set()
    for candidate in sorted(candidates, key=lambda c: -c.confirm.cost):
        if candidate.kind == "search" and candidate.config in front and candidate.confirm.cost <= last - _STEP:
            kept.add(candidate.config)
            last = candidate.confirm.cost
    for candidate in sorted(candidates, key=lambda c: (-c.confirm.share, -c.confirm.f1)):
        if candidate.kind == "search" and candidate.config not in kept:
            continue
        name = _name(candidate.kind, candidate.confirm.share, set(names.values()))
        names[candidate.config] = name
        found = candidate.confirm
        rows.append(table_row(name, candidate.config, found.share, found.exact_match, found.f1))
    rest = {key: value for key, value in (before or {}).items() if key not in ("measured_on", "configs", "precision")}
    said = {} if precision == "fp32" else {"precision": precision}
    return {"measured_on": measured_on, "configs": rows, **said, **rest}, names


def _name(kind: str, share: float, taken: set[str]) -> str:
    if kind == "full":
        return kind
    for digits in (2, 4, 6):
        name = f"{kind}-{math.ceil(round(share * 10**digits, 3)) / 10**digits:.{digits}f}"
        if name not in taken:
            return name
    return next(f"{name}-{i}" for i in range(2, 2 + len(taken)) if f"{name}-{i}" not in taken)


def write_results(
    output: Path,
    *,
    table: Mapping[str, Any],
    names: Mapping[LengthConfig, str],
    candidates: Sequence[ConfirmedConfig],
    trials: Sequence[Mapping[str, Any]],
    cost: Cost,
) -> None:
    """Write `length_configs.json`, `trials.csv`, `front.csv` and `front.png` into a folder, each file whole.

    Args:
        output: The folder.
        table: The table, see `make_table`.
        names: The names of its configurations.
        candidates: The configurations that were measured again.
        trials: Every trial, see `Search.rows`.
        cost: The cost that was minimized.

    Raises:
        OSError: A file cannot be written.
    """
    write_whole(output / LENGTH_CONFIGS, dump_table(table))
    write_whole(output / "trials.csv", _trials_csv(trials))
    write_whole(output / "front.csv", _front_csv(candidates, names))
    write_whole(output / "front.png", draw_front(candidates, cost))


def _trials_csv(trials: Sequence[Mapping[str, Any]]) -> bytes:
    columns = ("number", "state", "name", "share", "cost", "exact_match", "f1", "seconds", "copied", "fractions")
    rows = ({**row, "fractions": _joined(row.get("fractions", ()))} for row in trials)
    return _csv(columns, rows)


def _front_csv(candidates: Sequence[ConfirmedConfig], names: Mapping[LengthConfig, str]) -> bytes:
    figures = ("exact_match", "f1", "cost", "seconds")
    columns = ["name", "kind", "chosen", "share"]
    columns += [f"{when}_{figure}" for when in ("select", "confirm") for figure in figures] + ["fractions"]
    rows = []
    for c in sorted(candidates, key=lambda c: -c.confirm.share):
        row: dict[str, Any] = {"name": names.get(c.config, ""), "kind": c.kind, "chosen": c.chosen}
        row |= {"share": c.confirm.share, "fractions": _joined(c.config.fractions)}
        for when, measurement in (("select", c.select), ("confirm", c.confirm)):
            if measurement is not None:
                row |= {f"{when}_{figure}": getattr(measurement, figure) for figure in figures}
        rows.append(row)
    return _csv(columns, rows)


def _csv(columns: Sequence[str], rows: Any) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()})
    return text.getvalue().encode()


def _joined(fractions: Sequence[float]) -> str:
    return " ".join(f"{fraction:g}" for fraction in fractions)


def draw_front(candidates: Sequence[ConfirmedConfig], cost: Cost) -> bytes:
    """Plot the Pareto front on the questions that choose and on those that confirm, with the uniform configurations.

    Returns:
        The content of a PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    chosen = [c for c in candidates if c.chosen]
    on_confirm = [(c.confirm.cost, c.confirm.f1) for c in candidates if c.kind != "uniform"]
    lines = (
        (
            "search, on the select questions",
            sorted((c.select.cost, c.select.f1) for c in chosen if c.select),
            "0.6",
            "--",
        ),
        ("search, on the confirm questions", [on_confirm[i] for i in pareto_front(on_confirm)], "#0072b2", "-"),
        (
            "uniform, on the confirm questions",
            sorted((c.confirm.cost, c.confirm.f1) for c in candidates if c.kind in ("full", "uniform")),
            "#d55e00",
            "-",
        ),
    )
    for label, points, colour, style in lines:
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, style, color=colour, marker="o", markersize=3.5, linewidth=1.5, label=label)
    axes.set_xlabel(_AXIS[cost])
    axes.set_ylabel("F1 (%)")
    bare(axes)
    axes.legend(frameon=False, loc="lower right")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def bare(axes: Any) -> None:
    """Give a plot a light grid in the background and remove its top and right frame lines."""
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
