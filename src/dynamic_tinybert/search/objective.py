"""What a length configuration is worth: F1 on a fixed set of questions, and what it costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

from dynamic_tinybert.evaluation import evaluate
from dynamic_tinybert.model import LengthConfig, share
from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.squad import SquadFile, score

Cost: TypeAlias = Literal["share", "latency"]

_TURN = 100  # questions between one change from the configuration to `full` and the next


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A configuration, measured.

    Attributes:
        exact_match: In percent.
        f1: In percent.
        share: Multiply-accumulates over those of `full`, at 384 tokens.
        cost: What is minimized: the share, or the latency as a part of that of `full`.
        seconds: What answering the questions took, that of `full` for comparison left out.
    """

    exact_match: float
    f1: float
    share: float
    cost: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return it as a study stores it."""
        return asdict(self)


class Objective:
    """Measures configurations on a fixed set of questions by the metric that `evaluate` prints.

    The latency of a configuration is the seconds that the questions take over those that they take at `full`. A
    machine is faster or slower from one minute to the next, so both are measured side by side: every hundred questions
    are answered by both in turn, the one first that came second before, and the ratio is of the two sums. It takes
    twice as long, or more, as the share, and belongs to the machine. The latency of `full` is 1.

    Args:
        qa: The model.
        data: The questions.
        cost: What `Measurement.cost` is.
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
