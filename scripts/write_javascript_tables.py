"""Write javascript/src/tables.js: which characters the tokenizers library removes, splits at, and does not know.

A browser has a newer version of Unicode than the tokenizers library. With the library's own tables, tokens are the same
in every browser as they are in Python.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import tokenizers
from tokenizers import normalizers, pre_tokenizers

TARGET: Final = Path(__file__).parents[1] / "javascript" / "src" / "tables.js"

_HEAD: Final = """\
// Made by scripts/write_javascript_tables.py from tokenizers {version}. Each table is a list of ranges of code points:
// the first of a range, the last, the first of the next.

"""


def ranges(condition: Callable[[str], bool]) -> Iterator[int]:
    """Yield the first and the last code point of each range for which a condition is true."""
    last = -2
    for code in range(0x110000):
        if 0xD800 <= code <= 0xDFFF or not condition(chr(code)):
            continue
        if code != last + 1:
            if last >= 0:
                yield last
            yield code
        last = code
    yield last


def main() -> None:
    off = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False}
    clean, chinese, accents = (
        normalizers.BertNormalizer(**{**off, name: True})
        for name in ("clean_text", "handle_chinese_chars", "strip_accents")
    )
    decompose, split = normalizers.NFD(), pre_tokenizers.BertPreTokenizer()
    tables = {
        "REMOVED": lambda c: clean.normalize_str(f"a{c}b") == "ab",
        "PUNCTUATION": lambda c: len(split.pre_tokenize_str(f"a{c}b")) == 3,
        "MARKS": lambda c: accents.normalize_str(c) == "",
        "IDEOGRAPHS": lambda c: chinese.normalize_str(c) == f" {c} ",
        # Everything else is decomposed as the browser does it.
        "DECOMPOSED": lambda c: decompose.normalize_str(c) != c,
    }
    text = _HEAD.format(version=tokenizers.__version__)
    for name, condition in tables.items():
        lines = textwrap.fill(", ".join(map(str, ranges(condition))), 116)
        text += f"export const {name} = [\n{textwrap.indent(lines, '  ')},\n];\n\n"
    TARGET.write_text(text.rstrip() + "\n", "utf-8")


if __name__ == "__main__":
    main()
