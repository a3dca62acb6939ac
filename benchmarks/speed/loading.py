"""What loading a model folder costs, beside another commit of this package: seconds and peak memory.

usage: git worktree add /tmp/before COMMIT
       python -m benchmarks.speed.loading --before /tmp/before [--rounds 15] [--output results/speed/loading.md]

Fresh processes import the package, then time `QuestionAnswerer(folder)`, with the same interpreter and the same
folders: the embedded model, the same in float32 as `export` writes it, and that with a `vocab.txt` alone. The two
commits take turns; ratios are medians over the rounds of the one process by the other. Linux only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

from benchmarks import common
from dynamic_tinybert.folder import open_folder, save_folder

_CODE = """
import json, re, sys, time
import dynamic_tinybert
from dynamic_tinybert import QuestionAnswerer
def peak():
    return int(re.search(r"^VmHWM:\\s+(\\d+) kB$", open("/proc/self/status").read(), re.MULTILINE)[1]) * 1024
began = time.perf_counter()
qa = QuestionAnswerer(sys.argv[1], threads=1, precision=sys.argv[2])
seconds, loaded = time.perf_counter() - began, peak()
qa("Where is the tower?", "The tower stands in Paris.", budget="full")
print(json.dumps([dynamic_tinybert.__file__, seconds, loaded, peak()]))
"""
_FIGURES = ("seconds", "peak when loaded", "peak after an answer")


def main() -> None:
    parser = common.argument_parser(__doc__)
    parser.add_argument("--before", type=Path, required=True, metavar="FOLDER", help="a worktree of the other commit")
    common.add_counts(parser, rounds=(15, "rounds"))
    parser.add_argument("--output", type=Path, metavar="FILE", help="the page, beside standard output")
    args = parser.parse_args()
    sources = {"before": args.before / "src", "now": common.ROOT / "src"}
    others, say = common.Others(), common.Progress()
    found: dict[tuple[str, str], list[list[float]]] = {}
    with _folders() as folders:
        for name, (folder, precision) in folders.items():
            for number in range(args.rounds + 1):
                for when in list(sources)[:: -1 if number % 2 else 1]:
                    figures = _measure(sources[when], folder, precision)
                    if number:  # the first fills the disk's cache
                        found.setdefault((name, when), []).append(figures)
            say(name)
    rows, more = [], []
    for name in folders:
        for place, figure in enumerate(_FIGURES):
            before, now = ([figures[place] for figures in found[name, when]] for when in sources)
            ratios = [mine / other for mine, other in zip(now, before, strict=True)]
            low, _, high = quantiles(ratios, n=4)
            columns = [_shown(figure, median(before)), _shown(figure, median(now))]
            rows.append((name, figure, *columns, f"{median(ratios):.3f}", f"{low:.3f} to {high:.3f}"))
            if low > 1:
                more.append(f"{name}: {figure} ({median(ratios) - 1:.1%})")
    commits = {when: _commit(source) for when, source in sources.items()}
    parts = [
        "# Loading a model folder",
        f"Fresh processes of commit {commits['before']} and of {commits['now']} in turn, with the same folders and one "
        f"thread; medians of {args.rounds} rounds. A ratio is of two processes of a round, now by before.",
        common.heading("onnxruntime", "tokenizers", "numpy", others=others),
        common.table(["folder", "", "before", "now", "median ratio", "half of the ratios"], rows, left=2),
        f"Wanted: no more than before. {'**Missed** by ' + '; '.join(more) if more else 'Met'}, if it counts as more "
        "when three quarters of the ratios are above 1.",
    ]
    common.write_page("\n\n".join(parts) + "\n", args.output)


@contextmanager
def _folders() -> Iterator[dict[str, tuple[Path, str]]]:
    """The folders that are loaded, each with a precision, so that both commits do the same."""
    embedded = open_folder()
    with tempfile.TemporaryDirectory() as place:
        exported, words = Path(place) / "exported", Path(place) / "words"
        for folder in (exported, words):
            save_folder(embedded, folder)
        vocabulary = json.loads((words / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
        lines = "".join(f"{word}\n" for word in sorted(vocabulary, key=vocabulary.__getitem__))
        (words / "vocab.txt").write_text(lines, "utf-8")
        (words / "tokenizer.json").unlink()
        yield {
            "embedded, INT8": (embedded.path, "int8"),
            "embedded, float32": (embedded.path, "fp32"),
            "exported, float32": (exported, "fp32"),
            "exported, `vocab.txt` alone": (words, "fp32"),
        }


def _measure(source: Path, folder: Path, precision: str) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", _CODE, str(folder), precision],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{source} cannot load {folder}: {done.stderr}")
    file, *figures = json.loads(done.stdout)
    if not Path(file).is_relative_to(source.resolve()):
        raise SystemExit(f"{file} was imported, and not {source}")
    return [float(figure) for figure in figures]


def _shown(figure: str, value: float) -> str:
    return f"{value * 1000:.0f} ms" if figure == "seconds" else f"{value / 1e6:.0f} MB"


def _commit(source: Path) -> str:
    line = subprocess.run(
        ["git", "-C", str(source), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    return line.stdout.strip()


if __name__ == "__main__":
    main()
