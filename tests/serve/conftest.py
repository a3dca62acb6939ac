"""What the tests of serving share. They need the extra `serve`: each is marked so, and without it none is collected."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

collect_ignore_glob = [] if importlib.util.find_spec("fastapi") else ["*"]


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("serve")


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """A Chromium to drive. Without one the test is skipped, or fails where DYNAMIC_TINYBERT_NEEDS_BROWSER is set."""
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None and os.environ.get("DYNAMIC_TINYBERT_NEEDS_BROWSER"):
        pytest.fail("no Chromium in PATH, and DYNAMIC_TINYBERT_NEEDS_BROWSER is set: apt-get install chromium")
    if found is None:
        pytest.skip("no Chromium in PATH: apt-get install chromium")
    return found
