"""Text to windows: a question and a piece of the text, as the model reads them. No model in sight.

A text is tokenized in pieces, cut where no token can cross, so that one of any size passes through bounded memory.
"""

from __future__ import annotations

import json
import re
import string
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from dynamic_tinybert.errors import DynamicTinyBertError, warn

Ints = npt.NDArray[np.int64]

_PIECE = 1 << 16  # characters tokenized at a time
_MARKS = 64  # marks that a character may have before it is cut from them
_SURROGATES = re.compile("[\ud800-\udfff]")
_USUAL = {
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
}
_JOINERS = frozenset("\u200c\u200d\ufe0e\ufe0f")  # joiners and variation selectors belong to the character before


class WindowError(DynamicTinyBertError, ValueError):
    """A tokenizer that cannot be used, or lengths that do not fit each other; one line that says why."""

    misuse = True


@dataclass(frozen=True, eq=False)
class Tokens:
    """Consecutive tokens of a text, as arrays of one length.

    Attributes:
        ids: Vocabulary indices.
        begin: Where each token begins, in characters of the text as given.
        end: Where it ends; where it begins, if it is nothing but white space.
        word_begin: Where the word that the token is part of begins.
        word_end: Where that word ends.
    """

    ids: Ints
    begin: Ints
    end: Ints
    word_begin: Ints
    word_end: Ints

    def __getitem__(self, part: slice) -> Tokens:
        return Tokens(*(column[part] for column in self._columns()))

    def __add__(self, others: Tokens) -> Tokens:
        return Tokens(*map(np.concatenate, zip(self._columns(), others._columns(), strict=True)))

    def __len__(self) -> int:
        return len(self.ids)

    def _columns(self) -> tuple[Ints, ...]:
        return self.ids, self.begin, self.end, self.word_begin, self.word_end


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """`[CLS] question [SEP] piece of the text [SEP]`, or with the special tokens that the model has instead.

    Attributes:
        ids: The whole window, `[tokens]`.
        type_ids: 0 for the question's half, its special tokens among it, and 1 for the text's, `[tokens]`; whether the
            model embeds them or not.
        text: The tokens of the text in it; the first is at `ids[offset]`.
        offset: Where the text begins in the window.
        settled: How many of the text's tokens in it, from the left, no later window holds.
    """

    ids: Ints
    type_ids: Ints
    text: Tokens
    offset: int
    settled: int

    def __len__(self) -> int:
        return len(self.ids)


