"""A replacement for the question-answering pipeline that transformers had until 5.2."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set, Sized
from functools import partial
from typing import Any, Protocol, TypeAlias

from dynamic_tinybert.compat.readers import FittingReader
from dynamic_tinybert.compat.torch_arguments import check_dtype, loading_options, providers_of
from dynamic_tinybert.compat.transformers_ranking import WindowRanker
from dynamic_tinybert.errors import warn, whole_number
from dynamic_tinybert.inference import AnswerStream, Settings, WindowError, check_pair
from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.runtime import Precision, Provider

TASK = "question-answering"
Result: TypeAlias = "dict[str, Any] | list[dict[str, Any]]"

_LONGEST_WINDOW = 384  # tokens
_OVERLAP = 128  # tokens
_UNCUT = sys.maxsize
_OPTIONS = {  # the options of a call and their defaults
    "budget": "full",
    "top_k": 1,
    "doc_stride": None,
    "max_answer_len": 15,
    "max_seq_len": None,
    "max_question_len": None,
    "handle_impossible_answer": False,
    "align_to_words": True,
    "padding": "do_not_pad",
    "batch_size": 1,
    "num_workers": 0,
    "topk": None,
}
_PADDINGS = (True, False, "longest", "max_length", "do_not_pad")


class SquadLike(Protocol):
    """The attributes of transformers' `SquadExample` that are used here."""

    question_text: str
    context_text: str


Input: TypeAlias = "Mapping[str, Any] | SquadLike"
Inputs: TypeAlias = "str | Sequence[str] | Input | Iterable[Input]"


