"""Compare embedded engines as the index of a corpus of passages: tantivy, LanceDB's full-text index, SQLite's FTS5.

Each holds the paragraphs of SQuAD 1.1, train and dev, and finds the paragraphs of questions of the held-out `select`
articles: all words of a question but stop words, joined by OR, ranked by BM25. Measured are the index's size, what pip
installs, adding, searching, replacing one document, and what is left of an index whose process was killed.

Every figure is of a fresh process, and the engines take turns. All three stem and fold to ASCII, and keep titles and
texts, which they also return. SQLite has no stop words of its own: its queries go without tantivy's 33, so that these
are in its index yet never searched.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import common
from benchmarks.corpus.engine_kinds import ENGINES, TOP, Engine, Passage

REFERENCE = "tantivy"
DISTRIBUTIONS = {"tantivy": "tantivy", "LanceDB": "lancedb", "SQLite FTS5": None}  # with Python comes the last

RECALL_AT = (1, 5, 20)
BATCH = 1000  # passages of a transaction, when the corpus is added
WARM_UP = 20  # searches
REPLACED = 20  # documents, one at a time

PARTS = 5  # passages of a document, where processes are killed
GROUP = 4  # documents of a transaction there, of which one is replaced by itself
REFRESH_EVERY = 5  # transactions there
ANEW = 4000  # documents there, after which a new index is begun
FOUND_BY_WORD = 20  # documents that are searched for there
KILLED_WITHIN = 1.0  # seconds


def main() -> None:
    if sys.argv[1:] == ["--worker"]:
        work(json.loads(sys.stdin.readline()))
        return
    args = parse()
    say, others, rounds = common.Progress(), common.Others(), range(args.rounds)
    figures: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in args.engines}
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        corpus = make_corpus(Path(args.data), args.questions, Path(scratch, "corpus"))
        for i, name in itertools.product(rounds, args.engines):
            say(f"{name}: adding, searching, replacing, round {i + 1}")
            folder = Path(scratch, f"index of {name}")
            for job in ("add", "search", "change"):
                for key, value in ask_worker(job, name, folder, corpus).items():
                    figures[name][key].append(value)
            shutil.rmtree(folder)
        kills = kill(args, Path(scratch), corpus, say)
        passages = sum(1 for _ in read_passages(corpus))
    for name in args.engines:
        figures[name]["installed"] = [installed_bytes(DISTRIBUTIONS[name])]
    void = ", **too much for times to mean anything**" * (others.share() > common.UNDISTURBED)
    packages = [part for name, part in DISTRIBUTIONS.items() if part and name in args.engines]
    lines = [
        "# Engines for the index of passages",
        "",
        f"{common.heading(*packages, others=others)[:-1]}{void}. SQLite {sqlite3.sqlite_version}.",
        "",
        f"{passages} passages of SQuAD 1.1, train and dev; {args.questions} questions of the `select` articles. "
        f"Medians of {args.rounds} rounds, each in fresh processes, the engines in turn. In brackets: over "
        f"{REFERENCE}'s.",
        "",
        figures_table(args.engines, figures),
        "",
        "MB are 10^6 bytes. Adding: from an empty folder to an index that finds everything, in transactions of "
        f"{BATCH} passages, with all cores; the engines' own tidying afterwards is counted. Searching: on one core, "
        f"the {TOP} best with their texts. Replacing: medians of {REPLACED} documents of one passage, one by one; what "
        "LanceDB has committed is found at once, too, but without the index, by reading it.",
        "",
        f"## {args.kills} kills",
        "",
        f"An adding process is killed (SIGKILL) within {KILLED_WITHIN:g} s of the first document that it adds. Each of "
        f"its transactions is of {GROUP} documents of {PARTS} passages, one of which it replaces; after every "
        f"{REFRESH_EVERY} LanceDB's index is brought up to date. The next process opens what is left, looks it through "
        f"and goes on with it; beyond {ANEW} documents, a new index is begun.",
        "",
        kills_table(args.engines, kills),
        "",
    ]
    common.write_page("\n".join(lines), args.output)


def parse() -> argparse.Namespace:
    parser = common.argument_parser(__doc__)
    common.add_data(parser, "")
    parser.add_argument("--questions", type=int, default=2000, metavar="N", help="[default: %(default)s]")
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="of each engine [default: %(default)s]")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of everything else [default: %(default)s]")
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    parser.add_argument("--scratch", metavar="DIR", help="where the indexes are [default: the system's]")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    return parser.parse_args()


# The corpus, in files: a worker reads it passage by passage, so that its memory is the engine's.


def make_corpus(data: Path, number: int, corpus: Path) -> Path:
    """Write the passages, one a line, and a sample of questions, each with the numbers of its passage."""
    titles = common.held_out_titles("select")
    numbers: dict[str, list[int]] = defaultdict(list)  # of a passage; a few are there twice
    questions: list[tuple[str, str]] = []
    count = itertools.count()
    for name in ("train", "dev"):  # not by read_squad, which gives questions, not paragraphs
        articles = common.read_articles(data / f"{name}-v1.1.json.gz")
        for title, paragraph in ((article["title"], x) for article in articles for x in article["paragraphs"]):
            text = f"{title.replace('_', ' ')}\n{paragraph['context']}"
            numbers[text].append(next(count))
            if name == "train" and title in titles:
                questions += [(x["question"], text) for x in paragraph["qas"]]
    corpus.mkdir()
    ordered = sorted((i, text) for text, places in numbers.items() for i in places)
    with (corpus / "passages.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(text) + "\n" for _, text in ordered)
    drawn = [
        (question, numbers[text]) for question, text in random.Random(1).sample(questions, min(number, len(questions)))
    ]
    (corpus / "questions.json").write_text(json.dumps(drawn), "utf-8")
    return corpus


def read_passages(corpus: Path) -> Iterator[str]:
    with (corpus / "passages.jsonl").open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def batches(corpus: Path) -> Iterator[list[Passage]]:
    passages = (Passage(i, 0, text) for i, text in enumerate(read_passages(corpus)))
    while batch := list(itertools.islice(passages, BATCH)):
        yield batch


# Workers: fresh processes, given a job on a line of JSON, and answering so.


def start_worker(job: str, engine: str, folder: Path, corpus: Path, **more: Any) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.corpus.engines", "--worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    task = {"job": job, "engine": engine, "folder": str(folder), "corpus": str(corpus), **more}
    process.stdin.write(json.dumps(task) + "\n")
    process.stdin.close()
    return process


def ask_worker(job: str, engine: str, folder: Path, corpus: Path) -> dict[str, float]:
    with start_worker(job, engine, folder, corpus) as process:
        assert process.stdout
        answer = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"engines.py: {engine} failed at this: {job}")
    figures: dict[str, float] = json.loads(answer)
    return figures


def work(task: dict[str, Any]) -> None:
    jobs: dict[str, Callable[..., dict[str, float]]] = {
        "add": add, "search": search, "change": change, "go on": go_on
    }  # fmt: skip
    job, engine = task.pop("job"), ENGINES[task.pop("engine")]
    folder, corpus = Path(task.pop("folder")), Path(task.pop("corpus"))
    print(json.dumps(jobs[job](engine, folder, corpus, **task)))


def add(engine: type[Engine], folder: Path, corpus: Path) -> dict[str, float]:
    seconds, passages = 0.0, 0
    index = engine(folder)
    for batch in batches(corpus):
        began = time.perf_counter()
        index.add(batch)
        seconds += time.perf_counter() - began
        passages += len(batch)
    began = time.perf_counter()
    index.settle()
    seconds += time.perf_counter() - began
    assert len(index.keys()) == passages
    return {"add rate": passages / seconds, "add peak": common.peak_bytes(), "size": folder_bytes(folder)}


def search(engine: type[Engine], folder: Path, corpus: Path) -> dict[str, float]:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])
    questions: list[tuple[str, list[int]]] = json.loads((corpus / "questions.json").read_text("utf-8"))
    began = time.perf_counter()
    index = engine(folder)
    index.search(questions[0][0])
    first = time.perf_counter() - began
    for question, _ in questions[:WARM_UP]:
        index.search(question)
    seconds, hits = [], Counter[int]()
    for question, right in questions:
        began = time.perf_counter()
        found = index.search(question)
        seconds.append(time.perf_counter() - began)
        place = next((i for i, x in enumerate(found, 1) if x.document in right), TOP + 1)
        hits.update(k for k in RECALL_AT if place <= k)
    recall = {f"recall {k}": hits[k] / len(questions) for k in RECALL_AT}
    times = {"median": statistics.median(seconds), "p95": statistics.quantiles(seconds, n=20)[-1]}
    return {"first": first, **times, **recall, "search peak": common.peak_bytes()}


def change(engine: type[Engine], folder: Path, corpus: Path) -> dict[str, float]:
    texts = list(read_passages(corpus))
    index = engine(folder)
    commits, refreshes = [], []
    for document in random.Random(1).sample(range(len(texts)), REPLACED):
        word = f"replaced{document}"
        began = time.perf_counter()
        index.replace([Passage(document, 0, f"{texts[document]} {word}")])
        commits.append(time.perf_counter() - began)
        index.refresh()
        refreshes.append(time.perf_counter() - began)
        assert [x.document for x in index.search(word)] == [document]
    assert len(index.keys()) == len(texts)
    changed = folder_bytes(folder)
    index.settle()
    return {
        "replace": statistics.median(commits),
        "refresh": statistics.median(refreshes),
        "size changed": changed,
        "size settled": folder_bytes(folder),
    }


def folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def installed_bytes(name: str | None) -> int:
    """Disk space of a distribution and of what it requires, without NumPy and what that requires."""
    from benchmarks.speed.startup import required

    parts, known = (required(name), required("numpy")) if name else ({}, {})
    files = [Path(str(file.locate())) for key in parts.keys() - known.keys() for file in parts[key].files or []]
    return sum(file.stat().st_size for file in files if file.is_file())


# Kills.


def go_on(engine: type[Engine], folder: Path, corpus: Path, log: str, look_only: bool) -> dict[str, float]:
    """Look through what a killed process left, say what was found, and add more until killed."""
    texts = list(itertools.islice(read_passages(corpus), 5000))
    began = time.perf_counter()
    index = engine(folder)
    index.search("word")
    found: dict[str, float] = {"seconds": time.perf_counter() - began}
    committed = Path(log).read_text("utf-8").split("\n")[:-1] if Path(log).exists() else []
    found |= look_through(index, int(committed[-1].removeprefix("committed ")) if committed else 0)
    found["bytes"] = folder_bytes(folder)
    if look_only:
        index.settle()
        return found | {"settled": folder_bytes(folder)}
    index.refresh()
    print(json.dumps(found), flush=True)
    documents = int(found["documents"])
    draw = random.Random(documents).randrange
    with open(log, "a", encoding="utf-8") as file:
        for transaction in itertools.count(1):
            old = [draw(documents)] if documents else []
            new = range(documents, documents + GROUP - 1)
            index.replace([x for number in (*old, *new) for x in document_of(number, texts)])
            documents = new.stop
            file.write(f"committed {documents}\n")
            file.flush()
            os.fsync(file.fileno())
            if transaction % REFRESH_EVERY == 0:
                index.refresh()
    raise AssertionError


def document_of(number: int, texts: Sequence[str]) -> list[Passage]:
    first = number * PARTS
    return [Passage(number, i, f"{own_word(number, i)} {texts[(first + i) % len(texts)]}") for i in range(PARTS)]


def own_word(document: int, part: int) -> str:
    return f"zq{document}x{part}"


def look_through(index: Engine, acknowledged: int) -> dict[str, float]:
    """Count what should not be: documents 0, 1, ... are expected, those acknowledged and at most a transaction more."""
    copies = Counter(index.keys())
    parts = Counter(document for document, _ in copies)
    known = range(acknowledged)
    searched = {*known[-FOUND_BY_WORD // 2 :], *random.Random(acknowledged).sample(sorted(parts), min(len(parts), 10))}
    sought = [(document, part) for document in searched & parts.keys() for part in range(PARTS)]
    return {
        "documents": len(parts),
        "lost": sum(document not in parts for document in known),
        "partial": sum(number != PARTS for number in parts.values()),
        "doubled": sum(number > 1 for number in copies.values()),
        "not found": sum([x[:2] for x in index.search(own_word(*key))] != [key] for key in sought),
        "half a transaction": float(len(parts) - acknowledged not in (0, GROUP - 1)),
        "unacknowledged": float(len(parts) > acknowledged),
    }


def kill(
    args: argparse.Namespace, scratch: Path, corpus: Path, say: common.Progress
) -> dict[str, dict[str, list[float]]]:
    """Kill each engine's adding process, in turn; what each next one found, by engine."""
    found: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in args.engines}
    after = random.Random(1)
    for i in range(args.kills + 1):
        for name in args.engines:
            folder, log = scratch / f"killed {name}", scratch / f"log of {name}"
            last, seconds = i == args.kills, after.uniform(0, KILLED_WITHIN)
            report = kill_one(name, folder, log, corpus, seconds, last=last)
            if i:  # else it is of no kill, but of an index that was not there
                for key, value in report.items():
                    found[name][key].append(value)
            if not last and ("failed" in report or report["documents"] > ANEW):
                shutil.rmtree(folder)
                log.unlink(missing_ok=True)
                kill_one(name, folder, log, corpus, seconds, last=False)
        if args.kills:
            say.count("kills", i + 1, args.kills + 1)
    return found


