"""Hostile files of every kind, in one folder with others, through the commands as they are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import hostile
from support.hostile import MODELS, NEIGHBOURS, READ, Hostile

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a system with FIFOs, links and files of holes"),
]
_LIMIT_S = 280.0
_LONGEST_ERROR, _LONGEST_LINE = 700, 1000  # characters
_CODES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
LAMPS = {"first": "Ada Lovelace", "second": "Carl Langhans", "third": "Maurice Koechlin", "fourth": "Gustave Eiffel",
         "fifth": "Berta Benz", "sixth": "Emil Nolde", "deepest": "Agnes Moreau"}  # fmt: skip


class Done:
    """A command that has ended normally and printed nothing that it must not."""

    def __init__(self, *arguments: str, stdin: str = "") -> None:
        for package in ("tantivy", "inscriptis", "pypdfium2", "mammoth"):
            pytest.importorskip(package)
        command = [sys.executable, "-m", "dynamic_tinybert", *arguments]
        done = subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=False, input=stdin.encode())
        self.status = done.returncode
        self.out, self.err = (output.decode("utf-8", "replace") for output in (done.stdout, done.stderr))
        assert self.status in (0, 1), self.err[-2000:]
        assert "Traceback" not in self.err
        assert not _CODES.search(self.out + self.err)
        assert max(map(len, ["", *self.err.splitlines()])) <= _LONGEST_ERROR
        whole = "--json" in arguments or "list" in arguments  # for programs, and names to copy
        assert whole or max(map(len, ["", *self.out.splitlines()])) <= _LONGEST_LINE
        assert all(line.startswith("dynamic-tinybert: ") for line in self.err.splitlines())

    def of(self, path: Path) -> list[str]:
        """The reasons that were given for a path."""
        name = _CODES.sub("�", " ".join(str(path).split())).encode("utf-8", "replace").decode()
        told = [line.removeprefix("dynamic-tinybert: skipped: ") for line in self.err.splitlines()]
        return [line.removeprefix(f"{name}: ") for line in told if line.startswith(f"{name}: ")]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "documents"
    yield folder
    hostile.clear(folder)


def check_reasons(done: Done, folder: Path, files: list[Hostile]) -> None:
    """Check that what cannot be read was reported in a line of its own with its reason, and nothing else was."""
    for one in files:
        told = done.of(folder / one.name)
        if one.why == READ:
            assert told == [], one.name
        elif one.why is not None:
            assert any(one.why in line for line in told), (one.name, told)
            assert len(told) <= 12, one.name  # the first ten, how many more, and that there is no other
    assert not [line for line in done.err.splitlines() if "neighbour" in line or "lamp" in line]


def test_index_add_of_hostile_files_adds_their_neighbours_and_says_why_not_the_others(folder: Path) -> None:
    files, index = hostile.fill(folder), str(folder.parent / "index")
    added = Done("index", "add", str(folder), "--index", index)
    assert added.status == 0
    check_reasons(added, folder, files)
    names = {json.loads(line)["name"] for line in Done("index", "list", "--index", index, "--json").out.splitlines()}
    assert {str(folder / name) for name in NEIGHBOURS if not name.endswith("jsonl")} <= names
    for kind in {Path(one.name).parts[0] for one in files}:
        assert str(folder / kind / "zz-neighbour.txt") in names
    for which, who in LAMPS.items():
        asked = Done("ask", f"Who lit the {which} lamp?", "--index", index)
        assert who in asked.out, which
    again = Done("index", "add", str(folder), "--index", index)
    assert " 0 added, 0 replaced" in again.out
    Done("index", "list", "--index", index)
    Done("index", "status", "--index", index)


def test_ask_of_hostile_files_answers_from_their_neighbours(folder: Path) -> None:
    files = hostile.fill(folder, long=False)
    asked = Done("ask", "Who lit the fifth lamp?", str(folder), "--budget", "0.1", "--top-k", "5")
    assert asked.status == 0
    check_reasons(asked, folder, files)
    assert "Berta Benz" in asked.out


@pytest.mark.parametrize("one", MODELS, ids=lambda one: ascii(one.name))
def test_ask_of_a_hostile_model_is_refused_in_a_line(one: Hostile, tmp_path: Path) -> None:
    one.make(tmp_path / one.name)
    asked = Done("ask", "Where is it?", "--context", "The tower stands in Paris.", "--model", str(tmp_path / one.name))
    if one.why == READ:
        assert (asked.status, asked.err) == (0, "")
        return
    assert one.why is not None
    assert one.why in asked.err
    assert (asked.status, asked.out, len(asked.err.splitlines())) == (1, "", 1)
