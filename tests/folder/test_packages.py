"""Models that are installed as Python packages."""

from __future__ import annotations

import importlib
import pickle
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dynamic_tinybert import ModelFolderError, QuestionAnswerer
from dynamic_tinybert.cli.app import app
from dynamic_tinybert.files import install_model_command
from dynamic_tinybert.folder import open_folder, packages, reading

NAME, MODULE = "dynamic-tinybert-tiny", "dynamic_tinybert_tiny_for_tests"


@pytest.fixture
def site(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages, one of which is a model."""
    folder = tmp_path / "site"
    shutil.copytree(tiny_folder, folder / MODULE)
    (folder / MODULE / "__init__.py").write_text("", "utf-8")
    about = folder / f"{MODULE}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n", "utf-8")
    (about / "entry_points.txt").write_text(f"[dynamic_tinybert.models]\n{NAME} = {MODULE}\n", "utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.chdir(tmp_path)
    yield folder
    sys.modules.pop(MODULE, None)
    importlib.invalidate_caches()


def test_open_folder_name_of_an_installed_package_opens_its_model(site: Path, tiny_folder: Path) -> None:
    folder = open_folder(NAME)
    assert (folder.name, folder.path) == (NAME, site / MODULE)
    assert folder.shape == open_folder(tiny_folder).shape


def test_question_answerer_installed_package_answers_and_is_pickled(site: Path, tiny_folder: Path) -> None:
    qa = QuestionAnswerer(NAME)
    found, same = (one("Where?", "In Oslo, by the sea.") for one in (qa, QuestionAnswerer(tiny_folder)))
    assert (found.text, found.score) == (same.text, same.score)
    assert pickle.loads(pickle.dumps(qa))("Where?", "In Oslo, by the sea.").text == found.text


def test_info_command_takes_the_name(site: Path) -> None:
    result = CliRunner().invoke(app, ["info", NAME, "--json"])
    assert result.exit_code == 0, result.stderr


def test_open_folder_own_folder_of_the_name_comes_first(site: Path, embedded: Path) -> None:
    shutil.copytree(embedded, Path(NAME))
    assert open_folder(NAME).shape == open_folder(None).shape


def test_open_folder_package_in_a_zip_file_is_unpacked(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in site.rglob("*"):
            archive.write(file, file.relative_to(site))
    shutil.rmtree(site)
    monkeypatch.syspath_prepend(str(packed))
    importlib.invalidate_caches()
    assert QuestionAnswerer(NAME)("Where?", "In Oslo.").text


def test_open_folder_package_beside_the_folder_of_its_source_is_found(site: Path) -> None:
    (Path(NAME) / "src").mkdir(parents=True)
    assert open_folder(NAME).path == site / MODULE


@pytest.mark.parametrize("name", ["dynamic-tinybert-tinny", "Dynamic-TinyBERT-Tiny"])
def test_open_folder_nearly_the_name_suggests_it(site: Path, name: str) -> None:
    with pytest.raises(ModelFolderError, match=f"no such folder: '{name}'; did you mean '{NAME}'[?]"):
        open_folder(name)


def test_open_folder_path_of_the_name_says_that_it_is_a_name(site: Path) -> None:
    with pytest.raises(ModelFolderError, match="to name an installed model, give a str, not a Path"):
        open_folder(Path(NAME))


@pytest.mark.parametrize("beside_its_source", [False, True])
def test_open_folder_our_model_that_is_not_installed_says_how(
    beside_its_source: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for module in (packages, reading):
        monkeypatch.setattr(module, "installed_models", dict)
    if beside_its_source:
        Path("dynamic-tinybert-6l", "src").mkdir(parents=True)
    with pytest.raises(ModelFolderError) as caught:
        open_folder("dynamic-tinybert-6l")
    told, _, command = str(caught.value).partition(": ")
    assert told == "the model dynamic-tinybert-6l is a package of its own"
    assert command == install_model_command("dynamic-tinybert-6l")


def test_open_folder_revision_of_a_package_is_refused(site: Path) -> None:
    with pytest.raises(ModelFolderError, match="is not a model of the Hub, so it has no revision 'v1'"):
        open_folder(NAME, revision="v1")


def test_open_folder_package_without_files_is_one_line(site: Path) -> None:
    (site / MODULE / "config.json").unlink()
    with pytest.raises(ModelFolderError, match=r"has no config\.json"):
        open_folder(NAME)


def test_open_folder_package_that_fails_is_one_line(site: Path) -> None:
    (site / MODULE / "__init__.py").write_text("raise RuntimeError('broken')", "utf-8")
    with pytest.raises(ModelFolderError, match=f"the package {NAME} of the model {NAME} cannot be used") as caught:
        open_folder(NAME)
    assert "\n" not in str(caught.value)
