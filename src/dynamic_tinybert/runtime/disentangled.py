"""The graph of DeBERTa: attention with scores by relative position.

The method is DeBERTa's disentangled attention (He et al., 2021, arXiv 2006.03654; v3: arXiv 2111.09543). A query i and
a key j have the score

    Q_i K_j  +  Q_i R_key[b]  +  K_j R_query[b],        b = the bucket of the distance i - j,

times a common factor. R_key and R_query are the projections of the table of relative positions. They depend on no
token, so they are constants of the graph. The graph computes the products of each token with all buckets, [heads,
slots, buckets], and gathers the scores of pairs from these. Distances are those of the tokens' places in the sequence,
so they stay right after tokens were dropped.

The key's bias has different products with different R_query[b], so it is left out only if there is no such product.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.model import Disentangled, ModelShape, Precision, QuantizedTensor
from dynamic_tinybert.runtime.graph import Builder, State, Weights
from dynamic_tinybert.runtime.onnx_writer import Graph
from dynamic_tinybert.runtime.positions import distance_buckets


class DisentangledBuilder(Builder):
    """Build the graph of a DeBERTa."""

    def __init__(
        self, shape: ModelShape, weights: Weights, precision: Precision, fused_attention: bool, packed: bool = False
    ) -> None:
        super().__init__(shape, weights, precision, fused_attention, packed)
        if self.relative.packed:
            self.given = _Unpacked(weights, shape)

    @property
    def relative(self) -> Disentangled:
        """What is different in this architecture."""
        assert self.shape.disentangled is not None
        return self.shape.disentangled

    @property
    def biased_heads(self) -> bool:
        """Whether what adds to the scores is different for each head."""
        return self.relative.products > 1

    @property
    def scale(self) -> float:
        """The factor of the attention scores."""
        return float((self.shape.hidden // self.shape.heads * self.relative.products) ** -0.5)

    def distance_weights(self) -> bool:
        """Add the buckets of distances; prepare the table of relative positions. Return whether there are any."""
        if self.relative.products == 1:
            return False
        table = self.float32("relative.positions")
        if self.relative.normed:
            weight, bias = (self.float32(f"relative.norm.{part}") for part in ("weight", "bias"))
            table = _norm(table, weight, bias, self.shape.norm_epsilon)
        self.table = table
        self.buckets = self.g.weight("relative.buckets", distance_buckets(self.relative, self.shape.positions))
        return True

    def layer_weights(self, number: int) -> str:
        """Add a layer's weights and its projections of relative positions, [heads, size, buckets] and transposed."""
        name = super().layer_weights(number)
        heads, size = self.shape.heads, self.shape.hidden // self.shape.heads

        def projected(part: str) -> npt.NDArray[np.float32]:
            own = f"{name}.{part}" if self.relative.shared else f"{name}.relative_{part}"
            rows = self.table @ self.float32(f"{own}.weight").T + self.float32(f"{own}.bias")
            return rows.reshape(-1, heads, size)

        if self.relative.to_position:  # the query is scaled already
            self.weight(f"{name}.relative_keys", projected("key").transpose(1, 2, 0))
        if self.relative.to_content:
            self.weight(f"{name}.relative_queries", projected("query").transpose(1, 0, 2) * np.float32(self.scale))
            self.weight(f"{name}.key.bias")
        return name

    def embeddings(self, ids: str, types: str, slots: str) -> str:
        """Add up the embeddings, project and norm them: [batch, tokens, hidden]."""
        g, shape = self.g, self.shape
        x = self.word_embeddings(ids)
        if shape.positioned:
            places = self.float32("embeddings.position")[: shape.positions]
            x = g.node("Add", x, g.node("Gather", self.weight("embeddings.position", places), slots))
        if shape.typed:
            x = g.node("Add", x, g.node("Gather", self.weight("embeddings.token_type"), types))
        elif shape.token_types:  # every token has type 0
            x = g.node("Add", x, self.weight("embeddings.token_type", self.float32("embeddings.token_type")[0]))
        if shape.projected:
            self.projection_weights("embeddings.projection")
            x = self.project(g, self.prepare(g, x), "embeddings.projection")
        for part in ("weight", "bias"):
            self.weight(f"embeddings.norm.{part}")
        return self.norm(g, x, "embeddings.norm")

    def apart(self, g: Graph, positions: str) -> str:
        """Look up the bucket of each distance for `positions` [rows, slots]: int32 [rows, 1, slots, slots]."""
        queries, keys = (g.node("Unsqueeze", positions, g.constant(axes)) for axes in ([1, 3], [1, 2]))
        apart = g.node("Add", g.node("Sub", queries, keys), g.constant(self.shape.positions - 1))
        return g.node("Gather", self.buckets, apart)

    def attention_inputs(self, name: str, state: State) -> list[str]:
        """Compute queries, keys and values, [batch, slots, hidden] each."""
        query, key, value = super().attention_inputs(name, state)
        if self.relative.to_content:
            key = self.g.node("Add", key, f"{name}.key.bias")
        return [query, key, value]

    def score_bias(self, i: int, name: str, inputs: list[str], state: State) -> str:
        """Compute a layer's scores by relative position, [batch, heads, slots, slots]; "" if it has none."""
        if not state.apart:
            return ""
        g = self.g
        query, key, _ = inputs
        apart = g.constant([0, 0, self.shape.heads, self.shape.hidden // self.shape.heads])
        width = self.width(g, state.x)
        square = g.node("Concat", self.batch, g.constant([self.shape.heads]), width, width, axis=0)
        buckets = g.node("Expand", state.apart, square)
        scores = []
        if self.relative.to_position:  # [batch, heads, slots, buckets]
            query = g.node("Transpose", g.node("Reshape", query, apart), perm=(0, 2, 1, 3))
            products = g.node("MatMul", query, f"{name}.relative_keys")
            scores.append(g.node("GatherElements", products, buckets, axis=3))
        if self.relative.to_content:  # [batch, heads, buckets, slots], so that the key's slot is the last
            key = g.node("Transpose", g.node("Reshape", key, apart), perm=(0, 2, 3, 1))
            products = g.node("MatMul", f"{name}.relative_queries", key)
            scores.append(g.node("GatherElements", products, buckets, axis=2))
        return scores[0] if len(scores) == 1 else g.node("Add", *scores)


class _Unpacked(Weights):
    """The weights of the first DeBERTa under the names of the later ones; biases that it lacks are 0."""

    def __init__(self, weights: Weights, shape: ModelShape) -> None:
        self.weights = weights
        self.zeros = np.zeros(shape.hidden, np.float32)
        # The rows of a packed tensor are in the order of heads, and in a head those of query, key and value.
        rows = np.arange(3 * shape.hidden).reshape(shape.heads, 3, -1).swapaxes(0, 1).reshape(3, -1)
        self.rows = dict(zip(("query", "key", "value"), rows, strict=True))

    def __getitem__(self, name: str) -> npt.NDArray[np.float32] | QuantizedTensor:
        layer, _, rest = name.rpartition(".")
        layer, _, module = layer.rpartition(".")
        if rest == "weight" and module in self.rows:
            packed, rows = self.weights[f"{layer}.query_key_value.weight"], self.rows[module]
            if isinstance(packed, QuantizedTensor):
                return QuantizedTensor(packed.values[rows], packed.scale[rows])
            return packed[rows]
        return self.zeros if rest == "bias" and module in ("key", "relative_key") else self.weights[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


def _norm(
    x: npt.NDArray[np.float32], weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32], epsilon: float
) -> npt.NDArray[np.float32]:
    exact = x.astype(np.float64)
    centered = exact - exact.mean(axis=-1, keepdims=True)
    normed: npt.NDArray[np.float64] = (
        centered / np.sqrt((centered**2).mean(axis=-1, keepdims=True) + epsilon) * weight + bias
    )
    return normed.astype(np.float32)
