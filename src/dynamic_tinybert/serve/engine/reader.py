"""A reader for the threads that answer questions to corpora: its windows go through the scheduler."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dynamic_tinybert.inference import Reader, Window
from dynamic_tinybert.model import LengthConfig
from dynamic_tinybert.runtime import Logits
from dynamic_tinybert.serve.engine.errors import Stopped
from dynamic_tinybert.serve.engine.job import Job
from dynamic_tinybert.serve.engine.scheduler import Waiting
from dynamic_tinybert.serve.engine.workers import Workers


class ScheduledReader(Reader):
    """A reader whose windows are scheduled together with those of all other requests.

    Args:
        reader: The model.
        workers: The threads that predict.
        numbers: Yields the numbers of requests.
        clock: Returns the time in seconds.
    """

    def __init__(self, reader: Reader, workers: Workers, numbers: Iterator[int], clock: Callable[[], float]) -> None:
        super().__init__(reader.tokenizer, reader.runtime)
        self._workers = workers
        self._numbers = numbers
        self._clock = clock
        self._request = threading.local()

    def begin(self, number: int, cancelled: threading.Event) -> None:
        """Set the request for which this thread predicts from now on, and the event that cancels it."""
        self._request.number, self._request.cancelled = number, cancelled

    def predict(self, batch: Sequence[Window], configs: Sequence[LengthConfig]) -> Logits:
        """Schedule the windows, wait for their predictions, and return the logits.

        Raises:
            Stopped: The request was cancelled, or the engine has stopped.
        """
        cancelled: threading.Event | None = getattr(self._request, "cancelled", None)
        if cancelled is not None and cancelled.is_set():
            raise Stopped("the question was cancelled")
        request = next(self._numbers) if cancelled is None else self._request.number
        found: list[Logits] = []
        ladder = self._workers.scheduler.costs.ladder
        places = [next((i for i, c in enumerate(ladder) if c.config == config), 0) for config in configs]
        over, failure = threading.Event(), list[Exception]()

        def done(error: Exception | None) -> None:
            failure.extend([error] if error else [])
            over.set()

        waiting = Waiting(request, [len(w) for w in batch], 0, self._clock(), place=max(places))
        job = Job(waiting, batch, lambda window, logits: found.append(logits), done, configs=configs)
        self._workers.submit([job])
        try:
            over.wait()
        finally:
            self._workers.cancel([job])
        if failure:
            raise failure[0]
        longest = max(len(window) for window in batch)
        columns = (np.stack([np.pad(column, (0, longest - len(column))) for column in columns])
                   for columns in zip(*found, strict=True))  # fmt: skip
        return Logits(*columns)
