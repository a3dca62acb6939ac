"""What the README shows is what happens."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.budget import parse_budget
from dynamic_tinybert.cli.app import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "transformers" not in block]


@pytest.mark.parametrize("block", BLOCKS)
def test_python_runs_as_it_stands(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, "README.md", "exec"), {})
    assert "Paris" in capsys.readouterr().out


def test_the_command_prints_what_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = re.search(r"    \.venv/bin/dynamic-tinybert (ask .*)\n\n```\n(.*?)```", README, re.DOTALL)
    assert found
    result = CliRunner().invoke(app, shlex.split(found[1]))
    assert [line.rstrip() for line in result.stdout.splitlines()] == found[2].splitlines()


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("results/*.md")]:
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_a_budget_buys_what_the_table_says(qa: QuestionAnswerer) -> None:
    rows = re.findall(r"^\| `([^|]*)` \| ([a-z]+(?:-[\d.]+)?) \| ([\d.]+) \|", README, re.MULTILINE)
    assert len(rows) > 4
    for budgets, name, share in rows:
        for budget in budgets.split("` or `"):
            choice = qa.table.select(qa.shape, parse_budget(budget))
            assert choice.name == name
            assert round(choice.share, 2) == float(share)
