"""Compares the samplers of the search on a stored table of evaluated length configurations.

`tabulate` measures a full factorial grid of ratios: 0.4, 0.7 and 1 in each layer but the last, 0.4 and 1 in the last;
486 configurations for a model of 6 layers. It appends a line as soon as it has one, and goes on where it was stopped.

`compare` runs each sampler on the table: between the points of the grid F1 is interpolated, linearly in each ratio, and
the share is computed. Every run begins as every search does, with `full`, uniform and late configurations, and
all that it is judged by is the hypervolume of what it has found.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from benchmarks.common import Progress, argument_parser, heading, table, write_page
from dynamic_tinybert.evaluation import evaluate
from dynamic_tinybert.model import LengthConfig, ModelShape, share
from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.search import SearchError, SearchSpace, beginning, hypervolume, make_sampler, pareto_front
from dynamic_tinybert.squad import Questions, read_squad, sample

LOW = 0.4
SAMPLERS = ("tpe", "multivariate", "gp", "nsga2", "evolution", "random")
LABELS = {
    "tpe": "tpe (each ratio by itself)",
    "multivariate": "TPE, multivariate",
    "gp": "gp (Gaussian processes)",
    "nsga2": "nsga2 (population 20)",
    "evolution": "evolution (Kim and Cho)",
    "random": "random",
}
AT = (50, 100, 150)  # trials
MUTATION = 0.5  # of a proposal, and then of each layer (Kim and Cho, 2020)
ATTEMPTS = 100  # at a child that is not in the study yet
FIGURES = ("share", "exact_match", "f1", "seconds")


def main() -> None:
    parser = argument_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    grid = commands.add_parser("tabulate", help="measure the grid")
    grid.add_argument("model", help='a model folder, or "embedded"')
    grid.add_argument("--data", required=True, help="a SQuAD file")
    grid.add_argument("--titles", type=Path, help="titles of the articles to use, one a line")
    grid.add_argument("--questions", type=int, default=500)
    grid.add_argument("--output", type=Path, required=True, help="the table, a CSV file")
    grid.add_argument("--part", default="0/1", metavar="I/N", help="measure part I of N, counted from 0")
    grid.add_argument("--threads", type=int, default=1)
    race = commands.add_parser("compare", help="run the samplers on the table")
    race.add_argument("table", type=Path)
    race.add_argument("--seeds", type=int, default=5)
    race.add_argument("--samplers", nargs="+", default=SAMPLERS, choices=SAMPLERS)
    race.add_argument("--hidden", type=int, default=384, help="hidden size of the model that the table is of")
    race.add_argument("--feed-forward", type=int, default=1536)
    race.add_argument("--output", type=Path, default=Path("results/train/search"))
    args = parser.parse_args()
    if args.command == "tabulate":
        part, _, parts = args.part.partition("/")
        if not (part.isdecimal() and parts.isdecimal() and int(part) < int(parts)):
            parser.error(f"--part is like 0/2, not {args.part}")
        tabulate(args, int(part), int(parts))
    else:
        compare(args)


def levels(layers: int) -> list[tuple[float, ...]]:
    return [(0.4, 0.7, 1.0)] * (layers - 1) + [(0.4, 1.0)]


def tabulate(args: argparse.Namespace, part: int, parts: int) -> None:
    titles = None if args.titles is None else set(args.titles.read_text("utf-8").splitlines())
    data = sample(Questions("select", read_squad(args.data, titles=titles)), args.questions, seed=0).data
    qa = QuestionAnswerer(args.model, threads=args.threads)
    space = SearchSpace(qa.shape.layers, LOW)
    say, grid = Progress(), list(itertools.product(*levels(space.layers)))
    random.Random(1).shuffle(grid)
    columns = [f"r{i}" for i in range(1, space.layers + 1)]
    done = set()
    if args.output.exists():
        with args.output.open(newline="", encoding="utf-8") as file:
            done = {tuple(float(row[column]) for column in columns) for row in csv.DictReader(file)}
    with args.output.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not done:
            writer.writerow([*columns, *FIGURES])
        for number, ratios in enumerate(grid[part::parts], 1):
            if ratios in done:
                continue
            config = space.config(ratios)
            began = time.perf_counter()
            scores = evaluate(qa, data, budget=config).scores
            seconds = time.perf_counter() - began
            figures = (share(qa.shape, config), scores.exact_match, scores.f1, seconds)
            writer.writerow([*ratios, *(f"{figure:.6f}" for figure in figures)])
            file.flush()
            say(f"{number} of {len(grid[part::parts])}: {ratios} F1 {scores.f1:.2f}")


def read_grid(path: Path) -> tuple[npt.NDArray[np.float64], dict[tuple[float, ...], float]]:
    """F1 on the grid, an axis for each layer; and the share of each point, by its ratios."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = [column for column in (rows[0] if rows else {}) if column.startswith("r") and column[1:].isdecimal()]
    axes = levels(max(1, len(columns)))
    f1 = np.full([len(axis) for axis in axes], np.nan)
    shares = {}
    for row in rows:
        shares[tuple(float(row[c]) for c in columns)] = float(row["share"])
        f1[tuple(axis.index(float(row[c])) for axis, c in zip(axes, columns, strict=True))] = float(row["f1"])
    if np.isnan(f1).any():
        raise SystemExit(
            f"{path} lacks {int(np.isnan(f1).sum())} of {f1.size} configurations: tabulate goes on with it"
        )
    return f1, shares


