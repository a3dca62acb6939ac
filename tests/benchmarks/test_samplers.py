"""The benchmark's own sampler: the evolution of the Length-Adaptive Transformer."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.train.samplers import EvolutionSampler
from dynamic_tinybert.model import LengthConfig
from dynamic_tinybert.search import SearchSpace, beginning, hypervolume, make_sampler
from support.studies import SPACE, go_on, new_study, values


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_evolution_proposes_what_is_in_the_range_and_follows_from_the_seed() -> None:
    first, again, other = (go_on(new_study(EvolutionSampler(SPACE, seed)), 25) for seed in (3, 3, 4))
    assert first == again
    assert all(SPACE.low <= ratio <= 1 for params in first for ratio in params.values())
    assert len({tuple(params.values()) for params in first}) == 25  # nothing twice
    assert sum(a == b for a, b in zip(first, other, strict=True)) < 3


def test_evolution_remembers_nothing_but_the_storage() -> None:
    whole = go_on(new_study(EvolutionSampler(SPACE, 0)), 24)
    study = new_study(EvolutionSampler(SPACE, 0))
    go_on(study, 13)
    study.sampler = EvolutionSampler(SPACE, 0)  # as after a kill
    assert go_on(study, 11) == whole


def test_evolution_finds_more_than_chance() -> None:
    def mean(make: Any) -> float:
        volumes = []
        for seed in range(3):
            study = new_study(make(seed))
            for config in beginning(SPACE.layers, SPACE.low).values():  # as every search
                study.enqueue_trial(dict(zip(SPACE.names, SPACE.ratios(config), strict=True)))
            volumes.append(hypervolume([values(params)[::-1] for params in go_on(study, 60)]))
        return sum(volumes) / 3

    assert mean(lambda seed: EvolutionSampler(SPACE, seed)) > mean(lambda seed: make_sampler("random", seed))


configs = st.lists(st.floats(0.4, 1.0), min_size=4, max_size=4).map(SearchSpace(4, 0.4).config)


@given(configs, configs, st.integers(0, 1000))
def test_children_are_configurations_of_the_space(first: LengthConfig, second: LengthConfig, seed: int) -> None:
    space = SearchSpace(4, 0.4)
    sampler = EvolutionSampler(space, 0)
    for child in (sampler.mutate(first, np.random.default_rng(seed)), sampler.cross(first, second)):
        pairs = itertools.pairwise((1.0, *child.fractions))
        assert all(0.4 * before - 1e-5 <= after <= before for before, after in pairs)
    np.testing.assert_allclose(
        sampler.cross(first, second).fractions, np.mean([first.fractions, second.fractions], 0), atol=5e-6
    )


def test_a_mutant_stays_between_the_lengths_of_its_neighbours() -> None:
    sampler, random = EvolutionSampler(SearchSpace(3, 0.05), 0), np.random.default_rng(0)
    parent = LengthConfig((0.9, 0.5, 0.2))
    mutants = [sampler.mutate(parent, random).fractions for _ in range(400)]
    for a, b, c in mutants:
        assert 0.5 <= a <= 1
        assert 0.2 <= b <= a
        assert 0 < c <= b
    for layer in range(3):  # each is drawn anew half of the time
        kept = sum(mutant[layer] == pytest.approx(parent.fractions[layer], abs=1e-5) for mutant in mutants)
        assert 140 < kept < 260
    assert max(a for a, _, _ in mutants) > 0.97  # lengths grow again
    assert min(c for _, _, c in mutants) < 0.05


def test_evolution_breeds_from_the_front_alone() -> None:
    """From a front of one, and far worse trials: children are mutants of the one."""
    space = SearchSpace(3, 0.05)
    study = new_study(EvolutionSampler(space, 0))
    distributions = {name: optuna.distributions.FloatDistribution(space.low, 1.0) for name in space.names}
    front = LengthConfig((0.9, 0.5, 0.2))

    def add(config: LengthConfig, found: tuple[float, float]) -> None:
        params = dict(zip(space.names, space.ratios(config), strict=True))
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, values=found))

    add(front, (70.0, 0.1))
    for i in range(20):
        add(LengthConfig((0.3 - i / 100, 0.1, 0.05)), (10.0, 0.2))
    for _ in range(20):  # none of them is complete, so none is in the front
        trial = study.ask(distributions)
        a, b, c = space.config(list(trial.params.values())).fractions
        assert a >= 0.5 - 1e-6
        assert b >= 0.2 - 1e-6
        assert (a, b, c) != front.fractions
    worse = [t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE][1:]
    assert len(worse) == 20
    add(LengthConfig((0.3, 0.2, 0.1)), (60.0, 0.05))  # a second member: crosses of the two come now
    crosses = 0
    for _ in range(30):
        trial = study.ask(distributions)
        crosses += space.config(list(trial.params.values())).fractions == (0.6, 0.35, 0.15)
    assert crosses == 1  # and a child that is there already is drawn again


def test_evolution_begins_with_full_where_nothing_is_complete() -> None:
    study = new_study(EvolutionSampler(SPACE, 0))
    assert all(SPACE.low <= ratio <= 1 for ratio in go_on(study, 1)[0].values())
    study.enqueue_trial({SPACE.names[0]: 0.5})  # the other ratios are drawn by themselves
    params = go_on(study, 1)[1]
    assert params[SPACE.names[0]] == 0.5
    assert len(set(params.values())) == 3
