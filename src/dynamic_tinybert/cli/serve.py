"""The command `serve`: an HTTP server with a page for questions."""

from __future__ import annotations

import inspect
import math
import threading
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from dynamic_tinybert.cli import console
from dynamic_tinybert.files import processors
from dynamic_tinybert.serve import SETTINGS, ServeOptions, parse_keys

_SETTINGS = """
    host port model index budget slo_ms min_budget workers threads max_batch_tokens max_waiting timeout_ms max_questions
    max_text_characters max_question_characters max_body_bytes max_connections api_key_file allow_origin allowed_host
    log_level log_text precision
""".split()  # noqa: SIM905 - in the order of the help text
_TYPES = {"budget": str, "min_budget": str | None, "log_level": str, "precision": console.Precision}


def serve(*, open_page: bool, **settings: Any) -> None:
    """Serve answers over HTTP, with a web page to ask questions on (extra `serve`).

    \b
      dynamic-tinybert serve --open
      dynamic-tinybert serve --index docs=my-index --slo-ms 100 --min-budget 0.5
      curl -s 127.0.0.1:8000/answer --json '{"question": "Where is it?", "text": "The tower stands in Paris."}'

    An idle server answers with the full model. As the load grows, each question gets the most accurate length
    configuration with which all questions are answered within --slo-ms. Each answer says which configuration it got. If
    too many questions are waiting, a new question is refused at once, with status 429.

    POST /answer answers questions; / is the page; /info, /health, /metrics and /openapi.json describe the server. It
    listens on this machine only, unless --host says otherwise: then use API keys, and a proxy that adds TLS.

    Each option except --open is also an environment variable, for example DYNAMIC_TINYBERT_SLO_MS for --slo-ms. In the
    variable of an option that may be repeated, separate the values by spaces. The log is JSON on standard error, one
    line per request. SIGTERM stops the server after all accepted questions are answered.
    """
    if not math.isfinite(settings["slo_ms"]) or not math.isfinite(settings["timeout_ms"]):
        console.fail("--slo-ms and --timeout-ms must be numbers of milliseconds", misuse=True)
    indexes, keys = console.named_indexes(settings["index"] or []), _keys(settings["api_key_file"])
    options = ServeOptions.from_settings(settings, indexes=indexes, api_keys=keys)
    log_level = settings["log_level"]
    if log_level.lower() not in ("debug", "info", "warning", "error"):
        console.fail(f"--log-level must be debug, info, warning or error, not {log_level!r}", misuse=True)
    workers = settings["workers"] or processors()
    _run(options, settings["model"], settings["precision"], settings["threads"], workers, log_level, open_page)


def _parameter(name: str) -> inspect.Parameter:
    """Return a setting as an option of the command and as an environment variable, `DYNAMIC_TINYBERT_NAME`."""
    setting = SETTINGS[name]
    kind, default = _TYPES.get(name, setting.type), setting.default
    if isinstance(default, (list, dict)):
        kind, default = list[str] | None, None
    option = typer.Option(
        "--" + name.replace("_", "-"),
        envvar="DYNAMIC_TINYBERT_" + name.upper(),
        show_envvar=False,
        metavar=setting.metavar,
        help=setting.help,
        min=setting.min,
        max=setting.max,
    )
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


def _signature() -> inspect.Signature:
    page = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]
    opening = inspect.Parameter("open_page", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=page)
    return inspect.Signature([*map(_parameter, _SETTINGS), opening])


serve.__signature__ = _signature()  # type: ignore[attr-defined]
serve.__annotations__ = {name: parameter.annotation for name, parameter in _signature().parameters.items()}


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
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()  # a text browser would block

    run(app, options, stopping=stopping, ready=ready)
    counted = engine.metrics.totals()
    logging.getLogger("dynamic_tinybert.serve").info("stopped", extra=counted)


def _keys(file: Path | None) -> tuple[str, ...]:
    if file is None:
        return ()
    keys = parse_keys(console.read_text(str(file)))
    if not keys:
        console.fail(f"{file} contains no key; without --api-key-file, everybody may send questions")
    return keys
