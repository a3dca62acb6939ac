"""The stages: what each learns, and its loss against the same by hand."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForQuestionAnswering

from dynamic_tinybert import LengthConfig
from dynamic_tinybert.inference import TextTokenizer
from dynamic_tinybert.squad import SquadFile, read_squad
from dynamic_tinybert.train.evaluation import answerer, measure
from dynamic_tinybert.train.features import Batch, Feature, collate, make_features
from dynamic_tinybert.train.logits import StoredLogits
from dynamic_tinybert.train.models import Inputs, Teacher, load_model, load_student
from dynamic_tinybert.train.predict import logits_of
from dynamic_tinybert.train.settings import (
    Data,
    IntermediateStage,
    LengthDropStage,
    PredictionStage,
    Stage,
    TeacherStage,
)
from dynamic_tinybert.train.stages import (
    IntermediateTrainer,
    LengthDropTrainer,
    PredictionTrainer,
    TeacherTrainer,
)
from dynamic_tinybert.train.trainer import StageContext, StageTrainer
from dynamic_tinybert.train.vocabulary import Vocabulary
from support.training import write_model

Context = Callable[..., StageContext]


@pytest.fixture(scope="module")
def questions(data: dict[str, Any]) -> SquadFile:
    whole = read_squad(data["train"])
    return replace(whole, questions=whole.questions[:36])


@pytest.fixture(scope="module")
def tokenizer(embedded: Path) -> TextTokenizer:
    return TextTokenizer(embedded)


@pytest.fixture(scope="module")
def features(data: dict[str, Any], questions: SquadFile, tokenizer: TextTokenizer) -> list[Feature]:
    return make_features(tokenizer, questions.questions, Data(**data).features(0))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, embedded: Path) -> Callable[..., str]:
    """Models of random weights that drop nothing out."""
    folder = tmp_path_factory.mktemp("stages")

    def make(kind: str = "bert", **options: Any) -> str:
        path = folder / "-".join([kind, *(f"{key}{value}" for key, value in options.items())])
        return str(path) if path.exists() else write_model(path, embedded, kind, dropout=0.0, **options)

    return make


@pytest.fixture
def context(tmp_path: Path, features: list[Feature], questions: SquadFile, tokenizer: TextTokenizer) -> Context:
    def make(model: Any, inputs: Inputs | None = None, retentions: tuple[float, ...] = (1.0,)) -> StageContext:
        inputs = inputs or Inputs(model)
        return StageContext(
            folder=tmp_path,
            features=features,
            pad=tokenizer.pad,
            inputs=inputs,
            select=lambda: measure(answerer(model, inputs, tokenizer), questions, retentions),
            asked=len(questions.questions),
            seed=0,
        )

    return make


@pytest.fixture
def batch(features: list[Feature], tokenizer: TextTokenizer) -> Batch:
    """Features of unlike length, so that there is padding."""
    order = sorted(range(len(features)), key=lambda i: len(features[i]))
    batch = collate([(i, features[i]) for i in (order[0], order[10], order[-1])], tokenizer.pad)
    assert 0 in batch["attention_mask"]
    return batch


def loss_of(trainer: StageTrainer, batch: Batch) -> float:
    trainer.model.eval()
    return float(trainer.stage_loss(trainer.model, batch).detach())


def rows(batch: Batch) -> list[dict[str, Tensor]]:
    """The rows of a batch, each alone and without its padding."""
    found = []
    for number, mask in enumerate(batch["attention_mask"]):
        real = int(mask.sum())
        found.append({name: batch[name][number : number + 1, :real] for name in ("input_ids", "token_type_ids")})
        found[-1]["attention_mask"] = torch.ones(1, real, dtype=torch.long)
        spans = batch["spans"][number]
        found[-1]["spans"] = spans[spans[:, 0] >= 0]
    return found


def called(model: Any, row: dict[str, Tensor], **options: Any) -> Any:
    with torch.no_grad():
        return model(row["input_ids"], row["attention_mask"], row["token_type_ids"], **options)


def sides(output: Any) -> list[Tensor]:
    return [output.start_logits[0], output.end_logits[0]]


def label_loss(output: Any, spans: Tensor) -> float:
    start, end = (side.log_softmax(0) for side in sides(output))
    total = sum(math.exp(start[a] + end[b]) for a, b in spans.tolist())
    return -math.log(total) / 2


def soft_loss(output: Any, goal: Any, temperature: float) -> float:
    parts = []
    for mine, theirs in zip(sides(output), sides(goal), strict=True):
        wanted = (theirs / temperature).softmax(0)
        parts.append(float(-(wanted * (mine / temperature).log_softmax(0)).sum()) * temperature**2)
    return sum(parts) / 2


def divergence(output: Any, goal: Any) -> float:
    parts = []
    for mine, theirs in zip(sides(output), sides(goal), strict=True):
        wanted = theirs.softmax(0)
        parts.append(float((wanted * (wanted.log() - mine.log_softmax(0))).sum()))
    return sum(parts) / 2


def stored_loss(output: Any, goal: Any, k: int) -> float:
    parts = []
    for mine, theirs in zip(sides(output), sides(goal), strict=True):
        best, at = theirs.topk(k)
        parts.append(float(-(best.softmax(0) * mine.log_softmax(0)[at]).sum()))
    return sum(parts) / 2


def significance_loss(outputs: list[Any], spans: list[Tensor]) -> float:
    """Of outputs row by row, with votes; a row whose answer was dropped has no part in it."""
    parts = []
    for output, correct in zip(outputs, spans, strict=True):
        for layer in output.votes[:, 0]:
            for side in (0, 1):
                answered = layer[correct[:, side].unique()].sum() / layer[1:].sum()
                parts += [-math.log(float(answered))] if answered > 0 else []
    return mean(parts)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


# Losses, by hand


def test_the_loss_of_a_teacher(context: Context, models: Callable[..., str], batch: Batch) -> None:
    model = load_model(models())
    trainer = TeacherTrainer(model, TeacherStage(stage="teacher", model="", epochs=1), context(model))
    expected = mean([label_loss(called(model, row), row["spans"]) for row in rows(batch)])
    assert loss_of(trainer, batch) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("temperature", "labels"), [(1.0, 0.0), (2.0, 0.25), (1.0, 1.0)])
def test_the_loss_of_prediction(
    context: Context, models: Callable[..., str], batch: Batch, temperature: float, labels: float
) -> None:
    model, teacher = load_student(models()), load_model(models(layers=4, seed=1))
    stage = PredictionStage(stage="prediction", epochs=1, temperature=temperature, labels=labels)
    trainer = PredictionTrainer(model, stage, context(model), Teacher(models(layers=4, seed=1), Vocabulary(models())))
    expected = [
        (1 - labels) * soft_loss(called(model, row), called(teacher, row), temperature)
        + labels * label_loss(called(model, row), row["spans"])
        for row in rows(batch)
    ]
    assert loss_of(trainer, batch) == pytest.approx(mean(expected), rel=1e-4)


def test_the_loss_from_stored_logits(
    context: Context, models: Callable[..., str], batch: Batch, features: list[Feature], tmp_path: Path
) -> None:
    model, teacher = load_student(models()), load_model(models(seed=1))
    kept = logits_of(teacher, Inputs(teacher), features, 0, 4, bf16=False)
    kept.write(tmp_path / "logits.npz", features)
    stage = PredictionStage(stage="prediction", epochs=1)
    trainer = PredictionTrainer(model, stage, context(model), StoredLogits.read(tmp_path / "logits.npz", features))
    expected = [stored_loss(called(model, row), called(teacher, row), 4) for row in rows(batch)]
    assert loss_of(trainer, batch) == pytest.approx(mean(expected), rel=1e-2)  # they are stored in 16 bits


@pytest.mark.parametrize(("learn_from", "significance"), [("full", 0.0), ("teacher", 0.0), ("full", 0.5)])
def test_the_loss_of_lengthdrop(
    context: Context, models: Callable[..., str], batch: Batch, learn_from: str, significance: float
) -> None:
    model, teacher = load_student(models()), load_model(models(layers=4, seed=1))
    stage = LengthDropStage(
        stage="lengthdrop", epochs=1, samples=2, learn_from=learn_from, length_drop=0.4, significance=significance
    )
    trainer = LengthDropTrainer(model, stage, context(model), Teacher(models(layers=4, seed=1), Vocabulary(models())))
    subs = trainer._sub_models()
    assert subs[0] == (LengthConfig.uniform(2, 0.6), [0, 1])
    assert subs == trainer._sub_models()
    expected = []
    for row in rows(batch):
        full, goal = called(model, row), called(teacher, row)
        losses = [soft_loss(full, goal, 1)]
        for lengths, layers in subs:
            output = called(model, row, length_config=lengths, layer_config=layers)
            losses.append(soft_loss(output, goal, 1) if learn_from == "teacher" else divergence(output, full))
        expected.append(mean(losses))
    wanted = mean(expected)
    for lengths, layers in subs if significance else []:
        options = {"length_config": lengths, "layer_config": layers, "output_votes": True}
        outputs = [called(model, row, **options) for row in rows(batch)]
        wanted += significance * significance_loss(outputs, [row["spans"] for row in rows(batch)]) / (1 + len(subs))
    assert loss_of(trainer, batch) == pytest.approx(wanted, rel=1e-3)


def test_the_loss_of_single_models(context: Context, models: Callable[..., str], batch: Batch) -> None:
    model = load_student(models())
    stage = LengthDropStage(
        stage="lengthdrop", epochs=1, rule="single", full=0.4, length_drop=0.8, whole=0.5, significance=0.5, untyped=0.5
    )
    trainer = LengthDropTrainer(model, stage, context(model), None)
    drawn, shares, untyped, never = [], [], [], []
    for step in range(200):
        trainer.state.global_step = step
        options = trainer._single()
        assert options == trainer._single()
        drawn.append(options)
        if trainer._draw("untyped").random() < 0.5:
            (never if options else untyped).append(step)  # a sub-model is always told whose tokens are whose
        if options:
            previous = (1.0, *options["length_config"].fractions)
            shares += [b / a for a, b in itertools.pairwise(previous)]
    assert 60 < drawn.count({}) < 100
    assert 0.4 < sum(share == 1 for share in shares) / len(shares) < 0.75
    assert min(shares) < 0.3
    assert 0.3 < len(untyped) / drawn.count({}) < 0.7
    trainer.state.global_step = untyped[0]
    plain = [called(model, {**row, "token_type_ids": torch.zeros_like(row["input_ids"])}) for row in rows(batch)]
    wanted = mean([label_loss(output, row["spans"]) for output, row in zip(plain, rows(batch), strict=True)])
    assert loss_of(trainer, batch) == pytest.approx(wanted, rel=1e-4)
    typed = next(step for step in range(200) if not drawn[step] and step not in untyped)
    for step in (typed, never[0], next(i for i, options in enumerate(drawn) if options and i not in never)):
        trainer.state.global_step = step
        outputs, spans = [called(model, row, **drawn[step]) for row in rows(batch)], [r["spans"] for r in rows(batch)]
        wanted = mean([label_loss(output, correct) for output, correct in zip(outputs, spans, strict=True)])
        if drawn[step]:
            wanted += 0.5 * significance_loss(outputs, spans)
        assert loss_of(trainer, batch) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("stored", [False, True])
def test_single_models_learn_from_the_teacher(
    context: Context, models: Callable[..., str], batch: Batch, features: list[Feature], stored: bool
) -> None:
    model, teacher = load_student(models()), load_model(models(layers=4, seed=1))
    goal: Any = Teacher(models(layers=4, seed=1), Vocabulary(models()))
    if stored:
        goal = logits_of(teacher, Inputs(teacher), features, 0, 4, bf16=False)
    stage = LengthDropStage(stage="lengthdrop", epochs=1, rule="single", full=0.5, length_drop=0.8)
    trainer = LengthDropTrainer(model, stage, context(model), goal)
    seen = set()
    for step in range(8):
        trainer.state.global_step = step
        options = trainer._single()
        seen.add(bool(options))
        pairs = [(called(model, row, **options), called(teacher, row)) for row in rows(batch)]
        expected = mean([stored_loss(a, b, 4) if stored else soft_loss(a, b, 1) for a, b in pairs])
        assert loss_of(trainer, batch) == pytest.approx(expected, rel=1e-4)
    assert seen == {True, False}


def test_the_sandwichs_sub_models_learn_from_stored_logits(
    context: Context, models: Callable[..., str], batch: Batch, features: list[Feature], tmp_path: Path
) -> None:
    model, teacher = load_student(models()), load_model(models(layers=4, seed=1))
    logits_of(teacher, Inputs(teacher), features, 0, 4, bf16=False).write(tmp_path / "logits.npz", features)
    goal = StoredLogits.read(tmp_path / "logits.npz", features)
    stage = LengthDropStage(stage="lengthdrop", epochs=1, samples=2, learn_from="teacher", length_drop=0.6)
    trainer = LengthDropTrainer(model, stage, context(model), goal)
    expected = []
    for row in rows(batch):
        said = called(teacher, row)
        outputs = [called(model, row)]
        outputs += [called(model, row, length_config=a, layer_config=b) for a, b in trainer._sub_models()]
        expected.append(mean([stored_loss(output, said, 4) for output in outputs]))
    assert loss_of(trainer, batch) == pytest.approx(mean(expected), rel=2e-3)
    goal.value[batch["index"], 0, 0] -= 3  # what the file says is what they learn
    assert loss_of(trainer, batch) != pytest.approx(mean(expected), rel=2e-3)


def test_single_models_drop_more_or_less_from_step_to_step(context: Context, models: Callable[..., str]) -> None:
    model = load_student(models())
    stage = LengthDropStage(stage="lengthdrop", epochs=1, rule="single", full=0, length_drop=0.8, layer_drop=0)
    trainer = LengthDropTrainer(model, stage, context(model), None)
    dropped = []
    for step in range(300):
        trainer.state.global_step = step
        fractions = trainer._single()["length_config"].fractions
        dropped.append([1 - b / a for a, b in itertools.pairwise((1.0, *fractions))])
    assert max(map(max, dropped)) > 0.7
    assert 0.17 < mean([mean(step) for step in dropped]) < 0.23  # a quarter of 0.8; half, if all drew up to 0.8
    assert sum(max(step) < 0.1 for step in dropped) > 0.08 * len(dropped)  # many a step drops hardly anything


@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_the_loss_of_attention_and_hidden_states(
    context: Context, models: Callable[..., str], batch: Batch, kind: str
) -> None:
    model = load_student(models(hidden=24))
    teacher = Teacher(models(kind, layers=4, seed=1), Vocabulary(models(hidden=24)))
    stage = IntermediateStage(stage="intermediate", epochs=1)
    trainer = IntermediateTrainer(model, stage, context(model), teacher)
    layer = "{}.encoder.layer.{}.attention." + ("self.{}" if kind == "bert" else "attn.{}")
    names = ("query", "key") if kind == "bert" else ("q", "k")
    scores, states = [0.0, 0.0], [0.0, 0.0, 0.0]
    pairs = tokens = 0
    ids = Vocabulary(models(kind, layers=4, seed=1)).map_from(Vocabulary(models(hidden=24)))
    for row in rows(batch):
        mine = called(model, row, output_hidden_states=True).hidden_states
        read = row["input_ids"] if ids is None else ids[row["input_ids"]]
        with torch.no_grad():
            fed = {"input_ids": read, "attention_mask": row["attention_mask"]}
            if kind == "bert":
                fed["token_type_ids"] = row["token_type_ids"]
            theirs = teacher.model(**fed, output_hidden_states=True).hidden_states
            bias = teacher.model.mpnet.encoder.compute_position_bias(theirs[0]) if kind == "mpnet" else 0.0
        length = read.shape[1]
        tokens, pairs = tokens + length, pairs + length**2
        for number, of in enumerate((0, 2, 4)):
            with torch.no_grad():
                projected = model.projections[number](mine[number])
            states[number] += float((projected - theirs[of]).square().mean(-1).sum())

        def attention(owner: Any, kind: str, number: int, state: Tensor, names: tuple[str, str], path: str) -> Tensor:
            with torch.no_grad():
                q, k = (owner.get_submodule(path.format(kind, number, name))(state) for name in names)
            q, k = (x.unflatten(-1, (2, -1)).transpose(1, 2) for x in (q, k))
            return (q @ k.transpose(-1, -2)) / math.sqrt(q.shape[-1])

        for number, of in enumerate((1, 3)):
            a = attention(
                model, "bert", number, mine[number], ("query", "key"), "{}.encoder.layer.{}.attention.self.{}"
            )
            b = attention(teacher.model, kind, of, theirs[of], names, layer) + bias
            scores[number] += float((a - b).square().mean(1).sum())
    expected = mean([x / pairs for x in scores]) + mean([x / tokens for x in states])
    assert loss_of(trainer, batch) == pytest.approx(expected, rel=1e-3)
    trainer.close()
    assert not hasattr(model, "projections")


def test_the_loss_of_relations(context: Context, models: Callable[..., str], batch: Batch) -> None:
    model = load_student(models(hidden=24))
    teacher = Teacher(models(layers=4, seed=1), Vocabulary(models(hidden=24)))
    stage = IntermediateStage(stage="intermediate", epochs=1, match="relations", relation_heads=4)
    trainer = IntermediateTrainer(model, stage, context(model), teacher)

    def relations(owner: Any, state: Tensor, number: int) -> list[Tensor]:
        found = []
        for name in ("query", "key", "value"):
            with torch.no_grad():
                x = owner.get_submodule(f"bert.encoder.layer.{number}.attention.self.{name}")(state)[0]
            heads = x.unflatten(-1, (4, -1)).transpose(0, 1)
            found.append((heads @ heads.transpose(-1, -2) / math.sqrt(heads.shape[-1])).softmax(-1))
        return found

    total, tokens = 0.0, 0
    for row in rows(batch):
        mine = relations(model, called(model, row, output_hidden_states=True).hidden_states[1], 1)
        theirs = relations(teacher.model, called(teacher.model, row, output_hidden_states=True).hidden_states[3], 3)
        tokens += row["input_ids"].shape[1]
        for a, b in zip(mine, theirs, strict=True):
            total += float((b * (b.log() - a.log())).sum(-1).mean(0).sum())
    assert loss_of(trainer, batch) == pytest.approx(total / tokens, rel=1e-3)
    trainer.close()


# Learning


def settings(kind: type[Stage], **options: Any) -> Any:
    quick = {
        "epochs": 10,
        "precision": "fp32",
        "batch_size": 12,
        "learning_rate": 0.003,
        "checkpoint_steps": 1000,
        "weight_decay": 0.0,
    }
    return kind(**{**quick, **options})


def losses(trainer: StageTrainer) -> list[float]:
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


@pytest.fixture(scope="module")
def learned(
    tmp_path_factory: pytest.TempPathFactory,
    models: Callable[..., str],
    features: list[Feature],
    questions: SquadFile,
    tokenizer: TextTokenizer,
) -> tuple[str, list[float], dict[str, float]]:
    """A teacher that knows its data by heart: its folder, its losses, its figures."""
    model = load_model(models(layers=2, seed=5))
    stage = settings(TeacherStage, stage="teacher", model="", epochs=60, learning_rate=0.005)
    folder = tmp_path_factory.mktemp("learned")
    inputs = Inputs(model)
    made = StageContext(
        folder=folder, features=features, pad=0, inputs=inputs, seed=0, asked=len(questions.questions),
        select=lambda: measure(answerer(model, inputs, tokenizer), questions),
    )  # fmt: skip
    trainer = TeacherTrainer(model, stage, made)
    trainer.learn(None)
    model.save_pretrained(folder / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "model" / name).write_bytes((Path(models()) / name).read_bytes())
    return str(folder / "model"), losses(trainer), made.select()


@pytest.mark.slow
def test_a_teacher_learns_its_data_by_heart(learned: tuple[str, list[float], dict[str, float]]) -> None:
    _, curve, figures = learned
    assert curve[-1] < 0.1 * curve[0]
    assert figures["f1"] > 95


@pytest.mark.slow
def test_prediction_comes_near_the_teacher(
    learned: tuple[str, list[float], dict[str, float]], context: Context, models: Callable[..., str], batch: Batch
) -> None:
    model = load_student(models(seed=7))
    teacher = Teacher(learned[0], Vocabulary(models()))
    trainer = PredictionTrainer(
        model, settings(PredictionStage, stage="prediction", epochs=60, learning_rate=0.005), context(model), teacher
    )

    def distance() -> float:
        model.eval()
        return mean([divergence(called(model, row), called(teacher.model, row)) for row in rows(batch)])

    before = distance()
    trainer.learn(None)
    assert distance() < before / 4
    assert context(model).select()["f1"] > 50


@pytest.mark.slow
def test_intermediate_lowers_its_loss(context: Context, models: Callable[..., str], batch: Batch) -> None:
    for match in ("attention", "relations"):
        model = load_student(models(hidden=24))
        teacher = Teacher(models(layers=4, seed=1), Vocabulary(models(hidden=24)))
        stage = settings(IntermediateStage, stage="intermediate", match=match)
        trainer = IntermediateTrainer(model, stage, context(model), teacher)
        before = loss_of(trainer, batch)
        trainer.learn(None)
        assert loss_of(trainer, batch) < 0.6 * before, match
        trainer.close()


@pytest.mark.slow
def test_lengthdrop_brings_sub_models_near_the_full_one(
    learned: tuple[str, list[float], dict[str, float]], context: Context, models: Callable[..., str], batch: Batch
) -> None:
    model = load_student(learned[0])
    stage = settings(LengthDropStage, stage="lengthdrop", epochs=30, length_drop=0.5, samples=1)
    trainer = LengthDropTrainer(model, stage, context(model), None)
    config = LengthConfig.uniform(2, 0.6)

    def distance() -> float:
        model.eval()
        return mean([divergence(called(model, row, length_config=config), called(model, row)) for row in rows(batch)])

    before = distance()
    trainer.learn(None)
    assert before > 0.01
    assert distance() < before / 2
    assert context(model).select()["f1"] > 80


def test_a_stage_saves_what_transformers_reads(context: Context, models: Callable[..., str], tmp_path: Path) -> None:
    model = load_student(models(hidden=24))
    teacher = Teacher(models(layers=4, seed=1), Vocabulary(models(hidden=24)))
    stage = settings(IntermediateStage, stage="intermediate", epochs=1, checkpoint_steps=2)
    trainer = IntermediateTrainer(model, stage, context(model), teacher)
    trainer.learn(None)
    trainer.close()
    model.save_pretrained(tmp_path / "model")
    _, info = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys"))


def test_without_whole_layers_the_same_is_drawn_as_before_there_were_any() -> None:
    """An old run that is resumed goes on with the sub-models that it would have had."""
    trainer = LengthDropTrainer.__new__(LengthDropTrainer)
    trainer.stage = LengthDropStage(stage="lengthdrop", epochs=1, length_drop=0.2, layer_drop=0.5)
    for seed in range(20):
        draw = random.Random(seed)
        running = [layer for layer in range(6) if draw.random() >= 0.5] or [draw.randrange(6)]
        ratios = [draw.uniform(0.8, 1) if layer in running else 1.0 for layer in range(6)]
        wanted = LengthConfig(tuple(itertools.accumulate(ratios, lambda a, b: a * b)))
        assert trainer.sample(6, random.Random(seed)) == (wanted, running)


def test_a_skipped_layer_drops_nothing() -> None:
    stage = LengthDropStage(stage="lengthdrop", epochs=1, length_drop=0.2, layer_drop=0.5)
    trainer = LengthDropTrainer.__new__(LengthDropTrainer)
    trainer.stage = stage
    for seed in range(200):
        config, running = trainer.sample(6, random.Random(seed))
        ratios = [b / a for a, b in itertools.pairwise((1.0, *config.fractions))]
        assert running
        assert all(ratios[i] == 1 for i in range(6) if i not in running)
        assert all(0.8 - 1e-9 <= ratios[i] <= 1 for i in running)
