"""The command `mcp`: processes that the SDK's own client talks to over both transports, and mistakes in one line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from typer.testing import CliRunner, Result

from dynamic_tinybert.cli.app import app
from dynamic_tinybert.corpus import Corpus
from support.commands import complaint, heed_interrupts
from support.waiting import WAIT_S, eventually

COMMAND = [sys.executable, "-m", "dynamic_tinybert", "mcp"]
QUESTION = {"question": "In which city does the tower stand?"}
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
unix = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """The folder for temporary files of the processes."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


def environment(temporary: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(temporary), "TEMP": str(temporary)}


@contextlib.contextmanager
def process(temporary: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    pipe = subprocess.PIPE
    started = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        env=environment(temporary),
        preexec_fn=heed_interrupts if os.name == "posix" else None,
    )
    with started:
        try:
            yield started
        finally:
            started.kill()


@contextlib.contextmanager
def http(temporary: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server over HTTP, and its URL."""
    with process(temporary, *arguments, "--http", "--port", "0") as started:
        assert started.stderr is not None
        line = ""
        while "serving MCP at " not in line:
            line = started.stderr.readline().decode()
            assert line, "the server ended"
        yield started, line.rpartition(" ")[2].strip()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["mcp", *arguments])


async def use_each_tool(client: Client, document: str) -> None:
    assert [tool.name for tool in (await client.list_tools()).tools] == ["ask", "find", "list", "read"]
    asked = (await client.call_tool("ask", QUESTION)).structured_content["answers"][0]
    assert (asked["text"], asked["document"]) == ("Paris", document)
    found = await client.call_tool("find", {"question": "warranty"})
    assert found.structured_content["passages"][0]["document"].endswith("manual.pdf")
    assert (await client.call_tool("list", {})).structured_content["total"] == 3
    arguments = {"document": document, "start": asked["start"], "length": 5}
    assert (await client.call_tool("read", arguments)).structured_content["text"] == "Paris"
    got = await client.call_tool("ask", {"question": "Wo steht die Önz? 🌉"})
    assert not got.is_error
    got = await client.call_tool("read", {"document": "../../etc/passwd"})
    assert got.is_error


# Standard input and output


def test_stdio_answers_from_files(documents: Path, temporary: Path) -> None:
    server = StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], str(documents)], env=environment(temporary))

    async def use() -> None:
        async with Client(server) as client:
            await use_each_tool(client, "documents/tower.txt")
            assert any(temporary.iterdir())

    anyio.run(use)
    assert not any(temporary.iterdir())


def test_stdio_answers_from_an_index(documents: Path, index: Path, temporary: Path) -> None:
    server = StdioServerParameters(
        command=COMMAND[0], args=[*COMMAND[1:], "--index", f"docs={index}"], env=environment(temporary)
    )

    async def use() -> None:
        async with Client(server, mode="legacy") as client:
            await use_each_tool(client, str(documents / "tower.txt"))

    anyio.run(use)


def test_stdout_has_the_protocol_alone_and_closed_stdin_ends(documents: Path, temporary: Path) -> None:
    messages = [
        HELLO,
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "ping"},
        {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "ask", "arguments": QUESTION}},
    ]
    with process(temporary, str(documents)) as started:
        assert started.stdin is not None
        assert started.stdout is not None
        assert started.stderr is not None
        answers: dict[Any, Any] = {}
        started.stdin.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages) + b"no JSON\n")
        started.stdin.flush()
        while 3 not in answers:
            message = json.loads(started.stdout.readline())
            assert message["jsonrpc"] == "2.0"
            answers[message.get("id")] = message
        started.stdin.close()
        assert started.wait(WAIT_S) == 0
        assert started.stdout.read() == b""
        told = started.stderr.read().decode()
    assert answers[1]["result"]["serverInfo"]["name"] == "dynamic-tinybert"
    assert answers[2]["result"] == {}
    assert answers[3]["result"]["structuredContent"]["answers"][0]["text"] == "Paris"
    assert "3 documents indexed" in told
    assert "1 skipped, the first: " in told
    assert "1 file of other types ignored" in told
    assert "Traceback" not in told
    assert not any(temporary.iterdir())


@unix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_quietly_while_stdin_is_open(documents: Path, temporary: Path, number: signal.Signals) -> None:
    with process(temporary, str(documents)) as started:
        assert started.stdin is not None
        assert started.stdout is not None
        assert started.stderr is not None
        started.stdin.write(json.dumps(HELLO).encode() + b"\n")
        started.stdin.flush()
        assert json.loads(started.stdout.readline())["id"] == 1
        started.send_signal(number)
        assert started.wait(WAIT_S) == 0
        assert started.stdout.read() == b""
        told = started.stderr.read().decode().splitlines()
    assert [line for line in told if "documents indexed" not in line] == []
    assert not any(temporary.iterdir())


def test_client_that_leaves_ends_the_server(index: Path, temporary: Path) -> None:
    with process(temporary, "--index", str(index)) as started:
        assert started.stdin is not None
        assert started.stdout is not None
        assert started.stderr is not None
        started.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            started.stdin.write(json.dumps(HELLO).encode() + b"\n")
            started.stdin.close()
        assert started.wait(WAIT_S) == 0
        assert started.stderr.read() == b""


# HTTP


def test_http_answers(documents: Path, temporary: Path) -> None:
    with http(temporary, str(documents)) as (started, url):
        assert url.startswith("http://127.0.0.1:")
        assert url.endswith("/mcp")

        async def use(mode: str) -> None:
            async with Client(url, mode=mode) as client:
                await use_each_tool(client, "documents/tower.txt")

        for mode in ("auto", "legacy"):
            anyio.run(use, mode)
        if os.name == "posix":
            started.send_signal(signal.SIGINT)
            assert started.wait(WAIT_S) == 0
            assert started.stdout is not None
            assert started.stderr is not None
            assert started.stdout.read() == b""
            told = started.stderr.read().decode().splitlines()
            assert [line for line in told if "documents indexed" not in line] == []
            assert eventually(lambda: not any(temporary.iterdir()))


def status(url: str, **headers: str) -> int:
    """The status of a first message to the server."""
    accepts = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    request = urllib.request.Request(url, json.dumps(HELLO).encode(), {**accepts, **headers})
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as reply:
            code: int = reply.status
            return code
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_http_refuses_foreign_hosts_and_pages(index: Path, temporary: Path) -> None:
    with http(temporary, "--index", str(index), "--allowed-host", "my-machine") as (_, url):
        port = url.rpartition(":")[2].partition("/")[0]
        for host in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", f"my-machine:{port}"):
            assert status(url, Host=host) == 200, host
        for host in ("evil.example", f"evil.example:{port}", "localhost.evil.example", ""):
            assert status(url, Host=host) == 421, host
        assert status(url, Origin=f"http://localhost:{port}") == 200
        assert status(url, Origin="http://evil.example") == 403
        assert status(url, Origin="null") == 403


def test_http_for_all_addresses_is_reached_by_any_address_and_no_name(index: Path, temporary: Path) -> None:
    with http(temporary, "--index", str(index), "--host", "0.0.0.0") as (_, url):
        port = url.rpartition(":")[2].partition("/")[0]
        for host in (f"192.0.2.2:{port}", "192.0.2.2", f"[2001:db8::1]:{port}", f"127.0.0.1:{port}"):
            assert status(f"http://127.0.0.1:{port}/mcp", Host=host) == 200, host
        for host in (f"evil.example:{port}", "192.0.2.2.evil.example", "", "[::1"):
            assert status(f"http://127.0.0.1:{port}/mcp", Host=host) == 421, host
        assert status(f"http://127.0.0.1:{port}/mcp/", Host=f"192.0.2.2:{port}") == 200
        own = {"Host": f"192.0.2.2:{port}"}
        assert status(f"http://127.0.0.1:{port}/mcp", **own, Origin=f"http://192.0.2.2:{port}") == 200
        assert status(f"http://127.0.0.1:{port}/mcp", **own, Origin="http://192.0.2.3") == 403


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_second_signal_leaves_no_index_behind(documents: Path, temporary: Path) -> None:
    with http(temporary, str(documents)) as (started, _):
        assert any(temporary.iterdir())
        for _again in range(2):
            started.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        started.wait(WAIT_S)
        assert not any(temporary.iterdir())


def test_http_beyond_this_machine_warns(index: Path, temporary: Path) -> None:
    with process(temporary, "--index", str(index), "--http", "--host", "0.0.0.0", "--port", "0") as started:
        assert started.stderr is not None
        assert b"warning: whoever can reach 0.0.0.0 can read the documents" in started.stderr.readline()


def test_port_that_is_taken_is_one_line(index: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = complaint(run("--index", str(index), "--http", "--port", port))
    assert f"cannot listen on 127.0.0.1 port {port}: " in line


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give the documents"),
        (["x", "--port", "1"], "need --http"),
        (["x", "--host", "0.0.0.0"], "need --http"),
        (["x", "--allowed-host", "me"], "need --http"),
        (["x", "--index", "files=x"], "'files'"),
        (["--index", "a=x", "--index", "a=y"], "given twice"),
        (["--index", "=x"], "[NAME=]DIR"),
    ],
)
def test_misuse_is_one_line(arguments: list[str], says: str) -> None:
    assert says in complaint(run(*arguments), 2)


def test_what_does_not_exist_is_one_line(tmp_path: Path, index: Path) -> None:
    assert "gone.txt" in complaint(run(str(tmp_path / "gone.txt")))
    assert "no-index" in complaint(run("--index", str(tmp_path / "no-index")))
    assert "no-model" in complaint(run("--index", str(index), "--model", str(tmp_path / "no-model")))


def test_missing_sdk_is_one_line(monkeypatch: pytest.MonkeyPatch, index: Path) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "mcp" or "dynamic_tinybert.mcp." in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mcp", None)
    line = complaint(run("--index", str(index)))
    assert "needs mcp, which is not installed: " in line
    assert "[mcp]" in line


def test_help_teaches() -> None:
    told = " ".join(run("--help").stdout.split())
    for part in ("--index", "--http", "--host", "--port", "--allowed-host", "--model", "--precision", "--threads"):
        assert part in told
    assert "dynamic-tinybert mcp --index docs=my-index" in told
    assert "mcp" in CliRunner().invoke(app, ["--help"]).stdout


def test_files_that_share_no_folder_keep_distinct_names(tmp_path: Path) -> None:
    from dynamic_tinybert.mcp import Gathering

    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.txt").write_text(f"This is {folder}.", "utf-8")
    told: list[str] = []
    gathering = Gathering([str(tmp_path / "a" / "same.txt"), str(tmp_path / "b")], told.append)
    try:
        gathering.start()
        gathering.wait()
        names = [info.name.removeprefix(gathering.root) for info in gathering.corpus.documents()]
    finally:
        gathering.close()
    assert [Path(name).as_posix() for name in names] == ["a/same.txt", "b/same.txt"]
    assert told[0].startswith("2 documents indexed in ")
    assert not Path(gathering.corpus.directory).exists()


def test_index_of_documents_added_later_is_seen(index: Path, tmp_path: Path) -> None:
    from dynamic_tinybert.mcp import Library, Shelf

    corpus = Corpus(tmp_path / "index")
    corpus.put("one", "The first text.")
    library = Library([Shelf("docs", Corpus(tmp_path / "index"))], lambda: pytest.fail("no model is needed"))
    assert library.documents(offset=0, limit=10).total == 1
    corpus.put("two", "The second text.")
    assert library.documents(offset=0, limit=10).total == 2
