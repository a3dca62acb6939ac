"""Average a model's weights over a part of its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

_COUNT = "count"


class WeightMean:
    """The mean of the weights that a model had (stochastic weight averaging, Izmailov et al., 2018, arXiv 1803.05407).

    Args:
        model: The model. Nothing is kept until the first `add`.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self._mean: dict[str, Tensor] = {}
        self.count = 0

    def add(self) -> None:
        """Add the current weights to the mean."""
        self.count += 1
        with torch.no_grad():
            for name, weight in self._model.named_parameters():
                if self.count == 1:
                    self._mean[name] = weight.detach().clone()
                else:
                    self._mean[name].lerp_(weight.detach(), 1 / self.count)

    def swap(self) -> None:
        """Exchange the model's weights and the mean; a second call undoes the first."""
        with torch.no_grad():
            for name, weight in self._model.named_parameters():
                had = weight.detach().clone()
                weight.copy_(self._mean[name])
                self._mean[name] = had

    def save(self, path: Path) -> None:
        """Write the mean, if there is one.

        Raises:
            SafetensorError: The file cannot be written.
        """
        if self.count:
            mean = {name: value.contiguous() for name, value in self._mean.items()}
            save_file(mean, path, metadata={_COUNT: str(self.count)})

    def load(self, path: Path) -> None:
        """Read what `save` wrote; if there is no file, the mean is empty."""
        self._mean, self.count = {}, 0
        if not path.is_file():
            return
        device = next(self._model.parameters()).device
        with safe_open(path, "pt") as file:
            content: Any = file
            self.count = int(content.metadata()[_COUNT])
            self._mean = {name: content.get_tensor(name).to(device) for name in content.keys()}  # noqa: SIM118
