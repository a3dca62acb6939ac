"""Publish a model: check its folder, complete its card, make one commit on the Hugging Face Hub."""

from __future__ import annotations

import codecs
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from dynamic_tinybert.folder import (
    CARD,
    CONFIG,
    COPIED,
    INDEX,
    LENGTH_CONFIGS,
    WEIGHTS,
    ModelFolder,
    ModelFolderError,
    find_weight_files,
    open_folder,
    read_object,
    save_folder,
)
from dynamic_tinybert.inference import TextTokenizer, WindowError
from dynamic_tinybert.model import BudgetError, Calibration, CalibrationError
from dynamic_tinybert.publish.card import Card, complete_card, evaluation_results
from dynamic_tinybert.publish.upload import RESULTS, Hub, HubModel, check_hub_name

_PATHS = frozenset({"_name_or_path", "name_or_path", "special_tokens_map_file", "tokenizer_file"})  # in settings


@dataclass(frozen=True, kw_only=True)
class Push:
    """What was pushed, or would be.

    Attributes:
        name: The model on the Hub, `owner/name`.
        url: Its page.
        commit: The commit, or None if nothing was uploaded: nothing changed, or it was a dry run.
        private: Whether only its owner sees it; None for a dry run, which does not ask the Hub.
        files: The files and their sizes in bytes.
        removed: Files of the previous model that were removed.
        card: The card as it is uploaded.
    """

    name: str
    url: str
    commit: str | None
    private: bool | None
    files: Mapping[str, int]
    removed: tuple[str, ...]
    card: Card


def push_model(
    model: str | os.PathLike[str],
    name: str,
    *,
    revision: str | None = None,
    private: bool = False,
    message: str | None = None,
    license: str | None = None,
    token: str | None = None,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Push:
    """Upload a model folder to the Hugging Face Hub, with a complete model card.

    The folder, with its weights, is checked and not changed. Only the files of a model are uploaded: `config.json`, the
    weights, the tokenizer, `length_configs.json`, the card, and its results on SQuAD in `.eval_results`. INT8 weights
    are uploaded as float32. Everything goes in one commit, so the model on the Hub is always complete.

    Args:
        model: The folder; or `embedded`.
        name: `owner/name` on the Hub. The model is created if it does not exist.
        revision: The branch; by default `main`. It is created if it does not exist.
        private: Make the model visible to its owner only. An existing public model is refused.
        message: The commit message.
        license: The licence of the model, if its card states none.
        token: The access token for the Hub; by default that of `HF_TOKEN` or `hf auth login`.
        dry_run: Do not contact the Hub, and upload nothing.
        say: Called with each line that reports what happens.

    Raises:
        ValueError: The name is not `owner/name`, or the message is empty.
        ModelFolderError: The folder is not a valid model; its card lacks a licence; or the Hub refuses or cannot be
            reached.
    """
    check_hub_name(name)
    if message is not None and not message.strip():
        raise ValueError("the commit message is empty: leave it out, or write one")
    with tempfile.TemporaryDirectory(prefix="dynamic-tinybert-") as draft:
        try:
            folder = open_folder(model)
            called = folder.name
            folder.weights  # noqa: B018 - reads them, so that NaN and damage are found here
            TextTokenizer(folder.path)
            Calibration.read(folder.calibration)
            own = read_card(folder)
            if folder.is_int8:
                say(f"{folder.name}: INT8, which transformers cannot read, becomes float32")
                folder = open_folder(save_folder(folder, Path(draft) / "model"))
            files = model_files(folder)
            hub = None if dry_run else Hub(token)
            there = None if hub is None else hub.find(name, revision=revision, private=private)
            if own is None and hub is not None:
                main = there or (revision and hub.find(name, revision=None, private=False))
                own = main.read_card() if main else None
            card = complete_card(own, folder, name, license=license)
            if hub is not None and there is None:
                there = hub.make(name, revision=revision, private=private)
        except (OSError, SafetensorError) as error:
            raise ModelFolderError(f"{os.fspath(model)} cannot be read: {error}") from error
        except (BudgetError, CalibrationError, WindowError) as error:
            raise ModelFolderError(str(error)) from error
        files[CARD] = card.text.encode()
        results = evaluation_results(card.text)
        if results is not None:
            files[RESULTS] = results
        if not card.has_figures:
            say(f"{called}: the figures in the card differ from length_configs.json: update the card")
        sizes = {file: len(x) if isinstance(x, bytes) else x.stat().st_size for file, x in files.items()}
        url = _page(name) if there is None else there.url
        done = Push(name=name, url=url, commit=None, private=None, files=sizes, removed=(), card=card)
        return done if there is None else _upload(done, there, files, message, say)


def model_files(folder: ModelFolder) -> dict[str, bytes | Path]:
    """Return the files of a model, without its card: name -> path or content."""
    files: dict[str, bytes | Path] = {CONFIG: folder.path / CONFIG}
    weights = find_weight_files(folder.path)
    files |= {file.name: file for file in weights}
    if weights[0].name != WEIGHTS:
        files[INDEX] = folder.path / INDEX
    files |= {file: folder.path / file for file in COPIED if file != CARD and (folder.path / file).is_file()}
    for name in {CONFIG, "tokenizer_config.json", LENGTH_CONFIGS} & files.keys():
        settings = read_object(folder.path / name)
        marked = (folder.path / name).read_bytes().startswith(codecs.BOM_UTF8)  # which other programs refuse
        if _PATHS & settings.keys() or marked:  # local paths are private
            kept = {key: value for key, value in settings.items() if key not in _PATHS}
            files[name] = (json.dumps(kept, indent=2, ensure_ascii=False) + "\n").encode()
    return files


def read_card(folder: ModelFolder) -> str | None:
    """Read the card of a folder; return None if there is no card.

    Raises:
        ModelFolderError: The card is not UTF-8.
    """
    file = folder.path / CARD
    try:
        return file.read_bytes().decode("utf-8") if file.is_file() else None
    except UnicodeDecodeError as error:
        raise ModelFolderError(f"{file} is not UTF-8 (byte {error.start:,}): convert it") from error


def _upload(
    push: Push, there: HubModel, files: Mapping[str, bytes | Path], message: str | None, say: Callable[[str], None]
) -> Push:
    from dataclasses import replace

    from dynamic_tinybert import __version__

    removed = tuple(there.superseded(files))
    say(f"{push.name}: {len(files)} files, {sum(push.files.values()) / 1e6:,.1f} MB")
    if removed:
        say(f"{push.name}: {', '.join(removed)} of the model before is removed")
    commit = there.commit(files, message or f"Model from dynamic-tinybert {__version__}")
    if commit is None:
        say(f"{push.name}: all files are there already")
    return replace(push, commit=commit, private=there.private, removed=removed)


def _page(name: str) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{name}"
