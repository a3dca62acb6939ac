"""Write the model card of a training run."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from dynamic_tinybert.folder import called, is_hub_name
from dynamic_tinybert.model import ModelShape
from dynamic_tinybert.publish import PREJUDICES, SPANS_ONLY, card_evaluation, card_metadata, compose_card
from dynamic_tinybert.squad import Version
from dynamic_tinybert.train.output import StageResult
from dynamic_tinybert.train.recipe import Recipe, dump_recipe, first_teacher
from dynamic_tinybert.train.settings import LengthDropStage, LogitsStage, Stage

_LIMITS = f"""\
## Intended use

Finding a fact that a given English text states, in prose like an encyclopedia's: asked a question about a text, the
model gives the span of the text that answers. A person who relies on an answer should see the passage it is from.

## Limits, bias, and what it is not for

{SPANS_ONLY}- {{impossible}}
- It was trained on questions about English Wikipedia articles, by people who had the paragraph in front of them. Other
  languages, speech, tables, code, legal or medical text are outside of what it was trained and measured on.
- {{dropping}}
{PREJUDICES.format(sources="the web text behind its base model, of Wikipedia")}"""
_DATASETS: Mapping[Version, str] = {"1.1": "rajpurkar/squad", "2.0": "rajpurkar/squad_v2"}
_PUBLISHED: Mapping[Version, str] = {
    "1.1": "SQuAD 1.1 (Rajpurkar et al., 2016)",
    "2.0": "SQuAD 2.0 (Rajpurkar et al., 2018)",
}
_NEVER_IMPOSSIBLE = (
    "It answers even when the text holds no answer: it has seen no question without one, and its confidence is not "
    "calibrated."
)
_IMPOSSIBLE = (
    "It has seen questions whose text holds no answer, made by asking a question of another paragraph of its article; "
    "real ones are harder."
)
_CALIBRATED = "Its confidence was calibrated on such questions, and elsewhere is a hint."
_NOT_CALIBRATED = "Its answers have no confidence: `dynamic-tinybert calibrate` gives them one."
_WRITTEN = (
    "It has seen questions whose text holds no answer, written by people for SQuAD 2.0's paragraphs. How often it says "
    "so on other texts is not known: `dynamic-tinybert calibrate` finds a threshold on yours."
)
_NO_DROPPING = (
    "It was not trained for dropping tokens: below a share of about 0.8 of the multiply-accumulates, expect it to be "
    "wrong much more often (`length_configs.json` has what was measured)."
)
_NOT_MEASURED = "What a smaller budget costs was not measured: it was not trained for dropping tokens."
_DROPPING = (
    "What a smaller budget costs was measured on the data that `length_configs.json` names, and may differ on yours."
)


def model_card(
    recipe: Recipe,
    shape: ModelShape,
    stages: Sequence[StageResult],
    figures: Mapping[str, Mapping[str, float]],
    *,
    features: int,
    version: Version = "1.1",
    unanswerable: bool = False,
    table: Mapping[str, Any] | None = None,
    family: str = "bert",
) -> str:
    """Write a model card with `model-index` metadata.

    Args:
        recipe: The recipe.
        shape: The shape of the model.
        stages: The results of the stages.
        figures: Name of the data -> `exact_match`, `f1`, `total`, measured at `full`.
        features: The number of windows in the training data.
        version: The version of the SQuAD file of the training data.
        unanswerable: Whether some questions of that file have no answer.
        table: The content of `length_configs.json`, or None if the folder has none.
        family: The architecture: `model_type` of `config.json`.
    """
    base = _base(recipe)
    dropping = any(isinstance(stage, LengthDropStage) for stage in recipe.stages)
    measured = ["| data | questions | EM | F1 |", "| --- | --- | --- | --- |"]
    measured += [
        f"| {data} | {int(x['total']):,} | {x['exact_match']:.2f} | {x['f1']:.2f} |" for data, x in figures.items()
    ]
    done = ["| stage | steps | epochs | F1 on select, kept weights |", "| --- | --- | --- | --- |"]
    done += [
        f"| {s.name} | {s.steps:,} | {s.epochs:.2f} | {s.figures.get('full_f1', 0):.2f} |"
        for s in stages
        if isinstance(s.stage, Stage)
    ]
    limits = _LIMITS.format(
        impossible=_impossible(recipe, unanswerable=unanswerable, calibrated="calibration" in (table or {})),
        dropping=(_DROPPING if dropping else _NO_DROPPING) if table else _NOT_MEASURED,
    )
    made = (
        f"Python {platform.python_version()}, PyTorch {torch.__version__}, transformers {transformers.__version__}, "
        f"{torch.cuda.get_device_name() if torch.cuda.is_available() else f'CPU, {torch.get_num_threads()} threads'}"
    )
    lines = [
        f"# {recipe.name}",
        "",
        *([recipe.description.strip(), ""] if recipe.description.strip() else []),
        f"Extractive question answering: {shape.layers} layers, hidden {shape.hidden}, {shape.heads} heads, "
        f"feed-forward {shape.feed_forward}. Made by `dynamic-tinybert train` on {datetime.date.today()} ({made}).",
        "",
        "## Figures",
        "",
        "At full, windows of 384 tokens with an overlap of 128, answers of at most 30 tokens. Nothing was chosen by "
        "these data.",
        "",
        *measured,
        "",
        "## How it was trained",
        "",
        f"From {base}, on {features:,} windows of SQuAD {version}'s train questions, without the articles held out as "
        "select and confirm.",
        "",
        *done,
        "",
        *_stored(stages),
        "The recipe, with every hyperparameter:",
        "",
        "```yaml",
        dump_recipe(_without_folders(recipe)).rstrip(),
        "```",
        "",
        limits,
        "## Licence",
        "",
        f"{recipe.license}. The training data, {_PUBLISHED[version]}, is under CC BY-SA 4.0, and its paragraphs are "
        "from Wikipedia.",
        "",
    ]
    return compose_card(_metadata(recipe, figures, base, version, family), "\n".join(lines))


def _impossible(recipe: Recipe, *, unanswerable: bool, calibrated: bool) -> str:
    """Return what the card says of texts that hold no answer."""
    if unanswerable:
        return _WRITTEN
    if not recipe.data.without_answer:
        return _NEVER_IMPOSSIBLE
    return f"{_IMPOSSIBLE} {_CALIBRATED if calibrated else _NOT_CALIBRATED}"


def _base(recipe: Recipe) -> str:
    """Return the model that the recipe's began as: a checkpoint, the teacher whose layers it has, or a base model."""
    return called((recipe.student and recipe.student.checkpoint) or str(first_teacher(recipe)))


