"""HTTP: the app, its middleware, and the server that runs both."""

from dynamic_tinybert.serve.http.app import create_app
from dynamic_tinybert.serve.http.logs import setup_logs
from dynamic_tinybert.serve.http.middleware import wrap
from dynamic_tinybert.serve.http.server import Server, serve
from dynamic_tinybert.serve.http.stopping import Stopping

__all__ = ["Server", "Stopping", "create_app", "serve", "setup_logs", "wrap"]
