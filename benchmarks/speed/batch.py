"""How many questions a second bulk answering gets through: one session on all cores, or workers of one thread each.

usage: python -m benchmarks.speed.batch [--limit 1000] [--output results/speed/batch.md]

The first questions of SQuAD, each with its paragraph. `session` is QuestionAnswerer(threads=all cores) on two lists;
the others are the road of `dynamic-tinybert batch`, with as many workers as cores: from a file to a file, in chunks of
so many questions. They take turns, forwards and backwards, and the median of the repeats counts. Peak memory is that of
a process of its own for each, that answers the first 200. How much of the processor other processes took is written
down; where it was much, seconds of the processor for a question say more than those on the clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import common
from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.batch import answer_file, from_texts
from dynamic_tinybert.model import Budget

SESSION = "session"
_WARM_UP = 64  # questions that do not count
_PEAK_QUESTIONS = 200


def main() -> None:
    args = parse()
    names = [SESSION, *args.chunks.split(",")]
    say = common.Progress()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "questions.jsonl")
        count = write_questions(args.data, args.limit, path)
        some = first(path, _PEAK_QUESTIONS)
        peaks = {name: peak(name, some, args) for name in names}
        others, runs = common.Others(), {name: system(name, args.threads, args.budget) for name in names}
        for run in runs.values():
            run(first(path, _WARM_UP))
        seconds: dict[str, list[float]] = {name: [] for name in names}
        work: dict[str, list[float]] = {name: [] for name in names}
        for name in common.turns(names, args.repeats):
            worked = time.process_time()
            seconds[name] += common.timed(runs[name], [path])[0]
            work[name].append((time.process_time() - worked) / count * 1000)
            say(f"{title(name, args.threads)}: {count / seconds[name][-1]:.1f} a second, {work[name][-1]:.1f} ms")
        about = common.heading("onnxruntime", others=others)
    speeds = {name: count / statistics.median(seconds[name]) for name in names}
    rows = [
        (
            title(name, args.threads), f"{speeds[name]:.1f}",
            f"{count / max(seconds[name]):.1f} to {count / min(seconds[name]):.1f}",
            f"{speeds[name] / speeds[SESSION]:.2f}", f"{statistics.median(work[name]):.1f}",
            f"{peaks[name] / 1024**2:.0f} MiB",
        )
        for name in names
    ]  # fmt: skip
    header = ("", "questions a second", "least to most", "to the session", "processor, ms a question", "peak memory")
    parts = ["# Bulk answering", about, f"{count} questions, budget {args.budget}; medians of {args.repeats}."]
    common.write_page("\n\n".join([*parts, common.table(header, rows)]) + "\n", args.output)


def parse() -> argparse.Namespace:
    parser = common.argument_parser(__doc__)
    common.add_data(parser)
    common.add_counts(
        parser,
        limit=(1000, "questions, the first ones"),
        repeats=(3, "runs of each"),
        threads=(common.cores(), "threads, and workers; by default all cores"),
    )
    parser.add_argument("--chunks", default="8,32,64", help="sizes of chunks [default: %(default)s]")
    parser.add_argument("--budget", choices=["full", "balanced", "fast"], default="full")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the table, beside standard output")
    parser.add_argument("--peak", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:  # a process of its own, for its memory
        system(args.peak[0], args.threads, args.budget)(Path(args.peak[1]))
        print(common.peak_bytes())
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
    command = [sys.executable, "-m", "benchmarks.speed.batch", "--peak", name, str(path), "--data", args.data]
    command += ["--threads", str(args.threads), "--budget", args.budget]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout)


if __name__ == "__main__":
    main()
