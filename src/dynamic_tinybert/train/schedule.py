"""Schedule a stage: its learning rate, its checkpoints and its end, by steps or by time."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any, Literal, TypeAlias

from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from dynamic_tinybert.train.errors import TrainingError

Schedule: TypeAlias = Literal["linear", "plateau"]

COOLDOWN = 1 / 3
"""The share of a stage, at its end, in which the learning rate of a plateau falls."""

STATE = "trainer_state.json"
"""The last file that transformers writes into a checkpoint."""


def learning_rate_at(done: float, warmup: float, schedule: Schedule = "linear") -> float:
    """Return the factor of the learning rate when a share of the stage is done.

    `linear` rises linearly, then falls linearly to 0. `plateau` rises, stays constant, and falls to 0 in the last third
    (Hägele et al., 2024, arXiv 2405.18392); while it stays constant, the run can still be made longer.

    Args:
        done: The share that is done, in [0, 1]; greater values count as 1.
        warmup: The share at which the factor reaches 1.
        schedule: `linear` or `plateau`.
    """
    if done < warmup:
        return done / warmup
    falls = max(warmup, 1.0 - COOLDOWN) if schedule == "plateau" else warmup
    return min(1.0, max(0.0, (1.0 - done) / (1.0 - falls)))


def cooling(done: float, schedule: Schedule) -> bool:
    """Return whether the learning rate is in its final fall; always true for `linear`."""
    return schedule == "linear" or done > 1.0 - COOLDOWN


class Clock(TrainerCallback, ExportableState):  # type: ignore[misc]
    """End a stage after its time, and ask for an evaluation and a checkpoint at intervals and at the end.

    All processes of a distributed run use the clock of the first one.

    Args:
        limit: Seconds that the stage may take, with evaluations and checkpoints; None if epochs limit it.
        every: Seconds between checkpoints; None if steps decide.
        elapsed: Seconds spent before, if the stage is resumed.
    """

    def __init__(self, limit: float | None, every: float | None, elapsed: float = 0.0) -> None:
        self.limit = limit
        self.elapsed = elapsed
        self._every = every
        self._saved = elapsed
        self._just_saved = False
        self._began = time.monotonic() - elapsed

    def state(self) -> dict[str, Any]:
        """Return the state to store in a checkpoint."""
        return {"args": {}, "attributes": {"elapsed": time.monotonic() - self._began}}

    def done(self) -> float:
        """Return the share of the time that has passed, in [0, 1]; 0 without a limit."""
        return 0.0 if self.limit is None else min(1.0, self.elapsed / self.limit)

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self._began = time.monotonic() - self.elapsed

    def on_step_begin(self, args: TrainingArguments, *_: Any, **__: Any) -> None:
        """Update `elapsed`, from the clock of the first process."""
        now = [time.monotonic() - self._began]
        if args.world_size > 1:
            broadcast_object_list(now)
        (self.elapsed,) = now
        if self._just_saved:  # the time to evaluate and save does not count towards the next checkpoint
            self._saved, self._just_saved = self.elapsed, False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Set the flags to stop, evaluate and save if they are due."""
        if self.limit is not None and self.elapsed >= self.limit:
            control.should_training_stop = True
        due = self._every is not None and self.elapsed - self._saved >= self._every
        if due or control.should_training_stop or state.global_step >= state.max_steps:
            self._just_saved = True
            control.should_evaluate = control.should_save = True
        return control


def last_checkpoint(folder: Path) -> tuple[Path | None, float]:
    """Find the last complete checkpoint of a stage, and remove later ones that are incomplete.

    Returns:
        The checkpoint, or None; and the seconds spent up to it.
    """
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    for checkpoint in sorted(found, key=lambda path: -int(path.name.removeprefix("checkpoint-"))):
        try:
            state = json.loads((checkpoint / STATE).read_text("utf-8"))
            return checkpoint, float(state["stateful_callbacks"]["Clock"]["attributes"]["elapsed"])
        except (OSError, ValueError, LookupError, TypeError):  # noqa: PERF203 - there are two or three
            shutil.rmtree(checkpoint, ignore_errors=True)
    return None, 0.0


def check_disk(folder: Path, needed: int) -> None:
    """Check that the disk has room for a stage's checkpoints.

    Args:
        folder: The folder of the checkpoints.
        needed: The size of the checkpoints in bytes.

    Raises:
        TrainingError: The disk does not have enough room.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise TrainingError(
            f"the disk of {folder} has {free / 1e9:.1f} GB free, and checkpoints will need {needed / 1e9:.1f} GB: make "
            "room, or give another --output"
        )
