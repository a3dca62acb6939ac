"""The stages: each a trainer whose loss is the method."""

from __future__ import annotations

import itertools
import random
from typing import Any

import torch
from torch import Tensor, nn

from dynamic_tinybert.model import LengthConfig
from dynamic_tinybert.train.attention_hooks import AttentionHooks, check_attention_known
from dynamic_tinybert.train.errors import TrainingError
from dynamic_tinybert.train.features import Batch
from dynamic_tinybert.train.logits import StoredLogits
from dynamic_tinybert.train.losses import (
    divergence,
    hidden_loss,
    relation_loss,
    score_loss,
    significance_loss,
    soft_cross_entropy,
    span_loss,
)
from dynamic_tinybert.train.models import Teacher
from dynamic_tinybert.train.settings import IntermediateStage, LengthDropStage, PredictionStage, TeacherStage
from dynamic_tinybert.train.trainer import StageContext, StageTrainer

_LEAST = 0.02  # of its tokens a random sub-model keeps


class TeacherTrainer(StageTrainer):
    """Fine-tunes an encoder on the labels."""

    stage: TeacherStage

    def stage_loss(self, model: Any, batch: Batch) -> Tensor:
        """The negative log-probability of the correct spans."""
        return label_loss(model(**self.context.inputs(batch)), batch)


class IntermediateTrainer(StageTrainer):
    """Distils hidden states and attention, or the relations of the last layer.

    Student layer i of n learns from layer (i + 1) N / n - 1 of the teacher's N, and the embeddings from the embeddings.

    Args:
        model: The student. Where its width is not the teacher's it is given projections, which are taken away again by
            `close`.
        stage: Its settings.
        context: What it is given.
        teacher: The teacher.

    Raises:
        TrainingError: The teacher's layers, heads or width do not fit the student's and what is to be matched.
    """

    stage: IntermediateStage
    by_f1 = False  # the span head has no part in it

    def __init__(self, model: Any, stage: IntermediateStage, context: StageContext, teacher: Teacher) -> None:
        check_intermediate(stage, model.config, teacher.model.config)
        layers, width = model.config.num_hidden_layers, model.config.hidden_size
        self._teacher = teacher
        self._hidden = stage.match == "attention" if stage.hidden_states is None else stage.hidden_states
        step = teacher.layers // layers
        every = stage.match == "attention"
        self._map = [step * (i + 1) - 1 for i in range(layers)] if every else [teacher.layers - 1]
        self._mine = list(range(layers)) if every else [layers - 1]
        self._hooks = AttentionHooks(model, self._mine), AttentionHooks(teacher.model, self._map)
        self._heads = stage.relation_heads or self._hooks[1].heads
        if self._hidden and width != teacher.hidden:
            torch.manual_seed(context.seed)
            model.projections = nn.ModuleList(nn.Linear(width, teacher.hidden) for _ in range(layers + 1))
        super().__init__(model, stage, context)

    def stage_loss(self, model: Any, batch: Batch) -> Tensor:
        """The sum of what is matched, each averaged over layers."""
        student = model(**self.context.inputs(batch), output_hidden_states=self._hidden)
        teacher = self._teacher(batch, output_hidden_states=self._hidden)
        mine, theirs = self._hooks
        mask = batch["attention_mask"]
        if self.stage.match == "relations":
            pairs = zip(mine.projections(self._mine[0]), theirs.projections(self._map[0]), strict=True)
            loss = torch.stack([relation_loss(a, b, mask, self._heads) for a, b in pairs]).sum()
        else:
            scores = zip(self._mine, self._map, strict=True)
            loss = torch.stack([score_loss(mine.scores(a), theirs.scores(b), mask) for a, b in scores]).mean()
        if self._hidden:
            step = self._teacher.layers // self.model.config.num_hidden_layers
            goals = teacher.hidden_states[::step]
            project = getattr(self.model, "projections", None)
            states = student.hidden_states
            if project is not None:
                states = [p(x) for p, x in zip(project, states, strict=True)]
            loss = loss + torch.stack([hidden_loss(a, b, mask) for a, b in zip(states, goals, strict=True)]).mean()
        # The span head has no part in this; where processes wait for each other's gradients, it needs one.
        return loss + 0.0 * (student.start_logits.float().mean() + student.end_logits.float().mean())

    def close(self) -> None:
        """Leave the student as it was, but for what it learned."""
        for hooks in self._hooks:
            hooks.close()
        if hasattr(self.model, "projections"):
            del self.model.projections


class PredictionTrainer(StageTrainer):
    """Distils start and end logits; without a teacher, learns from the labels.

    Args:
        model: The student.
        stage: Its settings.
        context: What it is given.
        teacher: The teacher, or its stored logits, or None.
    """

    stage: PredictionStage | LengthDropStage

    def __init__(
        self,
        model: Any,
        stage: PredictionStage | LengthDropStage,
        context: StageContext,
        teacher: Teacher | StoredLogits | None,
    ) -> None:
        self._teacher = teacher
        super().__init__(model, stage, context)

    def stage_loss(self, model: Any, batch: Batch) -> Tensor:
        """The soft cross-entropy against the teacher, and the share of the labels."""
        return self.prediction_loss(model(**self.context.inputs(batch)), batch, self.goal(batch))

    def goal(self, batch: Batch) -> Any:
        """What a live teacher says of a batch, or None where nobody asks."""
        teacher = self._teacher
        return teacher(batch) if isinstance(teacher, Teacher) and self.stage.labels < 1 else None

    def prediction_loss(self, output: Any, batch: Batch, goal: Any) -> Tensor:
        """The loss of a student's logits."""
        share = self.stage.labels
        if self._teacher is None or share == 1:
            return label_loss(output, batch)
        if isinstance(self._teacher, StoredLogits):
            soft = self._teacher.loss(output, batch, self.stage.temperature)
        else:
            soft = soft_loss(output, goal, batch, self.stage.temperature)
        return soft if not share else (1 - share) * soft + share * label_loss(output, batch)


