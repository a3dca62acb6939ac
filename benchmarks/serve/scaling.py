"""What a second worker brings, here and by Ray: bulk answering, serving, and load control on a cluster.

usage: python -m benchmarks.serve.scaling [--output results/serve/scaling.md]

The cluster is two nodes of one core each on this machine (`ray.cluster_utils`), so that what Ray costs is measured, and
what a network costs is not. The generator, Ray's proxies and its controller share the cores with what answers.

1. Bulk: the first questions of SQuAD, each with its paragraph, by `answer_file` and by `answer_file_on_ray`, with one
   and two workers at each budget. A rate is of the questions beyond the first few, from two runs of different length:
   starting processes and loading the model is told beside it.
2. Serving without load control, asked by a closed loop: `dynamic-tinybert serve` with one and two workers, Ray Serve
   with one and two replicas of one worker.
3. Ray Serve with load control, asked by an open loop: two replicas at the rate that they can take at `full`, and at
   twice that; then one replica that may become two, at one and a half of what one can take.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.serve.load import arrivals, drawn
from benchmarks.serve.load_client import Exchange, closed_loop, closed_rate, open_loop, request_bytes
from benchmarks.serve.serving import serve as local_server
from benchmarks.speed.batch import first, write_questions
from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.batch import Setup, answer_file, from_texts
from dynamic_tinybert.squad import read_squad

PARTS = ["bulk", "serve", "control"]
BUDGETS = ("full", "balanced", "fast")
OBJECTIVE_MS = 200.0
_FEW = 32  # questions of the short run: a chunk for each worker
_CHUNK = 16
_CONNECTIONS = 4  # for each worker
_SEED = 20_261_126


def main() -> None:
    args = parse()
    say, others = common.Progress(), common.Others()
    parts: list[list[str]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if "bulk" in args.parts:
            parts.append(measure_bulk(args, folder, say))
        questions = read_squad(args.data, limit=args.asked).questions
        requests = {b: [request_bytes(q.question, q.context, b) for q in questions] for b in BUDGETS}
        if {"serve", "control"} & set(args.parts):  # load control is asked at rates that the other part finds out
            parts.append(measure_serving(args, requests, folder, say))
    lines = [
        "# More than one worker",
        "",
        common.heading("ray", others=others),
        *(line for part in parts for line in part),
    ]
    common.write_page("\n".join(lines) + "\n", args.output)


def parse() -> argparse.Namespace:
    parser = common.argument_parser(__doc__)
    common.add_data(parser)
    parser.add_argument("--limit", type=int, default=800, help="questions of a long bulk run [default: %(default)s]")
    parser.add_argument("--repeats", type=int, default=3, help="of the bulk runs [default: %(default)s]")
    parser.add_argument("--asked", type=int, default=300, help="questions for servers [default: %(default)s]")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each closed loop [default: %(default)s]")
    parser.add_argument("--open-seconds", type=float, default=40.0, help="of each open loop [default: %(default)s]")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--output", type=Path, metavar="FILE", help="the tables, beside standard output")
    return parser.parse_args()


@contextlib.contextmanager
def two_nodes() -> Iterator[str]:
    """Start a cluster of two nodes of one core each, and give its address."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster
    logging.getLogger("ray").setLevel(logging.ERROR)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


# Bulk


