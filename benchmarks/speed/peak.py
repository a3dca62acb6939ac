"""Peak memory of a process that loads one system and answers the questions on standard input, in bytes."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from pathlib import Path

from benchmarks.common import peak_bytes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Standard input: a JSON list of [question, text]. Example: echo \'[["Who?", "Ann sings."]]\' | '
        "python -m benchmarks.speed.peak full",
    )
    parser.add_argument(
        "system",
        help="with --tokenizer, BERT-base, TinyBERT6L or DistilBERT: that shape in PyTorch; else a configuration of "
        "our model's table; or command: dynamic-tinybert ask, for the first question",
    )
    parser.add_argument("--model", metavar="FOLDER", help="our model [default: the embedded one]")
    parser.add_argument("--tokenizer", type=Path, metavar="FOLDER", help="a folder whose tokenizer transformers reads")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="auto", help="fp32, int8 or auto; fp32 or bf16 with --tokenizer")
    args = parser.parse_args()
    questions = json.load(sys.stdin)
    if args.system == "command":
        answer_by_command(questions[0], args.model)
    else:
        answer(args, questions)
    print(peak_bytes())


def answer(args: argparse.Namespace, pairs: list[tuple[str, str]]) -> None:
    from benchmarks.speed import systems
    from dynamic_tinybert import QuestionAnswerer

    if args.tokenizer is not None:
        ask = systems.ask_pytorch(args.system, args.tokenizer, args.threads, bfloat16=args.precision == "bf16")
    else:
        qa = QuestionAnswerer(args.model, threads=args.threads, precision=args.precision)
        configs = {choice.name: choice.config for choice in qa.table.choices}
        if args.system not in configs:
            raise SystemExit(f"peak.py: no configuration is named {args.system!r}: there are {', '.join(configs)}")
        ask = systems.ask_ours(qa, configs[args.system])
    for question, text in pairs:
        ask(question, text)


def answer_by_command(pair: tuple[str, str], model: str | None) -> None:
    from dynamic_tinybert.cli import main as command

    question, text = pair
    sys.argv = ["dynamic-tinybert", "ask", question, "--context", text, "--model", model or "embedded"]
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        command()


if __name__ == "__main__":
    main()
