"""The options of an answer: what they come to with a model, and what is refused."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from dynamic_tinybert.inference import DEFAULTS, Options, Settings, SpanRanker, make_settings
from dynamic_tinybert.model import ConfigTable, ModelShape

SHAPE = ModelShape(layers=2, hidden=8, heads=2, feed_forward=16, vocabulary=100, positions=128)


def settings(**options: Any) -> Settings:
    return make_settings(SHAPE, ConfigTable.read(SHAPE, None), specials=3, **options)


def test_each_option_but_progress_has_a_default() -> None:
    assert {*DEFAULTS, "progress"} == {*Options.__annotations__}


def test_defaults_fit_a_model_of_few_positions() -> None:
    found = settings()
    assert (found.max_seq_len, found.doc_stride, found.max_question_len) == (128, 30, 64)
    assert found.choice.name == "full"
    assert found.always_answers


def test_a_model_says_which_windows_suit_it() -> None:
    table = ConfigTable.read(SHAPE, {"windows": {"max_seq_len": 100, "doc_stride": 10}})
    found = make_settings(SHAPE, table, specials=3)
    assert (found.max_seq_len, found.doc_stride) == (100, 10)
    found = make_settings(SHAPE, table, specials=3, max_seq_len=110, doc_stride=0)
    assert (found.max_seq_len, found.doc_stride) == (110, 0)
    tight = make_settings(SHAPE, ConfigTable.read(SHAPE, {"windows": {"doc_stride": 90}}), specials=3)
    assert (tight.max_seq_len, tight.doc_stride) == (128, 30)  # half of the room
    long = make_settings(SHAPE, ConfigTable.read(SHAPE, {"windows": {"max_seq_len": 4096}}), specials=3)
    assert long.max_seq_len == 128  # what the model can read


def test_only_top_k_may_give_no_answer() -> None:
    assert not settings(top_k=1).always_answers


def test_options_reach_the_ranking() -> None:
    ranking = settings(top_k=3, max_answer_len=5, align_to_words=False).ranking("a text")
    assert isinstance(ranking, SpanRanker)
    assert ranking.ranked() == []
    assert set(inspect.signature(SpanRanker).parameters) - {"text", "top_k", "calibration"} <= {*DEFAULTS}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_len": 3}, TypeError, "there is no option 'max_len'; there are budget"),
        ({"progress": print}, TypeError, "there is no option 'progress'"),
        ({"max_seq_len": 200}, ValueError, "max_seq_len 200 is more than the 128 tokens that the model can read"),
        ({"max_answer_len": 1.5}, ValueError, "max_answer_len must be a whole number, not 1.5"),
        ({"max_answer_len": 0}, ValueError, "max_answer_len must be at least 1 token, not 0"),
        ({"top_k": True}, ValueError, "top_k must be a whole number, not True"),
        ({"top_k": 0}, ValueError, "top_k must be at least 1, not 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        settings(**options)
