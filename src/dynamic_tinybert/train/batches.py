"""Put features of similar length into batches, in an order that depends only on seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers.trainer_pt_utils import get_length_grouped_indices


class LengthGrouped(torch.utils.data.Sampler[int]):  # type: ignore[misc]
    """Sample features of similar length together, for batches of a fixed number of features.

    Args:
        lengths: The number of tokens of each feature.
        batch: The number of features of a step.
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
    """Sample batches by a maximum number of tokens with padding, so that all batches take about the same time.

    Features are sorted by length and cut into batches. Each epoch shuffles the features of equal length, and the
    batches. So every epoch has the same number of batches, and there is almost no padding.

    In a distributed run, each process takes every n-th batch; a few batches come twice, so that all have equally many.
    accelerate would leave out all batches that are not of one size.

    Args:
        lengths: The number of tokens of each feature.
        tokens: The most tokens of a batch, with padding; a longer feature is a batch by itself.
        seed: The seed.
        process: The number of this process, from 0.
        processes: The number of processes.

    Attributes:
        total: The number of batches of all processes, each counted once.
    """

    batch_size = 1
    """accelerate requires this attribute of a batch sampler, but does not use it for one process."""

    def __init__(self, lengths: Sequence[int], tokens: int, seed: int, *, process: int = 0, processes: int = 1) -> None:
        self._process, self._processes = process, processes
        self._lengths = torch.tensor(lengths, dtype=torch.long)
        self._seed = seed
        self._epoch = 0
        self._ends = cut_batches(self._lengths.sort().values.tolist(), tokens)  # in the features by length
        self.total = len(self._ends)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes: the loader does."""
        self._epoch = epoch

    def __len__(self) -> int:
        return -(-self.total // self._processes)

    def __iter__(self) -> Iterator[list[int]]:
        generator = _generator(self)
        mixed = torch.randperm(len(self._lengths), generator=generator)
        order = mixed[self._lengths[mixed].sort(stable=True).indices].tolist()
        batches = torch.randperm(self.total, generator=generator).tolist()
        for place in range(self._process, len(self) * self._processes, self._processes):
            batch = batches[place % self.total]
            yield order[self._ends[batch - 1] if batch else 0 : self._ends[batch]]


def cut_batches(lengths: Sequence[int], tokens: int) -> list[int]:
    """Cut features into as few batches as possible, each of at most `tokens` tokens with padding.

    Args:
        lengths: The number of tokens of each feature, ascending.
        tokens: The most tokens of a batch; a longer feature is a batch by itself.

    Returns:
        The end of each batch, as an index into the features.
    """
    ends, begin = [], 0
    for at, length in enumerate(lengths):
        if at > begin and (at + 1 - begin) * length > tokens:
            ends.append(at)
            begin = at
    return [*ends, len(lengths)] if lengths else []


def _generator(sampler: LengthGrouped | TokenBatches) -> torch.Generator:
    return torch.Generator().manual_seed(sampler._seed * 1_000_003 + sampler._epoch)
