"""Measure the speed of this package, side by side with what else one could use, in one run.

Three things are measured on the CPU, one window or question at a time:

  filled    windows of 384 real tokens: BERT-base, TinyBERT6L and DistilBERT shapes in PyTorch; our weights, exported
            from PyTorch by its two exporters, in ONNX Runtime, and in OpenVINO where it is installed; the same in
            INT8, as their users make it; our runtime at each configuration of the model's table, in both precisions
  real      questions of SQuAD, each at its own length, from question and text to the answer: transformers in PyTorch
            with BERT-base and DistilBERT shapes; this package at each configuration, in both precisions; with peak
            memory
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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks import common
from benchmarks.speed import report, startup, systems
from benchmarks.speed.report import Measurement, Report
from dynamic_tinybert import LengthConfig, QuestionAnswerer
from dynamic_tinybert.folder import EMBEDDED, ModelFolder, open_folder, save_folder
from dynamic_tinybert.model import BERT_BASE, ConfigTable, MeasuredConfig, Precision, macs, share
from dynamic_tinybert.runtime import Runtime
from dynamic_tinybert.squad import Question, read_squad
from dynamic_tinybert.train.arithmetic import cpu_has_bf16

_SEED = 0
_MEMORY_QUESTIONS = 20
_AGREEMENT = 1e-3  # logits of systems that run the same weights
_HALF = 0.5
_SIX_LAYERS = replace(BERT_BASE, layers=6)
_PYTORCH = {"BERT-base": BERT_BASE, "TinyBERT6L": _SIX_LAYERS, "DistilBERT": _SIX_LAYERS}
_PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
_QUANTIZED = "default exporter"  # of whose graph users make one in INT8
_SAMPLES = 100  # windows from which OpenVINO's scales are learned
_VERSIONS = ("torch", "transformers", "onnxruntime", "numpy", "tokenizers")
_OPTIONAL = ("openvino", "nncf")


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
        windows = systems.windows_of(folder, questions)
        lengths = [window.input_ids.size for window in windows]
        real = measure_real(folder, questions, lengths, args, f1, say)
        filled, difference = measure_filled(folder, exported, windows[:_SAMPLES], args, say)
    result = Report(
        command=common.command(),
        date=common.now(),
        machine=machine,
        versions=common.versions(*_VERSIONS, *(name for name in _OPTIONAL if find_spec(name))),
        others_share=others.share(),
        threads=args.threads,
        model=folder.name,
        measured_on=table.measured_on,
        filled=filled,
        logits_difference=difference,
        real=real,
        real_tokens=statistics.mean(lengths),
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
        "--f1",
        type=Path,
        metavar="FILE",
        help='F1 on dev: {configuration: {"exact_match": ..., "f1": ...}}, JSON; of the precision of the table',
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
    folder: ModelFolder,
    exported: Path,
    samples: Sequence[systems.Window],
    args: argparse.Namespace,
    say: common.Progress,
) -> tuple[list[Measurement], float]:
    """Measure windows of 384 real tokens; return also how far the graphs differ from each other in the logits."""
    shape, tokens = folder.shape, systems.MAX_SEQ_LEN
    known = min(shape.vocabulary, BERT_BASE.vocabulary)  # an MPNet has 5 tokens more than BERT
    random_ids = np.random.default_rng(_SEED).integers(1000, known, (args.windows, 1, tokens))
    ones = np.ones((1, tokens), np.int64)
    items = [systems.Window(ids, ones, ones * 0) for ids in random_ids]
    found = [*filled_pytorch(args), *filled_graphs(folder, exported, samples, args, say), *filled_ours(folder, args)]
    runs = {x.name: run for x, run in found}
    alike = [run for x, run in found if x.precision == "fp32" and (x.kind == "exported" or x.name == "full")]
    difference = disagreement(alike, items[0])
    seconds = common.interleave("filled windows", runs, items, say)
    return [replace(x, seconds=seconds[x.name]) for x, _ in found], difference


def filled_pytorch(args: argparse.Namespace) -> Iterator[tuple[Measurement, systems.RunWindow]]:
    for name, shape in _PYTORCH.items():
        for precision in pytorch_precisions():
            model = systems.pytorch_model(name, args.threads, bfloat16=precision == "bf16")
            promised = macs(BERT_BASE, systems.MAX_SEQ_LEN) / macs(shape, systems.MAX_SEQ_LEN)
            yield pytorch(name, precision, promised), systems.run_pytorch(model)


def pytorch_precisions() -> tuple[str, ...]:
    """Return the precisions in which PyTorch's users run a model on this processor."""
    return ("fp32", "bf16") if cpu_has_bf16() else ("fp32",)


