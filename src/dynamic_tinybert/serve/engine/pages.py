"""Find and draw places on pages, a few at a time, beside the questions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from dynamic_tinybert.serve.engine.errors import Stopped, TooBusy

T = TypeVar("T")

_THREADS = 2  # pages that are read at the same time: each is in a process of its own
_MOST_WAITING = 16


class Pages:
    """The threads for pages. Work that nobody waits for any more still counts until its thread has left it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="pages")
        self._lock = threading.Lock()
        self._open = 0
        self._stopped = False

    async def run(self, work: Callable[[], T]) -> T:
        """Run some work in a thread, when its turn comes. If the caller is cancelled before that, it is not begun.

        Raises:
            TooBusy: Too much work waits.
            Stopped: `stop` was called.
        """
        with self._lock:
            if self._open >= _THREADS + _MOST_WAITING:
                raise TooBusy("pages", 1)
            self._open += 1
        try:
            future = self._pool.submit(work)
        except RuntimeError:
            self._close()
            raise Stopped from None
        future.add_done_callback(self._close)
        try:
            return await asyncio.wrap_future(future)  # if it is cancelled, so is work that has not begun
        except asyncio.CancelledError:
            if self._stopped:
                raise Stopped from None
            raise

    def stop(self) -> None:
        """Start no more work."""
        self._stopped = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _close(self, _: Future[Any] | None = None) -> None:
        with self._lock:
            self._open -= 1
