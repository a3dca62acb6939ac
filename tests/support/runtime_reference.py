"""Question answering with drop-and-restore in plain numpy, float64, one sequence at a time.

Written from the contracts alone, slowly and obviously; the runtime's graph is held against it. Beside it, random
models and batches for the tests of the runtime.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dynamic_tinybert.folder import tensor_table
from dynamic_tinybert.model import Activation, ModelShape

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Weights = dict[str, npt.NDArray[np.float32]]

TIE = 1e-5  # significances closer than this may be dropped in either order


class Found(NamedTuple):
    """What the reference says of one sequence.

    start, end, passed: of each token, its logits and how many layers it passed whole.
    margin: the smallest difference in significance between a token that stayed and one that went; infinite if none
        went. Below `TIE` either may go.
    """

    start: FloatArray
    end: FloatArray
    passed: IntArray
    margin: float


class Batch(NamedTuple):
    """What `Runtime.run` takes, in its order."""

    input_ids: IntArray
    token_type_ids: IntArray
    attention_mask: IntArray
    lengths: IntArray


def answer(
    shape: ModelShape, weights: Weights, ids: Sequence[int], types: Sequence[int], lengths: Sequence[int]
) -> Found:
    """Run one sequence without padding, keeping so many tokens after each layer."""
    w = {
        name: value if name == "embeddings.word" else value.astype(np.float64)  # all words would take seconds
        for name, value in weights.items()
    }
    tokens = len(ids)
    size = shape.inner_width // shape.heads
    epsilon = shape.norm_epsilon

    # `states` is indexed by position; a dropped token's row stays what it was when it was dropped.
    states = _embed(shape, w, ids, types)
    passed = np.zeros(tokens, np.int64)
    kept = list(range(tokens))
    margin = math.inf

    for i in range(shape.layers):
        name = f"layers.{shape.weights_of_layers[i]}"
        x = states[kept]
        query, key, value = _attention_inputs(shape, w, i, x)
        mixed = np.empty_like(query)
        significance = np.zeros(len(kept))
        voting = [shape.significance == "all" or types[position] == 0 for position in kept]
        for head in range(shape.heads):
            columns = slice(head * size, (head + 1) * size)
            scores = _scores(shape, w, i, head, query[:, columns], key[:, columns], kept)
            exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
            probabilities = exponents / exponents.sum(axis=1, keepdims=True)
            mixed[:, columns] = probabilities @ value[:, columns]
            significance += probabilities[voting].sum(axis=0)  # over the query positions
        if shape.significance_head:
            significance *= np.exp(np.clip(4 * mixed @ w[f"{name}.significance_head"], -12, 12))
        wide, x = x, _scaled(_linear(x, w, f"{name}.inner"), w, f"{name}.inner_norm") if shape.bottleneck else x
        attended = _linear(mixed, w, f"{name}.attention_output") + x
        if shape.bottleneck:
            attended = _scaled(attended, w, f"{name}.attention_norm")
        elif not shape.modern:
            attended = _norm(attended, w, f"{name}.attention_norm", epsilon)

        # The first token always stays, then the most significant.
        others = sorted(range(1, len(kept)), key=lambda slot: -significance[slot])
        stay, go = others[: lengths[i] - 1], others[lengths[i] - 1 :]
        if stay and go:
            margin = min(margin, significance[stay].min() - significance[go].max())
        survivors = sorted([0, *stay])
        attended, wide = attended[survivors], wide[survivors]
        kept = [kept[slot] for slot in survivors]

        if shape.bottleneck:
            for part in (*(f"{name}.{j}" for j in range(shape.bottleneck.feed_forwards - 1)), name):
                inner = _activate(_linear(attended, w, f"{part}.intermediate"), shape.activation)
                attended = _scaled(_linear(inner, w, f"{part}.output") + attended, w, f"{part}.output_norm")
            outer = _scaled(_linear(attended, w, f"{name}.outer") + wide, w, f"{name}.outer_norm")
        elif shape.modern:
            normed = _norm(attended, w, f"{name}.feed_forward_norm", epsilon)
            inner, gate = np.split(_linear(normed, w, f"{name}.intermediate"), 2, axis=1)
            outer = _linear(_activate(inner, shape.activation) * gate, w, f"{name}.output") + attended
        else:
            inner = _activate(_linear(attended, w, f"{name}.intermediate"), shape.activation)
            outer = _norm(_linear(inner, w, f"{name}.output") + attended, w, f"{name}.output_norm", epsilon)
        states[kept] = outer
        passed[kept] += 1

    if shape.modern:
        states = _linear(_norm(states, w, "final_norm", epsilon), w, "head.dense")
        states = _norm(_activate(states, shape.modern.head_activation), w, "head.norm", epsilon)
    logits = _linear(states, w, "span")
    return Found(logits[:, 0], logits[:, 1], passed, margin)


def _embed(shape: ModelShape, w: Mapping[str, FloatArray], ids: Sequence[int], types: Sequence[int]) -> FloatArray:
    """The states before the first layer, `[tokens, hidden]`."""
    if shape.bottleneck:
        words = np.stack([w["embeddings.word"][token].astype(np.float64) for token in ids])
        nothing = np.zeros((1, shape.embedding_width))
        around = np.concatenate([[*words[1:], *nothing], words, [*nothing, *words[:-1]]], axis=1)
        wide = _linear(around, w, "embeddings.projection") + w["embeddings.position"][: len(ids)]
        kinds = list(types) if shape.typed else [0] * len(types)
        return _scaled(wide + w["embeddings.token_type"][kinds], w, "embeddings.norm")
    embedded = np.empty((len(ids), shape.embedding_width))
    for position, token in enumerate(ids):
        embedded[position] = w["embeddings.word"][token].astype(np.float64)
        if shape.positioned:
            embedded[position] += w["embeddings.position"][shape.first_position + position]
        if shape.token_types:
            embedded[position] += w["embeddings.token_type"][types[position] if shape.typed else 0]
    if shape.disentangled and shape.projected:
        embedded = _linear(embedded, w, "embeddings.projection")
    states = _norm(embedded, w, "embeddings.norm", shape.norm_epsilon)
    return _linear(states, w, "embeddings.projection") if shape.projected and not shape.disentangled else states


def _attention_inputs(shape: ModelShape, w: Mapping[str, FloatArray], i: int, x: FloatArray) -> list[FloatArray]:
    """Queries, keys and values of layer i, before any rotation, `[tokens, hidden]` each."""
    name = f"layers.{shape.weights_of_layers[i]}"
    if shape.disentangled and shape.disentangled.packed:
        packed = _linear(x, w, f"{name}.query_key_value").reshape(len(x), shape.heads, 3, -1)
        query, key, value = (packed[:, :, part].reshape(x.shape) for part in range(3))
        return [query + w[f"{name}.query.bias"], key, value + w[f"{name}.value.bias"]]
    if shape.bottleneck:
        shared = _scaled(_linear(x, w, f"{name}.shared"), w, f"{name}.shared_norm")
        parts = {"query": shared, "key": shared, "value": x}
        return [_linear(given, w, f"{name}.{part}") for part, given in parts.items()]
    if not shape.modern:
        return [_linear(x, w, f"{name}.{part}") for part in ("query", "key", "value")]
    if i:
        x = _norm(x, w, f"{name}.attention_norm", shape.norm_epsilon)
    return np.split(_linear(x, w, f"{name}.query_key_value"), 3, axis=1)


def _scores(
    shape: ModelShape,
    w: Mapping[str, FloatArray],
    i: int,
    head: int,
    query: FloatArray,
    key: FloatArray,
    kept: Sequence[int],
) -> FloatArray:
    """The scores of a head in layer i for tokens at the positions `kept`: `[tokens, tokens]`."""
    name, size = f"layers.{shape.weights_of_layers[i]}", query.shape[1]
    columns = slice(head * size, (head + 1) * size)
    products = 1
    scores = np.zeros((len(kept), len(kept)))
    if shape.modern:
        query, key = (_rotate(x, kept, shape.modern.bases[i]) for x in (query, key))
    if relative := shape.disentangled:
        products = relative.products
        table = w["relative.positions"] if relative.span else np.zeros((0, shape.hidden))
        if relative.normed:
            table = _norm(table, w, "relative.norm", shape.norm_epsilon)
        for a, q in enumerate(kept):
            for b, k in enumerate(kept):
                row = relative.span + _log_bucket(q - k, relative.span, relative.longest)
                row = min(max(row, 0), 2 * relative.span - 1)
                own = "" if relative.shared else "relative_"
                if relative.to_position:
                    scores[a, b] += query[a] @ _linear(table[row], w, f"{name}.{own}key")[columns]
                if relative.to_content:
                    scores[a, b] += key[b] @ _linear(table[row], w, f"{name}.{own}query")[columns]
    scores = (scores + query @ key.T) / math.sqrt(size * products)
    if shape.distances:
        scores += [[w["distances"][_bucket(k - q), head] for k in kept] for q in kept]
    if shape.modern and shape.modern.local[i]:
        scores[[[abs(k - q) > shape.modern.reach for k in kept] for q in kept]] = -math.inf
    return scores


def _rotate(x: FloatArray, kept: Sequence[int], base: float) -> FloatArray:
    """Turn the pairs of channels (c, c + size / 2) of each token, as complex numbers, by its position."""
    half = x.shape[1] // 2
    angles = np.outer(kept, base ** (-np.arange(half) / half))
    turned = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], axis=1)


def _log_bucket(apart: int, span: int, longest: int) -> int:
    """DeBERTa's bucket of a query's position less the key's: 0 for the same, below it for keys after the query."""
    middle = span // 2
    if not longest or abs(apart) <= middle:
        return apart
    steps = math.log(abs(apart) / middle) / math.log((longest - 1) / middle) * (middle - 1)
    return int(math.copysign(middle + math.ceil(steps - 1e-6), apart))


