"""The common parts of the commands: options, errors in one line, reading and writing."""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, NoReturn, get_type_hints

import typer
from typer.core import TyperGroup

from dynamic_tinybert.errors import DynamicTinyBertError
from dynamic_tinybert.files import NoTextError, decode_text, missing, remove_unpacked, told_once, write_whole

if TYPE_CHECKING:
    from dynamic_tinybert.folder import ModelFolder
    from dynamic_tinybert.qa import QuestionAnswerer


CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
"""Control characters, which could change the terminal."""


class Precision(str, Enum):
    """The values of `--precision`."""

    auto = "auto"
    fp32 = "fp32"
    int8 = "int8"


class Html(str, Enum):
    """The values of `--html`."""

    all = "all"
    main = "main"


MODEL_HELP = 'A model folder, the name of a model that is installed or on the Hub, or "embedded".'
Model = Annotated[str, typer.Option(metavar="M", help=MODEL_HELP)]
Budget = Annotated[
    str, typer.Option(metavar="B", help="The budget: a share of the full model in (0, 1], or full, balanced, fast.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]
HtmlOption = Annotated[
    Html, typer.Option("--html", help="HTML: all that a browser shows, or what the page marks as its main content.")
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(help="Arithmetic: auto is int8 if the model was measured in it and the processor is fast at it."),
]

_LONGEST_LINE = 600  # characters of an error


def _threshold(value: str) -> float | str:
    """Read a no-answer threshold."""
    if value == "squad2":
        return value
    try:
        return float(value)
    except ValueError:
        raise typer.BadParameter(f"{value!r:.50} is neither a number nor squad2") from None


NoAnswerThreshold = Annotated[
    Any | None,
    typer.Option(
        metavar="X",
        parser=_threshold,
        help="The answer is empty if the no-answer logit is more than X above the best span's. A lower X gives more "
        "empty answers. squad2: the model's own for texts of which half have no answer.  "
        "[default: the model's own, or 0; `evaluate` on SQuAD 2.0: squad2]",
    ),
]
Threads = Annotated[
    int | None, typer.Option(metavar="N", min=1, max=1024, help="The number of threads.  [default: one per core]")
]


def complain(kind: str, message: str) -> None:
    """Print one line on standard error. What is foreign in it can neither control the terminal nor fill it."""
    line = plain(message)
    line = line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 100]} … {line[-90:]}"
    print(f"dynamic-tinybert: {kind}: {line}", file=sys.stderr)


def say(message: str) -> None:
    """Print one line for people on standard error."""
    print(f"dynamic-tinybert: {message}", file=sys.stderr, flush=True)


def fail(message: str, *, misuse: bool = False) -> NoReturn:
    """Print one line on standard error and exit with status 1, or 2 for misuse of a command."""
    complain("error", message)
    raise typer.Exit(2 if misuse else 1)


class Commands(TyperGroup):
    """The commands. A user's mistake is reported in one line and ends the command with status 1 or 2."""

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
            if extra is None:  # the program or its installation is broken
                raise
            _lacks(str(ctx.invoked_subcommand), package, extra)
        except OSError as error:
            if error.filename is None:  # standard output: `main` reports it
                raise
            fail(f"{error.filename}: {error.strerror or error}")


def _extra_of(command: str, package: str) -> str | None:
    """Return the extra that installs a package, or None if no extra of the command does."""
    own = (
        command if command in ("mcp", "search", "serve", "train") and package not in ("", "dynamic_tinybert") else None
    )
    return _EXTRAS.get(package, own)


def _lacks(command: str, package: str, extra: str) -> NoReturn:
    """Report in one line the extra that installs a missing package."""
    option = " --ray" if extra == "ray" else " --index" if extra in ("corpus", "milvus") and command != "index" else ""
    what = "training" if command == "train" else command + option
    fail(missing(what, package, extra))


