"""Run a model in ONNX Runtime: one session for every budget, batch and length."""

from __future__ import annotations

import ctypes
import errno
import functools
import numbers
import os
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import onnxruntime

from dynamic_tinybert.errors import warn
from dynamic_tinybert.files import native_call, processors, write_whole
from dynamic_tinybert.model import ModelShape, Precision
from dynamic_tinybert.runtime.build import build_graph
from dynamic_tinybert.runtime.graph import INPUTS, OUTPUTS, Weights
from dynamic_tinybert.runtime.onnx_writer import DEFAULT_OPSET, PORTABLE_OPSET, Graph, encode_model

if os.environ.get("ORT_DISABLE_TELEMETRY") == "1":  # if it was loaded before this package, events still can be stopped
    onnxruntime.disable_telemetry_events()

Provider: TypeAlias = "str | tuple[str, dict[str, Any]]"
PrecisionChoice: TypeAlias = Literal["auto", "fp32", "int8"]
"""What may be asked for: a precision, or `auto` (see `choose_precision`)."""

PRECISION_VARIABLE = "DYNAMIC_TINYBERT_PRECISION"
"""The environment variable that says what `auto` means, so that results can be repeated on another processor."""

_FUSED_SINCE = (1, 24)  # older ONNX Runtime's Attention has no probabilities; other providers may not have Attention
_ERRORS_ONLY = 3
_MOST_THREADS = 1024
_BATCH_TOKENS = 1024  # padded tokens; a larger batch is not faster on a CPU
# By default ONNX Runtime's threads spin for 16 to 500 ms after a run, which may take more processor time than the run.
_SPIN = ("session.intra_op.spin_duration_us", "1000")  # long enough for the next product and the next question
_SPIN_SINCE = (1, 26)
_STOP_SPINNING = ("session.force_spinning_stop", "1")  # before: at the end of a run
_LARGE = 1024  # bytes; smaller tensors are part of the serialized graph


class Logits(NamedTuple):
    """The predictions of a model for a batch.

    Attributes:
        start: Start logits, float32 `[batch, tokens]`, without meaning at padding.
        end: End logits, float32 `[batch, tokens]`, without meaning at padding.
        layers_passed: How many layers each token passed completely, int64 `[batch, tokens]`.
    """

    start: npt.NDArray[np.float32]
    end: npt.NDArray[np.float32]
    layers_passed: npt.NDArray[np.int64]


@functools.cache
def multiplies_exactly() -> bool:
    """Return whether this processor multiplies unsigned by signed 8-bit integers exactly.

    Processors with instructions for such products (VNNI, AMX, Arm's dot products) do. Others add pairs of products in
    16 bits, which overflow, or need a slower way. So this also says whether INT8 is faster than float32.
    """
    graph, inner = Graph("exact"), 64
    x = graph.input("x", np.uint8, ["rows", inner])
    y = graph.node("MatMulInteger", x, graph.weight("w", np.full((inner, inner), 127, np.int8)))
    graph.output(y, "y", np.int32, ["rows", inner])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(encode_model(graph), options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.full((8, inner), 255, np.uint8)})
    return bool((found == 255 * 127 * inner).all())


def choose_precision(
    choice: PrecisionChoice, measured: Precision, providers: Sequence[Provider] | None = None
) -> Precision:
    """Choose the precision of a model.

    Args:
        choice: `fp32` and `int8` mean themselves. `auto` is what the environment variable `DYNAMIC_TINYBERT_PRECISION`
            says. Without it, `auto` is `int8` if the model was measured in INT8, runs on the CPU, and the processor has
            instructions for it (`multiplies_exactly`); otherwise `fp32`.
        measured: The precision in which the model's table was measured.
        providers: ONNX Runtime's execution providers; by default the CPU.

    Raises:
        ValueError: The choice or the environment variable is none of the three.
    """
    name = "precision"
    if choice == "auto" and os.environ.get(PRECISION_VARIABLE):
        name, choice = PRECISION_VARIABLE, os.environ[PRECISION_VARIABLE]  # type: ignore[assignment]
    if choice not in get_args(PrecisionChoice):
        raise ValueError(f"{name} must be 'auto', 'fp32' or 'int8', not {choice!r:.50}")
    if choice != "auto":
        return choice
    first = next(iter(providers or ()), "CPUExecutionProvider")
    on_cpu = "CPUExecutionProvider" in (first, first[0])
    return "int8" if measured == "int8" and on_cpu and multiplies_exactly() else "fp32"


