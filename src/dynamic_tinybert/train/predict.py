"""Compute stored logits: predict every window once, with one or more teachers; resumable."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dynamic_tinybert.folder import called
from dynamic_tinybert.inference import Progress
from dynamic_tinybert.train.arithmetic import uses_bf16
from dynamic_tinybert.train.batches import cut_batches
from dynamic_tinybert.train.errors import TrainingError
from dynamic_tinybert.train.features import Batch, Feature, collate
from dynamic_tinybert.train.logits import (
    FILE,
    NEVER,
    LogitsTable,
    StoredLogits,
    greatest_logits,
    read_table,
    window_keys,
)
from dynamic_tinybert.train.models import Inputs, Teacher, shape_of
from dynamic_tinybert.train.progress import Reporter
from dynamic_tinybert.train.settings import LogitsStage
from dynamic_tinybert.train.vocabulary import Vocabulary

_MULTIPLE = 16  # batches are padded to a multiple of this many tokens
_BATCH_TOKENS = 8192
_PART = "part.npz"
_LITTLE = 0.8  # share of the probability; a fine-tuned teacher's 16 greatest logits hold more
_SAVE_EVERY = 240.0  # seconds

Predict: TypeAlias = "Callable[[Batch], Any]"
Rows: TypeAlias = "npt.NDArray[np.int64]"


class LogitsMaker:
    """Compute the logits of windows, each once.

    Args:
        features: The windows; windows with the same tokens share a row.
        k: How many start logits, and how many end logits, to keep.
        start: Logits that were computed before; the rows of windows in it are reused.

    Attributes:
        taken: The number of windows reused from `start`.

    Raises:
        TrainingError: A window is too long for a file, which stores token numbers as int16.
    """

    def __init__(self, features: Sequence[Feature], k: int, start: LogitsTable | None = None) -> None:
        self._keys, first = np.unique(window_keys(features), return_index=True)
        self._features = [features[at] for at in first]
        self._lengths = np.array([len(feature) for feature in self._features], np.int64)
        if self._lengths.size and self._lengths.max() > np.iinfo(np.int16).max:
            raise TrainingError(f"a window of {self._lengths.max():,} tokens is too long: lower data.max_seq_len")
        rows = len(self._keys)
        self._index = np.zeros((rows, 2, k), np.int16)
        self._value = np.full((rows, 2, k), NEVER, np.float16)
        self._mass = np.full((rows, 2), np.nan, np.float16)
        self._have = np.zeros(rows, bool)
        if start is not None:
            self._take(start)
        self.taken = int(self._have.sum())
        self._todo = np.flatnonzero(~self._have)

    @property
    def missing(self) -> int:
        """The number of windows without logits."""
        return int((~self._have).sum())

    def resume(self, part: Path) -> None:
        """Reuse the rows that an earlier run saved for the same windows, if there are any.

        Raises:
            TrainingError: The file is damaged.
        """
        if part.is_file():
            self._take(read_table(part, self._features))

    def compute(
        self,
        predict: Sequence[Predict],
        *,
        pad: int,
        batch_tokens: int = _BATCH_TOKENS,
        positions: int | None = None,
        device: torch.device | str = "cpu",
        part: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Predict the missing windows. Batches depend only on the windows and `start`, not on where a run was killed.

        Args:
            predict: Functions that predict a batch, one for each teacher; each returns an output of transformers.
            pad: The id of [PAD].
            batch_tokens: The most tokens of a batch, with padding; a longer window is a batch by itself.
            positions: The longest window that all teachers support, in tokens.
            device: The device of the batches.
            part: The file in which rows are saved every few minutes.
            progress: Called with the number of windows done and their total.

        Raises:
            TrainingError: A logit is NaN or infinite.
            OSError: `part` cannot be written.
        """
        saved = time.monotonic()
        for batch in plan_batches(self._lengths, self._todo, batch_tokens):
            rows = batch[~self._have[batch]]
            if not rows.size:
                continue
            fed = _padded([(int(row), self._features[row]) for row in rows], pad, positions)
            fed = {name: value.to(device) for name, value in fed.items()}
            with torch.inference_mode():
                outputs = [teacher(fed) for teacher in predict]
                kept = greatest_logits(outputs, fed["attention_mask"], self._value.shape[2])
            for mine, found in zip((self._index, self._value, self._mass), kept, strict=True):
                mine[rows] = found.cpu().numpy()
            self._have[rows] = True
            if progress:
                progress(int(self._have.sum()), len(self._have))
            if part is not None and time.monotonic() - saved >= _SAVE_EVERY and self.missing:
                self.table().write(part, packed=False)
                saved = time.monotonic()

    def table(self, teachers: Sequence[str] = ()) -> LogitsTable:
        """Return the rows computed so far."""
        have = self._have
        return LogitsTable(self._keys[have], self._index[have], self._value[have], self._mass[have], tuple(teachers))

    def _take(self, table: LogitsTable) -> None:
        table = table.keep(self._value.shape[2])
        rows = table.find(self._keys)
        there = np.flatnonzero(rows >= 0)
        self._index[there], self._value[there] = table.index[rows[there]], table.value[rows[there]]
        self._mass[there], self._have[there] = table.mass[rows[there]], True


