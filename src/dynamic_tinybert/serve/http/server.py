"""Running an app: uvicorn, with limits on slow clients and many connections, and an orderly end."""

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

_GRACE_S = 0.1  # from the end of accepting to the closing of idle connections, so that what has arrived is read


def serve(
    app: ASGIApp,
    options: ServeOptions,
    *,
    stopping: Stopping | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; then answer what has been asked, and return. A second signal ends the process.

    Args:
        app: The app with its middleware (`wrap`). If it cannot start, the process ends with status 3, as with uvicorn.
        options: How to serve.
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
        super().__init__(Config(app, options))
        self.stopping = stopping or Stopping()
        self.ready = ready
        self.listeners = bind(options.host, options.port)
        self.url = url_of(self.listeners[0])
        allow_open_files(2 * options.max_connections + 256)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop."""
        try:
            super().run(self.listeners)
        finally:
            for listener in self.listeners:
                listener.close()

    def stop(self) -> None:
        """Begin to stop, as the first signal does. Any thread may call it."""
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


class Config(uvicorn.Config):
    """What uvicorn is told."""

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
    """Log what went wrong without the objects of `context`, whose representations may quote a user."""
    logger.error("%s", context.get("message", "an error in the event loop"), exc_info=context.get("exception"))
