"""The training stages: one trainer for each, with its loss."""

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

_LEAST = 0.02  # least share of tokens that a random sub-model keeps


class TeacherTrainer(StageTrainer):
    """Fine-tune an encoder on the labels."""

    stage: TeacherStage

    def stage_loss(self, model: Any, batch: Batch) -> Tensor:
        """Return the negative log-probability of the correct spans, see `span_loss`."""
        return label_loss(model(**self.context.inputs(batch)), batch)


class IntermediateTrainer(StageTrainer):
    """Distil hidden states and attention, or the relations of the last layer.

    Student layer i of n learns from teacher layer (i + 1) N / n - 1 of N, and embeddings learn from embeddings.

    Args:
        model: The student. If its hidden size is not the teacher's, it gets projections, which `close` removes.
        stage: The settings of the stage.
        context: The context of the stage.
        teacher: The teacher.

    Raises:
        TrainingError: The teacher's layers, heads or hidden size do not fit the student's for this `match`.
    """

    stage: IntermediateStage
    by_f1 = False  # the stage does not train the span head

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
        """Return the sum of the losses of what is matched, each averaged over layers."""
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
        # The span head is not trained, but in a distributed run every weight needs a gradient.
        return loss + 0.0 * (student.start_logits.float().mean() + student.end_logits.float().mean())

    def close(self) -> None:
        """Remove the hooks and the projections."""
        for hooks in self._hooks:
            hooks.close()
        if hasattr(self.model, "projections"):
            del self.model.projections


class PredictionTrainer(StageTrainer):
    """Distil start and end logits; without a teacher, train on the labels.

    Args:
        model: The student.
        stage: The settings of the stage.
        context: The context of the stage.
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
        """Return the weighted sum of the soft cross-entropy against the teacher and the loss of the labels."""
        return self.prediction_loss(model(**self.context.inputs(batch)), batch, self.goal(batch))

    def goal(self, batch: Batch) -> Any:
        """Return the teacher's prediction of a batch; None if logits are stored or only labels count."""
        teacher = self._teacher
        return teacher(batch) if isinstance(teacher, Teacher) and self.stage.labels < 1 else None

    def prediction_loss(self, output: Any, batch: Batch, goal: Any) -> Tensor:
        """Return the loss of a student's logits."""
        share = self.stage.labels
        if self._teacher is None or share == 1:
            return label_loss(output, batch)
        if isinstance(self._teacher, StoredLogits):
            soft = self._teacher.loss(output, batch, self.stage.temperature)
        else:
            soft = soft_loss(output, goal, batch, self.stage.temperature)
        return soft if not share else (1 - share) * soft + share * label_loss(output, batch)


class LengthDropTrainer(PredictionTrainer):
    """Train the full model, the smallest and random sub-models at each step: the sandwich rule (Kim and Cho, 2020).

    With the rule `single`, train one model at each step: the full one or a random sub-model.
    """

    stage: LengthDropStage

    def stage_loss(self, model: Any, batch: Batch) -> Tensor:
        """Return the mean loss of the full model and its sub-models; with the rule `single`, the loss of one model."""
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
        """Return the smallest sub-model and random ones, the same in all processes and after a resumption."""
        layers, draw = self.model.config.num_hidden_layers, self._draw()
        smallest = LengthConfig.uniform(layers, 1 - self.stage.length_drop), list(range(layers))
        return [smallest, *(self.sample(layers, draw) for _ in range(self.stage.samples))]

    def _single(self) -> dict[str, Any]:
        """Draw the one model of a step; return the options of its call, empty for the full model."""
        draw = self._draw()
        if draw.random() < self.stage.full:
            return {}
        drop = draw.uniform(0, self.stage.length_drop)
        return self._dropping(*self.sample(self.model.config.num_hidden_layers, draw, drop))

    def _dropping(self, lengths: LengthConfig, layers: list[int]) -> dict[str, Any]:
        """Return the options of the call of a sub-model."""
        return {"length_config": lengths, "layer_config": layers, "output_votes": self.stage.significance > 0}

    def _significance(self, output: Any, batch: Batch) -> Tensor | float:
        """Return the weighted significance loss of a sub-model; 0 if its weight is 0."""
        weight = self.stage.significance
        return weight * significance_loss(output.votes, batch["spans"]) if weight else 0.0

    def _draw(self, what: str = "") -> random.Random:
        """Return the generator of a step, the same in all processes and after a resumption."""
        return random.Random(f"{self.context.seed} {self.state.global_step}{what}")

    def sample(self, layers: int, draw: random.Random, drop: float | None = None) -> tuple[LengthConfig, list[int]]:
        """Draw a sub-model by LengthDrop and layer drop. A skipped layer drops nothing.

        Args:
            layers: The number of layers of the model.
            draw: Draws the sub-model.
            drop: The greatest share of the tokens left that a layer drops; by default the stage's `length_drop`.
        """
        drop = self.stage.length_drop if drop is None else drop
        running = [layer for layer in range(layers) if draw.random() >= self.stage.layer_drop]
        running = running or [draw.randrange(layers)]
        whole = self.stage.whole  # at 0 nothing is drawn, so runs from before this setting can be resumed
        dropping = {layer for layer in running if not whole or draw.random() >= whole}
        ratios = [draw.uniform(1 - drop, 1) if layer in dropping else 1.0 for layer in range(layers)]
        fractions = itertools.accumulate(ratios, lambda a, b: a * b)
        return LengthConfig(tuple(max(fraction, _LEAST) for fraction in fractions)), running


def check_intermediate(stage: IntermediateStage, student: Any, teacher: Any) -> None:
    """Check by their configurations that a teacher fits a student.

    Raises:
        TrainingError: Layers, heads or hidden sizes do not fit the stage's `match`; or `AttentionHooks` does not
            support the teacher's type.
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
            f"relation_heads {heads} does not divide both widths, {student.hidden_size} and {teacher.hidden_size}"
        )


def label_loss(output: Any, batch: Batch) -> Tensor:
    """Return `span_loss` of a model's output."""
    return span_loss(output.start_logits, output.end_logits, batch["attention_mask"], batch["spans"])


def soft_loss(output: Any, goal: Any, batch: Batch, temperature: float) -> Tensor:
    """Return the mean of `soft_cross_entropy` of start and end."""
    mask = batch["attention_mask"]
    start = soft_cross_entropy(output.start_logits, goal.start_logits, mask, temperature)
    return (start + soft_cross_entropy(output.end_logits, goal.end_logits, mask, temperature)) / 2
