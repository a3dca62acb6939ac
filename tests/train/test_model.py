"""The PyTorch model says what the runtime says, and what transformers says; its folders are transformers'."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import transformers
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.folder import open_folder, save_folder
from dynamic_tinybert.model import BudgetError, LengthConfig, ModelShape
from dynamic_tinybert.runtime import Logits, Runtime
from dynamic_tinybert.train import DynamicBertForQuestionAnswering, dropping
from dynamic_tinybert.train.models import load_model, load_student
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
from support.torch_models import bert_config, model_of

MPNET = {"token_types": 0, "typed": False, "first_position": 2, "distances": 32, "norm_epsilon": 1e-5}
SHAPES = {
    "2 layers": random_shape(),
    "1 layer": random_shape(layers=1),
    "relu": random_shape(activation="relu", layers=3),
    "gelu_tanh": random_shape(activation="gelu_tanh", layers=3),
    "1 head": random_shape(heads=1),
    "heads of 1": random_shape(heads=16),
    "6 layers": random_shape(layers=6, hidden=24, heads=3),
    "12 layers": random_shape(layers=12, hidden=24, heads=3),
    "narrow feed-forward": random_shape(feed_forward=5),
    "large epsilon": random_shape(norm_epsilon=1e-3),
    "3 token types": random_shape(token_types=3),
    "the question votes": random_shape(layers=4, significance="question"),
    "a significance head": random_shape(layers=4, significance="question", significance_head=True),
    "MPNet": random_shape(**MPNET, layers=4),
    "MPNet, the question votes": random_shape(**MPNET, layers=6, hidden=24, heads=4, significance="question"),
    "MPNet, a significance head": random_shape(**MPNET, layers=4, significance_head=True),
}
MPNETS = ["MPNet", "MPNet, the question votes", "MPNet, a significance head"]
TOKENS = [40, 1, 2, 17, 33]


@functools.cache
def pair(name: str) -> tuple[ModelShape, Any, Runtime]:
    """A shape, and on the same weights our model and the runtime."""
    shape = SHAPES[name]
    weights = random_weights(shape)
    return shape, model_of(shape, weights), Runtime(shape, weights, threads=1)


def call(model: Any, batch: Batch, *, lengths: Any = None, **options: Any) -> Any:
    ids, types, mask = (torch.from_numpy(x) for x in batch[:3])
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask, token_type_ids=types, length_config=lengths, **options)


def as_logits(output: Any) -> Logits:
    return Logits(output.start_logits.numpy(), output.end_logits.numpy(), output.layers_passed.numpy())


def assert_same(one: Logits, other: Logits, counts: Sequence[int], *, tolerance: float) -> None:
    """Demand the same layers passed and the same logits at real positions."""
    for row, count in enumerate(counts):
        np.testing.assert_array_equal(one.layers_passed[row, :count], other.layers_passed[row, :count])
        for a, b in zip(one[:2], other[:2], strict=True):
            np.testing.assert_allclose(a[row, :count], b[row, :count], rtol=0, atol=tolerance)


def closest_choice(shape: ModelShape, weights: Any, batch: Batch) -> float:
    """How near to a tie the choice of tokens comes, anywhere in a batch."""
    return min(
        answer(
            shape, weights, row.input_ids[0].tolist(), row.token_type_ids[0].tolist(), row.lengths[0].tolist()
        ).margin
        for row in rows_of(batch)
    )


def unpadded(batch: Batch) -> Batch:
    """The batch without MPNet's padding token among its real ones, which transformers gives no place."""
    return batch._replace(input_ids=np.where(batch.input_ids == 1, 5, batch.input_ids))


def kept(output: Any, row: int, layers: int) -> list[int]:
    return [int((output.layers_passed[row] > layer).sum()) for layer in range(layers)]


# Against the runtime.


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("retention", [1.0, 0.8, 0.5])
def test_it_equals_the_runtime(name: str, retention: float) -> None:
    shape, model, runtime = pair(name)
    config = LengthConfig.uniform(shape.layers, retention)
    batch = random_batch(shape, config.lengths(TOKENS), TOKENS, extra=3, seed=1)
    found = as_logits(call(model, batch, lengths=config))
    assert found.start.dtype == np.float32
    assert_same(found, runtime.run(*batch), TOKENS, tolerance=1e-3)
    # The plain reference too, which says that no choice was a tie.
    assert_equals_reference(shape, random_weights(shape), batch, found)


