"""A file of questions in, a file of answers out: on all cores, in bounded memory, resumable after any kill.

Both files are JSON Lines. The output is only ever appended to, a line for each question in the order of the input, so
that its whole lines say how far a run has come: a resumed run goes on after them. What it was answered with (model,
budget, index) is written nowhere, nor are the texts: a run is resumed with others at one's own risk.
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
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from dynamic_tinybert.answer import LogitsError
from dynamic_tinybert.batch.output import BatchError, Line, Output, encode, encode_error, pass_over_answered
from dynamic_tinybert.batch.records import BadLine, Question, read_questions
from dynamic_tinybert.errors import check_from_one

if TYPE_CHECKING:
    from dynamic_tinybert.corpus import Corpus
    from dynamic_tinybert.model import Budget
    from dynamic_tinybert.qa import QuestionAnswerer
    from dynamic_tinybert.runtime import Precision


Progress: TypeAlias = Callable[[int, int, str], None]

CHUNK = 32  # questions that a thread takes at a time: see benchmarks/speed/batch.py
CORPUS_CHUNK = 4  # the same of a corpus, which answers one by one

_CHUNK_CHARACTERS = 1 << 20  # of questions and texts, beyond which a chunk takes no more of them
_AHEAD = 4  # chunks for each worker that are read before the first of them is written ...
_AHEAD_CHARACTERS = 1 << 26  # ... unless they hold more than so many characters


Answering: TypeAlias = Callable[[Sequence[Question]], Sequence[Mapping[str, Any]]]
"""Answers questions: the fields of the answer to each, in order, as JSON has them. Called from many threads."""


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
        from dynamic_tinybert.corpus import Corpus

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
        chunk: The most questions that a thread takes at a time.
        resume: Go on after the whole lines that are in `out`, if there are any.
        needs_text: Each question must bring its text; otherwise texts are left aside.
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


def run(
    questions: Path, out: Path, spread: Spread, *, chunk: int, resume: bool, needs_text: bool, progress: Progress | None
) -> Summary:
    """Answer a file of questions by whatever `spread` has at its service; see `answer_file`."""
    began = time.perf_counter()
    with questions.open("rb") as source:
        if out.exists() and out.samefile(questions):
            raise ValueError(f"{out} is the file of questions itself: give answers a file of their own")
        with Output(out, resume=resume) as output:
            meter = _Meter(progress, os.fstat(source.fileno()).st_size)
            records = read_questions(source, needs_text=needs_text)
            rest, skipped, failed_before = pass_over_answered(records, output, questions, meter.skipped)
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


def answer_lines(answer: Answering, records: Sequence[Question | BadLine]) -> list[Line]:
    """Return the lines of the output for some records."""
    answers = iter(_ask(answer, [record for record in records if isinstance(record, Question)]))
    return [
        next(answers) if isinstance(record, Question) else Line(encode_error(record, record.error), False)
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
        return [Line(encode(q, fields), True) for q, fields in zip(questions, found, strict=True)]
    except LogitsError:  # of a damaged model
        raise
    except ValueError as error:
        if len(questions) == 1:
            return [Line(encode_error(questions[0], f"line {questions[0].line}: {error}"), False)]
    return [line for question in questions for line in _ask(answer, [question])]


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
    """Gather records: at most so many, or so large."""
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
