"""`calibrate`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.cli.app import app
from dynamic_tinybert.evaluation import calibrate
from dynamic_tinybert.model import Calibration
from support.commands import complaint

TITLES = ["Zürich", "東京", "Oslo", "Łódź"]
Run = Callable[..., Result]


def document(version: str = "1.1") -> dict[str, Any]:
    articles = []
    for i, title in enumerate(TITLES):
        texts = [
            (
                f"The lighthouse was built by Agnes Moreau in {1871 + i}.",
                "Who built the first lighthouse?",
                "Agnes Moreau",
            ),
            (
                f"Its keeper was Barnaby Whitlock until {1902 + i}, who had goats.",
                "Who was the keeper?",
                "Barnaby Whitlock",
            ),
        ]
        paragraphs = []
        for text, question, answer in texts:
            qas = [
                {
                    "id": f"{title} {question}",
                    "question": question,
                    "answers": [{"text": answer, "answer_start": text.index(answer)}],
                }
            ]
            if version == "v2.0":
                impossible = {"id": f"{title} {answer}", "question": "Why?", "answers": [], "is_impossible": True}
                qas.append(impossible)
            paragraphs.append({"context": text, "qas": qas})
        articles.append({"title": title, "paragraphs": paragraphs})
    return {"version": version, "data": articles}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    for version in ("1.1", "v2.0"):
        content = json.dumps(document(version), ensure_ascii=False)
        (tmp_path / f"frågor-{version}.json").write_text(content, "utf-8")
    shutil.copytree(tiny_folder, tmp_path / "mitt modell")
    (tmp_path / "select.txt").write_text("Zürich\nOslo\n", "utf-8")
    (tmp_path / "confirm.txt").write_text("東京\nŁódź\n", "utf-8")
    return tmp_path


@pytest.fixture
def run(home: Path) -> Run:
    def invoke(*options: object, data: str = "frågor-1.1.json") -> Result:
        arguments = ["calibrate", "mitt modell", "--data", data, "--threads", 1, *options]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return CliRunner().invoke(app, [str(x) for x in arguments])

    return invoke


def printed(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    (line,) = result.stdout.splitlines()
    value = json.loads(line)
    assert isinstance(value, dict)
    return value


def test_what_is_installed_is_what_answers_use(run: Run, home: Path) -> None:
    found = printed(run("--titles", "select.txt", "--confirm-titles", "confirm.txt", "--install", "--json"))
    qa = QuestionAnswerer(home / "mitt modell", threads=1)
    assert qa.table.no_answer_threshold == found["no_answer_threshold"]
    assert qa.calibration == Calibration(**found["calibration"])
    assert qa.table.measured_on is None  # it has no table, as before
    assert Path(found["installed"]) == Path("mitt modell", "length_configs.json")
    assert found["fitted_on"] == "4 questions of select and 4 made without an answer"
    assert found["measured_on"] == "4 questions of confirm and 4 made without an answer"
    assert (found["threshold_before"], found["quality_before"]) == (0.0, None)
    assert found["figures_at_best"]["f1"] >= found["figures"]["f1"]
    stored = json.loads((home / "mitt modell" / "length_configs.json").read_text("utf-8"))
    assert stored["no_answer"]["squad2"]["f1"] == round(found["figures"]["f1"], 2)
    assert qa.table.threshold("squad2") == found["squad2_threshold"] != found["no_answer_threshold"]
    # Again: the same, beside what it has now.
    again = printed(run("--titles", "select.txt", "--confirm-titles", "confirm.txt", "--json"))
    assert (again["threshold_before"], again["figures_before"]) == (found["squad2_threshold"], found["figures"])
    assert again["installed"] is None


def test_what_stands_beside_it_stays(run: Run, home: Path) -> None:
    table = home / "mitt modell" / "length_configs.json"
    full = {"name": "full", "fractions": [1, 1], "share": 1.0, "exact_match": 1.0, "f1": 2.0}
    # A confidence that nothing fitted on a handful of questions beats: it says what is.
    sure = {"margin": 0.0, "log_score": 0.0, "bias": -1e6, "measured_on": "elsewhere"}
    table.write_text(json.dumps({"measured_on": "Łódź", "configs": [full], "calibration": sure, "more": [1]}), "utf-8")
    result = run("--install")
    assert result.exit_code == 0, result.stderr
    stored = json.loads(table.read_text("utf-8"))
    assert stored["configs"] == [full]
    assert (stored["measured_on"], stored["more"]) == ("Łódź", [1])
    assert "threshold" in stored["no_answer"]
    stays = "not better than the model's own, which stays" in result.stdout
    assert (stored["calibration"] == sure) == stays


def test_it_says_the_same_to_people(run: Run) -> None:
    found = printed(run("--json"))
    shown = run()
    assert shown.exit_code == 0
    assert shown.stderr == "dynamic-tinybert: warning: 4 questions are few to fit to: give 200 or more\n"
    assert f"more than {found['no_answer_threshold']:g} above the best span's\n" in shown.stdout
    for key in ("figures", "figures_before", "figures_at_best"):
        assert f"{found[key]['f1']:7.2f}" in shown.stdout
    assert "give --install" in shown.stdout


def test_a_file_of_2_has_its_own_questions(run: Run) -> None:
    found = printed(run("--json", data="frågor-v2.0.json"))
    assert "4 written without an answer" in found["fitted_on"]
    assert "one half of the articles of frågor-v2.0" in found["fitted_on"]


def test_a_share_and_a_budget_are_heeded(run: Run) -> None:
    found = printed(run("--share", 0.9, "--budget", 0.8, "--questions", 2, "--json"))
    assert (found["no_answer_share"], found["configuration"]) == (0.9, "uniform-0.76")
    assert found["fitted_on"].startswith("2 questions")
    assert found["squad2_threshold"] <= printed(run("--share", 0.1, "--budget", 0.8, "--json"))["squad2_threshold"]


@pytest.mark.parametrize(
    ("options", "status", "named"),
    [
        (["--share", "1"], 2, "--share must be between 0 and 1"),
        (["--share", "nan"], 2, "--share must be between 0 and 1"),
        (["--budget", "2"], 2, "a budget must be"),
        (["--titles", "nowhere.txt"], 1, "nowhere.txt"),
        (["--titles", "select.txt", "--confirm-titles", "select.txt"], 2, "select and confirm must be different"),
        (["--confirm", "nowhere.json"], 1, "nowhere.json"),
    ],
)
def test_a_mistake_is_told_in_a_line(run: Run, options: list[str], status: int, named: str) -> None:
    assert named in complaint(run(*options), status)


def test_what_cannot_be_installed_is_found_at_once(home: Path) -> None:
    arguments = ["calibrate", "embedded", "--data", "frågor-1.1.json", "--install"]
    assert "export embedded DIR" in complaint(CliRunner().invoke(app, arguments), 2)


def test_what_another_command_installs_meanwhile_stays(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = home / "mitt modell" / "length_configs.json"

    def meanwhile(*arguments: Any, **options: Any) -> Any:
        table.write_text(json.dumps({"windows": {"max_seq_len": 256}}), "utf-8")
        return calibrate(*arguments, **options)

    monkeypatch.setattr("dynamic_tinybert.evaluation.calibrate", meanwhile)
    assert run("--install").exit_code == 0
    stored = json.loads(table.read_text("utf-8"))
    assert stored["windows"] == {"max_seq_len": 256}
    assert "no_answer" in stored


def test_articles_of_one_paragraph_have_no_other(run: Run, home: Path) -> None:
    content = document()
    for article in content["data"]:
        del article["paragraphs"][1:]
    (home / "single.json").write_text(json.dumps(content), "utf-8")
    assert "articles of several paragraphs" in complaint(run(data="single.json"), 2)


def test_calibrating_imports_nothing_of_an_extra(home: Path) -> None:
    script = (
        "import sys\nfrom typer.testing import CliRunner\nfrom dynamic_tinybert.cli.app import app\n"
        "result = CliRunner().invoke(app, ['calibrate', 'mitt modell', '--data', 'frågor-1.1.json'])\n"
        "assert result.exit_code == 0, result.output\n"
        "assert not {'torch', 'transformers', 'optuna', 'matplotlib', 'scipy'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
