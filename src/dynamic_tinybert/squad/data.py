"""SQuAD files and prediction files, as their publishers lay them out (Rajpurkar et al., 2016 and 2018)."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from dynamic_tinybert.errors import DynamicTinyBertError

Version: TypeAlias = Literal["1.1", "2.0"]
_T = TypeVar("_T")

_MOST = 1e9  # not 1, since some files hold logits instead of probabilities
_GZIP_MAGIC = b"\x1f\x8b"
_KINDS: dict[type, str] = {str: "a string", list: "a list", bool: "true or false", int: "an integer"}


class SquadError(DynamicTinyBertError, ValueError):
    """A file or data set is not valid; the message says in one line what is wrong and where."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question about one paragraph.

    Attributes:
        id: Its id, unique in its file.
        title: The title of its article; empty if the file gives no title.
        question: The question.
        context: The paragraph.
        answers: The reference answers, repeated as in the file; empty if the paragraph has no answer (2.0 only).
        answer_starts: Where each answer starts in `context`, in characters; None if the file does not say.
        impossible: Whether the file says that the paragraph does not answer the question.
    """

    id: str
    title: str
    question: str
    context: str
    answers: tuple[str, ...]
    answer_starts: tuple[int | None, ...]
    impossible: bool


@dataclass(frozen=True)
class SquadFile:
    """The questions of a file, in its order, and the version of SQuAD whose rules score them."""

    version: Version
    questions: tuple[Question, ...]

    @property
    def has_impossible(self) -> bool:
        """Whether any question is impossible to answer."""
        return any(question.impossible for question in self.questions)


def read_squad(
    path: str | os.PathLike[str], *, limit: int | None = None, titles: Collection[str] | None = None
) -> SquadFile:
    """Read a SQuAD file, plain or gzipped; the file's name does not matter.

    The whole file is checked, and its version determined, before `titles` and `limit` select questions. The version is
    2.0 if the file's version starts with "v2" or "2", or any question has the key `is_impossible`; otherwise it is 1.1.
    An id may be an integer. A question of 2.0 may have no `answers`, or null; `is_impossible` may be 0 or 1.

    Args:
        path: The file.
        limit: Keep the first `limit` questions (of `titles`, if given).
        titles: Keep only the articles with these titles.

    Raises:
        SquadError: The file cannot be read; is not UTF-8, JSON or SQuAD; has two questions with the same id, or a
            question of 1.1 without an answer; a question is empty; no question is left; or `limit` is below 1.
    """
    file = os.fspath(path)
    if limit is not None and limit < 1:
        raise SquadError(f"{file}: the limit must be at least 1, not {limit}")
    data = _parse(_Node(_read_json(file), file))
    questions = data.questions
    if titles is not None:
        wanted = set(titles)
        questions = tuple(question for question in questions if question.title in wanted)
    if not questions:
        raise SquadError(f"{file}: no questions" + ("" if titles is None else " under the given titles"))
    return SquadFile(data.version, questions[:limit])


def read_predictions(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read a predictions file, plain or gzipped: a JSON object from question ids to answer texts.

    Raises:
        SquadError: The file cannot be read, is not UTF-8 or JSON, or is not an object of strings.
    """
    file = os.fspath(path)
    document = _Node(_read_json(file), file)
    return {id_: document.get(id_, str) for id_ in document.members()}


def read_na_probs(path: str | os.PathLike[str]) -> dict[str, float]:
    """Read a file of probabilities of no answer, plain or gzipped: a JSON object from question ids to numbers.

    Raises:
        SquadError: The file cannot be read, is not UTF-8 or JSON, or is not an object of finite numbers.
    """
    file = os.fspath(path)
    document = _Node(_read_json(file), file)
    found: dict[str, float] = {}
    for id_, value in document.members().items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _MOST:
            raise document.error(f"has {id_!r}, but it is not a number up to 1e9: {value!r:.50}")
        found[id_] = float(value)
    return found


@dataclass(frozen=True)
class _Node:
    """A JSON value with its place in the file, for error messages."""

    value: object
    file: str
    place: str = ""

    def error(self, complaint: str) -> SquadError:
        return SquadError(f"{self.file}: {self.place or 'the top level'} {complaint}")

    def members(self) -> dict[str, object]:
        if not isinstance(self.value, dict):
            raise self.error("is not an object")
        return self.value

    def get(self, key: str, kind: type[_T]) -> _T:
        members = self.members()
        if key not in members:
            raise self.error(f"has no {key!r}")
        value = members[key]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(f"has {key!r}, but it is not {_KINDS[kind]}")
        return value

    def items(self, key: str) -> Iterator[_Node]:
        for i, item in enumerate(self.get(key, list)):
            yield _Node(item, self.file, f"{self.place}.{key}[{i}]".lstrip("."))


def _parse(document: _Node) -> SquadFile:
    entries = list(_entries(document))
    declared = str(document.members().get("version")).removeprefix("v").startswith("2")
    version: Version = "2.0" if declared or any("is_impossible" in qa.members() for qa, _, _ in entries) else "1.1"
    questions: dict[str, Question] = {}
    for qa, title, context in entries:
        question = _question(qa, title, context, may_lack_answers=version == "2.0")
        if question.id in questions:
            raise qa.error(f"has the id {question.id!r} of an earlier question")
        if version == "1.1" and not question.answers:
            raise qa.error("has no answer, which SQuAD 1.1 requires")
        questions[question.id] = question
    return SquadFile(version, tuple(questions.values()))


def _entries(document: _Node) -> Iterator[tuple[_Node, str, str]]:
    """Yield every entry of `qas`, with its article's title and its paragraph's context."""
    for article in document.items("data"):
        title = article.get("title", str) if "title" in article.members() else ""
        for paragraph in article.items("paragraphs"):
            context = paragraph.get("context", str)
            for qa in paragraph.items("qas"):
                yield qa, title, context


def _question(qa: _Node, title: str, context: str, *, may_lack_answers: bool) -> Question:
    lacking = may_lack_answers and qa.members().get("answers") is None
    answers = [] if lacking else list(qa.items("answers"))
    whole = isinstance(qa.members().get("id"), int)
    id_ = str(qa.get("id", int)) if whole else qa.get("id", str)
    question = qa.get("question", str)
    if not question.strip():
        raise qa.error(f"has an empty question (id {id_!r:.80})")
    return Question(
        id=id_,
        title=title,
        question=question,
        context=context,
        answers=tuple(answer.get("text", str) for answer in answers),
        answer_starts=tuple(
            None if answer.members().get("answer_start") is None else answer.get("answer_start", int)
            for answer in answers
        ),
        impossible=_flag(qa, "is_impossible", default=not answers),
    )


def _flag(node: _Node, key: str, *, default: bool) -> bool:
    """Return a member that is true or false, or 1 or 0; the default if it is missing."""
    if node.members().get(key) in (0, 1):  # False and True are equal to them
        return bool(node.members()[key])
    return node.get(key, bool) if key in node.members() else default


def _read_json(file: str) -> object:
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise SquadError(f"{file}: cannot be read: {error.strerror}") from error
    if content.startswith(_GZIP_MAGIC):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise SquadError(f"{file}: is a damaged gzip file: {error}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SquadError(f"{file}: is not UTF-8: {error}") from error
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SquadError(f"{file}: is not JSON: {error}") from error
    return value
