"""How fast a stage computes: in bfloat16 where the processor multiplies it, and in memory that is kept."""

from __future__ import annotations

import ctypes
import platform
import sys
from typing import Any

import torch
from accelerate import PartialState
from torch.func import functional_call

from dynamic_tinybert.train.settings import LogitsStage, Stage

_FLOAT32 = ("embeddings.", "LayerNorm.")  # in the names of what stays in float32
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h
_NEVER = 2**31 - 1
_PAD = 64 << 20  # bytes that the heap grows by at once


class InBfloat16:
    """Calls a model with its weights and states in bfloat16; the model itself keeps float32.

    Embeddings and layer norms keep float32 weights: their gradients are sums over all tokens of a batch, which PyTorch
    adds up in the precision of the weight. What they give out is bfloat16 again: see `DropAndRestore`.

    The optimizer, the checkpoints and what is saved see the float32 weights alone, and gradients reach them in float32
    (mixed precision training with float32 master weights, Micikevicius et al., 2018, arXiv 1710.03740). Automatic mixed
    precision leaves sums, norms and embeddings in float32; on a CPU these cost memory traffic.

    Args:
        model: A module. It is called through its own `forward`, so hooks on its parts see every call.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Call the model."""
        weights = {
            name: weight if any(part in name for part in _FLOAT32) else weight.to(torch.bfloat16)
            for name, weight in self._model.named_parameters()
        }
        return functional_call(self._model, weights, args, options)


def uses_bf16(stage: Stage | LogitsStage) -> bool:
    """Whether a stage computes in bfloat16 here."""
    if stage.precision == "auto":
        gpu = torch.cuda.is_available() and PartialState().device.type == "cuda"
        return bool(torch.cuda.is_bf16_supported()) if gpu else cpu_has_bf16()
    return stage.precision == "bf16"


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies in bfloat16 (AVX512-BF16 or AMX): about twice as fast as in float32, or more."""
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(supported is not None and supported() for supported in asked)


def keep_freed_memory() -> bool:
    """Let the C library keep the memory that a training step frees, for the next step.

    A step allocates and frees hundreds of megabytes. By default glibc gives large blocks back to the system at once,
    and the system clears them page by page when the next step asks again: a tenth of the time of a step on a CPU, and
    up to a third on a fast one. The process then never grows smaller, so this is for training alone.

    Returns:
        Whether it was possible: on Linux with glibc.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER, _M_TOP_PAD: _PAD}
    return all(mallopt(option, value) == 1 for option, value in settings.items())
