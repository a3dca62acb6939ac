"""An app with its middleware, served in a thread, and clients that behave badly. For the tests of serving."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field, field_validator
from starlette.types import ASGIApp

from dynamic_tinybert.serve import ServeOptions
from dynamic_tinybert.serve.http import Server, Stopping, problems, wrap
from dynamic_tinybert.serve.http.problems import FieldError, Problem, RequestModel
from support.waiting import WAIT_S, eventually

Question = Annotated[str, Field(max_length=100_000)]


class Asked(RequestModel):
    question: Question | Annotated[list[Question], Field(max_length=1000)]
    budget: float | str = 1.0
    top_k: int = Field(1, ge=1)
    word: str = "fine"

    @field_validator("word")
    @classmethod
    def one_word(cls, word: str) -> str:
        if " " in word:
            raise FieldError("use one word")
        if word == "unlucky":
            raise ValueError(f"the word {word} is unlucky")
        return word


class Application:
    """What the tests hold in their hands."""

    def __init__(self) -> None:
        self.stopping = Stopping()
        self.waiting = 0
        self.entered = threading.Semaphore(0)
        self.left = threading.Semaphore(0)
        self.go = threading.Event()
        self.shut_down = threading.Event()
        self.fastapi = app = FastAPI(docs_url=None, redoc_url=None, lifespan=self.lifespan)
        problems.install(app)

        @app.get("/health")
        async def health() -> JSONResponse:
            stopping = self.stopping.is_set()
            return JSONResponse({"status": "stopping" if stopping else "ok"}, 503 if stopping else 200)

        @app.post("/answer")
        async def answer(asked: Asked, request: Request) -> dict[str, Any]:
            request.state.log["questions"] = 1
            return {"top_k": asked.top_k}

        @app.post("/bytes")
        async def count(request: Request) -> dict[str, int]:
            return {"bytes": len(await request.body())}

        @app.post("/wait")
        async def wait(request: Request) -> dict[str, str]:
            """Answers when told to, or ends when its client leaves."""
            await request.body()
            self.entered.release()
            leaving = asyncio.ensure_future(request.receive())
            while not self.go.is_set() and not leaving.done():
                await asyncio.wait([leaving], timeout=0.02)
            if leaving.done():
                self.left.release()
                raise Problem(503, "too_busy", "nobody reads this")
            leaving.cancel()
            return {"done": "yes"}

        @app.get("/big")
        async def big() -> Response:
            return Response(b"x" * (64 << 20))

        @app.get("/problem")
        async def problem() -> None:
            raise Problem(429, "too_busy", "ask \ud800 again", headers={"Retry-After": "3"})

        @app.get("/fails")
        async def fails() -> None:
            raise KeyError("a secret text")

    @contextlib.asynccontextmanager
    async def lifespan(self, app: FastAPI) -> Any:
        yield
        self.shut_down.set()

    def with_middleware(self, **options: Any) -> ASGIApp:
        return wrap(self.fastapi, ServeOptions(**options), self.stopping)


@contextlib.contextmanager
def serving(**options: Any) -> Iterator[Served]:
    """An application on a port of its own."""
    application = Application()
    listening = threading.Event()
    server = Server(
        application.with_middleware(**options),
        ServeOptions(port=0, **options),
        stopping=application.stopping,
        ready=lambda url: listening.set(),
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert listening.wait(WAIT_S)
        yield Served(application, server, thread)
    finally:
        application.go.set()
        server.stop()
        thread.join(WAIT_S)
        assert not thread.is_alive()


class Served:
    def __init__(self, application: Application, server: Server, thread: threading.Thread) -> None:
        self.application = application
        self.server = server
        self.thread = thread
        self.port = int(server.url.rpartition(":")[2])

    def afresh(self) -> Served:
        """For the next test."""
        assert eventually(self.is_idle)
        self.application.go.clear()
        self.application.entered = threading.Semaphore(0)
        self.application.left = threading.Semaphore(0)
        return self

    def connect(self) -> Client:
        return Client(self.port)

    def is_idle(self) -> bool:
        """No connection and no task is left behind."""
        state = self.server.server_state
        return not state.connections and not state.tasks

    def ask(self, data: bytes) -> Reply:
        with self.connect() as client:
            client.send(data)
            return client.read()


class Reply:
    def __init__(self, head: bytes, body: bytes) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """A raw connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        self.buffer = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def _more(self) -> bool:
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionError:
            data = b""
        self.buffer += data
        return bool(data)

    def read(self) -> Reply:
        """The next response. Its body is of a known length."""
        while b"\r\n\r\n" not in self.buffer:
            assert self._more(), f"closed after {self.buffer!r}"
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        reply = Reply(head, b"")
        length = int(reply.headers["content-length"])
        while len(self.buffer) < length:
            assert self._more(), "closed within a body"
        reply.body, self.buffer = self.buffer[:length], self.buffer[length:]
        return reply

    def is_closed(self) -> bool:
        """Wait for the end, and say whether nothing came before."""
        while self._more():
            pass
        return not self.buffer


def post(path: str, body: bytes = b"", *headers: str) -> bytes:
    """A whole request."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode("latin-1")
