"""Open a model folder."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.files import folder_of_package, install_model_command
from dynamic_tinybert.folder import hub
from dynamic_tinybert.folder.architectures import ARCHITECTURES
from dynamic_tinybert.folder.errors import ModelFolderError
from dynamic_tinybert.folder.files import (
    CARD,
    CONFIG,
    LENGTH_CONFIGS,
    TOKENIZER,
    WEIGHTS,
    read_object,
)
from dynamic_tinybert.folder.packages import OURS, find_package, installed_models
from dynamic_tinybert.folder.shapes import read_shape
from dynamic_tinybert.folder.tensors import StoredTensor, find_tensors, find_weight_files
from dynamic_tinybert.folder.tokenizing import check_tokenizer
from dynamic_tinybert.model import ModelShape, QuantizedTensor

EMBEDDED: Final = "embedded"

_LONGEST_FRONT_MATTER = 1 << 16  # characters


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelFolder:
    """A checked model folder. The values of the weights are checked later, when they are read.

    Attributes:
        name: The model as the user named it; `embedded` for the embedded model.
        path: The folder.
        kind: The architecture, the `model_type` of `config.json`: `bert`, `distilbert`, `roberta` ...
        shape: The sizes of the model.
        config: The content of `config.json`.
        length_configs: The content of `length_configs.json`, or None. `ConfigTable` and `Calibration` check it.
        license: The licence in the model card, for example `apache-2.0`, or None.
        source_bytes: The size of the weights' files, in bytes.
        commit: The commit of a model from the Hub, or None.
    """

    name: str
    path: Path
    kind: str
    shape: ModelShape
    config: Mapping[str, Any]
    length_configs: Mapping[str, Any] | None
    license: str | None
    source_bytes: int
    _tensors: Mapping[str, StoredTensor] = field(repr=False)
    commit: str | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether it is the folder inside the package; another folder may be called `embedded`, too."""
        return self.path == folder_of_package(EMBEDDED)

    @property
    def architecture(self) -> str:
        """Transformers' class for the model, for example `BertForQuestionAnswering`."""
        return ARCHITECTURES[self.kind].model

    def read_length_configs(self) -> Mapping[str, Any] | None:
        """Read `length_configs.json` as it is now, which another command may have changed.

        Raises:
            ModelFolderError: It is damaged.
            OSError: It cannot be read.
        """
        return _read_length_configs(self.path)

    @property
    def calibration(self) -> Mapping[str, Any] | None:
        """The `calibration` of `length_configs.json`, which turns logits into confidences, or None."""
        return (self.length_configs or {}).get("calibration")

    @property
    def parameters(self) -> int:
        """The number of values in the weights. The values are not read."""
        return sum(math.prod(tensor.shape) for tensor in self._tensors.values())

    @property
    def is_int8(self) -> bool:
        """Whether weights are stored in this package's INT8 format, which transformers cannot read."""
        return any(tensor.scale is not None for tensor in self._tensors.values())

    @cached_property
    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """The tensors in float32, by our names. The first access reads them, and this object keeps them.

        H is the hidden size, F the feed-forward size and E the width of the embeddings. Single tensors:
        `embeddings.word` `[vocabulary, E]`, `embeddings.position` `[first_position + positions, E]`,
        `embeddings.token_type` `[token types, E]`, `distances` `[distances, heads]`. The others are pairs: `.weight`
        has the shape given here, and `.bias` its first dimension. They are `embeddings.norm` `[E]`,
        `embeddings.projection` `[H, E]` and `span` `[2, H]` (start and end); for every `layers.{i}` the projections
        `query`, `key`, `value`, `attention_output` `[H, H]`, `intermediate` `[F, H]`, `output` `[H, F]` and the norms
        `attention_norm`, `output_norm` `[H]`. Here i is the index of a layer's weights, `weights_of_layers`. Tensors
        that the model does not have are missing. DeBERTa and ModernBERT have others, see `architectures`.

        Raises:
            ModelFolderError: A value is NaN or infinite, or a file has changed since the folder was opened.
        """
        return {name: tensor.read() for name, tensor in self._tensors.items()}

    @property
    def stored_weights(self) -> Mapping[str, npt.NDArray[np.float32] | QuantizedTensor]:
        """The tensors of `weights`, in INT8 if they are stored so.

        Each access reads a tensor again, so they are never all in memory.
        """
        return _Stored(self._tensors)


