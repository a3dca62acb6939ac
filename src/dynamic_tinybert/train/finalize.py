"""Finish a run after training: figures, a first table of configurations, calibration, and the model folder."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from dynamic_tinybert.evaluation import calibrate, draw_sample
from dynamic_tinybert.files import write_whole
from dynamic_tinybert.folder import CARD, LENGTH_CONFIGS, TOKENIZER, TOKENIZER_FILES
from dynamic_tinybert.inference import TextTokenizer
from dynamic_tinybert.model import CalibrationError, ConfigTable, LengthConfig, dump_table, share, table_row
from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.squad import Scores, SquadFile
from dynamic_tinybert.train.errors import TrainingError
from dynamic_tinybert.train.evaluation import evaluate_at
from dynamic_tinybert.train.preflight import Sets
from dynamic_tinybert.train.progress import Reporter
from dynamic_tinybert.train.recipe import Recipe

_UNIFORM = (0.95, 0.9, 0.8, 0.7)  # retentions in the table before a search
_CALIBRATED_ON = 1000  # questions with an answer, and as many without


def measure_finished(
    qa: QuestionAnswerer, recipe: Recipe, sets: Sets, output: Path, reporter: Reporter
) -> dict[str, dict[str, float]]:
    """Measure a finished model at `full` on `confirm`, and on `dev` if the recipe names it.

    The predictions are written into `output`.

    Returns:
        Name of the data -> name of the figure -> figure: `exact_match`, `f1`, `total` and the others of `Scores`.
    """
    figures: dict[str, dict[str, float]] = {}
    for name, data in (("confirm", sets.confirm), ("dev", sets.dev)):
        if data is None:
            continue
        scores, predictions = _measure(qa, data, recipe, LengthConfig.full(qa.shape.layers), name, reporter)
        figures[name] = {key: float(value) for key, value in scores.to_dict().items()}
        packed = gzip.compress(json.dumps(predictions, ensure_ascii=False).encode(), mtime=0)
        write_whole(output / f"predictions-{name}.json.gz", packed)
        reporter.say(f"{name}: EM {scores.exact_match:.2f} F1 {scores.f1:.2f}")
    return figures


def first_table(
    qa: QuestionAnswerer, recipe: Recipe, sets: Sets, full: Mapping[str, float], reporter: Reporter
) -> dict[str, Any]:
    """Make the table of a model before a search: `full` and uniform configurations, measured on `confirm`.

    If the training data have questions without an answer, the table also holds a calibration and a no-answer threshold.

    Args:
        qa: The model.
        recipe: The recipe.
        sets: The data.
        full: The figures of `measure_finished` on `confirm`.
        reporter: Reports progress.

    Returns:
        The content of `length_configs.json`.
    """
    rows = [("full", LengthConfig.full(qa.shape.layers), full["exact_match"], full["f1"])]
    for retention in _UNIFORM:
        config = LengthConfig.uniform(qa.shape.layers, retention)
        scores, _ = _measure(qa, sets.confirm, recipe, config, f"confirm at a retention of {retention}", reporter)
        rows.append((f"uniform-{retention:g}", config, scores.exact_match, scores.f1))
        cost = share(qa.shape, config)
        reporter.say(f"confirm at a retention of {retention}, share {cost:.2f}: F1 {scores.f1:.2f}")
    table: dict[str, Any] = {
        "measured_on": f"SQuAD {sets.confirm.version}, {int(full['total']):,} questions of confirm; not searched",
        "configs": [
            table_row(name, config, share(qa.shape, config), exact_match, f1) for name, config, exact_match, f1 in rows
        ],
    }
    if recipe.data.without_answer or sets.unanswerable:
        table = _calibrated(qa, recipe, sets, table, reporter)
    ConfigTable.read(qa.shape, table)
    return table


def write_model(
    model: Any, tokenizer: str | Path, folder: Path, *, card: str | None = None, table: Mapping[str, Any] | None = None
) -> None:
    """Write a model folder under a temporary name, then rename it, so that `folder` is always complete.

    Args:
        model: A model of transformers.
        tokenizer: The folder of its tokenizer, or its name on the Hub.
        folder: The folder to write; an existing one is replaced.
        card: The model card.
        table: The content of `length_configs.json`.

    Raises:
        OSError, SafetensorError: The folder cannot be written.
    """
    draft = folder.with_name(f".{folder.name}-draft")
    shutil.rmtree(draft, ignore_errors=True)
    model.save_pretrained(draft)
    copy_tokenizer(tokenizer, draft)
    if card is not None:
        (draft / CARD).write_text(card, "utf-8")
    if table is not None:
        (draft / LENGTH_CONFIGS).write_bytes(dump_table(table))
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


def copy_tokenizer(source: str | Path, folder: Path) -> None:
    """Copy a model's tokenizer into a folder.

    Raises:
        TrainingError: The model folder has no tokenizer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if Path(source).is_dir():
        found = [Path(source) / name for name in TOKENIZER_FILES if (Path(source) / name).is_file()]
        if not found:
            raise TrainingError(f"{source} has no tokenizer: neither tokenizer.json nor vocab.txt")
        for file in found:
            shutil.copyfile(file, folder / file.name)
        return
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(source).save_pretrained(folder)


