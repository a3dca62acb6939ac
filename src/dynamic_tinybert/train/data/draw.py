"""Decide which questions a setting changes, and seed its draws for them."""

from __future__ import annotations

import random


def drawn(share: float, setting: str, seed: int, question: str) -> random.Random | None:
    """Return a generator for a question if the question is in the share; otherwise None.

    Args:
        share: The probability with which each question is in the share, in [0, 1].
        setting: The name of the setting.
        seed: The seed of the recipe.
        question: The id of the question.
    """
    if share <= 0:
        return None
    draw = random.Random(f"{seed} {setting} {question}")
    return draw if draw.random() < share else None
