"""Open, check and write a model folder: embedded in the package, local, or from the Hugging Face Hub.

The folder has the format of transformers. Only this subpackage knows transformers' names: the names of tensors are in
`architectures`, the names of settings in `shapes`.
"""

from dynamic_tinybert.folder.architectures import tensor_table
from dynamic_tinybert.folder.errors import ModelFolderError
from dynamic_tinybert.folder.files import (
    CARD,
    CONFIG,
    COPIED,
    FETCHED,
    INDEX,
    LENGTH_CONFIGS,
    TOKENIZER,
    TOKENIZER_FILES,
    WEIGHTS,
    read_object,
)
from dynamic_tinybert.folder.hub import find_conversion, is_hub_name
from dynamic_tinybert.folder.reading import EMBEDDED, ModelFolder, called, open_folder
from dynamic_tinybert.folder.saving import save_folder
from dynamic_tinybert.folder.sentencepiece import SENTENCEPIECES, SentencePieces, read_sentencepieces
from dynamic_tinybert.folder.tensors import find_weight_files
from dynamic_tinybert.folder.tokenizing import HERBERT, added_tokens, family_of, vocabulary_file

__all__ = [
    "CARD",
    "CONFIG",
    "COPIED",
    "EMBEDDED",
    "FETCHED",
    "HERBERT",
    "INDEX",
    "LENGTH_CONFIGS",
    "SENTENCEPIECES",
    "TOKENIZER",
    "TOKENIZER_FILES",
    "WEIGHTS",
    "ModelFolder",
    "ModelFolderError",
    "SentencePieces",
    "added_tokens",
    "called",
    "family_of",
    "find_conversion",
    "find_weight_files",
    "is_hub_name",
    "open_folder",
    "read_object",
    "read_sentencepieces",
    "save_folder",
    "tensor_table",
    "vocabulary_file",
]
