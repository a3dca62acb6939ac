"""The languages whose words an index can reduce to stems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynamic_tinybert.corpus.errors import CorpusError

DEFAULT = "english"
NONE = "none"
"""The language of an index whose words are compared as they are written."""

_CODES = {
    "arabic": ("ar",),
    "danish": ("da",),
    "dutch": ("nl",),
    "english": ("en",),
    "finnish": ("fi",),
    "french": ("fr",),
    "german": ("de",),
    "greek": ("el",),
    "hungarian": ("hu",),
    "italian": ("it",),
    "norwegian": ("no", "nb", "nn"),
    "portuguese": ("pt",),
    "romanian": ("ro",),
    "russian": ("ru",),
    "spanish": ("es",),
    "swedish": ("sv",),
    "tamil": ("ta",),
    "turkish": ("tr",),
    NONE: (),
}
_NAMES = {name: name for name in _CODES} | {code: name for name, codes in _CODES.items() for code in codes}

LANGUAGES = tuple(_CODES)
"""The names of the languages; ISO 639-1 codes are accepted, too."""


def check_language(language: str) -> str:
    """Return the name of a language, given by its English name or its ISO 639-1 code, in any case.

    Raises:
        ValueError: There is no such language.
    """
    name = _NAMES.get(language.strip().lower()) if isinstance(language, str) else None
    if name is None:
        raise ValueError(f"the language must be one of {', '.join(LANGUAGES)}, not {language!r:.50}")
    return name


FORMATS = (1, 2)
"""The formats of an index's note: the second names a language, and earlier versions refuse it."""


def note_of(passage_size: int, language: str) -> dict[str, Any]:
    """Return what the note of a new index says of its format, its passages and its language."""
    note: dict[str, Any] = {"format": FORMATS[0], "passage_size": passage_size}
    return note if language == DEFAULT else note | {"format": FORMATS[1], "language": language}


def language_of(where: object, note: Mapping[str, Any], asked: str | None) -> str:
    """Return the language of an index from its note.

    Args:
        where: The index, for the message.
        note: The note.
        asked: The language that the caller expects, or None.

    Raises:
        CorpusError: The index has another language than expected, or one that this version does not know.
    """
    language: str = note.get("language", DEFAULT)
    if language not in LANGUAGES:
        raise CorpusError(f"the language of {where} is {language!r:.50}, which this version does not know")
    if asked not in (None, language):
        raise CorpusError(f"the language of {where} is {language}, not {asked}: an index has one language")
    return language
