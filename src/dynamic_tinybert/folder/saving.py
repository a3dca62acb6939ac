"""Write a model folder."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any, Final, Literal

import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import save_file

from dynamic_tinybert.folder.architectures import tensor_table
from dynamic_tinybert.folder.errors import ModelFolderError
from dynamic_tinybert.folder.files import CONFIG, COPIED, FETCHED, WEIGHTS
from dynamic_tinybert.folder.reading import ModelFolder
from dynamic_tinybert.model import QuantizedTensor, stored_significance

_OURS: Final = "dynamic_tinybert"
_NOT_RENAMED: Final = (errno.EBUSY, errno.EACCES, errno.EPERM)  # a mount point, or a folder in another's folder
_NOT_KEPT: Final = (_OURS, "torch_dtype", "quantization_config", "_name_or_path")


def save_folder(
    folder: ModelFolder,
    path: str | os.PathLike[str],
    *,
    dtype: Literal["float32", "int8"] = "float32",
    overwrite: bool = False,
) -> Path:
    """Write a model folder that `open_folder` can read, and in float32 transformers too.

    The folder is first written under a hidden name and then renamed. So a folder with its final name is complete. A
    folder that cannot be renamed, such as a mounted one, is filled instead: `config.json` comes last.

    Args:
        folder: The model. Its tokenizer, table of length configurations and model card are copied unchanged.
        path: The new folder. Missing parent folders are made.
        dtype: `int8` needs a quarter of the space. Each row of embeddings and projections is rounded to steps of its
            largest absolute value / 127. Transformers cannot read this format.
        overwrite: Replace an existing folder. It is replaced only if it holds `config.json`, weights and no files
            other than a model's.

    Returns:
        The absolute path of the new folder.

    Raises:
        ModelFolderError: The folder exists already or cannot be written, or the weights cannot be read.
        ValueError: The dtype is unknown.
    """
    if dtype not in ("float32", "int8"):
        raise ValueError(f"dtype must be 'float32' or 'int8', not {dtype!r}")
    target = Path(os.path.realpath(os.path.expanduser(path)))
    draft = target.parent / f".{target.name}.{secrets.token_hex(4)}"
    try:
        _check_target(target, overwrite)
        if target.exists() and not os.access(target.parent, os.W_OK):
            draft = target / draft.name
        draft.mkdir(parents=True)
        _write_files(folder, draft, dtype)
        _move(draft, target)
    except (OSError, SafetensorError) as error:
        raise ModelFolderError(f"{target} cannot be written: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _check_target(target: Path, overwrite: bool) -> None:
    if target.is_file():
        raise ModelFolderError(f"{target} is a file: name a new folder")
    if target == Path.cwd():
        raise ModelFolderError(f"{target} is the current folder, which cannot be replaced: name a new folder")
    inside = list(target.iterdir()) if target.exists() else []
    if inside and not overwrite:
        raise ModelFolderError(f"{target} is not empty: name a new folder, or ask to overwrite it")
    weights = any(entry.match(pattern) for entry in inside for pattern in FETCHED if pattern.startswith("model"))
    if inside and not (weights and (target / CONFIG).is_file()):
        raise ModelFolderError(
            f"{target} is not overwritten: without {CONFIG} and {WEIGHTS} it is not a model folder; name a new folder"
        )
    for entry in inside:
        if entry.is_dir() or not any(entry.match(pattern) for pattern in (CONFIG, *FETCHED)):
            raise ModelFolderError(
                f"{target} is not overwritten: {entry.name} in it is not a file of a model, and would be lost; name a"
                " new folder, or move it away"
            )


def _write_files(folder: ModelFolder, draft: Path, dtype: Literal["float32", "int8"]) -> None:
    config = {key: value for key, value in folder.config.items() if key not in _NOT_KEPT}
    config |= {"architectures": [folder.architecture], "dtype": "float32"}
    own: dict[str, Any] = {"weights": "int8"} if dtype == "int8" else {}
    if folder.shape.significance != "all" or folder.shape.significance_head:
        own |= stored_significance(folder.shape.significance, folder.shape.significance_head)
    if own:
        config[_OURS] = own
    (draft / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    tensors: dict[str, npt.NDArray[Any]] = {}
    for ours, theirs, sizes in tensor_table(folder.shape, folder.kind):
        tensors[theirs] = weight = folder.weights[ours]
        if dtype == "int8" and len(sizes) == 2 and ours not in ("span.weight", "distances"):
            rounded = QuantizedTensor.round(weight)
            tensors[theirs], tensors[f"{theirs}.scale"] = rounded.values, rounded.scale
    save_file(tensors, draft / WEIGHTS, metadata={"format": "pt"})
    shutil.copymode(draft / CONFIG, draft / WEIGHTS)  # safetensors lets only the owner read the file

    for name in COPIED:
        if (folder.path / name).is_file():
            shutil.copyfile(folder.path / name, draft / name)


def _move(draft: Path, target: Path) -> None:
    """Rename `draft` to `target` and remove the old `target`, or restore it if the renaming fails."""
    if not target.exists():
        draft.rename(target)
        return
    old = draft.with_name(f"{draft.name}.old")
    try:
        target.rename(old)
    except OSError as error:
        if draft.parent != target and error.errno not in _NOT_RENAMED:
            raise
        _fill(target, draft)
        return
    try:
        draft.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _fill(target: Path, draft: Path) -> None:
    """Replace the files of `target`, a folder that cannot be renamed, by those of `draft`; `CONFIG` last."""
    inside = target / draft.name
    try:
        if draft != inside:
            shutil.copytree(draft, inside)  # often to another file system, which may be full
        (target / CONFIG).unlink(missing_ok=True)
        for entry in target.iterdir():
            if entry != inside:
                entry.unlink()
        for entry in sorted(inside.iterdir(), key=lambda entry: entry.name == CONFIG):
            entry.rename(target / entry.name)
    finally:
        shutil.rmtree(inside, ignore_errors=True)
