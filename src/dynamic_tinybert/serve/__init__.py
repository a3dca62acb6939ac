"""Serve answers over HTTP (extra `serve`): options, engine, app, server, and a deployment on Ray Serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynamic_tinybert.files import extra

if TYPE_CHECKING:
    from dynamic_tinybert.serve.application import assemble
    from dynamic_tinybert.serve.engine import Engine
    from dynamic_tinybert.serve.http import Stopping, create_app, serve, setup_logs, wrap
    from dynamic_tinybert.serve.options import SETTINGS, ServeOptions, parse_keys

_HOMES = {
    "SETTINGS": "options",
    "Engine": "engine",
    "ServeOptions": "options",
    "Stopping": "http",
    "assemble": "application",
    "create_app": "http",
    "parse_keys": "options",
    "serve": "http",
    "setup_logs": "http",
    "wrap": "http",
}

__all__ = [
    "SETTINGS",
    "Engine",
    "ServeOptions",
    "Stopping",
    "assemble",
    "create_app",
    "parse_keys",
    "serve",
    "setup_logs",
    "wrap",
]


def __getattr__(name: str) -> Any:
    """Import a name at its first use, so that the help of the command line works without FastAPI."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    with extra("serve", "the server"):
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
