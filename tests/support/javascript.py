"""The package for JavaScript: its folder, and what it calls the options of Python."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "javascript"
NAMES = {
    "max_seq_len": "maxSeqLength",
    "doc_stride": "docStride",
    "max_question_len": "maxQuestionLength",
    "max_answer_len": "maxAnswerLength",
    "handle_impossible_answer": "handleImpossibleAnswer",
    "no_answer_threshold": "noAnswerThreshold",
    "align_to_words": "alignToWords",
    "score_threshold": "scoreThreshold",
    "top_k": "topK",
}
