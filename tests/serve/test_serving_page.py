"""What docs/serving.md says in tables is so, and whole. Its blocks are run by test_documents."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import typer.main
from dynamic_tinybert.serve.problems import Code

from dynamic_tinybert.cli.app import app
from dynamic_tinybert.serve.options import ServeOptions

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text("utf-8")


def table(heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, without its head."""
    _, _, section = PAGE.partition(f"\n{heading}\n")
    assert section, heading
    rows = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert rows
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[0].splitlines()[2:]]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def command() -> Any:
    return typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]


def test_the_options_are_those_of_the_command() -> None:
    named = [name.split()[0] for row in table("## Options") for name in quoted(row[0])]
    there = [option for parameter in command().params for option in parameter.opts if option != "--help"]
    assert sorted(named) == sorted(there)


def test_every_setting_has_an_option() -> None:
    there = {parameter.name for parameter in command().params}
    elsewhere = {"indexes": "index", "api_keys": "api_key_file", "allow_origins": "allow_origin"}
    elsewhere["allowed_hosts"] = "allowed_host"
    assert {elsewhere.get(field.name, field.name) for field in fields(ServeOptions)} <= there


def test_every_option_has_its_variable() -> None:
    for parameter in command().params:
        if parameter.name != "help":
            assert (
                parameter.envvar == f"DYNAMIC_TINYBERT_{parameter.opts[0].removeprefix('--').replace('-', '_').upper()}"
            )


def test_the_defaults_are_the_servers() -> None:
    units = {"MiB": 1 << 20}
    told = {}
    for options, default, *_ in table("## Options"):
        names = quoted(options)
        for name, value in zip(names, default.split(", "), strict=False):
            number = re.fullmatch(r"([\d,]+)(?: (\w+))?", value)
            if number:
                told[name.removeprefix("--").replace("-", "_")] = int(number[1].replace(",", "")) * units.get(
                    number[2], 1
                )
    ours = {field.name: field.default for field in fields(ServeOptions)}
    same = {name: ours[name] for name in told if name in ours}
    assert len(same) > 12
    assert {name: told[name] for name in same} == same


def test_the_codes_of_errors_are_all_told() -> None:
    assert {name for row in table("## Errors") for name in quoted(row[1])} == {*get_args(Code)}
