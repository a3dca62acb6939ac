"""What the commands share: options, errors in one line, progress bars, reading text."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from dynamic_tinybert.files import write_whole

if TYPE_CHECKING:
    from dynamic_tinybert.qa import QuestionAnswerer


class Precision(str, Enum):
    """What `--precision` may be."""

    fp32 = "fp32"
    int8 = "int8"


Model = Annotated[str, typer.Option(metavar="M", help='A model folder, a name on the Hub, or "embedded".')]
Budget = Annotated[
    str, typer.Option(metavar="B", help="What to spend: a share of the full model in (0, 1], or full, balanced, fast.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]
PrecisionOption = Annotated[
    Precision, typer.Option(help="Arithmetic: int8 is faster where the processor has VNNI, and less accurate.")
]
Threads = Annotated[
    int | None, typer.Option(metavar="N", min=1, max=1024, help="Threads to use.  [default: one for each core]")
]


def complain(kind: str, message: str) -> None:
    """Print one line on standard error."""
    print(f"dynamic-tinybert: {kind}: {' '.join(message.split())}", file=sys.stderr)


def fail(message: str, *, misuse: bool = False) -> NoReturn:
    """End with one line on standard error, and exit status 1, or 2 for a command that was put wrongly."""
    complain("error", message)
    raise typer.Exit(2 if misuse else 1)


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Turn what a user can get wrong into one line: options into misuse, files and models into failure."""
    from dynamic_tinybert.answer import LogitsError
    from dynamic_tinybert.folder import ModelFolderError
    from dynamic_tinybert.squad import SquadError

    try:
        yield
    except (ModelFolderError, LogitsError, SquadError) as error:
        fail(str(error))
    except ValueError as error:
        fail(str(error), misuse=True)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        fail(f"{where}{error.strerror or error}")


@contextlib.contextmanager
def needs_extra(extra: str, what: str) -> Iterator[None]:
    """Say in one line which extra brings a package that is missing."""
    try:
        yield
    except ImportError as error:
        if error.name is None or error.name.startswith("dynamic_tinybert"):
            raise
        fail(f"{what} needs {error.name}, which is not installed: pip install 'dynamic-tinybert[{extra}]'")


@contextlib.contextmanager
def errors_of_the_model() -> Iterator[None]:
    """Turn what is wrong with a model into failure: whatever it is, the command was put rightly."""
    try:
        yield
    except ValueError as error:
        fail(str(error))


def load(model: str, precision: Precision = Precision.fp32, threads: int | None = None) -> QuestionAnswerer:
    """Load the model that a command names."""
    from dynamic_tinybert.qa import QuestionAnswerer

    with errors_of_the_model():
        return QuestionAnswerer(model, precision=precision.value, threads=threads)


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on one line of standard output."""
    print(json.dumps(value, ensure_ascii=sys.stdout.encoding.lower() != "utf-8"))


@contextlib.contextmanager
def progress_bar(label: str, unit: str, *, show: bool = True) -> Iterator[Callable[..., None] | None]:
    """Show a progress bar on standard error, if that is a terminal, and give the function that moves it.

    It takes what is done, the total, and perhaps a note.
    """
    if not show or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} {task.fields[unit]}{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=1, unit=unit, note="")
        yield lambda done, total, note="": bar.update(task, completed=done, total=max(total, 1), note=note)


def check_writable(path: Path, *, but_not: Path) -> None:
    """Find out before long work that its result can be written; leave no trace.

    Raises:
        OSError: It cannot be written.
        ValueError: It would be written over what is read.
    """
    if path.exists() and but_not.exists() and path.samefile(but_not):
        raise ValueError(f"{path} is the data itself: give predictions a file of their own")
    real = Path(os.path.realpath(path))
    try:
        os.close(os.open(real, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        real.unlink()
    except FileExistsError:
        real.open("ab").close()


def write_result(path: Path, content: bytes) -> None:
    """Write a result where the user wants it: through a link, into a pipe, or a whole file.

    Raises:
        OSError: It cannot be written.
    """
    real = Path(os.path.realpath(path))
    if real.exists() and not real.is_file():  # a pipe, a terminal
        real.write_bytes(content)
    else:
        write_whole(real, content)


def read_text(path: str) -> str:
    """Read a file of text, or standard input if the path is `-`; line ends stay as they are.

    Raises:
        typer.Exit: It cannot be read, or is no text; one line says so.
    """
    name = "standard input" if path == "-" else path
    try:
        if path == "-" and sys.stdin is None:
            fail("standard input is closed: give the text as --text FILE or --context TEXT", misuse=True)
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except IsADirectoryError:
        fail(f"{path} is a folder; ask reads one file of text")
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}")
    kind = next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)
    if kind:
        fail(f"{name} is no text but {kind}: extract its text first")
    try:
        text = data.decode(next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8"))
    except UnicodeDecodeError as error:
        fail(
            f"{name} is no text in UTF-8 (byte {error.start:,} of {len(data):,}): if it is text in another encoding, "
            "convert it, for example with iconv -f latin1 -t utf-8"
        )
    if "\0" in text:
        fail(f"{name} is no text: it holds NUL bytes")
    return text


_MARKS = {  # of byte order; that of UTF-32 begins as that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
_MAGIC = {
    b"%PDF-": "a PDF",
    b"PK\x03\x04": "a ZIP archive (perhaps an office document)",
    b"\x1f\x8b": "compressed with gzip",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x7fELF": "a program",
}
