"""Small question-answering checkpoints of random weights, of every architecture, as transformers writes them.

usage: random_checkpoints.py FOLDER [KIND ...]     a subfolder of FOLDER for each kind

Each has a tokenizer of its architecture's own kind, trained on the texts of examples/: WordPiece (BERT, DistilBERT,
ELECTRA, MPNet, MobileBERT), byte-level BPE (RoBERTa, DeBERTa, ModernBERT), Unigram as SentencePiece's (XLM-R, ALBERT,
DeBERTa v2). The weights tell tokens, positions and layers apart, no bias is 0, and logits lie some units apart, so that
errors show. The same call makes the same checkpoint, whichever transformers 5 makes it (but for what its files say of
themselves).
"""

from __future__ import annotations

import argparse
import json
import math
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

KINDS = (
    "bert",
    "roberta",
    "xlm-roberta",
    "distilbert",
    "electra",
    "mpnet",
    "albert",
    "deberta",
    "deberta-v2",
    "mobilebert",
    "modernbert",
)
POSITIONS = 512  # the longest window
_ROOT = Path(__file__).parents[2]
_SCRIPTS = "Zoë Müller œuvre naïve Ελλάδα Москва שלום مرحبا नमस्ते 東京 京都 서울 ประเทศไทย €5 50% “a” — 1’000"
_WORDS = 1500  # in a vocabulary, at most
DEBERTA_V3 = {
    "relative_attention": True,
    "position_buckets": 64,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
}
_MODERNBERT = {"bos_token_id": 0, "cls_token_id": 0, "eos_token_id": 1, "sep_token_id": 1}


