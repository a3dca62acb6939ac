"""Build the ONNX graph of a model: choose the builder for its architecture."""

from __future__ import annotations

from dynamic_tinybert.model import ModelShape, Precision
from dynamic_tinybert.runtime.bottleneck import BottleneckBuilder
from dynamic_tinybert.runtime.disentangled import DisentangledBuilder
from dynamic_tinybert.runtime.graph import Builder, Weights
from dynamic_tinybert.runtime.modern import ModernBuilder
from dynamic_tinybert.runtime.onnx_writer import Graph


def build_graph(
    shape: ModelShape,
    weights: Weights,
    *,
    precision: Precision = "fp32",
    fused_attention: bool = True,
    packed: bool = False,
) -> Graph:
    """Build the graph of a model.

    All inputs are int64. `input_ids`, `attention_mask` and `token_type_ids` are `[batch, tokens]`; each row is filled
    from the left and padded at its end. Types are 0 for the question and 1 for the text, even if the model embeds no
    types. `lengths`, `[batch, layers]`, is how many tokens each row keeps after each layer: at least 1, and not more
    than after the layer before, nor than the row's real tokens.

    The outputs `start_logits` and `end_logits` are float32 `[batch, tokens]`, without meaning at padding.
    `layers_passed`, int64 `[batch, tokens]`, is how many layers each token passed completely.

    Args:
        shape: The sizes of the model.
        weights: Its tensors, in float32 or INT8, by their names in `dynamic_tinybert.folder`.
        precision: `int8` multiplies in INT8 in the projections. Weights have a scale for each output channel: those of
            the folder if they are stored in INT8. Activations have a scale for each token, found at run time, so a
            token's projections depend on no other token. The products are of unsigned activations and signed weights;
            see `multiplies_exactly`.
        fused_attention: Use the Attention operator of ONNX 23, the fastest in ONNX Runtime. Without it the graph
            needs only operators of ONNX 20, which other runtimes also have; in INT8 also one of ONNX Runtime's own,
            MatMulIntegerToFloat, which its WebAssembly build has.
        packed: In float32, leave the projections that are stored in INT8 as they are, and multiply them by their
            scales in the graph: a file of a quarter of the size. ONNX Runtime does it once, when it opens the graph.
    """
    builder: type[Builder] = Builder
    if shape.disentangled:
        builder = DisentangledBuilder
    elif shape.modern:
        builder = ModernBuilder
    elif shape.bottleneck:
        builder = BottleneckBuilder
    return builder(shape, weights, precision, fused_attention, packed).build()
