"""The format of all errors: application/problem+json (RFC 9457)."""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.exceptions import HTTPException

logger = logging.getLogger("dynamic_tinybert.serve")

Code = Literal[
    "invalid_request",
    "unauthorized",
    "forbidden_host",
    "not_found",
    "method_not_allowed",
    "slow_body",
    "too_large",
    "unsupported_media_type",
    "too_busy",
    "internal",
    "stopping",
    "index_unavailable",
    "document_changed",
    "deadline_exceeded",
]

MEDIA_TYPE = "application/problem+json"

# The titles in http.HTTPStatus differ between versions of Python.
_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    408: "Request Timeout",
    409: "Conflict",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    421: "Misdirected Request",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_CODES: dict[int, Code] = {
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    408: "slow_body",
    413: "too_large",
    415: "unsupported_media_type",
    421: "forbidden_host",
    429: "too_busy",
    431: "too_large",
    503: "too_busy",
    504: "deadline_exceeded",
}
_NO_JSON = "the body is not JSON: send one JSON object in UTF-8"
_MOST_ERRORS = 20  # in one response
_LONGEST_MESSAGE = 300
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_MESSAGES = {  # by pydantic's type of error; what stands in braces comes from the schema, never from the request
    "missing": "is missing",
    "string_type": "must be a string",
    "string_unicode": "must not hold half a character (a lone surrogate)",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "list_type": "must be a list",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
}


class ErrorItem(BaseModel):
    """The error of one field."""

    field: str = Field(examples=["question.3"], description="The path to the field: names and list indices, with dots.")
    message: str = Field(examples=["must be a string"])


class ProblemBody(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Too Many Requests"])
    status: int = Field(examples=[429])
    detail: str = Field(description="One line that says what to do.")
    code: Code = Field(description="The code for programs.")
    request_id: str
    errors: list[ErrorItem] | None = Field(None, description="The errors of fields; only with status 422.")


class FieldProblem(TypedDict):
    """One of the `errors` of a problem."""

    field: str
    message: str


class FieldError(ValueError):
    """An error of a pydantic validator whose message is sent to the client. It must not quote the input.

    For any other ValueError, the client only learns that the value is not valid.
    """


class RequestModel(BaseModel):
    """The body of a request. An unknown field is an error; too many fields are one error together.

    pydantic collects every error of a body: a list of a million wrong items takes ten seconds and a gigabyte. So each
    list in such a model needs a `max_length`. Each string needs one, too, otherwise it may contain lone surrogates.
    """

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, data: Any) -> Any:
        if isinstance(data, dict) and len(data) > len(cls.model_fields) + _MOST_ERRORS:
            raise FieldError("there are far too many fields")
        return data


class Problem(Exception):
    """An error that is sent to the client.

    Attributes:
        status: The HTTP status.
        code: The code for programs.
        detail: One line that says what to do. It must not quote the request.
        headers: Additional headers of the response.
        errors: The errors of fields.
    """

    def __init__(
        self,
        status: int,
        code: Code,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[FieldProblem] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code: Code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.errors = tuple(errors)

    @property
    def title(self) -> str:
        """The title of the status."""
        return _TITLES.get(self.status, "Error")

    def body(self, request_id: str) -> bytes:
        """Return the body of the response. It is ASCII, so any content can be encoded."""
        content: dict[str, Any] = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
        }
        if self.errors:
            content["errors"] = self.errors
        return json.dumps(content).encode("ascii")


def new_request_id() -> str:
    """Return an id for a request that has none."""
    return uuid.uuid4().hex


def problem_response(problem: Problem, request_id: str) -> Response:
    """Return the response for a problem."""
    return Response(problem.body(request_id), problem.status, problem.headers, MEDIA_TYPE)


def long_head() -> Problem:
    """Return the problem of a request whose headers are too long or too many."""
    return Problem(431, "too_large", "send fewer or shorter headers")


def not_http() -> Problem:
    """Return the problem of a request that is not HTTP, or of a version that is not answered."""
    return Problem(400, "invalid_request", "this is not an HTTP/1.1 request", headers={"Connection": "close"})


def internal() -> Problem:
    """Return the problem for an unexpected error. The details are only in the log."""
    return Problem(500, "internal", "the server failed: its log says more under this request_id")


