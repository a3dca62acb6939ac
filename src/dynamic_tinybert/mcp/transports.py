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
            address that is listened to. A page of another site in a browser could otherwise reach the server by a
            name that its own DNS gives this address (DNS rebinding).
        ready: Called with the URL when the server accepts connections.
    """
    _trace_nothing()
    host, port = listener.getsockname()[:2]
    literal = f"[{host}]" if ":" in host else host
    names = [*_LOCAL, *allowed_hosts, *([] if ipaddress.ip_address(host).is_unspecified else [literal])]
    security = TransportSecuritySettings(
        allowed_hosts=[form for name in names for form in (name, f"{name}:*")],
        allowed_origins=[f"http://{form}" for name in names for form in (name, f"{name}:*")],
    )
    app = server.streamable_http_app(streamable_http_path=_PATH, transport_security=security, host=host)
    config = uvicorn.Config(
        app,
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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End quietly. uvicorn would raise the signal again at the end, and complain about streams that it closes."""
        if self.should_exit:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
            os._exit(128 + sig)
        for name in ("uvicorn.error", "mcp"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.should_exit = True


def _trace_nothing() -> None:
    """Keep the SDK's traces on this machine, whatever the environment says about OpenTelemetry."""
    trace.set_tracer_provider(trace.NoOpTracerProvider())


def _is_of_the_pipe(error: BaseException) -> bool:
    """Return whether an error, or each of a group, says that the client has left."""
    inside = getattr(error, "exceptions", None)
    return all(map(_is_of_the_pipe, inside)) if inside else isinstance(error, (BrokenPipeError, ConnectionError))
