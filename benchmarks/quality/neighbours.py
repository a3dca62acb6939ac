"""Check that a window's logits do not depend on its neighbours in a batch, on many random batches, in both precisions.

The windows are those of SQuAD questions, at random length configurations. In fp32 a batch has windows of any lengths,
padded to the longest, each at a configuration of its own. In INT8 it has windows of one length at one configuration, as
this package batches them. Each window is run alone, too. The batches are drawn in chunks, each with a seed of its own,
so that processes share them and their number changes no batch.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from dynamic_tinybert import LengthConfig
from dynamic_tinybert.folder import open_folder
from dynamic_tinybert.inference import Reader, TextTokenizer, Window
from dynamic_tinybert.model import Precision
from dynamic_tinybert.runtime import Runtime
from dynamic_tinybert.squad import Question, read_squad

_SEED = 0
_MOST_ROWS = 6
_CHUNK = 250


def main() -> None:
    args = parse()
    say = common.Progress()
    try:
        data = read_squad(args.data)
        open_folder(args.model)
    except (OSError, ValueError) as error:
        raise SystemExit(f"neighbours.py: {error}") from None
    questions = random.Random(_SEED).sample(data.questions, min(args.questions, len(data.questions)))
    found: dict[str, Any] = {
        "heading": common.heading("onnxruntime", "numpy"), "threads": args.threads, "precisions": {},
    }  # fmt: skip
    chunks = [min(_CHUNK, args.batches - done) for done in range(0, args.batches, _CHUNK)]
    both: tuple[Precision, ...] = ("fp32", "int8")
    for precision in both:
        begin = (args.model, precision, args.threads, questions)
        with ProcessPoolExecutor(args.processes, initializer=open_reader, initargs=begin) as pool:
            parts = []
            for part in pool.map(compare, repeat(precision), chunks, range(len(chunks))):
                parts.append(part)
                say.count(precision, sum(x["batches"] for x in parts), args.batches)
        found["precisions"][precision] = {
            name: (max if name == "worst" else sum)(part[name] for part in parts) for name in parts[0]
        }
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "neighbours.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    (args.output / "neighbours.md").write_text(markdown(found), "utf-8")
    print(f"{args.output}: neighbours.json, neighbours.md", file=sys.stderr)


def parse() -> argparse.Namespace:
    parser = common.argument_parser(__doc__)
    common.add_data(parser)
    parser.add_argument(
        "--output", type=Path, default=Path("results/quality"), metavar="DIR", help="[default: %(default)s]"
    )
    parser.add_argument("--model", default="embedded", metavar="FOLDER", help="a model folder [default: %(default)s]")
    common.add_counts(
        parser,
        threads=(1, "of a run"),
        processes=(1, "processes that share the batches"),
        batches=(10_000, "random batches in each precision"),
        questions=(3000, "questions whose windows are drawn from"),
    )
    return parser.parse_args()


_opened: dict[str, Any] = {}


def open_reader(model: str, precision: Precision, threads: int, questions: list[Question]) -> None:
    """Open the model in this process, and cut the windows of `questions`."""
    folder = open_folder(model)
    reader = Reader(
        TextTokenizer(folder.path), Runtime(folder.shape, folder.stored_weights, precision=precision, threads=threads)
    )
    windows = [
        window
        for question in questions
        for window in reader.windows(
            question.question, question.context, max_seq_len=384, doc_stride=128, max_question_len=64
        )
    ]
    _opened.update(reader=reader, windows=windows)


def compare(precision: Precision, batches: int, seed: int) -> dict[str, Any]:
    """Run random batches and each of their windows alone."""
    draw = random.Random(seed)
    reader: Reader = _opened["reader"]
    windows: list[Window] = _opened["windows"]
    layers = reader.runtime.shape.layers
    by_length = defaultdict(list)
    for window in windows:
        by_length[len(window)].append(window)
    lengths = [length for length, ones in by_length.items() if len(ones) > 1]
    worst, rows, changed, equal = 0.0, 0, 0, 0
    for _ in range(batches):
        count = draw.randint(2, _MOST_ROWS)
        if precision == "int8":
            batch = draw.choices(by_length[draw.choice(lengths)], k=count)
            configs = [random_config(layers, draw)] * count
        else:
            batch = draw.sample(windows, count)
            configs = [random_config(layers, draw) for _ in range(count)]
        together = reader.predict(batch, configs)
        for row, (window, config) in enumerate(zip(batch, configs, strict=True)):
            alone = reader.predict([window], [config])
            size, rows = len(window), rows + 1
            if (alone.layers_passed[0] != together.layers_passed[row, :size]).any():
                changed += 1
                continue
            pairs = [(alone.start, together.start), (alone.end, together.end)]
            difference = max(float(np.abs(a[0] - b[row, :size]).max()) for a, b in pairs)
            if not np.isfinite(difference):
                raise SystemExit(f"neighbours.py: a logit of {window} at {config} is no number")
            worst, equal = max(worst, difference), equal + (difference == 0)
    return {"batches": batches, "rows": rows, "worst": worst, "exactly_equal": equal, "other_tokens": changed}


def random_config(layers: int, draw: random.Random) -> LengthConfig:
    """Draw a length configuration; every fifth is full."""
    if draw.random() < 1 / 5:
        return LengthConfig.full(layers)
    fractions, last = [], 1.0
    for _ in range(layers):
        last *= draw.uniform(0.5, 1)
        fractions.append(last)
    return LengthConfig(tuple(fractions))


def markdown(found: dict[str, Any]) -> str:
    rows = [
        (
            name, f"{x['batches']:,}", f"{x['rows']:,}", f"{x['worst']:.2g}", f"{x['exactly_equal']:,}",
            f"{x['other_tokens']:,}",
        )
        for name, x in found["precisions"].items()
    ]  # fmt: skip
    header = ("", "batches", "windows", "largest difference of logits", "exactly equal", "other tokens kept (ties)")
    return (
        f"# Alone and among others\n\n{found['heading']} Threads: {found['threads']}.\n\n{common.table(header, rows)}\n"
    )


if __name__ == "__main__":
    main()
