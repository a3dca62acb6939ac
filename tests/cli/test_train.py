"""`train`: what the command says, above all when something is wrong."""

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
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from filelock import FileLock
from typer.testing import CliRunner, Result

from conftest import quiet
from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.cli.app import app
from dynamic_tinybert.files import install_command
from support.commands import complaint, heed_interrupts
from support.training import hashes, write_data, write_model

pytestmark = pytest.mark.slow

Run = Callable[..., Result]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    def invoke(*arguments: object) -> Result:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return CliRunner().invoke(app, ["train", *map(str, arguments)])

    return invoke


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory, embedded: Path) -> Path:
    """Data and models."""
    folder = tmp_path_factory.mktemp("shelf")
    write_data(folder / "data")
    write_model(folder / "student", embedded)
    write_model(folder / "teacher", embedded, heads=4)
    return folder


@pytest.fixture
def value(shelf: Path) -> dict[str, Any]:
    """A recipe that works."""
    data = {"train": "train.json.gz", "select": "select.txt", "confirm": "confirm.txt"}
    return {
        "name": "tiny",
        "data": {
            **{key: str(shelf / "data" / name) for key, name in data.items()},
            "max_seq_len": 64,
            "doc_stride": 16,
            "max_question_len": 16,
        },
        "student": {"checkpoint": str(shelf / "student")},
        "stages": [{"stage": "prediction", "epochs": 1, "batch_size": 8, "learning_rate": 0.001}],
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    def write(value: dict[str, Any]) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(value, allow_unicode=True), "utf-8")
        return path

    return write


# What it does


def test_train_prints_figures_and_where_the_model_is(
    run: Run, value: dict[str, Any], write: Any, tmp_path: Path
) -> None:
    result = run(write(value), "--output", tmp_path / "run", "--threads", "1")
    assert result.exit_code == 0, result.stderr
    figures, folder = result.stdout.splitlines()
    assert figures.split()[0] == "confirm"
    assert figures.endswith("of 9 questions")
    assert folder == str(tmp_path / "run" / "model")
    again = run(write(value), "--output", tmp_path / "run", "--resume", "--json")
    printed = json.loads(again.stdout)
    assert len(again.stdout.splitlines()) == 1
    assert printed["model"] == folder
    assert printed["figures"]["confirm"]["total"] == 9