def kill_one(engine: str, folder: Path, log: Path, corpus: Path, seconds: float, *, last: bool) -> dict[str, float]:
    """Start a process, hear what it found, kill it."""
    with start_worker("go on", engine, folder, corpus, log=str(log), look_only=last) as process:
        assert process.stdout
        line = process.stdout.readline()
        if last or not line:
            process.wait()
        else:
            time.sleep(seconds)
        stopped = process.poll() is not None and not last
        process.kill()
    if stopped or not line:
        print(f"{engine}: the process ended by itself, after: {line!r}", file=sys.stderr)
        return {"failed": 1, **({"documents": 0} if not line else json.loads(line))}
    report: dict[str, float] = json.loads(line)
    return report


# Tables.


class Row(NamedTuple):
    key: str
    title: str
    unit: str
    factor: float
    decimals: int
    ratio: bool = True


ROWS = (
    Row("size", "index on disk", " MB", 1e-6, 1),
    Row("size changed", f"... after {REPLACED} replacements", " MB", 1e-6, 1),
    Row("size settled", "... and tidying up", " MB", 1e-6, 1),
    Row("installed", "what pip installs, beyond NumPy", " MB", 1e-6, 1),
    Row("add rate", "adding, passages a second", "", 1, 0),
    Row("first", "import, open, first search", " ms", 1e3, 1),
    Row("median", "search, median", " ms", 1e3, 2),
    Row("p95", "search, 95th percentile", " ms", 1e3, 2),
    *(Row(f"recall {k}", f"recall at {k}", "%", 100, 1, k == 0) for k in RECALL_AT),
    Row("add peak", "peak memory, adding", " MB", 1e-6, 0),
    Row("search peak", "peak memory, searching", " MB", 1e-6, 0),
    Row("replace", "replacing one document, until committed", " ms", 1e3, 1),
    Row("refresh", "... until found by the index", " ms", 1e3, 1),
)


