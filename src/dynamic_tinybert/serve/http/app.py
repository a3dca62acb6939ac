"""The app: requests to questions, results to responses."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from importlib import resources
from typing import Annotated, Any, TypeAlias

from fastapi import Body, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from dynamic_tinybert import __version__
from dynamic_tinybert.answer import EmptyQuestionError
from dynamic_tinybert.model import Budget
from dynamic_tinybert.serve.engine.engine import Engine, Result, Stopped, TooBusy, TooMuch
from dynamic_tinybert.serve.http import problems
from dynamic_tinybert.serve.http.problems import Problem, ProblemBody
from dynamic_tinybert.serve.http.schemas import (
    EXAMPLES,
    AnswerRequest,
    AnswerResponse,
    Configuration,
    Health,
    IndexInfo,
    Info,
    Limits,
    LoadControlInfo,
    ModelInfo,
    request_model,
)
from dynamic_tinybert.serve.http.stopping import Stopping
from dynamic_tinybert.serve.options import ServeOptions

_Work: TypeAlias = "Callable[[], Coroutine[Any, Any, list[Result]]]"

_DESCRIPTION = """Extractive question answering at any computational budget.

Ask questions of a text, or of an index of documents. A budget says what a question may cost; load control gives less
when that is what it takes to answer in time. Each result says what it got.
"""
_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
}
_TEXTS = 4  # times the longest text is what all texts of a request may be, each counted for each of its questions
_LEFT = 499  # that a client has left, as nginx says it; nobody is there to be told


class _Left(Exception):
    """The client has left."""


def create_app(engine: Engine, options: ServeOptions, stopping: Stopping | None = None) -> FastAPI:
    """Make the app. It starts the engine when it starts, and stops it when it stops.

    Args:
        engine: What answers.
        options: How to serve: the limits of requests, and the usual budget.
        stopping: Whether the server is stopping.
    """
    stopping = stopping or Stopping()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.get_running_loop().run_in_executor(None, engine.start)
        yield
        await asyncio.get_running_loop().run_in_executor(None, engine.stop)

    app = FastAPI(
        title="dynamic-tinybert",
        version=__version__,
        description=_DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,  # they load from another host
        redoc_url=None,
        redirect_slashes=False,  # a proxy's client would be sent to http
        lifespan=lifespan,
    )
    problems.install(app)
    unlucky: dict[int | str, dict[str, Any]] = {
        status: {"model": ProblemBody, "description": what}
        for status, what in {
            400: "The body is no JSON.",
            404: "There is no such index.",
            408: "The body came too slowly.",
            413: "The body is too large.",
            415: "The body is not sent as JSON.",
            422: "The request is not as it should be.",
            429: "Too much waits; Retry-After says for how many seconds.",
            500: "The server failed; its log says more.",
            503: "The server is stopping.",
            504: "The deadline has passed.",
        }.items()
    }
    everywhere: dict[int | str, dict[str, Any]] = {503: unlucky[503]}
    if options.api_keys:
        unlucky[401] = everywhere[401] = {"model": ProblemBody, "description": "No valid API key was sent."}

    async def answer(request: Request, asked: Any) -> Response:
        """Answer questions from a text, texts, or an index."""
        call = _Call(engine, options, request, asked)
        engine.metrics.open_requests.inc()
        status = 500
        try:
            response = await call()
            status = response.status_code
            return response
        except Problem as problem:
            status = problem.status
            raise
        except _Left:
            status = _LEFT
            return Response(status_code=_LEFT)
        except asyncio.CancelledError:  # by a server that ends what a client has left, as Ray Serve does
            status = _LEFT
            raise
        finally:
            engine.metrics.open_requests.dec()
            engine.metrics.requests.labels(str(status)).inc()

    # What a request may be is known only now: the limits are a server's own.
    answer.__annotations__["asked"] = Annotated[request_model(options), Body(openapi_examples=EXAMPLES)]
    app.post("/answer", response_model=AnswerResponse, responses=unlucky, operation_id="answer", tags=["questions"])(
        answer
    )

    @app.get("/health", response_model=Health, responses={503: {"model": Health}}, tags=["server"])
    async def health() -> Response:
        """Say whether the server takes questions: 503 while it stops."""
        if stopping.is_set():
            return JSONResponse({"status": "stopping"}, 503)
        return JSONResponse({"status": "ok"})

    @app.get("/info", response_model=Info, responses=everywhere, tags=["server"])
    def info() -> Info:
        """Tell the model, what it offers, the indexes and the limits."""
        return _info(engine, options)

    @app.get("/metrics", response_class=Response, responses=everywhere, tags=["server"])
    def metrics() -> Response:
        """Tell the metrics, as Prometheus reads them."""
        return Response(engine.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    files = resources.files("dynamic_tinybert.serve") / "page"
    for path, (name, kind) in _PAGE.items():
        file = files / name
        if file.is_file():
            _serve_file(app, path, file.read_bytes(), kind)
    return app


def _serve_file(app: FastAPI, path: str, content: bytes, kind: str) -> None:
    async def page() -> Response:
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    app.add_api_route(path, page, include_in_schema=False, methods=["GET", "HEAD"])


class _Call:
    """One request to /answer."""

    def __init__(self, engine: Engine, options: ServeOptions, request: Request, asked: AnswerRequest) -> None:
        self._engine = engine
        self._options = options
        self._request = request
        self._asked = asked
        # The middleware says when the whole request was there.
        self._arrived: float = getattr(request.state, "received", None) or time.perf_counter()
        self._budget: Budget = options.budget if asked.budget is None else asked.budget

    async def __call__(self) -> Response:
        asked, engine = self._asked, self._engine
        questions = asked.questions
        index = asked.index if asked.index in engine.corpora else None  # another is a user's text
        characters, most = sum(map(len, asked.texts)), _TEXTS * self._options.max_text_characters
        self._log(questions=len(questions), characters=characters, index=index)
        if characters > most:
            raise Problem(
                413, "too_large", f"texts times questions are more than {most} characters: send less at a time"
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
                f"the server is busy: ask again in {busy.retry_after} s",
                headers={"Retry-After": str(busy.retry_after)},
            ) from None
        try:
            results = await self._unless_late(work())
        finally:
            engine.release(len(questions))
        return self._response(results)

    def _of_texts(self) -> _Work:
        asked = self._asked
        try:
            settings = self._engine.model.settings(
                budget=self._budget,
                top_k=asked.top_k,
                max_seq_len=asked.max_seq_len,
                doc_stride=asked.doc_stride,
                max_question_len=asked.max_question_len,
                max_answer_len=asked.max_answer_len,
                handle_impossible_answer=asked.handle_impossible_answer,
                no_answer_threshold=asked.no_answer_threshold,
            )
        except ValueError as error:  # of numbers alone: nothing of the texts is in it
            raise Problem(422, "invalid_request", str(error)) from None
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
        options = {
            "max_seq_len": asked.max_seq_len,
            "doc_stride": asked.doc_stride,
            "max_question_len": asked.max_question_len,
            "max_answer_len": asked.max_answer_len,
        }
        try:
            self._engine.model.settings(budget=self._budget, top_k=asked.top_k, **options)  # type: ignore[arg-type]
        except ValueError as error:
            raise Problem(422, "invalid_request", str(error)) from None

        async def ask() -> list[Result]:
            asking = [
                partial(
                    self._engine.ask,
                    name,
                    question,
                    top_k=asked.top_k,
                    budget=self._budget,
                    arrived=self._arrived,
                    max_latency=self._max_latency,
                    options=options,
                )
                for question in asked.questions
            ]
            # One after the other: a list has one of the threads, and leaves the others to other requests.
            return [await one() for one in asking]

        return ask

    @property
    def _max_latency(self) -> float:
        latency = self._asked.max_latency_ms
        return math.inf if latency is None else latency / 1000

    async def _unless_late(self, work: Coroutine[Any, Any, list[Result]]) -> list[Result]:
        """Return the results, unless the deadline passes before, or the client leaves."""
        timeout = min(self._max_latency, self._options.timeout_ms / 1000)
        left = max(timeout - (time.perf_counter() - self._arrived), 0.0)
        answering = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(self._left())
        try:
            await asyncio.wait({answering, leaving}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                return await answering
            reason = "client" if leaving.done() else "deadline"
            self._engine.metrics.given_up.labels(reason).inc(len(self._asked.questions))
            self._log(given_up=reason)
            if leaving.done():
                raise _Left
            raise Problem(504, "deadline_exceeded", "the answer did not come in time: ask for less, or allow more time")
        except Stopped:
            self._failed()
            raise Problem(503, "stopping", "the server is stopping", headers={"Retry-After": "1"}) from None
        except TooMuch as much:
            self._failed()
            raise Problem(413, "too_large", f"{much}: send less text at a time, or a smaller doc_stride") from None
        except EmptyQuestionError:
            self._failed()
            raise Problem(422, "invalid_request", "a question has no words that can be read") from None
        except (_Left, Problem):
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

    async def _left(self) -> None:
        """Return when the client has left."""
        while (await self._request.receive())["type"] != "http.disconnect":
            pass

    def _response(self, results: list[Result]) -> Response:
        metrics = self._engine.metrics
        size = sum(len(a.text) + len(getattr(a, "passage", "")) for result in results for a in result.answers)
        if size > self._options.max_body_bytes:  # words without an end, each answer one of them
            self._failed()
            raise Problem(413, "too_large", "the answers are too long to be sent: ask for fewer")
        total = time.perf_counter() - self._arrived
        metrics.latency.observe(total)
        for result in results:
            metrics.answered.labels(result.configuration).inc()
            metrics.share.observe(result.share)
            metrics.queue.observe(result.queue_seconds)
        self._log(
            configurations=sorted({result.configuration for result in results}),
            queue_ms=_ms(max(result.queue_seconds for result in results)),
            windows=sum(result.windows for result in results),
        )
        return JSONResponse(
            {
                "model": self._engine.model.name,
                "total_ms": _ms(total),
                "results": [_result(result) for result in results],
            }
        )

    def _log(self, **fields: Any) -> None:
        log = getattr(self._request.state, "log", None)
        if log is not None:
            log.update((name, value) for name, value in fields.items() if value is not None)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _result(result: Result) -> dict[str, Any]:
    """A result as `ResultItem` describes it; made by hand, since each request pays for it."""
    item: dict[str, Any] = {
        "answers": [_answer(answer) for answer in result.answers],
        "configuration": result.configuration,
        "share": round(result.share, 4),
        "windows": result.windows,
        "macs": result.macs,
        "bert_base_macs": result.bert_base_macs,
        "queue_ms": _ms(result.queue_seconds),
        "read_ms": _ms(result.read_seconds),
        "tokens": None,
    }
    if result.tokens is not None:
        tokens = result.tokens
        item["tokens"] = {"start": tokens.start, "end": tokens.end, "layers": tokens.layers}
    return item


def _answer(answer: Any) -> dict[str, Any]:
    item = {
        "text": answer.text,
        "start": answer.start,
        "end": answer.end,
        "score": answer.score,
        "logit": answer.logit if math.isfinite(answer.logit) else None,
        "confidence": answer.confidence,
    }
    if hasattr(answer, "document"):
        item |= {
            "document": answer.document,
            "title": answer.title,
            "passage": answer.passage,
            "passage_start": answer.passage_start,
            "retrieval": answer.retrieval,
        }
    return item


def _info(engine: Engine, options: ServeOptions) -> Info:
    model, table = engine.model, engine.model.table
    shape = model.shape
    control = None
    if math.isfinite(engine.objective.seconds):
        control = LoadControlInfo(
            slo_ms=engine.objective.seconds * 1000,
            min_share=round(engine.ladder[engine.lowest].share, 4),
            configuration=engine.ladder[engine.present()].name,
        )
    named: tuple[Budget, ...] = ("full", "balanced", "fast")
    return Info(
        version=__version__,
        model=ModelInfo(
            name=model.name,
            layers=shape.layers,
            hidden=shape.hidden,
            heads=shape.heads,
            feed_forward=shape.feed_forward,
            positions=shape.positions,
            calibrated=model.calibration is not None,
            no_answer_threshold=table.no_answer_threshold,
        ),
        measured_on=table.measured_on,
        configurations=[
            Configuration(
                name=choice.name,
                share=round(choice.share, 4),
                exact_match=choice.exact_match,
                f1=choice.f1,
                fractions=list(choice.config.fractions),
            )
            for choice in table.choices
        ],
        budgets={str(name): table.select(shape, name).name for name in named},
        indexes=[_index(engine, name) for name in engine.corpora],
        load_control=control,
        limits=Limits(
            max_body_bytes=options.max_body_bytes,
            max_text_characters=options.max_text_characters,
            max_question_characters=options.max_question_characters,
            max_questions=options.max_questions,
            max_waiting=options.max_waiting,
            max_batch_tokens=options.max_batch_tokens,
            timeout_ms=options.timeout_ms,
        ),
    )


def _index(engine: Engine, name: str) -> IndexInfo:
    from dynamic_tinybert.corpus import CorpusError

    try:
        counts = engine.corpora[name].counts()
    except CorpusError:
        return IndexInfo(name=name, documents=None, passages=None)
    return IndexInfo(name=name, documents=counts.documents, passages=counts.passages)
