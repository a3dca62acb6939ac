"""The command `batch`: answer a file of questions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from dynamic_tinybert.cli import console
from dynamic_tinybert.files import processors
from dynamic_tinybert.progress import progress_bar

if TYPE_CHECKING:
    from dynamic_tinybert.batch import Summary


def batch(
    questions: Annotated[
        str,
        typer.Argument(
            metavar="QUESTIONS", help="A JSON Lines file: one object with a question per line; - is standard input."
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            metavar="FILE", help="The file for the answers: one line per question, in order; - is standard output."
        ),
    ],
    index: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Answer from this index. Without it, each question comes with its own text."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue after the answers that are already in FILE.")
    ] = False,
    top_k: Annotated[int, typer.Option(metavar="N", min=1, help="How many answers to give.")] = 1,
    budget: console.Budget = "full",
    max_latency_ms: Annotated[
        float | None, typer.Option(metavar="MS", help="With --index: the time limit for an answer, in milliseconds.")
    ] = None,
    model: console.Model = "embedded",
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=1024, help="The number of threads.  [default: one per core]"),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Answer on this Ray cluster; --workers is then the number of its processes."
        ),
    ] = None,
    precision: console.PrecisionOption = console.Precision.auto,
) -> None:
    """Answer a file of questions on all cores, and write the answers in order as they become ready.

    \b
      dynamic-tinybert batch questions.jsonl --out answers.jsonl
      dynamic-tinybert batch questions.jsonl --out answers.jsonl --resume
      dynamic-tinybert batch questions.jsonl --index my-index --out answers.jsonl --budget balanced --top-k 3

    Each line of QUESTIONS is a JSON object: a question, its text (or context; with --index it is ignored), and
    optionally an id. The default id is the number of the line.

    \b
      {"id": "q1", "question": "Where is the tower?", "text": "The tower stands in Paris."}

    FILE has one line per question, in the same order: the id, the question if it has no id, a digest, and the fields
    that `ask --json` prints. With --top-k above 1, each line has a list of answers under "answers". If a line is not
    valid or a question cannot be answered, its line in FILE has the id and an "error", the other questions are still
    answered, and the exit status is 1.

    With --ray the machines of a Ray cluster answer, and FILE is the same. Run the command on one of these machines.
    ADDRESS is HOST:PORT, auto, or local for this machine only. QUESTIONS and FILE are on this machine; the model and
    the index must be on each machine, under the same path. If a machine is lost, its questions are answered by others.

    \b
      dynamic-tinybert batch questions.jsonl --out answers.jsonl --ray auto

    In a pipe, - stands for standard input or output; standard output cannot be resumed. Answers come in groups: this is
    no dialogue.

    \b
      cat questions.jsonl | dynamic-tinybert batch - --out - | jq .text

    After an interruption, run the same command with --resume to continue. No question is lost and none is written
    twice. Each line has a digest of its question, its text and the options; --resume refuses others.
    """
    from dynamic_tinybert.model import parse_budget

    spend = parse_budget(budget)
    if max_latency_ms is not None and index is None:
        raise ValueError("--max-latency-ms needs --index: a text given with its question is always read whole")
    if max_latency_ms is not None and not max_latency_ms > 0:
        raise ValueError(f"--max-latency-ms must be a number above 0, not {max_latency_ms:g}")
    from dynamic_tinybert.batch import Setup, answer_file

    setup = Setup(
        model=model,
        precision=precision.value,
        budget=spend,
        top_k=top_k,
        index=index,
        max_latency_ms=max_latency_ms,
        revision=console.revision(),
    )
    run: Callable[..., Summary]
    if ray is None:
        qa = console.load(model, precision, 1)
        answer = setup.answering(qa)
        run = partial(
            answer_file,
            answer=answer,
            workers=workers or processors(),
            chunk=setup.chunk,
            needs_text=setup.needs_text,
            options=setup.described,
        )
    else:
        if given := console.model_options():
            raise ValueError(f"{given[0]} is not for --ray: name a folder that is on each machine")
        from dynamic_tinybert.batch.on_ray import answer_file_on_ray

        run = partial(answer_file_on_ray, setup=setup, address=ray, workers=workers)
    source = console.standard_input() if questions == "-" else Path(questions)
    target = console.standard_output() if out == "-" else Path(out)
    try:
        with progress_bar("answering", "bytes") as progress:
            summary = run(source, target, resume=resume, progress=progress)
    except KeyboardInterrupt:
        console.complain("interrupted", _hint(source, target))
        console.end_now(130)
    _report(summary, "the output" if out == "-" else out)


def _hint(questions: Path | BinaryIO, out: Path | BinaryIO) -> str:
    """Say how an interrupted run is continued."""
    if not isinstance(out, Path):
        return "the last lines may be missing; a run with --out FILE can be resumed"
    again = "the same command" if isinstance(questions, Path) else "the same command on the same questions"
    return f"run {again} with --resume to continue; answers are in {out}"


def _report(summary: Summary, out: str) -> None:
    """Print the summary on standard error, and exit with status 1 if a question failed."""
    failed = summary.failed + summary.failed_before
    there = f", {summary.skipped:,} already done" if summary.skipped else ""
    why = f"; {failed:,} failed in all: see their lines in {out}" if failed else ""
    print(
        f"dynamic-tinybert: {summary.answered:,} answered, {summary.failed:,} failed{there}, in "
        f"{summary.seconds:.1f} s{why}",
        file=sys.stderr,
    )
    if failed:
        raise typer.Exit(1)
