"""Say how to install an extra of this package, in the way the package itself was installed."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

_NAME = "dynamic-tinybert"
_SDIST = "dynamic_tinybert-"


def install_command(extra: str) -> str:
    """Return the command that adds an extra to this Python: from the same clone, archive or repository, or the index.

    Installers record where a distribution came from (PEP 610, https://peps.python.org/pep-0610/). If there is no such
    record, or its folder or file is gone, the command names the package index.
    """
    return _installing(_requirement(_NAME, extra))


def install_model_command(name: str) -> str:
    """Return the command that adds one of this project's models, a package in `models/` of the clone or repository."""
    return _installing(_requirement(name, below=f"models/{name}"))


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
        raise ModuleNotFoundError(missing(what, package, name), name=error.name) from None


def missing(what: str, package: str, extra: str) -> str:
    """Return the line that says what needs a package, and how to install the extra that brings it."""
    return f"{what} needs {package}, which is not installed: {install_command(extra)}"


def _installing(requirement: list[str]) -> str:
    # Imported here, because every start of the package would pay for it.
    from importlib.util import find_spec

    python = sys.executable or "python"
    tool = [python, "-m", "pip", "install"]
    if find_spec("pip") is None:
        tool = ["uv", "pip", "install", "--python", python]
    return _joined([*tool, *requirement])


def _joined(words: list[str]) -> str:
    """Return words as one line for the shell of this system; cmd.exe knows only double quotes."""
    import shlex
    import subprocess

    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def _requirement(name: str, extra: str = "", below: str = "") -> list[str]:
    """Return what to install: a folder, or a requirement (PEP 508), as arguments of an installer.

    Args:
        name: The distribution: this one, or one that its repository holds.
        extra: An extra of it, or none.
        below: The folder of the distribution in the repository, below that of this one.
    """
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    extras = f"[{extra}]" if extra else ""
    origin = _origin()
    url = origin.get("url")
    kinds = {key: origin.get(key) for key in ("dir_info", "vcs_info", "archive_info")}
    if not isinstance(url, str) or not any(isinstance(kind, dict) for kind in kinds.values()):
        return [name + extras]
    parts = urlsplit(url)
    path = url2pathname(f"//{parts.netloc}{parts.path}" if parts.netloc else parts.path)
    subdirectory = "/".join(filter(None, (str(origin.get("subdirectory") or ""), below)))
    folder = os.path.join(path, *subdirectory.split("/")) if subdirectory else path
    if parts.scheme == "file" and not os.path.exists(path):
        return [name + extras]
    if isinstance(kinds["dir_info"], dict):
        if below and not os.path.isdir(folder):
            return [name + extras]
        return ["-e", folder + extras] if kinds["dir_info"].get("editable") and not below else [folder + extras]
    if isinstance(vcs := kinds["vcs_info"], dict):
        commit = f"@{vcs['commit_id']}" if vcs.get("commit_id") else ""
        url = f"{vcs.get('vcs', 'git')}+{url}{commit}"
    elif below and (path.endswith(".whl") or (path.endswith(".tar.gz") and os.path.basename(path).startswith(_SDIST))):
        return [name + extras]  # a wheel or sdist holds no other distribution; an archive of the repository does
    return [f"{name}{extras} @ {url}" + (f"#subdirectory={subdirectory}" if subdirectory else "")]


def _origin() -> dict[str, Any]:
    """Return the installer's record of where this package came from, empty if there is none."""
    import importlib.metadata
    import json

    try:
        text = importlib.metadata.distribution(_NAME).read_text("direct_url.json")
        origin = json.loads(text or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return {}
    return origin if isinstance(origin, dict) else {}
