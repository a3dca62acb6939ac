"""A file of questions in, a file of answers out: on all cores, in bounded memory, resumable after any kill.

Both files are JSON Lines. The output is only ever appended to, a line for each question in the order of the input, so
that its whole lines say how far a run has come: a resumed run goes on after them. What it was answered with (model,
budget, index) is written nowhere, nor are the texts: a run is resumed with others at one's own risk.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import math
import os
import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeAlias

from dynamic_tinybert.answer import LogitsError
from dynamic_tinybert.errors import DynamicTinyBertError
from dynamic_tinybert.files.text import SURROGATE

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from types import TracebackType

    from dynamic_tinybert.corpus.corpus import Corpus
    from dynamic_tinybert.model import Budget
    from dynamic_tinybert.qa import QuestionAnswerer
    from dynamic_tinybert.runtime.graph import Precision

Id: TypeAlias = "str | int | float"
Progress: TypeAlias = Callable[[int, int, str], None]

CHUNK = 32  # questions that a thread takes at a time: see benchmarks/speed/batch.py
CORPUS_CHUNK = 4  # the same of a corpus, which answers one by one
LONGEST_LINE = 1 << 26  # bytes of a question's line

_CHUNK_CHARACTERS = 1 << 20  # of questions and texts, beyond which a chunk takes no more of them
_AHEAD = 4  # chunks for each worker that are read before the first of them is written ...
_AHEAD_CHARACTERS = 1 << 26  # ... unless they hold more than so many characters
_LONGEST_ANSWER = 1 << 28  # bytes of an answer's line
_PIECE = 1 << 20  # bytes of an overlong line that are skipped at a time
_SKIPPED = 1000  # lines between two reports of progress while answers are checked that are there already
_BOM = b"\xef\xbb\xbf"


class BatchError(DynamicTinyBertError):
    """A run that cannot begin or go on; one line that says why."""


class _LineError(ValueError):
    """A line that holds no question, and why."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A line of a file of questions.

    Attributes:
        line: Its number, from 1.
        id: What its answer is known by: the question's own id, or else the line's number.
        named: Whether the id is its own; where it is not, the question stands in its answer's line, too.
        end: Where the line ends, in bytes from the beginning of the file.
    """

    line: int
    id: Id
    named: bool
    end: int


@dataclass(frozen=True, kw_only=True)
class Question(Record):
    """A question, and the text to answer it from; empty where questions need none."""

    question: str
    text: str


@dataclass(frozen=True, kw_only=True)
class BadLine(Record):
    """A line that holds no question, and why, in one line that begins with the line's number."""

    error: str


Answering: TypeAlias = Callable[[Sequence[Question]], Sequence[Mapping[str, Any]]]
"""Answers questions: the fields of the answer to each, in order, as JSON has them. Called from many threads."""


class Line(NamedTuple):
    """A line of the output, whole, and whether it is an answer."""

    content: bytes
    good: bool


class Chunk(NamedTuple):
    """Lines of the input that are answered together, and the characters of their questions and texts."""

    records: Sequence[Question | BadLine]
    size: int

    @property
    def end(self) -> int:
        """Where its last line ends, in bytes from the beginning of the file."""
        return self.records[-1].end


class Done(NamedTuple):
    """The lines of the output for a chunk, and where it ends."""

    lines: Sequence[Line]
    end: int


Spread: TypeAlias = Callable[[Iterator[Chunk]], Generator[Done, None, None]]
"""Answers chunks wherever it likes, and yields all of them in order. It takes of them as it goes, not all at once."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run did.

    Attributes:
        answered: Questions that it answered.
        failed: Lines that it could not answer; theirs in the output say why.
        skipped: Lines whose answers were there already.
        failed_before: How many of those say why there is no answer.
        seconds: What it took.
    """

    answered: int
    failed: int
    skipped: int
    failed_before: int
    seconds: float


