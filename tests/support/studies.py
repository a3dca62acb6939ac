"""Studies that the tests of samplers share: a model of three layers, whose F1 follows from what it keeps."""

from __future__ import annotations

from typing import Any

import optuna

from dynamic_tinybert.search import SearchSpace

SPACE = SearchSpace(3, 0.4)


def values(ratios: dict[str, float]) -> tuple[float, float]:
    """F1 and cost of a model to which late layers matter little."""
    fractions = SPACE.config([ratios[name] for name in SPACE.names]).fractions
    return 70 * fractions[0] ** 2 * fractions[1] ** 0.5, sum(fractions) / 3


def new_study(sampler: Any) -> Any:
    return optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)


def go_on(study: Any, trials: int) -> list[dict[str, float]]:
    for _ in range(trials):
        trial = study.ask()
        study.tell(trial, values({name: trial.suggest_float(name, SPACE.low, 1.0) for name in SPACE.names}))
    return [dict(trial.params) for trial in study.trials]
