"""Read JSON Lines files, with a document on each line."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dynamic_tinybert.corpus.errors import UnreadableError
from dynamic_tinybert.corpus.formats.reading import Complain, Draft, Reading, decoded, encoding_of, one_line
from dynamic_tinybert.files import SURROGATE, LineError, parse_object, split_lines

_LONGEST_LINE = 64 << 20  # characters


def read_json_lines(path: Path, reading: Reading, complain: Complain) -> Iterator[Draft]:
    """Yield the documents of a file of JSON Lines."""
    with path.open("rb") as file:
        encoding = encoding_of(file, reading) or "utf-8"
        lines = split_lines(decoded(file, encoding, "surrogateescape", nul=True), _LONGEST_LINE)
        good = broken = 0
        for number, (line, _) in enumerate(lines, 1):
            if line is not None and not line.strip():
                continue
            try:
                draft = _record(line, number, reading, encoding)
            except LineError as error:
                broken += 1
                complain(f"line {number:,}: {error}")
            else:
                good += 1
                yield draft
    if broken and not good:
        raise UnreadableError(f"has no record that can be read, out of {broken:,}")


def _record(line: str | None, number: int, reading: Reading, encoding: str) -> Draft:
    if line is None:
        raise LineError(f"is longer than {_LONGEST_LINE:,} characters")
    if SURROGATE.search(line):
        raise LineError(f"is not text in {codecs.lookup(encoding).name.upper()}")
    record = parse_object(line.removesuffix("\n"))
    text = _member(record, reading.text_field)
    if not isinstance(text, str):
        raise LineError(f"has no text in {reading.text_field!r}")
    id_ = _short(record, reading.id_field) or str(number)
    title = one_line(_short(record, reading.title_field))
    if any(map(SURROGATE.search, (text, id_, title))):
        raise LineError("has half a character (a lone surrogate)")
    return Draft(id_, title, iter([text]))


def _short(record: dict[str, Any], name: str) -> str:
    """Return a field that is a string or a number, as a string; empty if the field is missing.

    Raises:
        LineError: The field has another type.
    """
    value = _member(record, name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise LineError(f"has neither a string nor a number in {name!r}")
    return str(value)


def _member(record: dict[str, Any], name: str) -> object:
    """Return a field, or None if it is missing. "a.b" is the field "a.b", otherwise the field b of the object a."""
    if name in record:
        return record[name]
    outer, _, inner = name.partition(".")
    value = record.get(outer)
    return _member(value, inner) if inner and isinstance(value, dict) else None
