"""Say how to install an extra of this package, in the way the package itself was installed."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import shlex
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

_NAME = "dynamic-tinybert"


def install_command(extra: str) -> str:
    """Return the pip command that adds an extra: from the same clone, archive or repository, or from the index.

    pip records where a distribution came from (PEP 610, https://peps.python.org/pep-0610/). Without such a record the
    distribution came from a package index.
    """
    origin = _origin()
    url = str(origin.get("url", ""))
    if "dir_info" in origin:
        folder = url2pathname(urlsplit(url).path)
        editable = "-e " if origin["dir_info"].get("editable") else ""
        return f"pip install {editable}{shlex.quote(f'{folder}[{extra}]')}"
    if vcs := origin.get("vcs_info"):
        url = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    source = f" @ {url}" if url else ""
    return f"pip install '{_NAME}[{extra}]{source}'"


@contextlib.contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """Say which extra brings a package whose import fails in the body.

    Args:
        name: The name of the extra.
        what: What needs the package, as the start of a sentence.

    Raises:
        ModuleNotFoundError: A package is not installed. The message says how to install it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", __name__.partition(".")[0]):  # this package is broken
            raise
        message = f"{what} needs {package}, which is not installed: {install_command(name)}"
        raise ModuleNotFoundError(message, name=error.name) from None


def _origin() -> dict[str, Any]:
    """Return pip's record of where this package came from, empty if there is none."""
    try:
        text = importlib.metadata.distribution(_NAME).read_text("direct_url.json")
        origin = json.loads(text or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return {}
    return origin if isinstance(origin, dict) else {}
