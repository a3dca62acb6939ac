"""Calibration: turn logits into the probability that an answer is right.

It is a logistic regression on two numbers (Platt, 1999; Kamath et al., 2020, for selective question answering). One is
the answer's logit minus the logit of no answer, which makes texts comparable. The other is the logarithm of the
answer's score in its text, which compares it with the text's other candidates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dynamic_tinybert.errors import DynamicTinyBertError

_MOST = 1e6  # the largest coefficient; the weighted sum then stays finite for any logits


class CalibrationError(DynamicTinyBertError, ValueError):
    """A model's calibration is invalid."""

    misuse = True


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The coefficients of the logistic regression.

    Attributes:
        margin: The coefficient of the answer's logit minus the logit of no answer.
        log_score: The coefficient of the natural logarithm of the answer's score.
        bias: The constant.
    """

    margin: float
    log_score: float
    bias: float

    @classmethod
    def read(cls, stored: Mapping[str, Any] | None) -> Calibration | None:
        """Read `calibration` of `length_configs.json`; None if it is missing.

        Raises:
            CalibrationError: It does not have the documented form.
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
                    f"length_configs.json: calibration: {name} is {value!r:.50}, which is not a valid number"
                )
        return cls(**{name: float(value) for name, value in values.items()})

    def confidence(self, *, logit: float, null: float, score: float) -> float:
        """Return the probability that an answer is right.

        Args:
            logit: The answer's start logit plus end logit.
            null: The start logit plus end logit of [CLS], in the window of the answer.
            score: The answer's score in its text, in [0, 1].
        """
        if not math.isfinite(logit - null) or score <= 0:
            return 0.0
        x = self.margin * (logit - null) + self.log_score * math.log(score) + self.bias
        return logistic(x)


def logistic(x: float) -> float:
    """Return the logistic function of x, without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
