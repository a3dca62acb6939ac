"""Find and read the tensors of a model folder. Their names are in `architectures`.

A tensor is stored in float32, float16, bfloat16 or this package's INT8 format. In that format, an int8 tensor
`[rows, columns]` has a float32 tensor `[rows]` of the same name plus `.scale`. A value is the int8 times its row's
scale.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from dynamic_tinybert.folder.architectures import ARCHITECTURES, tensor_table
from dynamic_tinybert.folder.errors import ModelFolderError
from dynamic_tinybert.folder.files import CONFIG, INDEX, WEIGHTS, read_object
from dynamic_tinybert.model import ModelShape, QuantizedTensor

_DTYPES: Final = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I8": "i1"}  # numpy has no bfloat16
_PICKLES: Final = (".bin", ".bin.index.json", ".pt", ".pth", ".ckpt", ".pkl")
_CONVERTED: Final = ("pytorch_model.bin", "pytorch_model.bin.index.json")  # transformers loads these


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file.

    Attributes:
        file: The safetensors file.
        name: The tensor's name in it.
        dtype: Its dtype as safetensors spells it.
        shape: Its shape.
        offset: Where its values begin in the file, in bytes.
        scale: The scales of the rows of an int8 tensor; otherwise None.
    """

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    scale: StoredTensor | None = None

    def read(self) -> npt.NDArray[np.float32]:
        """Read the values, in float32.

        Raises:
            ModelFolderError: A value is NaN or infinite, or the file has changed since its header was read.
        """
        tensor = self.read_stored()
        return tensor.float32() if isinstance(tensor, QuantizedTensor) else tensor

    def read_stored(self) -> npt.NDArray[np.float32] | QuantizedTensor:
        """Read the values: INT8 with scales as it is stored, everything else in float32.

        Raises:
            ModelFolderError: A value is NaN or infinite, or the file has changed since its header was read.
        """
        try:
            raw = np.fromfile(self.file, _DTYPES[self.dtype], math.prod(self.shape), offset=self.offset)
            raw = raw.reshape(self.shape)
        except (OSError, ValueError) as error:
            raise ModelFolderError(f"{self.file} changed while it was read ({error}): try again") from error
        if self.dtype == "BF16":  # the upper half of a float32
            values = (raw.astype(np.uint32) << 16).view(np.float32)
        elif self.scale is None:
            values = raw.astype(np.float32, copy=False)
        else:
            quantized = QuantizedTensor(raw, self.scale.read())
            with np.errstate(over="ignore"):
                if np.isfinite(quantized.scale * np.float32(128)).all():  # so whatever the integers are: not read here
                    return quantized
                values = np.abs(raw.astype(np.int16)).max(axis=1) * quantized.scale  # the greatest tells of all
            if np.isfinite(values).all():
                return quantized
        if not np.isfinite(values).all():
            raise ModelFolderError(
                f"{self.file}: {self.name} holds NaN or infinity: the file is damaged or its training diverged; use"
                " another checkpoint"
            )
        return values


