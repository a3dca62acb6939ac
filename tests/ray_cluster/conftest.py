"""The tests of a cluster need the extras `ray` and `ray-serve`: each is marked so; without Ray none is collected."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from pathlib import Path

import pytest

HERE = Path(__file__).parent

collect_ignore_glob = [] if all(map(importlib.util.find_spec, ("ray", "fastapi"))) else ["*"]

if not collect_ignore_glob:
    with warnings.catch_warnings():  # Ray Serve warns as it is imported, which it is for the first time here
        warnings.simplefilter("ignore")
        importlib.import_module("ray.serve")


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("default"))  # of Ray's own
