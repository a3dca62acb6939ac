"""Run a search: run trials until there are enough, and measure again what they found."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import optuna
from optuna.trial import TrialState

from dynamic_tinybert.model import LengthConfig
from dynamic_tinybert.search.objective import Measurement
from dynamic_tinybert.search.pareto import cover
from dynamic_tinybert.search.results import ConfirmedConfig
from dynamic_tinybert.search.space import SearchSpace
from dynamic_tinybert.search.study import MEASUREMENT, NO_LIMIT, Study

UNIFORM: Final = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)
"""Retentions of the uniform configurations that every search begins with, as in Kim and Cho (2020)."""

_LATE: Final = 5  # most late configurations, so that a deep model has trials left
_STALE: Final = 10  # a running trial counts as killed once this many later trials are complete


class Search(Study):
    """Run a study; any number of workers may share it. The arguments are those of `Study`."""

    def run(
        self,
        objective: Callable[[LengthConfig], Measurement],
        sampler: Any,
        trials: int,
        *,
        first: Mapping[str, LengthConfig] | None = None,
        progress: Callable[[int, int, float], None] | None = None,
    ) -> None:
        """Run trials until the study has `trials` complete ones, counting those of all workers.

        Each worker finishes its current trial, so there may be a few more. A configuration is measured only once: a
        later trial of it copies the figures. A trial whose worker was killed does not count.

        Args:
            objective: Measures a configuration.
            sampler: Proposes configurations, see `make_sampler`.
            trials: How many complete trials the study should have in all.
            first: Configurations to begin with, by name; each is moved into the range, see `SearchSpace.nearest`.
            progress: Called with the number of complete trials, `trials`, and the best F1.

        Raises:
            SearchError: The storage fails.
        """
        self.study.sampler = sampler
        wanted = {name: self.space.nearest(config) for name, config in (first or {}).items()}

        with self.errors():
            while True:
                complete = self.trials(TrialState.COMPLETE)
                if progress:
                    progress(len(complete), trials, max((t.values[0] for t in complete), default=0.0))
                if len(complete) >= trials:
                    return
                self._enqueue(wanted)
                trial = self.study.ask()
                try:
                    self.study.tell(trial, self._run_trial(trial, objective))
                except BaseException as error:
                    if isinstance(error, (ValueError, optuna.exceptions.OptunaError)) and self._finished(trial):
                        continue  # in SQLite two workers may take the same trial from the queue; the other was faster
                    with contextlib.suppress(Exception):
                        self.study.tell(trial, state=TrialState.FAIL)
                    raise

    def _finished(self, trial: Any) -> bool:
        return any(t.number == trial.number and t.state.is_finished() for t in self.trials())

    def _run_trial(self, trial: Any, objective: Callable[[LengthConfig], Measurement]) -> tuple[float, float]:
        config = self.space.config([trial.suggest_float(name, self.space.low, 1.0) for name in self.space.names])
        earlier = self.measured.get(config)
        found = earlier or objective(config)
        fractions = list(config.fractions)
        if self.within < NO_LIMIT:
            best = LengthConfig.full(self.settings.layers)
            full = found if config == best else self.measured.get(best) or objective(best)
            with warnings.catch_warnings():  # a faster worker at the same trial has set it already
                warnings.filterwarnings("ignore", message="The constraint value is ignored")
                trial.set_constraint("within", full.f1 - found.f1 - self.within)
        trial.set_user_attr(MEASUREMENT, {"fractions": fractions, "copied": earlier is not None, **found.to_dict()})
        return found.f1, found.cost

    def _enqueue(self, wanted: Mapping[str, LengthConfig]) -> None:
        """Put the first configurations in the queue, unless they are waiting, running or done."""
        waiting = {t.user_attrs.get("name") for t in self.trials(TrialState.WAITING)}
        complete = self.trials(TrialState.COMPLETE)
        done = {t.user_attrs.get("name") for t in complete}
        under_way = {
            t.user_attrs.get("name")
            for t in self.trials(TrialState.RUNNING)
            if sum(other.number > t.number for other in complete) < _STALE
        }
        known = waiting | done | under_way
        seen = set(self.measured)
        for name, config in wanted.items():
            if name not in known and config not in seen:
                ratios = dict(zip(self.space.names, self.space.ratios(config), strict=True))
                self.study.enqueue_trial(ratios, user_attrs={"name": name})
            seen.add(config)

    def confirm(
        self,
        objective: Callable[[LengthConfig], Measurement],
        configs: Sequence[LengthConfig],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[LengthConfig, Measurement]:
        """Measure configurations on the questions that confirm; reuse figures that a worker has measured already.

        Args:
            objective: Measures a configuration on the questions that confirm.
            configs: The configurations. Each worker measures them in its own order, so that workers share the work.
            progress: Called with the number of configurations measured and their total.

        Raises:
            SearchError: The storage fails.
        """
        found: dict[LengthConfig, Measurement] = {}
        order = list(dict.fromkeys(configs))
        random.Random(os.getpid()).shuffle(order)
        with self.errors():
            for config in order:
                if progress:
                    progress(len(found), len(order))
                key = "confirm-" + hashlib.sha256(repr(config.fractions).encode()).hexdigest()[:32]
                known = self.study.user_attrs.get(key)
                if known is None:
                    known = objective(config).to_dict()
                    self.study.set_user_attr(key, known)
                found[config] = Measurement(**known)
        return {config: found[config] for config in dict.fromkeys(configs)}

    def candidates(
        self,
        objective: Callable[[LengthConfig], Measurement],
        first: Mapping[str, LengthConfig],
        *,
        most: int,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[ConfirmedConfig]:
        """Confirm `full`, the Pareto front, and the `interesting` ones of the uniform and of the model's own table.

        An earlier search chose the table's, perhaps by other questions, so the few that choose now do not drop them.
        Those that confirm decide. If they are the same as then, the figures of these rows are a little too good.

        Args:
            objective: Measures a configuration on the questions that confirm.
            first: The configurations that the search began with, see `beginning`.
            most: How many configurations of the front to confirm: those that cover it best, see `cover`.
            progress: See `confirm`.

        Raises:
            SearchError: The storage fails.
        """
        uniform = {self.space.nearest(config) for name, config in first.items() if name.startswith("uniform")}
        full, front, known, measured = first["full"], self.front(), self.measured, self.interesting
        table = dict.fromkeys(config for name, config in first.items() if name.startswith("table "))
        own = [config for config in table if config in measured or config not in known]
        points = [(measured[config].cost, measured[config].f1) for config in front]
        front = [front[i] for i in cover(points, most)]
        configs = [full, *(config for config in measured if config in uniform), *own, *front]
        return [
            ConfirmedConfig(
                kind="full" if config == full else "uniform" if config in uniform else "search",
                config=config,
                select=measured.get(config),
                confirm=found,
                chosen=config in front,
            )
            for config, found in self.confirm(objective, configs, progress=progress).items()
        ]


def beginning(layers: int, low: float, table: Mapping[str, LengthConfig] | None = None) -> dict[str, LengthConfig]:
    """Return the configurations that a search begins with, by name: `full`, uniform, late, and the model's table.

    A late configuration drops as many tokens as the range allows in the last layers, and none before. At the same share
    this costs less F1 than dropping early, but a sampler on a continuous range almost never proposes a ratio of 1.

    Args:
        layers: The number of layers of the model.
        low: The least ratio.
        table: The configurations of the model's table by name, if they were measured.
    """
    first = {"full": LengthConfig.full(layers)}
    first |= {f"uniform {r:.2f}": LengthConfig.uniform(layers, r) for r in UNIFORM if r >= low}
    for number in range(1, min(layers, _LATE + 1)):
        config = SearchSpace(layers, low).config([1.0] * (layers - number) + [low] * number)
        first[f"late {number}"] = config
    return first | {f"table {name}": config for name, config in (table or {}).items()}
