"""An hour of hostile clients, and of changes and damage of an index that is served.

usage: python -m benchmarks.serve.endurance [--minutes 60] [--quick]

Hostile clients (`hostile_clients.py`, and some that ask the index for what it has not) come one by one, at random
moments; so do proper questions about a text and about the index. Meanwhile the index changes, is replaced, damaged and
mended (`moving_index.py`). Rates are low: what is looked for is not load, but what an hour leaves behind. It takes
about a tenth of a processor.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shlex
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import common
from benchmarks.serve.answers import Library, ask
from benchmarks.serve.hostile import OPEN, Claim, State, state_of
from benchmarks.serve.hostile_clients import HELD, KINDS, Kind, Material, Wire, be
from benchmarks.serve.load_client import request_bytes
from benchmarks.serve.moving_index import DOCUMENTS, MovingIndex
from benchmarks.serve.serving import HOST, VERSIONS, Server, add_server, fetch, serve
from dynamic_tinybert.squad import Question, SquadError, read_squad

_GROWTH = 1.05  # of memory, from the first half of the time to the second, that is no leak
_SAMPLE_S = 30.0
_UNUSABLE = "an index cannot be used"  # what the log says of a damaged index
_SETTLE_S = 45.0


@dataclass
class Found:
    """What came of an hour.

    Attributes:
        minutes: How long it was.
        endings: By kind of hostile client, how many ended how.
        texts: How proper questions about a text ended.
        asked: How proper questions about the index ended.
        wrong: Answers that the index never gave rise to, with the request; refusals while it was whole.
        states: The minute, and what the server held then.
        before: What it held before.
        after: What it held when all was over.
    """

    minutes: float
    endings: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    texts: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    states: list[tuple[float, State]] = field(default_factory=list)
    before: State | None = None
    after: State | None = None


async def asks_the_index_for_what_it_has_not(wire: Wire) -> str:
    words = wire.draw.choice(["the", "\0", "\u200b", "東京", "tower " * 1500, 'a AND (b OR c) +d -e ^5 "f', "*", "x:y"])
    values: list[dict[str, Any]] = [
        {"question": words, "index": "docs"},
        {"question": [words] * 64, "index": "docs"},
        {"question": [words] * 65, "index": "docs"},
        {"question": "Who?", "index": "docs\0"},
        {"question": "Who?", "index": "../docs"},
        {"question": "Who?", "index": "d" * 100_000},
        {"question": "Who?", "index": ["docs"]},
        {"question": "Who?", "index": "docs", "text": "x"},
        {"question": "Who?", "index": "docs", "explain": True},
        {"question": "Who?", "index": "docs", "top_k": 10**6},
        {"question": "Who?", "index": "docs", "handle_impossible_answer": True},
        {"question": "Who lit the lamp?", "index": "docs", "max_latency_ms": 0.001},
        {"question": "Who lit the lamp?", "index": "docs", "top_k": 50},
    ]
    await wire.open()
    await wire.send(wire.post(json.dumps(wire.draw.choice(values)).encode()))
    if wire.draw.random() < 0.2:
        return wire.leave(reset=True)
    return await wire.ending()


_KINDS = (*KINDS, Kind("index", asks_the_index_for_what_it_has_not, 150))


def main() -> None:
    args = parse()
    say = common.Progress()
    try:
        questions = random.Random(args.seed).sample(read_squad(args.data).questions, 100)
    except (OSError, SquadError) as error:
        raise SystemExit(f"endurance.py: {error}") from None
    library = Library(questions)
    args.work.mkdir(parents=True, exist_ok=True)
    index = MovingIndex(args.work, args.seed, args.change_s, args.damage_every)
    options = [*shlex.split(args.options), "--index", f"docs={index.folder}"]
    began, cores = time.perf_counter(), 0.0
    with serve(options, args.work / "server.log", command=args.server) as server:
        idle_open = int(server.metric(OPEN))  # it may count the request that asks for it
        before = _settled(server, idle_open)
        index.start()
        try:
            found = asyncio.run(_endure(server, index, questions, library, args, say))
            found.before = before
        finally:
            index.stop()
        alive = server.process.poll() is None
        if alive:
            found.after = _settled(server, idle_open)
            cores = (server.cpu_seconds() + sum(psutil.Process().cpu_times()[:4])) / (time.perf_counter() - began)
        status = server.end()
        logged = _logged(server)
    page = markdown(found, index, logged, alive=alive, status=status, cores=cores)
    common.write_page(page, args.output)
    raise SystemExit("missed" in page)


def parse() -> argparse.Namespace:
    parser = common.argument_parser(__doc__)
    common.add_data(parser)
    add_server(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the page to this file")
    parser.add_argument("--work", type=Path, default=Path(".work", "endurance"), help="[default: %(default)s]")
    parser.add_argument("--minutes", type=float, default=60.0, help="[default: %(default)s]")
    parser.add_argument("--hostile", type=float, default=1.2, help="hostile requests a second [default: %(default)s]")
    parser.add_argument(
        "--texts", type=float, default=0.1, help="questions about texts a second [default: %(default)s]"
    )
    parser.add_argument("--asked", type=float, default=0.6, help="about the index [default: %(default)s]")
    parser.add_argument("--change-s", type=float, default=4.0, help="seconds between changes [default: %(default)s]")
    parser.add_argument("--damage-every", type=int, default=12, help="so many changes [default: %(default)s]")
    parser.add_argument("--quick", action="store_true", help="a try of a minute")
    args = parser.parse_args()
    if args.quick:
        args.minutes, args.damage_every = 1.0, 3
    return args


async def _endure(
    server: Server,
    index: MovingIndex,
    questions: Sequence[Question],
    library: Library,
    args: argparse.Namespace,
    say: common.Progress,
) -> Found:
    found = Found(args.minutes)
    requests = [request_bytes(x.question, x.context) for x in questions]
    text = " ".join(x.context for x in questions)
    long = request_bytes(questions[0].question, (text * (1 + 100_000 // len(text)))[:100_000])
    material = Material(requests, long, f"{HOST}:{server.port}")
    weights = [kind.weight for kind in _KINDS]

    async def hostile(draw: random.Random) -> None:
        (kind,) = draw.choices(_KINDS, weights)
        found.endings[kind.name][await be(kind, server.port, material, draw)] += 1

    async def of_text(draw: random.Random) -> None:
        given = await ask(server.port, requests[number := draw.randrange(len(requests))], number)
        right = given.status == 200 and library.judge([given])[0]
        found.texts["answered rightly" if right else f"status {given.status}"] += 1

    async def of_index(draw: random.Random) -> None:
        body = {"question": f"Who lit the lamp of station {draw.randrange(DOCUMENTS)}?", "index": "docs"}
        sent = time.monotonic()
        reply = await asyncio.to_thread(fetch, server.port, "/answer", json.dumps(body).encode(), 60.0)
        ending = _judged(index, sent, reply.status, reply.body)
        found.asked[ending] += 1
        if ending.startswith("WRONG"):
            found.wrong.append(f"minute {(sent - began) / 60:.1f}: {ending}: {reply.body[:300]!r}")

    async def samples(_: random.Random) -> None:
        state = await asyncio.to_thread(state_of, server, sum(sum(x.values()) for x in found.endings.values()), 0)
        found.states.append(((time.monotonic() - began) / 60, state))
        say(f"minute {found.states[-1][0]:.1f}: {state.rss / 1e6:.0f} MB, {found.asked}, {len(found.wrong)} wrong")

    began = time.monotonic()
    end = began + 60 * args.minutes
    await asyncio.gather(
        _at_random(hostile, args.hostile, end, f"hostile {args.seed}"),
        _at_random(of_text, args.texts, end, f"texts {args.seed}"),
        _at_random(of_index, args.asked, end, f"asked {args.seed}"),
        _at_random(samples, 1 / _SAMPLE_S, end, "", evenly=True),
    )
    await samples(random.Random())
    return found


async def _at_random(
    act: Callable[[random.Random], Awaitable[None]], rate: float, end: float, seed: str, *, evenly: bool = False
) -> None:
    """Start something so often a second until the end, and wait for all of it."""
    tasks: set[asyncio.Task[None]] = set()
    draw, number = random.Random(seed), 0

    async def one(number: int) -> None:
        await act(random.Random(f"{seed} {number}"))

    while time.monotonic() < end:
        task = asyncio.create_task(one(number))
        tasks = {task, *(x for x in tasks if not x.done() or x.exception())}
        number += 1
        await asyncio.sleep(1 / rate if evenly else draw.expovariate(rate))
    await asyncio.gather(*tasks)


def _judged(index: MovingIndex, sent: float, status: int, body: bytes) -> str:
    done = time.monotonic()
    if status == 200:
        (result,) = json.loads(body)["results"]
        for answer in result["answers"]:
            if answer["text"] and not index.judge(
                answer["document"], answer["start"], answer["end"], answer["text"], sent, done
            ):
                return "WRONG: words that the document had not"
        return "answered rightly"
    if status == 503 and json.loads(body)["code"] == "index_unavailable":
        unusable = index.was_unusable(sent, done)
        return "refused (503) while it was damaged or replaced" if unusable else "WRONG: refused while it was whole"
    return f"WRONG: status {status}"


def _settled(server: Server, idle_open: int) -> State:
    """Wait until nothing is open any more, and return what the server holds then."""
    end = time.monotonic() + _SETTLE_S
    while True:
        time.sleep(1.0)
        state = state_of(server, 0, idle_open)
        if not (state.waiting or state.open or state.connections) or time.monotonic() > end:
            return state


def _logged(server: Server) -> Counter[str]:
    """Count the lines of the log that are an error's, by what they say; and tracebacks, and status 500."""
    found = Counter[str]()
    for entry in server.logged():
        if entry.get("level") in ("ERROR", "CRITICAL"):
            message = str(entry.get("message"))
            found[_UNUSABLE if message.startswith(_UNUSABLE) else message[:200]] += 1
        found["status 500"] += entry.get("status") == 500
    found["Traceback"] += server.log_text().count("Traceback")
    return found


