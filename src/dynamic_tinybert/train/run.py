"""Run a recipe stage by stage; a run can be resumed at any moment."""

from __future__ import annotations

import datetime
import gc
import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors import SafetensorError
from transformers import set_seed
from transformers.utils import logging

from dynamic_tinybert.files import write_whole
from dynamic_tinybert.inference import TextTokenizer
from dynamic_tinybert.squad import Question
from dynamic_tinybert.train.arithmetic import keep_freed_memory, uses_bf16
from dynamic_tinybert.train.card import model_card
from dynamic_tinybert.train.errors import TrainingError
from dynamic_tinybert.train.evaluation import answerer, measure
from dynamic_tinybert.train.features import Feature, make_features
from dynamic_tinybert.train.finalize import (
    copy_tokenizer,
    first_table,
    measure_finished,
    one_separator,
    write_curve,
    write_model,
)
from dynamic_tinybert.train.logits import FILE, LogitsTable, StoredLogits, read_table
from dynamic_tinybert.train.models import (
    Inputs,
    Teacher,
    load_model,
    load_student,
)
from dynamic_tinybert.train.output import (
    StageResult,
    check_output,
    explain_write_error,
    held,
    is_stored,
    remove_checkpoints,
    stage_folder,
)
from dynamic_tinybert.train.predict import logits_of, run_logits_stage, say_mass
from dynamic_tinybert.train.preflight import CheckedRecipe, check_recipe
from dynamic_tinybert.train.progress import Reporter, ShowProgress
from dynamic_tinybert.train.recipe import Recipe
from dynamic_tinybert.train.schedule import last_checkpoint
from dynamic_tinybert.train.settings import (
    IntermediateStage,
    LengthDropStage,
    LogitsStage,
    PredictionStage,
    StudentStage,
    TeacherStage,
)
from dynamic_tinybert.train.stages import (
    IntermediateTrainer,
    LengthDropTrainer,
    PredictionTrainer,
    TeacherTrainer,
)
from dynamic_tinybert.train.student import make_student
from dynamic_tinybert.train.trainer import StageContext, StageTrainer
from dynamic_tinybert.train.vocabulary import Vocabulary

_OWN_TOKENIZER = "student-tokenizer"  # for a student with other ids than those of the features
_FIGURES = "figures.json"
_PATIENCE = datetime.timedelta(hours=12)  # how long other processes wait while the first one measures


def train(
    recipe: Recipe,
    output: Path,
    *,
    resume: bool = False,
    threads: int | None = None,
    reporter: Reporter | None = None,
) -> dict[str, dict[str, float]]:
    """Run a recipe.

    The run writes into `output`: the model folder `model`; `recipe.yaml`; `figures.json`; the predictions; and a folder
    for each stage, with checkpoints while the stage runs, and with its curve and model when it is done.

    Args:
        recipe: The recipe.
        output: The folder of the run: a new folder, or with `resume` that of a run of the same recipe.
        resume: Continue an earlier run, however it ended.
        threads: The number of threads; None for PyTorch's default.
        reporter: Reports progress.

    Returns:
        Name of the data -> figures of the model at `full`. If the recipe has only `logits` stages: stage -> figures of
        its file. Empty in the other processes of a distributed run.

    Raises:
        TrainingError: The run cannot start or continue. The files of an earlier run do not change.
        SquadError: The data cannot be read.
        OSError: A file cannot be read or written.
    """
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    keep_freed_memory()
    if threads is not None:
        torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high")  # on GPUs, for operations that stay in float32
    first = _processes().is_main_process
    reporter = reporter if reporter is not None and first else Reporter(quiet=True)
    if first:
        check_output(recipe, output, resume=resume)
    checked = check_recipe(recipe, output)
    with held(recipe, output, resume=resume, first=first):
        if first:
            copy_tokenizer(checked.vocabulary.name, output / "tokenizer")
            if checked.own_vocabulary is not None:
                copy_tokenizer(checked.own_vocabulary.name, output / _OWN_TOKENIZER)
                one_separator(output / _OWN_TOKENIZER)
        PartialState().wait_for_everyone()
        tokenizer = TextTokenizer(output / "tokenizer")
        features = _features(recipe, checked.sets.train, tokenizer, reporter)
        run = _Run(recipe, output, checked, tokenizer, features, reporter, first)
        run.read_logits()
        return run.go()


