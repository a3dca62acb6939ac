"""Tokenize questions and texts with a model's tokenizer.

A text is tokenized in pieces, so that memory stays bounded for any length. No token can cross a cut.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from dynamic_tinybert.errors import DynamicTinyBertError, warn
from dynamic_tinybert.files import SURROGATE
from dynamic_tinybert.inference.characters import (
    Ints,
    at_punctuation,
    at_spaces,
    keep_characters_whole,
    leave_spaces,
    marks_of_the_token_before,
    pieces,
    word_bounds,
)

_USUAL = {
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
}


class WindowError(DynamicTinyBertError, ValueError):
    """A tokenizer cannot be used, or window lengths do not fit each other."""

    misuse = True


@dataclass(frozen=True, eq=False)
class Tokens:
    """Consecutive tokens of a text, as arrays of equal length.

    Attributes:
        ids: Vocabulary indices.
        start: Where each token starts, in characters of the original text.
        end: Where each token ends; equal to `start` if the token is only white space.
        word_start: Where the token's word starts.
        word_end: Where the token's word ends.
    """

    ids: Ints
    start: Ints
    end: Ints
    word_start: Ints
    word_end: Ints

    def __getitem__(self, part: slice) -> Tokens:
        return Tokens(*(column[part] for column in self._columns()))

    def __add__(self, others: Tokens) -> Tokens:
        return Tokens(*map(np.concatenate, zip(self._columns(), others._columns(), strict=True)))

    def __len__(self) -> int:
        return len(self.ids)

    def _columns(self) -> tuple[Ints, ...]:
        return self.ids, self.start, self.end, self.word_start, self.word_end


class TextTokenizer:
    """Tokenize questions and texts as a model needs them. Safe to use from many threads.

    Texts and questions are data: a string in them that looks like a special token ("[SEP]") is tokenized as plain
    characters, or as the unknown token by a unigram model.

    Args:
        folder: A folder with `tokenizer.json`, or `vocab.txt` (WordPiece), or `vocab.json` and `merges.txt`
            (byte-level BPE); `tokenizer_config.json` is optional.

    Attributes:
        cls: The id of the special token before the question: [CLS] or `<s>`.
        sep: The id of the special token after the text: [SEP] or `</s>`.
        pad: The id of the padding token.
        between: The ids between question and text: one `sep`, or two for RoBERTa and MPNet.

    Raises:
        WindowError: There is no tokenizer, it cannot be read, or it lacks one of the special tokens.
    """

    def __init__(self, folder: Path) -> None:
        config = _settings(folder)
        self._tokenizer = _load(folder, config)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        kinds = _kinds_of(self._tokenizer)
        self._splits_spaces = len(set(self._encode("a b").word_ids)) > 1  # Gemma's, which mmBERT has, does not
        self._spaced = bool(kinds & {"ByteLevel", "Metaspace"}) or not self._splits_spaces  # in a token's offsets
        self._splits_punctuation = not kinds & {"Metaspace", "WhitespaceSplit"}
        self.pad = self._special("pad_token", config, folder)
        template = _template(self._tokenizer, folder)
        if template is None:
            self.cls, self.sep = (self._special(name, config, folder) for name in ("cls_token", "sep_token"))
            doubled = self._tokenizer.id_to_token(self.sep) == "</s>"
            template = [self.cls], [self.sep] * (1 + doubled), [self.sep]
        (self.cls,), between, (self.sep,) = template
        self.between = np.array(between, np.int64)
        # The original post-processor could trim offsets by its own rules.
        self._tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
        # A unigram model has special tokens among its pieces, so it finds them in texts.
        self._unknown = self._special("unk_token", config, folder) if "Unigram" in kinds else None
        special = {i for i, token in self._tokenizer.get_added_tokens_decoder().items() if token.special}
        self._never = np.array(sorted({self.cls, self.sep, self.pad, *special} - {self._unknown}), np.int64)

    @property
    def specials(self) -> int:
        """The number of special tokens in a window."""
        return len(self.between) + 2

    def _special(self, name: str, config: Mapping[str, Any], folder: Path) -> int:
        """Return the id of a special token, by the name in the settings or otherwise a usual name."""
        for token in _names(name, config):
            index: int | None = self._tokenizer.token_to_id(token)
            if index is not None:
                return index
        usual = " or ".join(_USUAL[name])
        raise WindowError(f"the tokenizer of {folder} has no {usual}: it is not the tokenizer of a supported model")

    def question(self, question: str, *, longest: int | None = None) -> Ints:
        """Return the token ids of a question. If it is longer than `longest`, cut it and warn."""
        ids = self._ids(self._encode(question.strip()))
        if longest is not None and len(ids) > longest:
            warn(f"a question of {len(ids)} tokens was cut to max_question_len, {longest}")
            ids = ids[:longest]
        return ids

    def words(self, ids: Sequence[int]) -> str:
        """Return approximately the text of token ids, for messages."""
        return str(self._tokenizer.decode(list(ids)))

    def text(self, text: str) -> Iterator[Tokens]:
        """Yield the tokens of a text, one piece at a time; nothing if the text has no tokens."""
        for begin, end in pieces(text):
            piece = text[begin:end]
            encoding = self._encode(piece)
            if not encoding.ids:
                continue
            offsets = np.array(encoding.offsets, np.int64)
            if self._spaced:
                leave_spaces(piece, offsets)
            if not piece.isascii():
                keep_characters_whole(piece, offsets)
            words = np.array(encoding.word_ids, np.float64)  # the None of a token outside words becomes nan
            begins = np.diff(words, prepend=-1) != 0
            if not self._splits_spaces:
                begins |= at_spaces(piece, offsets)
            if not (self._splits_punctuation and self._splits_spaces):
                begins |= at_punctuation(piece, offsets)
            if not piece.isascii():
                begins &= ~marks_of_the_token_before(piece, offsets)
            starts, which = np.flatnonzero(begins), np.cumsum(begins) - 1
            offsets += begin
            bounds = word_bounds(offsets, starts)[which]
            yield Tokens(self._ids(encoding), offsets[:, 0], offsets[:, 1], bounds[:, 0], bounds[:, 1])

    def _ids(self, encoding: Encoding) -> Ints:
        """Return the ids of a text's tokens. Special tokens are replaced by the unknown token."""
        ids = np.array(encoding.ids, np.int64)
        return ids if self._unknown is None else np.where(np.isin(ids, self._never), self._unknown, ids)

    def _encode(self, text: str) -> Encoding:
        # Bad JSON can contain half a surrogate pair. It is tokenized as an unknown character.
        with _named("the tokenizer cannot read this text"):
            return self._tokenizer.encode(SURROGATE.sub("\ufffd", text), add_special_tokens=False)


