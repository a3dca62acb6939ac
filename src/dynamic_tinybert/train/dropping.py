"""Drop-and-restore in PyTorch, by the runtime's contracts: one loop for every architecture that is trained.

Drop-and-restore, significance and layer drop are those of the Length-Adaptive Transformer (Kim and Cho, 2020), counted
in each sequence's own tokens: padding never votes, and counts in no length.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from dynamic_tinybert.model import (
    LEAST_LENGTH,
    LENGTH_ROUNDING,
    BudgetError,
    LengthConfig,
    Significance,
    read_significance,
    stored_significance,
)

Lengths: TypeAlias = "LengthConfig | Sequence[float] | Tensor"
"""What a call keeps: a length configuration, its fractions, or tokens to keep as integers `[batch, layers]`."""

_ALWAYS = float("inf")  # the first token's votes
_HIDDEN = -1e30  # what is added to the scores of padding


@dataclass
class DynamicOutput(QuestionAnsweringModelOutput):  # type: ignore[misc]
    """Logits as transformers gives them, and how far each token came.

    Attributes:
        layers_passed: How many of the model's layers each token passed whole, int64 `[batch, tokens]`.
        votes: The attention that each token received in each layer that ran, float32 `[layers, batch, tokens]`; 0 for
            padding and for what was dropped before. Unlike the choice that is made by it, it carries a gradient. None
            if not asked for.
    """

    layers_passed: Tensor | None = None
    votes: Tensor | None = None


class AttentionParts(NamedTuple):
    """The parts of a layer's attention before its output, as modules: three projections `[hidden, hidden]`, dropout."""

    query: Any
    key: Any
    value: Any
    dropout: Any


class _State(NamedTuple):
    """The tokens that are left, each in a slot: at first in its place, after a drop the most significant first.

    hidden: their states, `[batch, slots, hidden]`.
    at: where each stands in its sequence, `[batch, slots]`.
    real: which slots hold a token that counts, `[batch, slots]`.
    asking: which may vote, `[batch, slots]`.
    bias: what is added to attention scores, `[batch * heads, slots or 1, slots]`.
    """

    hidden: Tensor
    at: Tensor
    real: Tensor
    asking: Tensor
    bias: Tensor


class _Found(NamedTuple):
    """What is known of every token of the batch: logits float32 `[batch, tokens, 2]`, and layers passed."""

    logits: Tensor
    passed: Tensor


