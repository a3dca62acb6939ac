"""What is found out before anything is learned, and how often it is read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import dynamic_tinybert.train.preflight as preflight
import dynamic_tinybert.train.run as running
from dynamic_tinybert.train import TrainingError, check_recipe, read_recipe, train
from dynamic_tinybert.train.logits import StoredLogits
from support.training import write_model, write_recipe


def test_preflight_reads_each_configuration_and_tokenizer_once(
    data: dict[str, Any], bert: str, mpnet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = [
        {"stage": "logits", "teachers": [bert, mpnet]},
        {"stage": "intermediate", "teacher": mpnet, "match": "relations"},
        {"stage": "prediction", "teacher": bert},
    ]
    written = write_recipe(tmp_path / "recipe.yaml", data, stages, teacher=bert, student={"checkpoint": mpnet})
    read: Counter[tuple[str, str]] = Counter()

    def counted(name: str) -> Any:
        original = getattr(preflight, name)

        def call(model: Any) -> Any:
            read[name, str(model)] += 1
            return original(model)

        return call

    for name in ("read_config", "Vocabulary"):
        monkeypatch.setattr(preflight, name, counted(name))
    checked = check_recipe(read_recipe(written), tmp_path / "run")
    assert checked.vocabulary.name == bert
    assert checked.own_vocabulary is not None
    assert checked.own_vocabulary.name == mpnet
    assert read == {(name, model): 1 for name in ("read_config", "Vocabulary") for model in (bert, mpnet)}


@pytest.mark.usefixtures("without_plots")
def test_a_run_reads_stored_logits_once(
    data: dict[str, Any], bert: str, student: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write_recipe(tmp_path / "logits.yaml", data, [{"stage": "logits", "teachers": [bert], "keep": 8}])
    train(read_recipe(made), tmp_path / "stored")
    logits = tmp_path / "stored" / "01-logits" / "logits.npz"
    read: list[Path] = []
    original, table = StoredLogits.read, running.read_table
    monkeypatch.setattr(StoredLogits, "read", lambda path, *others: (read.append(path), original(path, *others))[1])
    monkeypatch.setattr(running, "read_table", lambda path, *others: (read.append(path), table(path, *others))[1])
    stages = [
        {"stage": "logits", "start": str(logits)},
        {"stage": "prediction", "logits": str(logits), "epochs": 0.1},
    ]
    recipe = write_recipe(tmp_path / "recipe.yaml", data, stages, student={"checkpoint": student})
    train(read_recipe(recipe), tmp_path / "run")
    assert read == [logits, logits]  # once as the start of one stage, once as what the other learns from


def test_a_stage_is_checked_against_its_own_teacher_and_the_next_against_the_recipe_s(
    data: dict[str, Any], embedded: Path, student: str, tmp_path: Path
) -> None:
    """A student of 2 layers cannot learn from the layers of 3, but from those of 4."""
    four = write_model(tmp_path / "four", embedded, layers=4)
    three = write_model(tmp_path / "three", embedded, layers=3)
    first = {"stage": "prediction", "teacher": str(three), "epochs": 1}
    second = {"stage": "intermediate", "match": "relations", "epochs": 1}
    for teacher, fits in ((four, True), (three, False)):
        first["teacher"] = str(three if fits else four)
        made = write_recipe(
            tmp_path / "r.yaml", data, [first, second], teacher=str(teacher), student={"checkpoint": student}
        )
        if fits:
            check_recipe(read_recipe(made), tmp_path / "run")
        else:
            with pytest.raises(TrainingError, match="evenly"):
                check_recipe(read_recipe(made), tmp_path / "run")
