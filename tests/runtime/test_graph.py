"""The graph says what the plain reference says, whatever the model, the batch and the lengths; and spends no more."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dynamic_tinybert.model import Bottleneck, Disentangled, LengthConfig, ModelShape, Modern, QuantizedTensor, macs
from dynamic_tinybert.runtime import Logits, build_graph
from dynamic_tinybert.runtime.graph import INPUTS, OUTPUTS, Builder, Precision, State
from dynamic_tinybert.runtime.onnx_writer import encode_model
from support.runtime_reference import (
    TIE,
    Batch,
    answer,
    assert_equals_reference,
    random_batch,
    random_shape,
    random_weights,
    rows_of,
)

Run = Callable[[Batch], Logits]
ONNXRUNTIME = tuple(int(x) for x in onnxruntime.__version__.split(".")[:2])
OLD = pytest.mark.skipif(ONNXRUNTIME < (1, 24), reason="before 1.24 Attention gives out no probabilities")
FUSED = pytest.mark.parametrize(
    "fused", [pytest.param(True, id="fused", marks=OLD), pytest.param(False, id="portable")]
)


def encode(shape: ModelShape, *, seed: int = 0, precision: Precision = "fp32", fused: bool = True) -> bytes:
    fused = fused and ONNXRUNTIME >= (1, 24)
    graph = build_graph(shape, random_weights(shape, seed), precision=precision, fused_attention=fused)
    return encode_model(graph, opset=23 if fused else 20)


def feeds(batch: Batch) -> dict[str, npt.NDArray[np.int64]]:
    ids, types, mask, lengths = batch
    return dict(zip(INPUTS, (ids, mask, types, lengths), strict=True))


@functools.cache
def runner(shape: ModelShape, *, seed: int = 0, precision: Precision = "fp32", fused: bool = True) -> Run:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        encode(shape, seed=seed, precision=precision, fused=fused), options, providers=["CPUExecutionProvider"]
    )
    return lambda batch: Logits(*session.run(list(OUTPUTS), feeds(batch)))


def of(shape: ModelShape, tokens: Sequence[int], config: LengthConfig, *, extra: int = 0, seed: int = 0) -> Batch:
    return random_batch(shape, config.lengths(tokens), tokens, extra=extra, seed=seed)


def assert_same(one: Logits, other: Logits, counts: Sequence[int], *, tolerance: float = 1e-4) -> None:
    """Demand the same layers passed and the same logits of each row's real tokens."""
    for row, count in enumerate(counts):
        np.testing.assert_array_equal(one.layers_passed[row, :count], other.layers_passed[row, :count])
        for a, b in zip(one[:2], other[:2], strict=True):
            np.testing.assert_allclose(a[row, :count], b[row, :count], rtol=0, atol=tolerance)


# Against the reference.


