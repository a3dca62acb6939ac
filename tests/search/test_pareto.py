"""The Pareto front and its hypervolume."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_tinybert.search import cover, hypervolume, pareto_front

points = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 100)), max_size=12)


def test_the_front_by_hand() -> None:
    #          full         beaten       cheapest     same cost, worse  the same again  equal F1, dearer
    given_ = [(1.0, 70.0), (0.9, 40.0), (0.2, 10.0), (0.2, 9.0), (0.5, 50.0), (0.5, 50.0), (0.6, 50.0)]
    assert pareto_front(given_) == [2, 4, 0]
    assert pareto_front([]) == []


@given(points)
def test_the_front_is_what_nothing_beats(given_: list[tuple[float, float]]) -> None:
    front = pareto_front(given_)
    for i, (cost, f1) in enumerate(given_):
        beaten = any(c <= cost and f >= f1 and (c, f) != (cost, f1) for c, f in given_)
        assert beaten == ((cost, f1) not in [given_[j] for j in front]), i
    assert [given_[i] for i in front] == sorted({given_[i] for i in front})


def test_hypervolume_by_hand() -> None:
    # Between cost 0.2 and 0.5 at F1 10, from there to 1 at F1 50; full costs what the reference does, and adds nothing.
    assert hypervolume([(0.5, 50), (0.2, 10), (1.0, 70)]) == pytest.approx(0.3 * 0.1 + 0.5 * 0.5)
    assert hypervolume([(0.5, 50), (0.6, 40), (0.5, 50)]) == pytest.approx(0.25)
    assert hypervolume([(0.0, 100)]) == 1
    assert hypervolume([]) == hypervolume([(1.0, 70)]) == hypervolume([(0.5, 0)]) == hypervolume([(1.3, 90)]) == 0
    assert hypervolume([(1.0, 50)], reference=(2.0, 25.0)) == pytest.approx(0.25)


@given(points, st.tuples(st.floats(0, 1), st.floats(0, 100)))
def test_another_point_never_lessens_it(given_: list[tuple[float, float]], other: tuple[float, float]) -> None:
    assert hypervolume([*given_, other]) >= hypervolume(given_) - 1e-12


def test_it_agrees_with_optunas() -> None:
    np = pytest.importorskip("numpy")
    internal = pytest.importorskip("optuna._hypervolume")
    given_ = [(0.1 * i + 0.03, (37.0 * i) % 71) for i in range(9)]
    losses = np.array([[cost, -f1 / 100] for cost, f1 in given_])
    losses = losses[losses[:, 1] < 0]
    assert hypervolume(given_) == pytest.approx(internal.compute_hypervolume(losses, np.array([1.0, 0.0])))


def test_cover_by_hand() -> None:
    # 0.5 and 0.51 are nearly alike; without 0.3 most of the area would be lost.
    given_ = [(0.2, 10.0), (0.3, 50.0), (0.5, 60.0), (0.51, 60.1), (0.4, 20.0), (1.0, 70.0)]
    assert cover(given_, 12) == pareto_front(given_) == [0, 1, 2, 3, 5]
    assert cover(given_, 4) == [0, 1, 2, 5]
    assert cover(given_, 3) == [0, 1, 5]
    assert cover(given_, 2) == [0, 5]
    assert cover(given_, 1) == [5]
    assert cover([], 3) == []
    with pytest.raises(ValueError, match="most must be at least 1, not 0"):
        cover(given_, 0)


@given(points, st.integers(2, 5))
def test_no_other_choice_covers_more(given_: list[tuple[float, float]], most: int) -> None:
    chosen, front = cover(given_, most), pareto_front(given_)
    assert len(chosen) == min(most, len(front))
    assert set(chosen) <= set(front)
    if len(front) > most:
        assert (chosen[0], chosen[-1]) == (front[0], front[-1])
        reference = given_[front[-1]][0], given_[front[0]][1]

        def area(indices: tuple[int, ...] | list[int]) -> float:
            return hypervolume([given_[i] for i in indices], reference)

        others = itertools.combinations(front[1:-1], most - 2)
        assert area(chosen) >= max(area([front[0], *some, front[-1]]) for some in others) - 1e-9
