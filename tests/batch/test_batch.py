"""A file of questions in, a file of answers out."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.answer import LogitsError
from dynamic_tinybert.batch import BatchError, Question, Setup, Summary, answer_file, from_texts
from dynamic_tinybert.batch.records import LONGEST_LINE

Rows = Sequence[object]


def echo(questions: Sequence[Question]) -> list[Mapping[str, Any]]:
    """The cheapest answers: the questions themselves."""
    return [{"said": f"{q.question} | {q.text}"} for q in questions]


def write(path: Path, rows: Rows) -> Path:
    """Lines of JSON, and bytes as they are."""
    lines = [row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() for row in rows]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def asked(count: int) -> list[dict[str, Any]]:
    return [{"id": f"q{i}", "question": f"What is {i}?", "text": f"It is {i * i}."} for i in range(count)]


def read(path: Path) -> list[dict[str, Any]]:
    content = path.read_bytes()
    assert not content or content.endswith(b"\n")
    return [json.loads(line) for line in content.split(b"\n")[:-1]]


def run(source: Path, out: Path, answer: Callable[..., Any] = echo, **options: Any) -> Summary:
    return answer_file(source, out, answer, **{"workers": 2, "chunk": 3, **options})


def answers(tmp_path: Path, rows: Rows, **options: Any) -> list[dict[str, Any]]:
    """What the questions of a new file are answered with."""
    out = tmp_path / "answers.jsonl"
    out.unlink(missing_ok=True)
    run(write(tmp_path / "questions.jsonl", rows), out, **options)
    return read(out)


# What is read.


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_answers_are_in_the_order_of_the_questions(tmp_path: Path, workers: int, chunk: int) -> None:
    def slow_at_times(questions: Sequence[Question]) -> list[Mapping[str, Any]]:
        time.sleep(0.002 * (questions[0].line % 3))
        return echo(questions)

    found = answers(tmp_path, asked(50), answer=slow_at_times, workers=workers, chunk=chunk)
    assert found == [{"id": q["id"], "said": f"{q['question']} | {q['text']}"} for q in asked(50)]


def test_many_threads_answer_at_the_same_time(tmp_path: Path) -> None:
    together = threading.Barrier(3, timeout=60)

    def all_there(questions: Sequence[Question]) -> list[Mapping[str, Any]]:
        together.wait()
        return echo(questions)

    assert len(answers(tmp_path, asked(3), answer=all_there, workers=3, chunk=1)) == 3


def test_ids_are_those_given_or_the_numbers_of_lines(tmp_path: Path) -> None:
    ids: list[Any] = ["a", "", "ç", "a", 7, -1, 2.5, 10**400, "7"]
    rows: list[object] = [{"id": one, "question": "a", "text": "b"} for one in ids]
    found = answers(tmp_path, [*rows, b"", b"  ", {"question": "a", "text": "b"}])
    assert [row["id"] for row in found] == [*ids, 12]
    assert [type(row["id"]) for row in found] == [*map(type, ids), int]


def test_a_text_may_be_called_context_and_other_fields_are_left_aside(tmp_path: Path) -> None:
    found = answers(tmp_path, [{"question": "a", "context": "b", "error": 1, "said": [], "other": None}])
    assert found == [{"id": 1, "question": "a", "said": "a | b"}]


def test_texts_are_left_aside_where_none_is_needed(tmp_path: Path) -> None:
    rows = [{"question": "a"}, {"question": "b", "text": 3}, {"question": "c", "text": "d", "context": "e"}]
    found = answers(tmp_path, rows, needs_text=False)
    assert [row["said"] for row in found] == ["a | ", "b | ", "c | "]


BROKEN: list[tuple[object, str]] = [
    (b"{", "is not JSON"),
    (b'{"question": "a", "text": "b"', "is not JSON"),
    (b'{"question": "a", "text": "b"} {}', "is not JSON"),
    (b'{"question": "a", "text": "b", "x": NaN}', "is not JSON: NaN"),
    (b'{"question": "a", "text": "b", "x": ' + b"1" * 5000 + b"}", "too many digits"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"question": "a", "text": "\xff"}', "is not UTF-8 (byte 28 of"),
    (b"\xff\xfe{", "is not UTF-8"),
    (b"\x1f\x8b\x08", "is not UTF-8"),
    ([1], "not a JSON object"),
    ("a", "not a JSON object"),
    (None, "not a JSON object"),
    ({}, "has no 'question'"),
    ({"text": "b"}, "has no 'question'"),
    ({"question": None, "text": "b"}, "the question is not a string"),
    ({"question": "", "text": "b"}, "the question is empty"),
    ({"question": " \u3000\n", "text": "b"}, "the question is empty"),
    ({"question": "a"}, "has no 'text'"),
    ({"question": "a", "text": ["b"]}, "the text is not a string"),
    ({"question": "a", "context": None}, "the context is not a string"),
    ({"question": "a", "text": "b", "context": "b"}, "both 'text' and 'context'"),
    ({"question": "a", "text": "b", "id": True}, "the id is neither"),
    ({"question": "a", "text": "b", "id": ["c"]}, "the id is neither"),
    (b'{"question": "a", "text": "b", "id": 1e999}', "the id is neither"),
    (b'{"question": "a\\ud800", "text": "b"}', "the question holds half a character"),
    (b'{"question": "a", "text": "\\udc00b"}', "the text holds half a character"),
    (b'{"question": "a", "text": "b", "id": "\\ud83d"}', "the id holds half a character"),
]


def test_a_broken_line_is_an_error_in_its_place_and_stops_nothing(tmp_path: Path) -> None:
    good = {"question": "a", "text": "b"}
    rows = [row for broken, _ in BROKEN for row in (broken, good)]
    found = answers(tmp_path, rows)
    assert len(found) == len(rows)
    for number, (row, (_, message)) in enumerate(zip(found[::2], BROKEN, strict=True)):
        assert list(row) == ["id", "error"]
        assert row["id"] == 2 * number + 1
        assert row["error"].startswith(f"line {2 * number + 1}: ")
        assert message in row["error"]
        assert "\n" not in row["error"]
    assert all(row == {"id": 2 * i + 2, "question": "a", "said": "a | b"} for i, row in enumerate(found[1::2]))


def test_a_broken_line_keeps_its_id_if_it_has_one(tmp_path: Path) -> None:
    assert answers(tmp_path, [{"id": "x", "question": 3}]) == [
        {"id": "x", "error": "line 1: the question is not a string"}
    ]


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n \t\n", b"  "])
def test_a_file_without_questions_has_no_answers(tmp_path: Path, content: bytes) -> None:
    source, out = tmp_path / "questions.jsonl", tmp_path / "answers.jsonl"
    source.write_bytes(content)
    summary = run(source, out)
    assert (summary.answered, summary.failed, summary.skipped) == (0, 0, 0)
    assert out.read_bytes() == b""


def test_line_ends_and_marks_of_other_systems_are_read(tmp_path: Path) -> None:
    source, out = tmp_path / "questions.jsonl", tmp_path / "answers.jsonl"
    source.write_bytes(b'\xef\xbb\xbf{"question": "a", "text": "b"}\r\n\r\n{"question": "c", "text": "d"}')
    run(source, out)
    assert read(out) == [{"id": 1, "question": "a", "said": "a | b"}, {"id": 3, "question": "c", "said": "c | d"}]


@settings(max_examples=50)
@given(st.lists(st.tuples(*[st.text(st.characters(codec="utf-8"), min_size=1)] * 3), max_size=8), st.integers(1, 4))
def test_any_text_passes_unchanged(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str, str]], chunk: int
) -> None:
    rows = [{"id": a, "question": "?" + b, "text": c} for a, b, c in texts]
    found = answers(tmp_path_factory.mktemp("unicode"), rows, chunk=chunk)
    assert found == [{"id": a, "said": f"?{b} | {c}"} for a, b, c in texts]


@pytest.mark.long
def test_a_line_that_is_too_long_is_passed_over_without_being_held(tmp_path: Path) -> None:
    limit = '{"question": "a", "text": "'
    fits = limit + "x" * (LONGEST_LINE - len(limit) - 3) + '"}'
    assert len(fits) + 1 == LONGEST_LINE
    source, out = tmp_path / "questions.jsonl", tmp_path / "answers.jsonl"
    with source.open("w") as file:
        file.write(fits + "\n")
        file.write(limit + "x" * (65 << 20) + '"}\n')
        for _ in range(1024):  # a GiB on a line
            file.write("y" * (1 << 20))
        file.write('\n{"question": "a", "text": "b"}\n')
    code = (
        "import resource, sys; from pathlib import Path; from dynamic_tinybert.batch import answer_file\n"
        "resource.setrlimit(resource.RLIMIT_AS, (700 << 20, 700 << 20))\n"
        "answer_file(Path(sys.argv[1]), Path(sys.argv[2]), lambda qs: [{'n': len(q.text)} for q in qs], workers=1)"
    )
    subprocess.run([sys.executable, "-c", code, str(source), str(out)], check=True)
    assert read(out) == [
        {"id": 1, "question": "a", "n": LONGEST_LINE - len(limit) - 3},
        {"id": 2, "error": "line 2: has more than 64 MiB"},
        {"id": 3, "error": "line 3: has more than 64 MiB"},
        {"id": 4, "question": "a", "n": 1},
    ]


# What goes wrong while answering.


def test_a_bad_question_does_not_take_its_neighbours_along(tmp_path: Path) -> None:
    def choosy(questions: Sequence[Question]) -> list[Mapping[str, Any]]:
        for q in questions:
            if q.id == "q4":
                raise ValueError("not this\none")
            if q.id == "q5":
                raise ValueError("broken \ud800")
        return echo(questions)

    found = answers(tmp_path, asked(12), answer=choosy, chunk=8)
    assert [row["id"] for row in found] == [q["id"] for q in asked(12)]
    assert {row["id"]: row["error"] for row in found if "error" in row} == {
        "q4": "line 5: not this one",
        "q5": "line 6: broken \\ud800",
    }


def test_an_answer_that_is_no_json_is_the_fault_of_its_question(tmp_path: Path) -> None:
    def odd(questions: Sequence[Question]) -> list[Mapping[str, Any]]:
        return [{"score": float("nan") if q.id == "q1" else 1} for q in questions]

    found = answers(tmp_path, asked(3), answer=odd)
    assert [row.get("score") for row in found] == [1, None, 1]
    assert found[1]["error"].startswith("line 2: ")


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt, MemoryError, RuntimeError, KeyError, TypeError, OSError, BatchError, LogitsError, SystemExit],
)
def test_what_is_no_question_s_fault_ends_the_run_and_can_be_resumed(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def ends(questions: Sequence[Question]) -> list[Mapping[str, Any]]:
        if questions[0].line > 9:
            raise error
        return echo(questions)

    source, out = write(tmp_path / "questions.jsonl", asked(20)), tmp_path / "answers.jsonl"
    with pytest.raises(error):
        run(source, out, ends)
    assert [row["id"] for row in read(out)] == [f"q{i}" for i in range(9)]
    summary = run(source, out, resume=True)
    assert (summary.skipped, summary.answered, summary.failed) == (9, 11, 0)
    assert read(out) == answers(tmp_path, asked(20))


def test_too_few_answers_are_a_broken_program(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="2 answers to 3 questions"):
        answers(tmp_path, asked(3), answer=lambda questions: echo(questions)[1:])


def test_no_more_is_read_than_is_soon_answered(tmp_path: Path) -> None:
    source, out = write(tmp_path / "questions.jsonl", asked(2000)), tmp_path / "answers.jsonl"
    read_to: list[int] = []
    hold = threading.Event()

    def stuck(questions: Sequence[Question]) -> list[Mapping[str, Any]]:
        read_to.append(questions[-1].line)
        if questions[0].line == 1:
            hold.wait(60)
        return echo(questions)

    runner = threading.Thread(target=run, args=(source, out, stuck))
    runner.start()
    time.sleep(0.5)  # while the first is being answered, the others run ahead, but not far
    ahead = max(read_to)
    hold.set()
    runner.join()
    assert ahead <= 3 * 4 * 2
    assert len(read(out)) == 2000


def test_progress_is_in_bytes_of_the_questions(tmp_path: Path) -> None:
    source, out = write(tmp_path / "questions.jsonl", [*asked(30), b"", b""]), tmp_path / "answers.jsonl"
    said: list[tuple[int, int, str]] = []
    run(source, out, progress=lambda *what: said.append(what))
    size = source.stat().st_size
    assert [done for done, _, _ in said] == sorted(done for done, _, _ in said)
    assert {total for _, total, _ in said} == {size}
    assert said[-1][:2] == (size, size)
    assert "questions a second" in said[0][2]


@pytest.mark.parametrize("options", [{"workers": 0}, {"chunk": 0}])
def test_options_without_sense_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be a whole number from 1"):
        answers(tmp_path, asked(1), **options)


# What is written, and resumed.


def test_an_output_that_is_there_is_refused_without_resume(tmp_path: Path) -> None:
    source, out = write(tmp_path / "questions.jsonl", asked(2)), tmp_path / "answers.jsonl"
    out.write_bytes(b"precious")
    with pytest.raises(BatchError, match=r"is not empty: add --resume"):
        run(source, out)
    assert out.read_bytes() == b"precious"
    out.write_bytes(b"")
    assert run(source, out).answered == 2


def test_the_questions_are_never_written_over(tmp_path: Path) -> None:
    source = write(tmp_path / "questions.jsonl", asked(2))
    before = source.read_bytes()
    (tmp_path / "link").symlink_to(source)
    for out in (source, tmp_path / "link"):
        with pytest.raises(ValueError, match="is the file of questions"):
            run(source, out, resume=True)
    assert source.read_bytes() == before


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "questions.jsonl", asked(2))
    with pytest.raises(BatchError, match="is not a regular file"):
        run(source, Path("/dev/null"))
    with pytest.raises(IsADirectoryError):
        run(source, tmp_path)
    with pytest.raises(FileNotFoundError):
        run(tmp_path / "nowhere", tmp_path / "answers.jsonl")
    assert not (tmp_path / "answers.jsonl").exists()


ROWS: list[object] = [
    {"id": "aé", "question": "Où?", "text": "À\u2028Paris."},
    b"",
    b"no JSON",
    {"question": "b", "text": "c"},
    {"id": 5.5, "question": "d", "text": "🗼"},
    {"id": "aé", "question": " ", "text": "c"},
    {"question": "e", "context": "f"},
]


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 4])
def test_a_run_cut_at_any_byte_is_resumed_to_the_same_file(tmp_path: Path, chunk: int) -> None:
    source, out = write(tmp_path / "questions.jsonl", ROWS), tmp_path / "answers.jsonl"
    run(source, out)
    whole = out.read_bytes()
    for cut in range(len(whole) + 1):
        out.write_bytes(whole[:cut])
        summary = run(source, out, resume=True, chunk=chunk)
        assert out.read_bytes() == whole, cut
        lines = whole[:cut].count(b"\n")
        assert (summary.skipped, summary.answered + summary.failed) == (lines, 6 - lines)
        assert summary.failed + summary.failed_before == 2


def test_what_is_answered_is_not_asked_again(tmp_path: Path) -> None:
    source, out = write(tmp_path / "questions.jsonl", asked(20)), tmp_path / "answers.jsonl"
    run(source, out)
    content = out.read_bytes()
    out.write_bytes(b"".join(content.splitlines(keepends=True)[:13]))
    again: list[object] = []

    def recorded(questions: Sequence[Question]) -> list[Mapping[str, Any]]:
        again.extend(q.id for q in questions)
        return echo(questions)

    run(source, out, recorded, workers=1, resume=True)
    assert again == [f"q{i}" for i in range(13, 20)]
    assert out.read_bytes() == content


def test_resume_begins_where_nothing_is_there(tmp_path: Path) -> None:
    assert answers(tmp_path, asked(3), resume=True) == answers(tmp_path, asked(3))


def test_questions_that_are_added_are_answered_by_resume(tmp_path: Path) -> None:
    source, out = write(tmp_path / "questions.jsonl", asked(3)), tmp_path / "answers.jsonl"
    run(source, out)
    write(source, asked(5))
    assert run(source, out, resume=True).answered == 2
    assert [row["id"] for row in read(out)] == [f"q{i}" for i in range(5)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"id": "q0", "said": ""}\n{"id": "q2", "said": ""}\n', "its line 2 does not answer 'q1', line 2 of"),
        (b'{"id": 0, "said": ""}\n', "its line 1 does not answer 'q0'"),
        (b"\n", "its line 1 does not answer"),
        (b"Dear diary\n", "its line 1 does not answer"),
        (b"Dear diary", "its line 1 does not answer"),
        (b"\0\0\0", "its line 1 does not answer"),
        (b'{"id": "q0", "said": ""}\n{"id": "q7"', "its line 2 does not answer 'q1'"),
        (b'["q0"]\n', "its line 1 does not answer"),
        (b"".join(b'{"id": "q%d", "said": ""}\n' % i for i in range(4)), "has more answers than"),
        (b"".join(b'{"id": "q%d", "said": ""}\n' % i for i in range(3)) + b"{", "has more answers than"),
    ],
)
def test_answers_to_other_questions_are_left_alone(tmp_path: Path, content: bytes, message: str) -> None:
    source, out = write(tmp_path / "questions.jsonl", asked(3)), tmp_path / "answers.jsonl"
    out.write_bytes(content)
    with pytest.raises(BatchError, match=message) as caught:
        run(source, out, resume=True)
    assert "\n" not in str(caught.value)
    assert out.read_bytes() == content


def test_other_questions_without_ids_are_noticed(tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    run(write(tmp_path / "old.jsonl", [{"question": f"old {i}", "text": "b"} for i in range(3)]), out)
    new = write(tmp_path / "new.jsonl", [{"question": f"new {i}", "text": "b"} for i in range(5)])
    with pytest.raises(BatchError, match="belongs to other questions"):
        run(new, out, resume=True)
    assert [row["question"] for row in read(out)] == ["old 0", "old 1", "old 2"]


def test_ids_are_compared_with_their_types(tmp_path: Path) -> None:
    source, out = tmp_path / "questions.jsonl", tmp_path / "answers.jsonl"
    for mine, other in [(1, "1"), (1, 1.0), (1, True), ("", None)]:
        write(source, [{"id": mine, "question": "a", "text": "b"}])
        write(out, [{"id": other}])
        with pytest.raises(BatchError):
            run(source, out, resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_two_runs_never_write_one_file(tmp_path: Path, resume: bool) -> None:
    source, out = write(tmp_path / "questions.jsonl", asked(2)), tmp_path / "answers.jsonl"
    refused: list[str] = []

    def meanwhile(questions: Sequence[Question]) -> list[Mapping[str, Any]]:
        with pytest.raises(BatchError) as caught:
            run(source, out, resume=resume)
        refused.append(str(caught.value))
        return echo(questions)

    assert run(source, out, meanwhile).answered == 2
    assert refused == [f"another run is writing {out}: wait for it, or name another --out"]
    assert run(source, out, resume=True).skipped == 2


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
def test_a_full_disk_ends_in_one_line_and_the_run_can_be_resumed(tmp_path: Path) -> None:
    source, out = write(tmp_path / "questions.jsonl", asked(100)), tmp_path / "answers.jsonl"
    run(source, tmp_path / "whole.jsonl")
    code = (
        "import resource, sys; sys.path.insert(0, sys.argv[3]); import test_batch; from pathlib import Path\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1234, 1234))\n"
        "try: test_batch.run(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except OSError as error: print(error.filename, error.strerror)"
    )
    arguments = [str(source), str(out), str(Path(__file__).parent)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout == f"{out} File too large\n"
    assert out.stat().st_size == 1234
    run(source, out, resume=True)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


QUICK = """
import sys, time
from pathlib import Path
from dynamic_tinybert.batch import answer_file

