"""The files that come with the package."""

from __future__ import annotations

from typer.testing import CliRunner

from dynamic_tinybert.cli.app import app
from dynamic_tinybert.files import shipped_recipes


def test_train_alone_lists_every_recipe_with_what_it_is_for() -> None:
    result = CliRunner().invoke(app, ["train"])
    assert result.exit_code == 0, result.stderr
    assert len(shipped_recipes()) >= 5
    for name, file in shipped_recipes().items():
        (line,) = (line for line in result.stdout.splitlines() if line.startswith(f"{name} "))
        assert len(line) > 40, file
