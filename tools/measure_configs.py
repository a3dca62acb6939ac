"""Measures length configurations on the held-out `select` articles and writes the model's table.

usage: measure_configs.py MODEL --data TRAIN.json.gz --titles heldout-select.txt --output length_configs.json

Configurations by hand, uniform ones and such that drop late, are first measured on a sample; those that nothing
cheaper beats are then measured on all questions, and become the table. The search for better ones is `search`.
"""

from __future__ import annotations

import argparse
import json
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
    named = {"full": LengthConfig.full(6)}
    for kind, configs in (
        ("uniform", [LengthConfig.uniform(6, r) for r in UNIFORM]),
        ("late", map(LengthConfig, LATE)),
    ):
        named |= {f"{kind}-{share(qa.shape, config):.2f}": config for config in configs}

    first = {name: measured(qa, sample, config) for name, config in named.items()}
    kept = [
        name
        for name, config in named.items()
        if name.startswith("uniform")
        or not any(
            share(qa.shape, named[other]) <= share(qa.shape, config) and first[other][1] > first[name][1]
            for other in named
        )
    ]
    rows = []
    for name in sorted(kept, key=lambda name: -share(qa.shape, named[name])):
        em, f1 = measured(qa, data, named[name])
        config = named[name]
        rows.append(
            {
                "name": name,
                "fractions": list(config.fractions),
                "share": round(share(qa.shape, config), 4),
                "exact_match": round(em, 2),
                "f1": round(f1, 2),
            }
        )
    table = {
        "measured_on": f"SQuAD 1.1, the {len(data.questions):,} questions of {args.titles.stem}",
        "configs": rows,
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
