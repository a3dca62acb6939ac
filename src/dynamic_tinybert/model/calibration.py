"""Calibration: from logits to the probability that an answer is right.

A logistic regression on two numbers (Platt, 1999; Kamath et al., 2020, for selective question answering): by how much
the answer's logit exceeds that of there being no answer, which makes texts comparable, and the logarithm of its score
within its text, which tells it from the text's other candidates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dynamic_tinybert.errors import DynamicTinyBertError

_MOST = 1e6  # a coefficient that could be; of any logits the sum stays finite


class CalibrationError(DynamicTinyBertError, ValueError):
    """A model's calibration that makes no sense; one line that says why."""

    misuse = True


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The coefficients.

    Attributes:
        margin: Of the answer's logit less that of no answer.
        log_score: Of the natural logarithm of the answer's score.
        bias: The constant.
    """

    margin: float
    log_score: float
    bias: float

    @classmethod
    def read(cls, stored: Mapping[str, Any] | None) -> Calibration | None:
        """Read `calibration` of `length_configs.json`; None if it is missing.

        Raises:
            CalibrationError: It is not of the documented form.
        """
        if stored is None:
            return None
        try:
            values = {name: stored[name] for name in ("margin", "log_score", "bias")}
        except (KeyError, TypeError):
            raise CalibrationError("length_configs.json: calibration is not margin, log_score and bias") from None
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _MOST:
                raise CalibrationError(
                    f"length_configs.json: calibration: {name} is {value!r:.50}, no number that it could be"
                )
        return cls(**{name: float(value) for name, value in values.items()})

    def confidence(self, *, logit: float, null: float, score: float) -> float:
        """The probability that an answer is right.

        Args:
            logit: Its start logit plus its end logit.
            null: The same of [CLS], in the window that is least sure of it.
            score: Its score within its text, in [0, 1].
        """
        if not math.isfinite(logit - null) or score <= 0:
            return 0.0
        x = self.margin * (logit - null) + self.log_score * math.log(score) + self.bias
        return logistic(x)


def logistic(x: float) -> float:
    """The logistic function, without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
