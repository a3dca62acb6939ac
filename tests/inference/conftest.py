"""The embedded model's tokenizer, as ours and as the library's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from dynamic_tinybert.inference import TextTokenizer


@pytest.fixture(scope="module")
def tokenizer(embedded: Path) -> TextTokenizer:
    return TextTokenizer(embedded)


@pytest.fixture(scope="module")
def plain(embedded: Path) -> Tokenizer:
    """The tokenizers library's own, as transformers uses it."""
    return Tokenizer.from_file(str(embedded / "tokenizer.json"))
