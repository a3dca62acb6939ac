"""The names of the files of a model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from dynamic_tinybert.folder.errors import ModelFolderError

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
TOKENIZER: Final = "tokenizer.json"
TOKENIZER_CONFIG: Final = "tokenizer_config.json"
ADDED_TOKENS: Final = "added_tokens.json"
VOCABULARY: Final = "vocab.txt"
PAIRED_VOCABULARY: Final = "vocab.json"
MERGES: Final = "merges.txt"
LENGTH_CONFIGS: Final = "length_configs.json"
CARD: Final = "README.md"

TOKENIZER_FILES: Final = (
    TOKENIZER,
    TOKENIZER_CONFIG,
    ADDED_TOKENS,
    VOCABULARY,
    PAIRED_VOCABULARY,
    MERGES,
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
    "special_tokens_map.json",
)
COPIED: Final = (*TOKENIZER_FILES, LENGTH_CONFIGS, CARD)
FETCHED: Final = (CONFIG, WEIGHTS, "model-*.safetensors", INDEX, *COPIED)


def read_object(file: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        ModelFolderError: It holds something else.
        OSError: It cannot be read.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(f"{file} is not JSON ({error}): repair it or download it again") from error
    if not isinstance(value, dict):
        raise ModelFolderError(f"{file} is JSON, but not an object: repair it or download it again")
    return value
