"""Write to the Hugging Face Hub: one commit with the files of a model."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from dynamic_tinybert.errors import one_line
from dynamic_tinybert.folder import CARD, FETCHED, ModelFolderError, is_hub_name

RESULTS = ".eval_results/squad.yaml"
"""The file on the Hub with a model's results on SQuAD."""


def check_hub_name(name: str) -> None:
    """Check the name of a model on the Hub.

    Raises:
        ValueError: The name is not `owner/name`, or has characters that the Hub refuses.
    """
    from huggingface_hub import errors

    if not is_hub_name(name):
        raise ValueError(f"{name!r} is not a name on the Hub: give owner/name, for example ada/engine")
    try:
        _utils().validate_repo_id(name)
    except errors.HFValidationError as error:
        raise ValueError(f"{name!r} is not a name on the Hub: {error}") from None


@dataclass(frozen=True, kw_only=True)
class HubModel:
    """An existing model on the Hub.

    Attributes:
        name: `owner/name`.
        revision: The branch to write to; None for `main`.
        private: Whether only its owner sees it.
        files: The names of the files at the head of the branch.
        url: The page of the model, or of the branch if it is not `main`.
    """

    name: str
    revision: str | None
    private: bool
    files: frozenset[str]
    url: str
    _api: Any
    _head: str

    def read_card(self) -> str | None:
        """Fetch the card; return None if there is no card.

        Raises:
            ModelFolderError: The card cannot be fetched, or is not UTF-8.
        """
        from huggingface_hub import hf_hub_download

        if CARD not in self.files:
            return None
        with _in_one_line(self.name, self._api.token):
            file = hf_hub_download(self.name, CARD, revision=self._head, token=self._api.token)
            content = Path(file).read_bytes()
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ModelFolderError(
                f"{CARD} of {self.name} is not UTF-8 (byte {error.start:,}): correct it there"
            ) from None

    def superseded(self, files: Mapping[str, Any]) -> list[str]:
        """Return the files of the old model on the Hub that are not in `files`, with which it could still be loaded.

        Its results count as one of them.
        """
        return sorted(
            file
            for file in self.files - files.keys()
            if file == RESULTS or ("/" not in file and any(PurePath(file).match(pattern) for pattern in FETCHED))
        )

    def commit(self, files: Mapping[str, bytes | Path], message: str) -> str | None:
        """Replace the files of the model in one commit. Other files stay.

        Returns:
            The new commit, or None if nothing changed.

        Raises:
            ModelFolderError: The commit failed; the model on the Hub did not change.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        operations: list[Any] = [
            CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
            for name, content in files.items()
        ]
        operations += [CommitOperationDelete(name, is_folder=False) for name in self.superseded(files)]
        with _in_one_line(self.name, self._api.token):
            made = self._api.create_commit(
                self.name, operations, commit_message=message, revision=self.revision, parent_commit=self._head
            )
        return None if made.oid == self._head else str(made.oid)


class Hub:
    """The Hub, with an access token.

    Args:
        token: The access token; by default that of `HF_TOKEN` or `hf auth login`.

    Raises:
        ModelFolderError: There is no token, or `HF_HUB_OFFLINE` is set.
    """

    def __init__(self, token: str | None) -> None:
        from huggingface_hub import HfApi, constants, get_token

        if constants.HF_HUB_OFFLINE:
            raise ModelFolderError("HF_HUB_OFFLINE forbids access to the Hub: unset it to push")
        with _in_one_line("the model", token):
            token = token or get_token()
        if not token:
            raise ModelFolderError(
                "there is no token for the Hub: run hf auth login, or give one that may write in HF_TOKEN or as --token"
            )
        self._api: Any = HfApi(token=token)

    def find(self, name: str, *, revision: str | None, private: bool) -> HubModel | None:
        """Find a model; return None if the model or the branch does not exist.

        Args:
            name: `owner/name`.
            revision: The branch; None for `main`.
            private: Whether the model must be private.

        Raises:
            ModelFolderError: The Hub cannot be reached or refuses, or the model is public but `private` is true.
        """
        from huggingface_hub import constants, errors

        with _in_one_line(name, self._api.token):
            try:
                there = self._api.model_info(name)
                if private and not there.private:
                    raise ModelFolderError(
                        f"{name} exists and is public: make it private in its settings on the Hub first, or push "
                        "without --private"
                    )
                there = self._api.model_info(name, revision=revision) if revision is not None else there
            except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
                return None
        branch = "" if revision in (None, "main") else f"/tree/{quote(revision, safe='')}"
        return HubModel(
            name=name,
            revision=revision,
            private=bool(there.private),
            files=frozenset(file.rfilename for file in there.siblings or ()),
            url=f"{constants.ENDPOINT}/{name}{branch}",
            _api=self._api,
            _head=str(there.sha),
        )

    def make(self, name: str, *, revision: str | None, private: bool) -> HubModel:
        """Create the model or the branch if it is missing. The arguments are those of `find`.

        Raises:
            ModelFolderError: The token may not write there, or the Hub cannot be reached.
        """
        with _in_one_line(name, self._api.token):
            if not self._api.repo_exists(name):
                self._api.create_repo(name, private=private or None, exist_ok=True)
            if revision is not None:
                self._api.create_branch(name, branch=revision, exist_ok=True)
        made = self.find(name, revision=revision, private=private)
        if made is None:
            raise ModelFolderError(f"{name} could not be created on the Hub: choose another name")
        return made


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Turn off the progress bars and logs of huggingface_hub."""
    utils = _utils()
    drawn, verbosity = not utils.are_progress_bars_disabled(), utils.logging.get_verbosity()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # if an environment variable forces the bars on or off
        utils.disable_progress_bars()
    utils.logging.set_verbosity_error()
    try:
        yield
    finally:
        utils.logging.set_verbosity(verbosity)
        if drawn:
            utils.enable_progress_bars()


@contextlib.contextmanager
def _in_one_line(name: str, token: str | None) -> Iterator[None]:
    """Turn whatever huggingface_hub raises into one line, without the token."""
    from huggingface_hub import constants, errors

    try:
        yield
    except ModelFolderError:
        raise
    except Exception as error:  # the HTTP library of huggingface_hub, and so its errors, depend on the version
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        said = one_line(cause)
        if isinstance(cause, errors.HfHubHTTPError):
            line = _of_status(name, int(getattr(cause.response, "status_code", 0)), cause.server_message or said)
        elif isinstance(cause, ValueError):  # about the card's metadata, or malformed arguments
            line = f"{name} could not be pushed: {cause}"
        else:
            line = f"{name} could not be pushed: {constants.ENDPOINT} fails ({said}); check the network and push again"
        raise ModelFolderError(line.replace(token, "***") if token else line) from None


def _of_status(name: str, status: int, said: str) -> str:
    owner = name.partition("/")[0]
    why = {
        401: f"the Hub does not accept the token ({said}): run hf auth login, or give another one",
        403: f"the token may not write there ({said}): use one that may write to {owner}, or choose another owner",
        404: f"the Hub does not find it ({said}): check the name, and that the token may write to {owner}",
        409: f"the name is taken ({said}): choose another",
        412: f"somebody else has pushed meanwhile ({said}): look at it, and push again",
        429: f"the Hub limits the number of requests ({said}): wait, and push again",
    }.get(status, f"the Hub answers {status} ({said})" + (": push again later" if status >= 500 else ""))
    return f"{name} could not be pushed: {why}"


def _utils() -> Any:
    """Return `huggingface_hub.utils`, whose exports type checkers do not see."""
    from huggingface_hub import utils

    return utils
