"""Check whether a run may continue with another length than it began with."""

from __future__ import annotations

import json
from pathlib import Path

from dynamic_tinybert.train.errors import TrainingError
from dynamic_tinybert.train.recipe import Recipe
from dynamic_tinybert.train.schedule import COOLDOWN, STATE, last_checkpoint
from dynamic_tinybert.train.settings import Stage

_LENGTH = ("epochs", "minutes")


def prolongs(was: Recipe, now: Recipe, output: Path) -> bool:
    """Return whether a recipe changes only the length of stages with a plateau that has not ended yet.

    A shorter length is allowed too, if the learning rate would not have begun to fall already. So a run can be told to
    end soon.

    Args:
        was: The recipe that the run began with.
        now: The recipe to continue with.
        output: The folder of the run.

    Raises:
        TrainingError: Only lengths differ, but it is too late for the new length.
    """
    if len(was.stages) != len(now.stages) or _without_lengths(was) != _without_lengths(now):
        return False
    pairs = zip(was.stages, now.stages, was.stage_names(), strict=True)
    changed = [
        (number, a, b, name)
        for number, (a, b, name) in enumerate(pairs)
        if isinstance(a, Stage) and isinstance(b, Stage) and _length(a) != _length(b)
    ]
    if not all(a.schedule == "plateau" and (a.epochs is None) == (b.epochs is None) for _, a, b, _ in changed):
        return False
    for number, before, after, name in changed:
        done, spent = _done(output / f"{number + 1:02d}-{name}", before)
        then = spent / _length(after)
        what = "epochs" if before.epochs is not None else "minutes"
        if spent and min(done, then) < before.warmup:
            raise TrainingError(
                f"{name}: {what} cannot change from {_length(before):g} to {_length(after):g} yet: its learning rate "
                f"rises over the first {before.warmup:.0%} of either; resume with {what}: {_length(before):g}"
            )
        if max(done, then) > 1 - COOLDOWN:
            raise TrainingError(
                f"{name}: {what} cannot change from {_length(before):g} to {_length(after):g}: its learning rate "
                f"{'has begun to fall' if done > 1 - COOLDOWN else 'would have begun to fall before'}; resume with "
                f"{what}: {_length(before):g}, or begin a new run from its model"
            )
    return True


def _length(stage: Stage) -> float:
    return stage.epochs if stage.epochs is not None else stage.minutes or 0.0


def _without_lengths(recipe: Recipe) -> dict[str, object]:
    value = recipe.model_dump()
    for stage in value["stages"]:
        for key in _LENGTH:
            stage.pop(key, None)
    return value


def _done(folder: Path, stage: Stage) -> tuple[float, float]:
    """Return the share of a stage that is done, by the length in its last checkpoint; and its epochs or minutes."""
    if (folder / "model").exists():
        return 1.0, _length(stage)
    checkpoint, elapsed = last_checkpoint(folder)
    if checkpoint is None:
        return 0.0, 0.0
    if stage.minutes is not None:
        return min(1.0, elapsed / (60 * stage.minutes)), elapsed / 60
    state = json.loads((checkpoint / STATE).read_text("utf-8"))
    return float(state["global_step"] / max(1, state["max_steps"])), float(state["epoch"])
