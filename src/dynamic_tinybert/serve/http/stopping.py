"""The flag that the server is stopping: the server sets it, the middleware and the app read it."""

from __future__ import annotations

import asyncio


class Stopping:
    """A flag that any thread or signal handler can set, and that event loops can wait for."""

    def __init__(self) -> None:
        self._set = False
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def is_set(self) -> bool:
        """Whether the server is stopping."""
        return self._set

    def set(self) -> None:
        """Set the flag."""
        self._set = True
        for loop, event in tuple(self._waiting):
            loop.call_soon_threadsafe(event.set)

    async def wait(self) -> None:
        """Wait until the flag is set."""
        waiting = (asyncio.get_running_loop(), asyncio.Event())
        self._waiting.add(waiting)
        try:
            if not self._set:
                await waiting[1].wait()
        finally:
            self._waiting.discard(waiting)
