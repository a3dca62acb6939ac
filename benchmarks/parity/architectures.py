"""Every architecture beside transformers: how far logits differ, and what dropping saves.

usage: python -m benchmarks.parity.architectures [--layers 6] [--rounds 15] [--output results/parity/architectures.md]

Checkpoints of random weights (tests/support/random_checkpoints.py), all of one size, read the texts of examples/ in
windows of 384 tokens. Logits at `full` are held against those of transformers' model, in PyTorch. Seconds are medians
for a window alone, as ratios to BERT's of the same size, in rounds that take the models in turn. Let nothing else run
beside it.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks.common import ROOT, Progress, argument_parser, heading, table, write_page
from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.model import LengthConfig, share

sys.path.insert(0, str(ROOT / "tests"))
from support.random_checkpoints import KINDS, make

RETENTION = 0.75


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, metavar="FILE", help="the page, beside standard output")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # of configurations that nobody measured
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    say = Progress()
    readers, windows, differences, spreads = {}, {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            path = make(kind, Path(folder) / kind, layers=args.layers, hidden=args.hidden)
            qa = QuestionAnswerer(path)
            readers[kind], windows[kind] = qa.reader, windows_of(qa)
            differences[kind], spreads[kind] = compare(qa, path, windows[kind])
            say(f"{kind}: {differences[kind]:.1e}")
    full, dropping = LengthConfig.full(args.layers), LengthConfig.uniform(args.layers, RETENTION)
    seconds: dict[tuple[str, LengthConfig], list[float]] = {}
    for number in range(args.rounds + 1):
        for kind, reader in readers.items():
            window = windows[kind][number % len(windows[kind])]
            for config in (full, dropping):
                begin = time.perf_counter()
                reader.predict([window], [config])
                if number:  # the first warms up
                    seconds.setdefault((kind, config), []).append(time.perf_counter() - begin)
    times = {key: median(values) for key, values in seconds.items()}

    part = share(readers["bert"].runtime.shape, dropping)
    bert = times["bert", full]
    rows = [
        (
            kind, f"{differences[kind]:.1e}", f"{spreads[kind]:.1f}", f"{times[kind, full] / bert:.2f}",
            f"{times[kind, dropping] / bert:.2f}",
        )
        for kind in KINDS
    ]  # fmt: skip
    parts = [
        "# Every architecture beside transformers",
        f"Random weights, {args.layers} layers, hidden size {args.hidden}, 4 heads; windows of 384 tokens of "
        f"`examples/`, one at a time. Dropping keeps {RETENTION:g} after each layer, a share of {part:.2f}. Times are "
        f"medians of {args.rounds}, as ratios to BERT's at `full`, which takes {bert * 1000:.1f} ms.",
        heading("transformers", "torch", "onnxruntime"),
        table(
            ("architecture", "largest difference of logits at `full`", "their deviation", "`full`", "dropping"), rows
        ),
    ]
    write_page("\n\n".join(parts) + "\n", args.output)


def windows_of(qa: QuestionAnswerer) -> list[Any]:
    """Filled windows of the example texts."""
    found: list[Any] = []
    for text in sorted((ROOT / "examples").glob("*.txt")):
        found += qa.reader.windows(
            "Who designed it, and when?", text.read_text("utf-8"), max_seq_len=384, doc_stride=128, max_question_len=64
        )
    return [window for window in found if len(window) == 384][:8]


def compare(qa: QuestionAnswerer, path: Path, windows: list[Any]) -> tuple[float, float]:
    """The largest difference of logits to transformers' model, and the deviation of its logits."""
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(path, dtype=torch.float32).eval()
    inputs = {"input_ids": [window.ids for window in windows], "attention_mask": [np.ones(384, int)] * len(windows)}
    if qa.shape.typed:
        inputs["token_type_ids"] = [window.type_ids for window in windows]
    with torch.no_grad():
        theirs = model(**{name: torch.from_numpy(np.stack(rows)) for name, rows in inputs.items()})
    ours = qa.reader.predict(windows, [LengthConfig.full(qa.shape.layers)] * len(windows))
    wanted = np.stack([theirs.start_logits.numpy(), theirs.end_logits.numpy()])
    return float(np.abs(np.stack(ours[:2]) - wanted).max()), float(wanted.std())


if __name__ == "__main__":
    main()
