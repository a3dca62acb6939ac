"""What stands between the network and the app."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra: pip install 'dynamic-tinybert[serve]'")

from fastapi.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from dynamic_tinybert.serve.http.middleware import OPEN_PATHS, wrap
from dynamic_tinybert.serve.http.stopping import Stopping
from dynamic_tinybert.serve.options import ServeOptions
from support.middleware_app import Application

pytestmark = pytest.mark.serve

KEYS = ("correct horse", "clé")


def client(**options: Any) -> TestClient:
    return TestClient(
        Application().with_middleware(**options), base_url="http://localhost", raise_server_exceptions=False
    )


class Exchange:
    """One request by bare ASGI, of which the test decides each event."""

    def __init__(self, app: ASGIApp, messages: Iterable[Message], path: str = "/bytes", **headers: str) -> None:
        self.app = app
        self.messages = list(messages)
        self.sent: list[Message] = []
        self.scope: Scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"q=secret",
            "headers": [
                (b"host", b"localhost"),
                *((k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()),
            ],
        }

    async def run(self) -> Exchange:
        async def receive() -> Message:
            if not self.messages:
                await asyncio.Event().wait()
            return self.messages.pop(0)

        async def send(message: Message) -> None:
            self.sent.append(message)

        await self.app(self.scope, receive, send)
        return self

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None

    @property
    def json(self) -> Any:
        return json.loads(b"".join(message.get("body", b"") for message in self.sent))


def part(body: bytes, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def exchange(app: ASGIApp, messages: Iterable[Message], path: str = "/bytes", **headers: str) -> Exchange:
    return asyncio.run(Exchange(app, messages, path, **headers).run())


@pytest.mark.parametrize("given", ["a", "A.b_c-9", "x" * 128])
def test_a_request_keeps_its_name(given: str) -> None:
    reply = client().get("/health", headers={"X-Request-ID": given})
    assert reply.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\tb", "é", '"', "a,b"])
def test_a_name_that_could_do_harm_is_replaced(given: str) -> None:
    replies = [client().get("/health", headers={"X-Request-ID": given.encode()}) for _ in range(2)]
    names = {reply.headers["x-request-id"] for reply in replies}
    assert given not in names
    assert len(names) == 2


def test_every_answer_has_the_headers_that_keep_browsers_safe() -> None:
    for path in ("/health", "/fails", "/nowhere"):
        headers = client().get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]", "[::1]:80", "a.b.LOCALHOST."])
def test_a_server_on_the_loopback_answers_to_its_own_names(host: str) -> None:
    assert client().get("/nowhere", headers={"Host": host}).status_code == 404


HOSTS = [
    "evil.example",
    "localhost.evil.example",
    "evillocalhost",
    "localhost@evil",
    "127.0.0.2",
    "",
    "[::1",
    "testserver",
]


@pytest.mark.parametrize("host", HOSTS)
def test_it_does_not_answer_to_others(host: str) -> None:
    reply = client().get("/nowhere", headers={"Host": host})
    assert (reply.status_code, reply.json()["code"]) == (421, "forbidden_host")


def test_two_hosts_are_none() -> None:
    asked = Exchange(Application().with_middleware(), [part(b"", False)])
    asked.scope["headers"].append((b"host", b"localhost"))
    assert asyncio.run(asked.run()).status == 421


def test_a_server_for_all_answers_to_all_unless_told_otherwise() -> None:
    assert client(host="0.0.0.0").get("/nowhere", headers={"Host": "any.example"}).status_code == 404
    named = client(host="0.0.0.0", allowed_hosts=["qa.example", "*.qa.example"])
    for host, status in [("qa.example:80", 404), ("a.qa.example", 404), ("aqa.example", 421), ("localhost", 421)]:
        assert named.get("/nowhere", headers={"Host": host}).status_code == status


def test_probes_may_call_it_by_any_name() -> None:
    assert client().get("/health", headers={"Host": "10.0.0.7:8000"}).status_code == 200


def test_another_name_of_the_loopback_is_the_loopback() -> None:
    assert client(host="127.1").get("/nowhere", headers={"Host": "evil.example"}).status_code == 421


@pytest.mark.parametrize("name", ["Authorization", "X-API-Key"])
@pytest.mark.parametrize("key", KEYS)
def test_a_key_lets_in(name: str, key: str) -> None:
    value = f"bearer  {key} " if name == "Authorization" else key
    reply = client(api_keys=KEYS).post("/bytes", content=b"x", headers={name: value.encode()})
    assert reply.json() == {"bytes": 1}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic correct horse"},
        {"Authorization": "Bearer"},
        {"Authorization": "correct horse"},
        {"X-API-Key": ""},
        {"X-API-Key": "correct"},
        {"X-API-Key": "correct horse, clé"},
        {"X-API-Key": "Bearer correct horse"},
        {"Cookie": "X-API-Key=correct horse"},
    ],
)
def test_without_a_key_nobody_gets_in(headers: dict[str, str]) -> None:
    encoded = {name: value.encode() for name, value in headers.items()}
    reply = client(api_keys=KEYS).post("/bytes?api_key=correct+horse", content=b"x", headers=encoded)
    assert (reply.status_code, reply.json()["code"]) == (401, "unauthorized")
    assert reply.headers["www-authenticate"].startswith("Bearer")


def test_the_page_and_the_health_are_for_all_and_nothing_else_is() -> None:
    guarded = client(api_keys=KEYS)
    for path in OPEN_PATHS:
        assert guarded.get(path).status_code in (200, 404)
        assert guarded.head(path).status_code != 401
    for path in ("/metrics", "/info", "/answer", "/health/", "/health%2f..%2finfo", "/HEALTH", "/nowhere"):
        assert guarded.get(path).status_code == 401, path


def test_a_body_is_not_read_for_who_has_no_key() -> None:
    asked = exchange(
        Application().with_middleware(api_keys=KEYS), [part(b"x" * 100)] * 3 + [part(b"", False)], content_length="300"
    )
    assert asked.status == 401


@pytest.mark.parametrize("key", ["", " "])
def test_an_empty_key_is_a_mistake(key: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        wrap(Application().fastapi, ServeOptions(api_keys=["good", key]))


def test_a_body_of_the_limit_is_let_through_and_one_more_byte_is_not() -> None:
    app = Application().with_middleware(max_body_bytes=10)
    assert exchange(app, [part(b"x" * 6), part(b"x" * 4, False)]).json == {"bytes": 10}
    asked = exchange(app, [part(b"x" * 6), part(b"x" * 5), part(b"", False)], transfer_encoding="chunked")
    assert (asked.status, asked.json["code"]) == (413, "too_large")


@pytest.mark.parametrize("length", ["11", "9" * 30, "-1", "1_0", "x", ""])
def test_a_body_that_says_it_is_too_large_is_not_waited_for(length: str) -> None:
    asked = exchange(
        Application().with_middleware(max_body_bytes=10), [{"type": "http.disconnect"}], content_length=length
    )
    assert asked.status == 413


def test_all_bodies_together_have_a_limit_too() -> None:
    application = Application()
    app = application.with_middleware(max_buffered_bytes=100)

    async def both() -> tuple[Exchange, Exchange, Exchange]:
        first = asyncio.ensure_future(Exchange(app, [part(b"x" * 80, False)], "/wait").run())
        while application.entered.acquire(blocking=False) is False:
            await asyncio.sleep(0)
        second = await Exchange(app, [part(b"x" * 80, False)]).run()
        application.go.set()
        return await first, second, await Exchange(app, [part(b"x" * 80, False)]).run()

    first, second, third = asyncio.run(both())
    assert (first.status, third.status) == (200, 200)
    assert (second.status, second.json["code"]) == (429, "too_busy")


def test_a_client_that_leaves_with_half_a_body_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        asked = exchange(Application().with_middleware(), [part(b"half"), {"type": "http.disconnect"}])
    assert asked.status is None
    (record,) = [record for record in caplog.records if record.name.startswith("dynamic_tinybert")]
    assert record.msg["client_gone"] is True
    assert record.msg["status"] is None
    assert record.msg["bytes_in"] == 4


def test_the_app_sees_a_client_leave() -> None:
    application = Application()
    asked = exchange(application.with_middleware(), [part(b"whole", False), {"type": "http.disconnect"}], "/wait")
    assert application.left.acquire(blocking=False)
    assert asked.status == 503  # to nobody


def test_each_request_has_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "dynamic_tinybert.access"):
        client().post("/answer?question=secret", json={"question": "secret"}, headers={"X-Request-ID": "me"})
    (record,) = [record for record in caplog.records if record.name == "dynamic_tinybert.access"]
    line = record.msg
    assert line["ms"] > 0
    del line["ms"]
    assert line == {
        "message": "request",
        "request_id": "me",
        "method": "POST",
        "path": "/answer",
        "status": 200,
        "bytes_in": len(b'{"question":"secret"}'),
        "client_gone": False,
        "questions": 1,
    }


ORIGIN = "https://page.example"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type, x-api-key"}


def test_pages_of_other_origins_may_not_ask() -> None:
    reply = client().options("/answer", headers={"Origin": ORIGIN, **PREFLIGHT})
    assert reply.status_code == 405
    assert "access-control-allow-origin" not in reply.headers


def test_a_page_of_an_allowed_origin_may_ask_and_read_errors() -> None:
    allowed = client(allow_origins=[ORIGIN], api_keys=KEYS)
    reply = allowed.options("/answer", headers={"Origin": ORIGIN, **PREFLIGHT})
    assert reply.status_code == 200
    assert reply.headers["access-control-allow-origin"] == ORIGIN
    for path, headers, status in [("/answer", {}, 401), ("/fails", {"X-API-Key": KEYS[0]}, 500)]:
        reply = allowed.get(path, headers={"Origin": ORIGIN, **headers})
        assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (status, ORIGIN)
        assert reply.headers["access-control-expose-headers"] == "X-Request-ID, Retry-After"
        assert "access-control-allow-credentials" not in reply.headers


@pytest.mark.parametrize(
    "asked", [{"Origin": "https://evil.example"}, {"Origin": ORIGIN, "Access-Control-Request-Method": "PUT"}]
)
def test_a_page_that_may_not_ask_is_told_in_the_shape_of_all_errors(asked: dict[str, str]) -> None:
    reply = client(allow_origins=[ORIGIN]).options("/answer", headers={**PREFLIGHT, **asked})
    assert (reply.status_code, reply.json()["code"]) == (400, "invalid_request")
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["request_id"] == reply.headers["x-request-id"]


def test_websockets_are_refused() -> None:
    with pytest.raises(WebSocketDisconnect) as caught, client().websocket_connect("/answer"):
        pass
    assert caught.value.status_code == 404  # type: ignore[attr-defined]  # of the response to the handshake


def test_an_app_that_fails_without_fastapi_is_answered_too(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("a secret text")

    asked = exchange(wrap(broken, ServeOptions()), [part(b"", False)])
    assert (asked.status, asked.json["code"]) == (500, "internal")
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == ["the server failed"]


def test_stopping_is_waited_for_from_another_thread() -> None:
    async def wait() -> bool:
        stopping = Stopping()
        waiting = asyncio.ensure_future(stopping.wait())
        await asyncio.sleep(0)
        assert not stopping.is_set()
        await asyncio.to_thread(stopping.set)
        await waiting
        await stopping.wait()
        return stopping.is_set()

    assert asyncio.run(wait())
