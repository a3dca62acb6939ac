"""Make a stage compute fast: in bfloat16 if the processor supports it, and without giving memory back."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch.func import functional_call

from dynamic_tinybert.train.settings import LogitsStage, Stage

_FLOAT32 = ("embeddings.", "LayerNorm.", "significance_head")  # parts of the names of weights that stay in float32
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h
_NEVER = 2**31 - 1
_VALUES = 2**16  # of which a random number of `FastDropout` takes one
_PAD = 64 << 20  # bytes by which the heap grows
_JEMALLOC_PURGE = b"arena.4096.purge"  # of all arenas: MALLCTL_ARENAS_ALL


class InBfloat16:
    """Call a model with its weights and states in bfloat16; the model itself keeps float32.

    Embeddings and layer norms keep float32 weights: their gradients are sums over all tokens of a batch, and PyTorch
    computes these sums in the precision of the weight. Their outputs are bfloat16 again: see `DropAndRestore`.

    The optimizer and the checkpoints use only the float32 weights, and gradients reach them in float32 (mixed precision
    training with float32 master weights, Micikevicius et al., 2018, arXiv 1710.03740). Automatic mixed precision keeps
    sums, norms and embeddings in float32, which costs memory traffic on a CPU.

    Args:
        model: A module. The call goes through its own `forward`, so hooks on its parts see every call.
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


class FastDropout(torch.nn.Dropout):  # type: ignore[misc]
    """`torch.nn.Dropout` whose random numbers take a seventh of the time on a CPU.

    PyTorch draws 64 random bits for each value, in one thread unless the processor is Intel's. Here four values share
    them: the rate is rounded to a multiple of 2^-16.
    """

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Set values to 0 at the rate `p`, and divide the others by 1 - `p`."""
        dropped = round(self.p * _VALUES)
        if not self.training or states.device.type != "cpu" or not 0 < dropped < _VALUES:
            return super().forward(states)
        drawn = torch.empty(-(-states.numel() // 4), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
        values = drawn.view(torch.int16)[: states.numel()].view(states.shape)
        kept = torch.ge(values, dropped - _VALUES // 2, out=torch.empty(states.shape, dtype=states.dtype))
        return states * kept.mul_(_VALUES / (_VALUES - dropped))


def speed_up_dropout(model: torch.nn.Module) -> None:
    """Replace each `torch.nn.Dropout` in a model by `FastDropout`."""
    for module in model.modules():
        for name, part in module.named_children():
            if type(part) is torch.nn.Dropout:
                setattr(module, name, FastDropout(part.p).train(part.training))


def uses_bf16(stage: Stage | LogitsStage) -> bool:
    """Return whether a stage computes in bfloat16 on this machine."""
    if stage.precision == "auto":
        gpu = torch.cuda.is_available() and PartialState().device.type == "cuda"
        return bool(torch.cuda.is_bf16_supported()) if gpu else cpu_has_bf16()
    return stage.precision == "bf16"


def cpu_has_bf16() -> bool:
    """Return whether this CPU multiplies in bfloat16 (AVX512-BF16 or AMX): at least about twice as fast as float32."""
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(supported is not None and supported() for supported in asked)


def keep_freed_memory() -> bool:
    """Make the C library keep the memory that a training step frees, for the next step.

    A step allocates and frees hundreds of megabytes. By default, glibc returns large blocks to the system at once, and
    the system clears them page by page for the next step. This takes a tenth of a step's time on a CPU, and up to a
    third on a fast CPU. Afterwards the process shrinks only by `return_freed_memory`, so use this only for training.

    Returns:
        Whether it was possible; it needs Linux with glibc.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER, _M_TOP_PAD: _PAD}
    return all(mallopt(option, value) == 1 for option, value in settings.items())


def return_freed_memory(share: float = 0.5) -> bool:
    """Give kept memory back to the system if the process holds more than a share of the machine's memory.

    Batches differ in shape, so freed blocks do not always fit the next step, and a process that keeps them grows for
    hours, until the machine swaps.

    Args:
        share: The share of the machine's memory, in [0, 1).

    Returns:
        Whether memory was given back; this needs Linux, with glibc or jemalloc.
    """
    if sys.platform != "linux":
        return False
    held = int(Path("/proc/self/statm").read_text().split()[1])
    if held <= share * os.sysconf("SC_PHYS_PAGES"):
        return False
    library = ctypes.CDLL(None)
    if hasattr(library, "mallctl"):  # jemalloc, which may be loaded before glibc
        return bool(library.mallctl(_JEMALLOC_PURGE, None, None, None, ctypes.c_size_t(0)) == 0)
    return bool(hasattr(library, "malloc_trim") and library.malloc_trim(ctypes.c_size_t(0)))