def measure_bulk(args: argparse.Namespace, folder: Path, say: common.Progress) -> list[str]:
    path = folder / "questions.jsonl"
    count = write_questions(args.data, args.limit, path)
    few = first(path, _FEW)
    rows = ["", "## Bulk", "", f"{count:,} questions, chunks of {_CHUNK}; medians of {args.repeats}, in turns.", ""]
    found: list[tuple[str, ...]] = []
    with two_nodes() as address:
        for budget in BUDGETS:
            runs = {f"{kind}, {n}": bulk(kind, n, budget, address, folder) for kind in ("here", "Ray") for n in (1, 2)}
            short: dict[str, list[float]] = {name: [] for name in runs}
            long: dict[str, list[float]] = {name: [] for name in runs}
            for name in common.turns(runs, args.repeats):
                short[name] += common.timed(runs[name], [few])[0]
                long[name] += common.timed(runs[name], [path])[0]
                say(f"{budget}, {name}: {short[name][-1]:.1f} s for {_FEW}, {long[name][-1]:.1f} s for {count}")
            rates = {}
            for name in runs:
                few_s, all_s = statistics.median(short[name]), statistics.median(long[name])
                rates[name] = (count - _FEW) / (all_s - few_s)
                start = max(0.0, few_s - _FEW / rates[name])
                ratio = rates[name] / rates["here, 1"]
                found.append((f"`{budget}`", name, f"{rates[name]:.1f}", f"{ratio:.2f}", f"{start:.1f}"))
    return [
        *rows,
        common.table(("budget", "", "questions a second", "to one worker here", "starting, s"), found, left=2),
    ]


def bulk(kind: str, workers: int, budget: str, address: str, folder: Path) -> Callable[[Path], None]:
    """Return what answers a file of questions."""
    out = folder / "answers.jsonl"

    def here(path: Path) -> None:
        out.unlink(missing_ok=True)
        answer = from_texts(QuestionAnswerer(threads=1), budget=budget)  # type: ignore[arg-type]
        assert not answer_file(path, out, answer, workers=workers, chunk=_CHUNK).failed

    def on_ray(path: Path) -> None:
        from dynamic_tinybert.batch.on_ray import answer_file_on_ray

        out.unlink(missing_ok=True)
        setup = Setup(budget=budget)  # type: ignore[arg-type]
        assert not answer_file_on_ray(path, out, setup, address=address, workers=workers, chunk=_CHUNK).failed

    return here if kind == "here" else on_ray


# Serving


