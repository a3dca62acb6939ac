"""The stage `logits` in whole recipes: it stores what teachers say, and the stages after it learn from that."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dynamic_tinybert.train.predict as predicting
import dynamic_tinybert.train.run as running
from dynamic_tinybert.inference import TextTokenizer
from dynamic_tinybert.squad import read_squad
from dynamic_tinybert.train import TrainingError, read_recipe, train
from dynamic_tinybert.train.features import Feature, fingerprint, make_features
from dynamic_tinybert.train.logits import StoredLogits, read_table, window_keys
from dynamic_tinybert.train.models import Teacher
from dynamic_tinybert.train.predict import logits_of
from dynamic_tinybert.train.settings import Data
from dynamic_tinybert.train.stages import PredictionTrainer
from dynamic_tinybert.train.vocabulary import Vocabulary
from support.training import write_recipe

pytestmark = [pytest.mark.usefixtures("without_plots"), pytest.mark.slow]


def go(folder: Path, data: dict[str, Any], stages: list[dict[str, Any]], **others: Any) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    resume = (folder / "run").exists()
    recipe = read_recipe(write_recipe(folder / "recipe.yaml", data, stages, **others))
    return train(recipe, folder / "run", resume=resume)


@pytest.fixture(scope="module")
def features(data: dict[str, Any], embedded: Path) -> list[Feature]:
    whole = read_squad(data["train"]).questions
    questions = [question for question in whole if "#" not in question.title]
    return make_features(TextTokenizer(embedded), questions, Data(**data).features(0))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any], bert: str, mpnet: str) -> Path:
    """The folder of a recipe of logits alone, of two teachers."""
    folder = tmp_path_factory.mktemp("stored")
    stage = {"stage": "logits", "teachers": [bert, mpnet], "keep": 8, "batch_tokens": 256}
    figures = go(folder, data, [stage])
    assert figures == {"logits": json.loads((folder / "run/01-logits/result.json").read_text("utf-8"))["figures"]}
    return folder / "run"


def live(model: str, student: str, features: list[Feature], keep: int = 8) -> StoredLogits:
    """What a teacher says, by another road."""
    teacher = Teacher(model, Vocabulary(student))
    return logits_of(teacher.model, teacher.inputs, features, 0, keep, bf16=False)


def test_a_recipe_of_logits_alone_writes_the_file_and_no_model(stored: Path, features: list[Feature]) -> None:
    assert sorted(path.name for path in stored.iterdir()) == [".lock", "01-logits", "recipe.yaml", "tokenizer"]
    assert sorted(path.name for path in (stored / "01-logits").iterdir()) == ["logits.npz", "result.json"]
    table = read_table(stored / "01-logits" / "logits.npz", [])
    assert table.teachers == ("bert", "mpnet")
    figures = json.loads((stored / "01-logits" / "result.json").read_text("utf-8"))["figures"]
    assert figures["windows"] == len(table.keys) == len(set(window_keys(features).tolist()))
    assert 0 < figures["mass_min"] <= figures["mass_mean"] <= 1
    assert figures["mass_mean"] == pytest.approx(table.mass.astype(float).mean(), abs=1e-5)


def test_the_stored_logits_are_the_mean_of_both_teachers(
    stored: Path, features: list[Feature], bert: str, mpnet: str, embedded: Path
) -> None:
    found = StoredLogits.read(stored / "01-logits" / "logits.npz", features)
    teachers = [Teacher(model, Vocabulary(embedded)) for model in (bert, mpnet)]
    for row in (0, 5, len(features) - 1):
        window = features[row]
        batch = {
            "input_ids": torch.from_numpy(window.ids.astype(np.int64))[None],
            "attention_mask": torch.ones(1, len(window), dtype=torch.long),
            "token_type_ids": (torch.arange(len(window)) >= window.offset).long()[None],
        }
        outputs = [teacher(batch) for teacher in teachers]
        for side, name in enumerate(("start_logits", "end_logits")):
            mean = torch.stack([output[name][0].log_softmax(0) for output in outputs]).mean(0)
            goal = mean.softmax(0)[found.index[row, side]]
            assert torch.allclose(found.value[row, side].exp(), goal, rtol=1e-2)
            assert float(found.mass[row, side]) == pytest.approx(float(goal.sum()), abs=2e-3)


def test_another_recipe_learns_from_the_file_for_some_of_its_windows(
    stored: Path, data: dict[str, Any], student: str, tmp_path: Path
) -> None:
    logits = str(stored / "01-logits" / "logits.npz")
    stages = [
        {"stage": "prediction", "logits": logits},
        {"stage": "lengthdrop", "logits": logits, "learn_from": "teacher", "samples": 1},
    ]
    figures = go(tmp_path, {**data, "limit": 20}, stages, student={"checkpoint": student}, seed=3)
    assert figures["confirm"]["total"] == 9


def test_the_stages_after_it_learn_from_its_file_unless_they_name_another(
    stored: Path, data: dict[str, Any], bert: str, student: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goals = {}
    original = PredictionTrainer.__init__

    def keeping(self: Any, model: Any, stage: Any, context: Any, teacher: Any) -> None:
        goals[stage.name or stage.stage] = teacher
        original(self, model, stage, context, teacher)

    monkeypatch.setattr(PredictionTrainer, "__init__", keeping)
    stages = [
        {"stage": "logits", "keep": 6},
        {"stage": "intermediate"},
        {"stage": "prediction"},
        {"stage": "prediction", "name": "named", "teacher": bert},
        {"stage": "prediction", "name": "file", "logits": str(stored / "01-logits" / "logits.npz")},
        {"stage": "lengthdrop", "rule": "single", "checkpoint_steps": 100},
    ]
    go(tmp_path, {**data, "limit": 20}, stages, student={"checkpoint": student}, teacher=bert)
    assert isinstance(goals["named"], Teacher)
    assert [goals[name].index.shape[2] for name in ("prediction", "lengthdrop", "file")] == [6, 6, 8]
    card = (tmp_path / "run" / "model" / "README.md").read_text("utf-8")
    assert "The stage logits stored the 6 greatest start and end logits of the teacher for" in card
    assert "of its probability." in card
    assert str(stored) not in card
    assert str(tmp_path) not in card


def test_a_teacher_trained_after_it_is_learned_from(
    data: dict[str, Any], bert: str, student: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goals = []
    original = running.PredictionTrainer

    def keeping(model: Any, stage: Any, context: Any, teacher: Any) -> Any:
        goals.append(teacher)
        return original(model, stage, context, teacher)

    monkeypatch.setattr(running, "PredictionTrainer", keeping)
    stages = [{"stage": "logits", "teachers": [bert]}, {"stage": "teacher", "model": bert}, {"stage": "prediction"}]
    go(tmp_path, {**data, "limit": 10}, stages, student={"checkpoint": student})
    assert isinstance(goals[0], Teacher)


@pytest.mark.parametrize("stop", [1, 3])
def test_a_stage_that_was_stopped_goes_on_and_writes_the_same_file(
    stored: Path,
    data: dict[str, Any],
    bert: str,
    mpnet: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: int,
) -> None:
    stage = {"stage": "logits", "teachers": [bert, mpnet], "keep": 8, "batch_tokens": 256}
    monkeypatch.setattr(predicting, "_SAVE_EVERY", 0.0)
    calls = []
    original = Teacher.__call__

    def called(self: Any, batch: Any, **options: Any) -> Any:
        calls.append(len(batch["input_ids"]))
        if len(calls) == 2 * stop + 1:
            raise KeyboardInterrupt
        return original(self, batch, **options)

    monkeypatch.setattr(Teacher, "__call__", called)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, data, [stage])
    assert [path.name for path in (tmp_path / "run" / "01-logits").iterdir()] == ["part.npz"]
    part = read_table(tmp_path / "run" / "01-logits" / "part.npz", [])
    assert len(part.keys) == sum(calls[: 2 * stop : 2])
    go(tmp_path, data, [stage])
    for name in ("logits.npz", "result.json"):
        resumed, whole = ((run / "01-logits" / name).read_bytes() for run in (tmp_path / "run", stored))
        assert resumed == whole
    assert sum(calls[: 2 * stop : 2]) + sum(calls[2 * stop + 1 :: 2]) == len(
        read_table(stored / "01-logits/logits.npz", []).keys
    )
    seen = len(calls)
    go(tmp_path, data, [stage])
    assert len(calls) == seen  # done before


def test_start_is_taken_over_and_only_the_rest_is_computed(
    stored: Path, data: dict[str, Any], bert: str, mpnet: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = read_table(stored / "01-logits" / "logits.npz", [])
    stage = {"stage": "logits", "teachers": [mpnet], "keep": 8, "start": str(stored / "01-logits" / "logits.npz")}
    folder = tmp_path / "run"
    recipe = read_recipe(write_recipe(tmp_path / "r.yaml", {**data, "impossible": 0.5}, [stage]))
    train(recipe, folder, reporter=running.Reporter())
    after = read_table(folder / "01-logits" / "logits.npz", [])
    more = len(after.keys) - len(before.keys)
    assert more > 0
    assert np.array_equal(after.value[after.find(before.keys)], before.value)
    said = capfd.readouterr().err
    assert f"01-logits: {len(before.keys)} windows are taken over from" in said
    assert f", {more} are left" in said
    assert re.search(
        r"the 8 greatest logits of \d+ windows hold [\d.]+% of the teacher's probability, [\d.]+% at least", said
    )
    assert "that is low: is the teacher fine-tuned" in said  # it is random
    assert "is of bert, mpnet, the other windows of mpnet" in said
    assert f"the logits are in {folder / '01-logits' / 'logits.npz'}; no stage trains a model" in said


def test_an_old_file_is_converted_without_a_teacher(
    data: dict[str, Any], bert: str, features: list[Feature], embedded: Path, tmp_path: Path
) -> None:
    kept = live(bert, str(embedded), features)
    old = {"index": kept.index.numpy().astype(np.int16), "value": kept.value.numpy().astype(np.float16)}
    np.savez(tmp_path / "old.npz", **old, features=np.array(fingerprint(features)))
    stage = {"stage": "logits", "keep": 8, "start": str(tmp_path / "old.npz")}
    figures = go(tmp_path, data, [stage])
    assert set(figures["logits"]) == {"windows"}  # an old file does not say what its logits hold
    found = StoredLogits.read(tmp_path / "run" / "01-logits" / "logits.npz", features[::-1])
    assert torch.equal(found.index, kept.index.flip(0))
    with pytest.raises(TrainingError, match="are of other features"):
        go(tmp_path / "more", {**data, "impossible": 0.5}, [stage])


def test_what_nobody_can_compute_is_one_line(stored: Path, data: dict[str, Any], tmp_path: Path) -> None:
    stage = {"stage": "logits", "start": str(stored / "01-logits" / "logits.npz")}
    with pytest.raises(
        TrainingError, match=r"lacks the logits of \d+ windows, and the stage 01-logits has no teacher"
    ) as e:
        go(tmp_path, {**data, "impossible": 0.5}, [stage])
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ({"start": "nowhere.npz"}, "start: there is no file of stored logits nowhere.npz"),
        ({"teachers": ["./nowhere"]}, "there is no model folder ./nowhere"),
    ],
)
def test_what_is_missing_is_found_before_anything_is_computed(
    stage: dict[str, Any], says: str, data: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=says):
        go(tmp_path, data, [{"stage": "logits", **stage}])
    assert not (tmp_path / "run").exists()


def test_a_damaged_start_is_found_before_anything_is_learned(
    data: dict[str, Any], bert: str, student: str, tmp_path: Path
) -> None:
    (tmp_path / "start.npz").write_bytes(b"PK")
    stages = [{"stage": "prediction"}, {"stage": "logits", "teachers": [bert], "start": str(tmp_path / "start.npz")}]
    with pytest.raises(TrainingError, match="is not a file of stored logits"):
        go(tmp_path, data, stages, student={"checkpoint": student})
    assert not list((tmp_path / "run").glob("0*"))


def test_weights_and_states_are_in_bfloat16_and_logits_in_float32(
    data: dict[str, Any],
    bert: str,
    features: list[Feature],
    embedded: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("arithmetic", "preflight"):
        monkeypatch.setattr(f"dynamic_tinybert.train.{module}.cpu_has_bf16", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    seen = set()
    original = Teacher.__call__

    def called(self: Any, batch: Any, **options: Any) -> Any:
        output = original(self, batch, **options)
        layer = next(self.model.bert.encoder.layer.parameters())
        seen.add((layer.dtype, output.start_logits.dtype))
        return output

    monkeypatch.setattr(Teacher, "__call__", called)
    go(tmp_path, data, [{"stage": "logits", "teachers": [bert], "keep": 8, "precision": "auto"}])
    assert seen == {(torch.bfloat16, torch.float32)}
    found = StoredLogits.read(tmp_path / "run" / "01-logits" / "logits.npz", features)
    exact = live(bert, str(embedded), features)
    assert (found.mass - exact.mass).abs().max() < 0.02


@pytest.mark.parametrize(("dropout", "kept"), [(None, 0.0), (0.2, 0.2)])
def test_a_student_of_stored_logits_has_no_dropout_unless_it_is_given(
    stored: Path, data: dict[str, Any], student: str, tmp_path: Path, dropout: float | None, kept: float
) -> None:
    logits = str(stored / "01-logits" / "logits.npz")
    told = {"checkpoint": student} if dropout is None else {"checkpoint": student, "dropout": dropout}
    go(tmp_path, data, [{"stage": "prediction", "logits": logits}], student=told)
    config = json.loads((tmp_path / "run/model/config.json").read_text("utf-8"))
    assert config["hidden_dropout_prob"] == config["attention_probs_dropout_prob"] == kept
