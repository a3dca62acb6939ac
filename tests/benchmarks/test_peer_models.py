"""The peers are compared on models made of one another: those must be the same function."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForQuestionAnswering

from benchmarks.peers import peer_models
from dynamic_tinybert import LengthConfig

SMALL = {"vocab_size": 90, "max_position_embeddings": 40, "attn_implementation": "eager", "layer_norm_eps": 1e-12}


def bert(layers: int, hidden: int) -> Any:
    sizes = {"num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": 4 * hidden}
    return BertForQuestionAnswering(BertConfig(**SMALL, **sizes, num_attention_heads=12)).eval()


@pytest.fixture(scope="module")
def weights() -> dict[str, Any]:
    torch.manual_seed(0)
    model = bert(6, 24)
    for parameter in model.parameters():  # as trained ones are: norms are not 1 and 0, logits differ
        parameter.data += 0.3 * torch.randn_like(parameter)
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def logits(model: Any, weights: dict[str, Any]) -> Any:
    model.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})
    ids = torch.randint(1, 90, (3, 37), generator=torch.Generator().manual_seed(1))
    types = (torch.arange(37) > 9).long().expand(3, -1)
    with torch.inference_mode():
        output = model(ids, torch.ones_like(ids), types)
    return torch.stack([output.start_logits, output.end_logits])


def test_a_widened_and_a_deepened_model_give_the_same_logits(weights: dict[str, Any]) -> None:
    expected = logits(bert(6, 24), weights)
    wide = peer_models.widen(weights)
    assert torch.allclose(logits(bert(6, 48), wide), expected, atol=1e-4)
    assert torch.allclose(logits(bert(12, 48), peer_models.deepen(wide)), expected, atol=5e-3)
    assert expected.std() > 0.5


def test_without_types_a_position_has_the_type_that_it_has_on_average(weights: dict[str, Any]) -> None:
    untyped = peer_models.untype(weights, [8, 8])
    assert not any("token_type" in name for name in untyped)
    name = "bert.embeddings.token_type_embeddings.weight"
    fitting = logits(bert(6, 24), untyped | {name: 0 * weights[name]})  # the question is of 8 tokens, and two special
    assert torch.allclose(fitting, logits(bert(6, 24), weights), atol=1e-4)


def test_a_stretched_configuration_drops_as_much_and_where_the_model_does_something() -> None:
    config = LengthConfig((0.9, 0.8, 0.7, 0.6, 0.5, 0.4))
    stretched = peer_models.stretch(config).fractions
    assert stretched == (1.0, 0.9, 0.8, 0.8, 0.8, 0.7, 0.6, 0.6, 0.5, 0.5, 0.5, 0.4)