@contextlib.contextmanager
def ray_serve(address: str) -> Iterator[tuple[int, Callable[..., None]]]:
    """Start Ray Serve on a cluster; give its port, and what deploys the application anew."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray
        from ray import serve

        from dynamic_tinybert.serve.on_ray import NAME, RaySettings, build

    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    port = common.free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    logging.getLogger("ray.serve").setLevel(logging.ERROR)

    def deploy(**settings: Any) -> None:
        found = RaySettings(log_level="warning", **settings)
        serve.run(build(found), name="qa")
        while serve.status().applications["qa"].deployments[NAME].replica_states.get("RUNNING") != found.min_replicas:
            time.sleep(0.2)

    try:
        yield port, deploy
    finally:
        serve.shutdown()
        ray.shutdown()


def replicas() -> int:
    from ray import serve

    from dynamic_tinybert.serve.on_ray import NAME

    return int(serve.status().applications["qa"].deployments[NAME].replica_states.get("RUNNING", 0))


def measure_serving(
    args: argparse.Namespace, requests: dict[str, list[bytes]], folder: Path, say: common.Progress
) -> list[str]:
    rates: dict[tuple[str, str], float] = {}
    if "serve" in args.parts:
        for workers in (1, 2):
            name = f"`serve`, {workers} worker{'s' * (workers > 1)}"
            options = ["--workers", str(workers), "--slo-ms", "0", "--log-level", "warning"]
            with local_server(options, folder / "serve.log") as server:
                measure_closed(name, workers, server.port, requests, rates, args, say)
    rows: list[str] = []
    with two_nodes() as address, ray_serve(address) as (port, deploy):
        for count in (1, 2):
            name = f"Ray Serve, {count} replica{'s' * (count > 1)}"
            deploy(min_replicas=count, max_replicas=count, slo_ms=0)
            measure_closed(name, count, port, requests, rates, args, say)
        if "control" in args.parts:
            one, two = (rates[f"Ray Serve, {n}", "full"] for n in ("1 replica", "2 replicas"))
            rows = measure_control(port, deploy, requests["full"], one, two, args, say)
    first_name = next(name for name, _ in rates)
    lines = ["", "## Serving without load control", ""]
    lines += [f"A closed loop of {_CONNECTIONS} connections a worker, {args.seconds:g} s each: questions a second.", ""]
    found = []
    for name in dict.fromkeys(name for name, _ in rates):
        ratio = rates[name, "full"] / rates[first_name, "full"]
        found.append((name, *(f"{rates[name, budget]:.1f}" for budget in BUDGETS), f"{ratio:.2f}"))
    lines.append(common.table(("", *(f"`{budget}`" for budget in BUDGETS), "at `full`, to the first"), found))
    return lines + rows


def measure_closed(
    name: str,
    workers: int,
    port: int,
    requests: dict[str, list[bytes]],
    rates: dict[tuple[str, str], float],
    args: argparse.Namespace,
    say: common.Progress,
) -> None:
    connections = _CONNECTIONS * workers
    closed_loop(port, requests["full"], drawn(len(requests["full"]), 500, _SEED, 0), connections, 3.0)
    for budget in BUDGETS:
        questions = drawn(len(requests[budget]), 20_000, _SEED, connections)
        rates[name, budget] = closed_rate(port, requests[budget], questions, connections, args.seconds)
        say(f"{name}, {budget}: {rates[name, budget]:.1f} questions a second")


def measure_control(
    port: int,
    deploy: Callable[..., None],
    requests: Sequence[bytes],
    one: float,
    two: float,
    args: argparse.Namespace,
    say: common.Progress,
) -> list[str]:
    rows = ["", f"## Ray Serve with load control, objective {OBJECTIVE_MS:g} ms", ""]
    rows += ["An open loop; latency counts from the moment when a request was due, Ray's proxy with it.", ""]
    rows += [
        "| replicas | asked a second | median, ms | 99th, ms | within the objective | refused | mean share |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]

    def ask(name: str, rate: float, seconds: float, number: int) -> list[Exchange]:
        due = arrivals(rate, seconds, _SEED, number)
        found = open_loop(port, requests, drawn(len(requests), len(due), _SEED, number), due)
        rows.append(row(name, rate, found))
        say(rows[-1])
        return found

    deploy(min_replicas=2, max_replicas=2, slo_ms=OBJECTIVE_MS)
    ask("2", 0.5 * two, args.open_seconds, 1)
    ask("2", two, args.open_seconds, 2)
    ask("2", 2 * two, args.open_seconds, 3)
    deploy(min_replicas=1, max_replicas=2, slo_ms=OBJECTIVE_MS, look_back_period_s=10.5, upscale_delay_s=5)
    seconds, rate, grown = 90.0, 1.5 * one, math.inf
    due = arrivals(rate, seconds, _SEED, 4)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        began = time.perf_counter()
        asking = pool.submit(open_loop, port, requests, drawn(len(requests), len(due), _SEED, 4), due)
        while not asking.done():
            if math.isinf(grown) and replicas() == 2:
                grown = time.perf_counter() - began
            time.sleep(0.5)
        found = asking.result()
    rows.append(row(f"1, which became 2 after {grown:.0f} s: before", rate, [x for x in found if x.due < grown]))
    rows.append(row("... after", rate, [x for x in found if x.due >= grown]))
    say(rows[-2])
    say(rows[-1])
    return rows


def row(name: str, rate: float, found: Sequence[Exchange]) -> str:
    """Return a row of what became of requests."""
    answered = [x for x in found if x.status == 200]
    lost = [x.status for x in found if x.status not in (200, 429)]
    if lost:
        print(f"scaling.py: {len(lost)} requests got no answer, such as {lost[0]}", file=sys.stderr)
    took = sorted((x.done - x.due) * 1000 for x in answered)
    if not took:
        return f"| {name} | {rate:.1f} | | | | {1:.1%} | |"
    shares = [json.loads(x.body)["results"][0]["share"] for x in answered]
    within = sum(ms <= OBJECTIVE_MS for ms in took) / len(took)
    late = took[min(len(took) - 1, math.ceil(0.99 * len(took)) - 1)]
    return (
        f"| {name} | {rate:.1f} | {statistics.median(took):.0f} | {late:.0f} | {within:.1%} | "
        f"{1 - len(answered) / len(found):.1%} | {statistics.fmean(shares):.2f} |"
    )


if __name__ == "__main__":
    main()
