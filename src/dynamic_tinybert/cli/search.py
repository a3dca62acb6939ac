"""The command `search`: search length configurations for a model."""

from __future__ import annotations

import os
import shutil
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    from dynamic_tinybert.folder import ModelFolder
    from dynamic_tinybert.qa import QuestionAnswerer
    from dynamic_tinybert.search import ConfirmedConfig, Search
    from dynamic_tinybert.squad import Questions

_STUDY = "study.db"
_BEFORE = "length_configs.before.json"
_NAME = "search"  # of the study in its own file; in `--storage`, which may be shared, the output folder names it
_SPACE = 20_000_000  # free bytes that a search requires; it writes less than 1 MB


class Sampler(str, Enum):
    """The values of `--sampler`."""

    bayesian = "bayesian"
    gp = "gp"
    tpe = "tpe"
    nsga2 = "nsga2"


class Cost(str, Enum):
    """The values of `--cost`."""

    share = "share"
    latency = "latency"


def search(
    model: ModelArgument,
    data: Annotated[str, typer.Option(metavar="DATA", help="A SQuAD file to choose configurations by.")],
    titles: Titles = None,
    confirm: Confirm = None,
    confirm_titles: ConfirmTitles = None,
    questions: Annotated[
        int, typer.Option(metavar="N", min=1, help="Choose by this many questions, drawn at random once.")
    ] = 500,
    trials: Annotated[int, typer.Option(metavar="N", min=1, help="The number of configurations to measure.")] = 150,
    sampler: Annotated[Sampler, typer.Option(help="The sampler that proposes configurations.")] = Sampler.bayesian,
    cost: Annotated[
        Cost,
        typer.Option(
            help="The cost to reduce: multiply-accumulates, or seconds on this machine (takes twice as long)."
        ),
    ] = Cost.share,
    low: Annotated[
        float, typer.Option(metavar="R", help="The smallest share of its tokens that a layer may keep.")
    ] = 0.4,
    within: Annotated[
        float | None,
        typer.Option(
            metavar="F1", min=0, help="Ignore configurations that lose more than this many points of F1.  [default: 20]"
        ),
    ] = None,
    front: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Confirm at most N configurations of the front, those that cover it best."
        ),
    ] = 12,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A new folder for the results.  [default: search-NAME]")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A database for the trials, as Optuna names it.  [default: study.db in DIR]"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the search in DIR, or join one that is running.")
    ] = False,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="The seed of the search.")] = 0,
    precision: console.PrecisionOption = console.Precision.auto,
    threads: console.Threads = None,
    install: Annotated[
        bool, typer.Option("--install", help="Write the table into the MODEL folder, so that its budgets use it.")
    ] = False,
    as_json: console.AsJson = False,
) -> None:
    """Search length configurations for a model: which tokens it can drop, layer by layer, at what loss of F1.

    \b
      dynamic-tinybert search ./my-model --data train-v1.1.json.gz --titles select.txt --confirm-titles confirm.txt
      dynamic-tinybert search ./my-model --data dev.json --trials 60 --questions 200 --install
      dynamic-tinybert search ./my-model --data dev.json --trials 300 --resume

    Each trial measures F1 and cost of one configuration on the same questions. The first trials are the full model,
    uniform configurations, configurations that drop late, and those of the model's own table; then the sampler
    proposes new ones. Configurations that lose more than --within points of F1 are ignored. The others that no
    cheaper configuration equals are the Pareto front. The front, at most --front of its configurations, and the
    model's own table are measured again on the confirm questions, and the configurations that are still on the
    front are written to length_configs.json, with the full and uniform ones. A budget selects from this table. Use
    questions that the model was not trained on. Without --confirm and --confirm-titles, the articles of DATA are
    split in two halves by a hash of their titles: one to choose, one to confirm.

    DIR also gets trials.csv, front.csv and front.png, a plot of the front and the uniform configurations. Every trial
    is saved at once: after an interruption, run the same command with --resume to continue, with more --trials to
    search longer. Several such commands share one search; on several machines, give them --storage and the same name of
    DIR.

    \b
    Samplers: bayesian   gp if PyTorch and SciPy are installed, otherwise tpe
              gp         Gaussian processes; finds most in the fewest trials
              tpe        tree-structured Parzen estimators
              nsga2      genetic algorithm for several objectives
    """
    import matplotlib  # noqa: F401 - fail now instead of after the search if it is missing
    import optuna  # noqa: F401

    from dynamic_tinybert.folder import called
    from dynamic_tinybert.search import Search, SearchSpace, StudySettings, fingerprint, make_sampler, sqlite_url

    with console.failures():
        folder = console.open_model(model)
    space = SearchSpace(folder.shape.layers, low)
    proposer = make_sampler(sampler.value, seed, noisy=cost is Cost.latency)
    output = (output or Path(f"search-{Path(called(folder.name)).name}")).expanduser()
    check_install(install, model, folder)
    _check_output(output, storage, resume)
    select, confirming = _read_questions(data, titles, confirm, confirm_titles, questions, seed)
    with console.failures():
        qa = console.load(folder, precision, threads)
    settings = StudySettings(
        model=fingerprint(folder),
        select=select.fingerprint,
        confirm=confirming.fingerprint,
        layers=space.layers,
        low=low,
        cost=cost.value,
        seed=seed,
        within=within,
        precision=qa.reader.runtime.precision,
    )
    with console.failures():
        output.mkdir(parents=True, exist_ok=True)
        name = output.resolve().name if storage else _NAME
        with console.resumable(f"the search is in {output}"):
            search = Search(storage or sqlite_url(output / _STUDY), name, settings, resume=resume, anew=storage is None)
        candidates, table = _run(qa, search, proposer, trials, select, confirming, output, folder, front)
        if install:
            _install(output, folder)
    _report(output, search, candidates, table, as_json, folder.path / LENGTH_CONFIGS if install else None)


