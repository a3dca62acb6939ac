"""Models of the usual shapes that answer as the embedded model does: its weights, made wider and deeper.

The speed of a model does not depend on its weights, but whether it finds an answer does. So the peers are compared on
models that answer: the embedded one (6 layers of 384, as MiniLM's) and two made of it without any training.

  wider    every unit twice: a state x becomes [x, x], which layer normalization leaves as it is; weights that read both
           copies are halved; the queries are scaled, since a head twice as wide divides by a root sqrt(2) as large
  deeper   between the layers others that change nothing, with dense weights of their own (`_nothing`)
  untyped  DistilBERT has no token types: each position gets the type that a token there has on average

The first two change the logits by no more than rounding does. The last costs F1; the benchmark reports it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from dynamic_tinybert import LengthConfig
from dynamic_tinybert.folder import ModelFolder, save_folder

Shape: TypeAlias = Literal["BERT-base", "DistilBERT", "MiniLM"]
Weights: TypeAlias = dict[str, npt.NDArray[np.float32]]

SHAPES: tuple[Shape, ...] = ("BERT-base", "DistilBERT", "MiniLM")

# Whether a layer that changes nothing stands before or after each of the six. Of the 64 ways this is the one with which
# every configuration of the embedded table costs the same share of 12 layers as of 6, to 0.02.
_BEFORE = (True, False, True, False, False, True)
_OFFSET = 100.0  # K of `_nothing`: what it leaves out shrinks as K grows, and rounding grows
_NOISE = 1e-7  # on its matrices, so that none is shared between layers, nor full of zeros, when a graph is exported
_LAYER = "bert.encoder.layer.{}."
_DISTILBERT = {  # parts of names of transformers' BERT, and of its DistilBERT
    "bert.embeddings.": "distilbert.embeddings.",
    "bert.encoder.layer.": "distilbert.transformer.layer.",
    "attention.self.query.": "attention.q_lin.",
    "attention.self.key.": "attention.k_lin.",
    "attention.self.value.": "attention.v_lin.",
    "attention.output.dense.": "attention.out_lin.",
    "attention.output.LayerNorm.": "sa_layer_norm.",
    "intermediate.dense.": "ffn.lin1.",
    "output.dense.": "ffn.lin2.",
    "output.LayerNorm.": "output_layer_norm.",
}
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")


def make_models(folder: ModelFolder, question_lengths: Sequence[int], target: Path) -> dict[Shape, Path]:
    """Write a model folder of each of `SHAPES` into `target`, where it is not there yet.

    Args:
        folder: A BERT of 6 layers of 384, 12 heads and exact GELU.
        question_lengths: How long questions are, in tokens.
        target: The folder of the folders.

    Raises:
        ValueError: The model is another.
    """
    sizes = folder.shape
    if (sizes.layers, sizes.hidden, sizes.heads, sizes.activation) != (6, 384, 12, "gelu"):
        raise ValueError(f"{folder.name} has not 6 layers of 384, 12 heads and gelu: BERT-base is not made of it")
    paths = {shape: target / shape for shape in SHAPES}
    target.mkdir(parents=True, exist_ok=True)
    if not paths["MiniLM"].exists():
        save_folder(folder, paths["MiniLM"])
    config = json.loads((paths["MiniLM"] / "config.json").read_text("utf-8"))
    wide: Weights = {}
    for shape in ("BERT-base", "DistilBERT"):
        if (paths[shape] / "config.json").exists():  # which is written last
            continue
        wide = wide or widen(load_file(paths["MiniLM"] / "model.safetensors"))
        shutil.rmtree(paths[shape], ignore_errors=True)
        paths[shape].mkdir()
        for name in _TOKENIZER:
            if (paths["MiniLM"] / name).exists():
                shutil.copyfile(paths["MiniLM"] / name, paths[shape] / name)
        if shape == "BERT-base":
            _write(paths[shape], deepen(wide), _bert_config(config), stretch_table(folder.length_configs))
        else:
            weights = {_distilbert_name(name): x for name, x in untype(wide, question_lengths).items()}
            _write(paths[shape], weights, _distilbert_config(config), folder.length_configs)
            _without_types(paths[shape] / "tokenizer_config.json")
    return paths


# Wider.


def widen(weights: Weights, heads: int = 12) -> Weights:
    """Return the weights of the same function with every unit twice."""
    inner, hidden = weights[f"{_LAYER.format(0)}intermediate.dense.weight"].shape
    state = np.tile(np.arange(hidden), 2)  # the old unit of each new one
    head = np.repeat(np.arange(hidden).reshape(heads, 1, -1), 2, axis=1).reshape(-1)
    neuron = np.tile(np.arange(inner), 2)
    linear = {  # the new units that a part writes, and those that it reads
        "attention.self.query": (head, state),
        "attention.self.key": (head, state),
        "attention.self.value": (head, state),
        "attention.output.dense": (state, head),
        "intermediate.dense": (neuron, state),
        "output.dense": (state, neuron),
        "qa_outputs": (np.arange(2), state),
    }
    wide: Weights = {}
    for name, weight in weights.items():
        written, read = next((x for part, x in linear.items() if part in name), (state, None))
        if read is None:  # an embedding or a norm
            wide[name] = weight[..., written]
        else:
            wide[name] = weight[written][:, read] / 2 if weight.ndim == 2 else weight[written]
        if "query" in name:  # a score adds both copies and is divided by a root sqrt(2) as large
            wide[name] = wide[name] / np.float32(np.sqrt(2))
    return {name: np.ascontiguousarray(weight, np.float32) for name, weight in wide.items()}


# Deeper.


def deepen(weights: Weights) -> Weights:
    """Return the weights of the same function with, for each layer, another before or after it that changes nothing."""
    deep = {name: weight for name, weight in weights.items() if not name.startswith(_LAYER.split("{}")[0])}
    norm = {part: weights[f"bert.embeddings.LayerNorm.{part}"] for part in ("weight", "bias")}
    at = 0
    for i, before in enumerate(_BEFORE):
        prefix = _LAYER.format(i)
        layer = {name.removeprefix(prefix): x for name, x in weights.items() if name.startswith(prefix)}
        for nothing in (True, False) if before else (False, True):
            made = _nothing(layer, norm, seed=at) if nothing else layer
            deep |= {f"{_LAYER.format(at)}{name}": weight for name, weight in made.items()}
            norm = {part: layer[f"output.LayerNorm.{part}"] for part in ("weight", "bias")} if not nothing else norm
            at += 1
    return deep


def _nothing(layer: Weights, norm: Weights, seed: int) -> Weights:
    """Return a layer that changes nothing of what the widened normalization `norm` puts out.

    That is [x, x], x = w n + b, with n of mean 0 and variance 1. The attention is computed with the queries, keys and
    values of `layer`, and multiplied by (nearly) 0: its output is a bias, K for one copy and -K for the other. Beside K
    the variance of x is nothing, so that normalization can be undone, but for the mean m of x: y = [x - m, x - m]. And
    since n has mean 0, m and n are linear in y. What is linear the feed-forward can do, for GELU(u) - GELU(-u) = u: it
    puts out n - y. Then y + n - y, normalized with w and b, is [x, x] again.
    """
    hidden, inner = layer["output.dense.weight"].shape
    half = hidden // 2
    w, b = (norm[part][:half].astype(np.float64) for part in ("weight", "bias"))
    bias = _OFFSET * np.repeat((1.0, -1.0), half)
    to_n = (np.eye(half) - 1 / w / (1 / w).sum()) / w[:, None]  # n = to_n @ (x - m) + shift
    shift = ((b / w).sum() / (1 / w).sum() - b) / w
    read = (to_n - np.eye(half)) @ np.tile(np.eye(half), 2) / 2
    up, shifts, down = np.zeros((inner, hidden)), np.zeros(inner), np.zeros((hidden, inner))
    for rows, sign in ((slice(0, half), 1.0), (slice(half, hidden), -1.0)):
        up[rows], shifts[rows] = sign * read, sign * shift
        down[:, rows] = sign * np.tile(np.eye(half), (2, 1))
    made = {
        "attention.output.dense.weight": np.zeros((hidden, hidden)),
        "attention.output.dense.bias": bias,
        "attention.output.LayerNorm.weight": np.full(hidden, np.hypot(_OFFSET, np.sqrt((w**2).mean()))),
        "attention.output.LayerNorm.bias": -bias,
        "intermediate.dense.weight": up,
        "intermediate.dense.bias": shifts,
        "output.dense.weight": down,
        "output.dense.bias": np.zeros(hidden),
        "output.LayerNorm.weight": norm["weight"],
        "output.LayerNorm.bias": norm["bias"],
    }
    random = np.random.default_rng(seed)
    return {
        name: (weight + random.normal(scale=_NOISE, size=weight.shape) * (weight.ndim == 2)).astype(np.float32)
        for name, weight in (layer | made).items()
    }


def stretch(config: LengthConfig) -> LengthConfig:
    """Return the configuration with which the deepened model is the same function.

    What changes nothing drops nothing.
    """
    fractions: list[float] = []
    for fraction, before in zip(config.fractions, _BEFORE, strict=True):
        fractions += [fractions[-1] if fractions else 1.0, fraction] if before else [fraction, fraction]
    return LengthConfig(tuple(fractions))


def stretch_table(table: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Stretch every row of a `length_configs.json`."""
    if table is None:
        return None
    rows = [row | {"fractions": stretch(LengthConfig(tuple(row["fractions"]))).fractions} for row in table["configs"]]
    return dict(table) | {"configs": rows}


