"""Logits to answers, held against the obvious way: all spans of all windows, sorted."""

from __future__ import annotations

import itertools
import tracemalloc
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import dynamic_tinybert.inference.spans as room
from dynamic_tinybert.inference import Span, SpanRanker, TextTokenizer, Tokens, Window, cut_windows

SPECIAL = cast(TextTokenizer, SimpleNamespace(cls=1, sep=2, pad=0, between=[2]))
Logits = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


@dataclass
class Case:
    """A text, its windows, and logits for each."""

    text: Tokens
    windows: list[Window]
    logits: list[Logits]
    first: list[int]  # the number in the text of each window's first token


def make(words: list[int], *, room_for_text: int, overlap: int, padding: int = 0) -> Case:
    """A text of words of so many tokens, each of two characters, with a space between words."""
    begin, end, word_start, word_end = [], [], [], []
    at = 0
    for count in words:
        for i in range(count):
            begin.append(at + 2 * i)
            end.append(at + 2 * i + 2)
            word_start.append(at)
            word_end.append(at + 2 * count)
        at += 2 * count + 1
    text = Tokens(*(np.array(column, np.int64) for column in (range(len(begin)), begin, end, word_start, word_end)))
    question = np.array([7, 8])
    cut = list(
        cut_windows(SPECIAL, question, [text] if words else [], max_seq_len=room_for_text + 5, doc_stride=overlap)
    )
    return Case(
        text,
        cut,
        [(np.zeros(len(w) + padding, np.float32), np.zeros(len(w) + padding, np.float32)) for w in cut],
        [int(w.text.ids[0]) for w in cut],
    )


def fill(case: Case, seed: int, scale: float = 4.0, whole: bool = False) -> Case:
    random = np.random.default_rng(seed)
    for pair in case.logits:
        for values in pair:
            drawn = random.normal(0, scale, values.shape)
            values[:] = np.rint(drawn) if whole else drawn
    return case


def rank(case: Case, **options: Any) -> list[Span]:
    ranker = SpanRanker(**{"top_k": 1, "max_answer_len": 30} | options)
    for window, (start, end) in zip(case.windows, case.logits, strict=True):
        ranker.add(window, start, end)
    return ranker.ranked()


def candidates(case: Case, max_answer_len: int) -> dict[tuple[int, int], tuple[float, float]]:
    """First and last token -> the best value in any window, of every span that lies in one, and its logit there."""
    best: dict[tuple[int, int], tuple[float, float]] = {}
    for window, (start, end), base in zip(case.windows, case.logits, case.first, strict=True):
        n, null = len(window.text), float(start[0]) + float(end[0])
        for i in range(n):
            for j in range(i, min(n, i + max_answer_len)):
                logit = float(start[window.offset + i] + end[window.offset + j])
                key = (base + i, base + j)
                if key not in best or logit - null >= best[key][0]:
                    best[key] = (logit - null, logit)
    return best


def reference(
    case: Case,
    *,
    top_k: int = 1,
    max_answer_len: int = 30,
    align_to_words: bool = True,
    handle_impossible_answer: bool = False,
    no_answer_threshold: float = 0.0,
) -> list[Span]:
    text = case.text
    begins, ends = (text.word_start, text.word_end) if align_to_words else (text.start, text.end)
    spans = candidates(case, max_answer_len)
    listed = [(value, logit, int(begins[i]), int(ends[j])) for (i, j), (value, logit) in sorted(spans.items())]
    if handle_impossible_answer and case.windows:
        least = min(float(start[0]) + float(end[0]) for start, end in case.logits)
        listed.append((-no_answer_threshold, least, 0, 0))
    if not listed:
        return []
    values = np.array([value for value, *_ in listed])
    total = values.max() + np.log(np.exp(values - values.max()).sum())
    chosen: list[Span] = []
    for value, logit, begin, end in sorted(listed, key=lambda c: -c[0]):  # stable: of equals, the first in the text
        if all(end <= other.start or other.end <= begin or end == 0 for other in chosen):
            chosen.append(Span(begin, end, logit, float(np.exp(value - total))))
    return chosen[:top_k]


