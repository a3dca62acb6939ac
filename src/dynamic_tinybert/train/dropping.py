"""Drop-and-restore in PyTorch, with the same rules as the runtime: one loop for every architecture that is trained.

Drop-and-restore, significance and layer drop follow the Length-Adaptive Transformer (Kim and Cho, 2020). Lengths count
only each sequence's own tokens; the attention of padding never counts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from transformers import initialization
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from dynamic_tinybert.model import (
    LEAST_LENGTH,
    LENGTH_ROUNDING,
    MOST_SHARP,
    SHARPNESS,
    BudgetError,
    LengthConfig,
    Significance,
    read_significance,
    stored_significance,
)

Lengths: TypeAlias = "LengthConfig | Sequence[float] | Tensor"
"""What stays after each layer: a length configuration, its fractions, or numbers of tokens `[batch, layers]`."""

HEAD = "significance_head"  # the name of the parameter of a layer
_ALWAYS = float("inf")  # significance of the first token, which always stays
_HIDDEN = -1e30  # added to the attention scores of padding


@dataclass
class DynamicOutput(QuestionAnsweringModelOutput):  # type: ignore[misc]
    """Logits as in transformers, and the number of layers that each token passed.

    Attributes:
        layers_passed: How many of the model's layers each token passed completely, int64 `[batch, tokens]`.
        votes: The attention that each token received in each layer that ran, with a significance head times the factor
            that the head reads, float32 `[layers, batch, tokens]`; 0 for padding and for tokens that were dropped
            before. It carries a gradient, but the choice of tokens does not. None if it was not asked for.
    """

    layers_passed: Tensor | None = None
    votes: Tensor | None = None


class AttentionParts(NamedTuple):
    """Queries, keys and values of a layer's attention, `[batch, slots, hidden]` each, and its dropout, a function."""

    query: Tensor
    key: Tensor
    value: Tensor
    dropout: Callable[[Tensor], Tensor]


class _State(NamedTuple):
    """The tokens that are left, one per slot: at first in sequence order, after a drop by falling significance.

    hidden: their states, `[batch, slots, hidden]`.
    at: the position of each in its sequence, `[batch, slots]`.
    real: which slots hold a token, not padding, `[batch, slots]`.
    asking: whose attention counts for significance, `[batch, slots]`.
    bias: added to attention scores, `[batch * heads, slots or 1, slots]`.
    """

    hidden: Tensor
    at: Tensor
    real: Tensor
    asking: Tensor
    bias: Tensor


class _Found(NamedTuple):
    """The results for every token so far: logits, float32 `[batch, tokens, 2]`, and layers passed."""

    logits: Tensor
    passed: Tensor