class QuestionAnsweringPipeline:
    """Answer questions like `pipeline("question-answering")` of transformers. Safe to use from many threads.

    Args:
        model: The `QuestionAnswerer` that answers.
        **options: Defaults for the options of a call.

    Attributes:
        task: `question-answering`.
        model: The `QuestionAnswerer` that answers.

    Raises:
        TypeError: An option is unknown.
        ValueError: An option is out of range (including `WindowError` and `BudgetError`).

    Example:
        >>> from dynamic_tinybert import pipeline
        >>> ask = pipeline("question-answering")
        >>> ask(question="Where is the tower?", context="The tower stands in Paris.")["answer"]
        'Paris'
    """

    def __init__(self, model: QuestionAnswerer, **options: Any) -> None:
        self.task = TASK
        self.model = model
        self._defaults: dict[str, Any] = {}
        self._defaults = self._options(options)
        self._settings(self._defaults)

    def __repr__(self) -> str:
        return f"<QuestionAnsweringPipeline of {self.model!r}>"

    def __call__(
        self,
        *inputs: Inputs,
        question: str | Sequence[str] | None = None,
        context: str | Sequence[str] | None = None,
        **options: Any,
    ) -> Any:
        """Answer one question from one context, or many questions from many contexts.

        Give `question` and `context` by name or in this order. Each is a string or a list of strings; a single string
        is paired with each of a list. Or give a mapping with both as keys, or an object with the attributes
        `question_text` and `context_text`. Or give several of these: as a list, as arguments, or from a generator.

        Args:
            *inputs: Questions and contexts in one of the forms above.
            question: The question, or questions.
            context: The text, or texts, of any length.
            **options: An option that is None has the default that the pipeline was made with, or otherwise:

                - `top_k` 1: how many answers to give; `topk` is its old name.
                - `doc_stride`: how much the windows of a long text overlap, in tokens; by default 128, or half of
                  `max_seq_len` if that is less.
                - `max_answer_len` 15: the longest answer, in tokens.
                - `max_seq_len` 384: the longest window, in tokens; the model's limit if that is less.
                - `max_question_len`: the longest question, in tokens; a longer question is cut, with a warning. By
                  default there is no limit.
                - `handle_impossible_answer` False: allow the result that there is no answer.
                - `align_to_words` True: stretch an answer that begins or ends inside a word to the whole word.
                - `budget` `full`: what may be spent, as in `QuestionAnswerer.__call__`.
                - `batch_size`, `num_workers`, `padding`: ignored, because an answer does not depend on them.

        Returns:
            For one question, a dict of `score`, `start`, `end` and `answer`; with `top_k` above 1, a list of such
            dicts, the best first. For several questions, a list of these results in order; for a generator, a
            generator. A list with a single question counts as one question, as in transformers.

            `context[start:end] == answer`. If the context has no words or the question has no answer, `answer` is empty
            and `start` and `end` are 0.

        Raises:
            TypeError: An input has none of these forms, or an option is unknown.
            ValueError: A question or a context is empty, lists differ in length, a question and its context do not fit
                the windows, or an option is out of range (including `WindowError` and `BudgetError`).
        """
        options = self._options(options)
        settings, fixed = self._settings(options)
        found = _pairs(inputs, question, context)
        single = isinstance(found, list) and len(found) == 1
        stream = AnswerStream(FittingReader(self.model.reader, fixed=fixed), settings, numbered=not single)
        pairs = (_pair(item, number, single=single) for number, item in enumerate(found))
        if not isinstance(found, list):
            return self._results(stream, pairs, options["top_k"])
        return _one_or_all(list(self._results(stream, list(pairs), options["top_k"])))

    def _results(self, stream: AnswerStream, pairs: Iterable[tuple[str, str]], top_k: int) -> Iterator[Result]:
        for answers in stream(pairs):
            results = [
                {"score": answer.score, "start": answer.start, "end": answer.end, "answer": answer.text}
                for answer in answers
            ]
            yield results[0] if top_k == 1 else results

    def _options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a call; an option that is not given has the pipeline's default."""
        if unknown := sorted(set(options) - set(_OPTIONS)):
            raise TypeError(f"there is no option {unknown[0]!r}; there are {', '.join(_OPTIONS)}")
        given = {name: value for name, value in options.items() if value is not None}
        if "topk" in given:
            warn("topk is the old name of top_k: give top_k")
            given.setdefault("top_k", given.pop("topk"))
        return {**_OPTIONS, **self._defaults, **given}

    def _settings(self, options: Mapping[str, Any]) -> tuple[Settings, bool]:
        """Return the settings, and whether `doc_stride` was given. Raise ValueError if an option is out of range."""

        def at_least(least: int, name: str) -> int:
            return whole_number(options[name], name, least=least)

        at_least(1, "batch_size"), at_least(0, "num_workers")  # checked, although they have no effect
        if options["padding"] not in _PADDINGS:
            raise ValueError(f"padding must be one of {', '.join(map(str, _PADDINGS))}, not {options['padding']!r:.50}")
        positions = self.model.shape.positions
        longest = min(_LONGEST_WINDOW if options["max_seq_len"] is None else at_least(1, "max_seq_len"), positions)
        fixed = options["doc_stride"] is not None
        overlap = at_least(0, "doc_stride") if fixed else min(_OVERLAP, longest // 2)
        if fixed and overlap > (options["max_seq_len"] or longest):
            raise WindowError(f"doc_stride {overlap}, the overlap of windows, is more than max_seq_len {longest}")
        choice = self.model.table.select(self.model.shape, options["budget"])
        top_k = at_least(1, "top_k")
        longest_question = _UNCUT if options["max_question_len"] is None else at_least(1, "max_question_len")
        ranking = partial(
            WindowRanker,
            top_k=top_k,
            max_answer_len=min(at_least(1, "max_answer_len"), positions),
            align_to_words=bool(options["align_to_words"]),
            handle_impossible_answer=bool(options["handle_impossible_answer"]),
        )
        settings = Settings(
            choice=choice,
            max_seq_len=longest,
            doc_stride=overlap,
            max_question_len=longest_question,
            ranking=ranking,
            always_answers=True,
        )
        return settings, fixed


def pipeline(
    task: str | None = TASK,
    model: str | os.PathLike[str] | QuestionAnswerer | None = None,
    config: object = None,
    tokenizer: object = None,
    *,
    revision: str | None = None,
    use_fast: bool = True,
    token: str | bool | None = None,
    device: object = None,
    device_map: object = None,
    dtype: object = None,
    torch_dtype: object = None,
    trust_remote_code: bool | None = None,
    framework: str | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    precision: Precision = "fp32",
    threads: int | None = None,
    providers: Sequence[Provider] | None = None,
    **options: Any,
) -> QuestionAnsweringPipeline:
    """Make a replacement for `transformers.pipeline("question-answering", ...)`, which existed until transformers 5.2.

    Args:
        task: `question-answering`, the only task.
        model: A model folder, a name on the Hugging Face Hub or a `QuestionAnswerer`; by default the model inside the
            package.
        config: Only the configuration of `model` itself, by the same name: a model folder contains it.
        tokenizer: Only the tokenizer of `model` itself, by the same name: a model folder contains it.
        revision: A branch, tag or commit of a model on the Hub.
        use_fast: Ignored: the tokenizer is always the fast one.
        token: A token for the Hub, for private models.
        device: `cpu` or -1, the default; or `cuda`, `cuda:1` or 1 if ONNX Runtime is built for CUDA. If it is not, a
            number means the CPU, with a warning.
        device_map: `auto` or `cpu`; ignored.
        dtype: Arithmetic is in float32; another dtype gives a warning.
        torch_dtype: The old name of `dtype`.
        trust_remote_code: Ignored: code of a model is never run.
        framework: Ignored.
        model_kwargs: `revision`, `cache_dir`, `local_files_only`, `token` and `dtype` are used; a warning names the
            others.
        precision: See `QuestionAnswerer`.
        threads: See `QuestionAnswerer`.
        providers: See `QuestionAnswerer`; they replace `device`.
        **options: Defaults for the options of `QuestionAnsweringPipeline.__call__`.

    Raises:
        TypeError: The model is a PyTorch object, an option is unknown, or an option for loading is given with a model
            that is loaded.
        ValueError: The task or the device is not supported, an option is out of range, or the model cannot be opened
            (`ModelFolderError`).
    """
    if task not in (None, TASK):
        raise ValueError(f"the task must be {TASK!r}, not {task!r:.50}: for other tasks use transformers")
    if isinstance(model, QuestionAnswerer):
        before = {
            "config": config, "tokenizer": tokenizer, "revision": revision, "token": token, "device": device,
            "device_map": device_map, "dtype": dtype, "torch_dtype": torch_dtype, "model_kwargs": model_kwargs or None,
            "precision": None if precision == "fp32" else precision, "threads": threads, "providers": providers,
        }  # fmt: skip
        if given := [name for name, value in before.items() if value is not None]:
            raise TypeError(
                f"{given[0]} is for loading a model: give it to QuestionAnswerer, not with one that is loaded"
            )
        return QuestionAnsweringPipeline(model, **options)
    if model is not None and not isinstance(model, (str, os.PathLike)):
        raise TypeError(
            f"a model must be a folder or a name on the Hub, not {type(model).__name__}: "
            "model.save_pretrained and tokenizer.save_pretrained write a folder"
        )
    for name, value in (("config", config), ("tokenizer", tokenizer)):
        _check_own(name, value, model)
    if device_map not in (None, "auto", "cpu"):
        raise ValueError(f"device_map must be 'auto' or 'cpu', not {device_map!r:.50}: give device, as 'cuda:0'")
    loading, rest = loading_options(model_kwargs or {}, revision=revision, token=token)
    check_dtype(next((x for x in (dtype, torch_dtype, rest.get("dtype"), rest.get("torch_dtype")) if x), None))
    qa = QuestionAnswerer(
        model, precision=precision, threads=threads, providers=providers or providers_of(device), **loading
    )
    return QuestionAnsweringPipeline(qa, **options)


def _pairs(inputs: tuple[Inputs, ...], question: object, context: object) -> Iterable[Any]:
    """Return the inputs of a call, in any of the forms, as a list; those of a generator as an iterator.

    Raises:
        TypeError: The inputs have none of the forms.
        ValueError: The numbers of questions and contexts differ.
    """
    if inputs and (question is not None or context is not None):
        raise TypeError("give questions and contexts by name or by position, not both")
    if not inputs:
        if question is None or context is None:
            raise TypeError("give question= and context=, or dicts with these two keys")
        return _together(question, context)
    if all(map(_is_input, inputs)):
        return list(inputs)
    if len(inputs) == 2:
        return _together(*inputs)
    if len(inputs) == 1 and not isinstance(inputs[0], (str, bytes, bytearray)):
        return _items(inputs[0])
    raise TypeError("give question= and context=, or dicts with these two keys")


def _items(many: object) -> list[Any] | Iterator[Any]:
    """Return the inputs in a list, a dataset of any library or a generator.

    Raises:
        TypeError: `many` is none of these.
    """
    if isinstance(many, Sized) and hasattr(many, "__getitem__") and not hasattr(many, "__iter__"):
        return [many[i] for i in range(len(many))]  # a PyTorch dataset, which may not raise IndexError at its end
    try:
        items: Iterator[Any] = iter(many)  # type: ignore[call-overload]
    except TypeError:
        raise TypeError(f"an input must be a dict or a list of dicts, not {type(many).__name__}") from None
    return list(items) if isinstance(many, Sized) else items


def _together(question: object, context: object) -> list[dict[str, Any]]:
    sides: list[str | list[Any]] = []
    for name, value in (("question", question), ("context", context)):
        if isinstance(value, str):
            sides.append(value)
        elif isinstance(value, Collection) and not isinstance(value, (bytes, bytearray, Mapping, Set)):
            sides.append(list(value))  # a list, or a column of a table
        else:
            raise TypeError(
                f"a {name} must be a string or a list of strings, not {type(value).__name__}; "
                'for a generator let it yield dicts of "question" and "context"'
            )
    counts = [len(side) for side in sides if isinstance(side, list)] or [1]
    if counts[0] != counts[-1]:
        raise ValueError(f"there are {counts[0]} questions and {counts[1]} contexts: give the same number of each")
    questions, contexts = (side if isinstance(side, list) else [side] * counts[0] for side in sides)
    return [{"question": q, "context": c} for q, c in zip(questions, contexts, strict=True)]


def _is_input(item: object) -> bool:
    return isinstance(item, Mapping) or (hasattr(item, "question_text") and hasattr(item, "context_text"))


def _pair(item: object, number: int, *, single: bool) -> tuple[str, str]:
    """Return question and context of one input, which is the only one or has a number.

    Raises:
        TypeError: `item` is not an input, or question or context is not a string.
        ValueError: Question or context is missing or empty.
    """
    if isinstance(item, Mapping):
        for name in ("question", "context"):
            if name not in item:
                raise ValueError(f"input {number} has no {name!r}: a dict has the keys 'question' and 'context'")
        question, context = item["question"], item["context"]
    elif _is_input(item):
        question, context = item.question_text, item.context_text  # type: ignore[attr-defined]
    else:
        raise TypeError(f"input {number} must be a dict of 'question' and 'context', not {type(item).__name__}")
    if context is None or question is None:
        raise ValueError(f"the {'question' if question is None else 'context'} of input {number} is None")
    check_pair(question, context, None if single else number)
    if not context:
        raise ValueError("the context is empty" if single else f"the context is empty (number {number})")
    return question, context


def _one_or_all(results: list[Result]) -> Result | list[Result]:
    return results[0] if len(results) == 1 else results


def _check_own(name: str, value: object, model: object) -> None:
    """Check that a tokenizer or a configuration is the model's own."""
    called = value if isinstance(value, (str, os.PathLike)) else getattr(value, "name_or_path", value)
    if value is not None and str(called) != str(model):
        raise ValueError(f"a model folder brings its own {name}: leave {name} out, or save it into the folder")
