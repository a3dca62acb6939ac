"""Read the questions of a batch from JSON Lines, one at a time, in bounded memory."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, TypeAlias

from dynamic_tinybert.files import SURROGATE, LineError, parse_object, split_lines

Id: TypeAlias = "str | int | float"

LONGEST_LINE = 1 << 26  # bytes

_PIECE = 1 << 20  # bytes of a line that are read at a time
_BOM = b"\xef\xbb\xbf"
_EXAMPLE = '{"question": "...", "text": "..."}'


@dataclass(frozen=True, kw_only=True)
class Record:
    """A line of a file of questions.

    Attributes:
        line: The number of the line, from 1.
        id: The id of the answer: the question's own id, otherwise the number of the line.
        named: Whether the question has an id of its own; if not, the output line also contains the question.
        end: The end of the line, in bytes from the start of the file.
    """

    line: int
    id: Id
    named: bool
    end: int


@dataclass(frozen=True, kw_only=True)
class Question(Record):
    """A question and its text; the text is empty if questions need no text.

    Attributes:
        question: The question.
        text: The text.
        digest: Of the question, its text and the options of the run. It tells whether an answer belongs to them. It is
            empty if the options are unknown.
    """

    question: str
    text: str
    digest: str = ""


@dataclass(frozen=True, kw_only=True)
class BadLine(Record):
    """A line that is not a valid question. `error` is one line that starts with the line number and says why."""

    error: str


def read_questions(file: BinaryIO, *, needs_text: bool = True, options: str = "") -> Iterator[Question | BadLine]:
    r"""Yield the questions of a file of JSON Lines, one at a time. A line that is not valid gives a `BadLine`.

    A question is an object with a `question`, a `text` (or `context`) and an optional `id` (a string or a number; by
    default the line number). Other fields and blank lines are ignored. Lines end in `\n` and have at most 64 MiB.

    Args:
        file: The file, in UTF-8.
        needs_text: Each question must have its text; otherwise texts are ignored.
        options: The options of the run, as a text, for the digests; empty for none.
    """
    pieces = iter(partial(file.readline, _PIECE), b"")
    for number, (line, end) in enumerate(split_lines(pieces, LONGEST_LINE), 1):
        if line is None:
            error = f"line {number}: has more than {LONGEST_LINE >> 20} MiB"
            yield BadLine(line=number, id=number, named=False, end=end, error=error)
            continue
        if number == 1:
            line = line.removeprefix(_BOM)
        if line.strip():
            yield _record(line, number, end, needs_text, options)


def _record(line: bytes, number: int, end: int, needs_text: bool, options: str) -> Question | BadLine:
    known: Id = number
    named = False
    try:
        value = parse_object(line, example=_EXAMPLE, constants=False)
        known, named = _id(value, number), value.get("id") is not None
        question = _string(value, "question")
        if not question.strip():
            raise LineError("the question is empty")
        text = _text(value) if needs_text else ""
        digest = _digest(options, question, text) if options else ""
        return Question(line=number, id=known, named=named, end=end, question=question, text=text, digest=digest)
    except LineError as error:
        return BadLine(line=number, id=known, named=named, end=end, error=f"line {number}: {error}")


def _digest(*parts: str) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()


def _id(value: Mapping[str, Any], number: int) -> Id:
    known = number if value.get("id") is None else value["id"]
    if isinstance(known, str):
        return _encodable(known, "id")
    endless = isinstance(known, float) and not math.isfinite(known)
    if isinstance(known, bool) or not isinstance(known, (int, float)) or endless:
        raise LineError("the id is neither a string nor a number")
    return known


def _string(value: Mapping[str, Any], name: str) -> str:
    if name not in value:
        raise LineError(f"has no {name!r}")
    if not isinstance(value[name], str):
        raise LineError(f"the {name} is not a string")
    return _encodable(value[name], name)


def _text(value: Mapping[str, Any]) -> str:
    names = [name for name in ("text", "context") if name in value]
    if len(names) != 1:
        raise LineError("has both 'text' and 'context'" if names else "has no 'text'")
    return _string(value, names[0])


def _encodable(text: str, name: str) -> str:
    if SURROGATE.search(text):
        raise LineError(f"the {name} holds half a character (a lone surrogate)")
    return text
