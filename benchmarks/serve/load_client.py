"""Asks a server over HTTP at given moments, whatever it answers, and writes down what came when.

An open loop: requests go out at the moments that were drawn beforehand, and the time of each is counted from its
moment, not from when it was sent: where the generator or the server is late, it is part of the latency (no coordinated
omission). It shares the machine with the server, so that it does as little as it can: requests are bytes made
beforehand, answers are kept as bytes and read when all is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from benchmarks.serve.serving import HOST

CLOSED, UNANSWERED, NO_CONNECTION = 0, -1, -2
"""Statuses of what has none: the connection ended, no answer came in time, too many connections are open."""

MAX_CONNECTIONS = 900
_TIMEOUT_S = 35.0
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

T = TypeVar("T")
Done = Callable[[int, int, float, bytes], None]
"""Called with a request's key, the status, the moment (`time.perf_counter`) and the body."""


@dataclass
class Exchange:
    """A request and its answer; moments are in seconds from the start.

    Attributes:
        question: The question's place.
        due: When it was to be sent.
        sent: When it was.
        done: When the answer was there.
        status: Its HTTP status, or `CLOSED`, `UNANSWERED`, `NO_CONNECTION`.
        body: Its body.
    """

    question: int
    due: float
    sent: float = 0.0
    done: float = 0.0
    status: int = UNANSWERED
    body: bytes = b""


def request_bytes(question: str, text: str, budget: str | None = None) -> bytes:
    """Return an HTTP request that asks a question of a text."""
    content: dict[str, Any] = {"question": question, "text": text}
    if budget is not None:
        content["budget"] = budget
    body = json.dumps(content, ensure_ascii=False).encode()
    head = f"POST /answer HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop where that is installed, and without collecting garbage meanwhile."""
    loop: asyncio.AbstractEventLoop
    try:
        import uvloop
    except ImportError:
        loop = asyncio.new_event_loop()
    else:
        loop = uvloop.new_event_loop()
    gc.collect()
    gc.disable()
    try:
        return loop.run_until_complete(main)
    finally:
        gc.enable()
        loop.close()


class _Connection(asyncio.Protocol):
    """A connection that carries a request at a time."""

    def __init__(self, client: Client, key: int, request: bytes, *, again: bool) -> None:
        self._client, self.key, self._request, self._again = client, key, request, again
        self._buffer, self._length, self._status = b"", -1, 0
        self._transport: asyncio.Transport | None = None

    def ask(self, key: int, request: bytes) -> None:
        self.key, self._request, self._again = key, request, True
        self._buffer, self._length = b"", -1
        if self._transport is not None:
            self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._length < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._buffer[:end]
            status, length = _STATUS.match(head), _LENGTH.search(head)
            if status is None or length is None or self.key < 0:
                self.close()
                return
            self._status, self._length = int(status[1]), int(length[1])
            self._buffer = self._buffer[end + 4 :]
        if len(self._buffer) >= self._length:
            key, self.key = self.key, -1
            self._client.answered(self, key, self._status, self._buffer)

    def connection_lost(self, error: Exception | None) -> None:
        key, self.key = self.key, -1
        self._transport = None
        # A server may close an idle connection just when it is used again: then one asks anew, as every client does.
        self._client.lost(self, key, self._request if self._again and not self._buffer else None)


class Client:
    """Sends requests on connections that it keeps, and opens more when all are taken.

    Args:
        port: Of the server.
        done: What is called when a request has its answer, or has none.
    """

    def __init__(self, port: int, done: Done) -> None:
        self._port, self._done = port, done
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()

    def ask(self, key: int, request: bytes) -> None:
        """Send a request, now."""
        if self._idle:
            self._idle.pop().ask(key, request)
        elif len(self._open) >= MAX_CONNECTIONS:
            self._done(key, NO_CONNECTION, time.perf_counter(), b"")
        else:
            self._connect(key, request)

    async def close(self) -> None:
        """Leave all connections as they are."""
        for connection in list(self._open):
            connection.key = -1
            connection.close()
        for task in list(self._opening):
            task.cancel()
        await asyncio.sleep(0.05)  # what was cancelled and aborted ends in the loop

    def answered(self, connection: _Connection, key: int, status: int, body: bytes) -> None:
        self._idle.append(connection)
        self._done(key, status, time.perf_counter(), body)

    def lost(self, connection: _Connection, key: int, request: bytes | None) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if key >= 0 and request is not None:
            self._connect(key, request)
        elif key >= 0:
            self._done(key, CLOSED, time.perf_counter(), b"")

    def _connect(self, key: int, request: bytes) -> None:
        connection = _Connection(self, key, request, again=False)
        self._open.add(connection)
        task = asyncio.get_running_loop().create_task(self._open_one(connection))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open_one(self, connection: _Connection) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: connection, HOST, self._port)
        except OSError:
            connection.connection_lost(None)


