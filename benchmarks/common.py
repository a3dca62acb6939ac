"""What the benchmarks share: command lines, data, the machine, timing, tables, files of results.

Nothing but the standard library is imported at the top: some processes measure one engine and must be without the rest,
and some run in an environment of other packages.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import json
import math
import os
import platform
import random
import re
import resource
import shlex
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
DATA = "DYNAMIC_TINYBERT_DATA"
"""The environment variable that names the folder of data; SQuAD's files are in its `squad/`."""

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#999999"  # of Okabe and Ito: told apart by everybody
UNDISTURBED = 0.05  # share of the processor taken by others: with more, figures are void
_CPU_FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8")
_SETTLE_S = 0.1
_WARM_UP = 3  # runs of each system before the first that counts

# The command line.


def argument_parser(description: str | None, **options: Any) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, **options
    )


def add_data(parser: argparse.ArgumentParser, name: str = "dev-v1.1.json.gz") -> None:
    """Add `--data`: a file of SQuAD, or the folder of all if `name` is empty."""
    folder = os.environ.get(DATA)
    default = os.path.join(folder, "squad", name) if folder else None
    what = f"a SQuAD file, as {name}" if name else "the folder of SQuAD's files"
    parser.add_argument(
        "--data",
        default=default,
        required=default is None,
        metavar="FILE" if name else "FOLDER",
        help=f"{what} [default: ${DATA}/squad/{name}]",
    )


def add_articles(parser: argparse.ArgumentParser) -> None:
    """Add `--articles`: one of the lists of held-out articles, for `held_out_titles`."""
    parser.add_argument("--articles", choices=("select", "confirm"), help="only the held-out articles of this list")


def add_budget(parser: argparse.ArgumentParser) -> None:
    """Add `--budget` and `--precision`."""
    parser.add_argument("--budget", default="full", help="[default: %(default)s]")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "int8"), help="[default: %(default)s]")


def add_counts(parser: argparse.ArgumentParser, **counts: tuple[int, str]) -> None:
    """Add options that take a whole number of at least 1, by name: the default, and what is counted."""

    def count(text: str) -> int:
        if (value := int(text)) < 1:
            raise ValueError
        return value

    for name, (default, what) in counts.items():
        option, text = f"--{name.replace('_', '-')}", f"{what} [default: %(default)s]"
        parser.add_argument(option, type=count, default=default, metavar="N", help=text)


def command() -> str:
    """The command line that started this process."""
    spec = sys.modules["__main__"].__spec__
    program = ["-m", spec.name] if spec else sys.argv[:1]
    return shlex.join(["python", *program, *sys.argv[1:]])


# Data.


def read_articles(path: str | Path) -> list[dict[str, Any]]:
    """Read the articles of a SQuAD file, plain or gzipped, with all of their paragraphs."""
    content = Path(path).read_bytes()
    if content.startswith(b"\x1f\x8b"):
        content = gzip.decompress(content)
    articles: list[dict[str, Any]] = json.loads(content)["data"]
    return articles


def held_out_titles(articles: str) -> set[str]:
    """Read the titles of the `select` or of the `confirm` articles."""
    return set((ROOT / "recipes" / f"heldout-{articles}.txt").read_text("utf-8").split())


# The machine.


def cores() -> int:
    from dynamic_tinybert.files import processors

    return processors()


def describe_machine() -> dict[str, Any]:
    import psutil

    info: dict[str, str] = {}
    if (path := Path("/proc/cpuinfo")).exists():
        first = path.read_text().split("\n\n")[0]
        info = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    return {
        "cpu": info.get("model name", platform.processor() or platform.machine()),
        "cpu_flags": [flag for flag in _CPU_FLAGS if flag in info.get("flags", "").split()],
        "cores": cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
    }


class Others:
    """How much of the processor other processes take from now on."""

    def __init__(self) -> None:
        self._began = self._seconds()

    def share(self) -> float:
        everything, idle, ours = (now - then for now, then in zip(self._seconds(), self._began, strict=True))
        return max(0.0, (everything - idle - ours) / everything)

    def _seconds(self) -> tuple[float, float, float]:
        import psutil

        machine, ours = psutil.cpu_times(), psutil.Process().cpu_times()
        idle = machine.idle + getattr(machine, "iowait", 0)
        guests = getattr(machine, "guest", 0) + getattr(machine, "guest_nice", 0)  # counted in user and nice, too
        return sum(machine) - guests, idle, sum(ours[:4])


