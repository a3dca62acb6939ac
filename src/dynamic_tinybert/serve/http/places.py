"""The routes of places on pages: where a part of a document stands, and a picture of its page.

A request names a document of an index. Only the name that the index has leads to a file.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response

from dynamic_tinybert.corpus import CorpusError, UnknownDocumentError, UnreadableError, is_paged
from dynamic_tinybert.serve.engine import Engine, Stopped, TooBusy
from dynamic_tinybert.serve.http.problems import Problem, ProblemBody
from dynamic_tinybert.serve.http.schemas import PlaceRequest, PlaceResponse
from dynamic_tinybert.serve.options import ServeOptions

logger = logging.getLogger("dynamic_tinybert.serve")

T = TypeVar("T")

_PROBLEMS = {
    401: "No valid API key was sent.",
    404: "There is no such index, or no such document or part of it, or it is not a PDF.",
    409: "The file of the document has changed since it was added to the index, or cannot be read any more.",
    422: "The request is not valid.",
    429: "Too many pages are waiting.",
    500: "The server failed; its log says more.",
    503: "The server is stopping, or the index cannot be used.",
    504: "The deadline has passed.",
}


def add_places(app: FastAPI, engine: Engine, options: ServeOptions) -> None:
    """Add the routes `/place` and `/place.png`."""
    problems: dict[int | str, dict[str, Any]] = {
        status: {"model": ProblemBody, "description": why}
        for status, why in _PROBLEMS.items()
        if status != 401 or options.api_keys
    }

    @app.get("/place", response_model=PlaceResponse, responses=problems, operation_id="place", tags=["questions"])
    async def place(request: Request, asked: Annotated[PlaceRequest, Query()]) -> Response:
        """Return where a part of a PDF, for example an answer, stands on its pages."""
        call = _PlaceCall(engine, options, request, asked)
        boxes = await call(lambda: engine.corpora[asked.index].locate(asked.document, asked.start, asked.end))
        return JSONResponse({"boxes": [asdict(box) for box in boxes]})

    picture: dict[int | str, dict[str, Any]] = {
        200: {"content": {"image/png": {}}, "description": "The page, with the part marked."}
    }

    @app.get(
        "/place.png",
        response_class=Response,
        responses={**problems, **picture},
        operation_id="place_picture",
        tags=["questions"],
    )
    async def place_picture(request: Request, asked: Annotated[PlaceRequest, Query()]) -> Response:
        """Return a picture of the page of a PDF with a part of it, for example an answer, marked."""
        call = _PlaceCall(engine, options, request, asked)
        png = await call(lambda: engine.corpora[asked.index].picture(asked.document, asked.start, asked.end))
        return Response(png, media_type="image/png")


class _PlaceCall:
    """One request for a place."""

    def __init__(self, engine: Engine, options: ServeOptions, request: Request, asked: PlaceRequest) -> None:
        self._engine = engine
        self._options = options
        self._request = request
        self._asked = asked

    async def __call__(self, work: Callable[[], T]) -> T:
        """Do the work in a thread.

        Raises:
            Problem: It cannot be done; the client gets the reason.
        """
        if self._asked.index not in self._engine.corpora:
            raise Problem(404, "not_found", "there is no index of this name: /info lists them")
        if not is_paged(self._asked.document):
            raise Problem(404, "not_found", "the document is not a PDF: only PDFs have pages")
        try:
            return await asyncio.wait_for(self._engine.pages.run(work), self._options.timeout_ms / 1000)
        except TooBusy as busy:
            wait = str(busy.retry_after)
            raise Problem(429, "too_busy", f"{busy}: try again in {wait} s", headers={"Retry-After": wait}) from None
        except Stopped:
            raise Problem(503, "stopping", "the server is stopping") from None
        except (asyncio.TimeoutError, TimeoutError):
            raise Problem(504, "deadline_exceeded", "the page was not ready in time") from None
        except UnknownDocumentError:
            raise Problem(404, "not_found", "the index has no document of this name") from None
        except ValueError:
            raise Problem(404, "not_found", "the document has no such characters") from None
        except (UnreadableError, OSError, ImportError) as error:
            self._report("a page cannot be shown: %s", error)
            detail = "the file of this document is gone, has changed, or cannot be read: add it to the index again"
            raise Problem(409, "document_changed", detail) from None
        except CorpusError as error:
            self._report("an index cannot be used: %s", error)
            detail = "the index cannot be used now: the server's log says why under this request_id"
            raise Problem(503, "index_unavailable", detail, headers={"Retry-After": "5"}) from None

    def _report(self, message: str, error: Exception) -> None:
        logger.error(message, error, extra={"request_id": self._request.state.request_id})