def find_weight_files(path: Path) -> list[Path]:
    """Find the safetensors files of the folder `path`: the single file, or the shards in the index.

    Raises:
        ModelFolderError: There is no such file, or a shard is missing or outside the folder.
        OSError: The folder cannot be read.
    """
    if (path / WEIGHTS).is_file():
        return [path / WEIGHTS]
    index = path / INDEX
    if not index.is_file():
        refuse_pickle(str(path), (file.name for file in path.iterdir()), repr(str(path)), str(path))
        raise ModelFolderError(f"{path} has no {WEIGHTS}: save the model there with save_pretrained of transformers")
    shards = read_object(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ModelFolderError(f"{index} has no weight_map from tensors to files: download it again")
    files = []
    for shard in sorted({str(shard) for shard in shards.values()}):
        if PurePath(shard).name != shard or not shard.endswith(".safetensors"):
            raise ModelFolderError(
                f"{index} names {shard!r}, which is not a safetensors file in the same folder: use a model you trust"
            )
        if not (path / shard).is_file():
            raise ModelFolderError(f"{index} names {shard}, which is missing: download or copy it too")
        files.append(path / shard)
    return files


def has_pickle(names: Iterable[str]) -> bool:
    """Return whether one of a model's files may be a pickle."""
    return any(name.endswith(_PICKLES) and "/" not in name for name in names)


def refuse_pickle(where: str, names: Iterable[str], source: str, target: str) -> None:
    """Raise an error if a model without safetensors files has its weights in a pickle.

    Args:
        where: The folder or model, for the message.
        names: Its files.
        source: The arguments of transformers' `from_pretrained` for it, as Python source.
        target: The folder into which the command in the message converts it.

    Raises:
        ModelFolderError: There is a pickle.
    """
    pickles = sorted(name for name in names if name.endswith(_PICKLES) and "/" not in name)
    if not pickles:
        return
    pickle = next((name for name in pickles if name.startswith("pytorch_model")), pickles[0])
    how = (
        "save the model with save_pretrained of transformers"
        if pickle not in _CONVERTED
        else 'convert it where transformers and torch are installed: python -c "from transformers import'
        f' AutoModelForQuestionAnswering as M; M.from_pretrained({source}).save_pretrained({target!r})"'
    )
    raise ModelFolderError(
        f"{where} has no {WEIGHTS}, only {pickle}, a pickle, which can run any code when it is loaded; if you trust it,"
        f" {how}"
    )


def find_tensors(path: Path, shape: ModelShape, kind: str, files: Iterable[Path]) -> dict[str, StoredTensor]:
    """Find a model's tensors in its files, by our names, and check names, shapes and dtypes. Only headers are read.

    Raises:
        ModelFolderError: A file is damaged, or a tensor is missing or has another shape or dtype.
        OSError: A file cannot be read.
    """
    prefix = ARCHITECTURES[kind].prefix
    stored = {_common_name(name, prefix): tensor for file in files for name, tensor in _read_header(file).items()}
    found = {}
    missing, headless = [], False
    for ours, theirs, sizes in tensor_table(shape, kind):
        tensor = stored.get(_common_name(theirs, prefix))
        if tensor is None:
            missing.append(theirs)
            headless |= ours == "span.weight"
            continue
        where = f"{tensor.file}: {tensor.name}"
        if tensor.shape != sizes:
            raise ModelFolderError(
                f"{where} has shape {list(tensor.shape)}, but {CONFIG} requires {list(sizes)}: use the two files"
                " of the same model"
            )
        if tensor.dtype not in _DTYPES:
            raise ModelFolderError(f"{where} has dtype {tensor.dtype}: save it in float32, float16 or bfloat16")
        if tensor.dtype == "I8":
            scale = stored.get(f"{_common_name(theirs, prefix)}.scale")
            if scale is None or (scale.dtype, scale.shape) != ("F32", sizes[:1]) or len(sizes) != 2:
                raise ModelFolderError(
                    f"{where} is int8 without a float32 scale for each row: save it in float32, float16 or bfloat16"
                )
            tensor = replace(tensor, scale=scale)
        found[ours] = tensor
    heads = tuple(f"{theirs}." for _, theirs in ARCHITECTURES[kind].heads)
    if headless and all(name.startswith(heads) for name in missing):
        raise ModelFolderError(
            f"{path} has no question-answering head ({heads[-1][:-1]}): fine-tune it for question answering, or choose"
            " a ...ForQuestionAnswering checkpoint"
        )
    if missing and all(name.endswith("significance_head") for name in missing):
        raise ModelFolderError(
            f"{path} lacks its {len(missing)} significance heads, which transformers does not keep: use the original"
            f" folder, or remove significance_head from {CONFIG}"
        )
    if missing:
        raise ModelFolderError(
            f"{path} lacks {len(missing)} of the model's {len(missing) + len(found)} tensors:"
            f" {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}; download it again, or use {CONFIG} of the"
            " same model"
        )
    return found


def _common_name(name: str, prefix: str) -> str:
    """Map the different names of a tensor (old or new, with or without the prefix) to one name."""
    name = name.removeprefix("module.").removeprefix(prefix)  # module. is of PyTorch's data parallelism
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _read_header(file: Path) -> dict[str, StoredTensor]:
    try:
        with safe_open(file, framework="numpy"):  # checks that the header is valid and the file complete
            pass
    except SafetensorError as error:
        with file.open("rb") as stream:
            if stream.read(24) == b"version https://git-lfs.":
                raise ModelFolderError(f"{file} is a Git LFS pointer and not the weights: run git lfs pull") from None
        raise ModelFolderError(f"{file} is damaged or not a safetensors file ({error}): download it again") from error
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
    header.pop("__metadata__", None)
    return {
        name: StoredTensor(file, name, entry["dtype"], tuple(entry["shape"]), 8 + size + entry["data_offsets"][0])
        for name, entry in header.items()
    }
