"""Which features form a batch."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_tinybert.train.batches import LengthGrouped, TokenBatches, cut_batches

LENGTHS = st.lists(st.integers(1, 50), max_size=60)


@given(LENGTHS, st.integers(1, 200), st.integers(0, 5))
def test_token_batches_hold_each_feature_once_within_the_limit(lengths: list[int], tokens: int, epoch: int) -> None:
    batches = TokenBatches(lengths, tokens, seed=3)
    batches.set_epoch(epoch)
    found = list(batches)
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    assert len(found) == len(batches)
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= tokens


def test_cut_batches_by_hand() -> None:
    assert cut_batches([], 10) == []
    assert cut_batches([30], 10) == [1]
    assert cut_batches([2, 2, 3, 3, 10, 11], 9) == [3, 4, 5, 6]
    assert cut_batches([5, 5, 5], 10) == [2, 3]


def test_token_batches_take_as_much_as_they_may_and_pad_almost_nothing() -> None:
    draw = random.Random(0)
    lengths = [draw.randint(40, 384) for _ in range(5000)]
    found = list(TokenBatches(lengths, 4096, seed=0))
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in found)
    assert sum(lengths) / padded > 0.99
    assert padded / len(found) > 0.9 * 4096


def test_token_batches_come_in_another_order_and_company_at_each_epoch_and_in_the_same_again() -> None:
    lengths = [10] * 40 + [20] * 40

    def epoch(number: int, seed: int = 0) -> list[list[int]]:
        batches = TokenBatches(lengths, 100, seed)
        batches.set_epoch(number)
        return list(batches)

    assert epoch(1) == epoch(1)
    assert epoch(0) != epoch(1)
    assert epoch(0) != epoch(0, seed=1)
    assert {frozenset(batch) for batch in epoch(0)} != {frozenset(batch) for batch in epoch(1)}


@pytest.mark.parametrize("tokens", [1, 10])
def test_token_batches_of_nothing_are_none(tokens: int) -> None:
    assert list(TokenBatches([], tokens, seed=0)) == []


def test_a_feature_longer_than_the_limit_is_a_batch_by_itself() -> None:
    assert sorted(sorted(batch) for batch in TokenBatches([5, 300, 5], 20, seed=0)) == [[0, 2], [1]]


def test_length_grouped_gives_each_feature_once() -> None:
    sampler = LengthGrouped([3, 1, 2] * 20, 8, seed=0)
    assert sorted(sampler) == list(range(60))


@given(LENGTHS, st.integers(1, 200), st.integers(1, 5))
def test_token_batches_of_several_processes_are_all_batches(lengths: list[int], tokens: int, processes: int) -> None:
    shares = [TokenBatches(lengths, tokens, seed=3, process=i, processes=processes) for i in range(processes)]
    found = [list(share) for share in shares]
    assert {len(one) for one in found} == {len(shares[0])}  # or a process would wait for ever
    whole = {tuple(batch) for batch in TokenBatches(lengths, tokens, seed=3)}
    assert {tuple(batch) for one in found for batch in one} == whole
    assert sum(map(len, found)) - len(whole) < processes
