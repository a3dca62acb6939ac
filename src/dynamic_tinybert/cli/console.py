"""What the commands share: options, errors in one line, progress bars, reading text."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from dynamic_tinybert.errors import DynamicTinyBertError
from dynamic_tinybert.files import NoTextError, UndecodableError, text_blocks, write_whole

if TYPE_CHECKING:
    from dynamic_tinybert.qa import QuestionAnswerer


CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
"""Characters that a terminal would obey."""


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
NoAnswerThreshold = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="No answer where its logit exceeds the best span's by more than X; the lower, the more often.  "
        "[default: the model's own, or 0]",
    ),
]
Threads = Annotated[
    int | None, typer.Option(metavar="N", min=1, max=1024, help="Threads to use.  [default: one for each core]")
]


def complain(kind: str, message: str) -> None:
    """Print one line on standard error."""
    print(f"dynamic-tinybert: {kind}: {' '.join(message.split())}", file=sys.stderr)


def say(message: str) -> None:
    """Print one line for people on standard error."""
    print(f"dynamic-tinybert: {message}", file=sys.stderr, flush=True)


def fail(message: str, *, misuse: bool = False) -> NoReturn:
    """End with one line on standard error, and exit status 1, or 2 for a command that was put wrongly."""
    complain("error", message)
    raise typer.Exit(2 if misuse else 1)


class Commands(TyperGroup):
    """The commands. What a user can get wrong in one of them is told in one line, and ends it with status 1 or 2."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except DynamicTinyBertError as error:
            fail(str(error), misuse=error.misuse)
        except ValueError as error:
            fail(str(error), misuse=True)
        except ImportError as error:
            package = (error.name or "").partition(".")[0]
            extra = _extra_of(str(ctx.invoked_subcommand), package)
            if extra is None:  # a fault of the program, or of its installation
                raise
            _lacks(str(ctx.invoked_subcommand), package, extra)
        except OSError as error:
            if error.filename is None:  # of standard output: `main` tells it
                raise
            fail(f"{error.filename}: {error.strerror or error}")


def _extra_of(command: str, package: str) -> str | None:
    """Return the extra that brings a package; None if no extra of the command does."""
    own = command if command in ("search", "serve", "train") and package not in ("", "dynamic_tinybert") else None
    return _EXTRAS.get(package, own)


def _lacks(command: str, package: str, extra: str) -> NoReturn:
    """Say in one line which extra brings a package that is missing."""
    option = " --ray" if extra == "ray" else " --index" if extra in ("corpus", "milvus") and command != "index" else ""
    what = "training" if command == "train" else command + option
    fail(f"{what} needs {package}, which is not installed: pip install 'dynamic-tinybert[{extra}]'")


_CORPUS = ("inscriptis", "lxml", "mammoth", "markdown_it", "pypdfium2", "tantivy", "webencodings")
_EXTRAS = {**dict.fromkeys(_CORPUS, "corpus"), "pymilvus": "milvus", "ray": "ray"}


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """Turn a ValueError, whatever it is, into status 1: from here on the command was put rightly."""
    try:
        yield
    except ValueError as error:
        fail(str(error))


@contextlib.contextmanager
def resumable(where: str) -> Iterator[None]:
    """Say how to go on after an interruption, and where what is done so far lies."""
    try:
        yield
    except KeyboardInterrupt:
        complain("interrupted", f"the same command with --resume goes on where it was; {where}")
        raise typer.Exit(130) from None


def load(model: str, precision: Precision = Precision.fp32, threads: int | None = None) -> QuestionAnswerer:
    """Load the model that a command names."""
    from dynamic_tinybert.qa import QuestionAnswerer

    with failures():
        return QuestionAnswerer(model, precision=precision.value, threads=threads)


def plain(text: str) -> str:
    """Put a text on one line, and keep its control characters from the terminal."""
    return CONTROL.sub("\ufffd", " ".join(text.split()))


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on one line of standard output."""
    print(json.dumps(value, ensure_ascii=sys.stdout.encoding.lower() != "utf-8"))


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
    try:
        return "".join(text_blocks(io.BytesIO(data)))
    except UndecodableError as error:
        fail(
            f"{name} is no text in {error.encoding} (byte {error.position:,} of {len(data):,}): if it is text in "
            "another encoding, convert it, for example with iconv -f latin1 -t utf-8"
        )
    except NoTextError as error:
        fail(f"{name} {error}")
