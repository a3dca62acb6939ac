"""Folders with a SentencePiece model and no tokenizer.json: held against transformers and sentencepiece itself."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from dynamic_tinybert import WindowError
from dynamic_tinybert.folder import ModelFolderError, read_sentencepieces
from dynamic_tinybert.inference import TextTokenizer

sentencepiece = pytest.importorskip("sentencepiece")
transformers = pytest.importorskip("transformers")

from support.sentencepieces import FAMILIES, SIZE, strings, trained  # noqa: E402


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind, file, options = FAMILIES[family]
    folder = tmp_path_factory.mktemp(family)
    (folder / file).write_bytes(trained(**options))
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    if family == "DebertaV2":
        (folder / "added_tokens.json").write_text(json.dumps({"[MASK]": SIZE}))
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "DebertaV2Tokenizer"}))
    return folder


def ids(tokenizer: TextTokenizer, text: str) -> list[int]:
    return tokenizer._tokenizer.encode(text, add_special_tokens=False).ids


def test_tokens_are_those_of_transformers(folder: Path, family: str) -> None:
    if family == "DebertaV2":
        pytest.skip("transformers 5 leaves the model's normalization out: see the next test")
    ours, theirs = TextTokenizer(folder), getattr(transformers, f"{family}Tokenizer").from_pretrained(folder)
    for text in strings(3500):
        assert ids(ours, text) == theirs.encode(text, add_special_tokens=False), text
    assert (ours.cls, ours.sep, ours.pad) == (theirs.cls_token_id, theirs.sep_token_id, theirs.pad_token_id)


def test_tokens_are_those_of_sentencepiece_itself(folder: Path, family: str) -> None:
    if family != "DebertaV2":
        pytest.skip("it has rules of its own beside the model's")
    ours = TextTokenizer(folder)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spm.model"))
    other = [text for text in strings(3500) if ids(ours, text) != theirs.encode(text)]
    assert len(other) < 10, other  # marks without a letter, and zero-width spaces at an end
    assert (ours.cls, ours.sep, ours.pad, ours.between.tolist()) == (1, 2, 0, [2])


def model(pieces: list[tuple[str, float, int]]) -> bytes:
    """A model of pieces with their scores and types, whose unknown token is the first, as its protocol buffer."""

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    inside = [
        field(1, piece.encode()) + bytes([2 << 3 | 5]) + struct.pack("<f", score) + bytes([3 << 3, kind])
        for piece, score, kind in pieces
    ]
    return b"".join(field(1, piece) for piece in inside) + field(2, bytes([3 << 3, 1]))


def test_albert_splits_a_number_from_its_comma(tmp_path: Path) -> None:
    named = [("<unk>", 0.0, 2), ("<pad>", 0.0, 3), ("[CLS]", 0.0, 3), ("[SEP]", 0.0, 3)]
    pieces = [("\u2581", -3.0, 1), ("\u25819,", -1.0, 1), ("9", -4.0, 1), (",", -4.0, 1), ("\u25819", -2.0, 1)]
    (tmp_path / "spiece.model").write_bytes(model([*named, *pieces]))
    (tmp_path / "config.json").write_text('{"model_type": "albert"}')
    assert sentencepiece.SentencePieceProcessor(model_proto=model([*named, *pieces])).encode("9,") == [5]
    assert ids(TextTokenizer(tmp_path), "9,") == [8, 7]


@pytest.mark.parametrize("cut", [0, 1, 100, 5000, -1])
def test_a_damaged_model_is_one_line(folder: Path, family: str, tmp_path: Path, cut: int) -> None:
    kind, file, _ = FAMILIES[family]
    (tmp_path / file).write_bytes((folder / file).read_bytes()[:cut])
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(WindowError, match="damaged or not a SentencePiece model") as caught:
        TextTokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_model_of_byte_pairs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spm.model").write_bytes(trained(model_type="bpe"))
    with pytest.raises(ModelFolderError, match=r"not a unigram model: save a tokenizer\.json beside it"):
        read_sentencepieces(tmp_path / "spm.model", "DebertaV2")


@pytest.mark.parametrize("family", ["XLMRoberta", "Camembert"])
def test_case_stays_and_the_mask_is_text(family: str, tmp_path: Path) -> None:
    kind, file, options = FAMILIES[family]
    (tmp_path / file).write_bytes(trained(**options))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    plain = TextTokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    tokenizer = TextTokenizer(tmp_path)
    assert ids(tokenizer, "The Tower") == ids(plain, "The Tower") != ids(plain, "the tower")
    mask = tokenizer._tokenizer.token_to_id("<mask>")
    found = np.concatenate([part.ids for part in tokenizer.text("x <mask> y")]).tolist()
    assert mask not in found
