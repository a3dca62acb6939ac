"""The table of a model's length configurations, `length_configs.json`, and the selection by a budget."""

from __future__ import annotations

import json
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast, get_args

from dynamic_tinybert.errors import warn
from dynamic_tinybert.model.budget import SHARE_ROUNDING, Budget, BudgetError, LengthConfig, share
from dynamic_tinybert.model.quantized import Precision
from dynamic_tinybert.model.shape import ModelShape

Threshold: TypeAlias = "float | Literal['squad2']"
"""A no-answer threshold: a difference of logits, or the one that was fitted for a mix like that of SQuAD 2.0."""

_MOST = 1e9  # the largest absolute value of a plausible number
_LONGEST_WINDOW = 1 << 20  # tokens
_WITHIN = {"balanced": 1.0, "fast": 3.0}  # the F1 that a named budget may lose


@dataclass(frozen=True, kw_only=True)
class MeasuredConfig:
    """A configuration of a model's table.

    Attributes:
        name: Its name in the table.
        config: The length configuration.
        share: Its multiply-accumulates divided by those of `full`, at 384 tokens.
        exact_match: Exact match in percent, or None if it was not measured.
        f1: F1 in percent, or None if it was not measured.
    """

    name: str
    config: LengthConfig
    share: float
    exact_match: float | None = None
    f1: float | None = None


@dataclass
class ConfigTable:
    """The length configurations of a model, the most expensive first. They always include `full`.

    Attributes:
        choices: The configurations.
        measured_on: The data of the measurements. None if the configurations are an unmeasured geometric series.
        no_answer_threshold: There is no answer if its logit exceeds the logit of the best span by more than this, at
            any configuration; None if it was not measured. It rejects few questions that have an answer.
        squad2_threshold: The same with the best F1 where half of the questions have no answer, as in SQuAD 2.0; None
            if it was not measured.
        precision: The precision of the measurements.
        windows: The lengths of windows that suit the model, in tokens: `max_seq_len`, `doc_stride`, or one of them.
    """

    choices: Sequence[MeasuredConfig]
    measured_on: str | None
    no_answer_threshold: float | None = None
    squad2_threshold: float | None = None
    precision: Precision = "fp32"
    windows: Mapping[str, int] = field(default_factory=dict)
    _warned: bool = field(default=False, repr=False)

    @classmethod
    def read(cls, shape: ModelShape, table: Mapping[str, Any] | None) -> ConfigTable:
        """Make the table of a model from its `length_configs.json`, or a geometric series if there is no table.

        The file has no table if it has no `configs`, but `calibration`, `no_answer` or `windows`.

        Raises:
            BudgetError: The table does not have the documented form, or does not fit the model.
        """
        threshold, squad2 = _no_answer(table)
        if table is None or _without_table(table):
            series = (round(1 - 0.02 * i, 2) for i in range(31))
            choices = [
                _measured_config(shape, f"uniform-{r:.2f}", LengthConfig.uniform(shape.layers, r)) for r in series
            ]
            choices[0] = _measured_config(shape, "full", LengthConfig.full(shape.layers))
            return cls(choices, None, threshold, squad2, windows=_windows(table))
        try:
            measured_on = _text(table, "measured_on")
            choices = [
                _measured_config(
                    shape,
                    _text(row, "name"),
                    LengthConfig(tuple(_number(f, "a fraction") for f in _rows(row, "fractions"))),
                    exact_match=_number(row["exact_match"], "exact_match"),
                    f1=_number(row["f1"], "f1"),
                )
                for row in _rows(table, "configs")
            ]
        except (KeyError, TypeError, BudgetError) as error:
            why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise BudgetError(f"length_configs.json is not a table of length configurations: {why}") from None
        if not any(c.config == LengthConfig.full(shape.layers) for c in choices):
            raise BudgetError(
                "length_configs.json does not measure the full configuration, which others are compared with"
            )
        for choice in choices:
            if not (0 <= (choice.f1 or 0) <= 100 and 0 <= (choice.exact_match or 0) <= 100):
                raise BudgetError(f"length_configs.json: the figures of {choice.name!r} are not percentages")
        precision = table.get("precision", "fp32")
        if precision not in get_args(Precision):
            known = " or ".join(map(repr, get_args(Precision)))
            raise BudgetError(f"length_configs.json: precision must be {known}, not {precision!r:.50}")
        return cls(sorted(choices, key=lambda c: -c.share), measured_on, threshold, squad2, precision, _windows(table))

    def threshold(self, given: Threshold | None = None) -> float:
        """Return a no-answer threshold: the given number, or what the model has for this name, otherwise 0.

        Raises:
            BudgetError: It is neither a number nor `squad2`.
        """
        if given == "squad2" and self.squad2_threshold is not None:
            return self.squad2_threshold
        return check_threshold((self.no_answer_threshold or 0.0) if given in (None, "squad2") else given)

    def select(self, shape: ModelShape, budget: Budget) -> MeasuredConfig:
        """Select the configuration for a budget.

        A number selects the most accurate configuration whose share is not greater, or the cheapest if all shares are
        greater. `balanced` is the cheapest within 1 F1 of `full`, `fast` within 3. In a table without measurements, a
        number selects the most expensive affordable configuration, and both names select `full`.

        Raises:
            BudgetError: The budget is not a share in (0, 1], a known name or a configuration of this model.
        """
        full = next(c for c in self.choices if c.config == LengthConfig.full(shape.layers))
        if isinstance(budget, LengthConfig):
            return next((c for c in self.choices if c.config == budget), _measured_config(shape, "custom", budget))
        if isinstance(budget, str):
            if budget == "full":
                return full
            if budget not in _WITHIN:
                raise BudgetError(f"a budget must be a share in (0, 1], 'full', 'balanced' or 'fast', not {budget!r}")
            self._warn()
            if full.f1 is None:
                return full
            floor = full.f1 - _WITHIN[budget] - 1e-9
            return min((c for c in self.choices if c.f1 is not None and c.f1 >= floor), key=lambda c: c.share)
        if isinstance(budget, bool) or not isinstance(budget, numbers.Real) or not 0 < budget <= 1:
            raise BudgetError(f"a budget must be a share in (0, 1], 'full', 'balanced' or 'fast', not {budget!r}")
        if budget == 1 and self.measured_on is None:
            return full
        self._warn()
        affordable = [c for c in self.choices if c.share <= budget + SHARE_ROUNDING] or [
            min(self.choices, key=lambda c: c.share)
        ]
        return max(affordable, key=lambda c: (c.f1 if c.f1 is not None else c.share, -c.share))

    def _warn(self) -> None:
        if self.measured_on is None and not self._warned:
            self._warned = True
            warn(
                "this model has no measured table of length configurations (length_configs.json): budgets below full "
                "use a geometric series, and what they cost in F1 is unknown"
            )


