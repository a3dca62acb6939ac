"""Evaluates every configuration of a model's table on a SQuAD file, and keeps the predictions behind each figure.

usage: python -m benchmarks.quality.evaluate_configs MODEL DATA --output results/quality/dev
           [--titles FILE] [--precision int8] [--only NAME] ...

Writes OUTPUT.json (configuration -> figures), OUTPUT.md (the table, with command, machine and date) and
OUTPUT-predictions/NAME.json.gz, which `dynamic-tinybert score` scores. A configuration whose figures are in
OUTPUT.json already is not measured again, so that a run can be stopped and goes on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.common import Progress, argument_parser, heading, table, write_gzip, write_page
from dynamic_tinybert.evaluation import evaluate
from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.squad import read_squad


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("model", help='a model folder, or "embedded"')
    parser.add_argument("data", help="a SQuAD file")
    parser.add_argument("--output", type=Path, required=True, help="where the results go, without an ending")
    parser.add_argument("--titles", type=Path, help="only the articles with these titles, one a line")
    parser.add_argument("--precision", choices=("fp32", "int8"), default="fp32")
    parser.add_argument("--threads", type=int, help="threads to use [default: one for each core]")
    parser.add_argument("--only", action="append", help="only this configuration (may be repeated)")
    args = parser.parse_args()

    titles = set(args.titles.read_text("utf-8").splitlines()) if args.titles else None
    data = read_squad(args.data, titles=titles)
    qa = QuestionAnswerer(args.model, precision=args.precision, threads=args.threads)
    folder = args.output.with_name(f"{args.output.name}-predictions")
    folder.mkdir(parents=True, exist_ok=True)
    figures = args.output.with_suffix(".json")
    say = Progress()
    rows = json.loads(figures.read_text("utf-8")) if figures.is_file() else {}
    if unknown := sorted(set(args.only or ()) - {choice.name for choice in qa.table.choices}):
        sys.exit(f"the table of {args.model} has no configuration {unknown[0]}")
    for choice in qa.table.choices:
        if choice.name in rows or (args.only and choice.name not in args.only):
            continue
        result = evaluate(qa, data, budget=choice.config)
        rows[choice.name] = {"fractions": list(choice.config.fractions), **result.to_dict()}
        del rows[choice.name]["seconds"]  # of a machine that may have been busy
        say(json.dumps(rows[choice.name]))
        write_gzip(folder / f"{choice.name}.json.gz", result.predictions)
        figures.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    rows = {choice.name: rows[choice.name] for choice in qa.table.choices if choice.name in rows}
    cells = [
        (
            name, f"{row['macs_share']:.3f}", f"{row['exact_match']:.2f}", f"{row['f1']:.2f}",
            f"{row['speedup_over_bert_base']:.1f}x", " ".join(f"{f:.2f}" for f in row["fractions"]),
        )
        for name, row in rows.items()
    ]  # fmt: skip
    header = ("configuration", "share", "EM", "F1", "speedup over BERT-base (MACs)", "kept after each layer")
    about = f"{heading()} {len(data.questions):,} questions, precision {args.precision}."
    write_page(f"{about}\n\n{table(header, cells)}\n", args.output.with_suffix(".md"))


if __name__ == "__main__":
    main()
