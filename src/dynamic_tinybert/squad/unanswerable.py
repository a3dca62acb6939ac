"""Make questions without an answer from questions that have one. The same input gives the same questions.

There are three kinds:

- `other`: the question with another paragraph of its article, drawn at random.
- `nearest`: the question with the paragraph of its article that is nearest to it (BM25).
- `swapped`: the question with its own paragraph, but with one part replaced: a name by a name from the article, a
  number by another number, or a word by its opposite. The paragraph does not hold the replacement.

`swapped` imitates what people wrote for SQuAD 2.0 (Rajpurkar et al., 2018), with swaps as in Gautam et al., 2023 (A
Lightweight Method to Generate Unanswerable Questions in English). `other` is what training draws; it is much easier
than what people write. Nobody checked the questions: another paragraph may answer in different words than the
reference, and a swapped question may sound odd or still have its answer.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, Literal, TypeAlias

from dynamic_tinybert.squad.data import Question
from dynamic_tinybert.squad.nearest import Article, words_of

Kind: TypeAlias = Literal["other", "nearest", "swapped"]
KINDS: Final[tuple[Kind, ...]] = ("other", "nearest", "swapped")

_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"(?<![\w.,–-])\d+(?:,\d{3})*(?![\w–-]|[.,]\d)")
_CAPITALIZED = r"[A-Z](?:['’](?!s\b)|[\w.-])*\w"
_NAME = re.compile(rf"(?<![\w.'’-]){_CAPITALIZED}(?: (?:(?:of|the|de|von|van|del|di|la) )?{_CAPITALIZED})*")
_SENTENCE_START = re.compile(r"(?:^|[.!?:;\n][\"'”)\]]*\s*|[\"'“(\[])$")
_OPPOSITES = """
    first last, before after, largest smallest, larger smaller, biggest smallest, most least, more less,
    highest lowest, higher lower, high low, longest shortest, longer shorter, long short, oldest newest, older younger,
    oldest youngest, old new, earliest latest, earlier later, early late, north south, northern southern, east west,
    eastern western, increase decrease, increased decreased, increases decreases, rise fall, begin end, began ended,
    begins ends, beginning end, start stop, started stopped, starts stops, best worst, better worse, strongest weakest,
    stronger weaker, strong weak, fastest slowest, faster slower, fast slow, male female, men women, man woman,
    father mother, son daughter, brother sister, husband wife, king queen, win lose, won lost, winner loser,
    above below, maximum minimum, upper lower, positive negative, internal external, inside outside,
    public private, major minor, allowed forbidden, allow forbid, legal illegal,
    import export, imports exports, rich poor, wealthy poor, summer winter, warm cold, hot cold, light dark,
    common rare, similar different, accepted rejected, accept reject, approve reject, approved rejected,
    success failure, successful unsuccessful,
    support oppose, supported opposed, gained lost, gain lose, buy sell, bought sold, create destroy, created destroyed,
    include exclude, included excluded, agree disagree, agreed disagreed, possible impossible, usually rarely,
    always never, often rarely, popular unpopular, modern ancient, urban rural, heavy light, wide narrow, deep shallow,
    primary secondary, active passive, native foreign, single multiple, front back, top bottom, with without
"""


def _pairs_of_opposites() -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in _OPPOSITES.split(","):
        one, other = pair.split()
        found.setdefault(one, other)
        found.setdefault(other, one)
    return found


OPPOSITES: Final = _pairs_of_opposites()
"""Word -> its opposite, for `swapped`."""


def other_paragraphs(questions: Sequence[Question], count: int, *, seed: int) -> Iterator[tuple[Question, str]]:
    """Yield questions, each with another paragraph of its article that holds none of its answers.

    Args:
        questions: The questions; paragraphs are chosen from theirs. Questions without an answer are skipped.
        count: How many questions to draw. A question is left out if its article has no such paragraph.
        seed: The seed of the draw.
    """
    paragraphs = paragraphs_of(questions)
    questions = [question for question in questions if question.answers]
    draw = random.Random(seed)
    for question in (questions[i] for i in sorted(draw.sample(range(len(questions)), min(len(questions), count)))):
        answers = [answer.casefold() for answer in question.answers]
        others = [text for text in paragraphs[question.title] if text != question.context]
        draw.shuffle(others)
        for text in others:
            if not any(answer in text.casefold() for answer in answers):
                yield question, text
                break


def make_unanswerable(questions: Sequence[Question], kind: Kind, *, seed: int = 0) -> Iterator[Question]:
    """Yield a question without an answer for each question that has one, in order, if it can be made.

    Its id is the question's id with `-` and the kind; `answers` is empty, and `impossible` is true. It cannot be made
    if the article has no other paragraph without the answer, or if no part of the question can be replaced.

    Args:
        questions: The questions. Paragraphs, names and numbers are taken from all questions with the same title.
        kind: See the module.
        seed: Another seed gives other draws; `nearest` draws nothing.

    Raises:
        ValueError: There is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"a kind of unanswerable questions must be one of {', '.join(KINDS)}, not {kind!r}")
    pairs: Iterator[tuple[Question, str, str]]
    if kind == "other":
        drawn = other_paragraphs(questions, len(questions), seed=seed)
        pairs = ((question, question.question, text) for question, text in drawn)
    elif kind == "nearest":
        pairs = ((question, question.question, text) for question, text in _nearest(questions))
    else:
        pairs = ((question, words, question.context) for question, words in _swapped(questions, seed))
    for question, words, text in pairs:
        yield replace(
            question,
            id=f"{question.id}-{kind}",
            question=words,
            context=text,
            answers=(),
            answer_starts=(),
            impossible=True,
        )


