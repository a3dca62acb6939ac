"""The server over real sockets: slow, vanishing, greedy and broken clients, and an orderly end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra: pip install 'dynamic-tinybert[serve]'")
pytest.importorskip("uvicorn", reason="needs the extra: pip install 'dynamic-tinybert[serve]'")

from dynamic_tinybert.serve import ServeOptions, serve
from dynamic_tinybert.serve.http import Server
from support.middleware_app import Client, Served, get, post, serving
from support.waiting import WAIT_S, eventually

pytestmark = pytest.mark.serve


@pytest.fixture(scope="module")
def patient_server() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture(scope="module")
def impatient_server() -> Iterator[Served]:
    options = dict.fromkeys(("header_timeout_s", "body_timeout_s", "keep_alive_s", "write_timeout_s"), 0.2)
    with serving(max_body_bytes=1000, **options) as served:
        yield served


@pytest.fixture
def served(patient_server: Served) -> Served:
    """A server, to which nobody is connected."""
    return patient_server.afresh()


@pytest.fixture
def impatient(impatient_server: Served) -> Served:
    """A server that waits for nobody longer than 0.2 seconds."""
    return impatient_server.afresh()


def test_it_answers_on_one_connection_again_and_again(served: Served) -> None:
    with served.connect() as client:
        for size in (0, 1, 100_000):
            client.send(post("/bytes", b"x" * size))
            reply = client.read()
            assert (reply.status, reply.json()) == (200, {"bytes": size})
            assert "connection" not in reply.headers


def test_ready_is_told_the_real_address(served: Served) -> None:
    assert served.server.url == f"http://127.0.0.1:{served.port}"
    assert served.port != 0


def test_a_taken_address_is_one_error(served: Served) -> None:
    with pytest.raises(OSError, match="in use") as caught:
        serve(served.application.fastapi, ServeOptions(port=served.port))
    assert caught.value.filename == f"127.0.0.1:{served.port}"


@pytest.mark.parametrize(("host", "port"), [("no.such.host.invalid", 0), ("127.0.0.1", 70000), ("203.0.113.1", 0)])
def test_an_address_that_is_not_ours_is_one_error(host: str, port: int) -> None:
    with pytest.raises(OSError, match=r"\w"):
        Server(None, ServeOptions(host=host, port=port))  # type: ignore[arg-type]


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_a_slow_head_is_hung_up_on(impatient: Served, sent: bytes) -> None:
    with impatient.connect() as client:
        client.send(sent)
        assert client.is_closed()
    assert eventually(impatient.is_idle)


def test_a_head_that_dribbles_is_hung_up_on(impatient: Served) -> None:
    with impatient.connect() as client:
        client.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        assert not eventually_sent(client, b"x: y\r\n")
    assert eventually(impatient.is_idle)


def test_a_slow_second_head_is_hung_up_on(impatient: Served) -> None:
    with impatient.connect() as client:
        client.send(get("/health"))
        assert client.read().status == 200
        client.send(b"GET")
        assert not eventually_sent(client, b"x")


def test_an_idle_connection_is_closed(impatient: Served) -> None:
    with impatient.connect() as client:
        client.send(get("/health"))
        client.read()
        assert client.is_closed()


def test_a_slow_body_is_answered_408_and_closed(impatient: Served) -> None:
    with impatient.connect() as client:
        client.send(post("/bytes", b"xy")[:-1])
        reply = client.read()
        assert (reply.status, reply.json()["code"]) == (408, "slow_body")
        assert reply.headers["connection"] == "close"
        assert client.is_closed()
    assert eventually(impatient.is_idle)


def test_a_body_that_dribbles_after_its_answer_is_hung_up_on(impatient: Served) -> None:
    with impatient.connect() as client:
        client.send(b"POST /bytes HTTP/1.1\r\nHost: elsewhere\r\nContent-Length: 900\r\n\r\n")
        assert client.read().status == 421
        assert not eventually_sent(client, b"x")
    assert eventually(impatient.is_idle)


def test_a_request_may_take_longer_than_its_head_and_body(impatient: Served) -> None:
    with impatient.connect() as client:
        client.send(post("/wait"))
        assert impatient.application.entered.acquire(timeout=WAIT_S)
        with impatient.connect() as other:
            assert other.is_closed()  # the time for heads has passed
        impatient.application.go.set()
        assert client.read().status == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_refused_while_it_is_sent(impatient: Served, chunked: bool) -> None:
    """The client sees the answer, though it is still sending."""
    data = b"x" * 100_000
    request = post("/bytes", data)
    if chunked:
        head = b"POST /bytes HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        request = head + b"".join(b"%x\r\n%s\r\n" % (500, data[:500]) for _ in range(200))
    reply = impatient.ask(request)
    assert (reply.status, reply.json()["code"], reply.headers["connection"]) == (413, "too_large", "close")
    assert eventually(impatient.is_idle)


def test_a_body_is_counted_without_its_chunks(served: Served) -> None:
    head = b"POST /bytes HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    reply = served.ask(head + b"1\r\nx\r\n" * 10_000 + b"0\r\nX-Trailer: y\r\n\r\n")
    assert reply.json() == {"bytes": 10_000}


def test_a_client_that_expects_to_be_told_to_continue_is_told(served: Served) -> None:
    with served.connect() as client:
        client.send(post("/bytes", b"xy", "Expect: 100-continue")[:-2])
        while not client.buffer.endswith(b"\r\n\r\n"):
            assert client._more()
        assert client.buffer.startswith(b"HTTP/1.1 100 ")
        client.buffer = b""
        client.send(b"xy")
        assert client.read().json() == {"bytes": 2}


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10,  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /answer\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"GET /health HTTP/0.9\r\n\r\n",
        b"GET /health HTTP/2.0\r\nHost: localhost\r\n\r\n",
        b"POST /bytes HTTP/9.9\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nab",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nNo colon\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /bytes HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_garbage_is_answered_in_the_shape_of_all_errors(served: Served, garbage: bytes) -> None:
    with served.connect() as client:
        client.send(garbage)
        reply = client.read()
        assert reply.status in (400, 421)  # 421: what names no host
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.headers["x-request-id"] == reply.json()["request_id"]
        client.is_closed()
    assert eventually(served.is_idle)


@pytest.mark.parametrize("lines", [1, 1000, 50_000])
def test_a_huge_head_is_refused(served: Served, lines: int) -> None:
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"x: %s\r\n" % (b"y" * (2_000_000 // lines)) * lines
    reply = served.ask(head)
    assert (reply.status, reply.json()["code"]) == (431, "too_large")
    assert eventually(served.is_idle)


@pytest.mark.parametrize("endless", [b"0\r\n" + b"x: y\r\n" * 100_000, b"1;" + b"x" * 1_000_000])
def test_what_surrounds_a_body_has_an_end(served: Served, endless: bytes) -> None:
    head = b"POST /bytes HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with served.connect() as client:
        client.send(head + endless)
        assert client.read().status in (400, 431)
    assert eventually(served.is_idle)


def test_a_trailer_is_no_header() -> None:
    with serving(api_keys=["key"]) as served:
        head = b"POST /bytes HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert served.ask(head + b"1\r\nx\r\n0\r\nX-API-Key: key\r\n\r\n").status == 401


def test_a_body_of_two_lengths_is_refused_and_hides_no_request(served: Served) -> None:
    head = b"POST /bytes HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n"
    with served.connect() as client:
        client.send(head + b"0\r\n\r\n" + get("/health"))
        reply = client.read()
        assert (reply.status, reply.json()["code"]) == (400, "invalid_request")
        client.is_closed()


def test_very_many_small_headers_are_refused(served: Served) -> None:
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
    assert served.ask(head + b"a: b\r\n" * 200 + b"\r\n").status == 200
    assert served.ask(head + b"a: b\r\n" * 3000 + b"\r\n").status == 431


def test_a_target_with_a_host_is_that_path(served: Served) -> None:
    assert served.ask(b"GET http://localhost/health HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 200
    assert served.ask(b"GET http://localhost/nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 404


def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    with served.connect() as client:
        client.send(b"".join(post("/bytes", b"x" * size) for size in range(20)))
        assert [client.read().json()["bytes"] for _ in range(20)] == list(range(20))


def test_endless_pipelining_is_not_held(served: Served) -> None:
    with served.connect() as client:
        client.send(post("/wait"))
        assert served.application.entered.acquire(timeout=WAIT_S)
        flood = threading.Thread(target=client.send, args=(get("/health") * 200_000,))
        flood.start()
        protocol: Any = next(iter(served.server.server_state.connections))
        assert eventually(lambda: protocol.deaf or protocol.flow.read_paused)
        assert protocol.ahead() < 4 << 20
        served.application.go.set()
        assert client.read().json() == {"done": "yes"}
        client.socket.shutdown(socket.SHUT_RDWR)
        flood.join(WAIT_S)
    assert eventually(served.is_idle)


def test_garbage_after_a_request_does_not_answer_it(served: Served) -> None:
    with served.connect() as client:
        client.send(post("/wait") + b"\x00\x01garbage\r\n\r\n")
        assert served.application.entered.acquire(timeout=WAIT_S)
        client.send(b"more garbage")
        served.application.go.set()
        assert client.read().status == 200
        client.is_closed()
    assert eventually(served.is_idle)


@pytest.mark.parametrize("more", [b"", post("/wait")])
def test_a_client_that_leaves_is_noticed(served: Served, more: bytes) -> None:
    with served.connect() as client:
        client.send(post("/wait", b"text"))
        assert served.application.entered.acquire(timeout=WAIT_S)
        client.send(more)
    assert served.application.left.acquire(timeout=WAIT_S)
    assert eventually(served.is_idle)


def test_clients_that_leave_leave_nothing(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    whole = post("/bytes", b"x" * 2000)
    for cut in (0, 1, 20, len(whole) - 2000, len(whole) - 1, len(whole)):
        for linger in (True, False):  # with a FIN, with a RST
            for _ in range(5):
                with served.connect() as client:
                    client.send(whole[:cut])
                    if not linger:
                        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    assert eventually(served.is_idle)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    assert served.ask(get("/health", "Connection: close")).status == 200


def test_a_response_that_nobody_reads_is_given_up(impatient: Served) -> None:
    with impatient.connect() as client:
        client.send(get("/big"))
        assert eventually(lambda: not impatient.is_idle())
        assert eventually(impatient.is_idle)


def test_a_response_that_is_read_slowly_is_not_given_up() -> None:
    with serving(write_timeout_s=0.3) as served, served.connect() as client:
        client.send(get("/big"))
        pause = threading.Event()
        received = 0
        while received < 64 << 20 and (data := client.socket.recv(1 << 20)):
            received += len(data)
            pause.wait(0.01)
        assert received > 64 << 20


def test_a_connection_too_many_is_told_so() -> None:
    with serving(max_connections=2) as served:
        clients = [served.connect() for _ in range(2)]
        for client in clients:
            client.send(get("/health"))
            assert client.read().status == 200
        reply = served.ask(get("/health"))
        assert (reply.status, reply.json()["code"], reply.headers["retry-after"]) == (503, "too_busy", "1")
        clients.pop().socket.close()
        assert eventually(lambda: served.ask(get("/health", "Connection: close")).status == 200)
        clients.pop().socket.close()


def test_many_connections_too_many_are_closed() -> None:
    with serving(max_connections=2) as served:
        clients = [served.connect() for _ in range(10)]
        for client in clients[2:]:
            client.is_closed()  # with a word or without
        assert len(served.server.server_state.connections) == 2
        for client in clients:
            client.socket.close()
        assert eventually(served.is_idle)
        assert served.ask(get("/health", "Connection: close")).status == 200


@pytest.mark.parametrize("upgrade", ["websocket", "h2c"])
def test_an_upgrade_is_answered_as_if_it_had_not_been_asked_for(served: Served, upgrade: str) -> None:
    headers = ["Connection: Upgrade", f"Upgrade: {upgrade}", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA=="]
    assert served.ask(get("/health", *headers)).status == 200
    reply = served.ask(get("/socket", *headers))
    assert (reply.status, reply.json()["code"]) == (404, "not_found")
    assert eventually(served.is_idle)


def test_stopping_answers_what_was_asked() -> None:
    with serving() as served, served.connect() as idle, served.connect() as client, served.connect() as late:
        application = served.application
        idle.send(get("/health"))
        idle.read()
        client.send(post("/wait"))
        assert application.entered.acquire(timeout=WAIT_S)
        late.send(post("/bytes", b"xy")[:-1])
        assert eventually(lambda: len(served.server.server_state.tasks) == 2)
        served.server.stop()
        assert idle.is_closed()
        assert not application.shut_down.is_set()
        application.go.set()
        late.send(b"y")
        for one in (client, late):
            reply = one.read()
            assert (reply.status, reply.headers["connection"]) == (200, "close")
            assert one.is_closed()
        served.thread.join(WAIT_S)
        assert application.shut_down.is_set()


def test_while_stopping_new_requests_are_refused() -> None:
    with serving() as served:
        served.application.stopping.set()
        reply = served.ask(get("/health"))
        assert (reply.status, reply.json(), reply.headers["connection"]) == (503, {"status": "stopping"}, "close")
        reply = served.ask(post("/bytes", b"x"))
        assert (reply.status, reply.json()["code"], reply.headers["retry-after"]) == (503, "stopping", "1")


def test_no_bytes_break_the_server(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    random = Random(0)
    good = [
        get("/health"),
        post("/bytes", b"x" * 50, "Connection: keep-alive"),
        post("/answer", b'{"question": "x"}', "Content-Type: application/json", "Expect: 100-continue"),
        b"POST /bytes HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n",
    ]
    for _ in range(150):
        data = bytearray(b"".join(random.choices(good, k=random.randint(1, 3))))
        for _ in range(random.randint(0, 4)):
            place = random.randrange(len(data))
            data[place : place + random.choice([0, 1, 4])] = random.choice(
                [b"", b"\r\n", b"\0", b"\xff", b" ", b"9", b":"]
            )
        with served.connect() as client:
            client.send(bytes(data))
            client.socket.settimeout(0.005)
            with contextlib.suppress(TimeoutError):
                client.is_closed()
    assert eventually(served.is_idle)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
    assert served.ask(get("/health")).status == 200


PROGRAM = """
import sys
from support.middleware_app import Application
from dynamic_tinybert.serve import ServeOptions, serve, setup_logs
setup_logs()
application = Application()
tell = lambda url: print(url, flush=True)
serve(application.with_middleware(), ServeOptions(port=0), stopping=application.stopping, ready=tell)
print("shut down" if application.shut_down.is_set() else "cut off")
"""


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    tests = Path(__file__).parents[2]
    path = os.pathsep.join([str(tests), *(entry for entry in sys.path if entry)])
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, "PYTHONPATH": path}) as run:
        try:
            yield run
        finally:
            run.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_loses_no_request(process: subprocess.Popen[str], sent: signal.Signals) -> None:
    assert process.stdout is not None
    port = int(process.stdout.readline().rpartition(":")[2])
    clients = [Client(port) for _ in range(20)]
    for client in clients:
        client.send(post("/bytes", b"x" * 100_000)[:-1])
    with Client(port) as other:  # answered after them: they are being read
        other.send(get("/health"))
        assert other.read().status == 200
        process.send_signal(sent)
        assert other.is_closed()
    for client in clients:
        client.send(b"x")
        assert client.read().json() == {"bytes": 100_000}
        assert client.is_closed()
        client.socket.close()
    output, errors = process.communicate(timeout=WAIT_S)
    assert (process.returncode, output) == (0, "shut down\n"), errors
    assert '"level": "ERROR"' not in errors


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_second_signal_ends_at_once(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    port = int(process.stdout.readline().rpartition(":")[2])
    with Client(port) as client:
        client.send(post("/wait"))
        with Client(port) as other:
            other.send(get("/health"))
            other.read()
            process.send_signal(signal.SIGTERM)
            assert other.is_closed()
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == -signal.SIGTERM


def eventually_sent(client: Client, piece: bytes) -> bool:
    """Send pieces until the server hangs up; whether it never does."""
    client.socket.settimeout(0.02)
    end = time.monotonic() + WAIT_S
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < end:
            client.socket.sendall(piece)
            with contextlib.suppress(TimeoutError):
                if not client.socket.recv(1000):
                    return False
        return True
    return False
