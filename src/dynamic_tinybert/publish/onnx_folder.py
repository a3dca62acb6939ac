"""Write a model for programs that are not in Python: the graph, the tokenizer, and all that answering needs to know."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Final, Literal, get_args

from dynamic_tinybert.files import write_whole
from dynamic_tinybert.folder import CARD, CONFIG, TOKENIZER, ModelFolder, ModelFolderError, called
from dynamic_tinybert.inference import TextTokenizer
from dynamic_tinybert.model import Calibration, ConfigTable
from dynamic_tinybert.runtime import Precision, export_onnx

GRAPH: Final = "model.onnx"
DESCRIPTION: Final = "answering.json"

_FORMAT: Final = 1  # of DESCRIPTION; a reader refuses a greater one


def save_onnx_folder(
    folder: ModelFolder,
    path: str | os.PathLike[str],
    *,
    precision: Literal["auto"] | Precision = "auto",
    overwrite: bool = False,
) -> Path:
    """Write a model as a folder that the JavaScript package reads, and any program with ONNX Runtime.

    It holds `model.onnx`, whose weights stay in INT8 if the model's folder stores them so; `tokenizer.json`;
    `answering.json`, with the length configurations, their shares, special tokens, calibration and thresholds; and the
    model card. `answering.json` is written last, so a folder that has it is complete.

    Args:
        folder: The model.
        path: The new folder. Missing parent folders are made.
        precision: The arithmetic of the projections; `auto` is the one in which the model was measured.
        overwrite: Write over the files of such a folder. Other files in it stay.

    Returns:
        The absolute path of the folder.

    Raises:
        ModelFolderError: The folder exists already and is not such a folder, or it cannot be written.
        BudgetError, CalibrationError, WindowError: A part of the model is invalid.
        ValueError: The precision is unknown.
    """
    if precision not in ("auto", *get_args(Precision)):
        raise ValueError(f"precision must be 'auto', 'fp32' or 'int8', not {precision!r}")
    target = Path(os.path.realpath(os.path.expanduser(path)))
    table = ConfigTable.read(folder.shape, folder.length_configs)
    chosen = table.precision if precision == "auto" else precision
    tokenizer = TextTokenizer(folder.path)
    described = describe(folder, table, tokenizer, chosen)
    try:
        _check_target(target, overwrite)
        target.mkdir(parents=True, exist_ok=True)
        (target / DESCRIPTION).unlink(missing_ok=True)
        export_onnx(folder.shape, folder.stored_weights, target / GRAPH, precision=chosen, packed=True)
        own = folder.path / TOKENIZER
        write_whole(target / TOKENIZER, own.read_bytes() if own.is_file() else tokenizer.to_json().encode())
        if (folder.path / CARD).is_file():
            shutil.copyfile(folder.path / CARD, target / CARD)
        else:
            (target / CARD).unlink(missing_ok=True)  # that of another model
        write_whole(target / DESCRIPTION, (json.dumps(described, indent=1, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise ModelFolderError(f"{target} cannot be written: {error}") from error
    return target


def describe(folder: ModelFolder, table: ConfigTable, tokenizer: TextTokenizer, precision: Precision) -> dict[str, Any]:
    """Return the content of `answering.json`."""
    calibration = Calibration.read(folder.calibration)
    return {
        "format": _FORMAT,
        "name": called(folder.name),
        "license": folder.license,
        "precision": precision,
        "layers": folder.shape.layers,
        "positions": folder.shape.positions,
        "special_tokens": {
            "cls": tokenizer.cls,
            "between": tokenizer.between.tolist(),
            "sep": tokenizer.sep,
            "pad": tokenizer.pad,
        },
        "windows": dict(table.windows),
        "measured_on": table.measured_on,
        "configs": [
            {
                "name": choice.name,
                "fractions": list(choice.config.fractions),
                "share": choice.share,
                "exact_match": choice.exact_match,
                "f1": choice.f1,
            }
            for choice in table.choices
        ],
        "no_answer": {"threshold": table.no_answer_threshold, "squad2": table.squad2_threshold},
        "calibration": None
        if calibration is None
        else {"margin": calibration.margin, "log_score": calibration.log_score, "bias": calibration.bias},
    }


def _check_target(target: Path, overwrite: bool) -> None:
    if target.is_file():
        raise ModelFolderError(f"{target} is a file: name a new folder")
    for name in (GRAPH, TOKENIZER, DESCRIPTION):
        for draft in target.glob(f".{name}.{'[0-9a-f]' * 8}"):  # left by an export that was killed
            draft.unlink()
    inside = {entry.name for entry in target.iterdir()} if target.exists() else set()
    if inside and not overwrite:
        raise ModelFolderError(f"{target} is not empty: name a new folder, or ask to overwrite it")
    if inside and (CONFIG in inside or not {DESCRIPTION, GRAPH} & inside):
        raise ModelFolderError(
            f"{target} is not overwritten: without {DESCRIPTION} and {GRAPH} it is not a model for ONNX Runtime; name"
            " a new folder"
        )