def pytorch(shape: str, precision: str, promised: float) -> Measurement:
    name = f"{shape}, PyTorch" + (", bfloat16" if precision == "bf16" else "")
    return Measurement(name=name, kind="pytorch", precision=precision, promised=promised)


def filled_graphs(
    folder: ModelFolder,
    exported: Path,
    samples: Sequence[systems.Window],
    args: argparse.Namespace,
    say: common.Progress,
) -> Iterator[tuple[Measurement, systems.RunWindow]]:
    """Yield the graphs that users export from PyTorch: in float32, and as the usual tools quantize them."""
    promised = macs(BERT_BASE, systems.MAX_SEQ_LEN) / macs(folder.shape, systems.MAX_SEQ_LEN)

    def exporting(name: str, precision: str = "fp32") -> Measurement:
        return Measurement(name=name, kind="exported", precision=precision, promised=promised)

    for name in systems.exporters(exported):
        say(f"export, {name}")
        yield exporting(f"exported graph ({name})"), systems.run_exported(exported, name, args.threads)
    say("quantize the exported graph")
    yield exporting("exported graph, dynamic INT8", "int8"), systems.run_quantized(exported, _QUANTIZED, args.threads)
    for name, precision, windows in (("OpenVINO", "fp32", ()), ("OpenVINO, INT8 by NNCF", "int8", samples)):
        run = systems.run_openvino(exported, _QUANTIZED, args.threads, windows)
        if run is not None:
            yield exporting(f"exported graph in {name}", precision), run


def filled_ours(folder: ModelFolder, args: argparse.Namespace) -> Iterator[tuple[Measurement, systems.RunWindow]]:
    table = ConfigTable.read(folder.shape, folder.length_configs)
    for precision in _PRECISIONS:
        runtime = Runtime(folder.shape, folder.stored_weights, precision=precision, threads=args.threads)
        for choice in (*table.choices, uniform_half(folder)):
            yield ours(folder, choice, precision, [systems.MAX_SEQ_LEN]), systems.run_ours(runtime, choice.config)


def ours(folder: ModelFolder, choice: MeasuredConfig, precision: Precision, lengths: Sequence[int]) -> Measurement:
    return Measurement(
        name=report.ours(choice.name, precision),
        kind="ours",
        precision=precision,
        share=choice.share,
        promised=macs(BERT_BASE, lengths) / macs(folder.shape, lengths, choice.config),
    )


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
    questions: Sequence[Question],
    lengths: Sequence[int],
    args: argparse.Namespace,
    f1: Mapping[str, float],
    say: common.Progress,
) -> list[Measurement]:
    pairs = [(x.question, x.context) for x in questions]
    longest = sorted(pairs, key=lambda pair: -sum(map(len, pair)))[:_MEMORY_QUESTIONS]
    asks: dict[str, systems.Ask] = {}
    about: dict[str, Measurement] = {}
    tokenizer = open_folder(EMBEDDED).path  # BERT's, as those who use these models have it
    for name in ("BERT-base", "DistilBERT"):
        for precision in pytorch_precisions():
            measured = pytorch(name, precision, macs(BERT_BASE, lengths) / macs(_PYTORCH[name], lengths))
            say(f"memory, {measured.name}")
            peak = peak_bytes(name, longest, args, tokenizer=tokenizer, precision=precision)
            about[measured.name] = replace(measured, peak_bytes=peak)
            asks[measured.name] = systems.ask_pytorch(name, tokenizer, args.threads, bfloat16=precision == "bf16")
    for precision in _PRECISIONS:
        qa = QuestionAnswerer(args.model, threads=args.threads, precision=precision)
        for choice in qa.table.choices:
            measured = ours(folder, choice, precision, lengths)
            say(f"memory, {measured.name}")
            peak = peak_bytes(choice.name, longest, args, precision=precision)
            known = f1.get(choice.name) if precision == qa.table.precision else None
            about[measured.name] = replace(measured, peak_bytes=peak, f1=known)
            asks[measured.name] = systems.ask_ours(qa, choice.config)
    runs = {name: partial(apply, ask) for name, ask in asks.items()}
    seconds = common.interleave("real questions", runs, pairs, say)
    return [replace(about[name], seconds=seconds[name]) for name in runs]


def peak_bytes(
    system: str,
    pairs: Sequence[tuple[str, str]],
    args: argparse.Namespace,
    *,
    tokenizer: Path | None = None,
    precision: str = "auto",
) -> int:
    """Measure the peak memory of a system in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.speed.peak", system, "--threads", str(args.threads)]
    command += ["--precision", precision]
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
