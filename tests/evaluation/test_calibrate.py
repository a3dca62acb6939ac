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
from dynamic_tinybert.evaluation import (
    Observations,
    best_threshold,
    calibrate,
    calibration_entry,
    calibration_figures,
    draw_sample,
    fit_calibration,
    fit_threshold,
    observe,
    rejecting_threshold,
    threshold_figures,
)
from dynamic_tinybert.model import Calibration, CalibrationError, ConfigTable, dump_table
from dynamic_tinybert.squad import Question, SquadFile

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
    found = fit_calibration(made(wanted, 60_000))
    for name, value in dataclasses.asdict(wanted).items():
        assert getattr(found, name) == pytest.approx(value, abs=0.06), name


def test_a_fit_is_where_the_likelihood_is_greatest() -> None:
    rows = made(Calibration(margin=0.5, log_score=1.0, bias=-1.0), 300)
    found = fit_calibration(rows, ridge=0.0 + 1e-9)

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
    found = fit_calibration(rows)
    Calibration.read(dataclasses.asdict(found))  # it can be stored
    said = [found.confidence(logit=m, null=0, score=math.exp(s)) for m, s, _ in rows]
    assert np.abs(np.array(said) - right).max() < 0.5
    assert calibration_figures(found, rows)["right"] == right


def test_what_can_be_told_apart_perfectly_has_a_finite_fit() -> None:
    margin = np.linspace(-5, 5, 100)
    found = fit_calibration(np.column_stack([margin, np.full(100, -0.5), margin > 0]))
    assert 1 < found.margin < 1000
    assert calibration_figures(found, np.column_stack([margin, np.full(100, -0.5), margin > 0]))["brier"] < 0.05


@pytest.mark.parametrize(
    "rows",
    [
        [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]],  # nothing to tell by
        [[1e4, -1e-9, 1.0], [-1e4, -2e-9, 0.0]],
        [[1e-7, -27.6, 0.0], [2e-7, -27.6, 1.0]],
    ],
)
def test_odd_data_have_a_fit_that_can_be_stored(rows: list[list[float]]) -> None:
    found = fit_calibration(np.array(rows))
    assert Calibration.read(dataclasses.asdict(found)) == found
    assert all(value >= 0 for value in calibration_figures(found, np.array(rows)).values())


def test_no_data_are_refused_in_one_line() -> None:
    nothing = np.zeros((0, 3))
    for attempt in (
        lambda: fit_calibration(nothing),
        lambda: calibration_figures(Calibration(margin=1, log_score=1, bias=0), nothing),
    ):
        with pytest.raises(CalibrationError, match="calibrat") as error:
            attempt()
        assert "\n" not in str(error.value)


def test_quality_by_hand() -> None:
    """A calibration that says the logistic function of the margin."""
    plain = Calibration(margin=1.0, log_score=0.0, bias=0.0)
    logit = [math.log(p / (1 - p)) for p in (0.92, 0.98, 0.55, 0.12)]
    rows = np.array([[logit[0], 0, 1], [logit[1], 0, 0], [logit[2], 0, 1], [logit[3], 0, 0]])
    found = calibration_figures(plain, rows)
    assert found["brier"] == pytest.approx((0.08**2 + 0.98**2 + 0.45**2 + 0.12**2) / 4)
    # Ranges: two of 0.9 to 1 (said 0.95, right 0.5), one of 0.5 to 0.6, one of 0.1 to 0.2.
    assert found["expected_error"] == pytest.approx((2 * 0.45 + 0.45 + 0.12) / 4)
    assert found["right"] == 0.5


def test_quality_of_the_sure() -> None:
    sure = Calibration(margin=0.0, log_score=0.0, bias=800.0)  # says 1
    rows = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    assert calibration_figures(sure, rows) == {"brier": 0.0, "expected_error": 0.0, "right": 1.0}


def test_a_true_calibration_has_a_small_error() -> None:
    true = Calibration(margin=0.5, log_score=1.0, bias=-1.0)
    rows = made(true, 20_000)
    assert calibration_figures(true, rows)["expected_error"] < 0.02
    assert calibration_figures(Calibration(margin=0.0, log_score=0.0, bias=5.0), rows)["expected_error"] > 0.3


def test_stored() -> None:
    calibration = Calibration(margin=0.5, log_score=1.0, bias=-1.0)
    value = calibration_entry(calibration, "somewhere", {"brier": 0.123456})
    assert value == {"margin": 0.5, "log_score": 1.0, "bias": -1.0, "measured_on": "somewhere", "brier": 0.1235}
    assert Calibration.read(json.loads(json.dumps(value))) == calibration


