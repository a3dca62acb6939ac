"""Threads that predict the waiting windows in batches."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from dynamic_tinybert.inference import Reader
from dynamic_tinybert.runtime import Logits
from dynamic_tinybert.serve.engine.errors import Stopped
from dynamic_tinybert.serve.engine.job import Job
from dynamic_tinybert.serve.engine.metrics import Metrics
from dynamic_tinybert.serve.engine.scheduler import Batch, Scheduler

logger = logging.getLogger("dynamic_tinybert.serve")


class Workers:
    """Threads that predict the windows of jobs, in the order of a scheduler. Safe to use from many threads.

    Args:
        reader: The model.
        scheduler: Chooses the next batch.
        metrics: The metrics to update.
        clock: Returns the time in seconds.

    Attributes:
        scheduler: The scheduler. Hold `lock` to use it.
        lock: Protects the scheduler.
        stopping: Whether new jobs are refused.
    """

    def __init__(self, reader: Reader, scheduler: Scheduler, metrics: Metrics, clock: Callable[[], float]) -> None:
        self.scheduler = scheduler
        self.lock = threading.Condition()
        self.stopping = False
        self._reader = reader
        self._metrics = metrics
        self._clock = clock
        self._jobs: dict[int, Job] = {}  # by id of `Job.waiting`
        self._threads: list[threading.Thread] = []

    def start(self, count: int) -> None:
        """Start `count` threads."""
        for i in range(count):
            thread = threading.Thread(target=self._work, name=f"predictor-{i}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Stop the threads; waiting jobs fail with `Stopped`."""
        with self.lock:
            self.stopping = True
            jobs = list(self._jobs.values())
            self._jobs.clear()
            self.lock.notify_all()
        for job in jobs:
            job.fail(Stopped("the server is stopping"))
        for thread in self._threads:
            thread.join()

    def check_running(self) -> None:
        """Check that new jobs are accepted.

        Raises:
            Stopped: The threads have stopped or are stopping.
        """
        if self.stopping:
            raise Stopped("the server is stopping")

    def submit(self, jobs: Sequence[Job]) -> None:
        """Add the jobs of a request.

        Raises:
            Stopped: The threads have stopped or are stopping.
        """
        with self.lock:
            self.check_running()
            for job in jobs:
                self._jobs[id(job.waiting)] = job
            self.scheduler.submit([job.waiting for job in jobs], self._clock())
            self.lock.notify_all()

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Remove jobs, whether they have ended or not."""
        with self.lock:
            for job in jobs:
                if self._jobs.pop(id(job.waiting), None) is not None and job.waiting.windows:
                    self.scheduler.cancel(job.waiting)
                job.ended = True

    def _work(self) -> None:
        while True:
            with self.lock:
                while not self.stopping and not len(self.scheduler):
                    self.lock.wait()
                if self.stopping:
                    return
                batch = self.scheduler.next_batch(self._clock())
                if batch is None:
                    continue
                jobs = [self._jobs.get(id(waiting)) for waiting, _ in batch.windows]
            seconds = self._predict(batch, jobs)
            with self.lock:
                if seconds is None:
                    self.scheduler.failed(batch)
                else:
                    self.scheduler.finished(batch, seconds)
            if seconds is not None:
                self._count(batch, seconds)

    def _predict(self, batch: Batch, jobs: Sequence[Job | None]) -> float | None:
        """Predict a batch and give the logits to the jobs. An error fails only the jobs of the batch.

        Returns:
            The seconds that the model took, or None if only a part of the batch was predicted.
        """
        config = self.scheduler.costs.ladder[batch.place].config
        windows, configs, numbers = [], [], []
        for job, (_, number) in zip(jobs, batch.windows, strict=True):
            if job is not None and not job.ended:
                windows.append(job.windows[number])
                configs.append(job.configs[number] if job.configs else config)
                numbers.append((job, number))
        if not windows:
            return None
        began = self._clock()
        try:
            start, end, layers = self._reader.predict(windows, configs)
        except Exception as error:
            logger.exception("a batch could not be read")
            for job, _ in numbers:
                job.fail(error)
            return None
        seconds = self._clock() - began
        for row, (window, (job, number)) in enumerate(zip(windows, numbers, strict=True)):
            own = slice(0, len(window))
            try:
                job.take(number, Logits(start[row, own], end[row, own], layers[row, own]))
            except Exception as error:
                logger.exception("a question could not be ranked")
                job.fail(error)
        return seconds if len(windows) == len(batch.windows) else None

    def _count(self, batch: Batch, seconds: float) -> None:
        tokens = len(batch.windows) * batch.length
        self._metrics.batch_seconds.observe(seconds)
        self._metrics.batch_tokens.observe(tokens)
        self._metrics.padding.inc(tokens - sum(waiting.sizes[number] for waiting, number in batch.windows))
