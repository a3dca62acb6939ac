"""The records of the measurement of load, and the figures that they come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from benchmarks.common import standard_error
from benchmarks.serve.load_client import NO_CONNECTION

Mode: TypeAlias = Literal["with", "without"]
MODES: tuple[Mode, ...] = ("with", "without")
OK, REFUSED, MISPLACED = 200, 429, -3
"""Statuses; `MISPLACED` is an answer that is not what the text holds at its offsets, or is no answer."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One rate, with load control or without: the requests in order, and what they took. Milliseconds.

    Attributes:
        mode: With load control or without.
        times: The rate, over what the full model can serve.
        rate: The rate, in questions a second.
        warm_up_s: Requests due before this do not count.
        seconds: How long those that count were sent.
        configurations: Names of the model's length configurations.
        question: Of each request, the place of its question in the data.
        due: When it was to be sent, from the start.
        late: How much later it was.
        took: From `due` to its answer; None where none came.
        status: Its HTTP status, or that of `load_client`, or `MISPLACED`.
        configuration: The place of its configuration, or -1.
        start: Where its answer begins in the paragraph.
        length: How long its answer is, in characters.
        server_cpu_s: Seconds of the processor that the server took, from the first request to the last answer.
        generator_cpu_s: The same of what sent the requests.
        elapsed_s: From the first request to the last answer.
        others_share: Share of the processor that other processes took meanwhile.
        command: What started the server.
        date: When.
    """

    mode: Mode
    times: float
    rate: float
    warm_up_s: float
    seconds: float
    configurations: list[str]
    question: list[int]
    due: list[float]
    late: list[float]
    took: list[float | None]
    status: list[int]
    configuration: list[int]
    start: list[int]
    length: list[int]
    server_cpu_s: float
    generator_cpu_s: float
    elapsed_s: float
    others_share: float
    command: str
    date: str

    @property
    def counted(self) -> list[int]:
        """The places of the requests that count."""
        end = 1000 * (self.warm_up_s + self.seconds)
        return [i for i, due in enumerate(self.due) if 1000 * self.warm_up_s <= due < end]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a step comes to. Rates are a second, times in milliseconds, shares in [0, 1], F1 in percent.

    Attributes:
        mode: With load control or without.
        times: The rate that was meant, over what the full model can serve.
        requests: How many were sent.
        offered: Requests a second.
        served: Answers a second, of all that came while the requests that count were sent.
        accepted: Requests that were not refused.
        refused: Share of the requests that got 429.
        errors: How many got neither an answer nor 429.
        no_connection: How many of these the generator did not send, since it had no connection left.
        p50: Median time to the answer, of those answered. `p95`, `p99` likewise.
        refused_p99: The same of a refusal.
        within: Share of the accepted that were answered within the objective.
        late_p99: How much later than meant a request was sent.
        share: Mean share of the full model's multiply-accumulates.
        configurations: How many answers each configuration gave.
        f1: F1 of the answers.
        full_f1: F1 of the same questions, each answered by the library at `full`.
        drop: `full_f1` - `f1`.
        drop_error: The standard error of `drop`.
        table_drop: What the model's table says: mean over the answers of F1 at `full` less F1 at their configuration.
        server_cores: Processors that the server kept busy.
        generator_cores: Processors that the generator kept busy.
        others_share: Share of the processor that other processes took.
    """

    mode: Mode
    times: float
    requests: int
    offered: float
    served: float
    accepted: int
    refused: float
    errors: int
    no_connection: int
    p50: float | None
    p95: float | None
    p99: float | None
    refused_p99: float | None
    within: float | None
    late_p99: float | None
    share: float | None
    configurations: dict[str, int]
    f1: float | None
    full_f1: float | None
    drop: float | None
    drop_error: float | None
    table_drop: float | None
    server_cores: float
    generator_cores: float
    others_share: float


def figures(
    step: Step,
    slo_ms: float,
    points: Mapping[int, float],
    full_points: Mapping[int, float],
    table_of: Mapping[str, Mapping[str, Any]],
) -> Figures:
    """Work out the figures of a step.

    Args:
        step: What was measured.
        slo_ms: The objective.
        points: F1 of each answer that counts, in [0, 1], by its place among the requests.
        full_points: F1 of each question at `full`, in [0, 1], by the question's place in the data.
        table_of: The model's configurations by name, each with its `share` and `f1`, as `/info` gives them.
    """
    counted = step.counted
    begin, end = 1000 * step.warm_up_s, 1000 * (step.warm_up_s + step.seconds)
    served = [
        i
        for i, (due, took) in enumerate(zip(step.due, step.took, strict=True))
        if step.status[i] == OK and took is not None and begin <= due + took < end
    ]
    answered = [i for i in counted if step.status[i] == OK]
    refused = [i for i in counted if step.status[i] == REFUSED]
    accepted = len(counted) - len(refused)
    times = [step.took[i] or 0.0 for i in answered]
    names = [step.configurations[step.configuration[i]] for i in answered]
    losses = [full_points[step.question[i]] - points[i] for i in answered]
    full = next((row for row in table_of.values() if row["share"] == 1), {"f1": None})
    known = [table_of[name]["f1"] for name in names]
    return Figures(
        mode=step.mode,
        times=step.times,
        requests=len(counted),
        offered=len(counted) / step.seconds,
        served=len(served) / step.seconds,
        accepted=accepted,
        refused=len(refused) / max(1, len(counted)),
        errors=accepted - len(answered),
        no_connection=sum(step.status[i] == NO_CONNECTION for i in counted),
        p50=_percentile(times, 50),
        p95=_percentile(times, 95),
        p99=_percentile(times, 99),
        refused_p99=_percentile([step.took[i] or 0.0 for i in refused], 99),
        within=sum(took <= slo_ms for took in times) / accepted if accepted else None,
        late_p99=_percentile([step.late[i] for i in counted], 99),
        share=_mean([table_of[name]["share"] for name in names]),
        configurations=dict(Counter(names).most_common()),
        f1=_percent(_mean([points[i] for i in answered])),
        full_f1=_percent(_mean([full_points[step.question[i]] for i in answered])),
        drop=_percent(_mean(losses)),
        drop_error=_percent(standard_error(losses)),
        table_drop=None if None in known or full["f1"] is None else _mean([full["f1"] - f1 for f1 in known]),
        server_cores=step.server_cpu_s / step.elapsed_s,
        generator_cores=step.generator_cpu_s / step.elapsed_s,
        others_share=step.others_share,
    )


def _percentile(values: Sequence[float], q: float) -> float | None:
    return float(np.percentile(values, q)) if values else None


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What the full model can serve.

    Attributes:
        runs: Questions a second, by how many connections asked at once.
        seconds: How long each of these asked.
        after: The same with the best number of connections when all else was measured; None if it was not.
    """

    runs: dict[int, float]
    seconds: float
    after: float | None = None

    @property
    def connections(self) -> int:
        return max(self.runs, key=self.runs.__getitem__)

    @property
    def rate(self) -> float:
        return max(self.runs.values())


@dataclass(frozen=True, kw_only=True)
class Check:
    """Answers under load beside the library's at the same configuration: how many were compared, and how many are not
    the same words at the same place."""

    compared: int
    different: int
