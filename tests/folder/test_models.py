"""The models that are packages of their own, in `models/`."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.folder import open_folder
from dynamic_tinybert.folder.packages import GROUP, OURS
from dynamic_tinybert.model import ConfigTable, LengthConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

MODELS = Path(__file__).parents[2] / "models"
MOST = 70e6  # bytes
# The weights of each version. A version's line never changes: an index takes a version once.
WEIGHTS = {
    "dynamic-tinybert-6l": {
        "0.1.0.dev1": "9a4c77b1cc1cb9599f33c45a94ac05fce8e92564881c8f7868d0c7cd9d32ca00",
        "0.1.0.dev2": "77728f82936a1431eb09e04ec1cdcbbe247236a01566058410fa5c3517635bb7",
        "0.1.0.dev3": "77728f82936a1431eb09e04ec1cdcbbe247236a01566058410fa5c3517635bb7",  # another table
    },
}
TEXT = "The report was written by Ada Lovelace in 1843. It was printed in London."


@pytest.fixture(params=OURS)
def model(request: pytest.FixtureRequest) -> Path:
    """The model folder of one of the packages."""
    name = str(request.param)
    return MODELS / name / "src" / name.replace("-", "_")


def test_models_are_those_that_the_package_names() -> None:
    assert {folder.name for folder in MODELS.iterdir()} == set(OURS)


@pytest.mark.parametrize("name", OURS)
def test_package_names_its_model_by_an_entry_point(name: str) -> None:
    project = tomllib.loads((MODELS / name / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["name"] == name
    assert project["entry-points"][GROUP] == {name: name.replace("-", "_")}
    assert (MODELS / name / project["readme"]).is_file()


def test_model_with_other_weights_has_another_version(model: Path) -> None:
    package = model.parents[1]
    version = tomllib.loads((package / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    weights = (model / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == WEIGHTS[package.name][version]


def test_model_fits_in_its_wheel(model: Path) -> None:
    assert sum(file.stat().st_size for file in model.iterdir() if file.is_file()) < MOST


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_model_answers_at_its_best_budgets(model: Path, precision: str) -> None:
    qa = QuestionAnswerer(model, precision=precision)
    for budget in ("full", "balanced"):
        answer = qa("Who wrote the report?", TEXT, budget=budget)
        assert (answer.text, TEXT[answer.start : answer.end]) == ("Ada Lovelace", "Ada Lovelace")


def test_model_has_a_measured_table_and_a_calibrated_confidence(model: Path) -> None:
    folder = open_folder(model)
    table = ConfigTable.read(folder.shape, folder.length_configs)
    assert table.precision == "int8"
    assert table.measured_on
    assert table.choices[0].config == LengthConfig.full(folder.shape.layers)
    assert QuestionAnswerer(model)("Who wrote the report?", TEXT).confidence is not None
