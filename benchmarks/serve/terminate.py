"""SIGTERM under load: what was accepted must be answered.

Clients ask a server without a pause, most on connections that they keep, some on a new one each time. At a random
moment it gets SIGTERM. From then on a client that asks may find nobody (refused), an end of the connection before any
byte of an answer, or 503: that request was not accepted, and the client may ask elsewhere. What must not be is a
request that the server took on and that has no answer: it counts what it accepts and answers, and says so in its last
line of the log, and the clients count their answers. All three must be one number, and no answer cut short or wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shlex
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.common import Progress, table
from benchmarks.serve.answers import CLOSED, CUT, UNCONNECTED, Connection, Given, Library
from benchmarks.serve.load_client import request_bytes
from benchmarks.serve.serving import serve
from dynamic_tinybert.squad import Question

KEEPING, CHANGING = 48, 16  # clients that keep their connection, and clients that open one for each question
_EARLIEST_S, _LATEST_S = 0.5, 3.0  # of the signal
_END_S = 60.0
_UNKNOWN = -1
_EXPECTED = (200, 429, 503, CUT, CLOSED, UNCONNECTED)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What came of one SIGTERM.

    Attributes:
        slo_ms: The server's objective; 0 is without load control.
        after_s: When it came, from the start of the load.
        accepted: Questions that the server says it accepted; -1 where it did not say.
        answered: Questions that it says it answered.
        right: Answers that clients got, whole and right.
        wrong: Whole answers that were not the library's.
        cut: Answers that ended before they were whole.
        open: Requests without an answer when the signal came.
        open_answered: How many of these were answered.
        refused: Requests that got 429.
        stopping: Requests that got 503.
        closed: Requests of which the connection ended before any byte of an answer.
        unconnected: Requests for which there was no connection.
        other: Requests with another status.
        took_s: From the signal to the server's end.
        exit_status: With what it ended.
    """

    slo_ms: float
    after_s: float
    accepted: int
    answered: int
    right: int
    wrong: int
    cut: int
    open: int
    open_answered: int
    refused: int
    stopping: int
    closed: int
    unconnected: int
    other: int
    took_s: float
    exit_status: int

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, cut short or wrong."""
        return (
            self.accepted == self.answered == self.right
            and not (self.wrong or self.cut or self.other)
            and self.exit_status == 0
        )


def repeat(
    questions: Sequence[Question], library: Library, times: int, args: argparse.Namespace, say: Progress
) -> list[Ending]:
    """End a server so many times, at random moments, in turns with load control and without."""
    draw = random.Random(f"terminate {args.seed}")
    endings = []
    for number in range(times):
        endings.append(end_once(questions, library, number, draw, args))
        x = endings[-1]
        say(
            f"kill {number + 1} of {times}: accepted {x.accepted}, answered {x.answered}, clients have {x.right}; "
            f"{x.open} open, {'clean' if x.clean else 'NOT CLEAN'}"
        )
    return endings


def end_once(
    questions: Sequence[Question], library: Library, number: int, draw: random.Random, args: argparse.Namespace
) -> Ending:
    slo_ms, after = (200.0, 0.0)[number % 2], draw.uniform(_EARLIEST_S, _LATEST_S)
    requests = [request_bytes(x.question, x.context) for x in questions]
    options = ["--slo-ms", f"{slo_ms:g}", *shlex.split(args.options)]
    with serve(options, args.work / f"terminate-{number}.log", command=args.server) as server:
        process = server.process
        given, signalled = asyncio.run(
            _load(server.port, requests, after, lambda: process.send_signal(signal.SIGTERM), draw.random())
        )
        status = server.wait()  # a second signal would end it at once
        took = time.monotonic() - signalled
        last: dict[str, Any] = next((x for x in reversed(server.logged()) if x.get("message") == "stopped"), {})
    right, wrong = library.judge(x for x in given if x.status == 200)
    counts = Counter(x.status for x in given)
    open_ = [x for x in given if x.sent <= signalled < x.sent + x.milliseconds / 1000]
    return Ending(
        slo_ms=slo_ms,
        after_s=round(after, 3),
        accepted=last.get("accepted", _UNKNOWN),
        answered=last.get("answered", _UNKNOWN),
        right=right,
        wrong=wrong,
        cut=counts[CUT],
        open=len(open_),
        open_answered=sum(x.status == 200 for x in open_),
        refused=counts[429],
        stopping=counts[503],
        closed=counts[CLOSED],
        unconnected=counts[UNCONNECTED],
        other=sum(count for status, count in counts.items() if status not in _EXPECTED),
        took_s=round(took, 2),
        exit_status=status,
    )


async def _load(
    port: int, requests: Sequence[bytes], after: float, end: Callable[[], None], seed: float
) -> tuple[list[Given], float]:
    """Let clients ask until nobody is there any more; return what they got, and when the signal was sent."""
    given: list[Given] = []
    clients = [
        asyncio.create_task(_client(port, requests, number < KEEPING, random.Random(f"{seed} {number}"), given))
        for number in range(KEEPING + CHANGING)
    ]
    await asyncio.sleep(after)
    signalled = time.monotonic()
    end()
    _, late = await asyncio.wait(clients, timeout=_END_S)
    for client in late:
        client.cancel()
    return given, signalled


async def _client(port: int, requests: Sequence[bytes], keeps: bool, draw: random.Random, given: list[Given]) -> None:
    """Ask without a pause until no connection can be made."""
    connection: Connection | None = None
    while True:
        question = draw.randrange(len(requests))
        if connection is None:
            try:
                connection = await Connection.open(port)
            except OSError:
                given.append(Given(question, UNCONNECTED, time.monotonic()))
                return
        got = await connection.ask(requests[question], question)
        given.append(got)
        if not (keeps and got.keeps):
            connection.close()
            connection = None
        if got.status != 200:
            await asyncio.sleep(0.02)


def parts(endings: Sequence[Ending]) -> list[str]:
    """Return the part of a page that says what came of them."""
    sums = {name: sum(getattr(x, name) for x in endings) for name in ("open", "open_answered", "accepted", "right")}
    return [
        "## SIGTERM under load",
        f"{len(endings)} times: {KEEPING + CHANGING} clients ask without a pause, {CHANGING} of them on a new "
        f"connection each time, and at a random moment between {_EARLIEST_S:g} and {_LATEST_S:g} s the server gets "
        'SIGTERM. "Accepted" and "answered" are what the server says in its last line of the log; "right" are the '
        "answers that clients have, whole and as the library answers. All three must be one number. What was not "
        "accepted ended before any byte of an answer (closed), found nobody (refused a connection), or got 429 or 503. "
        f"When the signals came, {sums['open']:,} requests had no answer yet; {sums['open_answered']:,} of them got "
        f"theirs. {sums['accepted']:,} accepted in all, {sums['right']:,} answered rightly.",
        table(
            (
                "objective", "after", "accepted", "answered", "right", "wrong", "cut short", "open at the signal",
                "... answered", "429", "503", "closed", "no connection", "other", "ended in", "exit status", "",
            ),
            [
                (
                    f"{x.slo_ms:g} ms" if x.slo_ms else "none", f"{x.after_s:.2f} s", f"{x.accepted:,}",
                    f"{x.answered:,}", f"{x.right:,}", f"{x.wrong}", f"{x.cut}", f"{x.open}", f"{x.open_answered}",
                    f"{x.refused:,}", f"{x.stopping}", f"{x.closed}", f"{x.unconnected}", f"{x.other}",
                    f"{x.took_s:.2f} s", f"{x.exit_status}", "clean" if x.clean else "**not clean**",
                )
                for x in endings
            ],
        ),
    ]  # fmt: skip
