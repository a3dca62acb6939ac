"""The command `calibrate`: fit the no-answer threshold and the confidence of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dynamic_tinybert.cli import console
from dynamic_tinybert.cli.model import ModelArgument
from dynamic_tinybert.cli.questions import (
    LENGTH_CONFIGS,
    Confirm,
    ConfirmTitles,
    Titles,
    check_install,
    read_splits,
)
from dynamic_tinybert.progress import progress_bar

if TYPE_CHECKING:
    from pathlib import Path

    from dynamic_tinybert.evaluation import Fitted

_FEW = 200  # questions, from which a threshold and three coefficients are fitted


def calibrate(
    model: ModelArgument,
    data: Annotated[str, typer.Option(metavar="DATA", help="A SQuAD file (2.0 or 1.1) to fit on.")],
    titles: Titles = None,
    confirm: Confirm = None,
    confirm_titles: ConfirmTitles = None,
    questions: Annotated[
        int, typer.Option(metavar="N", min=2, help="Use this many questions with an answer, and as many without.")
    ] = 1000,
    share: Annotated[
        float, typer.Option(metavar="P", help="The share of questions without an answer that `squad2` is made for.")
    ] = 0.5,
    reject: Annotated[
        float, typer.Option(metavar="P", help="The share of questions with an answer that the threshold may reject.")
    ] = 0.03,
    budget: console.Budget = "full",
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="The seed of the choice of questions.")] = 0,
    precision: console.PrecisionOption = console.Precision.auto,
    threads: console.Threads = None,
    install: Annotated[
        bool, typer.Option("--install", help="Write the result into the MODEL folder, so that answers use it.")
    ] = False,
    as_json: console.AsJson = False,
) -> None:
    """Fit the no-answer thresholds of a model, and the confidence of its answers.

    \b
      dynamic-tinybert calibrate ./my-model --data train-v2.0.json --titles heldout-select.txt \\
          --confirm-titles heldout-confirm.txt --install
      dynamic-tinybert calibrate ./my-model --data my-questions.json --reject 0.01 --budget balanced

    With --handle-impossible-answer, the answer is "no answer" if the no-answer logit exceeds that of the best span by
    more than a threshold. This command fits two. The default rejects at most --reject of the questions of DATA that
    have an answer. The other, `squad2`, has the best F1 of SQuAD 2.0, weighted so that --share of the questions have no
    answer; `evaluate` uses it on SQuAD 2.0 data. The confidence is a logistic regression; it replaces
    the model's own if its Brier score is lower than before. Both are measured on the confirm questions, beside the
    model's own and beside the best threshold for these same questions, which is an upper bound. Use questions that the
    model was not trained on. Without --confirm and --confirm-titles, the articles of DATA are split in two halves by a
    hash of their titles: one to fit, one to confirm.

    Questions without an answer come from DATA. A file of SQuAD 1.1 has none, so they are made from its other questions.
    For the threshold, half of them are asked of the most similar paragraph of their article without the answer, and
    half have a name, a number or a word exchanged; for the confidence, they are asked of any other paragraph. Questions
    that people write are harder.

    --install writes no_answer and calibration into length_configs.json and changes nothing else there; `search` keeps
    both.
    """
    from dynamic_tinybert.evaluation import calibrate as run
    from dynamic_tinybert.evaluation import draw_sample
    from dynamic_tinybert.model import parse_budget

    with console.failures():
        folder = console.open_model(model)
    spend = parse_budget(budget)
    if not 0 < share < 1:
        raise ValueError(f"--share must be between 0 and 1, not {share:g}")
    if not 0 <= reject < 1:
        raise ValueError(f"--reject must be at least 0 and below 1, not {reject:g}")
    check_install(install, model, folder)
    parts = read_splits(data, titles, confirm, confirm_titles)
    select, confirming = (draw_sample(part.name, part.data, questions, seed=seed) for part in parts)
    qa = console.load(folder, precision, threads)
    with progress_bar("answering", "questions") as progress, console.failures():
        found = run(qa, select, confirming, budget=spend, share=share, reject=reject, progress=progress)
    if install:
        from dynamic_tinybert.files import write_whole
        from dynamic_tinybert.model import dump_table

        table = found.store(folder.read_length_configs(), confidence=found.better)
        write_whole(folder.path / LENGTH_CONFIGS, dump_table(table))
    if len(select.answerable) < _FEW:
        console.complain("warning", f"{len(select.answerable):,} questions are few to fit to: give {_FEW} or more")
    _report(found, folder.path / LENGTH_CONFIGS if install else None, as_json)


def _report(found: Fitted, installed: Path | None, as_json: bool) -> None:
    if as_json:
        console.print_json({**found.to_dict(), "installed": None if installed is None else str(installed)})
        return
    print(f"fitted on {found.fitted_on}")
    print(f"measured on {found.measured_on}, at {found.configuration}")
    print(f"\nno answer if the no-answer logit is more than {found.threshold:g} above the best span's")
    print(f"  rejects {found.rejected:.1%} of the questions with an answer, catches {found.caught:.1%} of the others")
    print(f"\nsquad2: the best F1 where {found.share:.0%} of the questions have no answer")
    print(f"  {'threshold':<28} {'EM':>7} {'F1':>7} {'HasAns F1':>10} {'NoAns F1':>9}")
    for name, figures in (
        (f"{found.squad2:g}", found.figures),
        (f"{found.threshold_before:g}, as before", found.figures_before),
        (f"{found.threshold_at_best:g}, best for these", found.figures_at_best),
    ):
        print(
            f"  {name:<28} {figures['exact_match']:7.2f} {figures['f1']:7.2f} {figures['HasAns_f1']:10.2f} "
            f"{figures['NoAns_f1']:9.2f}"
        )
    print(f"  the margin tells both kinds of questions apart with an AUC of {found.figures['auc']:.3f}")
    c, quality, before = found.calibration, found.quality, found.quality_before
    print(f"\nconfidence: margin {c.margin:g}, log_score {c.log_score:g}, bias {c.bias:g}")
    print(f"  {'':<28} {'Brier':>7} {'expected error':>15} {'right':>7}")
    for name, row in (("fitted", quality), ("as before", before)):
        if row is not None:
            print(f"  {name:<28} {row['brier']:7.4f} {row['expected_error']:15.4f} {row['right']:7.1%}")
    if not found.better:
        print("  not better than the model's own, which stays")
    print(
        f"\ninstalled in {installed}" if installed else f"\nto use it, give --install, or put it into {LENGTH_CONFIGS}"
    )