def from_texts(qa: QuestionAnswerer, *, budget: Budget = "full", top_k: int = 1) -> Answering:
    """Return what answers each question from its own text.

    The fields are those of `Answer.to_dict`; with `top_k` above 1, a list of such under `answers`.

    Args:
        qa: The model. One that uses a single thread serves many workers best.
        budget: What to spend: see `QuestionAnswerer.__call__`.
        top_k: How many answers to give.

    Raises:
        BudgetError: The budget makes no sense.
    """
    qa.table.select(qa.shape, budget)

    def answer(questions: Sequence[Question]) -> list[Mapping[str, Any]]:
        asked, texts = [q.question for q in questions], [q.text for q in questions]
        try:
            if top_k == 1:
                return [found.to_dict() for found in qa(asked, texts, budget=budget)]
            several = qa(asked, texts, budget=budget, top_k=top_k)
        except ValueError as error:  # of one question that is tried alone, its number among many says nothing
            raise ValueError(str(error).removesuffix(" (number 0)")) from error
        return [{"answers": [found.to_dict() for found in answers]} for answers in several]

    return answer


def from_corpus(
    corpus: Corpus, *, budget: Budget = "full", top_k: int = 1, max_latency_ms: float | None = None
) -> Answering:
    """Return what answers each question from a corpus.

    The fields are those of `CorpusAnswer.to_dict`; with `top_k` above 1, a list of such under `answers`. An index that
    cannot be used, now or in the middle of a run, is a `BatchError`.

    Args:
        corpus: The documents, and a model, which serves many workers best if it uses a single thread.
        budget: What to spend on a passage: see `QuestionAnswerer.__call__`.
        top_k: How many answers to give.
        max_latency_ms: Milliseconds that an answer may take.

    Raises:
        BatchError: The index cannot be used.
        BudgetError: The budget makes no sense.
    """
    from dynamic_tinybert.corpus.errors import CorpusError

    def one(question: str) -> Mapping[str, Any]:
        if top_k == 1:
            return corpus(question, budget=budget, max_latency_ms=max_latency_ms).to_dict()
        several = corpus(question, budget=budget, max_latency_ms=max_latency_ms, top_k=top_k)
        return {"answers": [found.to_dict() for found in several]}

    def answer(questions: Sequence[Question]) -> list[Mapping[str, Any]]:
        try:
            return [one(q.question) for q in questions]
        except CorpusError as error:
            raise BatchError(str(error)) from error

    try:
        corpus.counts()
    except CorpusError as error:
        raise BatchError(str(error)) from error
    corpus.qa.table.select(corpus.qa.shape, budget)
    return answer


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What questions are answered with, as words that can be sent to another process.

    Attributes:
        model: A name or a folder, as `QuestionAnswerer` takes it.
        precision: What it computes in.
        budget: What to spend: see `QuestionAnswerer.__call__`.
        top_k: How many answers to give.
        index: The folder of an index; without it each question brings its own text.
        max_latency_ms: Milliseconds that an answer from the index may take.
    """

    model: str = "embedded"
    precision: Precision = "fp32"
    budget: Budget = "full"
    top_k: int = 1
    index: str | None = None
    max_latency_ms: float | None = None

    @property
    def needs_text(self) -> bool:
        """Whether each question must bring its text."""
        return self.index is None

    @property
    def chunk(self) -> int:
        """Questions to take at a time."""
        return CHUNK if self.index is None else CORPUS_CHUNK

    def answering(self, qa: QuestionAnswerer) -> Answering:
        """Return what answers questions with the model, which is loaded already.

        Raises:
            BatchError: The index cannot be used.
            BudgetError: The budget makes no sense.
        """
        if self.index is None:
            return from_texts(qa, budget=self.budget, top_k=self.top_k)
        from dynamic_tinybert.corpus.corpus import Corpus

        corpus = Corpus(self.index, qa=qa)
        return from_corpus(corpus, budget=self.budget, top_k=self.top_k, max_latency_ms=self.max_latency_ms)


def answer_file(
    questions: Path,
    out: Path,
    answer: Answering,
    *,
    workers: int,
    chunk: int = CHUNK,
    resume: bool = False,
    needs_text: bool = True,
    progress: Progress | None = None,
) -> Summary:
    """Answer a file of questions into a file of answers, a line for each, in order.

    A line of the output is a JSON object of the question's `id` and the answer's fields, or of the `id` and an `error`:
    for a line that holds no question, and for one that `answer` refuses, tried alone. All others are answered. Where
    the `id` is the number of the line, the `question` stands there, too.

    After each chunk what is answered is handed to the system, so that a kill loses only what was being answered.

    Args:
        questions: The file of questions: see `read_questions`. It is read as it is needed, and may be a pipe.
        out: The file of answers.
        answer: Answers some questions at a time, from several threads at once. A ValueError is the fault of a question;
            whatever else it raises ends the run.
        workers: Threads that answer.
        chunk: Questions that a thread takes at a time at the most.
        resume: Go on after the whole lines that are in `out`, if there are any.
        needs_text: Each question must bring its text; or else texts are left aside.
        progress: Called with the bytes of `questions` that are done, those there are, and how fast it goes.

    Raises:
        BatchError: `out` holds answers already and they are not to be resumed, or answers to other questions; another
            run is writing it; it is no file.
        OSError: A file cannot be read or written; what was written until then can be resumed.
        ValueError: `workers` or `chunk` is below 1, or both files are one.
    """
    check_from_one(workers=workers, chunk=chunk)
    return run(
        questions,
        out,
        lambda chunks: _on_threads(chunks, answer, workers),
        chunk=chunk,
        resume=resume,
        needs_text=needs_text,
        progress=progress,
    )


def check_from_one(**numbers: int | None) -> None:
    """Raise ValueError for a number below 1; None stands for a default."""
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} is a whole number from 1, not {value!r}")


def run(
    questions: Path, out: Path, spread: Spread, *, chunk: int, resume: bool, needs_text: bool, progress: Progress | None
) -> Summary:
    """Answer a file of questions by whatever `spread` has at its service; see `answer_file`."""
    began = time.perf_counter()
    with questions.open("rb") as source:
        if out.exists() and out.samefile(questions):
            raise ValueError(f"{out} is the file of questions itself: give answers a file of their own")
        with _Output(out, resume=resume) as output:
            meter = _Meter(progress, os.fstat(source.fileno()).st_size)
            records = read_questions(source, needs_text=needs_text)
            rest, skipped, failed_before = _resumed(records, output, questions, meter)
            answered = failed = 0
            with contextlib.closing(spread(_chunks(rest, chunk))) as done:
                for lines, end in done:
                    output.write(b"".join(line.content for line in lines))
                    good = sum(line.good for line in lines)
                    answered, failed = answered + good, failed + len(lines) - good
                    meter.answered(end, len(lines))
            meter.finish()
    return Summary(
        answered=answered,
        failed=failed,
        skipped=skipped,
        failed_before=failed_before,
        seconds=time.perf_counter() - began,
    )


# Questions.


def read_questions(file: BinaryIO, *, needs_text: bool = True) -> Iterator[Question | BadLine]:
    r"""Yield the questions of a file of JSON Lines, one at a time, and what is in their place where a line holds none.

    A question is an object with `question`, perhaps an `id` (a string or a number; by default the number of the line),
    and its `text`, which may also be called `context`. Whatever else it has is left aside, as are blank lines. Lines
    end in `\n` and have 64 MiB at the most.

    Args:
        file: The file, in UTF-8.
        needs_text: Each question must bring its text; or else texts are left aside.
    """
    end = 0
    for number in itertools.count(1):
        line = file.readline(LONGEST_LINE + 1)
        if not line:
            return
        end += len(line)
        if len(line) > LONGEST_LINE:
            end += 0 if line.endswith(b"\n") else _skip_line(file)
            error = f"line {number}: has more than {LONGEST_LINE >> 20} MiB"
            yield BadLine(line=number, id=number, named=False, end=end, error=error)
            continue
        if number == 1:
            line = line.removeprefix(_BOM)
        if not line.isspace() and line:
            yield _record(line, number, end, needs_text)


def _skip_line(file: BinaryIO) -> int:
    """Read to the end of a line, and return how many bytes that was."""
    skipped = 0
    while piece := file.readline(_PIECE):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped


def _record(line: bytes, number: int, end: int, needs_text: bool) -> Question | BadLine:
    known: Id = number
    named = False
    try:
        value = _object(line)
        known, named = _id(value, number), value.get("id") is not None
        question = _string(value, "question")
        if not question.strip():
            raise _LineError("the question is empty")
        text = _text(value) if needs_text else ""
        return Question(line=number, id=known, named=named, end=end, question=question, text=text)
    except _LineError as error:
        return BadLine(line=number, id=known, named=named, end=end, error=f"line {number}: {error}")


def _refuse(constant: str) -> None:
    raise _LineError(f"is not JSON: {constant} is no number there")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = _DECODER.decode(line.decode("utf-8"))
    except _LineError:
        raise
    except UnicodeDecodeError as error:
        raise _LineError(f"is not UTF-8 (byte {error.start + 1:,} of {len(line):,})") from None
    except json.JSONDecodeError as error:
        raise _LineError(f"is not JSON: {error.msg} (character {error.pos + 1:,})") from None
    except ValueError:
        raise _LineError("holds a number of too many digits") from None
    except RecursionError:
        raise _LineError("is nested too deeply") from None
    if not isinstance(value, dict):
        raise _LineError('is no JSON object, as {"question": "...", "text": "..."}')
    return value


def _id(value: Mapping[str, Any], number: int) -> Id:
    known = number if value.get("id") is None else value["id"]
    if isinstance(known, str):
        return _encodable(known, "id")
    endless = isinstance(known, float) and not math.isfinite(known)
    if isinstance(known, bool) or not isinstance(known, (int, float)) or endless:
        raise _LineError("the id is neither a string nor a number")
    return known


def _string(value: Mapping[str, Any], name: str) -> str:
    if name not in value:
        raise _LineError(f"has no {name!r}")
    if not isinstance(value[name], str):
        raise _LineError(f"the {name} is no string")
    return _encodable(value[name], name)


def _text(value: Mapping[str, Any]) -> str:
    names = [name for name in ("text", "context") if name in value]
    if len(names) != 1:
        raise _LineError("has both 'text' and 'context'" if names else "has no 'text'")
    return _string(value, names[0])


def _encodable(text: str, name: str) -> str:
    if SURROGATE.search(text):
        raise _LineError(f"the {name} holds half a character (a lone surrogate)")
    return text


# Answers.


def _encode(record: Question | BadLine, fields: Mapping[str, Any]) -> bytes:
    head = _head(record)
    row = head | dict(fields) | head
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _head(record: Question | BadLine) -> dict[str, Any]:
    """What tells in a line of the output which question it answers."""
    if record.named or isinstance(record, BadLine):
        return {"id": record.id}
    return {"id": record.id, "question": record.question}


def _encode_error(record: Question | BadLine, error: str) -> bytes:
    plain = " ".join(error.split()).encode(errors="backslashreplace").decode()
    return _encode(record, {"error": plain})


def answer_lines(answer: Answering, records: Sequence[Question | BadLine]) -> list[Line]:
    """Return the lines of the output for some records."""
    answers = iter(_ask(answer, [record for record in records if isinstance(record, Question)]))
    return [
        next(answers) if isinstance(record, Question) else Line(_encode_error(record, record.error), False)
        for record in records
    ]


def _ask(answer: Answering, questions: Sequence[Question]) -> list[Line]:
    """Answer questions together; if that fails, one by one."""
    if not questions:
        return []
    try:
        found = answer(questions)
        if len(found) != len(questions):
            raise AssertionError(f"{len(found)} answers to {len(questions)} questions")
        return [Line(_encode(q, fields), True) for q, fields in zip(questions, found, strict=True)]
    except LogitsError:  # of a damaged model
        raise
    except ValueError as error:
        if len(questions) == 1:
            return [Line(_encode_error(questions[0], f"line {questions[0].line}: {error}"), False)]
    return [line for question in questions for line in _ask(answer, [question])]


# The road from one to the other.


def _on_threads(chunks: Iterable[Chunk], answer: Answering, workers: int) -> Generator[Done, None, None]:
    """Answer chunks on so many threads, and yield them in order."""
    waiting: deque[tuple[Chunk, Future[list[Line]]]] = deque()

    def first() -> Done:
        part, lines = waiting.popleft()
        return Done(lines.result(), part.end)

    pool = ThreadPoolExecutor(workers, thread_name_prefix="batch")
    try:
        for part in chunks:
            while waiting and (
                waiting[0][1].done()
                or len(waiting) >= _AHEAD * workers
                or sum(ahead.size for ahead, _ in waiting) + part.size > _AHEAD_CHARACTERS
            ):
                yield first()
            waiting.append((part, pool.submit(answer_lines, answer, part.records)))
        while waiting:
            yield first()
    finally:
        pool.shutdown(cancel_futures=True)


def _chunks(records: Iterable[Question | BadLine], most: int) -> Iterator[Chunk]:
    """Gather records, so many or so large at the most."""
    part: list[Question | BadLine] = []
    size = 0
    for record in records:
        part.append(record)
        size += len(record.question) + len(record.text) if isinstance(record, Question) else 0
        if len(part) == most or size >= _CHUNK_CHARACTERS:
            yield Chunk(part, size)
            part, size = [], 0
    if part:
        yield Chunk(part, size)


def _resumed(
    records: Iterator[Question | BadLine], output: _Output, questions: Path, meter: _Meter
) -> tuple[Iterator[Question | BadLine], int, int]:
    """Pass over the records whose answers are there.

    Returns:
        The records that are left, how many are not, and how many of those have an error for an answer.

    Raises:
        BatchError: The answers are to other questions.
    """
    count = failed = 0
    for line in output.lines():
        record = next(records, None)
        if record is None:
            raise BatchError(f"{output.path} holds more answers than {questions} holds questions: name another --out")
        if not line.endswith(b"\n"):
            begin = _encode(record, {})[:-2]  # all but the bracket and the line's end
            if len(line) == _LONGEST_ANSWER or not begin.startswith(line[: len(begin)]):
                raise _no_answer(output.path, count + 1, record, questions)
            output.cut(len(line))
            return itertools.chain([record], records), count, failed
        count += 1
        head, good = _read_answer(line)
        if json.dumps(head) != json.dumps(_head(record)):
            raise _no_answer(output.path, count, record, questions)
        failed += not good
        if count % _SKIPPED == 0:
            meter.skipped(record.end)
    return records, count, failed


def _read_answer(line: bytes) -> tuple[object, bool]:
    """Return what tells in a line of the output which question it answers, and whether it is an answer."""
    try:
        value = _object(line)
    except _LineError:
        return None, False
    return {name: value[name] for name in ("id", "question") if name in value}, "error" not in value


def _no_answer(path: Path, number: int, record: Record, questions: Path) -> BatchError:
    return BatchError(
        f"{path} was made of other questions: its line {number} is no answer to {record.id!r:.60}, line {record.line} "
        f"of {questions}; name another --out"
    )


class _Output:
    """The file of answers, which one process writes at a time.

    Raises:
        BatchError: It holds answers that are not to be resumed, another process is writing it, or it is no file.
        OSError: It cannot be written.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        try:
            state = os.fstat(self._file)
            if not stat.S_ISREG(state.st_mode):
                raise BatchError(f"{path} is no file that could be resumed: name a file with --out")
            self._lock()
            if os.fstat(self._file).st_size and not resume:
                raise BatchError(f"{path} is not empty: add --resume to go on with it, or name another --out")
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> _Output:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.nullcontext() if error is not None else self._named():
            os.close(self._file)

    def lines(self) -> Iterator[bytes]:
        r"""Yield the lines that are there. The last is torn if no `\n` ends it, and any that is too long."""
        with open(self._file, "rb", closefd=False) as file:
            while line := file.readline(_LONGEST_ANSWER):
                yield line

    def cut(self, size: int) -> None:
        """Cut so many bytes from the end."""
        with self._named():
            os.ftruncate(self._file, os.fstat(self._file).st_size - size)

    def write(self, content: bytes) -> None:
        """Append whole lines, and hand them to the system."""
        rest = memoryview(content)
        with self._named():
            while rest:
                rest = rest[os.write(self._file, rest) :]

    def _lock(self) -> None:
        """Take the file for this process until it ends, however it ends, where the system can do that."""
        if sys.platform == "win32":
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise BatchError(f"another run is writing {self.path}: wait for it, or name another --out") from None

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise type(error)(error.errno, error.strerror, str(self.path)) from None


class _Meter:
    """Says how far a run is, in bytes of the file of questions, and how fast."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._began = time.perf_counter()
        self._done = 0
        self._count = 0

    def skipped(self, end: int) -> None:
        """Say that answers up to a place were there; time is taken from there on."""
        self._began = time.perf_counter()
        self._say(end, "")

    def answered(self, end: int, count: int) -> None:
        """Say that so many more were answered, up to a place."""
        self._count += count
        self._say(end, f", {self._count / max(time.perf_counter() - self._began, 1e-9):.1f} questions a second")

    def finish(self) -> None:
        """Say that all is done, blank lines at the end among it."""
        self._say(max(self._total, self._done), "")

    def _say(self, end: int, note: str) -> None:
        self._done = end
        if self._progress:
            self._progress(end, max(self._total, end), note)
