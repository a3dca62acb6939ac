"""Translate arguments that are meant for PyTorch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import onnxruntime

from dynamic_tinybert.errors import warn
from dynamic_tinybert.runtime import Provider

_FOR_LOADING = ("revision", "cache_dir", "local_files_only", "token")


def check_dtype(dtype: object) -> None:
    """Warn if a PyTorch dtype is not float32, because arithmetic is in float32."""
    name = "float32" if dtype is None else str(dtype).rpartition(".")[2]
    if name not in ("auto", "float32", "float", "None"):
        warn(f"the arithmetic is float32, not {name}; precision='int8' is faster")


def loading_options(
    model_kwargs: Mapping[str, Any], *, revision: str | None, token: str | bool | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide `model_kwargs` into options that open a model and the rest; warn of options that have no effect."""
    given = {**model_kwargs, **{k: v for k, v in (("revision", revision), ("token", token)) if v is not None}}
    loading = {name: given.pop(name) for name in _FOR_LOADING if name in given}
    if isinstance(loading.get("token"), bool):  # True means the stored token, which is the default
        del loading["token"]
    if ignored := sorted(set(given) - {"dtype", "torch_dtype"}):
        warn(f"model_kwargs {', '.join(ignored)} have no effect without PyTorch")
    return loading, given


def providers_of(device: object) -> list[Provider] | None:
    """Return the execution providers for PyTorch's name or number of a device.

    Raises:
        ValueError: The device is neither the CPU nor CUDA.
    """
    if device is None or device == -1 or str(device) == "cpu":
        return None
    if isinstance(device, int) and not isinstance(device, bool) and device >= 0:
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            warn(f"device {device}: this ONNX Runtime has no CUDA, so the CPU answers; onnxruntime-gpu has it")
            return None
        device = f"cuda:{device}"
    found = re.fullmatch(r"cuda(?::(\d+))?", str(device))
    if not found:
        raise ValueError(
            f"device must be 'cpu', 'cuda' or 'cuda:N', not {device!r:.50}: for other devices give providers"
        )
    return [("CUDAExecutionProvider", {"device_id": int(found[1] or 0)}), "CPUExecutionProvider"]
