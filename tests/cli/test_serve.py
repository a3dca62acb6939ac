"""`serve` as its users meet it: help, options, variables, mistakes in one line, and a process that ends well."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

pytest.importorskip("fastapi", reason="needs the extra: pip install 'dynamic-tinybert[serve]'")

from dynamic_tinybert.cli.app import app
from dynamic_tinybert.corpus import Corpus
from dynamic_tinybert.files import install_command
from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.serve import ServeOptions
from support.commands import complaint
from support.waiting import WAIT_S, eventually

command = importlib.import_module("dynamic_tinybert.cli.serve")  # the package has a function of the same name

pytestmark = pytest.mark.serve

TOWER = "The tower stands in Paris, on the Champ de Mars. It was built in 1889."
OPTIONS = tuple(
    """
    --host --port --model --index --budget --slo-ms --min-budget --workers --threads --max-batch-tokens --max-waiting
    --timeout-ms --max-questions --max-text-characters --max-question-characters --max-body-bytes --max-connections
    --api-key-file --allow-origin --allowed-host --log-level --log-text --precision --open
    """.split()  # noqa: SIM905  # a list of them is a screen long
)


def run(*arguments: str, **env: str) -> Result:
    return CliRunner().invoke(app, ["serve", *arguments], env=env)


# Help


def test_help_teaches() -> None:
    result = run("--help")
    assert result.exit_code == 0
    told = " ".join(result.stdout.split())
    for part in (
        *OPTIONS,
        "dynamic-tinybert serve --open",
        "dynamic-tinybert serve --index docs=my-index",
        "curl -s 127.0.0.1:8000/answer",
        "POST /answer",
        "/metrics",
        "DYNAMIC_TINYBERT_SLO_MS",
        "429",
        "SIGTERM",
        "127.0.0.1",
    ):
        assert part in told, part
    assert "\b" not in result.stdout
    assert "serve" in CliRunner().invoke(app, ["--help"]).stdout


# Options and variables


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command would run with."""
    seen: dict[str, Any] = {}

    def run(
        options: ServeOptions, model: str, precision: Any, threads: int, workers: int, log_level: str, page: bool
    ) -> None:
        own = {name: getattr(options, name) for name in ServeOptions.__dataclass_fields__}
        seen.update(own, model=model, precision=precision.value, threads=threads, workers=workers)
        seen.update(log_level=log_level, page=page)

    monkeypatch.setattr(command, "_run", run)
    return seen


SAID = [
    ("--host", "0.0.0.0", "host", "0.0.0.0"),
    ("--port", "0", "port", 0),
    ("--model", "./mine", "model", "./mine"),
    ("--index", "docs=a", "indexes", {"docs": "a"}),
    ("--index", "some/where", "indexes", {"where": "some/where"}),
    ("--index", "a=b=c", "indexes", {"a": "b=c"}),
    ("--budget", "0.5", "budget", 0.5),
    ("--budget", "fast", "budget", "fast"),
    ("--slo-ms", "50", "slo_ms", 50.0),
    ("--slo-ms", "0", "slo_ms", None),
    ("--min-budget", "balanced", "min_budget", "balanced"),
    ("--workers", "3", "workers", 3),
    ("--threads", "2", "threads", 2),
    ("--max-batch-tokens", "100", "max_batch_tokens", 100),
    ("--max-waiting", "70", "max_waiting", 70),
    ("--timeout-ms", "1500", "timeout_ms", 1500.0),
    ("--max-questions", "5", "max_questions", 5),
    ("--max-text-characters", "1000", "max_text_characters", 1000),
    ("--max-question-characters", "100", "max_question_characters", 100),
    ("--max-body-bytes", "1000", "max_body_bytes", 1000),
    ("--max-connections", "10", "max_connections", 10),
    ("--allow-origin", "https://a.example", "allow_origins", ("https://a.example",)),
    ("--allowed-host", "a.example", "allowed_hosts", ("a.example",)),
    ("--log-level", "DEBUG", "log_level", "DEBUG"),
    ("--precision", "int8", "precision", "int8"),
]