def make(kind: str, folder: Path, *, layers: int = 3, hidden: int = 48, seed: int = 0) -> Path:
    """Write a checkpoint: `config.json`, `model.safetensors`, `tokenizer.json`, `tokenizer_config.json`.

    Args:
        kind: One of `KINDS`, the `model_type` of its configuration.
        folder: Where to; made if it is not there.
        layers: Its layers.
        hidden: Its hidden size, a multiple of 4, the number of heads; the feed-forward size is twice that.
        seed: Of the random weights.

    Returns:
        The folder.

    Raises:
        ValueError: There is no such kind, or `hidden` is no multiple of 4.
    """
    if kind not in KINDS:
        raise ValueError(f"a kind is one of {', '.join(KINDS)}, not {kind!r}")
    if hidden % 4:
        raise ValueError(f"hidden is a multiple of 4, not {hidden}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(kind)
    model = randomize(make_model(kind, len(tokenizer), layers=layers, hidden=hidden), seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_model(kind: str, vocabulary: int, *, layers: int, hidden: int) -> Any:
    """A model of a kind, its weights as transformers initializes them."""
    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": POSITIONS,
    }
    # The rest is as the published checkpoints have it, where that differs from transformers' defaults.
    if kind == "bert":
        return transformers.BertForQuestionAnswering(transformers.BertConfig(**sizes))
    if kind in ("roberta", "xlm-roberta"):
        sizes |= {"max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
        if kind == "xlm-roberta":
            return transformers.XLMRobertaForQuestionAnswering(transformers.XLMRobertaConfig(**sizes))
        return transformers.RobertaForQuestionAnswering(transformers.RobertaConfig(**sizes))
    if kind == "distilbert":
        names = {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"}
        names["intermediate_size"] = "hidden_dim"
        config = transformers.DistilBertConfig(**{names.get(name, name): size for name, size in sizes.items()})
        return transformers.DistilBertForQuestionAnswering(config)
    if kind == "electra":
        config = transformers.ElectraConfig(**sizes, embedding_size=hidden // 2)
        return transformers.ElectraForQuestionAnswering(config)
    if kind == "mpnet":
        sizes |= {"max_position_embeddings": POSITIONS + 2, "layer_norm_eps": 1e-5}
        return transformers.MPNetForQuestionAnswering(transformers.MPNetConfig(**sizes))
    if kind == "deberta":
        positions = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}
        config = transformers.DebertaConfig(**sizes, **positions)
        return transformers.DebertaForQuestionAnswering(config)
    if kind == "deberta-v2":
        config = transformers.DebertaV2Config(**sizes, **DEBERTA_V3)
        return transformers.DebertaV2ForQuestionAnswering(config)
    if kind == "mobilebert":
        narrow = {"embedding_size": hidden // 3, "intra_bottleneck_size": hidden // 2}
        config = transformers.MobileBertConfig(**sizes, **narrow)
        return transformers.MobileBertForQuestionAnswering(config)
    if kind == "modernbert":
        config = transformers.ModernBertConfig(**sizes, local_attention=24, pad_token_id=3, **_MODERNBERT)
        return transformers.ModernBertForQuestionAnswering(config)
    return transformers.AlbertForQuestionAnswering(transformers.AlbertConfig(**sizes, embedding_size=hidden // 2))


def randomize(model: Any, seed: int = 0) -> Any:
    """Give every parameter random values, by its name and the seed; the model in evaluation mode.

    Attention is far from uniform but says little beside the residual: else deep models would make all tokens the same.
    """
    embeddings = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, torch.nn.Embedding)}
    loudness = {"query": 2, "key": 2, "q": 2, "k": 2, "q_lin": 2, "k_lin": 2, "qa_outputs": 4}
    loudness |= {
        "query_proj": 2,
        "key_proj": 2,
        "pos_query_proj": 2,
        "pos_key_proj": 2,
        "pos_proj": 2,
        "pos_q_proj": 2,
        "in_proj": 1.4,
        "Wqkv": 1.4,
        "classifier": 1.5,
    }
    quiet = 0.5 if model.config.model_type == "mobilebert" else 1.0  # its states have no norms
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = np.random.default_rng((seed, zlib.crc32(name.encode()))).standard_normal(value.shape, np.float32)
            module = name.split(".")[-2]
            if name in embeddings:
                scaled = noise if "position" not in name and "type" not in name else 0.5 * noise
            elif value.ndim == 1:
                norm = "norm" in name.lower() and name.endswith("weight")
                scaled = 1 + 0.1 * noise if norm else 0.2 * noise
            else:
                scaled = quiet * loudness.get(module, 1) / math.sqrt(value.shape[1]) * noise
            value.copy_(torch.from_numpy(np.asarray(scaled, np.float32)))
        if model.config.model_type == "mobilebert":  # as transformers makes it: tokens beside padding see it
            model.get_input_embeddings().weight[model.config.pad_token_id] = 0
    return model.eval()


def make_tokenizer(kind: str) -> Any:
    """A fast tokenizer of a kind, of transformers' own class for it, trained on the texts of examples/."""
    longest = {"model_max_length": POSITIONS}
    if kind in ("roberta", "deberta"):
        special = ["<s>", "<pad>", "</s>", "<unk>"] if kind == "roberta" else ["[CLS]", "[PAD]", "[SEP]", "[UNK]"]
        trained = Tokenizer(models.BPE())
        trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=_WORDS,
            special_tokens=special,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        model = _train(trained, trainer)
        words = {**model["vocab"], "<mask>" if kind == "roberta" else "[MASK]": len(model["vocab"])}
        own = transformers.RobertaTokenizer if kind == "roberta" else transformers.DebertaTokenizer
        return own(vocab=words, merges=[tuple(pair) for pair in model["merges"]], **longest)
    if kind == "xlm-roberta":
        special = ["<s>", "<pad>", "</s>", "<unk>"]
        trained = Tokenizer(models.Unigram())
        trained.normalizer = normalizers.NFKC()
        trained.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
        pieces = _pieces(trained, special)
        return transformers.XLMRobertaTokenizer(vocab=[*pieces, ("<mask>", 0.0)], **longest)
    if kind == "modernbert":
        return _modernbert_tokenizer()
    if kind == "deberta-v2":
        special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
        trained = Tokenizer(models.Unigram())
        trained.normalizer = normalizers.NFKC()
        trained.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
        pieces = _pieces(trained, special, unknown="[UNK]")
        return transformers.DebertaV2Tokenizer(vocab=[*pieces, ("[MASK]", 0.0)], unk_id=3, **longest)
    if kind == "albert":
        special = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
        trained = Tokenizer(models.Unigram())
        trained.normalizer = normalizers.Sequence(
            [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
        )
        trained.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
        )
        return transformers.AlbertTokenizer(vocab=_pieces(trained, special), **longest)
    words = _wordpieces()
    if kind == "mpnet":  # BERT's words between the special tokens of RoBERTa
        words = ["<s>", "<pad>", "</s>", "<unk>", *words, "<mask>"]
    names = {
        "bert": "Bert",
        "mobilebert": "MobileBert",
        "distilbert": "DistilBert",
        "electra": "Electra",
        "mpnet": "MPNet",
    }
    return getattr(transformers, f"{names[kind]}Tokenizer")(
        vocab={word: i for i, word in enumerate(words)}, do_lower_case=True, **longest
    )


def make_mmbert_tokenizer() -> Any:
    """A tokenizer as mmBERT's, which is Gemma's: BPE of a text that is never split, with bytes for what is unknown."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never"),
            pre_tokenizers.Punctuation(),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=_WORDS - 256,
        special_tokens=[*special, *(f"<0x{byte:02X}>" for byte in range(256))],
        limit_alphabet=150,
        show_progress=False,
    )
    model = _train(trained, trainer)
    merges = [tuple(pair) for pair in model["merges"]]
    made = Tokenizer(models.BPE(model["vocab"], merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.post_processor = processors.TemplateProcessing(
        single="<bos>:0 $A:0 <eos>:0",
        pair="<bos>:0 $A:0 <eos>:0 $B:1 <eos>:1",
        special_tokens=[("<bos>", 2), ("<eos>", 1)],
    )
    return _without_types(
        made, dict(zip(("pad_token", "sep_token", "cls_token", "unk_token", "mask_token"), special, strict=True))
    )


def _without_types(made: Tokenizer, roles: dict[str, str]) -> Any:
    """transformers' form of a tokenizer whose model has no token types. `roles` are the special tokens."""
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=POSITIONS,
        **roles,
    )


def _modernbert_tokenizer() -> Any:
    special = ["[CLS]", "[SEP]", "[UNK]", "[PAD]", "[MASK]"]
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.NFC()
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=_WORDS, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    trained.train_from_iterator(_texts(), trainer)
    trained.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 0), ("[SEP]", 1)],
    )
    return _without_types(
        trained, dict(zip(("cls_token", "sep_token", "unk_token", "pad_token", "mask_token"), special, strict=True))
    )