def interpolate(f1: npt.NDArray[np.float64], ratios: Sequence[float]) -> float:
    """F1 between the points of the grid, linear in each ratio."""
    value: npt.NDArray[np.float64] = f1
    for ratio, axis in zip(ratios, levels(f1.ndim), strict=True):
        i = min(max(int(np.searchsorted(axis, ratio, side="right")) - 1, 0), len(axis) - 2)
        weight = (ratio - axis[i]) / (axis[i + 1] - axis[i])
        value = (1 - weight) * value[i] + weight * value[i + 1]
    return float(value)


def run(
    sampler: str, seed: int, space: SearchSpace, objective: Callable[[Sequence[float]], tuple[float, float]]
) -> list[float]:
    """The hypervolume after each of `AT` trials."""
    proposer = EvolutionSampler(space, seed) if sampler == "evolution" else make_sampler(sampler, seed)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=proposer)
    for config in beginning(space.layers, space.low).values():
        study.enqueue_trial(dict(zip(space.names, space.ratios(config), strict=True)))
    for _ in range(max(AT)):
        trial = study.ask()
        study.tell(trial, objective([trial.suggest_float(name, space.low, 1.0) for name in space.names]))
    points = [(trial.values[1], trial.values[0]) for trial in study.trials]
    return [hypervolume(points[:number]) for number in AT]


def compare(args: argparse.Namespace) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    say = Progress()
    f1, shares = read_grid(args.table)
    space = SearchSpace(f1.ndim, LOW)
    shape = ModelShape(
        layers=f1.ndim, hidden=args.hidden, heads=1, feed_forward=args.feed_forward, vocabulary=1, positions=512
    )

    def objective(ratios: Sequence[float]) -> tuple[float, float]:
        return interpolate(f1, ratios), share(shape, space.config(ratios))

    if any(abs(share(shape, space.config(ratios)) - found) > 1e-5 for ratios, found in shares.items()):
        raise SystemExit(f"the shares in {args.table} are of a model of other sizes: give its --hidden, --feed-forward")
    args.configurations = f1.size
    grid = [objective(ratios)[::-1] for ratios in itertools.product(*levels(f1.ndim))]
    uniform = [
        objective(space.ratios(LengthConfig.uniform(f1.ndim, retention)))[::-1] for retention in np.linspace(LOW, 1, 61)
    ]
    found: dict[str, list[list[float]]] = {}
    seconds: dict[str, float] = {}
    for sampler in args.samplers:
        began = time.perf_counter()
        try:
            found[sampler] = [run(sampler, seed, space, objective) for seed in range(args.seeds)]
        except SearchError as error:
            say(f"{sampler} is left out: {error}")
            continue
        seconds[sampler] = (time.perf_counter() - began) / args.seeds / max(AT)
        say(f"{sampler}: {statistics.mean(run[-1] for run in found[sampler]):.4f}")
    args.output.mkdir(parents=True, exist_ok=True)
    write_report(args, found, seconds, hypervolume(grid), hypervolume(uniform))