class DropAndRestore:
    """Mixin that makes a question-answering model of transformers drop tokens and layers. It comes before that class.

    A subclass implements the methods below for its architecture.

    Attributes:
        eager: Whether calls in training mode without a configuration compute attention by plain products, as calls
            with a configuration do. This agrees with transformers to 1e-5 in float32, and its backward pass is faster
            in bfloat16 on CPUs. Such a call returns logits in float32 and no hidden states.
        saved_as: The class of transformers that reads the folders.
    """

    config: Any
    qa_outputs: Any
    training: bool
    eager: bool = False
    saved_as: str

    def __init__(self, config: Any, *args: Any, **options: Any) -> None:
        super().__init__(config, *args, **options)  # type: ignore[call-arg]
        self._make_heads(significance_of(config)[1])

    def embed(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """Return the states before the first layer, `[batch, tokens, hidden]`."""
        raise NotImplementedError

    def encoder_layers(self) -> Any:
        """Return the layers."""
        raise NotImplementedError

    def attention_parts(self, layer: Any, hidden: Tensor, at: Tensor) -> AttentionParts:
        """Return what attention needs of the states `hidden`, `[batch, slots, hidden]`, of tokens at positions `at`."""
        raise NotImplementedError

    def attended(self, layer: Any, context: Tensor, hidden: Tensor) -> Tensor:
        """Return a layer's states after attention, from the mixed values `context`; all `[batch, slots, hidden]`."""
        raise NotImplementedError

    def fed(self, layer: Any, attended: Tensor) -> Tensor:
        """Return a layer's states after its feed-forward, `[batch, slots, hidden]`."""
        states: Tensor = layer.output(layer.intermediate(attended), attended)
        return states

    def last_projection(self) -> Any:
        """Return the last projection, to start and end logits."""
        return self.qa_outputs

    def logits_of(self, hidden: Tensor) -> Tensor:
        """Return the logits of states, `[batch, slots, 2]`."""
        logits: Tensor = self.last_projection()(hidden)
        return logits

    def reach(self, layer: Any) -> int | None:
        """Return how far a layer's attention reaches to each side, in tokens; None if it is everywhere."""
        return None

    def distances(self, tokens: int, device: torch.device) -> Tensor | None:
        """Return the bucket of the distance of each pair, `[queries, keys]`; None if the model has no distance bias."""
        return None

    def bias_of(self, buckets: Tensor) -> Tensor:
        """Return the bias that distance buckets `[...]` add to attention scores, `[..., heads]`."""
        raise NotImplementedError

    def whole(
        self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None, **others: Any
    ) -> Any:
        """Call the forward pass of transformers, which drops nothing."""
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
            token_type_ids: 0 for the question and 1 for the text, `[batch, tokens]`. An architecture that does not
                embed types uses them only for significance.
            length_config: What stays after each layer; see `Lengths`. A token that a layer drops gets its logits from
                its state after the last layer that it passed completely.
            layer_config: The layers that run, ascending, from 0; the others are skipped, and drop nothing.
            output_votes: Return `votes` too. Without a configuration nothing is dropped.
            others: Arguments of transformers' `forward`, for calls without a configuration and `output_votes`.

        Returns:
            `start_logits` and `end_logits`, `[batch, tokens]`; the values at padding mean nothing. A `DynamicOutput` if
            a configuration or `output_votes` is given, or the model is `eager` and in training.

        Raises:
            BudgetError: `length_config` is not valid for the model's number of layers.
            ValueError: `layer_config` is not an ascending list of the model's layers; other arguments are given with a
                configuration or `output_votes`; or the model's configuration names an unknown rule of significance.
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
            state = state._replace(hidden=self.fed(layer, attended))
            passed += 1
        found = self._find(found, state, passed)
        return DynamicOutput(
            start_logits=found.logits[..., 0],
            end_logits=found.logits[..., 1],
            layers_passed=found.passed,
            votes=torch.stack(seen) if output_votes else None,
        )

    def set_significance(self, voters: Significance | None = None, head: bool | None = None) -> None:
        """Set the rule of significance, here and in the configuration; None leaves a part of it as it is.

        New heads begin at 0, where they change nothing.
        """
        old_voters, old_head = significance_of(self.config)
        head = old_head if head is None else head
        set_significance(self.config, old_voters if voters is None else voters, head)
        self._make_heads(head)

    def _make_heads(self, there: bool) -> None:
        for layer in self.encoder_layers():
            if not there and hasattr(layer, HEAD):
                delattr(layer, HEAD)
            elif there and not hasattr(layer, HEAD):
                weight = self.last_projection().weight
                setattr(layer, HEAD, torch.nn.Parameter(weight.new_zeros(self.config.hidden_size)))

    def initialize_weights(self) -> None:
        """Initialize the weights that a folder lacks, as transformers does, and significance heads with 0."""
        super().initialize_weights()  # type: ignore[misc]
        for layer in self.encoder_layers():
            if hasattr(layer, HEAD):
                initialization.zeros_(getattr(layer, HEAD))  # unless it was loaded

    def save_pretrained(self, save_directory: str | os.PathLike[str], **options: Any) -> None:
        """Write the folder as `saved_as` of transformers would, so that any program can read it."""
        super().save_pretrained(save_directory, **options)  # type: ignore[misc]
        if options.get("is_main_process", True):
            self.config.architectures = [self.saved_as]
            self.config.save_pretrained(save_directory)

    def _begin(self, input_ids: Tensor, mask: Tensor, types: Tensor | None, buckets: Tensor | None) -> _State:
        hidden = self.embed(input_ids, types).to(self.last_projection().weight.dtype)
        at = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        real = mask.bool()
        asking = real if significance_of(self.config)[0] == "all" or types is None else types == 0
        return _State(hidden, at, real, asking, self._bias(hidden, real, buckets))

    def _attend(self, layer: Any, state: _State, *, voting: bool, learning: bool) -> tuple[Tensor, Any]:
        """Run the attention of a layer, up to its output projection.

        Args:
            layer: The layer.
            state: The tokens that are left.
            voting: Whether to sum the attention that each token receives.
            learning: Whether that sum carries a gradient.

        Returns:
            The mixed values of each token, `[batch, slots, hidden]`; and its significance, the attention that it
            receives, summed over heads and the queries that count, times what the layer's significance head reads,
            float32 `[batch, slots]`, None without `voting`.
        """
        parts, heads = self.attention_parts(layer, state.hidden, state.at), self.config.num_attention_heads
        query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2).flatten(0, 1) for x in parts[:3])
        scale, bias = 1 / math.sqrt(query.shape[-1]), state.bias.to(query.dtype)
        if (reach := self.reach(layer)) is not None:
            far = (state.at[:, :, None] - state.at[:, None, :]).abs() > reach
            bias = bias + (far.to(bias.dtype) * _HIDDEN).repeat_interleave(heads, 0)
        # One pass over the scores: the product also scales, hides padding and adds the distance bias.
        scores = torch.baddbmm(bias, query, key.transpose(1, 2), alpha=scale)
        probabilities = scores.softmax(-1)
        votes = _count(probabilities, state.asking & state.real, heads, learning=learning) if voting else None
        mixed = torch.bmm(parts.dropout(probabilities).to(value.dtype), value)
        mixed = mixed.unflatten(0, (-1, heads)).transpose(1, 2).flatten(2)
        if votes is not None and hasattr(layer, HEAD):
            votes = votes * _read(mixed, getattr(layer, HEAD))
        return mixed, votes

    def _drop(
        self, state: _State, context: Tensor, votes: Tensor, keep: Tensor, most: int, buckets: Tensor | None
    ) -> tuple[_State, Tensor]:
        """Keep the most significant tokens, `keep` `[batch]` of each row, and their mixed values."""
        votes = votes.detach().masked_fill(~state.real, -1.0).masked_fill(state.at == 0, _ALWAYS)
        # Of tokens that tie, the first goes on, as in the runtime: with local attention, tokens without neighbours tie.
        chosen = votes.sort(dim=1, descending=True, stable=True).indices[:, :most]
        which = chosen[..., None].expand(-1, -1, context.shape[-1])
        at, hidden = state.at.gather(1, chosen), state.hidden.gather(1, which)
        real = torch.arange(most, device=at.device) < keep[:, None]
        if buckets is not None:
            buckets = buckets[at[:, :, None], at[:, None, :]]
        bias = self._bias(hidden, real, buckets)
        return _State(hidden, at, real, state.asking.gather(1, chosen), bias), context.gather(1, which)

    def _bias(self, hidden: Tensor, real: Tensor, buckets: Tensor | None) -> Tensor:
        """Return the bias of attention scores, `[batch * heads, slots or 1, slots]`; it holds until the next drop.

        Args:
            hidden: States, `[batch, slots, hidden]`, which give device and precision.
            real: Which slots count, `[batch, slots]`.
            buckets: Buckets of distances, `[slots, slots]` or `[batch, slots, slots]`; None without a distance bias.
        """
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        hiding = torch.zeros(real.shape, dtype=dtype, device=real.device).masked_fill(~real, _HIDDEN)[:, None, None, :]
        if buckets is None:
            return hiding.expand(-1, self.config.num_attention_heads, -1, -1).flatten(0, 1)
        adding = self.bias_of(buckets).to(dtype).movedim(-1, -3)  # heads before queries and keys
        return (adding + hiding).flatten(0, 1)

    def _find(self, found: _Found | None, state: _State, passed: int) -> _Found:
        """Update the results of the tokens that are left, which passed `passed` layers; keep those of other tokens."""
        logits = self.logits_of(state.hidden).float()
        count = torch.full_like(state.at, passed) * state.real
        if found is None:  # every slot is still in sequence order
            return _Found(logits, count)
        place = state.at[..., None].expand(-1, -1, 2)
        new = torch.where(state.real[..., None], logits, found.logits.gather(1, place))
        count = torch.where(state.real, count, found.passed.gather(1, state.at))
        return _Found(found.logits.scatter(1, place, new), found.passed.scatter(1, state.at, count))


