"""The run: resuming, sharing, refusing."""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from dynamic_tinybert.folder import open_folder
from dynamic_tinybert.model import LengthConfig
from dynamic_tinybert.search import (
    Measurement,
    Search,
    SearchError,
    StudySettings,
    beginning,
    fingerprint,
    make_sampler,
    sqlite_url,
)

SETTINGS = StudySettings(model="m", select="s", confirm="c", layers=3, low=0.4, cost="share", seed=0)


class Counting:
    """An objective that is known, and counts what it is asked."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.asked: list[LengthConfig] = []
        self.stop_after = stop_after

    def __call__(self, config: LengthConfig) -> Measurement:
        if len(self.asked) == self.stop_after:
            raise KeyboardInterrupt
        self.asked.append(config)
        cost = sum(config.fractions) / len(config.fractions)
        f1 = 50 * config.fractions[0] ** 2 + 20 * config.fractions[-1] ** 0.5
        return Measurement(exact_match=f1 / 2, f1=f1, share=cost, cost=cost, seconds=0.1)


Begin = Callable[..., Search]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return sqlite_url(tmp_path / "Suche nach 長さ 100%?.db")


@pytest.fixture
def begin(url: str) -> Begin:
    def begin(*, resume: bool = False, anew: bool = False, **others: object) -> Search:
        settings = dataclasses.replace(SETTINGS, **others)  # type: ignore[arg-type]
        return Search(url, "search", settings, resume=resume, anew=anew)

    return begin


def sampler(search: Search, name: str = "tpe") -> object:
    return make_sampler(name, search.settings.seed)


@pytest.mark.slow
def test_a_search_begins_with_full_and_uniform_and_has_as_many_trials_as_were_asked_for(begin: Begin) -> None:
    search, objective = begin(), Counting()
    first = beginning(3, 0.4, {"late": LengthConfig((1.0, 0.9, 0.5)), "full": LengthConfig.full(3)})
    seen: list[tuple[int, int, float]] = []
    search.run(objective, sampler(search), 12, first=first, progress=lambda *values: seen.append(values))
    assert search.complete == 12
    assert len(objective.asked) == 12
    assert objective.asked[0] == LengthConfig.full(3)
    assert objective.asked[1] == LengthConfig.uniform(3, 0.95)
    assert LengthConfig((1.0, 0.9, 0.5)) in objective.asked[:11]
    assert [done for done, _, _ in seen] == list(range(13))
    assert seen[-1] == (12, 12, 70.0)
    assert search.front()[-1] == LengthConfig.full(3)
    assert [row["name"] for row in search.rows()[:2]] == ["full", "uniform 0.95"]


def test_what_a_search_begins_with() -> None:
    first = beginning(3, 0.65, {"mine": LengthConfig((1, 0.9, 0.3))})
    assert list(first) == [
        "full",
        *(f"uniform {retention:.2f}" for retention in (0.95, 0.9, 0.85, 0.8, 0.7)),
        "late 1",
        "late 2",
        "table mine",
    ]
    assert first["full"] == LengthConfig.full(3)
    assert first["uniform 0.80"] == LengthConfig.uniform(3, 0.8)
    assert first["late 1"].fractions == (1, 1, 0.65)
    assert first["late 2"].fractions == (1, 0.65, 0.4225)
    assert len([name for name in beginning(24, 0.4) if name.startswith("late")]) == 5
    assert [name for name in beginning(1, 0.4) if name.startswith("late")] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tpe", "nsga2"])
def test_an_interrupted_search_goes_on_where_it_was(begin: Begin, name: str) -> None:
    search, objective = begin(), Counting(stop_after=13)
    with pytest.raises(KeyboardInterrupt):
        search.run(objective, sampler(search, name), 20, first=beginning(3, 0.4))
    search, more = begin(resume=True), Counting()
    assert search.complete == 13
    search.run(more, sampler(search, name), 20, first=beginning(3, 0.4))
    assert search.complete == 20
    assert len(more.asked) == 7
    assert not {*objective.asked} & {*more.asked}  # nothing is measured or proposed twice
    again = begin(resume=True)
    again.run(more, sampler(again, name), 20, first=beginning(3, 0.4))
    assert len(more.asked) == 7  # it has what was asked for
    again.run(more, sampler(again, name), 22)
    assert again.complete == 22


@pytest.mark.slow
def test_what_loses_more_than_is_of_interest_is_on_no_front(begin: Begin) -> None:
    search, objective = begin(within=25.0), Counting()
    search.run(objective, sampler(search), 30, first=beginning(3, 0.4))
    losses = {config: 70.0 - found.f1 for config, found in search.measured.items()}
    assert max(losses.values()) > 25
    assert set(search.interesting) == {config for config, loss in losses.items() if loss <= 25}
    assert search.front()
    assert set(search.front()) <= set(search.interesting)
    assert begin(resume=True, within=25.0).front() == search.front()


@pytest.mark.slow
def test_who_is_faster_than_full_is_measured_against_it_all_the_same(begin: Begin) -> None:
    search, objective = begin(within=5.0), Counting()
    first = dict(reversed(beginning(3, 0.4).items()))  # as where another worker is still at full
    search.run(objective, sampler(search), len(first), first=first)
    for trial in search.study.trials:
        assert (trial.constraints["within"] <= 0) == (70 - trial.values[0] <= 5)


@pytest.mark.slow
def test_a_study_of_before_there_was_a_limit_goes_on_without_one(begin: Begin) -> None:
    search = begin()
    search.run(Counting(), sampler(search), 12, first=beginning(3, 0.4))
    old = {key: value for key, value in dataclasses.asdict(SETTINGS).items() if key != "within"}
    search.study.set_user_attr("settings", old)
    assert not any(trial.constraints for trial in search.study.trials)
    with pytest.raises(SearchError, match="another limit"):
        begin(resume=True, within=20.0)
    assert begin(resume=True, within=None).settings == SETTINGS
    again = begin(resume=True)
    again.run(Counting(), sampler(again, "gp"), 14)
    assert again.complete == 14


@pytest.mark.parametrize(("given", "kept"), [(None, 20.0), (7.0, 7.0), (100.0, 100.0)])
def test_a_limit_that_is_not_given_is_that_of_the_study(begin: Begin, given: float | None, kept: float) -> None:
    assert begin(within=given).settings.within == kept
    again = begin(resume=True, within=None)
    assert again.settings.within == kept
    assert again.study.user_attrs["settings"]["within"] == kept
    with pytest.raises(SearchError, match="another limit of the loss"):
        begin(resume=True, within=kept + 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gp", "tpe"])
def test_samplers_look_where_little_is_lost(name: str, tmp_path: Path) -> None:
    hits = []
    for within in (12.0, 100.0):
        url, settings = sqlite_url(tmp_path / f"{within}.db"), dataclasses.replace(SETTINGS, within=within)
        search, objective = Search(url, "search", settings, resume=False), Counting()
        search.run(objective, sampler(search, name), 40, first=beginning(3, 0.4))
        hits.append(sum(objective(config).f1 >= 58 for config in objective.asked[10:]))
    assert hits[0] > hits[1]


@pytest.mark.slow
def test_what_was_measured_is_not_measured_again(begin: Begin) -> None:
    search, objective = begin(), Counting()
    search.run(objective, sampler(search), 10, first=beginning(3, 0.4))
    same = search.space.ratios(LengthConfig.uniform(3, 0.9))
    search.study.enqueue_trial(dict(zip(search.space.names, same, strict=True)))
    search.run(objective, sampler(search), 11)
    assert len(objective.asked) == 10
    *_, last = search.rows()
    assert last["copied"]
    assert last["f1"] == search.measured[LengthConfig.uniform(3, 0.9)].f1
    assert len(search.measured) == 10


@pytest.mark.slow
def test_a_trial_whose_worker_was_killed_blocks_nothing(begin: Begin) -> None:
    search = begin()
    search._enqueue(beginning(3, 0.4))
    killed = search.study.ask()  # `full`, and its worker is heard of no more
    assert killed.user_attrs["name"] == "full"
    objective = Counting()
    search = begin(resume=True)
    search.run(objective, sampler(search), 20, first=beginning(3, 0.4))
    assert search.complete == 20
    assert objective.asked.count(LengthConfig.full(3)) == 1  # its turn comes again


def test_a_search_that_was_killed_before_it_said_its_settings_can_be_resumed(begin: Begin, tmp_path: Path) -> None:
    begin()
    (file,) = tmp_path.iterdir()
    with sqlite3.connect(file) as database:
        database.execute("DELETE FROM study_user_attributes")
    assert begin(resume=True).study.user_attrs["settings"] == dataclasses.asdict(SETTINGS)


def test_a_search_that_was_killed_before_it_had_begun_begins_when_resumed(begin: Begin, url: str) -> None:
    with pytest.raises(SearchError, match="no search to resume"):
        begin(resume=True)  # leaves a file without a study
    assert begin(resume=True, anew=True).complete == 0
    with pytest.raises(SearchError, match="another seed"):
        begin(resume=True, anew=True, seed=5)


def test_what_was_begun_otherwise_is_not_resumed(begin: Begin) -> None:
    begin()
    others = {
        "model": ("n", "another model"),
        "select": ("t", "other questions to choose by"),
        "confirm": ("d", "other questions to confirm by"),
        "layers": (4, "a model of other layers"),
        "low": (0.5, "another range of ratios"),
        "cost": ("latency", "another cost"),
        "seed": (1, "another seed"),
        "within": (5.0, "another limit of the loss"),
    }
    for key, (value, complaint) in others.items():
        with pytest.raises(SearchError, match=complaint) as caught:
            begin(resume=True, **{key: value})
        assert "\n" not in str(caught.value)
        assert " and " not in str(caught.value)
    with pytest.raises(SearchError, match="another model and another seed"):
        begin(resume=True, model="n", seed=1)
    begin(resume=True)


def test_a_search_is_neither_begun_twice_nor_resumed_before_it_is_begun(begin: Begin) -> None:
    with pytest.raises(SearchError, match="no search to resume in "):
        begin(resume=True)
    begin()
    with pytest.raises(SearchError, match="already: add --resume"):
        begin()


@pytest.mark.parametrize(
    ("storage", "reason"),
    [
        ("nonsense", "cannot be used"),
        ("nosuchbase://somewhere/x", "cannot be used"),
        ("sqlite:////no/such/folder/study.db", "unable to open database file"),
    ],
)
def test_a_storage_that_cannot_be_used_is_named_in_one_line(storage: str, reason: str) -> None:
    with pytest.raises(SearchError, match=reason) as caught:
        Search(storage, "search", SETTINGS, resume=False)
    assert storage in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_password_is_printed() -> None:
    with pytest.raises(SearchError) as caught:
        Search("nosuchbase://ann:secret@somewhere/x", "search", SETTINGS, resume=False)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("no database, whatever its name " * 50)
    with pytest.raises(SearchError, match="file is not a database"):
        Search(sqlite_url(tmp_path / "study.db"), "search", SETTINGS, resume=False)


def test_what_was_confirmed_is_not_measured_again(begin: Begin) -> None:
    search, objective = begin(), Counting(stop_after=2)
    configs = [LengthConfig.full(3), LengthConfig.uniform(3, 0.9), LengthConfig.uniform(3, 0.8), LengthConfig.full(3)]
    with pytest.raises(KeyboardInterrupt):
        search.confirm(objective, configs)
    more, seen = Counting(), []
    found = begin(resume=True).confirm(more, configs, progress=lambda *values: seen.append(values))
    assert list(found) == configs[:3]
    assert len(more.asked) == 1
    assert not {*more.asked} & {*objective.asked}
    assert found[configs[1]] == Counting()(configs[1])
    assert seen == [(0, 3), (1, 3), (2, 3)]


def test_an_error_of_the_model_is_no_error_of_the_storage(begin: Begin) -> None:
    def broken(config: LengthConfig) -> Measurement:
        raise RuntimeError("the runtime failed")

    search = begin()
    with pytest.raises(RuntimeError, match="the runtime failed"):
        search.run(broken, sampler(search), 3)
    assert search.rows()[0]["state"] == "fail"


WORKER = """
import sys, time
sys.path.insert(0, sys.argv[2])
import test_study
from dynamic_tinybert.search import Search, beginning, make_sampler

