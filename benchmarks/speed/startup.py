"""What the package costs before it answers: time to import and to the first answer, and disk space."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import IO

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import dynamic_tinybert

QUESTION, TEXT = "Where is the tower?", "The tower stands in Paris."

_DISTRIBUTION = "dynamic-tinybert"
_IMPORTS = ("import dynamic_tinybert", "from dynamic_tinybert import QuestionAnswerer")
_TIMED = "import time; began = time.perf_counter(); {}; print(time.perf_counter() - began)"
_ANSWER = "from dynamic_tinybert import QuestionAnswerer; print(QuestionAnswerer({!r})({!r}, {!r}).text, flush=True)"


def measure_seconds(model: str | None, repeats: int) -> dict[str, list[float]]:
    """Time fresh processes, the kinds of them in turn. A first round, which fills the disk's cache, is not counted."""
    ask = ["-m", "dynamic_tinybert", "ask", QUESTION, "--context", TEXT, "--model", model or "embedded"]
    kinds: dict[str, Callable[[], float]] = {
        **{code: partial(_printed, _TIMED.format(code)) for code in _IMPORTS},
        "process start to first answer, Python": partial(first_line, ["-c", _ANSWER.format(model, QUESTION, TEXT)]),
        "process start to first answer, command": partial(first_line, ask),
    }
    rounds = [{name: measure() for name, measure in kinds.items()} for _ in range(1 + repeats)]
    return {name: [one[name] for one in rounds[1:]] for name in kinds}


def _printed(code: str) -> float:
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def first_line(
    arguments: list[str],
    python: str | Path = sys.executable,
    environment: Mapping[str, str] | None = None,
    log: IO[str] | None = None,
) -> float:
    """Seconds from the start of a process to the first line that it prints.

    Args:
        arguments: What Python is to run.
        python: Which Python.
        environment: Its environment variables; by default this process's.
        log: Where its standard error goes; by default to this process's.
    """
    began = time.perf_counter()
    with subprocess.Popen([python, *arguments], stdout=subprocess.PIPE, stderr=log, env=environment) as process:
        assert process.stdout
        line = process.stdout.readline()
        seconds = time.perf_counter() - began
        process.stdout.read()
    if process.returncode or not line:
        raise SystemExit(f"failed with status {process.returncode}: python {' '.join(arguments)}")
    return seconds


def installed_bytes() -> dict[str, int] | None:
    """Disk space of the package and of all that it requires, extras apart, the largest first; None if not installed."""
    try:
        distribution(_DISTRIBUTION)
    except PackageNotFoundError:
        return None
    sizes = {name: _bytes(part) for name, part in required(_DISTRIBUTION).items()}
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def required(name: str) -> dict[str, Distribution]:
    """Return a distribution and all that it requires, extras apart, by their names."""
    found: dict[str, Distribution] = {}
    waiting, seen = [Requirement(name)], set[tuple[str, frozenset[str]]]()
    while waiting:
        requirement = waiting.pop()
        key = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if key in seen:
            continue
        seen.add(key)
        part = found[key[0]] = distribution(requirement.name)
        for further in map(Requirement, part.requires or []):
            extras = requirement.extras or {""}
            if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(further)
    return found


def _bytes(part: Distribution) -> int:
    files = [Path(str(file.locate())) for file in part.files or []]
    if canonicalize_name(part.name) == _DISTRIBUTION:  # an editable installation does not list what is in the package
        package = Path(dynamic_tinybert.__file__).parent
        files = [*package.rglob("*"), *(file for file in files if file.parent.suffix == ".dist-info")]
    return sum(file.stat().st_size for file in files if file.is_file())
