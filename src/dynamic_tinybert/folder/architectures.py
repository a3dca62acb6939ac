"""The supported architectures: transformers' names of their settings and tensors.

All are BERT-like encoders, with the norm after each half of a layer and a linear head over the tokens. They differ in
names and in the embeddings (with or without types, positions that begin at 2, a separate width). MPNet also adds a bias
to the attention scores by distance, and ALBERT's layers share weights.
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
# Feed-forward, Embedding, heads (N), Buckets.
_SINGLE: Final[Mapping[str, str]] = {
    "embeddings.word": "VE",
    "embeddings.position": "PE",
    "embeddings.token_type": "TE",
    "distances": "BN",
}
# The same for pairs: `.weight` has these sizes, and `.bias` has the first of them.
_PAIRS: Final[Mapping[str, str]] = {
    "embeddings.norm": "E",
    "embeddings.projection": "HE",
    "layers.{i}.query": "HH",
    "layers.{i}.key": "HH",
    "layers.{i}.value": "HH",
    "layers.{i}.attention_output": "HH",
    "layers.{i}.attention_norm": "H",
    "layers.{i}.intermediate": "FH",
    "layers.{i}.output": "HF",
    "layers.{i}.output_norm": "H",
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
_BERT: Final[Names] = (
    *_EMBEDDINGS,
    *_TYPES,
    ("layers.{i}.query", "encoder.layer.{i}.attention.self.query"),
    ("layers.{i}.key", "encoder.layer.{i}.attention.self.key"),
    ("layers.{i}.value", "encoder.layer.{i}.attention.self.value"),
    *_HALVES,
)
_MPNET: Final[Names] = (
    *_EMBEDDINGS,
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
        typed: Whether token types tell its inputs' question and text apart.
        padded_positions: Whether a sequence's first position is the padding token's id plus 1.
        padding: The padding token's id, if transformers does not read it from the settings.
        activation: The activation if `config.json` names none.
        epsilon: The number that layer normalization adds to the variance, if transformers does not read it from the
            settings.
        narrow: Whether the width of its embeddings may differ from the hidden size.
    """

    model: str
    prefix: str
    names: Names = _BERT
    settings: Mapping[str, str] = field(default_factory=lambda: _USUAL)
    typed: bool = True
    padded_positions: bool = False
    padding: int | None = None
    activation: str = "gelu"
    epsilon: float | None = None
    narrow: bool = False


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
            typed=False,
            epsilon=1e-12,
        ),
        "roberta": Architecture(
            model="RobertaForQuestionAnswering", prefix="roberta.", typed=False, padded_positions=True
        ),
        "xlm-roberta": Architecture(
            model="XLMRobertaForQuestionAnswering", prefix="roberta.", typed=False, padded_positions=True
        ),
        "camembert": Architecture(
            model="CamembertForQuestionAnswering", prefix="roberta.", typed=False, padded_positions=True
        ),
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
            typed=False,
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
    }
)
"""The supported architectures by `model_type` of `config.json`."""


def tensor_table(shape: ModelShape, kind: str = "bert") -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Yield our name, transformers' name and the shape of every tensor of a model; `kind` is its `model_type`."""
    architecture = ARCHITECTURES[kind]
    sizes = {
        "V": shape.vocabulary,
        "P": shape.first_position + shape.positions,
        "T": shape.token_types,
        "H": shape.hidden,
        "F": shape.feed_forward,
        "E": shape.embedding_width,
        "N": shape.heads,
        "B": shape.distances,
        "2": 2,
    }
    names = [(ours, architecture.prefix + theirs) for ours, theirs in architecture.names]
    for ours, theirs in (*names, ("span", "qa_outputs")):
        if ours == "embeddings.projection" and not shape.projected:
            continue
        if ours in _SINGLE:
            yield ours, f"{theirs}.weight", tuple(sizes[x] for x in _SINGLE[ours])
            continue
        letters = _PAIRS[ours]
        for i in sorted(set(shape.weights_of_layers)) if "{i}" in ours else (0,):
            for part, of in (("weight", letters), ("bias", letters[0])):
                yield f"{ours}.{part}".format(i=i), f"{theirs}.{part}".format(i=i), tuple(sizes[x] for x in of)
