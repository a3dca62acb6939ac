"""What tests of budgets and of tables share."""

from __future__ import annotations

from typing import Any

import pytest

from dynamic_tinybert.model import BudgetError


def refused(call: Any, *args: Any) -> str:
    """Demand one line of explanation for the user, and return it."""
    with pytest.raises(BudgetError) as caught:
        call(*args)
    line = str(caught.value)
    assert line
    assert "\n" not in line
    return line