def _bucket(apart: int) -> int:
    """The bucket of a key's position less the query's, as MPNet and T5 count them."""
    side, size = 16 * (apart > 0), abs(apart)
    if size < 8:
        return side + size
    return side + min(15, 8 + int(math.log(size / 8) / math.log(128 / 8) * 8 + 1e-9))


def _linear(x: FloatArray, w: Mapping[str, FloatArray], name: str) -> FloatArray:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)


def _scaled(x: FloatArray, w: Mapping[str, FloatArray], name: str) -> FloatArray:
    return x * w[f"{name}.weight"] + w[f"{name}.bias"]


def _norm(x: FloatArray, w: Mapping[str, FloatArray], name: str, epsilon: float) -> FloatArray:
    centered = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centered**2).mean(axis=-1, keepdims=True) + epsilon)
    return centered / deviation * w[f"{name}.weight"] + w.get(f"{name}.bias", 0)


def _activate(x: FloatArray, activation: Activation) -> FloatArray:
    if activation == "relu":
        return np.maximum(x, 0)
    if activation == "gelu":
        return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    return x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def random_shape(**sizes: Any) -> ModelShape:
    """A small model; what is given replaces its sizes."""
    usual = {"layers": 2, "hidden": 16, "heads": 2, "feed_forward": 24, "vocabulary": 50, "positions": 64}
    return ModelShape(**{**usual, **sizes})


