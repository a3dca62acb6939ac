"""The command that installs an extra, by how the package itself was installed."""

import importlib.metadata
import importlib.util
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dynamic_tinybert.files import extra, install_command, install_model_command

INDEX = "dynamic-tinybert[serve]"


@pytest.fixture(autouse=True)
def _pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())


def recorded(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    """Let the installer's record of where the package came from be `text`."""

    class Distribution:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return text

    monkeypatch.setattr(importlib.metadata, "distribution", lambda _name: Distribution())


def pip(command: str) -> list[str]:
    """The arguments of a `pip install` of this very Python."""
    python, *rest = shlex.split(command)
    assert python == sys.executable
    assert rest[:3] == ["-m", "pip", "install"]
    return rest[3:]


@pytest.mark.parametrize(
    ("origin", "arguments"),
    [
        (None, [INDEX]),
        ({"url": "file://{tmp}", "dir_info": {}}, ["{tmp}[serve]"]),
        ({"url": "file://{tmp}", "dir_info": {"editable": True}}, ["-e", "{tmp}[serve]"]),
        ({"url": "file://{tmp}", "dir_info": {}, "subdirectory": "python"}, ["{tmp}/python[serve]"]),
        ({"url": "file://{tmp}/d.whl", "archive_info": {"hash": "sha256=0"}}, [f"{INDEX} @ file://{{tmp}}/d.whl"]),
        (
            {"url": "https://example.org/d.git", "vcs_info": {"vcs": "git", "commit_id": "abc123"}},
            [f"{INDEX} @ git+https://example.org/d.git@abc123"],
        ),
        (
            {"url": "https://example.org/d.git", "vcs_info": {"vcs": "git"}, "subdirectory": "python"},
            [f"{INDEX} @ git+https://example.org/d.git#subdirectory=python"],
        ),
        ({"url": "file:///no/longer/there", "dir_info": {"editable": True}}, [INDEX]),
        ({"url": "file:///no/longer/there.whl", "archive_info": {}}, [INDEX]),
        ({"url": "file://{tmp}", "dir_info": None}, [INDEX]),
        ({"url": 3, "dir_info": {}}, [INDEX]),
        ({"dir_info": {}}, [INDEX]),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="paths of POSIX")
def test_install_command_names_where_the_package_came_from(
    origin: dict[str, Any] | None, arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "d.whl").touch()
    there = str(tmp_path)
    recorded(monkeypatch, None if origin is None else json.dumps(origin).replace("{tmp}", there))
    assert pip(install_command("serve")) == [argument.replace("{tmp}", there) for argument in arguments]


@pytest.mark.parametrize(
    ("origin", "argument"),
    [
        (None, "a-model"),
        ({"url": "file://{tmp}", "dir_info": {}}, "{tmp}/models/a-model"),
        ({"url": "file://{tmp}", "dir_info": {"editable": True}}, "{tmp}/models/a-model"),
        ({"url": "file:///no/longer/there", "dir_info": {}}, "a-model"),
        ({"url": "file://{tmp}/d.whl", "archive_info": {}}, "a-model"),
        ({"url": "https://example.org/d.whl", "archive_info": {}}, "a-model"),
        ({"url": "https://example.org/dynamic_tinybert-0.1.0.tar.gz", "archive_info": {}}, "a-model"),
        (
            {"url": "https://example.org/d/archive/main.zip", "archive_info": {}},
            "a-model @ https://example.org/d/archive/main.zip#subdirectory=models/a-model",
        ),
        (
            {"url": "https://example.org/dynamic_tinybert-main.zip", "archive_info": {}},
            "a-model @ https://example.org/dynamic_tinybert-main.zip#subdirectory=models/a-model",
        ),
        (
            {"url": "file://{tmp}/bare.git", "vcs_info": {"vcs": "git"}},
            "a-model @ git+file://{tmp}/bare.git#subdirectory=models/a-model",
        ),
        ({"url": "file://{tmp}/bare.git", "dir_info": {}}, "a-model"),
        (
            {"url": "https://example.org/d.git", "vcs_info": {"vcs": "git", "commit_id": "abc123"}},
            "a-model @ git+https://example.org/d.git@abc123#subdirectory=models/a-model",
        ),
        (
            {"url": "https://example.org/d.git", "vcs_info": {"vcs": "git"}, "subdirectory": "python"},
            "a-model @ git+https://example.org/d.git#subdirectory=python/models/a-model",
        ),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="paths of POSIX")
def test_install_model_command_names_the_package_in_the_same_repository(
    origin: dict[str, Any] | None, argument: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "d.whl").touch()
    (tmp_path / "bare.git").mkdir()
    (tmp_path / "models" / "a-model").mkdir(parents=True)
    recorded(monkeypatch, None if origin is None else json.dumps(origin).replace("{tmp}", str(tmp_path)))
    assert pip(install_model_command("a-model")) == [argument.replace("{tmp}", str(tmp_path))]


def test_install_command_of_a_folder_with_a_space_is_one_argument(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "my clone").mkdir()
    recorded(monkeypatch, json.dumps({"url": (tmp_path / "my clone").as_uri(), "dir_info": {}}))
    assert pip(install_command("serve")) == [f"{tmp_path / 'my clone'}[serve]"]


def test_install_command_on_windows_has_double_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(monkeypatch, json.dumps({"url": "https://example.org/d.whl", "archive_info": {}}))
    monkeypatch.setattr(os, "name", "nt")
    assert install_command("serve").endswith(' -m pip install "dynamic-tinybert[serve] @ https://example.org/d.whl"')


def test_install_command_without_pip_is_for_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(monkeypatch, None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert shlex.split(install_command("serve")) == ["uv", "pip", "install", "--python", sys.executable, INDEX]


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_install_command_without_a_readable_record_names_the_index(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(monkeypatch, text)
    assert pip(install_command("serve")) == [INDEX]


def test_install_command_of_a_package_that_is_not_installed_names_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    assert pip(install_command("serve")) == [INDEX]


def test_extra_whose_package_is_missing_says_how_to_install_it() -> None:
    with pytest.raises(ModuleNotFoundError) as caught, extra("corpus", "an index of documents"):
        raise ModuleNotFoundError("No module named 'tantivy.x'", name="tantivy.x")
    assert str(caught.value) == (
        f"an index of documents needs tantivy, which is not installed: {install_command('corpus')}"
    )
    assert caught.value.name == "tantivy.x"


def test_extra_does_not_explain_a_fault_of_this_package() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"^no such part$"), extra("corpus", "an index of documents"):
        raise ModuleNotFoundError("no such part", name="dynamic_tinybert.corpus.nowhere")


@pytest.mark.parametrize(
    ("statement", "missing", "words"),
    [
        ("from dynamic_tinybert import Corpus; Corpus('index').find('x')", "tantivy", "an index of documents needs"),
        ("from dynamic_tinybert.serve import create_app", "fastapi", "the server needs"),
        ("import dynamic_tinybert.train", "torch", "training needs"),
        ("import dynamic_tinybert.search", "optuna", "the search needs"),
    ],
)
def test_an_import_without_the_extra_says_how_to_install_it(
    statement: str, missing: str, words: str, tmp_path: Path
) -> None:
    pytest.importorskip(missing)  # without it another package of the extra may be the first that is missing
    code = f"import sys; sys.modules[{missing!r}] = None; {statement}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"ModuleNotFoundError: {words} {missing}, which is not installed: ")
    assert "dynamic-tinybert" in line or "[" in line
