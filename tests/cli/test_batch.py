"""`batch`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dynamic_tinybert import Corpus, QuestionAnswerer
from dynamic_tinybert.cli import console
from dynamic_tinybert.cli.app import app
from support.commands import complaint, heed_interrupts

LIGHTHOUSE = "The lighthouse of Port Ellis was built by Agnes Moreau in 1871. Its keeper was Barnaby Whitlock."
TOWER = "La tour Eiffel, à Paris, fut achevée en 1889. 🗼 The tower stands on the Champ de Mars. " * 9
ROWS: list[dict[str, Any]] = [
    {"id": "a", "question": "Who built the lighthouse?", "text": LIGHTHOUSE},
    {"id": "b", "question": "Where does the tower stand?", "context": TOWER},
    {"question": "When was the lighthouse built?", "text": LIGHTHOUSE},
    {"id": 7, "question": "Who was the keeper?", "text": LIGHTHOUSE},
    {"question": "When was it finished?", "text": TOWER},
    {"id": "e", "question": "Is there anything?", "text": ""},
]
Run = Callable[..., Result]


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


@pytest.fixture
def run(qa: QuestionAnswerer, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process; the embedded model is there already."""
    load = console.load
    monkeypatch.setattr(console, "load", lambda model, *options: qa if model == "embedded" else load(model, *options))

    def invoke(*arguments: object) -> Result:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return CliRunner().invoke(app, ["batch", *(str(argument) for argument in arguments)])

    return invoke


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]


