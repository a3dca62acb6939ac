"""What a recipe may say of its data, its student and its stages."""

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
    """A part of a recipe: a key that it does not know is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class Data(Strict):
    """What is learned from, and what is chosen by.

    Attributes:
        train: A SQuAD file; the questions of 2.0 that have no answer are learned from as such.
        select: A file of titles, one a line: the articles of `train` by which checkpoints are chosen.
        confirm: Likewise, those on which the chosen one is measured again. Neither is trained on.
        dev: A SQuAD file to report on at the end; nothing is chosen by it.
        limit: Train on so many questions only, the first of a shuffled order; for rehearsals.
        report_limit: Measure the finished model on so many questions of each set only; for rehearsals.
        answers: See `FeatureSettings`; so are `impossible` to `layout`, and the lengths.
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
        """Whether questions are asked of texts that do not answer them."""
        return self.impossible > 0 or self.distractors > 0

    def features(self, seed: int) -> FeatureSettings:
        """How features are made."""
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
    """What the student starts from: one of the two.

    Attributes:
        checkpoint: A BERT or an MPNet: a folder, a name on the Hub, or `embedded`.
        teacher_layers: Layers of the teacher, from 0, or `every_second`; its embeddings and its head go along.
        form: What a student of the teacher's layers is: `bert`, the default, or `mpnet`, which keeps the bias of
            distances of an MPNet teacher. A checkpoint is what it is.
        voters: The rule of significance, see `ModelShape.significance`; by default that of the checkpoint.
        dropout: Of states and of attention; by default 0 if the first stage learns from stored logits, and otherwise as
            in what it starts from.
    """

    checkpoint: str | None = None
    teacher_layers: Literal["every_second"] | tuple[Annotated[int, Field(ge=0)], ...] | None = None
    form: Literal["bert", "mpnet"] | None = None
    voters: Significance | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Student:
        if (self.checkpoint is None) == (self.teacher_layers is None):
            raise ValueError("give either checkpoint or teacher_layers")
        return self