def open_loop(port: int, requests: Sequence[bytes], questions: Sequence[int], due: Sequence[float]) -> list[Exchange]:
    """Send requests at their moments, and return what became of each.

    Args:
        port: Of the server.
        requests: The bytes of each question.
        questions: Which question each request asks.
        due: When each is sent, in seconds from the start, ascending.
    """
    return run(_open_loop(port, requests, questions, due))


async def _open_loop(
    port: int, requests: Sequence[bytes], questions: Sequence[int], due: Sequence[float]
) -> list[Exchange]:
    loop = asyncio.get_running_loop()
    exchanges = [Exchange(question, moment) for question, moment in zip(questions, due, strict=True)]
    open_, over, following = len(exchanges), asyncio.Event(), 0

    def done(key: int, status: int, moment: float, body: bytes) -> None:
        nonlocal open_
        exchange = exchanges[key]
        exchange.status, exchange.done, exchange.body = status, moment - began, body
        open_ -= 1
        if not open_:
            over.set()

    client = Client(port, done)

    def send() -> None:
        nonlocal following
        while following < len(exchanges):
            exchange = exchanges[following]
            now = time.perf_counter() - began
            if exchange.due > now:
                loop.call_later(exchange.due - now, send)
                return
            exchange.sent = now
            key, following = following, following + 1
            client.ask(key, requests[exchange.question])

    began = time.perf_counter()
    send()
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(over.wait(), (due[-1] if due else 0) + _TIMEOUT_S)
    await client.close()
    return exchanges


def closed_loop(
    port: int, requests: Sequence[bytes], questions: Sequence[int], connections: int, seconds: float
) -> list[Exchange]:
    """Let so many clients ask for so many seconds, each anew when it has its answer; return what was answered.

    Args:
        port: Of the server.
        requests: The bytes of each question.
        questions: Which questions are asked, in turn, and again from the first.
        connections: How many ask at once.
        seconds: For how long.
    """
    return run(_closed_loop(port, requests, questions, connections, seconds))


async def _closed_loop(
    port: int, requests: Sequence[bytes], questions: Sequence[int], connections: int, seconds: float
) -> list[Exchange]:
    exchanges: list[Exchange] = []

    def done(key: int, status: int, moment: float, body: bytes) -> None:
        exchange = exchanges[key]
        exchange.status, exchange.done, exchange.body = status, moment - began, body
        if exchange.done < seconds:
            asyncio.get_running_loop().call_soon(ask)

    def ask() -> None:
        now = time.perf_counter() - began
        key = len(exchanges)
        exchanges.append(Exchange(questions[key % len(questions)], now, now))
        client.ask(key, requests[exchanges[key].question])

    client = Client(port, done)
    began = time.perf_counter()
    for _ in range(connections):
        ask()
    await asyncio.sleep(seconds)
    await client.close()
    return [exchange for exchange in exchanges if exchange.status != UNANSWERED]


def closed_rate(
    port: int, requests: Sequence[bytes], questions: Sequence[int], connections: int, seconds: float
) -> float:
    """Return the answers a second that a closed loop gets.

    Raises:
        SystemExit: A request got no answer.
    """
    found = closed_loop(port, requests, questions, connections, seconds)
    if failed := [x.status for x in found if x.status != 200]:
        raise SystemExit(f"{len(failed)} of {len(found)} requests got no answer, such as {failed[0]}")
    return sum(x.done <= seconds for x in found) / seconds
