"""Question answering with drop-and-restore, in PyTorch: the models that are trained. What they share is `dropping`."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor

from dynamic_tinybert.train.dropping import AttentionParts, DropAndRestore


class DynamicBertForQuestionAnswering(DropAndRestore, transformers.BertForQuestionAnswering):  # type: ignore[misc]
    """`BertForQuestionAnswering` that can drop tokens and layers. It reads and writes the same folders.

    Without `length_config`, `layer_config` and `output_votes` a call is transformers' own, if the model is not `eager`.
    With one of them, logits agree with the graph of `dynamic_tinybert.runtime` on the same weights to 1e-3, in any
    padded batch. How it is called: `DropAndRestore.forward`.
    """

    saved_as = "BertForQuestionAnswering"

    def embed(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """The states before the first layer."""
        return self.bert.embeddings(input_ids=input_ids, token_type_ids=token_type_ids)

    def encoder_layers(self) -> Any:
        """The layers."""
        return self.bert.encoder.layer

    def attention_parts(self, layer: Any) -> AttentionParts:
        """The parts of a layer's attention."""
        parts = layer.attention.self
        return AttentionParts(parts.query, parts.key, parts.value, parts.dropout)

    def attended(self, layer: Any, context: Tensor, hidden: Tensor) -> Tensor:
        """The states after the attention half of a layer."""
        return layer.attention.output(context, hidden)

    def whole(
        self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None, **others: Any
    ) -> Any:
        """Call the model as transformers has it."""
        plain = transformers.BertForQuestionAnswering.forward
        return plain(self, input_ids, attention_mask, token_type_ids, **others)


class DynamicMPNetForQuestionAnswering(DropAndRestore, transformers.MPNetForQuestionAnswering):  # type: ignore[misc]
    """`MPNetForQuestionAnswering` that can drop tokens and layers, as `DynamicBertForQuestionAnswering` can.

    MPNet embeds no token types: `token_type_ids` say who votes, and nothing else. The bias that distances add to the
    attention scores is that of the tokens' own places, whatever has been dropped between them.
    """

    saved_as = "MPNetForQuestionAnswering"

    def embed(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """The states before the first layer. Places are counted from the left, as the runtime counts them."""
        first = self.mpnet.embeddings.padding_idx + 1
        places = torch.arange(first, first + input_ids.shape[1], device=input_ids.device)
        return self.mpnet.embeddings(input_ids=input_ids, position_ids=places.expand_as(input_ids))

    def encoder_layers(self) -> Any:
        """The layers."""
        return self.mpnet.encoder.layer

    def attention_parts(self, layer: Any) -> AttentionParts:
        """The parts of a layer's attention."""
        parts = layer.attention.attn
        return AttentionParts(parts.q, parts.k, parts.v, parts.dropout)

    def attended(self, layer: Any, context: Tensor, hidden: Tensor) -> Tensor:
        """The states after the attention half of a layer."""
        attention = layer.attention
        return attention.LayerNorm(attention.dropout(attention.attn.o(context)) + hidden)

    def distances(self, tokens: int, device: torch.device) -> Tensor | None:
        """The bucket of each place seen from each other, `[queries, keys]`."""
        places = torch.arange(tokens, device=device)
        return self.mpnet.encoder.relative_position_bucket(places - places[:, None])

    def bias_of(self, buckets: Tensor) -> Tensor:
        """What buckets add to the scores."""
        return self.mpnet.encoder.relative_attention_bias(buckets)

    def whole(
        self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None, **others: Any
    ) -> Any:
        """Call the model as transformers has it, which knows no token types."""
        return transformers.MPNetForQuestionAnswering.forward(self, input_ids, attention_mask, **others)
