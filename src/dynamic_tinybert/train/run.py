"""Running a recipe: stage after stage, resumable at any moment."""

from __future__ import annotations

import datetime
import gc
import itertools
import json
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from transformers import set_seed
from transformers.utils import logging

from dynamic_tinybert.files import write_whole
from dynamic_tinybert.folder import called
from dynamic_tinybert.inference import TextTokenizer
from dynamic_tinybert.train.arithmetic import keep_freed_memory, uses_bf16
from dynamic_tinybert.train.card import StageResult, model_card
from dynamic_tinybert.train.dropping import set_significance
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
from dynamic_tinybert.train.logits import FILE, StoredLogits, read_table
from dynamic_tinybert.train.models import (
    Inputs,
    Teacher,
    load_model,
    load_student,
    set_dropout,
    student_from_teacher,
)
from dynamic_tinybert.train.predict import logits_of, run_logits_stage, say_mass
from dynamic_tinybert.train.preflight import (
    Sets,
    check_run,
    find_vocabulary,
    read_sets,
    student_layers,
    tokenizer_source,
)
from dynamic_tinybert.train.progress import Reporter, ShowProgress
from dynamic_tinybert.train.prolonging import prolongs
from dynamic_tinybert.train.recipe import Recipe, dump_recipe, models_of
from dynamic_tinybert.train.schedule import last_checkpoint
from dynamic_tinybert.train.settings import (
    IntermediateStage,
    LengthDropStage,
    LogitsStage,
    PredictionStage,
    Student,
    StudentStage,
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

_RECIPE = "recipe.yaml"
_RESULT = "result.json"
_OWN_TOKENIZER = "student-tokenizer"  # of a student that has other ids than features are made with
_FIGURES = "figures.json"
_PATIENCE = datetime.timedelta(hours=12)  # of the other processes, while the first measures


def train(
    recipe: Recipe, output: Path, *, resume: bool = False, reporter: Reporter | None = None
) -> dict[str, dict[str, float]]:
    """Run a recipe.

    In `output`: `model`, the folder; `recipe.yaml`; `figures.json`; the predictions behind the figures; and a folder
    for each stage, with its checkpoints while it runs, and its curve and its model when it is done.

    Args:
        recipe: What to do.
        output: Where the run goes: a new folder, or with `resume` one of the same recipe.
        resume: Go on where an earlier run ended, whenever and however that was.
        reporter: Says how it goes.

    Returns:
        Data -> figures of the model at full; of a recipe of `logits` stages alone, stage -> figures of its file.
        Nothing in the other processes of a distributed run.

    Raises:
        TrainingError: Something keeps the run from going on. What an earlier run left is as it was.
        SquadError: The data cannot be read.
        OSError: Something cannot be read or written.
    """
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    keep_freed_memory()
    torch.set_float32_matmul_precision("high")  # on GPUs, for what a stage leaves in float32
    first = _processes().is_main_process
    reporter = reporter if reporter is not None and first else Reporter(quiet=True)
    if first:
        _check_output(recipe, output, resume=resume)
    sets, vocabulary = check(recipe, output)
    with _held(recipe, output, resume=resume, first=first):
        if first:
            copy_tokenizer(vocabulary.name, output / "tokenizer")
            if (own := tokenizer_source(recipe)) is not None:
                copy_tokenizer(own, output / _OWN_TOKENIZER)
                one_separator(output / _OWN_TOKENIZER)
        PartialState().wait_for_everyone()
        tokenizer = TextTokenizer(output / "tokenizer")
        features = _features(recipe, sets, tokenizer, reporter)
        for stage in recipe.stages:
            if (logits := getattr(stage, "logits", None)) is not None:
                StoredLogits.read(logits, features, tokenizer.words)  # raises if it lacks some
            if isinstance(stage, LogitsStage) and stage.start is not None:
                read_table(stage.start, features)  # raises if it is damaged
        run = _Run(recipe, output, sets, vocabulary, tokenizer, features, reporter, first)
        return run.go()


def made(recipe: Recipe, output: Path) -> Path:
    """Return what a run makes in `output`: a model folder, or the file of logits of a recipe that trains no model."""
    if recipe.trains:
        return output / "model"
    return _folder(output, len(recipe.stages) - 1, recipe.stage_names()[-1]) / FILE


def check(recipe: Recipe, output: Path) -> tuple[Sets, Vocabulary]:
    """Find out what can be found out before anything is learned: see `train`, whose errors it raises.

    Returns:
        The data, and the vocabulary that features are made with.
    """
    sets = read_sets(recipe)
    vocabulary = find_vocabulary(recipe)
    check_run(recipe, sets, vocabulary, output)
    return sets, vocabulary


@dataclass
class _Run:
    """A run of a recipe, everything having been checked and read.

    Attributes:
        model: What is trained: the student, or the teacher of a recipe without one.
        teacher: The folder of the teacher that the recipe has trained.
        logits: The file that a `logits` stage has made, of the latest teacher.
    """

    recipe: Recipe
    output: Path
    sets: Sets
    vocabulary: Vocabulary
    tokenizer: TextTokenizer
    features: list[Feature]
    reporter: Reporter
    first: bool
    model: Any = None
    teacher: Path | None = None
    logits: Path | None = None

    def go(self) -> dict[str, dict[str, float]]:
        results = []
        source: str | Path = self._tokenizer()
        for number, (name, stage) in enumerate(zip(self.recipe.stage_names(), self.recipe.stages, strict=True)):
            folder = _folder(self.output, number, name)
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
        figures = self._finish(results, source) if self.first else {}
        PartialState().wait_for_everyone()
        return figures

    def _logits_stage(self, stage: LogitsStage, name: str, folder: Path) -> StageResult:
        """Store what teachers say of the features, unless that was done before; the first process does it."""
        written = folder / _RESULT
        if written.is_file():
            self.reporter.say(f"{name}: done before")
        elif self.first:
            folder.mkdir(exist_ok=True)
            default = self.teacher or self.recipe.teacher
            figures = run_logits_stage(
                stage,
                stage.teachers or ([] if default is None else [default]),
                self.features,
                vocabulary=self.vocabulary,
                pad=self.tokenizer.pad,
                device=PartialState().device,
                folder=folder,
                reporter=self.reporter,
            )
            summary = {"figures": figures, "steps": 0, "epochs": 0.0}
            write_whole(written, (json.dumps(summary, indent=1) + "\n").encode())
        PartialState().wait_for_everyone()
        return StageResult(name=name, stage=stage, **json.loads(written.read_text("utf-8")))

    def _teacher_stage(self, stage: TeacherStage, name: str, folder: Path) -> tuple[Any, StageResult]:
        """Fine-tune the teacher, and keep its logits; or load it, if that was done before."""
        done = self._done(stage, name, folder)
        if done is not None:
            return load_model(folder / "model"), done
        set_seed(self.recipe.seed)
        model = load_model(stage.model)
        inputs = Inputs(model, Vocabulary(stage.model).map_from(self.vocabulary))
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
        """Train the student, or load it, if that was done before."""
        done = self._done(stage, name, folder)
        if done is not None:
            return load_student(folder / "model"), done
        set_seed(self.recipe.seed)
        model = self._student(stage) if self.model is None else self.model
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
        """What feeds a student: in the form of MPNet, under its own ids."""
        own = tokenizer_source(self.recipe)
        return Inputs(student, None if own is None else Vocabulary(own).map_from(self.vocabulary))

    def _tokenizer(self) -> Path:
        """The folder of the tokenizer that a student is written with."""
        own = tokenizer_source(self.recipe)
        return self.output / ("tokenizer" if own is None else _OWN_TOKENIZER)

    def _done(self, stage: Any, name: str, folder: Path) -> StageResult | None:
        if not (folder / "model" / "config.json").is_file():
            return None
        if self.first:
            _remove_checkpoints(folder)  # where it was killed between the two
        self.reporter.say(f"{name}: done before")
        summary = json.loads((folder / _RESULT).read_text("utf-8"))
        return StageResult(name=name, stage=stage, **summary)

    def _goal(self, stage: StudentStage) -> Teacher | StoredLogits | None:
        """What a student's stage learns from."""
        if (logits := self._logits_of(stage)) is not None:
            return StoredLogits.read(logits, self.features, self.tokenizer.words)
        named = self._teacher_of(stage)
        return None if named is None else Teacher(named, self.vocabulary, bf16=uses_bf16(stage))

    def _logits_of(self, stage: StudentStage) -> Path | None:
        """The file of logits that a stage learns from: its own, or the one made here."""
        own: Path | None = getattr(stage, "logits", None)
        if own is not None or stage.teacher is not None or isinstance(stage, IntermediateStage):
            return own
        return self.logits

    def _teacher_of(self, stage: StudentStage) -> str | Path | None:
        """The model that a stage learns from: its own, the one trained here, or the recipe's."""
        return stage.teacher or self.teacher or self.recipe.teacher

    def _student(self, stage: StudentStage) -> Any:
        """Make the student that the recipe begins with."""
        student = self.recipe.student
        assert student is not None
        model = self._initial(student, stage)
        if student.voters is not None:
            set_significance(model.config, student.voters)
        stored = self._logits_of(stage) is not None
        if student.dropout is not None or stored:
            set_dropout(model, student.dropout or 0.0)
        return model

    def _initial(self, student: Student, stage: StudentStage) -> Any:
        if student.checkpoint is not None:
            return load_student(student.checkpoint)
        named = self._teacher_of(stage)
        assert named is not None
        teacher = load_model(named)
        layers = student_layers(student, teacher.config)
        ids = Vocabulary(named).map_from(self.vocabulary)
        return student_from_teacher(teacher, layers, ids, student.form or "bert")

    def _run(
        self, make: Any, model: Any, inputs: Inputs, stage: Any, name: str, folder: Path
    ) -> tuple[StageTrainer, StageResult]:
        """Train a stage from its last whole checkpoint, or from the beginning."""
        if self.first:
            folder.mkdir(exist_ok=True)
            last_checkpoint(folder)  # takes away what is not whole
        PartialState().wait_for_everyone()
        checkpoint, elapsed = last_checkpoint(folder)
        select = self.sets.select
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
                    seed=self.recipe.seed,
                    elapsed=elapsed,
                    callbacks=[show],
                )
            )
            show.share_done = trainer.done
            if checkpoint is not None:
                self.reporter.say(f"{name}: going on from {checkpoint.name}")
            try:
                trainer.learn(checkpoint)
            except (OSError, SafetensorError, RuntimeError) as error:
                raise _explained(error, folder) from error
        state = trainer.state
        kept = max((row for row in state.log_history if "eval_f1" in row), key=lambda row: float(row["eval_score"]))
        figures = {key[5:]: float(kept[key]) for key in kept if key.startswith("eval_") and key != "eval_score"}
        epochs = float(state.epoch or 0)
        return trainer, StageResult(name=name, stage=stage, figures=figures, steps=state.global_step, epochs=epochs)

    def _end(self, trainer: StageTrainer, result: StageResult, tokenizer: str | Path, folder: Path) -> None:
        """Write what a stage came to; its folder `model` last, since that says that it is done."""
        if self.first:
            summary = {"figures": result.figures, "steps": result.steps, "epochs": result.epochs}
            try:
                write_curve(folder, trainer.state.log_history)
                write_whole(folder / _RESULT, (json.dumps(summary, indent=1) + "\n").encode())
                write_model(trainer.model, tokenizer, folder / "model")
            except (OSError, SafetensorError, RuntimeError) as error:
                raise _explained(error, folder) from error
            _remove_checkpoints(folder)
        PartialState().wait_for_everyone()

    def _finish(self, results: list[StageResult], source: str | Path) -> dict[str, dict[str, float]]:
        """Measure the model, and write its folder."""
        finished, figures_file = self.output / "model", self.output / _FIGURES
        if (finished / "config.json").is_file():
            known: dict[str, dict[str, float]] = json.loads(figures_file.read_text("utf-8"))
            return known
        model, recipe = self.model, self.recipe
        if torch.cuda.is_available():
            model.to("cuda")
        alone = recipe.student is None
        inputs = Inputs(model, Vocabulary(source).map_from(self.vocabulary)) if alone else self._inputs(model)
        # A student is measured in the arithmetic in which it will answer; a teacher, which will not, fast.
        fast = recipe.student is None and uses_bf16(recipe.stages[-1])
        torch.set_float32_matmul_precision("high" if fast else "highest")
        qa = answerer(model, inputs, self.tokenizer, bf16=fast)
        figures = measure_finished(qa, recipe, self.sets, self.output, self.reporter)
        table = None
        if recipe.student is not None:
            table = first_table(qa, recipe, self.sets, figures["confirm"], self.reporter)
        student = recipe.student
        others = (stage for stage in recipe.stages if not isinstance(stage, LogitsStage))
        named = (model for stage in others for model in models_of(stage))
        base = student.checkpoint if student is not None else None
        base = base or next(named, str(recipe.teacher))
        base = called(base)
        card = model_card(
            recipe,
            qa.shape,
            results,
            figures,
            base=base,
            features=len(self.features),
            dropping=any(isinstance(stage, LengthDropStage) for stage in recipe.stages),
            version=self.sets.select.version,
            unanswerable=self.sets.unanswerable,
        )
        write_whole(figures_file, (json.dumps(figures, indent=1) + "\n").encode())
        write_model(model.to("cpu"), source, finished, card=card, table=table)
        return figures


