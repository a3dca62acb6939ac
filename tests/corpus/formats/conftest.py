"""The tests of a format read in this process, so that they can change what is around it."""

from __future__ import annotations

import pytest

from dynamic_tinybert.corpus.formats import child


@pytest.fixture(autouse=True)
def _in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.module.__name__.endswith("test_child"):
        monkeypatch.setattr(child, "_take", lambda: None)