def test_train_prints_where_the_logits_are_if_no_stage_trains_a_model(
    run: Run, value: dict[str, Any], write: Any, shelf: Path, tmp_path: Path
) -> None:
    value["stages"] = [{"stage": "logits", "teachers": [str(shelf / "teacher")], "keep": 8, "precision": "fp32"}]
    result = run(write(value), "--output", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    path = str(tmp_path / "run" / "01-logits" / "logits.npz")
    assert result.stdout == path + "\n"
    assert Path(path).is_file()
    assert f"the logits are in {path}; no stage trains a model" in result.stderr
    again = run(write(value), "--output", tmp_path / "run", "--resume", "--json")
    printed = json.loads(again.stdout)
    assert printed["logits"] == path
    assert {"windows", "mass_mean", "mass_min"} == printed["figures"]["logits"].keys()


def test_train_in_a_process_of_its_own_says_lines_and_nothing_else(
    value: dict[str, Any], write: Any, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "dynamic_tinybert", "train", str(write(value)), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == str(Path("train-tiny") / "model")
    lines = done.stderr.splitlines()
    assert all(line[2] == line[5] == ":" for line in lines), done.stderr
    assert 3 < len(lines) < 15
    assert "\r" not in done.stderr


def test_check_prints_the_recipe_in_full(run: Run, value: dict[str, Any], write: Any, tmp_path: Path) -> None:
    result = run(write(value), "--check", "--set", "stages.prediction.minutes=3", "--set", "seed=7")
    assert (result.exit_code, result.stderr) == (0, "")
    shown = yaml.safe_load(result.stdout)
    assert (shown["seed"], shown["stages"][0]["minutes"], shown["stages"][0]["epochs"]) == (7, 3.0, None)
    assert shown["stages"][0]["warmup"] == 0.06
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_help_teaches(run: Run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    for words in ("--resume", "--set", "--check", "--json", "accelerate launch", "data.select", "extra `train`"):
        assert words in " ".join(result.stdout.split())


# What is wrong


def change(value: dict[str, Any], key: str, to: object) -> dict[str, Any]:
    at: Any = value
    *parts, last = key.split(".")
    for part in parts:
        at = at[int(part)] if isinstance(at, list) else at[part]
    at[last] = to
    return value


@pytest.mark.parametrize(
    ("key", "to", "said"),
    [
        ("stages.0.learning_rat", 1, "did you mean learning_rate"),
        ("stages.0.stage", "predicton", "there is no stage 'predicton'"),
        ("data.train", "nowhere.json", "there is no file nowhere.json"),
        ("data.select", "nowhere.txt", "there is no file nowhere.txt"),
        ("data.dev", "nowhere.json", "there is no file nowhere.json"),
        ("data.max_seq_len", 256, "more than the 128"),
        ("data.doc_stride", 60, "doc_stride"),
        ("student.checkpoint", "no/such/folder", "no/such/folder"),
        ("stages.0.teacher", "no/such/folder", "no/such/folder"),
        ("stages.0.logits", "nowhere.npz", "nowhere.npz"),
        ("student", None, "the recipe has no student"),
    ],
)
def test_a_recipe_without_sense(
    run: Run, value: dict[str, Any], write: Any, tmp_path: Path, key: str, to: object, said: str
) -> None:
    assert said in complaint(run(write(change(value, key, to)), "--output", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_what_is_no_recipe(run: Run, tmp_path: Path) -> None:
    assert "cannot be read" in complaint(run(tmp_path / "nothing.yaml"))
    (tmp_path / "list.yaml").write_text("- a\n")
    assert "is not a recipe" in complaint(run(tmp_path / "list.yaml"))
    (tmp_path / "bad.yaml").write_text("a: [1\nb: {")
    assert "is not YAML" in complaint(run(tmp_path / "bad.yaml"))
    assert run("--resume", "--output").exit_code == 2


@pytest.mark.parametrize(
    ("select", "confirm", "said"),
    [
        ("Nobody\n", None, "'Nobody'"),
        ("Ort 0 #select\nNobody\n", None, "'Nobody'"),
        ("Ort 0\n", "Ort 0\n", "both in"),
        ("\n", None, "names no article"),
    ],
)
def test_held_out_articles_without_sense(
    run: Run, value: dict[str, Any], write: Any, tmp_path: Path, select: str, confirm: str | None, said: str
) -> None:
    for name, text in (("select", select), ("confirm", confirm)):
        if text is not None:
            (tmp_path / name).write_text(text, "utf-8")
            value["data"][name] = str(tmp_path / name)
    assert said in complaint(run(write(value), "--output", tmp_path / "run"))


def test_models_that_do_not_fit(
    run: Run, value: dict[str, Any], write: Any, shelf: Path, embedded: Path, tmp_path: Path
) -> None:
    output = ("--output", tmp_path / "run")
    other = Path(write_model(tmp_path / "electra", embedded))
    config = json.loads((other / "config.json").read_text("utf-8"))
    (other / "config.json").write_text(json.dumps({**config, "model_type": "electra"}), "utf-8")
    assert "another architecture, electra" in complaint(
        run(write(change(value, "student.checkpoint", str(other))), *output)
    )
    value["student"]["checkpoint"] = str(shelf / "student")
    stage = {"stage": "intermediate", "epochs": 1, "teacher": str(shelf / "teacher")}
    assert "match: relations" in complaint(run(write({**value, "stages": [stage]}), *output))
    three = write_model(tmp_path / "three", embedded, layers=3)
    assert "evenly" in complaint(run(write({**value, "stages": [{**stage, "teacher": three}]}), *output))
    cased = Path(write_model(tmp_path / "cased", embedded))
    tokenizer = json.loads((cased / "tokenizer.json").read_text("utf-8"))
    tokenizer["normalizer"]["lowercase"] = False
    (cased / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    settings = json.loads((cased / "tokenizer_config.json").read_text("utf-8"))
    (cased / "tokenizer_config.json").write_text(json.dumps({**settings, "do_lower_case": False}), "utf-8")
    value["stages"][0]["teacher"] = str(cased)
    assert "not token-aligned" in complaint(run(write(value), *output))
    broken = tmp_path / "broken"
    broken.mkdir()
    value["stages"][0]["teacher"] = str(broken)
    assert str(broken) in complaint(run(write(value), *output))
    stage = {"stage": "teacher", "model": str(shelf / "teacher"), "epochs": 1, "retentions": [1.0, 0.8]}
    assert "drops no tokens" in complaint(run(write({**value, "stages": [stage], "student": None}), *output))
    assert not (tmp_path / "run").exists()


def test_bfloat16_that_is_not_there_is_refused(
    run: Run, value: dict[str, Any], write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("dynamic_tinybert.train.preflight.cpu_has_bf16", lambda: False)
    value["stages"][0]["precision"] = "bf16"
    assert "set precision: auto" in complaint(run(write(value), "--output", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_an_earlier_run_is_never_written_over(run: Run, value: dict[str, Any], write: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "is a file" in complaint(run(write(value), "--output", tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    assert "not empty" in complaint(run(write(value), "--output", tmp_path / "other"))
    assert "not empty" in complaint(run(write(value), "--output", tmp_path / "other", "--resume"))
    assert hashes(tmp_path / "other").keys() == {"thesis.txt"}
    folder = tmp_path / "run"
    assert run(write(value), "--output", folder).exit_code == 0
    before = hashes(folder)
    assert "continue it with --resume" in complaint(run(write(value), "--output", folder))
    changed = complaint(run(write(value), "--output", folder, "--resume", "--set", "seed=3"))
    assert "another recipe ('seed: 0' there, 'seed: 3' here)" in changed
    with FileLock(folder / ".lock"):
        assert "by another training process" in complaint(run(write(value), "--output", folder, "--resume"))
    assert hashes(folder) == before


def test_a_disk_too_full_is_found_first(
    run: Run, value: dict[str, Any], write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10**6))
    assert "make room" in complaint(run(write(value), "--output", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    run: Run, value: dict[str, Any], write: Any, tmp_path: Path
) -> None:
    value["stages"][0] |= {"checkpoint_steps": 1}
    script = """
import resource, sys
from transformers import Trainer
from dynamic_tinybert.cli import main
keep, calls = Trainer._save_checkpoint, []
def limited(*a, **o):
    calls.append(1)
    if len(calls) == 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, 5_000_000))  # weights fit, the optimizer does not
    return keep(*a, **o)
Trainer._save_checkpoint = limited
sys.argv = ["dynamic-tinybert", "train", *sys.argv[1:]]
main()
"""
    command = [sys.executable, "-c", script, str(write(value)), "--output", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "dynamic-tinybert" in line]
    assert done.stderr.splitlines()[-1] == line
    assert "could not be written" in line
    assert "checkpoint-2 is whole: make room, then --resume" in line
    result = run(write(value), "--output", tmp_path / "run", "--resume")
    assert result.exit_code == 0, result.stderr
    assert "continuing from checkpoint-2" in result.stderr


def test_a_loss_that_is_no_number(
    run: Run, value: dict[str, Any], write: Any, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dynamic_tinybert.train.stages import PredictionTrainer

    loss = PredictionTrainer.stage_loss
    monkeypatch.setattr(
        PredictionTrainer,
        "stage_loss",
        lambda self, *a: loss(self, *a) * (float("nan") if self.state.global_step == 3 else 1),
    )
    value["stages"][0] |= {"checkpoint_steps": 2}
    result = run(write(value), "--output", tmp_path / "run")
    assert result.exit_code == 1
    line = result.stderr.splitlines()[-1]
    assert "the loss is NaN or infinite at step 4: lower learning_rate" in line
    assert (tmp_path / "run" / "01-prediction" / "checkpoint-2" / "trainer_state.json").is_file()
    monkeypatch.undo()
    assert run(write(value), "--output", tmp_path / "run", "--resume").exit_code == 0


def test_weights_that_are_no_numbers(
    run: Run, value: dict[str, Any], write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dynamic_tinybert.train.stages import PredictionTrainer

    loss = PredictionTrainer.stage_loss

    def poisoned(self: Any, model: Any, batch: Any) -> Any:
        found = loss(self, model, batch)
        if self.state.global_step == 3:
            found.register_hook(lambda gradient: gradient * float("nan"))
        return found

    monkeypatch.setattr(PredictionTrainer, "stage_loss", poisoned)
    value["stages"][0] |= {"checkpoint_steps": 2}
    result = run(write(value), "--output", tmp_path / "run")
    assert result.exit_code == 1
    assert "at step 4" in result.stderr.splitlines()[-1]
    assert [path.name for path in (tmp_path / "run").glob("*/checkpoint-*")] == ["checkpoint-2"]


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_says_how_to_go_on(value: dict[str, Any], write: Any, tmp_path: Path) -> None:
    value["stages"][0] |= {"epochs": 10000, "checkpoint_steps": 5}
    command = [sys.executable, "-m", "dynamic_tinybert", "train", str(write(value)), "--output", str(tmp_path / "run")]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        preexec_fn=heed_interrupts,
    ) as process:
        while not list((tmp_path / "run").glob("*/checkpoint-*/trainer_state.json")):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode in (1, 130)
    assert out == ""
    assert "Traceback" not in err
    assert "--resume" in err.splitlines()[-1]


def test_what_the_extra_brings_is_named(
    run: Run, value: dict[str, Any], write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("dynamic_tinybert.train")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    message = complaint(run(write(value)))
    assert message.endswith(f"training needs torch, which is not installed: {install_command('train')}")


# Several processes


def test_two_processes_train_one_model(
    value: dict[str, Any], write: Any, shelf: Path, embedded: Path, tmp_path: Path
) -> None:
    teacher = write_model(tmp_path / "teacher", embedded, layers=4, hidden=48, seed=1)
    shared = {"epochs": 2, "batch_size": 4, "learning_rate": 0.001, "teacher": teacher}
    value["stages"] = [
        {"stage": "intermediate", **shared},
        {"stage": "prediction", **shared, "checkpoint_steps": 2},
        {"stage": "lengthdrop", **shared, "samples": 1, "significance": 0.5},
        {"stage": "lengthdrop", "name": "single", **shared, "rule": "single", "layer_drop": 0.5, "significance": 0.5},
        {"stage": "prediction", "name": "tokens", **shared, "batch_tokens": 160},
    ]
    value["student"]["significance_head"] = True
    script = tmp_path / "both.py"
    script.write_text(
        """
import hashlib, json, os, sys
from dynamic_tinybert.cli import main
from dynamic_tinybert.train.trainer import StageTrainer
from dynamic_tinybert.train import run
seen, learn, compute = [], StageTrainer.learn, StageTrainer.compute_loss
def computed(self, model, batch, *a, **o):
    seen.append([self.args.world_size, int(self.state.epoch or 0), batch["index"].tolist()])
    return compute(self, model, batch, *a, **o)
def learned(self, checkpoint):
    learn(self, checkpoint)
    digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in self.model.parameters())).hexdigest()
    stages.append({"seen": seen[:], "weights": digest, "steps": self.state.global_step})
    seen.clear()
stages = []
StageTrainer.learn, StageTrainer.compute_loss = learned, computed
sys.argv = ["dynamic-tinybert", "train", *sys.argv[1:]]
try:
    main()
finally:
    with open(f"seen-{os.environ['RANK']}.json", "w") as file:
        json.dump(stages, file)
""",
        "utf-8",
    )
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
        str(script), str(write(value)), "--output", "run", "--json",
    ]  # fmt: skip
    # With --cpu, accelerate starts one process only, whatever it is told.
    environment = {**ENVIRONMENT, "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (printed,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert json.loads(printed)["figures"]["confirm"]["total"] == 9
    first, second = (json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in (0, 1))
    assert len(first) == len(second) == 5
    for mine, theirs in zip(first, second, strict=True):
        assert mine["weights"] == theirs["weights"]
        assert {world for world, _, _ in mine["seen"] + theirs["seen"]} == {2}
        for epoch in (0, 1):
            parts = [[i for _, e, batch in each["seen"] if e == epoch for i in batch] for each in (mine, theirs)]
            assert not set(parts[0]) & set(parts[1]) or len(parts[0]) + len(parts[1]) > 36
            assert set(parts[0]) | set(parts[1]) == set(range(max(parts[0] + parts[1]) + 1))
        assert mine["seen"][0][2] != mine["seen"][len(mine["seen"]) // 2][2]  # each epoch has its order
    assert sorted(path.name for path in (tmp_path / "run").glob("0*")) == [
        "01-intermediate", "02-prediction", "03-lengthdrop", "04-single", "05-tokens",
    ]  # fmt: skip
    assert quiet(QuestionAnswerer(tmp_path / "run" / "model"))("Who built it?", "It was built by Ada.").text