def agree(found: list[Span], expected: list[Span]) -> None:
    assert [(s.start, s.end) for s in found] == [(s.start, s.end) for s in expected]
    np.testing.assert_allclose([s.logit for s in found], [s.logit for s in expected], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose([s.score for s in found], [s.score for s in expected], rtol=1e-5, atol=1e-12)


cases = st.builds(
    lambda words, room_for_text, overlap, padding: make(
        words, room_for_text=room_for_text, overlap=min(overlap, room_for_text - 1), padding=padding
    ),
    words=st.lists(st.integers(1, 3), max_size=20),
    room_for_text=st.integers(1, 16),
    overlap=st.integers(0, 15),
    padding=st.integers(0, 3),
)
options = st.fixed_dictionaries(
    {
        "top_k": st.integers(1, 12),
        "max_answer_len": st.integers(1, 8),
        "align_to_words": st.booleans(),
        "handle_impossible_answer": st.booleans(),
        "no_answer_threshold": st.sampled_from([0.0, 0.0, -5.0, 3.0, 1e9, -1e9]),
    }
)


@given(case=cases, options=options, seed=st.integers(0, 1 << 30), scale=st.sampled_from([0.01, 1.0, 8.0, 40.0]))
def test_answers_are_those_of_all_spans_of_all_windows_sorted(
    case: Case, options: dict[str, Any], seed: int, scale: float
) -> None:
    fill(case, seed, scale)
    agree(rank(case, **options), reference(case, **options))


@given(case=cases, options=options, seed=st.integers(0, 1 << 30))
def test_of_equal_spans_the_first_in_the_text_goes_before(case: Case, options: dict[str, Any], seed: int) -> None:
    fill(case, seed, scale=1.0, whole=True)
    agree(rank(case, **options), reference(case, **options))


@given(
    words=st.lists(st.integers(1, 2), min_size=30, max_size=120),
    options=st.fixed_dictionaries(
        {
            "top_k": st.integers(1, 3),
            "max_answer_len": st.integers(1, 3),
            "align_to_words": st.booleans(),
            "handle_impossible_answer": st.booleans(),
        }
    ),
    seed=st.integers(0, 1 << 30),
    pool=st.integers(1, 40),
)
def test_letting_hopeless_candidates_go_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, words: list[int], options: dict[str, Any], seed: int, pool: int
) -> None:
    case = fill(make(words, room_for_text=9, overlap=4), seed)
    expected = reference(case, **options)
    assume(len({span.logit for span in expected}) == len(expected))
    monkeypatch.setattr(room, "_POOL", pool)
    agree(rank(case, **options), expected)


@pytest.mark.parametrize("room_for_text", [20, 200])
def test_where_all_good_answers_crowd_one_place_the_others_are_found(
    monkeypatch: pytest.MonkeyPatch, room_for_text: int
) -> None:
    """The worst for whoever lets candidates go: all that are better than the second answer overlap the first."""
    monkeypatch.setattr(room, "_POOL", 1)
    case = make([1] * 200, room_for_text=room_for_text, overlap=8)
    for window, (start, end), first in zip(case.windows, case.logits, case.first, strict=True):
        numbers = first + np.arange(len(window.text))
        part = slice(window.offset, window.offset + len(numbers))
        start[part] = np.select([numbers == 98, (numbers >= 94) & (numbers <= 102), numbers == 20], [11, 10, 9], -50)
        end[part] = np.select([numbers == 102, (numbers >= 98) & (numbers <= 106), numbers == 20], [11, 10, 9], -50)
    options = {"top_k": 2, "max_answer_len": 5}
    assert [span.logit for span in reference(case, **options)] == [22, 18]
    agree(rank(case, **options), reference(case, **options))


def test_a_long_word_that_is_good_in_many_ways_is_one_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_POOL", 1)
    case = make([1] * 10 + [40] + [1] * 60, room_for_text=200, overlap=0)
    ((start, end),) = case.logits
    start[:] = end[:] = -50
    start[4 + 10 : 4 + 50] = end[4 + 10 : 4 + 50] = np.linspace(5, 6, 40)
    start[4 + 3] = end[4 + 3] = 4
    found = rank(case, top_k=2, max_answer_len=4)
    assert [(span.start, span.end) for span in found] == [(30, 110), (9, 11)]
    agree(found, reference(case, top_k=2, max_answer_len=4))


def test_memory_does_not_grow_with_the_text() -> None:
    case = fill(make([1] * 256, room_for_text=256, overlap=0), seed=1)
    (window,), ((start, end),) = case.windows, case.logits
    ranker = SpanRanker(top_k=3, max_answer_len=30)

    def add(count: int) -> int:
        tracemalloc.reset_peak()
        for _ in range(count):
            ranker.add(window, start, end)
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        early = add(60)
        assert add(240) < 1.2 * early
    finally:
        tracemalloc.stop()


def test_candidates_are_not_sorted_at_every_window(monkeypatch: pytest.MonkeyPatch) -> None:
    case = fill(make([1] * 600, room_for_text=20, overlap=5), seed=2)
    sort, sorts = np.lexsort, []
    monkeypatch.setattr(np, "lexsort", lambda *arguments: sorts.append(1) or sort(*arguments))
    monkeypatch.setattr(room, "_POOL", 100)
    agree(rank(case, top_k=10, max_answer_len=4), reference(case, top_k=10, max_answer_len=4))
    assert len(sorts) < len(case.windows) / 2