def write_report(
    args: argparse.Namespace,
    found: dict[str, list[list[float]]],
    seconds: dict[str, float],
    grid: float,
    uniform: float,
) -> None:
    with (args.output / "samplers.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["sampler", "seed", "trials", "hypervolume"])
        for sampler, runs in found.items():
            for seed, volumes in enumerate(runs):
                writer.writerows([sampler, seed, *row] for row in zip(AT, (f"{v:.6f}" for v in volumes), strict=True))
    summary = {
        sampler: [(statistics.mean(column), statistics.stdev(column) if len(column) > 1 else 0.0) for column in columns]
        for sampler, columns in ((sampler, list(zip(*runs, strict=True))) for sampler, runs in found.items())
    }
    ranked = sorted(summary, key=lambda sampler: -summary[sampler][-1][0])
    rows = [
        (
            LABELS[sampler],
            *(f"{mean:.4f} ± {deviation:.4f}" for mean, deviation in summary[sampler]),
            f"{seconds[sampler]:.3f}",
        )
        for sampler in ranked
    ]
    parts = [
        "# Samplers compared",
        heading("optuna"),
        "Hypervolume of cost (the share) against F1, from the reference of share 1 and F1 0: mean of "
        f"{args.seeds} seeds, and their standard deviation. On `{args.table.name}`, F1 interpolated between its "
        "configurations. Every run begins as every search does, with `full`, 7 uniform and 5 late ones.",
        table(("sampler", *(f"{number} trials" for number in AT), "seconds a proposal"), rows),
        f"For comparison: all uniform configurations from {LOW} to 1 have {uniform:.4f}, "
        f"all {args.configurations} configurations of the table {grid:.4f}.",
    ]
    write_page("\n\n".join(parts) + "\n", args.output / "samplers.md")
    figure = Figure(figsize=(8.5, 4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place, sampler in enumerate(ranked):
        means, deviations = zip(*summary[sampler], strict=True)
        x = [number + 1.5 * (place - len(ranked) / 2) for number in AT]
        axes.errorbar(x, means, deviations, marker="o", markersize=4, capsize=3, linewidth=1.5, label=LABELS[sampler])
    axes.axhline(uniform, color="0.5", linestyle="--", linewidth=1, label="uniform configurations")
    axes.set_xticks(AT)
    axes.set_xlabel("trials")
    axes.set_ylabel(f"hypervolume, mean of {args.seeds} seeds")
    axes.grid(color="0.9")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(args.output / "samplers.png", metadata={"Software": None})


class EvolutionSampler(BaseSampler):  # type: ignore[misc]
    """The evolutionary search of Kim and Cho (2020, arXiv 2010.07003), a proposal at a time.

    The population is the Pareto front of the study's complete trials. With probability 0.5 one of its members is
    mutated: each layer's length is drawn anew, with probability 0.5, between those of its neighbours, the one before as
    drawn and the one after as it was. Otherwise the lengths of two members are averaged. The authors do 30 of each to a
    front before they look at the new one; here every proposal sees the front of its moment, so that the storage is the
    only state, and any number of workers share it.

    Lengths are fractions. The mean of two configurations has ratios between theirs; a mutant is led back into the
    range. What the study has already is drawn again.

    Args:
        space: What may be proposed. The study maximizes F1 as its first objective and minimizes cost as its second.
        seed: Another seed proposes other things.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space = space
        self._seed = seed

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        """Propose all ratios together."""
        return {name: FloatDistribution(self._space.low, 1.0) for name in self._space.names}

    def sample_relative(self, study: Any, trial: Any, search_space: dict[str, Any]) -> dict[str, float]:
        """Propose a mutant or a cross of the present front's members."""
        names = self._space.names
        trials = [
            (t, self._space.config([t.params[name] for name in names]))
            for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.RUNNING))
            if t.number != trial.number and all(name in t.params for name in names)
        ]
        known = {config for _, config in trials}
        complete = [(t, config) for t, config in trials if t.state == TrialState.COMPLETE]
        allowed = [(t, config) for t, config in complete if all(c <= 0 for c in t.constraints.values())]
        complete = allowed or complete
        front = pareto_front([(t.values[1], t.values[0]) for t, _ in complete])
        population = [complete[i][1] for i in front] or [LengthConfig.full(self._space.layers)]
        random = _generator(self._seed, trial.number)
        for _ in range(ATTEMPTS):
            if len(population) < 2 or random.random() < MUTATION:
                child = self.mutate(population[random.integers(len(population))], random)
            else:
                first, second = random.choice(len(population), 2, replace=False)
                child = self.cross(population[first], population[second])
            if child not in known:
                break
        return dict(zip(names, self._space.ratios(child), strict=True))

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> float:
        """Draw a ratio by itself, for a trial of which others are fixed."""
        layer = [*self._space.names, param_name].index(param_name)
        low, high = param_distribution.low, param_distribution.high
        return float(_generator(self._seed, trial.number, layer).uniform(low, high))

    def mutate(self, parent: LengthConfig, random: np.random.Generator) -> LengthConfig:
        """Draw each layer's length anew, with probability 0.5, between those of its neighbours."""
        child: list[float] = []
        following = (*parent.fractions[1:], 0.0)
        for fraction, after in zip(parent.fractions, following, strict=True):
            before = child[-1] if child else 1.0
            least = min(max(after, self._space.low * before), before)
            child.append(random.uniform(least, before) if random.random() < MUTATION else min(fraction, before))
        return self._space.nearest(LengthConfig(tuple(child)))

    def cross(self, first: LengthConfig, second: LengthConfig) -> LengthConfig:
        """Average the lengths of two configurations, layer by layer."""
        means = ((a + b) / 2 for a, b in zip(first.fractions, second.fractions, strict=True))
        return self._space.nearest(LengthConfig(tuple(means)))


def _generator(*numbers: int) -> np.random.Generator:
    return np.random.default_rng([abs(number) for number in numbers])


if __name__ == "__main__":
    main()
