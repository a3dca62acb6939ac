"""The command `dynamic-tinybert`: its subcommands, and the handling of their errors."""

from __future__ import annotations

import io
import os
import sys
import warnings
from typing import Annotated, Any, TextIO

import typer

from dynamic_tinybert.cli import ask, batch, calibrate, evaluation, index, mcp, model, push, search, serve, train
from dynamic_tinybert.cli.console import Closed, Commands, complain, with_model

_HELP = """Ask questions of texts, at any computational budget.

\b
  dynamic-tinybert ask "Who designed the tower?" --text eiffel-tower.txt
  dynamic-tinybert ask "Who designed the tower?" --text eiffel-tower.txt --budget 0.5 --top-k 3
  dynamic-tinybert index add my-documents --index my-index
  dynamic-tinybert ask "Who designed the tower?" --index my-index
  dynamic-tinybert serve --open
  dynamic-tinybert info

A budget is a share of the full model's multiply-accumulates in (0, 1], or full, balanced (the cheapest measured
configuration within 1 F1 of full) or fast (within 3). A model is a folder, a name on the Hugging Face Hub, or
"embedded", the one in the package.
"""

_STDERR = 2

app = typer.Typer(
    cls=Commands,
    help=_HELP,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
app.command("ask")(with_model(ask.ask))
app.command("batch")(with_model(batch.batch))
app.add_typer(index.app, name="index")
app.command("evaluate")(with_model(evaluation.evaluate))
app.command("score")(evaluation.score)
app.command("info")(with_model(model.info, runs=False))
app.command("export")(with_model(model.export, runs=False))
app.command("push")(push.push)
app.command("serve")(with_model(serve.serve, variables=True))
app.command("mcp")(with_model(mcp.mcp))
app.command("train")(train.train)
app.command("search")(with_model(search.search))
app.command("calibrate")(with_model(calibrate.calibrate))

_Misuse: Any = typer.BadParameter.__base__  # click's UsageError; versions of typer import it from different places


def _version(wanted: bool) -> None:
    if wanted:
        from dynamic_tinybert import __version__

        print(f"dynamic-tinybert {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before a command; there is only `--version`."""


def _nowhere() -> TextIO:
    """Open the null device. Streams that are closed leave their numbers to it, so that no file gets them."""
    while (file := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    return open(file, "w")


def _run(arguments: list[str]) -> Any:
    try:
        return app(arguments, standalone_mode=False)
    except _Misuse as error:
        if type(error).__name__ != "NoArgsIsHelpError":  # of `index` alone; typer's versions import it differently, too
            raise
        print(error.format_message())
        return 0


def main() -> None:
    """Run the command line. Exit status: 0 done, 1 failed, 2 misuse."""
    nowhere = _nowhere()
    sys.stdout, sys.stderr = sys.stdout or Closed(), sys.stderr or nowhere
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # the terminal may not be able to encode a text
            stream.reconfigure(errors="replace")
    warnings.showwarning = lambda message, *_args, **_options: complain("warning", str(message))
    try:
        sys.exit(_run(sys.argv[1:] or ["--help"]))
    except _Misuse as error:
        complain("error", error.format_message())
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except OSError as error:  # the disk is full, or the reader of standard output has left, such as `head`
        if not isinstance(error, BrokenPipeError):
            complain("error", f"the output cannot be written: {error.strerror or error}")
        if not isinstance(sys.stdout, Closed):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
