"""Check a recipe before training: its data, its tokenizers, its models and the disk."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from dynamic_tinybert.folder import EMBEDDED, open_folder
from dynamic_tinybert.inference import WindowError, check_lengths
from dynamic_tinybert.squad import Question, SquadFile, read_squad
from dynamic_tinybert.train.arithmetic import cpu_has_bf16
from dynamic_tinybert.train.errors import TrainingError
from dynamic_tinybert.train.models import (
    check_layers,
    check_student,
    check_voters,
    form_of,
    read_config,
    shape_of,
)
from dynamic_tinybert.train.recipe import Recipe, first_teacher, models_of
from dynamic_tinybert.train.schedule import check_disk
from dynamic_tinybert.train.settings import IntermediateStage, LogitsStage, Student, TeacherStage
from dynamic_tinybert.train.stages import check_intermediate
from dynamic_tinybert.train.student import student_layers
from dynamic_tinybert.train.vocabulary import Vocabulary, check_alignment

_SAMPLE = 200  # questions on which the tokens of teacher and student are compared
_CHECKPOINTS = 3  # at most at the same time: two, and the one being written


@dataclass(frozen=True, kw_only=True)
class Sets:
    """The questions of a recipe, by their use."""

    train: tuple[Question, ...]
    select: SquadFile
    confirm: SquadFile
    dev: SquadFile | None

    @property
    def unanswerable(self) -> bool:
        """Whether some training questions have no answer."""
        return any(question.impossible for question in self.train)


def read_sets(recipe: Recipe) -> Sets:
    """Read the data of a recipe.

    Raises:
        TrainingError: A file is missing, or the held-out articles are not valid.
        SquadError: A file is not a SQuAD file.
    """
    data = recipe.data
    for key in ("train", "select", "confirm", "dev"):
        path = getattr(data, key)
        if path is not None and not path.is_file():
            raise TrainingError(
                f"data.{key}: there is no file {path}; SQuAD is at https://rajpurkar.github.io/SQuAD-explorer, and "
                f"--set data.{key}=FILE says where yours is"
            )
    whole = read_squad(data.train)
    titles = {key: _titles(getattr(data, key)) for key in ("select", "confirm")}
    known = {question.title for question in whole.questions}
    for key, wanted in titles.items():
        if not wanted:
            raise TrainingError(f"data.{key}: {getattr(data, key)} names no article")
        if unknown := wanted - known:
            raise TrainingError(
                f"data.{key}: {getattr(data, key)} names {len(unknown)} articles that {data.train} does not have, "
                f"for example {min(unknown)!r}"
            )
    if both := titles["select"] & titles["confirm"]:
        raise TrainingError(f"the article {min(both)!r} is both in data.select and in data.confirm")
    held = titles["select"] | titles["confirm"]
    questions = [question for question in whole.questions if question.title not in held]
    if not questions:
        raise TrainingError(f"data.train: {data.train} has no article that is not held out")
    if data.limit is not None:
        draw = random.Random(recipe.seed)
        chosen = sorted(draw.sample(range(len(questions)), min(data.limit, len(questions))))
        questions = [questions[i] for i in chosen]
    return Sets(
        train=tuple(questions),
        select=replace(whole, questions=tuple(q for q in whole.questions if q.title in titles["select"])),
        confirm=replace(whole, questions=tuple(q for q in whole.questions if q.title in titles["confirm"])),
        dev=None if data.dev is None else read_squad(data.dev),
    )


@dataclass(frozen=True, kw_only=True)
class CheckedRecipe:
    """The data and vocabularies of a checked recipe, for its run.

    Attributes:
        sets: The data.
        vocabulary: The vocabulary that features are made with.
        own_vocabulary: The student's own vocabulary, if it is another one: that of a student in the form of MPNet.
    """

    sets: Sets
    vocabulary: Vocabulary
    own_vocabulary: Vocabulary | None


def check_recipe(recipe: Recipe, output: Path) -> CheckedRecipe:
    """Check before training what could go wrong later. Each model's configuration is read once.

    Raises:
        TrainingError: The data, or a teacher's tokens or layers, do not fit; a checkpoint has another architecture; a
            file is missing; or the disk is too full.
        SquadError: The data cannot be read.
    """
    sets = read_sets(recipe)
    models = _Models()
    checked = CheckedRecipe(
        sets=sets, vocabulary=_vocabulary(recipe, models), own_vocabulary=_own_vocabulary(recipe, models)
    )
    _check_tokens(recipe, checked, models)
    student, largest = _check_stages(recipe, models)
    able = torch.cuda.is_available() or cpu_has_bf16()
    if any(stage.precision == "bf16" for stage in recipe.stages) and not able:
        raise TrainingError("precision: bf16 needs a GPU, or a CPU that multiplies in it: set precision: auto")
    _check_lengths(recipe, [student, *(models.config(model) for model in _teachers(recipe))])
    existing = output
    while not existing.exists():
        existing = existing.parent
    means = any(getattr(stage, "average", False) for stage in recipe.stages)
    # Each checkpoint has weights, two moments and perhaps the mean of weights; two finished models are written too.
    check_disk(existing, largest * 4 * ((3 + means) * _CHECKPOINTS + 2))
    return checked


class _Models:
    """Cached configurations and vocabularies of the models that a recipe names."""

    def __init__(self) -> None:
        self.config = cache(read_config)
        self.vocabulary = cache(Vocabulary)

    def checkpoint(self, student: Student) -> Any:
        """Return the configuration of a student's checkpoint; raise an error if it cannot be a student."""
        model = str(student.checkpoint)
        config = self.config(embedded_path() if model == EMBEDDED else model)
        try:
            check_student(model, config)
        except TrainingError as error:
            raise TrainingError(f"student.checkpoint: {error}") from None
        if student.form not in (None, config.model_type):
            raise TrainingError(
                f"student.form: {student.form} is not what student.checkpoint is, {config.model_type}: leave form out"
            )
        return config


