"""The Pareto front of cost against F1, and its hypervolume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]
"""Cost, less is better, and F1 in percent, more is better."""


def pareto_front(points: Sequence[Point]) -> list[int]:
    """Return the indices of the points that none beats, the cheapest first.

    A point is beaten by one that costs no more and is at least as good. Of equal points, the first stays.
    """
    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i)):
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front


def hypervolume(points: Sequence[Point], reference: Point = (1.0, 0.0)) -> float:
    """Return the area that the points' front dominates (Zitzler and Thiele, 1999), F1 counted from 0 to 1.

    Args:
        points: Cost and F1 in percent.
        reference: The cost and F1 beyond which nothing counts; by default the cost of `full`, and no F1 at all.

    Returns:
        0, if no point is better than the reference in both, up to 1.
    """
    inside = [point for point in points if point[0] < reference[0] and point[1] > reference[1]]
    area, best = 0.0, reference[1]
    for i in pareto_front(inside):
        cost, f1 = inside[i]
        area += (reference[0] - cost) * (f1 - best) / 100
        best = f1
    return area