def answer(questions):
    time.sleep(0.0005 * (len(questions) + questions[0].line % 4))
    return [{"said": q.text * (q.line % 30)} for q in questions]

print("go", flush=True)
answer_file(Path(sys.argv[1]), Path(sys.argv[2]), answer, workers=3, chunk=4, resume=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.long)])
def test_nothing_is_lost_or_doubled_when_a_run_is_killed_at_any_moment(tmp_path: Path, kills: int) -> None:
    rows = [b"broken" if i % 17 == 0 else row for i, row in enumerate(asked(5000 + 100 * kills))]
    source, out = write(tmp_path / "questions.jsonl", rows), tmp_path / "answers.jsonl"
    draw, grown = random.Random(kills), []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", QUICK, str(source), str(out)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout
        assert process.stdout.readline() == "go\n"
        return process

    def size() -> int:
        return out.stat().st_size if out.exists() else 0

    for _ in range(kills):
        before = size()
        with start() as process:
            if draw.random() < 0.7:  # at work; the others perhaps while they look at what is there
                while size() <= before and process.poll() is None:
                    time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.05))
            process.kill()
        grown.append(size())
    assert len(set(grown)) > kills // 3
    with start() as process:
        assert process.wait() == 0
    found = read(out)
    assert [row["id"] for row in found] == [i + 1 if i % 17 == 0 else f"q{i}" for i in range(len(rows))]
    texts = [row["text"] for row in asked(len(rows))]
    for number, row in enumerate(found):
        if number % 17:
            assert row["said"] == texts[number] * ((number + 1) % 30)
        else:
            assert row["error"].startswith(f"line {number + 1}: is not JSON")


