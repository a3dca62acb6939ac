"""Checks of numbers, which name what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from dynamic_tinybert.errors import check_from_one, whole_number


def test_a_whole_number_of_any_type_is_an_int() -> None:
    assert [type(whole_number(value, "n")) for value in (3, np.int64(3), np.uint8(3))] == [int] * 3
    assert whole_number(0, "n", least=0) == 0


@pytest.mark.parametrize("value", [True, 1.0, "1", None])
def test_what_is_no_whole_number_is_refused_by_name(value: object) -> None:
    with pytest.raises(ValueError, match=f"^n must be a whole number, not {value!r}$"):
        whole_number(value, "n")
    with pytest.raises(ValueError, match=f"^n must be a whole number from 1, not {value!r}$"):
        check_from_one(m=1, n=value)


def test_a_number_below_the_least_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="n must be at least 5, not 4"):
        whole_number(4, "n", least=5)
    with pytest.raises(ValueError, match="n must be a whole number from 1, not 0"):
        check_from_one(n=0)
