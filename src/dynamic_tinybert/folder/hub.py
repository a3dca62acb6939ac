"""Models on the Hugging Face Hub.

Only this file and `publish/upload.py` import huggingface_hub, and only when a model on the Hub is needed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath

from dynamic_tinybert.errors import one_line
from dynamic_tinybert.folder.errors import ModelFolderError
from dynamic_tinybert.folder.files import FETCHED
from dynamic_tinybert.folder.tensors import refuse_pickle


def is_hub_name(model: str) -> bool:
    """Whether `model` has the form `owner/name`."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model, re.ASCII) is not None


def fetch(
    model: str,
    *,
    revision: str | None,
    cache_dir: str | os.PathLike[str] | None,
    local_files_only: bool,
    token: str | None,
) -> Path:
    """Download a model into the Hub's cache, or find it there. The arguments are those of `open_folder`.

    Returns:
        The folder in the cache.

    Raises:
        ModelFolderError: There is no such model or revision, it cannot be fetched, or its weights are in a pickle.
    """
    from huggingface_hub import HfApi, constants, errors, snapshot_download

    name = f"{model} at revision {revision!r}" if revision else model
    offline = local_files_only or constants.HF_HUB_OFFLINE
    try:
        path = Path(
            snapshot_download(
                model,
                revision=revision,
                cache_dir=None if cache_dir is None else Path(cache_dir),
                local_files_only=local_files_only,
                token=token,
                allow_patterns=list(FETCHED),
            )
        )
        has_weights = any(path.glob("model*.safetensors*"))
        others = [] if has_weights or offline else HfApi(token=token).list_repo_files(model, revision=revision)
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
    source = f"{model!r}, revision={revision!r}" if revision else repr(model)
    refuse_pickle(f"{name} on the Hub", others, source, PurePath(model).name)
    return path
