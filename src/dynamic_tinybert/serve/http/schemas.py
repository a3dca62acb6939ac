"""The schemas of requests and responses."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model, model_validator

from dynamic_tinybert.inference import DEFAULTS
from dynamic_tinybert.serve.http.problems import FieldError, RequestModel
from dynamic_tinybert.serve.options import ServeOptions

_MOST_TOKENS = 100_000  # for lengths in a request; the limit of the model is checked later
_MOST_ANSWERS = 100
_LONGEST_ANSWER = 100
_MOST_CANDIDATES = 3000  # answers times length; the time and memory of ranking grow with its square
_MOST_MS = 3_600_000.0


def _whole(value: object) -> object:
    """Convert 64.0 to 64: JSON has only one type of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_Whole: TypeAlias = Annotated[int, BeforeValidator(_whole)]


class AnswerRequest(RequestModel):
    """Questions, and their source: a text, texts, or the name of an index."""

    model_config = ConfigDict(strict=True)  # "1" and true are not numbers

    question: str | list[str]
    text: str | list[str] | None = None
    context: str | list[str] | None = None
    index: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="The name of an index, instead of a text: see /info."
    )
    budget: Literal["full", "balanced", "fast"] | Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="The most that a question may cost: a share of the full model's arithmetic in (0, 1]; full; "
        "balanced, the cheapest measured configuration within 1 F1 of full; or fast, within 3. Load control may give "
        "less. By default the server's.",
    )
    top_k: _Whole = Field(1, ge=1, le=_MOST_ANSWERS, description="How many answers to give. They do not overlap.")
    max_latency_ms: Annotated[float, Field(gt=0, le=_MOST_MS)] | None = Field(
        None,
        description="The time limit for the answer, in milliseconds. Load control chooses a budget that meets it. When "
        "it has passed, the request ends with status 504.",
    )
    handle_impossible_answer: bool = Field(
        False, description="Allow an empty answer, if the text does not answer the question."
    )
    no_answer_threshold: Annotated[float, Field(ge=-1e6, le=1e6)] | Literal["squad2"] | None = Field(
        None,
        description="No answer if the no-answer logit is more than this above the best span's; by default the model's. "
        "squad2: the model's for texts of which half have no answer.",
    )
    max_seq_len: Annotated[_Whole, Field(ge=1, le=_MOST_TOKENS)] | None = Field(
        None, description="The longest window, in tokens; by default what the model was measured with, usually 384."
    )
    doc_stride: Annotated[_Whole, Field(ge=0, le=_MOST_TOKENS)] | None = Field(
        None, description="The overlap of the windows of a long text, in tokens; by default 128."
    )
    max_question_len: _Whole = Field(
        DEFAULTS["max_question_len"], ge=1, le=_MOST_TOKENS, description="The longest question, in tokens; then cut."
    )
    max_answer_len: _Whole = Field(
        DEFAULTS["max_answer_len"], ge=1, le=_LONGEST_ANSWER, description="The longest answer, in tokens."
    )
    align_to_words: bool = Field(
        DEFAULTS["align_to_words"],
        description="Give answers as a person would underline them: whole words, numbers and pairs of brackets, and "
        "nothing across paragraphs. False gives the best span of tokens.",
    )
    score_threshold: float = Field(
        DEFAULTS["score_threshold"], ge=0, le=1, description="Leave out answers below this share of the best score."
    )
    explain: bool = Field(
        False, description="Return how many layers each token passed before it was dropped; not for an index."
    )

    @model_validator(mode="after")
    def _fits(self) -> AnswerRequest:
        if self.context is not None:
            if self.text is not None:
                raise FieldError("text and context are the same: give one of them")
            self.text = self.context
        if (self.text is None) == (self.index is None):
            raise FieldError("give one of text and index")
        if isinstance(self.question, list) and isinstance(self.text, list) and len(self.question) != len(self.text):
            raise FieldError("question and text are lists of different lengths")
        for question in [self.question] if isinstance(self.question, str) else self.question:
            if not question.strip():
                raise FieldError("a question is empty")
        if self.index is not None and (self.explain or self.handle_impossible_answer):
            raise FieldError("explain and handle_impossible_answer need a text")
        if self.top_k * self.max_answer_len > _MOST_CANDIDATES:
            raise FieldError(f"top_k times max_answer_len is more than {_MOST_CANDIDATES}")
        if self.no_answer_threshold is not None and not self.handle_impossible_answer:
            raise FieldError("no_answer_threshold needs handle_impossible_answer")
        return self

    @property
    def questions(self) -> list[str]:
        """The questions, one for each answer."""
        many = max(_count(self.question), _count(self.text))
        return [self.question] * many if isinstance(self.question, str) else self.question

    @property
    def texts(self) -> list[str]:
        """The texts, one for each question; empty if the source is an index."""
        if self.text is None:
            return []
        return [self.text] * len(self.questions) if isinstance(self.text, str) else self.text


