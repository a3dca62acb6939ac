"""Find an answer in a text that writes it a little differently: in other case, Unicode form, spaces or quotes."""

from __future__ import annotations

import re
import unicodedata

_SAME = str.maketrans("‘’‚‛′`“”„‟″«»‐‑‒–—―−", "''''''" + '"' * 7 + "-" * 7)
_UNSEEN = "\u00ad\u200b\u200c\u200d\u2060\ufeff"


def find_loosely(text: str, answer: str) -> list[tuple[int, int]]:
    """Find an answer regardless of case, Unicode form (NFC, NFD, full width), spaces, quotes and dashes.

    Args:
        text: The text.
        answer: The answer.

    Returns:
        Where each occurrence starts and ends in `text`, in characters, in the order of the text; overlapping ones and
        parts of words too.
    """
    wanted = "".join(part for part, _, _ in _normalized(answer)).strip()
    if not wanted:
        return []
    starts: list[int] = []
    ends: list[int] = []
    parts: list[str] = []
    for part, start, end in _normalized(text):
        parts.append(part)
        starts += [start] * len(part)
        ends += [end] * len(part)
    found = []
    for match in re.finditer(f"(?={re.escape(wanted)})", "".join(parts)):
        last = match.start() + len(wanted) - 1
        found.append((starts[match.start()], ends[last]))
    return found


def _normalized(text: str) -> list[tuple[str, int, int]]:
    """Return the text in parts, each with where it starts and ends in the original."""
    groups: list[list[int]] = []  # a character with its combining marks, or a run of white space
    for at, char in enumerate(text):
        joins = unicodedata.category(char).startswith("M") or (char.isspace() and text[at - 1].isspace())
        if groups and joins:
            groups[-1][1] = at + 1
        else:
            groups.append([at, at + 1])
    parts: list[tuple[str, int, int]] = []
    for start, end in groups:
        group = text[start:end]
        part = " " if group.isspace() else unicodedata.normalize("NFKC", group.translate(_SAME)).casefold()
        part = part.strip(_UNSEEN)
        if part and not (part == " " and parts and parts[-1][0] == " "):
            parts.append((part, start, end))
    return parts
