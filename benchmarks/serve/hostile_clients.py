"""Clients that vanish, send garbage, send slowly, or never read: one request of each, and how it ended.

Every one is bounded in time. What a client leaves is left for good: its connection is closed, or reset.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from benchmarks.serve.serving import HOST

LEFT, CLOSED, HELD = "client left", "closed by the server", "held too long"
"""How an exchange ended that has no status. `HELD`: the server neither answered nor closed within `PATIENCE_S`."""

PATIENCE_S = 25.0  # the server's own limits, for heads and bodies, are 10 s
_BYTE_S = 0.2  # between the bytes of those who send byte by byte
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close at once, with RST


@dataclass(frozen=True)
class Material:
    """What clients send.

    Attributes:
        requests: Whole requests with a question each, as bytes.
        long: One with the longest text that is read.
        host: What belongs into the header Host.
    """

    requests: Sequence[bytes]
    long: bytes
    host: str


class Wire:
    """A connection that a client does with as it likes.

    Args:
        port: Of the server.
        material: What to send.
        draw: Random numbers.
    """

    def __init__(self, port: int, material: Material, draw: random.Random) -> None:
        self._port, self.material, self.draw = port, material, draw
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self, *, deaf: bool = False) -> None:
        """Connect; one that is deaf has room for a few bytes, and takes none that it does not read."""
        connection = socket.socket()
        connection.setblocking(False)
        if deaf:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        try:
            await asyncio.wait_for(asyncio.get_running_loop().sock_connect(connection, (HOST, self._port)), PATIENCE_S)
            self._reader, self._writer = await asyncio.open_connection(sock=connection, limit=1024)
        except BaseException:
            connection.close()
            raise

    async def send(self, data: bytes) -> None:
        assert self._writer is not None
        self._writer.write(data)
        await asyncio.wait_for(self._writer.drain(), PATIENCE_S)

    async def pause(self, most: float) -> None:
        await asyncio.sleep(self.draw.uniform(0, most))

    async def ending(self) -> str:
        """Wait for a status, or for the server to close."""
        assert self._reader is not None
        try:
            line = await asyncio.wait_for(self._reader.readline(), PATIENCE_S)
        except asyncio.TimeoutError:
            return HELD
        parts = line.split()
        return parts[1].decode("ascii", "replace") if len(parts) > 1 else CLOSED

    async def trickle(self, data: bytes) -> str:
        """Send byte by byte until the server has enough of it."""
        assert self._reader is not None
        waiting = asyncio.ensure_future(self.ending())
        try:
            for place in range(len(data)):
                await self.send(data[place : place + 1])
                done, _ = await asyncio.wait([waiting], timeout=_BYTE_S)
                if done:
                    break
            return await waiting
        finally:
            waiting.cancel()

    def leave(self, *, reset: bool = False) -> str:
        if self._writer is not None:
            if reset:
                taken = self._writer.get_extra_info("socket")
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._writer.transport.abort()
        return LEFT

    # What may be sent.

    def question(self) -> bytes:
        return self.draw.choice(self.material.requests)

    def post(self, body: bytes, *, length: object = None, kind: str = "application/json", more: str = "") -> bytes:
        length = len(body) if length is None else length
        head = f"POST /answer HTTP/1.1\r\nHost: {self.material.host}\r\nContent-Type: {kind}\r\n"
        return (head + f"Content-Length: {length}\r\n{more}\r\n").encode() + body

    def chunked(self, body: bytes) -> bytes:
        head = f"POST /answer HTTP/1.1\r\nHost: {self.material.host}\r\nContent-Type: application/json\r\n"
        return (head + "Transfer-Encoding: chunked\r\n\r\n").encode() + body

    def get(self, path: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: {self.material.host}\r\n\r\n".encode()


Client: TypeAlias = Callable[[Wire], Awaitable[str]]


# Those who vanish.


async def connects_and_leaves(wire: Wire) -> str:
    await wire.open()
    await wire.pause(0.05)
    return wire.leave(reset=wire.draw.random() < 0.5)


async def leaves_in_the_head(wire: Wire) -> str:
    await wire.open()
    request = wire.question()
    await wire.send(request[: wire.draw.randrange(1, request.index(b"\r\n\r\n"))])
    await wire.pause(0.2)
    return wire.leave(reset=wire.draw.random() < 0.5)


async def leaves_in_the_body(wire: Wire) -> str:
    await wire.open()
    request = wire.question()
    await wire.send(request[: wire.draw.randrange(request.index(b"\r\n\r\n") + 4, len(request))])
    await wire.pause(0.2)
    return wire.leave(reset=wire.draw.random() < 0.5)


async def leaves_before_the_answer(wire: Wire) -> str:
    await wire.open()
    await wire.send(wire.question())
    await wire.pause(0.1)
    return wire.leave(reset=wire.draw.random() < 0.5)


async def asks_much_and_leaves(wire: Wire) -> str:
    await wire.open()
    await wire.send(wire.material.long)
    await wire.pause(0.5)
    return wire.leave(reset=wire.draw.random() < 0.5)


async def leaves_within_the_answer(wire: Wire) -> str:
    await wire.open(deaf=True)
    await wire.send(wire.question())
    await wire.ending()
    return wire.leave(reset=True)


async def asks_and_says_no_more(wire: Wire) -> str:
    """Closes its half of the connection, and waits: some clients do so, and may have an answer or none."""
    await wire.open()
    await wire.send(wire.question())
    assert wire._writer is not None
    wire._writer.write_eof()
    return await wire.ending()


# Those who send garbage.


def _bodies(wire: Wire) -> bytes:
    """A body that is no question."""
    draw = wire.draw
    text = "The tower stands in Paris."
    digits = "9" * 5000
    bodies: list[bytes] = [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe\x00",
        b"{}" * 50,
        draw.randbytes(draw.randrange(1, 2000)),
        b"[" * 100_000,
        b'{"question":' * 20_000,
        f'{{"question": "Where?", "text": {json.dumps(text)}, "top_k": {digits}}}'.encode(),
        f'{{"question": "Where?", "text": {json.dumps(text)}, "budget": 1e999}}'.encode(),
        f'{{"question": "Where?", "text": {json.dumps(text)}, "max_latency_ms": NaN}}'.encode(),
        b'{"question": "\\ud800", "text": "\\udfff \\ud83d"}',
        b'{"question": "\\u0000", "text": "\\u0000\\u0000"}',
    ]
    values = [
        {"question": 5, "text": text},
        {"question": "Where?", "text": {"a": [text]}},
        {"question": ["Where?", None], "text": text},
        {"question": [], "text": []},
        {"question": ["a?", "b?"], "text": ["a", "b", "c"]},
        {"question": ["Where?"] * 10_000, "text": text},
        {"question": "Where?"},
        {"question": "", "text": text},
        {"question": "Where? " * 5000, "text": text},
        {"question": "Where?", "text": text, "index": "none"},
        {"question": "Where?", "index": "../../etc/passwd"},
        {"question": "Where?", "text": text, "budget": "everything"},
        {"question": "Where?", "text": text, "budget": -1},
        {"question": "Where?", "text": text, "top_k": 10**9},
        {"question": "Where?", "text": text, "top_k": True},
        {"question": "Where?", "text": text, "max_seq_len": 1},
        {"question": "Where?", "text": text, "max_seq_len": 384, "doc_stride": 383},
        {"question": "Where?", "text": text, "max_question_len": 0},
        {"question": "Where?", "text": text, "max_answer_len": -5},
        {"question": "Where?", "text": text, "max_latency_ms": 1e-9},
        {"question": "Where?", "text": text, "no_answer_threshold": 1e300},
        {"question": "Where?", "text": text, "unknown": 1},
        {"question": "Where?", "text": text, "__class__": "x", "explain": "yes"},
    ]
    return draw.choice([*bodies, *(json.dumps(value).encode() for value in values)])


async def sends_no_question(wire: Wire) -> str:
    await wire.open()
    await wire.send(wire.post(_bodies(wire)))
    return await wire.ending()


async def sends_random_bytes(wire: Wire) -> str:
    await wire.open()
    await wire.send(wire.draw.randbytes(wire.draw.randrange(1, 5000)) + b"\r\n\r\n" * wire.draw.randrange(2))
    return await wire.ending()


async def sends_a_strange_head(wire: Wire) -> str:
    host, draw = wire.material.host, wire.draw
    heads = [
        f"GET / HTTP/1.1\r\nHost: {host}\r\nX: {'a' * 200_000}\r\n\r\n",
        f"GET /{'a' * 100_000} HTTP/1.1\r\nHost: {host}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: {host}\r\n" + "".join(f"X-{i}: a\r\n" for i in range(5000)) + "\r\n",
        "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: {host}\r\nHost: other\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        f"GET / HTTP/9.9\r\nHost: {host}\r\n\r\n",
        f"\x00\x01 / HTTP/1.1\r\nHost: {host}\r\n\r\n",
        f"BREW /answer HTTP/1.1\r\nHost: {host}\r\n\r\n",
        f"DELETE /answer HTTP/1.1\r\nHost: {host}\r\n\r\n",
        f"GET /../../etc/passwd HTTP/1.1\r\nHost: {host}\r\n\r\n",
        f"GET /%00%ff%2e%2e%2f HTTP/1.1\r\nHost: {host}\r\n\r\n",
        f"GET /health HTTP/1.1\r\nHost: {host}\r\nX-Request-ID: {'<script>' * 100}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        f"POST /answer HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\r\n",
        f"GET / HTTP/1.1\nHost: {host}\n\n",
        f"GET / HTTP/1.1\r\nHost: {host}\r\n folded: yes\r\n\r\n",
    ]
    await wire.open()
    await wire.send(draw.choice(heads).encode("latin-1"))
    return await wire.ending()


async def sends_a_wrong_length(wire: Wire) -> str:
    body = b'{"question": "Where?", "text": "The tower stands in Paris."}'
    length = wire.draw.choice(["-1", "x", "1e3", "+60", "9" * 100, "60, 61", "0", "10", 9 << 20, 1 << 40])
    await wire.open()
    await wire.send(wire.post(body, length=length))
    return await wire.ending()


async def sends_too_much(wire: Wire) -> str:
    await wire.open()
    for _ in range(9 * 8):  # 9 MiB, of which 8 are read
        await wire.send(b" " * (1 << 17) if _ else wire.post(b"", length=9 << 20))
    return await wire.ending()


async def sends_strange_chunks(wire: Wire) -> str:
    body = b'{"question": "Where?", "text": "The tower stands in Paris."}'
    whole = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    await wire.open()
    await wire.send(
        wire.draw.choice(
            [
                wire.chunked(b"ZZ\r\n" + body),
                wire.chunked(b"-5\r\n" + body),
                wire.chunked(b"f" * 5000),
                wire.chunked(b"5\r\n" + body + b"\r\n0\r\n\r\n"),
                wire.chunked(b"1\r\n{\r\n" * 2000 + b"0\r\n\r\n"),
                wire.chunked(whole),
                wire.post(whole, more="Transfer-Encoding: chunked\r\n"),
                wire.post(whole, more="Transfer-Encoding: chunked, identity\r\n"),
                wire.chunked(whole.replace(b"0\r\n\r\n", b"0\r\nX: " + b"a" * 100_000 + b"\r\n\r\n")),
            ]
        )
    )
    return await wire.ending()


async def sends_another_media_type(wire: Wire) -> str:
    body = b'{"question": "Where?", "text": "The tower stands in Paris."}'
    kind = wire.draw.choice(["text/plain", "multipart/form-data", "application/x-www-form-urlencoded", "", "\xe9"])
    await wire.open()
    await wire.send(wire.post(body, kind=kind, more="Content-Encoding: gzip\r\n" * wire.draw.randrange(2)))
    return await wire.ending()


async def greets_in_tls(wire: Wire) -> str:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + wire.draw.randbytes(500)
    await wire.open()
    await wire.send(hello)
    return await wire.ending()


async def sends_rubbish_after_a_question(wire: Wire) -> str:
    await wire.open()
    await wire.send(wire.question() + wire.draw.randbytes(3000))
    return await wire.ending()


async def asks_many_at_once(wire: Wire) -> str:
    """Sends requests without waiting for answers, and reads the first."""
    await wire.open()
    await wire.send(b"".join(wire.get("/health") for _ in range(50)) + wire.question() * 3)
    ending = await wire.ending()
    wire.leave(reset=True)
    return ending


# Those who send slowly.


async def says_nothing(wire: Wire) -> str:
    await wire.open()
    return await wire.ending()


async def stops_in_the_head(wire: Wire) -> str:
    await wire.open()
    request = wire.question()
    await wire.send(request[: request.index(b"\r\n\r\n") - 10])
    return await wire.ending()


async def stops_in_the_body(wire: Wire) -> str:
    await wire.open()
    request = wire.question()
    await wire.send(request[: len(request) // 2 + 60])
    return await wire.ending()


async def sends_the_head_byte_by_byte(wire: Wire) -> str:
    await wire.open()
    return await wire.trickle(wire.question())


async def sends_the_body_byte_by_byte(wire: Wire) -> str:
    await wire.open()
    request = wire.question()
    end = request.index(b"\r\n\r\n") + 4
    await wire.send(request[:end])
    return await wire.trickle(request[end:])


async def sends_in_pieces(wire: Wire) -> str:
    """Slow, but within the limits: it is answered."""
    await wire.open()
    request = wire.question()
    step = len(request) // 8 + 1
    for place in range(0, len(request), step):
        await wire.send(request[place : place + step])
        await wire.pause(0.3)
    return await wire.ending()


# Those who never read.


async def never_reads_its_answer(wire: Wire) -> str:
    await wire.open(deaf=True)
    await wire.send(wire.question())
    await asyncio.sleep(2.0)
    return wire.leave(reset=wire.draw.random() < 0.5)


async def never_reads_many_answers(wire: Wire) -> str:
    await wire.open(deaf=True)
    try:
        await asyncio.wait_for(wire.send(wire.get("/openapi.json") * 200), 3.0)
    except asyncio.TimeoutError:
        return wire.leave(reset=True)
    await asyncio.sleep(3.0)
    return wire.leave(reset=wire.draw.random() < 0.5)


class Kind(NamedTuple):
    """A client, what group it is of, and how many of a thousand there are."""

    group: str
    client: Client
    weight: int

    @property
    def name(self) -> str:
        return self.client.__name__.replace("_", " ")


VANISH, GARBAGE, SLOW, DEAF = "vanish", "garbage", "slow", "never read"
KINDS = (
    Kind(VANISH, connects_and_leaves, 80),
    Kind(VANISH, leaves_in_the_head, 80),
    Kind(VANISH, leaves_in_the_body, 80),
    Kind(VANISH, leaves_before_the_answer, 100),
    Kind(VANISH, asks_much_and_leaves, 5),
    Kind(VANISH, leaves_within_the_answer, 30),
    Kind(VANISH, asks_and_says_no_more, 25),
    Kind(GARBAGE, sends_no_question, 150),
    Kind(GARBAGE, sends_random_bytes, 60),
    Kind(GARBAGE, sends_a_strange_head, 60),
    Kind(GARBAGE, sends_a_wrong_length, 40),
    Kind(GARBAGE, sends_too_much, 5),
    Kind(GARBAGE, sends_strange_chunks, 45),
    Kind(GARBAGE, sends_another_media_type, 20),
    Kind(GARBAGE, greets_in_tls, 20),
    Kind(GARBAGE, sends_rubbish_after_a_question, 20),
    Kind(GARBAGE, asks_many_at_once, 20),
    Kind(SLOW, says_nothing, 15),
    Kind(SLOW, stops_in_the_head, 15),
    Kind(SLOW, stops_in_the_body, 15),
    Kind(SLOW, sends_the_head_byte_by_byte, 15),
    Kind(SLOW, sends_the_body_byte_by_byte, 15),
    Kind(SLOW, sends_in_pieces, 25),
    Kind(DEAF, never_reads_its_answer, 30),
    Kind(DEAF, never_reads_many_answers, 30),
)


async def be(kind: Kind, port: int, material: Material, draw: random.Random) -> str:
    """Be such a client once, and return how it ended: a status, `LEFT`, `CLOSED` or `HELD`."""
    wire = Wire(port, material, draw)
    try:
        return await asyncio.wait_for(kind.client(wire), 3 * PATIENCE_S)
    except asyncio.TimeoutError:
        return HELD
    except OSError:  # reset, or closed while it sent
        return CLOSED
    finally:
        wire.leave()
