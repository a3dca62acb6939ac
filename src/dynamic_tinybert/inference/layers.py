"""Gather how many layers the tokens of a text passed, window by window."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.inference.windows import Window
from dynamic_tinybert.layers import TokenLayers


class LayersOfText:
    """The layers that the tokens of a text passed. If a token is in two windows, the higher number counts."""

    def __init__(self) -> None:
        self._parts: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
        self._shared: npt.NDArray[np.int64] = np.zeros(0, np.int64)

    def add(self, window: Window, layers: npt.NDArray[np.int64]) -> None:
        """Add the next window of the text, and how many layers each of its tokens passed, `[tokens]`."""
        passed = layers[window.offset : window.offset + len(window.text)].copy()
        overlap = len(self._shared)
        passed[:overlap] = np.maximum(passed[:overlap], self._shared)
        settled = window.settled
        self._shared = passed[settled:]
        self._parts.append((window.text.start[:settled], window.text.end[:settled], passed[:settled]))

    def tokens(self, text: str, depth: int) -> TokenLayers:
        """Return the tokens of the text; `depth` is the number of layers of the model."""
        start, end, layers = ([int(value) for part in self._parts for value in part[column]] for column in range(3))
        return TokenLayers(start=start, end=end, layers=layers, depth=depth, text=text)
