"""A teacher's stored logits: written, read back for the same features, and refused for others or when damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dynamic_tinybert.train import TrainingError
from dynamic_tinybert.train.features import Feature
from dynamic_tinybert.train.models import Inputs
from dynamic_tinybert.train.stages import StoredLogits
from torch_models import tiny_bert

FEATURES = [
    Feature(np.arange(5, 5 + length, dtype=np.int32), offset, ((offset, offset),))
    for length, offset in [(12, 4), (6, 3), (30, 5), (9, 2)]
]


@pytest.fixture(scope="module")
def kept() -> StoredLogits:
    model = tiny_bert()
    return StoredLogits.of(model, Inputs(model), FEATURES, 0, 8, bf16=False)


def test_they_are_the_greatest_logits_of_each_feature(kept: StoredLogits) -> None:
    model = tiny_bert()
    assert kept.index.shape == kept.value.shape == (4, 2, 8)
    for row, feature in enumerate(FEATURES):
        ids = torch.from_numpy(feature.ids.astype(np.int64))[None]
        types = (torch.arange(len(feature)) >= feature.offset).long()[None]
        with torch.no_grad():
            output = model(input_ids=ids, token_type_ids=types)
        for side, logits in enumerate((output.start_logits[0], output.end_logits[0])):
            value, index = logits.topk(min(8, len(feature)))
            assert torch.allclose(kept.value[row, side, : len(value)], value, atol=1e-5)
            assert torch.equal(kept.index[row, side, : len(index)], index)
    assert (kept.value[1, :, 6:] == -1e4).all()  # a window of 6 has no more


def test_they_are_read_back(kept: StoredLogits, tmp_path: Path) -> None:
    kept.write(tmp_path / "logits.npz", FEATURES)
    again = StoredLogits.read(tmp_path / "logits.npz", FEATURES)
    assert torch.equal(again.index, kept.index)
    assert (again.value - kept.value).abs().max() < 0.01
    assert [path.name for path in tmp_path.iterdir()] == ["logits.npz"]


def test_logits_of_other_features_are_refused(kept: StoredLogits, tmp_path: Path) -> None:
    kept.write(tmp_path / "logits.npz", FEATURES)
    with pytest.raises(TrainingError, match=r"are of other features \(4, here are 3\)") as error:
        StoredLogits.read(tmp_path / "logits.npz", FEATURES[:3])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "half", "most", "folder", "one array", "other arrays"])
def test_a_damaged_file_is_one_line(damage: str, kept: StoredLogits, tmp_path: Path) -> None:
    path = tmp_path / "logits.npz"
    kept.write(path, FEATURES)
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "one array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif damage == "other arrays":
        np.savez(path, other=np.zeros(3))
    elif damage != "missing":
        size = len(content)
        path.write_bytes({"empty": b"", "text": b"{}", "half": content[: size // 2], "most": content[:-30]}[damage])
    with pytest.raises(TrainingError, match="is no file of stored logits") as error:
        StoredLogits.read(path, FEATURES)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_a_file_with_a_wrong_byte_is_one_line(kept: StoredLogits, tmp_path: Path) -> None:
    path = tmp_path / "logits.npz"
    kept.write(path, FEATURES)
    content = bytearray(path.read_bytes())
    content[120] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(TrainingError, match="is no file of stored logits"):
        StoredLogits.read(path, FEATURES)