@given(case=cases, seed=st.integers(0, 1 << 30), impossible=st.booleans())
def test_scores_are_a_distribution(case: Case, seed: int, impossible: bool) -> None:
    fill(case, seed)
    found = rank(case, top_k=1000, max_answer_len=1, align_to_words=False, handle_impossible_answer=impossible)
    assert [s.score for s in found] == sorted((s.score for s in found), reverse=True)
    assert all(0 <= s.score <= 1 for s in found)
    if case.windows:  # nothing overlaps: these are all candidates, and their scores are everything
        assert len(found) == len(case.text) + impossible
        assert sum(s.score for s in found) == pytest.approx(1, abs=1e-5)


@given(case=cases, options=options, seed=st.integers(0, 1 << 30))
def test_answers_do_not_overlap_and_come_best_first(case: Case, options: dict[str, Any], seed: int) -> None:
    found = rank(fill(case, seed), **options)
    assert [s.score for s in found] == sorted((s.score for s in found), reverse=True)
    assert sum(s.score for s in found) <= 1 + 1e-6
    spans = sorted((s.start, s.end) for s in found if s.end)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


@pytest.mark.parametrize("tokens", [1, 5, 40])
@pytest.mark.parametrize("top_k", [1, 3, 17, 100])
def test_top_k_answers_come_wherever_there_are_that_many(
    monkeypatch: pytest.MonkeyPatch, tokens: int, top_k: int
) -> None:
    monkeypatch.setattr(room, "_POOL", 4)
    case = fill(make([1] * tokens, room_for_text=7, overlap=3), seed=tokens)
    found = rank(case, top_k=top_k, max_answer_len=1)
    assert len(found) == min(top_k, tokens)
    assert len({(s.start, s.end) for s in found}) == len(found)


def test_a_span_in_two_windows_counts_once_with_the_better_of_its_logits() -> None:
    case = make([1] * 8, room_for_text=6, overlap=4)
    assert case.first == [0, 2]
    for (start, end), value in zip(case.logits, (1.0, 5.0), strict=True):
        start[:] = end[:] = -9
        at = 4 + 3 - (0 if value == 1 else 2)  # the fourth token of the text, in each window
        start[at] = end[at] = value
    found = rank(case, top_k=2, max_answer_len=1)
    assert (found[0].start, found[0].logit) == (9, 10.0)
    assert found[0].score == pytest.approx(1, abs=1e-6)


def test_a_span_that_no_window_holds_whole_is_no_candidate() -> None:
    case = make([1] * 8, room_for_text=4, overlap=0)
    case.logits[0][0][4 + 3] = 50  # starts at the last token of the first window
    case.logits[1][1][4 + 0] = 50  # ends at the first token of the second
    (found,) = rank(case, max_answer_len=8)
    assert found.logit == 50


@pytest.mark.parametrize("longest", [1, 2, 5])
def test_an_answer_is_at_most_so_long(longest: int) -> None:
    case = make([1] * 10, room_for_text=10, overlap=0)
    start, end = case.logits[0]
    start[4 + 2], end[4 + 2 + longest] = 50, 50  # one token too long
    (found,) = rank(case, max_answer_len=longest)
    assert found.logit == 50
    end[4 + 2 + longest - 1] = 50
    (found,) = rank(case, max_answer_len=longest)
    assert found.logit == 100
    assert (found.start, found.end) == (6, 6 + 3 * longest - 1)


def test_an_answer_never_ends_before_it_begins_or_lies_in_question_or_padding() -> None:
    case = make([1] * 5, room_for_text=10, overlap=0, padding=4)
    start, end = case.logits[0]
    start[[0, 1, 2, 3, 9, 10, 11, 12, 13]] = 90
    end[[0, 1, 2, 3, 9, 10, 11, 12, 13]] = 90
    start[4 + 3], end[4 + 1] = 20, 20
    (found,) = rank(case)
    assert found.logit == 20
    assert found.end > found.start


def test_answers_are_stretched_to_words_or_not() -> None:
    case = make([1, 3, 1], room_for_text=9, overlap=0)
    start, end = case.logits[0]
    start[4 + 2] = end[4 + 2] = 9  # the middle token of the second word
    assert rank(case, align_to_words=False)[0][:2] == (5, 7)
    assert rank(case)[0][:2] == (3, 9)
    assert rank(case)[0].score == rank(case, align_to_words=False)[0].score


def test_a_word_cut_by_a_window_is_stretched_all_the_same() -> None:
    case = make([4, 4], room_for_text=6, overlap=1)
    case.logits[0][0][4 + 5] = case.logits[0][1][4 + 5] = 9  # the last token of the first window
    assert rank(case)[0][:2] == (9, 17)


