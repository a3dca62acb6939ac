"""What the end-to-end tests share: models and data of seconds, made once."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from support.training import write_data, write_model


@pytest.fixture(scope="session", autouse=True)
def _quick_collections() -> Iterator[None]:
    """Each stage collects garbage, which takes half a second if all of torch is looked through."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Of a module, so that what its fixtures train is trained so too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """`data` of a recipe."""
    return write_data(tmp_path_factory.mktemp("data") / "data")


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory, embedded: Path) -> str:
    """A BERT of 4 layers, a teacher."""
    return write_model(tmp_path_factory.mktemp("models") / "bert", embedded, layers=4)


@pytest.fixture(scope="session")
def mpnet(tmp_path_factory: pytest.TempPathFactory, embedded: Path) -> str:
    """An MPNet of 4 layers, whose tokens have other ids."""
    return write_model(tmp_path_factory.mktemp("models") / "mpnet", embedded, "mpnet", layers=4)


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory, embedded: Path) -> str:
    """A narrower BERT of 2 layers."""
    return write_model(tmp_path_factory.mktemp("models") / "student", embedded, hidden=24)


@pytest.fixture
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the curve's picture out: it takes as long as a tiny stage."""
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
