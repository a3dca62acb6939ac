"""An extractive reader for haystack pipelines that can replace `TransformersExtractiveReader`."""

import math
import numbers
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dynamic_tinybert.compat.haystack_ranking import Candidate, CandidateRanker, apart
from dynamic_tinybert.compat.readers import QueryReader
from dynamic_tinybert.compat.torch_arguments import check_dtype, loading_options, providers_of
from dynamic_tinybert.errors import whole_number
from dynamic_tinybert.files import install_command
from dynamic_tinybert.inference import AnswerStream, Settings
from dynamic_tinybert.model import Budget, parse_budget
from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.runtime import Precision, Provider, check_threads, choose_precision

try:
    from haystack import Document, ExtractedAnswer, component, default_from_dict, default_to_dict, logging
    from haystack.utils import ComponentDevice, Secret
except ImportError:
    raise ImportError(
        f"dynamic_tinybert.haystack needs haystack-ai 3 or later: {install_command('haystack')}"
    ) from None

__all__ = ["ExtractiveReader"]

_CANDIDATES = 20  # of a window, if `answers_per_seq` is not given
_SHORTEST = 5  # tokens of a window: three special tokens, one of the query, one of the document
_LOADING = threading.Lock()  # not an attribute, so that a component without a loaded model can be copied
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Options:
    """The options of a query: see `ExtractiveReader`."""

    top_k: int
    score_threshold: float | None
    max_seq_length: int
    stride: int
    max_batch_size: int | None
    answers_per_seq: int | None
    no_answer: bool
    calibration_factor: float
    overlap_threshold: float | None
    budget: Budget

    def check(self) -> None:
        """Raise ValueError if an option is out of range, without the limits of a model."""
        least = {"top_k": 1, "max_seq_length": _SHORTEST, "stride": 0, "max_batch_size": 1, "answers_per_seq": 1}
        for name, minimum in least.items():
            value = getattr(self, name)
            if value is not None:
                whole_number(value, name, least=minimum)
        if self.stride >= self.max_seq_length:
            raise ValueError(
                f"stride {self.stride}, the overlap of windows, is not less than max_seq_length {self.max_seq_length}"
            )
        for name in ("score_threshold", "overlap_threshold", "calibration_factor"):
            value = getattr(self, name)
            number = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if value is not None and not (number and 0 <= value < math.inf):
                raise ValueError(f"{name} must be a number of at least 0, not {value!r:.50}")
        if not self.calibration_factor:
            raise ValueError("calibration_factor must be more than 0")


_NAMES = tuple(option.name for option in fields(_Options))
_OTHERS = ("token_types", "precision", "threads", "providers")  # also saved with a pipeline


