"""Read queries, keys, values and attention scores of a model through hooks.

transformers returns attention only after the softmax, so hooks on the projections keep their outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from dynamic_tinybert.train.errors import TrainingError

_PARTS = {  # model type -> the attention modules of its layers, and its projections of queries, keys and values
    "bert": ("bert.encoder.layer.{i}.attention.self", ("query", "key", "value")),
    "electra": ("electra.encoder.layer.{i}.attention.self", ("query", "key", "value")),
    "roberta": ("roberta.encoder.layer.{i}.attention.self", ("query", "key", "value")),
    "mpnet": ("mpnet.encoder.layer.{i}.attention.attn", ("q", "k", "v")),
    "distilbert": ("distilbert.transformer.layer.{i}.attention", ("q_lin", "k_lin", "v_lin")),
}


def check_attention_known(kind: str) -> None:
    """Check that the hooks support a model type.

    Raises:
        TrainingError: They do not.
    """
    if kind not in _PARTS:
        raise TrainingError(
            f"the attention of a {kind} model cannot be recorded: distil from one of {', '.join(_PARTS)}, or leave "
            "the intermediate stage out"
        )


class AttentionHooks:
    """Keep queries, keys and values of some layers at each call of a model.

    Args:
        model: A question-answering model of transformers.
        layers: The numbers of the layers, from 0.

    Raises:
        TrainingError: The hooks do not support the model's type.
    """

    def __init__(self, model: Any, layers: list[int]) -> None:
        kind = model.config.model_type
        check_attention_known(kind)
        self.heads: int = model.config.num_attention_heads
        self._seen: dict[tuple[int, int], Tensor] = {}
        self._bias: dict[int, Tensor | None] = {}
        self._handles = []
        path, names = _PARTS[kind]
        for layer in layers:
            module = model.get_submodule(path.format(i=layer))
            if kind == "mpnet":
                self._handles.append(module.register_forward_pre_hook(self._keep_bias(layer), with_kwargs=True))
            for part, name in enumerate(names):
                self._handles.append(getattr(module, name).register_forward_hook(self._keep(layer, part)))

    def projections(self, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of the last call, `[batch, tokens, hidden]` each."""
        query, key, value = (self._seen[layer, part] for part in range(3))
        return query, key, value

    def scores(self, layer: int) -> Tensor:
        """Return the attention scores of the last call, before mask and softmax, `[batch, heads, tokens, tokens]`.

        They include the relative position bias that some models add.
        """
        query, key = (self._seen[layer, part].unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in range(2))
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        bias = self._bias.get(layer)
        return scores if bias is None else scores + bias

    def close(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def _keep(self, layer: int, part: int) -> Callable[..., None]:
        def hook(_module: Any, _inputs: Any, output: Tensor) -> None:
            self._seen[layer, part] = output

        return hook

    def _keep_bias(self, layer: int) -> Callable[..., None]:
        def hook(_module: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            self._bias[layer] = inputs[2] if len(inputs) > 2 else named.get("position_bias")

        return hook
