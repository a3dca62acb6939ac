"""How good and how fast answering from a corpus is.

    python -m benchmarks.corpus.corpus choose --output results/corpus/corpus-choice.md
    python -m benchmarks.corpus.corpus open --output results/corpus/corpus-squad
    python -m benchmarks.corpus.corpus time --output results/corpus/corpus-time.md
    python -m benchmarks.corpus.corpus scale --output results/corpus/corpus-scale.md

The corpus is SQuAD 1.1: the 2,067 paragraphs of dev and the 18,896 of train, a passage each. `choose` compares ways of
ranking and of spending on questions of the held-out `select` articles; `open` reports on dev what was chosen, `time`
how long it takes; `scale` repeats the paragraphs with changed words until there are a million.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import fmean as mean
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmarks import common
from dynamic_tinybert import Answer, Budget, QuestionAnswerer
from dynamic_tinybert.corpus import Corpus, CorpusAnswer
from dynamic_tinybert.corpus import answering as knobs
from dynamic_tinybert.folder import EMBEDDED, open_folder
from dynamic_tinybert.model import MeasuredConfig
from dynamic_tinybert.search import fingerprint, pareto_front
from dynamic_tinybert.squad import Question, read_squad, score_question

PASSAGE_SIZE = 10_000  # a paragraph of SQuAD is one passage
COARSE: tuple[Budget, ...] = (0.6, 0.55, 0.5, 0.45, 0.4)  # what `choose` reads first with, beside `full`
BUDGETS: tuple[Budget, ...] = ("full", "balanced", "fast")
DEPTHS = (1, 3, 4, 5, 10, 20)
SEED = 1


class Scored(NamedTuple):
    """Exact match and F1 of one answer, in [0, 1]."""

    exact: float
    f1: float


def main() -> None:
    parser = common.argument_parser(__doc__)
    parser.add_argument("what", choices=["choose", "open", "time", "scale"])
    common.add_data(parser, "")
    parser.add_argument("--work", type=Path, default=Path(".work/corpus"), metavar="FOLDER", help="for indexes")
    parser.add_argument(
        "--questions", type=int, metavar="N", help="[default: choose 400, open 2000, time 150, scale 200]"
    )
    parser.add_argument("--fewer", type=int, default=500, metavar="N", help="of open: in ways that only compare")
    parser.add_argument("--articles", choices=["select", "confirm"], default="select", help="of choose")
    parser.add_argument("--model", metavar="FOLDER", help="a model folder; not for scale [default: the embedded model]")
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000], help="of scale, passages")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    args.data = Path(args.data)
    args.work.mkdir(parents=True, exist_ok=True)
    if args.what == "scale":
        from benchmarks.corpus.scale import scale

        scale(args)
    else:
        {"choose": choose, "open": measure_open, "time": measure_time}[args.what](args)


# The corpus


def paragraphs(data: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the paragraphs of dev and train: name, title, text."""
    for part in ("dev", "train"):
        for article in common.read_articles(data / f"{part}-v1.1.json.gz"):
            title = article["title"]
            for number, paragraph in enumerate(article["paragraphs"]):
                yield f"{part}/{title}/{number}", title.replace("_", " "), paragraph["context"]


def squad_corpus(args: argparse.Namespace) -> Corpus:
    """Return the corpus of all paragraphs, made if it is not there."""
    corpus = Corpus(args.work / "squad", passage_size=PASSAGE_SIZE)
    if not (args.work / "squad").exists():
        corpus.put_many(paragraphs(args.data))
    assert corpus.counts().passages == 20_963
    return corpus


def held_out(data: Path, count: int, articles: str = "select") -> list[Question]:
    """Return so many questions of held-out articles, the same ones always."""
    questions = read_squad(data / "train-v1.1.json.gz", titles=common.held_out_titles(articles)).questions
    return random.Random(SEED).sample(questions, count)


def score(question: Question, text: str) -> Scored:
    return Scored(*score_question(question, text, version="1.1"))


# Choosing