# Results.


def claims(found: Found, index: MovingIndex, logged: Counter[str], *, alive: bool, status: int) -> list[Claim]:
    """What must be so, and what was found."""
    statuses = Counter[str]()
    for counts in found.endings.values():
        statuses.update(counts)
    internal = statuses["500"] + logged["status 500"]
    told = sum(count for what, count in logged.items() if what not in (_UNUSABLE, "status 500"))
    texts, asked = sum(found.texts.values()), sum(found.asked.values())
    half = len(found.states) // 2
    early, late = ([x.rss for _, x in part] for part in (found.states[:half], found.states[half:]))
    early_mb, late_mb = float(np.median(early)) / 1e6, float(np.median(late)) / 1e6
    before, after = found.before, found.after
    stuck = after.waiting + after.open + after.connections if after else -1
    return [
        Claim("the server lived, and ended on SIGTERM with status", f"{status}", alive and status == 0),
        Claim("answered with 500", f"{internal:,}", internal == 0),
        Claim("tracebacks, and errors in the log other than of a damaged index", f"{told:,}", told == 0),
        Claim("hostile clients held longer than 25 s", f"{statuses[HELD]:,}", statuses[HELD] == 0),
        Claim(
            "questions about texts that were answered rightly",
            f"{found.texts['answered rightly']:,} of {texts:,}",
            found.texts["answered rightly"] == texts > 0,
        ),
        Claim(
            "questions about the index with another answer than it held, or refused while it was whole",
            f"{len(found.wrong):,} of {asked:,}",
            not found.wrong and asked > 0,
        ),
        Claim("changes of the index that failed", f"{len(index.failed):,}", not index.failed),
        Claim(
            f"memory, median of the first and the second half of the time (at most {_GROWTH - 1:.0%} more)",
            f"{early_mb:.0f} MB, {late_mb:.0f} MB",
            late_mb <= _GROWTH * early_mb,
        ),
        Claim("when all was over: waiting questions, open requests, connections", f"{stuck}", stuck == 0),
        Claim(
            "file descriptors, before and when all was over",
            f"{before.files if before else '-'}, {after.files if after else '-'}",
            before is not None and after is not None and after.files <= before.files,
        ),
    ]


