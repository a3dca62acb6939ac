"""`ask`, and what holds of all commands: help, versions, exit statuses, one line for a mistake."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dynamic_tinybert import QuestionAnswerer, __version__
from dynamic_tinybert.cli import console
from dynamic_tinybert.cli.app import app
from dynamic_tinybert.cli.ask import surroundings
from support.commands import complaint
from support.formats import drawn, pdf, placed

QUESTION = "Where is the tower?"
TEXT = "The river is wide there. The tower stands in Paris, and is tall. It was built in 1889."
KEYS = {"text", "start", "end", "score", "logit", "confidence", "configuration", "share"}
Ask = Callable[..., Result]


@pytest.fixture
def ask(qa: QuestionAnswerer, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Run `ask` in this process; the embedded model is there already."""
    load = console.load

    def loaded(model: str, *options: Any) -> QuestionAnswerer:
        return qa if model == "embedded" else load(model, *options)

    monkeypatch.setattr(console, "load", loaded)

    def run(*arguments: str, stdin: bytes | None = None) -> Result:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return CliRunner().invoke(app, ["ask", *arguments], input=stdin)

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tower.txt"
    path.write_text(TEXT, "utf-8")
    return path


def command(*arguments: str | bytes, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the real thing."""
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS")}
    env |= {"PYTHONIOENCODING": "utf-8"} | options.pop("env", {})
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "input": b""} | options
    return subprocess.run([sys.executable, "-m", "dynamic_tinybert", *arguments], env=env, check=False, **options)


def objects(result: Result) -> list[dict[str, Any]]:
    """What `--json` printed: an object a line, and nothing else."""
    assert result.exit_code == 0, result.stderr
    assert result.stdout.endswith("\n")
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(KEYS <= answer.keys() <= KEYS | {"document", "sentence", "page"} for answer in answers)
    return answers


# Answers


def test_a_text_is_given_in_three_ways(ask: Ask, file: Path, qa: QuestionAnswerer) -> None:
    expected = [qa(QUESTION, TEXT).to_dict()]
    assert expected[0]["text"] == "Paris"
    assert objects(ask(QUESTION, "--context", TEXT, "--json")) == expected
    of_file = [{**expected[0], "document": str(file), "sentence": "The tower stands in Paris, and is tall."}]
    assert objects(ask(QUESTION, "--text", str(file), "--json")) == of_file
    assert objects(ask(QUESTION, str(file), "--json")) == of_file
    assert objects(ask(QUESTION, "-", "--json", stdin=TEXT.encode())) == expected
    assert objects(ask(QUESTION, "--text", "-", "--json", stdin=TEXT.encode())) == expected


def test_an_answer_is_shown_in_its_sentence_with_its_score(ask: Ask, qa: QuestionAnswerer) -> None:
    result = ask(QUESTION, "--context", TEXT)
    assert result.exit_code == 0
    assert result.stderr == ""
    first, second = result.stdout.splitlines()
    assert first.startswith("Paris ")
    assert f"score {qa(QUESTION, TEXT).score:.3f}" in first
    assert "characters 45-50" in first
    assert second.strip() == "The tower stands in [Paris], and is tall."


def test_answers_are_numbered_where_several_are_wanted(ask: Ask, qa: QuestionAnswerer) -> None:
    everything = ("--top-k", "3", "--score-threshold", "0")
    result = ask(QUESTION, "--context", TEXT, *everything)
    heads = [line for line in result.stdout.splitlines() if not line.startswith(" ")]
    assert [line.split(". ")[0] for line in heads] == ["1", "2", "3"]
    expected = [answer.to_dict() for answer in qa(QUESTION, TEXT, top_k=3, score_threshold=0)]
    assert objects(ask(QUESTION, "--context", TEXT, *everything, "--json")) == expected
    assert len(objects(ask(QUESTION, "--context", TEXT, "--top-k", "3", "--json"))) < 3


def test_a_budget_is_spent_and_told(ask: Ask, qa: QuestionAnswerer) -> None:
    expected = qa(QUESTION, TEXT, budget=0.5).to_dict()
    assert objects(ask(QUESTION, "--context", TEXT, "--budget", "0.5", "--json")) == [expected]
    assert expected["share"] < 1
    assert f"{expected['configuration']}, {expected['share']:.0%} of full" in ask(
        QUESTION, "--context", TEXT, "--budget", "0.5"
    ).stdout  # fmt: skip
    for name in ("full", "balanced", "fast"):
        (answer,) = objects(ask(QUESTION, "--context", TEXT, "--budget", name, "--json"))
        assert answer["configuration"] == qa.table.select(qa.shape, name).name  # type: ignore[arg-type]


def test_options_are_passed_on(ask: Ask, qa: QuestionAnswerer) -> None:
    text = TEXT * 20
    arguments = ["--max-seq-len", "100", "--doc-stride", "20", "--max-question-len", "10", "--max-answer-len", "2"]
    options = {"max_seq_len": 100, "doc_stride": 20, "max_question_len": 10, "max_answer_len": 2}
    (answer,) = objects(ask(QUESTION, "--context", text, "--json", *arguments))
    assert answer == qa(QUESTION, text, **options).to_dict()
    assert answer["score"] != qa(QUESTION, text).score
    several = ask(QUESTION, "--context", TEXT, "--json", "--handle-impossible-answer", "--top-k", "20")
    assert "" in [answer["text"] for answer in objects(several)]


def test_there_may_be_no_answer_by_a_threshold(ask: Ask) -> None:
    arguments = ["Who designed it?", "--context", TEXT, "--handle-impossible-answer", "--no-answer-threshold"]
    assert "(no answer: for the text, none is above the no-answer threshold)" in ask(*arguments, "-1e9").stdout
    assert "no answer" not in ask(*arguments, "1e9").stdout


def test_a_model_is_named(ask: Ask, tiny: QuestionAnswerer, tiny_folder: Path) -> None:
    (answer,) = objects(ask(QUESTION, "--context", TEXT, "--json", "--model", str(tiny_folder), "--threads", "1"))
    expected = tiny(QUESTION, TEXT)
    assert (answer["text"], answer["start"]) == (expected.text, expected.start)
    assert answer["logit"] == pytest.approx(expected.logit, abs=1e-4)


def test_precision_and_threads_reach_the_model(ask: Ask, monkeypatch: pytest.MonkeyPatch, qa: QuestionAnswerer) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(console, "load", lambda *arguments: asked.append(arguments) or qa)
    ask(QUESTION, "--context", TEXT, "--precision", "int8", "--threads", "3")
    assert asked == [("embedded", console.Precision.int8, 3)]


@pytest.mark.parametrize("text", ["", " \n", "\u200b"])
def test_a_text_without_words_has_no_answer(ask: Ask, text: str) -> None:
    result = ask(QUESTION, "--context", text)
    assert result.exit_code == 0
    assert "no answer" in result.stdout
    (answer,) = objects(ask(QUESTION, "--context", text, "--json"))
    assert (answer["text"], answer["score"]) == ("", 0)


def test_a_text_without_words_has_no_answer_among_several_either(ask: Ask) -> None:
    for top_k in ("1", "2"):
        assert ask(QUESTION, "-", "--top-k", top_k, stdin=b"").stdout.startswith("(no answer: the text is empty)")
        silent = ask(QUESTION, "--context", "\u200b", "--top-k", top_k).stdout
        assert silent.startswith("(no answer: the text has no words)")


# Files


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode(),
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
        lambda text: b"\xff\xfe\0\0" + text.encode("utf-32-le"),  # the mark of UTF-16 begins so, too
        lambda text: b"\0\0\xfe\xff" + text.encode("utf-32-be"),
    ],
    ids=["utf-8", "utf-8 with a mark", "utf-16", "utf-16-be", "utf-32", "utf-32-be"],
)
def test_offsets_count_the_characters_of_a_file(ask: Ask, tmp_path: Path, encode: Callable[[str], bytes]) -> None:
    text = "Été à Zürich 😀\r\n\r\nThe tower stands in\r\nParis.\r\n"
    path = tmp_path / "text"
    path.write_bytes(encode(text))
    (answer,) = objects(ask(QUESTION, "--text", str(path), "--json"))
    assert answer["text"].startswith("Paris")
    assert text[answer["start"] : answer["end"]] == answer["text"]
    shown = ask(QUESTION, "--text", str(path)).stdout
    assert "\r" not in shown
    assert "[Paris" in shown


BROKEN = {
    "a binary file": (bytes(range(256)) * 8, "is not text in UTF-8"),
    "a file of Latin-1": ("The café stands in Paris.".encode("latin-1"), "iconv"),
    "a file with NULs": (b"The tower\0stands in Paris.", "NUL"),
    "a PDF": (b"%PDF-1.7\nThe tower stands in Paris.", "a PDF"),
    "a gzip file": (gzip.compress(TEXT.encode(), mtime=0), "gzip"),
    "an office document": (b"PK\x03\x04" + TEXT.encode(), "ZIP"),
    "a picture": (b"\x89PNG\r\n\x1a\n", "PNG"),
    "half a UTF-16 character": (b"\xff\xfea", "is not text"),
    "a file cut inside a character": ("Paris é".encode()[:-1], "is not text in UTF-8 (byte 6 of 7)"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("stdin", [False, True])
def test_what_is_no_text_is_refused(ask: Ask, tmp_path: Path, kind: str, stdin: bool) -> None:
    content, why = BROKEN[kind]
    path = tmp_path / "file.txt"
    path.write_bytes(content)
    line = complaint(ask(QUESTION, "-", stdin=content) if stdin else ask(QUESTION, "--text", str(path)), 1)
    assert why in line
    assert ("standard input" if stdin else str(path)) in line


def test_files_that_are_not_there_are_refused(ask: Ask, tmp_path: Path) -> None:
    assert "No such file" in complaint(ask(QUESTION, "--text", str(tmp_path / "nothing.txt")), 1)
    assert f"there is no document in {tmp_path}" in complaint(ask(QUESTION, "--text", str(tmp_path)), 1)
    if os.name == "posix" and os.geteuid():
        secret = tmp_path / "secret"
        secret.write_text(TEXT)
        secret.chmod(0)
        assert "ermission" in complaint(ask(QUESTION, "--text", str(secret)), 1)


def test_a_file_without_a_name_is_refused(ask: Ask) -> None:
    assert ask(QUESTION, "--text", "", stdin=TEXT.encode()).exit_code != 0


# Documents


def test_of_many_documents_the_best_answers_come_first(ask: Ask, tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("markdown_it")
    monkeypatch.chdir(tmp_path)
    Path("notes").mkdir()
    Path("notes/cheese.txt").write_text("Cheese is made of milk. Nobody knows where it was made first.")
    Path("notes/picture.png").write_bytes(b"\x89PNG")
    Path("tower.md").write_text("# Towers\n\nThe tower stands in\nParis. It is tall.\n")
    every = ("--top-k", "3", "--score-threshold", "0", "--json")
    first, *others = objects(ask(QUESTION, "notes", "tower.md", *every))
    assert (first["text"], first["document"], first["sentence"]) == ("Paris", "tower.md", "The tower stands in Paris.")
    assert len(others) == 2
    confidences = [answer["confidence"] for answer in (first, *others)]
    assert confidences == sorted(confidences, reverse=True)
    (best,) = objects(ask(QUESTION, "--text", "notes/cheese.txt", "--text", "tower.md", "--json"))
    assert best == {**first, "score": best["score"]}
    shown = ask(QUESTION, "notes", "tower.md").stdout
    assert "tower.md, characters " in shown
    assert "confidence " in shown
    assert "The tower stands in [Paris]." in shown


def test_documents_of_every_kind_are_read(ask: Ask, tmp_path: Path) -> None:
    for package in ("inscriptis", "pypdfium2"):
        pytest.importorskip(package)
    page = tmp_path / "page.html"
    page.write_text("<title>x</title><p>The <b>tower</b> stands in Paris.</p><script>Rome</script>")
    assert objects(ask(QUESTION, str(page), "--json"))[0]["sentence"] == "The tower stands in Paris."
    file = tmp_path / "file.pdf"
    file.write_bytes(pdf(["Nothing is here.", "The tower stands\nin Paris."]))
    (answer,) = objects(ask(QUESTION, str(file), "--json"))
    assert (answer["page"], answer["sentence"]) == (2, "The tower stands in Paris.")
    assert f"{file}, page 2, characters " in ask(QUESTION, str(file)).stdout
    records = tmp_path / "records.jsonl"
    records.write_text(
        '{"id": "a", "text": "Cheese is made of milk."}\n{"id": "b", "text": "The tower is in Paris."}\n'
    )
    assert objects(ask(QUESTION, str(records), "--json"))[0]["document"] == f"{records}#b"


@pytest.fixture
def guide(tmp_path: Path) -> Path:
    pytest.importorskip("pypdfium2", reason="needs the extra: pip install 'dynamic-tinybert[corpus]'")
    path = tmp_path / "guide.pdf"
    path.write_bytes(drawn(placed(72, 700, "A guide."), placed(72, 700, TEXT[:24]) + placed(72, 686, TEXT[25:])))
    return path


def test_the_page_of_an_answer_is_drawn(ask: Ask, guide: Path, tmp_path: Path) -> None:
    result = ask(QUESTION, str(guide), "--show", str(tmp_path / "page.png"))
    assert result.exit_code == 0
    assert "page 2" in result.stdout
    assert result.stderr == f"dynamic-tinybert: the page is in {tmp_path / 'page.png'}\n"
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


def test_boxes_of_answers_are_printed_as_json(ask: Ask, guide: Path, file: Path) -> None:
    first = json.loads(ask(QUESTION, str(guide), "--json", "--boxes").stdout)
    (box,) = first["boxes"]
    assert (box["page"], box["page_width"], box["page_height"]) == (2, 612, 792)
    assert 72 < box["left"] < box["right"] < 300
    assert 792 - 686 - 10 < box["top"] < box["bottom"] < 792 - 686 + 3
    first = json.loads(ask(QUESTION, str(file), "--json", "--boxes").stdout)
    assert first["boxes"] == []


def test_an_index_has_the_place_of_an_answer_until_the_file_is_gone(ask: Ask, guide: Path, tmp_path: Path) -> None:
    pytest.importorskip("tantivy", reason="needs the extra: pip install 'dynamic-tinybert[corpus]'")
    index, target = str(tmp_path / "index"), tmp_path / "page.png"
    assert CliRunner().invoke(app, ["index", "add", str(guide), "--index", index]).exit_code == 0
    result = ask(QUESTION, "--index", index, "--json", "--boxes", "--show", str(target))
    assert [box["page"] for box in json.loads(result.stdout)["boxes"]] == [2]
    assert target.read_bytes().startswith(b"\x89PNG")
    guide.write_bytes(pdf(["Another guide."]))
    result = ask(QUESTION, "--index", index, "--show", str(target))
    assert (result.exit_code, "Paris" in result.stdout) == (1, True)
    assert re.fullmatch("dynamic-tinybert: error: .*guide.pdf no longer has this text at this place.*\n", result.stderr)
    guide.unlink()
    result = ask(QUESTION, "--index", index, "--show", str(target))
    assert re.fullmatch("dynamic-tinybert: error: .*guide.pdf: No such file or directory\n", result.stderr)


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["--context", TEXT, "--show", "a.png"], 2, "--show draws pages of PDFs: give files, or --index"),
        (
            [
                "tower.txt",
                "--score-threshold",
                "1",
                "--handle-impossible-answer",
                "--no-answer-threshold=-99",
                "--show",
                "a.png",
            ],
            1,
            "there is no answer",
        ),
        (["tower.txt", "--show", "a.png"], 1, "tower.txt is not a PDF"),
        (["tower.txt", "--show", "a.jpg"], 2, "a name that ends in .png, not a.jpg"),
        (["tower.txt", "--boxes"], 2, "--boxes needs --json"),
        (["guide.pdf", "--show", "none/a.png"], 1, "none/a.png: No such file"),
    ],
)
def test_a_page_that_cannot_be_shown_is_told_in_a_line(
    ask: Ask, file: Path, guide: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, why: str
) -> None:
    monkeypatch.chdir(file.parent)
    result = ask(QUESTION, *arguments)  # the answer is printed all the same
    assert (result.exit_code, bool(result.stdout)) == (status, status == 1)
    assert re.fullmatch(f"dynamic-tinybert: error: .*{re.escape(why)}.*\n", result.stderr)
    assert not list(file.parent.glob("a.*"))


def test_a_file_that_is_named_must_be_readable_and_one_of_a_folder_is_skipped(ask: Ask, tmp_path: Path) -> None:
    pytest.importorskip("pypdfium2")
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.7 no more")
    assert f"{broken} is a broken PDF" in complaint(ask(QUESTION, str(broken)), 1)
    (tmp_path / "tower.txt").write_text(TEXT)
    result = ask(QUESTION, str(tmp_path))
    assert result.exit_code == 0
    assert f"skipped: {broken}: is a broken PDF" in result.stderr
    assert result.stdout.startswith("Paris ")


def test_the_main_content_of_html_is_read_if_it_is_asked_for(ask: Ask, tmp_path: Path) -> None:
    pytest.importorskip("inscriptis")
    page = tmp_path / "page.html"
    page.write_text("<nav>The tower stands in Rome.</nav><main>The tower stands in Paris.</main>", "utf-8")
    done = ask(QUESTION, str(page), "--html", "main", "--json")
    (row,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (row["text"], row["start"], row["sentence"]) == ("Paris", 20, "The tower stands in Paris.")
    for arguments in (["--context", "Text."], ["--index", str(tmp_path)]):
        assert "--html needs files" in complaint(ask(QUESTION, *arguments, "--html", "main"), 2)


def test_no_answer_of_a_document_comes_after_every_answer(ask: Ask, tmp_path: Path) -> None:
    for name, text in (("a.txt", " "), ("b.txt", TEXT)):
        (tmp_path / name).write_text(text)
    files = [str(tmp_path / name) for name in ("a.txt", "b.txt")]
    (answer,) = objects(ask(QUESTION, *files, "--json"))
    assert answer["text"] == "Paris"
    (tmp_path / "c.txt").write_text(" ")
    assert "(no answer: every text has no words)" in ask(QUESTION, files[0], str(tmp_path / "c.txt")).stdout


def test_records_whose_ids_differ_as_paths_do_not_are_both_read(ask: Ask, tmp_path: Path) -> None:
    places = {"tower": "Rome", "tower/": "Paris", "x/../tower": "Oslo"}
    rows = [{"id": f"https://a.org/{end}", "text": f"The tower stands in {city}."} for end, city in places.items()]
    (tmp_path / "pages.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = objects(ask(QUESTION, str(tmp_path / "pages.jsonl"), "--json", "--top-k", "9"))
    assert {"Rome", "Paris", "Oslo"} <= {row["text"] for row in found}


def test_a_file_that_is_given_twice_answers_once(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(
        '{"id": "x", "text": "The tower stands in Paris."}\n{"id": "x", "text": "The tower stands in Rome."}\n'
    )
    found = objects(ask(QUESTION, str(tmp_path), str(tmp_path / "rows.jsonl"), "--json", "--top-k", "9"))
    named = [(row["text"], row["document"].rpartition("#")[2]) for row in found]
    assert sorted(one for one in named if one[0] in ("Paris", "Rome")) == [("Paris", "x"), ("Rome", "x (2)")]


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([QUESTION], "give the text once"),
        ([QUESTION, "--context", TEXT, "--text", "x"], "give the text once"),
        ([QUESTION, "x", "--index", "i"], "give the text once"),
        ([QUESTION, "-", "--context", TEXT], "give the text once"),
        ([QUESTION, "-", "--text", "-"], "give - once"),
        (["", "--context", TEXT], "the question is empty"),
        ([" \t", "--context", TEXT], "the question is empty"),
        (["\u200b", "--context", TEXT], "the question is empty"),
        ([QUESTION, "--context", TEXT, "--budget", "0"], "budget"),
        ([QUESTION, "--context", TEXT, "--budget", "1.5"], "budget"),
        ([QUESTION, "--context", TEXT, "--budget", "-1"], "budget"),
        ([QUESTION, "--context", TEXT, "--budget", "nan"], "budget"),
        ([QUESTION, "--context", TEXT, "--budget", "cheap"], "'cheap'"),
        ([QUESTION, "--context", TEXT, "--budget", ""], "budget"),
        ([QUESTION, "--context", TEXT, "--max-seq-len", "60"], "max_seq_len 60"),
        ([QUESTION, "--context", TEXT, "--no-answer-threshold", "-5"], "needs --handle-impossible-answer"),
        ([QUESTION, "--context", TEXT, "--handle-impossible-answer", "--no-answer-threshold", "nan"], "threshold"),
        ([QUESTION, "--context", TEXT, "--max-seq-len", "9999"], "512"),
        ([QUESTION, "--context", TEXT, "--doc-stride", "500"], "doc_stride 500"),
        ([QUESTION, "--context", TEXT, "--max-question-len", "400"], "max_question_len 400"),
    ],
)
def test_a_misuse_is_told_in_a_line(ask: Ask, arguments: list[str], named: str) -> None:
    assert named in complaint(ask(*arguments), 2)


MISUSES = [
    [],
    [QUESTION, "--context"],
    [QUESTION, "--context", TEXT, "--top-k", "0"],
    [QUESTION, "--context", TEXT, "--top-k", "many"],
    [QUESTION, "--context", TEXT, "--doc-stride", "-1"],
    [QUESTION, "--context", TEXT, "--precision", "int4"],
    [QUESTION, "--context", TEXT, "--threads", "0"],
    [QUESTION, "--context", TEXT, "--nonsense"],
]


@pytest.mark.parametrize("arguments", MISUSES)
def test_a_misuse_that_the_parser_finds_has_status_2_and_no_traceback(ask: Ask, arguments: list[str]) -> None:
    result = ask(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [arguments for arguments in MISUSES if arguments != [QUESTION, "--context"]])
def test_a_misuse_that_the_parser_finds_is_told_in_a_line(arguments: list[str]) -> None:
    done = command("ask", *arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("model", ["nowhere", "./nowhere", ""])
def test_a_model_that_is_not_there_is_told_in_a_line(ask: Ask, model: str) -> None:
    assert "no such folder" in complaint(ask(QUESTION, "--context", TEXT, "--model", model), 1)


def test_a_file_is_no_model(ask: Ask, file: Path) -> None:
    assert "is a file" in complaint(ask(QUESTION, "--context", TEXT, "--model", str(file)), 1)


@pytest.mark.parametrize("broken", ["tokenizer.json", "length_configs.json"])
def test_a_broken_model_is_a_failure_and_no_misuse(ask: Ask, tiny_folder: Path, tmp_path: Path, broken: str) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_folder, folder)
    (folder / broken).write_text("{}")
    complaint(ask(QUESTION, "--context", TEXT, "--model", str(folder)), 1)


# The real thing


@pytest.mark.slow
def test_ask_in_a_process_of_its_own(file: Path) -> None:
    done = command("ask", QUESTION, "--text", str(file), "--json")
    assert done.returncode == 0
    assert done.stderr == b""
    answer = json.loads(done.stdout)
    assert done.stdout.count(b"\n") == 1
    assert (answer["text"], answer["start"], answer["configuration"]) == ("Paris", 45, "full")


def test_ask_reads_from_a_pipe() -> None:
    done = command("ask", QUESTION, "-", input=TEXT.encode())
    assert done.returncode == 0
    assert b"[Paris]" in done.stdout


def test_a_mistake_in_a_process_of_its_own_is_one_line(tmp_path: Path) -> None:
    done = command("ask", QUESTION, "--text", str(tmp_path))
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.decode().splitlines() == [f"dynamic-tinybert: error: there is no document in {tmp_path}"]


def test_warnings_are_one_line_on_standard_error(tiny_folder: Path) -> None:
    done = command("ask", "tower " * 100, "--context", TEXT, "--json", "--model", str(tiny_folder), "--budget", "0.5")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 2
    assert all(line.startswith("dynamic-tinybert: warning: ") for line in lines)
    assert "no measured table" in lines[0]
    assert "cut to max_question_len" in lines[1]


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
@pytest.mark.parametrize("arguments", [[], ["--json"], ["--top-k", "4"]])
def test_a_reader_that_leaves_early_sees_no_traceback(tiny_folder: Path, arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = command("ask", QUESTION, "--context", TEXT, "--model", str(tiny_folder), *arguments, stdout=writer)
    finally:
        os.close(writer)
    assert done.stderr == b""


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_answers_can_be_printed_whatever_the_encoding_of_the_output(
    tiny_folder: Path, encoding: str, arguments: list[str]
) -> None:
    done = command(
        "ask", "何?", "--context", "東京", "--model", str(tiny_folder), *arguments, env={"PYTHONIOENCODING": encoding}
    )
    assert (done.returncode, done.stderr) == (0, b"")
    if arguments:
        assert json.loads(done.stdout)["text"] in "東京"  # nothing is lost


@pytest.mark.skipif(os.name != "posix", reason="arguments are bytes on POSIX")
def test_arguments_that_are_not_utf8_are_told_in_a_line(tiny_folder: Path) -> None:
    done = command("ask", QUESTION, "--context", b"caf\xe9", "--model", str(tiny_folder))
    assert b"Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1


def test_a_text_cannot_control_the_terminal(ask: Ask) -> None:
    text = "The tower \x1b[31m stands \x1b]0;title\x07 in Paris. \x9b31m"
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", ask(QUESTION, "--context", text).stdout)
    done = ask(QUESTION, "--context", "The tower stands in Par\x9bis\x7f.", "--json")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.stdout)
    assert "text" in json.loads(done.stdout)


def test_an_error_is_one_short_line_that_cannot_control_the_terminal(ask: Ask, tmp_path: Path) -> None:
    line = complaint(ask(QUESTION, str(tmp_path / ("x\x1b[31m" + "y" * 200) / ("z" * 200) / ("w" * 9000))), 1)
    assert len(line) < 1100
    assert "\x1b" not in line


def test_a_word_without_end_does_not_fill_the_terminal(ask: Ask) -> None:
    done = ask("Who lit the lamp?", "--context", f"The lamp was lit by A{'a' * 100_000}z.")
    assert "aaz" in done.stdout
    assert max(map(len, done.stdout.splitlines())) < 1000
    (row,) = [
        json.loads(line) for line in ask("Who?", "--context", "By A" + "a" * 999 + ".", "--json").stdout.splitlines()
    ]
    assert row["text"].startswith("A" + "a" * 999)


def test_markup_in_a_text_is_text(ask: Ask) -> None:
    shown = ask(QUESTION, "--context", "The [red]tower[/red] :smile: stands in Paris.").stdout
    assert "The [red]tower[/red] :smile: stands in [Paris]" in shown


@pytest.mark.slow
def test_colour_is_for_terminals_and_who_wants_it(tiny_folder: Path) -> None:
    arguments = ["ask", QUESTION, "--context", TEXT, "--model", str(tiny_folder)]
    colour = re.compile(r"\x1b\[[\d;]*(3|4)\d")
    shown = {
        name: command(*arguments, env={"TERM": "xterm", **env}).stdout.decode()
        for name, env in {
            "pipe": {},
            "forced": {"FORCE_COLOR": "1"},
            "not": {"FORCE_COLOR": "1", "NO_COLOR": "1"},
        }.items()
    }
    assert "\x1b" not in shown["pipe"]
    assert colour.search(shown["forced"])
    assert not colour.search(shown["not"])
    assert "[" in re.sub(r"\x1b\[[\d;]*m", "", shown["not"])
    assert "[" not in re.sub(r"\x1b\[[\d;]*m", "", shown["forced"])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs a pseudo-terminal")
def test_progress_goes_to_a_terminal_on_standard_error_alone(tiny_folder: Path, tmp_path: Path) -> None:
    import pty
    import threading

    path = tmp_path / "long.txt"
    path.write_text(TEXT * 3000)
    ours, theirs = pty.openpty()
    shown = bytearray()

    def read() -> None:
        with contextlib.suppress(OSError):  # which is how a pseudo-terminal ends
            while True:
                shown.extend(os.read(ours, 4096))

    reader = threading.Thread(target=read)
    reader.start()
    done = command(
        "ask",
        QUESTION,
        "--text",
        str(path),
        "--json",
        "--model",
        str(tiny_folder),
        stderr=theirs,
        env={"TERM": "xterm"},
    )
    os.close(theirs)
    reader.join()
    os.close(ours)
    assert done.returncode == 0
    assert json.loads(done.stdout)["text"]
    assert b"reading" in shown
    assert b"characters" in shown


# Help


def test_help_names_the_commands_and_shows_examples() -> None:
    for arguments in (["--help"], ["-h"]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0
        for name in ("ask", "evaluate", "score", "info", "export", "--version", "dynamic-tinybert ask "):
            assert name in result.stdout


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ask", "QUESTION - --context --text --top-k --budget --model --json --max-seq-len --doc-stride "
         "--max-question-len --max-answer-len --handle-impossible-answer --no-answer-threshold --precision --threads "
         "--help"),
        ("evaluate", "DATA --budget --limit --model --predictions --na-probs --no-answer-threshold --json --precision "
         "--threads --help"),
        ("score", "DATA PREDICTIONS --na-probs --na-prob-thresh --json --help"),
        ("info", "--model --json --help"),
        ("export", "MODEL DIR --force --help"),
        ("calibrate", "MODEL --data --titles --confirm --confirm-titles --questions --share --budget --seed "
         "--precision --threads --install --json --help"),
    ],
)  # fmt: skip
def test_help_of_a_command_names_its_options_and_shows_an_example(name: str, options: str) -> None:
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0
    assert f"  dynamic-tinybert {name}" in result.stdout
    for option in options.split():
        assert option in result.stdout
    assert "\b" not in result.stdout


def test_no_command_at_all_gives_help() -> None:
    done = command()
    assert (done.returncode, done.stderr) in [(0, b""), (2, b"")]
    assert b"dynamic-tinybert ask " in done.stdout


def test_the_version_is_told() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"dynamic-tinybert {__version__}\n")


def test_an_unknown_command_is_misuse() -> None:
    result = CliRunner().invoke(app, ["answer"])
    assert result.exit_code == 2
    assert "answer" in result.stderr


# Sentences


def shown(text: str, answer: str) -> str:
    start = text.index(answer)
    before, after = surroundings(text, start, start + len(answer))
    return f"{before.lstrip()}[{answer}]{after.rstrip()}"


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("One. The tower is in Paris now. Two.", "Paris", "The tower is in [Paris] now."),
        ("Paris", "Paris", "[Paris]"),
        ("a\n\nIn  Paris\tnow\n \nb", "Paris", "In [Paris] now"),
        ("a\r\n\r\nIn Paris\r\n\r\nb", "Paris", "In [Paris]"),
        ("The tower stands\nin Paris, and\nis tall. It", "Paris", "The tower stands in [Paris], and is tall."),
        ("Towns:\n- Paris\n- Rome", "Paris", "- [Paris]"),
        ("1. Paris\n2. Rome", "Rome", "[Rome]"),
        ("page one\fin Paris\fpage three", "Paris", "in [Paris]"),
        ('He said "Stop!" Then Paris? Yes.', "Paris", "Then [Paris]?"),
        ("It cost 3.50 in Paris, at 10.30. End.", "Paris", "It cost 3.50 in [Paris], at 10.30."),
        ("In Paris (1.5 million). x", "Paris", "In [Paris] (1.5 million)."),
    ],
)
def test_a_sentence_is_cut_out_of_its_text(text: str, answer: str, expected: str) -> None:
    assert shown(text, answer) == expected


def test_a_long_sentence_is_shortened_on_both_sides() -> None:
    found = shown("word " * 500 + "Paris" + " more" * 500, "Paris")
    assert re.fullmatch(r"… (word ){5,}\[Paris\]( more){5,} …", found)
    assert len(found) < 400


def test_a_sentence_ends_where_its_answer_ends_it() -> None:
    assert shown("It is in Paris. Everybody knows that.", "Paris.") == "It is in [Paris.]"


def test_a_long_sentence_without_spaces_is_shortened_too() -> None:
    assert "塔塔塔塔[東京]駅駅駅駅" in shown("塔" * 500 + "東京" + "駅" * 500, "東京")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["ask", QUESTION, "--context", TEXT], ["info"]])
def test_a_full_disk_is_told_in_a_line(tiny_folder: Path, arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = command(*arguments, "--model", str(tiny_folder), stdout=full)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert b"No space left" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="closes descriptors")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_closed_streams_leave_no_traceback(tiny_folder: Path, closed: str) -> None:
    line = f'"{sys.executable}" -m dynamic_tinybert ask Where? - --model "{tiny_folder}" {closed}'
    if closed != "<&-":
        line = f"echo {TEXT!r} | {line}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, check=False)
    assert b"Traceback" not in done.stderr
    if closed == ">&-":
        assert done.returncode == 1
        assert done.stderr == b"dynamic-tinybert: error: the output cannot be written: standard output is closed\n"


def test_a_shell_can_complete_the_commands() -> None:
    result = CliRunner().invoke(app, ["--show-completion", "bash"], env={"SHELL": "/bin/bash"})
    assert "--show-completion" in CliRunner().invoke(app, ["--help"]).stdout
    assert result.exception is None or isinstance(result.exception, SystemExit)
