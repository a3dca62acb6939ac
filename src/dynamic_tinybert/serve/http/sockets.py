"""The sockets of a server, and its limit of open files."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import sys

logger = logging.getLogger("dynamic_tinybert.serve")

_UNSENT_BYTES = 128 << 10


def bind(host: str, port: int) -> list[socket.socket]:
    """Bind a socket to each address of a host, on the same port. The sockets do not listen yet."""
    listeners: list[socket.socket] = []
    missing: OSError | None = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                listener = socket.socket(family, kind, protocol)
            except OSError as error:
                missing = error  # for example an IPv6 address on a machine without IPv6
                continue
            listeners.append(listener)
            if sys.platform != "win32":  # on Windows, two servers could then share a port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):
                # A small send buffer shows the difference between a slow client and one that reads nothing.
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


def url_of(listener: socket.socket) -> str:
    """Return the URL of a listening socket for clients on this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def allow_open_files(wanted: int) -> None:
    """Raise the system's limit of open files to the wanted number."""
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
