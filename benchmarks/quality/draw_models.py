"""Draws what models make of their budgets: F1 on SQuAD dev against the speedup over BERT-base, and the papers' points.

usage: python -m benchmarks.quality.draw_models NAME=RESULTS.json ... [--output results/quality/models.png]

RESULTS.json is what evaluate_configs wrote. Of each model the front is drawn as a line, its uniform configurations
as small marks. The speedups are ratios of multiply-accumulates at each question's own length; the papers count padding
to 384 tokens, for BERT-base and for themselves.
"""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from benchmarks.common import argument_parser
from dynamic_tinybert.search import pareto_front
from dynamic_tinybert.search.results import bare

# Name, speedup over BERT-base, F1: Guskin et al., 2021 and 2022. A speedup "within 1%" is drawn at that F1.
PAPERS = (
    ("BERT-base", 1.0, 88.5),
    ("DistilBERT", 2.0, 85.8),
    ("TinyBERT6L", 2.0, 87.5),
    ("Dynamic-TinyBERT", 2.0, 88.71),
    ("Dynamic-TinyBERT at 3.3x", 3.3, 87.6),
    ("QuaLA-MiniLM at 8.8x", 8.8, 87.6),
)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("models", nargs="+", metavar="NAME=RESULTS.json")
    parser.add_argument(
        "--output", type=Path, default=Path("results/quality/models.png"), help="[default: %(default)s]"
    )
    args = parser.parse_args()
    if len(args.models) > len(COLOURS):
        parser.error(f"there are {len(COLOURS)} colours, and {len(args.models)} models were given")

    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.subplots()
    for (name, _, path), colour in zip((model.partition("=") for model in args.models), COLOURS, strict=False):
        rows = json.loads(Path(path).read_text("utf-8"))
        points = {key: (row["speedup_over_bert_base"], row["f1"]) for key, row in rows.items()}
        searched = [point for key, point in points.items() if not key.startswith("uniform")]
        front = [searched[i] for i in pareto_front([(1 / speedup, f1) for speedup, f1 in searched])]
        axes.plot(*zip(*front, strict=True), "o-", color=colour, markersize=4, linewidth=1.6, label=name)
        uniform = [point for key, point in points.items() if key.startswith("uniform")]
        if uniform:
            axes.plot(*zip(*uniform, strict=True), "x", color=colour, markersize=5, label=f"{name}, uniform")
    for name, speedup, f1 in PAPERS:
        axes.plot(speedup, f1, "s", color="0.35", markerfacecolor="white", markersize=5)
        left = name in ("TinyBERT6L", "DistilBERT")
        axes.annotate(
            name,
            (speedup, f1),
            xytext=(-6 if left else 6, -3 if left else 4),
            textcoords="offset points",
            ha="right" if left else "left",
            fontsize=7.5,
            color="0.35",
        )
    axes.set_xscale("log")
    axes.set_xticks([1, 2, 3, 5, 8, 10, 15, 20, 30])
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter("")
    axes.set_xlim(0.9, 40)
    axes.set_xlabel("speedup over BERT-base, multiply-accumulates (papers, in grey: everything padded to 384 tokens)")
    axes.set_ylabel("F1 on SQuAD 1.1 dev (%)")
    bare(axes)
    axes.legend(frameon=False, loc="lower left")
    figure.savefig(args.output, metadata={"Software": None})


if __name__ == "__main__":
    main()
