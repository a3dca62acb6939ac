"""The tests of a cluster need the extra `ray`: each is marked so, and without it none is collected."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

HERE = Path(__file__).parent

collect_ignore_glob = [] if importlib.util.find_spec("ray") else ["*"]


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("ray")
            item.add_marker(pytest.mark.filterwarnings("default"))  # of Ray's own
