"""Models on the Hugging Face Hub.

Only this file and `publish/upload.py` import huggingface_hub, and only when a model on the Hub is needed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path, PurePath
from typing import Any, Final

from dynamic_tinybert.errors import one_line, warn
from dynamic_tinybert.files import write_whole
from dynamic_tinybert.folder.errors import ModelFolderError
from dynamic_tinybert.folder.files import FETCHED
from dynamic_tinybert.folder.tensors import has_pickle, refuse_pickle

_OLD: Final = (  # names that once had no owner, and their owners now
    (r"bert-(base|large)-(un)?cased(-[\w-]+)?", "google-bert"),
    (r"distilbert-base-(un)?cased(-[\w-]+)?", "distilbert"),
    (r"distilroberta-base", "distilbert"),
    (r"(xlm-)?roberta-(base|large)(-[\w-]+)?", "FacebookAI"),
    (r"albert-(base|large|xlarge|xxlarge)-v[12]", "albert"),
    (r"camembert-base", "almanach"),
)
_NOTE: Final = "dynamic-tinybert.json"  # in the cache of a model: commits of main, and of their checked conversions
_CONVERTER, _CONVERSION = "SFconvertbot", "Adding `safetensors` variant of this model"


def is_hub_name(model: str) -> bool:
    """Whether `model` has the form `owner/name`."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model, re.ASCII) is not None


def hub_name(model: str) -> str | None:
    """Return the name of a model on the Hub, `owner/name`; None if `model` is not one.

    Some models once had no owner, as `bert-base-cased`. Only these are known here: any other name without an owner may
    be that of a folder, which is nobody's business.
    """
    if is_hub_name(model):
        return model
    return next((f"{owner}/{model}" for old, owner in _OLD if re.fullmatch(old, model, re.ASCII)), None)


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
    token = token.strip() if token else None
    if token and not re.fullmatch("[!-~]+", token):
        raise ModelFolderError("the token for the Hub has characters that no token has: copy it again")
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
        if not _has_weights(path):
            commit = _noted(path) if revision in (None, "main") else None
            if commit is None and not offline:
                others = api.list_repo_files(model, revision=revision)
                if revision in (None, "main") and has_pickle(others):
                    commit = find_conversion(api, model, path.name)
                    _note(path, commit)
            if commit is not None:
                path = download(commit)
                warn(f"{model} has a pickle on main: its safetensors are the conversion bot's, from commit {commit}")
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
                f"{absent}, and --offline, local_files_only or HF_HUB_OFFLINE forbids the download: allow it once"
            ) from error
        why = one_line(error.__cause__ or error)
        raise ModelFolderError(f"{absent}, and {constants.ENDPOINT} fails ({why}): check the network") from error
    except Exception as error:  # the libraries below huggingface_hub, and so its errors, differ between versions
        raise ModelFolderError(f"{name} could not be downloaded from the Hub: {one_line(error)}") from error
    if _has_weights(path):
        return path
    if offline:
        raise ModelFolderError(
            f"the weights of {name} are not in the Hub's cache, and --offline, local_files_only or HF_HUB_OFFLINE"
            " forbids the download: allow it once"
        )
    source = f"{model!r}, revision={revision!r}" if revision else repr(model)
    refuse_pickle(f"{name} on the Hub", others, source, PurePath(model).name)
    return path


def _has_weights(path: Path) -> bool:
    return any(path.glob("model*.safetensors*"))


def find_conversion(api: Any, model: str, main: str) -> str | None:
    """Return the commit of the conversion bot's open pull request for the commit `main` of a model, or None.

    Args:
        api: A `HfApi`.
        model: The model's name.
        main: The commit that the main branch is at.
    """
    from huggingface_hub import errors

    try:
        for each in api.get_repo_discussions(
            model, author=_CONVERTER, discussion_type="pull_request", discussion_status="open"
        ):
            if (each.author, each.title) != (_CONVERTER, _CONVERSION) or not each.is_pull_request:
                continue
            commits = [commit.commit_id for commit in api.list_repo_commits(model, revision=each.git_reference)]
            if commits[1:2] == [main]:
                return str(commits[0])
    except errors.HfHubHTTPError:  # the model has no discussions
        pass
    return None


def _note(path: Path, commit: str | None) -> None:
    """Note the conversion of the snapshot of main at `path`, so that it is found without the network."""
    if commit is not None:
        with contextlib.suppress(OSError):
            write_whole(path.parents[1] / _NOTE, json.dumps({path.name: commit}).encode())


def _noted(path: Path) -> str | None:
    """Return the commit that `_note` noted for the snapshot of main at `path`, or None."""
    try:
        found = json.loads((path.parents[1] / _NOTE).read_bytes())[path.name]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return found if isinstance(found, str) else None
