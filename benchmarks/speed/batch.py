"""How many questions a second bulk answering gets through: one session on all cores, or workers of one thread each.

usage: batch.py --data DEV.json.gz [--limit 1000] [--output results/speed/batch.md]

The first questions of SQuAD, each with its paragraph. `session` is QuestionAnswerer(threads=all cores) on two lists;
the others are the road of `dynamic-tinybert batch`, with as many workers as cores: from a file to a file, in chunks of
so many questions. They take turns, forwards and backwards, and the median of the repeats counts. Peak memory is that of
a process of its own for each, that answers the first 200. How much of the processor other processes took is written
down; where it was much, seconds of the processor for a question say more than those on the clock.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.speed.peak import peak_bytes

from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.batch.answering import answer_file, from_texts
from dynamic_tinybert.model import Budget

SESSION = "session"
_WARM_UP = 64  # questions that do not count
_PEAK_QUESTIONS = 200


def main() -> None:
    from benchmarks.speed.speed import Others, describe_machine

    args = parse()
    chunks = [int(chunk) for chunk in args.chunks.split(",")]
    names = [SESSION, *map(str, chunks)]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "questions.jsonl")
        count = write_questions(args.data, args.limit, path)
        some = first(path, _PEAK_QUESTIONS)
        peaks = {name: peak(name, some, args) for name in names}
        others, runs = Others(), {name: system(name, args.threads, args.budget) for name in names}
        for run in runs.values():
            run(first(path, _WARM_UP))
        seconds: dict[str, list[float]] = {name: [] for name in names}
        work: dict[str, list[float]] = {name: [] for name in names}
        for repeat in range(args.repeats):
            for name in names[:: -1 if repeat % 2 else 1]:
                began, worked = time.perf_counter(), time.process_time()
                runs[name](path)
                seconds[name].append(time.perf_counter() - began)
                work[name].append((time.process_time() - worked) / count * 1000)
                speed = count / seconds[name][-1]
                print(f"{title(name, args.threads)}: {speed:.1f} a second, {work[name][-1]:.1f} ms", file=sys.stderr)
        taken = others.share()
    speeds = {name: count / statistics.median(seconds[name]) for name in names}
    spreads = {name: (count / max(seconds[name]), count / min(seconds[name])) for name in names}
    machine, memory = describe_machine(), 1024**2
    lines = [
        "# Bulk answering",
        "",
        f"`{shlex.join(['python', *sys.argv])}`, {datetime.date.today()}; {machine['cpu']}, {machine['cores']} cores; "
        f"Python {platform.python_version()}, ONNX Runtime {version('onnxruntime')}. {count} questions, budget "
        f"{args.budget}; medians of {args.repeats}. Others took {taken:.0%} of the processor.",
        "",
        "| | questions a second | least to most | to the session | processor, ms a question | peak memory |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {title(name, args.threads)} | {speeds[name]:.1f} | {spreads[name][0]:.1f} to {spreads[name][1]:.1f} | "
            f"{speeds[name] / speeds[SESSION]:.2f} | {statistics.median(work[name]):.1f} | "
            f"{peaks[name] / memory:.0f} MiB |"
            for name in names
        ),
    ]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if args.output is not None:
        args.output.write_text(text, "utf-8")


def parse() -> argparse.Namespace:
    from benchmarks.speed.speed import cores

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="SQuAD 1.1 dev, .json or .json.gz", required="--peak" not in sys.argv)
    parser.add_argument("--limit", type=int, default=1000, help="questions, the first ones [default: %(default)s]")
    parser.add_argument("--chunks", default="8,32,64", help="sizes of chunks [default: %(default)s]")
    parser.add_argument("--repeats", type=int, default=3, help="[default: %(default)s]")
    parser.add_argument("--budget", choices=["full", "balanced", "fast"], default="full")
    parser.add_argument("--threads", type=int, default=cores(), help="and workers [default: all cores, %(default)s]")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the table, beside standard output")
    parser.add_argument("--peak", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:  # a process of its own, for its memory
        system(args.peak[0], args.threads, args.budget)(Path(args.peak[1]))
        print(peak_bytes())
        raise SystemExit
    return args


def write_questions(data: str, limit: int, path: Path) -> int:
    from dynamic_tinybert.squad import read_squad

    questions = read_squad(data, limit=limit).questions
    rows = [json.dumps({"id": q.id, "question": q.question, "text": q.context}) for q in questions]
    path.write_text("\n".join(rows) + "\n", "utf-8")
    return len(rows)


def title(name: str, threads: int) -> str:
    if name == SESSION:
        return f"one session of {threads} threads, two lists"
    return f"{threads} workers of a thread, chunks of {name}"


def system(name: str, threads: int, budget: Budget) -> Callable[[Path], object]:
    """Return what answers a file of questions: all of them at once in memory, or as `batch` does."""
    if name == SESSION:
        whole = QuestionAnswerer(threads=threads)

        def in_memory(path: Path) -> Sequence[object]:
            rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
            found = whole([row["question"] for row in rows], [row["text"] for row in rows], budget=budget)
            return [answer.to_dict() for answer in found]

        return in_memory
    answer = from_texts(QuestionAnswerer(threads=1), budget=budget)

    def by_file(path: Path) -> object:
        with tempfile.TemporaryDirectory() as scratch:
            summary = answer_file(path, Path(scratch, "answers.jsonl"), answer, workers=threads, chunk=int(name))
        assert not summary.failed
        return summary

    return by_file


def first(path: Path, count: int) -> Path:
    """Return a file of the first so many questions, beside that of all."""
    some = path.with_name(f"first-{count}.jsonl")
    some.write_text("".join(path.read_text("utf-8").splitlines(keepends=True)[:count]), "utf-8")
    return some


def peak(name: str, path: Path, args: argparse.Namespace) -> int:
    """Return the peak memory of a process of its own, in bytes."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.speed.batch",
        "--peak",
        name,
        str(path),
        "--threads",
        str(args.threads),
    ]
    done = subprocess.run([*command, "--budget", args.budget], stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout)


if __name__ == "__main__":
    main()
