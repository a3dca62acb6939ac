"""`evaluate` and `score`: how good a model, or a file of predictions, is on a SQuAD file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Annotated

import typer

from dynamic_tinybert.cli import console

Data = Annotated[str, typer.Argument(metavar="DATA", help="A SQuAD file, .json or .json.gz.")]


def evaluate(
    data: Data,
    budget: console.Budget = "full",
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the first so many questions.")] = None,
    model: console.Model = "embedded",
    predictions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the answers here, as the official script reads them.")
    ] = None,
    as_json: console.AsJson = False,
    precision: console.PrecisionOption = console.Precision.fp32,
    threads: console.Threads = None,
) -> None:
    """Answer the questions of a SQuAD file (1.1 or 2.0) and print the official metrics.

    \b
      dynamic-tinybert evaluate dev-v1.1.json --budget 0.5
      dynamic-tinybert evaluate dev-v2.0.json.gz --limit 500 --predictions answers.json --json
    """
    from dynamic_tinybert.budget import parse_budget
    from dynamic_tinybert.evaluate import evaluate as run
    from dynamic_tinybert.squad import read_squad

    with console.errors_in_one_line():
        spend = parse_budget(budget)
        questions = read_squad(data, limit=limit)
        if predictions is not None:
            console.check_writable(predictions, but_not=Path(data))
        qa = console.load(model, precision, threads)
        with console.progress_bar("answering", "questions") as progress, console.errors_of_the_model():
            result = run(qa, questions, budget=spend, progress=progress)
        if predictions is not None:
            content = json.dumps(result.predictions).encode()
            console.write_result(predictions, gzip.compress(content) if predictions.suffix == ".gz" else content)
    if as_json:
        console.print_json(result.to_dict())
        return
    _print_scores(result.scores.to_dict())
    print(f"macs_share   {result.macs_share:.4f}   ({result.configuration})")
    print(f"speedup      {result.speedup:.2f}x over BERT-base, in multiply-accumulates on the same windows")
    print(f"seconds      {result.seconds:.1f}")


def score(
    data: Data,
    predictions: Annotated[
        str, typer.Argument(metavar="PREDICTIONS", help="A JSON object of question ids and answers, .json or .json.gz.")
    ],
    as_json: console.AsJson = False,
) -> None:
    """Score a file of predictions by the official metric of its data set, SQuAD 1.1 or 2.0.

    \b
      dynamic-tinybert score dev-v1.1.json predictions.json
    """
    from dynamic_tinybert.squad import read_predictions, read_squad
    from dynamic_tinybert.squad import score as run

    with console.errors_in_one_line():
        scores = run(read_squad(data), read_predictions(predictions))
    if scores.missing:
        console.complain(
            "warning", f"{scores.missing} of {scores.total} questions have no prediction, and count as wrong"
        )
    if as_json:
        console.print_json(scores.to_dict())
    else:
        _print_scores(scores.to_dict())


def _print_scores(scores: dict[str, float | int]) -> None:
    for name, value in scores.items():
        print(f"{name:<12} {value:.3f}" if isinstance(value, float) else f"{name:<12} {value}")