def _metadata(
    recipe: Recipe, figures: Mapping[str, Mapping[str, float]], base: str, version: Version, family: str
) -> dict[str, Any]:
    results = [
        card_evaluation(
            {"type": _DATASETS[version], "name": f"SQuAD, {data}", "split": _split(recipe, data, version)},
            found["exact_match"],
            found["f1"],
        )
        for data, found in figures.items()
    ]
    head: dict[str, Any] = {
        "license": recipe.license,
        "language": "en",
        "datasets": [_DATASETS[version]],
        **card_metadata(recipe.name, results, family=family),
    }
    if is_hub_name(base):
        head["base_model"] = base
    return head


def _split(recipe: Recipe, data: str, version: Version) -> str:
    """Return the Hub's name of the split that data are; the run's own if they are not a whole split of the Hub."""
    file = recipe.data.dev.name.removesuffix(".gz") if data == "dev" and recipe.data.dev is not None else ""
    return "validation" if file == f"dev-v{version}.json" and recipe.data.report_limit is None else data


def _stored(stages: Sequence[StageResult]) -> list[str]:
    """Return a line for each stage that stored logits, each followed by an empty line."""
    lines = []
    for result in stages:
        if not isinstance(stage := result.stage, LogitsStage):
            continue
        of = ", ".join(map(called, stage.teachers)) or "the teacher"
        held = result.figures.get("mass_mean")
        lines += [
            f"The stage {result.name} stored the {stage.keep} greatest start and end logits of {of} for "
            f"{int(result.figures['windows']):,} windows"
            + ("." if held is None else f"; they hold {held:.2%} of its probability."),
            "",
        ]
    return lines


def _without_folders(recipe: Recipe) -> Recipe:
    """Return the recipe with the names of its data and models, without their folders."""
    parts = {key: getattr(recipe.data, key) for key in ("train", "select", "confirm", "dev")}
    data = recipe.data.model_copy(update={key: Path(file.name) for key, file in parts.items() if file is not None})
    changes: dict[str, Any] = {"data": data}
    if recipe.teacher is not None:
        changes["teacher"] = called(recipe.teacher)
    if recipe.student is not None and recipe.student.checkpoint is not None:
        checkpoint = called(recipe.student.checkpoint)
        changes["student"] = recipe.student.model_copy(update={"checkpoint": checkpoint})
    stages = []
    for stage in recipe.stages:
        named = {key: getattr(stage, key, None) for key in ("model", "teacher")}
        files = {key: getattr(stage, key, None) for key in ("logits", "start")}
        changed: dict[str, Any] = {key: Path(file.name) for key, file in files.items() if file is not None}
        if isinstance(stage, LogitsStage):
            changed["teachers"] = tuple(map(called, stage.teachers))
        stages.append(stage.model_copy(update=changed | {k: called(v) for k, v in named.items() if v is not None}))
    return recipe.model_copy(update={**changes, "stages": tuple(stages)})
