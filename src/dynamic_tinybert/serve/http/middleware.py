"""The middleware: limits, keys, hosts, request ids. It is pure ASGI, so that the app notices when a client leaves."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import logging
import re
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dynamic_tinybert.serve.http.problems import (
    Problem,
    internal,
    long_head,
    new_request_id,
    not_http,
    problem_response,
)
from dynamic_tinybert.serve.http.stopping import Stopping
from dynamic_tinybert.serve.options import ServeOptions

logger = logging.getLogger("dynamic_tinybert.serve")
access_logger = logging.getLogger("dynamic_tinybert.access")

OPEN_PATHS = frozenset({"/", "/page.css", "/page.js", "/favicon.ico", "/favicon.svg", "/health", "/openapi.json"})
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'self'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
}

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]/@\s]+)(?::[0-9]{0,5})?")
_MOST_HEADERS = 256
_LINGER_S = 1.0
LEFT = 499  # nginx's status for a client that has left; only the metrics use it


def wrap(app: ASGIApp, options: ServeOptions, stopping: Stopping | None = None) -> ASGIApp:
    """Put the middleware around an app; `create_app` says what counts its requests.

    `scope["state"]` contains `request_id`; `received`, the time when the body was complete, by `time.perf_counter`; and
    `log`, a dictionary whose fields are added to the request's line of the log. After the body of a request, `receive`
    waits for `http.disconnect`.

    Raises:
        ValueError: An API key or a host is empty.
    """
    count = getattr(getattr(app, "state", None), "count_request", None)
    app = _Bodies(app, options)
    if options.api_keys:
        app = _Keys(app, options.api_keys)
    hosts = options.allowed_hosts if options.allowed_hosts is not None else _own_hosts(options.host)
    if hosts is not None and "*" not in hosts:
        app = _Hosts(app, hosts)
    app = _Guard(app, stopping or Stopping())
    if options.allow_origins:
        app = _Origins(
            app,
            allow_origins=tuple(options.allow_origins),
            allow_methods=("GET", "POST"),
            allow_headers=("Authorization", "Content-Type", "X-API-Key", "X-Request-ID"),
            expose_headers=("X-Request-ID", "Retry-After"),
        )
    return _Requests(_Headers(app), count)


async def refuse(scope: Scope, receive: Receive, send: Send, problem: Problem, *, linger_s: float = _LINGER_S) -> None:
    """Answer a request whose body was not read, and close the connection.

    Before that, read and discard the body for at most `linger_s` seconds. Otherwise TCP would reset the connection, and
    the client might not receive the response.
    """
    response = problem_response(problem, request_id(scope))
    if not _has_body(scope):
        await response(scope, receive, send)
        return
    response.headers["Connection"] = "close"
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    with anyio.move_on_after(linger_s):
        while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
            pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def request_id(scope: Scope) -> str:
    """Return the id of a request."""
    return scope.get("state", {}).get("request_id") or new_request_id()


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0").strip() != "0"


class _Middleware:
    """A middleware for HTTP requests only."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.http(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError


class _Requests(_Middleware):
    """Set the id of each request, write its line to the log and count it. Refuse WebSockets."""

    def __init__(self, app: ASGIApp, count: Callable[[str], object] | None) -> None:
        super().__init__(app)
        self.count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await _refuse_websocket(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        ended: float | None = None
        status: int | None = None
        bytes_in = 0
        gone = False
        name = Headers(scope=scope).get("x-request-id", "")
        name = name if _REQUEST_ID.fullmatch(name) else new_request_id()
        log: dict[str, Any] = {}
        # Make a new dictionary: a server may use the same one for all requests.
        scope["state"] = {**(scope.get("state") or {}), "request_id": name, "log": log}

        async def receive_counted() -> Message:
            nonlocal bytes_in, gone
            message = await receive()
            if message["type"] == "http.request":
                bytes_in += len(message.get("body", b""))
            elif ended is None:
                gone = True
            return message

        async def send_named(message: Message) -> None:
            nonlocal ended, status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = name
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                ended = time.perf_counter()

        try:
            await self.app(scope, receive_counted, send_named)
        finally:
            if self.count is not None and scope["path"].removeprefix(scope.get("root_path", "")) == "/answer":
                # Ray Serve cancels the request if the client has left.
                left = status is None and (gone or isinstance(sys.exc_info()[1], asyncio.CancelledError))
                self.count(str(LEFT if left else status or 500))
            access_logger.info(
                {
                    "message": "request",
                    **log,
                    "request_id": name,
                    "method": scope["method"][:32],
                    "path": scope["path"][:256],
                    "status": status,
                    "ms": round(((ended or time.perf_counter()) - began) * 1000, 3),
                    "bytes_in": bytes_in,
                    "client_gone": gone,
                }
            )


async def _refuse_websocket(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()  # websocket.connect
    if "websocket.http.response" in scope.get("extensions", {}):
        problem = Problem(404, "not_found", "there are no WebSockets here: use POST /answer")
        await problem_response(problem, new_request_id())(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1008})


class _Headers(_Middleware):
    """Add the headers that forbid browsers to guess types, to load from other hosts and to store responses."""

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_safe)