def _folder(output: Path, number: int, name: str) -> Path:
    return output / f"{number + 1:02d}-{name}"


def _processes() -> PartialState:
    """The processes of this run: many where it was launched so, on CPUs too, where accelerate must be told."""
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


@contextmanager
def _held(recipe: Recipe, output: Path, *, resume: bool, first: bool) -> Iterator[None]:
    """Make the folder of a run, or check the one that is there, and keep other runs out of it."""
    if not first:
        PartialState().wait_for_everyone()
        yield
        return
    used = _check_output(recipe, output, resume=resume)
    output.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise TrainingError(f"{output} is being trained in by another process") from None
    try:
        if not used or _read_again((output / _RECIPE).read_text("utf-8")) != recipe:
            write_whole(output / _RECIPE, dump_recipe(recipe).encode())
        PartialState().wait_for_everyone()
        yield
    finally:
        lock.release()


def _check_output(recipe: Recipe, output: Path, *, resume: bool) -> bool:
    """Check that a run may go where it is to go, and return whether it has begun there."""
    written = output / _RECIPE
    if output.exists() and not output.is_dir():
        raise TrainingError(f"{output} is a file: give --output a new folder")
    begun = (".lock", f".{_RECIPE}.")  # what is left of a run that was killed before it wrote its recipe
    used = output.exists() and not all(path.name.startswith(begun) for path in output.iterdir())
    if used and not written.is_file():
        raise TrainingError(f"{output} is not empty, and no training run: give --output a new folder")
    if used and not resume:
        raise TrainingError(f"{output} holds a training run: --resume goes on with it, or give --output a new folder")
    if used and (was := _read_again(there := written.read_text("utf-8"))) != recipe:
        if was is not None and prolongs(was, recipe, output):
            return used
        there = there if was is None else dump_recipe(was)
        pairs = itertools.zip_longest(there.splitlines(), dump_recipe(recipe).splitlines(), fillvalue="")
        old, new = next(((a, b) for a, b in pairs if a != b), ("", ""))
        raise TrainingError(
            f"{output} is a run of another recipe ({old.strip()!r} there, {new.strip()!r} here): give --output a new "
            "folder, or resume with the recipe as it was"
        )
    return used


