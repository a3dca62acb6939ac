"""Threads that read, and questions that wait for them. No HTTP in sight.

Questions to a text are cut into windows, scheduled, read, and ranked; a question to a corpus runs in a thread of its
own, whose windows go by the same scheduler. Each question has one length configuration, so that its answer is that of
`QuestionAnswerer` at that configuration.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from dynamic_tinybert.answer import Answer
from dynamic_tinybert.errors import warn
from dynamic_tinybert.inference.reader import Reader
from dynamic_tinybert.inference.stream import Pending, Settings
from dynamic_tinybert.inference.windows import Ints, Window
from dynamic_tinybert.model import SHARE_ROUNDING, Budget, LengthConfig, MeasuredConfig
from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.runtime.session import Logits
from dynamic_tinybert.serve.engine.control import Objective, ladder_of, place
from dynamic_tinybert.serve.engine.costs import Costs
from dynamic_tinybert.serve.engine.metrics import Metrics
from dynamic_tinybert.serve.engine.scheduler import Batch, Scheduler, Waiting
from dynamic_tinybert.serve.options import ServeOptions

if TYPE_CHECKING:
    from dynamic_tinybert.corpus import Corpus, CorpusAnswer

logger = logging.getLogger("dynamic_tinybert.serve")

T = TypeVar("T")
_CORPUS_THREADS = 4  # questions to corpora that are answered at once; their windows wait with all others'
_LEAST_LATENCY_MS = 1.0
_MOST_WINDOWS = 4096  # of a request: each holds some kilobytes while it waits
_SHORT = 50_000  # characters of a request's texts that are cut by a thread of their own, so that none waits for a book


class TooBusy(Exception):
    """More waits than may; `retry_after` seconds from now there should be room, and `reason` is for the metrics."""

    def __init__(self, reason: str, retry_after: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class TooMuch(Exception):
    """A request is of more than may be read at once."""


class Stopped(Exception):
    """The engine is at its end, or the question was cancelled."""


@dataclass(frozen=True, kw_only=True)
class TokenLayers:
    """For each token of a text its place, in characters, and the layers it passed before it was dropped."""

    start: list[int]
    end: list[int]
    layers: list[int]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a question came to.

    Attributes:
        answers: The best first.
        configuration: The length configuration that it got.
        share: Its share of the full model's arithmetic.
        windows: Windows that were read.
        macs: Multiply-accumulates of these windows.
        bert_base_macs: What BERT-base would have spent on them.
        queue_seconds: From its arrival to its first batch.
        read_seconds: From there to its answer.
        tokens: The layers that its text's tokens passed, if that was asked for.
    """

    answers: Sequence[Answer] | Sequence[CorpusAnswer]
    configuration: str
    share: float
    windows: int
    macs: int
    bert_base_macs: int
    queue_seconds: float
    read_seconds: float
    tokens: TokenLayers | None = None


@dataclass(eq=False)
class _Job:
    """Windows that wait to be read, and what is done with each; `done` is called once, with an error or without."""

    waiting: Waiting
    windows: Sequence[Window]
    add: Callable[[Window, Logits], None]
    done: Callable[[Exception | None], None]
    configs: Sequence[LengthConfig] | None = None  # without, that of the place it gets
    lock: threading.Lock = field(default_factory=threading.Lock)
    read: dict[int, Logits] = field(default_factory=dict)
    added: int = 0
    ended: bool = False

    def take(self, number: int, logits: Logits) -> None:
        """Take what the model says of a window; windows are added in the order of the text."""
        with self.lock:
            if self.ended:
                return
            self.read[number] = logits
            while self.added in self.read:
                self.add(self.windows[self.added], self.read.pop(self.added))
                self.added += 1
            self.ended = self.added == len(self.windows)
            if not self.ended:
                return
        self.done(None)

    def fail(self, error: Exception) -> None:
        """End it, unless it has ended."""
        with self.lock:
            if self.ended:
                return
            self.ended = True
        self.done(error)


