"""A teacher's tokens are the student's, or it is refused before it teaches anything."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from dynamic_tinybert.train.errors import TrainingError
from dynamic_tinybert.train.vocabulary import Vocabulary, check_alignment

TEXTS = [
    "Who built the lighthouse of Port Ellis?",
    "Agnes Moreau built it in 1871: naïve façades, über-hôtels, 東京, Москва; $5,000.50 (net).",
    "supercalifragilistic \u1234 \U0001f469\u200d\U0001f467 unwordable",
]
SPECIALS = {"[CLS]": 0, "[PAD]": 1, "[SEP]": 2, "[MASK]": 30526}


def write(folder: Path, tokenizer: dict[str, Any], config: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return folder


def special(index: int, content: str) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": content == "<mask>", "rstrip": False, "normalized": False}
    return {"id": index, "content": content, "special": True, **flags}


def like_mpnet(folder: Path, embedded: Path, *, drop: str | None = None, lowercase: bool = True) -> Path:
    """A tokenizer laid out as that of all-mpnet-base-v2: BERT's tokens from 4, and specials of its own."""
    tokenizer = json.loads((embedded / "tokenizer.json").read_text("utf-8"))
    own = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    vocabulary = own | {token: i + 4 for token, i in tokenizer["model"]["vocab"].items()} | {"<mask>": 30526}
    if drop is not None:
        vocabulary[f"not-{drop}"] = vocabulary.pop(drop)
    tokenizer["model"]["vocab"] = vocabulary
    tokenizer["normalizer"]["lowercase"] = lowercase
    tokenizer["added_tokens"] = [
        special(vocabulary[t], t) for t in ("<s>", "<pad>", "</s>", "<unk>", "[UNK]", "<mask>")
    ]
    tokenizer["post_processor"] = {
        "type": "RobertaProcessing",
        "sep": ["</s>", 2],
        "cls": ["<s>", 0],
        "trim_offsets": True,
        "add_prefix_space": False,
    }
    tokenizer["truncation"] = {"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    tokenizer["padding"] = {
        "strategy": {"Fixed": 128},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 1,
        "pad_type_id": 0,
        "pad_token": "<pad>",
    }
    config = {
        "tokenizer_class": "MPNetTokenizer",
        "do_lower_case": lowercase,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "cls_token": "<s>",
        "unk_token": "[UNK]",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
        "model_max_length": 512,
    }
    return write(folder, tokenizer, config)


@pytest.fixture(scope="module")
def student(embedded: Path) -> Vocabulary:
    return Vocabulary(embedded)


@pytest.fixture(scope="module")
def mpnet(tmp_path_factory: pytest.TempPathFactory, embedded: Path) -> Vocabulary:
    return Vocabulary(like_mpnet(tmp_path_factory.mktemp("vocabulary") / "mpnet", embedded))


def refused(teacher: Vocabulary, student: Vocabulary, says: str) -> None:
    with pytest.raises(TrainingError, match=says) as error:
        check_alignment(teacher, student, TEXTS)
    assert "\n" not in str(error.value)
    assert teacher.name in str(error.value)


def test_ids_of_mpnet_are_berts_plus_four_but_for_special_tokens(student: Vocabulary, mpnet: Vocabulary) -> None:
    table = mpnet.map_from(student)
    assert table is not None
    assert table.dtype == torch.int64
    assert table.shape == (30522,)
    wanted = torch.arange(30522) + 4
    for token, index in SPECIALS.items():
        wanted[student.ids[token]] = index
    assert torch.equal(table, wanted)


def test_mpnet_is_token_aligned_whatever_its_file_says_of_truncation_and_padding(
    student: Vocabulary, mpnet: Vocabulary
) -> None:
    check_alignment(mpnet, student, TEXTS)
    assert len(mpnet.tokens(TEXTS[1])) == len(student.tokens(TEXTS[1])) > 20


def test_bert_itself_needs_no_map(student: Vocabulary, embedded: Path) -> None:
    other = Vocabulary(embedded)
    check_alignment(other, student, TEXTS)
    assert other.map_from(student) is None


def test_special_tokens_are_told_by_role(student: Vocabulary, mpnet: Vocabulary) -> None:
    assert student.roles["cls_token"] == "[CLS]"
    assert mpnet.roles["cls_token"] == "<s>"
    assert student.reads_as_bert
    assert not mpnet.reads_as_bert


def test_what_looks_like_a_special_token_in_a_text_is_text(student: Vocabulary, mpnet: Vocabulary) -> None:
    """As it is to answering, so it cannot tell a teacher from its student."""
    check_alignment(mpnet, student, ["A [SEP] or </s> or <mask>, [CLS] <s> [UNK]."])
    assert "[SEP]" not in student.tokens("a [SEP] b")


def test_a_text_of_nothing_is_aligned(student: Vocabulary, mpnet: Vocabulary) -> None:
    check_alignment(mpnet, student, ["", "  "])
    check_alignment(mpnet, student, [])


def test_a_cased_teacher_is_refused(tmp_path: Path, embedded: Path, student: Vocabulary) -> None:
    cased = Vocabulary(like_mpnet(tmp_path / "cased", embedded, lowercase=False))
    refused(cased, student, "not token-aligned.*'Who built the lighthouse.*use one with the student's WordPiece")


def test_a_teacher_of_another_vocabulary_is_refused(tmp_path: Path, embedded: Path, student: Vocabulary) -> None:
    other = Vocabulary(like_mpnet(tmp_path / "other", embedded, drop="lighthouse"))
    refused(other, student, "one reads 'light' where the other reads 'lighthouse'")


def test_a_teacher_without_one_of_the_roles_is_refused(tmp_path: Path, embedded: Path, student: Vocabulary) -> None:
    folder = like_mpnet(tmp_path / "less", embedded)
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    # The same tokens under other ids, and no [SEP] among them, nor one of its role.
    vocabulary = {t: i for t, i in tokenizer["model"]["vocab"].items() if t not in ("[SEP]", "</s>")}
    tokenizer["model"]["vocab"] = vocabulary
    tokenizer["added_tokens"] = [t for t in tokenizer["added_tokens"] if t["content"] != "</s>"]
    tokenizer["post_processor"] = None
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "cls_token": "<s>", "unk_token": "[UNK]"}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "pad_token": "<pad>"}), "utf-8")
    refused(Vocabulary(folder), student, r"has no token '\[MASK\]'|has no token '\[SEP\]'")


def test_a_tokenizer_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for model in (tmp_path / "nowhere", tmp_path / "empty"):
        with pytest.raises(TrainingError, match=r"the tokenizer of .* cannot be loaded|no model folder") as error:
            Vocabulary(model)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 600


def test_a_damaged_tokenizer_is_one_line(tmp_path: Path, embedded: Path) -> None:
    shutil.copyfile(embedded / "config.json", tmp_path / "config.json")
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", ', "utf-8")
    with pytest.raises(TrainingError, match=r"the tokenizer of .* cannot be loaded") as error:
        Vocabulary(tmp_path)
    assert "\n" not in str(error.value)


def test_a_tokenizer_of_a_word_list_alone_is_read(tmp_path: Path, embedded: Path, student: Vocabulary) -> None:
    ordered = sorted(student.ids, key=lambda token: student.ids[token])
    (tmp_path / "vocab.txt").write_text("\n".join(ordered) + "\n", "utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}), "utf-8")
    shutil.copyfile(embedded / "config.json", tmp_path / "config.json")
    other = Vocabulary(tmp_path)
    assert other.map_from(student) is None
    check_alignment(other, student, TEXTS)
