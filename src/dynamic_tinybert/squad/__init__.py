"""SQuAD: its files, the official metrics, splits of questions, and questions without an answer."""

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
    holds_answer,
    normalize_answer,
    oracle,
    score,
    score_question,
)
from dynamic_tinybert.squad.nearest import Article, Bm25, words_of
from dynamic_tinybert.squad.splits import Questions, SplitError, check_apart, halves, sample
from dynamic_tinybert.squad.unanswerable import KINDS, Kind, make_unanswerable, other_paragraphs, paragraphs_of

__all__ = [
    "KINDS",
    "Article",
    "Bm25",
    "Kind",
    "Question",
    "Questions",
    "Scores",
    "SplitError",
    "SquadError",
    "SquadFile",
    "Version",
    "check_apart",
    "exact_match",
    "f1_score",
    "halves",
    "holds_answer",
    "make_unanswerable",
    "normalize_answer",
    "oracle",
    "other_paragraphs",
    "paragraphs_of",
    "read_na_probs",
    "read_predictions",
    "read_squad",
    "sample",
    "score",
    "score_question",
    "words_of",
]
