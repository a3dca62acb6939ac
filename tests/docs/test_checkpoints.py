"""The table of checkpoints on the Hub: its page, and the script that checks it, against a Hub on this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.fake_hub import FakeHub, ask_at, running

huggingface_hub = pytest.importorskip("huggingface_hub")
pytest.importorskip("huggingface_hub.constants")

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "check_checkpoints.py"
FILES = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": bytes(5_000_000),
    "vocab.txt": b"[PAD]\n",
    "README.md": b"---\nlicense: mit\n---\nA model.\n",
}
ENTRY: dict[str, Any] = {
    "model": "ada/engine",
    "kind": "bert",
    "weights": "model.safetensors",
    "tokenizer": "vocab.txt",
    "megabytes": 5,
    "licence": "mit",
    "f1": 81.25,
    "on": "SQuAD 1.1",
    "files_seen": "https://example.com/tree",
    "f1_seen": "https://example.com/card",
}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_checkpoints", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with running() as server:
        ask_at(server.url, monkeypatch)
        monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        yield server


def test_the_page_is_that_of_the_data(script: ModuleType) -> None:
    known = json.loads(script.DATA.read_text("utf-8"))
    assert script.page(known) == script.PAGE.read_text("utf-8"), "python scripts/check_checkpoints.py --page writes it"
    assert len({entry["model"] for entry in known["checkpoints"]}) == len(known["checkpoints"])
    assert all((entry["f1"] is None) == (entry["f1_seen"] is None) for entry in known["checkpoints"])


def test_a_model_as_it_is_described_has_no_differences(hub: FakeHub, script: ModuleType) -> None:
    hub.make("ada/engine", files=FILES)
    assert list(script.differences(ENTRY)) == []
    assert list(script.differences({**ENTRY, "megabytes": None})) == []  # nobody knew it
    assert not any("resolve" in asked for asked in hub.asked)  # nothing is downloaded


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"README.md": b"No card.\n"}, "licence is None on the Hub, but 'mit' in the data"),
        ({"vocab.txt": None}, "tokenizer is None on the Hub, but 'vocab.txt'"),
        ({"tokenizer.json": b"{}"}, "tokenizer is 'tokenizer.json' on the Hub"),
        ({"model.safetensors": bytes(5_100_000)}, "megabytes is 5.1 on the Hub, but 5"),
        ({"model.safetensors": None, "pytorch_model.bin": b""}, "weights is None on the Hub"),
        ({"config.json": b'{"model_type": "gpt2"}'}, "kind is 'gpt2' on the Hub, but 'bert'"),
    ],
    ids=str,
)
def test_a_difference_is_a_line(hub: FakeHub, script: ModuleType, files: dict[str, bytes | None], said: str) -> None:
    merged = {name: content for name, content in {**FILES, **files}.items() if content is not None}
    hub.make("ada/engine", files=merged)
    lines = list(script.differences(ENTRY))
    assert any(line.startswith(f"ada/engine: {said}") for line in lines), lines


def test_a_model_that_is_gone_is_one_line(hub: FakeHub, script: ModuleType) -> None:
    (line,) = script.differences(ENTRY)
    assert line.startswith("ada/engine: the Hub does not answer: ")
    assert "\n" not in line


def test_a_conversion_is_found_where_main_has_a_pickle(hub: FakeHub, script: ModuleType) -> None:
    main = {name: content for name, content in FILES.items() if name != "model.safetensors"}
    made = hub.make("ada/engine", files=main | {"pytorch_model.bin": b"a pickle"})
    made.request(
        {"model.safetensors": FILES["model.safetensors"]},
        title="Adding `safetensors` variant of this model",
        author="SFconvertbot",
    )
    assert list(script.differences({**ENTRY, "weights": "conversion"})) == []


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"tokenizer.json", "vocab.txt", "spm.model"}, "tokenizer.json"),
        ({"spiece.model", "config.json"}, "spiece.model"),
        ({"vocab.json", "merges.txt"}, "vocab.json, merges.txt"),
        ({"vocab.json"}, None),
        (set(), None),
    ],
)
def test_the_tokenizer_is_what_would_be_read(script: ModuleType, files: set[str], wanted: str | None) -> None:
    assert script.tokenizer_of(files) == wanted


def run(url: str, data: Path, page: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--data", str(data), "--output", str(page)]
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_script_writes_the_date_or_fails_with_a_line(tmp_path: Path) -> None:
    data, page = tmp_path / "checkpoints.json", tmp_path / "page.md"
    data.write_text(json.dumps({"checked": None, "checkpoints": [ENTRY]}), "utf-8")
    with running() as hub:
        hub.make("ada/engine", files=FILES)
        done = run(hub.url, data, page)
        assert (done.returncode, done.stderr) == (0, "")
        assert "Checked against the Hub on 2" in page.read_text("utf-8")
        assert json.loads(data.read_text("utf-8"))["checked"] is not None
        data.write_text(json.dumps({"checked": None, "checkpoints": [{**ENTRY, "licence": None}]}), "utf-8")
        done = run(hub.url, data, page)
    assert done.returncode == 1
    assert done.stderr == "ada/engine: licence is 'mit' on the Hub, but None in the data\n"
    assert json.loads(data.read_text("utf-8"))["checked"] is None
