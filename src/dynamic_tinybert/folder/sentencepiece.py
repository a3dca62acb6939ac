"""Read SentencePiece models (Kudo and Richardson, 2018), without the sentencepiece library.

Such a file is a protocol buffer, a sequence of numbered fields. Only the vocabulary and the normalization are needed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from dynamic_tinybert.folder.errors import ModelFolderError

_FLOAT: Final = struct.Struct("<f")
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3  # fields of the model
_PIECE, _SCORE, _TYPE = 1, 2, 3  # of a piece
_MODEL_TYPE, _BYTE_FALLBACK, _UNKNOWN = 3, 35, 40  # of the trainer's settings
_CHARSMAP: Final = 2  # of the normalizer's settings
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4  # types of pieces
_UNIGRAM: Final = 1
_SPECIAL: Final = frozenset(("<s>", "<pad>", "</s>", "<unk>", "<mask>", "<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"))
_SHIFT: Final = 100.0  # makes a piece too unlikely to be chosen

SENTENCEPIECES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "XLMRoberta": "sentencepiece.bpe.model",
        "Camembert": "sentencepiece.bpe.model",
        "Albert": "spiece.model",
        "DebertaV2": "spm.model",
    }
)
"""The file of the SentencePiece model of each family of tokenizers, by transformers' name of the family."""


@dataclass(frozen=True, kw_only=True)
class SentencePieces:
    """The vocabulary of a unigram model, as a family of tokenizers numbers it.

    Attributes:
        pieces: The pieces with their log probabilities, by id.
        unknown: The id of the unknown token.
        charsmap: The compiled table of normalization; empty for none.
        added: The pieces that are matched as a whole, and whether they are special.
    """

    pieces: list[tuple[str, float]]
    unknown: int
    charsmap: bytes
    added: list[tuple[str, bool]]


def read_sentencepieces(file: Path, family: str) -> SentencePieces:
    """Read a SentencePiece model and number its pieces as a family of tokenizers does, one of `SENTENCEPIECES`.

    Raises:
        ModelFolderError: The file is damaged, or its model is not a unigram model without bytes.
        OSError: It cannot be read.
    """
    try:
        found = _read(file.read_bytes())
    except (ValueError, IndexError, struct.error) as error:
        raise ModelFolderError(f"{file} is damaged or not a SentencePiece model: download it again") from error
    if found is None:
        raise ModelFolderError(f"{file} is not a unigram model: save a tokenizer.json beside it with transformers")
    return _numbered(found, family)


def _numbered(found: SentencePieces, family: str) -> SentencePieces:
    pieces, unknown = found.pieces, found.unknown
    if family == "XLMRoberta":  # fairseq's order of the special tokens
        pieces, unknown = [*_specials("<s>", "<pad>", "</s>", "<unk>"), *pieces[3:], ("<mask>", 0.0)], 3
    elif family == "Camembert":
        first = _specials("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>")
        pieces, unknown = [*first, ("<unk>NOTUSED", -_SHIFT), *pieces[1:], ("<mask>", 0.0)], 3
    elif family == "Albert":  # it splits a number from the comma after it
        pieces = [(piece, score - _SHIFT * _is_number_and_comma(piece)) for piece, score in pieces]
    known = {piece for piece, _ in pieces}
    specials = {piece: special for piece, special in found.added if piece in known}
    if family in ("XLMRoberta", "Camembert"):
        specials |= {piece: True for piece, _ in pieces if piece in _SPECIAL}
    added = list(specials.items())
    return SentencePieces(pieces=pieces, unknown=unknown, charsmap=found.charsmap, added=added)


def _specials(*names: str) -> list[tuple[str, float]]:
    return [(name, 0.0) for name in names]


def _is_number_and_comma(piece: str) -> bool:
    return len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit()


def _read(data: bytes) -> SentencePieces | None:
    """Read a model; None if it is of another kind.

    Raises:
        ValueError, IndexError, struct.error: The data are damaged.
    """
    pieces: list[tuple[str, float]] = []
    added: list[tuple[str, bool]] = []
    kind, unknown, charsmap, has_bytes = _UNIGRAM, 0, b"", False
    for field, value in _fields(data):
        if field == _PIECES and isinstance(value, bytes):
            parts = dict(_fields(value))
            piece, score, of = parts.get(_PIECE, b""), parts.get(_SCORE, 0.0), parts.get(_TYPE, _NORMAL)
            if not isinstance(piece, bytes) or not isinstance(score, float):
                raise ValueError("a piece is not a string with a number")
            pieces.append((piece.decode(), score))
            if of in (_CONTROL, _USER_DEFINED):
                added.append((piece.decode(), of == _CONTROL))
        elif field == _TRAINER and isinstance(value, bytes):
            settings = dict(_fields(value))
            kind, unknown = _number(settings.get(_MODEL_TYPE, _UNIGRAM)), _number(settings.get(_UNKNOWN, 0))
            has_bytes = bool(settings.get(_BYTE_FALLBACK, 0))
        elif field == _NORMALIZER and isinstance(value, bytes):
            table = dict(_fields(value)).get(_CHARSMAP, b"")
            charsmap = table if isinstance(table, bytes) else b""
    if not 0 <= unknown < len(pieces):
        raise ValueError("there is no unknown token")
    if kind != _UNIGRAM or has_bytes:
        return None
    return SentencePieces(pieces=pieces, unknown=unknown, charsmap=charsmap, added=added)


def _number(value: int | float | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("a setting is not a whole number")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Yield the fields of a message of a protocol buffer: the number and the value of each.

    Raises:
        ValueError, IndexError, struct.error: The data are damaged.
    """
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
        elif kind == 2:
            size, at = _varint(data, at)
            if at + size > end:
                raise ValueError("a field is longer than its message")
            yield key >> 3, data[at : at + size]
            at += size
        elif kind == 5:
            yield key >> 3, _FLOAT.unpack_from(data, at)[0]
            at += 4
        elif kind == 1:
            yield key >> 3, data[at : at + 8]
            at += 8
        else:
            raise ValueError("unknown type of a field")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a number of 7 bits a byte; return it and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
