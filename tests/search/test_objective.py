"""What a configuration is worth, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest

from dynamic_tinybert.evaluation import evaluate
from dynamic_tinybert.model import LengthConfig, share
from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.search import Objective, objective
from dynamic_tinybert.squad import Question, SquadFile

CONTEXT = "The lighthouse of Port Ellis was built by Agnes Moreau in 1871. Its keeper was Barnaby Whitlock."
ASKED = (("Who built the lighthouse?", "Agnes Moreau"), ("Who was the keeper?", "Barnaby Whitlock"))
DATA = SquadFile(
    "1.1",
    tuple(
        Question(
            id=str(i), title="x", question=q, context=CONTEXT, answers=(a,), answer_starts=(None,), impossible=False
        )
        for i, (q, a) in enumerate(ASKED * 4)
    ),
)
HALF = LengthConfig.uniform(6, 0.8)


def test_the_metric_is_that_of_evaluate_and_the_cost_the_share(qa: QuestionAnswerer) -> None:
    found = Objective(qa, DATA)(HALF)
    expected = evaluate(qa, DATA, budget=HALF)
    assert found.f1 == expected.scores.f1
    assert found.exact_match == expected.scores.exact_match
    assert found.cost == found.share == share(qa.shape, HALF) < 0.6
    assert found.seconds > 0
    full = Objective(qa, DATA)(LengthConfig.full(6))
    assert full.f1 > 50
    assert full.cost == 1


def test_latency_is_held_to_full_in_turn(tiny: QuestionAnswerer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that slows down steadily does not change the ratio by much, and all questions count."""
    monkeypatch.setattr(objective, "_TURN", 2)
    half, full = LengthConfig.uniform(2, 0.5), LengthConfig.full(2)
    order: list[tuple[LengthConfig, int]] = []

    def slowing(qa: QuestionAnswerer, data: SquadFile, *, budget: LengthConfig) -> Any:
        order.append((budget, len(data.questions)))
        found = evaluate(qa, data, budget=budget)
        seconds = (1.0 if budget == full else 0.5) * (1 + 0.1 * len(order))
        return type(found)(**{**vars(found), "seconds": seconds})

    monkeypatch.setattr(objective, "evaluate", slowing)
    found = Objective(tiny, DATA, "latency")(half)
    assert [config for config, _ in order] == [full, half, half, full] * 2
    assert sum(number for config, number in order if config == half) == len(DATA.questions)
    assert found.cost == pytest.approx(0.5, abs=0.02)
    assert found.share == share(tiny.shape, half)
    assert found.f1 == evaluate(tiny, DATA, budget=half).scores.f1
    order.clear()
    assert Objective(tiny, DATA, "latency")(full).cost == 1
    assert len(order) == 1
