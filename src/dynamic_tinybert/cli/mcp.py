"""The command `mcp`: a server of the Model Context Protocol, for assistants."""

from __future__ import annotations

import contextlib
import ipaddress
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynamic_tinybert.cli import console

if TYPE_CHECKING:
    from dynamic_tinybert.mcp import Gathering, Library, Shelf
    from dynamic_tinybert.qa import QuestionAnswerer

_HOST, _PORT = "127.0.0.1", 8000
_FILES = "files"  # the index of the paths


def mcp(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH...]",
            help="Files (text, Markdown, HTML, PDF, DOCX, JSON Lines) and folders, indexed at the start.",
        ),
    ] = None,
    index: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]DIR", help="An index of documents, made by `index add`; may be repeated."),
    ] = None,
    http: Annotated[
        bool, typer.Option("--http", help="Serve over streamable HTTP instead of standard input and output.")
    ] = False,
    host: Annotated[
        str | None, typer.Option(metavar="H", help=f"With --http: the address to listen on.  [default: {_HOST}]")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="P",
            min=0,
            max=65535,
            help=f"With --http: the port to listen on; 0 for a free one.  [default: {_PORT}]",
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="H", help="With --http: another name by which clients reach the server; may be repeated."),
    ] = None,
    model: console.Model = "embedded",
    precision: console.PrecisionOption = console.Precision.auto,
    threads: console.Threads = None,
) -> None:
    """Give assistants exact, cited answers from your documents, over the Model Context Protocol (extra `mcp`).

    \b
      dynamic-tinybert mcp my-documents manual.pdf
      dynamic-tinybert mcp --index docs=my-index
      dynamic-tinybert mcp --index my-index --http

    An assistant's host starts this command and talks to it over standard input and output; it ends with the host. The
    tools only read: ask, find, list, read. They give what is in these indexes, files and folders, and nothing else.

    Files and folders are read into a temporary index at every start. For many documents, make an index with `index add`
    once, and give it with --index.
    """
    if not paths and not index:
        console.fail("give the documents: files or folders, or --index DIR", misuse=True)
    if not http and (host is not None or port is not None or allowed_host):
        console.fail("--host, --port and --allowed-host need --http", misuse=True)
    named = console.named_indexes(index or [])
    if paths and _FILES in named:
        console.fail(f"--index: the name {_FILES!r} is that of the files and folders: give another name", misuse=True)
    with _library(paths or [], named, model, precision, threads) as library:
        if http:
            _over_http(library, host or _HOST, _PORT if port is None else port, allowed_host or [])
        else:
            _over_stdio(library)
    console.end_now(0)  # a call that nobody waits for may still work


@contextlib.contextmanager
def _library(
    paths: list[str], indexes: dict[str, str], model: str, precision: console.Precision, threads: int | None
) -> Iterator[Library]:
    from dynamic_tinybert.corpus import Corpus
    from dynamic_tinybert.mcp import Gathering, Library, RequestError, Shelf

    shelves: list[Shelf] = []
    for name, directory in indexes.items():
        corpus = Corpus(directory)
        corpus.counts()  # raises if the index cannot be used
        shelves.append(Shelf(name, corpus))
    folder = console.open_model(model)

    def load() -> QuestionAnswerer:
        try:
            return console.load(folder, precision, threads, alone=False)
        except Exception as error:
            if not isinstance(error, typer.Exit):
                console.complain("error", str(error))
            raise RequestError("the model cannot be loaded: the server's log says why") from None

    gathering: Gathering | None = None
    if paths:
        gathering = Gathering(paths, console.say)
        shelves.append(Shelf(_FILES, gathering.corpus, gathering.root, gathering.wait, gathering.ready))

    def stop(*_: Any) -> None:
        """End at a signal: a thread that waits for standard input cannot be ended otherwise."""
        if gathering is not None:
            gathering.close()
        console.end_now(0)

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]  # as nohup ignores SIGHUP
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        if gathering is not None:
            gathering.start()
        yield Library(shelves, load)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if gathering is not None:
            gathering.close()


def _over_stdio(library: Library) -> None:
    from dynamic_tinybert.mcp import create_server, serve_stdio

    _log()
    console.standard_input()
    console.standard_output()
    if sys.stdin.isatty():
        console.say("waiting for an assistant on standard input; Ctrl-C ends")
    serve_stdio(create_server(library))


def _over_http(library: Library, host: str, port: int, allowed_hosts: list[str]) -> None:
    from dynamic_tinybert.mcp import create_server, listen, serve_http

    _log()
    try:
        listener = listen(host, port)
    except OSError as error:
        console.fail(f"cannot listen on {host} port {port}: {error.strerror or error}")
    address = listener.getsockname()[0]
    if not ipaddress.ip_address(address).is_loopback:
        console.complain("warning", f"whoever can reach {address} can read the documents: there is no login")
    serve_http(
        create_server(library),
        listener,
        allowed_hosts=allowed_hosts,
        ready=lambda url: console.say(f"serving MCP at {url}"),
    )


def _log() -> None:
    """Log warnings to standard error, in plain lines."""
    import logging

    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="dynamic-tinybert: %(levelname)s: %(message)s")
