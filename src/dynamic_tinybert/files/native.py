"""Calls of compiled libraries: none may be running in other threads when the process ends, and errors are told once."""

from __future__ import annotations

import atexit
import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator

_PATIENCE = 5.0  # seconds that the end of the process waits for calls in other threads


class _Calls:
    """The calls that are running."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.running: set[object] = set()
        self.ended = False


_calls = _Calls()


@contextlib.contextmanager
def native_call() -> Iterator[None]:
    """Wrap a call that releases the interpreter's lock while compiled code runs.

    When the interpreter ends, it stops a daemon thread as soon as the thread asks for the lock. In the frames of C++ or
    Rust, this aborts the process. So the end of the process waits for the calls, and no others begin meanwhile.
    """
    calls = _calls
    if calls.ended and threading.current_thread() is not threading.main_thread():
        threading.Event().wait(_PATIENCE)  # the process ends meanwhile
    me = object()
    try:
        calls.running.add(me)
        yield
    finally:
        calls.running.discard(me)
        if calls.ended:
            with calls.changed:
                calls.changed.notify_all()


@contextlib.contextmanager
def told_once() -> Iterator[None]:
    """Keep what is written to standard error until the end of a call; if the call fails, its error is told instead.

    A panic of Rust code writes its place and perhaps a stack before Python has its error. This is for a command that
    does nothing else meanwhile: standard error is that of the whole process.
    """
    with contextlib.ExitStack() as stack:
        try:
            kept = stack.enter_context(tempfile.TemporaryFile())
            before = os.dup(2)
        except OSError:  # no place for files, or standard error is closed
            yield
            return
        stack.callback(os.close, before)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
        kept.seek(0)
        with contextlib.suppress(OSError):  # standard error is full or gone
            while block := kept.read(1 << 16):
                os.write(2, block)


def _end() -> None:
    """Wait for the calls in other threads."""
    calls = _calls
    until = time.monotonic() + _PATIENCE
    with calls.changed:
        calls.ended = True
        while calls.running and (left := until - time.monotonic()) > 0:
            calls.changed.wait(left)


def _forked() -> None:
    """Forget the calls of the process that was forked."""
    global _calls
    _calls = _Calls()


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
