"""Precisions, and tensors in INT8 with a scale for each row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Precision: TypeAlias = Literal["fp32", "int8"]
"""The arithmetic of projections: float32, or INT8."""


@dataclass(frozen=True)
class QuantizedTensor:
    """A matrix in INT8. A value is its integer times the scale of its row.

    Attributes:
        values: Integers from -127 to 127 (-128 in files of others), int8 `[rows, columns]`.
        scale: Above 0, float32 `[rows]`.
    """

    values: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float32]

    @classmethod
    def round(cls, weight: npt.NDArray[np.float32]) -> QuantizedTensor:
        """Round a matrix `[rows, columns]`, each row to steps of 1/127 of its greatest absolute value."""
        scale = np.maximum(np.abs(weight).max(axis=1) / np.float32(127), np.finfo(np.float32).tiny)
        return cls(np.rint(weight / scale[:, None]).astype(np.int8), scale)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the matrix."""
        return self.values.shape

    def float32(self) -> npt.NDArray[np.float32]:
        """Return the matrix in float32."""
        matrix: npt.NDArray[np.float32] = self.values.astype(np.float32) * self.scale[:, None]
        return matrix
