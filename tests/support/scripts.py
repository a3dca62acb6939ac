"""Generated texts: of many scripts, and of what documents hold."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator

# Without the tone marks from U+302A and those of music, which Unicode sorts and which stay: javascript/README.md.
BLOCKS = (
    (0x20, 0x7E), (0xA0, 0xFF), (0x100, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF), (0x531, 0x58F),
    (0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0x980, 0x9FF), (0xB80, 0xBFF), (0xE00, 0xE7F), (0x1000, 0x109F),
    (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137F), (0x1780, 0x17FF), (0x1E00, 0x1EFF), (0x1F00, 0x1FFF),
    (0x2000, 0x206F), (0x20A0, 0x20FF), (0x2100, 0x214F), (0x2190, 0x21FF), (0x2600, 0x27BF), (0x3000, 0x3029),
    (0x3040, 0x30FF), (0x4E00, 0x4FFF), (0xAC00, 0xAD00), (0xFB00, 0xFB4F), (0xFE00, 0xFE0F), (0xFF00, 0xFFEF),
    (0x10400, 0x1044F), (0x1D400, 0x1D4FF), (0x1F1E6, 0x1F1FF), (0x1F300, 0x1F64F),
    (0x20000, 0x20050), (0xE0100, 0xE0110),
)  # fmt: skip
SPACES = " \t\n\r\u00a0\u2003\u2028\u3000\u0085\x0b\x0c\x1c"
ODD = "\u200d\ufe0f\u0301\u0323\u200b\ufeff\u00ad\ufffd\x00\x7f\ue000👩🏽🚀🇫🇷"
PARTS = (
    "The", "a", "of", "and", "is", "Agnes", "Moreau", "keeper", "lighthouse", "Zürich", "naïve", "in", "to", "it",
    "1871", "3.5", "1,000", "$5", "USD 20", "12%", "2019.3", "9 °C", "½", "x²", "v1.2.3", "10:30",
    "https://example.org/a?b=c.", "www.site.com,", "ada@mail.example", "--dry-run", "-v", "@wraps", "/usr/lib/x.so",
    "../a/b", "setup.py", "main.rs", "f()", "os.path.join()", "max_seq_len", "Dr. Smith", "e.g.", "J. S. Bach", "No. 5",
    "(see", "below)", "[1]", "{x}", "“quoted", "words”", "„unten“", '"straight"', '5"', '"open', "»x«", "(", ")", "”",
    "東京は", "日本の首都です。", "「京都」", "ภาษาไทย", "한국어", "русский", "שלום", "مرحبا", "हिन्दी",
    "e\u0301te\u0301", "😀", "👩\u200d🚀", "🇫🇷🇩🇪", "👍🏽", "𝒯ower", "don't", "well-known", "end.", "end!",
    "why?", "so:", "a;", "x,", ",",
    "- item", "• point", "1. one", "(b) two", "# Heading", "| cell |", "…", "—",
)  # fmt: skip
BREAKS = (" ",) * 14 + ("\n", "\n", "\n\n", "\n \n", "\r\n", "\t", "\f", "  ", " | ", "\n- ", "\n1. ", ". ", ", ")


def assigned(first: int, last: int) -> list[str]:
    """Characters that this Python knows."""
    found = (chr(code) for code in range(first, last + 1) if not 0xD800 <= code <= 0xDFFF)
    return [c for c in found if unicodedata.category(c) != "Cn"]


def strings_of_scripts(count: int, seed: int = 0) -> Iterator[str]:
    """Yield strings of a few scripts each, with spaces, marks and characters that tokenizers remove."""
    chance = random.Random(seed)
    blocks = [assigned(*block) for block in BLOCKS]
    for _ in range(count):
        chosen = chance.sample(blocks, 3)
        parts = []
        for _ in range(chance.randrange(1, 40)):
            pool = chance.choices([*chosen, list(SPACES), list(ODD)], [4, 2, 2, 2, 1])[0]
            parts.append("".join(chance.choices(pool, k=chance.randrange(1, 6))))
        yield "".join(parts)


def documents(count: int, seed: int = 0, *, longest: int = 120) -> Iterator[str]:
    """Yield texts of words, numbers, addresses, names in code, quotations, lists, tables and wrapped lines."""
    chance = random.Random(seed)
    for _ in range(count):
        words = chance.choices(PARTS, k=chance.randrange(2, longest))
        yield "".join(word + chance.choice(BREAKS) for word in words)
