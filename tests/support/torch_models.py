"""Small PyTorch models for the tests of training: of the weights that the runtime is tested with, and random ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers

from dynamic_tinybert.folder import tensor_table
from dynamic_tinybert.model import ModelShape
from dynamic_tinybert.train.model import DynamicBertForQuestionAnswering, DynamicMPNetForQuestionAnswering
from support.runtime_reference import Weights

torch.set_num_threads(1)  # models so small gain nothing from more, which wait for each other on a busy machine

ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu"}


def bert_config(shape: ModelShape, **others: Any) -> transformers.BertConfig:
    return transformers.BertConfig(
        **_usual(shape), max_position_embeddings=shape.positions, type_vocab_size=shape.token_types, **others
    )


def mpnet_config(shape: ModelShape, **others: Any) -> transformers.MPNetConfig:
    positions = shape.first_position + shape.positions
    return transformers.MPNetConfig(**_usual(shape), max_position_embeddings=positions, **others)


def _usual(shape: ModelShape) -> dict[str, Any]:
    return dict(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward,
        hidden_act=ACTIVATIONS[shape.activation],
        layer_norm_eps=shape.norm_epsilon,
        **_significance(shape),
    )


def _significance(shape: ModelShape) -> dict[str, Any]:
    if shape.significance == "all" and not shape.significance_head:
        return {}
    return {"dynamic_tinybert": {"voters": shape.significance, "significance_head": shape.significance_head}}


def model_of(shape: ModelShape, weights: Weights, kind: Any = None, **others: Any) -> Any:
    """A model in evaluation mode, of weights by our names: ours of the shape's architecture, or of another class."""
    mpnet = bool(shape.distances)
    kind = kind or (DynamicMPNetForQuestionAnswering if mpnet else DynamicBertForQuestionAnswering)
    model = kind((mpnet_config if mpnet else bert_config)(shape, **others)).eval()
    table = tensor_table(shape, "mpnet" if mpnet else "bert")
    state = {theirs: torch.from_numpy(np.array(weights[ours])) for ours, theirs, _ in table}
    model.load_state_dict(state, strict=True)
    return model


def randomize(model: Any, seed: int = 0) -> Any:
    """Give every parameter values of a size that tells tokens and layers apart; the model in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if "LayerNorm.weight" in name or "layer_norm.weight" in name:
                value.copy_(1 + 0.1 * noise)
            elif value.ndim == 1:
                value.copy_(0.2 * noise)
            else:
                value.copy_(noise if "embeddings" in name else 1.5 * noise * value.shape[1] ** -0.5)
    return model.eval()


SIZES = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 24}


def tiny_bert(**sizes: Any) -> Any:
    usual = {**SIZES, "vocab_size": 60, "max_position_embeddings": 40}
    return randomize(transformers.BertForQuestionAnswering(transformers.BertConfig(**{**usual, **sizes})))


def tiny_mpnet(**sizes: Any) -> Any:
    usual = {**SIZES, "vocab_size": 65, "max_position_embeddings": 42}
    return randomize(transformers.MPNetForQuestionAnswering(transformers.MPNetConfig(**{**usual, **sizes})))
