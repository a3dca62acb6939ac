"""Measures length configurations on the held-out `select` articles and writes the model's table.

usage: measure_configs.py MODEL --data TRAIN.json.gz --titles heldout-select.txt --output length_configs.json

Configurations by hand, uniform ones and such that drop late, are first measured on a sample; those that nothing
cheaper beats are then measured on all questions, and become the table. The search for better ones is `search`.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dynamic_tinybert.budget import LengthConfig, share
from dynamic_tinybert.evaluate import evaluate
from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.squad import SquadFile, read_squad

UNIFORM = (0.98, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
LATE = (
    (1, 1, 1, 1, 1, 0.5),
    (1, 1, 1, 1, 1, 0.25),
    (1, 1, 1, 1, 1, 0.1),
    (1, 1, 1, 1, 0.75, 0.25),
    (1, 1, 1, 1, 0.5, 0.25),
    (1, 1, 1, 1, 0.3, 0.1),
    (1, 1, 1, 0.75, 0.5, 0.25),
    (1, 1, 1, 0.6, 0.3, 0.1),
    (1, 1, 1, 0.5, 0.3, 0.1),
    (1, 1, 1, 0.3, 0.2, 0.1),
    (1, 1, 0.8, 0.5, 0.3, 0.1),
    (1, 1, 0.6, 0.4, 0.2, 0.1),
    (1, 1, 0.4, 0.3, 0.2, 0.1),
    (1, 0.9, 0.7, 0.4, 0.2, 0.1),
    (1, 0.7, 0.5, 0.3, 0.2, 0.1),
    (1, 0.5, 0.3, 0.2, 0.15, 0.1),
    (0.7, 0.5, 0.4, 0.3, 0.2, 0.1),
    (0.5, 0.4, 0.3, 0.2, 0.15, 0.1),
    (0.3, 0.25, 0.2, 0.15, 0.1, 0.1),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help='a model folder of 6 layers, or "embedded"')
    parser.add_argument("--data", required=True, help="a SQuAD 1.1 file that holds the articles")
    parser.add_argument("--titles", type=Path, required=True, help="their titles, one a line")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sample", type=int, default=1000, help="questions of the first round")
    args = parser.parse_args()

    qa = QuestionAnswerer(args.model)
    data = read_squad(args.data, titles=set(args.titles.read_text("utf-8").splitlines()))
    sample = replace(data, questions=tuple(random.Random(0).sample(data.questions, args.sample)))
    configs = {LengthConfig.full(6): "full"}
    configs |= {LengthConfig.uniform(6, retention): "uniform" for retention in UNIFORM}
    configs |= {LengthConfig(fractions): "late" for fractions in LATE}
    cost = {config: share(qa.shape, config) for config in configs}
    first = {config: measured(qa, sample, config)[1] for config in configs}
    rows: dict[str, dict[str, Any]] = {}
    for config, kind in sorted(configs.items(), key=lambda item: -cost[item[0]]):
        beaten = any(cost[other] <= cost[config] and first[other] > first[config] for other in configs)
        if beaten and kind != "uniform":  # the uniform ones are what others are held to
            continue
        em, f1 = measured(qa, data, config)
        # A name is never less than the share, so that a budget of that number buys it.
        name = kind if kind == "full" else f"{kind}-{math.ceil(100 * cost[config]) / 100:.2f}"
        rows[name if name not in rows else f"{kind}-{cost[config]:.4f}"] = {
            "fractions": list(config.fractions),
            "share": round(cost[config], 4),
            "exact_match": round(em, 2),
            "f1": round(f1, 2),
        }
    table = {
        "measured_on": f"SQuAD 1.1, the {len(data.questions):,} questions of {args.titles.stem}",
        "configs": [{"name": name, **row} for name, row in rows.items()],
    }
    args.output.write_text(dump(table), "utf-8")


def measured(qa: QuestionAnswerer, data: SquadFile, config: LengthConfig) -> tuple[float, float]:
    scores = evaluate(qa, data, budget=config).scores
    print(
        f"{len(data.questions)} questions, share {share(qa.shape, config):.3f}, {config.fractions}: "
        f"EM {scores.exact_match:.2f} F1 {scores.f1:.2f}",
        file=sys.stderr,
        flush=True,
    )
    return scores.exact_match, scores.f1


def dump(table: Mapping[str, Any]) -> str:
    """JSON, a configuration a line."""
    rows = ",\n".join("    " + json.dumps(row) for row in table["configs"])
    return f'{{\n  "measured_on": {json.dumps(table["measured_on"])},\n  "configs": [\n{rows}\n  ]\n}}\n'


if __name__ == "__main__":
    main()
