"""Answer questions from texts with a model: the main class of this package."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set, Sized
from typing import TYPE_CHECKING, Any, overload

from dynamic_tinybert.answer import Answer, Spent
from dynamic_tinybert.folder import EMBEDDED, open_folder, save_folder
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
from dynamic_tinybert.runtime import PrecisionChoice, Provider, Runtime, choose_precision

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Answer", "Options", "Progress", "QuestionAnswerer", "Spent"]


class QuestionAnswerer:
    """Answer questions from texts, at any computational budget. Safe to use from many threads.

    Args:
        model: A model folder, or a name on the Hugging Face Hub; by default the model inside the package.
        revision: A branch, tag or commit of a model on the Hub.
        cache_dir: The folder that keeps models from the Hub; by default the cache of `huggingface_hub`.
        local_files_only: Use only models in the cache, without the network.
        token: A token for the Hub, for private models.
        precision: `fp32`, `int8`, or `auto`, the default: `int8` if the model was measured in INT8 and this processor
            has instructions for it; see `choose_precision`. The attribute `precision` of the runtime says which.
        threads: The number of threads of one run; by default the number of cores.
        providers: ONNX Runtime's execution providers; by default the CPU.

    Attributes:
        name: The model, as the caller named it.
        shape: Its sizes.
        table: Its length configurations. A budget selects one of them.
        calibration: Turns its logits into confidences, or None.
        reader: Its tokenizer and runtime, for callers who batch windows themselves.

    Raises:
        ModelFolderError: The model is missing, or is not a question-answering model of a supported architecture.
        WindowError: Its tokenizer cannot be used.
        BudgetError: Its table of length configurations is invalid.
        CalibrationError: Its calibration is invalid.

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
        precision: PrecisionChoice = "auto",
        threads: int | None = None,
        providers: Sequence[Provider] | None = None,
    ) -> None:
        folder = open_folder(
            model, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only, token=token
        )
        # Another process opens the same folder. A token is a secret, and not needed for a folder that is here.
        self._opened: dict[str, Any] | None = {
            "model": None if folder.is_embedded else str(folder.path.absolute()),
            "threads": threads,
            "providers": providers,
        }
        self.name = folder.name
        self.shape = folder.shape
        self.table = ConfigTable.read(folder.shape, folder.length_configs)
        self.calibration = Calibration.read(folder.calibration)
        runtime = Runtime(
            folder.shape,
            folder.stored_weights,
            precision=choose_precision(precision, self.table.precision, providers),
            threads=threads,
            providers=providers,
        )
        tokenizer = TextTokenizer(folder.path)
        tokenizer.check_padding(folder.path, folder.shape.first_position)
        self.reader = Reader(tokenizer, runtime)

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
        """Make a `QuestionAnswerer` from a reader, for any model that predicts logits for windows.

        Args:
            reader: A tokenizer and a runtime.
            shape: The sizes of the model.
            table: Its length configurations.
            name: The name of the model.
            calibration: Turns its logits into confidences.
        """
        qa = cls.__new__(cls)
        qa._opened = None
        qa.name, qa.shape, qa.table, qa.reader, qa.calibration = name, shape, table, reader, calibration
        return qa

    @classmethod
    def from_pretrained(cls, model: str | os.PathLike[str], **options: Any) -> QuestionAnswerer:
        """Load a model: the same as `QuestionAnswerer(model, **options)`, under the name that the Hub's libraries use.

        Raises:
            ModelFolderError, WindowError, BudgetError, CalibrationError: As the constructor does.
        """
        return cls(model, **options)

    def save_pretrained(self, directory: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the model as a folder that this package and transformers read, in float32.

        Args:
            directory: The new folder.
            overwrite: Replace an existing folder, if it holds a model and nothing else.

        Raises:
            ModelFolderError: The folder exists already or cannot be written.
            TypeError: It was made by `from_reader`, so there is no folder to copy.
        """
        save_folder(open_folder(self._folder()), directory, overwrite=overwrite)

    def push_to_hub(self, name: str, **options: Any) -> str:
        """Upload the model to the Hugging Face Hub, with a complete model card (extra `push`).

        Args:
            name: `owner/name` on the Hub.
            options: `revision`, `private`, `message`, `license`, `token`, `dry_run`: see
                `dynamic_tinybert.publish.push_model`.

        Returns:
            The address of its page.

        Raises:
            ValueError: The name is not `owner/name`.
            ModelFolderError: The card lacks a licence, or the Hub refuses or cannot be reached.
            TypeError: It was made by `from_reader`, so there is no folder to upload.
        """
        from dynamic_tinybert.publish import push_model

        return push_model(self._folder() or EMBEDDED, name, **options).url

    def _folder(self) -> str | None:
        """Return the folder of the model; None for the embedded model."""
        if self._opened is None:
            raise TypeError("a QuestionAnswerer made by from_reader has no model folder")
        folder: str | None = self._opened["model"]
        return folder

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the folder of the model, not its weights; unpickling opens the folder again, in the same precision.

        Raises:
            TypeError: It was made by `from_reader`, so there is no folder.
        """
        if self._opened is None:
            raise TypeError("a QuestionAnswerer made by from_reader cannot be pickled, because it has no model folder")
        added = {key: value for key, value in vars(self).items() if key not in _OWN}  # by a subclass or a user
        return (
            _open,
            (type(self), {**self._opened, "precision": self.reader.runtime.precision}, self.name),
            added or None,
        )

    def __copy__(self) -> QuestionAnswerer:
        return self  # it never changes, and many threads may use it

    def __deepcopy__(self, memo: object) -> QuestionAnswerer:
        return self

    def __repr__(self) -> str:
        configurations = f"{len(self.table.choices)} measured" if self.table.measured_on else "unmeasured"
        return f"<QuestionAnswerer {self.name!r}: {self.shape.layers} layers of {self.shape.hidden}, {configurations}>"

    # A str is also a Sequence[str], so the type checker sees overlaps. The first overload that fits is meant.
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

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, question: str, *, context: str, top_k: None = ..., **options: Unpack[Options]
    ) -> Answer: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, question: str, *, context: str, top_k: int, **options: Unpack[Options]
    ) -> list[Answer]: ...
    @overload
    def __call__(
        self,
        question: str | Sequence[str],
        *,
        context: str | Sequence[str],
        top_k: None = ...,
        **options: Unpack[Options],
    ) -> list[Answer]: ...
    @overload
    def __call__(
        self, question: str | Sequence[str], *, context: str | Sequence[str], top_k: int, **options: Unpack[Options]
    ) -> list[list[Answer]]: ...

    def __call__(
        self,
        question: str | Iterable[str],
        text: str | Iterable[str] | None = None,
        *,
        context: str | Iterable[str] | None = None,
        top_k: int | None = None,
        **options: Unpack[Options],
    ) -> Any:
        """Answer one question from one text, or many questions from many texts.

        One question and one text give an `Answer`. With `top_k` they give a list of answers, the best first. If either
        argument is a generator, the result is a generator. It uses bounded memory and reads some questions ahead to
        batch them. Otherwise, if either argument is a list, the result is a list in the same order. A single question
        or text is paired with each of the others. An error in a list is raised before any question is answered. An
        error in a generator is raised after the answers before it.

        A text without words has no answer: the result is an `Answer` with empty text and score 0, or with `top_k` an
        empty list.

        Args:
            question: The question, or questions.
            text: The text, or texts, of any length.
            context: Another name of `text`, as in transformers' pipeline.
            top_k: How many answers to give. Fewer come if the others overlap a better one or have much lower scores.
            budget: What may be spent: a share of the full model's multiply-accumulates in (0, 1]; `full`, the default;
                `balanced`, the cheapest measured configuration within 1 F1 of full; `fast`, within 3.
            max_seq_len: The longest window, in tokens; by default what the model's table says (`windows`), otherwise
                384, or the model's limit if that is less.
            doc_stride: How much the windows of a long text overlap, in tokens; by default what the table says,
                otherwise 128, or half of the room that a window has for text if that is less.
            max_question_len: The longest question, in tokens, by default 64. A longer question is cut, with a warning.
            max_answer_len: The longest answer, in tokens, by default 30, before it is stretched to whole words.
            handle_impossible_answer: Allow the result that there is no answer: an `Answer` with empty text, and its
                score. By default False.
            no_answer_threshold: With `handle_impossible_answer`: there is no answer if its logit exceeds the logit of
                the best span by more than this (elsewhere called `null_score_diff_threshold`). A lower threshold gives
                fewer answers. By default the model's own, or 0: it rejects few questions that the text answers.
                `squad2` is the model's own for texts of which half answer nothing, as in SQuAD 2.0.
            align_to_words: Give what a person would underline, by default True: whole words, numbers, addresses and
                names; brackets and quotation marks in pairs; nothing across the end of a paragraph, an item of a list
                or a table cell; more than punctuation or one stop word. False: the best span of tokens as it is.
            score_threshold: With `top_k`: leave out answers with less than this share of the best one's score, by
                default 0.01.
            explain: Give answers the layers that each token of the text passed before it was dropped: `Answer.layers`,
                which `Answer.show` shows. By default False.
            progress: A function that is called with the number of finished characters and the total (for a generator:
                the total so far).

        Raises:
            TypeError: A question or a text is not a string, or an option is unknown.
            ValueError: A question is empty, the lists differ in length, or an option is out of range (including
                `WindowError` and `BudgetError`).
        """
        if (text is None) == (context is None):
            raise TypeError("give a text: as `text`, or as `context`, which is the same")
        text = context if text is None else text
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
                check_pair(pair[0], pair[1], None if single else number, self.reader.tokenizer)
            total = sum(len(pair[1]) for pair in pairs)
        stream = AnswerStream(self.reader, settings, progress=progress, total=total, numbered=not single)
        answers: Iterator[Any] = stream(pairs)
        if top_k is None:
            answers = (best for best, *_ in answers)
        if single:
            (answer,) = answers
            return answer
        return list(answers) if sized else answers

    def settings(self, *, top_k: int | None = None, **options: Unpack[Options]) -> Settings:
        """Check the options of a call and return its settings for this model, for callers who batch themselves.

        Raises:
            TypeError: An option is unknown.
            ValueError: An option is out of range (including `WindowError` and `BudgetError`).
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
    """Check that a value is a string or an iterable of strings, and return it."""
    if isinstance(value, (bytes, bytearray, Mapping, Set)) or not isinstance(value, Iterable):
        raise TypeError(f"a {name} must be a string, or a list or generator of strings, not {type(value).__name__}")
    return value


def _pairs(questions: str | Iterable[str], texts: str | Iterable[str]) -> Iterator[tuple[str, str]]:
    """Pair questions and texts. Raise ValueError if their numbers differ."""
    if isinstance(questions, str):
        yield from zip(itertools.repeat(questions), texts, strict=False)
    elif isinstance(texts, str):
        yield from zip(questions, itertools.repeat(texts), strict=False)
    else:
        nothing: Any = object()
        for pair in itertools.zip_longest(questions, texts, fillvalue=nothing):
            if any(value is nothing for value in pair):
                more, fewer = ("questions", "texts") if pair[1] is nothing else ("texts", "questions")
                raise ValueError(f"there are more {more} than {fewer}: give the same number of each")
            yield pair


_OWN = frozenset(("_opened", "name", "shape", "table", "calibration", "reader"))


def _open(kind: type[QuestionAnswerer], options: dict[str, Any], name: str) -> QuestionAnswerer:
    """Open a model for `pickle`, under the name that it had; a subclass may be made from other arguments."""
    qa = kind.__new__(kind)
    QuestionAnswerer.__init__(qa, **options)
    qa.name = name
    return qa
