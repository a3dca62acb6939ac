"""The index in Milvus (milvus-lite, over gRPC) beside that in a folder: rankings and times, on SQuAD's paragraphs.

usage: python -m benchmarks.corpus.milvus_recall [--passages 2000] [--output results/corpus/milvus-recall.md]

The server is a process of its own on 127.0.0.1, and has both cores together with those who ask it.
"""

from __future__ import annotations

import multiprocessing
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import common
from dynamic_tinybert.corpus import Corpus, Hit, Passage
from dynamic_tinybert.corpus.index import Index, MilvusAddress, Source
from dynamic_tinybert.corpus.index.milvus import MilvusIndex
from dynamic_tinybert.corpus.index.tantivy import TantivyIndex

TOP = 20
RECALL_AT = (1, 10, 20)
CLIENTS = (1, 2)


def read_squad(path: Path) -> tuple[list[tuple[str, str]], list[tuple[str, int]]]:
    """Return paragraphs (title, text), those of the `select` articles first; and questions of these, with their own."""
    titles = common.held_out_titles("select")
    articles = sorted(common.read_articles(path), key=lambda article: article["title"] not in titles)
    passages: list[tuple[str, str]] = []
    questions: list[tuple[str, int]] = []
    for article in articles:
        for paragraph in article["paragraphs"]:
            if article["title"] in titles:
                questions += [(qa["question"], len(passages)) for qa in paragraph["qas"]]
            passages.append((article["title"].replace("_", " "), paragraph["context"]))
    return passages, questions


@contextmanager
def served(directory: Path) -> Iterator[MilvusAddress]:
    """Run a server; give the address of a collection."""
    port = common.free_port()
    options = ["--data-dir", str(directory), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen([sys.executable, "-m", "milvus_lite", "server", *options], stdout=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield MilvusAddress("milvus", f"127.0.0.1:{port}", "", "squad")
    finally:
        process.terminate()
        process.wait()


def fill(index: Index, passages: Sequence[tuple[str, str]]) -> float:
    """Add the passages, each as a document of its own; return the seconds."""
    begin = time.perf_counter()
    with index.writer() as writer:
        for number, (title, text) in enumerate(passages):
            passage = Passage(document=str(number), title=title, number=0, start=0, text=text)
            writer.add("version", passage, last=True)
        writer.put(_source(passages))
        writer.commit()
    return time.perf_counter() - begin


def _source(passages: Sequence[tuple[str, str]]) -> Source:
    count = len(passages)
    return Source(
        name="squad",
        version="version",
        size=-1,
        modified=-1,
        digest="",
        reading="given",
        drafts=count,
        documents=count,
        passages=count,
        characters=sum(len(text) for _, text in passages),
    )


def _search(index: Index, question: str) -> list[Hit]:
    return index.search(question, TOP)


def ask_all(location: str, questions: Sequence[str], seconds: float) -> int:
    """Ask for so many seconds, and return how many questions were answered; a client in a process of its own."""
    corpus = Corpus(location)
    corpus.find(questions[0], TOP)
    end, count = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        corpus.find(questions[count % len(questions)], TOP)
        count += 1
    return count


def rates(location: str, questions: Sequence[str], seconds: float) -> list[float]:
    """Return the searches a second that so many clients get, each in a process of its own."""
    found = []
    for clients in CLIENTS:
        with ProcessPoolExecutor(clients, mp_context=multiprocessing.get_context("spawn")) as pool:
            list(pool.map(abs, range(clients)))  # they are started
            counts = pool.map(partial(ask_all, questions=questions, seconds=seconds), [location] * clients)
            found.append(sum(counts) / seconds)
    return found


def main() -> None:
    parser = common.argument_parser(__doc__)
    common.add_data(parser, "")
    parser.add_argument("--passages", type=int, default=2000)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=8.0, help="that clients ask")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, metavar="FILE", help="the page, beside standard output")
    options = parser.parse_args()

    passages, asked = read_squad(Path(options.data, "train-v1.1.json.gz"))
    passages = passages[: options.passages]
    asked = [(question, gold) for question, gold in asked if gold < len(passages)]
    asked = random.Random(options.seed).sample(asked, min(options.questions, len(asked)))
    questions, golds = [question for question, _ in asked], [str(gold) for _, gold in asked]

    found: list[list[list[Hit]]] = []
    rows: dict[str, list[str]] = {name: [] for name in ("search", "searches", "added")}
    with tempfile.TemporaryDirectory() as folder, served(Path(folder, "milvus")) as address:
        indexes: list[Index] = [MilvusIndex(address, create=True), TantivyIndex(Path(folder, "tantivy"), create=True)]
        for index, location in zip(indexes, (str(address), str(Path(folder, "tantivy"))), strict=True):
            rows["added"].append(f"{len(passages) / fill(index, passages):,.0f} a second")
            seconds, hits = common.timed(partial(_search, index), questions)
            rows["search"].append(f"{1000 * statistics.median(seconds):.2f} ms")
            one, two = rates(location, questions, options.seconds)
            rows["searches"].append(f"{one:,.0f} and {two:,.0f} a second ({two / one:.2f})")
            found.append(hits)

    names = [[[hit.passage.document for hit in hits] for hits in one] for one in found]
    cells = []
    for k in RECALL_AT:
        shares = [statistics.mean(gold in hits[:k] for hits, gold in zip(one, golds, strict=True)) for one in names]
        cells.append((f"recall at {k}", *(f"{share:.1%}" for share in shares)))
    cells.append(("a search, median", *rows["search"]))
    cells.append(("searches by 1 and 2 clients (ratio)", *rows["searches"]))
    cells.append(("passages added", *rows["added"]))
    pairs = [(ours, theirs) for ours, theirs in zip(*names, strict=True) if theirs]
    first = statistics.mean(ours[:1] == theirs[:1] for ours, theirs in pairs)
    shared = statistics.mean(len(set(ours) & set(theirs)) / len(theirs) for ours, theirs in pairs)
    parts = [
        "# The index in Milvus beside that in a folder",
        common.heading("pymilvus", "milvus-lite", "tantivy"),
        f"{len(passages):,} passages of SQuAD 1.1 train, {len(asked)} questions of `select` articles.",
        common.table(("", "Milvus (milvus-lite)", "folder (tantivy)"), cells),
        f"The first passage is the same for {first:.1%} of the questions; of the folder's {TOP}, Milvus has "
        f"{shared:.1%}.",
    ]
    common.write_page("\n\n".join(parts) + "\n", options.output)


if __name__ == "__main__":
    main()
