"""What our pipeline does otherwise than transformers' on purpose, and how to do without it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any


@contextlib.contextmanager
def replaced(owner: Any, **values: Any) -> Iterator[None]:
    before = {name: getattr(owner, name) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    yield
    for name, value in before.items():
        setattr(owner, name, value)


@contextlib.contextmanager
def words_cut_at_edges(pipe: Any) -> Iterator[None]:
    import numpy as np

    from dynamic_tinybert.compat import transformers
    from dynamic_tinybert.compat.transformers_ranking import WindowRanker

    class Cutting(WindowRanker):
        def add(self, window: Any, start: Any, end: Any) -> None:
            text = window.text
            begins, ends = np.maximum(text.word_start, text.start[0]), np.minimum(text.word_end, text.end[-1])
            super().add(replace(window, text=replace(text, word_start=begins, word_end=ends)), start, end)

    with replaced(transformers, WindowRanker=Cutting):
        yield


def characters_cut(pipe: Any) -> Any:
    from dynamic_tinybert.inference import tokenizer

    def no_marks(text: str, offsets: Any) -> Any:
        return offsets[:, 0] < 0

    return replaced(tokenizer, keep_characters_whole=lambda *_: None, marks_of_the_token_before=no_marks)


def words_with_punctuation(pipe: Any) -> Any:
    return replaced(pipe.model.reader.tokenizer, _splits_punctuation=True)


@contextlib.contextmanager
def answers_with_space(pipe: Any) -> Iterator[None]:
    from dynamic_tinybert.compat import transformers_ranking
    from dynamic_tinybert.inference import tokenizer

    def all_of_them(window: Any, start: Any, end: Any, **_: Any) -> Any:
        inside = slice(window.offset, window.offset + len(window.text))
        return start[inside], end[inside]

    def plain_spaces(text: str, offsets: Any) -> None:
        """As RoBERTa's post-processor has it: line breaks are characters like others."""
        for i, (begin, end) in enumerate(offsets.tolist()):
            token = text[begin:end]
            offsets[i, 0] = min(end, begin + len(token) - len(token.lstrip(" ")))
            offsets[i, 1] = max(offsets[i, 0], end - (len(token) - len(token.rstrip(" "))))

    with replaced(tokenizer, leave_spaces=plain_spaces), replaced(transformers_ranking, text_logits=all_of_them):
        yield


def no_token_types(pipe: Any) -> Any:
    runtime = pipe.model.reader.runtime
    run = runtime.run
    return replaced(runtime, run=lambda ids, types, mask, lengths: run(ids, 0 * types, mask, lengths))


PURPOSES: dict[str, Callable[[Any], Any]] = {  # what is different on purpose, and how to do without it
    "a word at the edge of a window": words_cut_at_edges,
    "half a character": characters_cut,
    "punctuation at the end of a word": words_with_punctuation,
    "white space as an answer or its end": answers_with_space,
    "token types": no_token_types,
}