@pytest.mark.parametrize("align", [True, False])
def test_an_answer_may_begin_with_the_space_of_its_word_but_not_with_a_word_of_spaces(align: bool) -> None:
    case = make([1, 3, 1], room_for_text=9, overlap=0)  # ab cdefgh ij, of which cd and ij shall be spaces
    text = case.windows[0].text
    text.start[1] = text.word_start[1:4] = text.end[1]
    text.word_start[4] = text.start[4] = text.end[4]
    (start, end), offset = case.logits[0], case.windows[0].offset
    start[offset + 4], start[offset + 1], end[offset + 3], end[offset + 4] = 9, 5, 5, 9
    ranker = SpanRanker(top_k=2, max_answer_len=5, align_to_words=align)
    ranker.add(case.windows[0], start, end)
    (best, *rest) = ranker.ranked()
    assert (best.start, best.end, best.logit) == (5, 9, 10)
    assert all(span.start < span.end for span in rest)


def test_a_span_is_weighed_against_no_answer_in_its_own_window() -> None:
    case = make([1] * 12, room_for_text=6, overlap=0)
    for (start, end), null in zip(case.logits, (4.0, 1.0), strict=True):
        start[0] = end[0] = null
    start, end = case.logits[1]
    start[4] = end[4] = 1.5
    found = rank(case, top_k=2, handle_impossible_answer=True)
    assert [(s.start, s.end, s.logit) for s in found] == [(18, 20, 3.0), (0, 0, 2.0)]
    assert found[0].null == 2.0
    assert [(s.start, s.end) for s in rank(case, top_k=2)] == [(18, 20), (21, 23)]
    start, end = case.logits[0]
    start[4] = end[4] = 3.5  # the greatest logit, in a window that rather has no answer
    (best,) = rank(case, handle_impossible_answer=True)
    assert (best.start, best.end, best.logit) == (18, 20, 3.0)
    start, end = case.logits[1]
    start[4] = end[4] = 0.5
    (best,) = rank(case, handle_impossible_answer=True)
    assert (best.start, best.end, best.logit) == (0, 0, 2.0)


def test_no_answer_must_exceed_the_best_span_by_more_than_the_threshold() -> None:
    case = make([1] * 6, room_for_text=9, overlap=0)
    ((start, end),) = case.logits
    start[0] = end[0] = 2.0
    start[4] = end[4] = 1.0

    def best(threshold: float) -> Span:
        (span,) = rank(case, handle_impossible_answer=True, no_answer_threshold=threshold)
        return span

    assert (best(1.99).end, best(1.99).logit) == (0, 4.0)  # the logit stays as it is
    assert (best(2.0).end, best(2.0).logit) == (2, 2.0)  # of equals, no answer comes last
    assert best(-3.0).score > best(1.0).score
    assert best(1e9).score == pytest.approx(rank(case)[0].score)
    assert rank(case, no_answer_threshold=-1e9) == rank(case)  # without handle_impossible_answer it says nothing


@pytest.mark.parametrize("size", [1.0, 1000.0])
def test_scores_are_computed_in_double_precision(size: float) -> None:
    case = make([1, 1], room_for_text=9, overlap=0)
    start, _ = case.logits[0]
    start[4:6] = [size + 0.7, size + 0.1]
    found, expected = rank(case, top_k=2, max_answer_len=1), reference(case, top_k=2, max_answer_len=1)
    assert [s.score for s in found] == pytest.approx([s.score for s in expected], rel=1e-9)


def test_a_text_without_tokens_has_no_answer() -> None:
    for impossible in (False, True):
        assert SpanRanker(top_k=3, max_answer_len=30, handle_impossible_answer=impossible).ranked() == []


def test_ranking_again_gives_the_same_and_more_can_be_added_later() -> None:
    case = fill(make([1] * 20, room_for_text=8, overlap=3), seed=4)
    ranker = SpanRanker(top_k=3, max_answer_len=4)
    for window, (start, end) in zip(case.windows, case.logits, strict=True):
        ranker.add(window, start, end)
        ranker.ranked()
    assert ranker.ranked() == ranker.ranked()
    agree(ranker.ranked(), reference(case, top_k=3, max_answer_len=4))


def test_enormous_logits_give_sound_scores() -> None:
    case = make([1] * 4, room_for_text=9, overlap=0)
    start, end = case.logits[0]
    start[4:8] = [3e4, -3e4, 1e4, 2e4]
    end[4:8] = [3e4, -3e4, 1e4, 2e4]
    found = rank(case, top_k=4)
    assert found[0].score == 1
    assert all(np.isfinite(s.score) and np.isfinite(s.logit) for s in found)


@pytest.mark.parametrize("options", [{"top_k": 0}, {"top_k": -3}, {"max_answer_len": 0}, {"max_answer_len": -1}])
def test_options_out_of_range_are_refused_by_name(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be at least 1"):
        SpanRanker(**{"top_k": 1, "max_answer_len": 30} | options)
