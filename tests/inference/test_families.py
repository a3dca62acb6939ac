"""Tokenizers of folders without tokenizer.json: by the rules of their family, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dynamic_tinybert import WindowError
from dynamic_tinybert.folder import open_folder
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


@pytest.mark.parametrize("kind", ["abc", {"a": 1}, None, 1e400, [1]])
def test_a_broken_type_in_a_tokenizer_is_left_to_its_loader(tiny_folder: Path, tmp_path: Path, kind: Any) -> None:
    for file in tiny_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    for part in tokenizer["post_processor"]["pair"]:
        for each in part.values():
            each["type_id"] = kind
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    assert open_folder(tmp_path).shape.typed in (False, True)
    with pytest.raises(WindowError):
        TextTokenizer(tmp_path)


def special(folder: Path) -> tuple[str, str, str, list[str]]:
    """The tokens before a question, after a text, of padding, and between question and text."""
    found = TextTokenizer(folder)
    name = found._tokenizer.id_to_token
    return name(found.cls), name(found.sep), name(found.pad), [name(i) for i in found.between]


@pytest.mark.parametrize("name", [None, "MPNetTokenizer"])
def test_mpnet_has_its_own_special_tokens_beside_those_of_bert(tmp_path: Path, name: str | None) -> None:
    words = ["<s>", "<pad>", "</s>", "<unk>", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "tower", "<mask>"]
    write(tmp_path, {"vocab.txt": "\n".join(words), "config.json": {"model_type": "mpnet"}})
    if name:
        write(tmp_path, {"tokenizer_config.json": {"tokenizer_class": name}})
    assert special(tmp_path) == ("<s>", "</s>", "<pad>", ["</s>", "</s>"])
    assert tokens(tmp_path, "tower crane") == [8, 5]


def test_herbert_has_one_separator(tmp_path: Path) -> None:
    known = ["<s>", "</s>", "<unk>", "<pad>", "<mask>", "a", "a</w>"]
    files = {
        "vocab.json": {token: i for i, token in enumerate(known)},
        "merges.txt": "#version: 0.2\n",
        "tokenizer_config.json": {"tokenizer_class": "HerbertTokenizerFast"},
    }
    assert special(write(tmp_path, files)) == ("<s>", "</s>", "<pad>", ["</s>"])
