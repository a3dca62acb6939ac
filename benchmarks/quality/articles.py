"""Ask SQuAD's questions of the whole article that their paragraph stands in, and compare how windows are ranked.

The text of an article is its paragraphs, with an empty line between them. For each length of windows, the best span of
each window is found once; what ranks the windows of a text against each other is then compared on the same logits:

  raw       start plus end logit
  null      that, less the window's own logit of no answer
  window    the log-probability of the span in its window, among its spans and "no answer"

The true paragraph alone is read too: it bounds what ranking can reach.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import common
from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.inference import Window
from dynamic_tinybert.inference.spans import span_logits, text_logits
from dynamic_tinybert.inference.stream import batches
from dynamic_tinybert.model import LengthConfig, parse_budget
from dynamic_tinybert.squad import Question, read_squad
from dynamic_tinybert.squad.metrics import score_question

_SEED = 0
_MAX_ANSWER_LEN = 30


class Best(NamedTuple):
    """The best span of a window: its raw logit, the window's logit of no answer, the log of all its spans' sum."""

    raw: float
    null: float
    total: float
    text: str


RANKINGS: Mapping[str, Callable[[Best], float]] = {
    "raw": lambda best: best.raw,
    "null": lambda best: best.raw - best.null,
    "window": lambda best: best.raw - float(np.logaddexp(best.total, best.null)),
}


def main() -> None:
    args = parse()
    say = common.Progress()
    data = read_squad(args.data)
    titles = common.held_out_titles(args.articles) if args.articles else None
    questions = [q for q in data.questions if titles is None or q.title in titles]
    texts = articles(data.questions)
    questions = random.Random(_SEED).sample(questions, min(args.questions, len(questions)))
    qa = QuestionAnswerer(args.model, precision=args.precision, threads=args.threads)
    budget = parse_budget(args.budget)
    config = qa.table.select(qa.shape, budget)
    found: dict[str, Any] = {
        "heading": common.heading("onnxruntime", "numpy"),
        "precision": qa.reader.runtime.precision, "configuration": config.name, "questions": len(questions),
        "articles": args.articles or "all", "windows": {},
    }  # fmt: skip
    records: dict[str, Any] = {}
    for name in ("paragraph", *args.windows):
        length, _, stride = name.partition("/")
        size = 384 if name == "paragraph" else int(length)
        overlap = int(stride or min(128, (size - 67) // 2))
        began, per_question = time.perf_counter(), []
        for number, question in enumerate(questions):
            text = question.context if name == "paragraph" else texts[question.title]
            per_question.append(best_of_windows(qa, question.question, text, config.config, size, overlap))
            say.count(name, number + 1, len(questions))
        seconds = (time.perf_counter() - began) / len(questions)
        found["windows"][name] = {
            "seconds": seconds,
            "count": statistics.mean(map(len, per_question)),
            "rankings": {rank: scores(questions, per_question, key) for rank, key in RANKINGS.items()},
        }
        records[name] = per_question
        write(args.output, found, records, questions)
    print(f"{args.output}: articles.json, articles.md", file=sys.stderr)


def parse() -> argparse.Namespace:
    parser = common.argument_parser(__doc__)
    common.add_data(parser, "train-v1.1.json.gz")
    common.add_articles(parser)
    parser.add_argument(
        "--windows", nargs="+", default=["384", "256", "192", "128"], metavar="TOKENS[/OVERLAP]",
        help="lengths of windows [default: %(default)s]",
    )  # fmt: skip
    common.add_budget(parser)
    parser.add_argument("--model", default="embedded", metavar="FOLDER", help="a model folder [default: %(default)s]")
    parser.add_argument(
        "--output", type=Path, default=Path("results/quality"), metavar="DIR", help="[default: %(default)s]"
    )
    common.add_counts(parser, threads=(common.cores(), "of a run"), questions=(300, "questions, drawn at random"))
    return parser.parse_args()


def articles(questions: Any) -> dict[str, str]:
    """Return the text of each article: its paragraphs in order."""
    paragraphs: dict[str, dict[str, None]] = {}
    for question in questions:
        paragraphs.setdefault(question.title, {})[question.context] = None
    return {title: "\n\n".join(ones) for title, ones in paragraphs.items()}


def best_of_windows(
    qa: QuestionAnswerer, question: str, text: str, config: LengthConfig, size: int, overlap: int
) -> list[Best]:
    """Return the best span of each window of a text."""
    lengths = {"max_seq_len": size, "doc_stride": overlap, "max_question_len": 64}
    windows: list[Window] = sorted(qa.reader.windows(question, text, **lengths), key=len)
    equal = qa.reader.runtime.precision == "int8"
    found = []
    for rows in batches([len(w) for w in windows], qa.reader.runtime.batch_tokens, equal=equal):
        batch = [windows[i] for i in rows]
        start, end, _ = qa.reader.predict(batch, [config] * len(batch))
        for row, window in enumerate(batch):
            spans = span_logits(
                *text_logits(window, start[row], end[row], align_to_words=True), _MAX_ANSWER_LEN
            ).astype(np.float64)
            first, extra = np.unravel_index(int(spans.argmax()), spans.shape)
            top = float(spans[first, extra])
            total = top + float(np.log(np.exp(spans - top).sum()))
            words = window.text
            answer = text[int(words.word_start[first]) : int(words.word_end[first + extra])]
            found.append(Best(top, float(start[row, 0] + end[row, 0]), total, answer))
    return found


def scores(questions: list[Question], found: list[list[Best]], key: Callable[[Best], float]) -> dict[str, float]:
    """Return exact match and F1, in percent, of the best window's span by a ranking."""
    points = [
        score_question(question, max(windows, key=key).text if windows else "", version="1.1")
        for question, windows in zip(questions, found, strict=True)
    ]
    exact, f1 = zip(*points, strict=True)
    return {"exact_match": 100 * statistics.mean(exact), "f1": 100 * statistics.mean(f1)}


def write(output: Path, found: Mapping[str, Any], records: Mapping[str, Any], questions: list[Question]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    (output / "articles.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    rows = [
        (name, f"{x['count']:.1f}", f"{x['seconds'] * 1e3:.0f}", *(f"{x['rankings'][r]['f1']:.2f}" for r in RANKINGS))
        for name, x in found["windows"].items()
    ]
    header = ("windows of tokens", "windows a question", "ms a question", *(f"F1, {name}" for name in RANKINGS))
    (output / "articles.md").write_text(
        f"# Questions of whole articles\n\n{found['heading']} {found['questions']} questions of "
        f"{found['articles']}, {found['configuration']}, "
        f"{found['precision']}.\n\n{common.table(header, rows)}\n",
        "utf-8",
    )


if __name__ == "__main__":
    main()
