"""Every architecture beside transformers: how far logits differ, and what dropping saves.

usage: python -m benchmarks.parity.architectures [--layers 6] [--rounds 9] [--output results/parity/architectures.md]

Checkpoints of random weights (tests/support/random_checkpoints.py) read the texts of examples/ in windows of 384
tokens: all architectures in one size, then the encoders of published models in their own shapes, beside BERT-base.
Logits at `full` are held against those of transformers' model, in PyTorch. Seconds are medians for a window alone, as
ratios to BERT's, in rounds that take the models in turn. Let nothing else run beside it.
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

from benchmarks.common import ROOT, Others, Progress, argument_parser, heading, table, write_page
from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.model import LengthConfig, share

sys.path.insert(0, str(ROOT / "tests"))
from support.random_checkpoints import KINDS, make, make_model, make_tokenizer, randomize

RETENTION = 0.75
_BASE = {
    "num_hidden_layers": 12,
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {  # as their config.json says, but for the vocabulary
    "BERT-base": ("bert", _BASE),
    "DeBERTa-v3-base": ("deberta-v2", {**_BASE, "position_buckets": 256}),
    "ModernBERT-base": (
        "modernbert",
        {
            **_BASE,
            "num_hidden_layers": 22,
            "intermediate_size": 1152,
            "local_attention": 128,
            "layer_types": ["sliding_attention" if i % 3 else "full_attention" for i in range(22)],
        },
    ),
    "MobileBERT": (
        "mobilebert",
        {
            "num_hidden_layers": 24,
            "hidden_size": 512,
            "num_attention_heads": 4,
            "intermediate_size": 512,
            "embedding_size": 128,
            "intra_bottleneck_size": 128,
            "true_hidden_size": 128,
        },
    ),
}


class Models:
    """Models that are timed in turn.

    Attributes:
        rows: What is known of each: its name, the largest difference of logits, their deviation, the share of dropping.
        bert: Seconds of the first model at full.
    """

    def __init__(self, say: Progress) -> None:
        self._say = say
        self._readers: dict[str, tuple[Any, list[Any], list[LengthConfig]]] = {}
        self.rows: dict[str, tuple[float, float, float]] = {}
        self.bert = 0.0

    def add(self, name: str, path: Path) -> None:
        """Open a model, and hold it against transformers."""
        qa = QuestionAnswerer(path, precision="fp32")
        layers = qa.shape.layers
        dropping = LengthConfig.uniform(layers, RETENTION ** (6 / layers))
        windows = windows_of(qa)
        self._readers[name] = qa.reader, windows, [LengthConfig.full(layers), dropping]
        self.rows[name] = (*compare(qa, path, windows), share(qa.shape, dropping))
        self._say(f"{name}: {self.rows[name][0]:.1e}")

    def table(self, rounds: int) -> str:
        """Time the models, and return the table."""
        seconds: dict[tuple[str, int], list[float]] = {}
        for number in range(rounds + 1):
            for name, (reader, windows, configs) in self._readers.items():
                window = windows[number % len(windows)]
                for place, config in enumerate(configs):
                    begin = time.perf_counter()
                    reader.predict([window], [config])
                    if number:  # the first warms up
                        seconds.setdefault((name, place), []).append(time.perf_counter() - begin)
        times = {key: median(values) for key, values in seconds.items()}
        self.bert = times[next(iter(self.rows)), 0]
        rows = []
        for name, (difference, spread, part) in self.rows.items():
            full, dropped = times[name, 0], times[name, 1]
            ratios = (full / self.bert, dropped / self.bert, part, dropped / full)
            rows.append((name, f"{difference:.1e}", f"{spread:.1f}", *(f"{ratio:.2f}" for ratio in ratios)))
        return table(
            (
                "model",
                "largest difference of logits at `full`",
                "their deviation",
                "`full` / BERT",
                "dropping / BERT",
                "share of dropping",
                "dropping / `full`",
            ),
            rows,
        )


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path, metavar="FILE", help="the page, beside standard output")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # of configurations that nobody measured
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    say = Progress()
    others = Others()
    small, whole = Models(say), Models(say)
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            small.add(kind, make(kind, Path(folder) / kind, layers=args.layers, hidden=args.hidden))
        of_one_size = small.table(args.rounds)
        for name, (kind, settings) in PUBLISHED.items():
            whole.add(name, published(kind, settings, Path(folder) / name))
    of_published = whole.table(args.rounds)
    parts = [
        "# Every architecture beside transformers",
        "Random weights; windows of 384 tokens of `examples/`, one at a time, in float32. Dropping keeps "
        f"{RETENTION:g} after each of 6 layers; a model of more layers keeps as much in the end. Times are medians of "
        f"{args.rounds} rounds that take the models in turn. Shares are of multiply-accumulates.",
        heading("transformers", "torch", "onnxruntime", others=others),
        f"{args.layers} layers, hidden size {args.hidden}, 4 heads; BERT at `full` takes {small.bert * 1000:.1f} ms:",
        of_one_size,
        "The encoders of published models, with the vocabulary of the examples (it costs nothing per token); BERT-base "
        f"at `full` takes {whole.bert * 1000:.1f} ms:",
        of_published,
    ]
    write_page("\n\n".join(parts) + "\n", args.output)


def published(kind: str, settings: dict[str, Any], folder: Path) -> Path:
    """Write a checkpoint of a published model's shape and random weights."""
    tokenizer = make_tokenizer(kind)
    config = make_model(kind, len(tokenizer), layers=1, hidden=16).config
    config = type(config)(**{**config.to_dict(), **settings})
    model = transformers.AutoModelForQuestionAnswering.from_config(config)
    randomize(model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def windows_of(qa: QuestionAnswerer) -> list[Any]:
    """Filled windows of the example texts."""
    found: list[Any] = []
    for text in sorted((ROOT / "examples").glob("*.txt")):
        found += qa.reader.windows(
            "Who designed it, and when?", text.read_text("utf-8"), max_seq_len=384, doc_stride=128, max_question_len=64
        )
    return [window for window in found if len(window) == 384][:4]


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
