"""The settings of a recipe: its data, its student and its stages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dynamic_tinybert.model import Significance
from dynamic_tinybert.train.data import check_article_lengths
from dynamic_tinybert.train.features import FeatureSettings
from dynamic_tinybert.train.schedule import Schedule

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """A part of a recipe; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class Data(Strict):
    """The data to train on, to choose checkpoints by, and to report on.

    Attributes:
        train: A SQuAD file; questions of 2.0 without an answer are trained on too.
        select: A file of titles, one per line: the articles of `train` by which checkpoints are chosen.
        confirm: A file of titles, one per line: the articles of `train` on which the chosen checkpoint is measured
            again. The articles of `select` and `confirm` are not trained on.
        dev: A SQuAD file to report on at the end; nothing is chosen by it.
        limit: Train on a random sample of this many questions; for rehearsals.
        report_limit: Measure the finished model on this many questions of each set; for rehearsals.
        answers: See `FeatureSettings`, also for `impossible` to `max_question_len`.
    """

    train: Path
    select: Path
    confirm: Path
    dev: Path | None = None
    limit: Count | None = None
    report_limit: Count | None = None
    answers: Literal["first", "all"] = "all"
    impossible: Share = 0.0
    articles: Share = 0.0
    article_lengths: tuple[Count, Count] = (128, 384)
    distractors: Share = 0.0
    typed: Share = 0.0
    layout: Share = 0.0
    max_seq_len: Annotated[int, Field(ge=16)] = 384
    doc_stride: Annotated[int, Field(ge=0)] = 128
    max_question_len: Count = 64

    @model_validator(mode="after")
    def _articles_fit(self) -> Data:
        if self.articles:
            check_article_lengths(
                self.article_lengths, max_seq_len=self.max_seq_len, max_question_len=self.max_question_len
            )
        return self

    @property
    def without_answer(self) -> bool:
        """Whether features have questions with texts that do not answer them."""
        return self.impossible > 0 or self.distractors > 0

    def features(self, seed: int) -> FeatureSettings:
        """Return the settings to make features with."""
        return FeatureSettings(
            answers=self.answers,
            impossible=self.impossible,
            articles=self.articles,
            article_lengths=self.article_lengths,
            distractors=self.distractors,
            typed=self.typed,
            layout=self.layout,
            max_seq_len=self.max_seq_len,
            doc_stride=self.doc_stride,
            max_question_len=self.max_question_len,
            seed=seed,
        )


class Student(Strict):
    """What the student starts from: either `checkpoint` or `teacher_layers`.

    Attributes:
        checkpoint: A BERT, an MPNet or a ModernBERT: a folder, a name on the Hub, or `embedded`.
        teacher_layers: Layers of the teacher, from 0, or `every_second`; its embeddings and head are taken too.
        form: The architecture of a student made from teacher layers: `bert`; or `mpnet`, which keeps the distance bias
            of an MPNet teacher; or `modernbert`. It is `modernbert` by default for a ModernBERT teacher, otherwise
            `bert`. With `checkpoint`, leave it out.
        voters: The rule of significance, see `ModelShape.significance`; by default that of the checkpoint or teacher.
        significance_head: Whether each layer has a significance head, see `ModelShape.significance_head`; by default as
            the checkpoint. A new head changes nothing until the loss `significance` of `lengthdrop` teaches it.
        dropout: The dropout of states and of attention. By default it is 0 if the first stage learns from stored
            logits, otherwise that of the checkpoint or teacher.
    """

    checkpoint: str | None = None
    teacher_layers: Literal["every_second"] | tuple[Annotated[int, Field(ge=0)], ...] | None = None
    form: Literal["bert", "mpnet", "modernbert"] | None = None
    voters: Significance | None = None
    significance_head: bool | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Student:
        if (self.checkpoint is None) == (self.teacher_layers is None):
            raise ValueError("give either checkpoint or teacher_layers")
        return self


