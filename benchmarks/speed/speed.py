"""Measure the speed of this package, side by side with what else one could use, in one run.

Three things are measured on the CPU, one window or question at a time:

  filled    windows of 384 real tokens: BERT-base, TinyBERT6L and DistilBERT shapes in PyTorch; our weights, exported
            from PyTorch by its two exporters, in ONNX Runtime; our runtime at each configuration of the model's table
  real      questions of SQuAD, each at its own length, from question and text to the answer: transformers in PyTorch
            with BERT-base and DistilBERT shapes; this package at each configuration; with peak memory
  start-up  seconds to import and to the first answer, peak memory for one question, disk space

The systems take turns item by item, in an order drawn anew for each item, so that a machine that slows down or speeds
up does so for all alike. All have the same number of threads. Leave the machine alone meanwhile: PyTorch's threads wait
for each other by spinning, and get several times slower than the others when anything else runs. How much of the
processor other processes took is written down.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import common
from benchmarks.speed import report, startup, systems
from benchmarks.speed.report import Measurement, Report
from dynamic_tinybert import LengthConfig, QuestionAnswerer
from dynamic_tinybert.folder import ModelFolder, open_folder, save_folder
from dynamic_tinybert.inference import TextTokenizer, cut_windows
from dynamic_tinybert.model import BERT_BASE, ConfigTable, MeasuredConfig, macs, share
from dynamic_tinybert.runtime import Runtime
from dynamic_tinybert.squad import Question, read_squad

_SEED = 0
_MEMORY_QUESTIONS = 20
_AGREEMENT = 1e-3  # logits of systems that run the same weights
_HALF = 0.5
_SIX_LAYERS = replace(BERT_BASE, layers=6)
_PYTORCH = {"BERT-base": BERT_BASE, "TinyBERT6L": _SIX_LAYERS, "DistilBERT": _SIX_LAYERS}
_VERSIONS = ("torch", "transformers", "onnxruntime", "numpy", "tokenizers")


def main() -> None:
    args = parse()
    say = common.Progress()
    try:
        data = read_squad(args.data)
        f1 = read_f1(args.f1) if args.f1 else {}
        folder = open_folder(args.model)
        table = ConfigTable.read(folder.shape, folder.length_configs)
        args.output.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise SystemExit(f"speed.py: {error}") from None
    others, machine, installed = common.Others(), common.describe_machine(), startup.installed_bytes()
    questions = random.Random(_SEED).sample(data.questions, min(args.questions, len(data.questions)))

    with tempfile.TemporaryDirectory() as scratch:
        exported = save_folder(folder, Path(scratch, "model"))
        say("start-up, and memory for one question")
        seconds = startup.measure_seconds(args.model, args.repeats)
        memory = one_question_memory(table.select(folder.shape, "full").name, args)
        real = measure_real(folder, exported, questions, args, f1, say)
        filled, difference = measure_filled(folder, exported, args, say)
    result = Report(
        command=common.command(),
        date=common.now(),
        machine=machine,
        versions=common.versions(*_VERSIONS),
        others_share=others.share(),
        threads=args.threads,
        model=folder.name,
        measured_on=table.measured_on,
        filled=filled,
        logits_difference=difference,
        real=real,
        real_tokens=statistics.mean(window_lengths(folder, questions)),
        startup_seconds=seconds,
        startup_peak_bytes=memory,
        installed_bytes=installed,
    )
    (args.output / "speed.json").write_text(json.dumps(asdict(result), indent=1) + "\n", "utf-8")
    (args.output / "speed.md").write_text(report.markdown(result), "utf-8")
    report.draw(result, args.output / "speed.png")
    print(f"{args.output}: speed.json, speed.md, speed.png", file=sys.stderr)


def read_f1(path: Path) -> dict[str, float]:
    """Read the F1 of configurations; whatever else is in the file is left alone."""
    rows = json.loads(path.read_text("utf-8"))
    if not isinstance(rows, dict):
        raise ValueError(f"{path} is not a JSON object")
    return {name: float(row["f1"]) for name, row in rows.items() if isinstance(row, dict) and "f1" in row}


def parse() -> argparse.Namespace:
    parser = common.argument_parser(
        __doc__,
        epilog="Writes speed.json (raw figures), speed.md (tables, and the targets beside them) and speed.png to the "
        "output folder.\nA rehearsal of a minute: --windows 2 --questions 3 --repeats 1 --output /tmp/rehearsal",
    )
    common.add_data(parser)
    parser.add_argument(
        "--f1", type=Path, metavar="FILE", help='F1 on dev: {configuration: {"exact_match": ..., "f1": ...}}, JSON'
    )
    parser.add_argument(
        "--output", type=Path, default=Path("results/speed"), metavar="DIR", help="[default: %(default)s]"
    )
    parser.add_argument("--model", metavar="FOLDER", help="a model folder [default: the embedded model]")
    common.add_counts(
        parser,
        threads=(common.cores(), "of every system; by default all cores"),
        windows=(30, "filled windows"),
        questions=(300, "real questions"),
        repeats=(5, "fresh processes"),
    )
    return parser.parse_args()


# Filled windows.


def measure_filled(
    folder: ModelFolder, exported: Path, args: argparse.Namespace, say: common.Progress
) -> tuple[list[Measurement], float]:
    """Measure windows of 384 real tokens; return also how far the graphs differ from each other in the logits."""
    shape, tokens = folder.shape, systems.MAX_SEQ_LEN
    runs: dict[str, systems.RunWindow] = {}
    about: dict[str, Measurement] = {}
    for name, bert in _PYTORCH.items():
        promised = macs(BERT_BASE, tokens) / macs(bert, tokens)
        about[name] = Measurement(name=f"{name}, PyTorch", kind="pytorch", promised=promised)
        runs[name] = systems.run_pytorch(systems.pytorch_model(name, args.threads))
    promised = macs(BERT_BASE, tokens) / macs(shape, tokens)
    for name in systems.EXPORTED:
        about[name] = Measurement(name=f"exported graph ({name})", kind="exported", promised=promised)
        say(f"export, {name}")
        runs[name] = systems.run_exported(exported, name, args.threads)
    runtimes = {p: Runtime(shape, folder.weights, precision=p, threads=args.threads) for p in ("fp32", "int8")}
    table = ConfigTable.read(shape, folder.length_configs)
    for choice in (*table.choices, uniform_half(folder)):
        promised = macs(BERT_BASE, tokens) / macs(shape, tokens, choice.config)
        for precision in ("fp32", "int8") if choice.share == 1 else ("fp32",):
            name = choice.name if precision == "fp32" else f"{choice.name}, {precision}"
            about[name] = Measurement(
                name=name, kind="ours", precision=precision, share=choice.share, promised=promised
            )
            runs[name] = systems.run_ours(runtimes[precision], choice.config)

    random_ids = np.random.default_rng(_SEED).integers(1000, shape.vocabulary, (args.windows, 1, tokens))
    ones = np.ones((1, tokens), np.int64)
    items = [systems.Window(ids, ones, ones * 0) for ids in random_ids]
    difference = disagreement([runs[name] for name in (*systems.EXPORTED, table.select(shape, "full").name)], items[0])
    seconds = common.interleave("filled windows", runs, items, say)
    return [replace(about[name], seconds=seconds[name]) for name in runs], difference


def disagreement(runs: Sequence[systems.RunWindow], window: systems.Window) -> float:
    """Return the largest difference in the logits from the first of them: those compared must do the same work."""
    logits = [np.stack(run(window)) for run in runs]
    difference = max(float(np.abs(x - logits[0]).max()) for x in logits)
    if difference > _AGREEMENT:
        raise SystemExit(f"the exported graphs and ours do not compute the same: logits differ by {difference:.2g}")
    return difference


def uniform_half(folder: ModelFolder) -> MeasuredConfig:
    """Return the uniform configuration of the greatest share that is at most 0.5."""
    layers, low, high = folder.shape.layers, 0.01, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        if share(folder.shape, LengthConfig.uniform(layers, middle)) <= _HALF:
            low = middle
        else:
            high = middle
    config = LengthConfig.uniform(layers, low)
    return MeasuredConfig(name=report.UNIFORM_HALF, config=config, share=share(folder.shape, config))


# Real questions.


def measure_real(
    folder: ModelFolder,
    exported: Path,
    questions: Sequence[Question],
    args: argparse.Namespace,
    f1: Mapping[str, float],
    say: common.Progress,
) -> list[Measurement]:
    lengths = window_lengths(folder, questions)
    pairs = [(x.question, x.context) for x in questions]
    longest = sorted(pairs, key=lambda pair: -sum(map(len, pair)))[:_MEMORY_QUESTIONS]
    qa = QuestionAnswerer(args.model, threads=args.threads)
    asks: dict[str, systems.Ask] = {}
    about: dict[str, Measurement] = {}
    for name in ("BERT-base", "DistilBERT"):
        say(f"memory, {name}")
        peak = peak_bytes(name, longest, args, exported)
        promised = macs(BERT_BASE, lengths) / macs(_PYTORCH[name], lengths)
        about[name] = Measurement(name=f"{name}, PyTorch", kind="pytorch", promised=promised, peak_bytes=peak)
        asks[name] = systems.ask_pytorch(name, exported, args.threads)
    for choice in qa.table.choices:
        name = choice.name
        say(f"memory, {name}")
        about[name] = Measurement(
            name=name,
            kind="ours",
            share=choice.share,
            promised=macs(BERT_BASE, lengths) / macs(folder.shape, lengths, choice.config),
            peak_bytes=peak_bytes(name, longest, args),
            f1=f1.get(name),
        )
        asks[name] = systems.ask_ours(qa, choice.config)
    runs = {name: partial(apply, ask) for name, ask in asks.items()}
    seconds = common.interleave("real questions", runs, pairs, say)
    return [replace(about[name], seconds=seconds[name]) for name in runs]


def window_lengths(folder: ModelFolder, questions: Sequence[Question]) -> list[int]:
    """Return the tokens of all windows of these questions."""
    tokenizer = TextTokenizer(folder.path)
    return [
        len(window)
        for x in questions
        for window in cut_windows(
            tokenizer,
            tokenizer.question(x.question),
            tokenizer.text(x.context),
            max_seq_len=systems.MAX_SEQ_LEN,
            doc_stride=systems.DOC_STRIDE,
        )
    ]


def peak_bytes(
    system: str, pairs: Sequence[tuple[str, str]], args: argparse.Namespace, tokenizer: Path | None = None
) -> int:
    """Measure the peak memory of a system in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.speed.peak", system, "--threads", str(args.threads)]
    command += ["--model", args.model] if args.model else []
    command += ["--tokenizer", str(tokenizer)] if tokenizer else []
    done = subprocess.run(command, input=json.dumps(pairs), stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout)


def one_question_memory(full: str, args: argparse.Namespace) -> dict[str, list[int]]:
    pair = (startup.QUESTION, startup.TEXT)
    kinds = {"Python": full, "command": "command"}
    return {name: [peak_bytes(system, [pair], args) for _ in range(args.repeats)] for name, system in kinds.items()}


# Measuring.


def apply(ask: systems.Ask, pair: tuple[str, str]) -> str:
    return ask(*pair)


if __name__ == "__main__":
    main()