SHAPES = {
    "1 layer": random_shape(layers=1),
    "2 layers": random_shape(layers=2),
    "6 layers": random_shape(layers=6, hidden=24, heads=3),
    "12 layers": random_shape(layers=12),
    "24 layers": random_shape(layers=24, heads=4),
    "gelu_tanh": random_shape(activation="gelu_tanh"),
    "relu": random_shape(activation="relu"),
    "1 head": random_shape(heads=1),
    "heads of 1": random_shape(hidden=8, heads=8),
    "1 head of 7": random_shape(hidden=7, heads=1),
    "wide": random_shape(hidden=64, heads=4, feed_forward=256),
    "narrow feed-forward": random_shape(feed_forward=3),
    "hidden of 4, feed-forward of 1": random_shape(hidden=4, feed_forward=1),
    "1 token type": random_shape(token_types=1),
    "3 token types": random_shape(token_types=3),
    "large epsilon": random_shape(norm_epsilon=0.05),
    "no longer than the batch": random_shape(positions=33),
    "the question votes": random_shape(layers=4, significance="question"),
    "the question votes, 12 heads": random_shape(layers=6, hidden=24, heads=12, significance="question"),
    "a significance head": random_shape(layers=4, significance_head=True),
    "a significance head, the question votes": random_shape(
        layers=6, hidden=24, heads=12, significance="question", significance_head=True
    ),
    "as RoBERTa": random_shape(token_types=1, typed=False, first_position=2),
    "types that are not read": random_shape(token_types=2, typed=False, significance="question"),
    "as DistilBERT": random_shape(layers=3, token_types=0, typed=False),
    "as ELECTRA": random_shape(layers=3, embedding=6, projected=True),
    "as MPNet": random_shape(layers=4, token_types=0, typed=False, first_position=2, distances=32),
    "as MPNet, the question votes": random_shape(
        layers=4, hidden=24, heads=3, token_types=0, typed=False, distances=40, significance="question"
    ),
    "as MPNet, a significance head": random_shape(
        layers=4, token_types=0, typed=False, first_position=2, distances=32, significance_head=True
    ),
    "as ALBERT": random_shape(layers=3, embedding=8, projected=True, sharing=(0, 0, 0), activation="gelu_tanh"),
    "as ALBERT, two groups": random_shape(
        layers=5, projected=True, sharing=(0, 0, 0, 1, 1), significance="question", significance_head=True
    ),
    "as DeBERTa v3": random_shape(
        layers=4,
        token_types=0,
        typed=False,
        disentangled=Disentangled(
            span=8, longest=64, to_position=True, to_content=True, shared=True, normed=True, positioned=False
        ),
    ),
    "as DeBERTa v2, own projections, the question votes": random_shape(
        layers=3,
        hidden=24,
        heads=3,
        significance="question",
        embedding=10,
        projected=True,
        disentangled=Disentangled(span=12, to_position=True, to_content=True),
    ),
    "as DeBERTa, content to position": random_shape(
        layers=3, disentangled=Disentangled(span=5, longest=20, to_position=True)
    ),
    "as DeBERTa, position to content": random_shape(
        layers=3,
        token_types=2,
        typed=False,
        disentangled=Disentangled(span=4, longest=8, to_content=True, normed=True),
    ),
    "as the first DeBERTa": random_shape(
        layers=3,
        hidden=24,
        heads=3,
        disentangled=Disentangled(span=15, to_position=True, to_content=True, positioned=False, packed=True),
    ),
    "as DeBERTa without relative positions": random_shape(disentangled=Disentangled()),
    "as MobileBERT": random_shape(
        layers=4,
        hidden=24,
        embedding=7,
        projected=True,
        activation="relu",
        significance="question",
        significance_head=True,
        bottleneck=Bottleneck(width=8, feed_forwards=3),
    ),
    "as MobileBERT, one feed-forward": random_shape(
        layers=2, typed=False, embedding=7, projected=True, bottleneck=Bottleneck(width=20, feed_forwards=1)
    ),
    "as ModernBERT": random_shape(
        layers=6,
        token_types=0,
        typed=False,
        norm_epsilon=1e-5,
        modern=Modern(bases=(1e5, 1e2, 1e2) * 2, local=(False, True, True) * 2, reach=6, head_activation="gelu_tanh"),
    ),
    "as ModernBERT with biases": random_shape(
        layers=3,
        hidden=24,
        heads=3,
        token_types=0,
        typed=False,
        activation="gelu_tanh",
        significance_head=True,
        modern=Modern(
            bases=(1e4,) * 3,
            local=(True, False, True),
            reach=2,
            attention_bias=True,
            feed_forward_bias=True,
            norm_bias=True,
            head_bias=True,
        ),
    ),
    "as ModernBERT, all attention everywhere, the question votes": random_shape(
        layers=4,
        token_types=0,
        typed=False,
        significance="question",
        significance_head=True,
        modern=Modern(bases=(1e5,) * 4, local=(False,) * 4, reach=64, norm_bias=True),
    ),
}