# Observations.


def at(question: Question, text: str, *, impossible: bool = False) -> Question:
    if impossible:
        return dataclasses.replace(question, context=text, answers=(), answer_starts=(), impossible=True)
    return dataclasses.replace(question, context=text)


def test_observations_are_what_answering_says(qa: QuestionAnswerer) -> None:
    built = ask("Who built the lighthouse?", "the engineer", "agnes moreau!")
    questions = [
        built,
        at(built, "The harbour of Saint-Malo lies to the south.", impossible=True),
        at(built, TEXT, impossible=True),
        at(built, "  "),
        ask("Who kept it?", "Agnes"),
        ask("Who built the lighthouse?", "Moreau"),
    ]
    told: list[int] = []
    found = observe(qa, questions, progress=told.append)
    assert told == [1, 2, 3, 4, 5, 6]
    assert len(found) == 6
    assert found.answerable.tolist() == [True, False, False, True, True, True]
    assert found.exact.tolist() == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert found.f1.tolist() == [1.0, 0.0, 0.0, 0.0, 0.0, pytest.approx(2 / 3)]
    assert found.rows.shape == (5, 3)  # a text without words has no span
    assert found.margin[3] == -math.inf
    answer = qa(built.question, TEXT)
    assert answer.text == "Agnes Moreau"
    assert found.log_score[0] == pytest.approx(math.log(answer.score), abs=1e-4)
    (null,) = (a for a in qa(built.question, TEXT, handle_impossible_answer=True, top_k=1000) if not a.text)
    assert found.margin[0] == pytest.approx(answer.logit - null.logit, abs=1e-3)
    assert observe(qa, questions[:1], budget=0.5).margin[0] != found.margin[0]


@pytest.mark.slow
def test_the_margin_of_observations_is_that_of_confidence(embedded: Path, tmp_path: Path) -> None:
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
        found = observe(qa, [at(ask("Who built the lighthouse?", "Agnes Moreau"), text)])
        wanted = calibration.confidence(logit=found.margin[0], null=0.0, score=math.exp(found.log_score[0]))
        assert qa("Who built the lighthouse?", text).confidence == pytest.approx(wanted, abs=1e-4)


def test_observations_of_nothing(qa: QuestionAnswerer) -> None:
    found = observe(qa, [])
    assert len(found) == 0
    assert found.rows.shape == (0, 3)


# Thresholds.


def seen(*rows: tuple[float, float, bool]) -> Observations:
    """Of margins, F1 and whether there is an answer."""
    margin, f1, answerable = (np.array(column) for column in zip(*rows, strict=True))
    return Observations(margin, np.zeros(len(rows)), np.floor(f1), f1, answerable.astype(bool))


def random_observations(seed: int, count: int = 60) -> Observations:
    rng = np.random.default_rng(seed)
    answerable = rng.uniform(size=count) < 0.6
    answerable[:2] = [True, False]
    margin = np.round(rng.normal(3, 4, count) + 4 * answerable, rng.integers(0, 3))  # some are equal
    return seen(*zip(margin, rng.uniform(size=count) * answerable, answerable, strict=True))


def test_a_threshold_by_hand() -> None:
    found = seen((9.0, 1.0, True), (4.0, 0.5, True), (2.0, 1.0, False), (-1.0, 0.1, True))
    found = dataclasses.replace(found, f1=found.f1 * found.answerable)
    assert best_threshold(found) == pytest.approx(-3.0)  # between the margins 4 and 2
    assert best_threshold(found, share=0.01) == pytest.approx(2.0)  # all are answered, with room to spare
    assert best_threshold(found, share=0.99) == pytest.approx(-3.0)
    figures = threshold_figures(found, -3.0)
    assert figures["f1"] == pytest.approx(50 * (1.5 / 3) + 50)
    assert figures["exact_match"] == pytest.approx(50 / 3 + 50)
    assert (figures["HasAns_f1"], figures["NoAns_f1"]) == (pytest.approx(50.0), 100.0)
    assert figures["auc"] == pytest.approx(2 / 3)
    assert threshold_figures(found, -2.0)["NoAns_f1"] == 0.0  # exceeds, and does not equal


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_the_best_threshold_is_the_best_of_all(seed: int, share: float) -> None:
    found = random_observations(seed)
    best = threshold_figures(found, best_threshold(found, share=share), share=share)["f1"]
    margins = np.unique(found.margin)
    tried = [-1e9, 1e9, *(-margins + 1e-6), *(-margins - 1e-6), *(-margins)]
    assert best == pytest.approx(max(threshold_figures(found, t, share=share)["f1"] for t in tried))


