"""Answers, and what they cost."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from dynamic_tinybert import layers
from dynamic_tinybert.errors import DynamicTinyBertError
from dynamic_tinybert.layers import TokenLayers


class EmptyQuestionError(DynamicTinyBertError, ValueError):
    """The question has no words."""

    misuse = True


class LogitsError(DynamicTinyBertError, ValueError):
    """A model computes logits that are not finite."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What an answer cost.

    Attributes:
        configuration: The name of the length configuration in the model's table. In a corpus, the best passages are
            predicted at this configuration.
        share: Its multiply-accumulates divided by those of `full`, counted at 384 tokens.
        windows: The number of windows that the model predicted.
        macs: The multiply-accumulates of these windows at their own lengths.
        bert_base_macs: The multiply-accumulates of BERT-base for the same windows.
        coarse: Corpus only: the configuration of the first pass over all passages, or None if there was only one pass.
        retrieved: Corpus only: the number of passages that the search found.
        read: How many of these were predicted until no other could win, or the time was over.
        read_again: How many of these were predicted again at `configuration`.
        seconds: Corpus only: the time from the question to the answer.
    """

    configuration: str
    share: float
    windows: int
    macs: int
    bert_base_macs: int
    coarse: str | None = None
    retrieved: int = 0
    read: int = 0
    read_again: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer: `text[answer.start:answer.end] == answer.text`.

    Attributes:
        text: The answer; empty if there is no answer (a text without words, an impossible answer).
        start: Where the answer starts, in characters of the original text.
        end: Where the answer ends.
        score: Softmax over the candidate spans of all windows of the text, in [0, 1].
        logit: Start logit plus end logit, raw; minus infinity if the text has no words.
        confidence: Calibrated probability that the text answers the question and that this is the answer; None if the
            model has no calibration.
        no_answer_logit: The logit of no answer in the window of this answer: raw start logit plus end logit of [CLS];
            infinite if the text has no words. The no-answer threshold is compared with `no_answer_logit - logit`.
        surroundings: The text around the answer, some hundred characters, and where the answer starts in it.
        spent: What the answer cost.
        layers: With `explain`, how many layers each token of the text passed.
    """

    text: str
    start: int
    end: int
    score: float
    logit: float
    confidence: float | None = None
    no_answer_logit: float = field(default=math.inf, repr=False)
    surroundings: tuple[str, int] = field(default=("", 0), repr=False, compare=False)
    spent: Spent = field(repr=False)
    layers: TokenLayers | None = field(default=None, repr=False, compare=False)

    def show(self) -> None:
        """Show the answer in its sentence; with `explain`, in its text, with which tokens each layer has left.

        In a notebook that is a heat map: the darker a token, the more layers it passed. Elsewhere a text is printed,
        with dots for what was dropped.
        """
        layers.show(layers.as_html(*self._shown()), layers.as_text(*self._shown()))

    def _repr_html_(self) -> str | None:
        return None if self.layers is None else layers.as_html(*self._shown())

    def _shown(self) -> tuple[str, str, int, int, TokenLayers | None]:
        head = headline(self.text, self.score, self.confidence, self.spent)
        if self.layers is not None:
            return head, self.layers.text, self.start, self.end, self.layers
        text, start, end = in_sentence(*self.surroundings, len(self.text))
        return head, text, start, end, None

    @property
    def sentence(self) -> str:
        """The sentence of the text that contains the answer, on one line; empty if there is no answer."""
        around, start = self.surroundings
        return sentence_of(around, start, start + len(self.text))

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as the dictionary that `--json` prints."""
        return {
            "text": self.text,
            "start": self.start,
            "end": self.end,
            "score": self.score,
            "logit": self.logit if math.isfinite(self.logit) else None,
            "confidence": self.confidence,
            "configuration": self.spent.configuration,
            "share": self.spent.share,
        }


# A sentence ends after a full stop and the like (but not after an initial or a title: "J. Smith", "Dr. Smith"), at an
# empty line, and before a line that begins an item or a heading. A single line break does not end it: text is often
# broken into lines of equal length.
FULL_STOP = (
    r"(?<!\b[A-Z])(?<!\b[MD]r)(?<!\bSt|\bNo|\bvs|\bCo|\bJr|\bSr)(?<!\bMrs|\bInc|\bLtd|\bFig|\b[ei]\.[ge]|\b[ap]\.m)"
    r"(?<!\bProf)\."
)
"""A pattern for a full stop that ends a sentence: not after an initial or an abbreviation."""

_SENTENCE_END = re.compile(
    rf"(?:{FULL_STOP}|[!?…])[\"'”’»)\]]*\s|[。！？][」』”]?"
    r"|\n[^\S\n]*\n|\f|\n(?=[^\S\n]*(?:[-*•‣–#>|]|\(?(?:\d{1,3}|[a-z])[.)])\s)"
)
_SENTENCE_PART = 500  # the most characters of a sentence on each side of an answer


def find_sentence(text: str, start: int, end: int) -> tuple[int, int]:
    """Find the sentence of an answer: where it starts and ends in the text, in characters.

    At most 500 characters before the answer and 500 after it belong to its sentence.

    Args:
        text: The text.
        start: Where the answer starts, in characters.
        end: Where it ends.
    """
    low, high = max(0, start - _SENTENCE_PART), min(len(text), end + _SENTENCE_PART)
    first = low
    for found in _SENTENCE_END.finditer(text, max(0, low - 4), min(len(text), start + 8)):
        if found.end() > start:
            break
        first = max(low, found.end())
    if end <= start:
        return first, first
    stop = _SENTENCE_END.search(text, max(end - 1, start), high)  # the answer may contain the full stop
    last = high if stop is None else max(stop.end(), end)
    while first < start and text[first].isspace():
        first += 1
    while last > end and text[last - 1].isspace():
        last -= 1
    return first, last


def surroundings_of(text: str, start: int, end: int) -> tuple[str, int]:
    """Return the text around an answer in which `find_sentence` looks, and where the answer starts in it."""
    if end <= start:
        return "", 0
    low = max(0, start - _SENTENCE_PART - 4)
    return text[low : end + _SENTENCE_PART], start - low


def sentence_of(text: str, start: int, end: int) -> str:
    """Return the sentence of an answer on one line: each run of white space is one space. See `find_sentence`."""
    begin, stop = find_sentence(text, start, end)
    return " ".join(text[begin:stop].split())


def in_sentence(text: str, start: int, length: int) -> tuple[str, int, int]:
    """Return the sentence of an answer, and where the answer starts and ends in it. See `find_sentence`."""
    begin, stop = find_sentence(text, start, start + length)
    return text[begin:stop], start - begin, start - begin + length


def headline(text: str, score: float, confidence: float | None, spent: Spent) -> str:
    """Return an answer, its scores and its configuration on one line."""
    sure = "" if confidence is None else f", confidence {confidence:.3f}"
    words = " ".join(text.split()) or "(no answer)"
    return f"{words}   score {score:.3f}{sure}   {spent.configuration}, {spent.share:.0%} of full"
