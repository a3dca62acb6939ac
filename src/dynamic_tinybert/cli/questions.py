"""The common parts of `search` and `calibrate`: the questions that select and confirm, and the check of `--install`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dynamic_tinybert.cli import console

if TYPE_CHECKING:
    from dynamic_tinybert.folder import ModelFolder
    from dynamic_tinybert.squad import Questions, SquadFile

Titles = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Use only the articles of DATA with these titles (a file, one per line)."),
]
Confirm = Annotated[
    str | None,
    typer.Option(metavar="DATA", help="A SQuAD file to measure the result on.  [default: half of DATA's articles]"),
]
ConfirmTitles = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Measure only on the articles with these titles (a file, one per line)."),
]

LENGTH_CONFIGS = "length_configs.json"


def read_splits(
    data: str, titles: Path | None, confirm: str | None, confirm_titles: Path | None
) -> tuple[Questions, Questions]:
    """Read the questions that select, and those that confirm.

    Raises:
        SquadError: A file is not a valid SQuAD file.
        SplitError: The two sets of questions are not separate, or a title is missing.
        typer.Exit: A list of titles cannot be read. One line is printed that says so.
    """
    from dynamic_tinybert.squad import check_apart, halves

    select = _read(data, titles)
    if confirm is None and confirm_titles is None:
        return halves(select)
    confirming = _read(confirm or data, confirm_titles)
    check_apart(select, confirming)
    return select, confirming


def read_titled(data: str, titles: Path | None) -> SquadFile:
    """Read a SQuAD file, or its articles with the titles of a list.

    Raises:
        SquadError: The file is not a valid SQuAD file.
        SplitError: It lacks an article.
        typer.Exit: The list cannot be read. One line is printed that says so.
    """
    from dynamic_tinybert.files import find_list
    from dynamic_tinybert.squad import SplitError, read_squad

    wanted = None
    if titles is not None:
        wanted = {line for line in map(str.strip, console.read_text(str(find_list(titles))).splitlines()) if line}
    questions = read_squad(data, titles=wanted)
    if missing := (wanted or set()) - {question.title for question in questions.questions}:
        raise SplitError(f"{titles}: {data} has no article {min(missing)!r}")
    return questions


def _read(data: str, titles: Path | None) -> Questions:
    from dynamic_tinybert.squad import Questions

    name = titles.stem if titles else Path(data).name.removesuffix(".gz").removesuffix(".json")
    return Questions(name, read_titled(data, titles))


def check_install(install: bool, model: str, folder: ModelFolder) -> None:
    """Check before long work that its result can be installed in the model folder.

    Raises:
        OSError: The result cannot be written there.
        typer.Exit: `model` is not a folder. One line is printed that says so.
    """
    from dynamic_tinybert.folder import EMBEDDED

    if not install:
        return
    if model == EMBEDDED or not Path(os.path.expanduser(model)).is_dir():
        console.fail(
            f"--install needs a model folder, not {model}: make one with dynamic-tinybert export {model} DIR",
            misuse=True,
        )
    console.check_writable(folder.path / LENGTH_CONFIGS)
