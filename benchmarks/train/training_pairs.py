"""How fast training is against another version of this package: windows a second, in pairs, with each allocator.

usage: python -m benchmarks.train.training_pairs --before PYTHON --output results/train/speed.md

PYTHON is an interpreter of an environment that has the other version, with its `train` extra. Both take the same steps:
32 windows of 160 tokens, a tenth of them padded, random weights, AdamW, gradients clipped; at full, and at a
configuration that keeps 0.85 of the tokens layer by layer (of MPNet, at full alone). A pair is two processes, one after
the other, so that other work on the machine slows both. The arithmetic limit is what the matrix products of a step at
full take alone, at the speed of a product of the size of the first of the feed-forward network. Without `--dropout`
there is none, as for students of stored logits.

Memory: `plain` is the C library's own way, `kept` our `keep_freed_memory`, `hugetlb` GLIBC_TUNABLES for large pages,
`jemalloc` that library with large pages, where it is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.common import Progress, argument_parser, heading, table, write_page

BATCH, TOKENS, PADDED = 32, 160, 16
SHAPES = {
    "hidden 384": {"num_hidden_layers": 6, "hidden_size": 384, "intermediate_size": 1536},
    "TinyBERT6L": {"num_hidden_layers": 6, "hidden_size": 768, "intermediate_size": 3072},
    "MPNet": {"num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 3072},
}
MEMORY = ("plain", "kept", "hugetlb", "jemalloc")
JEMALLOC = "thp:always,metadata_thp:always,dirty_decay_ms:-1,muzzy_decay_ms:-1,narenas:1"


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--before", help="interpreter that has the version to compare with")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--precisions", nargs="+", choices=("auto", "fp32"), default=["auto"])
    parser.add_argument("--dropout", type=float, default=0.0, help="of states and of attention; students have none")
    parser.add_argument("--memory", nargs="+", choices=MEMORY, default=list(MEMORY))
    parser.add_argument("--rounds", type=int, default=2, help="pairs of processes")
    parser.add_argument("--steps", type=int, default=4, help="steps of a process that are timed, after one that is not")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(work(**json.loads(args.worker))))
        return
    if not args.before or not args.output:
        parser.error("give --before and --output")
    rows, say = [], Progress()
    for shape in args.shapes:
        for precision in args.precisions:
            told = {"shape": shape, "precision": precision, "steps": args.steps, "dropout": args.dropout}
            limit = run(sys.executable, "plain", step="limit", **told)
            for step in ("full",) if shape == "MPNet" else ("full", "dropping"):
                for memory in args.memory:
                    if environment(memory) is not None:
                        speeds = pair(args.before, memory, told | {"step": step}, args.rounds)
                        rows.append([shape, step, precision, memory, *speeds])
                        rows[-1].append(limit if step == "full" else None)
                        say("  ".join(map(str, rows[-1])))
    write_page(report(rows), args.output)


def pair(before: str, memory: str, told: dict[str, Any], rounds: int) -> tuple[float, float]:
    """The median speeds of the other version, which keeps no memory by itself, and of this one."""
    theirs, ours = [], []
    for _ in range(rounds):
        theirs.append(run(before, "plain" if memory == "kept" else memory, **told))
        ours.append(run(sys.executable, memory, **told))
    return statistics.median(theirs), statistics.median(ours)


def environment(memory: str) -> dict[str, str] | None:
    """What a process is told of memory; None if this machine does not have it."""
    if memory == "hugetlb":
        return {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    if memory == "jemalloc":
        found = sorted(glob.glob("/usr/lib/*/libjemalloc.so.2"))
        return {"LD_PRELOAD": found[0], "MALLOC_CONF": JEMALLOC} if found else None
    return {}


def run(python: str, memory: str, **told: Any) -> float:
    """The speed that a process of its own finds."""
    told["keep"] = memory == "kept"
    command = [python, "-m", "benchmarks.train.training_pairs", "--worker", json.dumps(told)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, **(environment(memory) or {})}
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


def work(shape: str, step: str, precision: str, steps: int, dropout: float, keep: bool) -> float:
    """Windows a second of one kind of step, the median; in the process that measures."""
    import torch

    arithmetic: Any = None
    with contextlib.suppress(ImportError):  # older versions lack it, or parts of it
        arithmetic = importlib.import_module("dynamic_tinybert.train.arithmetic")
    if keep:
        arithmetic.keep_freed_memory()
    bf16 = precision == "auto" and torch.cpu._is_avx512_bf16_supported()
    if step == "limit":
        return limit(shape, bf16, steps)
    torch.manual_seed(0)
    model, fed, options = make(shape, step, dropout)
    called = model
    if hasattr(arithmetic, "speed_up_dropout"):
        arithmetic.speed_up_dropout(model)
    if hasattr(arithmetic, "InBfloat16"):
        model.eager = bf16
        called = arithmetic.InBfloat16(model) if bf16 else model
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5, fused=True)
    speeds = []
    for _ in range(steps + 1):
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss(called(**fed, **options), fed).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        speeds.append(BATCH / (time.perf_counter() - begin))
    return statistics.median(speeds[1:])


def make(shape: str, step: str, dropout: float) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """A model in training mode, what it is called with, and how."""
    import torch
    import transformers

    sizes = {**SHAPES[shape], "num_attention_heads": 12, "hidden_dropout_prob": dropout}
    sizes["attention_probs_dropout_prob"] = dropout
    ids = torch.randint(1000, 30000, (BATCH, TOKENS))
    mask = torch.ones_like(ids)
    mask[::10, TOKENS - PADDED :] = 0
    fed = {"input_ids": ids, "attention_mask": mask}
    if shape == "MPNet":
        import dynamic_tinybert.train.model as ours

        kind = getattr(ours, "DynamicMPNetForQuestionAnswering", transformers.MPNetForQuestionAnswering)
        return kind(transformers.MPNetConfig(**sizes)).train(), fed, {}
    from dynamic_tinybert.train.model import DynamicBertForQuestionAnswering

    config = transformers.BertConfig(**sizes)
    config.dynamic_tinybert = {"voters": "question"}
    fed["token_type_ids"] = (torch.arange(TOKENS) > 15).long().expand_as(ids)
    lengths = [0.85 ** (layer + 1) for layer in range(6)]
    options = {"length_config": lengths, "output_votes": True} if step == "dropping" else {}
    return DynamicBertForQuestionAnswering(config).train(), fed, options


def loss(output: Any, fed: dict[str, Any]) -> Any:
    """The loss of a span in the middle, and what votes learn where there are any."""
    import torch

    from dynamic_tinybert.train.losses import significance_loss, span_loss

    spans = torch.full((BATCH, 1, 2), TOKENS // 2)
    found = span_loss(output.start_logits, output.end_logits, fed["attention_mask"], spans)
    votes = getattr(output, "votes", None)
    return found if votes is None else found + 0.5 * significance_loss(votes, spans)


def limit(shape: str, bf16: bool, steps: int) -> float:
    """Windows a second if a step at full were its matrix products alone, at the speed of one of them."""
    import torch

    layers, hidden, inner = SHAPES[shape].values()
    x, w = torch.randn(BATCH * TOKENS, hidden), torch.randn(hidden, inner)
    if bf16:
        x, w = x.bfloat16(), w.bfloat16()
    times = []
    for _ in range(4 * steps + 1):
        begin = time.perf_counter()
        torch.mm(x, w)
        times.append(time.perf_counter() - begin)
    speed = BATCH * TOKENS * hidden * inner / min(times[1:])  # multiply-accumulates a second
    window = TOKENS * layers * (4 * hidden**2 + 2 * hidden * inner + 2 * hidden * TOKENS)
    return speed / (3 * window)


def report(rows: list[list[Any]]) -> str:
    import torch

    plain = {tuple(row[:3]): row[4] for row in rows if row[3] == "plain"}
    cells = []
    for shape, step, precision, memory, before, now, most in rows:
        base = plain.get((shape, step, precision))
        against, end = "" if base is None else f"{now / base:.2f}", "" if most is None else f"{most:.1f}"
        cells.append(
            (shape, step, precision, memory, f"{before:.1f}", f"{now:.1f}", f"{now / before:.2f}", against, end)
        )
    header = ("model", "step", "precision", "memory", "before", "now", "ratio", "now / before plain", "limit")
    parts = [
        "# Training speed, against the version before",
        f"{heading('torch')} {torch.get_num_threads()} threads. Windows a second, medians; {BATCH} windows of {TOKENS} "
        "tokens. `limit` is what the matrix products alone would take.",
        table(header, cells, left=4),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