@settings(max_examples=60)
@given(data=st.data())
def test_it_equals_the_runtime_at_every_configuration_in_every_batch(data: st.DataObject) -> None:
    shape, model, runtime = pair(data.draw(st.sampled_from(["2 layers", "relu", "the question votes", *MPNETS])))
    tokens = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))
    fractions = sorted(
        data.draw(st.lists(st.floats(0.02, 1.0), min_size=shape.layers, max_size=shape.layers)), reverse=True
    )
    config = LengthConfig(tuple(fractions))
    extra, seed = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 50))
    batch = random_batch(shape, config.lengths(tokens), tokens, extra=extra, seed=seed)
    assume(closest_choice(shape, random_weights(shape), batch) > TIE)
    wanted = runtime.run(*batch)
    given_fractions = data.draw(st.booleans())
    lengths = config if given_fractions else torch.from_numpy(batch.lengths)
    assert_same(as_logits(call(model, batch, lengths=lengths)), wanted, tokens, tolerance=1e-3)


@settings(max_examples=40)
@given(data=st.data())
def test_it_takes_lengths_row_by_row(data: st.DataObject) -> None:
    shape, model, runtime = pair("6 layers")
    tokens = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))
    lengths = []
    for count in tokens:
        row, most = [], count
        for _ in range(shape.layers):
            most = data.draw(st.integers(1, most))
            row.append(most)
        lengths.append(row)
    batch = random_batch(shape, lengths, tokens, seed=2)
    assume(closest_choice(shape, random_weights(shape), batch) > TIE)
    output = call(model, batch, lengths=torch.tensor(lengths))
    assert [kept(output, row, shape.layers) for row in range(len(tokens))] == lengths
    assert_same(as_logits(output), runtime.run(*batch), tokens, tolerance=1e-3)


CONFIGS = [
    LengthConfig.full(6),
    LengthConfig((1.0, 1.0, 0.8, 0.6, 0.5, 0.4)),
    LengthConfig((0.9, 0.9, 0.7, 0.7, 0.3, 0.3)),
    LengthConfig.uniform(6, 0.7),
    LengthConfig((0.1,) * 6),
]


@pytest.mark.slow
def test_it_equals_the_runtime_on_trained_weights(embedded: Path, qa: QuestionAnswerer) -> None:
    folder = open_folder(embedded)
    model = model_of(folder.shape, folder.weights)
    texts = [
        ("Who built the lighthouse?", "The lighthouse of Port Ellis was built by Agnes Moreau in 1871. " * 3),
        ("When?", "In 1871."),
        ("Where is the tower that the engineer designed?", "The tower stands in Paris, by the river. " * 6),
    ]
    windows = [
        window
        for question, text in texts
        for window in qa.reader.windows(question, text, max_seq_len=384, doc_stride=128, max_question_len=64)
    ]
    counts = [len(window) for window in windows]
    batch = Batch(*(np.zeros((3, max(counts)), np.int64) for _ in range(3)), np.zeros((3, 6), np.int64))
    for row, window in enumerate(windows):
        batch.input_ids[row, : len(window)] = window.ids
        batch.token_type_ids[row, : len(window)] = window.type_ids
        batch.attention_mask[row, : len(window)] = 1
    for config in CONFIGS:
        asked = batch._replace(lengths=config.lengths(counts))
        wanted = qa.reader.runtime.run(*asked)
        found = as_logits(call(model, asked, lengths=config))
        assert closest_choice(folder.shape, folder.weights, asked) > TIE
        assert_same(found, wanted, counts, tolerance=1e-3)


def test_a_sequence_keeps_two_tokens_at_the_least_and_a_single_one_itself() -> None:
    shape, model, _ = pair("6 layers")
    batch = random_batch(shape, np.ones((4, 6)), [1, 2, 3, 40])
    output = call(model, batch, lengths=LengthConfig((0.001,) * 6))
    assert [kept(output, row, 6)[0] for row in range(4)] == [1, 2, 2, 2]
    assert (output.layers_passed[:, 0] == 6).all()


@pytest.mark.parametrize(("fraction", "tokens", "wanted"), [(0.28, 25, 7), (0.56, 25, 14), (0.5, 7, 4), (0.501, 6, 4)])
def test_a_share_is_rounded_up_but_not_for_a_rounding_error(fraction: float, tokens: int, wanted: int) -> None:
    """0.28 times 25 is 7.000000000000001."""
    shape, model, _ = pair("2 layers")
    batch = random_batch(shape, np.ones((2, 2)), [tokens, 40])
    output = call(model, batch, lengths=(fraction, fraction))
    assert kept(output, 0, 2) == [wanted, wanted]


def test_the_first_token_always_stays() -> None:
    shape, model, _ = pair("12 layers")
    for seed in range(5):
        batch = random_batch(shape, np.ones((2, 12)), [30, 40], seed=seed)
        output = call(model, batch, lengths=torch.from_numpy(batch.lengths))
        assert (output.layers_passed[:, 0] == 12).all()
        assert kept(output, 0, 12) == [1] * 12