@pytest.mark.parametrize(("option", "value", "name", "expected"), SAID)
def test_an_option_is_also_a_variable(told: dict[str, Any], option: str, value: str, name: str, expected: Any) -> None:
    assert run().exit_code == 0
    assert told[name] != expected
    result = run(option, value)
    assert result.exit_code == 0, result.stderr
    assert told[name] == expected
    told.clear()
    variable = "DYNAMIC_TINYBERT_" + option.strip("-").replace("-", "_").upper()
    result = run(**{variable: value})
    assert result.exit_code == 0, result.stderr
    assert told[name] == expected


def test_every_option_is_tried() -> None:
    assert {option for option, *_ in SAID} | {"--api-key-file", "--log-text", "--open"} == set(OPTIONS)


def test_untold_it_serves_this_machine_alone_and_logs_no_text(told: dict[str, Any]) -> None:
    assert run().exit_code == 0
    defaults = ServeOptions()
    own = {name: getattr(defaults, name) for name in ServeOptions.__dataclass_fields__}
    assert {name: told[name] for name in own} == own
    assert (told["host"], told["port"], told["log_text"]) == ("127.0.0.1", 8000, False)
    assert (told["model"], told["precision"], told["threads"], told["page"]) == ("embedded", "fp32", 1, False)
    assert told["workers"] >= 1


def test_what_may_be_repeated_is_a_list_in_a_variable(told: dict[str, Any]) -> None:
    assert (
        run("--index", "a=x", "--index", "b=y", "--allow-origin", "https://a", "--allow-origin", "https://b").exit_code
        == 0
    )
    assert told["indexes"] == {"a": "x", "b": "y"}
    assert told["allow_origins"] == ("https://a", "https://b")
    assert run(DYNAMIC_TINYBERT_INDEX="a=x b=y", DYNAMIC_TINYBERT_ALLOWED_HOST="a.example *.b").exit_code == 0
    assert told["indexes"] == {"a": "x", "b": "y"}
    assert told["allowed_hosts"] == ("a.example", "*.b")


def test_an_option_goes_before_its_variable(told: dict[str, Any]) -> None:
    assert run("--port", "1234", DYNAMIC_TINYBERT_PORT="4321").exit_code == 0
    assert told["port"] == 1234


def test_switches(told: dict[str, Any]) -> None:
    assert run("--log-text", "--open").exit_code == 0
    assert (told["log_text"], told["page"]) == (True, True)
    assert run(DYNAMIC_TINYBERT_LOG_TEXT="1").exit_code == 0
    assert told["log_text"] is True


def test_keys_are_read_a_line_each(told: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\n one \n\ntwo\r\n", "utf-8")
    assert run("--api-key-file", str(file)).exit_code == 0
    assert told["api_keys"] == ("one", "two")
    assert run(DYNAMIC_TINYBERT_API_KEY_FILE=str(file)).exit_code == 0
    assert told["api_keys"] == ("one", "two")


def test_a_request_never_has_more_questions_than_may_wait(told: dict[str, Any]) -> None:
    assert run("--max-waiting", "7").exit_code == 0
    assert (told["max_waiting"], told["max_questions"]) == (7, 7)


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--budget", "cheap"], "'cheap'"),
        (["--budget", "2"], "budget"),
        (["--min-budget", "0"], "budget"),
        (["--index", "=x"], "[NAME=]DIR"),
        (["--index", "docs="], "[NAME=]DIR"),
        (["--index", "a=x", "--index", "a=y"], "'a'"),
        (["--log-level", "loud"], "'loud'"),
    ],
)
def test_a_misuse_is_told_in_a_line(arguments: list[str], named: str) -> None:
    assert named in complaint(run(*arguments), 2)


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (["--port", "http"], {}),
        (["--port", "70000"], {}),
        (["--slo-ms", "-1"], {}),
        (["--workers", "0"], {}),
        (["--max-waiting", "0"], {}),
        (["--timeout-ms", "0"], {}),
        (["--precision", "int4"], {}),
        (["--nonsense"], {}),
        (["here"], {}),
        ([], {"DYNAMIC_TINYBERT_PORT": "http"}),
    ],
)
def test_a_misuse_that_the_parser_finds_has_status_2(arguments: list[str], env: dict[str, str]) -> None:
    result = run(*arguments, **env)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("option", ["--slo-ms", "--timeout-ms"])
