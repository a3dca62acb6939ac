"""Evaluates every configuration of a model's table on a SQuAD file, and keeps the predictions behind each figure.

usage: evaluate_configs.py MODEL DATA --output results/dev [--titles FILE] [--precision int8] [--only NAME] ...

Writes OUTPUT.json (configuration -> figures), OUTPUT.md (the table, with command, machine and date) and
OUTPUT-predictions/NAME.json.gz, which `dynamic-tinybert score` scores. A configuration whose figures are in
OUTPUT.json already is not measured again, so that a run can be stopped and goes on.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import json
import os
import platform
import shlex
import sys
from pathlib import Path

from dynamic_tinybert.evaluation import evaluate
from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.squad import read_squad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    rows = json.loads(figures.read_text("utf-8")) if figures.is_file() else {}
    for choice in qa.table.choices:
        if choice.name in rows or (args.only and choice.name not in args.only):
            continue
        result = evaluate(qa, data, budget=choice.config)
        rows[choice.name] = {"fractions": list(choice.config.fractions), **result.to_dict()}
        del rows[choice.name]["seconds"]  # of a machine that may have been busy
        print(json.dumps(rows[choice.name]), file=sys.stderr, flush=True)
        # mtime=0: the same predictions make the same file
        packed = gzip.compress(json.dumps(result.predictions, ensure_ascii=False).encode(), mtime=0)
        (folder / f"{choice.name}.json.gz").write_bytes(packed)
        figures.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    rows = {choice.name: rows[choice.name] for choice in qa.table.choices if choice.name in rows}
    lines = [
        f"`{shlex.join(['python', *sys.argv])}`",
        "",
        f"{datetime.date.today()}, {processor()}, {os.cpu_count()} cores, Python {platform.python_version()}; "
        f"{len(data.questions):,} questions, precision {args.precision}.",
        "",
        "| configuration | share | EM | F1 | speedup over BERT-base (MACs) | kept after each layer |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        kept = " ".join(f"{f:.2f}" for f in row["fractions"])
        lines.append(
            f"| {name} | {row['macs_share']:.3f} | {row['exact_match']:.2f} | {row['f1']:.2f} | "
            f"{row['speedup_over_bert_base']:.1f}x | {kept} |"
        )
    args.output.with_suffix(".md").write_text("\n".join(lines) + "\n", "utf-8")


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if info.exists() and names else platform.processor()


if __name__ == "__main__":
    main()