def table_row(name: str, config: LengthConfig, share: float, exact_match: float, f1: float) -> dict[str, Any]:
    """Return a configuration's row of `length_configs.json`."""
    return {
        "name": name,
        "fractions": list(config.fractions),
        "share": round(share, 4),
        "exact_match": round(exact_match, 2),
        "f1": round(f1, 2),
    }


def dump_table(table: Mapping[str, Any]) -> bytes:
    """Return a table as JSON, with one configuration on each line."""
    if "configs" not in table:
        return (json.dumps(table, ensure_ascii=False, indent=2) + "\n").encode()
    rows = ",\n".join("    " + json.dumps(row) for row in table["configs"])
    rest = "".join(
        f",\n  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
        for key, value in table.items()
        if key not in ("measured_on", "configs")
    )
    head = json.dumps(table["measured_on"], ensure_ascii=False)
    return f'{{\n  "measured_on": {head},\n  "configs": [\n{rows}\n  ]{rest}\n}}\n'.encode()


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table[key]
    if not isinstance(value, str) or not value:
        raise BudgetError(f"{key} is {value!r}, no text")
    return value


def _rows(table: Mapping[str, Any], key: str) -> list[Any]:
    value = table[key]
    if not isinstance(value, list):
        raise BudgetError(f"{key} is {value!r}, no list")
    return value


def _number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > _MOST:
        raise BudgetError(f"{what} is {value!r:.50}, which is not a valid number")
    return float(value)


def _without_table(stored: Mapping[str, Any]) -> bool:
    """Whether `length_configs.json` has a calibration, a no-answer threshold or windows, but no table."""
    others = {"calibration", "no_answer", "windows"}
    return isinstance(stored, Mapping) and "configs" not in stored and bool(others & stored.keys())


def _no_answer(table: Mapping[str, Any] | None) -> tuple[float | None, float | None]:
    """Read the thresholds of `no_answer` in `length_configs.json`: for people, and `squad2`; None for one missing."""
    stored = table.get("no_answer") if isinstance(table, Mapping) else None
    if stored is None:
        return None, None
    if not isinstance(stored, Mapping) or "threshold" not in stored:
        raise BudgetError("length_configs.json: no_answer is not an object with a threshold")
    try:
        squad2 = stored.get("squad2")
        if squad2 is not None and (not isinstance(squad2, Mapping) or "threshold" not in squad2):
            raise BudgetError("squad2 is not an object with a threshold")
        return check_threshold(stored["threshold"]), None if squad2 is None else check_threshold(squad2["threshold"])
    except BudgetError as error:
        raise BudgetError(f"length_configs.json: no_answer: {error}") from None


def _windows(table: Mapping[str, Any] | None) -> dict[str, int]:
    """Read `windows` of `length_configs.json`: the lengths that it has."""
    stored = table.get("windows") if isinstance(table, Mapping) else None
    if stored is None:
        return {}
    least = {"max_seq_len": 8, "doc_stride": 0}
    if not isinstance(stored, Mapping) or stored.keys() - least.keys():
        raise BudgetError("length_configs.json: windows is not an object with max_seq_len and doc_stride")
    for name, value in stored.items():
        if isinstance(value, bool) or not isinstance(value, int) or not least[name] <= value <= _LONGEST_WINDOW:
            raise BudgetError(f"length_configs.json: {name} of windows is {value!r:.50}, which is no number of tokens")
    return dict(stored)


def check_threshold(value: Any) -> float:
    """Return a no-answer threshold as a float.

    Raises:
        BudgetError: It is not a number, or it is too large.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not -_MOST <= cast("float", value) <= _MOST:
        raise BudgetError(
            f"a no-answer threshold must be 'squad2' or a difference of logits, for example -10 or 0, not {value!r:.50}"
        )
    return float(value)


def _measured_config(
    shape: ModelShape, name: str, config: LengthConfig, *, exact_match: float | None = None, f1: float | None = None
) -> MeasuredConfig:
    if len(config.fractions) != shape.layers:
        raise BudgetError(f"{name!r} has {len(config.fractions)} fractions for a model of {shape.layers} layers")
    return MeasuredConfig(name=name, config=config, share=share(shape, config), exact_match=exact_match, f1=f1)
