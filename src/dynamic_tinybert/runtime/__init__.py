"""Predict logits with drop-and-restore in ONNX Runtime, without PyTorch."""

from dynamic_tinybert.runtime.graph import Precision, build_graph
from dynamic_tinybert.runtime.session import Logits, Provider, Runtime, export_onnx

__all__ = ["Logits", "Precision", "Provider", "Runtime", "build_graph", "export_onnx"]
