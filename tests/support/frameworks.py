"""What the tests of the components for LangChain and LlamaIndex share."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from dynamic_tinybert import PassageAnswer, ask_passages
from dynamic_tinybert.compat import answering

EXAMPLES = Path(__file__).parents[2] / "examples"
QUESTION = "Where is the tower?"
TEXTS = [
    "The lighthouse of Port Ellis was built by Agnes Moreau in 1871.",
    "It is tall. The tower stands in Paris, on the Champ de Mars. Everybody knows it.",
    "Cheese is made of milk.",
]
UNICODE = {  # the answer that is in each, whatever the model finds
    "emoji": "🗼 Hello 👩‍👩‍👧! The tower stands in Paris 🇫🇷, of course.",
    "combining marks": "Cafe\u0301 de Flore. The tower stands in Bogota\u0301, they say.",
    "other scripts": "塔は高い。The tower stands in 東京, not in Москва or in القاهرة.",
    "line ends": "A title\r\n\r\nThe tower\u2028stands in\tParis.\x00 The end.",
    "beyond": "𝕋he 𝕥ower — The tower stands in Paris.",
}
WRONG_OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"top_k": 0}, ValueError, "top_k must be a whole number from 1, not 0"),
    ({"top_k": "3"}, ValueError, "top_k must be"),
    ({"budget": "cheap"}, ValueError, "a budget must be"),
    ({"budget": True}, ValueError, "a budget must be"),
    ({"max_latency_ms": -1}, ValueError, "max_latency_ms must be a number of milliseconds above 0"),
    ({"min_confidence": 1.5}, ValueError, "min_confidence must be a number from 0 to 1, not 1.5"),
    ({"min_confidence": "high"}, ValueError, "min_confidence must be a number"),
    ({"model": 7}, TypeError, "model must be a folder, a name on the Hub or a QuestionAnswerer, not int"),
    ({"bugdet": "fast"}, TypeError, "bugdet"),
]
_PLACES = ["Arden", "Brook", "Calder", "Dunmore", "Esk", "Farrow", "Glen", "Hollin", "Inver", "Jarrow"]
_PEOPLE = ["Ada Moreau", "Ben Okafor", "Chen Li", "Dora Weiss", "Ezra Pound", "Fay Lund", "Gus Hart", "Hana Sato"]
_PEOPLE += ["Ivo Banic", "Jo Park"]


def asked() -> list[tuple[str, list[str]]]:
    """Sixty questions, each with passages: ten to the articles of examples/, fifty to texts made here."""
    found = []
    for item in json.loads((EXAMPLES / "questions.json").read_text("utf-8")):
        paragraphs = (EXAMPLES / item["text"]).read_text("utf-8").split("\n\n")
        words = {*re.findall(r"\w{4,}", item["question"].lower())}
        paragraphs.sort(key=lambda text: -len(words & {*re.findall(r"\w{4,}", text.lower())}))
        found.append((item["question"], paragraphs[:3]))
    made = [
        f"The bridge of {place} was built by {person} in {1801 + 7 * n}. It cost {n + 2} million crowns and has "
        f"{n + 3} arches of {stone}."
        for n, (place, person, stone) in enumerate(zip(_PLACES, _PEOPLE, ["granite", "brick"] * 5, strict=True))
    ]
    forms = ["Who built the bridge of {}?", "When was the bridge of {} built?", "How much did the bridge of {} cost?"]
    forms += ["How many arches has the bridge of {}?", "What are the arches of the bridge of {} made of?"]
    for n, place in enumerate(_PLACES):
        found += [(form.format(place), [made[n - 1], made[n], made[n - 2]]) for form in forms]
    assert len(found) == 60
    return found


def places(answers: list[PassageAnswer]) -> list[Any]:
    """What two lists of answers must have in common."""
    return [(a.text, a.number, a.start, a.end, a.score, a.confidence, a.sentence) for a in answers]


def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every connection to another host fail."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a request to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@contextmanager
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Event]:
    """Let no answer come before an event is set: a call on the event loop's own thread would never end."""
    let_go = Event()

    def waiting(*given: Any, **options: Any) -> Any:
        assert let_go.wait(20), "the event loop is blocked"
        return ask_passages(*given, **options)

    with monkeypatch.context() as patched:
        patched.setattr(answering, "ask_passages", waiting)
        yield let_go


def one_line(error: pytest.ExceptionInfo[Any]) -> str:
    """The message of an error, which must be one line."""
    message = str(error.value)
    assert message
    assert "\n" not in message
    return message
