"""`batch --ray` on a cluster of two nodes on this machine, each a raylet and workers of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynamic_tinybert import Corpus, QuestionAnswerer
from dynamic_tinybert.batch import BatchError, Setup, answer_file, from_texts
from dynamic_tinybert.batch.on_ray import answer_file_on_ray
from support.ray_nodes import Cluster

LIGHTHOUSE = "The lighthouse of Port Ellis was built by Agnes Moreau in 1871. Its keeper was Barnaby Whitlock. 🗼 "
ROWS: list[Any] = [
    {"id": "a", "question": "Who built the lighthouse?", "text": LIGHTHOUSE},
    "no JSON",
    {"question": "Where is Zürich, 東京?", "context": "Zürich liegt am See; 東京 is far."},
    {"id": 7, "question": "  ", "text": LIGHTHOUSE},
    {"id": "long", "question": "Who was the keeper?", "text": LIGHTHOUSE * 60},
    {"id": "none", "question": "Is there anything?", "text": ""},
]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


def many(count: int) -> list[Any]:
    return [{"id": i, "question": f"Who built lighthouse {i}?", "text": LIGHTHOUSE * 6} for i in range(count)]


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.stop()


def local(questions: Path, out: Path) -> bytes:
    answer_file(questions, out, from_texts(QuestionAnswerer(threads=1)), workers=2, options=Setup().described)
    return out.read_bytes()


def test_the_output_is_that_of_the_local_command_bad_lines_included(tmp_path: Path, shared_cluster: Cluster) -> None:
    questions = write(tmp_path / "q.jsonl", ROWS + many(30))
    summary = answer_file_on_ray(questions, tmp_path / "ray.jsonl", Setup(), address=shared_cluster.address, chunk=4)
    assert (summary.answered, summary.failed) == (34, 2)
    assert (tmp_path / "ray.jsonl").read_bytes() == local(questions, tmp_path / "local.jsonl")


def test_an_interrupted_file_is_gone_on_with_and_an_empty_one_answered(tmp_path: Path, shared_cluster: Cluster) -> None:
    questions = write(tmp_path / "q.jsonl", many(20))
    whole = local(questions, tmp_path / "local.jsonl")
    out = tmp_path / "ray.jsonl"
    out.write_bytes(whole[: len(whole) // 2])
    summary = answer_file_on_ray(questions, out, Setup(), address=shared_cluster.address, chunk=3, resume=True)
    assert summary.skipped > 5
    assert out.read_bytes() == whole
    empty = answer_file_on_ray(write(tmp_path / "e", []), tmp_path / "e.out", Setup(), address=shared_cluster.address)
    assert empty.answered == 0


def test_answers_from_an_index(tmp_path: Path, shared_cluster: Cluster) -> None:
    corpus = Corpus(tmp_path / "index")
    corpus.put("ellis", LIGHTHOUSE)
    questions = write(tmp_path / "q.jsonl", [{"id": 1, "question": "Who built the lighthouse?"}])
    setup = Setup(index=str(tmp_path / "index"), top_k=2)
    answer_file_on_ray(questions, tmp_path / "out", setup, address=shared_cluster.address)
    found = json.loads((tmp_path / "out").read_text("utf-8"))["answers"][0]
    assert (found["text"], found["document"]) == ("Agnes Moreau", "ellis")


@pytest.mark.parametrize(
    ("setup", "why"),
    [(Setup(model="/nowhere"), "nowhere"), (Setup(index="/nowhere/index"), "contains no index")],
)
def test_a_worker_that_cannot_answer_at_all_ends_the_run_in_one_line(
    setup: Setup, why: str, tmp_path: Path, shared_cluster: Cluster
) -> None:
    questions = write(tmp_path / "q.jsonl", many(2))
    with pytest.raises(BatchError, match=why) as raised:
        answer_file_on_ray(questions, tmp_path / "out", setup, address=shared_cluster.address)
    assert "\n" not in str(raised.value)


def test_questions_that_kill_each_worker_end_the_run(tmp_path: Path, shared_cluster: Cluster) -> None:
    class Deadly(Setup):
        def answering(self, qa: QuestionAnswerer) -> Any:
            os._exit(1)

    questions = write(tmp_path / "q.jsonl", many(2))
    with pytest.raises(BatchError, match="Ray could not continue") as raised:
        answer_file_on_ray(questions, tmp_path / "out", Deadly(), address=shared_cluster.address)
    assert "\n" not in str(raised.value)


def test_a_folder_named_as_the_embedded_model_does_not_stand_in_its_way(
    tmp_path: Path, shared_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "embedded").mkdir()
    questions = write(tmp_path / "q.jsonl", many(2))
    assert not answer_file_on_ray(questions, tmp_path / "out", Setup(), address=shared_cluster.address).failed


def test_the_command(tmp_path: Path, shared_cluster: Cluster) -> None:
    questions, out = write(tmp_path / "q.jsonl", many(3)), tmp_path / "out"
    command = [sys.executable, "-m", "dynamic_tinybert", "batch", str(questions), "--out", str(out), "--ray"]
    done = subprocess.run([*command, shared_cluster.address], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "3 answered, 0 failed" in done.stderr
    assert out.read_bytes() == local(questions, tmp_path / "local")
    for address, status, why in [
        ("127.0.0.1:1", 1, "no Ray cluster answers at 127.0.0.1:1: Connection refused"),
        ("elsewhere", 2, "the address of a Ray cluster must be HOST:PORT"),
        ("ray://127.0.0.1:10001", 2, "from one of its machines"),
    ]:
        done = subprocess.run([*command, address, "--resume"], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr.count("\n")) == (status, 1), done.stderr
        assert why in done.stderr


def test_a_node_that_is_lost_midway_loses_no_question_and_doubles_none(tmp_path: Path) -> None:
    questions, out = write(tmp_path / "q.jsonl", many(400)), tmp_path / "out"
    cluster = Cluster()
    seen: list[int] = []

    def kill() -> None:
        begun = time.monotonic()
        while time.monotonic() < begun + 60 and (not out.exists() or out.read_bytes().count(b"\n") < 60):
            time.sleep(0.05)
        seen.append(out.read_bytes().count(b"\n"))
        cluster.kill_second()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        summary = answer_file_on_ray(questions, out, Setup(), address=cluster.address, chunk=8)
    finally:
        killer.join()
        cluster.stop()
    assert 60 <= seen[0] < 400, "it was not killed midway"
    assert summary.answered == 400
    assert [json.loads(line)["id"] for line in out.read_bytes().splitlines()] == list(range(400))
    assert out.read_bytes() == local(questions, tmp_path / "local")


def test_the_process_that_calls_is_killed_and_its_run_gone_on_with(tmp_path: Path, shared_cluster: Cluster) -> None:
    questions, out = write(tmp_path / "q.jsonl", many(300)), tmp_path / "out"
    command = [sys.executable, "-m", "dynamic_tinybert", "batch", str(questions), "--out", str(out)]
    running = subprocess.Popen([*command, "--ray", shared_cluster.address], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 90
    while time.monotonic() < until and (not out.exists() or out.stat().st_size == 0):
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert 0 < out.read_bytes().count(b"\n") < 300
    answer_file_on_ray(questions, out, Setup(), address=shared_cluster.address, resume=True)
    assert out.read_bytes() == local(questions, tmp_path / "local")