def check_threads(threads: int | None) -> None:
    """Check a number of threads, or None for the default.

    Raises:
        ValueError: It is out of range.
    """
    if threads is not None and (not isinstance(threads, numbers.Integral) or not 1 <= threads <= _MOST_THREADS):
        raise ValueError(f"threads must be a number from 1 to {_MOST_THREADS}, not {threads!r}")


class Runtime:
    """Question answering with drop-and-restore, in ONNX Runtime. Safe to use from many threads.

    Args:
        shape: The sizes of the model.
        weights: Its tensors, in float32 or INT8, by their names in `dynamic_tinybert.folder`.
        precision: `fp32`, the default, has the documented accuracy; or `int8` (see `build_graph`).
        threads: The number of threads of one run, from 1 to 1024; by default the number of cores.
        providers: ONNX Runtime's execution providers, in order of preference; by default the CPU.

    Raises:
        ValueError: `precision` is unknown; `threads` is out of range; this build of ONNX Runtime lacks a provider, or
            cannot use the first one here. If the CPU is in `providers` too, it is used then, with a warning.
    """

    def __init__(
        self,
        shape: ModelShape,
        weights: Weights,
        *,
        precision: Precision = "fp32",
        threads: int | None = None,
        providers: Sequence[Provider] | None = None,
    ) -> None:
        if precision not in ("fp32", "int8"):
            raise ValueError(f"precision must be 'fp32' or 'int8', not {precision!r}")
        check_threads(threads)
        if isinstance(providers, str):
            raise ValueError(f"providers must be a list of execution providers, like [{providers!r}]")
        providers = list(providers or ["CPUExecutionProvider"])
        known = onnxruntime.get_available_providers()
        names = [provider if isinstance(provider, str) else provider[0] for provider in providers]
        for name in names:
            if name not in known:
                raise ValueError(f"this ONNX Runtime has no execution provider {name!r}; it has {', '.join(known)}")
        self.shape = shape
        self.precision = precision
        self.batch_tokens = _BATCH_TOKENS
        fused = _version(onnxruntime.__version__) >= _FUSED_SINCE and names[0] == "CPUExecutionProvider"
        graph = build_graph(shape, weights, precision=precision, fused_attention=fused)
        # The large weights are not serialized or copied: the session computes with numpy's memory.
        large = [name for name, value in graph.weights.items() if value.nbytes >= _LARGE]
        kept = [onnxruntime.OrtValue.ortvalue_from_numpy(graph.weights[name]) for name in large]
        if threads is None and processors() < (os.cpu_count() or 1):  # ONNX Runtime knows no limit of a container
            threads = processors()
        self._open = functools.partial(
            _open_session,
            encode_model(graph, external=large, opset=DEFAULT_OPSET if fused else PORTABLE_OPSET),
            large,
            kept,
            threads=threads,
            exact=precision != "int8" or multiplies_exactly(),
            providers=providers,
        )
        self._lock = threading.Lock()
        self._session: Any = self._open()
        _check_provider(names, self._session.get_providers())
        _runtimes.add(self)

    def run(
        self,
        input_ids: npt.NDArray[np.int64],
        token_type_ids: npt.NDArray[np.int64],
        attention_mask: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
    ) -> Logits:
        """Predict the logits of a batch.

        Args:
            input_ids: Token ids, `[batch, tokens]`; each row is filled from the left and padded at its end.
            token_type_ids: 0 for the question and 1 for the text, `[batch, tokens]`.
            attention_mask: 1 for a token and 0 for padding, `[batch, tokens]`.
            lengths: How many tokens each row keeps after each layer, `[batch, layers]`: see `LengthConfig.lengths`.

        Raises:
            ValueError: The shapes do not fit each other or the model, a row is not filled from the left, a token id or
                type is out of range, or a length is below 1 or greater than the one before it.
        """
        values = (np.asarray(x, np.int64) for x in (input_ids, attention_mask, token_type_ids, lengths))
        feeds = dict(zip(INPUTS, values, strict=True))
        ids, mask, types, lengths = feeds.values()
        if ids.ndim != 2 or not ids.size or ids.shape[1] > self.shape.positions:
            raise ValueError(f"a batch must have rows of 1 to {self.shape.positions} tokens, not the shape {ids.shape}")
        if types.shape != ids.shape or mask.shape != ids.shape:
            raise ValueError("input_ids, token_type_ids and attention_mask differ in shape")
        if not np.isin(mask, (0, 1)).all() or (np.diff(mask, axis=1) > 0).any():
            raise ValueError(
                "attention_mask must be 1 for a row's tokens, from the left, and 0 for the padding after them"
            )
        if lengths.shape != (len(ids), self.shape.layers):
            raise ValueError(f"lengths is of shape {(len(ids), self.shape.layers)}, not {lengths.shape}")
        steps = np.diff(np.concatenate([mask.sum(1, keepdims=True), lengths], axis=1), axis=1)
        if (steps > 0).any() or (lengths < 1).any():
            raise ValueError("each length must be at least 1 and not greater than the one before it")
        kinds = self.shape.token_types if self.shape.typed else 2
        if min(ids.min(), types.min()) < 0 or ids.max() >= self.shape.vocabulary or types.max() >= kinds:
            raise ValueError(
                f"token ids must be from 0 to {self.shape.vocabulary - 1}, token types from 0 to {kinds - 1}"
            )
        session = self._session or self._open_again()
        with native_call():
            return Logits(*session.run(list(OUTPUTS), feeds))

    def _open_again(self) -> Any:
        with self._lock:
            self._session = self._session or self._open()
            return self._session

    def _forked(self) -> None:
        """Leave the session to the parent process: its threads, and what they hold, are not in this one.

        The next run opens another. The old one is never freed, which would wait for the threads, too.
        """
        self._lock = threading.Lock()
        if self._session is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
            self._session = None