def random_weights(shape: ModelShape, seed: int = 0) -> Weights:
    """Weights whose attention is far from uniform and none of whose biases is zero. They cannot be written to.

    Attention says little beside the residual: else deep models would make all tokens the same.
    """
    rng = np.random.default_rng(seed)
    h, f = shape.hidden, shape.feed_forward

    def normal(*sizes: int, scale: float = 1.0, mean: float = 0.0) -> npt.NDArray[np.float32]:
        value = rng.normal(mean, scale, sizes).astype(np.float32)
        value.flags.writeable = False
        return value

    if shape.disentangled or shape.modern or shape.bottleneck:
        kind = "modernbert" if shape.modern else "mobilebert"
        if shape.disentangled:
            kind = "deberta" if shape.disentangled.packed else "deberta-v2"
        table = tensor_table(shape, kind)
        quiet = 0.5 if shape.bottleneck else 1.0  # MobileBERT's states have no norms
        return {name: _random_tensor(name, sizes, normal, quiet) for name, _, sizes in table}
    e = shape.embedding_width
    weights = {
        "embeddings.word": normal(shape.vocabulary, e),
        "embeddings.position": normal(shape.first_position + shape.positions, e, scale=0.5),
    }
    if shape.token_types:
        weights["embeddings.token_type"] = normal(shape.token_types, e, scale=0.5)
    linears = {"span": (2, h)}
    norms = ["embeddings.norm"]
    for i in sorted(set(shape.weights_of_layers)):
        for part in ("query", "key", "value", "attention_output"):
            linears[f"layers.{i}.{part}"] = (h, h)
        linears[f"layers.{i}.intermediate"] = (f, h)
        linears[f"layers.{i}.output"] = (h, f)
        norms += [f"layers.{i}.attention_norm", f"layers.{i}.output_norm"]
    loudness = {"query": 2.0, "key": 2.0, "attention_output": 0.3}
    for name, (rows, columns) in linears.items():
        scale = loudness.get(name.rpartition(".")[2], 1.0) * columns**-0.5
        weights[f"{name}.weight"] = normal(rows, columns, scale=scale)
        weights[f"{name}.bias"] = normal(rows, scale=0.2)
    for name in norms:
        width = e if name == "embeddings.norm" else h
        weights[f"{name}.weight"] = normal(width, scale=0.1, mean=1.0)
        weights[f"{name}.bias"] = normal(width, scale=0.1)
    if shape.projected:
        weights["embeddings.projection.weight"] = normal(h, e, scale=e**-0.5)
        weights["embeddings.projection.bias"] = normal(h, scale=0.2)
    if shape.distances:
        weights["distances"] = normal(shape.distances, shape.heads)
    if shape.significance_head:
        for i in sorted(set(shape.weights_of_layers)):
            weights[f"layers.{i}.significance_head"] = normal(h, scale=0.5 * h**-0.5)
    return weights


