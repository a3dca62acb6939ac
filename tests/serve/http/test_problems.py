"""Every error has one shape, can be sent, and quotes nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra: pip install 'dynamic-tinybert[serve]'")

from fastapi.testclient import TestClient
from pydantic import BaseModel, ConfigDict

from dynamic_tinybert.serve.http.problems import Problem, ProblemBody, problem_response
from support.middleware_app import Application

pytestmark = pytest.mark.serve

SECRET = "Xyzzy"


class Answer(BaseModel):
    text: str


class Strict(ProblemBody):
    model_config = ConfigDict(extra="forbid")


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(
        Application().with_middleware(), base_url="http://localhost", raise_server_exceptions=False
    ) as client:
        yield client


def is_problem(reply: Any, status: int, code: str) -> dict[str, Any]:
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json()
    Strict.model_validate(problem)
    assert (reply.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["request_id"] == reply.headers["x-request-id"]
    assert SECRET not in reply.text
    return problem


def answer(client: TestClient, body: Any, **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post("/answer", content=content, headers={"Content-Type": "application/json", **headers})


def test_a_path_that_is_not_there(client: TestClient) -> None:
    is_problem(client.get(f"/{SECRET}"), 404, "not_found")


def test_a_method_that_is_not_there_tells_those_that_are(client: TestClient) -> None:
    reply = client.get("/answer")
    assert reply.headers["allow"] == "POST"
    assert is_problem(reply, 405, "method_not_allowed")["detail"] == "use POST"


def test_a_problem_that_the_app_raises_keeps_its_headers(client: TestClient) -> None:
    reply = client.get("/problem")
    assert is_problem(reply, 429, "too_busy")["title"] == "Too Many Requests"
    assert reply.headers["retry-after"] == "3"


def test_a_failure_says_nothing_of_the_inside(client: TestClient) -> None:
    reply = client.get("/fails")
    is_problem(reply, 500, "internal")
    for word in ("secret", "KeyError", "Traceback"):
        assert word not in reply.text


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"question": "%s' % SECRET.encode(),
        b'{"question": "\\x"}',
        b"\xff\xfe\xfd",
        b"\x00",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"top_k": ' + b"9" * 10_000 + b"}",
    ],
    ids=lambda body: repr(body[:12]),
)
def test_what_is_no_json(client: TestClient, body: bytes) -> None:
    is_problem(answer(client, body), 400, "invalid_request")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"%s"' % SECRET.encode(),
        b'{"question": "\\ud800"}',
        b'{"question": "x", "budget": NaN, "top_k": Infinity}',
        b'{"question": "x", "top_k": 1e400}',
        b'{"question": "x", "top_k": -' + b"9" * 4000 + b"}",
        b'{"question": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"question": "x", "\\ud800": 1}',
        b'{"question": "x", "\\u0000\\n%s ": 1}' % SECRET.encode(),
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_json_but_no_request(client: TestClient, body: bytes) -> None:
    assert is_problem(answer(client, body), 422, "invalid_request")["errors"]


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"question": "is missing"}),
        ({"question": ["a", "b", "c", 4]}, {"question.3": "must be a string"}),
        ({"question": 4}, {"question": "must be a string; or: must be a list"}),
        ({"question": "x", "top_k": 0}, {"top_k": "must be at least 1"}),
        ({"question": "x", "bugdet": SECRET}, {"bugdet": "there is no such field"}),
        ({"question": "x", "word": f"a {SECRET}"}, {"word": "use one word"}),
        ({"question": "x", "word": "unlucky"}, {"word": "is not valid"}),
        ({"question": 1, "top_k": SECRET, f"{SECRET}?": 1}, {"question", "top_k", "?"}),
    ],
)
def test_each_field_is_told_what_is_wrong(client: TestClient, body: Any, errors: Any) -> None:
    problem = is_problem(answer(client, body), 422, "invalid_request")
    told = {error["field"]: error["message"] for error in problem["errors"]}
    assert told == errors if isinstance(errors, dict) else told.keys() == errors


@pytest.mark.parametrize("body", [{"question": [1] * 1000}, {f"f{n}": n for n in range(1000)}])
def test_a_thousand_errors_are_not_all_told(client: TestClient, body: Any) -> None:
    problem = is_problem(answer(client, body), 422, "invalid_request")
    assert 0 < len(problem["errors"]) <= 20


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "", "json", "\xff"])
def test_a_body_that_is_not_said_to_be_json(client: TestClient, media_type: str) -> None:
    """So a page elsewhere cannot ask in a visitor's name: browsers ask first before they send JSON."""
    reply = client.post("/answer", content=b'{"question": "x"}', headers={"Content-Type": media_type.encode("latin-1")})
    is_problem(reply, 415, "unsupported_media_type")


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/x+json"])
def test_json_by_other_names(client: TestClient, media_type: str) -> None:
    assert answer(client, {"question": "x"}, **{"Content-Type": media_type}).status_code == 200


def test_a_problem_can_always_be_sent() -> None:
    problem = Problem(422, "invalid_request", "\ud800\x00", errors=[{"field": "\udfff", "message": "é"}])
    response = problem_response(problem, "name")
    assert json.loads(bytes(response.body))["errors"][0]["message"] == "é"


def test_the_document_says_so() -> None:
    application = Application()

    @application.fastapi.get("/documented", responses={429: {"model": ProblemBody}})
    async def documented() -> Answer: ...

    for _ in range(2):
        responses = application.fastapi.openapi()["paths"]["/documented"]["get"]["responses"]
        assert list(responses["429"]["content"]) == ["application/problem+json"]
        assert list(responses["200"]["content"]) == ["application/json"]
