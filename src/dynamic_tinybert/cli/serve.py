"""`serve`: an HTTP server, and a page to ask on."""

from __future__ import annotations

import math
import os
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynamic_tinybert.cli import console

if TYPE_CHECKING:
    from dynamic_tinybert.serve import ServeOptions

_PREFIX = "DYNAMIC_TINYBERT_"


def _option(*names: str, **more: Any) -> Any:
    """An option that is also an environment variable, of the same name."""
    name = max(names, key=len, default="")
    return typer.Option(*names, envvar=_PREFIX + name.strip("-").replace("-", "_").upper(), show_envvar=False, **more)


def serve(
    host: Annotated[str, _option("--host", metavar="HOST", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, _option("--port", min=0, max=65535, metavar="N", help="0 takes a free one.")] = 8000,
    model: Annotated[
        str, _option("--model", metavar="M", help='A model folder, a name on the Hub, or "embedded".')
    ] = "embedded",
    index: Annotated[
        list[str] | None,
        _option("--index", metavar="NAME=DIR", help="An index that questions may name; may be repeated."),
    ] = None,
    budget: Annotated[
        str, _option("--budget", metavar="B", help="The most that a question may cost that does not say.")
    ] = "full",
    slo_ms: Annotated[
        float,
        _option(
            "--slo-ms",
            min=0,
            metavar="MS",
            help="The objective: milliseconds in which questions are answered, by cheaper configurations as the load "
            "grows; 0 turns load control off.",
        ),
    ] = 200.0,
    min_budget: Annotated[
        str | None,
        _option("--min-budget", metavar="B", help="Load control goes no lower.  [default: the cheapest there is]"),
    ] = None,
    workers: Annotated[
        int | None,
        _option("--workers", min=1, max=256, metavar="N", help="Batches read at once.  [default: one a core]"),
    ] = None,
    threads: Annotated[int, _option("--threads", min=1, max=1024, metavar="N", help="Threads that read a batch.")] = 1,
    max_batch_tokens: Annotated[
        int,
        _option("--max-batch-tokens", min=1, metavar="N", help="Tokens of a batch at full; at a cheaper one, more."),
    ] = 128,
    max_waiting: Annotated[
        int, _option("--max-waiting", min=1, metavar="N", help="Questions that may wait; more are refused with 429.")
    ] = 256,
    timeout_ms: Annotated[
        float, _option("--timeout-ms", min=1, metavar="MS", help="A request that waits longer is given up with 504.")
    ] = 30_000.0,
    max_questions: Annotated[
        int, _option("--max-questions", min=1, metavar="N", help="Questions in one request.")
    ] = 64,
    max_text_characters: Annotated[
        int, _option("--max-text-characters", min=1, metavar="N", help="The longest text.")
    ] = 1_000_000,
    max_question_characters: Annotated[
        int, _option("--max-question-characters", min=1, metavar="N", help="The longest question.")
    ] = 10_000,
    max_body_bytes: Annotated[
        int, _option("--max-body-bytes", min=1, metavar="N", help="The largest body of a request.")
    ] = 8 << 20,
    max_connections: Annotated[
        int, _option("--max-connections", min=1, metavar="N", help="Connections that are open at once.")
    ] = 1000,
    api_key_file: Annotated[
        Path | None,
        _option("--api-key-file", metavar="FILE", help="Keys, one a line: each request must bring one of them."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        _option("--allow-origin", metavar="ORIGIN", help="A web origin whose pages may ask (CORS); may be repeated."),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        _option(
            "--allowed-host",
            metavar="NAME",
            help="A name by which the server may be called; may be repeated.  [default: any, or on a loopback address "
            "only its own]",
        ),
    ] = None,
    log_level: Annotated[str, _option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")] = "info",
    log_text: Annotated[
        bool, _option("--log-text", help="Write questions and texts into the log; without, it holds none.")
    ] = False,
    precision: Annotated[
        console.Precision,
        _option("--precision", help="Arithmetic: int8 is faster where the processor has VNNI, and less accurate."),
    ] = console.Precision.fp32,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve answers over HTTP, and a page to ask on (extra `serve`).

    \b
      dynamic-tinybert serve --open
      dynamic-tinybert serve --index docs=my-index --slo-ms 100 --min-budget 0.5
      curl -s 127.0.0.1:8000/answer --json '{"question": "Where is it?", "text": "The tower stands in Paris."}'

    Idle, it answers at the full model; as the load grows, each question gets the most accurate length configuration
    with which all are answered within --slo-ms. Each answer says what it got. What cannot be answered in time even at
    the cheapest is refused at once, with status 429.

    POST /answer answers; /info, /health, /metrics and /openapi.json tell of the server; / is the page. It serves this
    machine alone unless --host says otherwise: then give it keys, and put it behind a proxy that speaks TLS.

    Each option is also an environment variable, as DYNAMIC_TINYBERT_SLO_MS for --slo-ms; of an option that may be
    repeated, the values stand side by side, with spaces between. It logs JSON, a line a request, to standard error;
    SIGTERM ends it when all that it accepted is answered.
    """
    from dynamic_tinybert.model import parse_budget
    from dynamic_tinybert.serve import ServeOptions

    if not math.isfinite(slo_ms) or not math.isfinite(timeout_ms):
        console.fail("--slo-ms and --timeout-ms are numbers of milliseconds", misuse=True)
    options = ServeOptions(
        host=host,
        port=port,
        indexes=_indexes(index or []),
        budget=parse_budget(budget),
        slo_ms=slo_ms or None,
        min_budget=None if min_budget is None else parse_budget(min_budget),
        max_batch_tokens=max_batch_tokens,
        max_waiting=max_waiting,
        timeout_ms=timeout_ms,
        max_body_bytes=max_body_bytes,
        max_text_characters=max_text_characters,
        max_question_characters=max_question_characters,
        max_questions=min(max_questions, max_waiting),
        max_connections=max_connections,
        api_keys=_keys(api_key_file),
        allow_origins=tuple(allow_origin or ()),
        allowed_hosts=tuple(allowed_host) if allowed_host else None,
        log_text=log_text,
    )
    if log_level.lower() not in ("debug", "info", "warning", "error"):
        console.fail(f"--log-level is debug, info, warning or error, not {log_level!r}", misuse=True)
    _run(options, model, precision, threads, workers or os.cpu_count() or 1, log_level, open_page)


def _run(
    options: ServeOptions,
    model: str,
    precision: console.Precision,
    threads: int,
    workers: int,
    log_level: str,
    open_page: bool,
) -> None:
    import logging

    from dynamic_tinybert.serve import Stopping, assemble, setup_logs
    from dynamic_tinybert.serve import serve as run

    stopping = Stopping()
    qa = console.load(model, precision, threads)
    engine, app = assemble(qa, options, workers=workers, stopping=stopping)
    setup_logs(log_level.upper(), text=options.log_text)

    def ready(url: str) -> None:
        console.say(f"serving {engine.model.name} at {url}")
        if open_page:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()  # a browser of text would wait

    run(app, options, stopping=stopping, ready=ready)
    counted = engine.metrics.totals()
    logging.getLogger("dynamic_tinybert.serve").info("stopped", extra=counted)


def _indexes(given: list[str]) -> dict[str, str]:
    """Read NAME=DIR, or DIR, which is called as the folder is."""
    found: dict[str, str] = {}
    for one in given:
        name, equals, directory = one.partition("=")
        if not equals:
            name, directory = Path(one).resolve().name, one
        if not name or not directory:
            console.fail(f"--index is NAME=DIR, not {one!r}", misuse=True)
        if name in found:
            console.fail(f"--index: there are two of the name {name!r}", misuse=True)
        found[name] = directory
    return found


def _keys(file: Path | None) -> tuple[str, ...]:
    """Read the file of keys."""
    if file is None:
        return ()
    from dynamic_tinybert.serve.application import keys_of

    keys = keys_of(console.read_text(str(file)))
    if not keys:
        console.fail(f"{file} holds no key: without --api-key-file everybody may ask")
    return keys