def test_fractions_may_be_given_bare() -> None:
    shape, model, _ = pair("2 layers")
    batch = random_batch(shape, np.ones((2, 2)), [30, 40])
    bare, config = (call(model, batch, lengths=x) for x in ((0.7, 0.5), LengthConfig((0.7, 0.5))))
    assert torch.equal(bare.start_logits, config.start_logits)


def test_mask_and_types_may_be_left_out() -> None:
    shape, model, _ = pair("2 layers")
    ids = torch.from_numpy(random_batch(shape, np.ones((2, 2)), [30, 30]).input_ids)
    with torch.no_grad():
        short = model(ids, length_config=(0.7, 0.5))
        long = model(ids, torch.ones_like(ids), torch.zeros_like(ids), length_config=(0.7, 0.5))
    assert torch.equal(short.start_logits, long.start_logits)


# Against transformers.


def test_without_a_configuration_it_is_transformers_own() -> None:
    shape, model, _ = pair("6 layers")
    plain = model_of(shape, random_weights(shape), transformers.BertForQuestionAnswering)
    batch = random_batch(shape, np.ones((5, 6)), TOKENS, extra=2)
    ids, types, mask = (torch.from_numpy(x) for x in batch[:3])
    named = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    labels = {"start_positions": torch.tensor([3, 0, 1, 2, 5]), "end_positions": torch.tensor([4, 0, 1, 3, 9])}
    with torch.no_grad():
        found, wanted = (m(**named, **labels, output_hidden_states=True) for m in (model, plain))
    assert torch.equal(found.start_logits, wanted.start_logits)
    assert torch.equal(found.end_logits, wanted.end_logits)
    assert torch.equal(found.loss, wanted.loss)
    assert len(found.hidden_states) == 7
    assert all(torch.equal(a, b) for a, b in zip(found.hidden_states, wanted.hidden_states, strict=True))


@pytest.mark.parametrize("name", SHAPES)
def test_full_equals_plain(name: str) -> None:
    shape, model, _ = pair(name)
    batch = unpadded(random_batch(shape, np.ones((5, shape.layers)), TOKENS, extra=2))
    plain = call(model, batch)
    layers = list(range(shape.layers))
    for options in ({"lengths": LengthConfig.full(shape.layers)}, {"layer_config": layers}):
        full = call(model, batch, **options)
        for row, count in enumerate(TOKENS):
            assert (full.layers_passed[row, :count] == shape.layers).all()
            assert (full.layers_passed[row, count:] == 0).all()
            for side in ("start_logits", "end_logits"):
                difference = full[side][row, :count] - plain[side][row, :count]
                assert difference.abs().max() < 1e-4


@pytest.mark.parametrize("name", SHAPES)
def test_eager_attention_equals_transformers_in_training_and_teaches_the_same(name: str) -> None:
    shape = SHAPES[name]
    batch = unpadded(random_batch(shape, np.ones((5, shape.layers)), TOKENS, extra=2))
    ids, types, mask = (torch.from_numpy(x) for x in batch[:3])
    losses, models, found = [], [], []
    for eager in (False, True):
        # Without dropout, which would draw in another order.
        model = model_of(shape, random_weights(shape), hidden_dropout_prob=0, attention_probs_dropout_prob=0).train()
        model.eager = eager
        output = model(ids, mask, types)
        assert isinstance(output, dropping.DynamicOutput) == eager
        losses.append((output.start_logits[mask == 1] ** 2).sum() + (output.end_logits[mask == 1] ** 3).sum())
        losses[-1].backward()
        models.append(model)
        found.append(output)
    for side in ("start_logits", "end_logits"):
        assert (found[1][side] - found[0][side])[mask == 1].abs().max() < 1e-5
    named = dict(models[0].named_parameters())
    for part, value in models[1].named_parameters():
        if "significance_head" in part:
            assert value.grad is None
            assert named[part].grad is None
            continue
        scale = 1 + named[part].grad.abs().max()
        assert (value.grad - named[part].grad).abs().max() / scale < 1e-4, part


@pytest.mark.parametrize("name", ["6 layers", "MPNet"])
def test_eager_attention_is_for_training_alone_and_gives_way_to_options(name: str) -> None:
    shape = SHAPES[name]
    model = model_of(shape, random_weights(shape))
    model.eager = True
    batch = random_batch(shape, np.ones((2, shape.layers)), [12, 7])
    assert not isinstance(call(model, batch), dropping.DynamicOutput)
    model.train()
    assert isinstance(call(model, batch), dropping.DynamicOutput)
    assert len(call(model, batch, output_hidden_states=True).hidden_states) == shape.layers + 1


# Neighbours and padding.


