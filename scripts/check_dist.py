"""Build the sdist and the wheel, and prove both: what is in them, and that each works where nothing else is installed.

Each is installed in a fresh environment, of every Python that is named, and there asked. It prints a table in Markdown
and fails at the first thing that is not as it should be. Then the same for each model of `models/`, beside the wheel,
with this Python. Needs the extra `dist`, git, and a registry of packages.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "dynamic_tinybert"
OTHERS = "haystack_integrations"  # the namespace in which haystack looks for components
CONTEXT = "The report was written by Ada Lovelace in 1843."
WHEEL_MOST, MODEL_MOST = 26e6, 70e6  # bytes
INSTALLED_MOST = 250e6  # but on Python 3.10, where ONNX Runtime brings sympy
SDIST_ONLY = ("CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", ".gitignore", "PKG-INFO")

# A user's program, as strict as mypy can be: what is offered is typed, and of the types that it is said to be.
PROGRAM = """\
from typing import Iterator

from typing_extensions import assert_type

from dynamic_tinybert import Answer, Budget, LengthConfig, QuestionAnswerer, __version__, pipeline

budget: Budget = 0.5
qa = QuestionAnswerer()
assert_type(qa("Who wrote it?", "Ada wrote it.", budget=budget), Answer)
assert_type(qa("Who wrote it?", "Ada wrote it.", top_k=2), list[Answer])
assert_type(qa(["Who?"], ["Ada wrote it."]), list[Answer])
pairs: Iterator[tuple[str, str]] = iter([("Who wrote it?", "Ada wrote it.")])
answer = qa("Who wrote it?", "Ada wrote it.", budget=LengthConfig.full(6))
text: str = answer.text
start: int = answer.start
score: float = answer.score
assert_type(answer.confidence, float | None)
version: str = __version__
reader = pipeline("question-answering")
"""
WRONG = """\
from dynamic_tinybert import QuestionAnswerer

QuestionAnswerer()("Who wrote it?", "Ada wrote it.", budgt=0.5)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="where they go")
    parser.add_argument("--python", action="append", default=[], help="another interpreter to install with")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dist-") as folder:
        check(options.output.resolve(), [sys.executable, *options.python], Path(folder))


def check(output: Path, pythons: list[str], room: Path) -> None:
    for old in output.glob("dynamic_tinybert*"):
        old.unlink()
    run(sys.executable, "-m", "build", "--outdir", output, ROOT)  # the sdist, and from it the wheel
    (sdist,), (wheel,) = output.glob("*.tar.gz"), output.glob("*.whl")
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    # W004, a module that cannot be imported: PyInstaller wants a hyphen in the name of a hook.
    options = ("--ignore", "W004", "--toplevel", f"{PACKAGE},{OTHERS}")
    run(Path(sys.executable).parent / "check-wheel-contents", *options, wheel)

    version = wheel.name.split("-")[1]
    names = wheel_contents(wheel, version)
    inside = sdist_contents(sdist)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", room / "from-tree", ROOT)
    (other,) = (room / "from-tree").glob("*.whl")
    if contents(other) != contents(wheel):
        raise SystemExit(f"the wheel from the tree is not the wheel from the sdist: {other.name}, {wheel.name}")

    print(f"{date.today()}, {platform.platform()}; version {version}\n")
    print("| | size, MB | files |\n| --- | --- | --- |")
    print(f"| {wheel.suffix[1:]} | {wheel.stat().st_size / 1e6:.1f} | {len(names)} |")
    print(f"| sdist | {sdist.stat().st_size / 1e6:.1f} | {len(inside)} |")
    if wheel.stat().st_size > WHEEL_MOST:
        raise SystemExit(f"the wheel is larger than {WHEEL_MOST / 1e6} MB")
    print("\n| Python | of | installed, MB | of it ours | other packages | answers |")
    print("| --- | --- | --- | --- | --- | --- |")
    for python in pythons:
        for archive in (wheel, sdist):
            print(installed(python, archive, room / "venv", version), flush=True)
    typed(sys.executable, wheel, room)
    print("\nmypy --strict takes a user's program against the installed wheel, and refuses a wrong one.")
    print("\n| model | wheel, MB | sdist, MB | answers |\n| --- | --- | --- | --- |")
    for project in sorted((ROOT / "models").glob("*/pyproject.toml")):
        print(model(project.parent, wheel, output, room / "venv"), flush=True)


