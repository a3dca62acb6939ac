"""The output of a batch: its lines, and its file, which a run only appends to and can resume."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from filelock import lock_descriptor

from dynamic_tinybert.batch.records import BadLine, Question, Record
from dynamic_tinybert.errors import DynamicTinyBertError
from dynamic_tinybert.files import LineError, parse_object

if TYPE_CHECKING:
    from types import TracebackType

_LONGEST_ANSWER = 1 << 28  # bytes of an answer's line
_SKIPPED = 1000  # lines between two reports of progress while existing answers are checked


class BatchError(DynamicTinyBertError):
    """A run cannot start or continue. The message is one line that says why."""


class Line(NamedTuple):
    """A complete line of the output, and whether it is an answer."""

    content: bytes
    good: bool


def encode(record: Question | BadLine, fields: Mapping[str, Any]) -> bytes:
    """Return the line of the output with these fields for a record."""
    head = _head(record)
    row = head | dict(fields) | head
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _head(record: Question | BadLine) -> dict[str, Any]:
    """Return the fields of an output line that identify its question, its text and the options of the run."""
    if isinstance(record, BadLine):
        return {"id": record.id}
    head: dict[str, Any] = {"id": record.id} if record.named else {"id": record.id, "question": record.question}
    return {**head, "digest": record.digest} if record.digest else head


def _heads(record: Question | BadLine) -> list[dict[str, Any]]:
    head = _head(record)
    return [head, {name: value for name, value in head.items() if name != "digest"}]


def encode_error(record: Question | BadLine, error: str) -> bytes:
    """Return the line of the output for a record that has no answer."""
    plain = " ".join(error.split()).encode(errors="backslashreplace").decode()
    return encode(record, {"error": plain})


def pass_over_answered(
    records: Iterator[Question | BadLine], output: Output, questions: str, skipped: Callable[[int], None]
) -> tuple[Iterator[Question | BadLine], int, int]:
    """Skip the records whose answers are in the output. From time to time, call `skipped` with the end of the last one.

    In errors, `questions` names the file of the records.

    Returns:
        The remaining records, the number of skipped records, and how many of these have an error in the output.

    Raises:
        BatchError: The output has answers to other questions.
    """
    count = failed = 0
    for line in output.lines():
        record = next(records, None)
        if record is None:
            raise BatchError(f"{output.path} has more answers than {questions} has questions: name another --out")
        if not line.endswith(b"\n"):
            # The beginnings of the line, with and without a digest, without the bracket and the end of the line.
            begins = [json.dumps(head, ensure_ascii=False).encode()[:-1] for head in _heads(record)]
            if len(line) == _LONGEST_ANSWER or not any(begin.startswith(line[: len(begin)]) for begin in begins):
                raise _no_answer(output.path, count + 1, record, questions)
            output.cut(len(line))
            return itertools.chain([record], records), count, failed
        count += 1
        head, good = _read_answer(line)
        expected = _head(record)
        digests = head.pop("digest", None), expected.pop("digest", None)
        if not good and head == {"id": record.id} and digests[0] is None and digests[1] is not None:
            raise BatchError(
                f"{output.path} has in its line {count} the error of a line that was no question; line {record.line} "
                f"of {questions} is one now: name another --out"
            )
        if isinstance(record, BadLine) and digests[0] is not None:
            raise _no_answer(output.path, count, record, questions)
        if json.dumps(head) != json.dumps(expected):
            raise _no_answer(output.path, count, record, questions)
        if None not in digests and digests[0] != digests[1]:
            raise BatchError(
                f"{output.path} belongs to another run: its line {count} is of another question, text or option than "
                f"line {record.line} of {questions} now; name another --out"
            )
        failed += not good
        if count % _SKIPPED == 0:
            skipped(record.end)
    return records, count, failed


def _read_answer(line: bytes) -> tuple[dict[str, Any], bool]:
    """Return the fields of an output line that identify its question, and whether the line is an answer."""
    try:
        value = parse_object(line, constants=False)
    except LineError:
        return {}, False
    return {name: value[name] for name in ("id", "question", "digest") if name in value}, "error" not in value


def _no_answer(path: Path, number: int, record: Record, questions: str) -> BatchError:
    return BatchError(
        f"{path} belongs to other questions: its line {number} does not answer {record.id!r:.60}, line {record.line} "
        f"of {questions}; name another --out"
    )


class Stream:
    """A stream of answers, such as standard output. It cannot be resumed."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the stream open for its owner."""

    def write(self, content: bytes) -> None:
        """Write complete lines, and pass them on.

        Raises:
            OSError: The stream cannot take them now, or never.
        """
        rest = memoryview(content)
        while rest:
            written = self._stream.write(rest)
            if written is None:  # by a raw stream that does not block
                raise BlockingIOError(errno.EAGAIN, "the stream cannot take more now")
            rest = rest[written:]
        self._stream.flush()


class Output:
    """The file of answers. Only one process at a time writes it.

    Raises:
        BatchError: The file has answers and `resume` is false, another process is writing it, or it is not regular.
        OSError: The file cannot be written.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        try:
            state = os.fstat(self._file)
            if not stat.S_ISREG(state.st_mode):
                raise BatchError(
                    f"{path} is not a regular file, so it cannot be resumed: name a file, or - for standard output"
                )
            self._lock()
            if os.fstat(self._file).st_size and not resume:
                raise BatchError(f"{path} is not empty: add --resume to continue it, or name another --out")
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.nullcontext() if error is not None else self._named():
            os.close(self._file)

    def lines(self) -> Iterator[bytes]:
        r"""Yield the existing lines. A line without `\n` at its end is the last one and incomplete, or too long."""
        with open(self._file, "rb", closefd=False) as file:
            while line := file.readline(_LONGEST_ANSWER):
                yield line

    def cut(self, size: int) -> None:
        """Remove `size` bytes from the end."""
        with self._named():
            os.ftruncate(self._file, os.fstat(self._file).st_size - size)

    def write(self, content: bytes) -> None:
        """Append complete lines, and pass them to the operating system."""
        rest = memoryview(content)
        with self._named():
            while rest:
                rest = rest[os.write(self._file, rest) :]

    def _lock(self) -> None:
        """Lock the file until this process ends, even by a kill, if the file system has locks."""
        with contextlib.suppress(OSError):  # the file system has no locks
            if not lock_descriptor(self._file, blocking=False):
                raise BatchError(f"another run is writing {self.path}: wait for it, or name another --out")

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise type(error)(error.errno, error.strerror, str(self.path)) from None
