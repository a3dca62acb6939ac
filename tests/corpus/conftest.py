"""What the tests of the corpus share."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.corpus import Corpus
from support.milvus_server import MilvusServer

DOCUMENTS = {
    "paris.txt": "The tower stands in Paris, on the Champ de Mars.\n\n"
    "It was built in 1889 by the company of Gustave Eiffel.",
    "rome.md": "# The Colosseum\n\n"
    "The Colosseum is an amphitheatre in Rome. It was finished in the year 80 under Titus.",
    "berlin.html": "<html><head><title>Gate</title></head><body><p>The Brandenburg Gate stands in Berlin.</p>"
    "<p>Carl Langhans designed the gate, and it was finished in 1791.</p></body></html>",
    "more/cities.jsonl": '{"id": "tokyo", "title": "Tokyo", "text": "Tokyo Tower, painted orange, was built in 1958."}'
    '\n{"id": 7, "title": "Sydney", "text": "Jørn Utzon designed the opera house of Sydney, opened in 1973."}\n',
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of four documents' files."""
    folder = tmp_path / "documents"
    for name, text in DOCUMENTS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A Milvus server."""
    if not importlib.util.find_spec("milvus_lite"):
        pytest.skip("milvus-lite is not installed: make test-milvus does it")
    server = MilvusServer(tmp_path_factory.mktemp("milvus"))
    yield server
    server.kill()


@pytest.fixture(params=["folder", pytest.param("milvus", marks=pytest.mark.milvus)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where an index may be made: what holds of one engine holds of the other."""
    if request.param == "folder":
        return tmp_path / "index"
    address: str = request.getfixturevalue("milvus").address()
    return address


@pytest.fixture
def corpus(folder: Path, place: Path | str, qa: QuestionAnswerer) -> Corpus:
    """A corpus of these, and the embedded model."""
    corpus = Corpus(place, qa=qa)
    report = corpus.add(folder)
    assert report.added == 4
    assert not report.skipped
    return corpus


@pytest.fixture
def contents() -> Callable[[Corpus], dict[str, str]]:
    """What makes of a corpus all its documents' texts, by name, and checks that its parts agree."""

    def read(corpus: Corpus) -> dict[str, str]:
        infos = list(corpus.documents())
        names = [info.name for info in infos]
        assert len(set(names)) == len(names)
        texts = {name: corpus.text(name) for name in names}
        assert [len(texts[info.name]) for info in infos] == [info.characters for info in infos]
        status = corpus.status()
        assert status.documents == len(infos)
        assert status.passages == sum(info.passages for info in infos)
        assert status.characters == sum(info.characters for info in infos)
        return texts

    return read