class TextTokenizer:
    """A model's tokenizer, as this package uses it. Safe to use from many threads.

    Texts and questions are data: what looks like a special token in them ("[SEP]") is read as the characters it is, or,
    by a unigram model, as one that nobody knows.

    Args:
        folder: A folder that holds `tokenizer.json`; or `vocab.txt` (WordPiece) or `vocab.json` and `merges.txt`
            (byte-level BPE), and perhaps `tokenizer_config.json`.

    Attributes:
        cls: The id of the special token before the question: [CLS] or `<s>`.
        sep: That of the one after the text: [SEP] or `</s>`.
        pad: That of padding.
        between: Those between question and text: one `sep`, or two as RoBERTa and MPNet have it.

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
        self._spaced = bool(kinds & {"ByteLevel", "Metaspace"})  # a token may hold the space before it
        self._splits_punctuation = not kinds & {"Metaspace", "WhitespaceSplit"}
        self.pad = self._special("pad_token", config, folder)
        template = _template(self._tokenizer, folder)
        if template is None:
            self.cls, self.sep = (self._special(name, config, folder) for name in ("cls_token", "sep_token"))
            doubled = self._tokenizer.id_to_token(self.sep) == "</s>"
            template = [self.cls], [self.sep] * (1 + doubled), [self.sep]
        (self.cls,), between, (self.sep,) = template
        self.between = np.array(between, np.int64)
        # It would trim offsets by rules of its own.
        self._tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
        # A unigram model has special tokens among its pieces, and finds them in texts.
        self._unknown = self._special("unk_token", config, folder) if "Unigram" in kinds else None
        special = {i for i, token in self._tokenizer.get_added_tokens_decoder().items() if token.special}
        self._never = np.array(sorted({self.cls, self.sep, self.pad, *special} - {self._unknown}), np.int64)

    @property
    def specials(self) -> int:
        """How many special tokens a window has."""
        return len(self.between) + 2

    def _special(self, name: str, config: Mapping[str, Any], folder: Path) -> int:
        """The id of a special token: of that which the settings name, or else of one of the usual names."""
        for token in _names(name, config):
            index: int | None = self._tokenizer.token_to_id(token)
            if index is not None:
                return index
        usual = " or ".join(_USUAL[name])
        raise WindowError(f"the tokenizer of {folder} has no {usual}: it is no tokenizer of a model that is read here")

    def question(self, question: str, *, longest: int | None = None) -> Ints:
        """Return the token ids of a question, cut to the longest allowed, with a warning if it is longer."""
        ids = self._ids(self._encode(question.strip()))
        if longest is not None and len(ids) > longest:
            warn(f"a question of {len(ids)} tokens was cut to max_question_len, {longest}")
            ids = ids[:longest]
        return ids

    def words(self, ids: Sequence[int]) -> str:
        """Return about the text that token ids were made of, for messages."""
        return str(self._tokenizer.decode(list(ids)))

    def text(self, text: str) -> Iterator[Tokens]:
        """Yield the tokens of a text, a piece at a time; nothing for a text without any."""
        for begin, end in _pieces(text):
            piece = text[begin:end]
            encoding = self._encode(piece)
            if not encoding.ids:
                continue
            offsets = np.array(encoding.offsets, np.int64)
            if self._spaced:
                _leave_spaces(piece, offsets)
            if not piece.isascii():
                _keep_characters_whole(piece, offsets)
            words = np.array(encoding.word_ids, np.float64)  # a token outside words has None, which becomes nan
            begins = np.diff(words, prepend=-1) != 0
            if not self._splits_punctuation:
                begins |= _at_punctuation(piece, offsets)
            if not piece.isascii():
                begins &= ~_marks_of_the_token_before(piece, offsets)
            starts, which = np.flatnonzero(begins), np.cumsum(begins) - 1
            offsets += begin
            bounds = _bounds(offsets, starts)[which]
            yield Tokens(self._ids(encoding), offsets[:, 0], offsets[:, 1], bounds[:, 0], bounds[:, 1])

    def _ids(self, encoding: Encoding) -> Ints:
        """The ids of tokens of a text, none of them a special token's."""
        ids = np.array(encoding.ids, np.int64)
        return ids if self._unknown is None else np.where(np.isin(ids, self._never), self._unknown, ids)

    def _encode(self, text: str) -> Encoding:
        # Half a surrogate pair, as bad JSON has, is a character that nobody knows.
        return self._tokenizer.encode(_SURROGATES.sub("\ufffd", text), add_special_tokens=False)


def check_lengths(
    *, max_seq_len: int, doc_stride: int, max_question_len: int, positions: int, specials: int = 3
) -> None:
    """Check that a text can be cut into windows.

    Args:
        max_seq_len: The longest window, in tokens.
        doc_stride: How much neighbouring windows overlap, in tokens.
        max_question_len: The longest question, in tokens; a longer one is cut.
        positions: The longest sequence that the model can read.
        specials: The special tokens of a window.

    Raises:
        WindowError: One of them is out of range, or a window of the longest question would not move on.
    """
    if max_question_len < 1:
        raise WindowError(f"max_question_len is at least 1 token, not {max_question_len}")
    if doc_stride < 0:
        raise WindowError(f"doc_stride, the overlap of windows, is at least 0 tokens, not {doc_stride}")
    if max_seq_len > positions:
        raise WindowError(f"max_seq_len {max_seq_len} is more than the {positions} tokens that the model can read")
    room = max_seq_len - max_question_len - specials
    if room <= doc_stride:
        raise WindowError(
            f"max_seq_len {max_seq_len} less max_question_len {max_question_len} and {specials} special tokens leaves "
            f"{room} tokens for the text, no more than the overlap doc_stride {doc_stride}: raise max_seq_len, or "
            "lower doc_stride or max_question_len"
        )


