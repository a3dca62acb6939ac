"""Run an app with uvicorn, with limits on slow clients and connections, and a graceful shutdown."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from dynamic_tinybert.serve.http.protocol import MAX_HEAD_BYTES, LimitedProtocol
from dynamic_tinybert.serve.http.sockets import allow_open_files, bind, url_of
from dynamic_tinybert.serve.http.stopping import Stopping
from dynamic_tinybert.serve.options import ServeOptions

logger = logging.getLogger("dynamic_tinybert.serve")

_GRACE_S = 0.1  # after the last accept, so that requests that have arrived are read before idle connections are closed


def serve(
    app: ASGIApp,
    options: ServeOptions,
    *,
    stopping: Stopping | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then answer the open requests and return. A second signal ends the process.

    Args:
        app: The app with its middleware (`wrap`). If it cannot start, the process ends with status 3, as with uvicorn.
        options: The options of the server.
        stopping: Set at the first signal.
        ready: Called with the URL of the server when it accepts connections.

    Raises:
        OSError: The server cannot listen on the address.
    """
    Server(app, options, stopping=stopping, ready=ready).run()


class Server(uvicorn.Server):
    """A server whose address is already bound. It listens after `run` is called.

    Raises:
        OSError: The server cannot listen on the address.
    """

    def __init__(
        self,
        app: ASGIApp,
        options: ServeOptions,
        *,
        stopping: Stopping | None = None,
        ready: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(Config(app, options))
        self.stopping = stopping or Stopping()
        self.ready = ready
        self.listeners = bind(options.host, options.port)
        self.url = url_of(self.listeners[0])
        allow_open_files(2 * options.max_connections + 256)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until `stop` or a signal."""
        try:
            super().run(self.listeners)
        finally:
            for listener in self.listeners:
                listener.close()

    def stop(self) -> None:
        """Start the shutdown, as the first signal does. Any thread may call it."""
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
        """Accept no more connections, close the idle ones, wait for the others, then stop the app."""
        self.stopping.set()
        logger.info("stopping", extra={"requests": len(self.server_state.tasks)})
        for server in self.servers:
            server.close()
        await asyncio.sleep(_GRACE_S)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Shut down gracefully at the first signal, immediately at the second.

        uvicorn would raise the first signal again at the end, and the process would not exit with status 0.
        """
        if self.should_exit:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
            os._exit(128 + sig)  # the signal does nothing if this is process 1 of a container
        self.stop()


class Config(uvicorn.Config):
    """The configuration of uvicorn."""

    def __init__(self, app: ASGIApp, options: ServeOptions) -> None:
        self.options = options
        longest_s = options.body_timeout_s + options.timeout_ms / 1000 + options.write_timeout_s + 5
        super().__init__(
            app,
            http=LimitedProtocol,
            ws="none",
            lifespan="on",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=options.keep_alive_s,  # type: ignore[arg-type]  # it is given to call_later
            timeout_graceful_shutdown=math.ceil(longest_s),
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        )


def _log_loop(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error without the objects of `context`, because their representations may quote a user."""
    logger.error("%s", context.get("message", "an error in the event loop"), exc_info=context.get("exception"))
