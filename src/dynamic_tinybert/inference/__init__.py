"""Turn questions and texts into ranked spans: windows, the reader that predicts logits, ranking, batches."""

from dynamic_tinybert.inference.characters import Ints, whole_characters
from dynamic_tinybert.inference.layers import LayersOfText
from dynamic_tinybert.inference.loading import WindowError
from dynamic_tinybert.inference.options import (
    DEFAULTS,
    Options,
    Progress,
    Settings,
    make_settings,
)
from dynamic_tinybert.inference.ranking import Ranking, Span
from dynamic_tinybert.inference.reader import LogitsSource, Reader
from dynamic_tinybert.inference.spans import SpanPool, SpanRanker, span_logits, text_logits
from dynamic_tinybert.inference.stream import AnswerStream, Pending, check_pair
from dynamic_tinybert.inference.tokenizer import TextTokenizer, Tokens
from dynamic_tinybert.inference.windows import Window, check_lengths, cut_windows

__all__ = [
    "DEFAULTS",
    "AnswerStream",
    "Ints",
    "LayersOfText",
    "LogitsSource",
    "Options",
    "Pending",
    "Progress",
    "Ranking",
    "Reader",
    "Settings",
    "Span",
    "SpanPool",
    "SpanRanker",
    "TextTokenizer",
    "Tokens",
    "Window",
    "WindowError",
    "check_lengths",
    "check_pair",
    "cut_windows",
    "make_settings",
    "span_logits",
    "text_logits",
    "whole_characters",
]