def markdown(found: Found, index: MovingIndex, logged: Counter[str], *, alive: bool, status: int, cores: float) -> str:
    def listed(counts: Counter[str]) -> str:
        return ", ".join(f"{count:,} {what}" for what, count in counts.most_common() if count) or "-"

    made = claims(found, index, logged, alive=alive, status=status)
    quarters = [min(found.states, key=lambda x: abs(x[0] - found.minutes * part / 4)) for part in range(5)]
    parts = [
        "# An hour of hostile clients, and of changes of the index",
        common.heading(*VERSIONS),
        common.table(("", "found", ""), [(x.what, x.found, "met" if x.met else "**missed**") for x in made]),
        f"{found.minutes:g} minutes; server and clients took {cores:.2f} of a processor together. Questions about the "
        f"index ended: {listed(found.asked)}. The log has {logged[_UNUSABLE]:,} lines of a damaged index.",
        "## What the server held",
        common.table(
            ("minute", "hostile requests so far", "waiting", "connections", "files", "threads", "memory"),
            [
                (
                    f"{minute:.0f}", f"{x.requests:,}", f"{x.waiting}", f"{x.connections}", f"{x.files}",
                    f"{x.threads}", f"{x.rss / 1e6:.1f} MB",
                )
                for minute, x in quarters
            ],
        ),
        "## What was done to the index",
        common.table(("", "times"), [(what, f"{count:,}") for what, count in sorted(index.done.items())]),
        "## How hostile clients ended",
        common.table(
            ("what they do", "group", "how they ended"),
            [(kind.name, kind.group, listed(found.endings[kind.name])) for kind in _KINDS],
            left=2,
        ),
        *(f"- {line}" for line in [*found.wrong[:10], *index.failed[:10]]),
        *(f"- log: {count:,} times {what}" for what, count in logged.items() if count and what != _UNUSABLE),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