def _count(value: str | list[str] | None) -> int:
    return len(value) if isinstance(value, list) else 1


def request_model(options: ServeOptions) -> type[AnswerRequest]:
    """Return the model of a request with the limits of a server."""
    question = Annotated[str, Field(min_length=1, max_length=options.max_question_characters)]
    text = Annotated[str, Field(max_length=options.max_text_characters)]
    many: Any = Field(min_length=1, max_length=options.max_questions)
    fields: dict[str, Any] = {
        "question": (
            question | Annotated[list[question], many],
            Field(description="The question or questions. A single question is asked of each text."),
        ),
        "text": (
            text | Annotated[list[text], many] | None,
            Field(None, description="The text or texts. A single text is used for each question."),
        ),
        "context": (text | Annotated[list[text], many] | None, Field(None, description="Another name of `text`.")),
    }
    made: type[AnswerRequest] = create_model("AnswerRequest", __base__=AnswerRequest, **fields)
    return made


class AnswerItem(BaseModel):
    """An answer."""

    text: str = Field(description="The words of the answer, exactly as in the text.", examples=["Paris"])
    start: int = Field(description="The start of the answer, in Unicode characters of the text or the document.")
    end: int = Field(description="The end of the answer, in the same unit.")
    score: float = Field(description="Softmax over the candidate spans of the whole text, in [0, 1].")
    logit: float | None = Field(description="Start plus end logit, raw.")
    confidence: float | None = Field(
        description="Calibrated probability that the text answers the question and this is the answer."
    )
    document: str | None = Field(None, description="For an index: the document.")
    title: str | None = Field(None, description="For an index: the title of the document.")
    passage: str | None = Field(None, description="For an index: the passage that contains the answer.")
    passage_start: int | None = Field(None, description="For an index: the start of the passage in its document.")
    retrieval: float | None = Field(None, description="For an index: the BM25 score of the passage.")


class Tokens(BaseModel):
    """The tokens of a text and the layers that each passed."""

    start: list[int] = Field(description="The start of each token, in Unicode characters.")
    end: list[int] = Field(description="The end of each token.")
    layers: list[int] = Field(description="How many layers each token passed; all layers if it was never dropped.")


class ResultItem(BaseModel):
    """The result of a question."""

    answers: list[AnswerItem] = Field(description="The answers, the best first; empty if the text has no words.")
    configuration: str = Field(description="The length configuration that the question got.", examples=["search-0.68"])
    share: float = Field(description="The configuration's share of the full model's arithmetic.", examples=[0.6775])
    windows: int = Field(description="The number of windows.")
    macs: int = Field(description="The number of multiply-accumulates.")
    bert_base_macs: int = Field(description="The multiply-accumulates of BERT-base on the same windows.")
    queue_ms: float = Field(description="The time from the request's arrival to the question's first batch.")
    read_ms: float = Field(description="The time from the first batch to the answer.")
    tokens: Tokens | None = Field(None, description="With explain: the tokens of the text.")