@contextlib.contextmanager
def _named(what: str) -> Iterator[None]:
    """Turn an error of the tokenizers library into a `WindowError` of one line.

    The library raises bare Exception, and a panic of its Rust code is a BaseException.
    """
    try:
        yield
    except (WindowError, KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise WindowError(f"{what}: {why:.300}") from None


def _settings(folder: Path) -> dict[str, Any]:
    """Read the settings of a tokenizer that are outside `tokenizer.json`."""
    files = [folder / name for name in ("special_tokens_map.json", "tokenizer_config.json")]
    try:
        found = [json.loads(file.read_text("utf-8")) for file in files if file.is_file()]
    except (ValueError, RecursionError) as error:
        raise WindowError(f"the tokenizer of {folder} cannot be read: its settings are not JSON ({error})") from None
    if not all(isinstance(settings, dict) for settings in found):
        raise WindowError(f"the tokenizer of {folder} cannot be read: its settings are not an object")
    return {name: value for settings in found for name, value in settings.items() if value is not None}


def _names(role: str, config: Mapping[str, Any]) -> list[str]:
    """Return possible names of a special token: first the name in the settings, then the usual names."""
    said = config.get(role)
    said = said.get("content") if isinstance(said, dict) else said
    return [*([said] if isinstance(said, str) else []), *_USUAL[role]]


def _load(folder: Path, config: Mapping[str, Any]) -> Tokenizer:
    path, vocabulary = folder / "tokenizer.json", folder / "vocab.txt"
    paired, merges = folder / "vocab.json", folder / "merges.txt"
    with _named(f"the tokenizer of {folder} cannot be read"):
        if path.is_file():
            return Tokenizer.from_file(str(path))
        if paired.is_file() and merges.is_file() and not vocabulary.is_file():
            tokenizer = Tokenizer(models.BPE.from_file(str(paired), str(merges)))
            prefixed = config.get("add_prefix_space", False)
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefixed)
            tokenizer.decoder = decoders.ByteLevel()
            return tokenizer
        if not vocabulary.is_file():
            raise WindowError(f"{folder} has neither tokenizer.json nor vocab.txt")
        lines = vocabulary.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
        tokens = {line.removesuffix("\r"): i for i, line in enumerate(lines)}
        unknown = next((name for name in _names("unk_token", config) if name in tokens), None)
        if unknown is None:
            raise WindowError(f"the tokenizer of {folder} has no {' or '.join(_USUAL['unk_token'])}")
        tokenizer = Tokenizer(models.WordPiece(tokens, unk_token=unknown))
        tokenizer.normalizer = normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=config.get("tokenize_chinese_chars", True),
            strip_accents=config.get("strip_accents"),
            lowercase=config.get("do_lower_case", True),
        )
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        return tokenizer


def _template(tokenizer: Tokenizer, folder: Path) -> tuple[list[int], list[int], list[int]] | None:
    """Return the special tokens that the tokenizer adds before a question, between question and text, and after both.

    The result is None if it adds none.

    Raises:
        WindowError: It does not add one before, one or more between and one after; or it has no unknown token.
    """
    with _named(f"the tokenizer of {folder} cannot be used"):
        tokenizer.encode("\U0010fffd")
        pair = tokenizer.encode("a", "a")
    parts: tuple[list[int], list[int], list[int]] = [], [], []
    part = 0
    for index, sequence in zip(pair.ids, pair.sequence_ids, strict=True):
        if sequence is None:
            parts[part].append(index)
        else:
            part = sequence + 1
    if part < 2 or not any(parts):  # "a" has no token, or there are no special tokens
        return None
    if len(parts[0]) != 1 or not parts[1] or len(parts[2]) != 1:
        raise WindowError(
            f"the tokenizer of {folder} puts {len(parts[0])}, {len(parts[1])} and {len(parts[2])} special tokens before"
            " a question, between it and a text, and after that: only 1, 1 or more, and 1 are supported"
        )
    return parts


def _kinds_of(tokenizer: Tokenizer) -> set[str]:
    """Return the types of a tokenizer's model and pre-tokenizers."""
    model = type(tokenizer.model).__name__
    if tokenizer.pre_tokenizer is None:
        return {model}
    described = json.loads(tokenizer.pre_tokenizer.__getstate__())  # its part of tokenizer.json, without the vocabulary
    return {model, *(part["type"] for part in (described, *described.get("pretokenizers", ())))}
