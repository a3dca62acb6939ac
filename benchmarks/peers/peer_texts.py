"""Long texts that answer in their last sentence."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.squad import Question, SquadFile, score_question

_SEED = 0
_WORDS = 3000
_LEAST_WORDS = 2000  # of a long text; not every article has more
_SENTENCE_WORDS = (8, 45)
_CANDIDATES = 30  # questions of an article
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9])")
_BACKWARD = re.compile(r"(He|She|It|They|This|That|These|Those|His|Her|Its|Their|There|However|Also)\b")


def long_texts(data: SquadFile, qa: QuestionAnswerer, count: int) -> list[Question]:
    """Make long texts that answer in their last sentence: most of an article, and then the sentence, moved there.

    What is measured is whether a system gets there, not how good the model is. So the question is, of an article's, the
    one of whose answer the model is surest when it reads nothing but the sentence, and rightly. The answer does not
    stand elsewhere in the text.
    """
    articles: dict[str, list[Question]] = {}
    for question in data.questions:
        articles.setdefault(question.title, []).append(question)
    order = random.Random(_SEED)
    found = []
    for title in order.sample(sorted(articles), len(articles)):
        paragraphs = list(dict.fromkeys(x.context for x in articles[title]))
        made = [(x, with_answer_last(x, paragraphs)) for x in articles[title]]
        fit = order.sample([x for x in made if x[1]], min(_CANDIDATES, sum(1 for x in made if x[1])))
        answers = qa([x.question for x, _ in fit], [text.rpartition("\n\n")[2] for _, text in fit])
        right = [
            (answer.logit, x, text)
            for (x, text), answer in zip(fit, answers, strict=True)
            if score_question(x, answer.text, version="1.1")[0] == 1
        ]
        if right:
            _, question, text = max(right, key=lambda x: x[0])
            found.append(Question(**{**vars(question), "context": text, "answer_starts": ()}))
        if len(found) == count:
            return found
    raise SystemExit(f"peers.py: of these articles only {len(found)} long texts can be made, not {count}")


def with_answer_last(question: Question, paragraphs: Sequence[str]) -> str:
    """Return the article with the answer's sentence as its last paragraph, or nothing where that makes no sense."""
    at, answer = question.answer_starts[0], question.answers[0]
    if at is None:
        return ""
    context = question.context
    ends = [0, *(match.end() for match in _SENTENCE_END.finditer(context)), len(context)]
    start = max(end for end in ends if end <= at)
    end = min(end for end in ends if end >= at + len(answer))
    sentence = " ".join(context[start:end].split())
    words = sentence.split()
    whole = sentence.endswith((".", '."')) and len(words[-1]) > len("Thur.")  # no abbreviation ends it
    if not whole or not _SENTENCE_WORDS[0] <= len(words) <= _SENTENCE_WORDS[1] or _BACKWARD.match(sentence):
        return ""
    text, length = [], 0
    for paragraph in paragraphs:
        rest = f"{context[:start]}{context[end:]}".strip() if paragraph == context else paragraph
        length += len(rest.split())
        if length > _WORDS:
            break
        text.append(rest)
    before = "\n\n".join(text)
    if len(before.split()) < _LEAST_WORDS or any(x.casefold() in before.casefold() for x in question.answers):
        return ""
    return f"{before}\n\n{sentence}"