def _vocabulary(recipe: Recipe, models: _Models) -> Vocabulary:
    """Return the vocabulary that features are made with: that of the student's checkpoint, if it is a BERT.

    Otherwise (teacher layers, the form of MPNet, or no student) it is that of the first teacher with BERT's special
    tokens; if there is none, that of the embedded model (bert-base-uncased).
    """
    student = recipe.student
    if student is not None and student.checkpoint is not None and _tokenizer_source(recipe, models) is None:
        source = student.checkpoint
    else:
        source = next((model for model in _teachers(recipe) if models.vocabulary(model).reads_as_bert), EMBEDDED)
    vocabulary = models.vocabulary(embedded_path() if source == EMBEDDED else source)
    if not vocabulary.reads_as_bert:
        raise TrainingError(f"the tokenizer of {source} is not BERT's: it has no [CLS] and [SEP]")
    return vocabulary


def _own_vocabulary(recipe: Recipe, models: _Models) -> Vocabulary | None:
    source = _tokenizer_source(recipe, models)
    return None if source is None else models.vocabulary(source)


def _tokenizer_source(recipe: Recipe, models: _Models) -> str | None:
    """Return the model whose tokens and ids a student in the form of MPNet has; None for other students."""
    student = recipe.student
    if student is None:
        return None
    if student.checkpoint is not None:
        return student.checkpoint if models.checkpoint(student).model_type == "mpnet" else None
    return first_teacher(recipe) if student.form == "mpnet" else None


def _check_tokens(recipe: Recipe, checked: CheckedRecipe, models: _Models) -> None:
    """Check that teachers, and a student with its own vocabulary, split texts like the vocabulary of features."""
    train = checked.sets.train
    sample = random.Random(0).sample(train, min(_SAMPLE, len(train)))
    texts = [text for question in sample for text in (question.question, question.context)]
    for model in dict.fromkeys(_teachers(recipe)):
        check_alignment(models.vocabulary(model), checked.vocabulary, texts)
    if checked.own_vocabulary is not None:
        check_alignment(checked.own_vocabulary, checked.vocabulary, texts, role="the model")


