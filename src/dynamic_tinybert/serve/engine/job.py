"""Windows that wait for the model, and the functions that receive its logits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dynamic_tinybert.inference import Window
from dynamic_tinybert.model import LengthConfig
from dynamic_tinybert.runtime import Logits
from dynamic_tinybert.serve.engine.scheduler import Waiting


@dataclass(eq=False)
class Job:
    """Windows that wait for the model, and the functions that receive the logits.

    Attributes:
        waiting: The job's entry in the scheduler.
        windows: The windows.
        add: Called with each window and its logits, in the order of the text.
        done: Called once at the end, with an error or None.
        configs: A length configuration for each window; without it, the scheduler chooses one.
        ended: Whether the job has ended.
    """

    waiting: Waiting
    windows: Sequence[Window]
    add: Callable[[Window, Logits], None]
    done: Callable[[Exception | None], None]
    configs: Sequence[LengthConfig] | None = None
    ended: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _early: dict[int, Logits] = field(default_factory=dict)
    _added: int = 0

    def take(self, number: int, logits: Logits) -> None:
        """Receive the logits of a window. Logits that arrive out of order are stored until it is their turn."""
        with self._lock:
            if self.ended:
                return
            self._early[number] = logits
            while self._added in self._early:
                self.add(self.windows[self._added], self._early.pop(self._added))
                self._added += 1
            self.ended = self._added == len(self.windows)
            if not self.ended:
                return
        self.done(None)

    def fail(self, error: Exception) -> None:
        """End the job with an error if it has not ended."""
        with self._lock:
            if self.ended:
                return
            self.ended = True
        self.done(error)


def resolver() -> tuple[Callable[[Exception | None], None], asyncio.Future[None]]:
    """Return a function for any thread, and the future of this event loop that it resolves."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def resolve(error: Exception | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    def done(error: Exception | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(resolve, error)

    return done, future
