"""A Milvus server on this machine: the one that milvus-lite brings, over gRPC, in a process of its own."""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path


class MilvusServer:
    """A server with its data in a folder; it can be killed, and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])
        self.start()

    def start(self, *, empty: bool = False) -> None:
        """Start it with the data that it had, or `empty`."""
        if empty:
            shutil.rmtree(self._folder / "data")
        where = ["--data-dir", str(self._folder / "data"), "--host", "127.0.0.1", "--port", str(self.port)]
        with (self._folder / "log").open("ab") as log:
            command = [sys.executable, "-m", "milvus_lite", "server", *where]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + 60
        while not self._listens():
            if time.monotonic() > end or self._process.poll() is not None:
                log_text = (self._folder / "log").read_text("utf-8")
                raise RuntimeError(f"Milvus did not start: {log_text[-2000:]}")
            time.sleep(0.1)

    def _listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Let it hang; it can be killed."""
        self._process.send_signal(signal.SIGSTOP)

    def address(self) -> str:
        """Return the address of a collection that there is not yet."""
        return f"milvus://127.0.0.1:{self.port}/test_{secrets.token_hex(6)}"