def paragraphs_of(questions: Sequence[Question]) -> dict[str, dict[str, None]]:
    """Return the paragraphs of each article, in order: title -> paragraph -> None."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for question in questions:
        found[question.title][question.context] = None
    return found


def _nearest(questions: Sequence[Question]) -> Iterator[tuple[Question, str]]:
    articles = {title: Article(list(texts)) for title, texts in paragraphs_of(questions).items()}
    for question in questions:
        if question.answers and (text := articles[question.title].nearest(question)) is not None:
            yield question, text


def _swapped(questions: Sequence[Question], seed: int) -> Iterator[tuple[Question, str]]:
    names: dict[str, dict[str, None]] = defaultdict(dict)
    numbers: dict[str, dict[str, None]] = defaultdict(dict)
    for title, texts in paragraphs_of(questions).items():
        for text in texts:
            names[title] |= dict.fromkeys(_names(text))
            numbers[title] |= dict.fromkeys(_NUMBER.findall(text))
    for question in questions:
        if not question.answers:
            continue
        draw = random.Random(hashlib.sha256(f"{seed} {question.id} {question.question}".encode()).digest())
        ways = [
            way
            for way in (
                _swap_name(question, list(names[question.title]), draw),
                _swap_number(question, list(numbers[question.title]), draw),
                _swap_opposite(question, draw),
            )
            if way is not None
        ]
        if ways:
            yield question, draw.choice(ways)


def _names(text: str) -> Iterator[str]:
    """Yield runs of capitalized words that do not begin a sentence."""
    for found in _NAME.finditer(text):
        if not _SENTENCE_START.search(text[max(0, found.start() - 4) : found.start()]):
            yield found[0]


def _swap_name(question: Question, names: list[str], draw: random.Random) -> str | None:
    """Replace a name by one with as many words, none of which is in the paragraph or the question."""
    there = set(words_of(question.context)) | set(words_of(question.question))
    places = [found for found in _NAME.finditer(question.question) if found.start() > 0]
    if not places:
        return None
    place = draw.choice(places)
    size = len(place[0].split())
    fitting = [name for name in names if len(name.split()) == size and not there & set(words_of(name))]
    if not fitting:
        return None
    return question.question[: place.start()] + draw.choice(fitting) + question.question[place.end() :]


def _swap_number(question: Question, numbers: list[str], draw: random.Random) -> str | None:
    """Replace a number by one of the same length that is not in the paragraph, if possible one from the article."""
    places = list(_NUMBER.finditer(question.question))
    if not places:
        return None
    place = draw.choice(places)
    there = {*_NUMBER.findall(question.context), *_NUMBER.findall(question.question)}
    fitting = [n for n in numbers if len(n) == len(place[0]) and n not in there]
    if not fitting and "," not in place[0]:
        near = [str(int(place[0]) + step) for step in (-3, -2, -1, 1, 2, 3, 4)]
        fitting = [n for n in near if len(n) == len(place[0]) and n not in there]
    if not fitting:
        return None
    return question.question[: place.start()] + draw.choice(fitting) + question.question[place.end() :]


def _swap_opposite(question: Question, draw: random.Random) -> str | None:
    """Replace a word by its opposite, if the paragraph does not hold it."""
    there = set(words_of(question.context))
    places = [
        found
        for found in _WORD.finditer(question.question)
        if OPPOSITES.get(found[0]) is not None and OPPOSITES[found[0]] not in there
    ]
    if not places:
        return None
    place = draw.choice(places)
    return question.question[: place.start()] + OPPOSITES[place[0]] + question.question[place.end() :]
