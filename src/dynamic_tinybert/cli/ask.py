"""The command `ask`: answer a question from a text or an index."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from dynamic_tinybert.answer import find_sentence
from dynamic_tinybert.cli import console
from dynamic_tinybert.files import write_whole
from dynamic_tinybert.progress import progress_bar

if TYPE_CHECKING:
    from dynamic_tinybert.corpus import Corpus, CorpusAnswer, Document, FileAnswer
    from dynamic_tinybert.qa import Answer

_LONG = 200_000  # characters; a longer text gets a progress bar
_AROUND = 160  # the most characters to show on each side of an answer
_NO_PASSAGE = "no answer: no passage of the index matches the question"
_LONGEST = 400  # characters of an answer, or of a path, to show; a word may be of any length


def ask(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question.")],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH...]",
            help="Files (text, Markdown, HTML, PDF, DOCX, JSON Lines), folders, or - for standard input.",
        ),
    ] = None,
    context: Annotated[str | None, typer.Option(metavar="TEXT", help="The text itself.")] = None,
    text: Annotated[list[str] | None, typer.Option(metavar="FILE", help="A file, as PATH; may be repeated.")] = None,
    index: Annotated[
        str | None, typer.Option(metavar="DIR", help="An index of documents, made by `index add`.")
    ] = None,
    html: console.HtmlOption = console.Html.all,
    top_k: Annotated[int, typer.Option(metavar="N", min=1, help="How many answers to give.")] = 1,
    budget: console.Budget = "full",
    model: console.Model = "embedded",
    as_json: console.AsJson = False,
    max_seq_len: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="The longest window, in tokens.  [default: the model's own, or 384]"),
    ] = None,
    doc_stride: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="The overlap of the windows, in tokens.  [default: 128]")
    ] = None,
    max_question_len: Annotated[int, typer.Option(metavar="N", min=1, help="The longest question, in tokens.")] = 64,
    max_answer_len: Annotated[int, typer.Option(metavar="N", min=1, help="The longest answer, in tokens.")] = 30,
    no_align_to_words: Annotated[
        bool,
        typer.Option(
            "--no-align-to-words",
            help="Give the best span of tokens, not what a person would underline.",
        ),
    ] = False,
    score_threshold: Annotated[
        float,
        typer.Option(
            metavar="SHARE", min=0, max=1, help="With --top-k: leave out answers below this share of the best score."
        ),
    ] = 0.01,
    handle_impossible_answer: Annotated[
        bool,
        typer.Option(
            "--handle-impossible-answer", help="Allow an empty answer, if the text does not answer the question."
        ),
    ] = False,
    no_answer_threshold: console.NoAnswerThreshold = None,
    max_latency_ms: Annotated[
        float | None, typer.Option(metavar="MS", help="With --index: the time limit for the answer, in milliseconds.")
    ] = None,
    passages: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="With --index: passages to retrieve.  [default: 20]")
    ] = None,
    show: Annotated[
        str | None,
        typer.Option(metavar="FILE.png", help="Draw the page of the best answer, from a PDF, with the answer marked."),
    ] = None,
    boxes: Annotated[
        bool, typer.Option("--boxes", help="With --json: add where an answer stands on the pages of a PDF, in points.")
    ] = False,
    precision: console.PrecisionOption = console.Precision.auto,
    threads: console.Threads = None,
) -> None:
    """Answer a question from files, a text or an index of documents, and show the answer in its sentence.

    \b
      dynamic-tinybert ask "Who designed the tower?" eiffel-tower.txt
      dynamic-tinybert ask "When does the warranty end?" manual.pdf contract.docx notes/ --top-k 3
      dynamic-tinybert ask "Who designed the tower?" --index my-index --max-latency-ms 200
      dynamic-tinybert ask "When does the warranty end?" manual.pdf --show page.png
      dynamic-tinybert ask "Where is it?" --context "The tower stands in Paris."
      curl -s https://example.org/page.txt | dynamic-tinybert ask "Who wrote this?" -
    """
    paths = [*(sources or ()), *(text or ())]
    if bool(paths) + (context is not None) + (index is not None) != 1:
        console.fail("give the text once: as files (- for standard input), --context TEXT or --index DIR", misuse=True)
    if paths.count("-") > 1:
        console.fail("standard input can be read once: give - once", misuse=True)
    if html is not console.Html.all and not paths:
        console.fail("--html needs files; for --index, it is an option of index add", misuse=True)
    if index is None and (max_latency_ms is not None or passages is not None):
        console.fail("--max-latency-ms and --passages need --index", misuse=True)
    if index is not None and handle_impossible_answer:
        console.fail(
            "--handle-impossible-answer needs a text: with --index, an answer has a confidence instead", misuse=True
        )
    if no_answer_threshold is not None and not handle_impossible_answer:
        console.fail("--no-answer-threshold needs --handle-impossible-answer", misuse=True)
    if boxes and not as_json:
        console.fail("--boxes needs --json", misuse=True)
    if show is not None and (context is not None or paths == ["-"]):
        console.fail("--show draws pages of PDFs: give files, or --index", misuse=True)
    if show is not None and not show.lower().endswith(".png"):
        console.fail(f"--show writes a PNG: give it a name that ends in .png, not {show}", misuse=True)
    from dynamic_tinybert.corpus import PASSAGES, UnreadableError
    from dynamic_tinybert.model import parse_budget

    spend = parse_budget(budget)
    if not question.strip():
        raise ValueError("the question is empty")
    options: dict[str, Any] = {
        "budget": spend,
        "max_seq_len": max_seq_len,
        "doc_stride": doc_stride,
        "max_question_len": max_question_len,
        "max_answer_len": max_answer_len,
        "align_to_words": not no_align_to_words,
        "score_threshold": score_threshold,
    }
    nothing = _NO_PASSAGE
    if index is not None:
        options |= {"max_latency_ms": max_latency_ms, "passages": passages or PASSAGES}
        corpus = _corpus(question, index, model, precision, threads)
        # As an object, no answer is one, too.
        found = [corpus(question, **options)] if as_json and top_k == 1 else corpus(question, top_k=top_k, **options)
        shown = [_of_corpus(answer) for answer in found]
    else:
        from dynamic_tinybert.corpus import Document, ask_documents

        documents = _read(paths, html) if context is None else [Document("", context)]
        qa = console.load(model, precision, threads)
        with progress_bar("reading", "characters", show=sum(len(d.text) for d in documents) > _LONG) as progress:
            options |= {
                "handle_impossible_answer": handle_impossible_answer,
                "no_answer_threshold": no_answer_threshold,
                "progress": progress,
            }
            pairs = ask_documents(qa, question, documents, top_k=top_k, **options)
        nothing = _nothing(documents, handle_impossible_answer)
        shown = [_of_text(answer, document, nothing) for document, answer in pairs]
    if not shown and not as_json:
        print(f"({nothing})")
    unplaced = False
    for number, answer in enumerate(shown, 1):
        if as_json:
            places: dict[str, Any] = {}
            if boxes:
                why = None
                try:
                    places["boxes"] = [asdict(box) for box in answer.source.boxes()]
                except UnreadableError as error:
                    why = str(error)
                except OSError as error:
                    why = f"{error.filename} cannot be read: {error.strerror or error}"
                if why is not None:
                    console.complain("error", why)
                    places["boxes"], unplaced = None, True
            console.print_json(answer.row | places)
        else:
            _show(f"{number}. " if top_k > 1 else "", answer)
    if show is not None:
        _draw(shown[0].source if shown else None, show)
    if unplaced:
        raise typer.Exit(1)


def _draw(answer: FileAnswer | CorpusAnswer | None, target: str) -> None:
    """Write the page of an answer as a PNG."""
    if answer is None or not answer.text:
        console.fail("there is no answer, so --show has no page to draw")
    if not answer.document:
        console.fail("--show draws pages of PDFs: this answer is not from a file")
    write_whole(Path(target), answer.picture())
    console.say(f"the page is in {target}")


class _Shown(NamedTuple):
    """An answer, and how to print it: as JSON, or its words, its score, details, and its place in a text."""

    source: FileAnswer | CorpusAnswer
    row: dict[str, Any]
    words: str
    nothing: str
    score: str
    details: str
    text: str
    start: int


def _nothing(documents: Sequence[Document], by_threshold: bool) -> str:
    """Return why documents have no answer."""
    what = "the text" if len(documents) == 1 else "every text"
    if not any(document.text for document in documents):
        return f"no answer: {what} is empty"
    if not any(character.isalnum() for document in documents for character in document.text):
        return f"no answer: {what} has no words"
    return f"no answer: for {what}, none is above the no-answer threshold" if by_threshold else "no answer"


def _read(paths: Sequence[str], html: console.Html) -> list[Document]:
    """Read files, folders and standard input (`-`).

    Raises:
        typer.Exit: There is no document, or a file given by name cannot be read. One line is printed that says so.
    """
    from dynamic_tinybert.corpus import CorpusError, Document, Reading, read_documents

    def skipped(line: str) -> None:
        console.complain("skipped", console.plain(line))

    found: list[Document] = []
    seen: Counter[str] = Counter()
    try:
        for path in paths:
            if path == "-":
                found.append(Document("", console.read_text("-")))
            else:
                found += read_documents([path], reading=Reading(html=html.value), skipped=skipped, seen=seen)
    except OSError as error:
        console.fail(f"{error.filename or ', '.join(paths)} cannot be read: {error.strerror or error}")
    except CorpusError as error:
        console.fail(str(error))
    return found


def _of_text(answer: FileAnswer, document: Document, nothing: str) -> _Shown:
    spent, details = answer.spent, f"characters {answer.start}-{answer.end}"
    if answer.page is not None:
        details = f"page {answer.page}, {details}"
    if answer.document:
        details = f"{_shortened(console.plain(answer.document))}, {details}"
    if spent.share < 1:
        details += f"   {spent.configuration}, {spent.share:.0%} of full"
    return _Shown(answer, answer.to_dict(), answer.text, nothing, _score(answer), details, document.text, answer.start)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 200]} … {text[-197:]}"


def _score(answer: Answer | CorpusAnswer) -> str:
    sure = "" if answer.confidence is None else f"   confidence {answer.confidence:.3f}"
    return f"score {answer.score:.3f}{sure}"


def _corpus(question: str, directory: str, model: str, precision: console.Precision, threads: int | None) -> Corpus:
    """Open an index, and the model only if the index can be used."""
    from dynamic_tinybert.corpus import Corpus

    Corpus(directory).find(question, 1)
    return Corpus(directory, qa=console.load(model, precision, threads))


def _of_corpus(answer: CorpusAnswer) -> _Shown:
    spent = answer.spent
    document = _shortened(console.plain(answer.document.removeprefix(os.path.join(os.getcwd(), ""))))
    details = f"{document}, characters {answer.start}-{answer.end}   read {spent.read} of {spent.retrieved} passages"
    if spent.read_again:
        details += f", {spent.read_again} again"
    return _Shown(
        answer,
        answer.to_dict(),
        answer.text,
        _NO_PASSAGE,
        _score(answer),
        details,
        answer.passage,
        answer.start - answer.passage_start,
    )


def _show(number: str, answer: _Shown) -> None:
    from rich.console import Console
    from rich.text import Text

    out = Console(highlight=False, soft_wrap=True)
    words = _shortened(console.plain(answer.words))
    head = Text(number)
    head.append(words or f"({answer.nothing})", style="bold green")
    head.append(f"   {answer.score}", style="cyan")
    head.append(f"   {answer.details}", style="dim")
    out.print(head)
    if words:
        before, after = surroundings(answer.text, answer.start, answer.start + len(answer.words))
        marks = ("", "") if out.color_system and not out.no_color else ("[", "]")
        sentence = Text("   " + before.lstrip())
        sentence.append(marks[0] + words + marks[1], style="bold black on green")
        sentence.append(after.rstrip())
        out.print(sentence)
        sys.stdout.flush()


def surroundings(text: str, start: int, end: int) -> tuple[str, str]:
    """Return the text before and after an answer in its sentence, shortened, on one line."""
    begin, stop = find_sentence(text, start, end)
    before, after = text[begin:start], text[end:stop]
    before, after = (console.CONTROL.sub("\ufffd", re.sub(r"\s+", " ", part)) for part in (before, after))
    if len(before) > _AROUND:
        before = before[-_AROUND:]
        before = "… " + (before.partition(" ")[2] or before)
    if len(after) > _AROUND:
        after = after[:_AROUND]
        after = (after.rpartition(" ")[0] or after) + " …"
    return before, after
