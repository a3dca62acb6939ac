"""The mean of a model's weights."""

from __future__ import annotations

from pathlib import Path

import torch

from dynamic_tinybert.train.averaging import WeightMean


def _model() -> torch.nn.Module:
    return torch.nn.Linear(2, 1)


def _set(model: torch.nn.Module, value: float) -> None:
    for weight in model.parameters():
        weight.data.fill_(value)


def _value(model: torch.nn.Module) -> set[float]:
    return {round(float(x.detach()), 5) for weight in model.parameters() for x in weight.flatten()}


def test_the_mean_is_that_of_all_weights_that_were_added() -> None:
    model = _model()
    mean = WeightMean(model)
    for value in (1.0, 2.0, 6.0):
        _set(model, value)
        mean.add()
    assert mean.count == 3
    mean.swap()
    assert _value(model) == {3.0}
    mean.swap()
    assert _value(model) == {6.0}


def test_a_mean_that_was_saved_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    model = _model()
    first = WeightMean(model)
    for value in (1.0, 2.0):
        _set(model, value)
        first.add()
    first.save(tmp_path / "average.safetensors")
    again = WeightMean(model)
    again.load(tmp_path / "average.safetensors")
    _set(model, 6.0)
    again.add()
    again.swap()
    assert _value(model) == {3.0}


def test_without_weights_nothing_is_written_and_without_a_file_nothing_is_read(tmp_path: Path) -> None:
    mean = WeightMean(_model())
    mean.save(tmp_path / "average.safetensors")
    assert not (tmp_path / "average.safetensors").exists()
    mean.add()
    mean.load(tmp_path / "average.safetensors")
    assert mean.count == 0
