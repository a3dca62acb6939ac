"""The students: question-answering models with drop-and-restore in PyTorch. They share the code of `dropping`."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import transformers
from torch import Tensor

from dynamic_tinybert.train.dropping import AttentionParts, DropAndRestore


class DynamicBertForQuestionAnswering(DropAndRestore, transformers.BertForQuestionAnswering):  # type: ignore[misc]
    """`BertForQuestionAnswering` that can drop tokens and layers. It reads and writes the same folders.

    Without `length_config`, `layer_config` and `output_votes`, a call is that of transformers if the model is not
    `eager`. With one of them, the logits agree to 1e-3 with `dynamic_tinybert.runtime` on the same weights, in any
    padded batch. For the arguments see `DropAndRestore.forward`.
    """

    saved_as = "BertForQuestionAnswering"

    def embed(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """The states before the first layer."""
        return self.bert.embeddings(input_ids=input_ids, token_type_ids=token_type_ids)

    def encoder_layers(self) -> Any:
        """The layers."""
        return self.bert.encoder.layer

    def attention_parts(self, layer: Any, hidden: Tensor, at: Tensor) -> AttentionParts:
        """What attention needs."""
        parts = layer.attention.self
        return AttentionParts(parts.query(hidden), parts.key(hidden), parts.value(hidden), parts.dropout)

    def attended(self, layer: Any, context: Tensor, hidden: Tensor) -> Tensor:
        """The states after the attention half of a layer."""
        return layer.attention.output(context, hidden)

    def whole(
        self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None, **others: Any
    ) -> Any:
        """Call the forward pass of transformers."""
        plain = transformers.BertForQuestionAnswering.forward
        return plain(self, input_ids, attention_mask, token_type_ids, **others)


class DynamicMPNetForQuestionAnswering(DropAndRestore, transformers.MPNetForQuestionAnswering):  # type: ignore[misc]
    """`MPNetForQuestionAnswering` that can drop tokens and layers, as `DynamicBertForQuestionAnswering` can.

    MPNet does not embed token types: `token_type_ids` only say whose attention counts for significance. The distance
    bias of the attention scores uses the tokens' original positions, whether or not tokens between them were dropped.
    """

    saved_as = "MPNetForQuestionAnswering"

    def embed(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """Return the states before the first layer. Positions count from the left, as in the runtime."""
        first = self.mpnet.embeddings.padding_idx + 1
        places = torch.arange(first, first + input_ids.shape[1], device=input_ids.device)
        return self.mpnet.embeddings(input_ids=input_ids, position_ids=places.expand_as(input_ids))

    def encoder_layers(self) -> Any:
        """The layers."""
        return self.mpnet.encoder.layer

    def attention_parts(self, layer: Any, hidden: Tensor, at: Tensor) -> AttentionParts:
        """What attention needs."""
        parts = layer.attention.attn
        return AttentionParts(parts.q(hidden), parts.k(hidden), parts.v(hidden), parts.dropout)

    def attended(self, layer: Any, context: Tensor, hidden: Tensor) -> Tensor:
        """The states after the attention half of a layer."""
        attention = layer.attention
        return attention.LayerNorm(attention.dropout(attention.attn.o(context)) + hidden)

    def distances(self, tokens: int, device: torch.device) -> Tensor | None:
        """Return the bucket of the distance of each pair, `[queries, keys]`."""
        places = torch.arange(tokens, device=device)
        return self.mpnet.encoder.relative_position_bucket(places - places[:, None])

    def bias_of(self, buckets: Tensor) -> Tensor:
        """Return the bias that distance buckets add to attention scores."""
        return self.mpnet.encoder.relative_attention_bias(buckets)

    def whole(
        self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None, **others: Any
    ) -> Any:
        """Call the forward pass of transformers, which takes no token types."""
        return transformers.MPNetForQuestionAnswering.forward(self, input_ids, attention_mask, **others)


class DynamicModernBertForQuestionAnswering(DropAndRestore, transformers.ModernBertForQuestionAnswering):  # type: ignore[misc]
    """`ModernBertForQuestionAnswering` that can drop tokens and layers, as `DynamicBertForQuestionAnswering` can.

    Rotations and local attention use the tokens' original positions, whether or not tokens between them were dropped.
    A dropped token's state goes through the last norm and the prediction head, as in the runtime. ModernBERT does not
    embed token types.
    """

    saved_as = "ModernBertForQuestionAnswering"

    def embed(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """The states before the first layer."""
        return self.model.embeddings(input_ids=input_ids)

    def encoder_layers(self) -> Any:
        """The layers."""
        return self.model.layers

    def attention_parts(self, layer: Any, hidden: Tensor, at: Tensor) -> AttentionParts:
        """What attention needs; queries and keys are rotated by the tokens' positions."""
        heads = self.config.num_attention_heads
        query, key, value = layer.attn.Wqkv(layer.attn_norm(hidden)).chunk(3, dim=-1)
        cos, sin = self.model.rotary_emb(hidden, at, layer.attention_type)
        query, key = (_rotated(x.unflatten(-1, (heads, -1)), cos, sin).flatten(2) for x in (query, key))
        rate = layer.attn.attention_dropout
        return AttentionParts(query, key, value, partial(torch.dropout, p=rate, train=self.training))

    def reach(self, layer: Any) -> int | None:
        """How far a layer's attention reaches."""
        return self.config.local_attention // 2 if layer.attention_type == "sliding_attention" else None

    def attended(self, layer: Any, context: Tensor, hidden: Tensor) -> Tensor:
        """The states after the attention half of a layer."""
        return hidden + layer.attn.out_drop(layer.attn.Wo(context))

    def fed(self, layer: Any, attended: Tensor) -> Tensor:
        """The states after a layer."""
        return attended + layer.mlp(layer.mlp_norm(attended))

    def last_projection(self) -> Any:
        """The last projection."""
        return self.classifier

    def logits_of(self, hidden: Tensor) -> Tensor:
        """The logits of states before the last norm."""
        return self.classifier(self.drop(self.head(self.model.final_norm(hidden))))

    def whole(
        self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None, **others: Any
    ) -> Any:
        """Call the forward pass of transformers, which takes no token types."""
        return transformers.ModernBertForQuestionAnswering.forward(self, input_ids, attention_mask, **others)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate `x` `[batch, slots, heads, size]` by the angles of its positions, `[batch, slots, size]`, in float32."""
    first, second = x.float().chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (x.float() * cos[:, :, None] + turned * sin[:, :, None]).to(x.dtype)