class LengthDropTrainer(PredictionTrainer):
    """Trains the full model, the smallest and random sub-models at once, by the sandwich rule (Kim and Cho, 2020).

    Or one of them a step, by the rule `single`.
    """

    stage: LengthDropStage

    def stage_loss(self, model: Any, batch: Batch) -> Tensor:
        """The mean of the full model's loss and of those of its sub-models; or that of one of them."""
        inputs = self.context.inputs(batch)
        goal = self.goal(batch)
        if self.stage.rule == "single":
            options = self._single()
            if not options and self._draw("untyped").random() < self.stage.untyped:
                inputs.pop("token_type_ids", None)
            output = model(**inputs, **options)
            loss = self.prediction_loss(output, batch, goal)
            return loss + self._significance(output, batch) if options else loss
        full = model(**inputs)
        losses = [self.prediction_loss(full, batch, goal)]
        for lengths, layers in self._sub_models():
            output = model(**inputs, **self._dropping(lengths, layers))
            if self.stage.learn_from == "teacher":
                losses.append(self.prediction_loss(output, batch, goal))
            else:
                mask = batch["attention_mask"]
                start = divergence(output.start_logits, full.start_logits, mask)
                losses.append((start + divergence(output.end_logits, full.end_logits, mask)) / 2)
            losses[-1] = losses[-1] + self._significance(output, batch)
        return torch.stack(losses).mean()

    def _sub_models(self) -> list[tuple[LengthConfig, list[int]]]:
        """The smallest sub-model and random ones; the same for all processes, and again after a resumption."""
        layers, draw = self.model.config.num_hidden_layers, self._draw()
        smallest = LengthConfig.uniform(layers, 1 - self.stage.length_drop), list(range(layers))
        return [smallest, *(self.sample(layers, draw) for _ in range(self.stage.samples))]

    def _single(self) -> dict[str, Any]:
        """The one model of a step: nothing for the full one, or what a call drops."""
        draw = self._draw()
        if draw.random() < self.stage.full:
            return {}
        drop = draw.uniform(0, self.stage.length_drop)
        return self._dropping(*self.sample(self.model.config.num_hidden_layers, draw, drop))

    def _dropping(self, lengths: LengthConfig, layers: list[int]) -> dict[str, Any]:
        """How a sub-model is called."""
        return {"length_config": lengths, "layer_config": layers, "output_votes": self.stage.significance > 0}

    def _significance(self, output: Any, batch: Batch) -> Tensor | float:
        """What a sub-model learns about which tokens matter."""
        weight = self.stage.significance
        return weight * significance_loss(output.votes, batch["spans"]) if weight else 0.0

    def _draw(self, what: str = "") -> random.Random:
        """What is drawn at a step: the same for all processes, and again after a resumption."""
        return random.Random(f"{self.context.seed} {self.state.global_step}{what}")

    def sample(self, layers: int, draw: random.Random, drop: float | None = None) -> tuple[LengthConfig, list[int]]:
        """Draw a sub-model: LengthDrop and layer drop. A layer that is skipped drops nothing.

        Args:
            layers: How many the model has.
            draw: Draws it.
            drop: The most that is dropped of what is left, at each layer; by default the stage's `length_drop`.
        """
        drop = self.stage.length_drop if drop is None else drop
        running = [layer for layer in range(layers) if draw.random() >= self.stage.layer_drop]
        running = running or [draw.randrange(layers)]
        whole = self.stage.whole  # where it is 0 nothing is drawn, as before it was there: such a run may be resumed
        dropping = {layer for layer in running if not whole or draw.random() >= whole}
        ratios = [draw.uniform(1 - drop, 1) if layer in dropping else 1.0 for layer in range(layers)]
        fractions = itertools.accumulate(ratios, lambda a, b: a * b)
        return LengthConfig(tuple(max(fraction, _LEAST) for fraction in fractions)), running


def check_intermediate(stage: IntermediateStage, student: Any, teacher: Any) -> None:
    """Check that a teacher fits a student, by their configurations.

    Raises:
        TrainingError: Layers, heads or widths do not fit what is to be matched, or the teacher is of a kind whose
            attention is not known.
    """
    check_attention_known(teacher.model_type)
    layers, of = student.num_hidden_layers, teacher.num_hidden_layers
    if of % layers:
        raise TrainingError(f"a student of {layers} layers cannot be mapped evenly onto the teacher's {of}")
    mine, theirs = student.num_attention_heads, teacher.num_attention_heads
    if stage.match == "attention" and mine != theirs:
        raise TrainingError(
            f"attention scores are compared head by head, and the student has {mine} where the teacher has {theirs}: "
            "set match: relations"
        )
    heads = stage.relation_heads or theirs
    if stage.match == "relations" and (student.hidden_size % heads or teacher.hidden_size % heads):
        raise TrainingError(
            f"relation_heads {heads} divides not both widths, {student.hidden_size} and {teacher.hidden_size}"
        )


def label_loss(output: Any, batch: Batch) -> Tensor:
    """`span_loss` of a model's output."""
    return span_loss(output.start_logits, output.end_logits, batch["attention_mask"], batch["spans"])


def soft_loss(output: Any, goal: Any, batch: Batch, temperature: float) -> Tensor:
    """`soft_cross_entropy` of start and end, their mean."""
    mask = batch["attention_mask"]
    start = soft_cross_entropy(output.start_logits, goal.start_logits, mask, temperature)
    return (start + soft_cross_entropy(output.end_logits, goal.end_logits, mask, temperature)) / 2