# Answering from texts.


def test_texts_are_read_by_the_model(tmp_path: Path, qa: QuestionAnswerer) -> None:
    text = "The tower stands in Paris. It was built in 1889 by Gustave Eiffel."
    rows = [{"question": q, "text": text} for q in ("Where is the tower?", "\u200b", "Who built it?")]
    found = answers(tmp_path, rows, answer=from_texts(qa, budget="balanced", top_k=2))
    alone = [one.to_dict() for one in qa("Where is the tower?", text, budget="balanced", top_k=2)]
    assert [one["text"] for one in found[0]["answers"]] == [one["text"] for one in alone]
    assert found[1] == {"id": 2, "question": "\u200b", "error": "line 2: the question is empty"}
    assert found[2]["answers"][0]["text"] == "Gustave Eiffel"


def test_a_budget_without_sense_is_one_error(qa: QuestionAnswerer) -> None:
    with pytest.raises(ValueError, match="a budget must be"):
        from_texts(qa, budget=2)


class Narrow(io.RawIOBase):
    """A raw stream that takes a few bytes at a time, and after a while none."""

    def __init__(self, most: int) -> None:
        self.taken, self.most = b"", most

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int | None:
        part = bytes(content[: min(7, self.most - len(self.taken))])
        self.taken += part
        return len(part) or None


