"""Compare answers with the rules of `inference/tidy.py` and without them, on the same logits, by configuration.

Writes a table in Markdown: F1 of SQuAD's questions without and with the rules, the paired standard error of the
difference, and how many answers the rules changed.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks import common
from dynamic_tinybert import LengthConfig, QuestionAnswerer
from dynamic_tinybert.inference import SpanRanker, Window
from dynamic_tinybert.squad import Question, read_squad, score_question

Predicted = tuple[Window, npt.NDArray[np.float32], npt.NDArray[np.float32]]


class WithoutRules(SpanRanker):
    """Rank spans as the package does, aligned to words, but without the rules."""

    def __init__(self, text: str, *, top_k: int, max_answer_len: int) -> None:
        super().__init__(text, top_k=top_k, max_answer_len=max_answer_len)
        self._tidy = False


def main() -> None:
    args = parse()
    say = common.Progress()
    try:
        questions = read_squad(args.data, limit=args.limit).questions
    except (OSError, ValueError) as error:
        raise SystemExit(f"spans.py: {error}") from None
    qa = QuestionAnswerer(args.model, precision=args.precision, threads=args.threads)
    rows = []
    for choice in qa.table.choices:
        if args.only and choice.name not in args.only:
            continue
        found: dict[type[SpanRanker], list[tuple[str, float]]] = defaultdict(list)
        for question, windows in zip(questions, predicted(qa, questions, choice.config), strict=True):
            for kind in (WithoutRules, SpanRanker):
                text = best(kind(question.context, top_k=1, max_answer_len=30), question.context, windows)
                found[kind].append((text, 100 * score_question(question, text, version="1.1")[1]))
        pairs = list(zip(found[WithoutRules], found[SpanRanker], strict=True))
        spread = common.standard_error([after[1] - before[1] for before, after in pairs])
        rows.append(
            (
                choice.name,
                *(f"{statistics.fmean(f1 for _, f1 in found[kind]):.3f}" for kind in (WithoutRules, SpanRanker)),
                common.number(spread, decimals=4),
                str(sum(before[0] != after[0] for before, after in pairs)),
            )
        )
        say(" ".join(rows[-1]))
    header = ("configuration", "F1 without", "F1 with", "standard error of the difference", "answers changed")
    about = f"{common.heading('onnxruntime', 'numpy')} {len(questions):,} questions, {qa.reader.runtime.precision}."
    common.write_page(f"{about}\n\n{common.table(header, rows)}\n", args.output)


def parse() -> argparse.Namespace:
    parser = common.argument_parser(__doc__)
    common.add_data(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N questions")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these configurations")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "int8"), help="[default: %(default)s]")
    parser.add_argument("--model", default="embedded", metavar="FOLDER", help="a model folder [default: %(default)s]")
    parser.add_argument("--output", type=Path, metavar="FILE", help="[default: standard output alone]")
    common.add_counts(parser, threads=(common.cores(), "of a run"))
    return parser.parse_args()


def predicted(qa: QuestionAnswerer, questions: Sequence[Question], config: LengthConfig) -> Iterator[list[Predicted]]:
    """Yield the windows of each question with their start and end logits."""
    for question in questions:
        windows = list(
            qa.reader.windows(question.question, question.context, max_seq_len=384, doc_stride=128, max_question_len=64)
        )
        logits = [qa.reader.predict([window], [config]) for window in windows]
        yield [(window, x.start[0], x.end[0]) for window, x in zip(windows, logits, strict=True)]


def best(ranking: SpanRanker, text: str, windows: Sequence[Predicted]) -> str:
    for window in windows:
        ranking.add(*window)
    return next((text[span.start : span.end] for span in ranking.ranked()), "")


if __name__ == "__main__":
    main()
