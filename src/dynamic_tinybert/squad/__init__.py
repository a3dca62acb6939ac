"""SQuAD: reading its files, and its official metrics."""

from dynamic_tinybert.squad.data import (
    Question,
    SquadError,
    SquadFile,
    Version,
    read_na_probs,
    read_predictions,
    read_squad,
)
from dynamic_tinybert.squad.metrics import (
    Scores,
    exact_match,
    f1_score,
    normalize_answer,
    oracle,
    score,
    score_question,
)

__all__ = [
    "Question",
    "Scores",
    "SquadError",
    "SquadFile",
    "Version",
    "exact_match",
    "f1_score",
    "normalize_answer",
    "oracle",
    "read_na_probs",
    "read_predictions",
    "read_squad",
    "score",
    "score_question",
]