def run(*command: str | Path, **options: object) -> str:
    """Run a command, and give its output; if it fails, show it and fail."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return str(done.stdout)


def tracked(*folders: str) -> set[str]:
    """The files that git knows in some folders."""
    return {*run("git", "-C", ROOT, "ls-files", "-z", "--", *folders).split("\0")} - {""}


def wheel_contents(wheel: Path, version: str) -> list[str]:
    """Check that a wheel holds the package, the recipes and its metadata, every file of them, and nothing else."""
    names = zipfile.ZipFile(wheel).namelist()
    wanted = {name.removeprefix("src/") for name in tracked("src")}
    wanted |= {f"{PACKAGE}/{name}" for name in tracked("recipes")}
    same(wheel.name, {*names}, wanted | metadata(PACKAGE, version))
    return names


def metadata(package: str, version: str) -> set[str]:
    """The files of a wheel that tell of it."""
    info = f"{package}-{version}.dist-info"
    return {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}


def sdist_contents(sdist: Path) -> list[str]:
    """Check the same of an sdist."""
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    wanted = {*tracked("src", "recipes"), *SDIST_ONLY}
    same(sdist.name, {*names}, wanted)
    return names


def same(name: str, found: set[str], wanted: set[str]) -> None:
    if found != wanted:
        raise SystemExit(f"{name}: stray {sorted(found - wanted)}, missing {sorted(wanted - found)}")


def contents(wheel: Path) -> dict[str, int]:
    """The files of a wheel that are the package, and their checksums."""
    own = (f"{PACKAGE}/", f"{OTHERS}/")
    return {item.filename: item.CRC for item in zipfile.ZipFile(wheel).infolist() if item.filename.startswith(own)}


def installed(python: str, archive: Path, venv: Path, version: str) -> str:
    """Install an archive in a fresh environment, prove that it works, and give a row of the table."""
    place, pip = fresh(python, venv)
    site = Path(run(place / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    bare = size(site)
    run(*pip, "install", archive)
    run(*pip, "check")
    command = place / "dynamic-tinybert"
    answer = asked(command, archive)
    if run(command, "--version", cwd=venv).strip() != f"dynamic-tinybert {version}":
        raise SystemExit(f"{archive.name} says of itself {run(command, '--version')}, not {version}")
    if json.loads(run(command, "info", "--json", cwd=venv))["measured_on"] is None:
        raise SystemExit(f"{archive.name}: the table of configurations is not there")
    run(
        place / "python",
        "-c",
        "from dynamic_tinybert.files import SHIPPED; assert (SHIPPED[0] / 'cpu.yaml').is_file()",
    )
    whole, ours = size(site) - bare, size(site / PACKAGE) + size(site / OTHERS)
    count = (
        "from importlib.metadata import distributions as d; print(len({x.name for x in d()} - {'pip', 'setuptools'}))"
    )
    packages = int(run(place / "python", "-c", count)) - 1
    found = run(place / "python", "-c", "import platform; print(platform.python_version())").strip()
    if whole > INSTALLED_MOST and not found.startswith("3.10"):
        raise SystemExit(f"{whole / 1e6:.0f} MB are installed, more than {INSTALLED_MOST / 1e6:.0f}")
    kind = "sdist" if archive.suffix == ".gz" else "wheel"
    return f"| {found} | {kind} | {whole / 1e6:.0f} | {ours / 1e6:.1f} | {packages} | {answer} |"


def model(folder: Path, wheel: Path, output: Path, venv: Path) -> str:
    """Build a model's sdist and wheel, install the wheel beside this package's, ask it, and give a row of the table."""
    run(sys.executable, "-m", "build", "--outdir", output, folder)
    package = folder.name.replace("-", "_")
    (sdist,), (own,) = output.glob(f"{package}-*.tar.gz"), output.glob(f"{package}-*.whl")
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, own)
    source = f"{folder.relative_to(ROOT).as_posix()}/src/"
    files = {name.removeprefix(source) for name in tracked(source)}
    same(own.name, {*zipfile.ZipFile(own).namelist()}, files | metadata(package, own.name.split("-")[1]))
    if own.stat().st_size > MODEL_MOST:
        raise SystemExit(f"{own.name} is larger than {MODEL_MOST / 1e6} MB")
    place, pip = fresh(sys.executable, venv)
    run(*pip, "install", wheel, own)
    run(*pip, "check")
    answer = asked(place / "dynamic-tinybert", own, "--model", folder.name)
    sizes = " | ".join(f"{archive.stat().st_size / 1e6:.1f}" for archive in (own, sdist))
    return f"| {folder.name} | {sizes} | {answer} |"


def fresh(python: str, venv: Path) -> tuple[Path, tuple[str | Path, ...]]:
    """Make an empty environment, and give the folder of its commands, and pip in it."""
    shutil.rmtree(venv, ignore_errors=True)
    run(python, "-m", "venv", venv)
    place = venv / ("Scripts" if os.name == "nt" else "bin")
    return place, (place / "python", "-m", "pip", "--disable-pip-version-check", "--quiet")


def asked(command: Path, archive: Path, *options: str) -> str:
    """Ask an installed command, where no other files are, and give the answer."""
    line: tuple[str | Path, ...] = (command, "ask", "Who wrote it?", "--context", CONTEXT, "--json", *options)
    answer = json.loads(run(*line, cwd=command.parent))
    if answer["text"] != "Ada Lovelace":
        raise SystemExit(f"{archive.name} answers {answer}")
    return str(answer["text"])


def size(folder: Path) -> int:
    """Bytes of all files in a folder, but for what Python compiles."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.suffix != ".pyc")


def typed(python: str, wheel: Path, room: Path) -> None:
    """Check with mypy that the installed package is typed."""
    place, pip = fresh(python, room / "typed")
    run(*pip, "install", wheel)
    for name, program in (("program.py", PROGRAM), ("wrong.py", WRONG)):
        (room / name).write_text(program, "utf-8")
    mypy = (python, "-m", "mypy", "--strict", "--python-executable", str(place / "python"))
    run(*mypy, room / "program.py", cwd=room)
    run(place / "python", room / "program.py", cwd=room)
    done = subprocess.run([*mypy, str(room / "wrong.py")], cwd=room, capture_output=True, text=True, check=False)
    if 'argument "budgt"' not in done.stdout:
        raise SystemExit(f"mypy takes a wrong program: {done.stdout}")


if __name__ == "__main__":
    main()
