"""When a stage saves and ends, by steps or by the clock."""

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
"""The share of the work over which the learning rate of a plateau falls, at its end."""

STATE = "trainer_state.json"
"""The last file that transformers writes into a checkpoint."""


def learning_rate_at(done: float, warmup: float, schedule: Schedule = "linear") -> float:
    """The factor of the learning rate when a share of the work is done.

    `linear` rises in a line and falls in one to 0. `plateau` rises, stays, and falls to 0 in the last third of the work
    (Hägele et al., 2024, arXiv 2405.18392): while it stays, the run may still be made longer.

    Args:
        done: The share of the work, in [0, 1] (a little more passes for 1).
        warmup: The share at which the factor is 1.
        schedule: Which of the two.
    """
    if done < warmup:
        return done / warmup
    falls = max(warmup, 1.0 - COOLDOWN) if schedule == "plateau" else warmup
    return min(1.0, max(0.0, (1.0 - done) / (1.0 - falls)))


def cooling(done: float, schedule: Schedule) -> bool:
    """Whether the learning rate of a run has begun to fall for good."""
    return schedule == "linear" or done > 1.0 - COOLDOWN


class Clock(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Ends a stage after its time, and asks for an evaluation and a checkpoint now and then, and at the end.

    All processes of a distributed run go by the first one's clock.

    Args:
        limit: Seconds that the stage may take, evaluations and checkpoints included; None leaves it to the epochs.
        every: Seconds from checkpoint to checkpoint; None leaves them to the steps.
        elapsed: Seconds that were spent before, where a stage is taken up again.
    """

    def __init__(self, limit: float | None, every: float | None, elapsed: float = 0.0) -> None:
        self.limit = limit
        self.elapsed = elapsed
        self._every = every
        self._saved = elapsed
        self._just_saved = False
        self._began = time.monotonic() - elapsed

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"args": {}, "attributes": {"elapsed": time.monotonic() - self._began}}

    def done(self) -> float:
        """The share of the time that is over."""
        return 0.0 if self.limit is None else min(1.0, self.elapsed / self.limit)

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start to count."""
        self._began = time.monotonic() - self.elapsed

    def on_step_begin(self, args: TrainingArguments, *_: Any, **__: Any) -> None:
        """Look at the clock."""
        now = [time.monotonic() - self._began]
        if args.world_size > 1:
            broadcast_object_list(now)
        (self.elapsed,) = now
        if self._just_saved:  # what evaluating and saving took does not count for the next time
            self._saved, self._just_saved = self.elapsed, False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Say what is due."""
        if self.limit is not None and self.elapsed >= self.limit:
            control.should_training_stop = True
        due = self._every is not None and self.elapsed - self._saved >= self._every
        if due or control.should_training_stop or state.global_step >= state.max_steps:
            self._just_saved = True
            control.should_evaluate = control.should_save = True
        return control


def last_checkpoint(folder: Path) -> tuple[Path | None, float]:
    """Find the last whole checkpoint of a stage, and take away those that were being written when it ended.

    Returns:
        The checkpoint, or None; and the seconds that were spent up to it.
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
    """Check that there is room for a stage's checkpoints.

    Args:
        folder: Where they go.
        needed: Bytes.

    Raises:
        TrainingError: There is not.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise TrainingError(
            f"the disk of {folder} has {free / 1e9:.1f} GB free, and checkpoints will need {needed / 1e9:.1f} GB: make "
            "room, or give another --output"
        )
