"""The session: what it takes, what it refuses, from many threads; and the file that other runtimes read."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from dynamic_tinybert.folder import open_folder
from dynamic_tinybert.model import LengthConfig
from dynamic_tinybert.runtime import Logits, Runtime, export_onnx
from dynamic_tinybert.runtime.graph import INPUTS
from support.runtime_reference import (
    Batch,
    assert_equals_reference,
    random_batch,
    random_shape,
    random_weights,
    rows_of,
)

SHAPE = random_shape(layers=3, hidden=24, heads=3, feed_forward=48, positions=40)
WEIGHTS = random_weights(SHAPE)
CONFIG = LengthConfig((1.0, 0.7, 0.4))
TOKENS = (2, 30, 3, 12)


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return Runtime(SHAPE, WEIGHTS, threads=1)


def sample(tokens: tuple[int, ...] = TOKENS, config: LengthConfig = CONFIG, **options: Any) -> Batch:
    return random_batch(SHAPE, config.lengths(tokens), tokens, **options)


def assert_same(one: Logits, other: Logits, batch: Batch, *, tolerance: float = 1e-4) -> None:
    real = batch.attention_mask == 1
    np.testing.assert_array_equal(one.layers_passed[real], other.layers_passed[real])
    for a, b in zip(one[:2], other[:2], strict=True):
        np.testing.assert_allclose(a[real], b[real], rtol=0, atol=tolerance)


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


# Running.


def test_logits_have_names_types_and_shapes(runtime: Runtime) -> None:
    logits = runtime.run(*sample(extra=2))
    for value in (logits.start, logits.end):
        assert value.dtype == np.float32
        assert value.shape == (4, 32)
    assert logits.layers_passed.dtype == np.int64
    assert logits.layers_passed.shape == (4, 32)


def test_one_runtime_serves_every_budget_batch_and_length(runtime: Runtime) -> None:
    for tokens in ((40,), (1,), (2, 2, 2), (7, 40, 1), TOKENS):
        for config in (LengthConfig.full(3), CONFIG, LengthConfig((0.1, 0.1, 0.1))):
            batch = sample(tokens, config)
            assert_equals_reference(SHAPE, WEIGHTS, batch, runtime.run(*batch))


def test_the_arguments_are_as_documented(runtime: Runtime) -> None:
    batch = sample()
    assert_same(runtime.run(**batch._asdict()), runtime.run(*batch), batch, tolerance=0)


def test_a_run_leaves_its_input_alone_and_repeats(runtime: Runtime) -> None:
    batch = sample(extra=1)
    before = [value.copy() for value in batch]
    first, second = runtime.run(*batch), runtime.run(*batch)
    assert_same(first, second, batch, tolerance=0)
    for value, was in zip(batch, before, strict=True):
        np.testing.assert_array_equal(value, was)


@pytest.mark.parametrize("dtype", [np.int32, np.int16, ">i8", np.uint8, np.uint64])
def test_other_integers_do_too(runtime: Runtime, dtype: Any) -> None:
    batch = sample()
    got = runtime.run(*(value.astype(dtype) for value in batch))
    assert_same(got, runtime.run(*batch), batch, tolerance=0)


def test_a_mask_of_truth_values_does_too(runtime: Runtime) -> None:
    batch = sample()
    got = runtime.run(*batch._replace(attention_mask=batch.attention_mask.astype(bool)))
    assert_same(got, runtime.run(*batch), batch, tolerance=0)


def test_arrays_in_any_memory_order_do_too(runtime: Runtime) -> None:
    batch = sample()
    wanted = runtime.run(*batch)
    assert_same(runtime.run(*(np.asfortranarray(value) for value in batch)), wanted, batch, tolerance=0)
    wide = [np.repeat(value, 2, axis=1)[:, ::2] for value in batch]
    assert_same(runtime.run(*wide), wanted, batch, tolerance=0)


@pytest.mark.parametrize("threads", [1, 2, 3, None])
def test_the_number_of_threads_changes_nothing(runtime: Runtime, threads: int | None) -> None:
    batch = sample()
    assert_same(Runtime(SHAPE, WEIGHTS, threads=threads).run(*batch), runtime.run(*batch), batch, tolerance=1e-5)


def test_a_model_of_small_weights_only() -> None:
    shape = random_shape(layers=1, hidden=4, heads=2, feed_forward=3, vocabulary=5, positions=8)
    weights = random_weights(shape)
    assert max(value.nbytes for value in weights.values()) < 200
    batch = random_batch(shape, [[2], [5]], [3, 8])
    assert_equals_reference(shape, weights, batch, Runtime(shape, weights).run(*batch))


def test_the_weights_live_as_long_as_the_runtime() -> None:
    shape = random_shape(layers=2, hidden=64, vocabulary=2000)
    batch = random_batch(shape, [[20, 10]], [30])
    weights = random_weights(shape)
    runtime = Runtime(shape, weights)
    wanted = runtime.run(*batch)
    del weights
    gc.collect()
    hoard = [np.full((2000, 64), np.nan, np.float32) for _ in range(20)]  # over what would have been freed
    assert_same(runtime.run(*batch), wanted, batch, tolerance=0)
    assert len(hoard) == 20


def test_weights_may_lie_in_any_memory_order() -> None:
    weights = {name: np.asfortranarray(value) for name, value in WEIGHTS.items()}
    batch = sample()
    assert_equals_reference(SHAPE, WEIGHTS, batch, Runtime(SHAPE, weights).run(*batch))


def test_int8_runs_and_is_near_fp32() -> None:
    shape = random_shape(layers=2, hidden=64, heads=4, feed_forward=128)
    weights = random_weights(shape)
    batch = random_batch(shape, [[40, 40]], [40])
    exact, rounded = (Runtime(shape, weights, precision=precision).run(*batch) for precision in ("fp32", "int8"))
    assert_same(exact, rounded, batch, tolerance=0.3 * float(exact.start.std()))
    assert (exact.start != rounded.start).any()


def test_a_provider_may_come_with_options() -> None:
    batch = sample()
    runtime = Runtime(SHAPE, WEIGHTS, providers=[("CPUExecutionProvider", {})])
    assert_equals_reference(SHAPE, WEIGHTS, batch, runtime.run(*batch))


@pytest.mark.slow
def test_the_embedded_model_does_not_mind_its_neighbours() -> None:
    """Trained weights, real proportions: a short row is held to the reference, all rows to themselves alone."""
    folder = open_folder()
    runtime = Runtime(folder.shape, folder.weights, threads=1)
    tokens = (40, 384, 2, 160, 3)
    layers = folder.shape.layers
    for config in (LengthConfig.full(layers), LengthConfig.uniform(layers, 0.8)):
        batch = random_batch(folder.shape, config.lengths(tokens), tokens)
        together = runtime.run(*batch)
        for row, alone in enumerate(rows_of(batch)):
            own = Logits(*(value[row : row + 1, : tokens[row]] for value in together))
            assert_same(runtime.run(*alone), own, alone)
            if row == 0:
                assert_equals_reference(folder.shape, folder.weights, alone, own)


# Refusing.


def ones(*shape: int) -> Any:
    return np.ones(shape, np.int64)


GOOD = {
    "input_ids": ones(2, 6),
    "token_type_ids": ones(2, 6),
    "attention_mask": np.array([[1] * 6, [1] * 4 + [0] * 2]),
    "lengths": np.array([[6, 4, 4], [4, 2, 2]]),
}

BAD: dict[str, dict[str, Any]] = {
    "one row without a batch": dict.fromkeys(("input_ids", "token_type_ids", "attention_mask"), ones(6)),
    "three dimensions": dict.fromkeys(("input_ids", "token_type_ids", "attention_mask"), ones(1, 2, 6)),
    "no rows": {
        **dict.fromkeys(("input_ids", "token_type_ids", "attention_mask"), ones(0, 6)),
        "lengths": ones(0, 3),
    },
    "no tokens": dict.fromkeys(("input_ids", "token_type_ids", "attention_mask"), ones(2, 0)),
    "more tokens than positions": dict.fromkeys(("input_ids", "token_type_ids", "attention_mask"), ones(2, 41)),
    "fewer types": {"token_type_ids": ones(2, 5)},
    "types of one row": {"token_type_ids": ones(1, 6)},
    "types without a batch": {"token_type_ids": ones(6)},
    "more mask": {"attention_mask": ones(2, 7)},
    "mask of one row": {"attention_mask": ones(1, 6)},
    "a row of padding": {"attention_mask": np.array([[1] * 6, [0] * 6])},
    "lengths of one row": {"lengths": np.array([[6, 4, 4]])},
    "lengths without a batch": {"lengths": np.array([4, 4, 2])},
    "too few lengths": {"lengths": np.array([[6, 4], [4, 2]])},
    "too many lengths": {"lengths": np.array([[6, 4, 4, 4], [4, 2, 2, 2]])},
    "growing lengths": {"lengths": np.array([[6, 4, 5], [4, 2, 2]])},
    "lengths growing in one row only": {"lengths": np.array([[6, 4, 4], [3, 4, 2]])},
    "longer than the row": {"lengths": np.array([[6, 4, 4], [5, 2, 2]])},
    "longer than the batch": {"lengths": np.array([[7, 4, 4], [4, 2, 2]])},
    "a length of 0": {"lengths": np.array([[6, 4, 4], [4, 2, 0]])},
    "a negative length": {"lengths": np.array([[6, 4, 4], [4, 2, -1]])},
}


def test_the_good_batch_is_good(runtime: Runtime) -> None:
    assert runtime.run(**GOOD).start.shape == (2, 6)


@pytest.mark.parametrize("changes", BAD.values(), ids=BAD.keys())
def test_a_bad_batch_is_refused_in_one_line(runtime: Runtime, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        runtime.run(**{**GOOD, **changes})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["one row without a batch", "three dimensions"])
def test_a_batch_of_other_dimensions_is_refused_in_words(runtime: Runtime, name: str) -> None:
    with pytest.raises(ValueError, match="batch"):
        runtime.run(**{**GOOD, **BAD[name]})


@pytest.mark.parametrize("row", [[0, 0, 1, 1, 1, 1], [1, 1, 0, 0, 1, 1]])
def test_a_row_that_is_not_filled_from_the_left_is_refused(runtime: Runtime, row: list[int]) -> None:
    with pytest.raises(ValueError, match="left"):
        runtime.run(**{**GOOD, "attention_mask": np.array([[1] * 6, row])})


def test_a_refused_batch_leaves_the_runtime_usable(runtime: Runtime) -> None:
    batch = sample()
    before = runtime.run(*batch)
    for changes in ({"lengths": ones(1, 1)}, {"input_ids": ones(2, 6) * SHAPE.vocabulary}):
        with pytest.raises(Exception, match=r"\w"):
            runtime.run(**{**GOOD, **changes})
    assert_same(runtime.run(*batch), before, batch, tolerance=0)


@pytest.mark.parametrize("options", [
    {"precision": "fp16"}, {"precision": "INT8"}, {"precision": ""}, {"precision": None},
    {"threads": 0}, {"threads": -1},
    {"providers": ["NoSuchExecutionProvider"]}, {"providers": ["CPUExecutionProvider", "NoSuchExecutionProvider"]},
    {"providers": [("NoSuchExecutionProvider", {"device_id": 0})]},
])  # fmt: skip
def test_an_unknown_option_is_refused_in_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        Runtime(SHAPE, WEIGHTS, **options)
    assert "\n" not in str(caught.value)


def test_who_asks_for_an_unknown_provider_is_told_which_there_are() -> None:
    with pytest.raises(ValueError, match=r"NoSuch.*CPUExecutionProvider"):
        Runtime(SHAPE, WEIGHTS, providers=["NoSuch"])


def test_a_fall_back_to_the_cpu_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the wheel has CUDA and the machine has not."""
    there = [*onnxruntime.get_available_providers(), "CUDAExecutionProvider"]
    if there.count("CUDAExecutionProvider") > 1:
        pytest.skip("has CUDA")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=r"CUDAExecutionProvider cannot be used here.*leave providers out"):
            Runtime(SHAPE, WEIGHTS, providers=["CUDAExecutionProvider"])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        Runtime(SHAPE, WEIGHTS, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert any("CUDAExecutionProvider cannot be used here" in str(one.message) for one in said)


@pytest.mark.skipif("CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="needs a GPU")
def test_a_gpu_computes_the_same() -> None:
    batch = (GOOD["input_ids"], GOOD["token_type_ids"], GOOD["attention_mask"], GOOD["lengths"])
    here, there = (Runtime(SHAPE, WEIGHTS, providers=names).run(*batch) for names in (None, ["CUDAExecutionProvider"]))
    np.testing.assert_allclose(there.start, here.start, atol=1e-3)


# From many threads.


def test_one_runtime_is_safe_in_many_threads() -> None:
    runtime = Runtime(SHAPE, WEIGHTS, threads=2)
    configs = [LengthConfig.full(3), CONFIG, LengthConfig((0.3, 0.3, 0.2))]
    batches = [
        sample(tokens, config, seed=seed)
        for seed, tokens in enumerate([(40,), (2, 3), (1, 39, 20), (17,) * 4])
        for config in configs
    ]
    wanted = [runtime.run(*batch) for batch in batches]
    tasks = [i for _ in range(25) for i in range(len(batches))]
    with ThreadPoolExecutor(8) as pool:
        for i, got in zip(tasks, pool.map(lambda i: runtime.run(*batches[i]), tasks), strict=True):
            assert_same(got, wanted[i], batches[i], tolerance=1e-5)


# The exported file.


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export_onnx(SHAPE, WEIGHTS, path)
    return path


def portable(path: Path) -> Callable[[Batch], Logits]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(batch: Batch) -> Logits:
        ids, types, mask, lengths = batch
        feeds = dict(zip(INPUTS, (ids, mask, types, lengths), strict=True))
        return Logits(*session.run(["start_logits", "end_logits", "layers_passed"], feeds))

    return run


def test_the_exported_file_is_one_that_the_checker_passes(exported: Path) -> None:
    onnx.checker.check_model(str(exported), full_check=True)
    assert list(exported.parent.iterdir()) == [exported]
    model = onnx.load(exported, load_external_data=False)
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)


def test_the_exported_file_needs_only_operators_of_onnx_20(exported: Path) -> None:
    model = onnx.load(exported)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 20
    pending, seen = [model.graph], set()
    for graph in pending:
        for node in graph.node:
            assert node.domain == ""
            assert onnx.defs.get_schema(node.op_type, 20)
            seen.add(node.op_type)
            pending += [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
    assert "Attention" not in seen


@pytest.mark.parametrize("config", [LengthConfig.full(3), CONFIG, LengthConfig((0.2, 0.2, 0.2))])
def test_the_exported_file_equals_the_runtime(exported: Path, runtime: Runtime, config: LengthConfig) -> None:
    batch = sample(config=config, extra=3)
    got = portable(exported)(batch)
    assert_same(got, runtime.run(*batch), batch)
    assert_equals_reference(SHAPE, WEIGHTS, batch, got)


SILENT = """
import os, sys
import numpy as np
import onnxruntime
# What ONNX Runtime says of the machine, it says before this line; what comes after is about the model.
warm = sys.argv[2]
onnxruntime.InferenceSession(warm, providers=["CPUExecutionProvider"])
os.write(2, b"BEGIN\\n")
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
for lengths in ([[9, 9, 9], [5, 5, 5]], [[9, 6, 2], [5, 3, 2]], [[9, 9, 9], [9, 9, 9]], [[3, 2, 2], [9, 9, 4]]):
    lengths = np.array(lengths)
    mask = (np.arange(11) < lengths.max(1, keepdims=True)).astype(np.int64)
    ids = np.arange(22).reshape(2, 11)
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": mask, "lengths": lengths}
    outputs = session.run(None, feeds)
    assert all(np.isfinite(value).all() for value in outputs)
print("ran")
"""


def trivial(path: Path) -> Path:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Neg", ["x"], ["y"])], "g", [value("x", 1, [1])], [value("y", 1, [1])]
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def test_the_exported_file_runs_in_plain_onnx_runtime_without_a_warning(exported: Path, tmp_path: Path) -> None:
    done = python(SILENT, exported, trivial(tmp_path / "trivial.onnx"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "ran"
    assert done.stderr.partition("BEGIN\n")[2] == ""


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"what was there before" * 100_000)
    export_onnx(SHAPE, WEIGHTS, str(path))
    onnx.checker.check_model(str(path))
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_of_any_kind_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["ohne endung", "東京 .onnx", ".hidden"]
    for name in names:
        export_onnx(SHAPE, WEIGHTS, name)
        onnx.checker.check_model(Path(name).read_bytes())
    assert {path.name for path in tmp_path.iterdir()} == set(names)


@pytest.mark.parametrize("name", ["missing/model.onnx", "file/model.onnx", "folder", "a" * 300])
def test_where_nothing_can_be_written_nothing_is_left(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"a file")
    (tmp_path / "folder").mkdir()
    before = {path: path.is_file() for path in tmp_path.rglob("*")}
    with pytest.raises(OSError, match=r"\w"):
        export_onnx(SHAPE, WEIGHTS, tmp_path / name)
    assert {path: path.is_file() for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("name", [".", "", "/"])
def test_a_path_without_a_name_cannot_be_written(name: str) -> None:
    with pytest.raises(OSError, match=r"\w"):
        export_onnx(SHAPE, WEIGHTS, name)


FULL_DISK = """
import resource, sys
from support.runtime_reference import random_weights
from dynamic_tinybert.model.shape import ModelShape
from dynamic_tinybert.runtime import export_onnx
shape = eval(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    export_onnx(shape, random_weights(shape), sys.argv[1])
except OSError as error:
    print("refused", error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files, which Windows cannot")
@pytest.mark.parametrize("existing", [b"the model before", None])
def test_a_file_half_written_is_not_left_behind(tmp_path: Path, existing: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    if existing is not None:
        path.write_bytes(existing)
    done = python(FULL_DISK, path, repr(SHAPE))
    assert done.stdout.startswith("refused"), done.stderr
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([] if existing is None else [existing])


def test_two_exports_to_one_path_both_succeed(tmp_path: Path) -> None:
    shape = random_shape(hidden=64, vocabulary=20000)
    weights = random_weights(shape)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(export_onnx, shape, weights, tmp_path / "model.onnx") for _ in range(24)]:
            done.result()
    assert list(tmp_path.iterdir()) == [tmp_path / "model.onnx"]


# What answering needs.


LEAN = """
import sys
import numpy as np
from support.runtime_reference import random_batch, random_shape, random_weights
import dynamic_tinybert.runtime, dynamic_tinybert.model.budget
heavy = {"torch", "transformers", "onnx", "onnxscript", "google.protobuf", "tensorflow", "optuna", "fastapi"}
shape = random_shape()
weights = random_weights(shape)
config = dynamic_tinybert.model.budget.LengthConfig((0.8, 0.5))
batch = random_batch(shape, config.lengths([9, 4]), [9, 4])
for precision in ("fp32", "int8"):
    runtime = dynamic_tinybert.runtime.Runtime(shape, weights, precision=precision)
    runtime.run(*batch)
dynamic_tinybert.runtime.export_onnx(shape, weights, sys.argv[1])
print("heavy:", *sorted(heavy & sys.modules.keys()))
"""


def test_running_and_exporting_import_neither_torch_nor_transformers_nor_onnx(tmp_path: Path) -> None:
    done = python(LEAN, tmp_path / "model.onnx")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "heavy:"


def test_a_runtime_says_nothing_on_standard_error(tmp_path: Path) -> None:
    done = python(LEAN, tmp_path / "model.onnx")
    about_the_model = [line for line in done.stderr.splitlines() if "device_discovery" not in line]
    assert about_the_model == []


def test_budgets_need_numpy_only() -> None:
    heavy = {"onnxruntime", "tokenizers", "torch"}
    code = f"import sys, dynamic_tinybert.model.budget; print(*({heavy} & sys.modules.keys()))"
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