def test_the_more_questions_have_no_answer_the_lower_the_threshold() -> None:
    found = random_observations(0, 2000)
    fitted = [fit_threshold(found, share=share) for share in (0.05, 0.3, 0.5, 0.7, 0.95)]
    assert fitted == sorted(fitted, reverse=True)
    assert fitted[0] > fitted[-1]


def test_what_tells_nothing_answers_all_or_none() -> None:
    same = seen((1.0, 1.0, True), (1.0, 0.0, False))
    assert threshold_figures(same, best_threshold(same, share=0.4), share=0.4)["HasAns_f1"] == 100.0
    assert threshold_figures(same, best_threshold(same, share=0.6), share=0.6)["NoAns_f1"] == 100.0
    assert threshold_figures(same, 0.0)["auc"] == 0.5


def test_a_text_without_words_has_no_answer_at_any_threshold() -> None:
    found = seen((-math.inf, 0.0, False), (5.0, 1.0, True), (-math.inf, 0.0, True))
    assert math.isfinite(best_threshold(found))
    assert threshold_figures(found, 1e9)["NoAns_f1"] == 100.0
    assert math.isfinite(fit_threshold(found))
    for fitting in (fit_threshold, best_threshold):
        with pytest.raises(CalibrationError, match="none of the texts has words"):
            fitting(seen((-math.inf, 0.0, False), (-math.inf, 0.0, True)))


@pytest.mark.parametrize("reject", [0.0, 0.03, 0.25, 0.9])
def test_a_threshold_for_people_rejects_at_most_its_share_of_what_has_an_answer(reject: float) -> None:
    for seed in range(5):
        found = random_observations(seed, 200)
        threshold = rejecting_threshold(found, reject=reject)
        margins = found.margin[found.answerable]
        assert np.mean(-margins > threshold) <= reject
        assert np.mean(-margins > threshold - 0.001) >= reject - 1.1 / len(margins) or len(set(margins)) < len(margins)


def test_a_threshold_for_people_needs_answers_and_a_share() -> None:
    assert rejecting_threshold(seen((5.0, 1.0, True), (-math.inf, 0.0, True)), reject=0) == pytest.approx(-5, abs=1e-3)
    for rows in ([(1.0, 0.0, False)], [(-math.inf, 0.0, True)]):
        with pytest.raises(CalibrationError, match="no question has an answer"):
            rejecting_threshold(seen(*rows), reject=0.1)
    for reject in (-0.1, 1.0, math.nan):
        with pytest.raises(CalibrationError, match="share of rejected"):
            rejecting_threshold(random_observations(0), reject=reject)


def test_a_threshold_needs_both_and_a_share() -> None:
    for rows, lacking in (([(1.0, 1.0, True)], "without"), ([(1.0, 0.0, False)], "with an answer")):
        with pytest.raises(CalibrationError, match=lacking):
            best_threshold(seen(*rows))
    for share in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(CalibrationError, match="share"):
            best_threshold(random_observations(0), share=share)


def test_a_fitted_threshold_varies_less_than_the_best_of_a_sample() -> None:
    """And is as good on what it was not fitted on."""
    samples, large = [random_observations(seed, 300) for seed in range(12)], random_observations(99, 20_000)
    fitted, best = ([fitting(sample) for sample in samples] for fitting in (fit_threshold, best_threshold))
    assert np.std(fitted) < 0.75 * np.std(best)
    worth = [np.mean([threshold_figures(large, t)["f1"] for t in thresholds]) for thresholds in (fitted, best)]
    assert worth[0] >= worth[1]
    assert fit_threshold(samples[0]) == fitted[0]


# Samples.

OTHER = "Its flag was eaten by the goats of Zoë Brontë in 1899. The town of Łódź paid for another."


def squad(*questions: Question, version: str = "1.1") -> SquadFile:
    named = (dataclasses.replace(q, id=str(i), title="Lighthouses") for i, q in enumerate(questions))
    return SquadFile("2.0" if version == "2.0" else "1.1", tuple(named))


