"""Every architecture beside transformers: how far logits differ, and what dropping saves.

usage: architectures.py [--layers 6] [--hidden 384] [--rounds 15] --output results/parity/architectures.md

Checkpoints of random weights (tests/support/random_checkpoints.py), all of one size, read the texts of examples/ in
windows of 384 tokens. Logits at `full` are held against those of transformers' model, in PyTorch. Seconds are medians
for a window alone, as ratios to BERT's of the same size, in rounds that take the models in turn. Let nothing else run
beside it.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import transformers
from benchmarks.speed.speed import describe_machine

from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.model import LengthConfig, share

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from support.random_checkpoints import KINDS, make  # noqa: E402

RETENTION = 0.75


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # of configurations that nobody measured
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    readers, windows, differences, spreads = {}, {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            path = make(kind, Path(folder) / kind, layers=args.layers, hidden=args.hidden)
            qa = QuestionAnswerer(path)
            readers[kind], windows[kind] = qa.reader, windows_of(qa)
            differences[kind], spreads[kind] = compare(qa, path, windows[kind])
            print(f"{kind}: {differences[kind]:.1e}", file=sys.stderr, flush=True)
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

    machine = describe_machine()
    part = share(readers["bert"].runtime.shape, dropping)
    lines = [
        "# Every architecture beside transformers",
        "",
        f"Random weights, {args.layers} layers, hidden size {args.hidden}, 4 heads; windows of 384 tokens of "
        "`examples/`, one at a time.",
        f"Dropping keeps {RETENTION:g} after each layer, a share of {part:.2f}. Times are medians of {args.rounds}, as "
        "ratios to BERT's at",
        f"`full`, which takes {times['bert', full] * 1000:.1f} ms.",
        "",
        f"    python {' '.join(sys.argv)}",
        "",
        f"{machine['cpu']}, {machine['cores']} cores; transformers {transformers.__version__}, torch "
        f"{torch.__version__}, onnxruntime {version('onnxruntime')}; "
        f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}; load before: {os.getloadavg()[0]:.1f}.",
        "",
        "| architecture | largest difference of logits at `full` | their deviation | `full` | dropping |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {kind} | {differences[kind]:.1e} | {spreads[kind]:.1f} | {times[kind, full] / times['bert', full]:.2f} "
            f"| {times[kind, dropping] / times['bert', full]:.2f} |"
            for kind in KINDS
        ),
    ]
    args.output.write_text("\n".join(lines) + "\n", "utf-8")


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