_CORPUS = ("inscriptis", "lxml", "mammoth", "markdown_it", "pypdfium2", "tantivy", "webencodings")
_EXTRAS = {**dict.fromkeys(_CORPUS, "corpus"), "pymilvus": "milvus", "ray": "ray"}


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """End with status 1 instead of 2 at a ValueError: it is not a misuse of the command."""
    try:
        yield
    except ValueError as error:
        fail(str(error))


@contextlib.contextmanager
def resumable(where: str) -> Iterator[None]:
    """After an interruption, print how to continue, and where the partial results are."""
    try:
        yield
    except KeyboardInterrupt:
        complain("interrupted", f"run the same command with --resume to continue; {where}")
        raise typer.Exit(130) from None


def end_now(status: int) -> NoReturn:
    """End the process at once: threads that read a long text are not waited for."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    remove_unpacked()
    os._exit(status)


_providers: list[str] = []
_hub: dict[str, Any] = {}  # how the model of this command is found on the Hub: the options of `open_folder`


def with_model(command: Callable[..., None], *, runs: bool = True, variables: bool = False) -> Callable[..., None]:
    """Add the options that say how a command's model is found on the Hub and, if it `runs`, what computes.

    With `variables`, each may be given as an environment variable, too.
    """
    extra: dict[str, tuple[Any, Any, Any]] = {
        "revision": (
            str | None,
            None,
            typer.Option(metavar="R", help="Of a model on the Hub: a branch, tag or commit."),
        ),
        "token": (
            str | None,
            None,
            typer.Option(metavar="T", help="A token of the Hub, for private models.  [default: HF_TOKEN]"),
        ),
        "cache_dir": (Path | None, None, typer.Option(metavar="DIR", help="The folder that keeps models of the Hub.")),
        "offline": (
            bool,
            False,
            typer.Option("--offline", help="Never use the network: models of the Hub are in DIR already."),
        ),
    }

    if runs:
        extra["provider"] = (
            list[str] | None,
            None,
            typer.Option(
                metavar="P",
                help="ONNX Runtime's execution provider, such as CUDAExecutionProvider; again for the next choice.  "
                "[default: CPUExecutionProvider]",
            ),
        )

    if variables:
        for name, (_, _, option) in extra.items():
            option.envvar, option.show_envvar = f"DYNAMIC_TINYBERT_{name.upper()}", False

    @functools.wraps(command)
    def run(
        revision: str | None,
        token: str | None,
        cache_dir: Path | None,
        offline: bool,
        provider: list[str] | None = None,
        **options: Any,
    ) -> None:
        _hub.update(revision=revision, token=token, cache_dir=cache_dir, local_files_only=offline)
        _providers[:] = provider or []
        command(**options)

    hints = get_type_hints(command, include_extras=True)
    own = [each.replace(annotation=hints[each.name]) for each in inspect.signature(command).parameters.values()]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])
        for name, (kind, default, option) in extra.items()
    ]
    run.__annotations__ = {each.name: each.annotation for each in (*own, *added)}
    run.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
    return run


def revision() -> str | None:
    """Return the option `--revision` of a command with `with_model`."""
    asked: str | None = _hub.get("revision")
    return asked


def open_model(model: str) -> ModelFolder:
    """Open the folder of a command's model."""
    from dynamic_tinybert.folder import open_folder

    return open_folder(model, **_hub)


def load(
    model: str | ModelFolder,
    precision: Precision = Precision.auto,
    threads: int | None = None,
    *,
    alone: bool = True,
) -> QuestionAnswerer:
    """Load the model of a command, or one whose folder is open.

    Args:
        alone: Whether no other thread may write to standard error meanwhile.
    """
    from dynamic_tinybert.qa import QuestionAnswerer

    found: dict[str, Any] = {"model": model, **_hub} if isinstance(model, str) else {"model": str(model.path)}
    with failures(), told_once() if alone else contextlib.nullcontext():
        return QuestionAnswerer(**found, precision=precision.value, threads=threads, providers=_providers or None)


