"""The ONNX graph of question answering with drop-and-restore, for BERT-like encoders.

The method is Dynamic-TinyBERT (Guskin et al., 2021, arXiv 2111.09645), based on the Length-Adaptive Transformer (Kim
and Cho, 2020, arXiv 2010.07003). In each layer, after self-attention and before the feed-forward, only the most
significant tokens remain. Significance is the attention that a token receives, with a significance head times what the
head reads from the values that the token's own attention mixed. At the end every token has logits, those
of the last layer that it passed completely. The number of remaining tokens is an *input* of the graph, so one graph and
one session serve every budget.

In the graph, each token is in a *slot*. At first the slots are the positions. After a drop the slots of a row hold its
kept tokens, the most significant first. So a slot holds a real and kept token if slot < the row's length.

Three rewritings save work and do not change the result. The attention scale is part of the query projection. The key's
bias is left out, because it adds the same number to all scores of a query. The value's bias is part of the bias of the
attention's output, because the probabilities of a query add up to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.model import MOST_SHARP, SHARPNESS, Activation, ModelShape, Precision, QuantizedTensor
from dynamic_tinybert.runtime.onnx_writer import Graph
from dynamic_tinybert.runtime.positions import distance_bias

Weights: TypeAlias = Mapping[str, npt.NDArray[np.float32] | QuantizedTensor]

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "lengths")
OUTPUTS = ("start_logits", "end_logits", "layers_passed")

_FLOAT, _INT64 = 1, 7  # ONNX's numbers of element types
_MIDDLE = 128  # the zero point of unsigned activations
MASKED = -1e30  # what adds to the score of a key that a query must not see
_ALWAYS = 1e30  # what adds to the significance of the first token
_TINY = 1e-30  # the scale of a token whose state is 0
_FOUND = 3  # the findings of a token: its start logit, its end logit, the layers that it passed


class Prepared(NamedTuple):
    """The input of projections: the name of its values, and in INT8 of each token's scale, [batch, slots, 1]."""

    x: str
    scale: str


class State(NamedTuple):
    """The names of the values that one layer passes to the next.

    x: the states of the tokens, [batch, slots, hidden].
    apart: what attention needs to know of each two tokens' distance, [batch or 1, heads or 1, slots, slots]; "" if it
        needs nothing.
    place: the row of `found` to which each slot's token writes, [batch, slots].
    found: the findings of each token so far, [batch * (tokens + 1), 3 or hidden + 1]; empty slots write to the last
        place of a row.
    """

    x: str
    apart: str
    place: str
    found: str


