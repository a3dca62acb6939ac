"""ModernBERT as a student: it says what the runtime says, keeps its folder's form, and a run of it goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

import dynamic_tinybert.train.run as running
from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.folder import open_folder
from dynamic_tinybert.model import LengthConfig, share
from dynamic_tinybert.runtime import Runtime
from dynamic_tinybert.train import TrainingError, read_recipe, train
from dynamic_tinybert.train.models import check_voters, load_model, load_student, shape_of, student_from_teacher
from dynamic_tinybert.train.preflight import check_recipe
from dynamic_tinybert.train.student import make_student
from support.random_checkpoints import make
from support.runtime_reference import random_batch
from support.training import write_recipe

TOKENS = [80, 1, 2, 33, 64]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ModernBERT of 5 layers, of which two have global attention."""
    return make("modernbert", tmp_path_factory.mktemp("modern") / "modern", layers=5, hidden=32)


def call(model: Any, batch: Any, **options: Any) -> Any:
    ids, types, mask = (torch.from_numpy(values) for values in batch[:3])
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask, token_type_ids=types, **options)


@pytest.mark.parametrize("retention", [1.0, 0.8, 0.5, 0.3])
@pytest.mark.parametrize("seed", [1, 2])
def test_it_equals_the_runtime(folder: Path, retention: float, seed: int) -> None:
    model, opened = load_student(folder).eval(), open_folder(folder)
    config = LengthConfig.uniform(5, retention)
    batch = random_batch(opened.shape, config.lengths(TOKENS), TOKENS, extra=3, seed=seed)
    wanted = Runtime(opened.shape, opened.weights, threads=1).run(*batch)
    found = call(model, batch, length_config=config)
    real = batch.attention_mask == 1
    np.testing.assert_array_equal(found.layers_passed.numpy()[real], wanted.layers_passed[real])
    for ours, other in ((found.start_logits, wanted.start), (found.end_logits, wanted.end)):
        np.testing.assert_allclose(ours.numpy()[real], other[real], rtol=0, atol=1e-4)


def test_an_eager_call_is_that_of_transformers(folder: Path) -> None:
    model, opened = load_student(folder), open_folder(folder)
    batch = random_batch(opened.shape, LengthConfig.full(5).lengths(TOKENS), TOKENS, seed=3)
    plain = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    ids, mask = (torch.from_numpy(batch[i]) for i in (0, 2))
    with torch.no_grad():
        wanted = plain(input_ids=ids, attention_mask=mask).start_logits.numpy()
    model.eager = True
    real = batch.attention_mask == 1
    for found in (call(model.eval(), batch), call(model.train(), batch)):  # there is no dropout
        np.testing.assert_allclose(found.start_logits.numpy()[real], wanted[real], rtol=0, atol=1e-4)


def test_a_student_of_all_layers_is_its_teacher(folder: Path, tmp_path: Path) -> None:
    teacher = load_model(folder)
    student = student_from_teacher(teacher, [0, 1, 2, 3, 4], None, "modernbert")
    student.save_pretrained(tmp_path / "student")
    ours, theirs = (load_file(path / "model.safetensors") for path in (tmp_path / "student", folder))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert json.loads((tmp_path / "student" / "config.json").read_text("utf-8"))["architectures"] == [
        "ModernBertForQuestionAnswering"
    ]


def test_layers_keep_their_kind_of_attention(folder: Path) -> None:
    student = student_from_teacher(load_model(folder), [1, 3], None, "modernbert")
    assert student.config.layer_types == ["sliding_attention", "full_attention"]
    shape = shape_of(student.config)
    assert shape.modern is not None
    assert shape.modern.local == (True, False)
    assert share(shape, LengthConfig((0.5, 0.5))) < 1


@pytest.mark.parametrize("form", ["bert", "mpnet"])
def test_a_form_of_another_architecture_is_one_line(folder: Path, form: str) -> None:
    with pytest.raises(TrainingError, match=r"takes (no )?layers from a") as caught:
        student_from_teacher(load_model(folder), [1, 3], None, form)
    assert "\n" not in str(caught.value)


def test_the_question_alone_does_not_vote_with_local_attention(folder: Path) -> None:
    config = load_model(folder).config
    check_voters(config, "all")
    with pytest.raises(TrainingError, match="set voters: all"):
        check_voters(config, "question")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any], folder: Path) -> Path:
    stages = [
        {"stage": "prediction", "teacher": str(folder), "epochs": 2, "checkpoint_steps": 2},
        {"stage": "lengthdrop", "epochs": 1, "samples": 1, "checkpoint_steps": 2},
    ]
    path = tmp_path_factory.mktemp("recipes") / "recipe.yaml"
    return write_recipe(path, data, stages, student={"teacher_layers": [0, 2, 4], "dropout": 0.1})


def test_dropout_reaches_attention(recipe: Path, folder: Path) -> None:
    told = read_recipe(recipe)
    assert told.student is not None
    student = make_student(told.student, str(folder), check_recipe(told, recipe.parent).vocabulary, stored=False)
    assert {layer.attn.attention_dropout for layer in student.model.layers} == {0.1}
    assert student.config.mlp_dropout == 0.1


class Interrupted(Exception):
    """What a test ends a run with."""


@pytest.mark.slow
@pytest.mark.usefixtures("without_plots")
def test_a_run_trains_drops_resumes_and_answers(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(read_recipe(recipe), tmp_path / "whole")
    calls = iter(range(1, 1000))
    measure = running.measure

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if next(calls) == 2:
            raise Interrupted
        return measure(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(running, "measure", interrupted)
        with pytest.raises(Interrupted):
            train(read_recipe(recipe), tmp_path / "parts")
    train(read_recipe(recipe), tmp_path / "parts", resume=True)
    whole, parts = (tmp_path / name / "model" for name in ("whole", "parts"))
    assert (whole / "model.safetensors").read_bytes() == (parts / "model.safetensors").read_bytes()
    qa = QuestionAnswerer(whole)
    assert qa.shape.modern is not None
    text = "The bridge of Brno was built by Ada King in 1801."
    assert qa("Who built it?", text, budget=0.5).text in text
    shutil.rmtree(tmp_path / "whole")