class Slow(test_study.Counting):
    def __call__(self, config):
        time.sleep(0.02)
        return super().__call__(config)

search = Search(sys.argv[1], "search", test_study.SETTINGS, resume=True)
objective = Slow()
search.run(objective, make_sampler("tpe", 0), 40, first=beginning(3, 0.4))
print(len(objective.asked))
"""


@pytest.mark.slow
def test_two_workers_share_a_study(begin: Begin, url: str) -> None:
    search = begin()
    search.run(Counting(), sampler(search), 1, first=beginning(3, 0.4))
    command = [sys.executable, "-c", WORKER, url, str(Path(__file__).parent)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    outputs = [worker.communicate(timeout=100) for worker in workers]
    assert [stderr for _, stderr in outputs] == [b"", b""]
    asked = [int(stdout) for stdout, _ in outputs]
    assert min(asked) > 3
    assert 40 <= search.complete <= 41  # one may finish the trial that it is at
    copied = sum(row["copied"] for row in search.rows())
    assert 1 + sum(asked) >= search.complete - copied
    assert len(search.measured) >= search.complete - 3  # they propose different things


@pytest.mark.slow
def test_of_two_workers_at_one_trial_the_faster_counts(begin: Begin) -> None:
    """In SQLite two may take the same trial from the queue."""
    search, other = begin(), begin(resume=True)

    class Slow(Counting):
        def __call__(self, config: LengthConfig) -> Measurement:
            found = super().__call__(config)
            if len(self.asked) == 2:
                (running,) = other.trials(optuna.trial.TrialState.RUNNING)
                trial = optuna.trial.Trial(other.study, running._trial_id)
                other.study.tell(trial, other._run_trial(trial, Counting()))
            return found

    objective = Slow()
    search.run(objective, sampler(search), 6, first=beginning(3, 0.4))
    assert search.complete == 6
    assert len(objective.asked) == 6
    assert [row["state"] for row in search.rows()[:6]] == ["complete"] * 6


def test_fingerprints_tell_models_apart(tiny_folder: Path, tmp_path: Path, embedded: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    tiny = fingerprint(open_folder(tiny_folder))
    assert fingerprint(open_folder(copy)) == tiny != fingerprint(open_folder(embedded))
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert fingerprint(open_folder(copy)) != tiny


def test_what_is_confirmed(begin: Begin) -> None:
    """The table's own configuration too, although others beat it on the questions that choose."""
    search, objective = begin(), Counting()
    own = LengthConfig((0.9, 0.85, 0.4))
    first = beginning(3, 0.4, {"own": own})
    search.run(objective, sampler(search), len(first), first=first)
    assert len(search.front()) > 3
    assert own not in search.front()
    confirm = Counting()
    candidates = {c.config: c for c in search.candidates(confirm, first, most=3)}
    assert set(confirm.asked) == set(candidates)
    assert (candidates[own].kind, candidates[own].chosen) == ("search", False)
    assert candidates[LengthConfig.full(3)].kind == "full"
    assert sum(c.kind == "uniform" for c in candidates.values()) == sum(x.startswith("uniform") for x in first)
    front = [config for config in search.front() if candidates.get(config) and candidates[config].chosen]
    assert len(front) == 3
    assert {search.front()[0], search.front()[-1]} <= set(front)
    assert len(search.candidates(confirm, first, most=12)) > len(candidates)


def test_a_table_out_of_range_is_confirmed_as_it_is(begin: Begin) -> None:
    """A search with another `--low` would move it, and then the table would lose it."""
    search, objective = begin(), Counting()
    own = LengthConfig((0.3, 0.2, 0.1))  # below the range, whose least ratio is 0.4
    first = beginning(3, 0.4, {"own": own})
    search.run(objective, sampler(search), len(first), first=first)
    found = {c.config: c for c in search.candidates(Counting(), first, most=12)}
    assert found[own].select is None
    assert found[own].kind == "search"
