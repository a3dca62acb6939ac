"""What the adapters for LangChain and LlamaIndex share: their options, the model, and the answers from passages."""

from __future__ import annotations

import math
import numbers
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dynamic_tinybert.corpus import PassageAnswer, ask_passages, check_latency
from dynamic_tinybert.errors import check_from_one
from dynamic_tinybert.inference import check_pair
from dynamic_tinybert.model import parse_budget
from dynamic_tinybert.qa import QuestionAnswerer

Model = str | QuestionAnswerer | None

OPTIONS = ("model", "budget", "top_k", "max_latency_ms", "min_confidence")
_LOADING = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """The options of an adapter.

    Attributes:
        model: A model folder, the name of a model that is installed or on the Hub, or a loaded model; None is the
            embedded model.
        budget: The cost of a prediction.
        top_k: How many answers to give.
        max_latency_ms: The time limit in milliseconds, without the loading of the model.
        min_confidence: The least confidence of an answer.

    Raises:
        TypeError: The model is of another type.
        ValueError: An option is out of range (including `BudgetError`).
    """

    model: Model
    budget: float | str
    top_k: int
    max_latency_ms: float | None
    min_confidence: float | None

    def __post_init__(self) -> None:
        if not isinstance(self.model, (str, QuestionAnswerer, type(None))):
            raise TypeError(
                f"model must be a folder, a name on the Hub or a QuestionAnswerer, not {type(self.model).__name__}"
            )
        parse_budget(str(self.budget))
        check_from_one(top_k=self.top_k)
        check_latency(self.max_latency_ms)
        least = self.min_confidence
        number = isinstance(least, numbers.Real) and not isinstance(least, bool) and math.isfinite(least)
        if least is not None and not (number and 0 <= least <= 1):
            raise ValueError(f"min_confidence must be a number from 0 to 1, not {least!r:.50}")


def checked(model: Model | Path, **options: Any) -> dict[str, Any]:
    """Check the options of an adapter and return them, with a path as a string.

    Raises:
        TypeError, ValueError: See `AnswerOptions`.
    """
    model = os.fspath(model) if isinstance(model, os.PathLike) else model
    return vars(AnswerOptions(model=model, **options))


def options_of(adapter: object, **given: Any) -> AnswerOptions:
    """Return the options of an adapter, some of which a call may replace.

    Raises:
        TypeError, ValueError: See `AnswerOptions`.
    """
    return AnswerOptions(**{**{name: getattr(adapter, name) for name in OPTIONS}, **given})


def find_answers(
    question: str, passages: Sequence[Any], options: AnswerOptions, *, name: str, **more: Any
) -> list[PassageAnswer]:
    """Find answers in passages, the best first.

    Args:
        question: The question.
        passages: Whatever `ask_passages` accepts, in a list.
        options: The options of the adapter.
        name: What the caller calls the passages.
        more: More options of `ask_passages`.

    Raises:
        TypeError: The question, the list or the text of a passage is of another type.
        ValueError: The question is empty, the model cannot be read, or it has no calibration to compare a
            `min_confidence` with.
    """
    check_pair(question, "", None)
    if isinstance(passages, (str, bytes)) or not isinstance(passages, Sequence):
        raise TypeError(f"{name} must be a list of {name}, not {type(passages).__name__}")
    if not passages:
        return []
    qa, least = open_model(options.model), options.min_confidence
    if least is not None and qa.calibration is None:
        raise ValueError(f"min_confidence needs a model with a calibration, which {qa.name} has not: see `calibrate`")
    found = ask_passages(
        question,
        passages,
        qa=qa,
        top_k=options.top_k,
        budget=parse_budget(str(options.budget)),
        max_latency_ms=options.max_latency_ms,
        **more,
    )
    return [one for one in found if least is None or (one.confidence or 0.0) >= least]


def open_model(model: Model) -> QuestionAnswerer:
    """Return the model of an adapter. All adapters of a process that name the same model share it.

    Raises:
        ValueError: It cannot be read (including `ModelFolderError`).
    """
    if isinstance(model, QuestionAnswerer):
        return model
    with _LOADING:
        return _load(os.path.abspath(model) if model and os.path.isdir(model) else model)


@lru_cache(maxsize=4)
def _load(model: str | None) -> QuestionAnswerer:
    return QuestionAnswerer(model)


def metadata_of(found: PassageAnswer) -> dict[str, Any]:
    """Return an answer as metadata of its document: flat, as stores of documents want it."""
    return {
        "answer": found.text,
        "answer_start": found.start,
        "answer_end": found.end,
        "answer_score": found.score,
        "answer_confidence": found.confidence,
        "answer_sentence": found.sentence,
    }
