"""Read foreign files in a child process, so that no file can end, fill or stop the process that asks for it.

The child has limits on memory, on the time without a word and on the length of a text. It is started once and used for
one file after the other. What it sends are frames: a letter, a length, and UTF-8; so the parent trusts it with nothing
but text.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeAlias, TypeVar

from dynamic_tinybert.corpus.errors import ReaderDiedError, UnreadableError
from dynamic_tinybert.corpus.formats.reading import Complain

OptionsT = TypeVar("OptionsT")
Parts: TypeAlias = Callable[[Path, OptionsT, Complain], Iterator[str]]

_MEMORY = 4 << 30  # bytes of address space of a child
_SECONDS = 60.0  # a child that sends nothing for so long is stopped
_CHARACTERS = 1 << 28  # of one text
_IDLE = 5.0  # seconds after which a child that has nothing to do is ended
_BLOCK = 1 << 20  # the most characters of a frame
_HEAD = struct.Struct("<cI")
_READY, _PART, _COMPLAINT, _END, _UNREADABLE, _OS_ERROR, _MISSING = b"R", b"P", b"C", b"E", b"U", b"O", b"M"
# A file whose reader ended so will end it again. Others, as SIGKILL, may come from elsewhere.
_CRASHES = {int(getattr(signal, name, 0)) for name in ("SIGABRT", "SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE")}


def in_child(kind: str, parts: Parts[OptionsT]) -> Parts[OptionsT]:
    """Return a function that does what `parts` does, in a child process.

    Where no child can be started, as in a frozen program, the parts are read in this process.

    Args:
        kind: The key of `parts` in `PARTS` of this package.
        parts: Yields texts, as the title of a file and then its text.
    """

    def read(path: Path, options: OptionsT, complain: Complain) -> Iterator[str]:
        child = _take()
        if child is None:
            yield from parts(path, options, complain)
            return
        whole = False
        try:
            yield from child.parts(kind, path, options, complain)
            whole = True
        except (UnreadableError, OSError, ImportError) as error:
            whole = not isinstance(error, ReaderDiedError)
            raise
        finally:
            _give_back(child, whole=whole)

    return read


class _Child:
    """A child process that reads one file at a time."""

    def __init__(self) -> None:
        # Nothing is imported before the path is that of this process: -c puts the current folder first.
        code = f"import sys; sys.path[:] = sys.argv[1:]; from {__name__} import main; main()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        self._waiting = False  # for a frame
        self._quiet = 0.0  # seconds of waiting since the last frame, in ticks: those of a stopped process do not count
        self._slow = False

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def parts(self, kind: str, path: Path, options: Any, complain: Complain) -> Iterator[str]:
        """Yield what the parts of a kind yield, in blocks.

        Raises:
            ReaderDiedError: The child ended, or had to be stopped.
            UnreadableError, OSError, ImportError: As the reader of the kind raises them.
        """
        asked = {"kind": kind, "path": os.fsdecode(path.absolute()), "options": asdict(options)}
        with self._watched():
            try:
                self._stdin.write(json.dumps(asked).encode() + b"\n")
                self._stdin.flush()
            except OSError:
                self._fail()
            length = 0
            while True:
                letter, text = self._frame()
                if letter == _PART:
                    length += len(text)
                    if length > _CHARACTERS:
                        raise ReaderDiedError(f"has a text of more than {_CHARACTERS:,} characters")
                    yield text
                elif letter == _COMPLAINT:
                    complain(text)
                elif letter == _END:
                    return
                else:
                    _raise(letter, text)

    @property
    def _stdin(self) -> BinaryIO:
        assert self._process.stdin is not None
        return self._process.stdin  # type: ignore[return-value]

    def is_ready(self) -> bool:
        """Wait until the child can read files; False if it cannot."""
        with self._watched(), contextlib.suppress(ReaderDiedError):
            return self._frame()[0] == _READY
        return False

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Stop the child if it sends nothing for too long."""
        done = threading.Event()
        threading.Thread(target=self._watch, args=(done,), daemon=True, name="reader-watch").start()
        try:
            yield
        finally:
            done.set()

    def _frame(self) -> tuple[bytes, str]:
        assert self._process.stdout is not None
        stream = self._process.stdout
        self._quiet, self._waiting = 0.0, True
        try:
            head = stream.read(_HEAD.size)
            if len(head) < _HEAD.size:
                self._fail()
            letter, size = _HEAD.unpack(head)
            body = stream.read(size) if size <= 4 * _BLOCK else b""
            if len(body) < size:
                self._fail()
        finally:
            self._waiting = False
        return letter, body.decode("utf-8", "replace")

    def _fail(self) -> NoReturn:
        self.end()
        if self._slow:
            raise ReaderDiedError(f"cannot be read: it takes more than {_SECONDS:g} seconds")
        status = self._process.returncode or 0
        if status < 0:
            again = -status in _CRASHES
            name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
            raise ReaderDiedError(f"cannot be read: it ended its reader ({name})", again=again)
        raise ReaderDiedError(f"cannot be read: it ended its reader (status {status})")

    def _watch(self, done: threading.Event) -> None:
        tick = min(1.0, _SECONDS / 4)
        while not done.wait(tick):
            self._quiet = self._quiet + tick if self._waiting else 0.0
            if self._quiet > _SECONDS:
                self._slow = True
                self._process.kill()
                return

    def end(self) -> None:
        """End the child, at once."""
        with contextlib.suppress(OSError):
            self._process.kill()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()  # it ends then, even if it could not be killed
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_IDLE)
        if self._process.stdout is not None:
            with contextlib.suppress(OSError):
                self._process.stdout.close()


