from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dynamic_tinybert.cli.app import app
from support.commands import complaint


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with documents below it."""
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "paris.txt").write_text("The tower stands in Paris. It was built in 1889.")
    (documents / "gate.md").write_text("# The gate\n\nThe Brandenburg Gate stands in Berlin.")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_documents_are_added_listed_asked_and_removed(folder: Path) -> None:
    added = run("index", "add", "documents", "--index", "my-index")
    assert added.exit_code == 0, added.stderr
    assert "2 added, 0 replaced, 0 unchanged\n" in added.stdout
    assert "2 documents in 2 passages" in added.stdout
    assert added.stderr == ""
    listed = run("index", "list", "--index", "my-index").stdout.splitlines()
    assert [os.path.basename(line.split("  ")[0]) for line in listed] == ["gate.md", "paris.txt"]
    assert "The gate" in listed[0]
    asked = run("ask", "Where does the tower stand?", "--index", "my-index")
    assert asked.exit_code == 0, asked.stderr
    assert asked.stdout.startswith("Paris   score ")
    assert "documents/paris.txt, characters 20-25" in asked.stdout
    assert "The tower stands in [Paris]." in asked.stdout
    removed = run("index", "remove", "documents/paris.txt", "--index", "my-index")
    assert removed.stdout == "documents/paris.txt: 1 document removed\n"
    (left,) = rows(run("index", "list", "--index", "my-index", "--json"))
    assert (left["title"], left["passages"]) == ("The gate", 1)
    status = run("index", "status", "--index", "my-index").stdout
    assert "documents    1" in status


def test_json_has_all(folder: Path) -> None:
    (folder / "documents/broken.pdf").write_bytes(b"%PDF-1.4")
    result = run("index", "add", "documents", "--index", "my-index", "--json")
    (report,) = rows(result)
    assert report["added"] == 2
    assert report["index"]["passages"] == 2
    ((path, why),) = report["skipped"]
    assert path.endswith("broken.pdf")
    assert result.stderr == f"dynamic-tinybert: skipped: {path}: {why}\n"
    (status,) = rows(run("index", "status", "--index", "my-index", "--json"))
    assert report["index"] == {key: status[key] for key in ("documents", "passages", "bytes")}
    answers = rows(run("ask", "Where does the gate stand?", "--index", "my-index", "--json", "--top-k", "2"))
    assert answers[0]["text"] == "Berlin"
    assert answers[0]["document"].endswith("gate.md")
    assert {"start", "end", "passage", "score", "confidence", "spent"} <= set(answers[0])
    assert rows(run("index", "remove", "documents", "--index", "my-index", "--json")) == [{"removed": {"documents": 2}}]


def test_records_by_the_names_of_their_fields(folder: Path) -> None:
    (folder / "news.jsonl").write_text('{"n": 1, "head": {"line": "Tower"}, "body": "It stands in Paris."}\n')
    options = ["--text-field", "body", "--title-field", "head.line", "--id-field", "n"]
    assert run("index", "add", "news.jsonl", "--index", "i", *options).exit_code == 0
    (info,) = rows(run("index", "list", "--index", "i", "--json"))
    assert info["name"].endswith("news.jsonl#1")
    assert info["title"] == "Tower"


def test_the_main_content_of_html_is_added_if_it_is_asked_for(folder: Path) -> None:
    page = folder / "documents" / "page.html"
    page.write_text("<nav>Menu</nav><main>The <b>bridge</b> stands in Prague.</main>", "utf-8")
    sizes = []
    for option, replaced in (("all", 0), ("main", 1), ("main", 0), ("all", 1)):
        (report,) = rows(run("index", "add", "documents", "--index", "i", "--html", option, "--json"))
        assert report["replaced"] == replaced
        (info,) = [row for row in rows(run("index", "list", "--index", "i", "--json")) if "page" in row["name"]]
        sizes.append(info["characters"])
    assert sizes[0] == sizes[3] > sizes[1] == sizes[2] >= len("The bridge stands in Prague.")


def test_index_in_a_language_says_it_and_refuses_another(folder: Path) -> None:
    (folder / "documents/haus.txt").write_text("Die Häuser stehen in den Straßen.")
    assert run("index", "add", "documents", "--index", "i", "--language", "de").exit_code == 0
    assert "language     german\n" in run("index", "status", "--index", "i").stdout
    (answer,) = rows(run("ask", "Haus?", "--index", "i", "--json"))
    assert answer["document"].endswith("haus.txt")
    other = run("index", "add", "documents", "--index", "i", "--language", "french")
    assert complaint(other, 1).endswith("i is german, not french: an index has one language")
    assert run("index", "add", "documents", "--index", "i", "--language", "german").exit_code == 0


def test_no_word_in_common_is_said(folder: Path) -> None:
    run("index", "add", "documents", "--index", "i")
    asked = run("ask", "Xyzzy?", "--index", "i")
    assert (asked.exit_code, asked.stdout) == (0, "(no answer: no passage of the index matches the question)\n")
    (answer,) = rows(run("ask", "Xyzzy?", "--index", "i", "--json"))
    assert (answer["text"], answer["document"]) == ("", "")
    assert rows(run("ask", "Xyzzy?", "--index", "i", "--json", "--top-k", "2")) == []


def test_a_file_named_that_cannot_be_read_is_failure(folder: Path) -> None:
    (folder / "binary.txt").write_bytes(b"\0")
    result = run("index", "add", "binary.txt", "documents", "--index", "i")
    assert result.exit_code == 1
    assert "2 added" in result.stdout
    assert "binary.txt: is not text" in result.stderr
    assert run("index", "add", "documents", "--index", "i").exit_code == 0
    assert "empty" in complaint(run("index", "remove", "", "--index", "i"), 2)


def test_what_was_left_out_is_told_again_and_force_reads_again(folder: Path) -> None:
    (folder / "rows.jsonl").write_text('{"text": "A tower."}\n[]\n{\n')
    first = run("index", "add", "rows.jsonl", "--index", "i")
    assert (first.exit_code, first.stderr.count("skipped")) == (1, 2)
    again = run("index", "add", "rows.jsonl", "--index", "i")
    assert (again.exit_code, "1 unchanged" in again.stdout) == (0, True)
    assert again.stderr == (
        f"dynamic-tinybert: unchanged: {folder / 'rows.jsonl'}: 2 parts of it could not be read when it was added: "
        "--force reads it again\n"
    )
    forced = run("index", "add", "rows.jsonl", "--index", "i", "--force")
    assert (forced.exit_code, forced.stderr, "1 replaced" in forced.stdout) == (1, first.stderr, True)


def test_a_name_with_control_characters_does_not_reach_the_terminal(folder: Path) -> None:
    (folder / "documents" / "evil\x1b[2J\n.txt").write_text("The bridge stands in Prague.")
    assert "\x1b" not in run("index", "add", "documents", "--index", "i").stdout
    assert "\x1b" not in run("index", "list", "--index", "i").stdout
    asked = run("ask", "Where does the bridge stand?", "--index", "i").stdout
    assert "Prague" in asked
    assert "\x1b" not in asked


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["index", "list", "--index", "nothing"], 1, "contains no index"),
        (["index", "status", "--index", "documents"], 1, "contains no index"),
        (["index", "remove", "x", "--index", "nothing"], 1, "contains no index"),
        (["ask", "Who?", "--index", "nothing"], 1, "index add"),
        (["index", "add", "nowhere", "--index", "i"], 1, "nowhere: No such file"),
        (["index", "add", "documents", "--index", "documents"], 1, "other files"),
        (["index", "add", "documents", "--index", "i", "--language", "klingon"], 2, "not 'klingon'"),
        (["index", "add", "documents", "--index", "documents/paris.txt"], 1, "is a file"),
        (["index", "add", "documents", "--index", "i", "--encoding", "klingon"], 2, "klingon"),
        (["ask", "Who?", "--index", "i", "--context", "text"], 2, "give the text once"),
        (["ask", "Who?", "--context", "text", "--passages", "3"], 2, "need --index"),
        (["ask", "Who?", "--context", "text", "--max-latency-ms", "3"], 2, "need --index"),
        (["ask", "Who?", "--index", "i", "--handle-impossible-answer"], 2, "needs a text"),
        (["ask", " ", "--index", "i"], 2, "the question is empty"),
    ],
)
def test_mistakes_are_one_clear_line(folder: Path, arguments: list[str], status: int, why: str) -> None:
    assert why in complaint(run(*arguments), status)


def test_bad_options_of_a_question_are_misuse(folder: Path) -> None:
    run("index", "add", "documents", "--index", "i")
    assert "max_latency_ms" in complaint(run("ask", "Where is it?", "--index", "i", "--max-latency-ms", "0"), 2)
    assert "a budget must be" in complaint(run("ask", "Where is it?", "--index", "i", "--budget", "7"), 2)
    assert "one size" in complaint(run("index", "add", "documents", "--index", "i", "--passage-size", "70"), 1)


def test_the_help_teaches() -> None:
    for command in ("add", "remove", "list", "status"):
        assert f"dynamic-tinybert index {command} " in run("index", command, "--help").stdout
    assert "ask --index" in run("index", "--help").stdout


def test_a_reader_of_the_list_may_leave(folder: Path) -> None:
    run("index", "add", "documents", "--index", "i")
    command = f"{shlex.quote(sys.executable)} -m dynamic_tinybert index list --index i | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert "rror" not in done.stderr


def test_index_alone_prints_its_help() -> None:
    result = run("index")
    assert "index add my-documents" in result.stdout + result.stderr


def test_an_index_without_a_name_is_refused_and_nothing_is_made(folder: Path) -> None:
    before = sorted(os.listdir(folder))
    for arguments in (["index", "add", "documents"], ["ask", "Who?"]):
        assert "the name of the index is empty" in complaint(run(*arguments, "--index", ""))
    assert sorted(os.listdir(folder)) == before