ARTICLE = squad(
    ask("Who built the lighthouse in 1871?", "Agnes Moreau"),
    ask("Who was its first keeper?", "Barnaby Whitlock"),
    at(ask("What did the goats eat?", "Its flag"), OTHER),
    at(ask("Which town paid for another in 1899?", "Łódź"), OTHER),
)


def test_a_sample_of_made_questions() -> None:
    sample = draw_sample("here", ARTICLE, 4)
    assert sample == draw_sample("here", ARTICLE, 4)
    assert set(sample.answerable) == set(ARTICLE.questions)
    asked_again = [tuple(question.id.split("-")) for question in sample.hard]
    assert [kind for _, kind in asked_again] == ["swapped", "swapped", "nearest", "nearest"]
    assert sorted(id_ for id_, _ in asked_again) == ["0", "1", "2", "3"]  # each once
    assert [question.id for question in sample.easy] == [f"{question.id}-other" for question in sample.answerable]
    assert all(question.impossible for question in (*sample.hard, *sample.easy))
    assert sample.description == "4 questions of here and 4 made without an answer"
    fewer = draw_sample("here", ARTICLE, 2)
    assert fewer.answerable == sample.answerable[:2]
    assert len(fewer.hard) == 2
    assert set(draw_sample("here", ARTICLE, 4, seed=1).answerable) == set(ARTICLE.questions)


def test_a_file_s_own_unanswerable_questions_come_first() -> None:
    data = squad(*ARTICLE.questions, at(ask("Who painted it?", "x"), OTHER, impossible=True), version="2.0")
    sample = draw_sample("here", data, 10)
    assert sample.hard == sample.easy == data.questions[-1:]
    assert "1 written without an answer" in sample.description


def test_nothing_to_draw_from_is_refused() -> None:
    for data in (squad(), squad(at(ask("Who?", "x"), OTHER, impossible=True), version="2.0")):
        with pytest.raises(CalibrationError, match="no question has an answer"):
            draw_sample("here", data, 5)
    with pytest.raises(CalibrationError, match="several paragraphs"):
        draw_sample("here", squad(ask("Who built the lighthouse?", "Agnes Moreau")), 5)


# All of it.


def test_calibrate(qa: QuestionAnswerer) -> None:
    sample = draw_sample("here", ARTICLE, 4)
    told: list[tuple[int, int]] = []
    found = calibrate(qa, sample, sample, progress=lambda *x: told.append(x))
    assert told == [(i, 24) for i in range(1, 25)]
    assert found.configuration == "full"
    assert found.figures_at_best["f1"] >= max(found.figures["f1"], found.figures_before["f1"])
    assert found.threshold_at_best == best_threshold(observe(qa, sample.answerable + sample.hard))
    assert found.squad2 == fit_threshold(observe(qa, sample.answerable + sample.hard))
    assert found.threshold == rejecting_threshold(observe(qa, sample.answerable), reject=0.03)
    assert (found.rejected, 0 <= found.caught <= 1) == (0, True)
    assert found.better == (found.quality["brier"] < found.quality_before["brier"])  # type: ignore[index]
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()
    again = calibrate(qa, sample, sample, budget=0.5, share=0.9, reject=0.5)
    assert again.configuration == qa.table.select(qa.shape, 0.5).name
    assert again.squad2 != found.squad2
    assert 0 < again.rejected <= 0.5


def test_what_is_stored_reads_as_what_was_fitted(qa: QuestionAnswerer, embedded: Path) -> None:
    sample = draw_sample("here", ARTICLE, 4)
    found = calibrate(qa, sample, sample)
    before = json.loads((embedded / "length_configs.json").read_text("utf-8"))
    table = json.loads(dump_table(found.store(before)))
    assert {key: value for key, value in table.items() if key not in ("calibration", "no_answer")} == {
        key: value for key, value in before.items() if key not in ("calibration", "no_answer")
    }
    read = ConfigTable.read(qa.shape, table)
    assert (read.no_answer_threshold, read.squad2_threshold) == (found.threshold, found.squad2)
    assert Calibration.read(table["calibration"]) == found.calibration
    assert found.store(before, confidence=False)["calibration"] == before["calibration"]
    alone = json.loads(dump_table(found.store(None)))  # of a model without a table
    assert alone.keys() == {"calibration", "no_answer"}
    assert ConfigTable.read(qa.shape, alone).no_answer_threshold == found.threshold
    assert ConfigTable.read(qa.shape, alone).measured_on is None
