"""What can go wrong in this room."""

from __future__ import annotations

from dynamic_tinybert.errors import DynamicTinyBertError


class SearchError(DynamicTinyBertError, ValueError):
    """A search that cannot be begun or gone on with; one line that says why, and what to do."""

    misuse = True