def choose(args: argparse.Namespace) -> None:
    corpus, qa = squad_corpus(args), QuestionAnswerer(args.model, threads=1)
    questions = held_out(args.data, args.questions or 400, args.articles)
    full, *coarse, usual = (qa.table.select(qa.shape, budget) for budget in ("full", *COARSE, knobs._COARSE))
    choices = {choice.name: choice for choice in (full, *coarse, usual)}
    what = fingerprint(open_folder(args.model or EMBEDDED)) + repr([choice.config for choice in choices.values()])
    kept = args.work / f"choose-{hashlib.sha256(what.encode()).hexdigest()[:12]}-{args.articles}-{len(questions)}.json"
    if kept.exists():
        rows = json.loads(kept.read_text())
    else:
        reading = partial(readings, corpus, qa, choices)
        rows, say = [], common.Progress()
        with ThreadPoolExecutor(common.cores()) as pool:
            for row in pool.map(reading, questions):
                rows.append(row)
                say.count("questions", len(rows), len(questions))
        kept.write_text(json.dumps(rows))
    common.write_page(choice_report(rows, args.articles, list(choices), usual.name), args.output)


def readings(
    corpus: Corpus, qa: QuestionAnswerer, choices: dict[str, MeasuredConfig], question: Question
) -> dict[str, Any]:
    """Return what retrieval and readings at all configurations say of a question's 20 passages."""
    hits = corpus.find(question.question, 20)
    texts = [hit.passage.text for hit in hits]
    row: dict[str, Any] = {"bm25": [hit.score for hit in hits]}
    for name, choice in choices.items():
        answers = qa(question.question, texts, budget=choice.config)
        row[name] = [
            [log_odds(a.confidence or 0), a.logit, *score(question, a.text), a.spent.macs / 1e9] for a in answers
        ]
    return row


def log_odds(confidence: float) -> float:
    sure = min(max(confidence, 1e-9), 1 - 1e-9)
    return math.log(sure / (1 - sure))


def ranked(row: dict[str, Any], name: str, weight: float, k: int) -> list[tuple[float, int]]:
    values = [row[name][i][0] + weight * row["bm25"][i] for i in range(min(k, len(row[name])))]
    return sorted(((value, i) for i, value in enumerate(values)), reverse=True)


def coarse_to_fine(
    rows: Sequence[dict[str, Any]], coarse: str, fine: str, *, weight: float, k: int, again: int, most: float = math.inf
) -> tuple[float, float, float, float]:
    """Return EM, F1, passages read, and 10^9 multiply-accumulates a question."""
    exact, f1, read, macs = [], [], [], []
    for row in rows:
        done = 0
        order: list[tuple[float, int]] = []
        while done < min(k, len(row["bm25"])):
            done = min(done + (knobs._CHUNK if done else 1), k, len(row["bm25"]))
            order = ranked(row, coarse, weight, done)
            if done < len(row["bm25"]) and order[0][0] > most + weight * row["bm25"][done]:
                break
        spent = sum(row[coarse][i][4] for i in range(done))
        best = order[0][1] if order else None
        if again and order:
            chosen = [i for _, i in order[:again]]
            spent += sum(row[fine][i][4] for i in chosen)
            best = max(chosen, key=lambda i: (row[fine][i][0] + row[coarse][i][0]) / 2 + weight * row["bm25"][i])
        exact.append(row[fine if again else coarse][best][2] if best is not None else 0.0)
        f1.append(row[fine if again else coarse][best][3] if best is not None else 0.0)
        read.append(done)
        macs.append(spent)
    return 100 * mean(exact), 100 * mean(f1), mean(read), mean(macs)


def choice_report(rows: Sequence[dict[str, Any]], articles: str, names: Sequence[str], usual: str) -> str:
    """Return the page of `choose`: rankings, the front of plans, and plans with the coarse configuration in use."""
    by_weight = []
    for k in (1, 3, 5, 10, 20):
        cells = [coarse_to_fine(rows, "full", "full", weight=w, k=k, again=0)[1] for w in WEIGHTS]
        by_weight.append((str(k), *(f"{cell:.2f}" for cell in cells)))
    found: list[tuple[Any, ...]] = []
    choices = itertools.product(names[1:], (0, 1, 2, 3), (10, 20), (math.inf, 2, 1, 0.5, 0), (0.15, 0.2, 0.25))
    for coarse, again, k, most, weight in choices:
        figures = coarse_to_fine(rows, coarse, "full", weight=weight, k=k, again=again, most=most)
        found.append((coarse, again, k, most, weight, *figures))
    found += [
        ("full", 0, k, math.inf, 0.2, *coarse_to_fine(rows, "full", "full", weight=0.2, k=k, again=0)) for k in DEPTHS
    ]
    chosen = [r for r in found if (r[0] == usual and r[2] == 20 and r[4] == 0.2) or r[0] == "full"]
    log_odds_seen = sorted(max(r[0] for r in row[usual]) for row in rows if row[usual])
    seen = ", ".join(f"{p}% below {np.percentile(log_odds_seen, p):.2f}" for p in (50, 90, 99, 99.9))
    parts = [
        common.heading(),
        f"{len(rows):,} questions of the `{articles}` articles, over 20,963 passages.",
        common.table(("passages read at full, F1 at weight of BM25", *map(str, WEIGHTS)), by_weight),
        choice_table(front(found)),
        "Of these, what was looked at more closely, front or not:",
        choice_table(chosen),
        f"The highest log-odds of a question's coarse readings: {seen}.",
    ]
    return "\n\n".join(parts) + "\n"