CONFIGS = {
    "full": lambda n: LengthConfig.full(n),
    "uniform": lambda n: LengthConfig.uniform(n, 0.8),
    "slow": lambda n: LengthConfig.uniform(n, 0.95),
    "late": lambda n: LengthConfig((1.0,) * (n // 2) + (0.5,) * (n - n // 2)),
    "last": lambda n: LengthConfig((1.0,) * (n - 1) + (0.3,)),
    "first": lambda n: LengthConfig((0.4,) * n),
    "steps": lambda n: LengthConfig(tuple(1 - 0.5 * (i // 2) / n for i in range(n))),
    "two tokens": lambda n: LengthConfig((1e-6,) * n),
}

TOKENS = (2, 31, 3, 17, 1, 8)


@FUSED
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_padded_batch_equals_the_reference(
    shape: ModelShape, config: Callable[[int], LengthConfig], fused: bool
) -> None:
    batch = of(shape, TOKENS, config(shape.layers), extra=2)
    logits = runner(shape, fused=fused)(batch)
    assert_equals_reference(shape, random_weights(shape), batch, logits)


@FUSED
@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 33])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_a_sequence_alone_equals_the_reference(tokens: int, config: Callable[[int], LengthConfig], fused: bool) -> None:
    shape = SHAPES["6 layers"]
    batch = of(shape, [tokens], config(shape.layers))
    assert_equals_reference(shape, random_weights(shape), batch, runner(shape, fused=fused)(batch))


@pytest.mark.parametrize("seed", range(5))
def test_a_model_of_usual_proportions_equals_the_reference(seed: int) -> None:
    shape = random_shape(layers=4, hidden=96, heads=6, feed_forward=384, vocabulary=300, positions=128)
    batch = of(shape, (120, 64, 2, 99), LengthConfig((0.9, 0.7, 0.7, 0.3)), seed=seed)
    assert_equals_reference(shape, random_weights(shape, seed), batch, runner(shape, seed=seed)(batch))


@FUSED
def test_each_row_has_lengths_of_its_own(fused: bool) -> None:
    """Rows of one length, of which each follows a budget of its own."""
    shape = SHAPES["6 layers"]
    names = ["full", "first", "late", "two tokens", "uniform", "last"]
    lengths = np.concatenate([CONFIGS[name](6).lengths([20]) for name in names])
    batch = random_batch(shape, lengths, [20] * len(names))
    logits = runner(shape, fused=fused)(batch)
    assert_equals_reference(shape, random_weights(shape), batch, logits)
    assert (logits.layers_passed[0] == 6).all()


def test_the_first_token_may_be_the_only_one_left() -> None:
    shape = SHAPES["6 layers"]
    batch = random_batch(shape, [[9, 5, 1, 1, 1, 1], [1] * 6, [4, 4, 4, 4, 4, 1]], [9, 12, 4])
    logits = runner(shape)(batch)
    assert_equals_reference(shape, random_weights(shape), batch, logits)
    assert logits.layers_passed[:, 0].tolist() == [6, 6, 6]


@FUSED
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_as_many_tokens_pass_each_layer_as_the_lengths_say(config: Callable[[int], LengthConfig], fused: bool) -> None:
    shape = SHAPES["12 layers"]
    batch = of(shape, TOKENS, config(shape.layers), extra=3)
    passed = runner(shape, fused=fused)(batch).layers_passed
    for row, count in enumerate(TOKENS):
        real = passed[row, :count]
        assert [(real > i).sum() for i in range(shape.layers)] == batch.lengths[row].tolist()
        assert real[0] == shape.layers


@st.composite
def variants(draw: st.DrawFn, shape: ModelShape) -> ModelShape:
    """A DeBERTa, a ModernBERT or a MobileBERT of about the sizes of `shape`."""
    kind = draw(st.sampled_from(["deberta", "modern", "mobile"]))
    layers, flag = range(shape.layers), st.booleans()
    if kind == "deberta":
        to_position = draw(flag)
        packed = draw(flag)
        span = draw(st.integers(4, 12))
        relative = Disentangled(
            span=span,
            longest=0 if packed or draw(flag) else draw(st.integers(span // 2 + 2, 40)),
            to_position=to_position,
            to_content=not to_position or draw(flag),
            shared=not packed and draw(flag),
            normed=not packed and draw(flag),
            positioned=draw(flag),
            packed=packed,
        )
        return replace(shape, disentangled=relative, significance_head=False)
    if kind == "modern":
        local = tuple(draw(flag) if shape.significance == "all" else False for _ in layers)
        bases = tuple(draw(st.sampled_from([10.0, 1e4])) for _ in layers)
        biases = {name: draw(flag) for name in ("attention_bias", "feed_forward_bias", "norm_bias", "head_bias")}
        modern = Modern(bases=bases, local=local, reach=draw(st.integers(0, 12)), **biases)
        hidden = 2 * shape.hidden
        return replace(shape, hidden=hidden, token_types=0, typed=False, norm_epsilon=1e-5, modern=modern)
    narrow = Bottleneck(width=shape.heads * draw(st.integers(2, 4)), feed_forwards=draw(st.integers(1, 3)))
    return replace(shape, embedding=draw(st.integers(1, 9)), projected=True, bottleneck=narrow)


@st.composite
def cases(draw: st.DrawFn, of_bert: bool = True) -> tuple[ModelShape, Batch, int]:
    heads = draw(st.integers(1, 3))
    shape = random_shape(
        layers=draw(st.integers(1, 4)),
        heads=heads,
        hidden=heads * draw(st.integers(2, 6)),
        feed_forward=draw(st.integers(1, 12)),
        activation=draw(st.sampled_from(["gelu", "gelu_tanh", "relu"])),
        significance=draw(st.sampled_from(["all", "question"])),
        significance_head=draw(st.booleans()),
    )
    if not of_bert:
        shape = draw(variants(shape))
    tokens = draw(st.lists(st.integers(1, 20), min_size=1, max_size=4))
    lengths = []
    for real in tokens:
        row = [real]
        for _ in range(shape.layers):
            row.append(draw(st.integers(1, row[-1])))
        lengths.append(row[1:])
    seed = draw(st.integers(0, 1000))
    return shape, random_batch(shape, lengths, tokens, extra=draw(st.integers(0, 3)), seed=seed), seed


@pytest.mark.slow
@given(cases())
@settings(deadline=None, database=None, max_examples=40, derandomize=True)
def test_any_batch_of_any_model_equals_the_reference(case: tuple[ModelShape, Batch, int]) -> None:
    assert_case_equals_the_reference(case)


@pytest.mark.slow
@given(cases(of_bert=False))
@settings(deadline=None, database=None, max_examples=40, derandomize=True)
def test_any_batch_of_other_architectures_equals_the_reference(case: tuple[ModelShape, Batch, int]) -> None:
    assert_case_equals_the_reference(case)


def assert_case_equals_the_reference(case: tuple[ModelShape, Batch, int]) -> None:
    shape, batch, seed = case
    weights = random_weights(shape, seed)
    for row in rows_of(batch):
        assume(answer(shape, weights, row.input_ids[0], row.token_type_ids[0], row.lengths[0]).margin > TIE)
    for fused in (True, False):
        assert_equals_reference(shape, weights, batch, runner(shape, seed=seed, fused=fused)(batch))


# An answer does not depend on its neighbours.


LATE = LengthConfig((1.0, 0.9, 0.9, 0.6, 0.4, 0.3))


@FUSED
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_alone_or_in_a_batch_the_same(config: Callable[[int], LengthConfig], fused: bool) -> None:
    shape, run = SHAPES["6 layers"], runner(SHAPES["6 layers"], fused=fused)
    batch = of(shape, TOKENS, config(6), extra=4)
    together = run(batch)
    for row, alone in enumerate(rows_of(batch)):
        assert_same(run(alone), Logits(*(value[row : row + 1] for value in together)), [TOKENS[row]])


def test_near_ties_are_ordered_alike_alone_and_in_a_batch() -> None:
    """Votes that add up to the same but for rounding: who adds them in another order puts the tokens in another."""
    tokens, heads = 40, 12
    builder = Builder(random_shape(hidden=24, heads=heads), {}, "fp32", fused_attention=True)
    g = builder.g
    votes, kept = g.input("votes", np.float32, ["b", heads, "n", "n"]), g.input("kept", np.int64, ["b", 1])
    x = g.input("x", np.float32, ["b", "n", 1])
    builder.one, builder.zero = g.constant([1]), g.constant([0])
    builder.batch = g.node("Shape", votes, start=0, end=1)
    builder.rows = g.node("Unsqueeze", builder.count_to(g, builder.batch), builder.one)
    state = State(x, "", "", "")
    g.output(builder.choose(g, state, votes, kept, builder.width(g, x)), "chosen", np.int64, ["b", "n"])
    session = onnxruntime.InferenceSession(encode_model(g, opset=20), providers=["CPUExecutionProvider"])
    draw = np.random.default_rng(0)
    same = draw.random((heads, tokens), np.float32)
    near = np.stack([draw.permuted(same.ravel()).reshape(heads, tokens) for _ in range(tokens)], axis=-1)
    batch = np.stack([near, draw.random(near.shape, np.float32), near])
    given = {"votes": batch, "kept": np.full((3, 1), tokens), "x": np.zeros((3, tokens, 1), np.float32)}
    (together,) = session.run(None, given)
    for row in range(3):
        (alone,) = session.run(None, {name: value[row : row + 1] for name, value in given.items()})
        np.testing.assert_array_equal(alone[0], together[row] - row * tokens)


def test_a_significance_head_reads_alike_alone_and_in_a_batch() -> None:
    shape = random_shape(hidden=384, heads=12, significance_head=True)
    builder = Builder(shape, random_weights(shape), "fp32", fused_attention=True)
    g = builder.g
    builder.layer_weights(1)
    context = g.input("context", np.float32, ["b", "n", 384])
    g.output(builder.read_significance(g, "layers.1", context), "factor", np.float32, ["b", "n"])
    session = onnxruntime.InferenceSession(encode_model(g, opset=20), providers=["CPUExecutionProvider"])
    given = np.random.default_rng(0).normal(size=(5, 37, 384)).astype(np.float32)
    (together,) = session.run(None, {"context": given})
    for row in range(5):
        (alone,) = session.run(None, {"context": given[row : row + 1]})
        np.testing.assert_array_equal(alone[0], together[row])
        (fewer,) = session.run(None, {"context": given[row : row + 1, :11]})
        np.testing.assert_array_equal(fewer[0], together[row, :11])


@pytest.mark.parametrize("loud", [1e3, 1e30])
def test_a_significance_head_that_shouts_drops_all_but_the_first_token(loud: float) -> None:
    """Its factor is bounded, so the first token always stays, and nothing becomes infinite."""
    shape = SHAPES["a significance head"]
    weights = random_weights(shape)
    for i in range(shape.layers):
        weights[f"layers.{i}.significance_head"] = weights[f"layers.{i}.significance_head"] * np.float32(loud)
    graph = build_graph(shape, weights, fused_attention=True)
    session = onnxruntime.InferenceSession(encode_model(graph), _quiet(), providers=["CPUExecutionProvider"])
    batch = of(shape, [4, 30], CONFIGS["first"](shape.layers), extra=2)
    assert_equals_reference(shape, weights, batch, session.run(list(OUTPUTS), feeds(batch)))


def test_in_any_order_the_same() -> None:
    shape, run = SHAPES["6 layers"], runner(SHAPES["6 layers"])
    batch = of(shape, TOKENS, LATE)
    before = run(batch)
    for order in ([5, 4, 3, 2, 1, 0], [1, 3, 5, 0, 2, 4]):
        after = run(Batch(*(value[order] for value in batch)))
        assert_same(after, Logits(*(value[order] for value in before)), [TOKENS[row] for row in order])


def test_beside_itself_the_same() -> None:
    shape, run = SHAPES["6 layers"], runner(SHAPES["6 layers"])
    alone = of(shape, [15], LATE)
    copies = run(Batch(*(np.repeat(value, 3, axis=0) for value in alone)))
    for row in range(3):
        assert_same(Logits(*(value[row : row + 1] for value in copies)), run(alone), [15])


@FUSED
@pytest.mark.parametrize("extra", [1, 7, 30])
def test_more_padding_changes_nothing(extra: int, fused: bool) -> None:
    shape, run = SHAPES["6 layers"], runner(SHAPES["6 layers"], fused=fused)
    tokens = [2, 3, 31]
    for config in (LengthConfig.full(6), LATE):
        assert_same(run(of(shape, tokens, config, extra=extra)), run(of(shape, tokens, config)), tokens)


@FUSED
def test_what_padding_holds_changes_nothing(fused: bool) -> None:
    shape, run = SHAPES["6 layers"], runner(SHAPES["6 layers"], fused=fused)
    rng = np.random.default_rng(5)
    for config in (LengthConfig.full(6), LATE):
        batch = of(shape, TOKENS, config, extra=5)
        padding = batch.attention_mask == 0
        wanted = run(batch)
        for fill in (0, shape.vocabulary - 1, rng.integers(0, shape.vocabulary, padding.sum())):
            ids, types = batch.input_ids.copy(), batch.token_type_ids.copy()
            ids[padding], types[padding] = fill, rng.integers(0, 2, padding.sum())
            got = run(batch._replace(input_ids=ids, token_type_ids=types))
            assert_same(got, wanted, TOKENS, tolerance=1e-6)


@FUSED
def test_states_of_padding_that_shout_are_not_heard(fused: bool) -> None:
    """Padding whose embedding attracts all attention, beside a row that is not padded."""
    shape = SHAPES["6 layers"]
    weights = random_weights(shape)
    word = weights["embeddings.word"].copy()
    word[7] *= 1e4
    weights["embeddings.word"] = word
    graph = build_graph(shape, weights, fused_attention=fused)
    session = onnxruntime.InferenceSession(encode_model(graph), _quiet(), providers=["CPUExecutionProvider"])
    batch = of(shape, [4, 30], LATE, extra=2)
    batch.input_ids[batch.attention_mask == 0] = 7
    logits = session.run(list(OUTPUTS), feeds(batch))
    assert_equals_reference(shape, weights, batch, logits)


def _quiet() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return options


def test_fused_and_portable_attention_agree() -> None:
    for name in ("6 layers", "24 layers", "heads of 1", "wide"):
        shape = SHAPES[name]
        for config in CONFIGS.values():
            batch = of(shape, TOKENS, config(shape.layers), extra=1)
            fused, portable = runner(shape)(batch), runner(shape, fused=False)(batch)
            assert_same(fused, portable, TOKENS, tolerance=1e-5)


# Against transformers.


TRANSFORMERS = {
    "1 layer, gelu": {"layers": 1},
    "2 layers, gelu_new": {"layers": 2, "act": "gelu_new"},
    "2 layers, gelu_pytorch_tanh": {"layers": 2, "act": "gelu_pytorch_tanh"},
    "2 layers, relu": {"layers": 2, "act": "relu"},
    "2 layers, 1 head": {"layers": 2, "heads": 1},
    "6 layers": {"layers": 6},
    "12 layers": {"layers": 12, "heads": 2},
    "24 layers": {"layers": 24, "heads": 8},
    "large epsilon": {"layers": 2, "epsilon": 1e-3},
}


@pytest.mark.parametrize("sizes", TRANSFORMERS.values(), ids=TRANSFORMERS.keys())
def test_full_equals_transformers(sizes: dict[str, Any], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from dynamic_tinybert.folder import open_folder
    from dynamic_tinybert.runtime import Runtime

    config = transformers.BertConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes.get("heads", 4),
        intermediate_size=64,
        hidden_act=sizes.get("act", "gelu"),
        max_position_embeddings=48,
        layer_norm_eps=sizes.get("epsilon", 1e-12),
    )
    model = transformers.BertForQuestionAnswering(config).eval()
    generator = torch.Generator().manual_seed(sizes["layers"])
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if "LayerNorm.weight" in name:
                value.copy_(1 + 0.1 * noise)
            elif value.ndim == 1:
                value.copy_(0.2 * noise)
            else:
                value.copy_(noise if "embeddings" in name else noise * value.shape[1] ** -0.5)
                if "attention.output" in name:  # else all tokens of a deep model are the same
                    value.mul_(0.3)
    model.save_pretrained(tmp_path)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(55))]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")

    folder = open_folder(tmp_path)
    tokens = [48, 2, 3, 25, 40]
    batch = of(folder.shape, tokens, LengthConfig.full(sizes["layers"]), seed=1)
    with torch.no_grad():
        wanted = model(
            input_ids=torch.from_numpy(batch.input_ids),
            token_type_ids=torch.from_numpy(batch.token_type_ids),
            attention_mask=torch.from_numpy(batch.attention_mask),
        )
    theirs = Logits(wanted.start_logits.numpy(), wanted.end_logits.numpy(), np.full((5, 48), sizes["layers"], np.int64))
    assert theirs.start[0].std() > 0.1
    assert_same(Runtime(folder.shape, folder.weights).run(*batch), theirs, tokens)
    # The reference, which speaks for what transformers cannot do, is held to it where they meet.
    assert_equals_reference(folder.shape, folder.weights, batch, theirs)


# What is dropped costs nothing.


class Step(NamedTuple):
    """A node that ran: what it does, the shapes of what it read and of what it wrote."""

    op: str
    read: list[list[int]]
    wrote: list[list[int]]


def profile(model: bytes, batch: Batch, folder: Path) -> list[Step]:
    """Run a model as it is written, without ONNX Runtime's rewriting, and say what ran."""
    options = _quiet()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    session.run(None, feeds(batch))
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    steps = []
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            args = event["args"]
            read, wrote = (
                [next(iter(entry.values())) for entry in args[key]] for key in ("input_type_shape", "output_type_shape")
            )
            steps.append(Step(args["op_name"], read, wrote))
    return steps


def multiplied(steps: list[Step]) -> int:
    """Multiply-accumulates that ran."""
    total = 0
    for op, read, wrote in steps:
        if op == "MatMul":
            total += int(np.prod(wrote[0])) * read[0][-1]
        elif op == "Attention":
            rows, width, hidden = read[0]
            total += 2 * rows * width * width * hidden
    return total


COSTLY = ModelShape(layers=6, hidden=48, heads=3, feed_forward=192, vocabulary=50, positions=128)
COSTLY_VARIANTS = {
    "BERT": COSTLY,
    "DeBERTa": replace(
        COSTLY, disentangled=Disentangled(span=20, longest=60, to_position=True, to_content=True, shared=True)
    ),
    "MobileBERT": replace(
        COSTLY, heads=4, embedding=16, projected=True, bottleneck=Bottleneck(width=32, feed_forwards=4)
    ),
    "ModernBERT": replace(
        COSTLY, modern=Modern(bases=(1e5, 1e4, 1e4) * 2, local=(False, True, True) * 2, reach=32), norm_epsilon=1e-5
    ),
}


@FUSED
def test_after_a_drop_tensors_are_as_wide_as_the_longest_row(fused: bool, tmp_path: Path) -> None:
    batch = of(COSTLY, [40, 100, 7], LengthConfig((1.0, 0.7, 0.7, 0.5, 0.2, 0.1)), extra=5)
    steps = profile(encode(COSTLY, fused=fused), batch, tmp_path)
    before, after = [105, 105, 70, 70, 50, 20], [105, 70, 70, 50, 20, 10]
    assert [step.wrote[0] for step in steps if step.op == "Gelu"] == [[3, width, 192] for width in after]
    if fused:
        assert [step.wrote[0] for step in steps if step.op == "Attention"] == [[3, width, 48] for width in before]
    else:
        wanted = [[3, 3, width, width] for width in before]
        assert [step.wrote[0] for step in steps if step.op == "Softmax"] == wanted


@FUSED
@pytest.mark.parametrize("costly", COSTLY_VARIANTS.values(), ids=COSTLY_VARIANTS.keys())
@pytest.mark.parametrize(
    "fractions", [(1.0,) * 6, (0.5,) * 6, (0.9, 0.8, 0.6, 0.4, 0.3, 0.2), (1.0, 1.0, 1.0, 0.5, 0.4, 0.3), (0.01,) * 6]
)
def test_what_runs_is_what_is_counted(
    fractions: tuple[float, ...], costly: ModelShape, fused: bool, tmp_path: Path
) -> None:
    config = LengthConfig(fractions)
    spent = multiplied(profile(encode(costly, fused=fused), of(costly, [100], config), tmp_path))
    counted = macs(costly, [100], config)
    assert spent < 1.03 * counted
    if config == LengthConfig.full(6):
        assert spent == pytest.approx(counted, rel=0.005)  # the span head is not counted
    else:
        assert spent < 0.9 * macs(costly, [100])


@FUSED
def test_who_drops_nothing_pays_for_no_choosing(fused: bool, tmp_path: Path) -> None:
    steps = profile(encode(COSTLY, fused=fused), of(COSTLY, [50, 50], LengthConfig.full(6)), tmp_path)
    ran = [step.op for step in steps]
    assert "TopK" not in ran
    assert "ScatterND" not in ran
    assert ran.count("Gather") == 3  # the embeddings
    assert ran.count("Gelu") == 6


@FUSED
def test_choosing_happens_only_in_layers_that_drop(fused: bool, tmp_path: Path) -> None:
    config = LengthConfig((1.0, 0.7, 0.7, 0.7, 0.3, 0.3))
    steps = profile(encode(COSTLY, fused=fused), of(COSTLY, [50, 20], config), tmp_path)
    assert [step.op for step in steps].count("TopK") == 2


# The graph as a thing.


@FUSED
@pytest.mark.parametrize("name", SHAPES)
def test_the_graph_passes_the_checker(name: str, fused: bool) -> None:
    onnx.checker.check_model(onnx.load_from_string(encode(SHAPES[name], fused=fused)), full_check=True)


def test_probabilities_are_computed_only_where_tokens_are_dropped(tmp_path: Path) -> None:
    batch = of(COSTLY, [100], LengthConfig((1.0, 1.0, 0.7, 0.7, 0.5, 0.5)))
    steps = profile(encode(COSTLY, precision="int8", fused=True), batch, tmp_path)
    ran = [(step.op, len(step.wrote)) for step in steps if step.op in ("Attention", "MultiHeadAttention")]
    assert [op for op, _ in ran] == ["MultiHeadAttention"] * 2 + [
        "Attention", "MultiHeadAttention", "Attention", "MultiHeadAttention",
    ]  # fmt: skip


@FUSED
def test_the_int8_graph_passes_the_checker(fused: bool) -> None:
    model = onnx.load_from_string(encode(SHAPES["6 layers"], fused=fused, precision="int8"))
    onnx.checker.check_model(model)


def nodes_of(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    nodes = []
    for node in graph.node:
        nodes.append(node)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                nodes += nodes_of(attribute.g)
    return nodes


@FUSED
def test_the_fp32_graph_needs_only_operators_of_onnx(fused: bool) -> None:
    for shape in SHAPES.values():
        model = onnx.load_from_string(encode(shape, fused=fused))
        opset = next(entry.version for entry in model.opset_import if not entry.domain)
        assert opset == (23 if fused else 20)
        for node in nodes_of(model.graph):
            if fused and node.op_type == "MultiHeadAttention":  # in ONNX Runtime alone
                continue
            assert node.domain == ""
            assert onnx.defs.get_schema(node.op_type, opset).since_version <= opset


def test_inputs_and_outputs_are_as_documented() -> None:
    session = onnxruntime.InferenceSession(encode(SHAPES["6 layers"]), _quiet(), providers=["CPUExecutionProvider"])
    two = ["batch", "tokens"]
    assert {value.name: (value.type, value.shape) for value in session.get_inputs()} == {
        "input_ids": ("tensor(int64)", two),
        "attention_mask": ("tensor(int64)", two),
        "token_type_ids": ("tensor(int64)", two),
        "lengths": ("tensor(int64)", ["batch", 6]),
    }
    assert {value.name: (value.type, value.shape) for value in session.get_outputs()} == {
        "start_logits": ("tensor(float)", two),
        "end_logits": ("tensor(float)", two),
        "layers_passed": ("tensor(int64)", two),
    }


def test_building_leaves_the_weights_alone() -> None:
    shape = SHAPES["2 layers"]
    weights = random_weights(shape)
    before = {name: value.copy() for name, value in weights.items()}
    for precision in ("fp32", "int8"):
        build_graph(shape, weights, precision=precision)
    assert weights.keys() == before.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(weights[name], value)


def test_large_weights_are_stored_once() -> None:
    shape = random_shape(vocabulary=5000, hidden=64)
    weights = random_weights(shape)
    size = sum(value.nbytes for value in weights.values())
    assert len(encode_model(build_graph(shape, weights))) < 1.02 * size + 40_000


# INT8.


INT8 = ["1 layer", "24 layers", "relu", "gelu_tanh", "1 head of 7", "narrow feed-forward"]


@FUSED
def test_int8_is_near_fp32(fused: bool) -> None:
    shape = random_shape(layers=4, hidden=96, heads=6, feed_forward=384, vocabulary=300, positions=128)
    batch = of(shape, [100], LengthConfig.full(4))
    exact, rounded = runner(shape)(batch), runner(shape, precision="int8", fused=fused)(batch)
    for a, b in zip(exact[:2], rounded[:2], strict=True):
        assert np.isfinite(b).all()
        assert (a != b).any()
        assert np.corrcoef(a[0], b[0])[0, 1] > 0.98
        assert np.abs(a - b).mean() < 0.1 * a.std()


@FUSED
@pytest.mark.parametrize(
    "name", [*INT8, "as DeBERTa v3", "as ModernBERT", "as ModernBERT with biases", "as MobileBERT"]
)
def test_int8_keeps_as_many_tokens_as_it_is_told(name: str, fused: bool) -> None:
    shape = SHAPES[name]
    batch = of(shape, TOKENS, LengthConfig.uniform(shape.layers, 0.8), extra=2)
    start, end, passed = runner(shape, precision="int8", fused=fused)(batch)
    for row, count in enumerate(TOKENS):
        assert np.isfinite(start[row, :count]).all()
        assert np.isfinite(end[row, :count]).all()
        kept = [(passed[row, :count] > i).sum() for i in range(shape.layers)]
        assert kept == batch.lengths[row].tolist()
        assert passed[row, 0] == shape.layers


def test_int8_weights_have_8_bits_and_a_scale_for_each_output() -> None:
    shape = SHAPES["2 layers"]
    weights = random_weights(shape)
    stored = build_graph(shape, weights, precision="int8").weights
    for part in ("key", "value", "attention_output", "intermediate", "output"):
        name = f"layers.1.{part}"
        matrix, scale, given = stored[f"{name}.matrix"], stored[f"{name}.scale"], weights[f"{name}.weight"]
        assert matrix.dtype == np.int8
        assert np.abs(matrix).max() == 127
        assert scale.shape == given.shape[:1]
        np.testing.assert_allclose(matrix.T * scale[:, None], given, rtol=0, atol=scale.max() / 2 * 1.001)


def quantized(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray | QuantizedTensor]:
    """The weights as a folder in INT8 has them."""
    return {
        name: QuantizedTensor.round(value) if value.ndim == 2 and name not in ("span.weight", "distances") else value
        for name, value in weights.items()
    }


def test_int8_weights_of_a_folder_are_not_rounded_again() -> None:
    shape = SHAPES["2 layers"]
    given = quantized(random_weights(shape))
    stored = build_graph(shape, given, precision="int8").weights
    for part in ("query", "key", "value", "attention_output", "intermediate", "output"):
        weight = given[f"layers.1.{part}.weight"]
        assert isinstance(weight, QuantizedTensor)
        np.testing.assert_array_equal(stored[f"layers.1.{part}.matrix"], weight.values.T)
    word = given["embeddings.word"]
    assert isinstance(word, QuantizedTensor)
    assert stored["embeddings.word"] is word.values


@pytest.mark.parametrize("fused", [True, False])
def test_fp32_of_weights_in_int8_equals_fp32_of_the_same_weights_in_float32(fused: bool) -> None:
    shape = SHAPES["2 layers"]
    given = quantized(random_weights(shape))
    same = {name: value.float32() if isinstance(value, QuantizedTensor) else value for name, value in given.items()}
    batch = of(shape, [12, 7], LengthConfig((0.8, 0.5)))
    one, other = (
        onnxruntime.InferenceSession(
            encode_model(build_graph(shape, weights, fused_attention=fused), opset=23 if fused else 20),
            _quiet(),
            providers=["CPUExecutionProvider"],
        ).run(list(OUTPUTS), feeds(batch))
        for weights in (given, same)
    )
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_int8_takes_a_channel_of_zeros() -> None:
    shape = SHAPES["2 layers"]
    weights = random_weights(shape)
    for name in ("layers.0.query.weight", "layers.1.output.weight"):
        weights[name] = np.zeros_like(weights[name])
    model = encode_model(build_graph(shape, weights, precision="int8", fused_attention=False), opset=20)
    session = onnxruntime.InferenceSession(model, _quiet(), providers=["CPUExecutionProvider"])
    batch = of(shape, [9], LengthConfig((0.8, 0.5)))
    start, end, _ = session.run(list(OUTPUTS), feeds(batch))
    assert np.isfinite(start).all()
    assert np.isfinite(end).all()