def figures_table(engines: Sequence[str], figures: dict[str, dict[str, list[float]]]) -> str:
    def cell(row: Row, name: str) -> str:
        value = statistics.median(figures[name][row.key])
        text = f"{value * row.factor:.{row.decimals}f}{row.unit}"
        reference = statistics.median(figures[REFERENCE][row.key]) if REFERENCE in figures else 0
        return text if not row.ratio or not reference or name == REFERENCE else f"{text} ({value / reference:.2f}x)"

    return common.table(["", *engines], [[row.title, *(cell(row, name) for name in engines)] for row in ROWS])


def kills_table(engines: Sequence[str], kills: dict[str, dict[str, list[float]]]) -> str:
    def ms(pick: Callable[[Iterable[float]], float]) -> Callable[[dict[str, list[float]]], str]:
        return lambda found: f"{pick(found['seconds'] or [0]) * 1000:.0f} ms"

    def total(key: str) -> Callable[[dict[str, list[float]]], str]:
        return lambda found: f"{sum(found[key]):.0f}"

    def kb(key: str) -> Callable[[dict[str, list[float]]], str]:
        return lambda found: f"{(found[key] or [0])[-1] / max(1, found['documents'][-1]) / PARTS / 1e3:.2f} kB"

    rows = {
        "kills after which the index did not open or could not be written": total("failed"),
        "documents lost though acknowledged": total("lost"),
        "documents in part only": total("partial"),
        "passages doubled": total("doubled"),
        "passages that a search for their own word did not find alone": total("not found"),
        "kills that left half a transaction": total("half a transaction"),
        "kills between a commit and its acknowledgement": total("unacknowledged"),
        "import, open and first search after a kill, median": ms(statistics.median),
        "..., longest": ms(max),
        "on disk for each passage, after the last kill": kb("bytes"),
        "..., and after tidying up": kb("settled"),
    }
    if not any(kills.values()):
        return "None."
    return common.table(["", *engines], [[title, *(of(kills[name]) for name in engines)] for title, of in rows.items()])


if __name__ == "__main__":
    main()
