"""What a server may be told, and what it does untold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dynamic_tinybert.model import Budget


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """How a server behaves.

    Attributes:
        host: The address to listen on.
        port: The port; 0 takes a free one.
        indexes: Indexes that questions may name, by name: folders, or addresses in Milvus.
        budget: What a question may cost that does not say.
        slo_ms: The objective: milliseconds from a request's arrival to its answer that load control holds, by giving
            questions cheaper length configurations as the load grows. None turns load control off.
        min_budget: What load control goes down to; None lets it use the cheapest configuration.
        max_batch_tokens: Tokens of a batch at `full`, padding counted; at a cheaper configuration as many more as that
            costs less.
        max_waiting: Questions that may wait; more are refused.
        timeout_ms: Milliseconds that a request may wait before it is given up.
        max_body_bytes: The largest body of a request.
        max_text_characters: The longest text.
        max_question_characters: The longest question.
        max_questions: Questions in one request.
        body_timeout_s: Seconds that a client may take to send the body of a request.
        header_timeout_s: Seconds that a client may take to send its head, from when the connection opens.
        keep_alive_s: Seconds that an idle connection stays open.
        write_timeout_s: Seconds that a client may take to read on in a response.
        max_connections: Connections that are open at once.
        max_buffered_bytes: Bytes of bodies that are held at once, over all requests; a request beyond them is refused.
        api_keys: Keys of which a request must bring one; none lets everybody in.
        allow_origins: Origins whose pages may ask (CORS); none by default.
        allowed_hosts: Names by which the server may be called; None for the loopback's own if `host` is one, or any.
        log_text: Write questions and texts into the log.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    indexes: Mapping[str, Path | str] = field(default_factory=dict)
    budget: Budget = "full"
    slo_ms: float | None = 200.0
    min_budget: Budget | None = None
    max_batch_tokens: int = 128
    max_waiting: int = 256
    timeout_ms: float = 30_000.0
    max_body_bytes: int = 8 << 20
    max_text_characters: int = 1_000_000
    max_question_characters: int = 10_000
    max_questions: int = 64
    body_timeout_s: float = 10.0
    header_timeout_s: float = 10.0
    keep_alive_s: float = 30.0
    write_timeout_s: float = 30.0
    max_connections: int = 1000
    max_buffered_bytes: int = 256 << 20
    api_keys: Sequence[str] = field(default=(), repr=False)
    allow_origins: Sequence[str] = ()
    allowed_hosts: Sequence[str] | None = None
    log_text: bool = False