def _run(
    qa: QuestionAnswerer,
    search: Search,
    sampler: Any,
    trials: int,
    select: Questions,
    confirm: Questions,
    output: Path,
    folder: ModelFolder,
    front: int,
) -> tuple[list[ConfirmedConfig], dict[str, Any]]:
    """Start or continue a search, confirm the configurations that it found, and write the results."""
    from dynamic_tinybert.search import Objective, beginning, make_table, write_results

    cost = search.settings.cost
    own = {c.name: c.config for c in qa.table.choices} if qa.table.measured_on else None
    first = beginning(qa.shape.layers, search.settings.low, own)
    hint = partial(console.resumable, f"the trials are in {output}")
    with hint(), progress_bar("searching", "trials") as bar:

        def show(done: int, total: int, best: float) -> None:
            if bar:
                bar(done, total, f", best F1 {best:.2f}")

        search.run(Objective(qa, select.data, cost), sampler, trials, first=first, progress=show)
    with hint(), progress_bar("confirming", "configurations") as progress:
        candidates = search.candidates(Objective(qa, confirm.data, cost), first, most=front, progress=progress)
    table, names = make_table(candidates, confirm.description, folder.read_length_configs(), search.settings.precision)
    write_results(output, table=table, names=names, candidates=candidates, trials=search.rows(), cost=cost)
    return candidates, table


def _install(output: Path, folder: ModelFolder) -> None:
    """Copy the table into the model folder, and save the earlier table in the output folder."""
    from dynamic_tinybert.files import write_whole

    table, before = folder.path / LENGTH_CONFIGS, output / _BEFORE
    if table.is_file() and not before.exists():
        write_whole(before, table.read_bytes())
    write_whole(table, (output / LENGTH_CONFIGS).read_bytes())


def _check_output(output: Path, storage: str | None, resume: bool) -> None:
    """Check that the output folder is empty or has a search to resume, can be written, and has free space.

    Raises:
        typer.Exit: It is not so. One line is printed that says why.
    """
    if output.exists() and not output.is_dir():
        console.fail(f"{output} is a file: name a new folder with --output")
    if resume and storage is None and not (output / _STUDY).is_file():
        console.fail(f"there is no search to resume in {output}: leave out --resume, or name its --output")
    if not resume and output.is_dir() and any(output.iterdir()):
        console.fail(
            f"{output} is not empty: add --resume to go on with the search in it, or name a new folder with --output"
        )
    there = next(path for path in (output.resolve(), *output.resolve().parents) if path.exists())
    if not os.access(there, os.W_OK):
        console.fail(f"{output} cannot be written: permission denied")
    if shutil.disk_usage(there).free < _SPACE:
        console.fail(f"{output} cannot be written: the disk is full, less than {_SPACE // 1_000_000} MB are free")


def _read_questions(
    data: str, titles: Path | None, confirm: str | None, confirm_titles: Path | None, number: int, seed: int
) -> tuple[Questions, Questions]:
    """Read a sample of the questions that select, and those that confirm: see `questions.read_splits`."""
    from dynamic_tinybert.squad import sample

    select, confirming = read_splits(data, titles, confirm, confirm_titles)
    return sample(select, number, seed), confirming


def _report(
    output: Path,
    search: Search,
    candidates: list[ConfirmedConfig],
    table: dict[str, Any],
    as_json: bool,
    installed: Path | None,
) -> None:
    from dynamic_tinybert.search import hypervolume

    volume = hypervolume([(c.confirm.cost, c.confirm.f1) for c in candidates])
    if as_json:
        console.print_json(
            {
                "output": str(output),
                "trials": search.complete,
                "cost": search.settings.cost,
                "hypervolume": round(volume, 4),
                "measured_on": table["measured_on"],
                "installed": None if installed is None else str(installed),
                "configs": table["configs"],
            }
        )
        return
    print(f"{search.complete} trials; hypervolume {volume:.4f}, measured again on {table['measured_on']}")
    print(f"  {'name':<16} {'share':>6} {'EM':>7} {'F1':>7}   kept after each layer")
    for row in table["configs"]:
        fractions = " ".join(f"{fraction:.2f}" for fraction in row["fractions"])
        print(f"  {row['name']:<16} {row['share']:6.3f} {row['exact_match']:7.2f} {row['f1']:7.2f}   {fractions}")
    print(f"in {output}: {LENGTH_CONFIGS}, trials.csv, front.csv, front.png")
    print(
        f"installed as {installed}"
        if installed
        else f"to use it, copy {LENGTH_CONFIGS} into the model folder (--install)"
    )