def _raise(letter: bytes, text: str) -> NoReturn:
    if letter == _OS_ERROR:
        number, why, name = json.loads(text)
        raise OSError(number, why, name)
    if letter == _MISSING:
        why, name = json.loads(text)
        raise ModuleNotFoundError(why, name=name)
    raise UnreadableError(text)


# The children of this process.

_lock = threading.Lock()
_idle: list[tuple[_Child, float]] = []
_reaper: threading.Timer | None = None


def _take() -> _Child | None:
    """Return a child that has nothing to do, or a new one; None if there cannot be one."""
    with _lock:
        while _idle:
            child, _ = _idle.pop()
            if child.alive:
                return child
            child.end()
    if not sys.executable or getattr(sys, "frozen", False):
        return None
    try:
        child = _Child()
    except OSError:
        return None
    if child.is_ready():
        return child
    child.end()
    return None


def _give_back(child: _Child, *, whole: bool) -> None:
    """Keep a child for the next file for a while, if it has sent the last one whole."""
    if not whole or not child.alive:
        child.end()
        return
    with _lock:
        _idle.append((child, time.monotonic()))
        if _reaper is None:
            _reap_later()


def _reap_later() -> None:
    global _reaper
    _reaper = threading.Timer(_IDLE, _reap)
    _reaper.daemon = True
    _reaper.start()


def _reap() -> None:
    """End the children that had nothing to do for a while, and come again if there are others."""
    global _reaper
    _end_idle()
    with _lock:
        _reaper = None
        if _idle:
            _reap_later()


def _end_idle(after: float = _IDLE) -> None:
    with _lock:
        old = [child for child, since in _idle if time.monotonic() - since >= after]
        _idle[:] = [(child, since) for child, since in _idle if child not in old]
    for child in old:
        child.end()


def _forget() -> None:
    """Leave the children to the process that was forked."""
    global _lock, _reaper
    _lock, _reaper = threading.Lock(), None
    _idle.clear()


atexit.register(_end_idle, 0.0)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


# In the child.


def main() -> None:
    """Read files, as the lines of standard input say, until it ends."""
    from dynamic_tinybert.corpus.formats import PARTS

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    with contextlib.suppress(ImportError):  # Windows
        import resource

        for limit, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, _MEMORY)):
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(limit, (value, value))
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no frame

    def send(letter: bytes, text: str) -> None:
        body = text.encode("utf-8", "replace")
        out.write(_HEAD.pack(letter, len(body)) + body)
        out.flush()

    send(_READY, "")
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        parts, options = PARTS[asked["kind"]]
        try:
            for part in parts(Path(asked["path"]), options(**asked["options"]), lambda why: send(_COMPLAINT, why)):
                for at in range(0, max(1, len(part)), _BLOCK):  # the title is a part even if it is empty
                    send(_PART, part[at : at + _BLOCK])
            send(_END, "")
        except UnreadableError as error:
            send(_UNREADABLE, str(error))
        except ImportError as error:
            send(_MISSING, json.dumps([str(error), error.name]))
        except OSError as error:
            send(_OS_ERROR, json.dumps([error.errno, error.strerror or str(error), error.filename]))
        except MemoryError:
            send(_UNREADABLE, "is too large for the memory there is")


def _end_with(parent: int) -> None:
    """End this process soon after its parent."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
