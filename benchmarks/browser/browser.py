"""Measure the JavaScript package in Chromium beside the Python package, on one machine, in one run.

  sizes    what a page loads before its first answer: bytes as they are, by gzip and by brotli
  start    a new browser on a page: until the model is open, and until the first answer; the files come from here
  speed    questions of SQuAD's `select` articles with their paragraphs, one at a time: Chromium and Python take turns,
           question by question, in an order drawn anew for each
  int8     500 of these questions in INT8: how many answers are those of Python, and F1
  fp32     the same in fp32

It needs Chromium, playwright, Node.js, and `npm ci` in javascript/. Parts are kept in WORK as they come; the page is
written from those that are there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks import common
from benchmarks.browser import browser_report
from benchmarks.browser.pages import serving
from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.folder import open_folder
from dynamic_tinybert.model import Budget, Precision
from dynamic_tinybert.publish import save_onnx_folder
from dynamic_tinybert.squad import Question, read_squad, score_question

PARTS = ("sizes", "start", "speed", "int8", "fp32")
PRECISIONS: tuple[Precision, ...] = ("int8", "fp32")
BUDGETS: tuple[Budget, ...] = ("full", "balanced")
_PACKAGE = common.ROOT / "javascript"
_SEED = 26
_PACKED = """
const zlib = require("node:zlib"), fs = require("node:fs");
const sizes = process.argv.slice(1).map((path) => {
  const bytes = fs.readFileSync(path);
  const params = { [zlib.constants.BROTLI_PARAM_QUALITY]: 9, [zlib.constants.BROTLI_PARAM_LGWIN]: 24 };
  return [bytes.length, zlib.gzipSync(bytes, { level: 9 }).length, zlib.brotliCompressSync(bytes, { params }).length];
});
console.log(JSON.stringify(sizes));
"""

Asked = tuple[str, str]


def main() -> None:
    parser = common.argument_parser(__doc__)
    common.add_data(parser, "train-v1.1.json.gz")
    common.add_counts(
        parser,
        many=(500, "questions whose answers are compared"),
        timed=(60, "questions of `speed`"),
        starts=(5, "starts"),
    )
    parser.add_argument("--part", choices=PARTS, action="append", help="measure this part only; may be repeated")
    parser.add_argument("--work", type=Path, default=common.ROOT / ".work" / "browser", help="[default: %(default)s]")
    parser.add_argument("--output", type=Path, help="the page to write")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for precision in PRECISIONS:
        save_onnx_folder(open_folder(), args.work / precision, precision=precision, overwrite=True)
    measure: dict[str, Callable[[], Any]] = {
        "sizes": lambda: sizes(args.work),
        "start": lambda: starts(args),
        "speed": lambda: speed(args),
        "int8": lambda: equal(args, "int8"),
        "fp32": lambda: equal(args, "fp32"),
    }
    for part in args.part or PARTS:
        others = common.Others()
        found = measure[part]()
        kept = {"found": found, "others": others.share(), "command": common.command(), "when": common.now()}
        (args.work / f"{part}.json").write_text(json.dumps(kept), "utf-8")
    parts = {part: args.work / f"{part}.json" for part in PARTS}
    report = browser_report.page({name: json.loads(p.read_text("utf-8")) for name, p in parts.items() if p.is_file()})
    common.write_page(report, args.output)


def questions(args: argparse.Namespace, count: int) -> list[Question]:
    titles = common.held_out_titles("select")
    found = [question for question in read_squad(args.data).questions if question.title in titles]
    return random.Random(_SEED).sample(found, count)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        raise SystemExit("there is no Chromium in PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def roots(work: Path) -> dict[str, Path]:
    return {"package": _PACKAGE, **{precision: work / precision for precision in PRECISIONS}}


def opened(browser: Browser, address: str) -> Page:
    page = browser.new_page()
    page.goto(address)
    page.wait_for_function("window.ready")
    return page


def ask(page: Page, precision: str, budget: Budget, pairs: list[Asked], threads: int) -> list[dict[str, Any]]:
    """Answer in the page; each answer has `milliseconds`."""
    given = [precision, {"budget": budget}, pairs, threads]
    found: list[dict[str, Any]] = page.evaluate("given => askTimed(...given)", given)
    return found


def sizes(work: Path) -> list[dict[str, Any]]:
    """The files that a page asks for until its first answer, in INT8."""
    loaded: list[str] = []
    with chromium() as browser, serving(roots(work)) as address:
        page = browser.new_page()
        page.on("request", lambda request: loaded.append(request.url.removeprefix(address)))
        page.goto(address)
        page.wait_for_function("window.ready")
        ask(page, "int8", "full", [("Where is the tower?", "The tower stands in Paris.")], 1)
    folders = roots(work)
    names = sorted({url.lstrip("/") for url in loaded if url.startswith("/") and "." in url})
    places = {name: folders[name.partition("/")[0]] / name.partition("/")[2] for name in names}
    done = subprocess.run(
        ["node", "-e", _PACKED, *map(str, places.values())], capture_output=True, text=True, check=True
    )
    return [
        {"name": name, "bytes": raw, "gzip": gzipped, "brotli": brotli}
        for name, (raw, gzipped, brotli) in zip(places, json.loads(done.stdout), strict=True)
    ]


def starts(args: argparse.Namespace) -> dict[str, list[list[float]]]:
    """Milliseconds to the open model and to the first answer, of new browsers and of Python processes."""
    program = (
        "import time; began = time.perf_counter()\nfrom dynamic_tinybert import QuestionAnswerer\n"
        "qa = QuestionAnswerer(precision='{}', threads=1); opened = time.perf_counter()\n"
        "qa('Where is the tower?', 'The tower stands in Paris.')\n"
        "print((opened - began) * 1e3, (time.perf_counter() - began) * 1e3)"
    )
    found: dict[str, list[list[float]]] = {}
    for precision in common.turns(PRECISIONS, args.starts):
        with chromium() as browser, serving(roots(args.work)) as address:
            page = browser.new_page()
            page.goto(address)
            page.wait_for_function("window.ready")
            found.setdefault(f"Chromium, {precision}", []).append(page.evaluate("p => firstAnswer(p)", precision))
        done = subprocess.run(
            [sys.executable, "-c", program.format(precision)], capture_output=True, text=True, check=True
        )
        found.setdefault(f"Python, {precision}", []).append([float(x) for x in done.stdout.split()])
    return found


def speed(args: argparse.Namespace) -> dict[str, list[float]]:
    """Milliseconds of each question, by system."""
    pairs = [(question.question, question.context) for question in questions(args, args.timed)]
    seconds: dict[str, list[float]] = {}
    with chromium() as browser, serving(roots(args.work)) as address:
        runs: dict[str, Callable[[Asked], float]] = {}
        for threads in (1, 2):
            page = opened(browser, address)
            for precision in PRECISIONS:
                qa = QuestionAnswerer(precision=precision, threads=threads)
                for budget in BUDGETS:
                    name = f"{precision}, {budget}, {threads} thread{'s' * (threads > 1)}"
                    runs[f"Chromium, {name}"] = _in_page(page, precision, budget, threads)
                    runs[f"Python, {name}"] = _in_python(qa, budget)
        order, shuffle, say = list(runs), random.Random(0).shuffle, common.Progress()
        for run in runs.values():
            run(pairs[0])
        for i, pair in enumerate(pairs):
            shuffle(order)
            for name in order:
                runs[name](pairs[i - 1])  # what its neighbour left in caches does not count
                seconds.setdefault(name, []).append(runs[name](pair))
            say.count("speed", i + 1, len(pairs))
    return seconds


def _in_page(page: Page, precision: str, budget: Budget, threads: int) -> Callable[[Asked], float]:
    def run(pair: Asked) -> float:
        return float(ask(page, precision, budget, [pair], threads)[0]["milliseconds"])

    return run


def _in_python(qa: QuestionAnswerer, budget: Budget) -> Callable[[Asked], float]:
    def run(pair: Asked) -> float:
        began = time.perf_counter()
        qa(*pair, budget=budget)
        return (time.perf_counter() - began) * 1e3

    return run


def equal(args: argparse.Namespace, precision: Precision) -> list[dict[str, Any]]:
    """How many answers are equal, and F1, by budget."""
    chosen, say = questions(args, args.many), common.Progress()
    rows: list[dict[str, Any]] = []
    with chromium() as browser, serving(roots(args.work)) as address:
        page = opened(browser, address)
        qa = QuestionAnswerer(precision=precision, threads=2)
        for budget in BUDGETS:
            rows.append({"precision": precision, "budget": budget, **_compare(page, qa, precision, budget, chosen)})
            say(f"{precision}, {budget}: {rows[-1]['same']} of {len(chosen)} are equal")
    return rows


def _compare(
    page: Page, qa: QuestionAnswerer, precision: str, budget: Budget, chosen: list[Question]
) -> Mapping[str, float]:
    same = 0
    furthest: list[float] = []
    f1: tuple[list[float], list[float]] = ([], [])
    for i in range(0, len(chosen), 50):
        part = chosen[i : i + 50]
        pairs = [(question.question, question.context) for question in part]
        answers = qa([q for q, _ in pairs], [t for _, t in pairs], budget=budget)
        for question, found, answer in zip(part, ask(page, precision, budget, pairs, 2), answers, strict=True):
            place = (found["text"], found["startCodePoint"], found["endCodePoint"])
            if place == (answer.text, answer.start, answer.end):
                same += 1
                furthest.append(abs(found["score"] - answer.score))
            for column, text in zip(f1, (found["text"], answer.text), strict=True):
                column.append(score_question(question, text, version="1.1")[1])
    return {
        "questions": len(chosen),
        "same": same,
        "median_difference": statistics.median(furthest),
        "greatest_difference": max(furthest),
        "f1_page": 100 * statistics.mean(f1[0]),
        "f1_python": 100 * statistics.mean(f1[1]),
    }


if __name__ == "__main__":
    main()
