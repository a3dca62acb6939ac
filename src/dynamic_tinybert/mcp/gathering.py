"""An index of files and folders that exists as long as the server."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from dynamic_tinybert.corpus import Corpus, CorpusError, Report


class _Stopped(Exception):
    """The server ends, so the files are not needed any more."""


class Gathering:
    """Read files into an index in a temporary folder, in the background: clients do not wait long for a server.

    Args:
        paths: Files and folders.
        say: Called with one line when all files were read, or cannot be.

    Raises:
        OSError: A path does not exist, or there is no place for temporary files.
    """

    def __init__(self, paths: Sequence[str], say: Callable[[str], None]) -> None:
        for path in paths:
            os.stat(path)
        self._paths = [os.path.abspath(path) for path in paths]
        self._say = say
        self._folder = tempfile.mkdtemp(prefix="dynamic-tinybert-mcp-")
        self._done, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="gathering", daemon=True)
        self.corpus = Corpus(Path(self._folder) / "index")
        self.root = _root(self._paths)
        """The common start of the documents' names."""

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def ready(self) -> bool:
        """Return whether all files were read."""
        return self._done.is_set()

    def wait(self) -> None:
        """Return when all files were read.

        Raises:
            CorpusError: There is no index afterwards, for example because the disk is full.
        """
        self._done.wait()
        self.corpus.counts()

    def close(self) -> None:
        """Stop reading, and delete the index."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self) -> None:
        try:
            report = self.corpus.add(*self._paths, progress=self._check)
            self._say(_summary(report))
        except _Stopped:
            pass
        except (CorpusError, OSError, ImportError) as error:
            self._say(f"the files cannot be indexed: {error}")
        finally:
            self._done.set()

    def _check(self, *_: object) -> None:
        if self._stopping.is_set():
            raise _Stopped


def _root(paths: Sequence[str]) -> str:
    """Return the folder that contains all paths, with a separator at its end; empty if there is none."""
    try:
        return os.path.join(os.path.commonpath([os.path.dirname(path) for path in paths]), "")
    except ValueError:  # on different drives
        return ""


def _summary(report: Report) -> str:
    line = f"{report.documents:,} document{'s' * (report.documents != 1)} indexed in {report.seconds:.1f} s"
    if report.skipped:
        path, why = report.skipped[0]
        line += f"; {len(report.skipped):,} skipped, the first: {path}: {why}"
    if ignored := sum(report.ignored.values()):
        line += f"; {ignored:,} file{'s' * (ignored != 1)} of other types ignored"
    return line
