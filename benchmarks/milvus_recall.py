"""Compare rankings of Milvus's BM25 full-text search (milvus-lite, over gRPC) and of tantivy, on SQuAD's paragraphs.

Both are given the same words: the project's own analysis of tantivy's, joined by spaces for Milvus, whose `standard`
analyzer splits them again. Both have k1 = 1.2 and b = 0.75. The server is a process of its own on 127.0.0.1.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pymilvus import DataType, Function, FunctionType, MilvusClient
from serving import free_port

from corpus import heading, timed
from dynamic_tinybert.corpus.index import Passage
from dynamic_tinybert.corpus.tantivy_index import TantivyIndex
from dynamic_tinybert.corpus.words import question_words, words_of

TOP = 20
RECALL_AT = (1, 10, 20)
COLLECTION = "squad"


def read_squad(path: Path, held_out: Path) -> tuple[list[tuple[str, str]], list[tuple[str, int]]]:
    """Return paragraphs (title, text), those of the listed articles first; and questions of these, with their own."""
    titles = set(held_out.read_text().split("\n"))
    with gzip.open(path, "rt") as file:
        articles = json.load(file)["data"]
    articles.sort(key=lambda article: article["title"] not in titles)
    passages: list[tuple[str, str]] = []
    questions: list[tuple[str, int]] = []
    for article in articles:
        for paragraph in article["paragraphs"]:
            if article["title"] in titles:
                questions += [(qa["question"], len(passages)) for qa in paragraph["qas"]]
            passages.append((article["title"].replace("_", " "), paragraph["context"]))
    return passages, questions


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """Run a server; give its address."""
    port = free_port()
    options = ["--data-dir", str(directory), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen([sys.executable, "-m", "milvus_lite", "server", *options], stdout=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def fill_milvus(client: MilvusClient, passages: list[tuple[str, str]], batch: int, flush: bool) -> None:
    """Make the collection, and insert the passages."""
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    analyzer = {"tokenizer": "standard"}
    schema.add_field("words", DataType.VARCHAR, max_length=65535, enable_analyzer=True, analyzer_params=analyzer)
    schema.add_field("bm25", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(
        Function(name="bm25", function_type=FunctionType.BM25, input_field_names=["words"], output_field_names=["bm25"])
    )
    index = client.prepare_index_params()
    params = {"bm25_k1": 1.2, "bm25_b": 0.75}
    index.add_index("bm25", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25", params=params)
    client.create_collection(COLLECTION, schema=schema, index_params=index)
    rows: list[dict[str, Any]] = [
        {"id": number, "words": " ".join(words_of(f"{title}\n{text}"))} for number, (title, text) in enumerate(passages)
    ]
    for begin in range(0, len(rows), batch):
        client.insert(COLLECTION, rows[begin : begin + batch])
        if flush:
            client.flush(COLLECTION)
    client.flush(COLLECTION)
    client.load_collection(COLLECTION)


def fill_tantivy(index: TantivyIndex, passages: list[tuple[str, str]]) -> None:
    """Add the passages, each as a document of its own."""
    with index.writer() as writer:
        for number, (title, text) in enumerate(passages):
            passage = Passage(document=str(number), title=title, number=0, start=0, text=text)
            writer.add("version", passage, last=True)
        writer.commit()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of train-v1.1.json.gz and heldout-select.txt")
    parser.add_argument("--passages", type=int, default=2000)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--batch", type=int, default=500, help="passages of an insertion into Milvus")
    parser.add_argument("--flush", action="store_true", help="after each of them, which makes a segment of each")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    passages, asked = read_squad(options.data / "train-v1.1.json.gz", options.data / "heldout-select.txt")
    passages = passages[: options.passages]
    asked = [(question, gold) for question, gold in asked if gold < len(passages)]
    asked = random.Random(options.seed).sample(asked, min(options.questions, len(asked)))
    questions, golds = [question for question, _ in asked], [gold for _, gold in asked]

    with tempfile.TemporaryDirectory() as folder, served(Path(folder, "milvus")) as address:
        client = MilvusClient(uri=address)
        begin = time.perf_counter()
        fill_milvus(client, passages, options.batch, options.flush)
        filled = [time.perf_counter() - begin]

        def by_milvus(question: str) -> list[tuple[int, float]]:
            words = " ".join(question_words(question))
            if not words:
                return []
            hits = client.search(COLLECTION, data=[words], anns_field="bm25", limit=TOP)[0]
            return [(hit["id"], hit["distance"]) for hit in hits]

        def by_tantivy(question: str) -> list[tuple[int, float]]:
            return [(int(hit.passage.document), hit.score) for hit in index.search(question, TOP)]

        milvus_times, milvus = timed(by_milvus, questions)

        index = TantivyIndex(Path(folder, "tantivy"), create=True)
        begin = time.perf_counter()
        fill_tantivy(index, passages)
        filled.append(time.perf_counter() - begin)
        tantivy_times, tantivy = timed(by_tantivy, questions)
        client.close()

    names = ("pymilvus", "milvus-lite", "tantivy")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    print("# Milvus's full-text search beside tantivy\n")
    print(heading())
    print(f"{versions}. {len(passages)} passages of SQuAD 1.1 train, {len(asked)} questions of `select` articles.\n")
    print("|  | milvus-lite | tantivy |\n| --- | ---: | ---: |")
    for k in RECALL_AT:
        shares = [
            statistics.mean(gold in [number for number, _ in hits[:k]] for hits, gold in zip(found, golds, strict=True))
            for found in (milvus, tantivy)
        ]
        print(f"| recall at {k} | {shares[0]:.1%} | {shares[1]:.1%} |")
    medians = [1000 * statistics.median(seconds) for seconds in (milvus_times, tantivy_times)]
    print(f"| search, median | {medians[0]:.2f} ms | {medians[1]:.2f} ms |")
    print(f"| analyzing and adding | {filled[0]:.1f} s | {filled[1]:.1f} s |\n")
    pairs = list(zip(milvus, tantivy, strict=True))
    same_first = statistics.mean(m[:1] != [] and t[:1] != [] and m[0][0] == t[0][0] for m, t in pairs)
    print(f"The first passage is the same for {same_first:.1%} of the questions. Of tantivy's {TOP}, Milvus has")
    shared = [len({n for n, _ in m} & {n for n, _ in t}) / len(t) for m, t in pairs if t]
    ratios = [abs(m[0][1]) / t[0][1] for m, t in pairs if m and t]  # milvus-lite's distances are negative
    print(f"{statistics.mean(shared):.1%}. Milvus's best score is {statistics.median(ratios):.3f} of tantivy's")
    print(f"(median; {min(ratios):.3f} to {max(ratios):.3f}), its sign apart: of {sum(map(len, milvus))} distances")
    print(f"{sum(distance < 0 for hits in milvus for _, distance in hits)} are negative.")


if __name__ == "__main__":
    main()