_runtimes: weakref.WeakSet[Runtime] = weakref.WeakSet()


def _forked() -> None:
    for runtime in list(_runtimes):
        runtime._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _open_session(
    model: bytes,
    names: Sequence[str],
    weights: Sequence[Any],
    *,
    threads: int | None,
    exact: bool,
    providers: Sequence[Provider],
) -> Any:
    """Open a session of ONNX Runtime for a serialized graph and its large weights."""
    options = onnxruntime.SessionOptions()
    # ONNX Runtime 1.31 infers a wrong (empty) shape for Attention's probabilities and would warn in each run.
    options.log_severity_level = _ERRORS_ONLY
    if threads is not None:
        options.intra_op_num_threads = int(threads)
    options.add_session_config_entry(*(_SPIN if _version(onnxruntime.__version__) >= _SPIN_SINCE else _STOP_SPINNING))
    if not exact:
        options.add_session_config_entry("session.x64quantprecision", "1")  # exact, though slower
    options.add_external_initializers(list(names), list(weights))  # for code that reads values while it is opened
    for name, value in zip(names, weights, strict=True):
        options.add_initializer(name, value)
    return onnxruntime.InferenceSession(model, options, providers=list(providers))


def _check_provider(wanted: Sequence[str], active: Sequence[str]) -> None:
    """Check that a session uses the provider that is wanted first: ONNX Runtime falls back to the CPU in silence.

    Raises:
        ValueError: It does not, and the CPU is not wanted.
    """
    if wanted[0] in active:
        return
    why = f"{wanted[0]} cannot be used here: its driver or libraries are missing or of another version"
    if "CPUExecutionProvider" not in wanted:
        raise ValueError(f"{why}; to use the CPU, leave providers out")
    warn(f"{why}; the model runs on the CPU")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])


def export_onnx(
    shape: ModelShape,
    weights: Weights,
    path: str | os.PathLike[str],
    *,
    precision: Precision = "fp32",
    packed: bool = False,
) -> None:
    """Write a model as one ONNX file, graph and weights.

    In float32 it is for any runtime that supports ONNX 20, in INT8 for ONNX Runtime. See `build_graph`.

    Raises:
        OSError: The file cannot be written.
    """
    path = Path(path)
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file to write", str(path))
    graph = build_graph(shape, weights, precision=precision, fused_attention=False, packed=packed)
    write_whole(path, encode_model(graph, opset=PORTABLE_OPSET))
