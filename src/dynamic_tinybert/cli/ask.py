"""`ask`: a question to a text."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dynamic_tinybert.cli import console

if TYPE_CHECKING:
    from dynamic_tinybert.qa import Answer, Options

_LONG = 200_000  # characters; a text that takes long enough for a progress bar
_AROUND = 160  # characters shown on each side of an answer at the most
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_SENTENCE_END = re.compile(r"[.!?][\"')\]]*\s|\n")


def ask(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question.")],
    source: Annotated[str | None, typer.Argument(metavar="-", help="-: read the text from standard input.")] = None,
    context: Annotated[str | None, typer.Option(metavar="TEXT", help="The text itself.")] = None,
    text: Annotated[str | None, typer.Option(metavar="FILE", help="A file of text, in UTF-8.")] = None,
    top_k: Annotated[int, typer.Option(metavar="N", min=1, help="How many answers to give.")] = 1,
    budget: console.Budget = "full",
    model: console.Model = "embedded",
    as_json: console.AsJson = False,
    max_seq_len: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="The longest window, in tokens.  [default: 384]")
    ] = None,
    doc_stride: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="How much windows overlap, in tokens.  [default: 128]")
    ] = None,
    max_question_len: Annotated[int, typer.Option(metavar="N", min=1, help="The longest question, in tokens.")] = 64,
    max_answer_len: Annotated[int, typer.Option(metavar="N", min=1, help="The longest answer, in tokens.")] = 30,
    handle_impossible_answer: Annotated[
        bool, typer.Option("--handle-impossible-answer", help="Let the answer be that the text holds none.")
    ] = False,
    precision: console.PrecisionOption = console.Precision.fp32,
    threads: console.Threads = None,
) -> None:
    """Answer a question from a text, and show the answer in its sentence.

    \b
      dynamic-tinybert ask "Who designed the tower?" --text eiffel-tower.txt
      dynamic-tinybert ask "Where is it?" --context "The tower stands in Paris."
      curl -s https://example.org/page.txt | dynamic-tinybert ask "Who wrote this?" -
    """
    if source not in (None, "-"):
        console.fail(
            f"what is {source!r}? Give the text as --text FILE, as --context TEXT, or - for standard input", misuse=True
        )
    if sum(x is not None for x in (source, context, text)) != 1:
        console.fail("give one text: --text FILE, --context TEXT, or - for standard input", misuse=True)
    from dynamic_tinybert.budget import parse_budget

    with console.errors_in_one_line():
        spend = parse_budget(budget)
        if not question.strip():
            raise ValueError("the question is empty")
        content = context if context is not None else console.read_text("-" if text is None else text)
        qa = console.load(model, precision, threads)
        with console.progress_bar("reading", "characters", show=len(content) > _LONG) as progress:
            options: Options = {
                "budget": spend,
                "max_seq_len": max_seq_len,
                "doc_stride": doc_stride,
                "max_question_len": max_question_len,
                "max_answer_len": max_answer_len,
                "handle_impossible_answer": handle_impossible_answer,
                "progress": progress,
            }
            answers = (
                [qa(question, content, **options)] if top_k == 1 else qa(question, content, top_k=top_k, **options)
            )
    if not answers and not as_json:
        print("(the text holds no answer)")
    for number, answer in enumerate(answers, 1):
        if as_json:
            console.print_json(answer.to_dict())
        else:
            _show(number if top_k > 1 else 0, answer, content)


def _show(number: int, answer: Answer, text: str) -> None:
    """Print an answer, its score, and the sentence it stands in."""
    from rich.console import Console
    from rich.text import Text

    out = Console(highlight=False, soft_wrap=True)
    head = Text(f"{number}. " if number else "")
    head.append(_plain(answer.text) or "(the text holds no answer)", style="bold green")
    head.append(f"   score {answer.score:.3f}", style="cyan")
    head.append(f"   characters {answer.start}-{answer.end}", style="dim")
    if answer.spent.share < 1:
        head.append(f"   {answer.spent.configuration}, {answer.spent.share:.0%} of full", style="dim")
    out.print(head)
    if answer.text:
        before, after = surroundings(text, answer.start, answer.end)
        marks = ("", "") if out.color_system and not out.no_color else ("[", "]")
        sentence = Text("   " + before.lstrip())
        sentence.append(marks[0] + _plain(answer.text) + marks[1], style="bold black on green")
        sentence.append(after.rstrip())
        out.print(sentence)
        sys.stdout.flush()


def surroundings(text: str, start: int, end: int) -> tuple[str, str]:
    """Return what stands before and after an answer in its sentence, shortened, on one line."""
    before = text[max(0, start - 4 * _AROUND) : start]
    after = text[end : end + 4 * _AROUND]
    before = before[max((m.end() for m in _SENTENCE_END.finditer(before)), default=0) :]
    stop = _SENTENCE_END.search(text[end - 1 : end] + after)  # the answer may hold the full stop itself
    after = after[: stop.end() - 1] if stop and end > start else after
    before, after = (_CONTROL.sub("\ufffd", re.sub(r"\s+", " ", part)) for part in (before, after))
    if len(before) > _AROUND:
        before = before[-_AROUND:]
        before = "… " + (before.partition(" ")[2] or before)
    if len(after) > _AROUND:
        after = after[:_AROUND]
        after = (after.rpartition(" ")[0] or after) + " …"
    return before, after


def _plain(text: str) -> str:
    """Put a text on one line, and keep its control characters from the terminal."""
    return _CONTROL.sub("\ufffd", " ".join(text.split()))