def test_a_time_is_a_number(told: dict[str, Any], option: str, value: str) -> None:
    assert run(option, value).exit_code == 2
    assert not told


@pytest.mark.parametrize(("content", "named"), [("", "no key"), ("# none\n\n", "no key"), (None, "cannot be read")])
def test_a_file_without_keys_is_told(tmp_path: Path, content: str | None, named: str) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    assert named in complaint(run("--api-key-file", str(file)), 1)


def test_a_model_that_is_not_there_is_told() -> None:
    assert "no such folder" in complaint(run("--model", "./nowhere"), 1)


def test_an_index_that_cannot_be_used_is_told(tiny_folder: Path, tmp_path: Path) -> None:
    line = complaint(run("--model", str(tiny_folder), "--slo-ms", "0", "--index", f"docs={tmp_path / 'nowhere'}"), 1)
    assert "nowhere" in line
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("no index")
    assert "other" in complaint(
        run("--model", str(tiny_folder), "--slo-ms", "0", "--index", f"docs={tmp_path / 'other'}"), 1
    )


@pytest.mark.parametrize("host", ["a b", "", "http://a.example", "a.example/x"])
def test_a_host_that_is_none_is_told(tiny_folder: Path, host: str) -> None:
    arguments = ["--model", str(tiny_folder), "--slo-ms", "0"]
    assert "allowed host" in complaint(run(*arguments, "--allowed-host", host), 2)


# The real thing


