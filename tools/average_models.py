"""Averages the weights of models that were trained from the same one (model soups, Wortsman et al., 2022).

usage: average_models.py MODEL MODEL... [--weights N N...] --output DIR

The models have the same architecture; all else (configuration, tokenizer) is taken from the first. Nothing is trained:
whether the average is better than its parts, `evaluate` and `search` say, on articles that none was trained on.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL", help="a model folder")
    parser.add_argument(
        "--weights", nargs="+", type=float, metavar="N", help="how much each counts; by default as much"
    )
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    if len(args.models) < 2:
        sys.exit("give two models or more")
    weights = args.weights or [1.0] * len(args.models)
    if len(weights) != len(args.models) or min(weights) < 0 or not sum(weights):
        sys.exit("give a weight for each model, none below 0 and not all 0")
    if args.output.exists():
        sys.exit(f"{args.output} is there already")
    parts = [load_file(model / "model.safetensors") for model in args.models]
    for model, part in zip(args.models, parts, strict=True):
        if {name: tensor.shape for name, tensor in part.items()} != {n: t.shape for n, t in parts[0].items()}:
            sys.exit(f"{model} and {args.models[0]} are not of one architecture")
    shutil.copytree(args.models[0], args.output, ignore=shutil.ignore_patterns("length_configs.json", "README.md"))
    mean = {
        name: np.average([part[name] for part in parts], axis=0, weights=weights).astype(np.float32)
        for name in parts[0]
    }
    save_file(mean, args.output / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
