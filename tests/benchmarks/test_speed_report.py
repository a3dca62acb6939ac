"""The report of the speed benchmark: which figures are set beside which targets."""

from __future__ import annotations

import pytest

from benchmarks.common import Target
from benchmarks.speed import report
from benchmarks.speed.report import Measurement, Report


def measured(name: str, seconds: float, **about: object) -> Measurement:
    return Measurement(**{"name": name, "kind": "ours", "promised": 2.0, "seconds": [seconds], **about})  # type: ignore[arg-type]


def report_of(model: str, f1: dict[str, float]) -> Report:
    """Make a report in which BERT-base takes 400 ms, 120 in bfloat16, `full` 100, and its half 60; in INT8 a half."""
    pytorch = [
        measured("BERT-base, PyTorch", 0.4, kind="pytorch", promised=1.0),
        measured("BERT-base, PyTorch, bfloat16", 0.12, kind="pytorch", precision="bf16", promised=1.0),
    ]
    exported = [
        measured(report.DEFAULT_EXPORT, 0.1, kind="exported"),
        measured("exported graph, dynamic INT8", 0.06, kind="exported", precision="int8"),
    ]
    ours = [
        measured(report.ours(name, precision), seconds / times, precision=precision, share=share, f1=f1.get(name))
        for precision, times in (("fp32", 1), ("int8", 2))
        for name, seconds, share in (("full", 0.1, 1.0), ("near", 0.08, 0.7), ("half", 0.06, 0.45))
    ]
    uniform = measured(report.UNIFORM_HALF, 0.06, share=0.5)
    return Report(
        command="", date="2026-11-30", machine={}, versions={}, others_share=0.0, threads=1, model=model,
        measured_on=None, filled=[*pytorch, *exported, *ours, uniform], logits_difference=0.0, real=[*pytorch, *ours],
        real_tokens=170.0, startup_seconds={"import dynamic_tinybert": [0.1]}, startup_peak_bytes={"Python": [10**8]},
        installed_bytes=None,
    )  # fmt: skip


def target(found: list[Target], part: str) -> Target:
    (one,) = [x for x in found if part in x.what]
    return one


@pytest.mark.parametrize(("model", "bound"), [("embedded", 7.5), ("another", 2.0)])
def test_against_bert_base_each_model_has_the_target_of_its_size(model: str, bound: float) -> None:
    found = report.targets(report_of(model, {}))
    against = target(found, "filled: `full`, as fast as BERT-base")
    assert against.figure == pytest.approx(4.0)
    assert against.bound == bound
    assert any("import" in x.what for x in found) == (model == "embedded")  # start-up is of the package, not the model


def test_the_papers_claim_is_judged_by_the_fastest_within_1_f1_and_the_faster_bert_base() -> None:
    found = report.targets(report_of("another", {"full": 86.7, "near": 85.7, "half": 85.6}))
    claim = target(found, "within 1 F1")
    assert "`near, int8`" in claim.what
    assert claim.figure == pytest.approx(0.12 / 0.04)


@pytest.mark.parametrize("f1", [{}, {"near": 85.7}])
def test_without_f1_of_full_nothing_is_said_of_the_papers_claim(f1: dict[str, float]) -> None:
    assert not [x for x in report.targets(report_of("another", f1)) if "within 1 F1" in x.what]
