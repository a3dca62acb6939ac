"""Running an app: uvicorn, with limits on slow clients and many connections, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from dynamic_tinybert.serve.http.middleware import SECURITY_HEADERS
from dynamic_tinybert.serve.http.problems import MEDIA_TYPE, Problem, new_request_id
from dynamic_tinybert.serve.http.stopping import Stopping
from dynamic_tinybert.serve.options import ServeOptions

logger = logging.getLogger("dynamic_tinybert.serve")

_MAX_HEAD_BYTES = 64 << 10
_MIN_BYTES_PER_S = 1024  # that a client must take of a response that waits for it
_MAX_HEADERS = 128
_MAX_PIPELINED = 64
_MAX_AHEAD_BYTES = 1 << 20
_UNSENT_BYTES = 128 << 10
_REFUSED_S = 1.0  # that a connection too many has to take its refusal
_GRACE_S = 0.1  # from the end of accepting to the closing of idle connections, so that what has arrived is read
_BAD = Problem(400, "invalid_request", "this is no HTTP/1.1 request")
_LONG_HEAD = Problem(431, "too_large", "send fewer or shorter headers")
_STATUS_LINES = {
    400: b"HTTP/1.1 400 Bad Request",
    431: b"HTTP/1.1 431 Request Header Fields Too Large",
    503: b"HTTP/1.1 503 Service Unavailable",
}


def serve(
    app: ASGIApp,
    options: ServeOptions,
    *,
    stopping: Stopping | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; then answer what has been asked, and return. A second signal ends the process.

    Args:
        app: The app with its edge (`edge.wrap`). If it cannot start, the process ends with status 3, as with uvicorn.
        options: How.
        stopping: Is set as soon as the signal comes.
        ready: Is called with the server's URL once it takes connections.

    Raises:
        OSError: The address cannot be listened on.
    """
    Server(app, options, stopping=stopping, ready=ready).run()