def _random_tensor(name: str, sizes: tuple[int, ...], normal: Any, quiet: float) -> npt.NDArray[np.float32]:
    *_, module, part = name.split(".")
    if name in ("embeddings.word", "relative.positions"):
        return normal(*sizes)
    if module == "embeddings":
        return normal(*sizes, scale=0.5)
    if "norm" in module:
        return normal(*sizes, scale=0.1, mean=float(part == "weight"))
    if part == "bias":
        return normal(*sizes, scale=0.2)
    if part == "significance_head":
        return normal(*sizes, scale=0.5 * sizes[0] ** -0.5)
    loudness = {"query": 2.0, "key": 2.0, "query_key_value": 2.0, "relative_key": 2.0, "relative_query": 2.0}
    loudness["attention_output"] = 0.3
    return normal(*sizes, scale=quiet * loudness.get(module, 1.0) * sizes[1] ** -0.5)


def random_batch(
    shape: ModelShape, lengths: npt.ArrayLike, tokens: Sequence[int], *, extra: int = 0, seed: int = 0
) -> Batch:
    """Random tokens, as many as `tokens` says in each row, and ids and types of padding that are random too.

    Args:
        shape: The model that is to read them.
        lengths: Tokens that each row keeps after each layer, `[rows, layers]`.
        tokens: Tokens of each row.
        extra: Columns of padding beyond the longest row.
        seed: Of the random numbers; a row depends on it and on its place only.
    """
    width, kinds = max(tokens) + extra, shape.token_types if shape.typed else 2
    ids, types, mask = (np.zeros((len(tokens), width), np.int64) for _ in range(3))
    for row, count in enumerate(tokens):
        rng = np.random.default_rng((seed, row))
        ids[row, :count] = rng.integers(0, shape.vocabulary, count)
        question = rng.integers(shape.significance == "question", count + 1)  # [CLS], at least, is of the question
        types[row, :count] = (np.arange(count) >= question) * (kinds - 1)
        mask[row, :count] = 1
        ids[row, count:] = rng.integers(0, shape.vocabulary, width - count)
        types[row, count:] = rng.integers(0, kinds, width - count)
    return Batch(ids, types, mask, np.asarray(lengths, np.int64))


def rows_of(batch: Batch) -> list[Batch]:
    """The rows of a batch, each as a batch of one without padding."""
    rows = []
    for row, count in enumerate(batch.attention_mask.sum(axis=1)):
        one = slice(row, row + 1)
        rows.append(Batch(*(value[one, :count] for value in batch[:3]), batch.lengths[one]))
    return rows


def assert_equals_reference(
    shape: ModelShape, weights: Weights, batch: Batch, logits: Any, *, tolerance: float = 1e-4, margin: float = TIE
) -> None:
    """Hold what a runtime said of a batch against the reference, at real positions.

    Args:
        shape: The model.
        weights: Its weights.
        batch: What was run.
        logits: What came out: start logits, end logits, layers passed.
        tolerance: Of the logits.
        margin: Fail if a choice of tokens is closer than this: then the test has chosen its weights badly.
    """
    start, end, passed = logits
    for row, count in enumerate(batch.attention_mask.sum(axis=1)):
        ids, types = (value[row, :count].tolist() for value in batch[:2])
        wanted = answer(shape, weights, ids, types, batch.lengths[row].tolist())
        assert wanted.margin > margin, f"row {row}: significances tie ({wanted.margin}); choose other random weights"
        np.testing.assert_array_equal(passed[row, :count], wanted.passed, err_msg=f"layers passed, row {row}")
        np.testing.assert_allclose(start[row, :count], wanted.start, rtol=0, atol=tolerance, err_msg=f"row {row}")
        np.testing.assert_allclose(end[row, :count], wanted.end, rtol=0, atol=tolerance, err_msg=f"row {row}")