class _Origins(CORSMiddleware):
    """CORS that refuses requests with a problem, as all errors are answered."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except Problem as problem:
            await refuse(scope, receive, send, problem)

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code >= 400:
            del response.headers["content-length"], response.headers["content-type"]
            detail = "pages of this origin may not send requests: see --allow-origin"
            raise Problem(response.status_code, "invalid_request", detail, headers=response.headers)
        return response


def _check_head(scope: Scope) -> None:
    """Check what h11 lets pass, and make an absolute target (RFC 9112, 3.2.2) relative.

    Raises:
        Problem: The version is not HTTP/1; there are very many headers; or two headers disagree about the length of the
            body. A proxy before this server could then see another request in it (request smuggling; RFC 9112, 6.1).
    """
    if not re.fullmatch(r"1\.\d|[23]", scope.get("http_version", "1.1")):  # other servers of the app speak 2 and 3
        raise not_http()
    names = [name for name, _ in scope["headers"]]
    if len(names) > _MOST_HEADERS:
        raise long_head()
    if b"transfer-encoding" in names and b"content-length" in names:
        raise Problem(400, "invalid_request", "send Transfer-Encoding or Content-Length, not both")
    if scope["path"].startswith(("http://", "https://")):
        scope["path"] = "/" + scope["path"].partition("://")[2].partition("/")[2]
        scope["raw_path"] = b"/" + scope["raw_path"].partition(b"://")[2].partition(b"/")[2]


class _Guard(_Middleware):
    """Answer unhandled errors. While the server is stopping, refuse new requests and close connections."""

    def __init__(self, app: ASGIApp, stopping: Stopping) -> None:
        super().__init__(app)
        self.stopping = stopping

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_watched(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if self.stopping.is_set():
                    MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        try:
            _check_head(scope)
            if self.stopping.is_set() and scope["path"] != "/health":
                raise Problem(503, "stopping", "the server is stopping: try again", headers={"Retry-After": "1"})
            await self.app(scope, receive, send_watched)
        except Problem as problem:
            if started:
                raise
            await refuse(scope, receive, send_watched, problem)
        except Exception as error:
            # FastAPI answers an error of the app, `problems` logs it, and FastAPI raises it again for the server.
            if scope["state"].get("failure") is not error:
                logger.error("the server failed", exc_info=error, extra={"request_id": request_id(scope)})
            if not started:
                await refuse(scope, receive, send_watched, internal())


class _Hosts(_Middleware):
    """Accept only requests to the server's own host names, as a protection against DNS rebinding."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        super().__init__(app)
        names = [_host_name(host) for host in hosts]
        if None in names:
            raise ValueError("an allowed host must be a name, *.name, or an address (IPv6 in brackets)")
        self.names = frozenset(name for name in names if name and not name.startswith("*."))
        self.endings = tuple(name[1:] for name in names if name and name.startswith("*."))

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/health":  # probes use the IP address, and the response is public
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).getlist("host")
        name = _host_name(given[0]) if len(given) == 1 else None
        if name is None or not (name in self.names or name.endswith(self.endings)):
            raise Problem(421, "forbidden_host", "this server does not answer to that host: see --allowed-host")
        await self.app(scope, receive, send)


def _host_name(host: str) -> str | None:
    match = _HOST.fullmatch(host.lower())
    return match[1].removesuffix(".") if match else None