@pytest.mark.parametrize("name", ["6 layers", "MPNet, the question votes"])
@pytest.mark.parametrize("config", [LengthConfig.full(6), LengthConfig((0.9, 0.9, 0.6, 0.5, 0.3, 0.2))])
def test_an_answer_does_not_depend_on_its_neighbours(config: LengthConfig, name: str) -> None:
    shape, model, _ = pair(name)
    batch = random_batch(shape, config.lengths(TOKENS), TOKENS, extra=7, seed=3)
    together = as_logits(call(model, batch, lengths=config))
    for row, alone in enumerate(rows_of(batch)):
        found = as_logits(call(model, alone, lengths=config))
        count = TOKENS[row]
        one = Logits(*(x[row : row + 1] for x in together))
        assert_same(one, found, [count], tolerance=1e-4)


@pytest.mark.parametrize("name", ["6 layers", "MPNet, the question votes"])
def test_what_stands_in_the_padding_does_not_matter(name: str) -> None:
    shape, model, _ = pair(name)
    config = LengthConfig.uniform(6, 0.7)
    batch = random_batch(shape, config.lengths(TOKENS), TOKENS, extra=4)
    other = Batch(
        np.where(batch.attention_mask == 1, batch.input_ids, 7),
        np.where(batch.attention_mask == 1, batch.token_type_ids, 0),
        *batch[2:],
    )
    one, two = (as_logits(call(model, x, lengths=config)) for x in (batch, other))
    assert_same(one, two, TOKENS, tolerance=1e-6)


# Votes.


@pytest.mark.parametrize("name", ["6 layers", "the question votes", "a significance head", *MPNETS])
def test_votes_say_who_stays(name: str) -> None:
    shape, model, _ = pair(name)
    config = LengthConfig.uniform(shape.layers, 0.7)
    batch = random_batch(shape, config.lengths(TOKENS), TOKENS, extra=3, seed=1)
    output = call(model, batch, lengths=config, output_votes=True)
    assert torch.equal(output.start_logits, call(model, batch, lengths=config).start_logits)
    assert output.votes.shape == (shape.layers, *batch.input_ids.shape)
    for layer in range(shape.layers):
        for row in range(len(TOKENS)):
            votes, passed = output.votes[layer, row], output.layers_passed[row]
            stayed, went = passed > layer, passed == layer
            assert (votes[passed < layer] == 0).all()
            assert (votes[TOKENS[row] :] == 0).all()
            went[TOKENS[row] :] = stayed[0] = False
            if stayed.any() and went.any():
                assert votes[stayed].min() > votes[went].max()
            voters = (torch.from_numpy(batch.token_type_ids[row]) == 0) | (shape.significance == "all")
            voters &= (passed >= layer) & torch.from_numpy(batch.attention_mask[row] == 1)
            if not shape.significance_head:
                assert votes.sum().item() == pytest.approx(shape.heads * int(voters.sum()), rel=1e-4)


