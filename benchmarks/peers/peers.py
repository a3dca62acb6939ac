"""Measure this package beside its peers, each in its own environment, on the same weights, in one run.

The peers: the pipeline of transformers 5.2, Haystack's TransformersExtractiveReader, txtai's Questions, an exported
ONNX graph with the usual hand-written code around it, and this package at three budgets. The weights: three models of
the usual shapes, made of the embedded one (peer_models.py), so that all of them answer.

  one      questions of SQuAD dev with their paragraphs, one at a time: latency, peak memory
  many     a list of them, asked as each peer's users ask many: answers per second, F1
  long     texts of some 3,000 words whose last sentence answers: seconds a text, whether it is found, peak memory
  start    process start to first answer, the disk's cache warm

The systems of a shape live at once, each in a process of its own, and take turns item by item, in an order drawn anew
for each (as in speed.py): a machine that slows down does so for all alike. They are timed from outside, over a pipe.
All have the same number of threads. Leave the machine alone meanwhile; how much of it others took is written down.

What is measured is kept in WORK/run.json as it comes: an interrupted run goes on there, unless anything has changed. A
report is written after each shape.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.peers import peer_envs, peer_report
from benchmarks.peers.peer_models import SHAPES, Shape, make_models
from benchmarks.peers.peer_report import System
from benchmarks.peers.peer_texts import long_texts
from benchmarks.speed import systems
from benchmarks.speed.startup import first_line
from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.folder import open_folder
from dynamic_tinybert.inference import TextTokenizer
from dynamic_tinybert.squad import Question, SquadFile, read_squad, score_question

SYSTEMS = (
    System("transformers", "transformers 5.2, pipeline", "transformers", "transformers"),
    System("haystack", "Haystack, TransformersExtractiveReader", "haystack", "haystack"),
    System("txtai", "txtai, Questions", "txtai", "txtai"),
    System("onnx", "ONNX, hand-written, padded", "onnx", "onnx"),
    System("onnx-unpadded", "ONNX, hand-written, unpadded", "onnx", "onnx-unpadded"),
    System("full", "ours, full", "ours", "ours", "full"),
    System("balanced", "ours, balanced", "ours", "ours", "balanced"),
    System("fast", "ours, fast", "ours", "ours", "fast"),
)
_SEED = 0
_WORKER = "benchmarks.peers.peer_worker"
_EXPORTER = "TorchScript, eager"  # of PyTorch's exporters the one whose graph is fastest (results/speed/speed.md)
_REPEATS = {"BERT-base": 1, "DistilBERT": 1, "MiniLM": 3}  # of the list: the small are done too soon to be timed once


def main() -> None:
    args = parse()
    say = common.Progress()
    try:
        data = read_squad(args.data)
        folder = open_folder(args.model)
        args.work.mkdir(parents=True, exist_ok=True)
        args.output.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise SystemExit(f"peers.py: {error}") from None
    pythons = peer_envs.make_environments(args.work / "envs", say)
    say("models")
    tokenizer = TextTokenizer(folder.path)
    lengths = [len(tokenizer.question(question.question)) for question in data.questions]
    identity = f"{digest(folder.path / 'model.safetensors')}-{digest(Path(__file__).with_name('peer_models.py'))}"
    try:
        models = make_models(folder, lengths, args.work / f"models-{identity}")
    except ValueError as error:
        raise SystemExit(f"peers.py: {error}") from None
    for path in models.values():
        if not (path / "model.onnx").exists():
            systems.export(path, _EXPORTER, path / "draft.onnx")
            (path / "draft.onnx").rename(path / "model.onnx")
    sets = make_sets(data, QuestionAnswerer(args.model), args)
    if args.prepare:
        return
    settings = {
        "environments": {name: list(steps) for name, steps in peer_envs.ENVIRONMENTS.items()},
        "source": peer_envs.source_hash(),
        "models": identity,
        "worker": digest(Path(__file__).with_name("peer_worker.py")),
        "sets": {name: [x.id for x in found] for name, found in sets.items()},
        "repeats": [args.repeats, args.quick],
        "threads": args.threads,
        "machine": common.describe_machine(),
    }
    store = Store(args.work / ("quick.json" if args.quick else "run.json"), settings, fresh=args.fresh, say=say)
    work = args.work / "sets.json"
    pairs = {name: [(x.question, x.context) for x in found] for name, found in sets.items()}
    work.write_text(json.dumps({"sets": pairs}) + "\n", "utf-8")
    runner = Runner(pythons, models, work, args, say)

    if "installed" not in store.kept:
        store.keep("installed", {name: peer_envs.installed_bytes(args.work / "envs", name) for name in pythons})
    done: set[Shape] = set()
    for shape in reversed([x for x in SHAPES if x in args.shapes]):  # the small first: a report comes soon
        runner.measure(shape, sets, store)
        done.add(shape)
        result = peer_report.PeersReport(
            command=common.command(),
            machine=common.describe_machine(),
            python=platform.python_version(),
            threads=args.threads,
            model=folder.name,
            systems=list(SYSTEMS),
            counts={name: len(found) for name, found in sets.items()},
            words=[len(x.context.split()) for x in sets["long"]],
            installed=store.kept["installed"],
            versions=store.kept["versions"],
            shapes={shape: store.kept[shape] for shape in SHAPES if shape in done},
        )
        (args.output / "peers.json").write_text(peer_report.to_json(result), "utf-8")
        (args.output / "peers.md").write_text(peer_report.markdown(result), "utf-8")
        peer_report.draw(result, args.output / "peers.png")
        say(f"{args.output}: peers.json, peers.md, peers.png")


def parse() -> argparse.Namespace:
    parser = common.argument_parser(
        __doc__,
        epilog="Writes peers.json (raw figures), peers.md (tables) and peers.png to the output folder. The "
        "environments take 5 GB and some minutes, once.",
    )
    common.add_data(parser)
    parser.add_argument(
        "--output", type=Path, default=Path("results/peers"), metavar="DIR", help="[default: %(default)s]"
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(".work/peers"),
        metavar="DIR",
        help="where environments, models and what is measured so far are kept [default: %(default)s]",
    )
    parser.add_argument("--model", metavar="FOLDER", help="a model folder [default: the embedded model]")
    common.add_counts(
        parser,
        threads=(common.cores(), "of every system; by default all cores"),
        questions=(50, "questions one at a time"),
        many=(200, "questions in the list"),
        long=(10, "long texts"),
        repeats=(2, "fresh starts"),
    )
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), metavar="SHAPE")
    parser.add_argument("--prepare", action="store_true", help="make environments and models, and measure nothing")
    parser.add_argument("--quick", action="store_true", help="a rehearsal, of few questions; kept in quick.json")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured so far")
    args = parser.parse_args()
    if args.quick:
        args.questions, args.many, args.long, args.repeats = 2, 6, 1, 1
    return args


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


# What is asked.


def make_sets(data: SquadFile, qa: QuestionAnswerer, args: argparse.Namespace) -> dict[str, list[Question]]:
    """Draw the questions: `many`, the first of them for `one`, and `long`."""
    drawn = random.Random(_SEED).sample(data.questions, min(max(args.many, args.questions), len(data.questions)))
    return {"one": drawn[: args.questions], "many": drawn[: args.many], "long": long_texts(data, qa, args.long)}


# Measuring.


class Store:
    """What is measured so far, in a file: only if it was measured by the same settings."""

    def __init__(self, path: Path, settings: Mapping[str, Any], *, fresh: bool, say: Callable[[str], None]) -> None:
        self._path, self._settings = path, json.loads(json.dumps(settings))
        self.kept: dict[str, Any] = {}
        if path.exists() and not fresh:
            found = json.loads(path.read_text("utf-8"))
            if found["settings"] == self._settings:
                self.kept = found["kept"]
            else:
                changed = [name for name in self._settings if found["settings"].get(name) != self._settings[name]]
                say(f"begin anew: {', '.join(changed)} changed since {path} was measured")

    def keep(self, *names: Any) -> None:
        """Keep a value under a path of names: the last argument."""
        *path, last, value = names
        inner = self.kept
        for name in path:
            inner = inner.setdefault(name, {})
        inner[last] = value
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps({"settings": self._settings, "kept": self.kept}) + "\n", "utf-8")
        draft.replace(self._path)


class WorkerError(Exception):
    """A peer does not run: the last line of what it said."""


class Worker:
    """A system in a process of its own."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True
            )

    def ask(self, *command: object) -> Any:
        """Send a command and wait for its reply.

        Raises:
            WorkerError: The process is gone.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin
        assert stdout
        with contextlib.suppress(BrokenPipeError):
            stdin.write(" ".join(map(str, command)) + "\n")
            stdin.flush()
        line = stdout.readline()
        if not line:
            raise WorkerError(last_line(self._log))
        return json.loads(line)

    def close(self) -> None:
        """End the process and wait for it, so that its time counts as ours (`Others`)."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()


