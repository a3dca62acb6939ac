"""The shape of a question-answering model: its sizes and its variant of the encoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

Activation: TypeAlias = Literal["gelu", "gelu_tanh", "relu"]
Significance: TypeAlias = Literal["all", "question"]

_KEY = "voters"  # the name of the rule of significance in folders and in printed shapes
_HEAD = "significance_head"

SHARPNESS: Final = 4.0
"""The factor of what a significance head reads, so that its weights, which begin at 0, learn fast."""
MOST_SHARP: Final = 12.0
"""The greatest logarithm of the factor by which a significance head changes a token's votes, up or down."""
_VARIANTS = ("disentangled", "modern", "bottleneck")


@dataclass(frozen=True, kw_only=True)
class Disentangled:
    """What DeBERTa has instead of BERT's positions (He et al., 2021, arXiv 2006.03654; v3: arXiv 2111.09543).

    A score of attention is the sum of up to three products, divided by the square root of (head size x products):
    content to content, the query's content to the key's relative position, and the key's content to the query's.
    Relative positions are in buckets: one for each distance up to `span` / 2 to each side and, in logarithmic steps,
    for groups of longer distances. The embeddings have their norm after their projection, which has no bias.

    Attributes:
        span: The number of buckets to each side; a side is half of the table of relative positions.
        longest: The distance of the last bucket in logarithmic steps; 0 if all distances have buckets of their own.
        to_position: Whether there are scores of content to position (c2p).
        to_content: Whether there are scores of position to content (p2c).
        shared: Whether relative positions have the same projections as the content.
        normed: Whether relative positions go through a norm.
        positioned: Whether an absolute position is also part of a token's embedding.
        packed: Whether the projections of queries, keys and values are one tensor, head by head (the first DeBERTa).
    """

    span: int = 0
    longest: int = 0
    to_position: bool = False
    to_content: bool = False
    shared: bool = False
    normed: bool = False
    positioned: bool = True
    packed: bool = False

    @property
    def products(self) -> int:
        """The number of products in a score."""
        return 1 + self.to_position + self.to_content


@dataclass(frozen=True, kw_only=True)
class Modern:
    """What ModernBERT has instead of BERT's layer (Warner et al., 2024, arXiv 2412.13663).

    A norm is before each half of a layer (not before the first attention) and after the last layer. Queries and keys
    are rotated by the token's position (RoFormer, Su et al., 2021). The feed-forward has a gate (Shazeer, 2020), so
    its first projection has the width 2F. Before the span's logits there is a projection with an activation and a norm.

    Attributes:
        bases: The base of the rotation's frequencies for each layer, `[layers]`.
        local: Whether each layer's attention is local, `[layers]`.
        reach: How far local attention reaches to each side, in tokens.
        head_activation: The activation before the span's logits.
        attention_bias: Whether the projections of attention have a bias.
        feed_forward_bias: Whether the projections of the feed-forward have a bias.
        norm_bias: Whether the norms have a bias.
        head_bias: Whether the projection before the span's logits has a bias.
    """

    bases: tuple[float, ...]
    local: tuple[bool, ...]
    reach: int
    head_activation: Activation = "gelu"
    attention_bias: bool = False
    feed_forward_bias: bool = False
    norm_bias: bool = False
    head_bias: bool = False


@dataclass(frozen=True, kw_only=True)
class Bottleneck:
    """What MobileBERT has instead of BERT's layer (Sun et al., 2020, arXiv 2004.02984).

    Inside a layer, states are narrow: a projection before attention makes them so, and one after the feed-forwards
    makes them wide again. A token's embedding is a projection of the words at, after and before it. In place of norms
    there are weights and biases for each channel.

    Attributes:
        width: The width of states inside a layer, K; the number of heads divides it.
        feed_forwards: The number of feed-forwards in a layer, one after another.
    """

    width: int
    feed_forwards: int


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """The sizes of an encoder.

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
        significance_head: Whether each layer has a significance head, a vector w of the width of its mixed values. It
            multiplies the attention that a token receives by exp(4 m w), where m are the values that the token's own
            attention mixed, before their projection; the exponent is at most 12, and at least -12.
        typed: Whether a token's type is part of its embedding (BERT, ELECTRA, ALBERT). Otherwise every token is
            embedded with type 0, if the model has types, and only significance tells question and text apart.
        embedding: The width of the embeddings, E; None if it is H.
        projected: Whether there is a projection between the embeddings and the first layer (ELECTRA, ALBERT).
        first_position: The row of the position embeddings for a sequence's first token (RoBERTa and MPNet: 2).
        distances: The number of distance buckets, each with an attention bias for every head (MPNet: 32), or 0.
        sharing: The index of each layer's weights, if layers share weights (ALBERT); otherwise empty.
        disentangled: What is different in DeBERTa; otherwise None.
        modern: What is different in ModernBERT; otherwise None.
        bottleneck: What is different in MobileBERT; otherwise None.
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
    significance_head: bool = False
    typed: bool = True
    embedding: int | None = None
    projected: bool = False
    first_position: int = 0
    distances: int = 0
    sharing: tuple[int, ...] = ()
    disentangled: Disentangled | None = None
    modern: Modern | None = None
    bottleneck: Bottleneck | None = None

    @property
    def positioned(self) -> bool:
        """Whether a token's absolute position is part of its embedding."""
        return self.modern is None and (self.disentangled is None or self.disentangled.positioned)

    @property
    def embedding_width(self) -> int:
        """The width of the embeddings, E."""
        return self.hidden if self.embedding is None else self.embedding

    @property
    def inner_width(self) -> int:
        """The width of states inside a layer: the hidden size, or that of a bottleneck."""
        return self.bottleneck.width if self.bottleneck else self.hidden

    @property
    def weights_of_layers(self) -> tuple[int, ...]:
        """The index of each layer's weights, `[layers]`."""
        return self.sharing or tuple(range(self.layers))

    def to_dict(self) -> dict[str, Any]:
        """Return the sizes by name, without the architectures that it is not. Significance is called `voters`."""
        sizes = {_KEY if name == "significance" else name: value for name, value in asdict(self).items()}
        return {name: value for name, value in sizes.items() if name not in _VARIANTS or value is not None}


def read_significance(stored: object) -> tuple[Significance, bool]:
    """Read the rule of significance from `dynamic_tinybert` of a `config.json`.

    Returns:
        `voters`, or `all` if it is missing; and `significance_head`, or False.

    Raises:
        ValueError: The rule is unknown.
    """
    ours = stored if isinstance(stored, dict) else {_KEY: None}
    voters: Significance | None = ours.get(_KEY, "all")
    if voters is None or voters not in get_args(Significance):
        known = " or ".join(map(repr, get_args(Significance)))
        raise ValueError(
            f"dynamic_tinybert is {stored!r:.60}, but only an object whose {_KEY} are {known} is supported"
        )
    head = ours.get(_HEAD, False)
    if type(head) is not bool:
        raise ValueError(f"{_HEAD} of dynamic_tinybert is {head!r:.60}, but only true or false is supported")
    return voters, head


def stored_significance(voters: Significance, head: bool) -> dict[str, Any]:
    """Return the `dynamic_tinybert` object of a `config.json` for a rule of significance."""
    return {_KEY: voters, **({_HEAD: True} if head else {})}
