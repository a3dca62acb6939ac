"""The official metrics of SQuAD: exact match and F1.

Rajpurkar et al., 2016 (SQuAD: 100,000+ Questions for Machine Comprehension of Text) and 2018 (Know What You Don't
Know: Unanswerable Questions for SQuAD). This module follows their scripts, evaluate-v1.1.py and evaluate-v2.0.py. The
two differ: see `f1_score` and `score_question`.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from dynamic_tinybert.squad.data import Question, SquadError, SquadFile, Version

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_OFFICIAL_KEYS = {
    "has_ans_exact": "HasAns_exact",
    "has_ans_f1": "HasAns_f1",
    "has_ans_total": "HasAns_total",
    "no_ans_exact": "NoAns_exact",
    "no_ans_f1": "NoAns_f1",
    "no_ans_total": "NoAns_total",
}


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The scores of predictions on a data set, in percent.

    Attributes:
        exact_match: Share of the questions whose answer equals a reference after normalization.
        f1: Mean over the questions of the best token F1 against a reference.
        total: How many questions there are.
        missing: How many of them have no prediction.
        has_ans_exact: `exact_match` over the questions with an answer; None for 1.1, or if there are no such questions.
        has_ans_f1: `f1` over the same questions.
        has_ans_total: The number of these questions.
        no_ans_exact: `exact_match` over the questions without an answer; None for 1.1, or if there are no such
            questions.
        no_ans_f1: `f1` over the same questions.
        no_ans_total: The number of these questions.
        best_exact: The best `exact_match` that any threshold on the probabilities of no answer gives. The threshold is
            chosen and measured on the same questions: an upper bound, not a result. None without probabilities.
        best_exact_thresh: The threshold of `best_exact`: a question with a greater probability gets no answer.
        best_f1: The best `f1` that any threshold gives, see `best_exact`.
        best_f1_thresh: The threshold of `best_f1`.
    """

    exact_match: float
    f1: float
    total: int
    missing: int
    has_ans_exact: float | None = None
    has_ans_f1: float | None = None
    has_ans_total: int | None = None
    no_ans_exact: float | None = None
    no_ans_f1: float | None = None
    no_ans_total: int | None = None
    best_exact: float | None = None
    best_exact_thresh: float | None = None
    best_f1: float | None = None
    best_f1_thresh: float | None = None

    def to_dict(self) -> dict[str, float | int]:
        """Return the scores under the official names, without those that are None.

        `exact_match` has its 1.1 name in both versions; evaluate-v2.0.py prints it as `exact`.
        """
        return {_OFFICIAL_KEYS.get(name, name): value for name, value in asdict(self).items() if value is not None}