class Stage(Strict):
    """What all stages have.

    Attributes:
        name: What its folder is called; by default the kind of stage.
        epochs: How often each feature is seen; or
        minutes: how long it takes, evaluations and checkpoints included but for the last. The learning rate falls
            to 0 over either.
        batch_size: Features of a batch, on each device.
        batch_tokens: Tokens of a batch at most, instead of `batch_size`: batches take equally long, however
            different the lengths are, and hold features of nearly equal length, so almost nothing is padded.
        accumulate: Batches of a step.
        learning_rate: The greatest, after the warm-up.
        warmup: The share of the stage in which the learning rate rises.
        schedule: What the learning rate does then: it falls to 0 (`linear`), or stays and falls to 0 in the last third
            (`plateau`). A plateau's stage can be prolonged until it falls: `--resume` with a greater `epochs`.
        average: Average the weights over the fall of a plateau, step by step, and keep the mean if it is better on
            `select` than every checkpoint.
        weight_decay: Of matrices, by AdamW.
        max_grad_norm: Gradients are scaled down to this norm.
        precision: `auto` is bfloat16 on a GPU that has it and on a CPU that multiplies in it, and float32 elsewhere.
        checkpoint_minutes: How often the stage is evaluated and saved.
        checkpoint_steps: The same in steps, instead of minutes.
        select_questions: How many questions of `select` an evaluation asks.
        retentions: Uniform retentions at which it asks them; the best checkpoint has the greatest mean F1 of all.
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
            raise ValueError("average goes by F1 on select, and the stage intermediate answers nothing yet")
        if self.average and self.schedule != "plateau":
            raise ValueError("average goes with schedule: plateau, whose end is what is averaged")
        if self.retentions[:1] != (1.0,):
            raise ValueError("retentions begins with 1.0, the full model")
        return self


class TeacherStage(Stage):
    """Fine-tunes an encoder to be the teacher of the stages after it.

    Attributes:
        model: An encoder: a folder, or a name on the Hub.
        keep_logits: Keep this many greatest start and end logits of every feature; later runs can distil from them.
    """

    stage: Literal["teacher"]
    model: str
    keep_logits: Annotated[int, Field(ge=0, le=512)] = 16


class LogitsStage(Strict):
    """Stores what teachers say of every training feature; the stages after it learn from that file.

    It is `logits.npz` in the folder of the stage: see `logits.LogitsTable`. A recipe of such stages alone trains no
    model; its `student.checkpoint`, if it has one, says whose tokenizer makes the features.

    Attributes:
        name: What its folder is called; by default the kind of stage.
        teachers: Fine-tuned models, folders or names on the Hub; by default that of the `teacher` stage before, or the
            recipe's. Of several, the mean of their log-probabilities is stored.
        keep: How many greatest start and end logits of every feature are kept.
        start: A file of stored logits. The windows that it holds are not computed again.
        precision: As in the other stages; weights are in bfloat16 too.
        batch_tokens: The most tokens of a batch, padding included.
    """

    stage: Literal["logits"]
    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")] | None = None
    teachers: tuple[str, ...] = ()
    keep: Annotated[int, Field(ge=1, le=512)] = 24
    start: Path | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    batch_tokens: Count = 8192


class StudentStage(Stage):
    """What the stages of a student have.

    Attributes:
        teacher: A fine-tuned model, a folder or a name on the Hub; by default that of the `teacher` stage before,
            or the recipe's.
    """

    teacher: str | None = None


class IntermediateStage(StudentStage):
    """Distils what is inside a teacher.

    Attributes:
        match: `attention`: hidden states, and attention scores before the softmax, layer by layer (Jiao et al., 2020);
            `relations`: those of queries, keys and values of the last layer (Wang et al., 2021).
        hidden_states: Whether hidden states are matched too; by default with `attention`.
        relation_heads: Into how many heads queries, keys and values are cut; by default as many as the teacher has.
    """

    stage: Literal["intermediate"]
    match: Literal["attention", "relations"] = "attention"
    hidden_states: bool | None = None
    select_questions: Count = 100  # nothing is chosen by them
    relation_heads: Count | None = None


class PredictionStage(StudentStage):
    """Distils a teacher's start and end logits; without a teacher, learns from the labels.

    Attributes:
        temperature: What softens both distributions.
        labels: The share of the true labels in the loss.
        logits: A file of stored logits, instead of a teacher.
    """

    stage: Literal["prediction"]
    temperature: Positive = 1.0
    labels: Share = 0.0
    logits: Path | None = None


class LengthDropStage(StudentStage):
    """Teaches a student to do without tokens and layers (Kim and Cho, 2020).

    By the `sandwich` rule each step trains the full model as `prediction` does, the smallest sub-model, and random
    ones, which learn from the full model or from the teacher. By the rule `single` each step trains one model as
    `prediction` does, the full one or a random sub-model: for where arithmetic is short, since a step costs less than
    one without LengthDrop, where the sandwich's costs some three times as much.

    Attributes:
        temperature: As in `prediction`, for the full model; so are `labels` and `logits`.
        rule: `sandwich` or `single`. `samples` and `learn_from` are the sandwich's alone, `full` and `untyped`
            the other's.
        full: By the rule `single`, the share of the steps that train the full model.
        untyped: Of these, the share that is not told which tokens are the question's: a model that has learned to say
            that a text holds no answer says so of every text whose caller leaves `token_type_ids` out, as many model
            cards' lines do, unless it has met such inputs.
        length_drop: A random sub-model keeps between 1 less this and 1 of what is left, layer by layer; the smallest
            keeps 1 less this at each. By the rule `single`, the greatest: each step draws its own, from 0 on. At least
            0.02 of the tokens stay.
        whole: The probability with which a random sub-model drops nothing in a layer; above 0 it meets steeper
            configurations, few layers of which drop much.
        significance: The weight of a loss by which sub-models learn to attend to the answer's tokens, so that these are
            not dropped; see `losses.significance_loss`.
        layer_drop: The probability with which a random sub-model skips a layer.
        samples: Random sub-models of a step; 0 leaves the sandwich with its two slices.
        learn_from: Whom sub-models learn from: the `full` model at the same step, or the `teacher`.
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