def _check_stages(recipe: Recipe, models: _Models) -> tuple[Any, int]:
    """Check each stage; return the student's configuration or None, and the most parameters that a stage trains."""
    for model in _teachers(recipe):
        models.config(model)  # raises an error if the model cannot be read
    student: Any = None
    teacher: Any = None if recipe.teacher is None else models.config(recipe.teacher)
    largest = 0
    for stage in recipe.stages:
        if isinstance(stage, LogitsStage):
            if stage.start is not None and not stage.start.is_file():
                raise TrainingError(f"start: there is no file of stored logits {stage.start}")
            continue
        if isinstance(stage, TeacherStage):
            if any(retention < 1 for retention in stage.retentions):
                raise TrainingError(
                    f"a teacher drops no tokens: its retentions must be [1.0], not {list(stage.retentions)}"
                )
            teacher = models.config(stage.model)
            largest = max(largest, _parameters(teacher))
            continue
        named = teacher if stage.teacher is None else models.config(stage.teacher)  # of this stage alone
        if student is None and recipe.student is not None:
            student = _student_config(recipe.student, named, models)
            largest = max(largest, _parameters(student))
        if isinstance(stage, IntermediateStage):
            check_intermediate(stage, student, named)
        if (logits := getattr(stage, "logits", None)) is not None and not logits.is_file():
            raise TrainingError(f"there is no file of stored logits {logits}")
    return student, largest


def _check_lengths(recipe: Recipe, configs: list[Any]) -> None:
    data = recipe.data
    positions = [shape_of(config).positions for config in configs if config is not None]
    longest = min(positions, default=data.max_seq_len)  # converting old logits needs no model
    if data.max_seq_len > longest:
        raise TrainingError(f"data.max_seq_len {data.max_seq_len} is more than the {longest} that the model reads")
    try:
        check_lengths(
            max_seq_len=data.max_seq_len,
            doc_stride=data.doc_stride,
            max_question_len=data.max_question_len,
            positions=longest,
        )
    except WindowError as error:
        raise TrainingError(f"data: {error}") from None


def embedded_path() -> str:
    """Return the folder of the embedded model."""
    return str(open_folder(EMBEDDED).path)


def _titles(file: Path) -> set[str]:
    try:
        return set(file.read_text("utf-8").splitlines()) - {""}
    except UnicodeDecodeError:
        raise TrainingError(f"{file} is not a list of titles in UTF-8") from None


def _teachers(recipe: Recipe) -> list[str]:
    """Return the models whose tokens must be the student's."""
    named = [model for stage in recipe.stages for model in models_of(stage)]
    return named if recipe.teacher is None else [recipe.teacher, *named]


def _student_config(student: Student, teacher: Any, models: _Models) -> Any:
    """Return the configuration of a student, as far as it is known before its teacher is trained."""
    if student.checkpoint is not None:
        config = models.checkpoint(student)
        check_voters(config, student.voters)
        return config
    layers = student_layers(student, teacher)
    check_layers(teacher, layers, form_of(student.form, teacher))
    check_voters(teacher, student.voters)
    config = copy.deepcopy(teacher)
    config.num_hidden_layers = len(layers)
    if config.model_type == "modernbert":
        config.layer_types = [teacher.layer_types[layer] for layer in layers]
    return config


def _parameters(config: Any) -> int:
    """Return the approximate number of parameters of an encoder."""
    shape = shape_of(config)
    layer = 4 * shape.hidden**2 + 2 * shape.hidden * shape.feed_forward
    return (shape.vocabulary + shape.positions) * shape.hidden + shape.layers * layer
