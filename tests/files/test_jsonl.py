"""Lines of bytes and of text, and the JSON objects on them."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_tinybert.files import LineError, parse_object, split_lines


@given(st.text("ab\n\r\u2028é"), st.integers(1, 5))
def test_split_lines_of_any_blocks_gives_the_lines_and_where_they_end(text: str, size: int) -> None:
    blocks = [text[i : i + size] for i in range(0, len(text), size)]
    lines = list(io.StringIO(text, newline="\n"))
    found = list(split_lines(blocks, 100))
    assert [line for line, _ in found] == lines
    assert [end for _, end in found] == [len("".join(lines[: i + 1])) for i in range(len(lines))]
    encoded = list(split_lines([block.encode() for block in blocks], 100))
    assert [line for line, _ in encoded] == [line.encode() for line in lines]
    assert not encoded or encoded[-1][1] == len(text.encode())


def test_split_lines_puts_none_for_a_line_that_is_too_long() -> None:
    assert list(split_lines(["abc", "de\nab\n", "abcdef"], 3)) == [(None, 6), ("ab\n", 9), (None, 15)]


def test_parse_object_returns_the_object() -> None:
    assert parse_object('{"a": [1, null]}') == parse_object(b'{"a": [1, null]}\r\n') == {"a": [1, None]}
    assert parse_object('{"a": Infinity}') == {"a": float("inf")}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "is not JSON: Expecting property name enclosed in double quotes (character 2)"),
        (b'{"a": "\xff"}', "is not UTF-8 (byte 8 of 10)"),
        ('{"a": NaN}', "is not JSON: NaN is not a number there"),
        ("[" * 100_000, "is nested too deeply"),
        ("[1]", 'is not a JSON object; for example {"a": 1}'),
    ],
)
def test_parse_object_of_anything_else_says_why(line: str | bytes, why: str) -> None:
    with pytest.raises(LineError) as caught:
        parse_object(line, example='{"a": 1}', constants=False)
    assert str(caught.value) == why
