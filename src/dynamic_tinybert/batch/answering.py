"""Answer a file of questions into a file of answers: on all cores, in bounded memory, resumable after a kill.

Both files are JSON Lines. The output has one line per question, in the order of the input, and a run only appends to
it. A resumed run continues after the complete lines. Each line has a digest of its question, its text and the options,
so a run is not continued with others.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeAlias

from dynamic_tinybert.answer import LogitsError
from dynamic_tinybert.batch.output import BatchError, Line, Output, Stream, encode, encode_error, pass_over_answered
from dynamic_tinybert.batch.records import BadLine, Question, read_questions
from dynamic_tinybert.errors import check_from_one

if TYPE_CHECKING:
    from dynamic_tinybert.corpus import Corpus
    from dynamic_tinybert.model import Budget
    from dynamic_tinybert.qa import QuestionAnswerer
    from dynamic_tinybert.runtime import PrecisionChoice


Progress: TypeAlias = Callable[[int, int, str], None]

CHUNK = 32  # questions that a thread takes at a time: see benchmarks/speed/batch.py
CORPUS_CHUNK = 4  # the same for a corpus, which answers questions one by one

_CHUNK_CHARACTERS = 1 << 20  # of questions and texts: a chunk of this size is full
_AHEAD = 4  # chunks per worker that may wait to be written ...
_AHEAD_CHARACTERS = 1 << 26  # ... if they have at most so many characters


Answering: TypeAlias = Callable[[Sequence[Question]], Sequence[Mapping[str, Any]]]
"""A function that answers questions. It returns the JSON fields of each answer, in order. Many threads call it."""


class Chunk(NamedTuple):
    """Lines of the input that are answered together, and the number of characters of their questions and texts."""

    records: Sequence[Question | BadLine]
    size: int

    @property
    def end(self) -> int:
        """The end of its last line, in bytes from the start of the file."""
        return self.records[-1].end


class Done(NamedTuple):
    """The lines of the output for a chunk, and the end of the chunk in the input."""

    lines: Sequence[Line]
    end: int


Spread: TypeAlias = Callable[[Iterator[Chunk]], Generator[Done, None, None]]
"""A function that distributes chunks to workers and yields the results in order. It takes the chunks one by one."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The result of a run.

    Attributes:
        answered: The number of questions that it answered.
        failed: The number of lines that it could not answer; their output lines contain an error.
        skipped: The number of lines that an earlier run had answered.
        failed_before: How many of the skipped lines have an error in the output.
        seconds: The duration.
    """

    answered: int
    failed: int
    skipped: int
    failed_before: int
    seconds: float


def from_texts(qa: QuestionAnswerer, *, budget: Budget = "full", top_k: int = 1) -> Answering:
    """Return a function that answers each question from its own text.

    The fields are those of `Answer.to_dict`; with `top_k` above 1, a list of them under `answers`.

    Args:
        qa: The model. With many workers, it should use a single thread.
        budget: The cost of an answer: see `QuestionAnswerer.__call__`.
        top_k: How many answers to give.

    Raises:
        BudgetError: The budget is invalid.
    """
    qa.table.select(qa.shape, budget)

    def answer(questions: Sequence[Question]) -> list[Mapping[str, Any]]:
        asked, texts = [q.question for q in questions], [q.text for q in questions]
        try:
            if top_k == 1:
                return [found.to_dict() for found in qa(asked, texts, budget=budget)]
            several = qa(asked, texts, budget=budget, top_k=top_k)
        except ValueError as error:  # if a question is tried alone, its number in the list says nothing
            raise ValueError(str(error).removesuffix(" (number 0)")) from error
        return [{"answers": [found.to_dict() for found in answers]} for answers in several]

    return answer


def from_corpus(
    corpus: Corpus, *, budget: Budget = "full", top_k: int = 1, max_latency_ms: float | None = None
) -> Answering:
    """Return a function that answers each question from a corpus.

    The fields are those of `CorpusAnswer.to_dict`; with `top_k` above 1, a list of them under `answers`.

    Args:
        corpus: The documents and the model. With many workers, the model should use a single thread.
        budget: The cost of a prediction on a passage: see `QuestionAnswerer.__call__`.
        top_k: How many answers to give.
        max_latency_ms: The time limit for an answer, in milliseconds.

    Raises:
        BatchError: The index cannot be used. The returned function raises it, too.
        BudgetError: The budget is invalid.
    """
    from dynamic_tinybert.corpus import CorpusError

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
    """The options for answering questions, in a form that can be sent to another process.

    Attributes:
        model: The name or the folder of a model, as for `QuestionAnswerer`.
        precision: The precision of the computation, as for `QuestionAnswerer`.
        budget: The cost of an answer: see `QuestionAnswerer.__call__`.
        top_k: How many answers to give.
        index: The folder of an index; without it, each question must have its own text.
        max_latency_ms: The time limit for an answer from the index, in milliseconds.
        revision: The revision of a model of the Hub that was asked for; it only distinguishes runs.
    """

    model: str = "embedded"
    precision: PrecisionChoice = "auto"
    budget: Budget = "full"
    top_k: int = 1
    index: str | None = None
    max_latency_ms: float | None = None
    revision: str | None = None

    @property
    def needs_text(self) -> bool:
        """Whether each question must have its own text."""
        return self.index is None

    @property
    def described(self) -> str:
        """The options that change answers, as a text."""
        options = (self.model, self.precision, self.budget, self.top_k, self.index, self.max_latency_ms)
        return repr(options if self.revision is None else (*options, self.revision))

    @property
    def chunk(self) -> int:
        """How many questions a worker takes at a time."""
        return CHUNK if self.index is None else CORPUS_CHUNK

    def answering(self, qa: QuestionAnswerer) -> Answering:
        """Return a function that answers questions with a loaded model.

        Raises:
            BatchError: The index cannot be used.
            BudgetError: The budget is invalid.
        """
        if self.index is None:
            return from_texts(qa, budget=self.budget, top_k=self.top_k)
        from dynamic_tinybert.corpus import Corpus

        corpus = Corpus(self.index, qa=qa)
        return from_corpus(corpus, budget=self.budget, top_k=self.top_k, max_latency_ms=self.max_latency_ms)


def answer_file(
    questions: Path | BinaryIO,
    out: Path | BinaryIO,
    answer: Answering,
    *,
    workers: int,
    chunk: int = CHUNK,
    resume: bool = False,
    needs_text: bool = True,
    options: str = "",
    progress: Progress | None = None,
) -> Summary:
    """Answer a file of questions into a file of answers, one line per question, in order.

    A line of the output is a JSON object with the `id` of the question and the fields of the answer. It has an `error`
    instead of these fields if the line is not a valid question, or if `answer` raises a ValueError for the question
    alone. If the `id` is the line number, the object also has the `question`. The `digest` is of the question, its text
    and the options: a run that is resumed refuses answers to others.

    After each chunk, its answers are passed to the operating system. So a kill loses only unfinished answers.

    Args:
        questions: The file of questions, or a stream of bytes: see `read_questions`. It is read bit by bit, and may be
            a pipe.
        out: The file of answers; or a stream of bytes, which cannot be resumed.
        answer: Answers some questions at a time; several threads call it. A ValueError means that a question is wrong;
            any other error ends the run.
        workers: The number of threads.
        chunk: The most questions that a thread takes at a time.
        resume: Continue after the complete lines in `out`, if there are any.
        needs_text: Each question must have its text; otherwise texts are ignored.
        options: The options of the run, as a text, for the digests: see `Setup.described`.
        progress: Called with the bytes of `questions` that are done, the bytes in total, and a text about the speed.

    Raises:
        BatchError: `out` has answers and `resume` is false, or it has answers to other questions; another run is
            writing it; it is not a regular file.
        OSError: A file cannot be read or written; the run can be resumed.
        ValueError: `workers` or `chunk` is below 1, both files are the same, or `resume` is true with a stream.
    """
    check_from_one(workers=workers, chunk=chunk)
    return run(
        questions,
        out,
        lambda chunks: _on_threads(chunks, answer, workers),
        chunk=chunk,
        resume=resume,
        needs_text=needs_text,
        options=options,
        progress=progress,
    )


def run(
    questions: Path | BinaryIO,
    out: Path | BinaryIO,
    spread: Spread,
    *,
    chunk: int,
    resume: bool,
    needs_text: bool,
    options: str,
    progress: Progress | None,
) -> Summary:
    """Answer a file of questions with the workers of `spread`; see `answer_file`."""
    began = time.perf_counter()
    with contextlib.ExitStack() as files:
        source = files.enter_context(questions.open("rb")) if isinstance(questions, Path) else questions
        output: Output | Stream
        if not isinstance(out, Path):
            if resume:
                raise ValueError("a stream of answers cannot be resumed: name a file for the answers with --out")
            output = Stream(out)
        elif isinstance(questions, Path) and out.exists() and out.samefile(questions):
            raise ValueError(f"{out} is the file of questions: name another file for the answers with --out")
        else:
            output = files.enter_context(Output(out, resume=resume))
        meter = _Meter(progress, _size(source))
        rest: Iterator[Question | BadLine] = read_questions(source, needs_text=needs_text, options=options)
        skipped = failed_before = answered = failed = 0
        if isinstance(output, Output):
            name = str(questions) if isinstance(questions, Path) else "the stream of questions"
            rest, skipped, failed_before = pass_over_answered(rest, output, name, meter.skipped)
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


def _size(source: BinaryIO) -> int:
    """Return the size of a file in bytes, or 0 for a stream."""
    try:
        return os.fstat(source.fileno()).st_size
    except OSError:  # no file of the system
        return 0


def answer_lines(answer: Answering, records: Sequence[Question | BadLine]) -> list[Line]:
    """Answer some records, and return their lines of the output."""
    answers = iter(_ask(answer, [record for record in records if isinstance(record, Question)]))
    return [
        next(answers) if isinstance(record, Question) else Line(encode_error(record, record.error), False)
        for record in records
    ]


def _ask(answer: Answering, questions: Sequence[Question]) -> list[Line]:
    """Answer questions together. If that fails, answer them one by one, to find the wrong question."""
    if not questions:
        return []
    try:
        found = answer(questions)
        if len(found) != len(questions):
            raise AssertionError(f"{len(found)} answers to {len(questions)} questions")
        return [Line(encode(q, fields), True) for q, fields in zip(questions, found, strict=True)]
    except LogitsError:  # the model is damaged
        raise
    except ValueError as error:
        if len(questions) == 1:
            return [Line(encode_error(questions[0], f"line {questions[0].line}: {error}"), False)]
    return [line for question in questions for line in _ask(answer, [question])]


def _on_threads(chunks: Iterable[Chunk], answer: Answering, workers: int) -> Generator[Done, None, None]:
    """Answer chunks on threads, and yield the results in order."""
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
        pool.shutdown(wait=False, cancel_futures=True)  # after an interruption, nobody waits for a long text


def _chunks(records: Iterable[Question | BadLine], most: int) -> Iterator[Chunk]:
    """Group records into chunks of at most `most` records. A chunk also ends at `_CHUNK_CHARACTERS`."""
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


class _Meter:
    """Report the progress of a run, in bytes of the file of questions, and its speed."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._began = time.perf_counter()
        self._done = 0
        self._count = 0

    def skipped(self, end: int) -> None:
        """Report that the answers up to `end` exist, and restart the clock."""
        self._began = time.perf_counter()
        self._say(end, "")

    def answered(self, end: int, count: int) -> None:
        """Report that `count` more questions were answered, up to `end`."""
        self._count += count
        self._say(end, f", {self._count / max(time.perf_counter() - self._began, 1e-9):.1f} questions a second")

    def finish(self) -> None:
        """Report that the whole file is done, including blank lines at its end."""
        self._say(max(self._total, self._done), "")

    def _say(self, end: int, note: str) -> None:
        self._done = end
        if self._progress:
            self._progress(end, max(self._total, end), note)
