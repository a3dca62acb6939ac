"""A `dynamic-tinybert serve` of one's own: started on 127.0.0.1, asked how it is, ended."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.common import free_port

HOST = "127.0.0.1"
COMMAND = shlex.join([sys.executable, "-m", "dynamic_tinybert"])
VERSIONS = ("fastapi", "uvicorn", "onnxruntime", "numpy", "tokenizers")  # of what decides how a server does

_START_S = 60.0
_END_S = 60.0
_SAMPLE = re.compile(r"^(\w+)(?:\{[^}]*\})? ([-+\w.]+)", re.MULTILINE)


class Reply(NamedTuple):
    """A status and a body."""

    status: int
    body: bytes


@dataclass(frozen=True)
class Server:
    """A server that runs.

    Attributes:
        process: Its process.
        port: Where it listens.
        log: The file with all that it prints.
    """

    process: psutil.Popen
    port: int
    log: Path

    def get(self, path: str) -> Reply:
        return fetch(self.port, path)

    def info(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/info").body)
        return found

    def metric(self, name: str) -> float:
        """Return a figure of /metrics, summed over its labels.

        Raises:
            KeyError: There is none of this name.
        """
        found = [float(value) for key, value in _SAMPLE.findall(self.get("/metrics").body.decode()) if key == name]
        if not found:
            raise KeyError(name)
        return sum(found)

    def cpu_seconds(self) -> float:
        """Return the seconds of the processor that it has taken, its children's with them."""
        tree = [self.process, *self.process.children(recursive=True)]
        return sum(sum(process.cpu_times()[:2]) for process in tree)

    def log_text(self) -> str:
        return self.log.read_text("utf-8", errors="replace")

    def logged(self) -> list[dict[str, Any]]:
        """Return what it logged, of lines that are JSON objects."""
        found = []
        for line in self.log_text().splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    found.append(entry)
        return found

    def end(self) -> int:
        """Send SIGTERM and return the exit status; kill it if it takes a minute."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end, for a minute, and return the exit status; then kill it."""
        try:
            status: int = self.process.wait(_END_S)
        except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
            self.process.kill()
            status = self.process.wait()
        return status


def add_server(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say how the server is started, and the seed of what it is asked."""
    parser.add_argument("--options", default="", help="more options of the server, such as '--max-waiting 256'")
    parser.add_argument("--server", default=COMMAND, help="what comes before `serve` [default: %(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="[default: %(default)s]")


def fetch(port: int, path: str, body: bytes | None = None, timeout: float = 30.0) -> Reply:
    """GET a path, or POST a JSON body to it, on a connection of its own."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request("GET" if body is None else "POST", path, body, headers)
        response = connection.getresponse()
        return Reply(response.status, response.read())
    finally:
        connection.close()


@contextlib.contextmanager
def serve(options: Sequence[str], log: Path, *, command: str = COMMAND) -> Iterator[Server]:
    """Start a server on a free port, wait until it says that it is healthy, and end it at the end.

    Args:
        options: Those of `serve`, beside the port.
        log: Where to write what it prints.
        command: What comes before `serve`.

    Raises:
        RuntimeError: It did not start.
    """
    port = free_port()
    line = [*shlex.split(command), "serve", "--port", str(port), *options]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = psutil.Popen(line, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    server = Server(process, port, log)
    try:
        _wait_until_healthy(server, shlex.join(line))
        yield server
    finally:
        server.end()


def _wait_until_healthy(server: Server, line: str) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and server.process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if server.get("/health").status == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"the server did not start: {line}\n{server.log_text()[-2000:]}")