class Stage(Strict):
    """The settings that all training stages share.

    Attributes:
        name: The name of the stage and of its folder; by default the kind of stage.
        epochs: How often each feature is seen. Give either `epochs` or `minutes`; the learning rate falls to 0 over it.
        minutes: How long the stage takes, with evaluations and checkpoints except the last.
        batch_size: The number of features in a batch, on each device.
        batch_tokens: The most tokens in a batch, instead of `batch_size`. All batches then take about the same time,
            and hold features of nearly equal length, so there is almost no padding.
        accumulate: The number of batches in a step.
        learning_rate: The greatest learning rate, reached after the warm-up.
        warmup: The share of the stage in which the learning rate rises.
        schedule: The learning rate after the warm-up: it falls to 0 (`linear`), or stays constant and falls to 0 in the
            last third (`plateau`). A plateau can be prolonged until it falls: `--resume` with a greater `epochs`.
        average: Average the weights while the learning rate of a plateau falls, and keep the mean unless the best
            checkpoint is better on `select` by more than one standard error.
        weight_decay: The weight decay of AdamW, for matrices.
        max_grad_norm: Gradients are scaled down to this norm.
        precision: `auto` is bfloat16 on GPUs that support it and on CPUs that multiply in it, otherwise float32.
        checkpoint_minutes: The interval, in minutes, at which the stage is evaluated and saved.
        checkpoint_steps: The interval in steps, instead of minutes.
        select_questions: The number of questions of `select` in an evaluation.
        retentions: Uniform retentions at which an evaluation asks them; the best checkpoint has the greatest mean F1.
    """

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")] | None = None
    epochs: Positive | None = None
    minutes: Positive | None = None
    batch_size: Count = 16
    batch_tokens: Count | None = None
    accumulate: Count = 1
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 3e-5
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.06
    schedule: Schedule = "linear"
    average: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    max_grad_norm: Positive = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    checkpoint_minutes: Positive = 10.0
    checkpoint_steps: Count | None = None
    select_questions: Count = 1000
    retentions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (1.0,)

    @model_validator(mode="after")
    def _measure(self) -> Stage:
        if (self.epochs is None) == (self.minutes is None):
            raise ValueError("give either epochs or minutes")
        if self.average and isinstance(self, IntermediateStage):
            raise ValueError("average needs F1 on select, which the stage intermediate does not have")
        if self.average and self.schedule != "plateau":
            raise ValueError("average needs schedule: plateau: it averages the weights of its last third")
        if self.retentions[:1] != (1.0,):
            raise ValueError("retentions must begin with 1.0, the full model")
        return self


class TeacherStage(Stage):
    """Fine-tune an encoder to be the teacher of the stages after it.

    Attributes:
        model: An encoder: a folder, or a name on the Hub.
        keep_logits: How many of the greatest start and end logits of every feature to store; later runs can distil from
            them. 0 stores none.
    """

    stage: Literal["teacher"]
    model: str
    keep_logits: Annotated[int, Field(ge=0, le=512)] = 16


class LogitsStage(Strict):
    """Store the teachers' logits of every training feature in a file; the stages after it learn from the file.

    The file is `logits.npz` in the folder of the stage: see `logits.LogitsTable`. A recipe with only such stages trains
    no model; its `student.checkpoint`, if there is one, only gives the tokenizer for the features.

    Attributes:
        name: The name of the stage and of its folder; by default the kind of stage.
        teachers: Fine-tuned models, folders or names on the Hub; by default that of the `teacher` stage before, or the
            recipe's. For several teachers, the mean of their log-probabilities is stored.
        keep: How many of the greatest start and end logits of every feature to store.
        start: A file of stored logits. The windows in it are not computed again.
        precision: As in the other stages, but weights are in bfloat16 too.
        batch_tokens: The most tokens in a batch, with padding.
    """

    stage: Literal["logits"]
    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")] | None = None
    teachers: tuple[str, ...] = ()
    keep: Annotated[int, Field(ge=1, le=512)] = 24
    start: Path | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    batch_tokens: Count = 8192


