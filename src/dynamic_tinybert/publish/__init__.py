"""Write model cards, publish a model folder on the Hugging Face Hub, and write a model for other runtimes."""

from dynamic_tinybert.publish.card import (
    PREJUDICES,
    SPANS_ONLY,
    Card,
    card_evaluation,
    card_metadata,
    complete_card,
    compose_card,
)
from dynamic_tinybert.publish.onnx_folder import save_onnx_folder
from dynamic_tinybert.publish.push import Push, push_model
from dynamic_tinybert.publish.upload import without_bars

__all__ = [
    "PREJUDICES",
    "SPANS_ONLY",
    "Card",
    "Push",
    "card_evaluation",
    "card_metadata",
    "complete_card",
    "compose_card",
    "push_model",
    "save_onnx_folder",
    "without_bars",
]