def plan_batches(lengths: Rows, rows: Rows, batch_tokens: int) -> list[Rows]:
    """Cut windows into batches of nearly equal lengths, in a shuffled order that is always the same.

    Args:
        lengths: The number of tokens of every window.
        rows: The indices of the windows to use.
        batch_tokens: The most tokens of a batch after padding to a multiple of 16; one window is always allowed.
    """
    order = rows[np.argsort(lengths[rows], kind="stable")]
    padded = -(-lengths[order] // _MULTIPLE) * _MULTIPLE
    ends = cut_batches(padded.tolist(), batch_tokens)
    batches = [order[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    return [batches[at] for at in np.random.default_rng(0).permutation(len(batches))]


def logits_of(
    model: Any, inputs: Inputs, features: Sequence[Feature], pad: int, k: int, *, bf16: bool, progress: Any = None
) -> StoredLogits:
    """Predict all features with a model, and keep the k greatest logits of each.

    Args:
        model: A question-answering model of transformers; it is left in evaluation mode.
        inputs: Prepares the model's inputs.
        features: The features.
        pad: The id of [PAD].
        k: How many logits to keep.
        bf16: Whether to compute in bfloat16.
        progress: Called with the number of windows done and their total.

    Raises:
        TrainingError: A logit is NaN or infinite.
    """
    device = model.device
    model.eval()

    def predict(batch: Batch) -> Any:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return model(**inputs(batch))

    maker = LogitsMaker(features, k)
    positions = shape_of(model.config).positions
    maker.compute([predict], pad=pad, positions=positions, device=device, progress=progress)
    table = maker.table()
    return StoredLogits.from_table(table, table.find(window_keys(features)))


def run_logits_stage(
    stage: LogitsStage,
    teachers: Sequence[str | Path],
    features: Sequence[Feature],
    *,
    vocabulary: Vocabulary,
    pad: int,
    device: torch.device,
    folder: Path,
    reporter: Reporter,
    start: LogitsTable | None = None,
) -> dict[str, float]:
    """Compute the logits of a stage and write its file; continue an earlier run that was killed.

    Args:
        stage: The settings of the stage.
        teachers: Model folders or names on the Hub; if empty, `stage.start` must hold every window.
        features: The training features of the recipe.
        vocabulary: The vocabulary that features are made with.
        pad: The id of [PAD].
        device: The device of the teachers.
        folder: The folder of the stage.
        reporter: Reports progress.
        start: The content of `stage.start`.

    Returns:
        `windows`, the number of windows; and `mass_mean` and `mass_min`, the share of the teachers' probability that is
        kept, if it is known.

    Raises:
        TrainingError: A teacher cannot be loaded; or windows are missing and there is no teacher.
        OSError: A file cannot be written.
    """
    name, part = folder.name, folder / _PART
    for draft in folder.glob(f".{_PART}.*"):  # left by a run that was killed while it saved
        draft.unlink()
    maker = LogitsMaker(features, stage.keep, start)
    if stage.start is not None:
        reporter.say(f"{name}: {maker.taken:,} windows are taken over from {stage.start}, {maker.missing:,} are left")
    maker.resume(part)
    if maker.missing and not teachers:
        raise TrainingError(
            f"{stage.start} lacks the logits of {maker.missing:,} windows, and the stage {name} has no teacher that "
            "computes them: give it teachers: [FOLDER]"
        )
    names = [called(str(teacher)) for teacher in teachers]
    if start is not None and start.teachers and names and list(start.teachers) != names:
        reporter.say(
            f"{name}: {stage.start} is of {', '.join(start.teachers)}, the other windows of {', '.join(names)}"
        )
    if maker.missing:
        models = [_load(teacher, vocabulary, bf16=uses_bf16(stage)) for teacher in teachers]
        with reporter.bar(name) as bar:
            maker.compute(
                models,
                pad=pad,
                batch_tokens=stage.batch_tokens,
                positions=min(shape_of(teacher.model.config).positions for teacher in models),
                device=device,
                part=part,
                progress=lambda done, total: bar.update(done / total, f"{done:,} of {total:,} windows"),
            )
    elif start is not None:
        names = list(start.teachers)
    table = maker.table(names)
    table.write(folder / FILE)
    part.unlink(missing_ok=True)
    stored = StoredLogits.from_table(table, np.arange(len(table.keys)))
    say_mass(reporter, name, stored)
    return {"windows": float(len(table.keys)), **stored.figures()}


def say_mass(reporter: Reporter, name: str, stored: StoredLogits) -> None:
    """Report how much of the teacher's probability was kept."""
    found = stored.figures()
    rows, _, k = stored.value.shape
    what = f"{name}: the {k} greatest logits of {rows:,} windows"
    if not found:
        reporter.say(f"{what} are stored; which share of the teacher's probability they hold is not known")
        return
    mean, least = found["mass_mean"], found["mass_min"]
    reporter.say(f"{what} hold {mean:.2%} of the teacher's probability, {least:.2%} at least")
    if mean < _LITTLE:
        reporter.say(f"{name}: that is low: is the teacher fine-tuned to answer questions? If it is, keep more logits")


def _load(model: str | Path, vocabulary: Vocabulary, *, bf16: bool) -> Teacher:
    """Load a teacher; with `bf16` its weights are bfloat16, but its head stays float32, for more precise logits."""
    teacher = Teacher(model, vocabulary)
    if bf16:
        teacher.model.bfloat16()
        with contextlib.suppress(AttributeError):  # a head with another name stays in bfloat16
            head = teacher.model.qa_outputs.float()
            head.register_forward_pre_hook(lambda _, given: tuple(x.float() for x in given))
    return teacher


def _padded(features: list[tuple[int, Feature]], pad: int, positions: int | None) -> dict[str, Tensor]:
    """Make a batch without labels, padded to a multiple of 16 tokens, but at most to `positions`."""
    batch = collate(features, pad)
    tokens = batch["input_ids"].shape[1]
    wanted = -(-tokens // _MULTIPLE) * _MULTIPLE
    more = max(0, (wanted if positions is None else min(wanted, positions)) - tokens)
    fills = {"input_ids": pad, "attention_mask": 0, "token_type_ids": 0}
    return {name: torch.nn.functional.pad(batch[name], (0, more), value=fill) for name, fill in fills.items()}
