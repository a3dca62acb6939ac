"""A run that ends too early goes on as if it had not: bit by bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import dynamic_tinybert.train.run as running
from dynamic_tinybert.train import Recipe, Reporter, read_recipe, schedule, train
from dynamic_tinybert.train.stages import PredictionTrainer
from dynamic_tinybert.train.trainer import StageTrainer
from support.clock import Time
from support.training import write_recipe

_SCRIPT = Path(__file__).parents[1] / "support" / "killing.py"
pytestmark = [pytest.mark.usefixtures("without_plots"), pytest.mark.slow]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any], student: str) -> Path:
    """Dropout, 3 steps an epoch of two batches each, checkpoints in the middle of an epoch and at its end."""
    told = {k: v for k, v in data.items() if k != "dev"}
    shared = {"batch_size": 6, "accumulate": 2, "checkpoint_steps": 2}
    stages = [
        {"stage": "prediction", "epochs": 2.5, **shared},
        {"stage": "lengthdrop", "epochs": 2, "samples": 1, **shared},
    ]
    path = tmp_path_factory.mktemp("resume") / "recipe.yaml"
    return write_recipe(path, {**told, "impossible": 0.2}, stages, student={"checkpoint": student})


def outcome(folder: Path) -> dict[str, Any]:
    """What must be the same, bit by bit."""
    found: dict[str, Any] = {
        str(path.relative_to(folder)): json.loads(path.read_bytes()) if path.suffix == ".json" else path.read_bytes()
        for pattern in (
            "**/model.safetensors",
            "**/length_configs.json",
            "predictions-*",
            "figures.json",
            "0*/result.json",
        )
        for path in folder.glob(pattern)
    }
    assert len(found) == 8
    assert not list(folder.rglob("checkpoint-*"))
    return found


@pytest.fixture(scope="module")
def uninterrupted(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    train(read_recipe(recipe), folder)
    return outcome(folder)


def kill(jobs: list[tuple[str, int]], recipe: Path, folder: Path) -> list[dict[str, Any]]:
    """Run a recipe for each moment, kill it there, and resume it."""
    told = [
        {"recipe": str(recipe), "output": str(folder / f"{moment}-{count}"), "moment": moment, "count": count}
        for moment, count in jobs
    ]
    done = subprocess.run(
        [sys.executable, str(_SCRIPT)],
        input=json.dumps(told), capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    assert done.stderr == ""
    return found


_MOMENTS = [
    ("batch", 12), ("weights", 3), ("optimizer", 2), ("state", 2), ("end", 1), ("between", 1), ("measure", 3),
    ("any", 1),
]  # fmt: skip
_MORE = [
    ("batch", 5), ("batch", 17), ("select", 2), ("weights", 1), ("state", 1), ("state", 5), ("rotate", 3),
    ("between", 2), ("end", 3), ("any", 2), ("any", 3),
]  # fmt: skip
forks = pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="forks a process with PyTorch")


@forks
@pytest.mark.parametrize("moments", [_MOMENTS, pytest.param(_MORE, marks=pytest.mark.long)])
def test_killed_at_a_moment(
    recipe: Path, uninterrupted: dict[str, Any], tmp_path: Path, moments: list[tuple[str, int]]
) -> None:
    for job in kill(moments, recipe, tmp_path):
        told = f"{job['moment']} {job['count']}"
        assert job["status"] == 0, told
        assert job["killed"] or job["moment"] == "any", told
        assert outcome(Path(job["output"])) == uninterrupted, told


@forks
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_killed_at_every_write(recipe: Path, uninterrupted: dict[str, Any], tmp_path: Path) -> None:
    jobs = [("write", count) for count in range(1, 200)]
    for begin in range(0, len(jobs), 20):
        found = kill(jobs[begin : begin + 20], recipe, tmp_path)
        for job in found:
            assert job["status"] == 0, job
            assert outcome(Path(job["output"])) == uninterrupted, job
        if not any(job["killed"] for job in found):
            return
    raise AssertionError("there are more writes than were tried")


@forks
def test_killed_while_logits_are_computed(data: dict[str, Any], mpnet: str, student: str, tmp_path: Path) -> None:
    stages = [
        {"stage": "logits", "teachers": [mpnet], "keep": 8, "batch_tokens": 256},
        {"stage": "prediction", "name": "student"},
    ]
    recipe = write_recipe(tmp_path / "recipe.yaml", data, stages, student={"checkpoint": student})
    train(read_recipe(recipe), tmp_path / "whole")
    names = ["01-logits/logits.npz", "01-logits/result.json", "02-student/model/model.safetensors"]
    for job in kill([("logits", 1), ("logits", 3), ("part", 4)], recipe, tmp_path):
        assert (job["killed"], job["status"]) == (1, 0), job
        for name in names:
            assert (Path(job["output"]) / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), job
        left = sorted(path.name for path in (Path(job["output"]) / "01-logits").iterdir())
        assert left == ["logits.npz", "result.json"]


class Interrupted(Exception):
    """What a test ends a run with."""


@pytest.mark.parametrize("batch", [3, 6, 7, 13])
def test_interrupted_by_an_exception(
    recipe: Path, uninterrupted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    calls = iter(range(1000))
    compute = StageTrainer.compute_loss

    def failing(self: Any, *arguments: Any, **options: Any) -> Any:
        if next(calls) == batch:
            raise Interrupted
        return compute(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, "compute_loss", failing)
        with pytest.raises(Interrupted):
            train(read_recipe(recipe), tmp_path / "run")
    train(read_recipe(recipe), tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run") == uninterrupted


@pytest.mark.parametrize("end", [None, 3])
def test_the_best_checkpoint_is_kept(
    data: dict[str, Any], student: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: int | None
) -> None:
    figures = [10.0, 50.0, 20.0, 49.0, 50.0, 30.0]
    stages = [{"stage": "prediction", "epochs": 1, "batch_size": 6, "checkpoint_steps": 1}]
    recipe = read_recipe(write_recipe(tmp_path / "r.yaml", data, stages, student={"checkpoint": student}))
    seen: list[dict[str, torch.Tensor]] = []

    def measured(qa: Any, *_: Any) -> dict[str, float]:
        if len(seen) == end and not stopped:
            stopped.append(True)
            raise Interrupted
        seen.append({k: v.clone() for k, v in qa.reader.runtime._model.state_dict().items()})
        return {"f1": figures[len(seen) - 1], "full_f1": 1.0, "exact_match": 0.0}

    stopped: list[bool] = []
    monkeypatch.setattr(running, "measure", measured)
    if end is not None:
        with pytest.raises(Interrupted):
            train(recipe, tmp_path / "run")
    train(recipe, tmp_path / "run", resume=True)
    assert len(seen) == len(figures)
    kept = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert all(torch.equal(kept[name], seen[1][name]) for name in kept)
    assert not all(torch.equal(kept[name], seen[-1][name]) for name in kept)
    assert json.loads((tmp_path / "run/01-prediction/result.json").read_text("utf-8"))["figures"]["f1"] == 50.0


def test_of_what_answers_nothing_yet_the_last_checkpoint_is_kept(
    data: dict[str, Any], student: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = iter([50.0, 10.0, 10.0])  # of a span head that learns nothing: noise
    stages = [{"stage": "intermediate", "epochs": 1, "batch_size": 12, "checkpoint_steps": 1, "teacher": student}]
    recipe = read_recipe(write_recipe(tmp_path / "r.yaml", data, stages, student={"checkpoint": student}))
    seen: list[dict[str, torch.Tensor]] = []

    def measured(qa: Any, *_: Any) -> dict[str, float]:
        seen.append({k: v.clone() for k, v in qa.reader.runtime._model.state_dict().items()})
        return {"f1": next(figures), "full_f1": 1.0, "exact_match": 0.0}

    monkeypatch.setattr(running, "measure", measured)
    train(recipe, tmp_path / "run")
    kept = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert len(seen) == 3
    assert all(torch.equal(kept[name], seen[-1][name]) for name in kept)
    assert not all(torch.equal(kept[name], seen[0][name]) for name in kept)


def test_a_run_goes_on_after_its_folder_was_moved(
    recipe: Path, uninterrupted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(running, "write_curve", stop)  # all is learned, and the best checkpoint is not the last
        with pytest.raises(Interrupted):
            train(read_recipe(recipe), tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    train(read_recipe(recipe), Path("moved"), resume=True)
    assert outcome(tmp_path / "moved") == uninterrupted


# By the clock


@pytest.fixture
def timed(data: dict[str, Any], student: str, tmp_path: Path) -> Callable[..., Recipe]:
    def make(seconds: float, **options: Any) -> Recipe:
        stages = [{"stage": "prediction", "minutes": seconds / 60, "batch_size": 4, **options}]
        return read_recipe(write_recipe(tmp_path / "r.yaml", data, stages, student={"checkpoint": student}))

    return make


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[StageTrainer]:
    """The trainers that runs have made."""
    found: list[StageTrainer] = []
    make = PredictionTrainer.__init__

    def kept(self: Any, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        found.append(self)

    monkeypatch.setattr(PredictionTrainer, "__init__", kept)
    return found


@pytest.fixture
def by_batches(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A batch takes an eighth of a second, on a slow machine as on a fast one; the learning rate of each batch."""
    clock, rates = Time(), []
    compute = StageTrainer.compute_loss

    def moving(self: Any, *arguments: Any, **options: Any) -> Any:
        clock.now += 0.125
        rates.append(self._get_learning_rate())
        return compute(self, *arguments, **options)

    monkeypatch.setattr(StageTrainer, "compute_loss", moving)
    monkeypatch.setattr(schedule, "time", clock)
    return rates


