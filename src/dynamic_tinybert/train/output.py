"""The folder of a run: whether a run may go there, what keeps other runs out, and what is where in it."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from accelerate import PartialState
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from dynamic_tinybert.files import write_whole
from dynamic_tinybert.train.errors import TrainingError
from dynamic_tinybert.train.logits import FILE
from dynamic_tinybert.train.prolonging import prolongs
from dynamic_tinybert.train.recipe import Recipe, dump_recipe
from dynamic_tinybert.train.schedule import last_checkpoint
from dynamic_tinybert.train.settings import LogitsStage, Stage

_RECIPE = "recipe.yaml"
_RESULT = "result.json"  # in the folder of a stage


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """What a stage came to.

    Attributes:
        name: Its name.
        stage: Its settings.
        figures: Of the checkpoint that was kept, on a sample of `select`; or of stored logits.
        steps: Steps that were made.
        epochs: Epochs that were made.
    """

    name: str
    stage: Stage | LogitsStage
    figures: Mapping[str, float]
    steps: int
    epochs: float

    @classmethod
    def read(cls, folder: Path, name: str, stage: Stage | LogitsStage) -> StageResult:
        """Read it in the folder of a stage that is done."""
        return cls(name=name, stage=stage, **json.loads((folder / _RESULT).read_text("utf-8")))

    def write(self, folder: Path) -> None:
        """Write it into the folder of the stage.

        Raises:
            OSError: It cannot be written.
        """
        summary = {"figures": self.figures, "steps": self.steps, "epochs": self.epochs}
        write_whole(folder / _RESULT, (json.dumps(summary, indent=1) + "\n").encode())


def result_path(recipe: Recipe, output: Path) -> Path:
    """Return what a run makes in `output`: a model folder, or the file of logits of a recipe that trains no model."""
    if recipe.trains:
        return output / "model"
    return stage_folder(output, len(recipe.stages) - 1, recipe.stage_names()[-1]) / FILE


def is_stored(folder: Path) -> bool:
    """Whether a `logits` stage is done."""
    return (folder / _RESULT).is_file()


def stage_folder(output: Path, number: int, name: str) -> Path:
    """Return the folder of a stage in that of its run."""
    return output / f"{number + 1:02d}-{name}"


@contextmanager
def held(recipe: Recipe, output: Path, *, resume: bool, first: bool) -> Iterator[None]:
    """Make the folder of a run, or check the one that is there, and keep other runs out of it."""
    if not first:
        PartialState().wait_for_everyone()
        yield
        return
    used = check_output(recipe, output, resume=resume)
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


def check_output(recipe: Recipe, output: Path, *, resume: bool) -> bool:
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


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a stage that is done."""
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint, ignore_errors=True)


def explain_write_error(error: Exception, folder: Path) -> Exception:
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
