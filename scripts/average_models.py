"""Averages the weights of models that were trained from the same one (model soups, Wortsman et al., 2022).

usage: average_models.py MODEL MODEL... [--weights N N...] --output DIR

The models have the same architecture; all else (configuration, tokenizer) is taken from the first. Nothing is trained:
whether the average is better than its parts, `evaluate` and `search` say, on articles that none was trained on.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from dynamic_tinybert.folder import ModelFolderError, open_folder, save_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="a model folder")
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
    try:
        first, *others = [open_folder(model) for model in args.models]
        for other in others:
            if other.shape != first.shape:
                sys.exit(f"{other.name} and {first.name} are not of one architecture")
        for name, weight in first.weights.items():
            parts = [weight, *(other.weights[name] for other in others)]
            first.weights[name] = np.average(parts, axis=0, weights=weights).astype(np.float32)
        save_folder(first, args.output)
    except ModelFolderError as error:
        sys.exit(str(error))
    for stale in ("length_configs.json", "README.md"):  # they describe the first alone
        (args.output / stale).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
