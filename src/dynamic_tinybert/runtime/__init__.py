"""Predict logits with drop-and-restore in ONNX Runtime, without PyTorch."""

from dynamic_tinybert.model import Precision
from dynamic_tinybert.runtime.build import build_graph
from dynamic_tinybert.runtime.session import (
    PRECISION_VARIABLE,
    Logits,
    PrecisionChoice,
    Provider,
    Runtime,
    check_threads,
    choose_precision,
    export_onnx,
    multiplies_exactly,
)

__all__ = [
    "PRECISION_VARIABLE",
    "Logits",
    "Precision",
    "PrecisionChoice",
    "Provider",
    "Runtime",
    "build_graph",
    "check_threads",
    "choose_precision",
    "export_onnx",
    "multiplies_exactly",
]
