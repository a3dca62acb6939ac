"""Questions in other words than the sentence that answers them, by rule from WordNet's files.

A word of the question whose stem stands in the sentence is replaced: by another word of its first sense in WordNet, or
else by the first of a more general sense. The new word's stem must not stand in the sentence. A word without such a
replacement (names, numbers) is dropped. So no stem is shared, but the questions are no English that a person would
write, the sense is often wrong, and names are gone.

WordNet's files are in Debian's package `wordnet-base`, as /usr/share/wordnet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from dynamic_tinybert.corpus.index.analyzer import question_words, words_of

_KINDS = ("noun", "verb", "adj", "adv")
_ENDINGS = {
    "noun": (("s", ""), ("ses", "s"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"), ("men", "man"), ("ies", "y")),
    "verb": (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    "adj": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "adv": (),
}
_WORD = re.compile(r"[^\W_]+")


class WordNet:
    """The senses of words, from the folder of WordNet's files."""

    def __init__(self, folder: Path) -> None:
        self._senses: dict[tuple[str, str], list[int]] = {}
        self._irregular: dict[tuple[str, str], str] = {}
        self._data = {kind: (folder / f"data.{kind}").read_bytes() for kind in _KINDS}
        for kind in _KINDS:
            for line in (folder / f"index.{kind}").read_text("ascii").splitlines():
                if not line.startswith(" "):
                    lemma, _, count, pointers, *rest = line.split()
                    self._senses[kind, lemma] = [int(one) for one in rest[int(pointers) + 2 :][: int(count)]]
            for line in (folder / f"{kind}.exc").read_text("ascii").splitlines():
                self._irregular[kind, line.split()[0]] = line.split()[1]

    def others(self, word: str) -> Iterator[str]:
        """Yield single words for a word: those of its first sense, then those of a more general sense."""
        general: list[str] = []
        for kind in _KINDS:
            for lemma in self._lemmas(kind, word.lower()):
                words, above = self._read(kind, self._senses[kind, lemma][0])
                yield from (one for one in words if one != lemma)
                for offset in above:
                    general += self._read(kind, offset)[0]
                break
        yield from general

    def _lemmas(self, kind: str, word: str) -> Iterator[str]:
        endings = [word.removesuffix(old) + new for old, new in _ENDINGS[kind] if word.endswith(old)]
        for lemma in (word, self._irregular.get((kind, word), ""), *endings):
            if (kind, lemma) in self._senses:
                yield lemma

    def _read(self, kind: str, offset: int) -> tuple[list[str], list[int]]:
        data = self._data[kind]
        fields = data[offset : data.index(b"\n", offset)].decode("ascii").partition(" | ")[0].split()
        count = int(fields[3], 16)
        words = [fields[4 + 2 * n].partition("(")[0].lower() for n in range(count)]
        pointers = fields[5 + 2 * count :]
        above = [int(pointers[n + 1]) for n in range(0, len(pointers) - 3, 4) if pointers[n] in ("@", "@i")]
        return [one for one in words if one.isalpha()], above


def paraphrase(wordnet: WordNet, question: str, sentence: str) -> str | None:
    """Return the question without a stem of the sentence, or None if no word was replaced or only one is left."""
    there, replaced = set(words_of(sentence)), 0

    def other(found: re.Match[str]) -> str:
        nonlocal replaced
        if not there & set(words_of(found.group())):
            return found.group()
        for word in wordnet.others(found.group()):
            if words_of(word) and not there & set(words_of(word)):
                replaced += 1
                return word
        return ""

    said = " ".join(_WORD.sub(other, question).split())
    return said if replaced and len(question_words(said)) >= 2 else None