def last_line(log: Path) -> str:
    lines = [line for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


class Runner:
    """Measures the systems, one shape at a time."""

    def __init__(
        self,
        pythons: Mapping[str, Path],
        models: Mapping[Shape, Path],
        work: Path,
        args: argparse.Namespace,
        say: common.Progress,
    ) -> None:
        self._pythons, self._models, self._work, self._args, self._say = pythons, models, work, args, say
        unwanted = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        self._environment = {name: value for name, value in os.environ.items() if name not in unwanted} | {
            "OMP_NUM_THREADS": str(args.threads),
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HAYSTACK_TELEMETRY_ENABLED": "False",
        }

    def measure(self, shape: Shape, sets: Mapping[str, Sequence[Question]], store: Store) -> None:
        """Measure what is not in the store yet."""
        kept = store.kept.setdefault(shape, {})
        if "start" not in kept:
            others = common.Others()
            with self._watched(shape, "start", store) as result:
                result |= self._start(shape)
            store.keep(shape, "others", others.share())
        if all(phase in kept for phase in ("one", "many", "long")):
            return
        with self._workers(shape, store) as workers:
            if "one" not in kept:
                with self._watched(shape, "one", store) as result:
                    result |= self._one(shape, workers, len(sets["one"]))
            if "many" not in kept:
                with self._watched(shape, "many", store) as result:
                    result |= self._many(shape, workers, sets["many"])
            if "long" not in kept:
                with self._watched(shape, "long", store) as result:
                    result |= self._long(shape, workers, sets["long"])

    @contextlib.contextmanager
    def _watched(self, shape: Shape, phase: str, store: Store) -> Iterator[dict[str, Any]]:
        """Keep what is measured within, with the date and how long it took."""
        began, result = time.perf_counter(), dict[str, Any]()
        yield result
        store.keep(shape, phase, result | {"date": common.now(), "took": round(time.perf_counter() - began, 1)})

    @contextlib.contextmanager
    def _workers(self, shape: Shape, store: Store) -> Iterator[dict[str, Worker]]:
        self._say(f"{shape}: load")
        others = common.Others()
        workers = {
            x.key: Worker(self._command(x, shape), self._environment, self._work.with_name(f"{x.key}.log"))
            for x in SYSTEMS
        }
        try:
            replies = {key: self._versions(worker) for key, worker in workers.items()}
            failed = {key: reply for key, reply in replies.items() if isinstance(reply, str)}
            for key, reason in failed.items():
                self._say(f"{shape}: {key} does not run: {reason}")
                workers.pop(key).close()
            versions = {key: reply for key, reply in replies.items() if key not in failed}
            store.keep("versions", store.kept.get("versions", {}) | versions)
            store.keep(shape, "failed", failed)
            yield workers
        finally:
            for worker in workers.values():
                worker.close()
        store.keep(shape, "others", max(others.share(), store.kept[shape].get("others", 0)))

    def _versions(self, worker: Worker) -> dict[str, str] | str:
        """Return what is installed, or why the worker does not run."""
        try:
            return dict(worker.ask("versions"))
        except WorkerError as error:
            return str(error)

    def _command(self, system: System, shape: Shape) -> list[str | Path]:
        command: list[str | Path] = [self._pythons[system.environment], "-m", _WORKER, system.peer, self._models[shape]]
        return [*command, "--work", self._work, "--threads", str(self._args.threads), "--budget", system.budget]

    def _start(self, shape: Shape) -> dict[str, Any]:
        """Time fresh processes, in turn. A first round, which fills the disk's cache, is not counted."""
        seconds: dict[str, list[float]] = {}
        failed: set[str] = set()
        peers = {x.peer: x for x in SYSTEMS if x.budget == "full"}
        for turn in range(1 + self._args.repeats):
            self._say(f"{shape}: start-up, round {turn}")
            for peer, system in peers.items():
                python, *rest = map(str, self._command(system, shape))
                if peer in failed:
                    continue
                try:
                    with self._work.with_name(f"{peer}-start.log").open("w") as log:
                        taken = first_line([*rest, "--first"], python, self._environment, log)
                except SystemExit:
                    failed.add(peer)
                    continue
                if turn:
                    seconds.setdefault(peer, []).append(round(taken, 4))
        return {"seconds": seconds}

    def _one(self, shape: Shape, workers: Mapping[str, Worker], count: int) -> dict[str, Any]:
        runs = {key: partial(worker.ask, "one", "one") for key, worker in workers.items()}
        seconds = common.interleave(f"{shape}: one at a time", runs, range(count), self._say)
        return {"seconds": seconds, "peak": {key: worker.ask("peak") for key, worker in workers.items()}}

    def _many(self, shape: Shape, workers: Mapping[str, Worker], asked: Sequence[Question]) -> dict[str, Any]:
        seconds: dict[str, list[float]] = {key: [] for key in workers}
        answers: dict[str, list[str | None]] = {}
        order, shuffle = list(workers), random.Random(_SEED).shuffle
        for turn in range(_REPEATS[shape]):
            shuffle(order)
            for key in order:
                began = time.perf_counter()
                answers[key] = workers[key].ask("many", "many")
                seconds[key].append(round(time.perf_counter() - began, 4))
            self._say(f"{shape}: a list, {turn + 1} of {_REPEATS[shape]}")
        return {
            "seconds": seconds,
            "answers": answers,
            "f1": {key: f1(asked, found) for key, found in answers.items()},
            "unanswered": {key: found.count(None) for key, found in answers.items()},
            "peak": {key: worker.ask("peak") for key, worker in workers.items()},
        }

    def _long(self, shape: Shape, workers: Mapping[str, Worker], asked: Sequence[Question]) -> dict[str, Any]:
        seconds: dict[str, list[float]] = {key: [] for key in workers}
        answers: dict[str, list[str | None]] = {key: [] for key in workers}
        order, shuffle = list(workers), random.Random(_SEED).shuffle
        for i in range(len(asked)):
            shuffle(order)
            for key in order:
                began = time.perf_counter()
                answers[key].append(workers[key].ask("one", "long", i))
                seconds[key].append(round(time.perf_counter() - began, 4))
            self._say.count(f"{shape}: long texts", i + 1, len(asked))
        return {
            "seconds": seconds,
            "answers": answers,
            "references": [list(dict.fromkeys(x.answers)) for x in asked],
            "found": {key: found_answers(asked, given) for key, given in answers.items()},
            "peak": {key: worker.ask("peak") for key, worker in workers.items()},
        }


def f1(asked: Sequence[Question], answers: Sequence[str | None]) -> float:
    """F1 in percent, no answer counting as an empty one."""
    scores = [score_question(x, answer or "", version="1.1")[1] for x, answer in zip(asked, answers, strict=True)]
    return round(100 * sum(scores) / len(scores), 2)


def found_answers(asked: Sequence[Question], answers: Sequence[str | None]) -> int:
    """How many answers have an F1 of one half or more: the right place, if not the very words."""
    return sum(
        score_question(x, answer or "", version="1.1")[1] >= 0.5 for x, answer in zip(asked, answers, strict=True)
    )


if __name__ == "__main__":
    main()
