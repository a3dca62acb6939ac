"""How fast training is here: features a second in each kind of step, and the hours that the recipes' epochs take.

usage: python -m benchmarks.train.training [--output results/train/training-speed.md]

Steps of batches of 16 real features of like length, random weights, in the sizes of the recipes. As a ratio, too: to a
step of the 6-layer hidden-384 model on its labels, in the same run. Let nothing else run beside it.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, MPNetConfig, MPNetForQuestionAnswering

from benchmarks.common import Progress, add_data, argument_parser, heading, table, write_page
from dynamic_tinybert.folder import EMBEDDED, open_folder
from dynamic_tinybert.inference import TextTokenizer
from dynamic_tinybert.squad import read_squad
from dynamic_tinybert.train.features import Batch, FeatureSettings, collate, make_features
from dynamic_tinybert.train.losses import hidden_loss, relation_loss, significance_loss
from dynamic_tinybert.train.model import DynamicBertForQuestionAnswering
from dynamic_tinybert.train.stages import label_loss, soft_loss

SMALL = {"num_hidden_layers": 6, "hidden_size": 384, "intermediate_size": 1536}
TINYBERT = {"num_hidden_layers": 6, "hidden_size": 768, "intermediate_size": 3072}
BASE = {"num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 3072}
BASELINE = "hidden 384: labels"


def main() -> None:
    parser = argument_parser(__doc__)
    add_data(parser, "train-v1.1.json.gz")
    parser.add_argument("--steps", type=int, default=5, help="steps that are timed, after one that is not")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the table, beside standard output")
    args = parser.parse_args()

    batches = make_batches(args.data, args.steps + 1)
    mpnet = MPNetForQuestionAnswering(MPNetConfig(vocab_size=30527, relative_attention_num_buckets=32))
    rows, say = [], Progress()
    for name, model, step in kinds(mpnet):
        optimizer = torch.optim.AdamW(model.parameters(), 1e-5)
        speeds = []
        for batch in batches:
            begin = time.perf_counter()
            step(batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            speeds.append(len(batch["input_ids"]) / (time.perf_counter() - begin))
        rows.append((name, statistics.median(speeds[1:])))
        say(f"{name}: {rows[-1][1]:.2f} features a second")
    baseline = dict(rows)[BASELINE]
    header = ("step", "features a second", f"to {BASELINE}", "hours for an epoch of 86,000 features")
    cells = [(x, f"{speed:.2f}", f"{speed / baseline:.2f}", f"{86_000 / speed / 3600:.1f}") for x, speed in rows]
    about = f"{heading('torch')} {torch.get_num_threads()} threads. Batches of 16 features of like length; medians."
    write_page(f"# Training speed\n\n{about}\n\n{table(header, cells)}\n", args.output)


def make_batches(data: str, count: int) -> list[Batch]:
    """Batches of 16 features, each of like length, that together are as long as the data."""
    tokenizer = TextTokenizer(open_folder(EMBEDDED).path)
    questions = random.Random(0).sample(read_squad(data).questions, 16 * 20)
    features = sorted(make_features(tokenizer, questions, FeatureSettings()), key=len)
    groups = [features[i : i + 16] for i in range(0, len(features) - 15, 16)]
    chosen = [groups[round((i + 0.5) * len(groups) / count - 0.5)] for i in range(count)]
    random.Random(1).shuffle(chosen)
    return [collate(list(enumerate(group)), tokenizer.pad) for group in chosen]


def kinds(mpnet: Any) -> list[tuple[str, Any, Callable[[Batch], Any]]]:
    """What is timed: its name, the model that learns, and a step's loss."""

    def fed(batch: Batch) -> dict[str, Any]:
        return {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}

    def teach(batch: Batch, hidden: bool = False) -> Any:
        with torch.no_grad():
            ids = batch["input_ids"].clamp(max=30000)
            return mpnet(ids, attention_mask=batch["attention_mask"], output_hidden_states=hidden)

    found: list[tuple[str, Any, Callable[[Batch], Any]]] = []
    for name, sizes in (("hidden 384", SMALL), ("TinyBERT6L", TINYBERT)):
        model = DynamicBertForQuestionAnswering(BertConfig(num_attention_heads=12, **sizes)).train()
        project = torch.nn.Linear(sizes["hidden_size"], 768)

        def labels(batch: Batch, model: Any = model) -> Any:
            return label_loss(model(**fed(batch)), batch)

        def distil(batch: Batch, model: Any = model) -> Any:
            return soft_loss(model(**fed(batch)), teach(batch), batch, 1.0)

        def inside(batch: Batch, model: Any = model, project: Any = project) -> Any:
            goal, mine = teach(batch, True).hidden_states, model(**fed(batch), output_hidden_states=True).hidden_states
            mask = batch["attention_mask"]
            hidden = sum(hidden_loss(project(a), b, mask) for a, b in zip(mine, goal[::2], strict=True))
            return hidden + 3 * relation_loss(mine[-1], goal[-1], mask, 12)

        def drop(batch: Batch, model: Any = model, samples: int = 1) -> Any:
            goal = model(**fed(batch))
            loss = label_loss(goal, batch)
            for ratio in (0.8, *[0.9] * samples):
                config = [ratio ** (i + 1) for i in range(6)]
                loss = loss + soft_loss(model(**fed(batch), length_config=config), goal, batch, 1.0)
            return loss

        def one(batch: Batch, model: Any = model) -> Any:
            config = [0.85 ** (i + 1) for i in range(6)]
            output = model(**fed(batch), length_config=config, output_votes=True)
            return label_loss(output, batch) + significance_loss(output.votes, batch["spans"])

        found += [(f"{name}: labels", model, labels), (f"{name}: labels, bfloat16", model, in_bf16(labels))]
        found += [
            (f"{name}: lengthdrop, 1 sample, on labels", model, drop),
            (f"{name}: lengthdrop, single, significance, bfloat16, on labels", model, in_bf16(one)),
            (f"{name}: prediction, live MPNet", model, distil),
            (f"{name}: intermediate, live MPNet", model, inside),
        ]
    bert = DynamicBertForQuestionAnswering(BertConfig(num_attention_heads=12, **BASE)).train()

    def base(batch: Batch) -> Any:
        return label_loss(bert(**fed(batch)), batch)

    found.append(("BERT-base or MPNet as teacher: labels", bert, base))
    found.append(("BERT-base or MPNet as teacher: labels, bfloat16", bert, in_bf16(base)))
    return found


def in_bf16(step: Callable[[Batch], Any]) -> Callable[[Batch], Any]:
    """A step in mixed precision, as `precision: auto` has it on CPUs that multiply in bfloat16."""

    def run(batch: Batch) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return step(batch)

    return run


if __name__ == "__main__":
    main()
