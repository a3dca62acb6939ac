"""Measure INT8 beside float32, and beside what the usual tools make of the same weights, in one run.

  windows   windows of SQuAD questions at their own lengths, and windows of 384 tokens: our graph in both precisions, at
            several configurations; the graph that PyTorch exports, and the same after ONNX Runtime's dynamic
            quantization (INT8 weights per channel)
  answers   from question and text to the answer, in both precisions
  start     seconds from process start to the first answer, and peak memory for one question, in both precisions
  batches   how many times faster rows of one length are in one batch than alone, and whether the logits are the same

The systems take turns item by item. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks import common
from benchmarks.speed import startup, systems
from benchmarks.speed.speed import apply
from dynamic_tinybert import LengthConfig, QuestionAnswerer
from dynamic_tinybert.folder import ModelFolder, open_folder, save_folder
from dynamic_tinybert.model import Budget, ConfigTable, MeasuredConfig, Precision
from dynamic_tinybert.runtime import Runtime, multiplies_exactly
from dynamic_tinybert.squad import Question, read_squad

_SEED = 0
_PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
_BUDGETS: tuple[Budget, ...] = ("full", 0.8, 0.6, 0.5)
_EXPORTER = "default exporter"
_QUANTIZED = "exported, dynamic INT8"
_PEAK = (
    "from dynamic_tinybert import QuestionAnswerer; from benchmarks.common import peak_bytes; "
    "QuestionAnswerer({!r}, precision={!r}, threads={})({!r}, {!r}); print(peak_bytes())"
)


def main() -> None:
    args = parse()
    say = common.Progress()
    try:
        data = read_squad(args.data)
        folder = open_folder(args.model)
    except (OSError, ValueError) as error:
        raise SystemExit(f"int8.py: {error}") from None
    table = ConfigTable.read(folder.shape, folder.length_configs)
    choices = list({choice.name: choice for choice in (table.select(folder.shape, b) for b in _BUDGETS)}.values())
    questions = random.Random(_SEED).sample(data.questions, min(args.questions, len(data.questions)))
    others, machine = common.Others(), common.describe_machine()
    found: dict[str, Any] = {
        "command": common.command(),
        "date": common.now(),
        "machine": machine,
        "versions": common.versions("onnxruntime", "numpy", "torch", "transformers"),
        "threads": args.threads,
        "exact": multiplies_exactly(),
    }
    with tempfile.TemporaryDirectory() as scratch:
        runs = make_runs(folder, choices, Path(scratch), args.threads, say)
        windows = systems.windows_of(folder, questions)
        draw = np.random.default_rng(_SEED)
        ones = np.ones((1, systems.MAX_SEQ_LEN), np.int64)
        filled = [
            systems.Window(draw.integers(1000, folder.shape.vocabulary, ones.shape), ones, ones * 0)
            for _ in range(args.windows)
        ]
        found["real"] = medians(common.interleave("real windows", runs, windows, say))
        found["filled"] = medians(common.interleave("windows of 384", runs, filled, say))
        found["tokens"] = statistics.median(len(window.input_ids[0]) for window in windows)
    found["answers"] = answers(args, choices, questions, say)
    found["start"] = starts(args, say)
    found["batches"] = batches(folder, args, say)
    found["others_share"] = others.share()
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "int8.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    (args.output / "int8.md").write_text(markdown(found, choices), "utf-8")
    print(f"{args.output}: int8.json, int8.md", file=sys.stderr)


def parse() -> argparse.Namespace:
    parser = common.argument_parser(
        __doc__, epilog="A rehearsal: --windows 2 --questions 3 --repeats 1 --output /tmp/x"
    )
    common.add_data(parser)
    parser.add_argument(
        "--output", type=Path, default=Path("results/speed"), metavar="DIR", help="[default: %(default)s]"
    )
    parser.add_argument("--model", default="embedded", metavar="FOLDER", help="a model folder [default: %(default)s]")
    common.add_counts(
        parser,
        threads=(common.cores(), "of every system; by default all cores"),
        windows=(20, "windows of 384 tokens"),
        questions=(200, "questions"),
        repeats=(5, "fresh processes"),
    )
    return parser.parse_args()


def make_runs(
    folder: ModelFolder, choices: Sequence[MeasuredConfig], scratch: Path, threads: int, say: common.Progress
) -> dict[str, Callable[[systems.Window], object]]:
    """Return what runs a window, by name: ours at each configuration in both precisions, and the exported graphs."""
    say("export")
    exported = save_folder(folder, scratch / "model")
    runs: dict[str, Callable[[systems.Window], object]] = {
        "exported graph": systems.run_exported(exported, _EXPORTER, threads),
        _QUANTIZED: systems.run_quantized(exported, _EXPORTER, threads),
    }
    for precision in _PRECISIONS:
        runtime = Runtime(folder.shape, folder.stored_weights, precision=precision, threads=threads)
        for choice in choices:
            runs[f"{choice.name}, {precision}"] = systems.run_ours(runtime, choice.config)
    return runs


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in seconds.items()}


def answers(
    args: argparse.Namespace, choices: Sequence[MeasuredConfig], questions: Sequence[Question], say: common.Progress
) -> dict[str, float]:
    pairs = [(question.question, question.context) for question in questions]
    asks = {}
    for precision in _PRECISIONS:
        qa = QuestionAnswerer(args.model, precision=precision, threads=args.threads)
        for choice in choices:
            asks[f"{choice.name}, {precision}"] = partial(apply, systems.ask_ours(qa, choice.config))
    return medians(common.interleave("answers", asks, pairs, say))


def starts(args: argparse.Namespace, say: common.Progress) -> dict[str, Any]:
    """Measure process start to first answer in seconds, and peak memory for one question in bytes, by precision."""
    say("start, and memory")
    found: dict[str, Any] = {}
    command = ["-m", "dynamic_tinybert", "ask", startup.QUESTION, "--context", startup.TEXT, "--model", args.model]
    for precision in _PRECISIONS:
        environment = {**os.environ, "DYNAMIC_TINYBERT_PRECISION": precision}
        startup.first_line(command, environment=environment)
        seconds = [startup.first_line(command, environment=environment) for _ in range(args.repeats)]
        code = _PEAK.format(args.model, precision, args.threads, startup.QUESTION, startup.TEXT)
        peak = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        found[precision] = {"seconds": statistics.median(seconds), "peak_bytes": int(peak)}
    return found


def batches(folder: ModelFolder, args: argparse.Namespace, say: common.Progress) -> list[dict[str, Any]]:
    """Compare batches of rows of one length with each row alone, in INT8: seconds, and the largest difference."""
    say("batches of one length")
    runtime = Runtime(folder.shape, folder.stored_weights, precision="int8", threads=args.threads)
    draw, found = np.random.default_rng(_SEED), []
    for tokens in (32, 96, 160, 384):
        for rows in (4, 8):
            ids = draw.integers(1000, folder.shape.vocabulary, (rows, tokens))
            lengths = LengthConfig.uniform(folder.shape.layers, 0.8).lengths([tokens] * rows)
            batch = (ids, np.zeros_like(ids), np.ones_like(ids), lengths)

            def together(given: tuple[np.ndarray, ...]) -> Any:
                return runtime.run(*given)

            def alone(given: tuple[np.ndarray, ...]) -> Any:
                return [runtime.run(*(x[i : i + 1] for x in given)) for i in range(len(given[0]))]

            one, each = together(batch), alone(batch)
            worst = max(float(np.abs(one.start[i] - each[i].start[0]).max()) for i in range(rows))
            runs = cast("dict[str, Callable[[Any], object]]", {"together": together, "alone": alone})
            took = medians(common.interleave(f"{rows} of {tokens}", runs, [batch] * 9, say))
            found.append({"tokens": tokens, "rows": rows, "difference": worst, **took})
    return found


def markdown(found: Mapping[str, Any], choices: Sequence[MeasuredConfig]) -> str:
    machine = found["machine"]
    lines = [
        "# INT8 beside float32\n",
        f"`{found['command']}`\n",
        f"{found['date'][:10]}, {machine['cpu']}, {machine['cores']} cores, {' '.join(machine['cpu_flags'])}; "
        f"ONNX Runtime {found['versions']['onnxruntime']}, {found['threads']} threads for every system. Products of "
        f"8-bit integers are {'exact' if found['exact'] else 'not exact'} here. Other processes took "
        f"{found['others_share']:.1%} of the processor. Medians.\n",
    ]
    for key, title in (
        ("real", f"Windows of questions at their own lengths (median {found['tokens']:.0f} tokens)"),
        ("filled", "Windows of 384 tokens"),
        ("answers", "From question and text to the answer"),
    ):
        took = found[key]
        rows = [
            (
                choice.name,
                f"{choice.share:.3f}",
                *(f"{took[f'{choice.name}, {p}'] * 1e3:.1f}" for p in _PRECISIONS),
                f"{took[f'{choice.name}, fp32'] / took[f'{choice.name}, int8']:.2f}",
            )
            for choice in choices
        ]
        if _QUANTIZED in took:
            plain, quantized = took["exported graph"], took[_QUANTIZED]
            ours = took["full, int8"]
            rows.append(
                (
                    "exported; dynamic INT8",
                    "",
                    f"{plain * 1e3:.1f}",
                    f"{quantized * 1e3:.1f}",
                    f"{plain / quantized:.2f}",
                )
            )
            after = f"\n\n`full` in INT8 is {quantized / ours:.2f} times as fast as the exported graph in dynamic INT8."
        else:
            after = ""
        table = common.table(("", "share", "fp32, ms", "int8, ms", "times as fast"), rows)
        lines.append(f"## {title}\n\n{table}{after}\n")
    start = found["start"]
    rows = [(p, f"{start[p]['seconds']:.2f} s", f"{start[p]['peak_bytes'] / 1e6:.0f} MB") for p in _PRECISIONS]
    table = common.table(("", "process start to first answer", "peak memory, one question"), rows)
    lines.append(f"## Start and memory\n\n{table}\n")
    rows = [
        (str(b["rows"]), str(b["tokens"]), f"{b['alone'] / b['together']:.2f}", f"{b['difference']:g}")
        for b in found["batches"]
    ]
    table = common.table(("rows", "tokens", "times as fast as alone", "largest difference of logits"), rows)
    lines.append(f"## Rows of one length in one batch, INT8\n\n{table}\n")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
