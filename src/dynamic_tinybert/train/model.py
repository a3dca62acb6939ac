"""BERT question answering with drop-and-restore, in PyTorch: what is trained, by the runtime's contracts.

Drop-and-restore, significance and layer drop are those of the Length-Adaptive Transformer (Kim and Cho, 2020), counted
in each sequence's own tokens: padding never votes, and counts in no length.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import transformers
from torch import Tensor
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from dynamic_tinybert.budget import BudgetError, LengthConfig
from dynamic_tinybert.shape import Voters, read_voters

Lengths: TypeAlias = "LengthConfig | Sequence[float] | Tensor"
"""What a call keeps: a length configuration, its fractions, or tokens to keep as integers `[batch, layers]`."""

_FLOOR = 2  # tokens that a sequence keeps at the least; the rule is `LengthConfig.lengths`
_ALWAYS = float("inf")  # the first token's votes


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


class DynamicBertForQuestionAnswering(transformers.BertForQuestionAnswering):  # type: ignore[misc]
    """`BertForQuestionAnswering` that can drop tokens and layers. It reads and writes the same folders.

    Without `length_config`, `layer_config` and `output_votes` a call is transformers' own. With one of them, logits
    agree with the graph of `dynamic_tinybert.runtime` on the same weights to 1e-3, in any padded batch.
    """

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
            token_type_ids: 0 for the question and 1 for the text, `[batch, tokens]`.
            length_config: What remains after each layer; see `Lengths`. A token that is dropped in a layer gets its
                logits from its state after the last layer that it passed whole.
            layer_config: The layers that run, ascending, from 0; the others are skipped, and drop nothing.
            output_votes: Give out the votes too. Without a configuration nothing is dropped.
            others: What transformers' `forward` takes, in calls without a configuration and votes.

        Returns:
            `start_logits` and `end_logits`, `[batch, tokens]`, without meaning at padding; a `DynamicOutput` if a
            configuration was given or votes were asked for.

        Raises:
            BudgetError: `length_config` is none for a model of so many layers.
            ValueError: `layer_config` names no layer, or not in order; other options are given beside a configuration
                or `output_votes`; or the model's configuration names voters that there are not.
        """
        if length_config is None and layer_config is None and not output_votes:
            return super().forward(input_ids, attention_mask, token_type_ids, **others)
        if asked := [name for name, value in others.items() if value is not None]:
            raise ValueError(f"with a length or layer configuration, or votes, there is no {', '.join(asked)}")
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        layers = self.config.num_hidden_layers
        keep, most, levels = _lengths(length_config, attention_mask, layers)
        running = _layers(layer_config, layers)

        hidden = self.bert.embeddings(input_ids=input_ids, token_type_ids=token_type_ids)
        real = attention_mask.bool()  # of the tokens that are left, `[batch, kept]`
        asking = real if voters_of(self.config) == "all" or token_type_ids is None else token_type_ids == 0
        at = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)  # where they stood
        logits = self.qa_outputs(hidden).float()
        passed = torch.zeros_like(input_ids)
        level = 1.0
        seen: list[Tensor] = []
        for number, layer in enumerate(self.bert.encoder.layer):
            if number not in running:
                continue
            attended, votes = _attend(layer.attention, hidden, real, asking & real, learning=output_votes)
            if output_votes:
                seen.append(torch.zeros_like(logits[..., 0]).scatter(1, at, votes * real))
            if levels[number] < level:
                level = levels[number]
                votes = votes.detach().masked_fill(~real, -1.0).masked_fill(at == 0, _ALWAYS)
                chosen = votes.topk(most[number], dim=1).indices
                attended = attended.gather(1, chosen[..., None].expand(-1, -1, attended.shape[-1]))
                at, asking = at.gather(1, chosen), asking.gather(1, chosen)
                real = torch.arange(most[number], device=at.device) < keep[:, number, None]
            hidden = layer.output(layer.intermediate(attended), attended)
            place = at[..., None].expand(-1, -1, 2)
            new = torch.where(real[..., None], self.qa_outputs(hidden).float(), logits.gather(1, place))
            logits = logits.scatter(1, place, new)
            passed = passed.scatter(1, at, passed.gather(1, at) + real.long())
        return DynamicOutput(
            start_logits=logits[..., 0],
            end_logits=logits[..., 1],
            layers_passed=passed,
            votes=torch.stack(seen) if output_votes else None,
        )

    def save_pretrained(self, save_directory: str | os.PathLike[str], **options: Any) -> None:
        """Write the folder, as transformers' `BertForQuestionAnswering` would: everything reads it."""
        super().save_pretrained(save_directory, **options)
        if options.get("is_main_process", True):
            self.config.architectures = ["BertForQuestionAnswering"]
            self.config.save_pretrained(save_directory)