@dataclass
class _Run:
    """A run of a checked recipe.

    Attributes:
        model: The model in training: the student, or the teacher if the recipe has no student.
        teacher: The folder of the teacher that the recipe has trained.
        logits: The file that a `logits` stage has made from the latest teacher.
    """

    recipe: Recipe
    output: Path
    checked: CheckedRecipe
    tokenizer: TextTokenizer
    features: list[Feature]
    reporter: Reporter
    first: bool
    model: Any = None
    teacher: Path | None = None
    logits: Path | None = None
    _stored: dict[Path, StoredLogits] = field(default_factory=dict)
    _starts: dict[Path, LogitsTable] = field(default_factory=dict)

    def read_logits(self) -> None:
        """Read the stored logits that the recipe names before training, since they may be missing or damaged."""
        for stage in self.recipe.stages:
            if (logits := getattr(stage, "logits", None)) is not None and logits not in self._stored:
                self._stored[logits] = StoredLogits.read(logits, self.features, self.tokenizer.words)
            if isinstance(stage, LogitsStage) and stage.start is not None and stage.start not in self._starts:
                self._starts[stage.start] = read_table(stage.start, self.features)

    def go(self) -> dict[str, dict[str, float]]:
        results = []
        source: str | Path = self._tokenizer()
        for number, (name, stage) in enumerate(zip(self.recipe.stage_names(), self.recipe.stages, strict=True)):
            folder = stage_folder(self.output, number, name)
            if isinstance(stage, LogitsStage):
                result = self._logits_stage(stage, name, folder)
                self.logits = folder / FILE
            elif isinstance(stage, TeacherStage):
                model, result = self._teacher_stage(stage, name, folder)
                self.teacher, self.logits = folder / "model", None
                if self.recipe.student is None:
                    self.model, source = model, stage.model
            else:
                self.model, result = self._student_stage(stage, name, folder)
            results.append(result)
            gc.collect()
        if not self.recipe.trains:
            self.reporter.say(f"the logits are in {self.logits}; no stage trains a model")
            return {result.name: dict(result.figures) for result in results} if self.first else {}
        figures = self._finalize(results, source) if self.first else {}
        PartialState().wait_for_everyone()
        return figures

    def _logits_stage(self, stage: LogitsStage, name: str, folder: Path) -> StageResult:
        """Store the teachers' logits of the features in the first process, unless that is done already."""
        if is_stored(folder):
            self.reporter.say(f"{name}: already done")
        elif self.first:
            folder.mkdir(exist_ok=True)
            default = self.teacher or self.recipe.teacher
            figures = run_logits_stage(
                stage,
                stage.teachers or ([] if default is None else [default]),
                self.features,
                vocabulary=self.checked.vocabulary,
                pad=self.tokenizer.pad,
                device=PartialState().device,
                folder=folder,
                reporter=self.reporter,
                start=None if stage.start is None else self._starts[stage.start],
            )
            StageResult(name=name, stage=stage, figures=figures, steps=0, epochs=0.0).write(folder)
        PartialState().wait_for_everyone()
        return StageResult.read(folder, name, stage)

    def _teacher_stage(self, stage: TeacherStage, name: str, folder: Path) -> tuple[Any, StageResult]:
        """Fine-tune the teacher and keep its logits; if that is done already, load it."""
        done = self._done(stage, name, folder)
        if done is not None:
            return load_model(folder / "model"), done
        set_seed(self.recipe.seed)
        model = load_model(stage.model)
        inputs = Inputs(model, Vocabulary(stage.model).map_from(self.checked.vocabulary))
        trainer, result = self._run(
            lambda context: TeacherTrainer(model, stage, context), model, inputs, stage, name, folder
        )
        if self.first and stage.keep_logits:
            with self.reporter.bar(f"{name}: logits") as bar:
                kept = logits_of(
                    model, inputs, self.features, self.tokenizer.pad, stage.keep_logits, bf16=uses_bf16(stage),
                    progress=lambda done, total: bar.update(done / total),
                )  # fmt: skip
            kept.write(folder / FILE, self.features)
            say_mass(self.reporter, name, kept)
            result = replace(result, figures={**result.figures, **kept.figures()})
        self._end(trainer, result, stage.model, folder)
        return model, result

    def _student_stage(self, stage: StudentStage, name: str, folder: Path) -> tuple[Any, StageResult]:
        """Train the student; if that is done already, load it."""
        done = self._done(stage, name, folder)
        if done is not None:
            return load_student(folder / "model"), done
        set_seed(self.recipe.seed)
        model = self.model
        if model is None:  # the first stage of the student
            assert self.recipe.student is not None
            stored = self._logits_of(stage) is not None
            model = make_student(self.recipe.student, self._teacher_of(stage), self.checked.vocabulary, stored=stored)
        goal = self._goal(stage)

        def make(context: StageContext) -> StageTrainer:
            if isinstance(stage, IntermediateStage):
                assert isinstance(goal, Teacher)
                return IntermediateTrainer(model, stage, context, goal)
            if isinstance(stage, LengthDropStage):
                return LengthDropTrainer(model, stage, context, goal)
            assert isinstance(stage, PredictionStage)
            return PredictionTrainer(model, stage, context, goal)

        trainer, result = self._run(make, model, self._inputs(model), stage, name, folder)
        if isinstance(trainer, IntermediateTrainer):
            trainer.close()
        self._end(trainer, result, self._tokenizer(), folder)
        return model, result

    def _inputs(self, student: Any) -> Inputs:
        own = self.checked.own_vocabulary
        return Inputs(student, None if own is None else own.map_from(self.checked.vocabulary))

    def _tokenizer(self) -> Path:
        """Return the folder of the tokenizer to write with a student."""
        return self.output / ("tokenizer" if self.checked.own_vocabulary is None else _OWN_TOKENIZER)

    def _done(self, stage: Any, name: str, folder: Path) -> StageResult | None:
        if not (folder / "model" / "config.json").is_file():
            return None
        if self.first:
            remove_checkpoints(folder)  # if the run was killed before it removed them
        self.reporter.say(f"{name}: already done")
        return StageResult.read(folder, name, stage)

    def _goal(self, stage: StudentStage) -> Teacher | StoredLogits | None:
        if (logits := self._logits_of(stage)) is not None:
            return self._stored.get(logits) or StoredLogits.read(logits, self.features, self.tokenizer.words)
        named = self._teacher_of(stage)
        return None if named is None else Teacher(named, self.checked.vocabulary, bf16=uses_bf16(stage))

    def _logits_of(self, stage: StudentStage) -> Path | None:
        """Return the file of logits that a stage learns from: the one it names, or the one of this run."""
        own: Path | None = getattr(stage, "logits", None)
        if own is not None or stage.teacher is not None or isinstance(stage, IntermediateStage):
            return own
        return self.logits

    def _teacher_of(self, stage: StudentStage) -> str | Path | None:
        """Return the model that a stage learns from: its own, the one trained in this run, or the recipe's."""
        return stage.teacher or self.teacher or self.recipe.teacher

    def _run(
        self, make: Any, model: Any, inputs: Inputs, stage: Any, name: str, folder: Path
    ) -> tuple[StageTrainer, StageResult]:
        """Train a stage from its last complete checkpoint, or from the beginning."""
        if self.first:
            folder.mkdir(exist_ok=True)
            last_checkpoint(folder)  # removes incomplete checkpoints
        PartialState().wait_for_everyone()
        checkpoint, elapsed = last_checkpoint(folder)
        select = self.checked.sets.select
        asked = random.Random(0).sample(select.questions, min(stage.select_questions, len(select.questions)))
        sample = replace(select, questions=tuple(asked))
        bf16 = uses_bf16(stage)
        with self.reporter.bar(name) as bar:
            show = ShowProgress(bar, self.reporter, name)
            trainer: StageTrainer = make(
                StageContext(
                    folder=folder,
                    features=self.features,
                    pad=self.tokenizer.pad,
                    inputs=inputs,
                    select=lambda: measure(
                        answerer(model, inputs, self.tokenizer, bf16=bf16), sample, stage.retentions
                    ),
                    asked=len(asked),
                    seed=self.recipe.seed,
                    elapsed=elapsed,
                    callbacks=[show],
                )
            )
            show.share_done = trainer.done
            if checkpoint is not None:
                self.reporter.say(f"{name}: continuing from {checkpoint.name}")
            try:
                trainer.learn(checkpoint)
            except (OSError, SafetensorError, RuntimeError) as error:
                raise explain_write_error(error, folder) from error
        if trainer.of_mean is not None:
            self.reporter.say(f"{name}: kept the mean of the weights, f1 {trainer.of_mean['eval_f1']:.2f}")
        state = trainer.state
        epochs = float(state.epoch or 0)
        result = StageResult(name=name, stage=stage, figures=trainer.figures(), steps=state.global_step, epochs=epochs)
        return trainer, result

    def _end(self, trainer: StageTrainer, result: StageResult, tokenizer: str | Path, folder: Path) -> None:
        """Write the results of a stage; its folder `model` comes last, since it marks the stage as done."""
        if self.first:
            try:
                write_curve(folder, trainer.state.log_history)
                result.write(folder)
                if trainer.mean.count:  # what was not kept may be the better part of another mean
                    trainer.mean.swap()
                    write_model(trainer.model, tokenizer, folder / "other")
                    trainer.mean.swap()
                write_model(trainer.model, tokenizer, folder / "model")
            except (OSError, SafetensorError, RuntimeError) as error:
                raise explain_write_error(error, folder) from error
            remove_checkpoints(folder)
        PartialState().wait_for_everyone()

    def _finalize(self, results: list[StageResult], source: str | Path) -> dict[str, dict[str, float]]:
        finished, figures_file = self.output / "model", self.output / _FIGURES
        if (finished / "config.json").is_file():
            known: dict[str, dict[str, float]] = json.loads(figures_file.read_text("utf-8"))
            return known
        model, recipe = self.model, self.recipe
        if torch.cuda.is_available():
            model.to("cuda")
        alone = recipe.student is None
        inputs = Inputs(model, Vocabulary(source).map_from(self.checked.vocabulary)) if alone else self._inputs(model)
        # A student is measured in the precision in which it will answer; for a teacher, speed matters more.
        fast = recipe.student is None and uses_bf16(recipe.stages[-1])
        torch.set_float32_matmul_precision("high" if fast else "highest")
        qa = answerer(model, inputs, self.tokenizer, bf16=fast)
        figures = measure_finished(qa, recipe, self.checked.sets, self.output, self.reporter)
        table = None
        if recipe.student is not None:
            table = first_table(qa, recipe, self.checked.sets, figures["confirm"], self.reporter)
        card = model_card(
            recipe,
            qa.shape,
            results,
            figures,
            features=len(self.features),
            version=self.checked.sets.select.version,
            unanswerable=self.checked.sets.unanswerable,
            table=table,
            family=model.config.model_type,
        )
        write_whole(figures_file, (json.dumps(figures, indent=1) + "\n").encode())
        write_model(model.to("cpu"), source, finished, card=card, table=table)
        return figures


