"""The command `batch`: answer a file of questions."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dynamic_tinybert.cli import console
from dynamic_tinybert.progress import progress_bar

if TYPE_CHECKING:
    from dynamic_tinybert.batch import Summary


def batch(
    questions: Annotated[
        Path, typer.Argument(metavar="QUESTIONS", help="A file of JSON Lines: an object with a question on each.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the answers go, one line each, in order.")],
    index: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Answer from this index; without it each question brings its own text."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the answers that are in FILE, however that run ended.")
    ] = False,
    top_k: Annotated[int, typer.Option(metavar="N", min=1, help="How many answers to give.")] = 1,
    budget: console.Budget = "full",
    max_latency_ms: Annotated[
        float | None, typer.Option(metavar="MS", help="Milliseconds that an answer may take, with --index.")
    ] = None,
    model: console.Model = "embedded",
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=1024, help="Threads that answer.  [default: one for each core]"),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Answer on this Ray cluster; --workers are then its processes."),
    ] = None,
    precision: console.PrecisionOption = console.Precision.fp32,
) -> None:
    """Answer a file of questions, on all cores, and write the answers as they come.

    \b
      dynamic-tinybert batch questions.jsonl --out answers.jsonl
      dynamic-tinybert batch questions.jsonl --out answers.jsonl --resume
      dynamic-tinybert batch questions.jsonl --index my-index --out answers.jsonl --budget balanced --top-k 3

    QUESTIONS has a JSON object on each line: the question; its text, or context, which is left aside with --index; and
    perhaps an id, by default the line's number:

    \b
      {"id": "q1", "question": "Where is the tower?", "text": "The tower stands in Paris."}

    FILE gets a line for each, in the same order, with its id (and the question, if it has no id of its own) and what
    `ask --json` prints; with --top-k above 1, a list
    of that under "answers". For a line that holds no question, or a question that cannot be answered, it has the id and
    an "error"; the others are answered, and the exit status is 1.

    With --ray the machines of a Ray cluster answer, and FILE is the same. The command runs on one of them; ADDRESS is
    HOST:PORT or auto, or local for this machine alone. QUESTIONS and FILE lie here; the model and the index must be on
    each machine under the same path. A machine that is lost loses no question.

    \b
      dynamic-tinybert batch questions.jsonl --out answers.jsonl --ray auto

    After an interruption or a kill the same command with --resume goes on: no question is lost, and none is written
    twice. Give it the same options: the answers do not say which made them.
    """
    from dynamic_tinybert.model import parse_budget

    spend = parse_budget(budget)
    if max_latency_ms is not None and index is None:
        raise ValueError("--max-latency-ms goes with --index: a text of a question's own is read whole")
    if max_latency_ms is not None and not max_latency_ms > 0:
        raise ValueError(f"--max-latency-ms is a number above 0, not {max_latency_ms:g}")
    from dynamic_tinybert.batch import Setup, answer_file

    setup = Setup(
        model=model,
        precision=precision.value,
        budget=spend,
        top_k=top_k,
        index=index,
        max_latency_ms=max_latency_ms,
    )
    run: Callable[..., Summary]
    if ray is None:
        qa = console.load(model, precision, 1)
        answer = setup.answering(qa)
        chunk, needs_text = setup.chunk, setup.needs_text
        run = partial(answer_file, answer=answer, workers=workers or _cores(), chunk=chunk, needs_text=needs_text)
    else:
        from dynamic_tinybert.batch.on_ray import answer_file_on_ray

        run = partial(answer_file_on_ray, setup=setup, address=ray, workers=workers)
    with console.resumable(f"answers are in {out}"), progress_bar("answering", "bytes") as progress:
        summary = run(questions, out, resume=resume, progress=progress)
    _report(summary, out)


def _report(summary: Summary, out: Path) -> None:
    """Print the summary on standard error, and exit with status 1 if a question failed."""
    failed = summary.failed + summary.failed_before
    there = f", {summary.skipped:,} there before" if summary.skipped else ""
    why = f"; of all, {failed:,} failed, and their lines in {out} say why" if failed else ""
    print(
        f"dynamic-tinybert: {summary.answered:,} answered, {summary.failed:,} failed{there}, in "
        f"{summary.seconds:.1f} s{why}",
        file=sys.stderr,
    )
    if failed:
        raise typer.Exit(1)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
