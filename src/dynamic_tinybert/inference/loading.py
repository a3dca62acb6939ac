"""Load the tokenizer of a model folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from dynamic_tinybert.errors import DynamicTinyBertError
from dynamic_tinybert.folder import (
    HERBERT,
    TOKENIZER,
    ModelFolderError,
    SentencePieces,
    added_tokens,
    family_of,
    read_sentencepieces,
    vocabulary_file,
)

_SPACE = "\u2581"  # SentencePiece's sign for a space
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
USUAL = {
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
}
_DOUBLING = frozenset(
    ("Roberta", "XLMRoberta", "Camembert", "MPNet", "Bart", "Longformer")
)  # between question and text
_OF_FAIRSEQ = _DOUBLING | {HERBERT}  # <s> and </s> come first, even if the vocabulary has BERT's tokens, too


class WindowError(DynamicTinyBertError, ValueError):
    """A tokenizer cannot be used, or window lengths do not fit each other."""

    misuse = True


@contextlib.contextmanager
def named(what: str) -> Iterator[None]:
    """Turn an error of the tokenizers library into a `WindowError` of one line.

    The library raises bare Exception, and a panic of its Rust code is a BaseException.
    """
    try:
        yield
    except (WindowError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except BaseException as error:
        why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise WindowError(f"{what}: {why:.300}") from None


def read_settings(folder: Path) -> dict[str, Any]:
    """Read the settings of a tokenizer that are outside `tokenizer.json`."""
    files = [folder / name for name in ("special_tokens_map.json", "tokenizer_config.json")]
    try:
        found = [json.loads(file.read_text("utf-8")) for file in files if file.is_file()]
    except (ValueError, RecursionError) as error:
        raise WindowError(f"the tokenizer of {folder} cannot be read: its settings are not JSON ({error})") from None
    if not all(isinstance(settings, dict) for settings in found):
        raise WindowError(f"the tokenizer of {folder} cannot be read: its settings are not an object")
    return {name: value for settings in found for name, value in settings.items() if value is not None}


def doubles_separator(family: str | None, separator: str | None) -> bool:
    """Return whether two separators are between question and text, if the tokenizer itself does not say it."""
    return family in _DOUBLING if family is not None else separator == "</s>"


def token_names(role: str, config: Mapping[str, Any], family: str | None = None) -> list[str]:
    """Return possible names of a special token: first the name in the settings, then the usual names."""
    said = config.get(role)
    said = said.get("content") if isinstance(said, dict) else said
    usual = USUAL[role][::-1] if family in _OF_FAIRSEQ and (family, role) != ("MPNet", "unk_token") else USUAL[role]
    return [*([said] if isinstance(said, str) else []), *usual]


def load(folder: Path, config: Mapping[str, Any]) -> Tokenizer:
    """Load the tokenizer of a folder: `tokenizer.json`, or one made of a vocabulary by the rules of its family.

    Raises:
        WindowError: There is none, or it cannot be read.
    """
    with named(f"the tokenizer of {folder} cannot be read"):
        try:
            file = vocabulary_file(folder)
            if file.name == TOKENIZER:
                return Tokenizer.from_file(str(file))
            family, added = family_of(folder), added_tokens(folder)
            if file.suffix == ".model":
                tokenizer = _unigram(read_sentencepieces(file, family or ""), family, config)
            elif file.suffix == ".json":
                tokenizer = _byte_pairs(folder, file, family, config)
            else:
                tokenizer = _word_pieces(folder, file, family, config)
        except ModelFolderError as error:
            raise WindowError(str(error)) from None
        _add(tokenizer, added, folder)
        return tokenizer


def _word_pieces(folder: Path, vocabulary: Path, family: str | None, config: Mapping[str, Any]) -> Tokenizer:
    lines = vocabulary.read_bytes().decode("utf-8-sig").removesuffix("\n").split("\n")
    tokens = {line.removesuffix("\r"): i for i, line in enumerate(lines)}
    unknown = next((name for name in token_names("unk_token", config, family) if name in tokens), None)
    if unknown is None:
        raise WindowError(f"the tokenizer of {folder} has no {' or '.join(USUAL['unk_token'])}")
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


def _byte_pairs(folder: Path, vocabulary: Path, family: str | None, config: Mapping[str, Any]) -> Tokenizer:
    merges = str(folder / "merges.txt")
    if family == HERBERT:
        unknown = token_names("unk_token", config, family)[0]
        model = models.BPE.from_file(str(vocabulary), merges, unk_token=unknown, end_of_word_suffix="</w>")
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
        return tokenizer
    tokenizer = Tokenizer(models.BPE.from_file(str(vocabulary), merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=config.get("add_prefix_space", False))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _unigram(found: SentencePieces, family: str | None, config: Mapping[str, Any]) -> Tokenizer:
    """Make the tokenizer of a SentencePiece model, with the rules that each family adds to it."""
    tokenizer = Tokenizer(models.Unigram(found.pieces, unk_id=found.unknown, byte_fallback=False))
    steps: list[Any] = []
    if family == "Albert":
        steps += [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
        if not config.get("keep_accents", False):
            steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if family in ("Albert", "DebertaV2") and config.get("do_lower_case", family == "Albert"):
        steps.append(normalizers.Lowercase())
    if family == "DebertaV2":
        steps.append(normalizers.Strip())
    if found.charsmap:
        steps.append(normalizers.Precompiled(found.charsmap))
    steps.append(normalizers.Replace(Regex(" {2,}"), " "))
    tokenizer.normalizer = normalizers.Sequence(steps)
    spaces = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always")
    first: Any = pre_tokenizers.WhitespaceSplit()
    if family == "DebertaV2":
        first = pre_tokenizers.Punctuation("isolated") if config.get("split_by_punct") else None
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([part for part in (first, spaces) if part is not None])
    tokenizer.decoder = decoders.Metaspace(replacement=_SPACE, prepend_scheme="always")
    tokenizer.add_tokens([AddedToken(piece, normalized=False, special=special) for piece, special in found.added])
    return tokenizer


def _add(tokenizer: Tokenizer, added: Mapping[int, Mapping[str, Any]], folder: Path) -> None:
    """Add the tokens that have an id outside the vocabulary, and those that are special.

    Raises:
        WindowError: An id does not follow the vocabulary.
    """
    for index, token in sorted(added.items()):
        flags = {name: bool(token[name]) for name in _FLAGS if name in token}
        tokenizer.add_tokens([AddedToken(token["content"], **flags)])
        if tokenizer.token_to_id(token["content"]) != index:
            raise WindowError(
                f"the tokenizer of {folder} cannot be read: its added token {token['content']!r:.50} has the id"
                f" {index}, but {tokenizer.token_to_id(token['content'])} is next"
            )


def special_tokens(tokenizer: Tokenizer, folder: Path) -> tuple[list[int], list[int], list[int]] | None:
    """Return the special tokens that the tokenizer adds before a question, between question and text, and after both.

    The result is None if it adds none.

    Raises:
        WindowError: It does not add one before, one or more between and one after; or it has no unknown token.
    """
    with named(f"the tokenizer of {folder} cannot be used"):
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


def kinds_of(tokenizer: Tokenizer) -> set[str]:
    """Return the types of a tokenizer's model and pre-tokenizers."""
    model = type(tokenizer.model).__name__
    if tokenizer.pre_tokenizer is None:
        return {model}
    described = json.loads(tokenizer.pre_tokenizer.__getstate__())  # its part of tokenizer.json, without the vocabulary
    return {model, *(part["type"] for part in (described, *described.get("pretokenizers", ())))}
