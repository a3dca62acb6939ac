"""The Pareto front of cost against F1, and its hypervolume."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]
"""Cost (lower is better) and F1 in percent (higher is better)."""


def pareto_front(points: Sequence[Point]) -> list[int]:
    """Return the indices of the points on the Pareto front, the cheapest first.

    A point beats another if it costs no more and its F1 is at least as high. Of equal points, the first stays.
    """
    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i)):
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front


def cover(points: Sequence[Point], most: int) -> list[int]:
    """Return the indices of at most `most` points of the front, the cheapest first: those that cover it best.

    The cheapest point and the one with the best F1 stay. Between them, the points left out lessen the area that the
    front dominates as little as possible; this subset is found exactly, by dynamic programming (Auger et al., 2009).

    Args:
        points: Cost and F1 in percent.
        most: How many points, at least 1; with 1, only the one with the best F1 stays.

    Raises:
        ValueError: `most` is less than 1.
    """
    if most < 1:
        raise ValueError(f"most must be at least 1, not {most}")
    front = pareto_front(points)
    if len(front) <= most:
        return front
    if most == 1:
        return front[-1:]
    costs, f1s = zip(*(points[i] for i in front), strict=True)
    gained = [
        0.0,
        *itertools.accumulate(c * (b - a) for c, (a, b) in zip(costs[1:], itertools.pairwise(f1s), strict=True)),
    ]

    def left_out(i: int, j: int) -> float:
        """Return the area that is lost if none between i and j stays."""
        return float(costs[j] * (f1s[j - 1] - f1s[i]) - (gained[j - 1] - gained[i]))

    # lost[j]: the least area lost by a choice that ends with front[j], and the choice; one point longer in each round
    lost: dict[int, tuple[float, list[int]]] = {0: (0.0, [0])}
    for _ in range(most - 1):
        lost = {
            j: min((area + left_out(i, j), [*chosen, j]) for i, (area, chosen) in lost.items() if i < j)
            for j in range(min(lost) + 1, len(front))
        }
    return [front[j] for j in lost[len(front) - 1][1]]


def hypervolume(points: Sequence[Point], reference: Point = (1.0, 0.0)) -> float:
    """Return the area that the points' Pareto front dominates (Zitzler and Thiele, 1999), with F1 from 0 to 1.

    Args:
        points: Cost and F1 in percent.
        reference: The cost and F1 that a point must beat to count; by default the cost of `full` and an F1 of 0.

    Returns:
        The area; 0 if no point is better than the reference in both. At the default reference it is at most 1.
    """
    inside = [point for point in points if point[0] < reference[0] and point[1] > reference[1]]
    area, best = 0.0, reference[1]
    for i in pareto_front(inside):
        cost, f1 = inside[i]
        area += (reference[0] - cost) * (f1 - best) / 100
        best = f1
    return area
