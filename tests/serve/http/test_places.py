"""Places on pages over HTTP: what a client gets, and that nothing but the index leads to a file."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

pytest.importorskip("fastapi", reason="needs the extra: pip install 'dynamic-tinybert[serve]'")
pytest.importorskip("pypdfium2", reason="needs the extra: pip install 'dynamic-tinybert[corpus]'")

from dynamic_tinybert.corpus import Corpus
from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.serve import create_app, wrap
from dynamic_tinybert.serve.engine import Stopped, TooBusy
from dynamic_tinybert.serve.engine.pages import Pages
from dynamic_tinybert.serve.http.problems import ProblemBody
from dynamic_tinybert.serve.http.schemas import PlaceResponse
from support.engines import Reply, running, send
from support.formats import drawn, pdf, placed

pytestmark = pytest.mark.serve


class Places:
    """A server with an index of three PDFs and a text."""

    def __init__(self, qa: QuestionAnswerer, folder: Path, engine: Any, options: Any) -> None:
        self.folder, self.engine = folder, engine
        files = folder / "files"
        files.mkdir()
        (files / "guide.pdf").write_bytes(drawn(placed(72, 700, "A guide."), placed(72, 700, "It stands in Paris.")))
        (files / "changed.pdf").write_bytes(pdf(["The bridge stands in Prague."]))
        (files / "gone.pdf").write_bytes(pdf(["The gate stands in Berlin."]))
        (files / "note.txt").write_text("The tower stands in Paris.")
        (folder / "secret.pdf").write_bytes(pdf(["A secret."]))
        Corpus(folder / "index", qa=qa).add(files)
        (files / "changed.pdf").write_bytes(pdf(["The bridge stands in Rome."]))
        (files / "gone.pdf").unlink()
        engine.corpora["docs"] = Corpus(folder / "index", qa=engine.qa)
        self.app = wrap(create_app(engine, options), options)

    def get(self, path: str = "/place", **query: Any) -> Reply:
        return asyncio.run(send(self.app, self.url(path, **query)))

    def url(self, path: str = "/place", **query: Any) -> str:
        name = str(self.folder / "files" / "guide.pdf")
        return f"{path}?{urlencode({'index': 'docs', 'document': name, 'start': 22, 'end': 27} | query)}"


@pytest.fixture(scope="module")
def places(tiny: QuestionAnswerer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    with running(tiny) as engine:
        yield Places(tiny, tmp_path_factory.mktemp("places"), engine.engine, engine.options)


def problem(reply: Reply, status: int, code: str) -> str:
    """The detail of a problem, which never has a path in it."""
    assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json"), reply.body
    body = ProblemBody.model_validate(reply.json(), strict=True, extra="forbid")
    assert body.code == code
    assert "/" not in body.detail.replace("/info", "")
    return body.detail


def test_the_place_of_a_part_is_told_and_drawn(places: Places) -> None:
    text = places.engine.corpora["docs"].text(str(places.folder / "files" / "guide.pdf"))
    assert text[22:27] == "Paris"
    reply = places.get()
    assert reply.status == 200
    (box,) = PlaceResponse.model_validate(reply.json(), strict=True, extra="forbid").boxes
    assert (box.page, box.page_width, box.page_height) == (2, 612, 792)
    assert 130 < box.left < box.right < 180
    assert 792 - 710 < box.top < box.bottom < 793 - 700
    reply = places.get("/place.png")
    assert (reply.status, reply.headers["content-type"], reply.headers["cache-control"]) == (
        200, "image/png", "no-store",
    )  # fmt: skip
    assert reply.body.startswith(b"\x89PNG")


@pytest.mark.parametrize("path", ["/place", "/place.png"])
@pytest.mark.parametrize(
    ("query", "status", "code", "why"),
    [
        ({"index": "other"}, 404, "not_found", "there is no index of this name"),
        ({"document": "{folder}/secret.pdf"}, 404, "not_found", "the index has no document of this name"),
        ({"document": "../secret.pdf"}, 404, "not_found", "the index has no document of this name"),
        ({"document": "{folder}/files/../files/guide.pdf"}, 404, "not_found", "no document of this name"),
        ({"document": "/etc/passwd"}, 404, "not_found", "not a PDF"),
        ({"document": "été\0\ud83d.pdf"}, 404, "not_found", "no document of this name"),
        ({"document": "{folder}/files/note.txt"}, 404, "not_found", "the document is not a PDF"),
        ({"start": 27, "end": 29}, 404, "not_found", "the document has no such characters"),
        ({"start": 1 << 50, "end": (1 << 50) + 5}, 404, "not_found", "the document has no such characters"),
        ({"document": "{folder}/files/changed.pdf", "start": 4, "end": 10}, 409, "document_changed", "add it"),
        ({"document": "{folder}/files/gone.pdf", "start": 4, "end": 8}, 409, "document_changed", "add it"),
        ({"end": 22}, 422, "invalid_request", "end must be more than start"),
        ({"start": 0, "end": 20_001}, 422, "invalid_request", "by at most 20000"),
        ({"start": -1}, 422, "invalid_request", "start"),
        ({"start": "x"}, 422, "invalid_request", "start"),
        ({"document": "x" * 2001}, 422, "invalid_request", "document"),
        ({"file": "/etc/passwd"}, 422, "invalid_request", "there is no such field"),
    ],
)
def test_what_cannot_be_shown_is_a_problem(
    places: Places, path: str, query: dict[str, Any], status: int, code: str, why: str
) -> None:
    query = {
        name: value.format(folder=places.folder).encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        for name, value in query.items()
    }
    assert why in problem(places.get(path, **query), status, code)


def test_pages_wait_for_each_other_and_too_many_are_refused(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    running, most = 0, 0
    picture = places.engine.corpora["docs"].picture
    lock = threading.Lock()

    def held(*part: Any) -> bytes:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        assert go.wait(60)
        with lock:
            running -= 1
        png: bytes = picture(*part)
        return png

    monkeypatch.setattr(places.engine.corpora["docs"], "picture", held)

    async def ask() -> list[Reply]:
        asked = [asyncio.ensure_future(send(places.app, places.url("/place.png"))) for _ in range(20)]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        while running < 2:
            await asyncio.sleep(0.01)
        go.set()
        return list(await asyncio.gather(*asked))

    replies = asyncio.run(ask())
    assert sorted(reply.status for reply in replies) == [200] * 18 + [429] * 2
    refused = next(reply for reply in replies if reply.status == 429)
    assert "as many pages as the server allows" in problem(refused, 429, "too_busy")
    assert refused.headers["retry-after"] == "1"
    assert most == 2


def test_pages_that_nobody_waits_for_any_more_still_count() -> None:
    """Otherwise clients that leave could queue any number of pages."""
    go_on, pages = threading.Event(), Pages()
    begun: list[int] = []

    def work() -> None:
        begun.append(1)
        go_on.wait(20)

    async def use() -> None:
        for _ in range(40):  # what has not begun is dropped with its client, so none of them is refused
            with pytest.raises((asyncio.TimeoutError, TimeoutError)):
                await asyncio.wait_for(pages.run(work), 0.01)
        assert len(begun) == 2
        waiting = [asyncio.ensure_future(pages.run(work)) for _ in range(20)]
        await asyncio.sleep(0)
        with pytest.raises(TooBusy):
            await pages.run(work)
        go_on.set()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert sum(isinstance(one, TooBusy) for one in results) == 4
        pages.stop()
        with pytest.raises(Stopped):
            await pages.run(work)

    asyncio.run(use())


def test_a_page_that_takes_too_long_is_given_up(
    tiny: QuestionAnswerer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    with running(tiny, timeout_ms=200.0) as engine:
        places = Places(tiny, tmp_path, engine.engine, engine.options)
        monkeypatch.setattr(places.engine.corpora["docs"], "locate", lambda *part: go.wait(60))
        problem(places.get(), 504, "deadline_exceeded")
        go.set()


def test_an_index_that_is_gone_is_told(tiny: QuestionAnswerer, tmp_path: Path) -> None:
    with running(tiny) as engine:
        places = Places(tiny, tmp_path, engine.engine, engine.options)
        (tmp_path / "index").rename(tmp_path / "elsewhere")
        problem(places.get(), 503, "index_unavailable")


def test_pages_need_a_key_where_all_do(tiny: QuestionAnswerer, tmp_path: Path) -> None:
    with running(tiny, api_keys=("secret",)) as engine:
        places = Places(tiny, tmp_path, engine.engine, engine.options)
        for path in ("/place", "/place.png"):
            problem(places.get(path), 401, "unauthorized")
        keyed = asyncio.run(send(places.app, places.url(), headers={"x-api-key": "secret"}))
        assert keyed.status == 200
