"""Models on the Hub in the forms that people have: a local server speaks the Hub's API, huggingface_hub asks it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dynamic_tinybert import ModelFolderError, QuestionAnswerer
from dynamic_tinybert.cli.app import app
from dynamic_tinybert.folder import open_folder
from dynamic_tinybert.folder.hub import hub_name
from support.fake_hub import TOKEN, FakeHub, ask_at, running

huggingface_hub = pytest.importorskip("huggingface_hub")
pytest.importorskip("huggingface_hub.constants")

BOT, TITLE = "SFconvertbot", "Adding `safetensors` variant of this model"
OLD = "distilbert-base-cased-distilled-squad"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    constants = huggingface_hub.constants
    with running() as server:
        ask_at(server.url, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        yield server


@pytest.fixture(scope="module")
def files(tiny_folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in tiny_folder.iterdir() if file.is_file()}


@pytest.fixture(scope="module")
def pickled(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name != "model.safetensors"} | {
        "pytorch_model.bin": b"a pickle"
    }


@pytest.fixture(scope="module")
def weights(files: dict[str, bytes]) -> dict[str, bytes]:
    return {"model.safetensors": files["model.safetensors"]}


def test_the_conversion_bot_s_safetensors_are_taken(
    hub: FakeHub, pickled: dict[str, bytes], weights: dict[str, bytes]
) -> None:
    made = hub.make("ada/engine", files=pickled)
    made.request({"model.safetensors": b"bad"}, title=TITLE, author="mallory")
    made.request({"model.safetensors": b"bad"}, title="Update", author=BOT)
    made.request({"model.safetensors": b"bad"}, title=TITLE, author=BOT, status="closed")
    number = made.request(weights, title=TITLE, author=BOT)
    commit = made.branches[f"refs/pr/{number}"]
    line = f"ada/engine has a pickle on main: its safetensors are the conversion bot's, from commit {commit}"
    with pytest.warns(UserWarning, match=line):
        folder = open_folder("ada/engine")
    assert folder.parameters > 0
    assert folder.commit == commit
    assert not any("pytorch_model.bin" in asked for asked in hub.asked)
    asked = len(hub.asked)
    with pytest.warns(UserWarning, match=line):
        assert open_folder("ada/engine", local_files_only=True).path == folder.path
    assert len(hub.asked) == asked


def test_a_conversion_of_what_is_no_longer_on_main_is_not_taken(
    hub: FakeHub, pickled: dict[str, bytes], weights: dict[str, bytes]
) -> None:
    made = hub.make("ada/engine", files=pickled)
    made.request(weights, title=TITLE, author=BOT)
    made.commit("main", pickled | {"pytorch_model.bin": b"other weights"}, "new weights")
    with pytest.raises(ModelFolderError, match=r"only pytorch_model\.bin, a pickle"):
        open_folder("ada/engine")


def test_offline_a_stranger_s_pull_request_is_not_taken(
    hub: FakeHub, pickled: dict[str, bytes], weights: dict[str, bytes]
) -> None:
    made = hub.make("ada/engine", files=pickled)
    number = made.request(weights, title=TITLE, author="mallory")
    assert open_folder("ada/engine", revision=f"refs/pr/{number}").parameters > 0  # as it was asked for
    for offline in (False, True):
        with pytest.raises(ModelFolderError, match=r"safetensors|not in the Hub.s cache"):
            open_folder("ada/engine", local_files_only=offline)


def test_without_discussions_a_pickle_says_how_it_is_converted(hub: FakeHub, pickled: dict[str, bytes]) -> None:
    hub.make("ada/engine", files=pickled)
    hub.answers["GET /api/models/ada/engine/discussions"] = (403, "Discussions are disabled", {})
    with pytest.raises(ModelFolderError, match="only pytorch_model"):
        open_folder("ada/engine")


@pytest.mark.parametrize("token", ["hf_SECRET\nx", "hf SECRET", "hf_SECR\u00c9T"])
def test_a_token_is_never_in_an_error(hub: FakeHub, files: dict[str, bytes], token: str) -> None:
    hub.make("ada/engine", private=True, files=files)
    with pytest.raises(ModelFolderError) as caught:
        open_folder("ada/engine", token=token)
    assert "SECR" not in str(caught.value)
    assert open_folder("ada/engine", token=f"{TOKEN}\n").parameters > 0  # as files of secrets end


def test_a_pickle_alone_says_the_line_that_converts(hub: FakeHub, pickled: dict[str, bytes]) -> None:
    hub.make("ada/engine", files=pickled)
    with pytest.raises(ModelFolderError) as caught:
        open_folder("ada/engine")
    assert "M.from_pretrained('ada/engine').save_pretrained('engine')" in str(caught.value)


def test_names_without_an_owner(hub: FakeHub, files: dict[str, bytes]) -> None:
    hub.make(f"distilbert/{OLD}", files=files)
    assert open_folder(OLD).name == OLD
    hub.asked.clear()
    with pytest.raises(ModelFolderError, match="no such folder"):
        open_folder("plan-of-a-merger")
    assert hub.asked == []  # the name of a folder stays here


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("bert-large-uncased-whole-word-masking-finetuned-squad", "google-bert/..."),
        ("bert-of-my-client", None),
        ("roberta-base-squad2", "FacebookAI/..."),
        ("xlm-roberta-large-finetuned-squad", "FacebookAI/..."),
        (OLD, "distilbert/..."),
        ("camembert-base", "almanach/..."),
        ("owner/name", "owner/name"),
        ("some-model", None),
        ("model", None),
        ("./some-model", None),
        ("a/b/c-d", None),
        ("-model", None),
    ],
)
def test_names_on_the_hub(given: str, full: str | None) -> None:
    assert hub_name(given) == (full and full.replace("...", given))


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_the_options_of_a_command(hub: FakeHub, files: dict[str, bytes], tmp_path: Path) -> None:
    made = hub.make("ada/engine", private=True, files=files)
    made.branches["v1"] = made.branches["main"]
    made.commit("main", {"config.json": b"{}"}, "broken")
    place = str(tmp_path / "elsewhere")
    command = ("info", "ada/engine", "--revision", "v1", "--cache-dir", place, "--json")
    assert "private there" in invoke(*command).stderr
    told = json.loads(invoke(*command, "--token", TOKEN).stdout)
    assert told["commit"] == made.branches["v1"]
    assert Path(told["path"]).is_relative_to(place)
    hub.asked.clear()
    again = invoke(*command, "--offline")
    assert json.loads(again.stdout) == told
    assert hub.asked == []
    assert told["commit"] in invoke(*command[:-1], "--offline").stdout
    assert "text" in invoke("ask", "Where?", "--context", "Here.", "--model", *command[1:], "--offline").stdout
    assert "no revision 'v1'" in invoke("info", "--revision", "v1").stderr
    assert "embedded" in invoke("info").stdout  # nothing stays of the last command


def test_every_command_that_takes_a_model_has_them() -> None:
    for command in ("ask", "batch", "evaluate", "info", "export", "serve", "search", "calibrate"):
        shown = invoke(command, "--help").stdout
        assert all(option in shown for option in ("--revision", "--token", "--cache-dir", "--offline")), command


def test_weights_of_data_parallelism_a_vocabulary_with_a_mark_and_a_config_without_a_type(
    tiny_folder: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    expected = QuestionAnswerer(tiny_folder)("Where is it?", "It is in Paris.")
    for file in tiny_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({f"module.{name}": value for name, value in tensors.items()}, tmp_path / "model.safetensors")
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    del config["model_type"]
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["BertForQuestionAnswering"]}))
    vocabulary = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    words = "\n".join(sorted(vocabulary, key=vocabulary.__getitem__))
    (tmp_path / "vocab.txt").write_text(f"\ufeff{words}\n", "utf-8")
    (tmp_path / "tokenizer.json").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert QuestionAnswerer(tmp_path)("Where is it?", "It is in Paris.") == expected


def test_offline_imports_no_network(tmp_path: Path) -> None:
    code = "from dynamic_tinybert import QuestionAnswerer as Q; Q('some/model', local_files_only=True)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "forbids the download: allow it once" in done.stderr


def test_a_converted_model_in_the_cache_needs_no_network(
    hub: FakeHub, pickled: dict[str, bytes], weights: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.make("ada/engine", files=pickled).request(weights, title=TITLE, author=BOT)
    with pytest.warns(UserWarning, match="conversion bot"):
        before = open_folder("ada/engine")
    ask_at("http://127.0.0.1:1", monkeypatch)
    with pytest.warns(UserWarning, match="conversion bot"):
        assert open_folder("ada/engine").path == before.path


def test_a_cache_without_weights_says_so(hub: FakeHub, files: dict[str, bytes]) -> None:
    made = hub.make("ada/engine", files=files)
    folder = open_folder("ada/engine").path
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        ModelFolderError, match="the Hub's cache, and --offline, local_files_only or HF_HUB_OFFLINE forbids"
    ):
        open_folder("ada/engine", local_files_only=True)
    assert made.branches["main"] == folder.name