class _Stored(Mapping[str, npt.NDArray[np.float32] | QuantizedTensor]):
    def __init__(self, tensors: Mapping[str, StoredTensor]) -> None:
        self._tensors = tensors

    def __getitem__(self, name: str) -> npt.NDArray[np.float32] | QuantizedTensor:
        return self._tensors[name].read_stored()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def open_folder(
    model: str | os.PathLike[str] | None = None,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> ModelFolder:
    """Open a model folder and check it. The weights are read later: see `ModelFolder.weights`.

    Args:
        model: A folder; or, if there is no such folder, the name of a model that is installed as a package, or
            `owner/name` for a model on the Hugging Face Hub (also old names without an owner, as
            `distilbert-base-cased-distilled-squad`); or `embedded`, the default, for the model inside the package.
        revision: A branch, tag or commit of a model on the Hub.
        cache_dir: The folder that keeps models from the Hub; by default `HF_HUB_CACHE` or `HF_HOME` decides.
        local_files_only: Use only models in the cache, without the network, as `HF_HUB_OFFLINE=1` does.
        token: An access token for the Hub; by default that of `HF_TOKEN` or `hf auth login`.

    Raises:
        ModelFolderError: There is no such model, its kind is not supported, or something in it is missing or damaged.
    """
    if model is None or model == EMBEDDED:
        name, path = EMBEDDED, folder_of_package(EMBEDDED)
    else:
        name = os.fspath(model)
        path = Path(os.path.expanduser(name))
    try:
        on_hub = None
        if isinstance(model, str) and model != EMBEDDED and not (path / CONFIG).is_file():
            package = find_package(model)
            on_hub = hub.hub_name(model) if package is None and not path.exists() else None
            path = package or path
        if on_hub is not None:
            path = hub.fetch(
                on_hub, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only, token=token
            )
        elif revision is not None:
            raise ModelFolderError(
                f"{name} is not a model of the Hub, so it has no revision {revision!r}: leave revision out"
            )
        folder = _read_folder(name, path)
        return folder if on_hub is None else replace(folder, commit=path.name)
    except OSError as error:
        raise ModelFolderError(f"{name} cannot be read: {error}") from error


def called(model: str) -> str:
    """Return the name of a model to show without its path. A name on the Hub stays as it is.

    A folder gives its own name, or its parent's name if it is called `model`, as folders of `train` are.
    """
    path = Path(model)
    if not path.exists():
        return model
    path = path.resolve()
    return path.parent.name if path.name == "model" and path.is_dir() else path.name


def _read_folder(name: str, path: Path) -> ModelFolder:
    if path.is_file():
        raise ModelFolderError(f"{name} is a file: give the folder that holds {CONFIG} and {WEIGHTS}")
    if not (path / CONFIG).is_file() and name in OURS and name not in installed_models():
        raise ModelFolderError(f"the model {name} is a package of its own: {install_model_command(name)}")
    if not name or not path.is_dir():
        from difflib import get_close_matches

        hint = "check its name (a model on the Hub is called owner/name)"
        if name in installed_models():
            hint = "to name an installed model, give a str, not a Path"
        elif near := get_close_matches(name.lower(), [EMBEDDED, *OURS, *installed_models()]):
            hint = f"did you mean {near[0]!r}?"
        raise ModelFolderError(f"no such folder: {name!r}; {hint}")
    if not (path / CONFIG).is_file():
        raise ModelFolderError(
            f"{path} has no {CONFIG}: give a folder as transformers writes it, with {CONFIG}, {WEIGHTS} and {TOKENIZER}"
        )
    config = read_object(path / CONFIG)
    kind, shape = read_shape(path / CONFIG, config)
    files = find_weight_files(path)
    tensors = find_tensors(path, shape, kind, files)
    # A tokenizer may give every token type 0, whatever the architecture could embed.
    shape = replace(shape, typed=check_tokenizer(path, shape) and shape.typed and shape.token_types > 1)
    return ModelFolder(
        name=name,
        path=path,
        kind=kind,
        shape=shape,
        config=config,
        length_configs=_read_length_configs(path),
        license=_read_license(path / CARD),
        source_bytes=sum(file.stat().st_size for file in files),
        _tensors=tensors,
    )


def _read_length_configs(path: Path) -> dict[str, Any] | None:
    file = path / LENGTH_CONFIGS
    return read_object(file) if file.is_file() else None


def _read_license(card: Path) -> str | None:
    """Read the licence from the YAML front matter of a model card."""
    if not card.is_file():
        return None
    with card.open(encoding="utf-8", errors="replace") as file:
        front = re.match(r"---[ \t]*\n.*?^---", file.read(_LONGEST_FRONT_MATTER), re.DOTALL | re.MULTILINE)
    found = front and re.search(r"""^license:[ \t]*["']?([\w.+-]+)""", front[0], re.MULTILINE)
    return found[1] if found else None
