"""The precision: what `auto` means, what INT8 promises."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from dynamic_tinybert.model import Disentangled, LengthConfig, ModelShape, Modern, QuantizedTensor
from dynamic_tinybert.runtime import PRECISION_VARIABLE, Runtime, choose_precision, multiplies_exactly, session
from support.runtime_reference import random_batch, random_shape, random_weights

SHAPE = random_shape(layers=4, hidden=96, heads=6, feed_forward=384, vocabulary=300, positions=128)
DEBERTA = replace(
    SHAPE, disentangled=Disentangled(span=32, longest=128, to_position=True, to_content=True, shared=True, normed=True)
)
MODERN = replace(SHAPE, modern=Modern(bases=(1e5, 1e4, 1e4, 1e5), local=(False, True, True, False), reach=16))
WEIGHTS = random_weights(SHAPE)


@pytest.fixture(autouse=True)
def _unpinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PRECISION_VARIABLE, raising=False)


def processor(monkeypatch: pytest.MonkeyPatch, *, exact: bool) -> None:
    monkeypatch.setattr(session, "multiplies_exactly", lambda: exact)


# auto


@pytest.mark.parametrize(
    ("measured", "exact", "providers", "precision"),
    [
        ("int8", True, None, "int8"),
        ("int8", True, [], "int8"),
        ("int8", True, ["CPUExecutionProvider"], "int8"),
        ("int8", True, [("CPUExecutionProvider", {})], "int8"),
        ("int8", True, ["CUDAExecutionProvider", "CPUExecutionProvider"], "fp32"),
        ("int8", True, [("CUDAExecutionProvider", {})], "fp32"),
        ("int8", False, None, "fp32"),
        ("fp32", True, None, "fp32"),
    ],
)
def test_auto_is_int8_for_a_model_measured_so_on_a_processor_made_for_it(
    measured: Any, exact: bool, providers: Any, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(monkeypatch, exact=exact)
    assert choose_precision("auto", measured, providers) == precision


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("choice", ["fp32", "int8"])
def test_a_precision_that_is_given_is_taken(choice: Any, exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, exact=exact)
    monkeypatch.setenv(PRECISION_VARIABLE, "fp32" if choice == "int8" else "int8")
    assert choose_precision(choice, "fp32") == choice


@pytest.mark.parametrize("value", ["fp32", "int8"])
def test_the_environment_says_what_auto_is(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, exact=value == "fp32")
    monkeypatch.setenv(PRECISION_VARIABLE, value)
    assert choose_precision("auto", "int8") == value


@pytest.mark.parametrize("value", ["", "auto"])
def test_an_environment_without_a_choice_changes_nothing(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, exact=True)
    monkeypatch.setenv(PRECISION_VARIABLE, value)
    assert choose_precision("auto", "int8") == "int8"


def test_an_unknown_precision_is_one_line_that_names_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^precision must be 'auto', 'fp32' or 'int8', not 'int4'$"):
        choose_precision("int4", "fp32")  # type: ignore[arg-type]
    monkeypatch.setenv(PRECISION_VARIABLE, "half")
    with pytest.raises(ValueError, match=rf"^{PRECISION_VARIABLE} must be 'auto', 'fp32' or 'int8', not 'half'$"):
        choose_precision("auto", "fp32")


def test_products_are_exact_or_made_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they are not, the session multiplies in the slower way, and its results are the same."""
    batch = random_batch(SHAPE, LengthConfig((1.0, 0.7, 0.4, 0.4)).lengths([50]), [50])
    entries: list[str] = []  # that concern products

    class Options(onnxruntime.SessionOptions):  # type: ignore[misc]
        def add_session_config_entry(self, key: str, value: str) -> None:
            if key == "session.x64quantprecision":
                entries.append(value)
            super().add_session_config_entry(key, value)

    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    asked = Runtime(SHAPE, WEIGHTS, precision="int8", threads=1).run(*batch)
    assert bool(entries) is not multiplies_exactly()
    processor(monkeypatch, exact=False)
    entries.clear()
    slower = Runtime(SHAPE, WEIGHTS, precision="int8", threads=1).run(*batch)
    assert entries == ["1"]
    for a, b in zip(asked, slower, strict=True):
        np.testing.assert_array_equal(a, b)
    entries.clear()
    Runtime(SHAPE, WEIGHTS, precision="fp32", threads=1)
    assert not entries


# INT8


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", [SHAPE, DEBERTA, MODERN], ids=["BERT", "DeBERTa", "ModernBERT"])
def test_int8_of_rows_of_one_length_is_exactly_that_of_each_alone(shape: ModelShape, threads: int) -> None:
    runtime = Runtime(shape, random_weights(shape), precision="int8", threads=threads)
    draw = np.random.default_rng(0)
    for tokens in (2, 3, 17, 33, 64, 127):
        fractions = tuple(float(f) for f in np.minimum.accumulate(draw.uniform(0.2, 1, SHAPE.layers)))
        rows = int(draw.integers(2, 7))
        batch = random_batch(shape, LengthConfig(fractions).lengths([tokens] * rows), [tokens] * rows, seed=tokens)
        together = runtime.run(*batch)
        for row in range(rows):
            alone = runtime.run(*(array[row : row + 1] for array in batch))
            for a, b in zip(together, alone, strict=True):
                np.testing.assert_array_equal(a[row], b[0])


def test_int8_loses_as_little_with_tokens_of_very_different_size() -> None:
    """A scale for the whole tensor would leave the small ones no steps at all."""
    shape = random_shape(layers=1, hidden=96, heads=6, feed_forward=384, vocabulary=300, positions=128)
    weights = random_weights(shape)
    weights["layers.0.attention_norm.weight"] = weights["layers.0.attention_norm.weight"] * np.float32(50)
    batch = random_batch(shape, [[100]], [100])
    exact, rounded = (Runtime(shape, weights, precision=p).run(*batch) for p in ("fp32", "int8"))
    assert np.corrcoef(exact.start[0], rounded.start[0])[0, 1] > 0.999


def test_a_rounded_tensor_is_off_by_half_a_step_at_most() -> None:
    weight = np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32)
    weight[2] = 0
    rounded = QuantizedTensor.round(weight)
    assert rounded.values.dtype == np.int8
    assert rounded.shape == weight.shape
    assert (np.abs(rounded.float32() - weight) <= rounded.scale[:, None] * 0.5001).all()
    again = QuantizedTensor.round(rounded.float32())
    np.testing.assert_array_equal(again.values, rounded.values)


def test_the_pin_reaches_programs(tmp_path: Path) -> None:
    code = "from dynamic_tinybert import QuestionAnswerer; print(QuestionAnswerer().reader.runtime.precision)"
    for value in ("fp32", "int8"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, PRECISION_VARIABLE: value},
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        assert done.stdout.strip() == value
