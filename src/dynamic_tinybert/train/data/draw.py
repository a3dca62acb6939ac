"""Which questions a setting changes, and what it draws for them."""

from __future__ import annotations

import random


def drawn(share: float, setting: str, seed: int, question: str) -> random.Random | None:
    """Return what draws for a question if it is of the share; otherwise None.

    Args:
        share: The share of all questions, in [0, 1]; each question is of it with this probability.
        setting: The name of the setting.
        seed: The seed of the recipe.
        question: What tells the question from others: its id.
    """
    if share <= 0:
        return None
    draw = random.Random(f"{seed} {setting} {question}")
    return draw if draw.random() < share else None