def _read_again(text: str) -> Recipe | None:
    """What a run wrote down, settings that came later as they are by default; None where it is no recipe any more."""
    try:
        return Recipe.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValueError):
        return None


def _remove_checkpoints(folder: Path) -> None:
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint, ignore_errors=True)


def _features(recipe: Recipe, sets: Sets, tokenizer: TextTokenizer, reporter: Reporter) -> list[Feature]:
    with reporter.bar("features") as bar:
        features = make_features(
            tokenizer,
            sets.train,
            recipe.data.features(recipe.seed),
            progress=lambda done, total: bar.update(done / total),
        )
    reporter.say(f"{len(features):,} features of {len(sets.train):,} questions")
    return features


def _explained(error: Exception, folder: Path) -> Exception:
    """Say in one line that a checkpoint could not be written; what is no such thing stays what it is."""
    text = str(error)
    torchs = ("PytorchStreamWriter", "inline_container", "file write")  # what torch.save says of a full disk
    writing = isinstance(error, (OSError, SafetensorError)) or any(words in text for words in torchs)
    if not writing or isinstance(error, (FileNotFoundError, ConnectionError)):
        return error
    checkpoint, _ = last_checkpoint(folder)
    kept = "there is no whole checkpoint" if checkpoint is None else f"{checkpoint.name} is whole"
    why = getattr(error, "strerror", None) or next(iter(text.splitlines()), type(error).__name__)
    return TrainingError(f"{folder} could not be written ({why}); {kept}: make room, then --resume")
