"""Measure a length configuration: its F1 on a fixed set of questions, and its cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

from dynamic_tinybert.evaluation import evaluate
from dynamic_tinybert.model import LengthConfig, share
from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.squad import SquadFile, score

Cost: TypeAlias = Literal["share", "latency"]

_TURN = 100  # questions that the configuration and `full` answer before the order of the two changes


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The figures of a configuration.

    Attributes:
        exact_match: In percent.
        f1: In percent.
        share: Multiply-accumulates divided by those of `full`, at 384 tokens.
        cost: What is minimized: the share, or the latency divided by that of `full`.
        seconds: The time to answer the questions, without the time of `full` for comparison.
    """

    exact_match: float
    f1: float
    share: float
    cost: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the form that a study stores."""
        return asdict(self)


class Objective:
    """Measures configurations on a fixed set of questions by the metric that `evaluate` prints.

    The latency of a configuration is its seconds divided by the seconds of `full` on the same questions. A machine's
    speed changes from minute to minute, so both answer each block of a hundred questions, one after the other, and the
    order changes with each block. The ratio is that of the two sums. Latency takes at least twice as long to measure
    as the share, and holds for one machine only. The latency of `full` is 1.

    Args:
        qa: The model.
        data: The questions.
        cost: Which cost to measure.
    """

    def __init__(self, qa: QuestionAnswerer, data: SquadFile, cost: Cost = "share") -> None:
        self.qa = qa
        self.data = data
        self.cost = cost

    def __call__(self, config: LengthConfig) -> Measurement:
        """Measure a configuration."""
        full = LengthConfig.full(self.qa.shape.layers)
        part = share(self.qa.shape, config)
        if self.cost == "share" or config == full:
            found = evaluate(self.qa, self.data, budget=config)
            scores, seconds, cost = found.scores, found.seconds, part
        else:
            predictions: dict[str, str] = {}
            spent = {config: 0.0, full: 0.0}
            questions = self.data.questions
            for turn, start in enumerate(range(0, len(questions), _TURN)):
                some = replace(self.data, questions=questions[start : start + _TURN])
                for one in (config, full) if turn % 2 else (full, config):
                    found = evaluate(self.qa, some, budget=one)
                    spent[one] += found.seconds
                    if one is config:
                        predictions |= found.predictions
            scores, seconds, cost = score(self.data, predictions), spent[config], spent[config] / spent[full]
        return Measurement(exact_match=scores.exact_match, f1=scores.f1, share=part, cost=cost, seconds=seconds)
