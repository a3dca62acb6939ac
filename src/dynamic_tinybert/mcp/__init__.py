"""Answer an assistant's questions over the Model Context Protocol (extra `mcp`): documents, tools, transports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynamic_tinybert.files import extra

if TYPE_CHECKING:
    from dynamic_tinybert.mcp.gathering import Gathering
    from dynamic_tinybert.mcp.library import Library, RequestError, Shelf
    from dynamic_tinybert.mcp.server import create_server
    from dynamic_tinybert.mcp.transports import listen, serve_http, serve_stdio

_HOMES = {
    "Gathering": "gathering",
    "Library": "library",
    "RequestError": "library",
    "Shelf": "library",
    "create_server": "server",
    "listen": "transports",
    "serve_http": "transports",
    "serve_stdio": "transports",
}

__all__ = [
    "Gathering",
    "Library",
    "RequestError",
    "Shelf",
    "create_server",
    "listen",
    "serve_http",
    "serve_stdio",
]


def __getattr__(name: str) -> Any:
    """Import a name at its first use, so that the help of the command line works without the SDK."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    with extra("mcp", "the MCP server"):
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
