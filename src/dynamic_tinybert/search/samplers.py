"""Propose the next configuration with Optuna's samplers."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import optuna
from optuna.samplers import BaseSampler

from dynamic_tinybert.search.errors import SearchError

SAMPLERS: Final = ("bayesian", "gp", "tpe", "nsga2")
DEFAULT_SAMPLER: Final = "bayesian"

_POPULATION: Final = 20  # of NSGA-II: seven generations in 150 trials; the default of 50 gives only three


def make_sampler(name: str, seed: int, *, noisy: bool = False) -> Any:
    """Make a sampler whose only state is the study's storage.

    A proposal depends on the seed, the trial's number and the trials completed before. So a resumed search does not
    repeat proposals, and the workers of one study propose different configurations.

    Args:
        name: `bayesian` (the default) is `gp` if PyTorch and SciPy are installed, otherwise `tpe`; `gp` finds more in
            few trials (results/train/search). `gp`: Gaussian processes with expected hypervolume improvement (Daulton
            et al., 2020). `tpe`: tree-structured Parzen estimators (Bergstra et al., 2011; Ozaki et al., 2022), one for
            each ratio. `nsga2`: NSGA-II (Deb et al., 2002) in populations of 20. For comparison: `multivariate`, one
            Parzen estimator for all ratios, and `random`.
        seed: Another seed gives other proposals.
        noisy: Whether repeated measurements differ, as latencies do.

    Raises:
        SearchError: There is no such sampler, or what it needs is not installed.
    """
    has_gp = all(importlib.util.find_spec(module) for module in ("torch", "scipy"))
    if name == "bayesian":
        name = "gp" if has_gp else "tpe"
    if name == "gp" and not has_gp:
        raise SearchError("the sampler gp needs PyTorch and SciPy: pip install torch scipy, or choose another sampler")
    makers: dict[str, Callable[[int], Any]] = {
        "tpe": lambda seed: optuna.samplers.TPESampler(multivariate=False, constant_liar=True, seed=seed),
        "multivariate": lambda seed: optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=seed),
        "gp": lambda seed: optuna.samplers.GPSampler(seed=seed, deterministic_objective=not noisy),
        "nsga2": lambda seed: optuna.samplers.NSGAIISampler(population_size=_POPULATION, seed=seed),
        "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    }
    if name not in makers:
        raise SearchError(f"there is no sampler {name!r}: choose one of {', '.join(SAMPLERS)}")
    return SeededByTrial(makers[name], seed)


class SeededByTrial(BaseSampler):  # type: ignore[misc]
    """Make a new sampler for each trial, seeded by the search's seed and the trial's number.

    Optuna's samplers restart their random stream in every process. Workers with one seed, or a resumed search, would
    therefore draw the same values again. The samplers read everything else from the storage.

    Args:
        make: Makes a sampler from a seed.
        seed: The search's seed.
    """

    def __init__(self, make: Callable[[int], Any], seed: int) -> None:
        self._make = make
        self._seed = seed
        self._inner: Any = None

    def before_trial(self, study: Any, trial: Any) -> None:
        """Make the sampler of this trial."""
        with warnings.catch_warnings():  # benchmarks/train/samplers.py has tried the experimental parts
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._inner = self._make(int(_generator(self._seed, trial.number).integers(2**31)))
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
        """Ask the trial's sampler."""
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Any:
        """Ask the trial's sampler."""
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        """Ask the trial's sampler."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Any, trial: Any, state: Any, values: Sequence[float] | None) -> None:
        """Tell the trial's sampler the result."""
        self._inner.after_trial(study, trial, state, values)


def _generator(*numbers: int) -> np.random.Generator:
    return np.random.default_rng([abs(number) for number in numbers])
