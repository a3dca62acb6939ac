"""The command that installs an extra, by how the package itself was installed."""

import importlib.metadata
import json
from typing import Any

import pytest

from dynamic_tinybert.files import extra, install_command


def recorded(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    """Let pip's record of where the package came from be `text`."""

    class Distribution:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return text

    monkeypatch.setattr(importlib.metadata, "distribution", lambda _name: Distribution())


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, "pip install 'dynamic-tinybert[serve]'"),
        ({"url": "file:///home/ada/clone", "dir_info": {}}, "pip install '/home/ada/clone[serve]'"),
        (
            {"url": "file:///home/ada/my%20clone", "dir_info": {"editable": True}},
            "pip install -e '/home/ada/my clone[serve]'",
        ),
        (
            {"url": "file:///tmp/dynamic_tinybert-1.0-py3-none-any.whl", "archive_info": {}},
            "pip install 'dynamic-tinybert[serve] @ file:///tmp/dynamic_tinybert-1.0-py3-none-any.whl'",
        ),
        (
            {"url": "https://example.org/d.git", "vcs_info": {"vcs": "git", "commit_id": "abc123"}},
            "pip install 'dynamic-tinybert[serve] @ git+https://example.org/d.git@abc123'",
        ),
    ],
)
def test_install_command_names_where_the_package_came_from(
    origin: dict[str, Any] | None, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(monkeypatch, None if origin is None else json.dumps(origin))
    assert install_command("serve") == command


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_install_command_without_a_readable_record_names_the_index(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(monkeypatch, text)
    assert install_command("serve") == "pip install 'dynamic-tinybert[serve]'"


def test_install_command_of_a_package_that_is_not_installed_names_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    assert install_command("serve") == "pip install 'dynamic-tinybert[serve]'"


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
