"""Whole recipes, in seconds."""

from __future__ import annotations

import csv
import gzip
import json
import random
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, PreTrainedTokenizerFast
from transformers.models.bert.modeling_bert import BertIntermediate

from conftest import quiet
from dynamic_tinybert import LengthConfig, QuestionAnswerer
from dynamic_tinybert.folder import open_folder, save_folder
from dynamic_tinybert.inference import TextTokenizer, cut_windows
from dynamic_tinybert.squad import read_predictions, read_squad, score
from dynamic_tinybert.train import TrainingError, read_recipe, train
from dynamic_tinybert.train.evaluation import answerer
from dynamic_tinybert.train.models import Inputs, load_model, load_student
from dynamic_tinybert.train.recipe import Recipe
from dynamic_tinybert.train.vocabulary import Vocabulary
from support.training import articles, write_recipe

pytestmark = pytest.mark.slow

QUESTION, TEXT = "Who built the lighthouse?", "The lighthouse of Łódź was built by Zoë Brontë in 1871 — for €5."


@dataclass(frozen=True)
class Ran:
    """A run that is over."""

    recipe: Recipe
    output: Path
    figures: dict[str, dict[str, float]]

    @property
    def model(self) -> Path:
        return self.output / "model"


def go(folder: Path, data: dict[str, Any], stages: list[dict[str, Any]], **others: Any) -> Ran:
    folder.mkdir(parents=True, exist_ok=True)
    recipe = read_recipe(write_recipe(folder / "recipe.yaml", data, stages, **others))
    return Ran(recipe, folder / "run", train(recipe, folder / "run"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any], mpnet: str, student: str) -> Ran:
    """Every kind of stage: an MPNet teaches a narrower BERT."""
    return go(
        tmp_path_factory.mktemp("whole"),
        {**data, "impossible": 0.5},
        [
            {"stage": "teacher", "model": mpnet, "epochs": 5},
            {"stage": "intermediate"},
            {"stage": "intermediate", "match": "relations", "name": "relations"},
            {"stage": "prediction", "temperature": 2.0, "labels": 0.5},
            {"stage": "lengthdrop", "checkpoint_steps": 3},
        ],
        student={"checkpoint": student},
        description="Made in a test; für «Łódź».",
    )


@pytest.fixture(scope="module", params=["bert", "mpnet"])
def alone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]) -> Ran:
    """A teacher, and nothing else."""
    model = request.getfixturevalue(request.param)
    return go(tmp_path_factory.mktemp("alone"), data, [{"stage": "teacher", "model": model}])


def agree(ours: QuestionAnswerer, theirs: QuestionAnswerer, config: Any) -> None:
    """Two models say the same of all questions of an article."""
    (article,) = articles(["Ort 5"])
    for paragraph in article["paragraphs"]:
        for asked in paragraph["qas"]:
            a, b = (qa(asked["question"], paragraph["context"], budget=config) for qa in (ours, theirs))
            assert (a.start, a.end) == (b.start, b.end)
            assert a.logit == pytest.approx(b.logit, abs=1e-3)


def test_every_stage_leaves_its_curve_and_model_and_no_checkpoint(whole: Ran) -> None:
    names = ["01-teacher", "02-intermediate", "03-relations", "04-prediction", "05-lengthdrop"]
    assert sorted(path.name for path in whole.output.iterdir() if path.name[0] in "0.") == [".lock", *names]
    assert not list(whole.output.rglob("checkpoint-*"))
    assert not list(whole.output.rglob(".*draft*"))
    for name in names:
        folder = whole.output / name
        rows = list(csv.DictReader((folder / "curve.csv").read_text("utf-8").splitlines()))
        losses = [float(row["loss"]) for row in rows if row["loss"]]
        seen = [row for row in rows if row["eval_f1"]]
        assert losses
        assert all(loss > 0 for loss in losses)
        assert len(seen) == (3 if name == "05-lengthdrop" else 1)
        assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
        result = json.loads((folder / "result.json").read_text("utf-8"))
        assert result["figures"]["f1"] == pytest.approx(max(float(row["eval_f1"]) for row in seen))
        assert (folder / "model" / "config.json").is_file()
    last = json.loads((whole.output / "05-lengthdrop" / "result.json").read_text("utf-8"))["figures"]
    assert last["f1"] == pytest.approx((last["full_f1"] + last["f1_at_0.8"]) / 2)
    with np.load(whole.output / "01-teacher" / "logits.npz") as stored:
        assert stored["index"].shape[1:] == (2, 16)
    figures = json.loads((whole.output / "01-teacher" / "result.json").read_text("utf-8"))["figures"]
    assert 0.2 < figures["mass_min"] <= figures["mass_mean"] <= 1


