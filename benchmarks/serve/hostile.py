"""What clients do to a server that vanish, send garbage, send slowly or never read; and what a kill -TERM loses.

usage: python -m benchmarks.serve.hostile [--output results/serve] [--quick]

Ten thousand requests of such clients (`hostile_clients.py`), some hundreds at a time, while others ask properly and
must be answered rightly. They come in rounds, with a round before that does not count: after each, when all is over,
the server must hold what it held before: connections, waiting questions, files, threads, memory. Then SIGTERM under
load, twenty times (`terminate.py`). About eight minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shlex
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from benchmarks import common
from benchmarks.serve import hostile_clients, terminate
from benchmarks.serve.answers import Given, Library, ask
from benchmarks.serve.hostile_clients import HELD, KINDS, Material, be
from benchmarks.serve.load_client import request_bytes
from benchmarks.serve.serving import HOST, VERSIONS, Server, add_server, serve
from benchmarks.serve.terminate import Ending
from dynamic_tinybert.squad import Question, SquadError, read_squad

WAITING, OPEN = "dynamic_tinybert_waiting_questions", "dynamic_tinybert_open_requests"
_SETTLED_S = 60.0  # in which all of a round must be over
_GROWTH = 1.05  # of memory, from the first half of the rounds to the second, that is no leak
_RETRIES = 100
_IDLE_S, _IDLE = 2.0, 0.05  # how long it is watched when all is over, and the cores that nothing takes


@dataclass(frozen=True, kw_only=True)
class State:
    """What a server holds.

    Attributes:
        requests: Hostile requests sent so far.
        waiting: Questions that wait.
        open: Requests that are open, but for the one that asks this.
        connections: Connections that are open.
        files: File descriptors.
        threads: Threads.
        rss: Its memory, in bytes.
    """

    requests: int
    waiting: int
    open: int
    connections: int
    files: int
    threads: int
    rss: int


@dataclass(frozen=True, kw_only=True)
class Siege:
    """What came of the hostile clients.

    Attributes:
        requests: How many requests counted.
        at_once: How many at a time.
        seconds: How long they took.
        endings: By kind, how many ended how.
        good: Proper requests meanwhile.
        right: How many were answered rightly: as the library does at the same configuration.
        wrong: What became of the others.
        again: How often a proper request was refused (429) and came again.
        good_p50: Milliseconds to their answers, from the attempt that was answered; `good_p99` likewise.
        states: What the server held before, and after each round.
        logged: Lines of the log, by what must not be there: `Traceback`, errors, status 500.
        idle_cores: Processors that the server kept busy when all was over: it had nothing to do.
        exit_status: With what the server ended on SIGTERM.
    """

    requests: int
    at_once: int
    seconds: float
    endings: dict[str, dict[str, int]]
    good: int
    right: int
    wrong: dict[str, int]
    again: int
    good_p50: float
    good_p99: float
    states: list[State]
    logged: dict[str, int]
    idle_cores: float
    exit_status: int


class Claim(NamedTuple):
    """What must be so, what is, and whether that is it."""

    what: str
    found: str
    met: bool


def main() -> None:
    args = parse()
    say = common.Progress()
    try:
        questions = random.Random(args.seed).sample(read_squad(args.data).questions, 300)
        args.output.mkdir(parents=True, exist_ok=True)
    except (OSError, SquadError) as error:
        raise SystemExit(f"hostile.py: {error}") from None
    library = Library(questions)
    path = args.output / "hostile.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() and args.only else {}
    siege, endings = _stored(found)
    if args.only != "terminate":
        siege = besiege(questions, library, args, say)
    if args.only != "clients":
        endings = terminate.repeat(questions, library, args.repeats, args, say)
    about = {
        "command": common.command(),
        "date": common.now(),
        "machine": common.describe_machine(),
        "versions": common.versions(*VERSIONS),
        "seed": args.seed,
    }
    page = markdown(about, siege, endings)
    result = {
        **about,
        "siege": siege and asdict(siege),
        "terminations": [asdict(x) for x in endings],
        "claims": [x._asdict() for x in claims(siege, endings)],
    }
    path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    (args.output / "hostile.md").write_text(page, "utf-8")
    print(page)
    raise SystemExit(not all(x.met for x in claims(siege, endings)))


def _stored(found: dict[str, Any]) -> tuple[Siege | None, list[Ending]]:
    siege = found.get("siege")
    if siege:
        siege = Siege(**{**siege, "states": [State(**x) for x in siege["states"]]})
    return siege, [Ending(**x) for x in found.get("terminations", [])]


def parse() -> argparse.Namespace:
    parser = common.argument_parser(__doc__)
    common.add_data(parser)
    add_server(parser)
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="for hostile.md and hostile.json [default: results/serve]"
    )
    parser.add_argument("--work", type=Path, default=Path(".work", "hostile"), help="logs [default: %(default)s]")
    parser.add_argument("--only", choices=("clients", "terminate"), help="measure one, and keep the other's figures")
    parser.add_argument("--rounds", type=int, default=10, help="[default: %(default)s]")
    parser.add_argument("--requests", type=int, default=1000, help="hostile ones in a round [default: %(default)s]")
    parser.add_argument("--at-once", type=int, default=300, help="hostile clients [default: %(default)s]")
    parser.add_argument("--good", type=float, default=5.0, help="proper requests a second [default: %(default)s]")
    parser.add_argument("--repeats", type=int, default=20, help="kills [default: %(default)s]")
    parser.add_argument("--quick", action="store_true", help="a try: 2 rounds of 200, 2 kills; into --work")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.requests, args.at_once, args.repeats = 2, 200, 100, 2
    args.output = args.output or (args.work if args.quick else Path("results/serve"))
    return args


# Hostile clients, and good ones.


def besiege(questions: Sequence[Question], library: Library, args: argparse.Namespace, say: common.Progress) -> Siege:
    """Let hostile clients come in rounds, and good ones all the while."""
    requests = [request_bytes(x.question, x.context) for x in questions]
    text = " ".join(x.context for x in questions)
    long = request_bytes(questions[0].question, (text * (1 + 1_000_000 // len(text)))[:990_000])
    with serve(shlex.split(args.options), args.work / "siege.log", command=args.server) as server:
        material = Material(requests, long, f"{HOST}:{server.port}")
        for request in requests[:20]:
            asyncio.run(ask(server.port, request))
        began = time.perf_counter()
        found = asyncio.run(_siege(server, material, args, say))
        seconds, worked = time.perf_counter() - began, server.cpu_seconds()
        time.sleep(_IDLE_S)
        idle_cores = (server.cpu_seconds() - worked) / _IDLE_S
        status = server.end()
        log = server.log_text()
        entries = server.logged()
        bad = {
            "Traceback": log.count("Traceback"),
            "errors": sum(x.get("level") in ("ERROR", "CRITICAL") for x in entries),
            "status 500": sum(x.get("status") == 500 for x in entries),
        }
    endings, good, states = found
    right, wrong = library.judge([x for x in good if x.status == 200])
    times = [x.milliseconds for x in good if x.status == 200]
    others = Counter(f"status {x.status}" for x in good if x.status != 200)
    return Siege(
        requests=args.rounds * args.requests,
        at_once=args.at_once,
        seconds=round(seconds, 1),
        endings={name: dict(counts.most_common()) for name, counts in endings.items()},
        good=len(good),
        right=right,
        wrong={**others, **({"another answer": wrong} if wrong else {})},
        again=sum(x.refused for x in good),
        good_p50=round(float(np.percentile(times, 50)), 1),
        good_p99=round(float(np.percentile(times, 99)), 1),
        states=states,
        logged=bad,
        idle_cores=round(idle_cores, 3),
        exit_status=status,
    )


async def _siege(
    server: Server, material: Material, args: argparse.Namespace, say: common.Progress
) -> tuple[dict[str, Counter[str]], list[Given], list[State]]:
    endings: dict[str, Counter[str]] = defaultdict(Counter)
    good: list[Given] = []
    states: list[State] = []
    idle_open = int(server.metric(OPEN))  # it may count the request that asks for it
    for round_ in range(args.rounds + 1):  # the first is the warm-up
        over = asyncio.Event()
        asking = asyncio.create_task(_good(server.port, material.requests, args, round_, over))
        counts = await _round(server.port, material, args, round_)
        over.set()
        answered = await asking
        states.append(await _settled(server, round_ * args.requests, idle_open))
        if round_:
            good += answered
            for name, counter in counts.items():
                endings[name].update(counter)
        state = states[-1]
        say(
            f"round {round_} of {args.rounds}: {state.waiting} waiting, {state.connections} connections, "
            f"{state.files} files, {state.threads} threads, {state.rss / 1e6:.0f} MB"
        )
    return endings, good, states


async def _round(port: int, material: Material, args: argparse.Namespace, round_: int) -> dict[str, Counter[str]]:
    """Let so many hostile clients come, so many at once."""
    draw = random.Random(f"{args.seed} {round_}")
    kinds = draw.choices(KINDS, [kind.weight for kind in KINDS], k=args.requests)
    endings: dict[str, Counter[str]] = defaultdict(Counter)
    left = iter(enumerate(kinds))

    async def one_after_the_other() -> None:
        for number, kind in left:
            ending = await be(kind, port, material, random.Random(f"{args.seed} {round_} {number}"))
            endings[kind.name][ending] += 1

    await asyncio.gather(*(one_after_the_other() for _ in range(args.at_once)))
    return endings


async def _good(
    port: int, requests: Sequence[bytes], args: argparse.Namespace, round_: int, over: asyncio.Event
) -> list[Given]:
    """Ask properly, so many a second, until it is over; come again when refused."""
    tasks: list[asyncio.Task[Given]] = []
    draw = random.Random(f"good {args.seed} {round_}")
    while not over.is_set():
        tasks.append(asyncio.create_task(_ask_until_answered(port, requests, draw.randrange(len(requests)))))
        await asyncio.sleep(draw.expovariate(args.good))
    return list(await asyncio.gather(*tasks))


async def _ask_until_answered(port: int, requests: Sequence[bytes], question: int) -> Given:
    refused = 0
    while True:
        given = await ask(port, requests[question], question)
        if given.status != 429 or refused == _RETRIES:
            return given._replace(refused=refused)
        refused += 1
        await asyncio.sleep(min(given.retry_after, 2.0))


async def _settled(server: Server, requests: int, idle_open: int) -> State:
    """Wait until nothing is open any more, for a minute, and return what the server holds then."""
    end = time.monotonic() + _SETTLED_S
    while True:
        await asyncio.sleep(1.0)
        state = state_of(server, requests, idle_open)
        if not (state.waiting or state.open or state.connections) or time.monotonic() > end:
            return state


def state_of(server: Server, requests: int, idle_open: int) -> State:
    process = server.process
    connections = [x for x in process.net_connections("tcp") if x.status != psutil.CONN_LISTEN]
    return State(
        requests=requests,
        connections=len(connections),
        files=process.num_fds(),
        threads=process.num_threads(),
        rss=process.memory_info().rss,
        waiting=int(server.metric(WAITING)),
        open=int(server.metric(OPEN)) - idle_open,
    )


# Results.


def claims(siege: Siege | None, endings: Sequence[Ending]) -> list[Claim]:
    """What must be so of a server, and what was found."""
    found: list[Claim] = []
    if siege is not None:
        before, after = siege.states[0], siege.states[-1]
        statuses = Counter[str]()
        for counts in siege.endings.values():
            statuses.update(counts)
        told = siege.logged["Traceback"] + siege.logged["errors"]
        internal = statuses["500"] + siege.logged["status 500"]
        half = len(siege.states[1:]) // 2
        early, late = (float(np.median([x.rss for x in part])) for part in _halves(siege.states[1:], half))
        stuck = max(x.waiting + x.open + x.connections for x in siege.states)
        files, threads = ([getattr(x, name) for x in (before, after)] for name in ("files", "threads"))
        found += [
            Claim(f"{siege.requests:,} hostile requests: answered with 500", f"{internal:,}", internal == 0),
            Claim("tracebacks and errors in the log", f"{told:,}", told == 0),
            Claim(f"held longer than {hostile_clients.PATIENCE_S:g} s", f"{statuses[HELD]:,}", statuses[HELD] == 0),
            Claim(
                "proper requests meanwhile that were answered rightly",
                f"{siege.right:,} of {siege.good:,}",
                siege.right == siege.good > 0,
            ),
            Claim("after a round: waiting questions, open requests and connections, at most", f"{stuck}", stuck == 0),
            Claim("file descriptors, before and after", f"{files[0]}, {files[1]}", files[1] <= files[0]),
            Claim("threads, before and after", f"{threads[0]}, {threads[1]}", threads[1] <= threads[0]),
            Claim(
                f"memory, median of the first and the second half of the rounds (at most {_GROWTH - 1:.0%} more)",
                f"{early / 1e6:.0f} MB, {late / 1e6:.0f} MB",
                late <= _GROWTH * early,
            ),
            Claim(
                "cores that the server kept busy when all was over", f"{siege.idle_cores:.2f}", siege.idle_cores < _IDLE
            ),
            Claim("exit status after all that, on SIGTERM", f"{siege.exit_status}", siege.exit_status == 0),
        ]
    if endings:
        lost, silent = sum(max(0, x.accepted - x.right) for x in endings), sum(x.accepted < 0 for x in endings)
        clean = sum(x.clean for x in endings)
        found += [
            Claim(
                f"{len(endings)} kills under load: accepted requests that were lost",
                f"{lost:,}" + (f"; {silent} did not say what they accepted" if silent else ""),
                lost == silent == 0,
            ),
            Claim(
                "kills of which nothing was lost, cut short or wrong",
                f"{clean} of {len(endings)}",
                clean == len(endings),
            ),
        ]
    return found


def _halves(states: Sequence[State], half: int) -> tuple[Sequence[State], Sequence[State]]:
    return states[: max(1, half)], states[half:]


def markdown(about: dict[str, Any], siege: Siege | None, endings: Sequence[Ending]) -> str:
    parts = [
        "# Hostile clients, and the end",
        f"`{about['command']}`, {about['date']}",
        f"{common.machine_line(about['machine'])}. {common.listed(about['versions'])}. Seed {about['seed']}.",
        common.table(
            ("", "found", ""), [(x.what, x.found, "met" if x.met else "**missed**") for x in claims(siege, endings)]
        ),
    ]
    if siege is not None:
        parts += _siege_parts(siege)
    if endings:
        parts += terminate.parts(endings)
    return "\n\n".join(parts) + "\n"


def _siege_parts(siege: Siege) -> list[str]:
    groups = {kind.name: kind.group for kind in KINDS}
    return [
        "## Clients that vanish, send garbage, send slowly, never read",
        f"{siege.requests:,} requests, each on a connection of its own, {siege.at_once} at once, in "
        f"{siege.seconds:.0f} s with the warm-up. How they ended: the status, or that the client left or the server "
        f"closed. Meanwhile {siege.good:,} proper "
        f"requests, at random moments: {siege.right:,} answered as the library answers at the same configuration"
        + "".join(f", {count:,} {what}" for what, count in siege.wrong.items())
        + f"; {siege.again:,} refusals (429), after which they came again. Their median was {siege.good_p50:.0f} ms, "
        f"the 99th percentile {siege.good_p99:.0f} ms.",
        common.table(
            ("what they do", "group", "how they ended"),
            [
                (
                    kind.name, groups[kind.name],
                    ", ".join(f"{count:,} {how}" for how, count in siege.endings.get(kind.name, {}).items()) or "-",
                )
                for kind in KINDS
            ],
        ),
        "What the server held when all of a round was over. The first line is after a round of the same kind that "
        "does not count, in which its memory grew to what it needs.",
        common.table(
            ("requests", "waiting", "open requests", "connections", "files", "threads", "memory"),
            [
                (
                    f"{x.requests:,}", f"{x.waiting}", f"{x.open}", f"{x.connections}", f"{x.files}", f"{x.threads}",
                    f"{x.rss / 1e6:.1f} MB",
                )
                for x in siege.states
            ],
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
