"""Ask the questions of our own suite: 20 texts as people paste them, 200 questions, answers by hand.

The texts and questions in `suite/` were written and committed before any model read them. It is a report: nothing is
chosen on it. An answer is right

  strictly   if it is one of the accepted spans, by SQuAD's normalization (case, articles and punctuation do not count)
  leniently  if it contains an accepted span and at most five words more, or has an F1 of two thirds with one
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import common
from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.model import parse_budget
from dynamic_tinybert.squad.metrics import exact_match, f1_score, normalize_answer

SUITE = Path(__file__).parent / "suite"
_MORE = 5  # words
_SHARED = 2 / 3


class Asked(NamedTuple):
    """A question of the suite."""

    kind: str
    text: str
    question: str
    answers: list[str]


def read_suite(folder: Path = SUITE) -> list[Asked]:
    """Read the questions of the suite, in the order of its files."""
    asked: list[Asked] = []
    for file in sorted(folder.glob("*.json")):
        text = file.with_suffix(".txt").read_text("utf-8")
        rows = json.loads(file.read_text("utf-8"))
        asked.extend(Asked(file.stem.partition("-")[2], text, row["question"], row["answers"]) for row in rows)
    return asked


def strict(answer: str, accepted: list[str]) -> bool:
    return any(exact_match(answer, one) for one in accepted)


def lenient(answer: str, accepted: list[str]) -> bool:
    words = normalize_answer(answer).split()
    for one in accepted:
        wanted = normalize_answer(one).split()
        inside = any(words[i : i + len(wanted)] == wanted for i in range(len(words)))
        if (wanted and inside and len(words) <= len(wanted) + _MORE) or f1_score(answer, one) >= _SHARED:
            return True
    return False


def main() -> None:
    args = parse()
    qa = QuestionAnswerer(args.model, precision=args.precision, threads=args.threads)
    suite = read_suite()
    rows: list[dict[str, Any]] = []
    for asked in suite:
        answer = qa(asked.question, asked.text, budget=parse_budget(args.budget))
        rows.append(
            {
                "kind": asked.kind, "question": asked.question, "accepted": asked.answers, "answer": answer.text,
                "confidence": answer.confidence, "strict": strict(answer.text, asked.answers),
                "lenient": lenient(answer.text, asked.answers),
            }
        )  # fmt: skip
    found = {
        "heading": common.heading("onnxruntime", "numpy"),
        "precision": qa.reader.runtime.precision,
        "budget": args.budget,
        "answers": rows,
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    table = [
        (kind, len(of), sum(row["strict"] for row in of), sum(row["lenient"] for row in of))
        for kind in dict.fromkeys(row["kind"] for row in rows)
        if (of := [row for row in rows if row["kind"] == kind])
    ]
    table.append(("all", *(sum(column) for column in zip(*(row[1:] for row in table), strict=True))))
    print(common.table(("text", "questions", "strict", "lenient"), [tuple(map(str, row)) for row in table]))
    print(args.output, file=sys.stderr)


def parse() -> argparse.Namespace:
    parser = common.argument_parser(__doc__)
    common.add_budget(parser)
    parser.add_argument("--model", default="embedded", metavar="FOLDER", help="a model folder [default: %(default)s]")
    parser.add_argument(
        "--output", type=Path, default=Path("results/quality/suite.json"), metavar="FILE",
        help="[default: %(default)s]",
    )  # fmt: skip
    common.add_counts(parser, threads=(common.cores(), "of a run"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
