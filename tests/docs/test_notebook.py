"""The notebook of the examples, run from top to bottom as Jupyter does, without a network."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nbclient", reason="needs nbclient: pip install 'dynamic-tinybert[test-serve]'")
pytest.importorskip("ipykernel", reason="needs ipykernel: pip install 'dynamic-tinybert[test-serve]'")
pytest.importorskip("tantivy", reason="needs the extra: pip install 'dynamic-tinybert[corpus]'")

import nbclient
import nbformat

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"

# Nothing may be asked of another machine. What Jupyter itself does, does not go through Python's sockets.
ALONE = """
import socket

def refused(self, address):
    raise OSError(f"the notebook connects to {address}")

socket.socket.connect = socket.socket.connect_ex = refused
"""
WITHOUT_TORCH = """
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "torch" else found(name, *more)
"""

pytestmark = [
    pytest.mark.serve,  # its ring installs what notebooks need
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]


def run(folder: Path, *before: str) -> list[Any]:
    """Run the notebook in a folder, after some code; its cells with what they put out."""
    book = nbformat.read(NOTEBOOK, 4)
    book.cells[:0] = [nbformat.v4.new_code_cell(code) for code in before]
    environment = {**os.environ, "TMPDIR": str(folder), "HF_HUB_OFFLINE": "1"}
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(book, timeout=280, resources=resources).execute(env=environment)
    cells: list[Any] = book.cells[len(before) :]
    return cells


def printed(cell: Any) -> str:
    return "".join(output.get("text", "") for output in cell.outputs if output.get("name") == "stdout")


def shown(cell: Any, kind: str) -> list[str]:
    return [output.data[kind] for output in cell.outputs if kind in output.get("data", {})]


def cell(cells: list[Any], words: str) -> Any:
    """The one cell of code that has some words."""
    (found,) = [one for one in cells if one.cell_type == "code" and words in one.source]
    return found


def test_the_notebook_has_no_output_and_names_no_machine() -> None:
    book = nbformat.read(NOTEBOOK, 4)
    nbformat.validate(book)
    for one in book.cells:
        if one.cell_type == "code":
            assert (one.outputs, one.execution_count) == ([], None)
    assert set(book.metadata) == {"kernelspec", "language_info"}


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="trains: needs torch")
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    cells = run(tmp_path, ALONE)
    assert "Agnes Moreau" in printed(cell(cells, "for budget in"))
    (heat,) = shown(cell(cells, 'budget="fast", explain=True'), "text/html")
    assert "never dropped: passed all 6 layers" in heat
    assert "dropped in the first layer" in heat
    assert len(shown(cell(cells, "corpus.add(documents)"), "text/html")) == 2
    assert "page 2" in printed(cell(cells, "answer.boxes()"))
    assert shown(cell(cells, "answer.picture()"), "image/png")
    assert "confirm" in printed(cell(cells, "train(read_recipe"))
    assert shown(cell(cells, "train(read_recipe"), "text/html")
    assert not list(tmp_path.glob("dynamic-tinybert-*"))  # it cleans up


def test_without_pytorch_the_notebook_trains_nothing_and_says_so(tmp_path: Path) -> None:
    cells = run(tmp_path, ALONE + WITHOUT_TORCH)
    assert printed(cell(cells, "can_train =")).startswith("Training is skipped: it needs the extra train")
    assert cell(cells, "train(read_recipe").outputs == []
