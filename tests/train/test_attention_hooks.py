"""Hooks see what attention computes: after softmax their scores are the attention that transformers gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from dynamic_tinybert.train.attention_hooks import AttentionHooks, check_attention_known
from dynamic_tinybert.train.errors import TrainingError
from dynamic_tinybert.train.models import set_dropout, student_from_teacher
from support.torch_models import randomize, tiny_bert, tiny_mpnet

IDS = torch.randint(5, 60, (3, 12), generator=torch.Generator().manual_seed(0))
MASK = (torch.arange(12) < torch.tensor([[12], [5], [9]])).long()


def tiny(kind: str) -> Any:
    """A tiny model whose attention says something, computed the slow way."""
    sizes = {
        "vocab_size": 60,
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 40,
    }
    eager = {"attn_implementation": "eager"}
    if kind == "bert":
        return tiny_bert(num_hidden_layers=3, **eager)
    if kind == "mpnet":
        return tiny_mpnet(num_hidden_layers=3, **eager)
    if kind == "roberta":
        return randomize(transformers.RobertaForQuestionAnswering(transformers.RobertaConfig(**sizes, **eager)))
    if kind == "electra":
        config = transformers.ElectraConfig(**sizes, embedding_size=8, **eager)
        return randomize(transformers.ElectraForQuestionAnswering(config))
    config = transformers.DistilBertConfig(
        vocab_size=60, dim=16, n_layers=3, n_heads=2, hidden_dim=24, max_position_embeddings=40, **eager
    )
    return randomize(transformers.DistilBertForQuestionAnswering(config))


def call(model: Any, **options: Any) -> Any:
    with torch.no_grad():
        return model(input_ids=IDS, attention_mask=MASK, **options)


@pytest.mark.parametrize("kind", ["bert", "mpnet", "roberta", "electra", "distilbert"])
def test_scores_are_those_before_mask_and_softmax(kind: str) -> None:
    model = tiny(kind)
    hooks = AttentionHooks(model, [0, 2])
    attentions = call(model, output_attentions=True).attentions
    assert attentions is not None
    for layer in (0, 2):
        scores = hooks.scores(layer)
        assert scores.shape == (3, 2, 12, 12)
        found = scores.masked_fill(MASK[:, None, None, :] == 0, -1e9).softmax(-1)
        for row, count in enumerate(MASK.sum(1)):
            difference = found[row, :, :count, :count] - attentions[layer][row, :, :count, :count]
            assert difference.abs().max() < 1e-6
        assert found.std() > 0.05  # or nothing would be told


def test_of_mpnet_the_bias_alone_is_what_the_first_layers_scores_differ_by() -> None:
    model = tiny("mpnet")
    hooks = AttentionHooks(model, [0])
    call(model)
    biased = hooks.scores(0)
    table = model.mpnet.encoder.relative_attention_bias
    with torch.no_grad():
        table.weight.zero_()
    call(model)
    difference = (biased - hooks.scores(0))[0]
    assert difference.abs().max() > 0.1
    # It is a function of the distance alone, by head.
    for head in range(2):
        for distance in range(-3, 4):
            diagonal = difference[head].diagonal(distance)
            assert torch.allclose(diagonal, diagonal[0].expand_as(diagonal), atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "mpnet", "distilbert"])
def test_projections_are_queries_keys_and_values(kind: str) -> None:
    model = tiny(kind)
    hooks = AttentionHooks(model, [2])
    states = call(model, output_hidden_states=True).hidden_states[2]
    layer = {
        "bert": lambda: model.bert.encoder.layer[2].attention.self,
        "mpnet": lambda: model.mpnet.encoder.layer[2].attention.attn,
        "distilbert": lambda: model.distilbert.transformer.layer[2].attention,
    }[kind]()
    names = {
        "bert": ("query", "key", "value"),
        "mpnet": ("q", "k", "v"),
        "distilbert": ("q_lin", "k_lin", "v_lin"),
    }[kind]
    for name, found in zip(names, hooks.projections(2), strict=True):
        with torch.no_grad():
            assert torch.allclose(found, getattr(layer, name)(states), atol=1e-5)


def test_of_a_student_in_the_form_of_mpnet_they_see_what_they_see_of_its_teacher() -> None:
    teacher = tiny("mpnet")
    student = student_from_teacher(teacher, [0, 1, 2], None, "mpnet").train()
    student.eager = True  # which gives way to the hidden states that distillation asks for
    set_dropout(student, 0.0)
    mine, theirs = AttentionHooks(student, [0, 2]), AttentionHooks(teacher, [0, 2])
    student(IDS, MASK, (IDS > 30).long(), output_hidden_states=False)
    call(teacher)
    for layer in (0, 2):
        assert torch.equal(mine.scores(layer), theirs.scores(layer))
    mine.scores(2).sum().backward()
    assert student.mpnet.encoder.relative_attention_bias.weight.grad.abs().sum() > 0


def test_they_give_the_last_call_and_carry_gradients() -> None:
    model = tiny("bert")
    hooks = AttentionHooks(model, [1])
    call(model)
    model(input_ids=IDS[:1, :4])
    assert hooks.scores(1).shape == (1, 2, 4, 4)
    hooks.scores(1).sum().backward()
    assert model.bert.encoder.layer[1].attention.self.query.weight.grad.abs().sum() > 0


def test_closed_they_are_gone_and_a_model_computes_the_same_with_them() -> None:
    model = tiny("bert")
    plain = call(model).start_logits
    hooks = AttentionHooks(model, [0, 1, 2])
    assert torch.equal(call(model).start_logits, plain)
    hooks.close()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_an_unknown_architecture_is_refused_in_one_line() -> None:
    class Config:
        model_type = "longformer"
        num_attention_heads = 2

    class Model:
        config = Config()

    for attempt in (lambda: AttentionHooks(Model(), [0]), lambda: check_attention_known("longformer")):
        with pytest.raises(TrainingError, match=r"a longformer model cannot be recorded.*bert.*mpnet") as error:
            attempt()
        assert "\n" not in str(error.value)
