"""The options of an answer: names, defaults and checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypedDict

from dynamic_tinybert.errors import whole_number
from dynamic_tinybert.inference.ranking import Ranking
from dynamic_tinybert.inference.spans import SpanRanker
from dynamic_tinybert.inference.windows import check_lengths
from dynamic_tinybert.model import Budget, Calibration, ConfigTable, MeasuredConfig, ModelShape, Threshold

if TYPE_CHECKING:
    from typing_extensions import Unpack

Progress: TypeAlias = Callable[[int, int], None]

_LONGEST_WINDOW = 384  # tokens, if the model's table does not say, or the model's limit if that is less
_OVERLAP = 128  # tokens likewise, or half of the room that a window has for text if that is less


class Options(TypedDict, total=False):
    """The options of a call, apart from questions, texts and `top_k`: see `QuestionAnswerer.__call__`."""

    budget: Budget
    max_seq_len: int | None
    doc_stride: int | None
    max_question_len: int
    max_answer_len: int
    handle_impossible_answer: bool
    no_answer_threshold: Threshold | None
    align_to_words: bool
    score_threshold: float
    explain: bool
    progress: Progress | None


DEFAULTS: Options = {
    "budget": "full",
    "max_seq_len": None,
    "doc_stride": None,
    "max_question_len": 64,
    "max_answer_len": 30,
    "handle_impossible_answer": False,
    "no_answer_threshold": None,
    "align_to_words": True,
    "score_threshold": 0.01,
    "explain": False,
}
"""The defaults of the options. The model decides what None means."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of an answer, resolved for a model.

    Attributes:
        choice: The length configuration.
        max_seq_len: The longest window, in tokens.
        doc_stride: How much the windows of a long text overlap, in tokens.
        max_question_len: The longest question, in tokens.
        ranking: Makes a `Ranking` for a text.
        always_answers: Whether each question gets an answer, even if that is empty.
        calibrated: Whether answers have a confidence.
        most_rows: How many windows are predicted at once, at most; no answer depends on it.
        explain: Whether answers have the layers that the tokens of the text passed.
    """

    choice: MeasuredConfig
    max_seq_len: int
    doc_stride: int
    max_question_len: int
    ranking: Callable[[str], Ranking]
    always_answers: bool
    calibrated: bool = False
    most_rows: int | None = None
    explain: bool = False


def make_settings(
    shape: ModelShape,
    table: ConfigTable,
    *,
    specials: int,
    calibration: Calibration | None = None,
    top_k: int | None = None,
    **options: Unpack[Options],
) -> Settings:
    """Check options and resolve them for a model.

    Args:
        shape: The sizes of the model.
        table: Its length configurations.
        specials: The number of special tokens in a window.
        calibration: Turns its logits into confidences.
        top_k: How many answers are wanted.
        options: See `Options`; all but `progress`.

    Raises:
        TypeError: An option is unknown.
        ValueError: An option is out of range (including `WindowError` and `BudgetError`).
    """
    if unknown := sorted(options.keys() - DEFAULTS.keys()):
        raise TypeError(f"there is no option {unknown[0]!r}; there are {', '.join((*DEFAULTS, 'top_k'))}")
    given: Options = {**DEFAULTS, **options}
    positions, longest, overlap = shape.positions, given["max_seq_len"], given["doc_stride"]
    if longest is None:
        longest = min(table.windows.get("max_seq_len", _LONGEST_WINDOW), positions)
    longest = whole_number(longest, "max_seq_len")
    longest_question = whole_number(given["max_question_len"], "max_question_len")
    if overlap is None:
        usual = table.windows.get("doc_stride", _OVERLAP)
        overlap = max(0, min(usual, (longest - longest_question - specials) // 2))
    choice = table.select(shape, given["budget"])
    count = 1 if top_k is None else whole_number(top_k, "top_k")
    overlap = whole_number(overlap, "doc_stride")
    ranker = partial(
        SpanRanker,
        top_k=count,
        max_answer_len=min(whole_number(given["max_answer_len"], "max_answer_len"), positions),
        align_to_words=given["align_to_words"],
        score_threshold=given["score_threshold"],
        handle_impossible_answer=given["handle_impossible_answer"],
        no_answer_threshold=table.threshold(given["no_answer_threshold"]),
        calibration=calibration,
    )
    check_lengths(
        max_seq_len=longest,
        doc_stride=overlap,
        max_question_len=longest_question,
        positions=positions,
        specials=specials,
    )
    ranker()  # raises ValueError now if an option is out of range
    return Settings(
        choice=choice,
        max_seq_len=longest,
        doc_stride=overlap,
        max_question_len=longest_question,
        ranking=ranker,
        always_answers=top_k is None,
        calibrated=calibration is not None,
        explain=bool(given["explain"]),
    )
