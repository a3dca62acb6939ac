"""The run of a search: trials until there are enough, and the confirmation of what they found."""

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
from dynamic_tinybert.search.results import ConfirmedConfig
from dynamic_tinybert.search.space import SearchSpace
from dynamic_tinybert.search.study import MEASUREMENT, NO_LIMIT, Study

UNIFORM: Final = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)
"""Retentions of the uniform configurations that every search begins with, as Kim and Cho (2020) do."""

_LATE: Final = 5  # at most so many late ones, so that a deep model has trials left
_STALE: Final = 10  # later trials that are complete while one is not: its worker was killed


class Search(Study):
    """A study that goes on: any number of workers may share it. See `Study` for how it is opened."""

    def run(
        self,
        objective: Callable[[LengthConfig], Measurement],
        sampler: Any,
        trials: int,
        *,
        first: Mapping[str, LengthConfig] | None = None,
        progress: Callable[[int, int, float], None] | None = None,
    ) -> None:
        """Go on until the study has so many complete trials, whoever completes them.

        With several workers, each may finish the trial that it is at when the last is complete. A configuration that
        was measured already is not measured again: the trial gets the figures of the earlier one. A trial whose worker
        was killed does not count.

        Args:
            objective: Measures a configuration.
            sampler: Proposes, see `make_sampler`.
            trials: How many there should be in all.
            first: Configurations to begin with, by name; led into the range.
            progress: Called with the trials complete, how many there should be, and the best F1.

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
                        continue  # in SQLite two workers may take the same trial from the queue; one was faster
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
            with warnings.catch_warnings():  # a faster worker at the same trial has said it already
                warnings.filterwarnings("ignore", message="The constraint value is ignored")
                trial.set_constraint("within", full.f1 - found.f1 - self.within)
        trial.set_user_attr(MEASUREMENT, {"fractions": fractions, "copied": earlier is not None, **found.to_dict()})
        return found.f1, found.cost

    def _enqueue(self, wanted: Mapping[str, LengthConfig]) -> None:
        """Put what every search begins with in the queue, unless it is there, under way or done."""
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
        """Measure configurations on the questions that confirm, but for those that a worker has measured there already.

        Args:
            objective: Measures a configuration on these questions.
            configs: The configurations. Each worker takes them in an order of its own, so that several share the work.
            progress: Called with the configurations measured and how many there are.

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
        progress: Callable[[int, int], None] | None = None,
    ) -> list[ConfirmedConfig]:
        """Confirm `full`, the uniform configurations of interest, and the front.

        Args:
            objective: Measures a configuration on the questions that confirm.
            first: What the search began with, see `beginning`.
            progress: See `confirm`.

        Raises:
            SearchError: The storage fails.
        """
        uniform = {self.space.nearest(config) for name, config in first.items() if name.startswith("uniform")}
        full, front, measured = first["full"], self.front(), self.interesting
        configs = [full, *(config for config in measured if config in uniform), *front]
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
    """Return what a search begins with, by name: `full`, uniform and late ones, and those of the model's table.

    The late ones keep everything but in the last layers, where they drop all that they may: to drop late costs less F1
    than to drop early at the same share, and a sampler that draws from a continuous range hardly ever proposes a ratio
    of 1 by itself.

    Args:
        layers: Layers of the model.
        low: The least ratio.
        table: The model's own configurations by name, if they were measured.
    """
    first = {"full": LengthConfig.full(layers)}
    first |= {f"uniform {r:.2f}": LengthConfig.uniform(layers, r) for r in UNIFORM if r >= low}
    for number in range(1, min(layers, _LATE + 1)):
        config = SearchSpace(layers, low).config([1.0] * (layers - number) + [low] * number)
        first[f"late {number}"] = config
    return first | {f"table {name}": config for name, config in (table or {}).items()}
