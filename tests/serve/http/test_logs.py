"""The log: JSON, a line a record, and nothing in it of what users send."""

from __future__ import annotations

import builtins
import json
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra: pip install 'dynamic-tinybert[serve]'")
pytest.importorskip("pythonjsonlogger", reason="needs the extra: pip install 'dynamic-tinybert[serve]'")

from fastapi.testclient import TestClient

from dynamic_tinybert.serve.http import setup_logs
from support.middleware_app import Application, Asked

pytestmark = pytest.mark.serve

SECRET = "Xyzzy"
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """What has been logged since `setup`."""
    written: list[dict[str, Any]] = []

    def read() -> list[dict[str, Any]]:
        written.extend(json.loads(line) for line in capsys.readouterr().err.splitlines())
        return written

    names = ["", "dynamic_tinybert", "uvicorn", "uvicorn.error", "uvicorn.asgi", "py.warnings"]
    before = {name: (logging.getLogger(name).level, list(logging.getLogger(name).handlers)) for name in names}
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    yield read
    logging.captureWarnings(False)
    for name, (level, handlers) in before.items():
        logging.getLogger(name).setLevel(level)
        logging.getLogger(name).handlers[:] = handlers


def failing(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def log_failure(work: Callable[[], Any]) -> None:
    try:
        work()
    except Exception:
        logging.getLogger("dynamic_tinybert.serve").exception("it failed")


def test_a_line_is_an_object(lines: Lines) -> None:
    setup_logs()
    setup_logs("info")  # twice is once
    logging.getLogger("dynamic_tinybert.x").info("two\nlines \ud800 %s", "é", extra={"n": float("nan"), "list": [1, 2]})
    (line,) = lines()
    assert list(line)[:4] == ["time", "level", "logger", "message"]
    assert line["time"].endswith("+00:00")
    assert (line["level"], line["logger"], line["message"]) == ("INFO", "dynamic_tinybert.x", "two\nlines \ud800 é")
    assert (line["n"], line["list"]) == (None, [1, 2])


def test_uvicorn_writes_in_the_same_shape(lines: Lines) -> None:
    setup_logs()
    logging.getLogger("uvicorn.error").info("started", extra={"color_message": "\x1b[1mstarted"})
    (line,) = lines()
    assert (line["logger"], line["message"]) == ("uvicorn.error", "started")
    assert "color_message" not in line


def test_other_libraries_write_from_warnings_on(lines: Lines) -> None:
    setup_logs("DEBUG")
    logging.getLogger("elsewhere").info("asking for %s", SECRET)
    logging.getLogger("elsewhere").warning("one")
    logging.getLogger("dynamic_tinybert").debug("two")
    logging.getLogger("uvicorn.error").log(5, "headers: %s", SECRET)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn("three", stacklevel=1)
    assert [line["message"].splitlines()[0][-5:].strip() for line in lines()][:2] == ["one", "two"]
    assert "three" in lines()[2]["message"]


def test_a_level_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="DEBUG, INFO"):
        setup_logs("LOUD")


@pytest.mark.parametrize(
    "work",
    [
        lambda: Asked.model_validate({"question": [SECRET, 1], "top_k": SECRET}),
        lambda: json.loads(f'{{"{SECRET}'),
        lambda: {}[SECRET],
        lambda: int(SECRET),
        lambda: (SECRET + "\ud800").encode(),
        Path(f"/no/such/{SECRET}").read_text,
        failing(RuntimeError(SECRET)),
        failing(getattr(builtins, "ExceptionGroup", RuntimeError)(SECRET, [ValueError(SECRET)])),  # Python 3.11
    ],
)
def test_a_traceback_quotes_nobody(lines: Lines, work: Callable[[], Any]) -> None:
    def chained() -> None:
        try:
            work()
        except Exception as error:
            raise LookupError(SECRET) from error

    setup_logs()
    log_failure(work)
    log_failure(chained)
    for line in lines():
        assert "Traceback (most recent call last)" in line["exception"]
        assert "test_logs.py" in line["exception"]
        assert SECRET not in json.dumps(line).replace("raise LookupError(SECRET)", "").replace("SECRET", "")
    assert lines()[1]["exception"].rstrip().endswith("LookupError")


def test_a_traceback_may_quote_where_texts_may_be_logged(lines: Lines) -> None:
    setup_logs(text=True)
    log_failure(failing(RuntimeError(SECRET)))
    assert lines()[0]["exception"].rstrip().endswith(f"RuntimeError: {SECRET}")


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (lambda: None.nothing, "AttributeError: 'NoneType' object has no attribute 'nothing'"),  # type: ignore[attr-defined]
        (Path("/no/such/file").read_text, "FileNotFoundError: No such file or directory"),
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_messages_that_cannot_quote_are_kept(lines: Lines, work: Callable[[], Any], said: str) -> None:
    setup_logs()
    log_failure(work)
    assert lines()[0]["exception"].rstrip().endswith(said)


def test_an_endless_recursion_is_a_short_line(lines: Lines) -> None:
    def recurse(n: int) -> int:
        return recurse(n + 1) + 1

    setup_logs()
    log_failure(lambda: recurse(0))
    assert "RecursionError" in lines()[0]["exception"]
    assert len(lines()[0]["exception"]) < 10_000


def test_a_thread_that_fails_is_a_line(lines: Lines) -> None:
    setup_logs()
    thread = threading.Thread(target=failing(RuntimeError(SECRET)))
    thread.start()
    thread.join()
    (line,) = lines()
    assert line["level"] == "ERROR"
    assert "RuntimeError" in line["exception"]


def test_a_record_that_cannot_be_written_is_a_line(lines: Lines) -> None:
    setup_logs()
    logging.getLogger().handlers[:] = [h for h in logging.getLogger().handlers if h.name == "dynamic_tinybert.serve"]
    logging.getLogger("dynamic_tinybert").info("%d", SECRET)
    (line,) = lines()
    assert line["message"] == "a record was not written"


def test_requests_and_failures_are_in_it_and_texts_are_not(lines: Lines) -> None:
    setup_logs()
    client = TestClient(Application().with_middleware(), base_url="http://localhost", raise_server_exceptions=False)
    client.post("/answer", json={"question": SECRET})
    client.post("/answer", json={"question": SECRET, "top_k": SECRET})
    client.post("/answer", content=f'{{"{SECRET}', headers={"Content-Type": "application/json"})
    client.get(f"/fails?{SECRET}", headers={"X-Request-ID": "mine", "X-API-Key": SECRET})
    written = lines()
    assert SECRET not in json.dumps(written)
    assert [line["status"] for line in written if line["logger"] == "dynamic_tinybert.access"] == [200, 422, 400, 500]
    (failure,) = [line for line in written if line["level"] == "ERROR"]
    assert failure["request_id"] == "mine"
    assert "KeyError" in failure["exception"]
    assert "a secret text" not in failure["exception"].replace('raise KeyError("a secret text")', "")