def choice_table(found: Iterable[tuple[Any, ...]]) -> str:
    header = ("coarse", "again at full", "passages", "stops at log-odds", "weight", "EM", "F1", "read", "10^9 MACs")
    return common.table(
        header,
        [
            (*map(str, what), f"{exact:.1f}", f"{f1:.2f}", f"{read:.1f}", f"{macs:.1f}")
            for *what, exact, f1, read, macs in found
        ],
    )


WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)


def front(found: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return what nothing beats in F1 at the same or fewer multiply-accumulates, the cheapest first."""
    return [found[i] for i in pareto_front([(row[-1], row[-3]) for row in found])]


# Reporting


def ways_of(corpus: Corpus, qa: QuestionAnswerer) -> dict[str, Callable[[Question], Any]]:
    """Return the ways of answering that are compared, the first six of them at our budgets."""
    ways: dict[str, Callable[[Question], Any]] = {}
    for budget in BUDGETS:
        ways[f"corpus, `{budget}`"] = partial(ask_corpus, corpus, budget=budget)
    for budget in BUDGETS:
        ways[f"true paragraph, `{budget}`"] = partial(ask_paragraph, qa, budget=budget)
    for depth in DEPTHS:
        ways[f"corpus, {depth} at full"] = partial(all_at_full, corpus, qa, depth)
    return ways


def measure_open(args: argparse.Namespace) -> None:
    """Recall for all dev questions; EM and F1 of a fixed sample, at three budgets and in other ways of reading."""
    squad_corpus(args)
    qa, say = QuestionAnswerer(args.model, threads=1), common.Progress()
    corpus = Corpus(args.work / "squad", qa=qa)
    everything = read_squad(args.data / "dev-v1.1.json.gz").questions
    questions = random.Random(SEED).sample(everything, args.questions or 2000)
    some = questions[: args.fewer]
    lines = ["## Retrieval", "", recall(corpus, everything), ""]
    lines += [f"## Answers to {len(questions):,} questions of dev (sample of seed {SEED})", ""]
    lines += [f"Those marked * are of the first {len(some):,} alone.", ""]
    rows: list[tuple[str, ...]] = []
    figures: dict[str, list[Scored]] = {}
    predictions: dict[str, dict[str, str]] = {}
    for number, (name, way) in enumerate(ways_of(corpus, qa).items()):
        asked = questions if number < 2 * len(BUDGETS) else some
        with ThreadPoolExecutor(common.cores()) as pool:
            answers = list(pool.map(way, asked))
        say(f"{name}: {len(asked)} questions")
        figures[name] = [score(question, answer.text) for question, answer in zip(asked, answers, strict=True)]
        predictions[name] = {question.id: answer.text for question, answer in zip(asked, answers, strict=True)}
        exact, f1 = (interval([getattr(s, what) for s in figures[name]]) for what in ("exact", "f1"))
        read, again, macs = (mean([spending(answer)[i] for answer in answers]) for i in range(3))
        label = name if asked is questions else f"{name} *"
        rows.append((label, exact, f1, f"{read:.1f}", f"{again:.1f}", f"{macs / 1e9:.1f}"))
        if name == "corpus, `full`":
            lines_of_confidence = confidence_report([a.confidence or 0.0 for a in answers], figures[name])
    lines += [
        common.table(("", "EM", "F1", "passages read", "again", "10^9 MACs"), rows),
        "",
        lines_of_confidence,
        "",
        "Differences on the same questions, of F1:",
        "",
    ]
    for one, other in [(f"corpus, `{budget}`", f"corpus, {depth} at full") for budget in BUDGETS for depth in DEPTHS]:
        gap = [a.f1 - b.f1 for a, b in zip(figures[one], figures[other], strict=False)]
        lines += [f"- {one} less {other}: {interval(gap)}"]
    common.write_page("\n".join([common.heading(), "", *lines]) + "\n", args.output.with_suffix(".md"))
    common.write_gzip(args.output.with_suffix(".json.gz"), predictions)


def spending(answer: Any) -> tuple[float, float, float]:
    """Return the passages read, those read again, and the multiply-accumulates."""
    spent = answer.spent
    return 1 if isinstance(answer, Answer) else spent.read, spent.read_again, spent.macs


def confidence_report(confidences: Sequence[float], scores: Sequence[Scored]) -> str:
    brier = mean([(c - s.exact) ** 2 for c, s in zip(confidences, scores, strict=True)])
    return (
        f"Confidence of `full` in the corpus: mean {mean(confidences):.3f}, exact match "
        f"{mean([s.exact for s in scores]):.3f}, Brier score {brier:.3f}."
    )


def measure_time(args: argparse.Namespace) -> None:
    """Time the same ways, and answers in bounded time, question by question in turns."""
    others = common.Others()
    squad_corpus(args)
    qa = QuestionAnswerer(args.model)
    corpus = Corpus(args.work / "squad", qa=qa)
    everything = read_squad(args.data / "dev-v1.1.json.gz").questions
    questions = random.Random(SEED).sample(everything, args.questions or 150)
    ways = ways_of(corpus, qa)
    for latency in (25, 50, 100, 200):
        ways[f"corpus, `full`, max_latency_ms={latency}"] = partial(ask_corpus, corpus, max_latency_ms=latency)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    read: dict[str, list[float]] = {name: [] for name in ways}
    order = list(ways)
    for number, question in enumerate(questions):
        random.Random(number).shuffle(order)  # what slows the machine down slows all alike
        for name in order:
            began = time.perf_counter()
            answer = ways[name](question)
            seconds[name].append(time.perf_counter() - began)
            read[name].append(spending(answer)[0])
    lines = [f"{len(questions)} questions of dev, one at a time, {common.cores()} threads, the ways in turns.", ""]
    rows = []
    ours = median(seconds["corpus, `full`"])
    for name in ways:
        middle, most = median(seconds[name]), float(np.percentile(seconds[name], 95))
        times = f"{middle * 1000:.1f} ms", f"{most * 1000:.1f} ms", f"{middle / ours:.2f}"
        rows.append((name, *times, f"{mean(read[name]):.1f}"))
    lines.append(common.table(("", "median", "95th percentile", "of `full`'s median", "passages read"), rows))
    common.write_page("\n".join([common.heading(others=others), "", *lines]) + "\n", args.output)


def ask_corpus(corpus: Corpus, question: Question, **options: Any) -> CorpusAnswer:
    answer = corpus(question.question, **options)
    assert isinstance(answer, CorpusAnswer)
    return answer


def ask_paragraph(qa: QuestionAnswerer, question: Question, budget: Budget) -> Answer:
    return qa(question.question, question.context, budget=budget)


def all_at_full(corpus: Corpus, qa: QuestionAnswerer, depth: int, question: Question) -> CorpusAnswer:
    """The usual way: so many passages, each read at full, ranked as ours are."""
    plan = knobs.Plan(
        fine=qa.table.select(qa.shape, "full"),
        coarse=qa.table.select(qa.shape, "full"),
        passages=depth,
        answers=1,
        stops=False,
        chunk=depth,
    )
    return knobs.Asking(corpus.index, qa, knobs.Pace(), plan)(question.question)[0]


def recall(corpus: Corpus, questions: Sequence[Question]) -> str:
    ranks, seconds = [], []
    for question in questions:
        began = time.perf_counter()
        hits = corpus.find(question.question, 50)
        seconds.append(time.perf_counter() - began)
        ranks.append(next((i for i, hit in enumerate(hits) if hit.passage.text == question.context), 50))
    found = {k: 100 * mean([float(rank < k) for rank in ranks]) for k in (1, 5, 20, 50)}
    cells = ", ".join(f"{value:.2f}% at {k}" for k, value in found.items())
    return (
        f"{len(questions):,} questions of dev, 20,963 passages: the true paragraph is among the first: {cells}. "
        f"A search for 50 takes {median(seconds) * 1000:.2f} ms (median)."
    )


def interval(values: Sequence[float]) -> str:
    """Return the mean in percent, with its 95% interval by bootstrap."""
    array = np.array(values) * 100
    draws = np.random.default_rng(SEED).integers(0, len(array), (2000, len(array)))
    low, high = np.percentile(array[draws].mean(axis=1), [2.5, 97.5])
    return f"{array.mean():.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