def one_separator(folder: Path) -> None:
    """Make a tokenizer put one special token between question and text, as training features have it.

    Args:
        folder: The folder of the tokenizer. It is changed if the tokenizer puts two tokens, as MPNet's does.

    Raises:
        TrainingError: The tokenizer cannot be read.
    """
    file = folder / TOKENIZER
    try:
        made = TextTokenizer(folder)
        if len(made.between) == 1 and file.is_file():
            return
        from transformers import AutoTokenizer

        whole = Tokenizer.from_file(str(file)) if file.is_file() else AutoTokenizer.from_pretrained(folder)
        tokenizer = whole if isinstance(whole, Tokenizer) else whole.backend_tokenizer
    except Exception as error:  # transformers and tokenizers pass on errors of any type
        raise TrainingError(f"the tokenizer of {folder} cannot be read: {error}") from None
    cls, sep = (tokenizer.id_to_token(index) for index in (made.cls, made.sep))
    tokenizer.post_processor = TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(cls, made.cls), (sep, made.sep)],
    )
    write_whole(file, tokenizer.to_str().encode())


def write_curve(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write the log as `curve.csv`, and as `curve.png` if matplotlib is installed."""
    rows = [row for row in history if "loss" in row or "eval_f1" in row]
    columns = list(dict.fromkeys(["step", "epoch", "loss", "learning_rate", *(key for row in rows for key in row)]))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(folder / "curve.csv", text.getvalue().encode())
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    losses, seen = ([row for row in rows if key in row] for key in ("loss", "eval_f1"))
    axes.plot([row["step"] for row in losses], [row["loss"] for row in losses], color="tab:blue")
    axes.set(xlabel="step", ylabel="loss", title=folder.name)
    other = axes.twinx()
    other.plot([row["step"] for row in seen], [row["eval_f1"] for row in seen], "o--", color="tab:orange")
    other.set_ylabel("F1 on select, % (orange)")
    figure.savefig(folder / "curve.png", dpi=120)


def _measure(
    qa: QuestionAnswerer, data: SquadFile, recipe: Recipe, config: LengthConfig, what: str, reporter: Reporter
) -> tuple[Scores, dict[str, str]]:
    asked = replace(data, questions=data.questions[: recipe.data.report_limit])
    with reporter.bar(f"measuring on {what}") as bar:
        result = evaluate_at(qa, asked, config, progress=lambda done, total: bar.update(done / total))
    return result.scores, result.predictions


def _calibrated(
    qa: QuestionAnswerer, recipe: Recipe, sets: Sets, table: dict[str, Any], reporter: Reporter
) -> dict[str, Any]:
    """Return the table with calibration and no-answer threshold, or unchanged if there are too few data."""
    number = min(recipe.data.report_limit or _CALIBRATED_ON, _CALIBRATED_ON)
    try:
        select, confirm = (
            draw_sample(name, data, number) for name, data in (("select", sets.select), ("confirm", sets.confirm))
        )
        with reporter.bar("calibrating") as bar:
            found = calibrate(qa, select, confirm, progress=lambda done, total: bar.update(done / total))
    except CalibrationError as error:
        reporter.say(f"not calibrated: {error}")
        return table
    quality, figures = found.quality, found.figures
    reporter.say(
        f"confidence: Brier {quality['brier']:.3f}, expected error {quality['expected_error']:.3f} on confirm; "
        f"no answer: threshold {found.threshold:g}, F1 {figures['f1']:.2f} where half of the questions have none"
    )
    return found.store(table)
