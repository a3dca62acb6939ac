"""Ask SQuAD's questions in other forms and with distractors in the text, and say what each costs.

  lower       the question in lower case
  unmarked    without its question mark
  keywords    its words without stop words, in lower case
  nearest     the paragraph, and at its end the sentence of another paragraph of the article that is nearest by BM25 and
              holds no answer
  made        the paragraph, and at its end a sentence made of the question by rule: names and numbers are exchanged for
              those of other articles, and an answer to another question of the same kind stands in it (as in AddSent,
              Jia and Liang, 2017, arXiv 1707.07328, but nobody mended its grammar). Only for questions with a name or a
              number, since otherwise the sentence would be a right answer

The figure of a form is compared with that of the same questions as they are; the standard error is of the paired
difference.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.evaluation import evaluate
from dynamic_tinybert.model import parse_budget
from dynamic_tinybert.squad import (
    Bm25,
    Question,
    SquadFile,
    holds_answer,
    paragraphs_of,
    read_squad,
    score_question,
)

_SEED = 0
_STOP_WORDS = """
    a an the is are was were be been being do does did has have had what which that this these those of in on at for it
    its there and also to by with from
"""
_STOP = frozenset(_STOP_WORDS.split())
_SENTENCE = re.compile(r"[^.!?\s][^\n]*?[.!?]+(?=\s|$)")
_LENGTHS = 40, 400  # shortest and longest sentence, in characters
_AUXILIARY = r"(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would)\b"
_ASKING = re.compile(
    rf"(?P<wh>\b(?:(?:in|on|at|by|for|from|to|of|with) )?(?:(?:what|which|how(?: many| much)?)(?: (?!{_AUXILIARY})\w+)?"
    rf"|whom?|whose|when|where|why)\b)(?: (?P<auxiliary>{_AUXILIARY}))?",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?<=\s)[A-Z][\w'-]*(?: [A-Z][\w'-]*)*")
_NUMBER = re.compile(r"\b\d[\d,.]*\b")


class Forms:
    """Rewrite questions and paragraphs. Each form is the same in every run.

    Args:
        questions: All questions of a file: its articles give the distractors.
    """

    def __init__(self, questions: Sequence[Question]) -> None:
        self._sentences = {
            title: [(text, sentence) for text in texts for sentence in _sentences_of(text)]
            for title, texts in paragraphs_of(questions).items()
        }
        self._answers: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self._words: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for question in questions:
            if (asking := _ASKING.search(question.question)) and question.answers:
                for kind in _kinds(asking):
                    self._answers[kind].append((question.title, question.answers[0]))
            for kind, pattern in (("name", _NAME), ("number", _NUMBER)):
                self._words[kind] += [(question.title, found[0]) for found in pattern.finditer(question.question)]

    def lower(self, question: Question) -> Question | None:
        return replace(question, question=question.question.lower())

    def unmarked(self, question: Question) -> Question | None:
        return replace(question, question=question.question.rstrip("? "))

    def keywords(self, question: Question) -> Question | None:
        words = [word.strip(",;:\"'()") for word in question.question.rstrip("? ").lower().split()]
        kept = [word for word in words if word and word not in _STOP]
        return replace(question, question=" ".join(kept)) if kept else None

    def nearest(self, question: Question) -> Question | None:
        sentences = [
            sentence
            for text, sentence in self._sentences[question.title]
            if text != question.context and not holds_answer(sentence, question.answers)
        ]
        if not sentences:
            return None
        return _added(question, sentences[int(np.argmax(Bm25(sentences).scores(question.question)))])

    def made(self, question: Question) -> Question | None:
        """Return the question with a statement that answers it for another name or number, or None without one."""
        draw = random.Random(f"{_SEED} {question.id}")
        asked = question.question.rstrip("?. ")
        changed = _NUMBER.sub(lambda found: self._other("number", question.title, found[0], draw), asked)
        changed = _NAME.sub(lambda found: self._other("name", question.title, found[0], draw), changed)
        asking = _ASKING.search(changed)
        if changed == asked or asking is None:
            return None
        of_kinds = ([answer for of, answer in self._answers[k] if of != question.title] for k in _kinds(asking))
        answers = next(filter(None, of_kinds), None)
        if not answers:
            return None
        answer = draw.choice(answers)
        before, after, auxiliary = changed[: asking.start()], changed[asking.end() :], asking["auxiliary"]
        if auxiliary is None:  # "who built the tower": the answer is the subject
            words = f"{before} {answer} {after}".split()
        else:
            kept = "" if auxiliary.lower() in ("do", "does", "did") else auxiliary
            words = f"{before} {after} {kept} {answer}".split()
        sentence = " ".join(words) + "."
        sentence = sentence[0].upper() + sentence[1:]
        return None if holds_answer(sentence, question.answers) else _added(question, sentence)

    def _other(self, kind: str, title: str, word: str, draw: random.Random) -> str:
        words = [other for of, other in self._words[kind] if of != title and other != word]
        return draw.choice(words) if words else word


FORMS: Mapping[str, Callable[[Forms, Question], Question | None]] = {
    "lower": Forms.lower,
    "unmarked": Forms.unmarked,
    "keywords": Forms.keywords,
    "nearest": Forms.nearest,
    "made": Forms.made,
}


def main() -> None:
    args = parse()
    say = common.Progress()
    try:
        data = read_squad(args.data)
        titles = common.held_out_titles(args.articles) if args.articles else None
    except (OSError, ValueError) as error:
        raise SystemExit(f"robustness.py: {error}") from None
    asked = [q for q in data.questions if not q.impossible and (titles is None or q.title in titles)]
    if not asked:
        raise SystemExit(f"robustness.py: {args.data} has no question that can be answered, of these articles")
    forms = Forms(asked)
    questions = random.Random(_SEED).sample(asked, min(args.questions, len(asked)))
    budget = parse_budget(args.budget)
    found: dict[str, Any] = {
        "heading": common.heading("onnxruntime", "numpy"), "articles": args.articles or "all", "budget": args.budget,
        "questions": len(questions), "models": {},
    }  # fmt: skip
    for model in args.model:
        qa = QuestionAnswerer(model, precision=args.precision, threads=args.threads)
        found["precision"] = qa.reader.runtime.precision
        plain = scores(qa, questions, budget)
        rows = {"as asked": figures(list(plain.values()), list(plain.values()))}
        for name, form in FORMS.items():
            changed = [new for question in questions if (new := form(forms, question)) is not None]
            if not changed:  # no question has this form
                continue
            after = scores(qa, changed, budget)
            rows[name] = figures([plain[id_] for id_ in after], list(after.values()))
            say(f"{model}: {name}: {rows[name]['f1']:.2f}")
        found["models"][model] = rows
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "robustness.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    (args.output / "robustness.md").write_text(markdown(found), "utf-8")
    print(f"{args.output}: robustness.json, robustness.md", file=sys.stderr)


def parse() -> argparse.Namespace:
    parser = common.argument_parser(__doc__, epilog="A rehearsal: --questions 20 --output /tmp/x")
    common.add_data(parser)
    common.add_articles(parser)
    parser.add_argument(
        "--model", nargs="+", default=["embedded"], metavar="FOLDER", help="model folders [default: the embedded model]"
    )
    common.add_budget(parser)
    parser.add_argument(
        "--output", type=Path, default=Path("results/quality"), metavar="DIR", help="[default: %(default)s]"
    )
    common.add_counts(parser, threads=(common.cores(), "of a run"), questions=(2000, "questions, drawn at random"))
    return parser.parse_args()


def scores(qa: QuestionAnswerer, questions: Sequence[Question], budget: Any) -> dict[str, float]:
    """Return the F1 of each question, in percent, by its id."""
    predictions = evaluate(qa, SquadFile("1.1", tuple(questions)), budget=budget).predictions
    return {q.id: 100 * score_question(q, predictions[q.id], version="1.1")[1] for q in questions}


def figures(before: Sequence[float], after: Sequence[float]) -> dict[str, float | None]:
    """Return the questions, their F1 in this form and as asked, and the paired standard error of the difference."""
    return {
        "questions": len(after), "f1": statistics.fmean(after), "as_asked": statistics.fmean(before),
        "error": common.standard_error([b - a for a, b in zip(before, after, strict=True)]),
    }  # fmt: skip


def difference(row: Mapping[str, Any]) -> str:
    error = "" if row["error"] is None else f" ± {row['error']:.2f}"
    return f"{row['f1'] - row['as_asked']:+.2f}{error}"


def markdown(found: Mapping[str, Any]) -> str:
    lines = [
        "# Questions in other forms, and distractors in the text\n",
        f"{found['heading']} {found['questions']:,} questions ({found['articles']}), budget {found['budget']}, "
        f"{found['precision']}. The forms are described in `benchmarks/quality/robustness.py`.\n",
    ]
    for model, rows in found["models"].items():
        cells = [
            (
                name, f"{row['questions']:,}", f"{row['f1']:.2f}",
                "" if name == "as asked" else difference(row),
            )
            for name, row in rows.items()
        ]  # fmt: skip
        header = (f"`{Path(model).name}`", "questions", "F1", "against the same as asked")
        lines += [common.table(header, cells), ""]
    return "\n".join(lines)


def _kinds(asking: re.Match[str]) -> list[str]:
    """Return what a question asks for, the nearest kind first: `what city`, `what`."""
    words = asking["wh"].lower().split()
    at = next(i for i, word in enumerate(words) if word.startswith(("w", "how")) and word != "with")
    return list(dict.fromkeys((" ".join(words[at : at + 2]), words[at])))


def _sentences_of(text: str) -> list[str]:
    shortest, longest = _LENGTHS
    return [found[0] for found in _SENTENCE.finditer(text) if shortest <= len(found[0]) <= longest]


def _added(question: Question, sentence: str) -> Question:
    return replace(question, context=f"{question.context} {sentence}")


if __name__ == "__main__":
    main()
