"""Random checkpoints of every architecture and option: equal to transformers, or refused in one line.

usage: python -m benchmarks.parity.random_models [--models 2000] [--seed 0] [--output results/parity/random-models.md]

Each model has an architecture, sizes and options drawn at random: activation, norms, token types, width of the
embeddings, positions, relative attention, groups of layers, the dtype of its file, and options that nobody should
support. transformers writes it, and reads it again; logits at `full` of some windows are compared. A model that is
neither equal nor refused is printed with its configuration.
"""

from __future__ import annotations

import random
import sys
import tempfile
import warnings
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks import common
from dynamic_tinybert import DynamicTinyBertError, QuestionAnswerer
from dynamic_tinybert.model import LengthConfig

sys.path.insert(0, str(common.ROOT / "tests"))
from support.random_checkpoints import KINDS, make_model, make_tokenizer, randomize

QUESTION = "Who designed the tower, and when?"
_CLOSE = 2e-3  # of the spread of transformers' logits
_ACTIVATIONS = ("gelu", "gelu_new", "relu", "gelu_pytorch_tanh", "silu", "tanh")
_ANYWHERE: dict[str, tuple[Any, ...]] = {
    "hidden_act": _ACTIVATIONS,
    "activation": _ACTIVATIONS,
    "hidden_activation": _ACTIVATIONS,
    "layer_norm_eps": (1e-12, 1e-5, 1e-3),
    "norm_eps": (1e-12, 1e-5, 1e-3),
    "type_vocab_size": (0, 1, 2, 3),
    "is_decoder": (False, True),
    "tie_word_embeddings": (True, False),
}
_OF_KIND: dict[str, dict[str, tuple[Any, ...]]] = {
    "electra": {"embedding_size": (16, 32, 48)},
    "albert": {"embedding_size": (16, 32, 48), "num_hidden_groups": (1, 2), "inner_group_num": (1, 2)},
    "mpnet": {"relative_attention_num_buckets": (32, 40, 16)},
    "deberta": {"pos_att_type": (["c2p", "p2c"], ["c2p"], ["p2c"], [], ["c2p", "p2p"]), "talking_head": (False, True)},
    "deberta-v2": {
        "pos_att_type": (["c2p", "p2c"], ["c2p"], ["p2c"], []),
        "share_att_key": (True, False),
        "position_buckets": (256, 64, 32, -1),
        "norm_rel_ebd": ("layer_norm", "none"),
        "position_biased_input": (True, False),
        "conv_kernel_size": (0, 3),
        "max_relative_positions": (-1, 128),
    },
    "modernbert": {
        "local_attention": (16, 64, 128),
        "attention_bias": (False, True),
        "mlp_bias": (False, True),
        "norm_bias": (False, True),
        "classifier_bias": (False, True),
        "classifier_activation": ("gelu", "relu", "silu"),
    },
    "mobilebert": {
        "use_bottleneck": (True, False),
        "num_feedforward_networks": (1, 4),
        "normalization_type": ("no_norm", "layer_norm"),
    },
}  # fmt: skip


def main() -> None:
    parser = common.argument_parser(__doc__)
    common.add_counts(parser, models=(2000, "models"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, metavar="FILE", help="the page, beside standard output")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    say, chosen = common.Progress(), random.Random(args.seed)
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    worst: dict[str, float] = dict.fromkeys(KINDS, 0.0)
    reasons: Counter[str] = Counter()
    for number in range(args.models):
        kind = KINDS[number % len(KINDS)]
        with tempfile.TemporaryDirectory() as folder:
            outcome, difference, why = one(kind, chosen, Path(folder))
        counts[kind][outcome] += 1
        worst[kind] = max(worst[kind], difference)
        if why:
            reasons[why] += 1
        if outcome == "different":
            print(f"DIFFERENT: {kind}: {why}")
        if number % 50 == 49:
            say(f"{number + 1}: {sum(counts.values(), Counter())}")
    columns = ["equal", "refused", "no model of transformers", "different"]
    rows = [(kind, *(str(counts[kind][name]) for name in columns), f"{worst[kind]:.0e}") for kind in KINDS]
    page = (
        "# Random models of every architecture\n\n"
        f"{common.heading('transformers', 'torch', 'onnxruntime')}\n\n"
        f"{common.table(['architecture', *columns, 'largest difference'], rows)}\n\n"
        "A difference is of logits at full, as a part of the spread of transformers' logits. Reasons for refusals:\n\n"
        + "\n".join(f"- {count}: {why}" for why, count in reasons.most_common(30))
        + "\n"
    )
    common.write_page(page, args.output)


def one(kind: str, chosen: random.Random, folder: Path) -> tuple[str, float, str]:
    """Make a model, read it both ways; return what came of it, the largest difference, and why."""
    layers, hidden = chosen.randint(1, 4), chosen.choice((16, 32, 48, 64))
    tokenizer = tokenizer_of(kind)
    config = make_model(kind, len(tokenizer), layers=layers, hidden=hidden).config
    options = {name: values for name, values in _ANYWHERE.items() if hasattr(config, name)} | _OF_KIND.get(kind, {})
    changed = {name: chosen.choice(values) for name, values in options.items() if chosen.random() < 0.3}
    for name, value in changed.items():
        setattr(config, name, value)
    dtype = chosen.choice((torch.float32, torch.float32, torch.float16, torch.bfloat16))
    try:
        model = randomize(transformers.AutoModelForQuestionAnswering.from_config(config), chosen.randint(0, 10**6))
        model.to(dtype).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        theirs = transformers.AutoModelForQuestionAnswering.from_pretrained(folder, dtype=torch.float32).eval()
    except Exception as error:  # such a model cannot be
        return "no model of transformers", 0.0, f"transformers: {type(error).__name__}"
    try:
        qa = QuestionAnswerer(folder, threads=1, precision="fp32")
        windows = windows_of(qa)
        logits = qa.reader.predict(windows, [LengthConfig.full(qa.shape.layers)] * len(windows))
    except DynamicTinyBertError as error:
        line = str(error).replace(str(folder), "FOLDER")
        return ("refused" if "\n" not in line else "different"), 0.0, line[:160]
    largest = 0.0
    for row, window in enumerate(windows):
        inputs = {
            "input_ids": torch.tensor(window.ids[None]),
            "attention_mask": torch.ones(1, len(window), dtype=torch.int64),
        }
        if qa.shape.typed:
            inputs["token_type_ids"] = torch.tensor(window.type_ids[None])
        try:
            with torch.no_grad():
                wanted = theirs(**inputs)
        except Exception as error:
            return "no model of transformers", 0.0, f"transformers: {type(error).__name__} at a window"
        for ours, other in zip(logits[:2], (wanted.start_logits, wanted.end_logits), strict=True):
            spread = max(float(other.std()), 1e-3)
            largest = max(largest, float(np.abs(ours[row, : len(window)] - other[0].numpy()).max()) / spread)
    return (
        ("equal", largest, "")
        if largest < _CLOSE
        else ("different", largest, f"{largest:.1e} {dtype} {changed} {hidden=} {layers=}")
    )


@cache
def tokenizer_of(kind: str) -> Any:
    return make_tokenizer(kind)


def windows_of(qa: QuestionAnswerer) -> list[Any]:
    text = (common.ROOT / "examples" / "eiffel-tower.txt").read_text("utf-8")
    windows: list[Any] = []
    for part, longest in ((text[:600], 200), (text[600:800], 128), ("Paris", 128)):
        windows += qa.reader.windows(QUESTION, part, max_seq_len=longest, doc_stride=8, max_question_len=32)
    return windows


if __name__ == "__main__":
    main()
