"""Draw a checkpoint at random: an architecture's sizes and options, the form of its files, its tokenizer."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import torch
import transformers

from benchmarks.common import ROOT

sys.path.insert(0, str(ROOT / "tests"))
from support.random_checkpoints import KINDS, make_model, make_tokenizer

ALL: Final = (*KINDS, "camembert")
_ACTIVATIONS = ("gelu", "gelu_new", "relu", "gelu_pytorch_tanh", "silu", "tanh")
_ANYWHERE: dict[str, tuple[Any, ...]] = {
    "hidden_act": _ACTIVATIONS,
    "activation": _ACTIVATIONS,
    "hidden_activation": _ACTIVATIONS,
    "layer_norm_eps": (1e-12, 1e-5, 1e-3),
    "norm_eps": (1e-12, 1e-5, 1e-3),
    "type_vocab_size": (0, 1, 2, 3),
    "is_decoder": (False, False, True),
    "tie_word_embeddings": (True, False),
    "max_position_embeddings": (66, 130, 514),
    "pad_token_id": (0, 1, 3),
    "intermediate_size": (24, 40),
    "num_attention_heads": (1, 2, 8),
    "num_labels": (2, 2, 2, 3),
}
_OF_KIND: dict[str, dict[str, tuple[Any, ...]]] = {
    "distilbert": {"sinusoidal_pos_embds": (True, False)},
    "electra": {"embedding_size": (16, 32, 48)},
    "albert": {"embedding_size": (16, 32, 48), "num_hidden_groups": (1, 2), "inner_group_num": (1, 1, 2)},
    "mpnet": {"relative_attention_num_buckets": (32, 40, 16)},
    "deberta": {
        "relative_attention": (True, True, False),
        "pos_att_type": (["c2p", "p2c"], ["c2p"], ["p2c"], "p2c|c2p", None, [], ["c2p", "p2p"]),
        "talking_head": (False, False, True),
        "position_biased_input": (True, False),
        "max_relative_positions": (-1, 48, 128),
        "embedding_size": (16, 32, 48),
    },
    "deberta-v2": {
        "relative_attention": (True, True, False),
        "pos_att_type": (["c2p", "p2c"], ["c2p"], ["p2c"], "p2c|c2p", None, []),
        "share_att_key": (True, False),
        "position_buckets": (256, 64, 32, 12, -1),
        "norm_rel_ebd": ("layer_norm", "none"),
        "position_biased_input": (True, False),
        "conv_kernel_size": (0, 0, 3),
        "max_relative_positions": (-1, 48, 128),
        "attention_head_size": (4, 8),
        "embedding_size": (16, 32, 48),
    },
    "modernbert": {
        "local_attention": (16, 64, 129),
        "attention_bias": (False, True),
        "mlp_bias": (False, True),
        "norm_bias": (False, True),
        "classifier_bias": (False, True),
        "classifier_activation": ("gelu", "relu", "silu"),
        "rope_parameters": (
            {"full_attention": {"rope_type": "default", "rope_theta": 500.0},
             "sliding_attention": {"rope_type": "default", "rope_theta": 90.0}},
            {"full_attention": {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0},
             "sliding_attention": {"rope_type": "default", "rope_theta": 90.0}},
        ),
    },
    "mobilebert": {
        "use_bottleneck": (True, True, False),
        "use_bottleneck_attention": (False, False, True),
        "key_query_shared_bottleneck": (True, True, False),
        "trigram_input": (True, True, False),
        "num_feedforward_networks": (1, 2, 4),
        "normalization_type": ("no_norm", "no_norm", "layer_norm"),
        "intra_bottleneck_size": (8, 16, 24),
    },
}  # fmt: skip
_LAYER_TYPES = ("full_attention", "sliding_attention")
_DTYPES = (torch.float32, torch.float32, torch.float16, torch.bfloat16)
_SHARDS = ("1GB", "1GB", "20KB")


@dataclass(frozen=True)
class Drawn:
    """A checkpoint that is to be made.

    Attributes:
        kind: Its architecture.
        config: transformers' configuration.
        tokenizer: transformers' tokenizer.
        tokens: The kind of the tokenizer.
        dtype: The dtype of the file.
        shards: The greatest size of a file.
        seed: Of the weights.
        changed: The options that are not the usual ones.
    """

    kind: str
    config: Any
    tokenizer: Any
    tokens: str
    dtype: Any
    shards: str
    seed: int
    changed: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.changed} tokens={self.tokens} dtype={self.dtype} shards={self.shards} seed={self.seed}"


def draw(kind: str, chosen: random.Random) -> Drawn:
    """Draw a checkpoint of a kind."""
    layers, hidden = chosen.randint(1, 4), chosen.choice((16, 32, 48, 64))
    tokens = chosen.choice(ALL) if chosen.random() < 0.3 else kind
    tokenizer = _tokenizer(tokens)
    base = "xlm-roberta" if kind == "camembert" else kind
    vocabulary = len(tokenizer) + chosen.choice((0, 0, 13))
    config = make_model(base, vocabulary, layers=layers, hidden=hidden).config
    if kind == "camembert":
        config = transformers.CamembertConfig(**{**config.to_dict(), "model_type": kind})
    config.pad_token_id = tokenizer.pad_token_id
    options = {name: values for name, values in _ANYWHERE.items() if hasattr(config, name)} | _OF_KIND.get(kind, {})
    changed = {name: chosen.choice(values) for name, values in options.items() if chosen.random() < 0.25}
    if kind == "modernbert" and chosen.random() < 0.5:
        changed["layer_types"] = [chosen.choice(_LAYER_TYPES) for _ in range(layers)]
    for name, value in changed.items():
        setattr(config, name, value)
    sizes = {"layers": layers, "hidden": hidden, "vocabulary": vocabulary}
    dtype, shards, seed = chosen.choice(_DTYPES), chosen.choice(_SHARDS), chosen.randint(0, 10**6)
    return Drawn(kind, config, tokenizer, tokens, dtype, shards, seed, sizes | changed)


@cache
def _tokenizer(kind: str) -> Any:
    if kind == "camembert":  # its pieces are those of XLM-R's model file, but for the numbers
        return make_tokenizer("xlm-roberta")
    return make_tokenizer(kind)
