"""HTTP/1.1 by uvicorn and h11, with limits on the connections, memory and time of clients."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from dynamic_tinybert.serve.http.middleware import SECURITY_HEADERS
from dynamic_tinybert.serve.http.problems import MEDIA_TYPE, Problem, long_head, new_request_id, not_http

if TYPE_CHECKING:
    from dynamic_tinybert.serve.http.server import Config

MAX_HEAD_BYTES = 64 << 10

_MIN_BYTES_PER_S = 1024  # a client that receives its response more slowly is disconnected
_MAX_AHEAD_BYTES = 1 << 20
_REFUSED_S = 1.0  # time for a refused connection to receive its response


class LimitedProtocol(H11Protocol):
    """The protocol of uvicorn with timeouts for slow heads and unread responses, and a limit on connections.

    A connection above `max_connections` gets status 503 and is closed, so that the client or a load balancer knows why
    and can try again. Above twice `max_connections`, connections are closed without a response.
    """

    config: Config

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.options = self.config.options
        self.head_timer: asyncio.TimerHandle | None = None
        self.write_timer: asyncio.TimerHandle | None = None
        self.deaf = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept or refuse a connection."""
        super().connection_made(transport)
        # With this limit, pause_writing is called as soon as a byte waits for the client.
        transport.set_write_buffer_limits(high=0)
        if len(self.connections) > 2 * self.options.max_connections:
            transport.abort()
        elif len(self.connections) > self.options.max_connections:
            detail = "the server has reached its limit of connections: try again"
            self.deaf = True
            transport.write(_raw_response(Problem(503, "too_busy", detail, headers={"Retry-After": "1"})))
            self.head_timer = self.loop.call_later(_REFUSED_S, transport.abort)
        else:
            self._time_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._cancel(self.head_timer, self.write_timer)
        self.deaf = True
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Process received data, unless this connection is no longer read."""
        if self.deaf:
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()
            return
        before = self.cycle
        if (before is None or before.response_complete) and self.head_timer is None:
            self._time_head()
        super().data_received(data)
        if self.cycle is not before:
            self._cancel(self.head_timer)
            self.head_timer = None
        cycle = self.cycle
        if cycle is not None and not (cycle.more_body or cycle.response_complete or self.deaf):
            ahead = self.ahead()
            if ahead > _MAX_AHEAD_BYTES:
                self.reject(not_http())
            elif ahead <= MAX_HEAD_BYTES and not self.transport.is_closing():
                # uvicorn stops reading while a pipelined request waits, so it would not notice that the client leaves.
                self.flow.resume_reading()

    def ahead(self) -> int:
        """Return the bytes of pipelined requests that wait for the request that the app is answering."""
        return len(self.conn.trailing_data[0])

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP with a problem, as all errors are answered."""
        # uvicorn calls this while it handles an error of h11, which knows a better status.
        error = sys.exc_info()[1]
        self.reject(long_head() if getattr(error, "error_status_hint", 400) == 431 else not_http())

    def reject(self, problem: Problem) -> None:
        """Stop reading from the connection, send a response, and close it."""
        self.deaf = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and (cycle.response_started or not cycle.more_body):
            cycle.keep_alive = False  # first the app answers the earlier request
            return
        in_body = cycle is not None and cycle.response_complete and cycle.more_body  # the response was sent
        if not in_body:
            self.transport.write(_raw_response(problem))
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        # The request is answered like any other. The parser accepts no further data.
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def pause_writing(self) -> None:
        """Start to measure how fast the client receives its response."""
        super().pause_writing()
        self._time_writing()

    def resume_writing(self) -> None:
        """Stop the measurement."""
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


def _raw_response(problem: Problem) -> bytes:
    """Return the bytes of a response that the app does not send."""
    request_id = new_request_id()
    body = problem.body(request_id)
    headers = {
        "Content-Type": MEDIA_TYPE,
        "Content-Length": str(len(body)),
        "Connection": "close",
        "X-Request-ID": request_id,
        **SECURITY_HEADERS,
        **problem.headers,
    }
    lines = [f"HTTP/1.1 {problem.status} {problem.title}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
