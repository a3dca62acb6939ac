"""The supported architectures: transformers' names of their settings and tensors.

Most are BERT-like encoders, with the norm after each half of a layer and a linear head over the tokens. They differ in
names and in the embeddings (with or without types, positions that begin at 2, a separate width). MPNet also adds a bias
to the attention scores by distance, and ALBERT's layers share weights. DeBERTa has scores by relative position.
ModernBERT has another form of layer and of head, and MobileBERT's layers are narrow inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeAlias

from dynamic_tinybert.model import ModelShape

Names: TypeAlias = tuple[tuple[str, str], ...]

BUCKETS: Final = 32
"""The number of MPNet's distance buckets: transformers ignores the number in the configuration."""

# Our name of a tensor and its sizes: Vocabulary, Positions (including those that no token has), token Types, Hidden,
# Feed-forward (with a Gate: twice), Embedding (its sum: S; at the norm: W; into the projection: I), heads (N), Buckets,
# Relative positions, 3 Hidden, inside a layer (K).
_SINGLE: Final[Mapping[str, str]] = {
    "embeddings.word": "VE",
    "embeddings.position": "PS",
    "embeddings.token_type": "TS",
    "distances": "BN",
    "relative.positions": "RH",
}
_BARE: Final[Mapping[str, str]] = {  # single tensors, in transformers without `.weight`
    "layers.{i}.query.bias": "H",
    "layers.{i}.value.bias": "H",
    "layers.{i}.significance_head": "K",
}
# The same for pairs: `.weight` has these sizes, and `.bias` has the first of them.
_PAIRS: Final[Mapping[str, str]] = {
    "embeddings.norm": "W",
    "embeddings.projection": "HI",
    "relative.norm": "H",
    "layers.{i}.shared": "KH",
    "layers.{i}.shared_norm": "K",
    "layers.{i}.inner": "KH",
    "layers.{i}.inner_norm": "K",
    "layers.{i}.query": "KK",
    "layers.{i}.key": "KK",
    "layers.{i}.value": "KH",
    "layers.{i}.query_key_value": "3H",
    "layers.{i}.relative_query": "HH",
    "layers.{i}.relative_key": "HH",
    "layers.{i}.attention_output": "KK",
    "layers.{i}.attention_norm": "K",
    "layers.{i}.feed_forward_norm": "H",
    "layers.{i}.{j}.intermediate": "FK",
    "layers.{i}.{j}.output": "KF",
    "layers.{i}.{j}.output_norm": "K",
    "layers.{i}.intermediate": "GK",
    "layers.{i}.output": "KF",
    "layers.{i}.output_norm": "K",
    "layers.{i}.outer": "HK",
    "layers.{i}.outer_norm": "H",
    "final_norm": "H",
    "head.dense": "HH",
    "head.norm": "H",
    "span": "2H",
}