def test_a_stream_that_takes_a_part_gets_the_rest(tmp_path: Path) -> None:
    source = write(tmp_path / "q.jsonl", asked(20))
    answer_file(source, tmp_path / "out.jsonl", echo, workers=1)
    stream = Narrow(1 << 20)
    assert answer_file(source, stream, echo, workers=1).answered == 20  # type: ignore[arg-type]
    assert stream.taken == (tmp_path / "out.jsonl").read_bytes()


def test_a_stream_that_is_full_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError):
        answer_file(write(tmp_path / "q.jsonl", asked(20)), Narrow(100), echo, workers=1)  # type: ignore[arg-type]


def test_questions_may_come_from_a_stream(tmp_path: Path) -> None:
    source = write(tmp_path / "q.jsonl", asked(5))
    out = io.BytesIO()
    assert answer_file(io.BytesIO(source.read_bytes()), out, echo, workers=2, chunk=2).answered == 5
    assert len(out.getvalue().splitlines()) == 5
    with pytest.raises(ValueError, match="cannot be resumed"):
        answer_file(source, out, echo, workers=1, resume=True)


def test_a_line_that_was_corrected_since_is_not_passed_over(tmp_path: Path) -> None:
    """Its error would stay in the output, and the question would never be answered."""
    for named in ({"id": "a"}, {}):
        source, out = tmp_path / "questions.jsonl", tmp_path / "answers.jsonl"
        out.unlink(missing_ok=True)
        run(write(source, [{**named, "question": "Where?"}, *asked(2)]), out, options="x")
        assert "error" in read(out)[0]
        assert run(source, out, resume=True, options="x").skipped == 3
        write(source, [{**named, "question": "Where?", "text": "In Paris."}, *asked(2)])
        with pytest.raises(
            BatchError, match=r"line 1 the error of a line that was no question; line 1 of .* is one now"
        ):
            run(source, out, resume=True, options="x")


def test_a_line_that_was_answered_and_is_no_question_now_is_noticed(tmp_path: Path) -> None:
    source, out = tmp_path / "questions.jsonl", tmp_path / "answers.jsonl"
    run(write(source, asked(2)), out, options="x")
    write(source, [{"id": "q0", "question": "What is 0?"}, *asked(2)[1:]])
    with pytest.raises(BatchError, match="does not answer 'q0', line 1"):
        run(source, out, resume=True, options="x")


def test_another_revision_of_a_model_is_another_run() -> None:
    same = Setup(model="me/qa")
    assert same.described == Setup(model="me/qa", revision=None).described
    assert len({same.described, *(Setup(model="me/qa", revision=r).described for r in ("v1", "v2"))}) == 3
