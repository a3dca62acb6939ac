"""Asks a server properly, once, and holds what it answers against the library."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.serve.serving import HOST
from dynamic_tinybert import Answer, QuestionAnswerer
from dynamic_tinybert.squad import Question

CLOSED, CUT, UNCONNECTED = 0, -1, -2
"""Statuses of what has none: no byte of an answer came; a part of one; no connection was made."""

TIMEOUT_S = 60.0


class Given(NamedTuple):
    """A request and what came back.

    Attributes:
        question: The question's place.
        status: Its HTTP status, or `CLOSED`, `CUT`, `UNCONNECTED`.
        sent: When it was sent (`time.monotonic`).
        milliseconds: From then to its answer, or its end.
        configuration: At which it was answered.
        start: Where the answer begins; `end` likewise.
        text: The answer.
        retry_after: Seconds to wait, where it was refused.
        refused: How often it was refused before.
        keeps: Whether the connection may be used again.
    """

    question: int
    status: int
    sent: float
    milliseconds: float = 0.0
    configuration: str = ""
    start: int = 0
    end: int = 0
    text: str = ""
    retry_after: float = 1.0
    refused: int = 0
    keeps: bool = False


class Connection:
    """A connection that asks one question after the other. `open` raises OSError where it cannot be made."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._read = b""

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection(HOST, port))

    async def ask(self, request: bytes, question: int = 0) -> Given:
        """Send a request and read what comes; without all of it in `TIMEOUT_S`, it counts as cut, or closed."""
        sent = time.monotonic()
        self._read = b""
        try:
            given = await asyncio.wait_for(self._ask(request, Given(question, CLOSED, sent)), TIMEOUT_S)
        except (OSError, EOFError, asyncio.TimeoutError):
            given = Given(question, CUT if self._read else CLOSED, sent)
        return given._replace(milliseconds=1000 * (time.monotonic() - sent))

    async def _ask(self, request: bytes, given: Given) -> Given:
        self._writer.write(request)
        while b"\r\n\r\n" not in self._read:
            more = await self._reader.read(65536)
            if not more:
                raise EOFError
            self._read += more
        head, _, body = self._read.partition(b"\r\n\r\n")
        headers = _headers(head)
        body += await self._reader.readexactly(max(0, int(headers["content-length"]) - len(body)))
        given = given._replace(
            status=int(head.split()[1]),
            retry_after=float(headers.get("retry-after", "1")),
            keeps=headers.get("connection", "").lower() != "close",
        )
        return _with_answer(given, body) if given.status == 200 else given

    def close(self) -> None:
        self._writer.transport.abort()


async def ask(port: int, request: bytes, question: int = 0) -> Given:
    """Ask on a connection of its own."""
    try:
        connection = await Connection.open(port)
    except OSError:
        return Given(question, UNCONNECTED, time.monotonic())
    try:
        return await connection.ask(request, question)
    finally:
        connection.close()


class Library:
    """The library's answers to some questions, at any configuration; each worked out once."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self._questions = questions
        self._qa = QuestionAnswerer()
        self._configs = {choice.name: choice.config for choice in self._qa.table.choices}
        self._known: dict[tuple[int, str], Answer] = {}

    def judge(self, answers: Iterable[Given]) -> tuple[int, int]:
        """Return how many answers are right, and how many are not: other words, or at another place."""
        right = wrong = 0
        for given in answers:
            expected = self._answer(given.question, given.configuration)
            same = expected is not None and (
                (given.text, given.start, given.end) == (expected.text, expected.start, expected.end)
            )
            right, wrong = right + same, wrong + (not same)
        return right, wrong

    def _answer(self, question: int, configuration: str) -> Answer | None:
        if configuration not in self._configs:
            return None
        key = question, configuration
        if key not in self._known:
            asked = self._questions[question]
            self._known[key] = self._qa(asked.question, asked.context, budget=self._configs[configuration])
        return self._known[key]


def _with_answer(given: Given, body: bytes) -> Given:
    try:
        (result,) = json.loads(body)["results"]
        (answer, *_) = result["answers"]
        return given._replace(
            configuration=result["configuration"], start=answer["start"], end=answer["end"], text=answer["text"]
        )
    except (ValueError, KeyError, TypeError):
        return given  # of no configuration, and so it is wrong


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
