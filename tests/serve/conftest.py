"""What the tests of serving share. They need the extra `serve`: each is marked so, and without it none is collected."""

from __future__ import annotations

import importlib.util
import os
import shutil

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

collect_ignore_glob = [] if importlib.util.find_spec("fastapi") else ["*"]


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """A Chromium to drive. Without one the test is skipped, or fails where DYNAMIC_TINYBERT_NEEDS_BROWSER is set."""
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None and os.environ.get("DYNAMIC_TINYBERT_NEEDS_BROWSER"):
        pytest.fail("no Chromium in PATH, and DYNAMIC_TINYBERT_NEEDS_BROWSER is set: apt-get install chromium")
    if found is None:
        pytest.skip("no Chromium in PATH: apt-get install chromium")
    return found
