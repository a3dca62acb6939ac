"""Measure a server under load, over HTTP: with load control and without, side by side.

usage: python -m benchmarks.serve.load [--output results/serve] [--quick]

First what the full model can serve; then, for each of eight rates from 0.25 to 4 times that, requests that come at
random (an open loop: see `load_client.py`), with load control and without. Each question is one of SQuAD dev with its
paragraph, so that F1 can be told from the answers; what the same questions score at `full` is asked of the library
beforehand.

What is measured is kept in --work as soon as it is there, and a run that was cut off goes on where it was: remove the
folder to measure anew. About 25 minutes; leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import random
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks import common
from benchmarks.serve import load_report
from benchmarks.serve.load_client import Exchange, closed_loop, closed_rate, open_loop, request_bytes
from benchmarks.serve.load_figures import MISPLACED, MODES, OK, REFUSED, Capacity, Check, Mode, Step, figures
from benchmarks.serve.load_report import LoadReport
from benchmarks.serve.serving import VERSIONS, Server, add_server, serve
from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.squad import Question, SquadError, SquadFile, read_squad, score_question

RATES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
CONNECTIONS = (8, 16, 32)
_FIRST_S = 3.0  # a new server answers this long, to a few clients, before anything counts
_CHECKED = 1000  # answers that are held against the library's


def main() -> None:
    args = parse()
    say = common.Progress()
    try:
        data = read_squad(args.data, limit=args.limit)
        args.work.mkdir(parents=True, exist_ok=True)
        keep_settings(args)
    except (OSError, SquadError) as error:
        raise SystemExit(f"load.py: {error}") from None
    requests = [request_bytes(x.question, x.context) for x in data.questions]
    say("what every question scores at full, by the library")
    full = full_answers(data, args.work / "full.json.gz", say)
    capacity = measure_capacity(requests, args, say)
    steps = measure_steps(data.questions, requests, capacity, args, say)
    capacity = measure_capacity_again(requests, capacity, args, say)
    say("answers under load beside the library's")
    check = check_answers(data.questions, steps, args.seed)
    info = json.loads((args.work / "info.json").read_text("utf-8"))
    rows = {row["name"]: row for row in info["configurations"]}
    full_points = {i: f1_of(x, full[x.id]) for i, x in enumerate(data.questions)}
    report = LoadReport(
        command=common.command(),
        date=steps[-1].date,
        machine=common.describe_machine(),
        versions=common.versions(*VERSIONS),
        seed=args.seed,
        slo_ms=args.slo_ms,
        warm_up_s=args.warm_up,
        seconds=args.seconds,
        questions=len(data.questions),
        info=info,
        capacity=capacity,
        check=check,
        steps=[figures(step, args.slo_ms, answer_points(data.questions, step), full_points, rows) for step in steps],
    )
    write(report, steps, args.output)


def parse() -> argparse.Namespace:
    parser = common.argument_parser(__doc__)
    common.add_data(parser)
    add_server(parser)
    parser.add_argument("--limit", type=int, help="ask only the first so many of its questions")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="for load.json, load.md, load.png, load-records/")
    parser.add_argument("--work", type=Path, help="what is measured so far [default: .work/load]")
    parser.add_argument("--rates", default=",".join(f"{x:g}" for x in RATES), help="[default: %(default)s]")
    parser.add_argument("--seconds", type=float, default=45.0, help="for each rate [default: %(default)s]")
    parser.add_argument("--warm-up", type=float, default=5.0, help="seconds at each rate [default: %(default)s]")
    parser.add_argument("--capacity-seconds", type=float, default=15.0, help="[default: %(default)s]")
    parser.add_argument("--slo-ms", type=float, default=200.0, help="the objective [default: %(default)s]")
    parser.add_argument("--quick", action="store_true", help="a try: 3 rates, 3 s each, into .work/load-quick")
    args = parser.parse_args()
    if args.quick:
        args.rates, args.seconds, args.warm_up, args.capacity_seconds = "0.5,1,2", 3.0, 1.0, 3.0
        args.limit = args.limit or 300
    name = "load-quick" if args.quick else "load"
    args.work = args.work or Path(".work", name)
    args.output = args.output or (args.work if args.quick else Path("results/serve"))
    args.rates = [float(x) for x in args.rates.split(",")]
    return args


def keep_settings(args: argparse.Namespace) -> None:
    """Make sure that what was measured before was measured as it is now.

    Raises:
        SystemExit: It was not.
    """
    names = ("data", "limit", "seconds", "warm_up", "capacity_seconds", "slo_ms", "options", "server", "seed")
    settings = {name: getattr(args, name) for name in names}
    path = args.work / "settings.json"
    if path.exists() and (before := json.loads(path.read_text("utf-8"))) != settings:
        raise SystemExit(f"load.py: {args.work} was measured with other settings, {before}: remove it to measure anew")
    path.write_text(json.dumps(settings) + "\n", "utf-8")


# Measuring.


def full_answers(data: SquadFile, path: Path, say: common.Progress) -> dict[str, str]:
    """Return the library's answer to each question at `full`; kept, since it takes minutes."""
    if not path.exists():
        qa = QuestionAnswerer()
        found: dict[str, str] = {}
        answers = qa((x.question for x in data.questions), (x.context for x in data.questions))
        for question, answer in zip(data.questions, answers, strict=True):
            found[question.id] = answer.text
            say.count("answered", len(found), len(data.questions))
        common.write_gzip(path, found)
    kept: dict[str, str] = json.loads(gzip.decompress(path.read_bytes()))
    return kept


