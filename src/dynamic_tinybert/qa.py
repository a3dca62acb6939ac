"""The road, end to end: question and text in, answers out."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set, Sized
from typing import TYPE_CHECKING, Any, overload

from dynamic_tinybert.answer import Answer, Spent
from dynamic_tinybert.folder import open_folder
from dynamic_tinybert.inference import (
    AnswerStream,
    Options,
    Progress,
    Reader,
    Settings,
    TextTokenizer,
    check_pair,
    make_settings,
)
from dynamic_tinybert.model import Calibration, ConfigTable, ModelShape
from dynamic_tinybert.runtime import Precision, Provider, Runtime

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Answer", "Options", "Progress", "QuestionAnswerer", "Spent"]


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

    Attributes:
        name: The model, as it was asked for.
        shape: Its sizes.
        table: Its length configurations, from which a budget picks.
        calibration: What makes confidences of its logits, or None.
        reader: Its tokenizer and runtime, for callers who make batches of windows by themselves.

    Raises:
        ModelFolderError: The model is not there, or is no question-answering model of an architecture that is read.
        WindowError: Its tokenizer cannot be used.
        BudgetError: Its table of length configurations makes no sense.
        CalibrationError: Its calibration makes no sense.

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
        folder = open_folder(
            model, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only, token=token
        )
        self.name = folder.name
        self.shape = folder.shape
        self.table = ConfigTable.read(folder.shape, folder.length_configs)
        self.calibration = Calibration.read(folder.calibration)
        runtime = Runtime(
            folder.shape, folder.stored_weights, precision=precision, threads=threads, providers=providers
        )
        self.reader = Reader(TextTokenizer(folder.path), runtime)

    @classmethod
    def from_reader(
        cls,
        reader: Reader,
        shape: ModelShape,
        table: ConfigTable,
        *,
        name: str,
        calibration: Calibration | None = None,
    ) -> QuestionAnswerer:
        """Make one of a reader: any model that gives logits for windows answers by the same road.

        Args:
            reader: A tokenizer and a runtime.
            shape: The sizes of the model.
            table: Its length configurations.
            name: What to call the model.
            calibration: What makes confidences of its logits.
        """
        qa = cls.__new__(cls)
        qa.name, qa.shape, qa.table, qa.reader, qa.calibration = name, shape, table, reader, calibration
        return qa

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
        top_k: int | None = None,
        **options: Unpack[Options],
    ) -> Any:
        """Answer a question from a text, or many from many.

        A question and a text give an `Answer`; with `top_k`, a list of them, the best first. Where either is a
        generator, a generator comes back, in bounded memory, that reads some questions ahead to batch them; otherwise,
        where either is a list, a list, in order. A single question or text among many goes with each of the others.
        What is wrong with one of a list is raised before any is answered; with one of a generator, in its turn.

        A text without words has no answer: an `Answer` of no text and score 0, with `top_k` an empty list.

        Args:
            question: The question, or questions.
            text: The text, or texts, of any length.
            top_k: How many answers to give; that many come wherever so many do not overlap a better one.
            budget: What may be spent: a share of the full model's multiply-accumulates in (0, 1]; `full`, the default;
                `balanced`, the cheapest measured configuration within 1 F1 of full; `fast`, within 3.
            max_seq_len: The longest window, in tokens; by default 384, or what the model can read if that is less.
            doc_stride: How much the windows of a long text overlap, in tokens; by default 128, or half of the room
                that a window has for text if that is less.
            max_question_len: The longest question, in tokens, by default 64; a longer one is cut, with a warning.
            max_answer_len: The longest answer, in tokens, by default 30, before it is stretched to whole words.
            handle_impossible_answer: Let the answer be that there is none: an `Answer` of no text, with its score. By
                default False.
            no_answer_threshold: With `handle_impossible_answer`: there is no answer if its logit exceeds the best
                span's by more than this (`null_score_diff_threshold` elsewhere). The lower, the more often there is
                none; by default the model's own (`table.no_answer_threshold`), or 0.
            align_to_words: Stretch an answer that begins or ends inside a word to the whole word. By default True.
            progress: Called with the characters of text read and those there are (of a generator: known of so far).

        Raises:
            TypeError: A question or a text is no string, or an option is unknown.
            ValueError: A question is empty, the lists differ in length, or an option is out of range (`WindowError`
                and `BudgetError` among them).
        """
        progress = options.pop("progress", None)
        settings = self.settings(top_k=top_k, **options)
        single = isinstance(question, str) and isinstance(text, str)
        pairs: Iterable[Any] = [(question, text)]
        if not single:
            pairs = _pairs(_many(question, "question"), _many(text, "text"))
        sized = isinstance(question, Sized) and isinstance(text, Sized)
        total = None
        if sized:
            pairs = list(pairs)
            for number, pair in enumerate(pairs):
                check_pair(pair[0], pair[1], None if single else number)
            total = sum(len(pair[1]) for pair in pairs)
        stream = AnswerStream(self.reader, settings, progress=progress, total=total)
        answers: Iterator[Any] = stream(pairs)
        if top_k is None:
            answers = (best for best, *_ in answers)
        if single:
            (answer,) = answers
            return answer
        return list(answers) if sized else answers

    def settings(self, *, top_k: int | None = None, **options: Unpack[Options]) -> Settings:
        """Return what a call's options come to with this model, checked: for callers who batch by themselves.

        Raises:
            TypeError: An option is unknown.
            ValueError: An option is out of range (`WindowError` and `BudgetError` among them).
        """
        return make_settings(
            self.shape,
            self.table,
            specials=self.reader.tokenizer.specials,
            calibration=self.calibration,
            top_k=top_k,
            **options,
        )


def _many(value: object, name: str) -> str | Iterable[str]:
    """Return questions or texts, or the single one that goes with each of the others.

    Raises:
        TypeError: They are neither.
    """
    if isinstance(value, (bytes, bytearray, Mapping, Set)) or not isinstance(value, Iterable):
        raise TypeError(
            f"a {name} is a string, or many are a list or a generator of strings, not {type(value).__name__}"
        )
    return value


def _pairs(questions: str | Iterable[str], texts: str | Iterable[str]) -> Iterator[tuple[str, str]]:
    """Put questions and texts together, one by one.

    Raises:
        ValueError: There are more of one than of the other.
    """
    if isinstance(questions, str):
        yield from zip(itertools.repeat(questions), texts, strict=False)
    elif isinstance(texts, str):
        yield from zip(questions, itertools.repeat(texts), strict=False)
    else:
        nothing: Any = object()
        for pair in itertools.zip_longest(questions, texts, fillvalue=nothing):
            if any(value is nothing for value in pair):
                more, fewer = ("questions", "texts") if pair[1] is nothing else ("texts", "questions")
                raise ValueError(f"there are more {more} than {fewer}: give as many of one as of the other")
            yield pair
