"""What all commands share: which extra brings a package that is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dynamic_tinybert.cli.app import app
from dynamic_tinybert.cli.console import named_indexes
from dynamic_tinybert.files import install_command
from support.commands import complaint


@pytest.mark.parametrize(
    ("arguments", "missing", "needs"),
    [
        (["ask", "Who?", "--index", "i"], "tantivy", "ask --index needs tantivy"),
        (["index", "list", "--index", "i"], "tantivy", "index needs tantivy"),
        (["batch", "q.jsonl", "--out", "a.jsonl", "--index", "i"], "tantivy", "batch --index needs tantivy"),
    ],
)
def test_a_package_that_an_extra_brings_is_told_with_the_extra(
    arguments: list[str], missing: str, needs: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in sys.modules if name.startswith("dynamic_tinybert.corpus")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.chdir(tmp_path)
    message = complaint(CliRunner().invoke(app, arguments))
    assert message.endswith(f"{needs}, which is not installed: {install_command('corpus')}")


@pytest.mark.parametrize("command", ["ask", "batch", "evaluate", "export", "info", "index", "serve", "train"])
@pytest.mark.parametrize("name", [None, "dynamic_tinybert.qa", "dynamic_tinybert"])
def test_an_import_that_fails_by_our_fault_is_not_taken_for_a_missing_extra(
    command: str, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(command, name, monkeypatch)


@pytest.mark.parametrize("command", ["ask", "evaluate", "export", "info", "push", "calibrate"])
def test_a_part_of_the_core_that_fails_is_not_taken_for_a_missing_extra(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(command, "onnxruntime.capi.onnxruntime_pybind11_state", monkeypatch)  # as on Windows, without its libraries


def check(command: str, name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command during which an import fails ends with that error, not with advice to install something."""

    def fails(*_arguments: object, **_options: object) -> None:
        raise ImportError("DLL load failed", name=name)

    monkeypatch.setattr("typer.core.TyperCommand.invoke", fails)
    group = {"index": ["index", "list", "--index", "i"]}.get(command)
    required = {
        "ask": ["Who?"], "batch": ["q", "--out", "a"], "evaluate": ["d"], "export": ["m", "t"], "push": ["m", "a/b"],
        "calibrate": ["m", "--data", "d"], "train": ["r"],
    }  # fmt: skip
    result = CliRunner().invoke(app, group or [command, *required.get(command, [])])
    assert isinstance(result.exception, ImportError), result.stderr
    assert not result.stderr


def test_a_group_of_commands_alone_shows_its_help() -> None:
    done = subprocess.run([sys.executable, "-m", "dynamic_tinybert", "index"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\n  add " in done.stdout
    assert "\n  list " in done.stdout
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "dynamic_tinybert", "index"], stdout=full, stderr=subprocess.PIPE, text=True
            )
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_an_interrupt_while_the_command_is_imported_is_no_traceback() -> None:
    code = (
        "import os, signal, sys, dynamic_tinybert.cli as cli\n"
        "class Finder:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'dynamic_tinybert.cli.app': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")


def test_an_equals_sign_in_the_path_of_an_index_is_no_name(tmp_path: Path) -> None:
    path = str(tmp_path / "year=2024" / "idx")
    assert named_indexes([path, f"docs={path}", "b=rel=1", "team/c=there", "./a=b/i"]) == {
        "idx": path, "docs": path, "b": "rel=1", "team/c": "there", "i": "./a=b/i",
    }  # fmt: skip