def options(mode: Mode, args: argparse.Namespace) -> list[str]:
    return ["--slo-ms", f"{args.slo_ms:g}" if mode == "with" else "0", *shlex.split(args.options)]


def measure_capacity(requests: Sequence[bytes], args: argparse.Namespace, say: common.Progress) -> Capacity:
    path = args.work / "capacity.json"
    if not path.exists():
        runs = {}
        with serve(options("without", args), args.work / "capacity.log", command=args.server) as server:
            (args.work / "info.json").write_text(json.dumps(server.info()) + "\n", "utf-8")
            closed_loop(server.port, requests, drawn(len(requests), 1000, args.seed, 0), 8, _FIRST_S)
            for connections in CONNECTIONS:
                runs[connections] = rate_of(server, requests, connections, args)
                say(f"the full model, asked by {connections}: {runs[connections]:.1f} questions a second")
        path.write_text(json.dumps(asdict(Capacity(runs=runs, seconds=args.capacity_seconds))) + "\n", "utf-8")
    stored = json.loads(path.read_text("utf-8"))
    return Capacity(**{**stored, "runs": {int(key): rate for key, rate in stored["runs"].items()}})


def measure_capacity_again(
    requests: Sequence[bytes], before: Capacity, args: argparse.Namespace, say: common.Progress
) -> Capacity:
    """Measure it once more when all is done: where it is another, the machine was not the same all the time."""
    if before.after is None:
        with serve(options("without", args), args.work / "capacity-after.log", command=args.server) as server:
            closed_loop(server.port, requests, drawn(len(requests), 1000, args.seed, 0), 8, _FIRST_S)
            after = rate_of(server, requests, before.connections, args)
        say(f"the full model once more: {after:.1f} questions a second")
        before = Capacity(runs=before.runs, seconds=before.seconds, after=after)
        (args.work / "capacity.json").write_text(json.dumps(asdict(before)) + "\n", "utf-8")
    return before


def rate_of(server: Server, requests: Sequence[bytes], connections: int, args: argparse.Namespace) -> float:
    questions = drawn(len(requests), 20_000, args.seed, connections)
    return closed_rate(server.port, requests, questions, connections, args.capacity_seconds)


def measure_steps(
    questions: Sequence[Question],
    requests: Sequence[bytes],
    capacity: Capacity,
    args: argparse.Namespace,
    say: common.Progress,
) -> list[Step]:
    steps = []
    for times in args.rates:
        for mode in MODES:
            path = args.work / f"{mode}-{times:g}.json.gz"
            if not path.exists():
                say(f"{times:g} times that, {times * capacity.rate:.1f} a second, {mode} load control")
                common.write_gzip(path, asdict(measure_step(questions, requests, times, mode, capacity, args)))
            steps.append(Step(**json.loads(gzip.decompress(path.read_bytes()))))
            say(summary(steps[-1]))
    return steps


def measure_step(
    questions: Sequence[Question],
    requests: Sequence[bytes],
    times: float,
    mode: Mode,
    capacity: Capacity,
    args: argparse.Namespace,
) -> Step:
    rate, which = times * capacity.rate, round(100 * times)
    due = arrivals(rate, args.warm_up + args.seconds, args.seed, which)
    asked = drawn(len(requests), len(due), args.seed, which)
    log = args.work / f"{mode}-{times:g}.log"
    with serve(options(mode, args), log, command=args.server) as server:
        names = [row["name"] for row in server.info()["configurations"]]
        closed_loop(server.port, requests, drawn(len(requests), 1000, args.seed, 1), 4, _FIRST_S)
        others, worked, server_worked = common.Others(), time.process_time(), server.cpu_seconds()
        began = time.perf_counter()
        exchanges = open_loop(server.port, requests, asked, due)
        elapsed = time.perf_counter() - began
        server_cpu, generator_cpu = server.cpu_seconds() - server_worked, time.process_time() - worked
        others_share = max(0.0, others.share() - server_cpu / (elapsed * common.cores()))
        line = shlex.join(server.process.args)
    rows = [read_exchange(exchange, questions[exchange.question].context, names) for exchange in exchanges]
    return Step(
        mode=mode,
        times=times,
        rate=rate,
        warm_up_s=args.warm_up,
        seconds=args.seconds,
        configurations=names,
        question=[x.question for x in exchanges],
        due=[round(1000 * x.due, 1) for x in exchanges],
        late=[round(1000 * (x.sent - x.due), 1) for x in exchanges],
        took=[round(1000 * (x.done - x.due), 1) if x.done else None for x in exchanges],
        status=[row[0] for row in rows],
        configuration=[row[1] for row in rows],
        start=[row[2] for row in rows],
        length=[row[3] for row in rows],
        server_cpu_s=round(server_cpu, 2),
        generator_cpu_s=round(generator_cpu, 2),
        elapsed_s=round(elapsed, 2),
        others_share=round(others_share, 4),
        command=line,
        date=common.now(),
    )