# Without token types.


def untype(weights: Weights, question_lengths: Sequence[int]) -> Weights:
    """Return weights without token types: a position has the type that a token there has on average."""
    rest = dict(weights)
    types = rest.pop("bert.embeddings.token_type_embeddings.weight")
    name = "bert.embeddings.position_embeddings.weight"
    question = np.arange(len(rest[name])) < np.array(question_lengths)[:, None] + 2  # [CLS], the question, [SEP]
    share = question.mean(axis=0)[:, None]
    rest[name] = (rest[name] + share * types[0] + (1 - share) * types[1]).astype(np.float32)
    return rest


def _distilbert_name(name: str) -> str:
    for theirs, its in _DISTILBERT.items():
        name = name.replace(theirs, its)
    return name


def _without_types(path: Path) -> None:
    """Make a tokenizer that of DistilBERT, which returns no token types."""
    config = json.loads(path.read_text("utf-8"))
    config |= {"tokenizer_class": "DistilBertTokenizer", "model_input_names": ["input_ids", "attention_mask"]}
    path.write_text(json.dumps(config, indent=2) + "\n", "utf-8")


# Writing.


def _bert_config(config: dict[str, Any]) -> dict[str, Any]:
    return config | {"num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 3072}


def _distilbert_config(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "architectures": ["DistilBertForQuestionAnswering"],
        "model_type": "distilbert",
        "activation": "gelu",
        "dim": 768,
        "hidden_dim": 3072,
        "n_layers": 6,
        "n_heads": 12,
        "max_position_embeddings": config["max_position_embeddings"],
        "sinusoidal_pos_embds": False,
        "vocab_size": config["vocab_size"],
        "pad_token_id": config["pad_token_id"],
        "dtype": "float32",
        **{name: value for name, value in config.items() if name == "dynamic_tinybert"},
    }


def _write(path: Path, weights: Weights, config: dict[str, Any], table: Mapping[str, Any] | None) -> None:
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    if table is not None:
        (path / "length_configs.json").write_text(json.dumps(table, indent=1) + "\n", "utf-8")
    (path / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