def windows(
    tokenizer: TextTokenizer, question: Ints, text: Iterable[Tokens], *, max_seq_len: int, doc_stride: int
) -> Iterator[Window]:
    """Yield overlapping windows over a text, first to last; none for a text without tokens.

    Args:
        tokenizer: Gives the special tokens.
        question: The question's token ids, at most the `max_question_len` that `check_lengths` was asked about.
        text: The text's tokens, in pieces of any size.
        max_seq_len: The longest window, in tokens.
        doc_stride: How much neighbouring windows overlap, in tokens.
    """
    head = np.concatenate([[tokenizer.cls], question, tokenizer.between])
    tail = np.array([tokenizer.sep])
    room = max_seq_len - len(head) - 1

    def window(tokens: Tokens, settled: int) -> Window:
        ids = np.concatenate([head, tokens.ids, tail])
        type_ids = np.zeros_like(ids)
        type_ids[len(head) :] = 1
        return Window(ids=ids, type_ids=type_ids, text=tokens, offset=len(head), settled=settled)

    waiting: Tokens | None = None
    for piece in text:
        waiting = piece if waiting is None else waiting + piece
        while len(waiting) > room:
            yield window(waiting[:room], room - doc_stride)
            waiting = waiting[room - doc_stride :]
    if waiting is not None:
        yield window(waiting, len(waiting))


def pad(batch: Sequence[Window], pad_id: int) -> tuple[Ints, Ints, Ints]:
    """Return token ids, token types and attention mask of windows, `[windows, longest window]` each."""
    lengths = np.array([len(window) for window in batch])
    ids = np.full((len(batch), lengths.max()), pad_id, np.int64)
    type_ids = np.zeros_like(ids)
    for row, window in enumerate(batch):
        ids[row, : len(window)] = window.ids
        type_ids[row, : len(window)] = window.type_ids
    return ids, type_ids, (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)


def _settings(folder: Path) -> dict[str, Any]:
    """What the folder says of its tokenizer beside `tokenizer.json`."""
    files = [folder / name for name in ("special_tokens_map.json", "tokenizer_config.json")]
    try:
        found = [json.loads(file.read_text("utf-8")) for file in files if file.is_file()]
    except (ValueError, RecursionError) as error:
        raise WindowError(f"the tokenizer of {folder} cannot be read: its settings are no JSON ({error})") from None
    if not all(isinstance(settings, dict) for settings in found):
        raise WindowError(f"the tokenizer of {folder} cannot be read: its settings are no object")
    return {name: value for settings in found for name, value in settings.items() if value is not None}


def _names(role: str, config: Mapping[str, Any]) -> list[str]:
    """What the special token of a role may be called: as the settings say, or else one of the usual names."""
    said = config.get(role)
    said = said.get("content") if isinstance(said, dict) else said
    return [*([said] if isinstance(said, str) else []), *_USUAL[role]]


def _load(folder: Path, config: Mapping[str, Any]) -> Tokenizer:
    path, vocabulary = folder / "tokenizer.json", folder / "vocab.txt"
    paired, merges = folder / "vocab.json", folder / "merges.txt"
    try:
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
    except WindowError:
        raise
    except Exception as error:  # the tokenizers library raises bare Exception
        raise WindowError(f"the tokenizer of {folder} cannot be read: {str(error).splitlines()[0]}") from None


def _template(tokenizer: Tokenizer, folder: Path) -> tuple[list[int], list[int], list[int]] | None:
    """The special tokens before a question, between it and a text, and after that, as the tokenizer puts them.

    None if it puts none.

    Raises:
        WindowError: It is not one before, one after and some between; or the tokenizer has no token for what it does
            not know.
    """
    try:
        tokenizer.encode("\U0010fffd")
        pair = tokenizer.encode("a", "a")
    except Exception as error:  # the tokenizers library raises bare Exception
        raise WindowError(f"the tokenizer of {folder} cannot be used: {str(error).splitlines()[0]}") from None
    parts: tuple[list[int], list[int], list[int]] = [], [], []
    part = 0
    for index, sequence in zip(pair.ids, pair.sequence_ids, strict=True):
        if sequence is None:
            parts[part].append(index)
        else:
            part = sequence + 1
    if part < 2 or not any(parts):  # no word at all, or nothing around it
        return None
    if len(parts[0]) != 1 or not parts[1] or len(parts[2]) != 1:
        raise WindowError(
            f"the tokenizer of {folder} puts {len(parts[0])}, {len(parts[1])} and {len(parts[2])} special tokens before"
            " a question, between it and a text, and after that: only 1, 1 or more, and 1 are supported"
        )
    return parts


