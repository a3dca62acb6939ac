"""The road, end to end: question and text in, answers out."""

from __future__ import annotations

import itertools
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypedDict, overload

import numpy as np

from dynamic_tinybert.budget import BERT_BASE, Budget, Choice, ConfigTable, macs
from dynamic_tinybert.folder import ModelFolder, open_folder
from dynamic_tinybert.runtime.graph import Precision
from dynamic_tinybert.runtime.session import Provider, Runtime
from dynamic_tinybert.spans import SpanRanker
from dynamic_tinybert.windows import TextTokenizer, Window, check_lengths, windows

if TYPE_CHECKING:
    from typing_extensions import Unpack

Progress: TypeAlias = Callable[[int, int], None]

_POOL = 128  # windows gathered before they are sorted by length and run
_BATCH_TOKENS = 1024  # padded tokens of a batch: beyond this a batch gains nothing on a CPU


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What an answer cost.

    Attributes:
        configuration: The name of the length configuration in the model's table.
        share: Its multiply-accumulates over those of `full`, counted at 384 tokens.
        windows: Windows that were read.
        macs: Multiply-accumulates of these windows at their own lengths.
        bert_base_macs: What BERT-base would have spent on the same windows.
    """

    configuration: str
    share: float
    windows: int
    macs: int
    bert_base_macs: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer: `text[answer.start:answer.end] == answer.text`.

    Attributes:
        text: The words of the text that answer; empty where there are none (an empty text, an impossible answer).
        start: Where they begin, in characters of the text as given.
        end: Where they end.
        score: Softmax over the candidate spans of all windows of the text, in [0, 1].
        logit: Start logit plus end logit, raw.
        confidence: Calibrated probability that the text answers the question and that this is the answer; None for a
            model without calibration.
        spent: What was spent on the question.
    """

    text: str
    start: int
    end: int
    score: float
    logit: float
    confidence: float | None = None
    spent: Spent = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as what `--json` prints."""
        return {
            "text": self.text,
            "start": self.start,
            "end": self.end,
            "score": self.score,
            "logit": self.logit,
            "confidence": self.confidence,
            "configuration": self.spent.configuration,
            "share": self.spent.share,
        }


class Options(TypedDict, total=False):
    """What may be said of a call beside the questions, the texts and `top_k`: see `QuestionAnswerer.__call__`."""

    budget: Budget
    max_seq_len: int | None
    doc_stride: int
    max_question_len: int
    max_answer_len: int
    handle_impossible_answer: bool
    align_to_words: bool
    progress: Progress | None


class _Call(NamedTuple):
    choice: Choice
    top_k: int | None
    max_seq_len: int
    doc_stride: int
    max_question_len: int
    max_answer_len: int
    handle_impossible_answer: bool
    align_to_words: bool
    progress: Progress | None


@dataclass(eq=False)
class _Request:
    """A question on its way: its text, what ranks its spans, and the sizes of its windows."""

    text: str
    ranker: SpanRanker
    lengths: list[int] = field(default_factory=list)


class QuestionAnswerer:
    """Answers questions from texts, at any computational budget. Safe to use from many threads.

    Args:
        model: A model folder, or a name on the Hugging Face Hub; by default the model that came with the package.
        revision: A branch, tag or commit of a model on the Hub.
        cache_dir: Where models from the Hub are kept; by default where `huggingface_hub` keeps them.
        local_files_only: Use what is in the cache and ask nobody.
        token: A token for the Hub, for private models.
        precision: `fp32`, the default, whose numbers are promised; `int8` is faster on processors with VNNI and loses
            some accuracy (see results/).
        threads: Threads that a run uses; by default as many as there are cores.
        providers: ONNX Runtime's execution providers; by default the CPU.

    Raises:
        ModelFolderError: The model is not there, or is no BERT question-answering model.
        WindowError: Its tokenizer cannot be used.
        BudgetError: Its table of length configurations makes no sense.

    Example:
        >>> from dynamic_tinybert import QuestionAnswerer
        >>> qa = QuestionAnswerer()
        >>> qa("Where is the tower?", "The tower stands in Paris.").text
        'Paris'
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        token: str | None = None,
        precision: Precision = "fp32",
        threads: int | None = None,
        providers: Sequence[Provider] | None = None,
    ) -> None:
        folder: ModelFolder = open_folder(
            model, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only, token=token
        )
        self.name = folder.name
        self.shape = folder.shape
        self.table = ConfigTable.read(folder.shape, folder.length_configs)
        self._tokenizer = TextTokenizer(folder.path)
        self._runtime = Runtime(folder.shape, folder.weights, precision=precision, threads=threads, providers=providers)

    # A str is itself a Sequence[str], so the checker sees overlaps; the first that fits is the one meant.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, question: str, text: str, *, top_k: None = ..., **options: Unpack[Options]
    ) -> Answer: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, question: str, text: str, *, top_k: int, **options: Unpack[Options]
    ) -> list[Answer]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, question: Sequence[str], text: Sequence[str], *, top_k: None = ..., **options: Unpack[Options]
    ) -> list[Answer]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, question: Sequence[str], text: Sequence[str], *, top_k: int, **options: Unpack[Options]
    ) -> list[list[Answer]]: ...
    @overload
    def __call__(
        self, question: Iterable[str], text: Iterable[str], *, top_k: None = ..., **options: Unpack[Options]
    ) -> Iterator[Answer]: ...
    @overload
    def __call__(
        self, question: Iterable[str], text: Iterable[str], *, top_k: int, **options: Unpack[Options]
    ) -> Iterator[list[Answer]]: ...

    def __call__(
        self,
        question: str | Iterable[str],
        text: str | Iterable[str],
        *,
        budget: Budget = "full",
        top_k: int | None = None,
        max_seq_len: int | None = None,
        doc_stride: int = 128,
        max_question_len: int = 64,
        max_answer_len: int = 30,
        handle_impossible_answer: bool = False,
        align_to_words: bool = True,
        progress: Progress | None = None,
    ) -> Any:
        """Answer a question from a text, or many from many.

        A question and a text give an `Answer`; with `top_k`, a list of them, the best first. Where either is a list,
        a list comes back, in order; where either is a generator, a generator, in bounded memory, that reads some
        questions ahead to batch them. A single question or text among many goes with each of the others.

        A text without words has no answer: an `Answer` of no text and score 0, with `top_k` an empty list.

        Args:
            question: The question, or questions.
            text: The text, or texts, of any length.
            budget: What may be spent: a share of the full model's multiply-accumulates in (0, 1], or `full`;
                `balanced`, the cheapest measured configuration within 1 F1 of full; `fast`, within 3.
            top_k: How many answers to give; that many come wherever there are that many that do not overlap.
            max_seq_len: The longest window, in tokens; by default 384, or what the model can read if that is less.
            doc_stride: How much the windows of a long text overlap, in tokens.
            max_question_len: The longest question, in tokens; a longer one is cut, with a warning.
            max_answer_len: The longest answer, in tokens.
            handle_impossible_answer: Let the answer be that there is none: an `Answer` of no text, with its score.
            align_to_words: Stretch an answer that begins or ends inside a word to the whole word.
            progress: Called with the characters of text read and those known of so far.

        Raises:
            TypeError: A question or a text is no string.
            ValueError: A question is empty, the lists differ in length, or an option is out of range (`WindowError`
                and `BudgetError` among them).
        """
        if max_seq_len is None:
            max_seq_len = min(384, self.shape.positions)
        options = _Call(
            self.table.select(self.shape, budget), top_k, max_seq_len, doc_stride, max_question_len, max_answer_len,
            handle_impossible_answer, align_to_words, progress,
        )  # fmt: skip
        check_lengths(
            max_seq_len=max_seq_len,
            doc_stride=doc_stride,
            max_question_len=max_question_len,
            positions=self.shape.positions,
        )
        self._ranker(options)  # refuses what is out of range before anything is read
        for name, value in (("question", question), ("text", text)):
            if isinstance(value, (bytes, bytearray)):
                raise TypeError(f"a {name} is a string, not {type(value).__name__}")
        if isinstance(question, str) and isinstance(text, str):
            return next(self._answers([(question, text)], options))
        sized = all(isinstance(x, (str, Sequence)) for x in (question, text))
        if sized and not isinstance(question, str) and not isinstance(text, str):
            a, b = len(question), len(text)  # type: ignore[arg-type]
            if a != b:
                raise ValueError(f"{a} questions and {b} texts: give as many of one as of the other, or a single one")
        pairs = zip(
            itertools.repeat(question) if isinstance(question, str) else question,
            itertools.repeat(text) if isinstance(text, str) else text,
            strict=not (isinstance(question, str) or isinstance(text, str)),
        )
        answers = self._answers(pairs, options)
        return list(answers) if sized else answers

    def _ranker(self, options: _Call) -> SpanRanker:
        return SpanRanker(
            top_k=1 if options.top_k is None else options.top_k,
            max_answer_len=options.max_answer_len,
            align_to_words=options.align_to_words,
            handle_impossible_answer=options.handle_impossible_answer,
        )

    def _answers(self, pairs: Iterable[tuple[str, str]], options: _Call) -> Iterator[Any]:
        """Gather windows, run them by length, hand out answers in order."""
        waiting: deque[_Request] = deque()
        pool: list[tuple[_Request, Window]] = []
        known = read = 0
        for question, text in pairs:
            request = _Request(text, self._ranker(options))
            waiting.append(request)
            known += len(text) if isinstance(text, str) else 0
            for window in self._windows(question, text, options):
                pool.append((request, window))
                if len(pool) == _POOL:
                    read += self._read(pool, options)
                    if options.progress:
                        options.progress(read, known)
                    yield from self._finished(waiting, request, options)
                    pool.clear()
            if len(waiting) > _POOL:  # texts without words fill no pool
                read += self._read(pool, options)
                if options.progress:
                    options.progress(read, known)
                yield from self._finished(waiting, None, options)
                pool.clear()
        self._read(pool, options)
        if options.progress:
            options.progress(known, known)
        yield from self._finished(waiting, None, options)

    def _windows(self, question: str, text: str, options: _Call) -> Iterator[Window]:
        for name, value in (("question", question), ("text", text)):
            if not isinstance(value, str):
                raise TypeError(f"a {name} is a string, not {type(value).__name__}")
        ids = self._tokenizer.question(question)
        if not len(ids):
            raise ValueError("the question is empty")
        if len(ids) > options.max_question_len:
            warnings.warn(
                f"a question of {len(ids)} tokens was cut to max_question_len, {options.max_question_len}", stacklevel=4
            )
            ids = ids[: options.max_question_len]
        pieces = self._tokenizer.text(text)
        yield from windows(self._tokenizer, ids, pieces, max_seq_len=options.max_seq_len, doc_stride=options.doc_stride)

    def _read(self, pool: list[tuple[_Request, Window]], options: _Call) -> int:
        """Run the windows in batches of like length and rank their spans; return how many characters are settled."""
        order = sorted(range(len(pool)), key=lambda i: len(pool[i][1]))
        logits: list[tuple[Any, Any]] = [(None, None)] * len(pool)
        for batch in _batches([len(pool[i][1]) for i in order], 1 if self._runtime.precision == "int8" else None):
            numbers = [order[i] for i in batch]
            start, end = self._run([pool[i][1] for i in numbers], options.choice)
            for row, i in enumerate(numbers):
                logits[i] = start[row], end[row]
        characters = 0
        for (request, window), (start, end) in zip(pool, logits, strict=True):
            request.ranker.add(window, start, end)
            request.lengths.append(len(window))
            characters += int(window.text.end[window.settled - 1] - window.text.begin[0])
        return characters

    def _run(self, batch: list[Window], choice: Choice) -> tuple[Any, Any]:
        lengths = np.array([len(window) for window in batch])
        ids = np.full((len(batch), lengths.max()), self._tokenizer.pad, np.int64)
        types = np.zeros_like(ids)
        for row, window in enumerate(batch):
            ids[row, : len(window)] = window.ids
            types[row, : len(window)] = window.type_ids
        mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
        logits = self._runtime.run(ids, types, mask, choice.config.lengths(lengths))
        return logits.start, logits.end

    def _finished(self, waiting: deque[_Request], unfinished: _Request | None, options: _Call) -> Iterator[Any]:
        while waiting and waiting[0] is not unfinished:
            request = waiting.popleft()
            spent = Spent(
                configuration=options.choice.name,
                share=options.choice.share,
                windows=len(request.lengths),
                macs=macs(self.shape, request.lengths, options.choice.config),
                bert_base_macs=macs(BERT_BASE, request.lengths),
            )
            answers = [
                Answer(
                    text=request.text[span.begin : span.end],
                    start=span.begin,
                    end=span.end,
                    score=span.score,
                    logit=span.logit,
                    spent=spent,
                )
                for span in request.ranker.ranked()
            ]
            if options.top_k is not None:
                yield answers
            else:
                yield answers[0] if answers else Answer(text="", start=0, end=0, score=0.0, logit=0.0, spent=spent)


def _batches(lengths: list[int], rows: int | None) -> Iterator[range]:
    """Cut ascending lengths into runs that cost at most `_BATCH_TOKENS` when padded, or have at most `rows`."""
    begin = 0
    for i, length in enumerate(lengths):
        count = i - begin
        if count and (length * (count + 1) > _BATCH_TOKENS or count == rows):
            yield range(begin, i)
            begin = i
    if lengths:
        yield range(begin, len(lengths))