class Engine:
    """Answers questions at the budget that the moment allows. Safe to use from many threads and one event loop.

    Args:
        qa: The model. Each of the `workers` reads by itself, so its runtime should use one thread for each.
        options: How to serve.
        workers: Batches that are read at once.
        metrics: What to count in.

    Attributes:
        corpora: Corpora by name; make them with `engine.qa`, so that their windows wait with all others.
        qa: The model, whose reading goes through the scheduler. For threads, never for the event loop.
        ladder: The configurations that load control chooses from, the dearest first.
        lowest: The place of the cheapest of them that it may choose.
        objective: What load control holds.

    Raises:
        BudgetError: The floor or the usual budget makes no sense for the model.
    """

    def __init__(
        self,
        qa: QuestionAnswerer,
        options: ServeOptions,
        *,
        workers: int = 1,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.model = qa
        self.metrics = metrics or Metrics()
        self.corpora: dict[str, Corpus] = {}
        self._options = options
        self._clock = clock
        self._workers = workers
        floor = None if options.min_budget is None else _floor(qa, options.min_budget)
        qa.table.select(qa.shape, options.budget)
        self.ladder, self.lowest = ladder_of(qa.table, floor)
        # Of a table that nobody measured, cheaper configurations are chosen only where somebody said so.
        self._adapts = qa.table.measured_on is not None or options.min_budget is not None
        self.objective = self._objective()
        self._lock = threading.Condition()
        self._scheduler = self._schedule(Costs(qa.shape, self.ladder))
        self._jobs: dict[int, _Job] = {}  # by id of what waits
        self._open = 0
        self._stopping = False
        self._threads: list[threading.Thread] = []
        self._prepare = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prepare")
        self._prepare_long = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prepare-long")
        self._asking = ThreadPoolExecutor(max_workers=_CORPUS_THREADS, thread_name_prefix="corpus")
        self._request = threading.local()
        self._numbers = itertools.count()
        self.qa = QuestionAnswerer.from_reader(
            _ScheduledReader(self, qa.reader), qa.shape, qa.table, name=qa.name, calibration=qa.calibration
        )

    def _objective(self) -> Objective:
        slo = self._options.slo_ms
        if slo is not None and not self._adapts:
            warn(
                "load control is off: this model has no measured table of length configurations, so what cheaper ones "
                "cost in F1 is unknown; --min-budget B turns it on all the same"
            )
            slo = None
        return Objective() if slo is None else Objective(seconds=slo / 1000)

    def _schedule(self, costs: Costs) -> Scheduler:
        return Scheduler(
            costs,
            self.objective,
            lowest=self.lowest,
            threads=self._workers,
            max_batch_tokens=self._options.max_batch_tokens,
            # At int8 the scales are a whole batch's.
            most_rows=1 if self.model.reader.runtime.precision == "int8" else None,
        )

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Warm the model up, measure what its configurations take, and start to read."""
        tokenizer = self.model.reader.tokenizer

        def read(length: int, choice: MeasuredConfig) -> None:
            ids = np.full((1, length), tokenizer.sep, np.int64)
            ids[0, 0] = tokenizer.cls
            types = np.zeros_like(ids)
            types[0, length // 8 :] = 1
            self.model.reader.runtime.run(ids, types, np.ones_like(ids), choice.config.lengths([length]))

        self._scheduler = self._schedule(Costs.measure(self.model.shape, self.ladder, read))
        seconds = self.objective.seconds
        self.metrics.objective.set(seconds if math.isfinite(seconds) else 0)
        self.metrics.waiting.set_function(lambda: self._open)
        self.metrics.present_share.set_function(lambda: self.ladder[self.present()].share)
        for i in range(self._workers):
            thread = threading.Thread(target=self._work, name=f"reader-{i}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Stop to read; what still waits fails with `Stopped`."""
        with self._lock:
            self._stopping = True
            jobs = list(self._jobs.values())
            self._jobs.clear()
            self._lock.notify_all()
        for job in jobs:
            job.fail(Stopped("the server is stopping"))
        for thread in self._threads:
            thread.join()
        self._prepare.shutdown()  # what waits there fails as soon as it begins
        self._prepare_long.shutdown()
        self._asking.shutdown()

    # -- questions -----------------------------------------------------------------------------------------------------

    @property
    def open(self) -> int:
        """Questions that were accepted and are not answered yet."""
        return self._open

    def admit(self, questions: int) -> None:
        """Take in the questions of a request; `release` follows when each has ended.

        Raises:
            TooBusy: There are too many, or a newcomer would wait too long even at the cheapest configuration.
        """
        now = self._clock()
        with self._lock:
            reason = "waiting" if self._open + questions > self._options.max_waiting else None
            if reason is None and self._scheduler.overloaded(now):
                reason = "objective"
            if reason is not None:
                if reason == "objective":  # a list that is too long for the moment is no flood
                    self._scheduler.refused(now)
                wait = self._scheduler.wait(now)
                self.metrics.refused.labels(reason).inc(questions)
                raise TooBusy(reason, max(1, math.ceil(wait)))
            self._open += questions
        self.metrics.accepted.inc(questions)

    def release(self, questions: int) -> None:
        """Say that questions have ended, answered or not."""
        with self._lock:
            self._open -= questions

    def present(self) -> int:
        """Return the place on the ladder of what a question would get now."""
        with self._lock:
            return self._scheduler.present(self._clock())

    async def answer(
        self,
        pairs: Sequence[tuple[str, str]],
        settings: Settings,
        *,
        arrived: float,
        max_latency: float = math.inf,
        explain: bool = False,
    ) -> list[Result]:
        """Answer the questions of a request from texts. Cancelled, it leaves nothing behind that waits.

        Args:
            pairs: Questions and texts.
            settings: How to answer; its configuration is the dearest that they may have.
            arrived: When the request came, by `time.perf_counter`.
            max_latency: Seconds from then in which the answers should be there, beside the server's objective.
            explain: Tell the layers that the tokens of the texts passed.

        Raises:
            EmptyQuestionError: A question has no tokens.
            TooMuch: The texts make more windows than a request may have.
            LogitsError: The model computes logits that are not finite.
            Stopped: The engine has stopped.
        """
        asked = [_Asked(self, question, text, settings, explain) for question, text in pairs]

        left = threading.Event()
        characters = sum(len(text) for _, text in pairs)
        pool = self._prepare if characters <= _SHORT else self._prepare_long

        def cut() -> None:
            room = _MOST_WINDOWS
            for one in asked:
                one.cut(left, room)
                room -= len(one.windows)

        try:
            await self._in(pool, cut)
        finally:
            left.set()
        request = next(self._numbers)
        cap = place(self.ladder, settings.choice)
        objective = min(self.objective.seconds, max_latency) if self._adapts else math.inf
        jobs = []
        futures = []
        for one in asked:
            if one.windows:
                waiting = Waiting(request, [len(window) for window in one.windows], cap, arrived, objective)
                done, future = _resolver()
                jobs.append(_Job(waiting, one.windows, one.add, done))
                futures.append(future)
                one.waiting = waiting
        self._submit(jobs)
        try:
            await asyncio.gather(*futures)
        finally:
            self._cancel(jobs)
        return [one.result(arrived, self._clock()) for one in asked]

    async def ask(
        self,
        name: str,
        question: str,
        *,
        top_k: int,
        budget: Budget,
        arrived: float,
        max_latency: float = math.inf,
        options: dict[str, Any],
    ) -> Result:
        """Answer a question from a corpus.

        Load control gives it the configuration of the moment, and the rest of the objective as its latency. Cancelled,
        it goes on only to its next window.

        Args:
            name: The corpus.
            question: The question.
            top_k: How many answers.
            budget: The most that reading a passage may cost.
            arrived: When the request came, by `time.perf_counter`.
            max_latency: Seconds from then in which the answer should be there, beside the server's objective.
            options: More of `CorpusOptions`.

        Raises:
            CorpusError: The index cannot be used.
            ValueError: An option is out of range.
            Stopped: The engine has stopped.
        """
        cancelled = threading.Event()
        request = next(self._numbers)
        cap = place(self.ladder, self.model.table.select(self.model.shape, budget))

        def run() -> Result:
            began = self._clock()
            choice = self.ladder[max(cap, self.present())]
            # A little is left for what comes after reading.
            seconds = min(self.objective.seconds, max_latency) * self.objective.margin - (began - arrived)
            latency = None if math.isinf(seconds) else max(seconds * 1000, _LEAST_LATENCY_MS)
            self._request.number, self._request.cancelled = request, cancelled
            answers = self.corpora[name](question, top_k=top_k, budget=choice.config, max_latency_ms=latency, **options)
            spent = answers[0].spent if answers else None
            if spent and spent.coarse and not spent.read_again:  # there was no time for the finer reading
                choice = next((c for c in self.ladder if c.name == spent.coarse), choice)
            return Result(
                answers=answers,
                configuration=choice.name,
                share=choice.share,
                windows=spent.windows if spent else 0,
                macs=spent.macs if spent else 0,
                bert_base_macs=spent.bert_base_macs if spent else 0,
                queue_seconds=began - arrived,
                read_seconds=self._clock() - began,
            )

        try:
            return await self._in(self._asking, run)
        finally:
            cancelled.set()

    def predict(self, batch: Sequence[Window], configs: Sequence[LengthConfig]) -> Logits:
        """Predict windows when their turn comes; for the threads that ask corpora."""
        cancelled: threading.Event | None = getattr(self._request, "cancelled", None)
        if cancelled is not None and cancelled.is_set():
            raise Stopped("the question was cancelled")
        request = next(self._numbers) if cancelled is None else self._request.number
        found: dict[int, Logits] = {}
        places = [next((i for i, c in enumerate(self.ladder) if c.config == config), 0) for config in configs]
        over, failure = threading.Event(), list[Exception]()

        def done(error: Exception | None) -> None:
            failure.extend([error] if error else [])
            over.set()

        waiting = Waiting(request, [len(w) for w in batch], 0, self._clock(), place=max(places))
        job = _Job(waiting, batch, lambda window, logits: found.__setitem__(len(found), logits), done, configs=configs)
        self._submit([job])
        try:
            over.wait()
        finally:
            self._cancel([job])
        if failure:
            raise failure[0]
        longest = max(len(window) for window in batch)
        columns = (np.stack([np.pad(column, (0, longest - len(column))) for column in columns])
                   for columns in zip(*(found[i] for i in range(len(batch))), strict=True))  # fmt: skip
        return Logits(*columns)

    # -- threads -------------------------------------------------------------------------------------------------------

    def _submit(self, jobs: Sequence[_Job]) -> None:
        with self._lock:
            if self._stopping:
                raise Stopped("the server is stopping")
            for job in jobs:
                self._jobs[id(job.waiting)] = job
            self._scheduler.submit([job.waiting for job in jobs], self._clock())
            self._lock.notify_all()

    def _cancel(self, jobs: Sequence[_Job]) -> None:
        """Forget jobs, ended or not."""
        with self._lock:
            for job in jobs:
                if self._jobs.pop(id(job.waiting), None) is not None and job.waiting.windows:
                    self._scheduler.cancel(job.waiting)
                job.ended = True

    def _work(self) -> None:
        while True:
            with self._lock:
                while not self._stopping and not len(self._scheduler):
                    self._lock.wait()
                if self._stopping:
                    return
                batch = self._scheduler.next_batch(self._clock())
                if batch is None:
                    continue
                jobs = [self._jobs.get(id(waiting)) for waiting, _ in batch.windows]
            seconds = self._read(batch, jobs)
            with self._lock:
                if seconds is None:
                    self._scheduler.failed(batch)
                else:
                    self._scheduler.finished(batch, seconds)
            if seconds is not None:
                self._count(batch, seconds)

    def _read(self, batch: Batch, jobs: Sequence[_Job | None]) -> float | None:
        """Read a batch and hand out what the model says; an error ends its questions, and nothing else.

        Returns:
            The seconds that reading took, or None if not all of it was read: then they say nothing.
        """
        windows, configs, numbers = [], [], []
        for job, (_, number) in zip(jobs, batch.windows, strict=True):
            if job is not None and not job.ended:
                windows.append(job.windows[number])
                configs.append(job.configs[number] if job.configs else self.ladder[batch.place].config)
                numbers.append((job, number))
        if not windows:
            return None
        began = self._clock()
        try:
            start, end, layers = self.model.reader.predict(windows, configs)
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
        self.metrics.batch_seconds.observe(seconds)
        self.metrics.batch_tokens.observe(tokens)
        self.metrics.padding.inc(tokens - sum(waiting.sizes[number] for waiting, number in batch.windows))

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        def unless_stopping() -> T:
            if self._stopping:
                raise Stopped("the server is stopping")
            return work()

        with self._lock:
            if self._stopping:
                raise Stopped("the server is stopping")
            future = asyncio.get_running_loop().run_in_executor(pool, unless_stopping)
        return await future


class _ScheduledReader(Reader):
    """A reader whose windows wait their turn."""

    def __init__(self, engine: Engine, reader: Reader) -> None:
        super().__init__(reader.tokenizer, reader.runtime)
        self._engine = engine

    def predict(self, batch: Sequence[Window], configs: Sequence[LengthConfig]) -> Logits:
        return self._engine.predict(batch, configs)


class _Asked:
    """A question to a text on its way through the engine."""

    def __init__(self, engine: Engine, question: str, text: str, settings: Settings, explain: bool) -> None:
        self._engine = engine
        self._pending = Pending(question, text, settings)
        self._choice = settings.choice
        self._layers = _Layers() if explain else None
        self._tokens = None if self._layers is None else self._layers.told()
        self._answers: Sequence[Answer] = ()
        self.windows: list[Window] = []
        self.waiting: Waiting | None = None

    def cut(self, left: threading.Event, most: int) -> None:
        """Cut the text into windows, unless the client has left meanwhile.

        Raises:
            EmptyQuestionError: The question has no tokens.
            TooMuch: There are more windows than may be.
            Stopped: The client has left.
        """
        for window in self._pending.windows(self._engine.model.reader):
            if left.is_set():
                raise Stopped("the question was cancelled")
            if len(self.windows) == most:
                raise TooMuch(f"the texts make more than {_MOST_WINDOWS} windows")
            self.windows.append(window)

    def add(self, window: Window, logits: Logits) -> None:
        """Take in what the model says of the next window; with the last one there are answers."""
        self._pending.add(window, logits.start, logits.end)
        if self._layers is not None:
            self._layers.add(window, logits.layers_passed)
        if len(self._pending.lengths) == len(self.windows):
            assert self.waiting is not None
            assert self.waiting.place is not None
            self._choice = self._engine.ladder[self.waiting.place]
            self._answers = self._pending.answers(self._engine.model.shape, self._choice)
            self._tokens = None if self._layers is None else self._layers.told()

    def result(self, arrived: float, now: float) -> Result:
        """Return what the question came to, when all its windows have been read."""
        spent = self._answers[0].spent if self._answers else self._pending.spent(self._engine.model.shape, self._choice)
        begun = now if self.waiting is None or self.waiting.begun is None else self.waiting.begun
        return Result(
            answers=self._answers,
            configuration=spent.configuration,
            share=spent.share,
            windows=spent.windows,
            macs=spent.macs,
            bert_base_macs=spent.bert_base_macs,
            queue_seconds=begun - arrived,
            read_seconds=now - begun,
            tokens=self._tokens,
        )


def _floor(qa: QuestionAnswerer, budget: Budget) -> MeasuredConfig:
    """The configuration below which load control does not go: of a number, the cheapest that costs no less."""
    if not isinstance(budget, (int, float)):
        return qa.table.select(qa.shape, budget)
    qa.table.select(qa.shape, budget)  # refuses what is no budget
    ladder, _ = ladder_of(qa.table, None)
    return next((choice for choice in reversed(ladder) if choice.share >= budget - SHARE_ROUNDING), ladder[0])


class _Layers:
    """Collects the layers that a text's tokens passed; of a token in two windows, the better."""

    def __init__(self) -> None:
        self._parts: list[tuple[Ints, Ints, Ints]] = []
        self._shared: Ints = np.zeros(0, np.int64)

    def add(self, window: Window, layers: Ints) -> None:
        passed = layers[window.offset : window.offset + len(window.text)].copy()
        overlap = len(self._shared)
        passed[:overlap] = np.maximum(passed[:overlap], self._shared)
        settled = window.settled
        self._shared = passed[settled:]
        self._parts.append((window.text.begin[:settled], window.text.end[:settled], passed[:settled]))

    def told(self) -> TokenLayers:
        begin, end, layers = ([int(value) for part in self._parts for value in part[column]] for column in range(3))
        return TokenLayers(start=begin, end=end, layers=layers)


def _resolver() -> tuple[Callable[[Exception | None], None], asyncio.Future[None]]:
    """Return a future of this event loop, and what resolves it from any thread."""
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
