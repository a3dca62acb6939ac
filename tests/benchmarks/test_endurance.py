"""What the hour of hostile clients and the kills of commands make of what they find."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.corpus import kills
from benchmarks.corpus.kills import Kill
from benchmarks.serve.endurance import Found, claims
from benchmarks.serve.hostile import State
from benchmarks.serve.hostile_clients import HELD
from benchmarks.serve.moving_index import MovingIndex

pytest.importorskip("tantivy")
STATE = State(requests=0, waiting=0, open=0, connections=0, files=20, threads=9, rss=300_000_000)
LARGER = replace(STATE, rss=400_000_000)
KILL = Kill(command="index add", after=0.1, done=0.5, left="", ended=True)


@pytest.fixture
def index(tmp_path: Path) -> MovingIndex:
    return MovingIndex(tmp_path, 0, 1.0, 3)


def missed(index: MovingIndex, *, logged: Counter[str] | None = None, status: int = 0, **changes: Any) -> list[str]:
    sound: dict[str, Any] = {
        "minutes": 1.0,
        "endings": {"garbage": Counter({"400": 3})},
        "texts": Counter({"answered rightly": 3}),
        "asked": Counter({"answered rightly": 3}),
        "states": [(float(minute), STATE) for minute in range(4)],
        "before": STATE,
        "after": STATE,
    }
    found = Found(**sound | changes)
    return [x.what for x in claims(found, index, logged or Counter(), alive=True, status=status) if not x.met]


def test_an_hour_without_faults_misses_nothing(index: MovingIndex) -> None:
    assert missed(index) == []
    assert missed(index, logged=Counter({"an index cannot be used": 9})) == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"status": -7}, "lived"),
        ({"endings": {"garbage": Counter({"500": 1})}}, "500"),
        ({"logged": Counter({"status 500": 1})}, "500"),
        ({"logged": Counter({"Traceback": 1})}, "tracebacks"),
        ({"endings": {"slow": Counter({HELD: 1})}}, "held"),
        ({"texts": Counter({"answered rightly": 3, "status 504": 1})}, "texts"),
        ({"wrong": ["minute 1: refused while it was whole"]}, "another answer"),
        ({"states": [(0.0, STATE), (1.0, STATE), (2.0, LARGER), (3.0, LARGER)]}, "memory"),
        ({"after": replace(STATE, connections=1)}, "connections"),
        ({"after": replace(STATE, files=21)}, "descriptors"),
    ],
)
def test_each_fault_of_an_hour_is_a_claim_missed(index: MovingIndex, changes: dict[str, Any], word: str) -> None:
    (what,) = missed(index, **changes)
    assert word in what


def test_an_answer_is_right_only_while_its_document_had_the_words(index: MovingIndex) -> None:
    before = time.monotonic()
    assert index.judge("station-1", 4, 8, "lamp", before, before)
    assert not index.judge("station-1", 4, 8, "Lamp", before, before)
    assert not index.judge("station-99", 4, 8, "lamp", before, before)
    index._replace()
    index.folder.rename(index.folder.with_name("gone"))
    assert index.was_unusable(before, time.monotonic())  # it was being replaced
    assert not index.was_unusable(time.monotonic(), time.monotonic())


def test_kills_with_faults_are_missed() -> None:
    assert "**missed**" not in kills.markdown([KILL, replace(KILL, command="batch")])
    for fault in ({"left": "2 lost"}, {"faults": "1 documents doubled"}):
        page = kills.markdown([KILL, replace(KILL, **fault)])
        assert "1 **missed**" in page
        assert next(iter(fault.values())) in page
