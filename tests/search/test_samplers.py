"""The samplers: what they propose."""

from __future__ import annotations

import optuna
import pytest

from dynamic_tinybert.cli.search import Sampler
from dynamic_tinybert.search import (
    DEFAULT_SAMPLER,
    SAMPLERS,
    SearchError,
    beginning,
    hypervolume,
    make_sampler,
)
from support.studies import SPACE, go_on, new_study, values

FAST = [name for name in SAMPLERS if name not in ("bayesian", "gp")]


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.mark.parametrize("name", [*FAST, "random", "multivariate"])
def test_what_is_proposed_is_in_the_range_and_follows_from_the_seed(name: str) -> None:
    first, again, other = (go_on(new_study(make_sampler(name, seed)), 25) for seed in (3, 3, 4))
    assert first == again
    assert all(SPACE.low <= ratio <= 1 for params in first for ratio in params.values())
    assert len({tuple(params.values()) for params in first}) == 25  # nothing twice
    assert sum(a == b for a, b in zip(first, other, strict=True)) < 3


def test_gaussian_processes_propose_too() -> None:
    pytest.importorskip("torch")
    proposed = go_on(new_study(make_sampler("gp", 0)), 13)
    assert all(SPACE.low <= ratio <= 1 for params in proposed for ratio in params.values())


@pytest.mark.parametrize("name", FAST)
def test_the_storage_is_all_they_remember(name: str) -> None:
    whole = go_on(new_study(make_sampler(name, 0)), 24)
    study = new_study(make_sampler(name, 0))
    go_on(study, 13)
    study.sampler = make_sampler(name, 0)  # as after a kill
    assert go_on(study, 11) == whole


@pytest.mark.parametrize("name", FAST)
def test_workers_of_one_seed_propose_different_things(name: str) -> None:
    study = new_study(make_sampler(name, 0))
    go_on(study, 12)
    trials = []
    for _ in range(3):
        study.sampler = make_sampler(name, 0)
        trials.append(study.ask({n: optuna.distributions.FloatDistribution(SPACE.low, 1.0) for n in SPACE.names}))
    assert len({tuple(trial.params.values()) for trial in trials}) == 3


@pytest.mark.slow
def test_a_search_finds_more_than_chance() -> None:
    def mean(name: str) -> float:
        volumes = []
        for seed in range(3):
            study = new_study(make_sampler(name, seed))
            for config in beginning(SPACE.layers, SPACE.low).values():  # as every search
                study.enqueue_trial(dict(zip(SPACE.names, SPACE.ratios(config), strict=True)))
            volumes.append(hypervolume([values(params)[::-1] for params in go_on(study, 60)]))
        return sum(volumes) / 3

    chance = mean("random")
    assert mean("tpe") > chance


def test_the_command_offers_what_there_is() -> None:
    assert [sampler.value for sampler in Sampler] == list(SAMPLERS)
    assert DEFAULT_SAMPLER in SAMPLERS
    with pytest.raises(SearchError, match="no sampler 'best': choose one of bayesian, gp, tpe, nsga2"):
        make_sampler("best", 0)


def test_the_default_is_gaussian_processes_where_they_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def kind() -> str:
        study = new_study(make_sampler("bayesian", 0))
        study.ask()
        return type(study.sampler._inner).__name__

    assert DEFAULT_SAMPLER == "bayesian"
    assert kind() == "GPSampler"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else object())
    assert kind() == "TPESampler"


def test_gp_without_pytorch_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(SearchError, match="gp needs PyTorch and SciPy"):
        make_sampler("gp", 0)
