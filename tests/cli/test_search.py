"""`search`."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dynamic_tinybert import LengthConfig, QuestionAnswerer
from dynamic_tinybert.cli.app import app
from dynamic_tinybert.evaluation import evaluate
from dynamic_tinybert.files import install_command
from dynamic_tinybert.model import share
from dynamic_tinybert.search import Measurement, Objective
from dynamic_tinybert.squad import read_squad
from support.commands import complaint, heed_interrupts

TITLES = ["Zürich", "東京", "Oslo", "Port Ellis", "O'Brien", "Łódź"]
Run = Callable[..., Result]


def document(titles: list[str]) -> dict[str, Any]:
    articles = []
    for title in titles:
        context = f"The lighthouse of {title} was built by Agnes Moreau in 1871. Its keeper was Barnaby Whitlock."
        qas = [
            {
                "id": f"{title} {i}",
                "question": question,
                "answers": [{"text": text, "answer_start": context.find(text)}],
            }
            for i, (question, text) in enumerate(
                [("Who built it?", "Agnes Moreau"), ("Who was the keeper?", "Barnaby"), ("When?", "1871")]
            )
        ]
        articles.append({"title": title, "paragraphs": [{"context": context, "qas": qas}]})
    return {"version": "1.1", "data": articles}


def write(path: Path, titles: list[str]) -> Path:
    path.write_text(json.dumps(document(titles), ensure_ascii=False), "utf-8")
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def data(home: Path) -> Path:
    return write(home / "frågor.json", TITLES)


@pytest.fixture
def model(home: Path, tiny_folder: Path) -> Path:
    shutil.copytree(tiny_folder, home / "mitt modell")
    return home / "mitt modell"


@pytest.fixture
def run(model: Path, data: Path) -> Run:
    """Run a short search in this process."""

    def invoke(*options: object, of: object = model, on: object = data, trials: int = 11) -> Result:
        arguments = ["search", of, "--data", on, "--trials", trials, "--threads", 1, *options]
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


def printed(result: Result) -> dict[str, Any]:
    """The one JSON object that `--json` printed."""
    assert result.exit_code == 0, (result.stderr, result.exception)
    assert result.stderr == ""
    (line,) = result.stdout.splitlines()
    value = json.loads(line)
    assert isinstance(value, dict)
    return value


def complete(output: Path) -> int:
    """Trials of a study that are complete; 0 while it is being made."""
    if not (output / "study.db").exists():
        return 0
    try:
        with sqlite3.connect(output / "study.db", timeout=30) as database:
            found: int = database.execute("SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'").fetchone()[0]
            return found
    except sqlite3.OperationalError:
        return 0


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_search_gives_a_table_that_a_budget_picks_from(run: Run, model: Path, data: Path, home: Path) -> None:
    found = printed(run("--json", "--install"))
    output = home / "search-mitt modell"
    assert {path.name for path in output.iterdir()} == {
        "study.db",
        "length_configs.json",
        "trials.csv",
        "front.csv",
        "front.png",
    }
    table = json.loads((output / "length_configs.json").read_text("utf-8"))
    assert found["configs"] == table["configs"]
    assert found["trials"] == 11
    assert found["output"] == output.name
    assert table["measured_on"] == "SQuAD 1.1, the 9 questions of the other half of the articles of frågor"
    assert (model / "length_configs.json").read_bytes() == (output / "length_configs.json").read_bytes()

    qa = QuestionAnswerer(model, threads=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is measured
        for row in table["configs"]:
            number = row["name"].partition("-")[2]
            choice = qa.table.select(qa.shape, float(number) if number else "full")
            assert choice.share <= (float(number) if number else 1) + 5e-5
            assert choice.f1 is not None
            assert choice.f1 >= row["f1"] or not number
    # The figures are those of the questions that confirm, by the metric of evaluate.
    everything, chosen = read_squad(data), set()
    with (output / "trials.csv").open(newline="", encoding="utf-8") as file:
        trials = list(csv.DictReader(file))
    assert len(trials) == 11
    assert trials[0]["name"] == "full"
    for row in table["configs"]:
        chosen.add(row["name"].partition("-")[0])
    assert "uniform" in chosen
    from dynamic_tinybert.squad import Questions, halves

    _, confirm = halves(Questions("frågor", everything))
    for row in table["configs"][:3]:
        config = next(c.config for c in qa.table.choices if c.name == row["name"])
        assert round(evaluate(qa, confirm.data, budget=config).scores.f1, 2) == row["f1"]


@pytest.mark.slow
def test_people_get_a_table_and_where_it_is(run: Run) -> None:
    result = run("--output", "träff")
    assert result.exit_code == 0
    assert result.stderr == ""
    first, header, *rows = result.stdout.splitlines()
    assert first.startswith("11 trials; hypervolume 0.")
    assert header.split()[:4] == ["name", "share", "EM", "F1"]
    assert any(row.split()[:2] == ["full", "1.000"] for row in rows)
    assert rows[-2] == "in träff: length_configs.json, trials.csv, front.csv, front.png"
    assert "--install" in rows[-1]


@pytest.mark.slow
def test_titles_choose_and_other_titles_confirm(run: Run, home: Path) -> None:
    (home / "välja.txt").write_text("Zürich\n東京\n\n", "utf-8")
    (home / "heldout-confirm.txt").write_text("Oslo\r\nŁódź\r\n", "utf-8")
    found = printed(run("--titles", "välja.txt", "--confirm-titles", "heldout-confirm.txt", "--json"))
    assert found["measured_on"] == "SQuAD 1.1, the 6 questions of heldout-confirm"
    assert found["installed"] is None
    other = write(home / "annat.json", ["Wien", "Graz"])
    found = printed(run("--confirm", other, "--output", "two", "--json"))
    assert found["measured_on"] == "SQuAD 1.1, the 6 questions of annat"


@pytest.mark.slow
@pytest.mark.parametrize(("options", "within"), [(["--within", "10"], 10), ([], 20), (["--within", "100"], 100)])
def test_what_loses_more_than_within_is_in_no_table(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], within: float
) -> None:
    def known(self: Objective, config: LengthConfig) -> Measurement:
        part = share(self.qa.shape, config)
        return Measurement(exact_match=0.0, f1=20 + 60 * part, share=part, cost=part, seconds=0.1)

    monkeypatch.setattr(Objective, "__call__", known)
    found = printed(run(*options, "--output", "out", "--json"))
    trials = list(csv.DictReader((home / "out" / "trials.csv").read_text("utf-8").splitlines()))
    rows = list(csv.DictReader((home / "out" / "front.csv").read_text("utf-8").splitlines()))
    lost = {80 - float(trial["f1"]) for trial in trials}
    assert max(lost) > 20
    assert max(80 - float(row["select_f1"]) for row in rows) == pytest.approx(
        max(loss for loss in lost if loss <= within), abs=0.01
    )
    assert min(row["f1"] for row in found["configs"]) >= 80 - within


@pytest.mark.slow
def test_latency_may_be_what_it_costs(run: Run) -> None:
    found = printed(run("--cost", "latency", "--sampler", "nsga2", "--json", trials=9))
    assert found["cost"] == "latency"
    assert found["configs"][0]["name"] == "full"
    assert found["configs"][0]["share"] == 1


@pytest.mark.slow
def test_the_models_own_table_takes_part_and_its_calibration_stays(run: Run, model: Path, home: Path) -> None:
    row = {"exact_match": 1.0, "f1": 2.0}
    before = {
        "measured_on": "something",
        "configs": [{"name": "full", "fractions": [1, 1], **row}, {"name": "mine", "fractions": [0.9, 0.5], **row}],
        "calibration": {"margin": 0.5, "log_score": 0.1, "bias": 0.0},
    }
    text = json.dumps(before)
    (model / "length_configs.json").write_text(text, "utf-8")
    printed(run("--install", "--json"))
    with (home / "search-mitt modell" / "trials.csv").open(newline="", encoding="utf-8") as file:
        assert {"table mine": "0.9 0.5"}.items() <= {t["name"]: t["fractions"] for t in csv.DictReader(file)}.items()
    installed = json.loads((model / "length_configs.json").read_text("utf-8"))
    assert installed["calibration"] == before["calibration"]
    assert installed["measured_on"] != "something"
    assert (home / "search-mitt modell" / "length_configs.before.json").read_text("utf-8") == text


# going on


def command(model: Path, data: Path, *options: object) -> list[str]:
    arguments = ["search", model, "--data", data, "--threads", 1, *options]
    return [sys.executable, "-m", "dynamic_tinybert", *(str(argument) for argument in arguments)]


@pytest.fixture
def started(model: Path, data: Path) -> Iterator[subprocess.Popen[str]]:
    """A long search in a process of its own, with some trials complete."""
    process = subprocess.Popen(
        command(model, data, "--trials", 100_000, "--output", "out"),
        preexec_fn=None if os.name == "nt" else heed_interrupts,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while complete(Path("out")) < 3 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_killed_search_goes_on(started: subprocess.Popen[str], run: Run) -> None:
    started.kill()
    assert started.wait() != 0
    done = complete(Path("out"))
    assert done >= 3
    message = complaint(run("--output", "out"))
    assert "out is not empty: add --resume to go on with the search in it" in message
    assert complete(Path("out")) == done
    found = printed(run("--output", "out", "--resume", "--json", trials=done + 4))
    assert found["trials"] == done + 4
    again = printed(run("--output", "out", "--resume", "--json", trials=done + 4))
    assert again == found


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_tells_how_to_go_on_and_leaves_what_there_is(started: subprocess.Popen[str], run: Run) -> None:
    started.send_signal(signal.SIGINT)
    stdout, stderr = started.communicate(timeout=60)
    assert started.returncode == 130
    assert stdout == ""
    assert stderr.splitlines() == [
        "dynamic-tinybert: interrupted: run the same command with --resume to continue; the trials are in out"
    ]
    done = complete(Path("out"))
    assert printed(run("--output", "out", "--resume", "--json", trials=done + 1))["trials"] == done + 1


@pytest.mark.slow
def test_another_worker_lends_a_hand(started: subprocess.Popen[str], run: Run) -> None:
    before = complete(Path("out"))
    found = printed(run("--output", "out", "--resume", "--json", trials=before + 15))
    assert found["trials"] >= before + 15
    assert started.poll() is None  # and the first goes on undisturbed


@pytest.mark.slow
def test_the_limit_that_was_given_holds_when_it_goes_on(run: Run) -> None:
    printed(run("--within", "7", "--output", "out", "--json", trials=8))
    printed(run("--output", "out", "--resume", "--json", trials=9))
    assert "another limit of the loss (--within)" in complaint(run("--output", "out", "--resume", "--within", "20"))


@pytest.mark.slow
def test_interrupted_while_confirming_it_goes_on_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    measure, asked = Objective.__call__, []

    def interrupted(self: Objective, config: Any) -> Any:
        asked.append(config)
        if len(asked) == 13:  # 11 trials, and one of those to confirm
            raise KeyboardInterrupt
        return measure(self, config)

    monkeypatch.setattr(Objective, "__call__", interrupted)
    result = run("--output", "out")
    assert result.exit_code == 130
    assert "--resume" in result.stderr
    assert not Path("out/length_configs.json").exists()
    del asked[:]
    printed(run("--output", "out", "--resume", "--json"))
    assert 0 < len(asked) < 12  # of which no trial is one, and not what was confirmed
    with Path("out/front.csv").open(newline="", encoding="utf-8") as file:
        assert len(asked) == len(list(csv.DictReader(file))) - 1


@pytest.mark.slow
def test_a_storage_of_ones_own_is_shared_by_the_folders_name(run: Run, home: Path) -> None:
    url = f"sqlite:///{home / 'trials.db'}"
    printed(run("--storage", url, "--output", "a/first", "--json", trials=8))
    assert not Path("a/first/study.db").exists()
    printed(run("--storage", url, "--output", "second", "--json", trials=8))
    found = printed(run("--storage", url, "--output", "b/first", "--resume", "--json", trials=10))
    assert found["trials"] == 10
    assert "already: add --resume" in complaint(run("--storage", url, "--output", "c/first"))
    assert "no search to resume" in complaint(run("--storage", url, "--output", "third", "--resume"))


@pytest.mark.slow
def test_two_processes_share_a_storage(run: Run, model: Path, data: Path, home: Path) -> None:
    url = f"sqlite:///{home / 'trials.db'}"
    printed(run("--storage", url, "--output", "a/first", "--json", trials=3))
    options = ["--storage", url, "--resume", "--json", "--trials", 16, "--sampler", "tpe"]
    workers = [
        subprocess.Popen(
            command(model, data, *options, "--output", f"{folder}/first"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for folder in "ab"
    ]
    for worker in workers:
        _, stderr = worker.communicate(timeout=100)
        assert worker.returncode == 0, stderr
    # One may finish the trial that it is at; asked again, both see all of them.
    found = [printed(run("--storage", url, "--output", f"{x}/first", "--resume", "--json", trials=16)) for x in "ab"]
    assert found[0]["trials"] == found[1]["trials"]
    assert 16 <= found[0]["trials"] <= 17
    for name in ("trials.csv", "length_configs.json"):
        assert Path("a/first", name).read_bytes() == Path("b/first", name).read_bytes()


# what goes wrong


@pytest.mark.parametrize(
    ("options", "status", "reason"),
    [
        (["--low", "1"], 2, "the least ratio must be between 0 and 1, not 1.0"),
        (["--low", "nan"], 2, "the least ratio must be between 0 and 1"),
        (["--data", "nowhere.json"], 1, "nowhere.json: cannot be read: No such file"),
        (["--data", "empty.json"], 1, "empty.json: is not JSON"),
        (["--data", "none.json"], 1, "none.json: no questions"),
        (["--titles", "nowhere.txt"], 1, "nowhere.txt cannot be read: No such file"),
        (["--titles", "latin.txt"], 1, "latin.txt is not text in UTF-8"),
        (["--titles", "strange.txt"], 1, "no questions under the given titles"),
        (["--confirm", "nowhere.json"], 1, "nowhere.json: cannot be read"),
        (["--confirm", "frågor.json"], 2, "select and confirm must be different: 6 paragraphs are in both"),
        (["--data", "single.json"], 2, "single has a single article"),
        (["--output", "frågor.json"], 1, "frågor.json is a file: name a new folder"),
        (["--output", "full"], 1, "full is not empty: add --resume"),
        (["--output", "full", "--resume"], 1, "there is no search to resume in full"),
        (["--output", "absent", "--resume"], 1, "there is no search to resume in absent"),
        (["--output", "frågor.json/x"], 1, "frågor.json/x"),
        (["--storage", "nonsense"], 1, "the study in nonsense cannot be used"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_overwritten(
    run: Run, home: Path, options: list[str], status: int, reason: str
) -> None:
    (home / "empty.json").write_bytes(b"")
    (home / "none.json").write_text('{"version": "1.1", "data": []}')
    (home / "latin.txt").write_bytes("Zürich\n".encode("latin-1"))
    (home / "strange.txt").write_text("Atlantis\n")
    write(home / "single.json", ["Oslo"])
    (home / "full").mkdir()
    (home / "full" / "length_configs.json").write_text("precious")
    before = contents(home)
    assert reason in complaint(run(*options), status)
    assert contents(home) == before


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--sampler", "best", "'best' is not one of 'bayesian', 'gp', 'tpe', 'nsga2'"),
        ("--cost", "money", "'money' is not one of 'share', 'latency'"),
        ("--questions", "0", "'--questions'"),
        ("--trials", "0", "'--trials'"),
        ("--within", "-1", "'--within'"),
    ],
)
def test_an_option_that_makes_no_sense_is_misuse(run: Run, home: Path, option: str, value: str, reason: str) -> None:
    result = run(option, value)  # the program itself says it in one line, see `main`
    assert result.exit_code == 2
    assert reason in result.stderr
    assert not (home / "search-mitt modell").exists()


def test_a_model_that_is_not_there(run: Run) -> None:
    assert "no such folder: 'nowhere'" in complaint(run(of="nowhere"))


@pytest.mark.slow
def test_a_study_of_something_else_is_not_resumed(run: Run, model: Path, home: Path) -> None:
    printed(run("--output", "out", "--json", trials=8))
    before = contents(home / "out")
    for options, reason in (
        (["--low", "0.5"], "another range of ratios (--low)"),
        (["--cost", "latency"], "another cost (--cost)"),
        (["--questions", "5"], "other questions to choose by (--data, --titles, --questions)"),
        (["--seed", "1"], "another seed (--seed)"),
        (["--within", "7"], "another limit of the loss (--within)"),
    ):
        message = complaint(run("--output", "out", "--resume", *options))
        assert message.startswith(
            f"dynamic-tinybert: error: the search in sqlite:///{home}/out/study.db was started with"
        )
        assert reason in message
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    assert "was started with another model:" in complaint(run("--output", "out", "--resume"))
    after = contents(home / "out")
    assert {name: after[name] for name in before if name != "study.db"} == {
        name: before[name] for name in before if name != "study.db"
    }
    assert complete(home / "out") == 8


def test_only_a_folder_gets_a_table_installed(run: Run, embedded: Path, home: Path) -> None:
    (home / "embedded").mkdir()  # which is not what "embedded" means
    before = contents(embedded)
    message = complaint(run("--install", of="embedded"), 2)
    assert "--install needs a model folder, not embedded: make one with dynamic-tinybert export embedded DIR" in message
    assert contents(embedded) == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_cannot_be_written_is_named_before_the_search(run: Run, home: Path, model: Path) -> None:
    (home / "locked").mkdir(mode=0o500)
    assert "locked/out cannot be written: permission denied" in complaint(run("--output", "locked/out"))
    model.chmod(0o500)
    assert "Permission denied" in complaint(run("--install"))
    model.chmod(0o700)


def test_a_full_disk_is_named_before_the_search(run: Run, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    usage = shutil.disk_usage(home)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1000))
    assert "the disk is full, less than 20 MB are free" in complaint(run())
    assert not (home / "search-mitt modell").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_a_disk_that_fills_up_during_the_search_is_one_line(model: Path, data: Path) -> None:
    import resource

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (130_000, 130_000))

    done = subprocess.run(
        command(model, data, "--trials", 10_000, "--output", "out"),
        capture_output=True,
        text=True,
        preexec_fn=limit,
        timeout=100,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert re.match(
        r"dynamic-tinybert: error: the study in sqlite:///.*/out/study.db cannot be used: .*(disk|full)", line
    )
    assert complete(Path("out")) > 3


@pytest.mark.parametrize("missing", ["optuna", "matplotlib"])
def test_what_is_not_installed_is_named(run: Run, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    message = complaint(run())
    assert message.endswith(f"search needs {missing}, which is not installed: {install_command('search')}")


def test_the_help_teaches() -> None:
    result = CliRunner().invoke(app, ["search", "--help"], terminal_width=120)
    assert result.exit_code == 0
    for word in ("--resume", "--confirm-titles", "length_configs.json", "dynamic-tinybert search ./my-model"):
        assert word in result.stdout
    for sampler in ("bayesian", "gp", "tpe", "nsga2"):
        assert re.search(rf"^ .*\b{sampler}  ", result.stdout, re.MULTILINE)


@pytest.mark.slow
def test_searching_by_other_samplers_than_gp_imports_no_pytorch(model: Path, data: Path) -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from dynamic_tinybert.cli.app import app\n"
        "assert CliRunner().invoke(app, sys.argv[1:]).exit_code == 0\n"
        "assert 'optuna' in sys.modules\n"
        "print(sorted({'torch', 'transformers', 'scipy', 'pandas'} & {*sys.modules}))"
    )
    arguments = command(model, data, "--trials", 12, "--sampler", "tpe")[3:]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
