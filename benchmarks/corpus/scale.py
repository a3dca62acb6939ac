"""How adding, searching and answering grow with the corpus: SQuAD's paragraphs, repeated with changed words."""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import common
from benchmarks.corpus.corpus import BUDGETS, PASSAGE_SIZE, ask_corpus, held_out, paragraphs
from dynamic_tinybert.corpus import Corpus


def scale(args: argparse.Namespace) -> None:
    """Add, search and answer at growing sizes, each in a process of its own."""
    others = common.Others()
    rows = []
    for size in args.sizes:
        code = "import sys; from benchmarks.corpus.scale import scale_one; scale_one(*sys.argv[1:])"
        line = [sys.executable, "-c", code, str(args.data), str(args.work), str(size), str(args.questions or 200)]
        parts = ("write", "add", "ask")
        done = [subprocess.run([*line, part], capture_output=True, text=True, check=True) for part in parts]
        rows.append({k: v for run in done for k, v in json.loads(run.stdout.splitlines()[-1]).items()})
        print(rows[-1], file=sys.stderr)
    names = list(rows[0])
    cells = [(name, *(row[name] for row in rows)) for name in names]
    lines = [common.table(("", *(f"{size:,} passages" for size in args.sizes)), cells)]
    common.write_page("\n".join([common.heading(others=others), "", *lines]) + "\n", args.output)


def scale_one(data: str, work: str, size_text: str, count: str, part: str) -> None:
    """Measure one part of one size, and print it as JSON."""
    size, directory = int(size_text), Path(work) / f"scale-{size_text}"
    source = Path(work) / f"scale-{size_text}.jsonl"
    if part == "write":
        with source.open("w") as file:
            for name, title, text in islice(varied(Path(data)), size):
                file.write(json.dumps({"id": name, "title": title, "text": text}) + "\n")
        print("{}")
        return
    if part == "add":
        shutil.rmtree(directory, ignore_errors=True)
        corpus = Corpus(directory, passage_size=PASSAGE_SIZE)
        began = time.perf_counter()
        corpus.add(source)
        seconds = time.perf_counter() - began
        status = corpus.status()
        assert status.passages == size
        source.unlink()
        one = time.perf_counter()
        corpus.put("changed", "One text more, about the tower in Paris.")
        changed = time.perf_counter() - one
        print(
            json.dumps(
                {
                    "text": f"{status.characters / 1e6:,.0f} MB",
                    "index": f"{(status.bytes or 0) / 1e6:,.0f} MB",
                    "added": f"{size / seconds:,.0f} passages/s",
                    "one document changed": f"{changed:.2f} s",
                    "peak memory, adding": f"{common.peak_bytes() / 1e6:,.0f} MB",
                }
            )
        )
        return
    questions = held_out(Path(data), int(count))
    corpus = Corpus(directory)
    qa = corpus.qa
    began = time.perf_counter()
    corpus.find(questions[0].question, 20)
    first = time.perf_counter() - began
    search, _ = common.timed(lambda q: corpus.find(q.question, 20), questions)
    row = {
        "first search": f"{first * 1000:.0f} ms",
        "search, 20 passages": percentiles(search),
        "peak memory, searching": f"{common.peak_bytes() / 1e6:,.0f} MB",
    }
    for budget in BUDGETS:
        row[f"answer, `{budget}`"] = percentiles(common.timed(partial(ask_corpus, corpus, budget=budget), questions)[0])
    row["peak memory, answering"] = f"{common.peak_bytes() / 1e6:,.0f} MB"
    assert qa is corpus.qa
    print(json.dumps(row))


def percentiles(seconds: Sequence[float]) -> str:
    return f"{median(seconds) * 1000:.1f} ms, 95%: {np.percentile(seconds, 95) * 1000:.1f} ms"


def varied(data: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the paragraphs as they are, and then again and again with a third of their long words changed.

    A changed word is another word of the paragraphs, drawn as often as it stands there, or a name of no meaning in one
    of five cases: so a million passages have words that only some hold, as real ones do.
    """
    texts = list(paragraphs(data))
    yield from texts
    pool = [word for _, _, text in texts for word in re.findall(r"[A-Za-z]{4,}", text)]
    for turn in range(1, 10**6):
        draw = random.Random(turn)
        for name, title, text in texts:

            def other(match: re.Match[str], draw: random.Random = draw) -> str:
                if draw.random() > 1 / 3:
                    return match.group()
                return draw.choice(pool) if draw.random() < 0.8 else f"{draw.choice(pool)[:4]}{draw.randrange(10**5)}"

            yield f"{turn}/{name}", title, re.sub(r"[A-Za-z]{4,}", other, text)
