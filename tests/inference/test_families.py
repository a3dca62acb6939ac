"""Tokenizers of folders without tokenizer.json: by the rules of their family, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dynamic_tinybert import WindowError
from dynamic_tinybert.inference import TextTokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "paris", "tower", "the"]


def write(folder: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return folder


def tokens(folder: Path, text: str) -> list[int]:
    return TextTokenizer(folder)._tokenizer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("BertJapaneseTokenizer", "vocab.txt"),  # mecab
        ("PhobertTokenizer", "vocab.txt"),
        ("BertweetTokenizer", "vocab.txt"),
        ("KoBertTokenizer", "vocab.txt"),
        ("XLMTokenizer", "vocab.json"),
        ("CamembertTokenizer", "spiece.model"),
    ],
)
@pytest.mark.parametrize("where", ["tokenizer_config.json", "config.json"])
def test_a_family_of_other_rules_is_refused_with_what_helps(tmp_path: Path, name: str, file: str, where: str) -> None:
    write(tmp_path, {"vocab.json": "{}", "merges.txt": ""} if file == "vocab.json" else {file: "\n".join(WORDS)})
    write(tmp_path, {where: {"tokenizer_class": name}})
    with pytest.raises(WindowError, match=f"cannot say how {name} splits a text") as caught:
        TextTokenizer(tmp_path)
    assert f"T.from_pretrained({str(tmp_path)!r})" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["BertTokenizerFast", "ElectraTokenizer", "PreTrainedTokenizerFast", None])
def test_word_pieces_of_known_families_are_read(tmp_path: Path, name: str | None) -> None:
    write(tmp_path, {"vocab.txt": "\n".join(WORDS), "tokenizer_config.json": {"tokenizer_class": name}})
    assert tokens(tmp_path, "The tower") == [7, 6]


def test_added_tokens_are_whole_tokens_with_their_ids(tmp_path: Path) -> None:
    decoder = {"9": {"content": "<unit>", "special": False, "normalized": False}, "2": {"content": "[CLS]"}}
    write(tmp_path, {"vocab.txt": "\n".join(WORDS), "added_tokens.json": {"kilometre": 8}})
    write(tmp_path, {"tokenizer_config.json": {"added_tokens_decoder": decoder}})
    assert tokens(tmp_path, "the <unit> kilometre tower") == [7, 9, 8, 6]


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ({"far": 30}, "its added token 'far' has the id 30, but 8 is next"),
        ({"far": "8"}, "'far' has no id"),
    ],
)
def test_added_tokens_that_do_not_fit_are_refused(tmp_path: Path, added: dict[str, Any], said: str) -> None:
    write(tmp_path, {"vocab.txt": "\n".join(WORDS), "added_tokens.json": added})
    with pytest.raises(WindowError, match=said):
        TextTokenizer(tmp_path)


def test_byte_pairs_of_herbert(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    known = ["<s>", "</s>", "<unk>", "<pad>", "<mask>", *"wieża.", "a</w>", "wi", "wie", "ża</w>", "wieża</w>"]
    files = {
        "vocab.json": {token: i for i, token in enumerate(dict.fromkeys([*known, ".</w>"]))},
        "merges.txt": "#version: 0.2\nw i\nwi e\nż a</w>\nwie ża</w>\n",
        "tokenizer_config.json": {"tokenizer_class": "HerbertTokenizerFast"},
    }
    write(tmp_path, files)
    theirs = transformers.HerbertTokenizer.from_pretrained(tmp_path)
    for text in ("wieża wieża.", "wiża ae", "Wieża"):
        assert tokens(tmp_path, text) == theirs.encode(text, add_special_tokens=False), text
    assert TextTokenizer(tmp_path).cls == 0