class Server(uvicorn.Server):
    """A server that has its address already. It listens from `run` on.

    Raises:
        OSError: The address cannot be listened on.
    """

    def __init__(
        self,
        app: ASGIApp,
        options: ServeOptions,
        *,
        stopping: Stopping | None = None,
        ready: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(_Config(app, options))
        self.stopping = stopping or Stopping()
        self.ready = ready
        self.listeners = _bind(options.host, options.port)
        self.url = _url(self.listeners[0])
        _allow_files(2 * options.max_connections + 256)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop."""
        try:
            super().run(self.listeners)
        finally:
            for listener in self.listeners:
                listener.close()

    def stop(self) -> None:
        """What the first signal does. Any thread may call it."""
        self.should_exit = True
        self.stopping.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the app, then listen."""
        asyncio.get_running_loop().set_exception_handler(_log_loop)
        await super().startup(sockets)
        logger.info("listening", extra={"url": self.url})
        if self.ready is not None:
            self.ready(self.url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, close the idle ones, wait for the others, then stop the app."""
        self.stopping.set()
        logger.info("stopping", extra={"requests": len(self.server_state.tasks)})
        for server in self.servers:
            server.close()
        await asyncio.sleep(_GRACE_S)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop in order at the first signal, at once at the second.

        uvicorn would raise the first once more when all is done, and the process would not end with status 0.
        """
        if self.should_exit:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
            os._exit(128 + sig)  # as process 1 of a container the signal does nothing
        self.stop()


class _Config(uvicorn.Config):
    def __init__(self, app: ASGIApp, options: ServeOptions) -> None:
        self.options = options
        longest_s = options.body_timeout_s + options.timeout_ms / 1000 + options.write_timeout_s + 5
        super().__init__(
            app,
            http=_Http,
            ws="none",
            lifespan="on",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=options.keep_alive_s,  # type: ignore[arg-type]  # it is given to call_later
            timeout_graceful_shutdown=math.ceil(longest_s),
            h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
        )


if TYPE_CHECKING:
    _Protocol = H11Protocol
else:
    _Protocol = object


class _Limits(_Protocol):
    """What uvicorn's protocols lack: an end to slow heads and unread responses, and a limit on connections.

    A connection too many is answered 503 and closed, so that its client and a load balancer learn why and that they may
    ask again. A second `max_connections` may wait for that at a time; beyond them they are closed without a word.
    """

    config: _Config

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.options = self.config.options
        self.head_timer: asyncio.TimerHandle | None = None
        self.write_timer: asyncio.TimerHandle | None = None
        self.deaf = False

    @property
    def running(self) -> Any:
        """The request that the app has."""
        return self.cycle

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Any byte that waits for the client is noticed: see pause_writing.
        transport.set_write_buffer_limits(high=0)
        if len(self.connections) > 2 * self.options.max_connections:
            transport.abort()
        elif len(self.connections) > self.options.max_connections:
            detail = "the server has as many connections as it can: ask again"
            self.deaf = True
            transport.write(_raw(Problem(503, "too_busy", detail, headers={"Retry-After": "1"})))
            self.head_timer = self.loop.call_later(_REFUSED_S, transport.abort)
        else:
            self._time_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel(self.head_timer, self.write_timer)
        self.deaf = True
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.deaf:
            if self.running is None or self.running.response_complete:
                self.transport.close()
            return
        before = self.cycle
        if (before is None or before.response_complete) and self.head_timer is None:
            self._time_head()
        super().data_received(data)
        if self.cycle is not before:
            self._cancel(self.head_timer)
            self.head_timer = None
        running = self.running
        if running is not None and not (running.more_body or running.response_complete or self.deaf):
            ahead = self.ahead()
            if ahead > _MAX_AHEAD_BYTES:
                self.reject(_BAD)
            elif ahead <= _MAX_HEAD_BYTES and not self.transport.is_closing():
                # uvicorn reads nothing while another request waits for this one, and would not see the client leave.
                self.flow.resume_reading()

    def ahead(self) -> int:
        """How many bytes are held of requests that wait for the one that the app has."""
        raise NotImplementedError

    def send_400_response(self, msg: str) -> None:
        self.reject(_BAD)

    def reject(self, problem: Problem) -> None:
        """Read no more from the connection, answer what came, and close it."""
        self.deaf = True
        running = self.running
        if running is None:
            answered, between = True, True
        else:
            answered, between = running.response_complete, not running.more_body
        if answered and between:
            self.transport.write(_raw(problem))
            self.transport.close()
        elif answered:
            self.transport.close()
        elif running is self.cycle and running.more_body and not running.response_started:
            self.transport.write(_raw(problem))
            self.transport.close()
        else:  # something after requests that are still to be answered
            self.cycle.keep_alive = False

    def _unsupported_upgrade_warning(self) -> None:
        # The request is answered as any other. The parser takes nothing after it.
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def pause_writing(self) -> None:
        super().pause_writing()
        self._time_writing()

    def resume_writing(self) -> None:
        self._cancel(self.write_timer)
        self.write_timer = None
        super().resume_writing()

    def _time_head(self) -> None:
        self.head_timer = self.loop.call_later(self.options.header_timeout_s, self.transport.close)

    def _time_writing(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        self.write_timer = self.loop.call_later(self.options.write_timeout_s, self._check_writing, waiting)

    def _check_writing(self, before: int) -> None:
        taken = before - self.transport.get_write_buffer_size()
        if taken < _MIN_BYTES_PER_S * self.options.write_timeout_s:
            self.transport.abort()
        else:
            self._time_writing()

    @staticmethod
    def _cancel(*timers: asyncio.TimerHandle | None) -> None:
        for timer in timers:
            if timer is not None:
                timer.cancel()


class _H11(_Limits, H11Protocol):
    """In Python; where httptools cannot be installed."""

    def ahead(self) -> int:
        return len(self.conn.trailing_data[0])


try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:
    _Http: type[asyncio.Protocol] = _H11
else:

    class _Httptools(_Limits, HttpToolsProtocol):  # type: ignore[misc]  # the two of uvicorn are alike, but not related
        """In C. Unlike h11 it has no limit on heads, on trailers, on what stands between chunks, and on pipelining."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.started: Any = None
            self.in_head = False
            self.rejection: Problem | None = None
            self.message_ended = False
            self.body_bytes = 0
            self.other_bytes = 0

        @property
        def running(self) -> Any:
            return self.started

        def _start_asgi_task(self, cycle: Any, app: Any) -> None:
            self.started = cycle
            super()._start_asgi_task(cycle, app)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            # uvicorn tells only the last of pipelined requests.
            if self.started is not None and not self.started.response_complete:
                self.started.disconnected = True
                self.started.message_event.set()
            self.pipeline.clear()

        def data_received(self, data: bytes) -> None:
            self.message_ended = False
            self.body_bytes = 0
            super().data_received(data)
            # A chunk has five bytes and more around it: a body of many tiny ones ends here too.
            others = self.other_bytes + len(data) - 2 * self.body_bytes
            self.other_bytes = 0 if self.message_ended else max(0, others)
            if self.other_bytes > _MAX_HEAD_BYTES and not self.deaf:
                self.reject(_LONG_HEAD)

        def ahead(self) -> int:
            return sum(len(cycle.body) for cycle, _ in self.pipeline)

        def send_400_response(self, msg: str) -> None:
            self.reject(self.rejection or _BAD)

        def _stop_parsing(self, problem: Problem) -> None:
            self.rejection = problem
            raise ValueError  # which httptools makes an error of the request

        def on_message_begin(self) -> None:
            self.in_head = True
            super().on_message_begin()

        def on_header(self, name: bytes, value: bytes) -> None:
            if not self.in_head:
                return  # a trailer, which would become a header of a request that has begun
            if len(self.headers) >= _MAX_HEADERS:
                self._stop_parsing(_LONG_HEAD)
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self.in_head = False
            if len(self.pipeline) >= _MAX_PIPELINED:
                self._stop_parsing(_BAD)
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self.body_bytes += len(body)
            super().on_body(body)

        def on_message_complete(self) -> None:
            self.message_ended = True
            super().on_message_complete()

    _Http = _Httptools


def _raw(problem: Problem) -> bytes:
    """A response of a connection that no app sees."""
    name = new_request_id()
    body = problem.body(name)
    headers = {
        "Content-Type": MEDIA_TYPE,
        "Content-Length": str(len(body)),
        "Connection": "close",
        "X-Request-ID": name,
        **SECURITY_HEADERS,
        **problem.headers,
    }
    lines = [f"{header}: {value}".encode("latin-1") for header, value in headers.items()]
    return b"\r\n".join([_STATUS_LINES[problem.status], *lines, b"", body])


def _bind(host: str, port: int) -> list[socket.socket]:
    """Sockets on all addresses of a host, on the same port. They do not listen yet, so nobody connects too early."""
    listeners: list[socket.socket] = []
    missing: OSError | None = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                listener = socket.socket(family, kind, protocol)
            except OSError as error:
                missing = error  # an address of IPv6 where there is none
                continue
            listeners.append(listener)
            if sys.platform != "win32":  # there it would let two servers share a port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):
                # The kernel takes little ahead of the client: a slow one can be told from one that reads nothing.
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
            try:
                listener.bind((address[0], port, *address[2:]))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                missing = error
                listeners.pop().close()
                continue
            port = listener.getsockname()[1]
        if not listeners:
            raise missing or OSError(errno.EADDRNOTAVAIL, "it has no address")
    except (OSError, OverflowError) as error:
        for listener in listeners:
            listener.close()
        if isinstance(error, OverflowError):
            error = OSError(errno.EINVAL, "there is no such port")
        raise OSError(error.errno, error.strerror, f"{host}:{port}") from None
    return listeners


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _allow_files(wanted: int) -> None:
    """Ask the system for as many open files as there may be connections."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < wanted:
        logger.warning(
            "this process may open %d files: fewer connections than max_connections may be possible", allowed
        )


def _log_loop(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what went wrong without the objects of `context`, whose representations may quote a user."""
    logger.error("%s", context.get("message", "an error in the event loop"), exc_info=context.get("exception"))