_EMBEDDINGS: Final[Names] = (
    ("embeddings.word", "embeddings.word_embeddings"),
    ("embeddings.position", "embeddings.position_embeddings"),
    ("embeddings.norm", "embeddings.LayerNorm"),
)
_TYPES: Final[Names] = (("embeddings.token_type", "embeddings.token_type_embeddings"),)
_HALVES: Final[Names] = (  # the halves of a layer in BERT
    ("layers.{i}.attention_output", "encoder.layer.{i}.attention.output.dense"),
    ("layers.{i}.attention_norm", "encoder.layer.{i}.attention.output.LayerNorm"),
    ("layers.{i}.intermediate", "encoder.layer.{i}.intermediate.dense"),
    ("layers.{i}.output", "encoder.layer.{i}.output.dense"),
    ("layers.{i}.output_norm", "encoder.layer.{i}.output.LayerNorm"),
)
_SIGNIFICANCE: Final[Names] = (("layers.{i}.significance_head", "encoder.layer.{i}.significance_head"),)
_BERT: Final[Names] = (
    *_EMBEDDINGS,
    *_TYPES,
    *_SIGNIFICANCE,
    ("layers.{i}.query", "encoder.layer.{i}.attention.self.query"),
    ("layers.{i}.key", "encoder.layer.{i}.attention.self.key"),
    ("layers.{i}.value", "encoder.layer.{i}.attention.self.value"),
    *_HALVES,
)
_MPNET: Final[Names] = (
    *_EMBEDDINGS,
    *_SIGNIFICANCE,
    ("distances", "encoder.relative_attention_bias"),
    ("layers.{i}.query", "encoder.layer.{i}.attention.attn.q"),
    ("layers.{i}.key", "encoder.layer.{i}.attention.attn.k"),
    ("layers.{i}.value", "encoder.layer.{i}.attention.attn.v"),
    ("layers.{i}.attention_output", "encoder.layer.{i}.attention.attn.o"),
    ("layers.{i}.attention_norm", "encoder.layer.{i}.attention.LayerNorm"),
    *_HALVES[2:],
)
_DISTILBERT: Final[Names] = (
    *_EMBEDDINGS,
    ("layers.{i}.query", "transformer.layer.{i}.attention.q_lin"),
    ("layers.{i}.key", "transformer.layer.{i}.attention.k_lin"),
    ("layers.{i}.value", "transformer.layer.{i}.attention.v_lin"),
    ("layers.{i}.attention_output", "transformer.layer.{i}.attention.out_lin"),
    ("layers.{i}.attention_norm", "transformer.layer.{i}.sa_layer_norm"),
    ("layers.{i}.intermediate", "transformer.layer.{i}.ffn.lin1"),
    ("layers.{i}.output", "transformer.layer.{i}.ffn.lin2"),
    ("layers.{i}.output_norm", "transformer.layer.{i}.output_layer_norm"),
)
_IN_GROUP: Final = "encoder.albert_layer_groups.{i}.albert_layers.0"
_ALBERT: Final[Names] = (
    *_EMBEDDINGS,
    *_TYPES,
    ("embeddings.projection", "encoder.embedding_hidden_mapping_in"),
    ("layers.{i}.query", f"{_IN_GROUP}.attention.query"),
    ("layers.{i}.key", f"{_IN_GROUP}.attention.key"),
    ("layers.{i}.value", f"{_IN_GROUP}.attention.value"),
    ("layers.{i}.attention_output", f"{_IN_GROUP}.attention.dense"),
    ("layers.{i}.attention_norm", f"{_IN_GROUP}.attention.LayerNorm"),
    ("layers.{i}.intermediate", f"{_IN_GROUP}.ffn"),
    ("layers.{i}.output", f"{_IN_GROUP}.ffn_output"),
    ("layers.{i}.output_norm", f"{_IN_GROUP}.full_layer_layer_norm"),
)

_DEBERTA: Final[Names] = (
    *_EMBEDDINGS,
    *_TYPES,
    ("embeddings.projection", "embeddings.embed_proj"),
    ("relative.positions", "encoder.rel_embeddings"),
    ("layers.{i}.query_key_value", "encoder.layer.{i}.attention.self.in_proj"),
    ("layers.{i}.query.bias", "encoder.layer.{i}.attention.self.q_bias"),
    ("layers.{i}.value.bias", "encoder.layer.{i}.attention.self.v_bias"),
    ("layers.{i}.relative_query", "encoder.layer.{i}.attention.self.pos_q_proj"),
    ("layers.{i}.relative_key", "encoder.layer.{i}.attention.self.pos_proj"),
    *_HALVES,
)
_DEBERTA_V2: Final[Names] = (
    *_EMBEDDINGS,
    *_TYPES,
    ("embeddings.projection", "embeddings.embed_proj"),
    ("relative.positions", "encoder.rel_embeddings"),
    ("relative.norm", "encoder.LayerNorm"),
    ("layers.{i}.query", "encoder.layer.{i}.attention.self.query_proj"),
    ("layers.{i}.key", "encoder.layer.{i}.attention.self.key_proj"),
    ("layers.{i}.value", "encoder.layer.{i}.attention.self.value_proj"),
    ("layers.{i}.relative_query", "encoder.layer.{i}.attention.self.pos_query_proj"),
    ("layers.{i}.relative_key", "encoder.layer.{i}.attention.self.pos_key_proj"),
    *_HALVES,
)
_IN_MOBILE: Final = "encoder.layer.{i}.bottleneck"
_MOBILEBERT: Final[Names] = (
    *_BERT,
    ("embeddings.projection", "embeddings.embedding_transformation"),
    ("layers.{i}.shared", f"{_IN_MOBILE}.attention.dense"),
    ("layers.{i}.shared_norm", f"{_IN_MOBILE}.attention.LayerNorm"),
    ("layers.{i}.inner", f"{_IN_MOBILE}.input.dense"),
    ("layers.{i}.inner_norm", f"{_IN_MOBILE}.input.LayerNorm"),
    ("layers.{i}.{j}.intermediate", "encoder.layer.{i}.ffn.{j}.intermediate.dense"),
    ("layers.{i}.{j}.output", "encoder.layer.{i}.ffn.{j}.output.dense"),
    ("layers.{i}.{j}.output_norm", "encoder.layer.{i}.ffn.{j}.output.LayerNorm"),
    ("layers.{i}.outer", "encoder.layer.{i}.output.bottleneck.dense"),
    ("layers.{i}.outer_norm", "encoder.layer.{i}.output.bottleneck.LayerNorm"),
)
_MODERNBERT: Final[Names] = (
    ("embeddings.word", "embeddings.tok_embeddings"),
    ("embeddings.norm", "embeddings.norm"),
    ("layers.{i}.attention_norm", "layers.{i}.attn_norm"),
    ("layers.{i}.query_key_value", "layers.{i}.attn.Wqkv"),
    ("layers.{i}.attention_output", "layers.{i}.attn.Wo"),
    ("layers.{i}.feed_forward_norm", "layers.{i}.mlp_norm"),
    ("layers.{i}.intermediate", "layers.{i}.mlp.Wi"),
    ("layers.{i}.output", "layers.{i}.mlp.Wo"),
    ("layers.{i}.significance_head", "layers.{i}.significance_head"),
    ("final_norm", "final_norm"),
)

