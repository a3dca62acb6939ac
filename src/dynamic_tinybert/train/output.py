"""The folder of a run: check it, lock it against other runs, and find files in it."""

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
_RESULT = "result.json"  # in a stage's folder


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """The result of a stage.

    Attributes:
        name: The name of the stage.
        stage: The settings of the stage.
        figures: Figures of the kept weights on a sample of `select`; or figures of stored logits.
        steps: The number of steps done.
        epochs: The number of epochs done.
    """

    name: str
    stage: Stage | LogitsStage
    figures: Mapping[str, float]
    steps: int
    epochs: float

    @classmethod
    def read(cls, folder: Path, name: str, stage: Stage | LogitsStage) -> StageResult:
        """Read the result from the folder of a finished stage."""
        return cls(name=name, stage=stage, **json.loads((folder / _RESULT).read_text("utf-8")))

    def write(self, folder: Path) -> None:
        """Write the result into the folder of the stage.

        Raises:
            OSError: The file cannot be written.
        """
        summary = {"figures": self.figures, "steps": self.steps, "epochs": self.epochs}
        write_whole(folder / _RESULT, (json.dumps(summary, indent=1) + "\n").encode())


def result_path(recipe: Recipe, output: Path) -> Path:
    """Return the result of a run in `output`: the model folder, or the file of logits if the recipe trains no model."""
    if recipe.trains:
        return output / "model"
    return stage_folder(output, len(recipe.stages) - 1, recipe.stage_names()[-1]) / FILE


def is_stored(folder: Path) -> bool:
    """Return whether a `logits` stage is done."""
    return (folder / _RESULT).is_file()


def stage_folder(output: Path, number: int, name: str) -> Path:
    """Return the folder of a stage in the folder of its run."""
    return output / f"{number + 1:02d}-{name}"


@contextmanager
def held(recipe: Recipe, output: Path, *, resume: bool, first: bool) -> Iterator[None]:
    """Create or check the folder of a run, and lock it against other runs."""
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
        raise TrainingError(f"{output} is in use by another training process") from None
    try:
        if not used or _read_again((output / _RECIPE).read_text("utf-8")) != recipe:
            write_whole(output / _RECIPE, dump_recipe(recipe).encode())
        PartialState().wait_for_everyone()
        yield
    finally:
        lock.release()


def check_output(recipe: Recipe, output: Path, *, resume: bool) -> bool:
    """Check that a run may use the folder `output`, and return whether the run has begun there already."""
    written = output / _RECIPE
    if output.exists() and not output.is_dir():
        raise TrainingError(f"{output} is a file: name a new folder with --output")
    begun = (".lock", f".{_RECIPE}.")  # left by a run that was killed before it wrote its recipe
    used = output.exists() and not all(path.name.startswith(begun) for path in output.iterdir())
    if used and not written.is_file():
        raise TrainingError(f"{output} is not empty, and is not a training run: name a new folder with --output")
    if used and not resume:
        raise TrainingError(
            f"{output} contains a training run: continue it with --resume, or name a new folder with --output"
        )
    if used and (was := _read_again(there := written.read_text("utf-8"))) != recipe:
        if was is not None and prolongs(was, recipe, output):
            return used
        there = there if was is None else dump_recipe(was)
        pairs = itertools.zip_longest(there.splitlines(), dump_recipe(recipe).splitlines(), fillvalue="")
        old, new = next(((a, b) for a, b in pairs if a != b), ("", ""))
        raise TrainingError(
            f"{output} is a run of another recipe ({old.strip()!r} there, {new.strip()!r} here): name a new "
            "folder with --output, or resume with the same recipe"
        )
    return used


def _read_again(text: str) -> Recipe | None:
    """Read the recipe of an earlier run, with defaults for newer settings; None if it is no longer a valid recipe."""
    try:
        return Recipe.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValueError):
        return None


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a finished stage."""
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint, ignore_errors=True)


def explain_write_error(error: Exception, folder: Path) -> Exception:
    """Return a `TrainingError` of one line if a checkpoint could not be written, otherwise the error itself."""
    text = str(error)
    torchs = ("PytorchStreamWriter", "inline_container", "file write")  # from torch.save on a full disk
    writing = isinstance(error, (OSError, SafetensorError)) or any(words in text for words in torchs)
    if not writing or isinstance(error, (FileNotFoundError, ConnectionError)):
        return error
    checkpoint, _ = last_checkpoint(folder)
    kept = "there is no whole checkpoint" if checkpoint is None else f"{checkpoint.name} is whole"
    why = getattr(error, "strerror", None) or next(iter(text.splitlines()), type(error).__name__)
    return TrainingError(f"{folder} could not be written ({why}); {kept}: make room, then --resume")
