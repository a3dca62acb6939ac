"""The peers' environments: each its own, of pinned versions, made once."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.common import ROOT

OURS = "ours"
# What pip installs, a line at a time. PyTorch comes first and pinned: what depends on it would bring a CUDA build.
# txtai needs no extra: its documentation says that the default installation has the most common pipelines, and
# `Questions` imports nothing but PyTorch and transformers.
ENVIRONMENTS: dict[str, Sequence[str]] = {
    "transformers": ("torch==2.13.0", "transformers==5.2.0"),
    "haystack": ("torch==2.13.0", "transformers-haystack==2.0.0 haystack-ai==3.4.0 transformers==5.23.0"),
    "txtai": ("torch==2.13.0", "txtai==9.14.0 transformers==5.23.0"),
    "onnx": ("onnxruntime==1.32.0 tokenizers==0.23.3 numpy==2.4.6",),
    OURS: (f"{ROOT} onnxruntime==1.32.0 tokenizers==0.23.3 numpy==2.4.6",),
}
_SHIPPED = ("src", "recipes", "pyproject.toml")


def make_environments(folder: Path, say: Callable[[str], None]) -> dict[str, Path]:
    """Make the environments in `folder` that are not there yet, or not of these versions; return their Pythons.

    There is no pip in them: what they hold is what the peer needs. Ours is the wheel, built and installed anew whenever
    something that it is made of has changed.

    Raises:
        SystemExit: pip failed.
    """
    for name, steps in ENVIRONMENTS.items():
        stamp, made_of = folder / name / "made-of.json", {"steps": list(steps)}
        if name == OURS:
            made_of["steps"] = [*steps, source_hash()]
        if stamp.exists() and json.loads(stamp.read_text("utf-8")) == made_of:
            continue
        say(f"make the environment of {name}")
        shutil.rmtree(folder / name, ignore_errors=True)
        commands = [[sys.executable, "-m", "venv", "--without-pip", str(folder / name)]]
        pip = [sys.executable, "-m", "pip", "--python", str(python(folder, name)), "--disable-pip-version-check"]
        commands += [[*pip, "install", "--quiet", *step.split()] for step in steps]
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"peers.py: {' '.join(command)}:\n{done.stderr[-2000:]}")
        stamp.write_text(json.dumps(made_of) + "\n", "utf-8")
    return {name: python(folder, name) for name in ENVIRONMENTS}


def python(folder: Path, name: str) -> Path:
    return folder.absolute() / name / "bin" / "python"


def source_hash() -> str:
    """Of all that the wheel is made of, its description apart."""
    digest = hashlib.sha256()
    for part in _SHIPPED:
        path = ROOT / part
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def installed_bytes(folder: Path, name: str) -> int:
    """Disk space of the site-packages of an environment, compiled modules included."""
    (packages,) = (folder / name / "lib").glob("python*/site-packages")
    return sum(file.stat().st_size for file in packages.rglob("*") if file.is_file() and not file.is_symlink())
