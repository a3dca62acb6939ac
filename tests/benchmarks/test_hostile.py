"""What the measurement of hostile clients and of SIGTERM makes of its records."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.common import free_port
from benchmarks.serve import hostile
from benchmarks.serve.answers import CLOSED, CUT, UNCONNECTED, Given, Library, ask
from benchmarks.serve.hostile import Siege, State
from benchmarks.serve.hostile_clients import HELD, KINDS
from benchmarks.serve.serving import Reply, Server
from benchmarks.serve.terminate import Ending
from dynamic_tinybert.squad import Question

STATE = State(requests=0, waiting=0, open=0, connections=0, files=20, threads=9, rss=300_000_000)
SIEGE = Siege(
    requests=100,
    at_once=10,
    seconds=5.0,
    endings={kind.name: {"400": 4} for kind in KINDS},
    good=10,
    right=10,
    wrong={},
    again=1,
    good_p50=20.0,
    good_p99=50.0,
    states=[STATE] * 5,
    logged={"Traceback": 0, "errors": 0, "status 500": 0},
    idle_cores=0.0,
    exit_status=0,
)
ENDING = Ending(
    slo_ms=200.0,
    after_s=1.0,
    accepted=90,
    answered=90,
    right=90,
    wrong=0,
    cut=0,
    open=60,
    open_answered=60,
    refused=3,
    stopping=2,
    closed=4,
    unconnected=64,
    other=0,
    took_s=1.0,
    exit_status=0,
)
ABOUT: dict[str, Any] = {
    "command": "hostile.py",
    "date": "2026-11-25",
    "machine": {"cpu": "a", "cores": 2, "memory_bytes": 10**9, "system": "b"},
    "versions": {"python": "3"},
    "seed": 0,
}


def missed(siege: Siege | None, endings: Sequence[Ending]) -> list[str]:
    return [x.what for x in hostile.claims(siege, endings) if not x.met]


def test_all_is_well() -> None:
    assert missed(SIEGE, [ENDING] * 3) == []
    page = hostile.markdown(ABOUT, SIEGE, [ENDING] * 3)
    assert "missed" not in page
    assert page.count("| clean |") == 3
    assert hostile._stored({"siege": asdict(SIEGE), "terminations": [asdict(ENDING)]}) == (SIEGE, [ENDING])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"endings": {"garbage": {"500": 1}}}, "500"),
        ({"logged": {"Traceback": 0, "errors": 0, "status 500": 1}}, "500"),
        ({"logged": {"Traceback": 1, "errors": 0, "status 500": 0}}, "tracebacks"),
        ({"logged": {"Traceback": 0, "errors": 1, "status 500": 0}}, "errors"),
        ({"endings": {"slow": {HELD: 1}}}, "held"),
        ({"right": 9}, "rightly"),
        ({"states": [STATE, replace(STATE, waiting=1), STATE]}, "waiting"),
        ({"states": [STATE, replace(STATE, connections=1)]}, "connections"),
        ({"states": [STATE, replace(STATE, files=21)]}, "file"),
        ({"states": [STATE, replace(STATE, threads=10)]}, "threads"),
        ({"states": [STATE, STATE, replace(STATE, rss=400_000_000)]}, "memory"),
        ({"idle_cores": 1.0}, "busy"),
        ({"exit_status": 1}, "exit"),
    ],
)
def test_each_fault_is_a_claim_missed(changes: dict[str, Any], word: str) -> None:
    (what,) = missed(replace(SIEGE, **changes), [])
    assert word in what


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        ({"right": 89}, True),
        ({"accepted": 91}, True),
        ({"accepted": -1}, True),
        ({"answered": 89}, False),
        ({"cut": 1}, False),
        ({"wrong": 1}, False),
        ({"other": 1}, False),
        ({"exit_status": -9}, False),
    ],
)
def test_a_kill_is_clean_only_if_all_that_was_accepted_was_answered(changes: dict[str, int], lost: bool) -> None:
    found = missed(None, [ENDING, replace(ENDING, **changes)])
    assert any("lost" in what for what in found) or not lost
    assert any("cut short" in what for what in found)
    assert "**not clean**" in hostile.markdown(ABOUT, None, [replace(ENDING, **changes)])


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def asked(answer: bytes) -> Given:
    """Ask a server that answers with these bytes and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(answer)
        await writer.drain()
        writer.close()

    async def main() -> Given:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            return await ask(server.sockets[0].getsockname()[1], b"0123456789", 3)

    return asyncio.run(main())


def response(status: int, body: bytes, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_what_a_client_sees_is_told_apart() -> None:
    body = b'{"results": [{"answers": [{"text": "Paris", "start": 3, "end": 8}], "configuration": "full"}]}'
    given = asked(response(200, body))
    assert (given.status, given.text, given.start, given.end, given.configuration) == (200, "Paris", 3, 8, "full")
    assert (given.question, given.keeps) == (3, True)
    assert asked(b"").status == CLOSED
    assert asked(response(200, body)[:40]).status == CUT
    assert asked(response(200, body)[:-1]).status == CUT
    refused = asked(response(429, b"{}", "Retry-After: 7\r\nConnection: close\r\n"))
    assert (refused.status, refused.retry_after, refused.keeps) == (429, 7.0, False)
    assert asyncio.run(ask(free_port(), b"")).status == UNCONNECTED


def test_an_answer_is_right_only_at_its_place_and_configuration() -> None:
    question = Question(
        id="1", title="", question="Where is the tower?", context="The tower stands in Paris.", answers=(),
        answer_starts=(), impossible=False,
    )  # fmt: skip
    right = Given(0, 200, 0.0, configuration="full", start=20, end=25, text="Paris")
    others = [right._replace(text="paris"), right._replace(start=19), right._replace(configuration="")]
    assert Library([question]).judge([right, *others]) == (1, 3)


def test_a_metric_is_summed_over_its_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b'# HELP a_total x\na_total{code="200"} 3\na_total{code="429"} 1.5e+01\nab 7\nb 2.0\n'
    monkeypatch.setattr("benchmarks.serve.serving.fetch", lambda port, path: Reply(200, text))
    server = Server(None, 1, Path("none"))  # type: ignore[arg-type]
    assert [server.metric(name) for name in ("a_total", "ab", "b")] == [18.0, 7.0, 2.0]
    with pytest.raises(KeyError):
        server.metric("a")
