"""Stored logits: a teacher's greatest logits for each window, in a file that students learn from."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dynamic_tinybert.files import write_whole
from dynamic_tinybert.train.errors import TrainingError
from dynamic_tinybert.train.features import Batch, Feature, fingerprint
from dynamic_tinybert.train.losses import log_probabilities, stored_cross_entropy

KEPT = 24
"""How many start logits, and how many end logits, are kept by default."""

NEVER = -1e4
"""The logit that pads the row of a window with fewer tokens than logits are kept; its probability is 0."""

FILE = "logits.npz"
"""The name of the file of stored logits in the folder of a stage."""

_FORM = 2

Keys: TypeAlias = "npt.NDArray[np.bytes_]"
Ints: TypeAlias = "npt.NDArray[np.int16]"
Halves: TypeAlias = "npt.NDArray[np.float16]"
Words: TypeAlias = "Callable[[list[int]], str]"


def window_keys(features: Sequence[Feature]) -> Keys:
    """Return the key of each window, `[features]`, 16 bytes each.

    A key is the BLAKE2b digest, 16 bytes long, of little-endian int32 numbers: the offset where the text begins, then
    the ids of all tokens. It does not depend on labels, since a teacher does not see them.
    """
    digests = (
        hashlib.blake2b(np.int32(f.offset).astype("<i4").tobytes() + f.ids.astype("<i4").tobytes(), digest_size=16)
        for f in features
    )
    return np.frombuffer(b"".join(digest.digest() for digest in digests), "S16")


@dataclass(frozen=True, eq=False)
class LogitsTable:
    """The content of a file of stored logits: a row for each window, sorted by key.

    Attributes:
        keys: The keys of the windows, `[rows]`, without duplicates; see `window_keys`.
        index: The tokens of the greatest logits, `[rows, 2, k]`; start, then end.
        value: The log-probabilities of these tokens, `[rows, 2, k]`: the logits minus a constant for each row and side,
            the log of the sum of all exponentials. No loss depends on that constant.
        mass: The share of the teacher's probability that these tokens hold, `[rows, 2]`; NaN if it is not known.
        teachers: The names of the teachers; empty if they are not known.
    """

    keys: Keys
    index: Ints
    value: Halves
    mass: Halves
    teachers: tuple[str, ...] = ()

    @classmethod
    def of(cls, keys: Keys, index: Any, value: Any, mass: Any, teachers: Sequence[str] = ()) -> LogitsTable:
        """Make a table from rows in any order; of rows with the same key, the first stays."""
        unique, first = np.unique(keys, return_index=True)
        arrays = (index[first].astype(np.int16), value[first].astype(np.float16), mass[first].astype(np.float16))
        return cls(unique, *arrays, tuple(teachers))

    def find(self, keys: Keys) -> npt.NDArray[np.int64]:
        """Return the row number of each key, `[keys]`; -1 for a key that is not in the table."""
        if not len(self.keys):
            return np.full(len(keys), -1, np.int64)
        at = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        return np.where(self.keys[at] == keys, at, -1)

    def keep(self, k: int) -> LogitsTable:
        """Return a table of the k greatest logits of each row, padded with `NEVER` if there are fewer."""
        index, value, mass = self.index[..., :k], self.value[..., :k], self.mass
        if k < self.value.shape[2]:
            each = _softmax(self.value)
            mass = (mass * each[..., :k].sum(-1)).astype(np.float16)
        more = [(0, 0), (0, 0), (0, k - value.shape[2])]
        value = np.pad(value, more, constant_values=NEVER)
        return LogitsTable(self.keys, np.pad(index, more), value, mass, self.teachers)

    def write(self, path: Path, *, packed: bool = True) -> None:
        """Write a file of stored logits, completely or not at all; the same table always gives the same bytes.

        Raises:
            OSError: The file cannot be written.
        """
        content = io.BytesIO()
        (np.savez_compressed if packed else np.savez)(
            content,
            form=np.array(_FORM),
            keys=self.keys,
            index=self.index,
            value=self.value,
            mass=self.mass,
            teachers=np.array(json.dumps(self.teachers, ensure_ascii=False)),
        )
        write_whole(path, content.getvalue())


def read_table(path: Path, features: Sequence[Feature]) -> LogitsTable:
    """Read a file of stored logits, in the first or the present form.

    Earlier versions wrote the first form. It has no keys: its rows follow the order of the features it was made from.

    Args:
        path: The file.
        features: The features that a file of the first form must be made from; the present form does not need them.

    Raises:
        TrainingError: The file cannot be read, or it has the first form and was made from other features.
    """
    try:
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        table = _of_first_form(path, arrays, features) if "features" in arrays else _of_present_form(arrays)
    except TrainingError:
        raise
    except Exception as error:  # numpy, zipfile and zlib raise different errors for a damaged file
        raise TrainingError(f"{path} is not a file of stored logits: {error}") from None
    return table


class StoredLogits:
    """The greatest start and end logits of a teacher for every feature of a run.

    Attributes:
        index: The tokens, `[features, 2, k]`; start, then end.
        value: Their logits, `[features, 2, k]`, up to a constant for each feature and side.
        mass: The share of the teacher's probability that they hold, `[features, 2]`; NaN if it is not known.
        teachers: The names of the teachers; empty if they are not known.
    """

    def __init__(self, index: Tensor, value: Tensor, mass: Tensor, teachers: Sequence[str] = ()) -> None:
        self.index = index
        self.value = value
        self.mass = mass
        self.teachers = tuple(teachers)

    @classmethod
    def read(cls, path: Path, features: Sequence[Feature], words: Words | None = None) -> StoredLogits:
        """Read the rows of some features from a file of stored logits, which may hold other rows too.

        Args:
            path: The file, in the first or the present form: see `read_table`.
            features: The features.
            words: Returns the text of token ids, with which an error names a window; by default it shows the ids.

        Raises:
            TrainingError: The file cannot be read, or lacks some of the features.
        """
        table = read_table(path, features)
        rows = table.find(window_keys(features))
        if (missing := np.flatnonzero(rows < 0)).size:
            raise TrainingError(
                f"{path} lacks the logits of {missing.size:,} of {len(features):,} windows, the first "
                f"{_named(features[missing[0]], words)}: compute them with a stage of the kind logits (start: {path} "
                "takes over those that are there)"
            )
        stored = cls.from_table(table, rows)
        lengths = torch.tensor([len(feature) for feature in features])
        wrong = ((stored.index >= lengths[:, None, None]) & (stored.value > NEVER / 2)).flatten(1).any(1)
        if bool(wrong.any()):
            raise TrainingError(
                f"{path} is damaged: it gives {int(wrong.sum()):,} windows logits of tokens that they do not have; "
                "compute it again"
            )
        return stored

    @classmethod
    def from_table(cls, table: LogitsTable, rows: npt.NDArray[np.int64]) -> StoredLogits:
        """Make stored logits from rows of a table."""
        index = torch.from_numpy(table.index[rows].astype(np.int64))
        value = torch.from_numpy(table.value[rows].astype(np.float32))
        mass = torch.from_numpy(table.mass[rows].astype(np.float32))
        return cls(index.masked_fill(value <= NEVER / 2, 0), value, mass, table.teachers)

    def write(self, path: Path, features: Sequence[Feature]) -> None:
        """Write a file of stored logits for these features: at most 4 bytes a logit, since it is compressed.

        Raises:
            OSError: The file cannot be written.
        """
        index, value, mass = (x.cpu().numpy() for x in (self.index, self.value, self.mass))
        LogitsTable.of(window_keys(features), index, value, mass, self.teachers).write(path)

    def figures(self) -> dict[str, float]:
        """Return `mass_mean` and `mass_min`: the share of the teacher's probability that the rows hold, if known."""
        known = self.mass[~self.mass.isnan()].double()
        if not len(known):
            return {}
        return {"mass_mean": round(float(known.mean()), 6), "mass_min": round(float(known.min()), 6)}

    def loss(self, output: Any, batch: Batch, temperature: float) -> Tensor:
        """Return the soft cross-entropy of a student against the stored logits: the mean of start and end."""
        rows = batch["index"]
        if self.index.device != rows.device:
            self.index, self.value = self.index.to(rows.device), self.value.to(rows.device)
        index, value = self.index[rows], self.value[rows]
        mask = batch["attention_mask"]
        start = stored_cross_entropy(output.start_logits, index[:, 0], value[:, 0], mask, temperature)
        return (start + stored_cross_entropy(output.end_logits, index[:, 1], value[:, 1], mask, temperature)) / 2