def _own_hosts(host: str) -> Sequence[str] | None:
    """Return the host names of a server that listens on the loopback, or None for another server."""
    try:
        found = {str(info[4][0]).partition("%")[0] for info in socket.getaddrinfo(host or None, None)}
        loopback = bool(host) and all(ipaddress.ip_address(address).is_loopback for address in found)
    except (OSError, UnicodeError):  # the server cannot start either
        loopback = False
    if not loopback:
        return None
    return ("localhost", "127.0.0.1", "[::1]", "*.localhost", f"[{host}]" if ":" in host else host)


class _Keys(_Middleware):
    """Accept only requests with a valid API key. `OPEN_PATHS` need no key."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        super().__init__(app)
        if not all(key.strip() for key in keys):
            raise ValueError("an API key is empty")
        self.digests = [_digest(key.strip().encode()) for key in keys]

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] not in OPEN_PATHS and not self._may_enter(scope):
            raise Problem(
                401,
                "unauthorized",
                "send an API key: Authorization: Bearer KEY, or X-API-Key: KEY",
                headers={"WWW-Authenticate": 'Bearer realm="dynamic-tinybert"'},
            )
        await self.app(scope, receive, send)

    def _may_enter(self, scope: Scope) -> bool:
        brought = []
        for name, value in scope["headers"]:
            if name == b"x-api-key":
                brought.append(value.strip())
            elif name == b"authorization":
                scheme, _, key = value.strip().partition(b" ")
                if scheme.lower() == b"bearer":
                    brought.append(key.strip())
        # Always compare all keys, so that the time does not reveal anything about them.
        matches = [hmac.compare_digest(_digest(key), digest) for key in brought[:2] for digest in self.digests]
        return any(matches)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


class _Bodies(_Middleware):
    """Read the body of a request, within limits, before the app starts.

    Starlette's `max_body_size` is not enough: it does not limit the bytes of all requests together or the time, it
    answers in plain text, and it waits for the body if the length in the head is not a number.
    """

    def __init__(self, app: ASGIApp, options: ServeOptions) -> None:
        super().__init__(app)
        self.limit = options.max_body_bytes
        self.limit_of_all = options.max_buffered_bytes
        self.timeout_s = options.body_timeout_s
        self.held = 0

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _content_length(scope) > self.limit:
            raise self._too_large()
        coding = Headers(scope=scope).get("content-encoding", "identity").strip().lower()
        if coding not in ("identity", ""):
            detail = f"send the body without Content-Encoding, not {coding!r:.30}"
            raise Problem(415, "unsupported_media_type", detail)
        chunks: list[bytes] = []
        size = 0
        try:
            try:
                with anyio.fail_after(self.timeout_s):
                    more = True
                    while more:
                        message = await receive()
                        if message["type"] != "http.request":
                            return  # the client has left
                        chunk = message.get("body", b"")
                        size += len(chunk)
                        self.held += len(chunk)
                        if size > self.limit:
                            raise self._too_large()
                        if self.held > self.limit_of_all:
                            detail = "the server has as many bytes of requests as it may: try again"
                            raise Problem(429, "too_busy", detail, headers={"Retry-After": "1"})
                        chunks.append(chunk)
                        more = message.get("more_body", False)
            except TimeoutError:
                slow = Problem(408, "slow_body", f"the body took longer than {self.timeout_s:g} seconds")
                await refuse(scope, receive, send, slow, linger_s=0)
                return
            scope["state"]["received"] = time.perf_counter()
            await self.app(scope, _replayed(chunks, receive), send)
        finally:
            self.held -= size
            chunks.clear()

    def _too_large(self) -> Problem:
        return Problem(413, "too_large", f"send no more than {self.limit} bytes")


def _content_length(scope: Scope) -> int:
    value = Headers(scope=scope).get("content-length", "0").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 18 else 1 << 62


def _replayed(chunks: list[bytes], receive: Receive) -> Callable[[], Awaitable[Message]]:
    replayed = False

    async def receive_again() -> Message:
        nonlocal replayed
        if not replayed:
            replayed = True
            body = b"".join(chunks)
            chunks.clear()
            return {"type": "http.request", "body": body, "more_body": False}
        while (message := await receive())["type"] == "http.request":
            pass  # only the disconnection of the client can follow the body
        return message

    return receive_again
