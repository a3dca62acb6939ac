"""The shape of a question-answering model: its sizes and its variant of BERT's architecture."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

Activation: TypeAlias = Literal["gelu", "gelu_tanh", "relu"]
Significance: TypeAlias = Literal["all", "question"]

_KEY = "voters"  # the name of the rule of significance in folders and in printed shapes


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """The sizes of a BERT-like encoder.

    BERT has the default values of `embedding` and what follows it; other architectures differ there.

    Attributes:
        layers: The number of transformer layers, n.
        hidden: The width of a token's state, H.
        heads: The number of attention heads in a layer; H is a multiple of it.
        feed_forward: The width between the two feed-forward projections, F.
        vocabulary: The number of rows of the word embeddings.
        positions: The longest sequence that the model can read, in tokens.
        token_types: Rows of the token-type embeddings (2: question and text); 0 if the model has no such table.
        activation: `gelu` is exact (erf); `gelu_tanh` is transformers' `gelu_new`.
        norm_epsilon: The number that layer normalization adds to the variance.
        significance: Which tokens' attention makes a token significant: `all` tokens (Kim and Cho, 2020), or only the
            tokens of the `question` with its [CLS] and [SEP], which have type 0. Folders call it `voters`.
        typed: Whether a token's type is part of its embedding (BERT, ELECTRA, ALBERT). Otherwise every token is
            embedded with type 0, if the model has types, and only significance tells question and text apart.
        embedding: The width of the embeddings, E; None if it is H.
        projected: Whether there is a projection between the embeddings and the first layer (ELECTRA, ALBERT).
        first_position: The row of the position embeddings for a sequence's first token (RoBERTa and MPNet: 2).
        distances: The number of distance buckets, each with an attention bias for every head (MPNet: 32), or 0.
        sharing: The index of each layer's weights, if layers share weights (ALBERT); otherwise empty.
    """

    layers: int
    hidden: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    token_types: int = 2
    activation: Activation = "gelu"
    norm_epsilon: float = 1e-12
    significance: Significance = "all"
    typed: bool = True
    embedding: int | None = None
    projected: bool = False
    first_position: int = 0
    distances: int = 0
    sharing: tuple[int, ...] = ()

    @property
    def embedding_width(self) -> int:
        """The width of the embeddings, E."""
        return self.hidden if self.embedding is None else self.embedding

    @property
    def weights_of_layers(self) -> tuple[int, ...]:
        """The index of each layer's weights, `[layers]`."""
        return self.sharing or tuple(range(self.layers))

    def to_dict(self) -> dict[str, Any]:
        """Return the sizes by name. The rule of significance is called `voters`."""
        return {_KEY if name == "significance" else name: value for name, value in asdict(self).items()}


def read_significance(stored: object) -> Significance:
    """Read the rule of significance, `voters`, from `dynamic_tinybert` of a `config.json`; `all` if it is missing.

    Raises:
        ValueError: The rule is unknown.
    """
    found: Significance | None = stored.get(_KEY, "all") if isinstance(stored, dict) else None
    if found is None or found not in get_args(Significance):
        known = " or ".join(map(repr, get_args(Significance)))
        raise ValueError(
            f"dynamic_tinybert is {stored!r:.60}, but only an object whose {_KEY} are {known} is supported"
        )
    return found


def stored_significance(rule: Significance) -> dict[str, str]:
    """Return the `dynamic_tinybert` object of a `config.json` for a rule of significance."""
    return {_KEY: rule}
