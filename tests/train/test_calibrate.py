"""Fitting a calibration: coefficients that made data are found again, and no data makes it fall over."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.calibration import Calibration
from dynamic_tinybert.squad import Question
from dynamic_tinybert.train import TrainingError
from dynamic_tinybert.train.calibrate import examples, fit, quality, stored

TEXT = "The lighthouse of Port Ellis was built by Agnes Moreau in 1871. Its keeper was Barnaby Whitlock."


def ask(question: str, *answers: str) -> Question:
    return Question(
        id=question,
        title="",
        question=question,
        context=TEXT,
        answers=answers,
        answer_starts=(None,) * len(answers),
        impossible=not answers,
    )


def made(calibration: Calibration, count: int, seed: int = 0) -> np.ndarray:
    """Rows whose right answers are as likely as a calibration says."""
    rng = np.random.default_rng(seed)
    margin, log_score = rng.normal(3, 4, count), np.log(rng.uniform(0.01, 1, count))
    x = calibration.margin * margin + calibration.log_score * log_score + calibration.bias
    return np.column_stack([margin, log_score, rng.uniform(size=count) < 1 / (1 + np.exp(-x))]).astype(np.float64)


@pytest.mark.parametrize(
    "wanted",
    [
        Calibration(margin=0.5, log_score=1.0, bias=-1.0),
        Calibration(margin=0.2, log_score=0.4, bias=0.8),
        Calibration(margin=-0.3, log_score=2.0, bias=0.0),
    ],
)
def test_coefficients_are_found_again(wanted: Calibration) -> None:
    found = fit(made(wanted, 60_000))
    for name, value in dataclasses.asdict(wanted).items():
        assert getattr(found, name) == pytest.approx(value, abs=0.06), name


def test_a_fit_is_where_the_likelihood_is_greatest() -> None:
    rows = made(Calibration(margin=0.5, log_score=1.0, bias=-1.0), 300)
    found = fit(rows, ridge=0.0 + 1e-9)

    def likelihood(c: Calibration) -> float:
        p = np.array([c.confidence(logit=m, null=0, score=math.exp(s)) for m, s, _ in rows])
        return float(np.log(np.where(rows[:, 2] == 1, p, 1 - p)).sum())

    best = likelihood(found)
    for name in ("margin", "log_score", "bias"):
        for step in (-0.05, 0.05):
            assert likelihood(dataclasses.replace(found, **{name: getattr(found, name) + step})) < best


@pytest.mark.parametrize("right", [0.0, 1.0])
@pytest.mark.parametrize("count", [1, 2, 50])
def test_all_right_and_all_wrong(right: float, count: int) -> None:
    rows = made(Calibration(margin=0.5, log_score=1.0, bias=0.0), count)
    rows[:, 2] = right
    found = fit(rows)
    Calibration.read(dataclasses.asdict(found))  # it can be stored
    said = [found.confidence(logit=m, null=0, score=math.exp(s)) for m, s, _ in rows]
    assert np.abs(np.array(said) - right).max() < 0.5
    assert quality(found, rows)["right"] == right


def test_what_can_be_told_apart_perfectly_has_a_finite_fit() -> None:
    margin = np.linspace(-5, 5, 100)
    found = fit(np.column_stack([margin, np.full(100, -0.5), margin > 0]))
    assert 1 < found.margin < 1000
    assert quality(found, np.column_stack([margin, np.full(100, -0.5), margin > 0]))["brier"] < 0.05


@pytest.mark.parametrize(
    "rows",
    [
        [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]],  # nothing to tell by
        [[1e4, -1e-9, 1.0], [-1e4, -2e-9, 0.0]],
        [[1e-7, -27.6, 0.0], [2e-7, -27.6, 1.0]],
    ],
)
def test_odd_data_have_a_fit_that_can_be_stored(rows: list[list[float]]) -> None:
    found = fit(np.array(rows))
    assert Calibration.read(dataclasses.asdict(found)) == found
    assert all(value >= 0 for value in quality(found, np.array(rows)).values())


def test_no_data_are_refused_in_one_line() -> None:
    nothing = np.zeros((0, 3))
    for attempt in (lambda: fit(nothing), lambda: quality(Calibration(margin=1, log_score=1, bias=0), nothing)):
        with pytest.raises(TrainingError, match="calibrat") as error:
            attempt()
        assert "\n" not in str(error.value)


def test_quality_by_hand() -> None:
    """A calibration that says the logistic function of the margin."""
    plain = Calibration(margin=1.0, log_score=0.0, bias=0.0)
    logit = [math.log(p / (1 - p)) for p in (0.92, 0.98, 0.55, 0.12)]
    rows = np.array([[logit[0], 0, 1], [logit[1], 0, 0], [logit[2], 0, 1], [logit[3], 0, 0]])
    found = quality(plain, rows)
    assert found["brier"] == pytest.approx((0.08**2 + 0.98**2 + 0.45**2 + 0.12**2) / 4)
    # Ranges: two of 0.9 to 1 (said 0.95, right 0.5), one of 0.5 to 0.6, one of 0.1 to 0.2.
    assert found["expected_error"] == pytest.approx((2 * 0.45 + 0.45 + 0.12) / 4)
    assert found["right"] == 0.5


def test_quality_of_the_sure() -> None:
    sure = Calibration(margin=0.0, log_score=0.0, bias=800.0)  # says 1
    rows = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    assert quality(sure, rows) == {"brier": 0.0, "expected_error": 0.0, "right": 1.0}


def test_a_true_calibration_has_a_small_error() -> None:
    true = Calibration(margin=0.5, log_score=1.0, bias=-1.0)
    rows = made(true, 20_000)
    assert quality(true, rows)["expected_error"] < 0.02
    assert quality(Calibration(margin=0.0, log_score=0.0, bias=5.0), rows)["expected_error"] > 0.3


def test_stored() -> None:
    calibration = Calibration(margin=0.5, log_score=1.0, bias=-1.0)
    value = stored(calibration, "somewhere", {"brier": 0.123456})
    assert value == {"margin": 0.5, "log_score": 1.0, "bias": -1.0, "measured_on": "somewhere", "brier": 0.1235}
    assert Calibration.read(json.loads(json.dumps(value))) == calibration


# Examples.


def test_examples_are_what_answering_says(qa: QuestionAnswerer) -> None:
    built = ask("Who built the lighthouse?", "the engineer", "agnes moreau!")
    rows = examples(
        qa,
        [
            (built, TEXT, True),
            (built, "The harbour of Saint-Malo lies to the south.", False),
            (built, TEXT, False),
            (built, "  ", True),
            (ask("Who kept it?", "Agnes"), TEXT, True),
        ],
    )
    assert rows.shape == (4, 3)  # a text without words has no answer
    assert rows[:, 2].tolist() == [1.0, 0.0, 0.0, 0.0]
    answer = qa(built.question, TEXT)
    assert answer.text == "Agnes Moreau"
    assert rows[0, 1] == pytest.approx(math.log(answer.score), abs=1e-4)
    impossible = qa(built.question, TEXT, handle_impossible_answer=True, top_k=2)
    null = next((a for a in impossible if not a.text), None)
    if null is not None:
        assert rows[0, 0] == pytest.approx(answer.logit - null.logit, abs=1e-3)


def test_the_margin_of_examples_is_that_of_confidence(embedded: Path, tmp_path: Path) -> None:
    """What is fitted is what answering computes: one definition."""
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copyfile(embedded / name, tmp_path / name)
    table = json.loads((embedded / "length_configs.json").read_text("utf-8"))
    calibration = Calibration(margin=0.1, log_score=0.3, bias=-0.5)
    table["calibration"] = dataclasses.asdict(calibration)
    (tmp_path / "length_configs.json").write_text(json.dumps(table), "utf-8")
    qa = QuestionAnswerer(tmp_path, threads=1)
    long = f"{TEXT} {'The coast is rough there, and ships keep away from it in winter. ' * 60}"
    for text in (TEXT, long):
        ((margin, log_score, _),) = examples(qa, [(ask("Who built the lighthouse?", "Agnes Moreau"), text, True)])
        wanted = calibration.confidence(logit=margin, null=0.0, score=math.exp(log_score))
        assert qa("Who built the lighthouse?", text).confidence == pytest.approx(wanted, abs=1e-4)


def test_examples_of_nothing(qa: QuestionAnswerer) -> None:
    assert examples(qa, []).shape == (0, 3)
