"""Tokenize questions and texts with a model's tokenizer.

A text is tokenized in pieces, so that memory stays bounded for any length. No token can cross a cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding, processors

from dynamic_tinybert.errors import warn
from dynamic_tinybert.files import SURROGATE
from dynamic_tinybert.folder import family_of
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
from dynamic_tinybert.inference.loading import (
    USUAL,
    WindowError,
    doubles_separator,
    kinds_of,
    load,
    named,
    read_settings,
    special_tokens,
    token_names,
)

_LINE_ENDS = re.compile("[\x0b\x0c\x1c-\x1f\x85]")  # what Python splits lines at, and BERT's normalizer deletes


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
            (byte-level BPE, or HerBERT's), or a SentencePiece model of XLM-RoBERTa, CamemBERT, ALBERT or DeBERTa-v2.
            `tokenizer_config.json` and `added_tokens.json` are optional.

    Attributes:
        cls: The id of the special token before the question: [CLS] or `<s>`.
        sep: The id of the special token after the text: [SEP] or `</s>`.
        pad: The id of the padding token.
        between: The ids between question and text: one `sep`, or two for RoBERTa and MPNet.

    Raises:
        WindowError: There is no tokenizer, it cannot be read, or it lacks one of the special tokens.
    """

    def __init__(self, folder: Path) -> None:
        config, family = read_settings(folder), family_of(folder)
        self._tokenizer = load(folder, config)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        kinds = kinds_of(self._tokenizer)
        normalizer = self._tokenizer.normalizer
        self._joins_lines = normalizer is not None and normalizer.normalize_str("a\fb") == "ab"
        self._splits_spaces = len(set(self._encode("a b").word_ids)) > 1  # Gemma's, which mmBERT has, does not
        self._spaced = bool(kinds & {"ByteLevel", "Metaspace"}) or not self._splits_spaces  # in a token's offsets
        self._splits_punctuation = not kinds & {"Metaspace", "WhitespaceSplit"}
        self.pad = self._special("pad_token", config, folder, family)
        template = special_tokens(self._tokenizer, folder)
        if template is None:
            self.cls, self.sep = (self._special(name, config, folder, family) for name in ("cls_token", "sep_token"))
            doubled = doubles_separator(family, self._tokenizer.id_to_token(self.sep))
            template = [self.cls], [self.sep] * (1 + doubled), [self.sep]
        (self.cls,), between, (self.sep,) = template
        self.between = np.array(between, np.int64)
        # The original post-processor could trim offsets by its own rules.
        self._tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
        # A unigram model has special tokens among its pieces, so it finds them in texts.
        self._unknown = self._special("unk_token", config, folder, family) if "Unigram" in kinds else None
        special = {i for i, token in self._tokenizer.get_added_tokens_decoder().items() if token.special}
        self._never = np.array(sorted({self.cls, self.sep, self.pad, *special} - {self._unknown}), np.int64)

    @property
    def specials(self) -> int:
        """The number of special tokens in a window."""
        return len(self.between) + 2

    def _special(self, name: str, config: Mapping[str, Any], folder: Path, family: str | None) -> int:
        """Return the id of a special token, by the name in the settings or otherwise a usual name."""
        for token in token_names(name, config, family):
            index: int | None = self._tokenizer.token_to_id(token)
            if index is not None:
                return index
        usual = " or ".join(USUAL[name])
        raise WindowError(f"the tokenizer of {folder} has no {usual}: it is not the tokenizer of a supported model")

    def check_padding(self, folder: Path, first_position: int) -> None:
        """Check that a model whose positions begin after its padding token has this tokenizer's padding token.

        RoBERTa counts the positions of tokens other than the padding token. If another token has its id, each one in a
        text would move all that follow.

        Args:
            folder: The model folder, for the message.
            first_position: The row of the position embeddings for a sequence's first token; 0 for other models.

        Raises:
            WindowError: The model's padding token is another token here.
        """
        theirs = first_position - 1
        token = self._tokenizer.id_to_token(theirs) if first_position else None
        if token is not None and theirs != self.pad:
            raise WindowError(
                f"{folder}: the model's padding token has the id {theirs}, which is {token!r:.30} in its tokenizer,"
                f" whose padding token has the id {self.pad}: use the config.json and the tokenizer of the same model"
            )

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

    def to_json(self) -> str:
        """Return the content of a `tokenizer.json` that tokenizes as this does, but for the rare `_LINE_ENDS`."""
        return str(self._tokenizer.to_str())

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
        text = SURROGATE.sub("\ufffd", text)
        if self._joins_lines:
            text = _LINE_ENDS.sub(" ", text)
        with named("the tokenizer cannot read this text"):
            return self._tokenizer.encode(text, add_special_tokens=False)
