"""What docs/serving.md says in tables is so, and whole. Its blocks are run by test_documents."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import typer.main

from dynamic_tinybert.cli.app import app
from dynamic_tinybert.serve import ServeOptions
from dynamic_tinybert.serve.engine.metrics import Metrics
from dynamic_tinybert.serve.http.problems import Code
from dynamic_tinybert.serve.http.schemas import AnswerItem, AnswerRequest, ResultItem

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


def test_every_setting_is_told() -> None:
    """As an option, or among those that there are from Python only."""
    there = {parameter.name for parameter in command().params}
    elsewhere = {"indexes": "index", "api_keys": "api_key_file", "allow_origins": "allow_origin"}
    elsewhere["allowed_hosts"] = "allowed_host"
    of_python = {"header_timeout_s", "body_timeout_s", "keep_alive_s", "write_timeout_s", "max_buffered_bytes"}
    assert {elsewhere.get(field.name, field.name) for field in fields(ServeOptions)} - there == of_python
    ours = ServeOptions()
    assert f"{ours.header_timeout_s:g} seconds for a request's head and {ours.body_timeout_s:g} for its" in PAGE
    assert f"{ours.keep_alive_s:g} for an idle connection and for reading on in a response" in PAGE
    assert ours.keep_alive_s == ours.write_timeout_s
    assert f"{ours.max_buffered_bytes >> 20} MiB for all bodies" in PAGE


def test_every_option_has_its_variable() -> None:
    for parameter in command().params:
        if parameter.name not in ("help", "open_page"):
            name = parameter.opts[0].removeprefix("--").replace("-", "_")
            assert parameter.envvar == f"DYNAMIC_TINYBERT_{name.upper()}", name


def test_the_defaults_are_the_servers() -> None:
    told = {}
    for options, default, *_ in table("## Options"):
        for name, value in zip(quoted(options), default.split(", "), strict=False):
            if value.isdigit():
                told[name.removeprefix("--").replace("-", "_")] = int(value)
    ours = {field.name: field.default for field in fields(ServeOptions)}
    same = {name: ours[name] for name in told if name in ours}
    assert len(same) >= 10
    assert {name: told[name] for name in same} == same


def test_the_codes_of_errors_are_all_told() -> None:
    assert {name for row in table("## Errors") for name in quoted(row[1])} == {*get_args(Code)}


def test_the_fields_of_requests_and_responses_are_all_told() -> None:
    asked = [name for row in table("## Asking") for name in quoted(row[0])]
    assert sorted(asked) == sorted(AnswerRequest.model_fields)
    _, _, after = PAGE.partition("one entry of `results` for each question")
    rows = re.search(r"(?:^\|.*\n)+", after, re.MULTILINE)
    assert rows
    told = [name for row in rows[0].splitlines() for name in quoted(row.split(" | ")[0])]
    assert {name.removeprefix("answers[].") for name in told} == {*ResultItem.model_fields, *AnswerItem.model_fields}


def test_the_metrics_are_all_told_and_there() -> None:
    prefix = "dynamic_tinybert_"
    there = {
        f"{metric.name.removeprefix(prefix)}{'_total' if metric.type == 'counter' else ''}"
        for metric in Metrics().registry.collect()
    }
    assert {name.partition("{")[0] for row in table("### Metrics") for name in quoted(row[0])} == there
    for name in re.findall(rf"\b{prefix}(\w+)[{{\[]", PAGE):
        assert re.sub("_(?:bucket|sum|count)$", "", name) in there, name