def _processes() -> PartialState:
    """Return the processes of this run; for several processes on CPUs, accelerate needs `cpu=True`."""
    asked = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    accelerators = getattr(torch, "accelerator", torch.cuda)
    state = PartialState(cpu=asked or (launched and not accelerators.is_available()), timeout=_PATIENCE)
    if launched and state.num_processes == 1:
        raise TrainingError(
            f"{os.environ['WORLD_SIZE']} processes were launched that cannot work together on {state.device}: launch "
            "one, or set ACCELERATE_USE_CPU=true"
        )
    return state


def _features(
    recipe: Recipe, questions: Sequence[Question], tokenizer: TextTokenizer, reporter: Reporter
) -> list[Feature]:
    unusable: list[tuple[Question, str]] = []
    with reporter.bar("features") as bar:
        features = make_features(
            tokenizer,
            questions,
            recipe.data.features(recipe.seed),
            progress=lambda done, total: bar.update(done / total),
            unusable=lambda question, why: unusable.append((question, why)),
        )
    reporter.say(f"{len(features):,} features of {len(questions):,} questions")
    if unusable:
        question, why = unusable[0]
        reporter.say(
            f"{len(unusable):,} of {len(questions):,} questions cannot be used, for example "
            f"{question.id!r:.80}, {question.question!r:.60}: {why}"
        )
    return features