def test_a_significance_head_is_what_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a loud head, the tokens that stay are those from whose mixed values it reads most."""
    shape, model, _ = pair("the question votes")
    model = model_of(shape, random_weights(shape))
    batch = random_batch(shape, [[10] * 4], [30])
    before = call(model, batch, lengths=torch.from_numpy(batch.lengths))
    model.set_significance(head=True)
    assert model.config.dynamic_tinybert == {"voters": "question", "significance_head": True}
    assert torch.equal(call(model, batch, lengths=torch.from_numpy(batch.lengths)).start_logits, before.start_logits)

    mixed: list[torch.Tensor] = []
    plain = type(model)._attend

    def attend(self: Any, layer: Any, state: Any, **options: Any) -> Any:
        found = plain(self, layer, state, **options)
        mixed.append(found[0])
        return found

    monkeypatch.setattr(type(model), "_attend", attend)
    head = torch.randn(shape.hidden, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        model.bert.encoder.layer[0].significance_head.copy_(head)
    output = call(model, batch, lengths=torch.from_numpy(batch.lengths), output_votes=True)
    read = mixed[0][0] @ head
    assert (4 * read).max() - (4 * read).min() > 10
    wanted = sorted(range(1, 30), key=lambda at: -float(output.votes[0, 0, at]))[:9]
    assert sorted(wanted) == [at for at in range(1, 30) if output.layers_passed[0, at] > 0]
    bare = call(model_of(shape, random_weights(shape)), batch, output_votes=True).votes[0, 0]
    factor = (4 * read).clamp(-12, 12).exp()
    torch.testing.assert_close(output.votes[0, 0], bare * factor, rtol=1e-4, atol=1e-6)
    model.set_significance(head=False)
    assert not [name for name, _ in model.named_parameters() if "significance" in name]
    assert model.config.dynamic_tinybert == {"voters": "question"}


def test_heads_that_a_folder_lacks_begin_at_0(tmp_path: Path) -> None:
    shape = SHAPES["a significance head"]
    model = model_of(shape, random_weights(shape))
    model.save_pretrained(tmp_path / "whole")
    again = DynamicBertForQuestionAnswering.from_pretrained(tmp_path / "whole")
    for mine, theirs in zip(model.encoder_layers(), again.encoder_layers(), strict=True):
        assert torch.equal(mine.significance_head, theirs.significance_head)
    plain = transformers.BertForQuestionAnswering.from_pretrained(tmp_path / "whole")
    plain.save_pretrained(tmp_path / "lost")
    again = DynamicBertForQuestionAnswering.from_pretrained(tmp_path / "lost")
    assert all((layer.significance_head == 0).all() for layer in again.encoder_layers())
    assert torch.equal(again.bert.encoder.layer[0].output.dense.weight, model.bert.encoder.layer[0].output.dense.weight)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_teacher_has_no_heads_nor_says_so(dtype: Literal["float32", "int8"], tmp_path: Path) -> None:
    shape = SHAPES["a significance head"]
    model_of(shape, random_weights(shape)).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]"]), "utf-8")
    teacher = load_model(save_folder(open_folder(tmp_path), tmp_path / "model", dtype=dtype))
    assert teacher.config.dynamic_tinybert == {"voters": "question"}
    teacher.save_pretrained(tmp_path / "saved")
    shutil.copyfile(tmp_path / "vocab.txt", tmp_path / "saved" / "vocab.txt")
    assert not open_folder(tmp_path / "saved").shape.significance_head


def test_only_the_votes_teach_a_significance_head() -> None:
    shape = SHAPES["a significance head"]
    model = model_of(shape, random_weights(shape)).train()
    batch = random_batch(shape, [[10] * 4], [30])
    ids, types, mask = (torch.from_numpy(x) for x in batch[:3])
    output = model(ids, mask, types, length_config=torch.from_numpy(batch.lengths), output_votes=True)
    heads = [layer.significance_head for layer in model.encoder_layers()]
    none = torch.autograd.grad(output.start_logits.sum(), heads, retain_graph=True, allow_unused=True)
    assert none == (None,) * 4
    assert all(grad.abs().sum() > 0 for grad in torch.autograd.grad(output.votes[:, 0, 0].sum(), heads))


def test_votes_teach_attention_and_only_where_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, model, _ = pair("the question votes")
    config = LengthConfig.uniform(shape.layers, 0.7)
    batch = random_batch(shape, config.lengths([30, 12]), [30, 12])
    ids, types, mask = (torch.from_numpy(x) for x in batch[:3])
    learning: list[bool] = []

    def count(*args: Any, **options: Any) -> Any:
        votes = original(*args, **options)
        learning.append(votes.requires_grad)
        return votes

    original = dropping._count
    monkeypatch.setattr(dropping, "_count", count)
    for asked in (True, False):
        model.zero_grad()
        del learning[:]
        output = model(ids, mask, types, length_config=config, output_votes=asked)
        if asked:
            output.votes[1, 0, 3].backward()
            assert model.bert.encoder.layer[1].attention.self.query.weight.grad.abs().sum() > 0
            assert (model.bert.encoder.layer[2].attention.self.query.weight.grad == 0).all()
        else:
            assert output.votes is None
        assert learning == [asked] * shape.layers  # nothing is kept for a gradient that nobody wants


def test_in_bfloat16_votes_are_counted_in_float32() -> None:
    shape, model, _ = pair("the question votes")
    batch = random_batch(shape, np.ones((1, 4)), [30])
    with torch.autocast("cpu", torch.bfloat16):
        output = call(model, batch, lengths=LengthConfig.uniform(4, 0.7), output_votes=True)
    assert output.votes.dtype == torch.float32


# Layers.


@pytest.mark.parametrize("running", [[0, 1, 2, 3, 4, 5], [0, 2, 4], [1, 5], [3], [0, 1, 2]])
@pytest.mark.parametrize("config", [None, LengthConfig((0.9, 0.8, 0.7, 0.5, 0.4, 0.3))])
def test_skipping_a_layer_is_as_if_it_were_not_there(running: list[int], config: LengthConfig | None) -> None:
    shape, model, _ = pair("6 layers")
    weights = random_weights(shape)
    small = random_shape(layers=len(running), hidden=24, heads=3)
    chosen = {name: value for name, value in weights.items() if not name.startswith("layers.")}
    for number, layer in enumerate(running):
        start = f"layers.{layer}."
        chosen |= {f"layers.{number}.{n.removeprefix(start)}": w for n, w in weights.items() if n.startswith(start)}
    # A skipped layer drops nothing; what it would have dropped, the next one that runs does.
    left = LengthConfig(tuple((config or LengthConfig.full(6)).fractions[layer] for layer in running))
    batch = random_batch(shape, left.lengths(TOKENS), TOKENS, extra=2, seed=5)
    found = as_logits(call(model, batch, lengths=config, layer_config=running))
    wanted = Runtime(small, chosen, threads=1).run(*batch)
    assert_same(found, wanted, TOKENS, tolerance=1e-3)


def test_layers_may_be_skipped_with_integer_lengths() -> None:
    shape, model, _ = pair("6 layers")
    batch = random_batch(shape, np.ones((2, 6)), [20, 9])
    lengths = torch.tensor([[18, 15, 12, 9, 6, 3], [9, 9, 4, 4, 2, 2]])
    output = call(model, batch, lengths=lengths, layer_config=[1, 4])
    assert kept(output, 0, 3) == [15, 6, 0]
    assert kept(output, 1, 3) == [9, 2, 0]


# Learning.


@pytest.mark.parametrize("name", ["6 layers", "MPNet"])
def test_gradients_reach_every_weight_and_are_finite(name: str) -> None:
    shape = SHAPES[name]
    model = model_of(shape, random_weights(shape)).train()
    batch = random_batch(shape, np.ones((5, shape.layers)), TOKENS, extra=2)
    ids, types, mask = (torch.from_numpy(x) for x in batch[:3])
    output = model(ids, mask, types, length_config=LengthConfig.uniform(shape.layers, 0.7))
    real = mask.bool()
    loss = (output.start_logits[real] ** 2).mean() + (output.end_logits[real] ** 2).mean()
    loss.backward()
    for name, value in model.named_parameters():
        assert value.grad is not None, name
        assert torch.isfinite(value.grad).all(), name
        assert value.grad.abs().sum() > 0, name


def test_a_dropped_tokens_logits_teach_the_layers_that_it_passed_and_no_others() -> None:
    shape = SHAPES["6 layers"]
    model = model_of(shape, random_weights(shape))
    batch = random_batch(shape, np.ones((1, 6)), [40])
    ids, types, mask = (torch.from_numpy(x) for x in batch[:3])
    output = model(ids, mask, types, length_config=(0.9, 0.9, 0.5, 0.5, 0.5, 0.5))
    token = int((output.layers_passed[0] == 2).nonzero()[0])
    output.start_logits[0, token].backward()
    for number, layer in enumerate(model.bert.encoder.layer):
        moved = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in layer.parameters()]
        assert any(moved) == (number < 2), number


def test_dropout_is_at_work_in_training_and_only_then() -> None:
    shape = SHAPES["2 layers"]
    model = model_of(shape, random_weights(shape), hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3)
    batch = random_batch(shape, np.ones((2, 2)), [30, 40])
    config = LengthConfig((0.8, 0.6))
    one, two = (call(model, batch, lengths=config).start_logits for _ in range(2))
    assert torch.equal(one, two)
    model.train()
    torch.manual_seed(0)
    three, four = (call(model, batch, lengths=config).start_logits for _ in range(2))
    assert not torch.allclose(three, four)
    assert torch.isfinite(three).all()


def test_attention_has_its_own_dropout() -> None:
    shape = SHAPES["2 layers"]
    model = model_of(shape, random_weights(shape), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.5).train()
    batch = random_batch(shape, np.ones((1, 2)), [30])
    torch.manual_seed(0)
    one, two = (call(model, batch, lengths=LengthConfig.full(2)).start_logits for _ in range(2))
    assert not torch.allclose(one, two)


@pytest.mark.parametrize("name", ["6 layers", "the question votes", "MPNet", "MPNet, the question votes"])
def test_weights_in_bfloat16_learn_and_say_nearly_the_same(name: str) -> None:
    shape = SHAPES[name]
    exact = model_of(shape, random_weights(shape))
    rough = model_of(shape, random_weights(shape)).bfloat16()
    config = LengthConfig((1.0, *[0.6] * (shape.layers - 1)))
    batch = random_batch(shape, np.ones((2, shape.layers)), [30, 40])
    for lengths in (LengthConfig.full(shape.layers), config):
        a, b = (call(model, batch, lengths=lengths, output_votes=True) for model in (exact, rough))
        assert b.start_logits.dtype == b.votes.dtype == torch.float32
        same = (a.layers_passed == b.layers_passed) & torch.from_numpy(batch.attention_mask).bool()
        assert same.float().mean() > 0.7  # near a tie the choice may differ
        assert (a.start_logits - b.start_logits)[same].abs().mean() < 0.15 * a.start_logits.std()
        assert (a.votes[0] - b.votes[0]).abs().max() < 0.1 * a.votes[0].max()
    rough.train().eager = True
    ids, types, mask = (torch.from_numpy(x) for x in batch[:3])
    for options in ({}, {"length_config": config, "output_votes": True}):
        rough.zero_grad()
        output = rough(ids, mask, types, **options)
        output.start_logits[mask == 1].square().mean().backward()
        assert all(bool(value.grad.isfinite().all()) for value in rough.parameters() if value.grad is not None)
        assert rough.get_input_embeddings().weight.grad.abs().sum() > 0


def test_a_layer_whose_lengths_drop_nothing_chooses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, model, _ = pair("6 layers")
    counted: list[Any] = []
    original = dropping._count
    monkeypatch.setattr(dropping, "_count", lambda *a, **b: (counted.append(1), original(*a, **b))[1])
    batch = random_batch(shape, np.ones((2, 6)), [30, 40])
    call(model, batch, lengths=torch.tensor([[30, 30, 12, 12, 12, 12], [40, 40, 40, 40, 9, 9]]))
    assert len(counted) == 2
    call(model, batch, lengths=torch.tensor([[30] * 6, [40] * 6]))
    assert len(counted) == 2


def test_bfloat16_computes_logits_in_float32_near_those_of_float32() -> None:
    shape, model, _ = pair("2 layers")
    batch = random_batch(shape, np.ones((2, 2)), [30, 40])
    exact = call(model, batch, lengths=LengthConfig.full(2))
    with torch.autocast("cpu", torch.bfloat16):
        rough = call(model, batch, lengths=LengthConfig.full(2))
        dropped = call(model, batch, lengths=LengthConfig((0.8, 0.5)))
    assert rough.start_logits.dtype == torch.float32
    assert (exact.start_logits - rough.start_logits).abs().mean() < 0.1 * exact.start_logits.std()
    assert kept(dropped, 1, 2) == [32, 20]
    assert torch.isfinite(dropped.start_logits).all()


# Folders.


def test_folders_are_transformers_own(tmp_path: Path, embedded: Path) -> None:
    shape = SHAPES["6 layers"]
    weights = random_weights(shape)
    model = model_of(shape, weights)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["BertForQuestionAnswering"]
    assert config["model_type"] == "bert"
    names = set(load_file(tmp_path / "model.safetensors"))
    plain = model_of(shape, weights, transformers.BertForQuestionAnswering)
    assert names == set(plain.state_dict())

    batch = random_batch(shape, LengthConfig.uniform(6, 0.8).lengths(TOKENS), TOKENS)
    wanted = call(model, batch)
    read = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path).eval()
    assert type(read) is transformers.BertForQuestionAnswering
    ids, types, mask = (torch.from_numpy(x) for x in batch[:3])
    with torch.no_grad():
        assert torch.equal(read(ids, mask, types).start_logits, wanted.start_logits)

    again = DynamicBertForQuestionAnswering.from_pretrained(tmp_path, dtype=torch.float32).eval()
    config = LengthConfig.uniform(6, 0.8)
    assert torch.equal(call(again, batch, lengths=config).start_logits, call(model, batch, lengths=config).start_logits)

    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(46))]), "utf-8"
    )
    folder = open_folder(tmp_path)
    assert folder.shape == shape
    for name, value in weights.items():
        np.testing.assert_array_equal(folder.weights[name], value)


def test_a_training_models_name_is_in_no_file_that_it_writes(tmp_path: Path) -> None:
    shape = SHAPES["1 layer"]
    model_of(shape, random_weights(shape)).save_pretrained(tmp_path)
    assert "Dynamic" not in (tmp_path / "config.json").read_text("utf-8")


def test_a_folder_says_whose_attention_counts(tmp_path: Path) -> None:
    shape = SHAPES["the question votes"]
    model = model_of(shape, random_weights(shape))
    model.save_pretrained(tmp_path)
    config = LengthConfig.uniform(4, 0.6)
    batch = random_batch(shape, config.lengths(TOKENS), TOKENS)
    again = DynamicBertForQuestionAnswering.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert torch.equal(call(again, batch, lengths=config).start_logits, call(model, batch, lengths=config).start_logits)
    plain = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path)
    assert type(plain) is transformers.BertForQuestionAnswering
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]"]), "utf-8")
    assert open_folder(tmp_path).shape == shape
    for dtype in ("float32", "int8"):
        saved = save_folder(open_folder(tmp_path), tmp_path / dtype, dtype=dtype)  # type: ignore[arg-type]
        assert open_folder(saved).shape.significance == "question"
        assert load_student(saved).config.dynamic_tinybert == {"voters": "question"}


@pytest.mark.parametrize("name", ["a significance head", "MPNet, a significance head"])
def test_significance_heads_go_along_into_folders_and_back(name: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    model = model_of(shape, random_weights(shape))
    model.save_pretrained(tmp_path)
    plain = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path)
    assert isinstance(plain, (transformers.BertForQuestionAnswering, transformers.MPNetForQuestionAnswering))
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]"]), "utf-8")
    assert open_folder(tmp_path).shape == shape
    config = LengthConfig.uniform(shape.layers, 0.6)
    batch = random_batch(shape, config.lengths(TOKENS), TOKENS)
    for dtype in ("float32", "int8"):
        saved = save_folder(open_folder(tmp_path), tmp_path / dtype, dtype=dtype)  # type: ignore[arg-type]
        folder = open_folder(saved)
        assert folder.shape == shape
        again = load_student(saved)
        for theirs, ours in zip(again.encoder_layers(), model.encoder_layers(), strict=True):
            assert torch.equal(theirs.significance_head, ours.significance_head)
        wanted = as_logits(call(again.eval(), batch, lengths=config))
        found = Runtime(folder.shape, folder.weights, threads=1).run(*batch)
        assert_same(found, wanted, TOKENS, tolerance=1e-4)
    assert not [key for key in load_model(tmp_path / "int8").state_dict() if "significance" in key]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_it_reads_folders_that_transformers_wrote(dtype: torch.dtype, tmp_path: Path) -> None:
    shape = SHAPES["2 layers"]
    plain = model_of(shape, random_weights(shape), transformers.BertForQuestionAnswering)
    plain.to(dtype).save_pretrained(tmp_path)
    model = DynamicBertForQuestionAnswering.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    batch = random_batch(shape, np.ones((5, 2)), TOKENS)
    assert torch.equal(call(model, batch).start_logits, call_plain(plain.float(), batch).start_logits)


def call_plain(model: Any, batch: Batch) -> Any:
    ids, types, mask = (torch.from_numpy(x) for x in batch[:3])
    with torch.no_grad():
        return model(ids, mask, types)


def test_saving_twice_into_one_folder_is_saving_once(tmp_path: Path) -> None:
    shape = SHAPES["1 layer"]
    model = model_of(shape, random_weights(shape))
    model.save_pretrained(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    model.save_pretrained(tmp_path / "b")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


# What is refused.


@pytest.mark.parametrize(
    ("lengths", "says"),
    [
        (LengthConfig((1.0,)), "1 layers for a model of 2"),
        (LengthConfig((1.0,) * 3), "3 layers for a model of 2"),
        ((0.5, 0.7), "must not grow"),
        ((1.5, 0.7), "one fraction in"),
        ((0.5, 0.0), "one fraction in"),
        ((), "one fraction in"),
        (torch.tensor([[10, 5, 3]]), "lengths must be integers"),
        (torch.tensor([10, 5]), "lengths must be integers"),
        (torch.tensor([[10.0, 5.0]]), "lengths must be integers"),
        (torch.tensor([[10, 5], [10, 5]]), "lengths must be integers"),
        (torch.tensor([[5, 10]]), "not greater"),
        (torch.tensor([[21, 10]]), "not greater"),  # more than the sequence has
        (torch.tensor([[5, 0]]), "at least 1"),
        (torch.tensor([[5, -1]]), "at least 1"),
    ],
)
def test_bad_lengths_are_refused(lengths: Any, says: str) -> None:
    shape, model, _ = pair("2 layers")
    batch = random_batch(shape, np.ones((1, 2)), [20])
    with pytest.raises(BudgetError, match=says) as error:
        call(model, batch, lengths=lengths)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("layers", [[], [2], [-1], [1, 0], [0, 0], [0, 5]])
def test_bad_layers_are_refused(layers: list[int]) -> None:
    shape, model, _ = pair("2 layers")
    batch = random_batch(shape, np.ones((1, 2)), [20])
    with pytest.raises(ValueError, match="ascending numbers from 0 to 1"):
        call(model, batch, layer_config=layers)


def test_options_of_transformers_do_not_go_with_a_configuration() -> None:
    shape, model, _ = pair("2 layers")
    batch = random_batch(shape, np.ones((1, 2)), [20])
    with pytest.raises(ValueError, match=r"there is no output_attentions$"):
        call(model, batch, lengths=LengthConfig.full(2), output_attentions=True, position_ids=None)
    call(model, batch, lengths=LengthConfig.full(2), output_attentions=None)


def test_a_configuration_of_transformers_makes_the_model() -> None:
    model = DynamicBertForQuestionAnswering(bert_config(SHAPES["2 layers"]))
    assert model.config.num_hidden_layers == 2