def arrivals(rate: float, seconds: float, *seed: int) -> list[float]:
    """Draw moments of a Poisson process: so many a second, for so long, always the same of the same seed."""
    random_ = np.random.default_rng(seed)
    gaps = random_.exponential(1 / rate, math.ceil(rate * seconds + 10 * math.sqrt(rate * seconds) + 100))
    moments = np.cumsum(gaps)
    found: list[float] = moments[moments < seconds].tolist()
    return found


def drawn(questions: int, count: int, *seed: int) -> list[int]:
    """Draw questions: all of them in random order, then all again in another."""
    random_ = random.Random(repr(seed))
    found: list[int] = []
    while len(found) < count:
        found += random_.sample(range(questions), questions)
    return found[:count]


def read_exchange(exchange: Exchange, text: str, names: Sequence[str]) -> tuple[int, int, int, int]:
    """Return a request's status, the place of its configuration, and where its answer begins and how long it is."""
    if exchange.status != OK:
        return exchange.status, -1, 0, 0
    try:
        (result,) = json.loads(exchange.body)["results"]
        configuration = names.index(result["configuration"])
        if not result["answers"]:
            return OK, configuration, 0, 0
        answer = result["answers"][0]
        if text[answer["start"] : answer["end"]] != answer["text"]:
            return MISPLACED, configuration, 0, 0
        return OK, configuration, answer["start"], len(answer["text"])
    except (ValueError, KeyError, TypeError):
        return MISPLACED, -1, 0, 0


def summary(step: Step) -> str:
    times = [step.took[i] or 0.0 for i in step.counted if step.status[i] == OK]
    refused = sum(step.status[i] == REFUSED for i in step.counted)
    median, p99 = np.percentile(times, (50, 99)) if times else (math.nan, math.nan)
    return (
        f"{step.times:g}, {step.mode}: median {median:.0f} ms, 99th percentile {p99:.0f} ms, {refused} of "
        f"{len(step.counted)} refused"
    )


# What the answers are worth.


def predicted(questions: Sequence[Question], step: Step, i: int) -> str:
    return questions[step.question[i]].context[step.start[i] : step.start[i] + step.length[i]]


def f1_of(question: Question, answer: str) -> float:
    return score_question(question, answer, version="1.1")[1]


def answer_points(questions: Sequence[Question], step: Step) -> dict[int, float]:
    """Return the F1 of the answers that count, by their place among the requests."""
    return {
        i: f1_of(questions[step.question[i]], predicted(questions, step, i))
        for i in step.counted
        if step.status[i] == OK
    }


def check_answers(questions: Sequence[Question], steps: Sequence[Step], seed: int) -> Check:
    """Hold some of the answers against the library's at the same configuration."""
    given = [(step, i) for step in steps for i in step.counted if step.status[i] == OK]
    some = random.Random(seed).sample(given, min(_CHECKED, len(given)))
    qa = QuestionAnswerer()
    configs = {choice.name: choice.config for choice in qa.table.choices}
    different = 0
    for name in sorted({step.configurations[step.configuration[i]] for step, i in some}):
        here = [(step, i) for step, i in some if step.configurations[step.configuration[i]] == name]
        asked = [questions[step.question[i]] for step, i in here]
        answers = qa([x.question for x in asked], [x.context for x in asked], budget=configs[name])
        for (step, i), answer in zip(here, answers, strict=True):
            different += (answer.start, answer.end) != (step.start[i], step.start[i] + step.length[i])
    return Check(compared=len(some), different=different)


# Results.


def write(report: LoadReport, steps: Sequence[Step], folder: Path) -> None:
    records = folder / "load-records"
    records.mkdir(parents=True, exist_ok=True)
    for step in steps:
        common.write_gzip(records / f"{step.mode}-{step.times:g}.json.gz", asdict(step))
    (folder / "load.json").write_text(json.dumps(load_report.to_dict(report), indent=1) + "\n", "utf-8")
    (folder / "load.md").write_text(load_report.markdown(report), "utf-8")
    load_report.draw(report, folder / "load.png")
    print(f"{folder}: load.json, load.md, load.png, load-records/", file=sys.stderr)


if __name__ == "__main__":
    main()