def model_options() -> list[str]:
    """Return which of the options of `with_model` this command was given."""
    named = {"local_files_only": "offline"}
    hub = [f"--{named.get(name, name).replace('_', '-')}" for name, value in _hub.items() if value]
    return [*hub, *(["--provider"] if _providers else [])]


def named_indexes(given: list[str]) -> dict[str, str]:
    """Parse NAME=DIR, or DIR, whose name is that of the folder."""
    found: dict[str, str] = {}
    for one in given:
        name, equals, directory = one.partition("=")
        if not equals or os.path.isabs(name) or name.startswith(".") or os.path.exists(one):  # = in a path
            name, directory = Path(one).resolve().name, one
        if not name or not directory:
            fail(f"--index must be [NAME=]DIR, not {one!r}", misuse=True)
        if name in found:
            fail(f"--index: the name is given twice: {name!r}", misuse=True)
        found[name] = directory
    return found


def plain(text: str) -> str:
    """Put a text on one line, and replace its control characters."""
    return CONTROL.sub("\ufffd", " ".join(text.split()))


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on one line of standard output."""
    line = json.dumps(value, ensure_ascii=sys.stdout.encoding.lower() != "utf-8")
    print(CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", line))  # JSON itself leaves DEL and C1 as they are


class Closed(io.TextIOBase):
    """Stands for a closed standard output: what is written to it is an error, not lost in silence."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        """Refuse a text.

        Raises:
            OSError: Always, unless the text is empty.
        """
        if text:
            raise OSError(errno.EBADF, "standard output is closed")
        return 0


def standard_input() -> BinaryIO:
    """Return standard input as a stream of bytes."""
    if sys.stdin is None:
        fail("standard input is closed", misuse=True)
    return sys.stdin.buffer


def standard_output() -> BinaryIO:
    """Return standard output as a stream of bytes."""
    if isinstance(sys.stdout, Closed):
        fail("the output cannot be written: standard output is closed")
    return sys.stdout.buffer


def check_writable(path: Path, *inputs: Path) -> None:
    """Check before long work that its result can be written. No file is created.

    Raises:
        OSError: The file cannot be written.
        ValueError: The file is the same as one of `inputs`.
    """
    for source in inputs:
        if path.exists() and source.exists() and path.samefile(source):
            raise ValueError(f"{path} is an input: name another file for the result")
    if path.exists() and not path.is_file() and not path.is_dir():  # opening a pipe would end it for its reader
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return
    real = Path(os.path.realpath(path))
    try:
        os.close(os.open(real, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        real.unlink()
    except FileExistsError:
        real.open("ab").close()


def write_result(path: Path, content: bytes) -> None:
    """Write a result to a path, which may be a link or a pipe. A regular file is replaced as a whole.

    Raises:
        OSError: The result cannot be written.
    """
    if path.exists() and not path.is_file():  # a pipe or a terminal; in /dev/fd, a pipe's real path is no path
        path.write_bytes(content)
    elif _is_standard_output(path):
        standard_output().write(content)
    else:
        write_whole(Path(os.path.realpath(path)), content)


def _is_standard_output(path: Path) -> bool:
    """Return whether a path is the regular file that standard output goes to: replacing it would lose both."""
    try:
        return os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError, AttributeError):  # there is no such path; standard output is closed, or not a file
        return False


def read_text(path: str) -> str:
    """Read a text file, or standard input if the path is `-`. Line ends are not changed.

    Raises:
        typer.Exit: The file cannot be read or is not text. One line is printed that says so.
    """
    try:
        data = standard_input().read() if path == "-" else Path(path).read_bytes()
    except IsADirectoryError:
        fail(f"{path} is a folder, not a file")
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}")
    try:
        return decode_text(data, "standard input" if path == "-" else path)
    except NoTextError as error:
        fail(str(error))
