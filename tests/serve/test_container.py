"""What the Containerfile relies on is so. Building the image is tested by hand: results/serve/container.md."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from support.documents import check_command

ROOT = Path(__file__).parents[2]
PROJECT = (ROOT / "pyproject.toml").read_text("utf-8")


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Containerfile, lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Containerfile").read_text("utf-8"), flags=re.MULTILINE)
    rows = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(name, rest.strip()) for name, _, rest in (row.partition(" ") for row in rows if row.strip())]


FINAL = dict(instructions())  # of each the last
SETTINGS = dict(word.split("=", 1) for word in shlex.split(FINAL["ENV"]))


def test_it_starts_a_command_that_there_is() -> None:
    command = json.loads(FINAL["ENTRYPOINT"])
    assert re.search(rf"^{command[0]} = ", PROJECT, re.MULTILINE)
    check_command(shlex.join([*command, "--host", SETTINGS["DYNAMIC_TINYBERT_HOST"]]))


def test_its_settings_are_read() -> None:
    """A variable that the command does not know would be passed over without a word. Nobody has this address."""
    wrong = {**os.environ, "DYNAMIC_TINYBERT_HOST": "192.0.2.1"}
    done = subprocess.run(
        [sys.executable, "-m", "dynamic_tinybert", "serve"], env=wrong, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "192.0.2.1" in done.stderr


def test_it_copies_what_is_there_and_not_ignored() -> None:
    taken = {row[1:] for row in (ROOT / ".containerignore").read_text("utf-8").splitlines() if row.startswith("!")}
    copied = {
        source
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert copied == taken
    assert all((ROOT / source).exists() for source in copied)


def test_it_is_not_root_and_writes_nothing() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", FINAL["USER"])
    assert SETTINGS["PYTHONDONTWRITEBYTECODE"] == "1"


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(self.server.status if self.path == "/health" else 404)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "well"), [(200, True), (503, False)])
def test_its_health_check_tells_well_from_stopping(server: HTTPServer, status: int, well: bool) -> None:
    server.status = status  # type: ignore[attr-defined]
    _, _, command = FINAL["HEALTHCHECK"].partition(" CMD ")
    arguments = json.loads(command)
    assert arguments[0] == "python3"
    port = {"DYNAMIC_TINYBERT_PORT": str(server.server_port)}
    done = subprocess.run([sys.executable, *arguments[1:]], env={**os.environ, **port}, capture_output=True)
    assert (done.returncode == 0) == well


def test_the_lock_file_has_every_dependency_with_a_hash() -> None:
    lock = (ROOT / "requirements-container.txt").read_text("utf-8")
    entries = re.split(r"\n(?=[a-z])", lock)[1:]
    names = {re.split(r"[=\[ ]", entry)[0] for entry in entries}
    assert all("==" in entry.splitlines()[0] and "--hash=sha256:" in entry for entry in entries)
    assert "http" not in re.sub(r"(#.*|httpx\w*|httpcore\w*|httptools)", "", lock)  # no address of an index
    lists = re.findall(r"^(?:dependencies|serve|corpus) = \[(.*?)^\]", PROJECT, re.MULTILINE | re.DOTALL)
    found = (name for part in lists for name in re.findall(r'"([A-Za-z0-9_.-]+)', part))
    wanted = {re.sub(r"[-_.]+", "-", name).lower() for name in found} - {"dynamic-tinybert", "win32", "cpython"}
    assert len(lists) == 3
    assert {"onnxruntime", "fastapi", "tantivy"} <= wanted <= names
