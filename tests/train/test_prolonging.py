"""Plateaus: batches by tokens, weight averaging, a run that is made longer or shorter; all of it resumable."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import dynamic_tinybert.train.run as running
from dynamic_tinybert.train import Recipe, TrainingError, read_recipe, train
from dynamic_tinybert.train.arithmetic import cpu_has_bf16
from dynamic_tinybert.train.stages import PredictionTrainer
from dynamic_tinybert.train.trainer import StageTrainer
from support.training import write_recipe

pytestmark = [pytest.mark.usefixtures("without_plots"), pytest.mark.slow]
Make = Callable[..., Recipe]


class Interrupted(Exception):
    """What a test ends a run with."""


@pytest.fixture
def make(data: dict[str, Any], student: str, tmp_path: Path) -> Make:
    """A recipe of one stage, 9 steps an epoch."""

    def made(**options: Any) -> Recipe:
        told = {k: v for k, v in data.items() if k != "dev"}
        stage = {
            "stage": "prediction", "schedule": "plateau", "batch_tokens": 160, "epochs": 3, "checkpoint_steps": 5,
            "learning_rate": 0.003, **options,
        }  # fmt: skip
        return read_recipe(write_recipe(tmp_path / "r.yaml", told, [stage], student={"checkpoint": student}))

    return made


def interrupt(recipe: Recipe, folder: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a recipe until a step, for the first time or again."""
    compute = StageTrainer.compute_loss

    def failing(self: Any, *arguments: Any, **options: Any) -> Any:
        if self.state.global_step == step:
            raise Interrupted
        return compute(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, "compute_loss", failing)
        with pytest.raises(Interrupted):
            train(recipe, folder, resume=folder.exists())


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("step", [7, 26])
def test_plateau_interrupted_goes_on_bit_by_bit(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    recipe = make(average=True)
    train(recipe, tmp_path / "whole")
    interrupt(recipe, tmp_path / "run", step, monkeypatch)
    train(recipe, tmp_path / "run", resume=True)
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))
    results = [json.loads((tmp_path / name / "01-prediction/result.json").read_bytes()) for name in ("run", "whole")]
    assert results[0] == results[1]


@pytest.mark.skipif(not cpu_has_bf16(), reason="this processor does not multiply bfloat16")
def test_bfloat16_interrupted_loses_as_much(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make(precision="bf16")
    losses: dict[str, list[float]] = {"whole": [], "run": []}
    for name, found in losses.items():
        compute = StageTrainer.compute_loss

        def kept(self: Any, *arguments: Any, compute: Any = compute, found: Any = found, **options: Any) -> Any:
            loss = compute(self, *arguments, **options)
            found.append(float(loss.detach()))
            return loss

        if name == "run":
            interrupt(recipe, tmp_path / name, 15, monkeypatch)
        with monkeypatch.context() as patch:
            patch.setattr(StageTrainer, "compute_loss", kept)
            train(recipe, tmp_path / name, resume=name == "run")
    after = losses["whole"][-len(losses["run"]) :]
    assert len(losses["run"]) < len(losses["whole"])
    assert losses["run"] == pytest.approx(after, rel=0.02)


@pytest.mark.parametrize(
    ("questions", "error", "figure"),
    [(1000, 7.33, 60.0), (1000, 7.33, 42.8), (1000, 7.33, 42.7), (4, 11.0, 39.1), (4, 11.0, 39.0)],
)
def test_average_is_kept_unless_the_best_checkpoint_is_better_by_a_standard_error(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, questions: int, error: float, figure: float
) -> None:
    """The best checkpoint has 50.06. There are 9 questions: a standard error is 7.33, of 4 of them 11."""
    kept = figure > 50.06 - error
    seen: list[dict[str, Tensor]] = []

    def measured(qa: Any, *_: Any) -> dict[str, float]:
        seen.append({k: v.clone() for k, v in qa.reader.runtime._model.state_dict().items()})
        averaged = len(seen) == 7  # after 5, 10, ... 25 steps and the last one
        return {"f1": figure if averaged else 50.0 + len(seen) / 100}

    monkeypatch.setattr(running, "measure", measured)
    train(make(average=True, select_questions=questions), tmp_path / "run")
    assert len(seen) == 7
    assert same({k: v for k, v in seen[6 if kept else 5].items() if "position_ids" not in k}, weights(tmp_path / "run"))
    other = load_file(tmp_path / "run/01-prediction/other/model.safetensors")
    assert same({k: v for k, v in seen[5 if kept else 6].items() if "position_ids" not in k}, other)
    assert not same(seen[5], seen[6])
    figures = json.loads((tmp_path / "run/01-prediction/result.json").read_text("utf-8"))["figures"]
    assert figures["f1"] == (figure if kept else 50.06)


@pytest.mark.parametrize("figure", [49.0, 30.0])
def test_what_is_kept_is_the_same_after_an_interruption_at_the_end(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figure: float
) -> None:
    """Learning is done, and the stage is interrupted before its model is written."""

    def measured(qa: Any, *_: Any) -> dict[str, float]:
        calls.append(None)
        return {"f1": figure if len(calls) >= 7 else 50.0 + len(calls) / 100}  # the mean is measured last

    def broken(*_: Any) -> None:
        raise Interrupted

    monkeypatch.setattr(running, "measure", measured)
    recipe, calls = make(average=True), []
    train(recipe, tmp_path / "whole")
    calls = []
    with monkeypatch.context() as patch:
        patch.setattr(running, "write_curve", broken)
        with pytest.raises(Interrupted):
            train(recipe, tmp_path / "run")
    train(recipe, tmp_path / "run", resume=True)
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))
    results = [json.loads((tmp_path / name / "01-prediction/result.json").read_bytes()) for name in ("run", "whole")]
    assert results[0] == results[1]
    assert results[0]["figures"]["f1"] == (figure if figure == 49.0 else 50.06)