def peak_bytes() -> int:
    """The most memory that this process has held at a time, in bytes.

    On Linux `ru_maxrss` will not do: a process inherits that of the one that started it, which may hold BERT-base.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
        assert found
        return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


# Timing.


class Progress:
    """Says on standard error what goes on, with the seconds since the start."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def __call__(self, line: str) -> None:
        print(f"{time.perf_counter() - self._began:7.1f} s  {line}", file=sys.stderr, flush=True)

    def count(self, title: str, done: int, total: int) -> None:
        """Say how far a loop is, ten times in all."""
        if done * 10 // total > (done - 1) * 10 // total:
            self(f"{title}: {done} of {total}")


def turns(names: Iterable[T], repeats: int) -> Iterator[T]:
    """Yield the names so many times, forwards and backwards in turn."""
    order = list(names)
    for repeat in range(repeats):
        yield from order[:: -1 if repeat % 2 else 1]


def timed(act: Callable[[T], Any], items: Iterable[T]) -> tuple[list[float], list[Any]]:
    """Return the seconds that each item took, and what came of it."""
    seconds, results = [], []
    for item in items:
        began = time.perf_counter()
        results.append(act(item))
        seconds.append(time.perf_counter() - began)
    return seconds, results


def interleave(
    title: str, runs: Mapping[str, Callable[[T], object]], items: Sequence[T], say: Progress
) -> dict[str, list[float]]:
    """Time each system on each item: all systems on one item, in a new random order, then on the next.

    Before each run that counts come some, on the item before, that do not, for at least a tenth of a second: what is
    measured is a system that answers one request after the other, and not what its neighbour left in caches and what
    its threads still burn (ONNX Runtime's spin for 50 ms after a run, unless told otherwise).
    """
    order = list(runs)
    shuffle = random.Random(0).shuffle
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for name in order:
        for item in items[:_WARM_UP]:
            runs[name](item)
    for i, item in enumerate(items):
        shuffle(order)
        for name in order:
            settled = time.perf_counter() + _SETTLE_S
            runs[name](items[i - 1])
            while time.perf_counter() < settled:
                runs[name](items[i - 1])
            began = time.perf_counter()
            runs[name](item)
            seconds[name].append(round(time.perf_counter() - began, 6))
        say.count(title, i + 1, len(items))
    return seconds


# What pages say.


def standard_error(differences: Sequence[float]) -> float | None:
    """Return the standard error of the mean; None of fewer than two values."""
    return statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else None


class Target(NamedTuple):
    """A figure and its bound."""

    what: str
    figure: float | None
    sign: Literal["<=", ">=", "<"]
    bound: float
    unit: str

    def met(self) -> bool | None:
        if self.figure is None:
            return None
        return {"<=": self.figure <= self.bound, ">=": self.figure >= self.bound, "<": self.figure < self.bound}[
            self.sign
        ]


def target_table(targets: Iterable[Target], *, void: bool, decimals: Callable[[Target], int] = lambda _: 2) -> str:
    """Return a table of targets; `void` if others took too much of the processor for a verdict."""
    verdicts = {True: "met", False: "**missed**", None: "not measured"}
    rows = [
        (x.what, number(x.figure, x.unit, decimals(x)), f"{x.sign} {x.bound:g}{x.unit}",
         "void" if void else verdicts[x.met()])
        for x in targets
    ]  # fmt: skip
    return table(("target", "measured", "wanted", ""), rows)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """Return a table in Markdown, its first columns aligned to the left and the others to the right."""
    lines = [header, ["---"] * left + ["---:"] * (len(header) - left), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None, unit: str = "", decimals: int = 0) -> str:
    return "-" if value is None else f"{value:.{decimals}f}{unit}"


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def versions(*names: str) -> dict[str, str]:
    """Return the versions of Python and of these packages."""
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def listed(pairs: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in pairs.items())


def machine_line(machine: Mapping[str, Any]) -> str:
    flags = ", ".join(machine.get("cpu_flags", ()))
    return (
        f"{machine['cpu']}{f' ({flags})' if flags else ''}, {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 1e9:.0f} GB, {machine['system']}"
    )


def heading(*names: str, others: Others | None = None) -> str:
    """Return the command, the date, the machine and the versions of Python and of these packages."""
    busy = "" if others is None else f"; other processes took {others.share():.1%} of the processor meanwhile"
    about = f"{machine_line(describe_machine())}; {listed(versions(*names))}{busy}."
    return f"`{command()}`, {datetime.date.today()}; {about}"


def write_page(text: str, path: Path | None) -> None:
    """Print a page, and write it to a file if one is given."""
    print(text, end="")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def write_gzip(path: Path, content: Any) -> None:
    """Write JSON, gzipped, whole or not at all; the same content gives the same bytes."""
    part = path.with_suffix(".part")
    packed = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    part.write_bytes(gzip.compress(packed.encode(), 9, mtime=0))
    part.replace(path)
