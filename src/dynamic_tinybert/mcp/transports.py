"""How clients reach the server: standard input and output, or HTTP."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import anyio
import uvicorn
from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from opentelemetry import trace

_PATH = "/mcp"
_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_GRACE_S = 1  # for open streams, which would never end


def serve_stdio(server: MCPServer[Any]) -> None:
    """Serve the client at standard input and output, until it closes one of them."""
    _trace_nothing()
    try:
        anyio.run(server.run_stdio_async)
    except BaseException as error:
        if not _is_of_the_pipe(error):
            raise


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens for HTTP connections.

    Raises:
        OSError: The address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def serve_http(
    server: MCPServer[Any],
    listener: socket.socket,
    *,
    allowed_hosts: Sequence[str] = (),
    ready: Callable[[str], None],
) -> None:
    """Serve clients over streamable HTTP until SIGINT or SIGTERM; a second signal ends the process.

    Args:
        server: The server.
        listener: See `listen`.
        allowed_hosts: Names in the `Host` header that are accepted, besides those of this machine for itself and the
            address that is listened to; any address, if it listens to all. A page of another site in a browser could
            otherwise reach the server by a name that its own DNS gives this address (DNS rebinding).
        ready: Called with the URL when the server accepts connections.
    """
    _trace_nothing()
    host, port = listener.getsockname()[:2]
    literal = f"[{host}]" if ":" in host else host
    everywhere = ipaddress.ip_address(host).is_unspecified
    names = [*_LOCAL, *allowed_hosts, *([] if everywhere else [literal])]
    security = TransportSecuritySettings(
        allowed_hosts=[form for name in names for form in (name, f"{name}:*")],
        allowed_origins=[f"http://{form}" for name in names for form in (name, f"{name}:*")],
    )
    app = server.streamable_http_app(streamable_http_path=_PATH, transport_security=security, host=host)
    config = uvicorn.Config(
        _AnyAddress(app) if everywhere else app,
        lifespan="on",
        ws="none",
        access_log=False,
        log_config=None,
        log_level="error",
        timeout_graceful_shutdown=_GRACE_S,
    )
    _HttpServer(config, lambda: ready(f"http://{literal}:{port}{_PATH}")).run([listener])


class _HttpServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready
        self._before: dict[int, Any] = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End quietly. uvicorn would raise the signal again at the end, and complain about streams that it closes."""
        if self.should_exit:
            handler = self._before.get(sig)
            if callable(handler) and handler is not signal.default_int_handler:
                handler(sig, frame)  # deletes what the process has written
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
            os._exit(128 + sig)
        for name in ("uvicorn.error", "mcp"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.should_exit = True


class _AnyAddress:
    """Accept any address as host: only names can be given another address later. The SDK compares whole hosts.

    Args:
        app: The app, which accepts 127.0.0.1.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Call the app, with 127.0.0.1 in place of the address that the client used."""
        if scope["type"] == "http":
            if scope["path"] == f"{_PATH}/":  # a redirect would name 127.0.0.1
                scope = {**scope, "path": _PATH, "raw_path": _PATH.encode()}
            headers = dict(scope["headers"])
            host = headers.get(b"host", b"")
            if _is_address(host.decode("latin-1")):
                changed = {b"host": b"127.0.0.1"}
                if headers.get(b"origin") == b"http://" + host:  # a page that came from here
                    changed[b"origin"] = b"http://127.0.0.1"
                scope = {**scope, "headers": [(name, changed.get(name, value)) for name, value in scope["headers"]]}
        await self._app(scope, receive, send)


def _is_address(host: str) -> bool:
    """Return whether a `Host` header holds an address, and no name."""
    bare = host.partition(":")[0]
    if host.startswith("["):
        bare, closed, _ = host[1:].partition("]")
        if not closed:
            return False
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        return False
    return True


def _trace_nothing() -> None:
    """Keep the SDK's traces on this machine, whatever the environment says about OpenTelemetry."""
    trace.set_tracer_provider(trace.NoOpTracerProvider())


def _is_of_the_pipe(error: BaseException) -> bool:
    """Return whether an error, or each of a group, says that the client has left."""
    inside = getattr(error, "exceptions", None)
    return all(map(_is_of_the_pipe, inside)) if inside else isinstance(error, (BrokenPipeError, ConnectionError))