class DropAndRestore:
    """What makes a question-answering model of transformers drop tokens and layers: mixed in before its class.

    A class says by the methods below what its architecture calls things.

    Attributes:
        eager: Whether calls in training mode compute their attention as calls with a configuration do, by plain
            products, without a configuration too. It agrees with transformers' to 1e-5 in float32, and is faster
            backward in bfloat16 on CPUs. Such a call gives out logits in float32, and no hidden states.
        saved_as: The class of transformers that reads its folders.
    """

    config: Any
    qa_outputs: Any
    training: bool
    eager: bool = False
    saved_as: str

    def embed(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """The states before the first layer, `[batch, tokens, hidden]`."""
        raise NotImplementedError

    def encoder_layers(self) -> Any:
        """The layers, modules that have `intermediate` and `output`."""
        raise NotImplementedError

    def attention_parts(self, layer: Any) -> AttentionParts:
        """The parts of a layer's attention."""
        raise NotImplementedError

    def attended(self, layer: Any, context: Tensor, hidden: Tensor) -> Tensor:
        """The states after the attention half of a layer, of what it mixed, `[batch, slots, hidden]` all."""
        raise NotImplementedError

    def distances(self, tokens: int, device: torch.device) -> Tensor | None:
        """The bucket of each place seen from each other, `[queries, keys]`; None if distances add nothing to scores."""
        return None

    def bias_of(self, buckets: Tensor) -> Tensor:
        """What buckets of distances `[...]` add to the scores, `[..., heads]`."""
        raise NotImplementedError

    def whole(
        self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None, **others: Any
    ) -> Any:
        """Call the model as transformers has it."""
        raise NotImplementedError

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        length_config: Lengths | None = None,
        layer_config: Sequence[int] | None = None,
        output_votes: bool = False,
        **others: Any,
    ) -> QuestionAnsweringModelOutput:
        """Compute start and end logits.

        Args:
            input_ids: Tokens, `[batch, tokens]`.
            attention_mask: 1 for a token and 0 for padding, `[batch, tokens]`, each row filled from the left.
            token_type_ids: 0 for the question and 1 for the text, `[batch, tokens]`; of an architecture that embeds
                no types, for the votes alone.
            length_config: What remains after each layer; see `Lengths`. A token that is dropped in a layer gets its
                logits from its state after the last layer that it passed whole.
            layer_config: The layers that run, ascending, from 0; the others are skipped, and drop nothing.
            output_votes: Give out the votes too. Without a configuration nothing is dropped.
            others: What transformers' `forward` takes, in calls without a configuration and votes.

        Returns:
            `start_logits` and `end_logits`, `[batch, tokens]`, without meaning at padding; a `DynamicOutput` if a
            configuration was given, votes were asked for, or the model is `eager` and in training.

        Raises:
            BudgetError: `length_config` is none for a model of so many layers.
            ValueError: `layer_config` names no layer, or not in order; other options are given beside a configuration
                or `output_votes`; or the model's configuration names no known rule of significance.
        """
        asked = [name for name, value in others.items() if value is not None]
        if length_config is None and layer_config is None and not output_votes:
            if asked or not (self.eager and self.training):
                return self.whole(input_ids, attention_mask, token_type_ids, **others)
        elif asked:
            raise ValueError(f"with a length or layer configuration, or votes, there is no {', '.join(asked)}")
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        count = self.config.num_hidden_layers
        keep, most, levels = _lengths(length_config, attention_mask, count)
        running = _layers(layer_config, count)

        buckets = self.distances(input_ids.shape[1], input_ids.device)
        state = self._begin(input_ids, attention_mask, token_type_ids, buckets)
        found: _Found | None = None
        level, passed = 1.0, 0
        seen: list[Tensor] = []
        for number, layer in enumerate(self.encoder_layers()):
            if number not in running:
                continue
            drops = levels[number] < level
            context, votes = self._attend(layer, state, voting=drops or output_votes, learning=output_votes)
            if output_votes:
                seen.append(torch.zeros_like(input_ids, dtype=torch.float32).scatter(1, state.at, votes * state.real))
            if drops:
                level = levels[number]
                found = self._find(found, state, passed)
                state, context = self._drop(state, context, votes, keep[:, number], most[number], buckets)
            attended = self.attended(layer, context, state.hidden)
            state = state._replace(hidden=layer.output(layer.intermediate(attended), attended))
            passed += 1
        found = self._find(found, state, passed)
        return DynamicOutput(
            start_logits=found.logits[..., 0],
            end_logits=found.logits[..., 1],
            layers_passed=found.passed,
            votes=torch.stack(seen) if output_votes else None,
        )

    def save_pretrained(self, save_directory: str | os.PathLike[str], **options: Any) -> None:
        """Write the folder, as transformers' own class would: everything reads it."""
        super().save_pretrained(save_directory, **options)  # type: ignore[misc]
        if options.get("is_main_process", True):
            self.config.architectures = [self.saved_as]
            self.config.save_pretrained(save_directory)

    def _begin(self, input_ids: Tensor, mask: Tensor, types: Tensor | None, buckets: Tensor | None) -> _State:
        """All tokens of a batch, each in its place."""
        hidden = self.embed(input_ids, types).to(self.qa_outputs.weight.dtype)
        at = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        real = mask.bool()
        asking = real if significance_of(self.config) == "all" or types is None else types == 0
        return _State(hidden, at, real, asking, self._bias(hidden, real, buckets))

    def _attend(self, layer: Any, state: _State, *, voting: bool, learning: bool) -> tuple[Tensor, Any]:
        """Run the attention of a layer, up to its output projection.

        Args:
            layer: The layer.
            state: What it sees.
            voting: Whether votes are counted.
            learning: Whether they carry a gradient.

        Returns:
            What each token mixes of the others' values, `[batch, slots, hidden]`; and the attention that it receives,
            summed over heads and the queries that count, float32 `[batch, slots]`, None without `voting`.
        """
        parts, heads = self.attention_parts(layer), self.config.num_attention_heads

        def split(x: Tensor) -> Tensor:
            return x.unflatten(-1, (heads, -1)).transpose(1, 2).flatten(0, 1)

        query, key, value = (split(part(state.hidden)) for part in parts[:3])
        scale = 1 / math.sqrt(query.shape[-1])
        # One pass over the scores: scaled, and what hides padding and what distances add joins them in the product.
        scores = torch.baddbmm(state.bias.to(query.dtype), query, key.transpose(1, 2), alpha=scale)
        probabilities = scores.softmax(-1)
        votes = _count(probabilities, state.asking & state.real, heads, learning=learning) if voting else None
        mixed = torch.bmm(parts.dropout(probabilities).to(value.dtype), value)
        return mixed.unflatten(0, (-1, heads)).transpose(1, 2).flatten(2), votes

    def _drop(
        self, state: _State, context: Tensor, votes: Tensor, keep: Tensor, most: int, buckets: Tensor | None
    ) -> tuple[_State, Tensor]:
        """Let the most significant tokens through, `keep` `[batch]` of each row, and what attention mixed for them."""
        votes = votes.detach().masked_fill(~state.real, -1.0).masked_fill(state.at == 0, _ALWAYS)
        chosen = votes.topk(most, dim=1).indices
        which = chosen[..., None].expand(-1, -1, context.shape[-1])
        at, hidden = state.at.gather(1, chosen), state.hidden.gather(1, which)
        real = torch.arange(most, device=at.device) < keep[:, None]
        if buckets is not None:
            buckets = buckets[at[:, :, None], at[:, None, :]]
        bias = self._bias(hidden, real, buckets)
        return _State(hidden, at, real, state.asking.gather(1, chosen), bias), context.gather(1, which)

    def _bias(self, hidden: Tensor, real: Tensor, buckets: Tensor | None) -> Tensor:
        """What is added to the scores of such slots, `[batch * heads, slots or 1, slots]`, once for many layers.

        Args:
            hidden: States, `[batch, slots, hidden]`, for the precision of the products.
            real: Which slots count, `[batch, slots]`.
            buckets: Those of their distances, `[slots, slots]` or `[batch, slots, slots]`; None if there are none.
        """
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        hiding = torch.zeros(real.shape, dtype=dtype, device=real.device).masked_fill(~real, _HIDDEN)[:, None, None, :]
        if buckets is None:
            return hiding.expand(-1, self.config.num_attention_heads, -1, -1).flatten(0, 1)
        adding = self.bias_of(buckets).to(dtype).movedim(-1, -3)  # before queries and keys
        return (adding + hiding).flatten(0, 1)

    def _find(self, found: _Found | None, state: _State, passed: int) -> _Found:
        """Write down what the states say that have passed so many layers; what is known of other tokens stays."""
        logits = self.qa_outputs(state.hidden).float()
        count = torch.full_like(state.at, passed) * state.real
        if found is None:  # every token is still in its place
            return _Found(logits, count)
        place = state.at[..., None].expand(-1, -1, 2)
        new = torch.where(state.real[..., None], logits, found.logits.gather(1, place))
        count = torch.where(state.real, count, found.passed.gather(1, state.at))
        return _Found(found.logits.scatter(1, place, new), found.passed.scatter(1, state.at, count))


