"""An engine whose model waits and fails when a test wants it to. For the tests of serving."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from starlette.types import ASGIApp, Message, Scope

from dynamic_tinybert.inference import Reader
from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.runtime import Logits
from dynamic_tinybert.serve import ServeOptions
from dynamic_tinybert.serve.engine import Engine
from dynamic_tinybert.serve.engine.costs import Costs
from support.waiting import WAIT_S


class Held:
    """A runtime around another: it reads when `go` is set, and `fault` may raise, or change what it says.

    Attributes:
        go: Whether it reads; set at first.
        begun: Released at each batch.
        shapes: Rows and tokens of each batch.
    """

    def __init__(self, runtime: Any) -> None:
        self.runtime = runtime
        self.shape, self.precision, self.batch_tokens = runtime.shape, runtime.precision, runtime.batch_tokens
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Semaphore(0)
        self.shapes: list[tuple[int, int]] = []
        self.fault: Callable[[npt.NDArray[np.int64], Logits], Logits] = lambda ids, logits: logits

    def run(self, input_ids: npt.NDArray[np.int64], *rest: npt.NDArray[np.int64]) -> Logits:
        self.shapes.append(input_ids.shape)
        self.begun.release()
        assert self.go.wait(WAIT_S)
        return self.fault(input_ids, self.runtime.run(input_ids, *rest))

    def wait_until_it_reads(self) -> None:
        assert self.begun.acquire(timeout=WAIT_S)


class Running:
    """A started engine, and what holds its model."""

    def __init__(self, engine: Engine, held: Held, options: ServeOptions) -> None:
        self.engine = engine
        self.held = held
        self.options = options

    def is_idle(self) -> bool:
        """Nothing waits, nothing is read, and nothing is left behind of what did."""
        workers = self.engine._workers
        with workers.lock:
            return not (len(workers.scheduler) or workers.scheduler._reading or workers._jobs or self.engine.open)


@contextlib.contextmanager
def running(
    qa: QuestionAnswerer, *, workers: int = 1, measured: Callable[..., Costs] | None = None, **options: Any
) -> Iterator[Running]:
    """An engine that has started. What reading takes is not measured but made up, which takes no time.

    Args:
        qa: The model.
        workers: Batches read at once.
        measured: Makes `Costs` of a shape and a ladder.
        options: Those of `ServeOptions`; load control is off unless they turn it on.
    """
    held = Held(qa.reader.runtime)
    same = QuestionAnswerer.from_reader(
        Reader(qa.reader.tokenizer, held), qa.shape, qa.table, name=qa.name, calibration=qa.calibration
    )
    settings = ServeOptions(**{"slo_ms": None, **options})
    engine = Engine(same, settings, workers=workers)
    make = measured or Costs
    with mock.patch.object(Costs, "measure", lambda shape, ladder, read: make(shape, ladder)):
        engine.start()
    try:
        yield Running(engine, held, settings)
    finally:
        held.go.set()
        engine.stop()


class Reply:
    """A response, read whole."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.status: int = messages[0]["status"]
        self.headers = {name.decode().lower(): value.decode() for name, value in messages[0]["headers"]}
        self.body = b"".join(message.get("body", b"") for message in messages[1:])

    def json(self) -> Any:
        return json.loads(self.body)


async def send(
    app: ASGIApp,
    path: str,
    asked: Any = None,
    *,
    method: str | None = None,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    leaves: asyncio.Event | None = None,
) -> Reply:
    """Send a request to an app, by bare ASGI.

    Args:
        app: The app.
        path: The path.
        asked: What to send as JSON.
        method: By default GET, or POST where there is something to send.
        body: What to send instead, byte for byte.
        headers: More headers.
        leaves: The client leaves when this is set; by default it stays.
    """
    content = body if body is not None else b"" if asked is None else json.dumps(asked).encode()
    method = method or ("GET" if asked is None and body is None else "POST")
    given = {"host": "localhost", "content-type": "application/json", "content-length": str(len(content))}
    given |= {name.lower(): value for name, value in (headers or {}).items()}
    path, _, query = path.partition("?")
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("localhost", 80),
    }
    sent: list[Any] = []
    unread = [content]

    async def receive() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        await (leaves or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send_(message: Message) -> None:
        sent.append(message)

    await asyncio.wait_for(app(scope, receive, send_), WAIT_S)
    return Reply(sent)
