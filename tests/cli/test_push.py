"""`push`, against a Hub on this machine: huggingface_hub's own client, real sockets, no network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner, Result

from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.cli.app import app
from dynamic_tinybert.folder import open_folder, save_folder
from support.commands import complaint
from support.fake_hub import TOKEN, FakeHub, ask_at, running

NAME = "ada/engine"

# huggingface_hub 2.4 uploads in a way that its HTTP client calls old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub that huggingface_hub asks, and a token for it."""
    constants = huggingface_hub.constants
    with running() as server:
        ask_at(server.url, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture
def model(tiny_folder: Path, tmp_path: Path) -> Path:
    """The tiny model, with a card and much beside it that is nobody's business."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\n# Engine\n\nWörter, 言葉 ✓\n", "utf-8")
    for stray in (
        ".env",
        "optimizer.pt",
        "pytorch_model.bin",
        "notes.txt",
        "training_args.bin",
        "model.safetensors.bak",
    ):
        (folder / stray).write_text("secret")
    for sub in ("checkpoint-1", ".git", ".cache"):
        (folder / sub).mkdir()
        shutil.copyfile(folder / "model.safetensors", folder / sub / "model.safetensors")
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["push", *(str(argument) for argument in arguments)])


def pushed(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    (line,) = result.stdout.splitlines()
    value = json.loads(line)
    assert isinstance(value, dict)
    return value


def test_a_pushed_model_comes_back_as_it_was(hub: FakeHub, model: Path) -> None:
    before = {path: path.read_bytes() for path in model.rglob("*") if path.is_file()}
    result = run(model, NAME)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{hub.url}/{NAME}\n"
    assert {path: path.read_bytes() for path in model.rglob("*") if path.is_file()} == before
    ours = {"config.json", "model.safetensors", "tokenizer.json", "README.md"}
    assert hub.files(NAME).keys() == {".gitattributes", *ours}
    assert not hub.models[NAME].private
    there, here = open_folder(NAME), open_folder(model)
    assert there.shape == here.shape
    assert there.license == "mit"
    for name, weight in here.weights.items():
        np.testing.assert_array_equal(there.weights[name], weight)
    assert any("/complete" in asked for asked in hub.asked)  # the weights went in parts


def test_a_byte_order_mark_does_not_go_up(hub: FakeHub, model: Path) -> None:
    config = (model / "config.json").read_text("utf-8")
    (model / "config.json").write_text(config, "utf-8-sig")
    assert run(model, NAME).exit_code == 0
    assert json.loads(hub.files(NAME)["config.json"]) == json.loads(config)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.json", '{"version": "1.0", "trunc', "the tokenizer of"),
        ("length_configs.json", '{"calibration": {"margin": NaN, "log_score": 1, "bias": 0}}', "calibration"),
        ("length_configs.json", '{"calibration": 3}', "calibration"),
    ],
)
def test_a_folder_that_cannot_answer_is_not_pushed(
    hub: FakeHub, model: Path, name: str, content: str, said: str
) -> None:
    (model / name).write_text(content, "utf-8")
    for options in ((), ("--dry-run",)):
        assert said in complaint(run(model, NAME, *options))
    assert not hub.models


def test_a_loaded_model_is_pushed(hub: FakeHub, model: Path) -> None:
    qa = QuestionAnswerer.from_pretrained(model)
    assert qa.push_to_hub(NAME, private=True) == f"{hub.url}/{NAME}"
    assert hub.models[NAME].private
    assert open_folder(NAME).shape == qa.shape


def test_the_card_goes_up_complete(hub: FakeHub, model: Path) -> None:
    result = run(model, NAME)
    card = hub.files(NAME)["README.md"].decode()
    assert card.startswith("---\nlicense: mit\n")
    assert "\n# Engine\n\nWörter, 言葉 ✓\n" in card
    assert f'QuestionAnswerer("{NAME}")' in card
    (warning,) = [line for line in result.stderr.splitlines() if "warning" in line]
    assert warning.endswith("the card does not state language, datasets, intended use, training: add it to README.md")


def test_int8_goes_up_as_float32_that_transformers_reads(hub: FakeHub, tiny_folder: Path, tmp_path: Path) -> None:
    small = save_folder(open_folder(tiny_folder), tmp_path / "int8", dtype="int8")
    pushed(small, NAME, "--license", "mit")
    files = hub.files(NAME)
    (tmp_path / "there").mkdir()
    for name, content in files.items():
        (tmp_path / "there" / name).write_bytes(content)
    assert {value.dtype for value in load_file(tmp_path / "there" / "model.safetensors").values()} == {np.dtype("f4")}
    assert "weights" not in json.loads(files["config.json"]).get("dynamic_tinybert", {})
    there, here = open_folder(NAME).weights, open_folder(small).weights
    assert all((there[name] == here[name]).all() for name in here)
    transformers = pytest.importorskip("transformers")
    _, loading = transformers.AutoModelForQuestionAnswering.from_pretrained(
        str(tmp_path / "there"), output_loading_info=True
    )
    assert not loading["missing_keys"]


def test_what_it_says_as_json(hub: FakeHub, model: Path) -> None:
    found = pushed(model, NAME, "--private", "--message", "Zum ersten")
    assert found["name"] == NAME
    assert found["url"] == f"{hub.url}/{NAME}"
    assert hub.models[NAME].commits[found["commit"]].keys() == {".gitattributes", *found["files"]}
    assert found["private"] is hub.models[NAME].private is True
    assert found["bytes"] == sum(found["files"].values())
    assert found["files"]["model.safetensors"] == (model / "model.safetensors").stat().st_size
    assert hub.models[NAME].messages[-1] == "Zum ersten"
    assert {"library_name", "How to use it"} <= {*found["card_added"]}
    assert "language" in found["card_missing"]


def test_pushing_again_uploads_nothing_new(hub: FakeHub, model: Path) -> None:
    pushed(model, NAME)
    commits = len(hub.models[NAME].commits)
    result = run(model, NAME)
    assert "all files are there already" in result.stderr
    assert len(hub.models[NAME].commits) == commits


def test_a_new_model_leaves_nothing_of_the_old_behind(hub: FakeHub, model: Path) -> None:
    """An old table or an old shard would be read beside the new weights."""
    old = {
        "length_configs.json": b"{}", "vocab.txt": b"[PAD]", "model-00001-of-00002.safetensors": b"old",
        ".eval_results/squad.yaml": b"[]",
    }  # fmt: skip
    hub.make(NAME, files={**old, "picture.png": b"png", "onnx/vocab.txt": b"theirs"})
    found = pushed(model, NAME)
    assert sorted(found["removed"]) == sorted(old)
    assert {"picture.png", "onnx/vocab.txt", ".gitattributes"} <= hub.files(NAME).keys()
    assert not old.keys() & hub.files(NAME).keys()


def test_shards_go_up_with_their_index(hub: FakeHub, model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for file, part in shards.items():
        save_file({name: tensors[name] for name in part}, model / file)
    weight_map = {name: file for file, part in shards.items() for name in part}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    hub.make(NAME, files={"model.safetensors": b"old, and it would be read first"})
    pushed(model, NAME)
    assert {*shards, "model.safetensors.index.json"} <= hub.files(NAME).keys()
    assert "model.safetensors" not in hub.files(NAME)
    assert open_folder(NAME).parameters == open_folder(model).parameters


@pytest.mark.slow
def test_a_branch_is_made_and_main_stays(hub: FakeHub, model: Path) -> None:
    pushed(model, NAME)
    (model / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# Second\n")
    for _ in range(2):
        found = pushed(model, NAME, "--revision", "v/2")
        assert found["url"] == f"{hub.url}/{NAME}/tree/v%2F2"
    assert b"# Second" in hub.files(NAME, "v/2")["README.md"]
    assert b"# Engine" in hub.files(NAME)["README.md"]
    assert open_folder(NAME, revision="v/2").license == "cc-by-4.0"


def test_a_card_on_the_hub_is_kept_where_the_folder_has_none(hub: FakeHub, model: Path) -> None:
    (model / "README.md").unlink()
    hub.make(NAME, files={"README.md": b"---\nlicense: mit\n---\n# Von Hand\n"})
    found = pushed(model, NAME)
    card = hub.files(NAME)["README.md"].decode()
    assert "# Von Hand\n" in card
    assert "library_name" in found["card_added"]
    assert pushed(model, NAME)["commit"] is None


def test_a_machines_folders_are_not_told(hub: FakeHub, model: Path) -> None:
    config = json.loads((model / "config.json").read_text("utf-8"))
    (model / "config.json").write_text(json.dumps({**config, "_name_or_path": "/home/ada/secret"}), "utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "name_or_path": "/home/ada/x", "special_tokens_map_file": "/home/x"}
    (model / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    pushed(model, NAME)
    assert json.loads(hub.files(NAME)["config.json"]) == config
    assert json.loads(hub.files(NAME)["tokenizer_config.json"]) == {"tokenizer_class": "BertTokenizer"}


def test_a_card_on_main_is_kept_on_a_new_branch(hub: FakeHub, model: Path) -> None:
    pushed(model, NAME)
    (model / "README.md").unlink()
    pushed(model, NAME, "--revision", "v2")
    assert "Wörter, 言葉 ✓" in hub.files(NAME, "v2")["README.md"].decode()


def test_a_trial_shows_all_and_asks_nobody(hub: FakeHub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    shown = run(model, NAME, "--dry-run").stdout
    for words in ("model.safetensors", "bytes in all", "Wörter, 言葉 ✓", "## Architecture", f"{hub.url}/{NAME}"):
        assert words in shown
    found = pushed(model, NAME, "--dry-run")
    assert (found["commit"], found["private"]) == (None, None)
    assert found["files"]["README.md"] == len(found["card"].encode())
    assert ".env" not in found["files"]
    assert (hub.asked, hub.models) == ([], {})


def test_the_embedded_model_goes_up_without_a_warning_of_its_figures(hub: FakeHub) -> None:
    done = run("embedded", NAME, "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert "figures" not in done.stderr


# what can go wrong


def test_a_folder_that_is_no_sound_model_is_refused_before_anybody_is_asked(
    hub: FakeHub, model: Path, tmp_path: Path
) -> None:
    assert "no such folder" in complaint(run(tmp_path / "nowhere", NAME))
    weights = load_file(model / "model.safetensors")
    weights["qa_outputs.bias"][0] = np.nan
    save_file(weights, model / "model.safetensors")
    assert "NaN" in complaint(run(model, NAME))
    (model / "model.safetensors").write_bytes(b"")
    assert "damaged" in complaint(run(model, NAME))
    assert hub.asked == []


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (b"# Engine\n", "--license"),
        (b"---\nlicense: [mit\n---\n", "not YAML"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"", "--license"),
    ],
)
def test_a_card_that_cannot_go_up_is_named_and_nothing_is_made(
    hub: FakeHub, model: Path, card: bytes, said: str
) -> None:
    (model / "README.md").write_bytes(card)
    assert said in complaint(run(model, NAME))
    assert hub.models == {}


def test_a_broken_table_is_a_failure(hub: FakeHub, model: Path) -> None:
    (model / "length_configs.json").write_text('{"measured_on": "x", "configs": []}')
    assert "length_configs.json" in complaint(run(model, NAME))


@pytest.mark.parametrize(
    "name", ["engine", "ada/", "a/b/c", "ada/eng ine", "ada/ein--e", "ada/x.git", "ada/" + "x" * 97, "", "ä/ö"]
)
def test_a_name_that_the_hub_refuses_is_misuse(hub: FakeHub, model: Path, name: str) -> None:
    assert "not a name on the Hub" in complaint(run(model, name), 2)
    assert hub.asked == []


def test_an_empty_message_is_misuse(hub: FakeHub, model: Path) -> None:
    assert "message" in complaint(run(model, NAME, "--message", " "), 2)
    assert run(model).exit_code == 2


def test_without_a_token(hub: FakeHub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert "there is no token" in complaint(run(model, NAME))
    assert run(model, NAME, "--token", TOKEN).exit_code == 0


@pytest.mark.parametrize("token", ["hf_of_somebody_else", "hf_with\nline", "hf_ümlaut"])
def test_a_token_that_is_not_accepted_is_never_shown(hub: FakeHub, model: Path, token: str) -> None:
    line = complaint(run(model, NAME, "--token", token))
    assert token not in line
    assert "ümlaut" not in line
    assert hub.models == {}


def test_another_owners_name(hub: FakeHub, model: Path) -> None:
    line = complaint(run(model, "eve/engine"))
    assert "eve/engine could not be pushed: the token may not write there" in line
    assert "You don't have the rights" in line
    hub.make("eve/engine")
    *_, line = run(model, "eve/engine").stderr.splitlines()
    assert "may not write there" in line
    assert len(hub.models["eve/engine"].commits) == 1


def test_a_public_model_is_not_taken_for_private(hub: FakeHub, model: Path) -> None:
    hub.make(NAME)
    assert "exists and is public" in complaint(run(model, NAME, "--private"))
    assert len(hub.models[NAME].commits) == 1
    hub.make("ada/other", private=True)
    assert pushed(model, "ada/other", "--private")["private"] is True


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ("GET /api/models/ada/engine", 500, "the Hub answers 500"),
        ("POST /api/repos/create", 402, "the Hub answers 402"),
        ("POST /api/repos/create", 429, "limits the number of requests"),
        ("POST */batch", 400, "the Hub answers 400"),
        ("POST */commit/main", 412, "somebody else has pushed meanwhile"),
        ("POST */commit/main", 413, "the Hub answers 413"),
        ("PUT /lfs/*", 403, "may not write there"),
    ],
)
def test_what_the_hub_refuses_is_one_line(hub: FakeHub, model: Path, asked: str, status: int, said: str) -> None:
    hub.answers[asked] = (status, "Nein, danke", {"X-Error-Message": "Nein, danke"})
    result = run(model, NAME)
    assert result.exit_code == 1
    assert result.stdout == ""
    *progress, line = result.stderr.splitlines()
    assert line.startswith(f"dynamic-tinybert: error: {NAME} could not be pushed: ")
    assert said in line
    assert len(progress) <= 1
    assert NAME not in hub.models or len(hub.models[NAME].commits) == 1


def test_metadata_that_the_hub_refuses_is_named(hub: FakeHub, model: Path) -> None:
    (model / "README.md").write_text("---\nlicense: mit\nlibrary_name: [a, b]\n---\n# Engine\n")
    *_, line = run(model, NAME).stderr.splitlines()
    assert '"library_name" must be a string' in line


def test_out_of_reach(model: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:1")
    assert "http://127.0.0.1:1 fails (" in complaint(run(model, NAME))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in complaint(run(model, NAME))


# the command itself, in a process of its own


def environment(hub: FakeHub, home: Path, **more: str) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE_", "TRANSFORMERS_"))}
    return {**inherited, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_TOKEN": TOKEN, **more}


@pytest.mark.slow
def test_as_a_user_runs_it(hub: FakeHub, model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dynamic_tinybert", "push", str(model), NAME]
    env = environment(hub, tmp_path / "home", HF_HUB_DISABLE_XET="1")
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{hub.url}/{NAME}\n"), done.stderr
    assert all(line.startswith((NAME, "dynamic-tinybert: warning: the card")) for line in done.stderr.splitlines())
    assert open_folder(NAME).parameters == open_folder(model).parameters


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="hf_xet's folder is named as POSIX names it")
def test_by_xet(hub: FakeHub, model: Path, tmp_path: Path) -> None:
    """As most machines upload, those that hf_xet has a wheel for."""
    pytest.importorskip("hf_xet")
    hub.xet = tmp_path / "xet"
    hub.xet.mkdir()
    command = [sys.executable, "-m", "dynamic_tinybert", "push", str(model), NAME]
    env = environment(hub, tmp_path / "home")
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{hub.url}/{NAME}\n"), done.stderr
    size = (model / "model.safetensors").stat().st_size
    assert f"size {size}\n".encode() in hub.files(NAME)["model.safetensors"]
    assert sum(path.stat().st_size for path in hub.xet.rglob("*") if path.is_file()) > size / 2
    assert not any(asked.startswith("PUT /lfs") for asked in hub.asked)
