"""Asks the ten questions of questions.json, written before the model had seen the texts, and shows what it answers."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.cli.ask import surroundings

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="embedded", help="the model to ask [default: %(default)s]")
    model = parser.parse_args().model
    out = Console(highlight=False, soft_wrap=True)
    questions = json.loads((HERE / "questions.json").read_text("utf-8"))
    texts = {name: (HERE / name).read_text("utf-8") for name in sorted({q["text"] for q in questions})}
    qa = QuestionAnswerer(model)
    right: list[tuple[float, str, str]] = []
    for name, text in texts.items():
        out.print(Text(f"\n{name}, {len(text.split()):,} words", style="bold"))
        for question in (q for q in questions if q["text"] == name):
            began = time.perf_counter()
            answer = qa(question["question"], text)
            seconds = time.perf_counter() - began
            good = any(answer.text.strip(".,") == expected for expected in question["expected"])
            if good:
                right.append((answer.score, question["question"], name))
            before, after = surroundings(text, answer.start, answer.end)
            out.print()
            out.print(Text("  " + question["question"], style="bold"))
            line = Text("  → " + answer.text, style="bold green" if good else "bold red")
            line.append(f"   score {answer.score:.2f}, {1000 * seconds:.0f} ms", style="dim")
            if not good:
                line.append(f"   (expected: {question['expected'][0]})", style="dim")
            out.print(line)
            out.print(
                Text("    ").append(before.lstrip()).append(answer.text, style="underline").append(after.rstrip())
            )
    called = "the embedded model" if model == "embedded" else model
    out.print(f"\n{len(right)} of {len(questions)} as expected, with {called} at its full budget.")
    _, question, name = max(right, default=(0.0, "Who designed the tower?", "eiffel-tower.txt"))
    other = "" if model == "embedded" else f" --model {model}"
    out.print(f'Ask your own:  .venv/bin/dynamic-tinybert ask "{question}" --text examples/{name}{other}')
    if model == "embedded":
        out.print("Better answers:  .venv/bin/pip install ./models/dynamic-tinybert-6l")
        out.print("                 .venv/bin/python examples/demo.py --model dynamic-tinybert-6l")


if __name__ == "__main__":
    main()
