"""JSON Lines: split bytes or text into lines in bounded memory, and parse the object on a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, AnyStr


class LineError(ValueError):
    """A line cannot be read. The message follows the line's number: "is not JSON: ..."."""


def split_lines(blocks: Iterable[AnyStr], longest: int) -> Iterator[tuple[AnyStr | None, int]]:
    r"""Yield each line with its `\n`, and its end, in bytes or characters from the start of the first block.

    Args:
        blocks: The text, in blocks of any size.
        longest: The most bytes or characters of a line. For a longer line None is yielded, so memory stays bounded.
    """
    line: list[AnyStr] = []
    length = end = 0
    for block in blocks:
        newline = "\n" if isinstance(block, str) else b"\n"
        pieces = block.split(newline)
        for left, piece in enumerate(pieces, 1 - len(pieces)):
            part = piece + newline if left else piece
            length, end = length + len(part), end + len(part)
            if length <= longest:
                line.append(part)
            else:
                line.clear()
            if left:
                yield newline[:0].join(line) if length <= longest else None, end
                line, length = [], 0
    if length:
        yield line[0][:0].join(line) if length <= longest else None, end


def parse_object(line: str | bytes, *, example: str = "", constants: bool = True) -> dict[str, Any]:
    """Return the JSON object on a line.

    Args:
        line: The line; bytes are UTF-8.
        example: An object that the error shows if the line is not an object.
        constants: Accept `NaN` and `Infinity`, which are not JSON, but Python writes them.

    Raises:
        LineError: The line is not UTF-8, not JSON, or not an object.
    """
    try:
        text = line if isinstance(line, str) else line.decode()
        value = json.loads(text) if constants else _STRICT.decode(text)
    except LineError:
        raise
    except UnicodeDecodeError as error:
        raise LineError(f"is not UTF-8 (byte {error.start + 1:,} of {len(line):,})") from None
    except json.JSONDecodeError as error:
        raise LineError(f"is not JSON: {error.msg} (character {error.pos + 1:,})") from None
    except ValueError:
        raise LineError("holds a number of too many digits") from None
    except RecursionError:
        raise LineError("is nested too deeply") from None
    if not isinstance(value, dict):
        raise LineError("is not a JSON object" + (f"; for example {example}" if example else ""))
    return value


def _refuse(constant: str) -> None:
    raise LineError(f"is not JSON: {constant} is not a number there")


_STRICT = json.JSONDecoder(parse_constant=_refuse)