def arguments_of(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dynamic_tinybert", "serve", *arguments]


def environment(**more: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("DYNAMIC_TINYBERT_")}
    return own | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONIOENCODING": "utf-8"} | more


def failed(*arguments: str, code: str | None = None) -> tuple[int, list[str]]:
    """Run a command that ends by itself; its status, and its lines on standard error."""
    line = [sys.executable, "-c", code] if code else arguments_of(*arguments)
    done = subprocess.run(line, capture_output=True, text=True, env=environment(), timeout=60, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def test_a_port_that_is_taken_is_told_in_a_line(tiny_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, lines = failed("--model", str(tiny_folder), "--slo-ms", "0", "--port", str(port))
    assert (status, len(lines)) == (1, 1), lines
    assert lines[0].startswith("dynamic-tinybert: error: ")
    assert str(port) in lines[0]


def test_an_address_that_is_not_ours_is_told_in_a_line(tiny_folder: Path) -> None:
    status, lines = failed("--model", str(tiny_folder), "--slo-ms", "0", "--host", "192.0.2.1", "--port", "0")
    assert (status, len(lines)) == (1, 1), lines
    assert "192.0.2.1" in lines[0]


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn", "prometheus_client"])
def test_a_missing_extra_is_told_in_a_line(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from dynamic_tinybert.cli import main; main(['serve'])"
    code = code.replace("main(['serve'])", "sys.argv[1:] = ['serve']; sys.exit(main())")
    status, lines = failed(code=code)
    assert status == 1
    assert lines == [
        f"dynamic-tinybert: error: serve needs {missing}, which is not installed: {install_command('serve')}"
    ]


class Process:
    """A server in a process of its own. Its log is read as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.url = ""
        self.ready = threading.Event()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"serving .* at (http://\S+)", line):
                self.url = found[1]
                self.ready.set()
        self.ready.set()

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    def get(self, path: str, asked: Any = None, **headers: str) -> tuple[int, str]:
        body = None if asked is None else json.dumps(asked).encode()
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json", **headers})
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        found = re.search(rf"^dynamic_tinybert_{name} (\S+)$", self.get("/metrics")[1], re.MULTILINE)
        return float(found[1]) if found else 0.0

    def end(self, sent: signal.Signals) -> int:
        self.process.send_signal(sent)
        return self.wait()

    def wait(self) -> int:
        status = self.process.wait(3 * WAIT_S)
        self.reader.join(WAIT_S)
        return status


@contextlib.contextmanager
def served(*arguments: str, **env: str) -> Iterator[Process]:
    pipe = subprocess.PIPE
    line = arguments_of("--port", "0", *arguments)
    with subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True, env=environment(**env)) as process:
        server = Process(process)
        try:
            assert server.ready.wait(3 * WAIT_S)
            assert server.url, server.lines
            yield server
        finally:
            process.kill()
            server.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_it_serves_and_ends_when_all_is_answered(tiny_folder: Path, tiny: QuestionAnswerer, tmp_path: Path) -> None:
    Corpus(tmp_path / "index", qa=tiny).put("tower", TOWER)
    options = ["--model", str(tiny_folder), "--slo-ms", "0", "--index", f"docs={tmp_path / 'index'}"]
    with served(*options, DYNAMIC_TINYBERT_WORKERS="1") as server, ThreadPoolExecutor(8) as pool:
        assert server.get("/health") == (200, '{"status":"ok"}')
        question = "Where is the tower?"
        for asked in ({"text": TOWER}, {"index": "docs"}):
            status, body = server.get("/answer", {"question": question, **asked})
            assert status == 200, body
            answer = json.loads(body)["results"][0]["answers"][0]
            assert TOWER[answer["start"] : answer["end"]] == answer["text"] != ""
        assert json.loads(server.get("/info")[1])["indexes"] == [{"name": "docs", "documents": 1, "passages": 1}]
        assert "<title>" in server.get("/")[1]
        text = TOWER * 600
        answering = [pool.submit(server.get, "/answer", {"question": question, "text": text}) for _ in range(8)]
        assert eventually(lambda: server.metric("accepted_questions_total") == 10)
        assert server.end(signal.SIGTERM) == 0
        expected = tiny(question, text).text
        for reply in answering:
            status, body = reply.result(WAIT_S)
            assert (status, json.loads(body)["results"][0]["answers"][0]["text"]) == (200, expected)
    assert server.process.stdout is not None
    assert [line for line in server.lines if not line.startswith("{")] == [
        f"dynamic-tinybert: serving {tiny_folder} at {server.url}\n"
    ]
    log = server.log
    assert {name: log[-1][name] for name in ("message", "accepted", "answered", "refused", "given_up")} == {
        "message": "stopped",
        "accepted": 10,
        "answered": 10,
        "refused": 0,
        "given_up": 0,
    }
    assert {line["level"] for line in log} <= {"INFO", "WARNING"}
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in log)
    requests = [line for line in log if line["message"] == "request" and line["path"] == "/answer"]
    assert [line["status"] for line in requests] == [200] * 10
    assert not any("Champ de Mars" in line or question in line for line in server.lines)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_interrupt_ends_it_too_and_keys_are_kept(tiny_folder: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("correct-horse\n")
    options = ["--model", str(tiny_folder), "--slo-ms", "0", "--api-key-file", str(keys), "--log-text"]
    with served(*options) as server:
        asked = {"question": "Where?", "text": TOWER}
        assert server.get("/answer", asked)[0] == 401
        assert server.get("/answer", asked, Authorization="Bearer correct-horse")[0] == 200
        assert server.get("/health")[0] == 200
        assert server.end(signal.SIGINT) == 0
    assert server.log[-1]["message"] == "stopped"
    assert server.log[-1]["accepted"] == server.log[-1]["answered"] == 1
    assert any(line.get("text") == TOWER for line in server.log)
    assert not any("correct-horse" in line for line in server.lines)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_model_without_a_table_is_served_with_one_warning(tiny_folder: Path) -> None:
    with served("--model", str(tiny_folder)) as server:
        assert json.loads(server.get("/info")[1])["load_control"] is None
        assert server.end(signal.SIGTERM) == 0
    assert sum("load control is off" in line for line in server.lines) == 1
    assert server.lines[0].startswith("dynamic-tinybert: warning: load control is off")
    assert [line for line in server.lines if not line.startswith("{")][1:] == [
        f"dynamic-tinybert: serving {tiny_folder} at {server.url}\n"
    ]
