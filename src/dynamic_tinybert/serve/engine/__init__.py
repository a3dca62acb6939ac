"""What answers questions, many at once, within an objective. No HTTP in sight."""

from dynamic_tinybert.serve.engine.engine import Engine
from dynamic_tinybert.serve.engine.errors import Stopped, TooBusy, TooMuch
from dynamic_tinybert.serve.engine.question import Result, TokenLayers

__all__ = ["Engine", "Result", "Stopped", "TokenLayers", "TooBusy", "TooMuch"]