def significance_of(config: Any) -> tuple[Significance, bool]:
    """Return the rule of significance in a model's configuration, `significance` and `significance_head` of its shape.

    Raises:
        ValueError: The configuration names an unknown rule.
    """
    return read_significance(getattr(config, "dynamic_tinybert", {}))


def set_significance(config: Any, voters: Significance, head: bool) -> None:
    """Write the rule of significance into a model's configuration."""
    if (voters, head) != significance_of(config):
        config.dynamic_tinybert = stored_significance(voters, head)


def _read(mixed: Tensor, head: Tensor) -> Tensor:
    """Return the factor of votes that a significance head reads from mixed values, float32 `[batch, slots]`."""
    with torch.autocast(mixed.device.type, enabled=False):
        return (SHARPNESS * (mixed.float() * head.float()).sum(-1)).clamp(-MOST_SHARP, MOST_SHARP).exp()


def _count(probabilities: Tensor, queries: Tensor, heads: int, *, learning: bool) -> Tensor:
    """Sum the attention that each token receives over heads and queries, in float32 like the runtime.

    Args:
        probabilities: `[batch * heads, queries, keys]`.
        queries: Whose attention counts, `[batch, queries]`.
        heads: The number of heads.
        learning: Whether the sum carries a gradient.

    Returns:
        `[batch, keys]`.
    """
    counted = (probabilities if learning else probabilities.detach()).unflatten(0, (-1, heads)).flatten(1, 2)
    with torch.autocast(probabilities.device.type, enabled=False):
        return torch.bmm(queries.float().repeat(1, heads)[:, None], counted.float())[:, 0]


def _lengths(config: Lengths | None, mask: Tensor, layers: int) -> tuple[Tensor, list[int], Sequence[float]]:
    """Return the tokens that each row keeps, `[batch, layers]`, the most that any row keeps at each layer, and levels.

    If a layer's level is below that of the layers before it, some row drops tokens there. For fractions, the last two
    results need no data from the device, since the longest row is as long as the batch.
    """
    real = mask.sum(1)
    if isinstance(config, Tensor):
        if config.shape != (len(mask), layers) or config.is_floating_point():
            raise BudgetError(
                f"lengths must be integers [{len(mask)}, {layers}], not {config.dtype} {tuple(config.shape)}"
            )
        if bool((torch.cat([real[:, None], config.to(mask.device)], 1).diff(dim=1) > 0).any()) or bool(
            (config < 1).any()
        ):
            raise BudgetError("each length must be at least 1 and not greater than the one before it")
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
        raise ValueError(
            f"a layer configuration must be ascending numbers from 0 to {layers - 1}, at least one: {chosen}"
        )
    return frozenset(chosen)