def test_a_stage_ends_by_the_clock(
    timed: Callable[..., Recipe], trained: list[StageTrainer], by_batches: list[float], tmp_path: Path
) -> None:
    train(timed(2, checkpoint_steps=5), tmp_path / "run")
    (trainer,) = trained
    history = trainer.state.log_history
    peak = max(by_batches)
    assert 0.001 < peak <= 0.002
    assert peak in by_batches[1:4]
    assert by_batches[-1] < 0.15 * peak
    assert trainer._get_learning_rate() < 0.1 * peak
    assert trainer.state.global_step == len(by_batches) == 17  # the first that begins after 2 seconds is the last
    assert [row["step"] for row in history if "eval_f1" in row] == [5, 10, 15, 17]
    assert trainer.clock.elapsed == 2
    assert trainer.done() == 1


@pytest.mark.usefixtures("by_batches")
def test_the_clock_goes_on_where_it_stood(
    timed: Callable[..., Recipe], trained: list[StageTrainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = StageTrainer.compute_loss

    def failing(self: Any, *arguments: Any, **options: Any) -> Any:
        if self.state.global_step == 9:
            raise Interrupted
        return compute(self, *arguments, **options)

    recipe = timed(2, checkpoint_steps=2)
    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, "compute_loss", failing)
        with pytest.raises(Interrupted):
            train(recipe, tmp_path / "run")
    train(recipe, tmp_path / "run", resume=True)
    first, second = trained
    assert first.state.global_step == 9
    assert second.context.elapsed == 1  # of the eight steps up to the last checkpoint
    assert second.clock.elapsed == 2
    assert second.state.global_step == 17
    (tmp_path / "run" / "model").rename(tmp_path / "first")
    weights = load_file(tmp_path / "first" / "model.safetensors")
    train(recipe, tmp_path / "run", resume=True)
    assert len(trained) == 2
    assert all(torch.equal(x, weights[n]) for n, x in load_file(tmp_path / "run/model/model.safetensors").items())


def test_nothing_is_said_when_nobody_asked(recipe: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(read_recipe(recipe), tmp_path / "quiet")
    assert capfd.readouterr() == ("", "")
    train(read_recipe(recipe), tmp_path / "told", reporter=Reporter())
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert all(line[2] == ":" and line[5] == ":" for line in lines)
    assert any("prediction: step 2" in line and "select f1" in line for line in lines)
    assert len(lines) < 25
