"""The engine: it answers questions at the budget that the load allows. It does not know HTTP.

A question to a text is cut into windows, scheduled, predicted and ranked. A question to a corpus runs in its own
thread, but its windows go through the same scheduler. Each question has one length configuration, so its answer is the
same as that of `QuestionAnswerer` with this configuration.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from dynamic_tinybert.answer import Spent
from dynamic_tinybert.errors import warn
from dynamic_tinybert.inference import Settings
from dynamic_tinybert.model import SHARE_ROUNDING, Budget, MeasuredConfig
from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.serve.engine.control import Objective, ladder_of, place
from dynamic_tinybert.serve.engine.costs import Costs
from dynamic_tinybert.serve.engine.errors import TooBusy
from dynamic_tinybert.serve.engine.job import Job, resolver
from dynamic_tinybert.serve.engine.metrics import Metrics
from dynamic_tinybert.serve.engine.pages import Pages
from dynamic_tinybert.serve.engine.question import MOST_WINDOWS, Result, TextQuestion
from dynamic_tinybert.serve.engine.reader import ScheduledReader
from dynamic_tinybert.serve.engine.scheduler import Scheduler, Waiting
from dynamic_tinybert.serve.engine.workers import Workers
from dynamic_tinybert.serve.options import ServeOptions

if TYPE_CHECKING:
    from dynamic_tinybert.corpus import Corpus

T = TypeVar("T")

_CORPUS_THREADS = 4  # questions to corpora that are answered at the same time
_LEAST_LATENCY_MS = 1.0
_SHORT = 50_000  # characters; a longer request is cut in another thread, so that short ones do not wait for it


class Engine:
    """Answer questions at the budget that the load allows. Safe to use from many threads and one event loop.

    Args:
        qa: The model. The `workers` predict in parallel, so its runtime should use a single thread.
        options: The options of the server.
        workers: How many batches are predicted at the same time.
        metrics: The metrics to update.
        clock: Returns the time in seconds.

    Attributes:
        corpora: Corpora by name; make them with `engine.qa`, so that their windows go through the scheduler.
        qa: The model with the scheduler. It blocks: use it in threads, never in the event loop.
        ladder: The configurations that load control chooses from, the most expensive first.
        lowest: The place on the ladder of the cheapest configuration that it may choose.
        objective: The objective of load control.
        pages: Runs what finds and draws places on pages.

    Raises:
        BudgetError: The minimum budget or the default budget is not valid for the model.
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
        self._threads = workers
        floor = None if options.min_budget is None else _floor(qa, options.min_budget)
        qa.table.select(qa.shape, options.budget)
        self.ladder, self.lowest = ladder_of(qa.table, floor)
        # With an unmeasured table, cheaper configurations are chosen only if `min_budget` allows it.
        self._adapts = qa.table.measured_on is not None or options.min_budget is not None
        self.objective = self._objective()
        self._workers = Workers(qa.reader, self._schedule(Costs(qa.shape, self.ladder)), self.metrics, clock)
        self._open = 0
        self._prepare = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prepare")
        self._prepare_long = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prepare-long")
        self._asking = ThreadPoolExecutor(max_workers=_CORPUS_THREADS, thread_name_prefix="corpus")
        self.pages = Pages()
        self._numbers = itertools.count()
        self._reader = ScheduledReader(qa.reader, self._workers, self._numbers, clock)
        self.qa = QuestionAnswerer.from_reader(
            self._reader, qa.shape, qa.table, name=qa.name, calibration=qa.calibration
        )

    def _objective(self) -> Objective:
        slo = self._options.slo_ms or None
        if slo is not None and not self._adapts:
            warn(
                "load control is off: this model has no measured table of length configurations, so what cheaper ones "
                "cost in F1 is unknown; --min-budget B turns it on anyway"
            )
            slo = None
        return Objective() if slo is None else Objective(seconds=slo / 1000)

    def _schedule(self, costs: Costs) -> Scheduler:
        return Scheduler(
            costs,
            self.objective,
            lowest=self.lowest,
            threads=self._threads,
            max_batch_tokens=self._options.max_batch_tokens,
            # In INT8, rows of unequal length would change each other's logits; equal ones gain little with one thread.
            most_rows=1 if self.model.reader.runtime.precision == "int8" else None,
        )

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Warm the model up, measure the time of its configurations, and start the workers."""
        tokenizer = self.model.reader.tokenizer

        def predict(length: int, choice: MeasuredConfig) -> None:
            ids = np.full((1, length), tokenizer.sep, np.int64)
            ids[0, 0] = tokenizer.cls
            types = np.zeros_like(ids)
            types[0, length // 8 :] = 1
            self.model.reader.runtime.run(ids, types, np.ones_like(ids), choice.config.lengths([length]))

        self._workers.scheduler = self._schedule(Costs.measure(self.model.shape, self.ladder, predict))
        seconds = self.objective.seconds
        self.metrics.objective.set(seconds if math.isfinite(seconds) else 0)
        self.metrics.waiting.set_function(lambda: self._open)
        self.metrics.present_share.set_function(lambda: self.ladder[self.present()].share)
        self._workers.start(self._threads)

    def stop(self) -> None:
        """Stop the workers; waiting questions fail with `Stopped`."""
        self._workers.stop()
        self._prepare.shutdown()  # waiting work fails as soon as it starts
        self._prepare_long.shutdown()
        self._asking.shutdown()
        self.pages.stop()

    # -- questions -----------------------------------------------------------------------------------------------------

    @property
    def open(self) -> int:
        """The number of questions that were accepted and have not ended."""
        return self._open

    def admit(self, questions: int) -> None:
        """Accept the questions of a request; call `release` when they have ended.

        Raises:
            TooBusy: Too many questions wait, or a new one would wait too long even with the cheapest configuration.
        """
        now = self._clock()
        with self._workers.lock:
            reason = "waiting" if self._open + questions > self._options.max_waiting else None
            if reason is None and self._workers.scheduler.overloaded(now):
                reason = "objective"
            if reason is not None:
                if reason == "objective":  # a list that is too long now does not mean overload
                    self._workers.scheduler.refused(now)
                wait = self._workers.scheduler.wait(now)
                self.metrics.refused.labels(reason).inc(questions)
                raise TooBusy(reason, max(1, math.ceil(wait)))
            self._open += questions
        self.metrics.accepted.inc(questions)

    def release(self, questions: int) -> None:
        """Record that questions have ended, answered or not."""
        with self._workers.lock:
            self._open -= questions

    def present(self) -> int:
        """Return the place on the ladder of the configuration that a question would get now."""
        with self._workers.lock:
            return self._workers.scheduler.present(self._clock())

    async def answer(
        self,
        pairs: Sequence[tuple[str, str]],
        settings: Settings,
        *,
        arrived: float,
        max_latency: float = math.inf,
        explain: bool = False,
    ) -> list[Result]:
        """Answer the questions of a request from texts. If it is cancelled, its windows are removed from the queue.

        Args:
            pairs: Questions and texts.
            settings: How to answer; its configuration is the most expensive that the questions may get.
            arrived: The arrival of the request, by `time.perf_counter`.
            max_latency: The time limit from the arrival in seconds, in addition to the server's objective.
            explain: Return the layers that the tokens of the texts passed.

        Raises:
            EmptyQuestionError: A question has no tokens.
            TooMuch: The texts make too many windows.
            LogitsError: The model computes logits that are not finite.
            Stopped: The engine has stopped.
        """
        asked = [
            TextQuestion(question, text, settings, shape=self.model.shape, ladder=self.ladder, explain=explain)
            for question, text in pairs
        ]
        left = threading.Event()
        characters = sum(len(text) for _, text in pairs)
        pool = self._prepare if characters <= _SHORT else self._prepare_long

        def cut() -> None:
            room = MOST_WINDOWS
            for one in asked:
                one.cut(self.model.reader, left, room)
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
                done, future = resolver()
                jobs.append(Job(waiting, one.windows, one.add, done))
                futures.append(future)
                one.waiting = waiting
        self._workers.submit(jobs)
        try:
            await asyncio.gather(*futures)
        finally:
            self._workers.cancel(jobs)
        return [one.result(arrived, self._clock()) for one in asked]

    async def ask(
        self,
        name: str,
        question: str,
        *,
        top_k: int,
        budget: Budget,
        arrived: float,
        turn: float | None = None,
        max_latency: float = math.inf,
        options: dict[str, Any],
    ) -> Result:
        """Answer a question from a corpus.

        Load control chooses the current configuration; the time limit is what is left of the objective. If the request
        is cancelled, it ends at the next prediction.

        Args:
            name: The name of the corpus.
            question: The question.
            top_k: How many answers to give.
            budget: The highest cost of a prediction on a passage.
            arrived: The arrival of the request, by `time.perf_counter`.
            turn: The time from which the server's objective counts: of a list, the end of the question before. By
                default, the arrival.
            max_latency: The time limit from the arrival in seconds, in addition to the server's objective.
            options: Other `CorpusOptions`.

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
            # The margin leaves time for the work after the predictions.
            seconds = min(
                self.objective.seconds * self.objective.margin - (began - (arrived if turn is None else turn)),
                max_latency * self.objective.margin - (began - arrived),
            )
            latency = None if math.isinf(seconds) else max(seconds * 1000, _LEAST_LATENCY_MS)
            self._reader.begin(request, cancelled)
            answers = self.corpora[name](question, top_k=top_k, budget=choice.config, max_latency_ms=latency, **options)
            nothing = Spent(configuration=choice.name, share=choice.share, windows=0, macs=0, bert_base_macs=0)
            spent = answers[0].spent if answers else nothing
            if spent.coarse and not spent.read_again:  # there was no time for the second round
                choice = next((c for c in self.ladder if c.name == spent.coarse), choice)
            return Result(
                answers=answers,
                spent=replace(spent, configuration=choice.name, share=choice.share),
                queue_seconds=began - arrived,
                read_seconds=self._clock() - began,
            )

        try:
            return await self._in(self._asking, run)
        finally:
            cancelled.set()

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        def unless_stopping() -> T:
            self._workers.check_running()
            try:
                return work()
            except Exception:
                raise
            except BaseException as panic:  # of a library in Rust: it is no Exception, and would end more than this
                raise RuntimeError(f"a library failed: {panic}") from panic

        with self._workers.lock:
            self._workers.check_running()
            future = asyncio.get_running_loop().run_in_executor(pool, unless_stopping)
        return await future


def _floor(qa: QuestionAnswerer, budget: Budget) -> MeasuredConfig:
    """Return the cheapest configuration for load control; for a number, the cheapest one that costs at least this."""
    if not isinstance(budget, (int, float)):
        return qa.table.select(qa.shape, budget)
    qa.table.select(qa.shape, budget)  # raises if the budget is invalid
    ladder, _ = ladder_of(qa.table, None)
    return next((choice for choice in reversed(ladder) if choice.share >= budget - SHARE_ROUNDING), ladder[0])
