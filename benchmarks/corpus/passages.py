"""Measure what the place of a passage in a ranked list is worth, beside the model's own confidence.

Each question of the held-out articles is asked of the passages that BM25 finds for it in all of SQuAD train. The model
predicts on all of them, at full; then the answer with the greatest log-odds wins, plus a weight times what the
retriever says: nothing, the BM25 score, or minus the logarithm of the place in the list, which any retriever gives. The
result is the F1 by each weight.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import common
from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.corpus import Corpus
from dynamic_tinybert.squad import paragraphs_of, read_squad
from dynamic_tinybert.squad.metrics import score_question

_PASSAGES = 20
_BM25 = (0.1, 0.15, 0.2, 0.25)
_PLACE = (0.3, 0.5, 0.7, 1.0, 1.3, 1.6, 2.0)
_LEAST = 1e-6  # of a confidence


class _Row(NamedTuple):
    """The passages of a question: BM25, the log-odds of the best answer, and its F1 in percent; `[passages]` each."""

    bm25: np.ndarray
    sure: np.ndarray
    f1: np.ndarray


def main() -> None:
    args = parse()
    say = common.Progress()
    data = read_squad(args.data)
    articles = paragraphs_of(data.questions)
    titles = common.held_out_titles(args.articles)
    held = [question for question in data.questions if question.title in titles]
    questions = random.Random(args.seed).sample(held, min(args.questions, len(held)))
    others = common.Others()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        qa = QuestionAnswerer(args.model, precision=args.precision)
        corpus = Corpus(Path(scratch, "index"), qa=qa)
        corpus.put_many((f"{t}/{i}", t, text) for t, texts in articles.items() for i, text in enumerate(texts))
        for number, question in enumerate(questions):
            hits = corpus.find(question.question, _PASSAGES)
            found = qa(question.question, [hit.passage.text for hit in hits]) if hits else []
            sure = [min(max(one.confidence or 0.0, _LEAST), 1 - _LEAST) for one in found]
            f1 = [100 * score_question(question, one.text, version="1.1")[1] for one in found]
            odds = [math.log(value / (1 - value)) for value in sure]
            rows.append(_Row(np.array([hit.score for hit in hits]), np.array(odds), np.array(f1)))
            say.count("questions", number + 1, len(questions))
    common.write_page(page(args, rows, others), args.output)


def parse() -> argparse.Namespace:
    parser = common.argument_parser(__doc__)
    common.add_data(parser, "train-v1.1.json.gz")
    parser.add_argument("--articles", choices=("select", "confirm"), default="select", help="[default: %(default)s]")
    parser.add_argument("--model", default="embedded", metavar="FOLDER", help="[default: %(default)s]")
    parser.add_argument("--precision", choices=("auto", "fp32", "int8"), default="int8", help="[default: %(default)s]")
    parser.add_argument("--output", type=Path, metavar="FILE", help="[default: standard output alone]")
    common.add_counts(parser, questions=(500, "questions"), seed=(3, "of the sample"))
    return parser.parse_args()


def page(args: argparse.Namespace, rows: Sequence[_Row], others: common.Others) -> str:
    alone = f1_of(rows, 0.0, by_place=False)
    lines = [("the model alone", f"{alone.mean():.2f}", "")]
    for name, weights, by_place in (("BM25", _BM25, False), ("logarithm of the place", _PLACE, True)):
        for weight in weights:
            found = f1_of(rows, weight, by_place=by_place)
            more = found - alone
            error = more.std(ddof=1) / math.sqrt(len(more))
            lines.append((f"{weight:g} x {name}", f"{found.mean():.2f}", f"{more.mean():+.2f} ± {error:.2f}"))
    return f"""{common.heading("onnxruntime", "tantivy", others=others)}

{len(rows)} questions of `{args.articles}`, {_PASSAGES} passages each.

{common.table(("log-odds of the answer, plus", "F1", "more, ± paired standard error"), lines)}
"""


def f1_of(rows: Sequence[_Row], weight: float, *, by_place: bool) -> np.ndarray:
    """Return the F1 of each question's winner, `[questions]`; 0 if it has no passage."""
    found = []
    for row in rows:
        prior = -np.log(1 + np.arange(len(row.sure))) if by_place else row.bm25
        found.append(row.f1[np.argmax(row.sure + weight * prior)] if len(row.sure) else 0.0)
    return np.array(found)


if __name__ == "__main__":
    main()
