"""Confidence: a calibrated probability where a model has a calibration, and none where it has not."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.model import Calibration, CalibrationError

TEXT = "The lighthouse of Port Ellis was built by Agnes Moreau in 1871. Its keeper was Barnaby Whitlock."
WHOLE = {"margin": 0.1, "log_score": 0.3, "bias": -0.5}
PLAIN = Calibration(margin=0.5, log_score=2.0, bias=-1.0)

finite = st.floats(allow_nan=False, allow_infinity=False)


def test_by_hand() -> None:
    wanted = 1 / (1 + math.exp(-(0.5 * (6.0 - 2.0) + 2.0 * math.log(0.5) - 1.0)))
    assert PLAIN.confidence(logit=6.0, null=2.0, score=0.5) == pytest.approx(wanted, rel=1e-12)


def test_a_sum_of_nothing_is_a_half() -> None:
    assert Calibration(margin=1.0, log_score=1.0, bias=0.0).confidence(logit=3.0, null=3.0, score=1.0) == 0.5


def test_it_grows_with_margin_and_score() -> None:
    said = [PLAIN.confidence(logit=x, null=1.0, score=0.4) for x in (-3.0, 0.0, 1.0, 5.0)]
    assert said == sorted(said)
    said = [PLAIN.confidence(logit=3.0, null=1.0, score=x) for x in (0.0, 1e-300, 0.1, 0.5, 1.0)]
    assert said == sorted(said)
    assert said[0] == 0.0


coefficient = st.floats(-1e6, 1e6)


@given(coefficient, coefficient, coefficient, st.floats(), st.floats(), st.floats(0, 1))
def test_it_is_a_probability_whatever_comes(
    margin: float, log_score: float, bias: float, logit: float, null: float, score: float
) -> None:
    calibration = Calibration.read({"margin": margin, "log_score": log_score, "bias": bias})
    assert calibration is not None
    assert 0 <= calibration.confidence(logit=logit, null=null, score=score) <= 1


def test_no_answer_has_none() -> None:
    assert PLAIN.confidence(logit=-math.inf, null=1.0, score=0.0) == 0.0
    assert PLAIN.confidence(logit=1.0, null=math.inf, score=1.0) == 0.0


# Reading.


def test_read() -> None:
    assert Calibration.read(None) is None
    assert Calibration.read({**WHOLE, "measured_on": "x", "brier": 0.1}) == Calibration(**WHOLE)
    assert Calibration.read({"margin": 1, "log_score": 0, "bias": -2}) == Calibration(
        margin=1.0, log_score=0.0, bias=-2.0
    )


NONSENSE: list[Any] = [
    {},
    {"margin": 1.0, "log_score": 1.0},
    [],
    [0.1, 0.2, 0.3],
    "margin",
    3,
    True,
    *(
        {**WHOLE, "bias": x}
        for x in ("0.1", None, True, [1], {}, math.nan, math.inf, -math.inf, 1e300, 10**400, -(10**7))
    ),
]


@pytest.mark.parametrize("value", NONSENSE, ids=[f"{value!r:.60}" for value in NONSENSE])
def test_nonsense_is_refused_in_one_line(value: Any) -> None:
    with pytest.raises(CalibrationError, match=r"length_configs\.json: calibration") as error:
        Calibration.read(value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


# Answering.


def with_calibration(folder: Path, embedded: Path, value: Any) -> Path:
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copyfile(embedded / name, folder / name)
    table = json.loads((embedded / "length_configs.json").read_text("utf-8"))
    table.pop("calibration", None)
    if value is not None:
        table["calibration"] = value
    (folder / "length_configs.json").write_text(json.dumps(table), "utf-8")
    return folder


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory, embedded: Path) -> QuestionAnswerer:
    folder = with_calibration(tmp_path_factory.mktemp("models") / "calibrated", embedded, WHOLE)
    return QuestionAnswerer(folder, threads=1)


def test_answers_have_a_confidence(calibrated: QuestionAnswerer) -> None:
    assert calibrated.calibration == Calibration(**WHOLE)
    answers = calibrated("Who built the lighthouse?", TEXT, top_k=3, score_threshold=0)
    assert answers[0].text == "Agnes Moreau"
    for answer in answers:
        assert answer.confidence is not None
        assert 0 <= answer.confidence <= 1
    said = [answer.confidence or 0 for answer in answers]
    assert said == sorted(said, reverse=True)
    assert said[0] > said[-1]
    assert answers[0].to_dict()["confidence"] == said[0]
    # Alone, and in a batch of others, it is the same answer.
    (_, again) = calibrated(["Who kept it?", "Who built the lighthouse?"], TEXT)
    assert again.confidence == pytest.approx(said[0], abs=1e-4)


def test_a_confidence_is_of_the_margin_to_no_answer(calibrated: QuestionAnswerer) -> None:
    answers = calibrated("Who built the lighthouse?", TEXT, top_k=1000, handle_impossible_answer=True)
    (null,) = (answer for answer in answers if not answer.text)
    best = next(answer for answer in answers if answer.text)
    score = calibrated("Who built the lighthouse?", TEXT, top_k=1)[0].score
    plain = calibrated("Who built the lighthouse?", TEXT)
    wanted = Calibration(**WHOLE).confidence(logit=best.logit, null=null.logit, score=score)
    assert plain.confidence == pytest.approx(wanted, abs=1e-6)


def test_a_confidence_is_the_same_whether_or_not_there_may_be_no_answer(calibrated: QuestionAnswerer) -> None:
    answer = calibrated("Who built the lighthouse?", TEXT)
    either = calibrated("Who built the lighthouse?", TEXT, top_k=5, handle_impossible_answer=True)
    (same,) = [other for other in either if other.text == answer.text]
    assert same.score < answer.score
    assert same.confidence == pytest.approx(answer.confidence, abs=1e-6)


def test_the_answer_that_there_is_none_is_confident_of_nothing(calibrated: QuestionAnswerer) -> None:
    for text in ("", "  \n"):
        answer = calibrated("Who built it?", text)
        assert (answer.text, answer.confidence) == ("", 0.0)
    answers = calibrated("Who built the lighthouse?", TEXT, top_k=1000, handle_impossible_answer=True)
    assert [answer.confidence for answer in answers if not answer.text] == [0.0]


def test_without_a_calibration_there_is_none(tmp_path: Path, embedded: Path) -> None:
    qa = QuestionAnswerer(with_calibration(tmp_path / "plain", embedded, None), threads=1)
    assert qa.calibration is None
    assert qa("Who built the lighthouse?", TEXT).confidence is None
    assert qa("Who built the lighthouse?", "").confidence is None


@pytest.mark.parametrize("value", [{}, {**WHOLE, "bias": "x"}, [1, 2, 3], False, 0, ""])
def test_a_model_with_a_senseless_calibration_is_refused(value: Any, tmp_path: Path, embedded: Path) -> None:
    folder = with_calibration(tmp_path / "odd", embedded, value)
    with pytest.raises(CalibrationError, match=r"length_configs\.json: calibration"):
        QuestionAnswerer(folder, threads=1)