class StudentStage(Stage):
    """The settings that all stages of a student share.

    Attributes:
        teacher: A fine-tuned model, a folder or a name on the Hub; by default that of the `teacher` stage before,
            or the recipe's.
    """

    teacher: str | None = None


class IntermediateStage(StudentStage):
    """Distil the intermediate states of a teacher.

    Attributes:
        match: `attention`: attention scores before the softmax, layer by layer (Jiao et al., 2020). `relations`: the
            self-attention relations of queries, keys and values of the last layer (Wang et al., 2021).
        hidden_states: Whether to match hidden states too; by default only with `attention`.
        relation_heads: The number of relation heads of queries, keys and values; by default the teacher's heads.
    """

    stage: Literal["intermediate"]
    match: Literal["attention", "relations"] = "attention"
    hidden_states: bool | None = None
    select_questions: Count = 100  # they choose nothing in this stage
    relation_heads: Count | None = None


class PredictionStage(StudentStage):
    """Distil a teacher's start and end logits; without a teacher, train on the labels.

    Attributes:
        temperature: The temperature that softens both distributions.
        labels: The weight of the labels in the loss, in [0, 1]; the rest is the weight of the teacher.
        logits: A file of stored logits, instead of a teacher.
    """

    stage: Literal["prediction"]
    temperature: Positive = 1.0
    labels: Share = 0.0
    logits: Path | None = None


class LengthDropStage(StudentStage):
    """Train a student with LengthDrop and layer drop (Kim and Cho, 2020), so that it can answer at lower cost.

    With the rule `sandwich`, each step trains the full model as `prediction` does, and the smallest and some random
    sub-models, which learn from the full model or the teacher. It costs about three times as much as a step without
    LengthDrop. With the rule `single`, each step trains one model as `prediction` does, the full model or a random
    sub-model. It costs less than a step without LengthDrop; use it if compute is scarce.

    Attributes:
        temperature: As in `prediction`, for the full model; so are `labels` and `logits`.
        rule: `sandwich` or `single`. `samples` and `learn_from` are only for `sandwich`, `full` and `untyped` only for
            `single`.
        full: With the rule `single`, the share of the steps that train the full model.
        untyped: The share of these steps without `token_type_ids`. Many callers leave them out, as many model cards do.
            A model that has learned to give no answer then gives none for every text, unless it has seen such inputs.
            An MPNet has none.
        length_drop: A random sub-model keeps a share of the tokens at each layer, drawn between 1 - `length_drop` and
            1; the smallest keeps 1 - `length_drop` at each. With the rule `single`, each step first draws its own
            value between 0 and `length_drop`. At least 0.02 of the tokens stay.
        whole: The probability with which a random sub-model drops nothing in a layer. Above 0, there are steeper
            configurations, in which few layers drop many tokens.
        significance: The weight of a loss by which sub-models learn to attend to the answer's tokens, so that these are
            not dropped; see `losses.significance_loss`.
        layer_drop: The probability with which a random sub-model skips a layer.
        samples: The number of random sub-models in a step; with 0, only the full and the smallest model are trained.
        learn_from: What sub-models learn from: the `full` model in the same step, or the `teacher`.
    """

    stage: Literal["lengthdrop"]
    temperature: Positive = 1.0
    labels: Share = 0.0
    logits: Path | None = None
    rule: Literal["sandwich", "single"] = "sandwich"
    full: Share = 0.25
    untyped: Share = 0.0
    length_drop: Annotated[float, Field(gt=0, lt=1)] = 0.2
    whole: Annotated[float, Field(ge=0, lt=1)] = 0.0
    significance: Annotated[float, Field(ge=0)] = 0.0
    layer_drop: Annotated[float, Field(ge=0, lt=1)] = 0.2
    samples: Annotated[int, Field(ge=0, le=16)] = 2
    learn_from: Literal["full", "teacher"] = "full"
    retentions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (1.0, 0.8)


AnyStage = Annotated[
    TeacherStage | LogitsStage | IntermediateStage | PredictionStage | LengthDropStage, Field(discriminator="stage")
]