def voters_of(config: Any) -> Voters:
    """Whose attention makes a token significant, by a model's configuration: see `ModelShape`.

    Raises:
        ValueError: It names voters that there are not.
    """
    return read_voters(getattr(config, "dynamic_tinybert", {}))


def set_voters(config: Any, voters: Voters) -> None:
    """Write into a model's configuration whose attention makes a token significant."""
    if voters != voters_of(config):
        config.dynamic_tinybert = {"voters": voters}


def _attend(attention: Any, hidden: Tensor, real: Tensor, voters: Tensor, *, learning: bool) -> tuple[Tensor, Tensor]:
    """Run the attention half of a layer.

    Args:
        attention: transformers' `BertAttention`.
        hidden: States, `[batch, tokens, hidden]`.
        real: Which of them count, `[batch, tokens]`.
        voters: Which of them vote, `[batch, tokens]`.
        learning: Whether the votes carry a gradient.

    Returns:
        States after attention, `[batch, tokens, hidden]`; and the attention that each token receives, summed over heads
        and the voters' query positions, `[batch, tokens]`.
    """
    heads = attention.self.num_attention_heads

    def split(x: Tensor) -> Tensor:
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)

    query, key, value = (
        split(part(hidden)) for part in (attention.self.query, attention.self.key, attention.self.value)
    )
    scores = (query @ key.transpose(-1, -2)).float() / math.sqrt(query.shape[-1])
    scores = scores.masked_fill(~real[:, None, None, :], torch.finfo(torch.float32).min)
    probabilities = scores.softmax(-1)
    counted = probabilities if learning else probabilities.detach()
    with torch.autocast(hidden.device.type, enabled=False):  # counted in float32, as the runtime does
        votes = (voters.float()[:, None, None, :] @ counted).sum((1, 2))
    context = attention.self.dropout(probabilities).to(value.dtype) @ value
    return attention.output(context.transpose(1, 2).flatten(2), hidden), votes


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
        return config.to(mask.device), config.max(0).values.tolist(), [-float(i) for i in range(layers)]
    fractions = LengthConfig.full(layers) if config is None else config
    if not isinstance(fractions, LengthConfig):
        fractions = LengthConfig(tuple(fractions))
    if len(fractions.fractions) != layers:
        raise BudgetError(f"a length configuration of {len(fractions.fractions)} layers for a model of {layers}")
    shares = torch.tensor(fractions.fractions, dtype=torch.float64, device=mask.device)
    keep = torch.ceil(shares * real[:, None] - 1e-6).long().clamp(min=_FLOOR).minimum(real[:, None])
    return keep, fractions.lengths([mask.shape[1]])[0].tolist(), fractions.fractions


def _layers(config: Sequence[int] | None, layers: int) -> frozenset[int]:
    if config is None:
        return frozenset(range(layers))
    chosen = list(config)
    if not chosen or chosen != sorted(set(chosen)) or chosen[0] < 0 or chosen[-1] >= layers:
        raise ValueError(f"a layer configuration is ascending numbers from 0 to {layers - 1}, at least one: {chosen}")
    return frozenset(chosen)
