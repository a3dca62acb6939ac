"""Checkpoints of random weights, in the forms that people upload: what is on the Hub, and what transformers reads."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from benchmarks.common import ROOT

sys.path.insert(0, str(ROOT / "tests"))
from support.random_checkpoints import KINDS, make_model, make_tokenizer, randomize
from support.sentencepieces import FAMILIES, SIZE, strings, trained

BOT: Final = ("SFconvertbot", "Adding `safetensors` variant of this model")
ADDED: Final = ("kilometre", "<unit>")
_WORD_PIECES = ("bert", "distilbert", "electra", "mpnet", "mobilebert")
_OTHER_RULES = ("BertJapaneseTokenizer", "PhobertTokenizer", "BertweetTokenizer", "KoBertTokenizer")
_OLD_NAME = "distilbert-base-cased-distilled-squad"


@dataclass(frozen=True, kw_only=True)
class Made:
    """A checkpoint.

    Attributes:
        folder: What transformers reads.
        files: What is on the main branch of the Hub, by name.
        tokenizer: transformers' tokenizer.
        tokens: The ids of a text without special tokens, if they are not the tokenizer's.
        branches: Files of other branches, by name.
        conversion: What the conversion bot's pull request adds.
        name: Its name on the Hub, if that matters.
        given: How it is called, if that is not its name.
        options: How it is loaded.
        private: Whether the Hub wants a token.
        words: Words that the strings should hold.
    """

    folder: Path
    files: dict[str, bytes]
    tokenizer: Any
    tokens: Callable[[str], list[int]] | None = None
    branches: dict[str, dict[str, bytes]] = field(default_factory=dict)
    conversion: dict[str, bytes] | None = None
    name: str | None = None
    given: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    private: bool = False
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Form:
    """A form of a checkpoint.

    Attributes:
        what: The form.
        kind: The architecture.
        make: Writes the checkpoint into a folder.
        refused: Part of the line that refuses it; "" if it loads.
    """

    what: str
    kind: str
    make: Callable[[Path], Made]
    refused: str = ""


def forms() -> list[Form]:
    """Return all forms."""
    made = [Form("as transformers 5 writes it", kind, partial(plain, kind=kind)) for kind in KINDS]
    made += [Form("`vocab.txt` alone", kind, partial(_vocabulary, kind=kind)) for kind in _WORD_PIECES]
    made += [
        Form("`vocab.json` and `merges.txt` alone", kind, partial(_pairs, kind=kind)) for kind in ("roberta", "deberta")
    ]
    made.append(Form("`vocab.json` and `merges.txt` of HerBERT", "bert", _herbert))
    made += [
        Form(f"`{file}` alone", kind, partial(_pieces, family=family)) for family, (kind, file, _) in FAMILIES.items()
    ]
    made += [
        Form("a pickle, and the conversion bot's pull request", "bert", lambda to: _pickled(to, True)),
        Form("a pickle alone", "bert", lambda to: _pickled(to, False), "only pytorch_model.bin, a pickle"),
        Form("an old name without an owner", "distilbert", _old_name),
        Form("a branch, with `revision`", "bert", _branch),
        Form("private, with `token`", "bert", _private),
        Form("weights with the prefix `module.`", "bert", _prefixed),
        Form("`vocab.txt` with a byte order mark", "bert", lambda to: _vocabulary(to, "bert", "\ufeff")),
        Form("`config.json` without `model_type`", "bert", _untyped),
        Form("weights in several files", "bert", lambda to: plain(to, "bert", max_shard_size="100KB")),
        Form("float16", "roberta", lambda to: plain(to, "roberta", torch.float16)),
        Form("bfloat16", "modernbert", lambda to: plain(to, "modernbert", torch.bfloat16)),
        Form("no token types: the tokenizer of XLM-R", "bert", lambda to: _mixed(to, "bert", "xlm-roberta")),
        Form(
            "one token type, and the tokenizer of XLM-R",
            "bert",
            lambda to: _mixed(to, "bert", "xlm-roberta", type_vocab_size=1),
        ),
        Form(
            "two token types, and the tokenizer of BERT",
            "roberta",
            lambda to: _mixed(to, "roberta", "bert", type_vocab_size=2),
        ),
        Form("`added_tokens.json` beside `vocab.txt`", "bert", lambda to: _added(to, "bert", "added_tokens.json")),
        Form("`added_tokens_decoder` beside `vocab.json`", "roberta", lambda to: _added(to, "roberta", "decoder")),
        Form(
            "the padding token of another tokenizer",
            "roberta",
            lambda to: _mixed(to, "roberta", "bert", type_vocab_size=2, pad_token_id=1),
            "padding token has the id 1",
        ),
    ]
    made += [
        Form(f"`vocab.txt` of {name}", "bert", partial(_other_rules, name=name), f"how {name} splits")
        for name in _OTHER_RULES
    ]
    return made


def _files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def plain(to: Path, kind: str, dtype: Any = torch.float32, **options: Any) -> Made:
    """A checkpoint as transformers writes it."""
    tokenizer = make_tokenizer(kind)
    model = randomize(make_model(kind, len(tokenizer), layers=3, hidden=48))
    model.to(dtype).save_pretrained(to, **options)
    tokenizer.save_pretrained(to)
    return Made(folder=to, files=_files(to), tokenizer=tokenizer)


def _changed(made: Made, files: dict[str, bytes | None], **others: Any) -> Made:
    """The same checkpoint with other files on the Hub; None takes a file away."""
    kept = {name: content for name, content in {**made.files, **files}.items() if content is not None}
    return Made(**{**vars(made), "files": kept, **others})


def _settings(made: Made, **changes: Any) -> bytes:
    """Settings of a tokenizer as old folders have them."""
    name = json.loads(made.files["tokenizer_config.json"])["tokenizer_class"]
    return json.dumps({"tokenizer_class": name, "model_max_length": 512, **changes}).encode()


def _words_of(made: Made) -> dict[str, int]:
    vocabulary: dict[str, int] = json.loads(made.files["tokenizer.json"])["model"]["vocab"]
    return vocabulary


def _vocabulary(to: Path, kind: str, mark: str = "") -> Made:
    made = plain(to, kind)
    words = _words_of(made)
    lines = "".join(f"{word}\n" for word in sorted(words, key=words.__getitem__))
    files = {"tokenizer.json": None, "vocab.txt": f"{mark}{lines}".encode()}
    return _changed(made, {**files, "tokenizer_config.json": _settings(made, do_lower_case=True)})


def _pairs(to: Path, kind: str) -> Made:
    made = plain(to, kind)
    model = json.loads(made.files["tokenizer.json"])["model"]
    merges = "\n".join(
        ["#version: 0.2", *(pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"])]
    )
    files = {"tokenizer.json": None, "vocab.json": json.dumps(model["vocab"]).encode(), "merges.txt": merges.encode()}
    if kind == "deberta":  # as it was trained, and as transformers 4 has it: transformers 5 puts two separators
        made.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B [SEP]",
            special_tokens=[(name, model["vocab"][name]) for name in ("[CLS]", "[SEP]")],
        )
    return _changed(made, {**files, "tokenizer_config.json": _settings(made)})


def _herbert(to: Path) -> Made:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=special, end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(strings(2000), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    to.mkdir(parents=True)
    (to / "vocab.json").write_text(json.dumps(model["vocab"]), "utf-8")
    (to / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, model["merges"])]), "utf-8")
    (to / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "HerbertTokenizerFast"}))
    randomize(make_model("bert", len(model["vocab"]), layers=3, hidden=48)).save_pretrained(to)
    return Made(folder=to, files=_files(to), tokenizer=transformers.HerbertTokenizer.from_pretrained(to))


def _pieces(to: Path, family: str) -> Made:
    kind, file, options = FAMILIES[family]
    vocabulary = SIZE + 8  # more than any family makes of it
    base = make_model("xlm-roberta" if kind == "camembert" else kind, vocabulary, layers=3, hidden=48).config
    if kind == "camembert":
        base = transformers.CamembertConfig(**{**base.to_dict(), "model_type": kind})
    randomize(transformers.AutoModelForQuestionAnswering.from_config(base)).save_pretrained(to)
    (to / file).write_bytes(trained(**options))
    own = getattr(transformers, f"{family}Tokenizer")
    if family != "DebertaV2":
        return Made(folder=to, files=_files(to), tokenizer=own.from_pretrained(to))
    import sentencepiece

    (to / "added_tokens.json").write_text(json.dumps({"[MASK]": SIZE}))
    (to / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "DebertaV2Tokenizer"}))
    model = sentencepiece.SentencePieceProcessor(model_file=str(to / file))
    return Made(folder=to, files=_files(to), tokenizer=_Pieces(model.encode), tokens=model.encode)


class _Pieces:
    """What transformers 5 should make of DeBERTa-v2's model file: it leaves the model's normalization out."""

    def __init__(self, tokens: Callable[[str], list[int]]) -> None:
        self._tokens = tokens

    def __call__(self, question: str, text: str, max_length: int, **_: Any) -> dict[str, Any]:
        before = [1, *self._tokens(question), 2]
        ids = torch.tensor([[*before, *self._tokens(text)[: max_length - len(before) - 1], 2]])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _pickled(to: Path, converted: bool) -> Made:
    made = plain(to, "bert")
    packed = io.BytesIO()
    torch.save(load_file(to / "model.safetensors"), packed)
    weights = {"model.safetensors": made.files["model.safetensors"]}
    return _changed(
        made,
        {"model.safetensors": None, "pytorch_model.bin": packed.getvalue()},
        conversion=weights if converted else None,
    )


def _old_name(to: Path) -> Made:
    return _changed(plain(to, "distilbert"), {}, name=f"distilbert/{_OLD_NAME}", given=_OLD_NAME)


def _branch(to: Path) -> Made:
    made = plain(to, "bert")
    broken: dict[str, bytes | None] = {"config.json": b"{}"}
    return _changed(made, broken, branches={"v1": made.files}, options={"revision": "v1"})


def _private(to: Path) -> Made:
    from support.fake_hub import TOKEN

    return _changed(plain(to, "bert"), {}, private=True, options={"token": TOKEN})


def _prefixed(to: Path) -> Made:
    made = plain(to, "bert")
    aside = to.with_name("prefixed.safetensors")
    save_file({f"module.{name}": value for name, value in load_file(to / "model.safetensors").items()}, aside)
    return _changed(made, {"model.safetensors": aside.read_bytes()})


def _untyped(to: Path) -> Made:
    made = plain(to, "bert")
    config = json.loads(made.files["config.json"])
    del config["model_type"]
    return _changed(made, {"config.json": json.dumps(config).encode()})


def _mixed(to: Path, kind: str, tokens: str, **settings: Any) -> Made:
    tokenizer = make_tokenizer(tokens)
    config = make_model(kind, len(tokenizer), layers=3, hidden=48).config
    for name, value in {"pad_token_id": tokenizer.pad_token_id, **settings}.items():
        setattr(config, name, value)
    randomize(transformers.AutoModelForQuestionAnswering.from_config(config)).save_pretrained(to)
    tokenizer.save_pretrained(to)
    return Made(folder=to, files=_files(to), tokenizer=transformers.AutoTokenizer.from_pretrained(to))


def _added(to: Path, kind: str, where: str) -> Made:
    tokenizer = make_tokenizer(kind)
    tokenizer.add_tokens(list(ADDED))
    randomize(make_model(kind, len(tokenizer), layers=3, hidden=48)).save_pretrained(to)
    bare = to.with_name("bare")
    made = _vocabulary(bare, kind) if kind == "bert" else _pairs(bare, kind)
    shutil.rmtree(bare)
    tokenizer.save_pretrained(to)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in ADDED}
    files: dict[str, bytes | None] = {
        "model.safetensors": (to / "model.safetensors").read_bytes(),
        "config.json": (to / "config.json").read_bytes(),
    }
    if where == "added_tokens.json":
        files[where] = json.dumps(ids).encode()
    else:
        decoder = {str(index): {"content": token, "special": False} for token, index in ids.items()}
        files["tokenizer_config.json"] = _settings(made, added_tokens_decoder=decoder)
    return _changed(made, files, folder=to, tokenizer=tokenizer, words=ADDED)


def _other_rules(to: Path, name: str) -> Made:
    made = _vocabulary(to, "bert")
    return _changed(made, {"tokenizer_config.json": json.dumps({"tokenizer_class": name}).encode()})
