"""The graph of ModernBERT: norms before the halves of a layer, rotated queries and keys, local attention.

The architecture is that of Warner et al. (2024, arXiv 2412.13663). Queries and keys are rotated by the tokens' places
in the sequence (RoFormer, Su et al., 2021, arXiv 2104.09864), and local attention is between near places. Both stay
right after tokens were dropped.

A token's logits come from a norm and a prediction head. To compute these once for each token, the findings of a dropped
token are its state; all tokens' states go through the head at the end.
"""

from __future__ import annotations

import numpy as np

from dynamic_tinybert.model import ModelShape, Modern, Precision
from dynamic_tinybert.runtime.graph import MASKED, Builder, State, Weights
from dynamic_tinybert.runtime.onnx_writer import Graph
from dynamic_tinybert.runtime.positions import rotary_angles


class ModernBuilder(Builder):
    """Build the graph of a ModernBERT."""

    def __init__(
        self, shape: ModelShape, weights: Weights, precision: Precision, fused_attention: bool, packed: bool = False
    ) -> None:
        super().__init__(shape, weights, precision, fused_attention, packed)
        self.found_width = shape.hidden + 1

    @property
    def modern(self) -> Modern:
        """What is different in this architecture."""
        assert self.shape.modern is not None
        return self.shape.modern

    # The weights.

    def norm_weights(self, name: str) -> None:
        """Add the weights of a norm, whose bias may be missing."""
        self.weight(f"{name}.weight")
        if self.modern.norm_bias:
            self.weight(f"{name}.bias")

    def layer_weights(self, number: int) -> str:
        """Add a layer's weights. Return the prefix of their names."""
        name, hidden = f"layers.{number}", self.shape.hidden
        factor = np.ones(3 * hidden, np.float32)
        factor[:hidden] = self.scale  # of the queries
        self.projection_weights(f"{name}.query_key_value", factor)
        for part in ("attention_output", "intermediate", "output"):
            self.projection_weights(f"{name}.{part}")
        value = np.zeros(hidden, np.float32)
        if self.modern.attention_bias:  # the value's bias is part of the output's: probabilities add up to 1
            query, key, value = np.split(self.float32(f"{name}.query_key_value.bias") * factor, 3)
            self.weight(f"{name}.query_key_value.bias", np.concatenate([query, key, np.zeros_like(value)]))
            mixed = self.float32(f"{name}.attention_output.weight") @ value
            self.weight(f"{name}.attention_output.bias", self.float32(f"{name}.attention_output.bias") + mixed)
        self.significance_weights(name, value)
        if self.modern.feed_forward_bias:
            self.weight(f"{name}.intermediate.bias")
            self.weight(f"{name}.output.bias")
        if number:
            self.norm_weights(f"{name}.attention_norm")
        self.norm_weights(f"{name}.feed_forward_norm")
        return name

    def head_weights(self) -> None:
        """Add the weights of the last norm and the prediction head."""
        self.norm_weights("final_norm")
        self.projection_weights("head.dense")
        if self.modern.head_bias:
            self.weight("head.dense.bias")
        self.norm_weights("head.norm")
        self.span = self.weight("span.matrix", self.float32("span.weight").T)
        self.weight("span.bias")

    def distance_weights(self) -> bool:
        """Add the angles of rotation. Return whether any layer has local attention."""
        for base in dict.fromkeys(self.modern.bases):
            angles = rotary_angles(base, self.shape.hidden // self.shape.heads, self.shape.positions)
            for part, values in zip(("cos", "sin"), (np.cos(angles), np.sin(angles)), strict=True):
                self.weight(f"rotary.{base}.{part}", values)
        return any(self.modern.local)

    # The graph.

    def linear(self, x: str, name: str, biased: bool) -> str:
        """Project `x` [batch, slots, width], and add the projection's bias if there is one."""
        x = self.project(self.g, self.prepare(self.g, x), name)
        return self.g.node("Add", x, f"{name}.bias") if biased else x

    def norm(self, g: Graph, x: str, name: str) -> str:
        """Compute a layer normalization, whose bias may be missing."""
        bias = [f"{name}.bias"] if self.modern.norm_bias else []
        epsilon = float(self.shape.norm_epsilon)
        return g.node("LayerNormalization", x, f"{name}.weight", *bias, axis=-1, epsilon=epsilon)

    def embeddings(self, ids: str, types: str, slots: str) -> str:
        """Look up the words and norm them: [batch, tokens, hidden]."""
        self.norm_weights("embeddings.norm")
        return self.norm(self.g, self.word_embeddings(ids), "embeddings.norm")

    def apart(self, g: Graph, positions: str) -> str:
        """Compute the bias of local attention for `positions` [rows, slots]: [rows, 1, slots, slots]."""
        queries, keys = (g.node("Unsqueeze", positions, g.constant(axes)) for axes in ([1, 3], [1, 2]))
        near = g.node("LessOrEqual", g.node("Abs", g.node("Sub", queries, keys)), g.constant(self.modern.reach))
        return g.node("Where", near, g.constant(0, np.float32), g.constant(MASKED, np.float32))

    def attention_inputs(self, name: str, state: State) -> list[str]:
        """Compute queries, keys and values, [batch, slots, hidden] each."""
        number = int(name.rpartition(".")[2])
        x = self.norm(self.g, state.x, f"{name}.attention_norm") if number else state.x
        x = self.linear(x, f"{name}.query_key_value", self.modern.attention_bias)
        query, key, value = self.g.nodes("Split", x, outputs=3, axis=2, num_outputs=3)
        positions = self.g.node("Sub", state.place, self.begin)
        return [*(self.rotate(part, positions, self.modern.bases[number]) for part in (query, key)), value]

    def rotate(self, x: str, positions: str, base: float) -> str:
        """Rotate queries or keys [batch, slots, hidden] by their tokens' positions [batch, slots]."""
        g, tables = self.g, [f"rotary.{base}.{part}" for part in ("cos", "sin")]
        heads, size = self.shape.heads, self.shape.hidden // self.shape.heads
        if self.fused_attention:
            return g.node("RotaryEmbedding", x, *tables, positions, num_heads=heads)
        cos, sin = (g.node("Unsqueeze", g.node("Gather", table, positions), g.constant([2])) for table in tables)
        x = g.node("Reshape", x, g.constant([0, 0, heads, size]))
        one, other = g.nodes("Split", x, outputs=2, axis=3, num_outputs=2)
        first = g.node("Sub", g.node("Mul", one, cos), g.node("Mul", other, sin))
        second = g.node("Add", g.node("Mul", other, cos), g.node("Mul", one, sin))
        return g.node("Reshape", g.node("Concat", first, second, axis=3), g.constant([0, 0, self.shape.hidden]))

    def score_bias(self, i: int, name: str, inputs: list[str], state: State) -> str:
        """Return what layer i adds to its scores, [batch or 1, 1, slots, slots]; "" if its attention is everywhere."""
        return state.apart if self.modern.local[i] else ""

    def attended(self, g: Graph, name: str, context: str, x: str) -> str:
        """Project the context of attention and add it to the states."""
        y = self.project(g, self.prepare(g, context), f"{name}.attention_output")
        if self.modern.attention_bias:
            y = g.node("Add", y, f"{name}.attention_output.bias")
        return g.node("Add", x, y)

    def feed_forward(self, name: str, x: str) -> str:
        """Compute the feed-forward with its gate and add it to the states."""
        g, biased = self.g, self.modern.feed_forward_bias
        y = self.linear(self.norm(g, x, f"{name}.feed_forward_norm"), f"{name}.intermediate", biased)
        y, gate = g.nodes("Split", y, outputs=2, axis=2, num_outputs=2)
        y = g.node("Mul", self.activate(y, self.shape.activation), gate)
        return g.node("Add", x, self.linear(y, f"{name}.output", biased))

    def findings(self, g: Graph, passed: int, x: str) -> str:
        """Add `passed` to the states: [batch, slots, hidden + 1]."""
        return g.node("Pad", x, g.constant([0, 0, 0, 0, 0, 1]), g.constant(passed, np.float32))

    def head(self, found: str) -> str:
        """Compute start logit, end logit and layers passed [batch, tokens, 3] from all tokens' findings."""
        g = self.g
        x, passed = g.nodes("Split", found, g.constant([self.shape.hidden, 1]), outputs=2, axis=2)
        x = self.linear(self.norm(g, x, "final_norm"), "head.dense", self.modern.head_bias)
        x = self.norm(g, self.activate(x, self.modern.head_activation), "head.norm")
        logits = g.node("Add", g.node("MatMul", x, self.span), "span.bias")
        return g.node("Concat", logits, passed, axis=2)
