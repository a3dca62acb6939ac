"""The settings of a server. Each is declared once for Python, the command `serve` and Ray Serve.

Python uses `ServeOptions`. The command and Ray use the names of `SETTINGS`, with values as people write them: text and
numbers, and files for secrets.
"""

# ruff: noqa: RUF009 - `_option` is `dataclasses.field` with a help text

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from dynamic_tinybert.model import Budget


_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]+)?|null|\*")  # as browsers send it


@dataclass(frozen=True)
class Setting:
    """A setting as people write it.

    Attributes:
        type: The type.
        default: The default value.
        help: One line of help.
        metavar: The name of the value in a help text.
        min: The least value.
        max: The greatest value.
    """

    type: Any
    default: Any
    help: str
    metavar: str | None = None
    min: float | None = None
    max: float | None = None


def _option(setting: Setting, *, name: str | None = None, repr: bool = True, **python: Any) -> Any:
    """Declare an option of `ServeOptions`.

    Args:
        setting: The option as people write it.
        name: Its name in `SETTINGS`, if it differs.
        repr: Whether its value may be shown.
        python: `default` or `default_factory`, if the default in Python differs.
    """
    python = python or {"default": setting.default}
    return field(repr=repr, metadata={"name": name, "setting": setting}, **python)


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """The options of a server."""

    host: str = _option(Setting(str, "127.0.0.1", "The address to listen on.", "HOST"))
    port: int = _option(Setting(int, 8000, "The port to listen on; 0 chooses a free one.", "N", 0, 65535))
    indexes: Mapping[str, Path | str] = _option(
        Setting(dict[str, str], {}, "An index that questions may name; may be repeated.", "[NAME=]DIR"),
        name="index",
        default_factory=dict,
    )
    budget: Budget = _option(Setting(str | float, "full", "The budget of questions that do not give one.", "B"))
    slo_ms: float | None = _option(
        Setting(
            float,
            200.0,
            "The target time for an answer, in milliseconds: under load, cheaper configurations are used to meet it; "
            "0 turns load control off.",
            "MS",
            0,
        )
    )
    min_budget: Budget | None = _option(
        Setting(str | float | None, None, "The lowest budget that load control uses.  [default: the cheapest]", "B")
    )
    max_batch_tokens: int = _option(
        Setting(int, 128, "The most tokens in a batch at full. Cheaper configurations may have more.", "N", 1)
    )
    max_waiting: int = _option(Setting(int, 256, "Questions that may wait; more are refused with 429.", "N", 1))
    timeout_ms: float = _option(Setting(float, 30_000.0, "The time limit of a request; after it, status 504.", "MS", 1))
    max_body_bytes: int = _option(Setting(int, 8 << 20, "The largest body of a request.", "N", 1))
    max_text_characters: int = _option(Setting(int, 1_000_000, "The longest text.", "N", 1))
    max_question_characters: int = _option(Setting(int, 10_000, "The longest question.", "N", 1))
    max_questions: int = _option(Setting(int, 64, "Questions in one request.", "N", 1))
    body_timeout_s: float = _option(
        Setting(float, 10.0, "Seconds that a client may take to send the body of a request.")
    )
    header_timeout_s: float = _option(
        Setting(float, 10.0, "Seconds that a client may take to send its head, from when the connection opens.")
    )
    keep_alive_s: float = _option(Setting(float, 30.0, "Seconds that an idle connection stays open."))
    write_timeout_s: float = _option(Setting(float, 30.0, "Seconds that a client may take to read on in a response."))
    max_connections: int = _option(Setting(int, 1000, "Connections that are open at once.", "N", 1))
    max_buffered_bytes: int = _option(
        Setting(
            int,
            256 << 20,
            "Bytes of bodies that are held at once, over all requests; a request beyond them is refused.",
        )
    )
    api_keys: Sequence[str] = _option(
        Setting(Path | None, None, "A file of API keys, one per line: each request must send one of them.", "FILE"),
        name="api_key_file",
        default=(),
        repr=False,
    )
    allow_origins: Sequence[str] = _option(
        Setting(list[str], [], "A web origin whose pages may send requests (CORS); may be repeated.", "ORIGIN"),
        name="allow_origin",
        default=(),
    )
    allowed_hosts: Sequence[str] | None = _option(
        Setting(
            list[str],
            [],
            "A host name that requests may use; may be repeated.  [default: any; on a loopback address, only its own]",
            "NAME",
        ),
        name="allowed_host",
        default=None,
    )
    log_text: bool = _option(Setting(bool, False, "Write questions and texts to the log, which has none otherwise."))

    @classmethod
    def from_settings(
        cls, settings: Mapping[str, Any], *, indexes: Mapping[str, Path | str], api_keys: Sequence[str]
    ) -> ServeOptions:
        """Make the options from settings.

        Args:
            settings: Values by the names of `SETTINGS`; missing values have their defaults.
            indexes: The indexes of the setting `index`, by name.
            api_keys: The content of `api_key_file`.

        Raises:
            BudgetError: A budget is invalid.
            ValueError: An origin is not as browsers send it.
        """
        from dynamic_tinybert.model import parse_budget

        for origin in settings.get("allow_origin") or ():
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"allow-origin must be SCHEME://HOST[:PORT] in ASCII without a path, null or *, not {origin!r:.90}"
                )
        given = {name: setting.default for name, setting in SETTINGS.items()} | dict(settings)
        options = {option.name: given[option.name] for option in fields(cls) if option.name in given}
        options |= {
            "indexes": indexes,
            "budget": parse_budget(str(given["budget"])),
            "slo_ms": given["slo_ms"] or None,
            "min_budget": None if given["min_budget"] is None else parse_budget(str(given["min_budget"])),
            "max_questions": min(given["max_questions"], given["max_waiting"]),
            "api_keys": api_keys,
            "allow_origins": tuple(given["allow_origin"] or ()),
            "allowed_hosts": tuple(given["allowed_host"] or ()) or None,
        }
        return cls(**options)


SETTINGS: Mapping[str, Setting] = {
    **{option.metadata["name"] or option.name: option.metadata["setting"] for option in fields(ServeOptions)},
    "model": Setting(
        str, "embedded", 'A model folder, the name of a model that is installed or on the Hub, or "embedded".', "M"
    ),
    "precision": Setting(
        Literal["auto", "fp32", "int8"],
        "auto",
        "Arithmetic: auto is int8 if the model was measured in it and the processor is fast at it.",
    ),
    "workers": Setting(int | None, None, "Batches predicted at the same time.  [default: one per core]", "N", 1, 256),
    "threads": Setting(int, 1, "Threads per batch.", "N", 1, 1024),
    "log_level": Setting(
        Literal["debug", "info", "warning", "error"], "info", "debug, info, warning or error.", "LEVEL"
    ),
}
"""All settings by name: the options of the server and those of the process."""

ServeOptions.__doc__ = "How a server behaves.\n\nAttributes:\n" + "\n".join(
    f"    {option.name}: {option.metadata['setting'].help}" for option in fields(ServeOptions)
)


def parse_keys(text: str) -> tuple[str, ...]:
    """Parse API keys, one per line. Empty lines and lines that start with # are ignored."""
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))
