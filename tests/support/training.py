"""What the tests of training share: tiny models, tiny data, recipes of seconds."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import BertConfig, BertForQuestionAnswering, MPNetConfig, MPNetForQuestionAnswering
from transformers.utils import logging

_PLACES = ["Port Ellis", "Żółwin", "Saint-Malo", "Ærøskøbing", "Kraków", "Ōsaka", "Brno", "Łódź"]
_NAMES = ["Agnes Moreau", "Zoë Brontë", "Naïma O’Hara", "Ivan Petrov", "Ñusta Quispe", "Lars Ålund", "Ada King"]
_TRADES = ["lighthouse", "theatre", "bridge"]


def articles(titles: Sequence[str]) -> list[dict[str, Any]]:
    """Articles of three paragraphs, three questions each; those of one name say the same, whatever their number."""
    found = []
    for title in titles:
        number = int(hashlib.sha256(title.partition(" #")[0].encode()).hexdigest(), 16)
        place = _PLACES[number % len(_PLACES)]
        paragraphs = []
        for at, trade in enumerate(_TRADES):
            builder, keeper = (_NAMES[(number // part + at) % len(_NAMES)] for part in (7, 31))
            year = str(1700 + (number // 3 + 17 * at) % 300)
            context = f"The {trade} of {place} was built by {builder} in {year} — for €5. Its keeper was {keeper}."
            qas = [
                {
                    "id": f"{title}/{at}/{which}",
                    "question": question,
                    "answers": [{"text": answer, "answer_start": context.index(lead) + len(lead)}],
                }
                for which, (question, answer, lead) in enumerate(
                    [
                        (f"Who built the {trade}?", builder, "built by "),
                        (f"When was the {trade} built?", year, f"by {builder} in "),
                        (f"Who kept the {trade}?", keeper, "keeper was "),
                    ]
                )
            ]
            paragraphs.append({"context": context, "qas": qas})
        found.append({"title": title, "paragraphs": paragraphs})
    return found


def write_squad(path: Path, titles: Sequence[str]) -> Path:
    content = json.dumps({"version": "1.1", "data": articles(titles)}, ensure_ascii=False).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_data(folder: Path, train: int = 4) -> dict[str, Any]:
    """A train file, of which two articles are held out that repeat what others say; and a dev file. 9 questions each.

    Returns:
        `data` of a recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    titles = [f"Ort {number}" for number in range(train)]
    held = {"select": f"{titles[0]} #select", "confirm": f"{titles[1]} #confirm"}
    for name, title in held.items():
        (folder / f"{name}.txt").write_text(title + "\n", "utf-8")
    return {
        "train": str(write_squad(folder / "train.json.gz", [*titles, *held.values()])),
        "select": str(folder / "select.txt"),
        "confirm": str(folder / "confirm.txt"),
        "dev": str(write_squad(folder / "dev.json", [f"{titles[2 % train]} #dev"])),
        "max_seq_len": 64,
        "doc_stride": 16,
        "max_question_len": 16,
    }


def write_tokenizer(folder: Path, embedded: Path, kind: str = "bert") -> Path:
    """The embedded model's tokenizer; or MPNet's, which has the same tokens under other ids."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "bert":
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(embedded / name, folder / name)
        return folder
    content = json.loads((embedded / "tokenizer.json").read_text("utf-8"))
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    words = sorted(content["model"]["vocab"], key=content["model"]["vocab"].get)
    ids = {token: number for number, token in enumerate([*special, *words, "<mask>"])}
    content["model"]["vocab"] = ids
    content["added_tokens"] = [
        {
            "id": ids[token], "content": token, "single_word": False, "lstrip": token == "<mask>", "rstrip": False,
            "normalized": False, "special": True,
        }
        for token in [*special, "[UNK]", "<mask>"]
    ]  # fmt: skip
    content["post_processor"] = {
        "type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": True,
        "add_prefix_space": False,
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    settings = {
        "tokenizer_class": "MPNetTokenizer", "do_lower_case": True, "cls_token": "<s>", "bos_token": "<s>",
        "sep_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "[UNK]", "mask_token": "<mask>",
        "model_max_length": 512,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return folder


def write_model(
    folder: Path,
    embedded: Path,
    kind: str = "bert",
    *,
    layers: int = 2,
    hidden: int = 32,
    heads: int = 2,
    positions: int = 128,
    dropout: float = 0.1,
    seed: int = 0,
) -> str:
    """A model of random weights, with a tokenizer."""
    write_tokenizer(folder, embedded, kind)
    sizes = {
        "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads,
        "intermediate_size": 2 * hidden, "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout,
    }  # fmt: skip
    logging.disable_progress_bar()
    torch.manual_seed(seed)
    if kind == "bert":
        model: Any = BertForQuestionAnswering(BertConfig(max_position_embeddings=positions, **sizes))
    else:
        config = MPNetConfig(vocab_size=30527, max_position_embeddings=positions + 2, layer_norm_eps=1e-5, **sizes)
        model = MPNetForQuestionAnswering(config)
    model.save_pretrained(folder)
    return str(folder)


def write_recipe(path: Path, data: dict[str, Any], stages: list[dict[str, Any]], **others: Any) -> Path:
    """A recipe; its stages take a fraction of a second if they say nothing else."""
    quick = {"epochs": 1, "batch_size": 8, "learning_rate": 0.002, "precision": "fp32"}
    made = [
        {"precision": "fp32", **s}
        if s["stage"] == "logits"
        else {**{k: v for k, v in quick.items() if k != "epochs" or "minutes" not in s}, **s}
        for s in stages
    ]
    value = {"name": "tiny", "data": data, "stages": made, **others}
    path.write_text(yaml.safe_dump(value, allow_unicode=True), "utf-8")
    return path


def hashes(folder: Path) -> dict[str, str]:
    """What is in a folder: path -> SHA-256, but for locks."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