def normalize_answer(text: str) -> str:
    """Lowercase, remove ASCII punctuation, then the words a, an, the, and squeeze white space.

    Source: `normalize_answer` of evaluate-v1.1.py and evaluate-v2.0.py (Rajpurkar et al., 2016 and 2018).
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def holds_answer(text: str, answers: Sequence[str]) -> bool:
    """Return whether a text has one of the answers in it, all normalized; an answer of no words is in no text."""
    plain = normalize_answer(text)
    return any(answer in plain for answer in map(normalize_answer, answers) if answer)


def exact_match(prediction: str, truth: str) -> bool:
    """Return whether two answers are equal after normalization.

    Source: `exact_match_score` of evaluate-v1.1.py, `compute_exact` of evaluate-v2.0.py (Rajpurkar et al., 2016 and
    2018).
    """
    return normalize_answer(prediction) == normalize_answer(truth)


def f1_score(prediction: str, truth: str, *, version: Version = "1.1") -> float:
    """Return the F1 of the words of two answers after normalization, as bags of words, in [0, 1].

    If both answers are empty after normalization, F1 is 0 in 1.1 and 1 in 2.0.

    Source: `f1_score` of evaluate-v1.1.py, `compute_f1` of evaluate-v2.0.py (Rajpurkar et al., 2016 and 2018).
    """
    return _f1(normalize_answer(prediction), normalize_answer(truth), version)


def score_question(question: Question, prediction: str, *, version: Version) -> tuple[float, float]:
    """Return exact match and F1 of one prediction, each the best over the references, in [0, 1].

    2.0 ignores references that are empty after normalization; if no reference is left, only an empty answer is right.

    Source: `metric_max_over_ground_truths` of evaluate-v1.1.py, `get_raw_scores` of evaluate-v2.0.py (Rajpurkar et
    al., 2016 and 2018).

    Raises:
        SquadError: The version is 1.1 and the question has no reference.
    """
    truths = [normalize_answer(answer) for answer in question.answers]
    if version == "2.0":
        truths = [truth for truth in truths if truth] or [""]
    if not truths:
        raise SquadError(f"question {question.id!r} has no answer to score against, which SQuAD 1.1 requires")
    normalized = normalize_answer(prediction)
    return float(normalized in truths), max(_f1(normalized, truth, version) for truth in truths)


def score(
    data: SquadFile,
    predictions: Mapping[str, str],
    *,
    na_probs: Mapping[str, float] | None = None,
    na_prob_thresh: float = 1.0,
) -> Scores:
    """Score predictions by the official rules of the data's version.

    Predictions with other ids are ignored. A question without a prediction scores 0, even if it has no answer (2.0).
    evaluate-v1.1.py does the same; evaluate-v2.0.py leaves the question out and then fails. As in evaluate-v2.0.py, the
    questions with and without an answer are told apart by their references, not by `is_impossible`.

    Args:
        data: The questions.
        predictions: Question id -> answer.
        na_probs: Question id -> the probability of no answer, for data of 2.0. If given, the scores include the best
            figures that a threshold on it gives: see `Scores.best_f1`.
        na_prob_thresh: If the probability is greater, the prediction counts as no answer.

    Source: `evaluate` of evaluate-v1.1.py; `make_eval_dict`, `apply_no_ans_threshold` and `find_best_thresh` of
    evaluate-v2.0.py (Rajpurkar et al., 2016 and 2018).

    Raises:
        SquadError: No question has a prediction; a question of 1.1 has no reference; `na_probs` are given for data of
            1.1; or a question with a prediction is missing in `na_probs`.
    """
    if na_probs is not None:
        _check_na_probs(data, predictions, na_probs)
    missing = sum(question.id not in predictions for question in data.questions)
    if missing == len(data.questions):
        asked, given = _like(question.id for question in data.questions), _like(predictions)
        raise SquadError(f"no prediction has an id of this data set: ids here are {asked}, in the predictions {given}")
    points = [
        score_question(question, predictions[question.id], version=data.version)
        if question.id in predictions
        else (0.0, 0.0)
        for question in data.questions
    ]
    best: dict[str, float] = {}
    if na_probs is not None:
        for name, (value, threshold) in _best(data, predictions, points, na_probs).items():
            best |= {f"best_{name}": value, f"best_{name}_thresh": 0.0 if threshold is None else threshold}
        points = [
            (float(not question.answers),) * 2
            if question.id in predictions and na_probs[question.id] > na_prob_thresh
            else point
            for question, point in zip(data.questions, points, strict=True)
        ]
    exact, f1, total = _mean(points)
    parts: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    if data.version == "2.0":
        for question, point in zip(data.questions, points, strict=True):
            parts[bool(question.answers)].append(point)
    has_ans, no_ans = _mean_or_none(parts[True]), _mean_or_none(parts[False])
    return Scores(
        exact_match=exact,
        f1=f1,
        total=total,
        missing=missing,
        has_ans_exact=has_ans[0],
        has_ans_f1=has_ans[1],
        has_ans_total=has_ans[2],
        no_ans_exact=no_ans[0],
        no_ans_f1=no_ans[1],
        no_ans_total=no_ans[2],
        **best,
    )


def best_threshold(gains: Sequence[float], na_probs: Sequence[float], without: int) -> tuple[float, float | None]:
    """Find the threshold on the probabilities of no answer that gives the best sum of points.

    A question is answered if its probability is at most the threshold. As in evaluate-v2.0.py, the threshold is one of
    the probabilities: the least of those that are equally good.

    Source: `find_best_thresh` of evaluate-v2.0.py (Rajpurkar et al., 2018).

    Args:
        gains: The gain of answering each question: its points, or -1 if it has no answer and gets one.
        na_probs: The probabilities.
        without: The points of answering nothing: the number of questions without an answer.

    Returns:
        The sum of points, and the threshold; None if it is best to answer nothing.
    """
    now = best = float(without)
    threshold = None
    for i in sorted(range(len(gains)), key=na_probs.__getitem__):
        now += gains[i]
        if now > best:
            best, threshold = now, na_probs[i]
    return best, threshold


def oracle(
    data: SquadFile, predictions: Mapping[str, str], na_probs: Mapping[str, float]
) -> dict[str, tuple[float, float | None]]:
    """Find the best figures that a threshold on the probabilities of no answer gives on these same questions.

    They equal `best_exact` and `best_f1` of `score`, but the threshold is None if it is best to answer nothing.
    `na_probs` may be any numbers that grow with the probability.

    Returns:
        `exact` and `f1`, each the figure in percent and its threshold.

    Raises:
        SquadError: As `score` does.
    """
    _check_na_probs(data, predictions, na_probs)
    points = [score_question(q, predictions.get(q.id, ""), version=data.version) for q in data.questions]
    return _best(data, predictions, points, na_probs)


def _check_na_probs(data: SquadFile, predictions: Mapping[str, str], na_probs: Mapping[str, float]) -> None:
    if data.version == "1.1":
        raise SquadError("every question of SQuAD 1.1 has an answer: probabilities of no answer are for 2.0")
    lacking = [q.id for q in data.questions if q.id in predictions and q.id not in na_probs]
    if lacking:
        raise SquadError(
            f"{len(lacking):,} questions have a prediction, but no probability of no answer: {lacking[0]!r}"
        )


def _best(
    data: SquadFile,
    predictions: Mapping[str, str],
    points: Sequence[tuple[float, float]],
    na_probs: Mapping[str, float],
) -> dict[str, tuple[float, float | None]]:
    answered = [(q, point) for q, point in zip(data.questions, points, strict=True) if q.id in predictions]
    # As in evaluate-v2.0.py: equal probabilities stay in the order of the file of probabilities.
    place = {id_: i for i, id_ in enumerate(na_probs)}
    answered.sort(key=lambda x: place[x[0].id])
    probabilities = [na_probs[q.id] for q, _ in answered]
    without = sum(not q.answers for q, _ in answered)
    found: dict[str, tuple[float, float | None]] = {}
    for i, name in enumerate(("exact", "f1")):
        gains = [point[i] if q.answers else -float(bool(predictions[q.id])) for q, point in answered]
        total, threshold = best_threshold(gains, probabilities, without)
        found[name] = (100.0 * total / len(data.questions), threshold)
    return found


def _f1(prediction: str, truth: str, version: Version) -> float:
    """Return the F1 of two answers that are normalized already."""
    predicted, true = prediction.split(), truth.split()
    if version == "2.0" and not (predicted and true):
        return float(predicted == true)
    common = sum((Counter(predicted) & Counter(true)).values())
    if not common:
        return 0.0
    precision, recall = common / len(predicted), common / len(true)
    return 2 * precision * recall / (precision + recall)


def _mean(points: Sequence[tuple[float, float]]) -> tuple[float, float, int]:
    """Return the mean exact match and F1 in percent, and the number of questions."""
    total = len(points)
    return 100.0 * sum(exact for exact, _ in points) / total, 100.0 * sum(f1 for _, f1 in points) / total, total


def _mean_or_none(points: Sequence[tuple[float, float]]) -> tuple[float, float, int] | tuple[None, None, None]:
    return _mean(points) if points else (None, None, None)


def _like(ids: Iterable[str]) -> str:
    return next((f"like {id_!r}" for id_ in ids), "none")
