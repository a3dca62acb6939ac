"""The app: the routes of the API and the page."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib import resources
from typing import Annotated, Any

from fastapi import Body, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from dynamic_tinybert import __version__
from dynamic_tinybert.serve.engine import Engine
from dynamic_tinybert.serve.http import problems
from dynamic_tinybert.serve.http.call import AnswerCall, ClientLeft
from dynamic_tinybert.serve.http.middleware import LEFT
from dynamic_tinybert.serve.http.places import add_places
from dynamic_tinybert.serve.http.problems import ProblemBody
from dynamic_tinybert.serve.http.responses import info_body
from dynamic_tinybert.serve.http.schemas import EXAMPLES, AnswerResponse, Health, Info, request_model
from dynamic_tinybert.serve.http.stopping import Stopping
from dynamic_tinybert.serve.options import ServeOptions

_DESCRIPTION = """Extractive question answering at any computational budget.

Ask questions of a text, or of an index of documents. A budget limits the cost of a question. Under load, the server
lowers it to answer in time. Each result says which configuration it got.
"""
_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
}
_PROBLEMS = {
    400: "The body is not JSON.",
    401: "No valid API key was sent.",
    404: "There is no such index.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The body is not sent as JSON.",
    422: "The request is not valid.",
    429: "The server is busy; Retry-After says how many seconds to wait.",
    500: "The server failed; its log says more.",
    503: "The server is stopping, or the index cannot be used.",
    504: "The deadline has passed.",
}


def create_app(engine: Engine, options: ServeOptions, stopping: Stopping | None = None) -> FastAPI:
    """Create the app. It starts and stops the engine in its lifespan.

    Args:
        engine: The engine.
        options: The options of the server: the limits of requests, and the default budget.
        stopping: Whether the server is stopping.
    """

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
        docs_url=None,  # the documentation pages load scripts from another host
        redoc_url=None,
        redirect_slashes=False,  # behind a proxy, it would redirect clients from https to http
        lifespan=lifespan,
    )
    app.state.count_request = engine.metrics.request
    problems.install(app)
    _add_answer(app, engine, options)
    add_places(app, engine, options)
    _add_server(app, engine, options, stopping or Stopping())
    _add_page(app)
    return app


def _add_answer(app: FastAPI, engine: Engine, options: ServeOptions) -> None:
    async def answer(request: Request, asked: Any) -> Response:
        """Answer questions from a text, texts, or an index."""
        call = AnswerCall(engine, options, request, asked)
        engine.metrics.open_requests.inc()
        try:
            return await call()
        except ClientLeft:
            return Response(status_code=LEFT)
        finally:
            engine.metrics.open_requests.dec()

    # The model of a request depends on the options of the server, so the annotation is set here.
    answer.__annotations__["asked"] = Annotated[request_model(options), Body(openapi_examples=EXAMPLES)]
    told = _problems(options, *_PROBLEMS)
    app.post("/answer", response_model=AnswerResponse, responses=told, operation_id="answer", tags=["questions"])(
        answer
    )


def _add_server(app: FastAPI, engine: Engine, options: ServeOptions, stopping: Stopping) -> None:
    everywhere = _problems(options, 401, 503)

    @app.head("/health", include_in_schema=False)
    @app.get("/health", response_model=Health, responses={503: {"model": Health}}, tags=["server"])
    async def health() -> Response:
        """Return whether the server accepts questions; status 503 while it stops."""
        if stopping.is_set():
            return JSONResponse({"status": "stopping"}, 503)
        return JSONResponse({"status": "ok"})

    @app.get("/info", response_model=Info, responses=everywhere, tags=["server"])
    def info() -> Info:
        """Return the model, its length configurations, the indexes and the limits."""
        return info_body(engine, options)

    @app.get("/metrics", response_class=Response, responses=everywhere, tags=["server"])
    def metrics() -> Response:
        """Return the metrics in the format of Prometheus."""
        return Response(engine.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _problems(options: ServeOptions, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI descriptions of these statuses, without 401 if there are no keys."""
    return {
        status: {"model": ProblemBody, "description": _PROBLEMS[status]}
        for status in statuses
        if status != 401 or options.api_keys
    }


def _add_page(app: FastAPI) -> None:
    files = resources.files("dynamic_tinybert.serve") / "page"
    for path, (name, kind) in _PAGE.items():
        file = files / name
        if file.is_file():
            _serve_file(app, path, file.read_bytes(), kind)


def _serve_file(app: FastAPI, path: str, content: bytes, kind: str) -> None:
    async def page() -> Response:
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    app.add_api_route(path, page, include_in_schema=False, methods=["GET", "HEAD"])
