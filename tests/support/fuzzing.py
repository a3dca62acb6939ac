"""What JSON Schema cannot say of a request, for schemathesis: see fuzzing.toml and results/serve/fuzzing.md.

The schema says what each field may be, not what goes with what: without this most requests that should be right would
be refused for having both a text and an index, and the server would hardly be asked anything.
"""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis import GenerationMode

INDEX = "docs"
_MOST_CANDIDATES = 3000
_MOST_CHARACTERS = 20_000
_PATIENCE_MS = 20_000  # 504 is right where a request allows less than reading takes, but schemathesis calls it failing


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Make a request that should be right one that is; leave those that should be wrong alone."""
    right = case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE
    if right and case.operation.path == "/answer" and isinstance(case.body, dict):
        case.body = fitting(case.body)
    if right and case.operation.path.startswith("/place"):
        start, end = (int(case.query[name]) for name in ("start", "end"))
        case.query["end"] = start + 1 + end % _MOST_CHARACTERS


def fitting(body: dict[str, Any]) -> dict[str, Any]:
    """Return a request like `body` whose fields go together, and fit a model of 512 positions."""
    body = dict(body)
    body["question"] = each(body["question"], lambda question: question if readable(question) else f"Who {question}")
    if (given := body.pop("context", None)) is not None and body.get("text") is None:
        body["text"] = given  # the two are the same
    if body.get("text") is None or (body.get("index") is not None and len(body["index"]) % 2):
        body.pop("text", None)
        body["index"] = INDEX
        body.pop("explain", None)
        body.pop("handle_impossible_answer", None)
    else:
        body.pop("index", None)
        if isinstance(body["question"], list) and isinstance(body["text"], list):
            count = min(len(body["question"]), len(body["text"]))
            body |= {"question": body["question"][:count], "text": body["text"][:count]}
    if not body.get("handle_impossible_answer"):
        body.pop("no_answer_threshold", None)
    for name, least, values in (("max_question_len", 1, 100), ("max_seq_len", 120, 390), ("doc_stride", 0, 10)):
        if body.get(name) is not None:
            body[name] = least + int(body[name]) % values
    if int(body.get("top_k", 1)) * int(body.get("max_answer_len", 30)) > _MOST_CANDIDATES:
        body["max_answer_len"] = _MOST_CANDIDATES // int(body["top_k"])
    if body.get("max_latency_ms") is not None:
        body["max_latency_ms"] = max(body["max_latency_ms"], _PATIENCE_MS)
    return body


def each(value: Any, change: Any) -> Any:
    return [change(item) for item in value] if isinstance(value, list) else change(value)


def readable(question: str) -> bool:
    """Whether a question has something that a tokenizer surely knows."""
    return any(character.isalnum() for character in question)
