"""Processes: a fork after the model has answered, a pool, and the end of a process whose threads still ask."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SETUP = """
import os, sys, threading, time
from dynamic_tinybert import QuestionAnswerer

threads = None if sys.argv[1] == "default" else int(sys.argv[1])
qa = QuestionAnswerer(threads=threads)
asked = "Where is the tower?", "The tower stands in Paris. " * 60
expected = qa(*asked)
"""

FORK = """
if (child := os.fork()) == 0:
    sys.exit(0 if qa(*asked) == expected else 3)
assert os.waitpid(child, 0)[1] == 0
assert qa(*asked) == expected
"""

BUSY = """
def ask():
    while True:
        qa(*asked)

for _ in range(3):
    threading.Thread(target=ask, daemon=True).start()
for _ in range(20):
    time.sleep(0.05)
    if (child := os.fork()) == 0:
        os._exit(0 if qa(*asked) == expected else 3)
    assert os.waitpid(child, 0)[1] == 0
"""

POOL = """
import multiprocessing

with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.starmap(qa, [asked] * 4) == [expected] * 4
"""

IDLE = """
def used():
    spent = os.times()
    return spent.user + spent.system

answering = idle = 0.0
for _ in range(20):
    before = used()
    qa("Where is the tower?", "The tower stands in Paris. " * 12)
    between = used()
    time.sleep(0.1)
    answering, idle = answering + between - before, idle + used() - between
assert idle < answering / 2, (idle, answering)
"""

DAEMON = """
def ask():
    while True:
        qa(*asked)

for _ in range(3):
    threading.Thread(target=ask, daemon=True).start()
time.sleep(0.3)
"""


def ended(code: str, threads: str) -> str:
    """Run a program to its end; return what it says if it fails."""
    done = subprocess.run(
        [sys.executable, "-c", SETUP + code, threads], capture_output=True, text=True, timeout=120, check=False
    )
    return "" if done.returncode == 0 else f"{done.returncode}: {done.stderr}"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="has no fork")
@pytest.mark.parametrize("threads", ["1", "2", "default"])
def test_a_forked_process_answers(threads: str) -> None:
    assert ended(FORK, threads) == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="has no fork")
def test_a_pool_of_forked_processes_answers() -> None:
    assert ended(POOL, "2") == ""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_process_ends_cleanly_while_daemon_threads_ask(threads: str) -> None:
    assert ended(DAEMON, threads) == ""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="has no fork")
@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_process_that_is_forked_while_others_ask_answers(threads: str) -> None:
    assert ended(BUSY, threads) == ""


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor has no other threads")
def test_an_answerer_that_waits_leaves_the_processor_alone() -> None:
    assert ended(IDLE, "2") == ""