def test_transformers_reads_the_model(whole: Ran, student: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(whole.model)
    model, info = AutoModelForQuestionAnswering.from_pretrained(whole.model, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(model).__name__ == "BertForQuestionAnswering"
    assert model.config.architectures == ["BertForQuestionAnswering"]
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    with safe_open(whole.model / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert not any("projections" in name for name in names)
    with safe_open(Path(student) / "model.safetensors", "pt") as file:
        assert names == set(file.keys())
    with torch.inference_mode():
        encoded = tokenizer(QUESTION, TEXT, return_tensors="pt")
        logits = model(**encoded)
    answer = QuestionAnswerer(whole.model)(QUESTION, TEXT)
    start, end = encoded.char_to_token(0, answer.start, 1), encoded.char_to_token(0, answer.end - 1, 1)
    expected = float(logits.start_logits[0, start] + logits.end_logits[0, end])
    assert answer.logit == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("stage", ["02-intermediate", "03-relations", "05-lengthdrop"])
def test_projections_stay_out_of_the_models_of_stages(whole: Ran, stage: str) -> None:
    with safe_open(whole.output / stage / "model" / "model.safetensors", "pt") as file:
        assert not any("projections" in name for name in file.keys())  # noqa: SIM118


def test_the_runtime_answers_with_the_model_at_every_budget(whole: Ran) -> None:
    qa = QuestionAnswerer(whole.model)
    for budget in ("full", "balanced", "fast", 0.9, 0.5):
        answer = qa(QUESTION, TEXT, budget=budget)
        assert TEXT[answer.start : answer.end] == answer.text
        assert answer.confidence is not None
        assert 0 <= answer.confidence <= 1
    torch_qa = answerer(load_student(whole.model), Inputs(load_student(whole.model)), TextTokenizer(whole.model))
    for config in ("full", LengthConfig.uniform(2, 0.7)):
        agree(qa, quiet(torch_qa), config)


def test_the_table_is_measured(whole: Ran) -> None:
    table = json.loads((whole.model / "length_configs.json").read_text("utf-8"))
    assert [row["name"] for row in table["configs"]] == [
        "full", "uniform-0.95", "uniform-0.9", "uniform-0.8", "uniform-0.7",
    ]  # fmt: skip
    assert table["configs"][0]["f1"] == round(whole.figures["confirm"]["f1"], 2)
    assert {"margin", "log_score", "bias", "brier", "measured_on"} <= table["calibration"].keys()


def test_what_tells_right_from_wrong_is_fitted_on_select_and_measured_on_confirm(whole: Ran) -> None:
    table = json.loads((whole.model / "length_configs.json").read_text("utf-8"))
    for key in ("calibration", "no_answer"):
        assert re.match(
            r"fitted on \d questions of select .*; figures of \d questions of confirm", table[key]["measured_on"]
        )
    assert QuestionAnswerer(whole.model).table.no_answer_threshold == table["no_answer"]["threshold"]


def test_a_file_of_squad_2_is_learned_from_with_its_unanswerable_questions(
    tmp_path: Path, data: dict[str, Any], student: str, without_plots: None
) -> None:
    with gzip.open(data["train"], "rt", encoding="utf-8") as file:
        content = json.load(file)
    for article in content["data"]:
        for number, paragraph in enumerate(article["paragraphs"]):
            id_ = f"{article['title']}/{number}/none"
            plausible = [{"text": "€5", "answer_start": paragraph["context"].index("€5")}]
            none = {"id": id_, "question": "Who painted it?", "answers": [], "plausible_answers": plausible}
            paragraph["qas"] = [
                *({**qa, "is_impossible": False} for qa in paragraph["qas"]),
                {**none, "is_impossible": True},
            ]
    train_file = tmp_path / "train-v2.0.json"
    train_file.write_text(json.dumps({"version": "v2.0", "data": content["data"]}), "utf-8")
    stage = {"stage": "lengthdrop", "epochs": 12, "learning_rate": 3e-3, "layer_drop": 0}
    ran = go(tmp_path, {**data, "train": str(train_file)}, [stage], student={"checkpoint": student})
    qa = QuestionAnswerer(ran.model)
    questions = {kind: "Who painted it?" if kind else "Who built the bridge?" for kind in (True, False)}
    for paragraph in content["data"][2]["paragraphs"]:
        asked = {kind: qa(question, paragraph["context"]) for kind, question in questions.items()}
        none, some = ((asked[kind].no_answer_logit - asked[kind].logit) for kind in (True, False))
        assert none > 0  # it has learned which questions have no answer
        assert none > some
    assert {"NoAns_f1", "HasAns_f1"} <= ran.figures["confirm"].keys()
    table = json.loads((ran.model / "length_configs.json").read_text("utf-8"))
    assert table["measured_on"].startswith("SQuAD 2.0, 12 questions of confirm")
    assert "9 questions of select and 3 written without an answer" in table["no_answer"]["measured_on"]
    card = (ran.model / "README.md").read_text("utf-8")
    assert "rajpurkar/squad_v2" in card
    assert "windows of SQuAD 2.0's train questions" in card
    assert "written by people" in card


def test_predictions_are_those_of_the_figures(whole: Ran, tmp_path: Path) -> None:
    confirm = whole.recipe.data.confirm.read_text("utf-8").strip()
    held = tmp_path / "confirm.json"
    with gzip.open(whole.recipe.data.train, "rt", encoding="utf-8") as file:
        found = [article for article in json.load(file)["data"] if article["title"] == confirm]
    held.write_text(json.dumps({"version": "1.1", "data": found}), "utf-8")
    assert whole.figures == json.loads((whole.output / "figures.json").read_text("utf-8"))
    assert list(whole.figures) == ["confirm", "dev"]
    for name, path in (("confirm", held), ("dev", whole.recipe.data.dev)):
        assert path is not None
        scores = score(read_squad(path), read_predictions(whole.output / f"predictions-{name}.json.gz"))
        assert scores.to_dict() == whole.figures[name]


def test_what_a_run_wrote_is_its_recipe(whole: Ran) -> None:
    assert read_recipe(whole.output / "recipe.yaml") == whole.recipe


def test_a_run_of_before_a_setting_was_there_goes_on(whole: Ran, tmp_path: Path) -> None:
    shutil.copytree(whole.output, tmp_path / "run")
    file = tmp_path / "run" / "recipe.yaml"
    value = yaml.safe_load(file.read_text("utf-8"))
    del value["student"]["voters"], value["stages"][4]["rule"], value["stages"][4]["significance"]
    file.write_text(yaml.safe_dump(value), "utf-8")
    assert train(whole.recipe, tmp_path / "run", resume=True) == whole.figures
    value["stages"][4]["rule"] = "single"
    file.write_text(yaml.safe_dump(value), "utf-8")
    with pytest.raises(TrainingError, match=r"another recipe \('rule: single' there, 'rule: sandwich' here\)"):
        train(whole.recipe, tmp_path / "run", resume=True)
    file.write_text("name: tiny\nversion: 3\n", "utf-8")  # of a version whose recipes are no more
    with pytest.raises(TrainingError, match=r"another recipe \('version: 3' there, '.*' here\)"):
        train(whole.recipe, tmp_path / "run", resume=True)


def test_a_run_that_is_over_is_not_run_again(whole: Ran) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.output.rglob("*") if path.parent.name != "tokenizer"}
    assert train(whole.recipe, whole.output, resume=True) == whole.figures
    after = {path: path.stat().st_mtime_ns for path in whole.output.rglob("*") if path.parent.name != "tokenizer"}
    before.pop(whole.output / ".lock")
    after.pop(whole.output / ".lock")
    assert {k: v for k, v in before.items() if k.is_file()} == {k: v for k, v in after.items() if k.is_file()}


def test_the_card_says_what_the_run_knows(whole: Ran) -> None:
    _, head, text = (whole.model / "README.md").read_text("utf-8").split("---\n", 2)
    values = yaml.safe_load(head)
    assert values["license"] == "apache-2.0"
    assert values["datasets"] == ["rajpurkar/squad"]
    assert "base_model" not in values  # a folder is not a name on the Hub
    (index,) = values["model-index"]
    assert index["name"] == "tiny"
    for result, (name, figures) in zip(index["results"], whole.figures.items(), strict=True):
        assert result["task"]["type"] == "question-answering"
        assert result["dataset"]["type"] == "rajpurkar/squad"
        assert name in result["dataset"]["name"]
        metrics = {metric["type"]: metric["value"] for metric in result["metrics"]}
        assert metrics == {kind: round(figures[kind], 2) for kind in ("exact_match", "f1")}
        assert f"| {name} | 9 | {figures['exact_match']:.2f} | {figures['f1']:.2f} |" in text
    for words in ("Limits, bias", "Out of scope", "prejudices", "CC BY-SA 4.0", "für «Łódź»", "no answer"):
        assert words in text
    recipe = text.split("```yaml\n")[1].split("```")[0]
    printed = Recipe.model_validate(yaml.safe_load(recipe))
    assert str(whole.model.parents[1]) not in recipe  # a card names no folder of a machine
    assert printed.data.train == Path(whole.recipe.data.train.name)
    for mine, theirs in zip(printed.stages, whole.recipe.stages, strict=True):
        assert mine.model_dump(exclude={"model", "teacher"}) == theirs.model_dump(exclude={"model", "teacher"})


def test_a_teacher_alone_is_a_model_too(alone: Ran) -> None:
    model = AutoModelForQuestionAnswering.from_pretrained(alone.model)
    assert model.config.model_type in ("bert", "mpnet")
    encoded = AutoTokenizer.from_pretrained(alone.model)(QUESTION, TEXT)
    assert encoded["input_ids"][0] == (101 if model.config.model_type == "bert" else 0)
    assert not (alone.model / "length_configs.json").exists()
    _, head, text = (alone.model / "README.md").read_text("utf-8").split("---\n", 2)
    assert model.config.model_type in yaml.safe_load(head)["tags"]
    words = text.partition("```yaml")[0] + text.rpartition("```")[2]
    assert "length_configs.json" not in words  # there is none
    assert "was calibrated" not in words
    if model.config.model_type == "bert":
        agree(quiet(QuestionAnswerer(alone.model)), torch_answerer(alone), "full")


def torch_answerer(ran: Ran) -> QuestionAnswerer:
    model = load_model(ran.model)
    student = Vocabulary(ran.output / "tokenizer")
    return quiet(
        answerer(model, Inputs(model, Vocabulary(ran.model).map_from(student)), TextTokenizer(ran.output / "tokenizer"))
    )


@pytest.mark.usefixtures("without_plots")
def test_a_student_of_the_teachers_layers_learns_from_stored_logits(
    alone: Ran, data: dict[str, Any], tmp_path: Path
) -> None:
    ran = go(
        tmp_path,
        data,
        [
            {"stage": "prediction", "logits": str(alone.output / "01-teacher" / "logits.npz")},
            {"stage": "lengthdrop", "learn_from": "teacher", "samples": 1},
        ],
        student={"teacher_layers": "every_second"},
        teacher=str(alone.model),
    )
    model = AutoModelForQuestionAnswering.from_pretrained(ran.model)
    assert (model.config.model_type, model.config.num_hidden_layers) == ("bert", 2)
    qa = QuestionAnswerer(ran.model)
    assert qa(QUESTION, TEXT).text in TEXT
    assert qa(QUESTION, TEXT).confidence is None


@pytest.mark.usefixtures("without_plots")
def test_a_student_without_a_teacher_learns_from_labels(data: dict[str, Any], student: str, tmp_path: Path) -> None:
    stages = [{"stage": "prediction", "checkpoint_steps": 1, "batch_size": 16}, {"stage": "lengthdrop"}]
    ran = go(tmp_path, data, stages, student={"checkpoint": student})
    assert ran.figures["confirm"]["total"] == 9
    assert "base_model" not in (ran.model / "README.md").read_text("utf-8")


@pytest.mark.usefixtures("without_plots")
def test_the_question_votes_and_nothing_is_dropped_out(data: dict[str, Any], student: str, tmp_path: Path) -> None:
    stages = [
        {"stage": "lengthdrop", "rule": "single", "significance": 0.5, "whole": 0.5, "layer_drop": 0, "epochs": 3},
        {"stage": "lengthdrop", "significance": 0.5, "samples": 1, "name": "sandwich"},
    ]
    ran = go(tmp_path, data, stages, student={"checkpoint": student, "voters": "question", "dropout": 0})
    for model in ("model", "01-lengthdrop/model"):
        config = json.loads((ran.output / model / "config.json").read_text("utf-8"))
        assert config["dynamic_tinybert"] == {"voters": "question"}
        assert config["hidden_dropout_prob"] == config["attention_probs_dropout_prob"] == 0
    torch_model = load_student(ran.model)
    torch_qa = answerer(torch_model, Inputs(torch_model), TextTokenizer(ran.output / "tokenizer"))
    agree(QuestionAnswerer(ran.model), torch_qa, LengthConfig.uniform(2, 0.6))
    embedded = save_folder(open_folder(ran.model), tmp_path / "int8", dtype="int8")
    assert open_folder(embedded).shape.significance == "question"


@pytest.mark.usefixtures("without_plots")
def test_significance_heads_learn_and_the_next_run_may_keep_them(
    data: dict[str, Any], student: str, tmp_path: Path
) -> None:
    stages = [
        {"stage": "lengthdrop", "rule": "single", "full": 0.2, "significance": 0.5, "layer_drop": 0, "epochs": 3},
        {"stage": "lengthdrop", "significance": 0.5, "samples": 1, "name": "sandwich"},
    ]
    new = {"checkpoint": student, "voters": "question", "significance_head": True, "dropout": 0}
    ran = go(tmp_path / "new", data, stages, student=new)
    config = json.loads((ran.model / "config.json").read_text("utf-8"))
    assert config["dynamic_tinybert"] == {"voters": "question", "significance_head": True}
    torch_model = load_student(ran.model)
    assert all(layer.significance_head.abs().max() > 1e-5 for layer in torch_model.encoder_layers())
    torch_qa = answerer(torch_model, Inputs(torch_model), TextTokenizer(ran.output / "tokenizer"))
    agree(QuestionAnswerer(ran.model), torch_qa, LengthConfig.uniform(2, 0.6))
    # A run from there keeps them, unless its recipe says otherwise.
    kept = go(tmp_path / "kept", data, stages[:1], student={"checkpoint": str(ran.model)})
    assert open_folder(kept.model).shape.significance_head
    gone = go(tmp_path / "gone", data, stages[:1], student={"checkpoint": str(ran.model), "significance_head": False})
    assert not open_folder(gone.model).shape.significance_head
    with safe_open(gone.model / "model.safetensors", "np") as tensors:
        assert not [name for name in tensors.keys() if "significance" in name]  # noqa: SIM118


@pytest.mark.usefixtures("without_plots")
@pytest.mark.parametrize("able", [True, False])
def test_a_cpu_that_multiplies_in_bfloat16_trains_in_it(
    able: bool, data: dict[str, Any], student: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    original = BertIntermediate.forward

    def forward(self: BertIntermediate, states: torch.Tensor) -> Any:
        seen.append((torch.is_grad_enabled(), states.dtype == torch.bfloat16, torch.is_autocast_enabled("cpu")))
        return original(self, states)

    monkeypatch.setattr(BertIntermediate, "forward", forward)
    for module in ("arithmetic", "preflight"):
        monkeypatch.setattr(f"dynamic_tinybert.train.{module}.cpu_has_bf16", lambda: able)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    stages = [{"stage": "prediction", "precision": "auto", "name": name} for name in ("first", "second")]
    ran = go(tmp_path, data, stages, student={"checkpoint": student})
    assert {low for learning, low, _ in seen if learning} == {able}
    assert seen[-1] == (False, False, False)  # the finished model is measured as it will answer
    assert {value.dtype for value in load_student(ran.model).parameters()} == {torch.float32}


@pytest.mark.usefixtures("without_plots")
def test_the_same_recipe_gives_the_same_model(data: dict[str, Any], student: str, tmp_path: Path) -> None:
    weights = []
    for name in ("a", "b"):
        random.seed(name)
        torch.manual_seed(len(weights))
        ran = go(tmp_path / name, data, [{"stage": "prediction"}], student={"checkpoint": student})
        weights.append((ran.model / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


@pytest.mark.usefixtures("without_plots")
def test_stored_logits_that_lack_features_are_refused_before_anything_is_learned(
    alone: Ran, data: dict[str, Any], student: str, tmp_path: Path
) -> None:
    stages = [{"stage": "prediction"}, {"stage": "lengthdrop", "logits": str(alone.output / "01-teacher/logits.npz")}]
    with pytest.raises(TrainingError, match=r"lacks the logits of .* windows, the first is of the question"):
        go(tmp_path, {**data, "impossible": 0.5}, stages, student={"checkpoint": student})
    assert not list((tmp_path / "run").glob("0*"))


# Students in the form of MPNet.


@pytest.fixture(scope="module")
def mpnet_form(tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any], mpnet: str) -> Ran:
    """Every second layer of an MPNet that is taught here, as MPNet, through every kind of stage."""
    return go(
        tmp_path_factory.mktemp("form"),
        data,
        [
            {"stage": "teacher", "model": mpnet, "epochs": 5},
            {"stage": "intermediate"},
            {"stage": "prediction"},
            {"stage": "lengthdrop", "rule": "single", "significance": 0.5, "layer_drop": 0, "untyped": 0.5},
            {"stage": "lengthdrop", "samples": 1, "name": "sandwich"},
        ],
        student={"teacher_layers": "every_second", "form": "mpnet", "voters": "question", "dropout": 0},
    )


def mpnet_answerer(ran: Ran) -> QuestionAnswerer:
    """PyTorch, fed as in training: windows of BERT's tokenizer, under MPNet's ids."""
    model, tokenizer = load_student(ran.model), ran.output / "tokenizer"
    ids = Vocabulary(ran.model).map_from(Vocabulary(tokenizer))
    assert ids is not None
    return quiet(answerer(model, Inputs(model, ids), TextTokenizer(tokenizer)))


def test_a_student_in_the_form_of_mpnet_is_an_mpnet_that_the_runtime_answers_with(mpnet_form: Ran) -> None:
    model = AutoModelForQuestionAnswering.from_pretrained(mpnet_form.model)
    assert type(model).__name__ == "MPNetForQuestionAnswering"
    assert (model.config.num_hidden_layers, model.config.hidden_dropout_prob) == (2, 0)
    assert model.config.architectures == ["MPNetForQuestionAnswering"]
    qa = quiet(QuestionAnswerer(mpnet_form.model))
    assert qa.shape.significance == "question"
    for config in ("full", LengthConfig.uniform(2, 0.7), LengthConfig((0.5, 0.2))):
        agree(qa, mpnet_answerer(mpnet_form), config)


@pytest.mark.parametrize("folder", ["model", "03-prediction/model"])
def test_windows_of_its_folder_are_those_it_learned_from(mpnet_form: Ran, folder: str) -> None:
    made = TextTokenizer(mpnet_form.output / "tokenizer"), TextTokenizer(mpnet_form.output / folder)
    theirs = Vocabulary(mpnet_form.output / folder)
    ids = theirs.map_from(Vocabulary(mpnet_form.output / "tokenizer"))
    assert ids is not None
    question, text = (
        "Who — “Zoë” [SEP] 東京 </s>?",
        "Ærøskøbing’s naïve </s> café [SEP] <pad> was 1,234.5 km off. " * 30,
    )
    cut = {"max_seq_len": 64, "doc_stride": 16}
    features, answered = ([*cut_windows(t, t.question(question), t.text(text), **cut)] for t in made)
    assert len(features) == len(answered) > 5
    for one, other in zip(features, answered, strict=True):
        np.testing.assert_array_equal(ids.numpy()[one.ids], other.ids)
        np.testing.assert_array_equal(one.type_ids, other.type_ids)
    assert AutoTokenizer.from_pretrained(mpnet_form.output / folder)(QUESTION)["input_ids"][0] == 0


def test_a_run_of_such_a_student_goes_on(mpnet_form: Ran, tmp_path: Path) -> None:
    shutil.copytree(mpnet_form.output, tmp_path / "run")
    for name in ("04-lengthdrop", "05-sandwich", "model"):
        shutil.rmtree(tmp_path / "run" / name)
    assert train(mpnet_form.recipe, tmp_path / "run", resume=True) == mpnet_form.figures
    for name in ("model/model.safetensors", "model/tokenizer.json", "04-lengthdrop/model/config.json"):
        assert (tmp_path / "run" / name).read_bytes() == (mpnet_form.output / name).read_bytes()


@pytest.mark.usefixtures("without_plots")
def test_an_mpnet_itself_learns_to_drop_from_stored_logits(
    mpnet_form: Ran, data: dict[str, Any], tmp_path: Path
) -> None:
    teacher = mpnet_form.output / "01-teacher"
    stored = save_folder(open_folder(teacher / "model"), tmp_path / "int8", dtype="int8")
    stages = [
        {"stage": "lengthdrop", "logits": str(teacher / "logits.npz"), "rule": "single", "layer_drop": 0},
        {"stage": "prediction", "logits": str(teacher / "logits.npz"), "labels": 0.1},
    ]
    ran = go(tmp_path, data, stages, student={"checkpoint": str(stored)})
    folder = open_folder(ran.model)
    assert (folder.kind, folder.shape.layers, folder.is_int8) == ("mpnet", 4, False)
    before = open_folder(stored).weights
    assert not np.array_equal(folder.weights["distances"], before["distances"])
    for config in ("full", LengthConfig.uniform(4, 0.7)):
        agree(quiet(QuestionAnswerer(ran.model)), mpnet_answerer(ran), config)


@pytest.mark.parametrize(
    ("student", "says"),
    [
        ({"teacher_layers": "every_second", "form": "mpnet"}, "not from a bert model: set student.form: bert"),
        ({"checkpoint": "mpnet", "form": "bert"}, "student.form: bert is not what student.checkpoint is, mpnet"),
        ({"checkpoint": "distilbert"}, "student.checkpoint: a student must be a BERT, an MPNet or .* distilbert"),
        ({"teacher_layers": [4], "form": "bert"}, r"the teacher has layers 0 to 3, not \[4\]"),
    ],
)
def test_a_form_that_does_not_fit_is_refused_before_anything_is_learned(
    student: dict[str, Any], says: str, data: dict[str, Any], bert: str, mpnet: str, tmp_path: Path
) -> None:
    if student.get("checkpoint") == "distilbert":
        folder = tmp_path / "distilbert"
        folder.mkdir()
        (folder / "config.json").write_text('{"model_type": "distilbert"}', "utf-8")
        student = {**student, "checkpoint": str(folder)}
    if student.get("checkpoint") == "mpnet":
        student = {**student, "checkpoint": mpnet}
    with pytest.raises(TrainingError, match=says) as error:
        go(tmp_path, data, [{"stage": "prediction"}], student=student, teacher=bert)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
