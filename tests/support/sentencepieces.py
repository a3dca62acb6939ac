"""Strings of many scripts, and SentencePiece models of each family that are trained on them."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sentencepiece

ROOT = Path(__file__).parents[2]
SCRIPTS = [
    "The tower stands in Paris, and isn't tall.", "Привет, мир! Ёлка и Й", "東京タワーは高いです。",
    "مرحبا بالعالم، كيف",
    "שלום עולם", "Ελληνικά κείμενα άλφα", "नमस्ते दुनिया", "ภาษาไทยไม่มีช่องว่าง", "안녕하세요 세계", "বাংলা ভাষা",
    "தமிழ் மொழி", "ქართული ენა", "հայերեն", "አማርኛ", "Việt Nam đẹp", "ພາສາລາວ", "ភាសាខ្មែរ", "မြန်မာဘာသာ",
    "తెలుగు", "ગુજરાતી",
    "Ünïcödé ﬁne ½ Ｆｕｌｌ ﷺ résumé", "``quoted'' text", "emoji 😀👍🏽 end", "tab\tand\nnewline", "..!!??--__##",
    "\u00a0no-break\u3000ideographic", "Türkiye İstanbul ıssız", "e\u0301 combining", " two  spaces ",
]  # fmt: skip
SIZE = 600
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "XLMRoberta": ("xlm-roberta", "sentencepiece.bpe.model", {}),
    "Camembert": ("camembert", "sentencepiece.bpe.model", {}),
    "Albert": (
        "albert",
        "spiece.model",
        {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "pad_piece": "<pad>",
         "control_symbols": ["[CLS]", "[SEP]", "[MASK]"]},
    ),
    "DebertaV2": (
        "deberta-v2",
        "spm.model",
        {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_piece": "[PAD]", "bos_piece": "[CLS]",
         "eos_piece": "[SEP]", "unk_piece": "[UNK]"},
    ),
}  # fmt: skip


def trained(**options: Any) -> bytes:
    """A model of `SIZE` pieces, trained on many scripts."""
    words = (ROOT / "examples/eiffel-tower.txt").read_text("utf-8").splitlines()
    lines = [*SCRIPTS * 20, *words, *(ROOT / "CONTRIBUTING.md").read_text("utf-8").splitlines()]
    written = io.BytesIO()
    options = {"model_type": "unigram", "character_coverage": 1.0, "minloglevel": 2, **options}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=written, vocab_size=SIZE, **options
    )
    return written.getvalue()


def strings(count: int) -> Iterator[str]:
    """Strings of 20 scripts: whole lines, parts of them, and characters at random."""
    chosen, characters = random.Random(0), [c for line in SCRIPTS for c in line]
    for _ in range(count):
        kind = chosen.random()
        two = f"{chosen.choice(SCRIPTS)} {chosen.choice(SCRIPTS)}"
        if kind < 0.4:
            yield two
        elif kind < 0.8:
            begin = chosen.randrange(len(two))
            yield two[begin : begin + chosen.randint(1, 30)]
        else:
            yield "".join(chosen.choice(characters) for _ in range(chosen.randint(1, 25)))
