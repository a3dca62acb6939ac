"""Which features form a batch: those of like length, in an order that depends on seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers.trainer_pt_utils import get_length_grouped_indices


class LengthGrouped(torch.utils.data.Sampler[int]):  # type: ignore[misc]
    """Puts features of like length into one batch of a fixed number.

    Args:
        lengths: Tokens of each feature.
        batch: Features of a step.
        seed: The seed.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self._lengths = list(lengths)
        self._batch = batch
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes: the loader does."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        return iter(get_length_grouped_indices(self._lengths, self._batch, generator=_generator(self)))


class TokenBatches(torch.utils.data.Sampler[list[int]]):  # type: ignore[misc]
    """Batches of at most so many tokens, padding counted: each takes about as long as any other.

    Features are sorted by length, those of one length in a new order at each epoch, and cut into batches, which come in
    a new order too. So every epoch has the same number of batches, and almost nothing is padded.

    Args:
        lengths: Tokens of each feature.
        tokens: Tokens of a batch at most; a feature that is longer is a batch by itself.
        seed: The seed.
    """

    batch_size = 1
    """What is asked of a sampler of batches by accelerate, which does not use it here."""

    def __init__(self, lengths: Sequence[int], tokens: int, seed: int) -> None:
        self._lengths = torch.tensor(lengths, dtype=torch.long)
        self._seed = seed
        self._epoch = 0
        self._ends = cut_batches(self._lengths.sort().values.tolist(), tokens)  # in the features by length

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes: the loader does."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[list[int]]:
        generator = _generator(self)
        mixed = torch.randperm(len(self._lengths), generator=generator)
        order = mixed[self._lengths[mixed].sort(stable=True).indices].tolist()
        for batch in torch.randperm(len(self._ends), generator=generator).tolist():
            yield order[self._ends[batch - 1] if batch else 0 : self._ends[batch]]


def cut_batches(lengths: Sequence[int], tokens: int) -> list[int]:
    """Cut features into batches of at most so many tokens, padding counted, as few as can be.

    Args:
        lengths: Tokens of each feature, ascending.
        tokens: Tokens of a batch at most; a feature that is longer is a batch by itself.

    Returns:
        Where each batch ends.
    """
    ends, begin = [], 0
    for at, length in enumerate(lengths):
        if at > begin and (at + 1 - begin) * length > tokens:
            ends.append(at)
            begin = at
    return [*ends, len(lengths)] if lengths else []


def _generator(sampler: LengthGrouped | TokenBatches) -> torch.Generator:
    return torch.Generator().manual_seed(sampler._seed * 1_000_003 + sampler._epoch)
