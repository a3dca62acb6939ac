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


def calibrate(
    model: ModelArgument,
    data: Annotated[str, typer.Option(metavar="DATA", help="A SQuAD file, of 2.0 or 1.1, whose questions choose.")],
    titles: Titles = None,
    confirm: Confirm = None,
    confirm_titles: ConfirmTitles = None,
    questions: Annotated[
        int, typer.Option(metavar="N", min=2, help="So many questions with an answer, and as many without.")
    ] = 1000,
    share: Annotated[
        float, typer.Option(metavar="P", help="The share of your questions that has no answer, as far as you know.")
    ] = 0.5,
    budget: console.Budget = "full",
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Another seed, other questions.")] = 0,
    precision: console.PrecisionOption = console.Precision.fp32,
    threads: console.Threads = None,
    install: Annotated[
        bool, typer.Option("--install", help="Put what was found into the MODEL folder, so that answers use it.")
    ] = False,
    as_json: console.AsJson = False,
) -> None:
    """Fit when a model says that a text holds no answer, and how sure it is of the others.

    \b
      dynamic-tinybert calibrate ./my-model --data train-v2.0.json --titles heldout-select.txt \\
          --confirm-titles heldout-confirm.txt --install
      dynamic-tinybert calibrate ./my-model --data my-questions.json --share 0.2 --budget balanced

    With --handle-impossible-answer, and on data of SQuAD 2.0, there is no answer where its logit exceeds that of the
    best span by more than a threshold. The threshold fitted here is the one of the best F1 by the rules of SQuAD 2.0
    on DATA, of whose questions --share have no answer. The confidence is a logistic regression; it takes the place of
    the model's own where its Brier score is lower. Both are measured again on questions that chose nothing, beside
    what the model has had, and beside the threshold that would have been best there, which is an upper bound. Take
    questions that the model was not trained on. Without --confirm or --confirm-titles, the articles of DATA are split
    by a hash of their titles: one half chooses, the other confirms.

    Questions without an answer are those of DATA. A file of 1.1 has none, so they are made of its others: for the
    threshold, half of them asked of the paragraph of their article that is nearest to them and lacks the answer, half
    with a name, a number or a word exchanged; for the confidence, asked of any other paragraph. People's are harder.

    --install writes no_answer and calibration into length_configs.json; the rest of it stays, and `search` keeps both.
    """
    from dynamic_tinybert.evaluation import calibrate as run
    from dynamic_tinybert.evaluation import draw_sample
    from dynamic_tinybert.folder import open_folder
    from dynamic_tinybert.model import parse_budget

    with console.failures():
        folder = open_folder(model)
    spend = parse_budget(budget)
    if not 0 < share < 1:
        raise ValueError(f"--share is between 0 and 1, not {share:g}")
    check_install(install, model, folder)
    parts = read_splits(data, titles, confirm, confirm_titles)
    select, confirming = (draw_sample(part.name, part.data, questions, seed=seed) for part in parts)
    qa = console.load(str(folder.path), precision, threads)
    with progress_bar("answering", "questions") as progress, console.failures():
        found = run(qa, select, confirming, budget=spend, share=share, progress=progress)
    if install:
        from dynamic_tinybert.files import write_whole
        from dynamic_tinybert.model import dump_table

        table = found.store(folder.length_configs, confidence=found.better)
        write_whole(folder.path / LENGTH_CONFIGS, dump_table(table))
    _report(found, folder.path / LENGTH_CONFIGS if install else None, as_json)


def _report(found: Fitted, installed: Path | None, as_json: bool) -> None:
    if as_json:
        console.print_json({**found.to_dict(), "installed": None if installed is None else str(installed)})
        return
    print(f"fitted on {found.fitted_on}")
    print(f"measured on {found.measured_on}, at {found.configuration}")
    print(f"\nno answer where its logit exceeds the best span's by more than {found.threshold:g}")
    print(f"  {'threshold':<28} {'EM':>7} {'F1':>7} {'HasAns F1':>10} {'NoAns F1':>9}")
    for name, figures in (
        (f"{found.threshold:g}", found.figures),
        (f"{found.threshold_before:g}, as before", found.figures_before),
        (f"{found.threshold_at_best:g}, best for these", found.figures_at_best),
    ):
        print(
            f"  {name:<28} {figures['exact_match']:7.2f} {figures['f1']:7.2f} {figures['HasAns_f1']:10.2f} "
            f"{figures['NoAns_f1']:9.2f}"
        )
    print(f"  where {found.share:.0%} of the questions have none; the margin tells both apart with an AUC of "
          f"{found.figures['auc']:.3f}")  # fmt: skip
    c, quality, before = found.calibration, found.quality, found.quality_before
    print(f"\nconfidence: margin {c.margin:g}, log_score {c.log_score:g}, bias {c.bias:g}")
    print(f"  {'':<28} {'Brier':>7} {'expected error':>15} {'right':>7}")
    for name, row in (("fitted", quality), ("as before", before)):
        if row is not None:
            print(f"  {name:<28} {row['brier']:7.4f} {row['expected_error']:15.4f} {row['right']:7.1%}")
    if not found.better:
        print("  the model's own is as good, and stays")
    print(
        f"\ninstalled in {installed}" if installed else f"\nto use it, give --install, or put it into {LENGTH_CONFIGS}"
    )
