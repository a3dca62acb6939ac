"""What the tests of the JavaScript package share. They need Node.js and `npm ci` in javascript/: each is marked so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dynamic_tinybert.folder import open_folder
from dynamic_tinybert.publish import save_onnx_folder
from support.javascript import PACKAGE


@pytest.fixture(scope="session")
def node() -> str:
    """Node.js, with what the package depends on."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("no Node.js in PATH: apt-get install nodejs npm")
    if not (PACKAGE / "node_modules" / "onnxruntime-web").is_dir():
        pytest.skip("javascript/ has no node_modules: run npm ci in it, or make test-javascript")
    return found


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the embedded model for JavaScript, as `fp32` and as `int8`."""
    folder = tmp_path_factory.mktemp("exported")
    for precision in ("fp32", "int8"):
        save_onnx_folder(open_folder(), folder / precision, precision=precision)
    return folder
