"""How good a model is on a SQuAD file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dynamic_tinybert import BudgetError, QuestionAnswerer
from dynamic_tinybert.evaluation import Evaluation, evaluate
from dynamic_tinybert.model import BERT_BASE, macs
from dynamic_tinybert.squad import SquadFile, read_squad, score
from support.data import SQUAD, needs_squad

CONTEXT = (
    "The lighthouse of Port Ellis was built by Agnes Moreau in 1871. It stands on a cliff north of the harbour. "
    "Its keeper, Barnaby Whitlock, lived there with his wife and two goats."
)
ENTRIES: list[tuple[str, str, list[str]]] = [
    ("who", "Who built the lighthouse?", ["Agnes Moreau", "Moreau"]),
    ("when", "When was the lighthouse built?", ["in 1871"]),
    ("keeper", "What was the name of the keeper?", ["Barnaby Whitlock"]),
    ("wrong", "How many goats were there?", ["seventeen"]),
]


def document(version: str) -> dict[str, Any]:
    entries: list[dict[str, Any]] = [
        {
            "id": id_,
            "question": question,
            "answers": [{"text": answer, "answer_start": max(CONTEXT.find(answer), 0)} for answer in answers],
        }
        for id_, question, answers in ENTRIES
    ]
    if version == "v2.0":
        entries.append({"id": "none", "question": "What is the price of copper?", "answers": [], "is_impossible": True})
    return {"version": version, "data": [{"title": "x", "paragraphs": [{"context": CONTEXT, "qas": entries}]}]}


@pytest.fixture(params=["1.1", "v2.0"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> SquadFile:
    path = tmp_path / "dev.json"
    path.write_text(json.dumps(document(request.param)), "utf-8")
    return read_squad(path)


@pytest.fixture
def easy(tmp_path: Path) -> SquadFile:
    path = tmp_path / "easy.json"
    path.write_text(json.dumps(document("1.1")), "utf-8")
    return read_squad(path)


def asked(qa: QuestionAnswerer, data: SquadFile, **options: Any) -> dict[str, str]:
    return {q.id: qa(q.question, q.context, **options).text for q in data.questions}


def test_the_figures_are_the_official_ones_of_the_answers(qa: QuestionAnswerer, data: SquadFile) -> None:
    result = evaluate(qa, data)
    assert isinstance(result, Evaluation)
    assert result.scores == score(data, result.predictions)
    assert list(result.predictions) == [question.id for question in data.questions]
    assert result.scores.total == len(data.questions)
    assert result.scores.missing == 0
    maybe: dict[str, Any] = {"handle_impossible_answer": True, "no_answer_threshold": "squad2"}
    expected = asked(qa, data, **(maybe if data.version == "2.0" else {}))
    assert result.predictions == expected
    assert (result.scores.has_ans_f1 is None) == (data.version == "1.1")


def test_good_answers_score_and_bad_ones_do_not(qa: QuestionAnswerer, easy: SquadFile) -> None:
    result = evaluate(qa, easy)
    assert result.predictions["who"] == "Agnes Moreau"
    assert result.predictions["wrong"] != "seventeen"
    assert 50 <= result.scores.f1 <= 75
    assert result.scores.exact_match <= result.scores.f1


def test_what_was_spent_is_counted_over_all_windows(qa: QuestionAnswerer, easy: SquadFile) -> None:
    for budget in ("full", 0.5):
        result = evaluate(qa, easy, budget=budget)  # type: ignore[arg-type]
        choice = qa.table.select(qa.shape, budget)  # type: ignore[arg-type]
        spent = [qa(q.question, q.context, budget=budget).spent for q in easy.questions]  # type: ignore[call-overload]
        assert (result.configuration, result.macs_share) == (choice.name, choice.share)
        assert result.speedup == pytest.approx(sum(s.bert_base_macs for s in spent) / sum(s.macs for s in spent))
        assert result.seconds > 0
    full = macs(BERT_BASE, 384) / macs(qa.shape, 384)
    assert evaluate(qa, easy).speedup == pytest.approx(full, rel=0.15)
    assert evaluate(qa, easy, budget=0.5).speedup > 1.5 * evaluate(qa, easy).speedup


def test_what_is_printed(qa: QuestionAnswerer, data: SquadFile) -> None:
    result = evaluate(qa, data)
    printed = result.to_dict()
    assert {"exact_match", "f1", "total", "macs_share", "seconds"} <= printed.keys()
    assert printed["f1"] == result.scores.f1
    assert printed["total"] == len(data.questions)
    assert printed["macs_share"] == 1
    assert ("NoAns_f1" in printed) == (data.version == "2.0")
    assert json.loads(json.dumps(printed)) == printed


def test_progress_counts_questions(tiny: QuestionAnswerer, data: SquadFile) -> None:
    calls: list[tuple[int, int]] = []
    evaluate(tiny, data, progress=lambda *call: calls.append(call))
    n = len(data.questions)
    assert calls == [(i, n) for i in range(1, n + 1)]


def test_options_are_passed_on(tiny: QuestionAnswerer, easy: SquadFile) -> None:
    options = {"max_answer_len": 1, "max_seq_len": 60, "doc_stride": 10, "max_question_len": 30}
    assert evaluate(tiny, easy, **options).predictions == asked(tiny, easy, **options)
    assert evaluate(tiny, easy).predictions == asked(tiny, easy) != asked(tiny, easy, **options)
    with pytest.raises(TypeError):
        evaluate(tiny, easy, nonsense=1)


def test_whether_there_may_be_no_answer_goes_by_the_version_or_by_the_caller(
    qa: QuestionAnswerer, data: SquadFile
) -> None:
    for given in (True, False):
        result = evaluate(qa, data, handle_impossible_answer=given)
        maybe: dict[str, Any] = {"no_answer_threshold": "squad2"} if given and data.version == "2.0" else {}
        assert result.predictions == asked(qa, data, handle_impossible_answer=given, **maybe)
    assert all(evaluate(qa, data, handle_impossible_answer=False).predictions.values())


def test_the_threshold_is_the_model_s_or_the_caller_s(qa: QuestionAnswerer, data: SquadFile) -> None:
    of_2 = data.version == "2.0"
    own = qa.table.threshold("squad2")
    assert evaluate(qa, data).no_answer_threshold == (own if of_2 else None)
    result = evaluate(qa, data, no_answer_threshold=1e9)
    assert all(result.predictions.values())
    assert ("no_answer_threshold" in result.to_dict()) == of_2
    if of_2:
        none = evaluate(qa, data, no_answer_threshold=-1e9)
        assert not any(none.predictions.values())
        assert (none.scores.f1, none.scores.no_ans_f1, none.scores.has_ans_f1) == (20.0, 100.0, 0.0)


def test_the_oracle_is_what_the_official_metric_finds(qa: QuestionAnswerer, data: SquadFile) -> None:
    spans = evaluate(qa, data, no_answer_threshold=1e9)
    if data.version == "1.1":
        assert (spans.na_probs, spans.oracle) == (None, None)
        assert evaluate(qa, data, handle_impossible_answer=True).oracle is None
        return
    result = evaluate(qa, data)
    assert result.oracle == spans.oracle  # whatever the threshold
    assert result.na_probs == spans.na_probs is not None
    assert all(0 <= p <= 1 for p in spans.na_probs.values())
    official = score(data, spans.predictions, na_probs=spans.na_probs)
    assert spans.oracle is not None
    assert (spans.oracle["exact"][0], spans.oracle["f1"][0]) == (official.best_exact, official.best_f1)
    # The threshold is one that evaluate takes.
    best = evaluate(qa, data, no_answer_threshold=spans.oracle["f1"][1])
    assert best.scores.f1 == pytest.approx(official.best_f1)
    printed = result.to_dict()
    assert (printed["oracle_f1"], printed["oracle_f1_threshold"]) == spans.oracle["f1"]
    assert printed["oracle_f1"] >= printed["f1"]


def test_texts_without_words_have_no_answer(tiny: QuestionAnswerer, tmp_path: Path) -> None:
    content = document("v2.0")
    content["data"][0]["paragraphs"].append(
        {"context": " ", "qas": [{"id": "empty", "question": "Who?", "answers": [], "is_impossible": True}]}
    )
    (tmp_path / "dev.json").write_text(json.dumps(content), "utf-8")
    result = evaluate(tiny, read_squad(tmp_path / "dev.json"), no_answer_threshold=1e9)
    assert result.na_probs is not None
    assert (result.predictions["empty"], result.na_probs["empty"]) == ("", 1.0)


def test_a_budget_without_sense_is_refused(tiny: QuestionAnswerer, easy: SquadFile) -> None:
    for budget in (0, 2, "cheap"):
        with pytest.raises(BudgetError):
            evaluate(tiny, easy, budget=budget)  # type: ignore[arg-type]


@pytest.mark.slow
@needs_squad
def test_the_embedded_model_answers_squad(qa: QuestionAnswerer) -> None:
    result = evaluate(qa, read_squad(SQUAD / "dev-v1.1.json.gz", limit=300))
    assert result.scores.total == 300
    assert result.scores.f1 > 75
    assert result.speedup > 7