def significance_of(config: Any) -> Significance:
    """The rule of significance, by a model's configuration: see `ModelShape`.

    Raises:
        ValueError: There is no such rule.
    """
    return read_significance(getattr(config, "dynamic_tinybert", {}))


def set_significance(config: Any, rule: Significance) -> None:
    """Write the rule of significance into a model's configuration."""
    if rule != significance_of(config):
        config.dynamic_tinybert = stored_significance(rule)


def _count(probabilities: Tensor, queries: Tensor, heads: int, *, learning: bool) -> Tensor:
    """The attention that each token receives, summed over heads and queries, in float32 as the runtime sums it.

    Args:
        probabilities: `[batch * heads, queries, keys]`.
        queries: Whose attention counts, `[batch, queries]`.
        heads: How many heads there are.
        learning: Whether the sum carries a gradient.

    Returns:
        `[batch, keys]`.
    """
    counted = (probabilities if learning else probabilities.detach()).unflatten(0, (-1, heads)).flatten(1, 2)
    with torch.autocast(probabilities.device.type, enabled=False):
        return torch.bmm(queries.float().repeat(1, heads)[:, None], counted.float())[:, 0]


def _lengths(config: Lengths | None, mask: Tensor, layers: int) -> tuple[Tensor, list[int], Sequence[float]]:
    """Return what each row keeps, as integers `[batch, layers]`, the most that any row keeps, and levels.

    Where a layer's level is below that of the layers before it, some row drops tokens there. Of fractions, all but the
    first is told without asking the device: the longest row is as long as the batch.
    """
    real = mask.sum(1)
    if isinstance(config, Tensor):
        if config.shape != (len(mask), layers) or config.is_floating_point():
            raise BudgetError(f"lengths are integers [{len(mask)}, {layers}], not {config.dtype} {tuple(config.shape)}")
        if bool((torch.cat([real[:, None], config.to(mask.device)], 1).diff(dim=1) > 0).any()) or bool(
            (config < 1).any()
        ):
            raise BudgetError("each length is at least 1 and not greater than the one before it")
        drops = (torch.cat([real[:, None], config.to(mask.device)], 1).diff(dim=1) < 0).any(0)
        return config.to(mask.device), config.max(0).values.tolist(), (1 - drops.cumsum(0)).tolist()
    fractions = LengthConfig.full(layers) if config is None else config
    if not isinstance(fractions, LengthConfig):
        fractions = LengthConfig(tuple(fractions))
    if len(fractions.fractions) != layers:
        raise BudgetError(f"a length configuration of {len(fractions.fractions)} layers for a model of {layers}")
    shares = torch.tensor(fractions.fractions, dtype=torch.float64, device=mask.device)
    keep = torch.ceil(shares * real[:, None] - LENGTH_ROUNDING).long()  # the rule of `LengthConfig.lengths`
    keep = keep.clamp(min=LEAST_LENGTH).minimum(real[:, None])
    return keep, fractions.lengths([mask.shape[1]])[0].tolist(), fractions.fractions


def _layers(config: Sequence[int] | None, layers: int) -> frozenset[int]:
    if config is None:
        return frozenset(range(layers))
    chosen = list(config)
    if not chosen or chosen != sorted(set(chosen)) or chosen[0] < 0 or chosen[-1] >= layers:
        raise ValueError(f"a layer configuration is ascending numbers from 0 to {layers - 1}, at least one: {chosen}")
    return frozenset(chosen)
