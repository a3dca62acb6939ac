"""The engine: it answers many questions at the same time within an objective. It does not know HTTP."""

from dynamic_tinybert.serve.engine.engine import Engine
from dynamic_tinybert.serve.engine.errors import Stopped, TooBusy, TooMuch
from dynamic_tinybert.serve.engine.question import Result

__all__ = ["Engine", "Result", "Stopped", "TooBusy", "TooMuch"]