_USUAL: Final[Mapping[str, str]] = MappingProxyType(
    {
        "layers": "num_hidden_layers",
        "hidden": "hidden_size",
        "heads": "num_attention_heads",
        "feed_forward": "intermediate_size",
        "activation": "hidden_act",
    }
)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """An architecture in the format of transformers.

    Attributes:
        model: The class of its question-answering models.
        prefix: The prefix of the names of its tensors, except those of the head.
        names: Pairs of our name and transformers' name of a tensor, without the prefix and `.weight`.
        settings: The keys of sizes in its `config.json`, by our names.
        padded_positions: Whether a sequence's first position is the padding token's id plus 1.
        padding: The padding token's id, if transformers does not read it from the settings.
        activation: The activation if `config.json` names none.
        epsilon: The number that layer normalization adds to the variance, if transformers does not read it from the
            settings.
        epsilon_setting: The key of this number in `config.json`, and the number if the key is missing.
        positions: The longest sequence if `config.json` does not say it, including positions that no token has.
        narrow: Whether the width of its embeddings may differ from the hidden size.
        heads: Pairs of our name and transformers' whole name of a tensor of the head.
    """

    model: str
    prefix: str
    names: Names = _BERT
    settings: Mapping[str, str] = field(default_factory=lambda: _USUAL)
    padded_positions: bool = False
    padding: int | None = None
    activation: str = "gelu"
    epsilon: float | None = None
    epsilon_setting: tuple[str, float] = ("layer_norm_eps", 1e-12)
    positions: int = 512
    narrow: bool = False
    heads: Names = (("span", "qa_outputs"),)


ARCHITECTURES: Final[Mapping[str, Architecture]] = MappingProxyType(
    {
        "bert": Architecture(model="BertForQuestionAnswering", prefix="bert."),
        "distilbert": Architecture(
            model="DistilBertForQuestionAnswering",
            prefix="distilbert.",
            names=_DISTILBERT,
            settings={
                "layers": "n_layers",
                "hidden": "dim",
                "heads": "n_heads",
                "feed_forward": "hidden_dim",
                "activation": "activation",
            },
            epsilon=1e-12,
        ),
        "roberta": Architecture(model="RobertaForQuestionAnswering", prefix="roberta.", padded_positions=True),
        "xlm-roberta": Architecture(model="XLMRobertaForQuestionAnswering", prefix="roberta.", padded_positions=True),
        "camembert": Architecture(model="CamembertForQuestionAnswering", prefix="roberta.", padded_positions=True),
        "electra": Architecture(
            model="ElectraForQuestionAnswering",
            prefix="electra.",
            names=(*_BERT, ("embeddings.projection", "embeddings_project")),
            narrow=True,
        ),
        "mpnet": Architecture(
            model="MPNetForQuestionAnswering",
            prefix="mpnet.",
            names=_MPNET,
            padded_positions=True,
            padding=1,
        ),
        "albert": Architecture(
            model="AlbertForQuestionAnswering",
            prefix="albert.",
            names=_ALBERT,
            activation="gelu_new",
            narrow=True,
        ),
        "deberta": Architecture(
            model="DebertaForQuestionAnswering",
            prefix="deberta.",
            names=_DEBERTA,
            epsilon_setting=("layer_norm_eps", 1e-7),
        ),
        "deberta-v2": Architecture(
            model="DebertaV2ForQuestionAnswering",
            prefix="deberta.",
            names=_DEBERTA_V2,
            epsilon_setting=("layer_norm_eps", 1e-7),
        ),
        "mobilebert": Architecture(
            model="MobileBertForQuestionAnswering",
            prefix="mobilebert.",
            names=_MOBILEBERT,
            activation="relu",
            narrow=True,
        ),
        "modernbert": Architecture(
            model="ModernBertForQuestionAnswering",
            prefix="model.",
            names=_MODERNBERT,
            settings={**_USUAL, "activation": "hidden_activation"},
            epsilon_setting=("norm_eps", 1e-5),
            positions=8192,
            heads=(("head.dense", "head.dense"), ("head.norm", "head.norm"), ("span", "classifier")),
        ),
    }
)
"""The supported architectures by `model_type` of `config.json`."""


