"""The tests of the MCP server need the extra `mcp`: each is marked `serve`; without the SDK none is collected."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from dynamic_tinybert.corpus import Corpus
from support.formats import pdf

UNICODE = "Die Brücke über die Önz wurde 1903 von Ærø Łódź gebaut. 🌉 Она стоит в городе."

collect_ignore_glob = [] if all(map(importlib.util.find_spec, ("mcp", "tantivy"))) else ["*"]


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of documents: a text, one in Unicode, a PDF of two pages, and what cannot be read."""
    folder = tmp_path_factory.mktemp("given") / "documents"
    folder.mkdir()
    tower = (
        "The tower stands in Paris, on the Champ de Mars. It was built in 1889 by the company of Gustave Eiffel.\n\n"
    )
    (folder / "tower.txt").write_text(tower + "It is repainted every seven years. " * 300, "utf-8")
    (folder / "brücke.txt").write_text(UNICODE, "utf-8")
    (folder / "manual.pdf").write_bytes(
        pdf(["This manual is about a lamp.", "The warranty of the lamp ends after three years."])
    )
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    (folder / "program.exe").write_bytes(b"MZ")
    return folder


@pytest.fixture(scope="session")
def index(documents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the documents."""
    folder = tmp_path_factory.mktemp("indexes") / "my-index"
    Corpus(folder).add(documents)
    return folder
