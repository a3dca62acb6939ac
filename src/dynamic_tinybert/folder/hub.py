"""Models on the Hugging Face Hub.

Only this file and `publish/upload.py` import huggingface_hub, and only when a model on the Hub is needed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath
from typing import Any, Final

from dynamic_tinybert.errors import one_line, warn
from dynamic_tinybert.folder.errors import ModelFolderError
from dynamic_tinybert.folder.files import FETCHED
from dynamic_tinybert.folder.tensors import has_pickle, refuse_pickle

_OWNERS: Final = {  # of models that once had none, by the beginning of the name
    "bert-": "google-bert",
    "distilbert-": "distilbert",
    "distilroberta-": "distilbert",
    "roberta-": "FacebookAI",
    "xlm-roberta-": "FacebookAI",
    "albert-": "albert",
    "camembert-": "almanach",
}
_CONVERTER, _CONVERSION = "SFconvertbot", "Adding `safetensors` variant of this model"


def is_hub_name(model: str) -> bool:
    """Whether `model` has the form `owner/name`."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model, re.ASCII) is not None


def hub_name(model: str) -> str | None:
    """Return the name of a model on the Hub; None if `model` cannot be one.

    Some models once had no owner, as `bert-base-cased`. The Hub knows where other such names have gone.
    """
    if is_hub_name(model):
        return model
    if re.fullmatch(r"\w[\w.]*-[\w.-]*\w", model, re.ASCII) is None:
        return None
    owner = next((owner for begin, owner in _OWNERS.items() if model.startswith(begin)), None)
    return f"{owner}/{model}" if owner else model


def fetch(
    model: str,
    *,
    revision: str | None,
    cache_dir: str | os.PathLike[str] | None,
    local_files_only: bool,
    token: str | None,
) -> Path:
    """Download a model into the Hub's cache, or find it there. The arguments are those of `open_folder`.

    If its main branch has a pickle alone, safetensors come from the open pull request of the Hub's conversion bot,
    with a warning that says so. A pickle is never downloaded.

    Returns:
        The folder in the cache.

    Raises:
        ModelFolderError: There is no such model or revision, it cannot be fetched, or its weights are in a pickle.
    """
    from huggingface_hub import HfApi, constants, errors, snapshot_download

    name = f"{model} at revision {revision!r}" if revision else model
    offline = local_files_only or constants.HF_HUB_OFFLINE
    api = HfApi(token=token)

    def download(revision: str | None) -> Path:
        found = snapshot_download(
            model,
            revision=revision,
            cache_dir=None if cache_dir is None else Path(cache_dir),
            local_files_only=local_files_only,
            token=token,
            allow_patterns=list(FETCHED),
        )
        return Path(found)

    others: list[str] = []
    try:
        path = download(revision)
        if not _has_weights(path) and not offline:
            others = api.list_repo_files(model, revision=revision)
        if not _has_weights(path) and revision in (None, "main") and (offline or has_pickle(others)):
            number = _converted_here(path) if offline else _conversion(api, model)
            if number is not None:
                path = download(f"refs/pr/{number}")
                warn(f"{model} has a pickle on main: its safetensors are the conversion bot's, from refs/pr/{number}")
    except errors.GatedRepoError as error:
        raise ModelFolderError(
            f"{model} is gated: ask for access at {constants.ENDPOINT}/{model}, then run hf auth login or give a token"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelFolderError(
            f"{model} is neither a folder here nor a model on the Hub, or it is private there: check the name, or run"
            " hf auth login or give a token"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelFolderError(f"{model} has no revision {revision!r} on the Hub: check its name") from error
    except errors.LocalEntryNotFoundError as error:
        absent = f"{name} is neither a folder here nor complete in the Hub's cache"
        if offline:
            raise ModelFolderError(
                f"{absent}, and local_files_only or HF_HUB_OFFLINE forbids the download: allow it once"
            ) from error
        why = one_line(error.__cause__ or error)
        raise ModelFolderError(f"{absent}, and {constants.ENDPOINT} fails ({why}): check the network") from error
    except Exception as error:  # the libraries below huggingface_hub, and so its errors, differ between versions
        raise ModelFolderError(f"{name} could not be downloaded from the Hub: {one_line(error)}") from error
    if _has_weights(path):
        return path
    source = f"{model!r}, revision={revision!r}" if revision else repr(model)
    refuse_pickle(f"{name} on the Hub", others, source, PurePath(model).name)
    return path


def _has_weights(path: Path) -> bool:
    return any(path.glob("model*.safetensors*"))


def _conversion(api: Any, model: str) -> int | None:
    """Return the number of the conversion bot's open pull request for what is on main now; None if there is none."""
    main = api.list_repo_commits(model)[0].commit_id
    for each in api.get_repo_discussions(
        model, author=_CONVERTER, discussion_type="pull_request", discussion_status="open"
    ):
        if (each.author, each.title) == (_CONVERTER, _CONVERSION) and each.is_pull_request:
            commits = [commit.commit_id for commit in api.list_repo_commits(model, revision=each.git_reference)]
            if commits[1:2] == [main]:
                return int(each.num)
    return None


def _converted_here(path: Path) -> int | None:
    """Return the number of the pull request whose weights the cache holds beside the snapshot `path`, or None."""
    home = path.parents[1]
    for reference in sorted((home / "refs/refs/pr").glob("*")):
        if _has_weights(home / "snapshots" / reference.read_text("utf-8").strip()):
            return int(reference.name)
    return None
