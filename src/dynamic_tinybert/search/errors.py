"""The error that a search raises."""

from __future__ import annotations

from dynamic_tinybert.errors import DynamicTinyBertError


class SearchError(DynamicTinyBertError, ValueError):
    """A search cannot start or continue; the message says in one line why, and what to do."""

    misuse = True
