"""What the tests share: the embedded model, loaded once, and a tiny one for what needs no answers that make sense."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from safetensors.numpy import save_file

from dynamic_tinybert.folder import EMBEDDED, tensor_table
from dynamic_tinybert.model import ModelShape
from dynamic_tinybert.qa import QuestionAnswerer

# The same examples at every run: what fails, fails for everybody. Machines are slow at times, so nothing is timed.
settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("repeatable")

# No result depends on the processor. tests/runtime/test_precision.py has what `auto` means.
os.environ["DYNAMIC_TINYBERT_PRECISION"] = "fp32"

RINGS = {"serve": "serve", "mcp_server": "serve", "ray_cluster": "ray", "javascript": "javascript"}
"""The marks of all tests in a folder of tests/."""

TINY = ModelShape(layers=2, hidden=32, heads=2, feed_forward=64, vocabulary=30522, positions=512)


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        for folder, ring in RINGS.items():
            if here / folder in item.path.parents:
                item.add_marker(ring)


@pytest.fixture(scope="session")
def embedded() -> Path:
    """The folder of the embedded model."""
    import dynamic_tinybert

    return Path(dynamic_tinybert.__file__).parent / EMBEDDED


@pytest.fixture(scope="session")
def qa() -> QuestionAnswerer:
    """The embedded model."""
    return quiet(QuestionAnswerer())


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, embedded: Path) -> Path:
    """A BERT of random weights with the embedded model's tokenizer, fast and without a table of configurations."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    random = np.random.default_rng(0)
    tensors = {
        name: (random.normal(0, 0.4, sizes) + name.endswith("LayerNorm.weight")).astype(np.float32)
        for _, name, sizes in tensor_table(TINY)
    }
    save_file(tensors, folder / "model.safetensors")
    config = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "num_hidden_layers": TINY.layers,
        "hidden_size": TINY.hidden,
        "num_attention_heads": TINY.heads,
        "intermediate_size": TINY.feed_forward,
        "vocab_size": TINY.vocabulary,
        "max_position_embeddings": TINY.positions,
    }
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    shutil.copyfile(embedded / "tokenizer.json", folder / "tokenizer.json")
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> QuestionAnswerer:
    """The model of `tiny_folder`."""
    return quiet(QuestionAnswerer(tiny_folder))


def quiet(qa: QuestionAnswerer) -> QuestionAnswerer:
    """Let a model without a measured table give its one warning now."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        qa.table.select(qa.shape, 0.5)
    return qa