def _pieces(tokenizer: Any, special: list[str], unknown: str = "<unk>") -> list[tuple[str, float]]:
    """A vocabulary of a unigram model: the special tokens, and pieces, the likeliest first."""
    trainer = trainers.UnigramTrainer(vocab_size=_WORDS, special_tokens=special, unk_token=unknown, show_progress=False)
    pieces = [(piece, round(score, 6)) for piece, score in _train(tokenizer, trainer)["vocab"]]
    return [*pieces[: len(special)], *sorted(pieces[len(special) :], key=lambda piece: (-piece[1], piece[0]))]


def _wordpieces() -> list[str]:
    """A vocabulary of WordPiece: every character, and the most frequent words, beginnings and endings of words."""
    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    counts: Counter[str] = Counter()
    for text in _texts():
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)):
            counts[word] += 4
            counts.update(part for i in range(1, len(word)) for part in (word[:i], f"##{word[i:]}"))
    characters = sorted({character for word in counts for character in word.removeprefix("##")})
    short = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters)]
    frequent = sorted(set(counts) - set(short), key=lambda word: (-counts[word], word))
    return [*short, *frequent[: _WORDS - len(short)]]


def _train(tokenizer: Any, trainer: Any) -> Any:
    """Train a tokenizer; return its model as tokenizer.json has it."""
    tokenizer.train_from_iterator(_texts(), trainer)
    return json.loads(tokenizer.to_str())["model"]


def _texts() -> Iterator[str]:
    for path in sorted((_ROOT / "examples").glob("*.txt")):
        yield from path.read_text("utf-8").splitlines()
    for item in json.loads((_ROOT / "examples/questions.json").read_text("utf-8")):
        yield item["question"]
    yield from [_SCRIPTS] * 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; by default all")
    args = parser.parse_args()
    for kind in args.kinds or KINDS:
        print(make(kind, args.folder / kind))


if __name__ == "__main__":
    main()
