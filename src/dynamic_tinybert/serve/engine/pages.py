"""Find and draw places on pages, a few at a time, beside the questions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from dynamic_tinybert.serve.engine.errors import TooBusy

T = TypeVar("T")

_THREADS = 2  # pages that are read at the same time: each is in a process of its own
_MOST_WAITING = 16


class Pages:
    """The threads for pages. Use `run` in one event loop."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="pages")
        self._open = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Run some work in a thread, when its turn comes.

        Raises:
            TooBusy: Too much work waits.
        """
        if self._open >= _THREADS + _MOST_WAITING:
            raise TooBusy("pages", 1)
        self._open += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._open -= 1

    def stop(self) -> None:
        """Start no more work. What runs has a time limit of its own."""
        self._pool.shutdown(wait=False, cancel_futures=True)