def install(app: FastAPI) -> None:
    """Make an app answer every error with a problem, and describe this in its OpenAPI document."""

    def answer(request: Request, problem: Problem) -> Response:
        return problem_response(problem, request.scope.get("state", {}).get("request_id") or new_request_id())

    async def told(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return answer(request, error)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return answer(request, _of_http(error))

    async def validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer(request, _of_validation(error, request.headers.get("content-type")))

    async def unhandled(request: Request, error: Exception) -> Response:
        state = request.scope.setdefault("state", {})
        state["failure"] = error  # so that the middleware does not log it again
        logger.error("the server failed", exc_info=error, extra={"request_id": state.get("request_id")})
        return answer(request, internal())

    app.add_exception_handler(Problem, told)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(Exception, unhandled)

    written = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _document(written())
        return written()

    app.openapi = openapi  # type: ignore[method-assign]


def _document(schema: dict[str, Any]) -> None:
    """Correct the media type of the errors: FastAPI describes them with that of the answers."""
    for operations in schema.get("paths", {}).values():
        for operation in operations.values():
            for status, response in operation.get("responses", {}).items():
                content = response.get("content", {})
                if status >= "4" and "application/json" in content:
                    content[MEDIA_TYPE] = content.pop("application/json")


def _of_http(error: HTTPException) -> Problem:
    headers = dict(error.headers or {})
    status = error.status_code
    code = _CODES.get(status, "internal" if status >= 500 else "invalid_request")
    detail = error.detail if isinstance(error.detail, str) else _TITLES.get(status, "Error")
    if status == 404:
        detail = "there is nothing at this path: /openapi.json lists all paths"
    elif status == 405:
        detail = f"use {headers.get('Allow', 'another method')}"
    elif status == 400:  # FastAPI cannot read the body, or it is not JSON
        detail = _NO_JSON
    return Problem(status, code, detail, headers=headers)


def _of_validation(error: RequestValidationError, content_type: str | None) -> Problem:
    errors = error.errors()
    in_body = any(tuple(item["loc"])[:1] == ("body",) for item in errors)
    if in_body and error.body is not None and not _is_json(content_type):
        return Problem(415, "unsupported_media_type", "send the body as JSON, with Content-Type: application/json")
    for item in errors:
        if item["type"] == "json_invalid":
            return Problem(400, "invalid_request", f"{_NO_JSON} (the error is at character {int(item['loc'][1])})")
    told = _field_problems(errors, error.body)
    detail = "the request is not valid: see errors"
    if len(told) == 1:
        detail = f"{told[0]['field']}: {told[0]['message']}"
    return Problem(422, "invalid_request", detail, errors=told)


def _is_json(content_type: str | None) -> bool:
    media_type = (content_type or "").partition(";")[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


def _field_problems(errors: Iterable[Mapping[str, Any]], body: Any) -> list[FieldProblem]:
    """Return one entry for each field. For a union, report the branch that matched the deepest part of the input."""
    messages: dict[tuple[str, ...], list[str]] = {}
    of_branch: set[tuple[str, ...]] = set()
    for item in errors:
        path, branch = _path(item["loc"], body, item["type"] == "missing")
        if path not in messages and len(messages) == _MOST_ERRORS:
            break
        message = _message(item)
        if message not in messages.setdefault(path, []):
            messages[path].append(message)
        if branch:
            of_branch.add(path)
    for path in of_branch:
        if any(other[: len(path)] == path and len(other) > len(path) for other in messages):
            del messages[path]
    return [{"field": ".".join(path), "message": "; or: ".join(said)} for path, said in messages.items()]


def _path(location: Sequence[str | int], body: Any, missing: bool) -> tuple[tuple[str, ...], bool]:
    """Return the path of a field without the union branches that pydantic adds, and whether there were any."""
    where, *parts = location
    if where != "body":
        return tuple(_name(part) for part in parts) or (_name(where),), False
    path = []
    branch = False
    for index, part in enumerate(parts):
        in_list = isinstance(part, int) and isinstance(body, list) and 0 <= part < len(body)
        if in_list or (isinstance(body, dict) and part in body):
            body = body[part]
        elif not (missing and index == len(parts) - 1):
            branch = True
            continue
        path.append(_name(part))
    return tuple(path) or ("body",), branch


def _name(part: str | int) -> str:
    """Return a part of a field's path. Unknown names come from the client: one that is not like a name becomes "?"."""
    name = str(part)
    return name if isinstance(part, int) or _FIELD_NAME.fullmatch(name) else "?"


def _message(item: Mapping[str, Any]) -> str:
    context = item.get("ctx") or {}
    if isinstance(context.get("error"), FieldError):
        message = str(context["error"])
    elif item["type"] == "extra_forbidden":
        message = "there is no such field"
    elif item["type"] in _MESSAGES:
        message = _MESSAGES[item["type"]].format(**context)
    else:
        message = "is not valid"
    return message[:_LONGEST_MESSAGE]
