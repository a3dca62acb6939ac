"""Tables by position and by distance, which the builders make into constants of a graph."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.model import Disentangled


def distance_bias(buckets: npt.NDArray[np.float32], positions: int) -> npt.NDArray[np.float32]:
    """Return the attention bias of each distance of two tokens (Raffel et al., 2020; MPNet, Song et al., 2020).

    There are 32 buckets: 16 for keys before or at the query and 16 for keys after it. In each half, the distances
    below 8 have a bucket each. Longer distances share buckets in logarithmic steps, and from 128 on the last bucket.

    Args:
        buckets: The bias of each bucket, `[32 or more, heads]`.
        positions: The longest sequence.

    Returns:
        `[2 positions - 1, heads]`: by the key's position minus the query's position, from `1 - positions`.
    """
    half, own, longest = 16, 8, 128
    apart = np.arange(1 - positions, positions)
    size = np.abs(apart)
    far = np.log(np.maximum(size, own).astype(np.float32) / np.float32(own)) / np.float32(np.log(longest / own))
    far = np.minimum(own + (far * np.float32(half - own)).astype(np.int64), half - 1)
    by_distance: npt.NDArray[np.float32] = buckets[np.where(size < own, size, far) + half * (apart > 0)]
    return by_distance


def distance_buckets(relative: Disentangled, positions: int) -> npt.NDArray[np.int32]:
    """Return the bucket of each distance, the row of the table of relative positions.

    Distances up to half of the span have a bucket each. Longer ones share buckets in logarithmic steps, up to the
    distance `longest` - 1. Without `longest`, all distances have their own buckets. The last bucket of each side has
    all that are longer.

    Args:
        relative: The sizes of the buckets.
        positions: The longest sequence.

    Returns:
        `[2 positions - 1]`: by the query's position minus the key's position, from `1 - positions`.
    """
    span, distances = relative.span, np.arange(1 - positions, positions)
    steps = distances.astype(np.float32)
    if relative.longest:
        own = span // 2
        size = np.maximum(np.abs(distances), own).astype(np.float32) / np.float32(own)
        logs = np.log(size) / np.log(np.float32((relative.longest - 1) / own)) * np.float32(own - 1)
        far = (np.ceil(logs) + own) * np.sign(distances)
        steps = np.where(np.abs(distances) <= own, steps, far)
    return np.clip(steps.astype(np.int64) + span, 0, 2 * span - 1).astype(np.int32)


def rotary_angles(base: float, size: int, positions: int) -> npt.NDArray[np.float32]:
    """Return the angle of each position and each pair of a head's channels, `[positions, size / 2]`.

    An angle is as large as a position, so the rounding of a frequency shows: it is rounded as in transformers.
    """
    steps = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    frequencies = np.float32(1) / (base ** steps.astype(np.float64)).astype(np.float32)
    return np.arange(positions, dtype=np.float32)[:, None] * frequencies
