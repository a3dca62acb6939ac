"""Answer one request to `/answer`, from its body to its response."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeAlias

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from dynamic_tinybert.answer import EmptyQuestionError
from dynamic_tinybert.corpus import CorpusError
from dynamic_tinybert.inference import Settings
from dynamic_tinybert.model import Budget
from dynamic_tinybert.serve.engine import Engine, Result, Stopped, TooBusy, TooMuch
from dynamic_tinybert.serve.http.problems import Problem
from dynamic_tinybert.serve.http.responses import milliseconds, result_body
from dynamic_tinybert.serve.http.schemas import AnswerRequest
from dynamic_tinybert.serve.options import ServeOptions

logger = logging.getLogger("dynamic_tinybert.serve")

_Work: TypeAlias = "Callable[[], Coroutine[Any, Any, list[Result]]]"

_OPTIONS = (
    "max_seq_len", "doc_stride", "max_question_len", "max_answer_len", "align_to_words", "score_threshold",
)  # fmt: skip
_TEXTS = 4  # all texts of a request may be so many times the longest text; a text counts once for each question


class ClientLeft(Exception):
    """The client has closed the connection."""


class AnswerCall:
    """One request to /answer."""

    def __init__(self, engine: Engine, options: ServeOptions, request: Request, asked: AnswerRequest) -> None:
        self._engine = engine
        self._options = options
        self._request = request
        self._asked = asked
        # The middleware stores the time when the whole request had arrived.
        self._arrived: float = getattr(request.state, "received", None) or time.perf_counter()
        self._budget: Budget = options.budget if asked.budget is None else asked.budget

    async def __call__(self) -> Response:
        """Answer the request.

        Raises:
            Problem: The request cannot be answered; the client gets the reason.
            ClientLeft: The client has closed the connection.
        """
        asked, engine = self._asked, self._engine
        questions = asked.questions
        index = asked.index if asked.index in engine.corpora else None  # an unknown name may be private text
        characters, most = sum(map(len, asked.texts)), _TEXTS * self._options.max_text_characters
        self._log(questions=len(questions), characters=characters, index=index)
        if characters > most:
            raise Problem(
                413,
                "too_large",
                f"the texts have more than {most} characters, a text counted once for each question: send less",
            )
        if self._options.log_text:
            self._log(question=asked.question, text=asked.text)
        try:
            work = self._of_texts() if asked.index is None else self._of_index(asked.index)
            engine.admit(len(questions))
        except TooBusy as busy:
            raise Problem(
                429,
                "too_busy",
                f"{busy}: try again in {busy.retry_after} s",
                headers={"Retry-After": str(busy.retry_after)},
            ) from None
        try:
            results = await self._unless_late(work())
        finally:
            engine.release(len(questions))
        return self._response(results)

    def _of_texts(self) -> _Work:
        asked = self._asked
        settings = self._settings(
            handle_impossible_answer=asked.handle_impossible_answer, no_answer_threshold=asked.no_answer_threshold
        )
        pairs = list(zip(asked.questions, asked.texts, strict=True))
        return partial(
            self._engine.answer,
            pairs,
            settings,
            arrived=self._arrived,
            max_latency=self._max_latency,
            explain=asked.explain,
        )

    def _of_index(self, name: str) -> _Work:
        asked = self._asked
        if name not in self._engine.corpora:
            raise Problem(404, "not_found", "there is no index of this name: /info lists them")
        self._settings()  # raises a problem if a value is out of range

        async def ask() -> list[Result]:
            results: list[Result] = []
            turn = self._arrived
            # One after the other: a list uses only one thread, and leaves the others to other requests.
            for question in asked.questions:
                results.append(
                    await self._engine.ask(
                        name,
                        question,
                        top_k=asked.top_k,
                        budget=self._budget,
                        arrived=self._arrived,
                        turn=turn,
                        max_latency=self._max_latency,
                        options=self._given,
                    )
                )
                turn = time.perf_counter()
            return results

        return ask

    def _settings(self, **options: Any) -> Settings:
        try:
            return self._engine.model.settings(budget=self._budget, top_k=self._asked.top_k, **self._given, **options)
        except ValueError as error:  # it quotes only numbers, never the texts
            raise Problem(422, "invalid_request", str(error)) from None

    @property
    def _given(self) -> dict[str, Any]:
        return {name: getattr(self._asked, name) for name in _OPTIONS}

    @property
    def _max_latency(self) -> float:
        latency = self._asked.max_latency_ms
        return math.inf if latency is None else latency / 1000

    async def _unless_late(self, work: Coroutine[Any, Any, list[Result]]) -> list[Result]:
        """Return the results, or raise an error if the deadline passes or the client leaves."""
        timeout = min(self._max_latency, self._options.timeout_ms / 1000)
        left = max(timeout - (time.perf_counter() - self._arrived), 0.0)
        answering = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(self._until_client_leaves())
        try:
            await asyncio.wait({answering, leaving}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                return await answering
            reason = "client" if leaving.done() else "deadline"
            self._engine.metrics.given_up.labels(reason).inc(len(self._asked.questions))
            self._log(given_up=reason)
            if leaving.done():
                raise ClientLeft
            raise Problem(
                504, "deadline_exceeded", "the answer was not ready in time: ask for less, or allow more time"
            )
        except Stopped:
            self._failed()
            raise Problem(503, "stopping", "the server is stopping", headers={"Retry-After": "1"}) from None
        except TooMuch as much:
            self._failed()
            raise Problem(413, "too_large", f"{much}: send less text at a time, or a smaller doc_stride") from None
        except CorpusError as error:
            self._failed()
            logger.error("an index cannot be used: %s", error, extra={"request_id": self._request.state.request_id})
            raise Problem(
                503,
                "index_unavailable",
                "the index cannot be used now: the server's log says why under this request_id",
                headers={"Retry-After": "5"},
            ) from None
        except EmptyQuestionError:
            self._failed()
            raise Problem(422, "invalid_request", "a question has no words that can be read") from None
        except (ClientLeft, Problem):
            raise
        except asyncio.CancelledError:
            self._engine.metrics.given_up.labels("client").inc(len(self._asked.questions))
            raise
        except BaseException:
            self._failed()
            raise
        finally:
            for task in (answering, leaving):
                task.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)

    def _failed(self) -> None:
        self._engine.metrics.given_up.labels("error").inc(len(self._asked.questions))

    async def _until_client_leaves(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass

    def _response(self, results: list[Result]) -> Response:
        metrics = self._engine.metrics
        size = sum(len(a.text) + len(getattr(a, "passage", "")) for result in results for a in result.answers)
        if size > self._options.max_body_bytes:  # for example very long words, each of them an answer
            self._failed()
            raise Problem(413, "too_large", "the answers are too long to be sent: ask for fewer")
        total = time.perf_counter() - self._arrived
        metrics.latency.observe(total)
        for result in results:
            metrics.answered.labels(result.spent.configuration).inc()
            metrics.share.observe(result.spent.share)
            metrics.queue.observe(result.queue_seconds)
        self._log(
            configurations=sorted({result.spent.configuration for result in results}),
            queue_ms=milliseconds(max(result.queue_seconds for result in results)),
            windows=sum(result.spent.windows for result in results),
        )
        return JSONResponse(
            {
                "model": self._engine.model.name,
                "total_ms": milliseconds(total),
                "results": [result_body(result) for result in results],
            }
        )

    def _log(self, **fields: Any) -> None:
        log = getattr(self._request.state, "log", None)
        if log is not None:
            log.update((name, value) for name, value in fields.items() if value is not None)