def greatest_logits(outputs: Sequence[Any], mask: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the k greatest logits of a teacher, or of the mean of several teachers.

    The mean is that of the teachers' log-probabilities. It equals the mean of their logits up to a constant, and its
    distribution is the geometric mean of theirs.

    Args:
        outputs: The output of each teacher for a batch, with `start_logits` and `end_logits` `[batch, tokens]`.
        mask: 1 for a token and 0 for padding, `[batch, tokens]`.
        k: How many logits to keep.

    Returns:
        Tokens and log-probabilities, `[batch, 2, k]`, and the share of the probability that they hold, `[batch, 2]`. If
        a window has fewer tokens, the rest is token 0 and `NEVER`.

    Raises:
        TrainingError: A logit is NaN or infinite.
    """
    found = []
    for side in ("start_logits", "end_logits"):
        each = torch.stack([log_probabilities(getattr(output, side), mask) for output in outputs])
        if not bool(each.isfinite().all()):
            raise TrainingError("the teacher's logits are NaN or infinite: set precision: fp32, or use another teacher")
        value, index = log_probabilities(each.mean(0), mask).topk(min(k, mask.shape[1]))
        mass = value.exp().sum(-1).clamp(max=1)
        lacking = mask.gather(1, index) == 0
        more = (0, k - index.shape[1])
        index = torch.nn.functional.pad(index.masked_fill(lacking, 0), more)
        found.append((index, torch.nn.functional.pad(value.masked_fill(lacking, NEVER), more, value=NEVER), mass))
    index, value, mass = (torch.stack(part, 1) for part in zip(*found, strict=True))
    return index, value, mass


def _of_present_form(arrays: dict[str, Any]) -> LogitsTable:
    if "form" not in arrays:
        raise ValueError("it holds other arrays")
    if (form := int(arrays["form"])) != _FORM:
        raise ValueError(f"it is of form {form}, and this version reads forms 1 and {_FORM}")
    keys, index, value, mass = (arrays[name] for name in ("keys", "index", "value", "mass"))
    rows, _, k = value.shape
    wanted = {"keys": ("|S16", (rows,)), "index": ("<i2", (rows, 2, k)), "value": ("<f2", (rows, 2, k))}
    wanted["mass"] = ("<f2", (rows, 2))
    for name, (kind, shape) in wanted.items():
        if arrays[name].dtype.str != kind or arrays[name].shape != shape:
            raise ValueError(f"{name} is {arrays[name].dtype} {list(arrays[name].shape)}, not {kind} {list(shape)}")
    _check(index, value)
    if not (keys[1:] > keys[:-1]).all():
        raise ValueError("its keys are not sorted")
    return LogitsTable(keys, index, value, mass, tuple(json.loads(str(arrays["teachers"]))))


def _of_first_form(path: Path, arrays: dict[str, Any], features: Sequence[Feature]) -> LogitsTable:
    """Read the first form. A run that did not end leaves a part of it; `have` says for which features."""
    index, value = arrays["index"], arrays["value"]
    have = arrays.get("have", np.ones(len(index), bool))
    if str(arrays["features"]) != fingerprint(features):
        raise TrainingError(
            f"the logits in {path} are of other features ({len(have):,}, here are {len(features):,}), and their old "
            "form serves no others: convert it with the data, lengths, limit, impossible share, seed and tokenizer of "
            "its run (a stage of the kind logits, start: FILE), or compute the logits again"
        )
    _check(index, value)
    if index.shape != value.shape or index.shape[:2] != (int(have.sum()), 2) or len(have) != len(features):
        raise ValueError("its arrays do not match each other")
    return LogitsTable.of(window_keys(features)[have], index, value, np.full(index.shape[:2], np.nan))


def _check(index: Any, value: Any) -> None:
    if not np.isfinite(value).all() or (index < 0).any():
        raise ValueError("it holds NaN, or numbers of tokens below 0")


def _named(feature: Feature, words: Words | None) -> str:
    """Describe a window by its question, or by its ids if `words` is None."""
    question = feature.ids[1 : feature.offset - 1].tolist()
    if words is None:
        return f"has the token ids {str(feature.ids[:8].tolist())[1:-1]} ..."
    return f"is of the question {words(question)[:80]!r}"


def _softmax(value: Halves) -> npt.NDArray[np.float32]:
    raised = np.exp(value.astype(np.float32) - value.max(-1, keepdims=True).astype(np.float32))
    return raised / raised.sum(-1, keepdims=True)  # type: ignore[no-any-return]