class Builder:
    """Build the graph of a BERT-like encoder; other encoders override what they do differently."""

    found_width = _FOUND

    def __init__(
        self, shape: ModelShape, weights: Weights, precision: Precision, fused_attention: bool, packed: bool = False
    ) -> None:
        self.shape = shape
        self.given = weights
        self.int8 = precision == "int8"
        self.fused_attention = fused_attention
        self.g = Graph("dynamic_tinybert")
        self.added: set[str] = set()
        self.packed = packed
        self.unpacked: dict[str, str] = {}  # the float32 of packed weights, by the names of their projections

    @property
    def biased_heads(self) -> bool:
        """Whether what adds to the scores is different for each head."""
        return bool(self.shape.distances)

    @property
    def scale(self) -> float:
        """The factor of the attention scores."""
        return float((self.shape.inner_width // self.shape.heads) ** -0.5)

    # The weights.

    def float32(self, name: str) -> npt.NDArray[np.float32]:
        """Return a tensor in float32."""
        value = self.given[name]
        return value.float32() if isinstance(value, QuantizedTensor) else value

    def weight(self, name: str, value: npt.NDArray[np.float32] | None = None) -> str:
        """Add a weight in float32: the given value, or the tensor of that name."""
        value = self.float32(name) if value is None else value
        return self.g.weight(name, np.ascontiguousarray(value, np.float32))

    def projection_weights(self, name: str, factor: float | npt.NDArray[np.float32] = 1.0) -> None:
        """Add the tensor `{name}.weight` [out, in] as the weight of a projection, for `project`.

        Its outputs are multiplied by `factor`: one number, or one for each, `[out]`.
        """
        scale = np.asarray(factor, np.float32)
        stored = self.given[f"{name}.weight"]
        if not self.int8 and self.packed and isinstance(stored, QuantizedTensor):
            values = self.g.weight(f"{name}.matrix", np.ascontiguousarray(stored.values.T))
            by_column = self.weight(f"{name}.scale", stored.scale * scale)
            self.unpacked[name] = self.g.node("Mul", self.g.node("Cast", values, to=_FLOAT), by_column)
            return
        if not self.int8:
            matrix = self.float32(f"{name}.weight")
            self.weight(f"{name}.matrix", (matrix if (scale == 1).all() else matrix * scale[..., None]).T)
            return
        value = stored if isinstance(stored, QuantizedTensor) else QuantizedTensor.round(stored)
        self.weight(f"{name}.scale", value.scale * scale)
        self.g.weight(f"{name}.matrix", np.ascontiguousarray(value.values.T))

    def layer_weights(self, number: int) -> str:
        """Add a layer's weights, if they are not there: layers may share them. Return the prefix of their names."""
        name = f"layers.{number}"
        if name in self.added:
            return name
        self.added.add(name)

        def given(part: str) -> npt.NDArray[np.float32]:
            return self.float32(f"{name}.{part}")

        scale = np.float32(self.scale)
        self.weight(f"{name}.query.bias", given("query.bias") * scale)
        for part in ("query", "key", "value", "attention_output", "intermediate", "output"):
            factor = float(scale) if part == "query" else 1.0
            self.projection_weights(f"{name}.{part}", factor)
        value_bias = given("attention_output.weight") @ given("value.bias")
        self.weight(f"{name}.attention_output.bias", given("attention_output.bias") + value_bias)
        self.weight(f"{name}.intermediate.bias")
        self.weight(f"{name}.output.bias")
        for part in ("attention_norm", "output_norm"):
            self.weight(f"{name}.{part}.weight")
            self.weight(f"{name}.{part}.bias")
        self.significance_weights(name, given("value.bias"))
        return name

    def significance_weights(self, name: str, value_bias: npt.NDArray[np.float32]) -> None:
        """Add a layer's significance head, if there is one; the bias is for the bias of the values, left out before."""
        if self.shape.significance_head:
            head = self.float32(f"{name}.significance_head") * np.float32(SHARPNESS)
            self.weight(f"{name}.significance_head", head[:, None])
            self.weight(f"{name}.significance_head.bias", (head @ value_bias).astype(np.float32)[None])

    # The graph.

    def build(self) -> Graph:
        """Build the graph."""
        g, n = self.g, self.shape.layers
        ids, mask, types, lengths = (
            g.input(name, np.int64, ["batch", n if name == "lengths" else "tokens"]) for name in INPUTS
        )
        self.mask = mask
        self.zero, self.one = g.constant([0]), g.constant([1])
        self.batch, tokens = g.node("Shape", ids, start=0, end=1), g.node("Shape", ids, start=1, end=2)

        # For each row: the lengths before each layer and after the last, [batch, 1] each. The rest is for the whole
        # batch, [1] each: the shortest and longest lengths, and whether a layer drops tokens.
        real = g.node("ReduceSum", mask, self.one, keepdims=1)
        before = g.node("Concat", real, lengths, axis=1)
        kept = self.split(before, n + 1, axis=1)
        shortest = self.split(g.node("ReduceMin", before, self.zero, keepdims=0), n + 1)
        longest = self.split(g.node("ReduceMax", before, self.zero, keepdims=0), n + 1)
        lost = g.node("Sub", g.node("Concat", *kept[:-1], axis=1), lengths)
        dropping = self.split(g.node("Greater", g.node("ReduceMax", lost, self.zero, keepdims=0), self.zero), n)
        ever = g.node("ReduceMax", g.node("Sub", real, kept[-1]), keepdims=0)
        ever = g.node("Greater", ever, g.constant(0))

        slots = self.count_to(g, tokens)
        places = g.node("Add", tokens, self.one)
        self.rows = g.node("Unsqueeze", self.count_to(g, self.batch), self.one)
        self.begin = begin = g.node("Mul", self.rows, places)
        self.nowhere = g.node("Add", begin, tokens)
        width = g.constant([self.found_width])
        found = g.node("Concat", g.node("Mul", self.batch, places), width, axis=0)
        found = g.node("Expand", g.constant(0, np.float32), found)
        if self.shape.significance == "question":  # 1 for the question's tokens, in the order of `found`
            asking = g.node("Cast", g.node("Equal", types, g.constant(0)), to=_FLOAT)
            asking = g.node("Pad", asking, g.constant([0, 0, 0, 1]))
            self.asking = g.node("Reshape", asking, g.constant([-1]))

        self.head_weights()
        apart = self.apart(g, g.node("Unsqueeze", slots, self.zero)) if self.distance_weights() else ""
        state = State(self.embeddings(ids, types, slots), apart, g.node("Add", begin, slots), found)
        for i, number in enumerate(self.shape.weights_of_layers):
            name = self.layer_weights(number)
            state = self.attend(i, name, state, kept[i], shortest[i], longest[i + 1], dropping[i])
            state = state._replace(x=self.feed_forward(name, state.x))

        restored, whole = g.subgraph("restored"), g.subgraph("whole")
        found = self.write(restored, n, state, kept[-1])
        found = restored.node("Reshape", found, restored.node("Concat", self.batch, places, width, axis=0))
        restored.output(restored.node("Slice", found, self.zero, tokens, self.one))
        whole.output(self.findings(whole, n, state.x))
        found = self.head(g.node("If", ever, then_branch=restored, else_branch=whole))
        start, end, passed = (g.node("Squeeze", x, g.constant([2])) for x in self.split(found, _FOUND, axis=2))
        for value, name in zip((start, end), OUTPUTS[:2], strict=True):
            g.output(value, name, np.float32, ["batch", "tokens"])
        g.output(g.node("Cast", passed, to=_INT64), OUTPUTS[2], np.int64, ["batch", "tokens"])
        return g

    def head_weights(self) -> None:
        """Add the weights that turn states into findings."""
        span = self.float32("span.weight")
        self.span = self.weight("span.matrix", np.concatenate([span, np.zeros_like(span[:1])]).T)

    def distance_weights(self) -> bool:
        """Add the weights by distance that all layers share. Return whether attention needs `apart`."""
        if not self.shape.distances:
            return False
        by_distance = distance_bias(self.float32("distances"), self.shape.positions)
        self.distances = self.weight("distances.bias", by_distance)
        return True

    def embeddings(self, ids: str, types: str, slots: str) -> str:
        """Compute the states before the first layer, [batch, tokens, hidden]."""
        g, shape = self.g, self.shape
        places = self.float32("embeddings.position")[shape.first_position :][: shape.positions]
        if shape.token_types and not shape.typed:  # every token has type 0
            places = places + self.float32("embeddings.token_type")[0]
        x = self.word_embeddings(ids)
        if shape.typed:
            x = g.node("Add", x, g.node("Gather", self.weight("embeddings.token_type"), types))
        x = g.node("Add", x, g.node("Gather", self.weight("embeddings.position", places), slots))
        for part in ("weight", "bias"):
            self.weight(f"embeddings.norm.{part}")
        x = self.norm(g, x, "embeddings.norm")
        if not shape.projected:
            return x
        self.projection_weights("embeddings.projection")
        x = self.project(g, self.prepare(g, x), "embeddings.projection")
        return g.node("Add", x, self.weight("embeddings.projection.bias"))

    def word_embeddings(self, ids: str) -> str:
        """Look up the embeddings of tokens [batch, tokens, E]; rows that are stored in INT8 stay so in memory."""
        g, value = self.g, self.given["embeddings.word"]
        if not isinstance(value, QuantizedTensor):
            return g.node("Gather", self.weight("embeddings.word", value), ids)
        x = g.node("Cast", g.node("Gather", g.weight("embeddings.word", value.values), ids), to=_FLOAT)
        return g.node("Mul", x, g.node("Gather", self.weight("embeddings.word.scale", value.scale[:, None]), ids))

    def apart(self, g: Graph, positions: str) -> str:
        """Compute what attention needs to know of each two tokens' distance, for their `positions` [rows, slots].

        Returns:
            The bias of the attention scores, [rows, heads, slots, slots].
        """
        queries, keys = (g.node("Unsqueeze", positions, g.constant([axis])) for axis in (2, 1))
        apart = g.node("Add", g.node("Sub", keys, queries), g.constant(self.shape.positions - 1))
        return g.node("Transpose", g.node("Gather", self.distances, apart), perm=(0, 3, 1, 2))

    def attend(self, i: int, name: str, state: State, kept: str, shortest: str, longest: str, dropping: str) -> State:
        """Run the attention of a layer. If it drops tokens, only the most significant ones go through its output.

        The probabilities are computed only in layers that drop tokens, because only the choice of tokens needs them.
        The output projection is after the choice, because a dropped token does not need it.
        """
        g = self.g
        inputs = self.attention_inputs(name, state)
        bias = self.score_bias(i, name, inputs, state)
        padded = g.node("Less", shortest, self.width(g, state.x))

        drop, stay = g.subgraph("drop"), g.subgraph("stay")
        context, votes = self.attention(drop, inputs, bias, state, kept, padded, voting=True)
        factor = self.read_significance(drop, name, context) if self.shape.significance_head else ""
        chosen = self.choose(drop, state, votes, kept, longest, factor)
        places = drop.node("Gather", drop.node("Reshape", state.place, g.constant([-1])), chosen)
        mixed = self.take(drop, context, chosen, self.shape.inner_width)
        drop.output(self.attended(drop, name, mixed, self.take(drop, state.x, chosen, self.shape.hidden)))
        if state.apart:
            drop.output(self.apart(drop, drop.node("Sub", places, self.begin)))
        drop.output(places)
        drop.output(self.write(drop, i, state, kept))

        (context,) = self.attention(stay, inputs, bias, state, kept, padded, voting=False)
        stay.output(self.attended(stay, name, context, state.x))
        for kept_on in filter(None, state[1:]):
            stay.output(stay.node("Identity", kept_on))
        x, *apart, place, found = g.nodes(
            "If", dropping, outputs=4 if state.apart else 3, then_branch=drop, else_branch=stay
        )
        return State(x, apart[0] if apart else "", place, found)

    def attention_inputs(self, name: str, state: State) -> list[str]:
        """Compute queries, keys and values, [batch, slots, hidden] each."""
        g = self.g
        given = self.prepare(g, state.x)
        query = g.node("Add", self.project(g, given, f"{name}.query"), f"{name}.query.bias")
        return [query, *(self.project(g, given, f"{name}.{part}") for part in ("key", "value"))]

    def score_bias(self, i: int, name: str, inputs: list[str], state: State) -> str:
        """Compute what layer i adds to its scores, [batch or 1, heads or 1, slots, slots]; "" if it is nothing."""
        return state.apart

    def attention(
        self, g: Graph, inputs: list[str], bias: str, state: State, kept: str, padded: str, *, voting: bool
    ) -> list[str]:
        """Compute self-attention from queries, keys and values, and `bias`, which adds to the scores.

        Returns:
            Context [batch, slots, hidden]; with `voting`, also the probabilities [batch, heads, slots, slots].
        """
        masked, plain = g.subgraph("masked"), g.subgraph("plain")
        hidden = masked.node(
            "Where", self.valid(masked, state.x, kept), g.constant(0, np.float32), g.constant(MASKED, np.float32)
        )
        hidden = masked.node("Unsqueeze", hidden, g.constant([1, 2]))
        if bias:
            hidden = masked.node("Add", hidden, bias)
        for branch, added in ((masked, hidden), (plain, bias or None)):
            for output in self.mix(branch, inputs, added, voting=voting):
                branch.output(output)
        return g.nodes("If", padded, outputs=1 + voting, then_branch=masked, else_branch=plain)

    def mix(self, g: Graph, inputs: list[str], hidden: str | None, *, voting: bool) -> list[str]:
        """Compute what `attention` returns; `hidden`, [batch or 1, heads or 1, 1 or slots, slots], adds to scores."""
        heads, size = self.shape.heads, self.shape.inner_width // self.shape.heads
        if self.fused_attention and self.int8 and hidden is None and not voting:
            # In blocks, without the matrix of probabilities. Its last bits differ from those of Attention, which has to
            # do rows with padding. In INT8 no row is padded; in float32 a row's logits must not depend on its batch.
            return g.nodes("MultiHeadAttention", *inputs, outputs=1, num_heads=heads, scale=1.0, domain="com.microsoft")
        if self.fused_attention:
            if hidden is not None:
                width = self.width(g, inputs[0])
                each = g.constant([heads]) if self.biased_heads else self.one
                square = g.node("Concat", self.batch, each, width, width, axis=0)
                inputs = [*inputs, g.node("Expand", hidden, square)]
            if not voting:
                return g.nodes("Attention", *inputs, outputs=1, q_num_heads=heads, kv_num_heads=heads, scale=1.0)
            context, _, _, votes = g.nodes(
                "Attention", *inputs, outputs=4, q_num_heads=heads, kv_num_heads=heads, scale=1.0,
                qk_matmul_output_mode=3,
            )  # fmt: skip
            return [context, votes]
        apart, together = g.constant([0, 0, heads, size]), g.constant([0, 0, self.shape.inner_width])
        query, key, value = (
            g.node("Transpose", g.node("Reshape", x, apart), perm=perm)
            for x, perm in zip(inputs, ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3)), strict=True)
        )
        scores = g.node("MatMul", query, key)
        if hidden is not None:
            scores = g.node("Add", scores, hidden)
        votes = g.node("Softmax", scores, axis=-1)
        context = g.node("Transpose", g.node("MatMul", votes, value), perm=(0, 2, 1, 3))
        return [g.node("Reshape", context, together), *([votes] if voting else [])]

    def read_significance(self, g: Graph, name: str, context: str) -> str:
        """Compute the factor of each token's votes from its context, without the value's bias: [batch, slots]."""
        read = g.node("MatMul", context, f"{name}.significance_head")
        read = g.node("Add", read, f"{name}.significance_head.bias")
        ends = (g.constant(end, np.float32) for end in (-MOST_SHARP, MOST_SHARP))
        return g.node("Exp", g.node("Clip", g.node("Squeeze", read, g.constant([2])), *ends))

    def choose(self, g: Graph, state: State, votes: str, kept: str, count: str, factor: str = "") -> str:
        """Choose the `count` most significant tokens of each row: their indices in states as [batch * slots, hidden].

        A token's significance is the attention that it receives, summed over heads and over queries, times `factor`
        [batch, slots], or "" for 1. Queries count only if they are real and kept, and if the shape says so, only those
        of the question. The first token is always in slot 0 and always stays. Empty slots come last.
        """
        valid, width = self.valid(g, state.x, kept), self.width(g, state.x)
        counted = g.node("Cast", valid, to=_FLOAT)
        if self.shape.significance == "question":
            counted = g.node("Mul", counted, g.node("Gather", self.asking, state.place))
        counted = g.node("Unsqueeze", counted, g.constant([1, 2]))
        # Products, and not ReduceSum, which adds in another order if there are other rows in the batch: then near ties
        # are ordered otherwise, so attention adds in another order, and INT8 rounds what comes of it.
        heads = g.constant(np.ones((1, 1, self.shape.heads)), np.float32)
        received = g.node("MatMul", heads, g.node("Squeeze", g.node("MatMul", counted, votes), g.constant([2])))
        received = g.node("Squeeze", received, self.one)
        if factor:
            received = g.node("Mul", received, factor)
        received = g.node("Where", valid, received, g.constant(-1, np.float32))
        others = g.node("Concat", g.constant([0, 0, 0]), g.node("Sub", width, self.one), axis=0)
        first = g.node("Pad", g.constant([[_ALWAYS]], np.float32), others)
        _, chosen = g.nodes("TopK", g.node("Add", received, first), count, outputs=2, axis=1)
        return g.node("Add", chosen, g.node("Mul", self.rows, width))

    def take(self, g: Graph, x: str, chosen: str, width: int) -> str:
        """Take the states of the chosen tokens, [batch, count, hidden]."""
        return g.node("Gather", g.node("Reshape", x, g.constant([-1, width])), chosen)

    def attended(self, g: Graph, name: str, context: str, x: str) -> str:
        """Project the context of attention, add it to the states and norm them."""
        return self.add_and_norm(g, context, x, f"{name}.attention_output", f"{name}.attention_norm")

    def feed_forward(self, name: str, x: str) -> str:
        """Run the feed-forward of a layer, [batch, slots, hidden]."""
        g = self.g
        y = g.node("Add", self.project(g, self.prepare(g, x), f"{name}.intermediate"), f"{name}.intermediate.bias")
        y = self.activate(y, self.shape.activation)
        return self.add_and_norm(g, y, x, f"{name}.output", f"{name}.output_norm")

    def activate(self, x: str, activation: Activation) -> str:
        """Apply an activation."""
        if activation == "relu":
            return self.g.node("Relu", x)
        return self.g.node("Gelu", x, approximate="tanh" if activation == "gelu_tanh" else "none")

    def findings(self, g: Graph, passed: int, x: str) -> str:
        """Compute start logit, end logit and `passed` from the states: [batch, slots, 3]."""
        bias = np.append(self.float32("span.bias"), passed)
        return g.node("Add", g.node("MatMul", x, self.span), g.constant(bias, np.float32))

    def write(self, g: Graph, passed: int, state: State, kept: str) -> str:
        """Write the findings of all tokens into `found`. Empty slots write to a place that is never read."""
        to = g.node("Where", self.valid(g, state.x, kept), state.place, self.nowhere)
        found = self.findings(g, passed, state.x)
        return g.node("ScatterND", state.found, g.node("Unsqueeze", to, g.constant([2])), found)

    def head(self, found: str) -> str:
        """Compute start logit, end logit and layers passed [batch, tokens, 3] from all tokens' findings."""
        return found

    # Helpers.

    def prepare(self, g: Graph, x: str) -> Prepared:
        """Prepare `x` [batch, slots, width] for projections. In INT8, each token gets a scale of its own."""
        if not self.int8:
            return Prepared(x, "")
        most = g.node("ReduceMax", g.node("Abs", x), g.constant([-1]), keepdims=1)
        most = g.node("Max", most, g.constant(_TINY, np.float32))
        x = g.node("Mul", x, g.node("Div", g.constant(127, np.float32), most))
        # Unsigned: on some processors ONNX Runtime multiplies signed activations ten times slower.
        x = g.node("QuantizeLinear", x, g.constant(1, np.float32), g.constant(_MIDDLE, np.uint8))
        return Prepared(x, g.node("Mul", most, g.constant(1 / 127, np.float32)))

    def project(self, g: Graph, x: Prepared, name: str) -> str:
        """Multiply by the weight of a projection, [batch, slots, out], without its bias."""
        if not self.int8:
            return g.node("MatMul", x.x, self.unpacked.get(name, f"{name}.matrix"))
        one, middle = g.constant(1, np.float32), g.constant(_MIDDLE, np.uint8)
        y = g.node("MatMulIntegerToFloat", x.x, f"{name}.matrix", one, f"{name}.scale", middle, domain="com.microsoft")
        return g.node("Mul", y, x.scale)

    def add_and_norm(self, g: Graph, x: str, residual: str, projection: str, norm: str) -> str:
        """Project `x`, add it to the residual and norm the sum."""
        x = g.node("Add", self.project(g, self.prepare(g, x), projection), f"{projection}.bias")
        return self.norm(g, g.node("Add", x, residual), norm)

    def norm(self, g: Graph, x: str, name: str) -> str:
        """Compute a layer normalization."""
        epsilon = float(self.shape.norm_epsilon)
        return g.node("LayerNormalization", x, f"{name}.weight", f"{name}.bias", axis=-1, epsilon=epsilon)

    def width(self, g: Graph, x: str) -> str:
        """Compute the number of slots, [1]."""
        return g.node("Shape", x, start=1, end=2)

    def count_to(self, g: Graph, count: str) -> str:
        """Compute 0, 1 ... count - 1."""
        return g.node("Range", g.constant(0), g.node("Squeeze", count), g.constant(1))

    def valid(self, g: Graph, x: str, kept: str) -> str:
        """Whether each slot holds a real and kept token, [batch, slots]."""
        return g.node("Less", self.count_to(g, self.width(g, x)), kept)

    def split(self, x: str, count: int, axis: int = 0) -> list[str]:
        """Split `x` into `count` equal parts."""
        if count == 1:
            return [x]
        return self.g.nodes("Split", x, outputs=count, axis=axis, num_outputs=count)
