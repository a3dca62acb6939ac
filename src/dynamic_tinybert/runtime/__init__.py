"""The runtime: BERT question answering with drop-and-restore, from weights to logits, without PyTorch."""

from dynamic_tinybert.runtime.graph import build_graph
from dynamic_tinybert.runtime.session import Logits, Runtime, export_onnx

__all__ = ["Logits", "Runtime", "build_graph", "export_onnx"]