class AnswerResponse(BaseModel):
    """The answers."""

    model: str = Field(examples=["embedded"])
    total_ms: float = Field(description="The time from the request's arrival to the response.")
    results: list[ResultItem] = Field(description="One result per question, in order.")


_PLACE_CHARACTERS = 20_000  # of the longest part that is found on pages


class PlaceRequest(RequestModel):
    """A part of a document of an index."""

    index: Annotated[str, Field(max_length=200, description="The name of an index: see /info.")]
    document: Annotated[str, Field(min_length=1, max_length=2000, description="The document, as an answer names it.")]
    start: Annotated[int, Field(ge=0, le=1 << 53, description="The start of the part, as of an answer.")]
    end: Annotated[int, Field(ge=1, le=1 << 53, description="The end of the part.")]

    @model_validator(mode="after")
    def _fits(self) -> PlaceRequest:
        if not 0 < self.end - self.start <= _PLACE_CHARACTERS:
            raise FieldError(f"end must be more than start, by at most {_PLACE_CHARACTERS}")
        return self


class BoxItem(BaseModel):
    """A line of a part on a page, in points from the upper left corner of the page as it is shown; y goes down."""

    page: int = Field(description="The number of the page, from 1.")
    left: float
    top: float
    right: float
    bottom: float
    page_width: float
    page_height: float


class PlaceResponse(BaseModel):
    """Where a part of a document stands."""

    boxes: list[BoxItem] = Field(description="A box for each line of the part.")


class Health(BaseModel):
    """The state of the server."""

    status: Literal["ok", "stopping"]


class ModelInfo(BaseModel):
    """The model."""

    name: str
    layers: int
    hidden: int
    heads: int
    feed_forward: int
    positions: int = Field(description="The longest sequence, in tokens.")
    precision: str = Field(description="The arithmetic: fp32 or int8.")
    calibrated: bool = Field(description="Whether answers have a confidence.")
    no_answer_threshold: float | None


class Configuration(BaseModel):
    """A length configuration."""

    name: str
    share: float
    exact_match: float | None
    f1: float | None
    fractions: list[float] = Field(description="The share of a sequence's tokens that remains after each layer.")


class IndexInfo(BaseModel):
    """An index."""

    name: str
    documents: int | None = Field(description="null if the index cannot be used now.")
    passages: int | None


class LoadControlInfo(BaseModel):
    """The objective and the current state of load control."""

    slo_ms: float
    min_share: float
    configuration: str = Field(description="The length configuration that a question would get now.")


class Limits(BaseModel):
    """The limits of a request."""

    max_body_bytes: int
    max_text_characters: int
    max_question_characters: int
    max_questions: int
    max_waiting: int
    max_batch_tokens: int
    timeout_ms: float


class Info(BaseModel):
    """The server, its model, its indexes and its limits."""

    version: str
    model: ModelInfo
    measured_on: str | None = Field(description="The data on which EM and F1 were measured.")
    configurations: list[Configuration]
    budgets: dict[str, str] = Field(description="The length configuration of each named budget.")
    indexes: list[IndexInfo]
    load_control: LoadControlInfo | None
    limits: Limits


EXAMPLES: dict[str, Any] = {
    "text": {
        "summary": "A question to a text",
        "value": {
            "question": "In which city is the tower?",
            "text": "The tower stands in Paris. It was built in 1889.",
        },
    },
    "list": {
        "summary": "Two questions to a text, at two thirds of the cost, two answers each",
        "value": {
            "question": ["In which city is the tower?", "When was it built?"],
            "text": "The tower stands in Paris. It was built in 1889.",
            "budget": "balanced",
            "top_k": 2,
        },
    },
    "explain": {
        "summary": "The layer at which each token was dropped",
        "value": {
            "question": "When was it built?",
            "text": "The tower stands in Paris. It was built in 1889.",
            "budget": 0.5,
            "explain": True,
        },
    },
}
