"""Which tokenizer a model folder has: its family, its files, its size, and whether it tells question and text apart."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dynamic_tinybert.folder.errors import ModelFolderError
from dynamic_tinybert.folder.files import (
    ADDED_TOKENS,
    CONFIG,
    MERGES,
    PAIRED_VOCABULARY,
    TOKENIZER,
    TOKENIZER_CONFIG,
    VOCABULARY,
    read_object,
)
from dynamic_tinybert.folder.sentencepiece import SENTENCEPIECES, read_sentencepieces
from dynamic_tinybert.model import ModelShape

_WORD_PIECES: Final = frozenset(
    ("Bert", "DistilBert", "Electra", "MPNet", "MobileBert", "SqueezeBert", "ConvBert", "LayoutLM", "Funnel", "Lxmert")
)
_BYTE_PAIRS: Final = frozenset(("Roberta", "GPT2", "Bart", "Longformer", "Deberta"))
HERBERT: Final = "Herbert"
"""The family of byte pairs within words that end in `</w>`."""

_OF_MODELS: Final[Mapping[str, str]] = {
    "bert": "Bert",
    "distilbert": "DistilBert",
    "electra": "Electra",
    "mpnet": "MPNet",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "camembert": "Camembert",
    "albert": "Albert",
    "deberta": "Deberta",
    "deberta-v2": "DebertaV2",
    "mobilebert": "MobileBert",
}
_ANY: Final = frozenset(("PreTrained", "Tokenizers", "Auto", ""))  # classes that say nothing about the rules
_WITHOUT_TYPES: Final = frozenset(("Roberta", "XLMRoberta", "Camembert", "MPNet", "DistilBert", "Herbert"))


def family_of(folder: Path) -> str | None:
    """Return transformers' name of the family of a folder's tokenizer, such as `Bert`; None if nothing says it."""
    settings, model = _object(folder / TOKENIZER_CONFIG), _object(folder / CONFIG)
    for said in (settings.get("tokenizer_class"), model.get("tokenizer_class")):
        if isinstance(said, str):
            name = said.removesuffix("Backend").removesuffix("Fast").removesuffix("Tokenizer")
            if name not in _ANY:
                return name
    return _OF_MODELS.get(str(model.get("model_type")))


def vocabulary_file(folder: Path) -> Path:
    """Return the file of a folder's vocabulary whose rules are known: `tokenizer.json` before all others.

    Raises:
        ModelFolderError: There is none.
    """
    if (folder / TOKENIZER).is_file():
        return folder / TOKENIZER
    family = family_of(folder)
    has = {name for name in (VOCABULARY, PAIRED_VOCABULARY, *SENTENCEPIECES.values()) if (folder / name).is_file()}
    if PAIRED_VOCABULARY in has and not (folder / MERGES).is_file():
        has.remove(PAIRED_VOCABULARY)
    if not has:
        raise ModelFolderError(
            f"{folder} has neither {TOKENIZER} nor {VOCABULARY}, nor {PAIRED_VOCABULARY} and {MERGES}, nor a"
            " SentencePiece model: save the tokenizer of the same model there, with save_pretrained of transformers"
        )
    if family and SENTENCEPIECES.get(family) in has:
        return folder / SENTENCEPIECES[family]
    if VOCABULARY in has and (family is None or family in _WORD_PIECES):
        return folder / VOCABULARY
    if PAIRED_VOCABULARY in has and (family is None or family in _BYTE_PAIRS or family == HERBERT):
        return folder / PAIRED_VOCABULARY
    there = str(folder)
    raise ModelFolderError(
        f"{folder} has no {TOKENIZER}, and {' and '.join(sorted(has))} alone cannot say how {family}Tokenizer splits a"
        " text: where transformers is installed, this writes one if it has a fast form of this tokenizer: python -c"
        f' "from transformers import AutoTokenizer as T; T.from_pretrained({there!r}).save_pretrained({there!r})"'
    )


def added_tokens(folder: Path) -> dict[int, dict[str, Any]]:
    """Return the tokens that were added to a vocabulary beside `tokenizer.json`, by id: `content`, `special` ...

    Raises:
        ModelFolderError: A file is broken.
    """
    found: dict[int, dict[str, Any]] = {}
    if (folder / ADDED_TOKENS).is_file():
        for token, index in read_object(folder / ADDED_TOKENS).items():
            if not isinstance(index, int) or index < 0:
                raise ModelFolderError(f"{folder / ADDED_TOKENS}: {token!r:.50} has no id: download it again")
            found[index] = {"content": token}
    described = _object(folder / TOKENIZER_CONFIG).get("added_tokens_decoder")
    for index, token in described.items() if isinstance(described, dict) else ():
        if (
            not re.fullmatch("[0-9]{1,9}", index)
            or not isinstance(token, dict)
            or not isinstance(token.get("content"), str)
        ):
            raise ModelFolderError(
                f"{folder / TOKENIZER_CONFIG}: added_tokens_decoder has no token {index!r:.20}: download it again"
            )
        found[int(index)] = token
    return found


def check_tokenizer(folder: Path, shape: ModelShape) -> bool:
    """Check that a model has an embedding for each token of its tokenizer.

    Returns:
        Whether the tokenizer gives question and text different types, as transformers reads it.

    Raises:
        ModelFolderError: A token has no embedding, or there is no tokenizer whose rules are known.
        OSError: A file cannot be read.
    """
    file, whole = vocabulary_file(folder), {}
    if file.name == TOKENIZER:
        whole = _object(file)
        tokens = _count_tokens(whole)
    else:
        if file.name == VOCABULARY:
            with file.open("rb") as lines:
                tokens = sum(1 for _ in lines)
        elif file.name == PAIRED_VOCABULARY:
            tokens = len(read_object(file))
        else:
            tokens = len(read_sentencepieces(file, family_of(folder) or "").pieces)
        tokens = max([tokens, *(index + 1 for index in added_tokens(folder))])
    if tokens > shape.vocabulary:
        raise ModelFolderError(
            f"{file} has {tokens} tokens, but the model has embeddings for {shape.vocabulary}: use the tokenizer"
            " of the same model"
        )
    names = _object(folder / TOKENIZER_CONFIG).get("model_input_names")
    has_types = "token_type_ids" in names if isinstance(names, list) else family_of(folder) not in _WITHOUT_TYPES
    return has_types and _text_type(whole.get("post_processor")) != 0


def _text_type(processor: object) -> int:
    """Return the type that a post-processor of `tokenizer.json` gives to the second sequence."""
    if not isinstance(processor, dict):
        return 1
    if processor.get("type") == "Sequence":
        inside = processor.get("processors")
        kinds = [_text_type(one) for one in inside] if isinstance(inside, list) else []
        return min(kinds, default=1)
    if processor.get("type") == "RobertaProcessing":
        return 0
    pair = processor.get("pair")
    for part in pair if isinstance(pair, list) else ():
        sequence = part.get("Sequence") if isinstance(part, dict) else None
        if isinstance(sequence, dict) and sequence.get("id") == "B":
            given = sequence.get("type_id", 0)
            return given if isinstance(given, int) else 1
    return 1


def _object(file: Path) -> dict[str, Any]:
    """Return a JSON object; empty if there is none, because the tokenizer's loader reports a broken file."""
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _count_tokens(tokenizer: Mapping[str, Any]) -> int:
    """Count the ids of a tokenizer.json; 0 if they cannot be found, because the tokenizer's loader reports that."""
    try:
        vocabulary = tokenizer["model"]["vocab"]  # token -> id; a unigram model has a list of tokens instead
        ids = [*(vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary)))]
        return int(max([*ids, *(token["id"] for token in tokenizer["added_tokens"])])) + 1
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return 0