def check(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Numbers may differ in their last digits, with the batch and the threads."""
    assert found.keys() - {"digest"} == expected.keys() - {"digest"}
    for name, value in expected.items():
        assert found[name] == (pytest.approx(value, abs=1e-3) if isinstance(value, float) else value)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_batch_answers_as_one_by_one(questions: Path, out: Path, qa: QuestionAnswerer, workers: int) -> None:
    arguments = ["batch", str(questions), "--out", str(out), "--workers", str(workers), "--budget", "balanced"]
    done = subprocess.run([sys.executable, "-m", "dynamic_tinybert", *arguments], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.startswith(b"dynamic-tinybert: 6 answered, 0 failed, in ")
    assert len(done.stderr.splitlines()) == 1
    found = read(out)
    assert [row["id"] for row in found] == ["a", "b", 3, 7, 5, "e"]
    for row, asked in zip(found, ROWS, strict=True):
        text = asked.get("text", asked.get("context"))
        answer = qa(asked["question"], str(text), budget="balanced")
        head = {"id": asked["id"]} if "id" in asked else {"id": row["id"], "question": asked["question"]}
        check(row, head | answer.to_dict())
        assert row["text"] == str(text)[row["start"] : row["end"]]
    assert found[0]["text"] == "Agnes Moreau"


def test_batch_gives_many_answers_as_a_list(run: Run, questions: Path, out: Path, qa: QuestionAnswerer) -> None:
    assert run(questions, "--out", out, "--top-k", 3).exit_code == 0
    found = read(out)
    assert all(row.keys() - {"question"} == {"id", "digest", "answers"} for row in found)
    alone = [one.to_dict() for one in qa(ROWS[0]["question"], LIGHTHOUSE, top_k=3)]
    for mine, expected in zip(found[0]["answers"], alone, strict=True):
        check(mine, expected)
    assert (found[-1]["id"], found[-1]["answers"]) == ("e", [])


def test_batch_says_how_many_failed_and_fails(run: Run, questions: Path, out: Path) -> None:
    with questions.open("a") as file:
        file.write('nothing\n{"question": "\\u200b", "text": "a b"}\n')
    result = run(questions, "--out", out)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("dynamic-tinybert: 6 answered, 2 failed, in ")
    assert line.endswith(f"; 2 failed in all: see their lines in {out}")
    assert [row["error"] for row in read(out)[6:]] == [
        "line 7: is not JSON: Expecting value (character 1)",
        "line 8: the question is empty",
    ]
    again = run(questions, "--out", out, "--resume")
    assert again.exit_code == 1
    assert again.stderr.startswith("dynamic-tinybert: 0 answered, 0 failed, 8 already done, in ")


def test_batch_goes_on_with_resume_alone(run: Run, questions: Path, out: Path) -> None:
    assert run(questions, "--out", out).exit_code == 0
    whole = read(out)
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:2]) + lines[2][:20])
    torn = out.read_bytes()
    assert "add --resume" in complaint(run(questions, "--out", out), 1)
    assert out.read_bytes() == torn
    assert run(questions, "--out", out, "--resume").exit_code == 0
    for row, expected in zip(read(out), whole, strict=True):
        check(row, expected)


def test_batch_refuses_what_cannot_be_in_one_line(run: Run, questions: Path, out: Path, tmp_path: Path) -> None:
    assert "No such file" in complaint(run(tmp_path / "nothing", "--out", out), 1)
    assert "directory" in complaint(run(tmp_path, "--out", out), 1)
    assert "directory" in complaint(run(questions, "--out", tmp_path), 1)
    assert "No such file" in complaint(run(questions, "--out", tmp_path / "no" / "answers.jsonl"), 1)
    assert "is the file of questions" in complaint(run(questions, "--out", questions, "--resume"), 2)
    assert "a budget must be" in complaint(run(questions, "--out", out, "--budget", "cheap"), 2)
    assert "needs --index" in complaint(run(questions, "--out", out, "--max-latency-ms", 5), 2)
    assert "above 0" in complaint(run(questions, "--out", out, "--max-latency-ms", "nan", "--index", tmp_path), 2)
    assert "no such folder" in complaint(run(questions, "--out", out, "--model", tmp_path / "nowhere"), 1)
    assert not out.exists()
    out.write_text("Dear diary")
    assert "belongs to other questions" in complaint(run(questions, "--out", out, "--resume"), 1)


@pytest.mark.parametrize("arguments", [[], ["q.jsonl"], ["q.jsonl", "--out", "a", "--workers", "0"], ["a", "b"]])
def test_batch_put_wrongly_is_misuse(run: Run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error" in result.stderr


def test_batch_teaches(run: Run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "batch questions.jsonl --out answers.jsonl --resume" in result.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_batch_interrupted_says_how_to_go_on(out: Path, tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    path.write_text((json.dumps({"question": "Who was it?", "text": LIGHTHOUSE}) + "\n") * 5000)
    command = [sys.executable, "-m", "dynamic_tinybert", "batch", str(path), "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts) as process:
        until = time.monotonic() + 120
        while not (out.exists() and out.stat().st_size) and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert said.splitlines() == [
        f"dynamic-tinybert: interrupted: run the same command with --resume to continue; answers are in {out}"
    ]
    assert 0 < len(read(out)) < 5000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_batch_interrupted_does_not_wait_for_a_long_text(tmp_path: Path) -> None:
    line = json.dumps({"question": "Who was it?", "text": LIGHTHOUSE * 100_000}) + "\n"  # minutes
    command = [sys.executable, "-m", "dynamic_tinybert", "batch", "-", "--out", "-"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed_interrupts
    ) as process:
        assert process.stdin is not None
        process.stdin.write(line.encode())
        process.stdin.close()
        process.stdin = None
        time.sleep(5)
        os.kill(process.pid, signal.SIGINT)
        printed, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert printed == b""
    assert len(said.splitlines()) == 1
    assert b"--out FILE can be resumed" in said


def test_batch_reads_and_writes_standard_streams(questions: Path, out: Path, tiny_folder: Path, run: Run) -> None:
    run(str(questions), "--out", str(out))
    command = [sys.executable, "-m", "dynamic_tinybert", "batch"]
    model = ["--model", str(tiny_folder)]
    done = subprocess.run(
        [*command, "-", "--out", "-", *model], input=questions.read_bytes(), capture_output=True, check=False
    )
    last = done.stderr.decode().splitlines()[-1]
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [row["id"] for row in read(out)]
    assert "answered" in last
    assert "None" not in last


def test_standard_output_is_not_resumed(questions: Path, run: Run) -> None:
    result = run(str(questions), "--out", "-", "--resume")
    assert result.exit_code == 2
    assert "a stream of answers cannot be resumed: name a file" in result.stderr


@pytest.mark.parametrize("other", ["text", "question", "budget", "top_k"])
def test_a_run_is_not_continued_with_another_text_or_option(run: Run, questions: Path, out: Path, other: str) -> None:
    assert run(questions, "--out", out).exit_code == 0
    before = out.read_bytes()
    out.write_bytes(before[: before.index(b"\n", len(before) // 2) + 1])
    half, options = out.read_bytes(), {"budget": ("--budget", "fast"), "top_k": ("--top-k", "2")}.get(other, ())
    if not options:
        rows = [ROWS[0] | {other: "Who, when and where?"}, *ROWS[1:]]
        questions.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    line = complaint(run(questions, "--out", out, "--resume", *options), 1)
    assert "belongs to another run: its line 1 is of another question, text or option" in line
    assert out.read_bytes() == half
    questions.write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    assert run(questions, "--out", out, "--resume").exit_code == 0
    assert out.read_bytes() == before


def test_batch_answers_from_an_index_as_one_by_one(
    run: Run, questions: Path, out: Path, qa: QuestionAnswerer, tmp_path: Path
) -> None:
    corpus = Corpus(tmp_path / "index", qa=qa)
    corpus.put_many([("lighthouse", "Port Ellis", LIGHTHOUSE), ("tower", "", TOWER)])
    assert run(questions, "--index", tmp_path / "index", "--out", out, "--budget", "balanced").exit_code == 0
    found = read(out)
    assert [row["id"] for row in found] == ["a", "b", 3, 7, 5, "e"]
    for row, asked in zip(found, ROWS, strict=True):
        same = corpus(asked["question"], budget="balanced").to_dict()
        assert (row["text"], row["document"], row["start"]) == (same["text"], same["document"], same["start"])
    assert found[0]["document"] == "lighthouse"
    again = ("--index", tmp_path / "index", "--out", out, "--resume", "--budget", "balanced")
    assert run(questions, *again).exit_code == 0
    assert read(out) == found
    assert "contains no index" in complaint(run(questions, "--index", tmp_path / "none", "--out", tmp_path / "o"))
