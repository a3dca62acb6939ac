"""Who proposes the next configuration: Optuna's samplers, and the Length-Adaptive Transformer's evolution."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from dynamic_tinybert.model import LengthConfig
from dynamic_tinybert.search.errors import SearchError
from dynamic_tinybert.search.pareto import pareto_front
from dynamic_tinybert.search.space import SearchSpace

SAMPLERS: Final = ("bayesian", "gp", "tpe", "nsga2", "evolution")
DEFAULT_SAMPLER: Final = "bayesian"

_POPULATION: Final = 20  # of NSGA-II: seven generations in 150 trials, where its usual 50 would leave it three
_MUTATION: Final = 0.5  # of a proposal, and then of each layer (Kim and Cho, 2020)
_ATTEMPTS: Final = 100  # at a child that is not in the study yet


def make_sampler(name: str, space: SearchSpace, seed: int, *, noisy: bool = False) -> Any:
    """Make a sampler whose only state is the study's storage.

    What it draws for a trial follows from its seed, the trial's number and the trials completed before: a resumed
    search goes on and proposes nothing twice, and workers on one study propose different things.

    Args:
        name: `bayesian`, the default: `gp` where PyTorch and SciPy are installed, and else `tpe`, in the order in which
            they find most in few trials (results/train/search). `gp`, Gaussian processes and expected hypervolume
            improvement (Daulton et al., 2020). `tpe`, tree-structured Parzen estimators (Bergstra et al., 2011; Ozaki
            et al., 2022), one for each ratio. `nsga2` (Deb et al., 2002), in populations of 20. `evolution`, see
            `EvolutionSampler`. To compare: `multivariate`, one Parzen estimator for all ratios, and `random`.
        space: What may be proposed.
        seed: Another seed proposes other things.
        noisy: Whether a measurement would differ if it was made again, as a latency does.

    Raises:
        SearchError: There is no such sampler, or what it needs is not installed.
    """
    has_gp = all(importlib.util.find_spec(module) for module in ("torch", "scipy"))
    if name == "bayesian":
        name = "gp" if has_gp else "tpe"
    if name == "evolution":
        return EvolutionSampler(space, seed)
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
    """A sampler made anew for each trial, seeded by the search's seed and the trial's number.

    Optuna's samplers draw from a stream that begins anew with every process, so that workers of one seed, or a resumed
    search, would draw the same again. All else that they know, they read from the storage.

    Args:
        make: Makes the sampler of a seed.
        seed: The search's seed.
    """

    def __init__(self, make: Callable[[int], Any], seed: int) -> None:
        self._make = make
        self._seed = seed
        self._inner: Any = None

    def before_trial(self, study: Any, trial: Any) -> None:
        """Make the sampler of this trial."""
        with warnings.catch_warnings():  # what is experimental in it has been tried: see benchmarks/train/samplers.py
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
        """Tell the trial's sampler."""
        self._inner.after_trial(study, trial, state, values)


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
        for _ in range(_ATTEMPTS):
            if len(population) < 2 or random.random() < _MUTATION:
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
            child.append(random.uniform(least, before) if random.random() < _MUTATION else min(fraction, before))
        return self._space.nearest(LengthConfig(tuple(child)))

    def cross(self, first: LengthConfig, second: LengthConfig) -> LengthConfig:
        """Average the lengths of two configurations, layer by layer."""
        means = ((a + b) / 2 for a, b in zip(first.fractions, second.fractions, strict=True))
        return self._space.nearest(LengthConfig(tuple(means)))


def _generator(*numbers: int) -> np.random.Generator:
    return np.random.default_rng([abs(number) for number in numbers])