def _kinds_of(tokenizer: Tokenizer) -> set[str]:
    """The types of a tokenizer's model and of its pre-tokenizers."""
    model = type(tokenizer.model).__name__
    if tokenizer.pre_tokenizer is None:
        return {model}
    described = json.loads(tokenizer.pre_tokenizer.__getstate__())  # its part of tokenizer.json, without the vocabulary
    return {model, *(part["type"] for part in (described, *described.get("pretokenizers", ())))}


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Cut a text into pieces of bounded length: before the first of some white space, or else after punctuation.

    Where there is neither for 32,000 characters, anywhere but within a character: that is no word.
    """
    begin = 0
    while len(text) - begin > _PIECE:
        limit = begin + _PIECE
        cuts = range(limit, begin + _PIECE // 2, -1)
        end = next((cut for cut in cuts if text[cut] == " " and not _is_space(text[cut - 1])), None)
        if end is None:
            end = next((cut for cut in cuts if _is_space(text[cut]) and not _is_space(text[cut - 1])), None)
        if end is None:
            end = next((i for i in cuts if _is_punctuation(text[i - 1]) and not _continues(text[i])), limit)
        while end < min(len(text), limit + _MARKS) and _continues(text[end]):
            end += 1
        yield begin, end
        begin = end
    if begin < len(text):
        yield begin, len(text)


def _is_space(character: str) -> bool:
    """Whether BERT takes it for white space; the other controls that Python does, BERT removes within a word."""
    return character in "\t\n\r " or unicodedata.category(character) in ("Zs", "Zl", "Zp")


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def _continues(character: str) -> bool:
    """Whether a code point belongs to the character before it."""
    return character in _JOINERS or unicodedata.category(character) in ("Mn", "Mc", "Me")


def _marks_of_the_token_before(text: str, offsets: Ints) -> npt.NDArray[np.bool_]:
    """Which tokens begin with a mark that belongs to the token before, or with a letter right after a mark."""
    marks = np.zeros(len(offsets), np.bool_)
    for i in np.flatnonzero((offsets[1:, 0] <= offsets[:-1, 1]) & (offsets[1:, 0] < offsets[1:, 1])) + 1:
        first = int(offsets[i, 0])
        marks[i] = _continues(text[first]) or (text[first].isalnum() and first > 0 and _continues(text[first - 1]))
    return marks


def _at_punctuation(text: str, offsets: Ints) -> npt.NDArray[np.bool_]:
    """Which tokens begin with punctuation or after it, as words of BERT do."""
    return np.array(
        [
            begin < end and (_is_punctuation(text[begin]) or (begin > 0 and _is_punctuation(text[begin - 1])))
            for begin, end in offsets.tolist()
        ],
        np.bool_,
    )


def _leave_spaces(text: str, offsets: Ints) -> None:
    """Leave the white space around each token out; what is nothing else has no character then."""
    for i, (begin, end) in enumerate(offsets.tolist()):
        if begin < end and text[begin].isspace():
            offsets[i, 0] = begin = next((at for at in range(begin, end) if not text[at].isspace()), end)
        while begin < end and text[end - 1].isspace():
            offsets[i, 1] = end = end - 1


def _bounds(offsets: Ints, starts: Ints) -> Ints:
    """Where words begin and end, `[words, 2]`, by the tokens with which they begin: from those that are not blank."""
    ends = np.append(starts[1:], len(offsets)) - 1
    blank = offsets[:, 0] == offsets[:, 1]
    if not blank.any():
        return np.stack([offsets[starts, 0], offsets[ends, 1]], 1)
    begin = np.minimum.reduceat(np.where(blank, np.iinfo(np.int64).max, offsets[:, 0]), starts)
    end = np.maximum.reduceat(np.where(blank, -1, offsets[:, 1]), starts)
    nothing = end < begin
    return np.stack([np.where(nothing, offsets[ends, 1], begin), np.where(nothing, offsets[ends, 1], end)], 1)


def _keep_characters_whole(text: str, offsets: Ints) -> None:
    """Stretch the end of each token over the marks that the normalizer took away from its last character."""
    following = np.append(offsets[1:, 0], len(text))
    for i in np.flatnonzero(offsets[:, 1] < following):
        end = int(offsets[i, 1])
        while end < following[i] and _continues(text[end]):
            end += 1
        offsets[i, 1] = end
