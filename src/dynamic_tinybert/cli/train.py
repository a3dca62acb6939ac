"""The command `train`: run a recipe, from base weights to a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dynamic_tinybert.cli import console
from dynamic_tinybert.files import shipped_recipes


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            help="A recipe: a YAML file, or the name of a shipped one. Without it, the shipped recipes are listed.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder of the run.  [default: train-NAME, by the name of the recipe]"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an earlier run in DIR, however it ended.")] = False,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe (may be repeated)."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Print the full recipe, check it and the files it names, and exit.")
    ] = False,
    threads: console.Threads = None,
    as_json: console.AsJson = False,
) -> None:
    """Train a model by a recipe: teacher, distillation, LengthDrop, in the stages that the recipe lists.

    \b
      dynamic-tinybert train cpu --output my-run
      dynamic-tinybert train cpu --output my-run --resume
      dynamic-tinybert train recipes/paper.yaml --set data.train=train-v1.1.json --set stages.teacher.epochs=1
      accelerate launch --num_processes 2 -m dynamic_tinybert train paper

    Shipped recipes: smoke (every stage on 1,000 questions), cpu, mpnet-teacher, h384, h384-more, tinybert6l,
    mpnet-6l, paper.

    DIR/model is the trained model folder, with a model card and a first table of configurations; `search` finds better
    ones. Checkpoints are chosen on the held-out articles of `data.select`, and the model is measured on those of
    `data.confirm`. A run that was interrupted at any moment continues with --resume; an earlier run is never
    overwritten. A recipe that has only `logits` stages writes a file of a teacher's logits, and no model. Needs the
    extra `train`.
    """
    if recipe is None:
        _list_recipes()
        return
    from dynamic_tinybert.train import Reporter, check_recipe, dump_recipe, find_recipe, read_recipe, result_path
    from dynamic_tinybert.train import train as run

    folder = output or Path()
    try:
        read = read_recipe(find_recipe(recipe), changes or ())
        folder = output or Path(f"train-{read.name}")
        if check:
            print(dump_recipe(read), end="", flush=True)
            check_recipe(read, folder)
            return
        figures = run(read, folder, resume=resume, threads=threads, reporter=Reporter())
    except KeyboardInterrupt:
        console.fail(f"stopped; run the same command with --resume to continue from the last checkpoint in {folder}")
    if not figures:  # only the first process of a distributed run has figures
        return
    path = result_path(read, folder)
    if as_json:
        console.print_json({"model" if read.trains else "logits": str(path), "figures": figures})
        return
    for data, found in figures.items() if read.trains else ():
        print(
            f"{data:<8} EM {found['exact_match']:6.2f}   F1 {found['f1']:6.2f}   of {int(found['total']):,} questions"
        )
    print(path)


def _list_recipes() -> None:
    import yaml

    for name, file in shipped_recipes().items():
        print(f"{name:<16} {yaml.safe_load(file.read_text('utf-8'))['description']}")
    print("\ndynamic-tinybert train RECIPE --check prints one in full")
