"""The shape of a question-answering model: the numbers that every room reads and none computes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

Activation: TypeAlias = Literal["gelu", "gelu_tanh", "relu"]
Significance: TypeAlias = Literal["all", "question"]

_KEY = "voters"  # what folders, and whoever prints a shape, call the rule of significance


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """Sizes of an encoder as BERT is one, all counted in units of its own kind.

    Those from `embedding` on tell other architectures from BERT.

    Attributes:
        layers: Transformer layers, n.
        hidden: Width of a token's state, H.
        heads: Attention heads in a layer; H is a multiple of them.
        feed_forward: Width between the two feed-forward projections, F.
        vocabulary: Rows of the word embeddings.
        positions: The longest sequence the model can read, in tokens.
        token_types: Rows of the token-type embeddings (2: question and text); 0 if the model has no such table.
        activation: `gelu` is exact (erf); `gelu_tanh` is transformers' `gelu_new`.
        norm_epsilon: What layer normalization adds to the variance.
        significance: Whose attention makes a token significant: that of `all` tokens (Kim and Cho, 2020), or of the
            `question` alone, its [CLS] and [SEP] among it: the tokens of type 0. Folders call it `voters`.
        typed: Whether a token's type is part of its embedding (BERT, ELECTRA, ALBERT); otherwise that of every token is
            type 0, if there are types at all, and question and text are told apart for the votes alone.
        embedding: Width of the embeddings, E; None for H.
        projected: Whether a projection leads from the embeddings to the first layer (ELECTRA, ALBERT).
        first_position: Rows of the position embeddings before that of a sequence's first token (RoBERTa and MPNet: 2).
        distances: Buckets of distances, each with a bias of the attention scores for every head (MPNet: 32), or 0.
        sharing: The number of the weights that each layer has, where layers share them (ALBERT); empty where each has
            its own.
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
        """Width of the embeddings, E."""
        return self.hidden if self.embedding is None else self.embedding

    @property
    def weights_of_layers(self) -> tuple[int, ...]:
        """The number of the weights that each layer has, `[layers]`."""
        return self.sharing or tuple(range(self.layers))

    def to_dict(self) -> dict[str, Any]:
        """Return the sizes by name, the rule of significance as `voters`."""
        return {_KEY if name == "significance" else name: value for name, value in asdict(self).items()}


def read_significance(stored: object) -> Significance:
    """Read the rule of significance, `voters`, from `dynamic_tinybert` of a `config.json`; `all` if that has none.

    Raises:
        ValueError: There is no such rule.
    """
    found: Significance | None = stored.get(_KEY, "all") if isinstance(stored, dict) else None
    if found is None or found not in get_args(Significance):
        known = " or ".join(map(repr, get_args(Significance)))
        raise ValueError(
            f"dynamic_tinybert is {stored!r:.60}, but only an object whose {_KEY} are {known} is supported"
        )
    return found


def stored_significance(rule: Significance) -> dict[str, str]:
    """Return what `dynamic_tinybert` of a `config.json` holds for a rule of significance."""
    return {_KEY: rule}