def tensor_table(shape: ModelShape, kind: str = "bert") -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Yield our name, transformers' name and the shape of every tensor of a model; `kind` is its `model_type`."""
    architecture = ARCHITECTURES[kind]
    hidden, forward = shape.hidden, shape.feed_forward
    sizes = {
        "V": shape.vocabulary,
        "P": shape.first_position + shape.positions,
        "T": shape.token_types,
        "H": hidden,
        "3": 3 * hidden,
        "F": forward,
        "G": 2 * forward if shape.modern else forward,
        "E": shape.embedding_width,
        "S": hidden if shape.bottleneck else shape.embedding_width,
        "W": hidden if shape.disentangled or shape.bottleneck else shape.embedding_width,
        "I": 3 * shape.embedding_width if shape.bottleneck else shape.embedding_width,
        "K": shape.inner_width,
        "N": shape.heads,
        "B": shape.distances,
        "R": 2 * shape.disentangled.span if shape.disentangled else 0,
        "2": 2,
    }
    names = [(ours, architecture.prefix + theirs) for ours, theirs in architecture.names]
    for ours, theirs in (*names, *architecture.heads):
        if ours in _missing(shape):
            continue
        if ours in _SINGLE:
            yield ours, f"{theirs}.weight", tuple(sizes[x] for x in _SINGLE[ours])
            continue
        if ours in _BARE:
            for i in range(shape.layers):
                yield ours.format(i=i), theirs.format(i=i), tuple(sizes[x] for x in _BARE[ours])
            continue
        letters = _PAIRS[ours]
        biased = ours not in _unbiased(shape)
        for i in sorted(set(shape.weights_of_layers)) if "{i}" in ours else (0,):
            if shape.modern and i == 0 and ours == "layers.{i}.attention_norm":
                continue
            for j in range(shape.bottleneck.feed_forwards - 1) if shape.bottleneck and "{j}" in ours else (0,):
                for part, of in (("weight", letters), ("bias", letters[0]))[: 1 + biased]:
                    mine, other = (f"{name}.{part}".format(i=i, j=j) for name in (ours, theirs))
                    yield mine, other, tuple(sizes[x] for x in of)


def _missing(shape: ModelShape) -> set[str]:
    """Return the names of tensors that a model of this shape does not have."""
    there = {
        "embeddings.projection": shape.projected,
        "embeddings.position": shape.positioned,
        "embeddings.token_type": shape.token_types > 0,
        "layers.{i}.significance_head": shape.significance_head,
    }
    if relative := shape.disentangled:
        there |= {
            "relative.positions": relative.span > 0,
            "relative.norm": relative.normed,
            "layers.{i}.relative_query": relative.to_content and not relative.shared,
            "layers.{i}.relative_key": relative.to_position and not relative.shared,
        }
    return {name for name, is_there in there.items() if not is_there}


def _unbiased(shape: ModelShape) -> set[str]:
    """Return the names of pairs that have no bias."""
    if shape.disentangled:
        packed = {"layers.{i}.query_key_value", "layers.{i}.relative_key"} if shape.disentangled.packed else set()
        return {"embeddings.projection", *packed}
    if not shape.modern:
        return set()
    modern = shape.modern
    biased = (
        (modern.attention_bias, ("layers.{i}.query_key_value", "layers.{i}.attention_output")),
        (modern.feed_forward_bias, ("layers.{i}.intermediate", "layers.{i}.output")),
        (modern.head_bias, ("head.dense",)),
        (modern.norm_bias, tuple(name for name in _PAIRS if name.endswith("norm"))),
    )
    return {name for has_bias, names in biased if not has_bias for name in names}