@component
class ExtractiveReader:
    """Find answers to a query in documents like `TransformersExtractiveReader`, but without PyTorch.

    Every span is scored separately, by the logistic function of its logit. So scores from different documents can be
    compared. Safe to use from many threads.

    Args:
        model: A model folder, or a name on the Hugging Face Hub; by default the model inside the package.
        device: The CPU, the default, or `cuda` if ONNX Runtime is built for it.
        token: A token for the Hub, for private models.
        top_k: How many answers to give, at most, in addition to "no answer".
        score_threshold: Give only answers of at least this score.
        max_seq_length: The longest window, in tokens; the model's limit if that is less.
        stride: How much the windows of a long document overlap, in tokens. If the query leaves too little room, the
            overlap is half of that room.
        max_batch_size: How many windows are predicted at once, at most. No answer depends on it.
        answers_per_seq: How many spans of a window are candidates; by default 20.
        no_answer: Also give an answer without text. Its score is the probability that all others are wrong.
        calibration_factor: The factor of the logits before the logistic function turns them into scores.
        overlap_threshold: If two answers of a document share more than this part of the shorter one, only the better
            one stays. None keeps both.
        model_kwargs: `revision`, `cache_dir`, `local_files_only`, `token` and `device_map` are used; a warning names
            the others.
        budget: What may be spent: a share in (0, 1], `full`, `balanced` or `fast`. Below `full`, an answer's `meta`
            contains what was spent: `configuration` and `share`.
        token_types: Tell the model which tokens belong to the document, as in its training. False gives the answers of
            `TransformersExtractiveReader`, which does not tell it, and works only at `full`.
        precision: See `QuestionAnswerer`.
        threads: See `QuestionAnswerer`.
        providers: See `QuestionAnswerer`; they replace `device`.

    Raises:
        ValueError: An option is out of range, or the device does not exist.
        TypeError: The token is not a `Secret`, or the device is not a `ComponentDevice`.

    Example:
        >>> from haystack import Document
        >>> from dynamic_tinybert.haystack import ExtractiveReader
        >>> reader = ExtractiveReader()
        >>> documents = [Document(content="The tower stands in Paris."), Document(content="It was built in 1889.")]
        >>> reader.run(query="Where is the tower?", documents=documents)["answers"][0].data
        'Paris'
    """

    # Haystack's namespace for components of other packages. A saved pipeline loads by this name in any process.
    # Haystack imports classes from other modules only if the user declares them trusted.
    __module__ = "haystack_integrations.components.readers.dynamic_tinybert"

    def __init__(
        self,
        model: str | Path | None = None,
        device: ComponentDevice | None = None,
        token: Secret | None = Secret.from_env_var(["HF_API_TOKEN", "HF_TOKEN"], strict=False),  # noqa: B008
        top_k: int = 20,
        score_threshold: float | None = None,
        max_seq_length: int = 384,
        stride: int = 128,
        max_batch_size: int | None = None,
        answers_per_seq: int | None = None,
        no_answer: bool = True,
        calibration_factor: float = 0.1,
        overlap_threshold: float | None = 0.01,
        model_kwargs: dict[str, Any] | None = None,
        *,
        budget: float | str = "full",
        token_types: bool = True,
        precision: Precision = "fp32",
        threads: int | None = None,
        providers: Sequence[Provider] | None = None,
    ) -> None:
        if token is not None and not isinstance(token, Secret):
            raise TypeError(
                "token must be a Secret, so that no saved pipeline contains it: Secret.from_env_var('HF_TOKEN')"
            )
        if device is not None and not isinstance(device, ComponentDevice):
            raise TypeError("device must be a ComponentDevice, for example ComponentDevice.from_str('cuda:0')")
        self.model = None if model is None else str(model)
        self.device = device
        self.token = token
        self.top_k = top_k
        self.score_threshold = score_threshold
        self.max_seq_length = max_seq_length
        self.stride = stride
        self.max_batch_size = max_batch_size
        self.answers_per_seq = answers_per_seq
        self.no_answer = no_answer
        self.calibration_factor = calibration_factor
        self.overlap_threshold = overlap_threshold
        self.model_kwargs = model_kwargs
        self.budget = budget
        self.token_types = token_types
        self.precision = precision
        self.threads = threads
        self.providers = providers
        self._options()
        choose_precision(precision, "fp32", self._providers())
        check_threads(threads)
        self._qa: QuestionAnswerer | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the component as a dictionary that a pipeline can save.

        Raises:
            ValueError: The token is a value, not the name of an environment variable; or it is in `model_kwargs`.
        """
        if "token" in (self.model_kwargs or {}):
            raise ValueError(
                "model_kwargs contains a token, which would be saved with the pipeline: give token, a Secret"
            )
        model_kwargs = {name: _plain(value) for name, value in (self.model_kwargs or {}).items()}
        data: dict[str, Any] = default_to_dict(
            self,
            model=self.model,
            device=self.device,
            token=self.token,
            **{name: _plain(getattr(self, name)) for name in (*_NAMES, *_OTHERS)},
            model_kwargs=model_kwargs or None,
        )
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ExtractiveReader":
        """Make the component from a dictionary that `to_dict` returned."""
        reader: ExtractiveReader = default_from_dict(cls, data)
        return reader

    def warm_up(self) -> None:
        """Load the model if it is not loaded. `run` also does so.

        Raises:
            ValueError: The model or the execution provider is missing (including `ModelFolderError`).
        """
        if self._qa is None:
            with _LOADING:
                self._qa = self._qa or self._load()

    @component.output_types(answers=list[ExtractedAnswer])  # type: ignore[untyped-decorator]
    def run(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
        max_seq_length: int | None = None,
        stride: int | None = None,
        max_batch_size: int | None = None,
        answers_per_seq: int | None = None,
        no_answer: bool | None = None,
        overlap_threshold: float | None = None,
        budget: float | str | None = None,
    ) -> dict[str, Any]:
        """Find answers to a query in documents.

        An option that is None has the value that the component was made with.

        Args:
            query: The query. If it is longer than half a window and does not fit with the document in one window, it
                is cut to half a window, with a warning.
            documents: The documents, with texts of any length. A document without text (an image, a table) is ignored,
                with a warning in the log.
            top_k: How many answers to give, at most, in addition to "no answer".
            score_threshold: Give only answers of at least this score.
            max_seq_length: The longest window, in tokens.
            stride: How much the windows of a long document overlap, in tokens.
            max_batch_size: How many windows are predicted at once, at most.
            answers_per_seq: How many spans of a window are candidates.
            no_answer: Also give an answer without text.
            overlap_threshold: The part of the shorter one that two answers of a document may share.
            budget: What may be spent.

        Returns:
            `answers`, the best first; empty if there are no documents. For each answer with text,
            `answer.document.content[answer.document_offset.start : answer.document_offset.end] == answer.data`. If the
            document's `meta` has a `page_number`, the answer's `meta` has the page of the answer, `answer_page_number`.

        Raises:
            TypeError: The query or the content of a document is not a string.
            ValueError: The query is empty, or an option is out of range (including `BudgetError`).
        """
        options = self._options(
            top_k=top_k,
            score_threshold=score_threshold,
            max_seq_length=max_seq_length,
            stride=stride,
            max_batch_size=max_batch_size,
            answers_per_seq=answers_per_seq,
            no_answer=no_answer,
            overlap_threshold=overlap_threshold,
            budget=budget,
        )
        if not isinstance(query, str):
            raise TypeError(f"a query must be a string, not {type(query).__name__}")
        if not query.strip():
            raise ValueError("the query is empty")
        self.warm_up()
        if not documents:
            return {"answers": []}
        candidates = self._candidates(query, documents, options)
        best = apart(candidates, options.top_k, options.overlap_threshold)
        answers = [_extracted(query, candidate, spent=options.budget != "full") for candidate in best]
        if options.no_answer:
            score = math.prod(1 - answer.score for answer in answers)
            answers.append(ExtractedAnswer(query=query, data=None, document=None, score=score))
            answers.sort(key=lambda answer: -answer.score)
        if options.score_threshold is not None:
            answers = [answer for answer in answers if answer.score >= options.score_threshold]
        return {"answers": answers}

    def _load(self) -> QuestionAnswerer:
        token = self.token.resolve_value() if self.token else None
        given = {name: value for name, value in (self.model_kwargs or {}).items() if name != "device_map"}
        loading, rest = loading_options(given, revision=None, token=None)
        check_dtype(rest.get("dtype") or rest.get("torch_dtype"))
        return QuestionAnswerer(
            self.model,
            precision=self.precision,
            threads=self.threads,
            providers=self._providers(),
            **{"token": token, **loading},
        )

    def _options(self, **given: Any) -> _Options:
        """Return the options of a call; an option that is not given has the component's value.

        Raises:
            ValueError: An option is out of range, or does not fit `token_types`.
        """
        own = {name: getattr(self, name) for name in _NAMES}
        values = {**own, **{name: value for name, value in given.items() if value is not None}}
        options = _Options(**{**values, "budget": parse_budget(str(values["budget"]))})
        options.check()
        if not self.token_types and options.budget != "full":
            raise ValueError("token_types=False needs the budget 'full': dropping needs to know the query")
        return options

    def _candidates(self, query: str, documents: list[Document], options: _Options) -> list[Candidate]:
        """Return the candidates of all documents, best first."""
        assert self._qa is not None
        ranking = partial(
            CandidateRanker,
            answers_per_seq=options.answers_per_seq or _CANDIDATES,
            calibration_factor=options.calibration_factor,
        )
        settings = Settings(
            choice=self._qa.table.select(self._qa.shape, options.budget),
            max_seq_len=min(options.max_seq_length, self._qa.shape.positions),
            doc_stride=options.stride,
            max_question_len=self._qa.shape.positions,
            ranking=ranking,
            always_answers=False,
            most_rows=options.max_batch_size,
        )
        read = []
        for document in documents:
            if document.content is None:
                _log.warning("Document {id} has no text and is ignored by ExtractiveReader.", id=document.id)
            else:
                read.append(document)
        stream = AnswerStream(QueryReader(self._qa.reader, token_types=self.token_types), settings, numbered=False)
        found = stream((query, document.content or "") for document in read)
        candidates = [
            Candidate(answer, document) for answers, document in zip(found, read, strict=True) for answer in answers
        ]
        return sorted(candidates, key=lambda candidate: -candidate.answer.logit)

    def _providers(self) -> Sequence[Provider] | None:
        """Return the given execution providers, or those for the device.

        Raises:
            ValueError: The device is neither the CPU nor CUDA, or there are several.
        """
        if self.providers:
            # A saved pipeline stores a pair as a list.
            return [
                provider if isinstance(provider, str) else (provider[0], provider[1]) for provider in self.providers
            ]
        where: Any = (self.model_kwargs or {}).get("device_map") or (self.device.to_hf() if self.device else None)
        if isinstance(where, Mapping):
            if len({str(device) for device in where.values()}) != 1:
                raise ValueError(f"a model runs on one device, not on those of {dict(where)!r:.50}")
            where = next(iter(where.values()))
        return None if where == "auto" else providers_of(where)


def _extracted(query: str, candidate: Candidate, *, spent: bool) -> ExtractedAnswer:
    answer, document = candidate
    meta: dict[str, Any] = {}
    page = (document.meta or {}).get("page_number")
    if isinstance(page, int):
        meta["answer_page_number"] = page + (document.content or "").count("\f", 0, answer.start)
    elif page is not None:
        _log.warning("The page_number of document {id} is not a whole number: its answers have none.", id=document.id)
    if spent:
        meta |= {"configuration": answer.spent.configuration, "share": answer.spent.share}
    return ExtractedAnswer(
        query=query,
        data=answer.text,
        document=document,
        score=answer.score,
        document_offset=ExtractedAnswer.Span(answer.start, answer.end),
        meta=meta,
    )


def _plain(value: Any) -> Any:
    """Convert a value for a saved pipeline: PyTorch's types become their names, tuples become lists."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
