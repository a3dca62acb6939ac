"""The graph of MobileBERT: narrow layers between wide states.

The architecture is that of Sun et al. (2020, arXiv 2004.02984). Each layer has two projections from the wide states to
the width of the bottleneck: one for queries and keys, one for the residual. The second is after the choice of tokens,
because a dropped token does not need it.
"""

from __future__ import annotations

import numpy as np

from dynamic_tinybert.model import Bottleneck
from dynamic_tinybert.runtime.graph import Builder, State
from dynamic_tinybert.runtime.onnx_writer import Graph


class BottleneckBuilder(Builder):
    """Build the graph of a MobileBERT."""

    @property
    def bottleneck(self) -> Bottleneck:
        """What is different in this architecture."""
        assert self.shape.bottleneck is not None
        return self.shape.bottleneck

    def layer_weights(self, number: int) -> str:
        """Add a layer's weights. Return the prefix of their names."""
        name = super().layer_weights(number)
        for part in ("shared", "inner"):  # the channels' weights and biases are part of the projection
            weight, bias = (self.float32(f"{name}.{part}_norm.{kind}") for kind in ("weight", "bias"))
            self.projection_weights(f"{name}.{part}", weight)
            self.weight(f"{name}.{part}.bias", self.float32(f"{name}.{part}.bias") * weight + bias)
        others = [f"{name}.{j}" for j in range(self.bottleneck.feed_forwards - 1)]
        for part in (*(f"{other}.{part}" for other in others for part in ("intermediate", "output")), f"{name}.outer"):
            self.projection_weights(part)
            self.weight(f"{part}.bias")
        for norm in (*(f"{other}.output_norm" for other in others), f"{name}.outer_norm"):
            self.weight(f"{norm}.weight")
            self.weight(f"{norm}.bias")
        return name

    def norm(self, g: Graph, x: str, name: str) -> str:
        """Multiply and shift each channel: MobileBERT has no other norm."""
        return g.node("Add", g.node("Mul", x, f"{name}.weight"), f"{name}.bias")

    def embeddings(self, ids: str, types: str, slots: str) -> str:
        """Project the words at, after and before each token, [batch, tokens, hidden]; padding is no word."""
        g = self.g
        real = g.node("Unsqueeze", g.node("Cast", self.mask, to=1), g.constant([2]))
        word = g.node("Mul", self.word_embeddings(ids), real)
        around = g.node("Pad", word, g.constant([0, 1, 0, 0, 1, 0]))  # one place before and one after
        end = g.constant([np.iinfo(np.int64).max])
        after = g.node("Slice", around, g.constant([2]), end, self.one)
        before = g.node("Slice", around, self.zero, g.constant([-2]), self.one)
        self.projection_weights("embeddings.projection")
        x = g.node("Concat", after, word, before, axis=2)
        x = self.project(g, self.prepare(g, x), "embeddings.projection")
        places = self.float32("embeddings.position")[: self.shape.positions]
        places = places + self.float32("embeddings.projection.bias")
        if not self.shape.typed:  # every token has type 0
            places = places + self.float32("embeddings.token_type")[0]
        x = g.node("Add", x, g.node("Gather", self.weight("embeddings.position", places), slots))
        if self.shape.typed:
            x = g.node("Add", x, g.node("Gather", self.weight("embeddings.token_type"), types))
        for part in ("weight", "bias"):
            self.weight(f"embeddings.norm.{part}")
        return self.norm(g, x, "embeddings.norm")

    def attention_inputs(self, name: str, state: State) -> list[str]:
        """Compute queries, keys and values, [batch, slots, width of the bottleneck] each."""
        g = self.g
        wide = self.prepare(g, state.x)
        shared = g.node("Add", self.project(g, wide, f"{name}.shared"), f"{name}.shared.bias")
        narrow = self.prepare(g, shared)
        query = g.node("Add", self.project(g, narrow, f"{name}.query"), f"{name}.query.bias")
        return [query, self.project(g, narrow, f"{name}.key"), self.project(g, wide, f"{name}.value")]

    def attended(self, g: Graph, name: str, context: str, x: str) -> str:
        """Add the context to the narrow states; beside them stay the wide ones: [batch, slots, width + hidden]."""
        inner = g.node("Add", self.project(g, self.prepare(g, x), f"{name}.inner"), f"{name}.inner.bias")
        inner = self.add_and_norm(g, context, inner, f"{name}.attention_output", f"{name}.attention_norm")
        return g.node("Concat", inner, x, axis=2)

    def feed_forward(self, name: str, x: str) -> str:
        """Run the feed-forwards of a layer and widen its states, [batch, slots, hidden]."""
        g = self.g
        x, wide = g.nodes("Split", x, g.constant([self.bottleneck.width, self.shape.hidden]), outputs=2, axis=2)
        for part in (*(f"{name}.{j}" for j in range(self.bottleneck.feed_forwards - 1)), name):
            x = super().feed_forward(part, x)
        return self.add_and_norm(g, x, wide, f"{name}.outer", f"{name}.outer_norm")