def test_plateau_prolonged_is_as_if_it_had_been_as_long_from_the_start(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm = {"warmup": 0.0}
    train(make(epochs=5, **warm), tmp_path / "whole")
    interrupt(make(epochs=3, **warm), tmp_path / "run", 12, monkeypatch)
    train(make(epochs=5, **warm), tmp_path / "run", resume=True)
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))
    assert "epochs: 5" in (tmp_path / "run/recipe.yaml").read_text("utf-8")


def test_plateau_cannot_be_prolonged_while_its_rate_rises(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rate would fall at once, and rise again."""
    interrupt(make(epochs=3, warmup=0.3), tmp_path / "run", 12, monkeypatch)  # the last checkpoint is of step 10 of 27
    with pytest.raises(TrainingError, match=r"epochs cannot change from 3 to 9 yet: its learning rate rises"):
        train(make(epochs=9, warmup=0.3), tmp_path / "run", resume=True)
    train(make(epochs=3, warmup=0.3), tmp_path / "run", resume=True)


def test_plateau_may_come_to_its_end_earlier_but_not_in_the_past(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(make(epochs=9), tmp_path / "run", 22, monkeypatch)  # the last checkpoint is of step 20
    with pytest.raises(TrainingError, match="epochs cannot change from 9 to 3: its learning rate would have begun"):
        train(make(epochs=3), tmp_path / "run", resume=True)
    train(make(epochs=4), tmp_path / "run", resume=True)
    assert json.loads((tmp_path / "run/01-prediction/result.json").read_text("utf-8"))["steps"] == 36


def test_plateau_that_falls_cannot_be_prolonged(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(make(), tmp_path / "run", 26, monkeypatch)
    before = (tmp_path / "run/recipe.yaml").read_text("utf-8")
    with pytest.raises(TrainingError, match=r"epochs cannot change from 3 to 9: its learning rate has begun to fall"):
        train(make(epochs=9), tmp_path / "run", resume=True)
    assert (tmp_path / "run/recipe.yaml").read_text("utf-8") == before


@pytest.mark.parametrize("other", [{"learning_rate": 0.001}, {"schedule": "linear"}, {"epochs": None, "minutes": 1}])
def test_prolonging_changes_nothing_else(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, Any]
) -> None:
    interrupt(make(), tmp_path / "run", 7, monkeypatch)
    with pytest.raises(TrainingError, match="is a run of another recipe"):
        train(make(**{"epochs": 9, **other}), tmp_path / "run", resume=True)


def test_plateau_changed_twice_without_a_checkpoint_between_is_judged_by_what_it_has_done(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(make(epochs=6), tmp_path / "run", 27, monkeypatch)  # the last checkpoint is of epoch 2.8
    interrupt(make(epochs=9), tmp_path / "run", 25, monkeypatch)
    with pytest.raises(TrainingError, match="would have begun to fall before"):
        train(make(epochs=4), tmp_path / "run", resume=True)
    interrupt(make(epochs=6), tmp_path / "run", 25, monkeypatch)


def test_average_without_a_plateau_is_refused(make: Make) -> None:
    with pytest.raises(TrainingError, match="average needs schedule: plateau"):
        make(average=True, schedule="linear")


def test_every_window_counts_the_same_whatever_its_batch(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[int, float]] = []
    compute = StageTrainer.compute_loss

    def constant(self: Any, model: Any, batch: Any) -> Tensor:
        return 1 + 0 * self.model.qa_outputs.bias.sum()

    def kept(self: Any, model: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
        loss = compute(self, model, inputs, *arguments, **options)
        found.append((len(inputs["input_ids"]), float(loss.detach())))
        return loss

    monkeypatch.setattr(PredictionTrainer, "stage_loss", constant)
    monkeypatch.setattr(StageTrainer, "compute_loss", kept)
    train(make(epochs=1, batch_tokens=190), tmp_path / "run")
    assert len({size for size, _ in found}) > 1
    assert {round(loss / size, 5) for size, loss in found} == {round(len(found) / 36, 5)}
