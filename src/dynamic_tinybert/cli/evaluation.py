"""The commands `evaluate` and `score`: measure a model, or a file of predictions, on a SQuAD file."""

from __future__ import annotations

import gzip
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dynamic_tinybert.cli import console
from dynamic_tinybert.cli.questions import Titles, read_titled
from dynamic_tinybert.progress import progress_bar

if TYPE_CHECKING:
    from dynamic_tinybert.evaluation import Evaluation

Data = Annotated[str, typer.Argument(metavar="DATA", help="A SQuAD file, .json or .json.gz.")]


def evaluate(
    data: Data,
    titles: Titles = None,
    budget: console.Budget = "full",
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Use only the first N questions.")] = None,
    model: console.Model = "embedded",
    predictions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the answers to this file, in the format of the official script."),
    ] = None,
    na_probs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With SQuAD 2.0 data: write the probabilities of no answer to this file.",
        ),
    ] = None,
    no_answer_threshold: console.NoAnswerThreshold = None,
    as_json: console.AsJson = False,
    precision: console.PrecisionOption = console.Precision.auto,
    threads: console.Threads = None,
) -> None:
    """Answer the questions of a SQuAD file (1.1 or 2.0) and print the official metrics.

    \b
      dynamic-tinybert evaluate dev-v1.1.json --budget 0.5
      dynamic-tinybert evaluate train-v1.1.json --titles heldout-confirm.txt
      dynamic-tinybert evaluate dev-v2.0.json.gz --limit 500 --predictions answers.json --json
      dynamic-tinybert evaluate dev-v2.0.json --predictions answers.json --na-probs na.json --no-answer-threshold 1e9

    SQuAD 2.0 has questions without an answer. The prediction is "no answer" if the no-answer logit exceeds that of the
    best span by more than a threshold: that of the model (`calibrate` fits it) or --no-answer-threshold. The command
    also prints the scores with the best threshold for these same questions, as the oracle. They are an upper bound, not
    a result. With a threshold of 1e9 every question gets an answer; `score` or evaluate-v2.0.py with --na-probs then
    computes the same oracle.
    """
    from dynamic_tinybert.evaluation import evaluate as run
    from dynamic_tinybert.model import parse_budget

    if predictions is not None and na_probs is not None and predictions.resolve() == na_probs.resolve():
        console.fail("--predictions and --na-probs name the same file: give each its own", misuse=True)
    spend = parse_budget(budget)
    questions = read_titled(data, titles)
    questions = replace(questions, questions=questions.questions[:limit])
    inputs = [Path(data), *([] if titles is None else [titles])]
    for result_file in filter(None, (predictions, na_probs)):
        console.check_writable(result_file, *inputs)
    given = {"--na-probs": na_probs, "--no-answer-threshold": no_answer_threshold}
    for name in (name for name, value in given.items() if value is not None and questions.version == "1.1"):
        raise ValueError(f"{name} needs SQuAD 2.0 data: in {data} every question has an answer")
    qa = console.load(model, precision, threads)
    with progress_bar("answering", "questions") as progress, console.failures():
        result = run(qa, questions, budget=spend, no_answer_threshold=no_answer_threshold, progress=progress)
    try:  # neither is lost if the other cannot be written
        _print_evaluation(result, as_json)
        sys.stdout.flush()
    finally:
        for path, values in ((predictions, result.predictions), (na_probs, result.na_probs)):
            if path is not None:
                content = json.dumps(values).encode()
                console.write_result(path, gzip.compress(content) if path.suffix == ".gz" else content)


def _print_evaluation(result: Evaluation, as_json: bool) -> None:
    if as_json:
        console.print_json(result.to_dict())
        return
    _print_scores(result.scores.to_dict())
    print(f"macs_share   {result.macs_share:.4f}   ({result.configuration})")
    print(f"speedup      {result.speedup:.2f}x over BERT-base, in multiply-accumulates on the same windows")
    print(f"seconds      {result.seconds:.1f}")
    if result.no_answer_threshold is not None:
        print(
            f"threshold    {result.no_answer_threshold:g}   (no answer if its logit is this much above the best span's)"
        )
    for name, (value, threshold) in (result.oracle or {}).items():
        at = "always none" if threshold is None else f"at {threshold:g}"
        print(f"oracle_{name:<5} {value:.3f}   ({at}: the best threshold for these same questions)")


def score(
    data: Data,
    predictions: Annotated[
        str, typer.Argument(metavar="PREDICTIONS", help="A JSON object of question ids and answers, .json or .json.gz.")
    ],
    titles: Titles = None,
    na_probs: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="With SQuAD 2.0 data: a JSON object of question ids and probabilities of no answer. Adds the best "
            "figures that a threshold on them gives.",
        ),
    ] = None,
    na_prob_thresh: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="With --na-probs: above this probability, the answer is empty.  [default: 1.0]",
        ),
    ] = None,
    as_json: console.AsJson = False,
) -> None:
    """Score a file of predictions with the official metric of its data set, SQuAD 1.1 or 2.0.

    \b
      dynamic-tinybert score dev-v1.1.json predictions.json
      dynamic-tinybert score dev-v2.0.json predictions.json --na-probs na_probs.json

    With --na-probs it prints best_exact and best_f1 and their thresholds, as evaluate-v2.0.py does. These thresholds
    are chosen on the same questions that they are measured on, so the scores are upper bounds, not results.
    """
    from dynamic_tinybert.squad import read_na_probs, read_predictions
    from dynamic_tinybert.squad import score as run

    if na_prob_thresh is not None and na_probs is None:
        console.fail("--na-prob-thresh needs --na-probs", misuse=True)
    if na_prob_thresh is not None and math.isnan(na_prob_thresh):
        console.fail("--na-prob-thresh must be a number, not nan", misuse=True)

    scores = run(
        read_titled(data, titles),
        read_predictions(predictions),
        na_probs=None if na_probs is None else read_na_probs(na_probs),
        na_prob_thresh=1.0 if na_prob_thresh is None else na_prob_thresh,
    )
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
        exact = ".6g" if name.endswith("_thresh") else ".3f"
        print(f"{name:<12} {value:{exact}}" if isinstance(value, float) else f"{name:<12} {value}")
