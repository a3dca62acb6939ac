"""Structured logs on standard error, one JSON object per line. They never quote the texts of users by accident."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import threading
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

# Python makes the messages of these exceptions from names and types in the code; other messages may quote their input.
_TELLING = frozenset({AttributeError, ImportError, ModuleNotFoundError, NameError, TypeError, ZeroDivisionError})
_TELLING_PACKAGES = ("onnxruntime.",)
_MOST_FRAMES = 40
_MOST_CAUSES = 8
_LONGEST_TEXT = 4000
_HANDLER = "dynamic_tinybert.serve"


def setup_logs(level: int | str = logging.INFO, *, text: bool = False) -> None:
    """Write the logs of the whole process to standard error as JSON.

    This package and uvicorn log from `level` upwards, other libraries from warnings upwards.

    Args:
        level: A level of `logging`: "INFO" or 20.
        text: Write the messages of all exceptions; they may quote the texts of users. Otherwise write only messages
            that cannot quote them.

    Raises:
        ValueError: There is no such level.
    """
    level = logging.getLevelName(level.upper()) if isinstance(level, str) else level
    if not isinstance(level, int):
        raise ValueError("a log level must be one of DEBUG, INFO, WARNING, ERROR and CRITICAL")
    handler = _Handler(sys.stderr)
    handler.name = _HANDLER
    handler.setFormatter(Formatter(text=text))
    root = logging.getLogger()
    for old in [old for old in root.handlers if old.name == _HANDLER]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger("dynamic_tinybert").setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(max(level, logging.DEBUG))  # below it, uvicorn logs headers, including API keys
    logging.captureWarnings(True)
    threading.excepthook = _log_thread


class Formatter(JsonFormatter):
    """Format records as JSON objects with `time`, `level`, `logger`, `message` and the other fields of the record."""

    def __init__(self, *, text: bool = False) -> None:
        super().__init__(
            ["levelname", "name", "message"],
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
            reserved_attrs=[*RESERVED_ATTRS, "taskName", "color_message"],
            timestamp="time",
        )
        self.text = text

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Put the time first, and remove values that JSON does not have, such as NaN."""
        return {"time": log_data.pop("time"), **{name: _jsonable(value) for name, value in log_data.items()}}

    def formatException(self, ei: Any) -> str:
        """Return the traceback, without messages that may quote a user."""
        return "".join(_exception_lines(ei[1], self.text)) if ei[1] is not None else ""


if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[Any]
else:
    _StreamHandler = logging.StreamHandler  # not generic before Python 3.11


class _Handler(_StreamHandler):
    """Report a record that cannot be written, without its content: `logging` itself would print it."""

    def handleError(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):  # nobody reads standard error
            self.stream.write(f'{{"level": "ERROR", "logger": "{__name__}", "message": "a record was not written"}}\n')


def _jsonable(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(name): _jsonable(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return value


def _exception_lines(error: BaseException, text: bool) -> Iterator[str]:
    """Yield a traceback as Python prints it: causes first, each with its frames and its last line."""
    chain: list[tuple[BaseException, str]] = []
    following = ""
    while len(chain) < _MOST_CAUSES and all(error is not seen for seen, _ in chain):
        chain.append((error, following))
        if error.__cause__ is not None:
            error, following = error.__cause__, "\nwhich was the direct cause of:\n\n"
        elif error.__context__ is not None and not error.__suppress_context__:
            error, following = error.__context__, "\nduring whose handling there was:\n\n"
        else:
            break
    for link, then in reversed(chain):
        yield from _frames(link.__traceback__)
        yield _last_line(link, text)
        for part in getattr(link, "exceptions", ())[:_MOST_CAUSES]:  # an exception group
            yield "one of the group:\n"
            yield from _frames(part.__traceback__)
            yield _last_line(part, text)
        yield then


def _frames(tb: TracebackType | None) -> list[str]:
    if tb is None:
        return []
    return ["Traceback (most recent call last):\n", *traceback.format_list(traceback.extract_tb(tb, -_MOST_FRAMES))]


def _last_line(error: BaseException, text: bool) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if text or kind in _TELLING or kind.__module__.startswith(_TELLING_PACKAGES):
        said = str(error)[:_LONGEST_TEXT]
    elif isinstance(error, OSError):
        said = error.strerror or ""
    else:
        said = ""
    return f"{name}: {said}\n" if said else f"{name}\n"


def _log_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit and args.exc_value is not None:
        logging.getLogger("dynamic_tinybert.serve").error("a thread failed", exc_info=args.exc_value)
