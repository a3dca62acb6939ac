"""A runnable and a document compressor for LangChain: exact answers from the documents of any retriever."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from dynamic_tinybert.answer import find_sentence
from dynamic_tinybert.compat.answering import Model, checked, find_answers, metadata_of, options_of
from dynamic_tinybert.corpus import PassageAnswer
from dynamic_tinybert.files import extra
from dynamic_tinybert.qa import QuestionAnswerer

with extra("langchain", "dynamic_tinybert.langchain"):
    from langchain_core.callbacks import Callbacks
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.runnables import Runnable, RunnableConfig, RunnablePassthrough, RunnableSerializable
    from langchain_core.runnables.config import run_in_executor
    from pydantic import ConfigDict
    from typing_extensions import TypedDict

__all__ = ["AnswerCompressor", "DocumentAnswer", "DocumentAnswerer"]

_CONTENTS = ("sentence", "answer", "document")


class DocumentAnswer(TypedDict):
    """An answer: `document.page_content[start:end] == text`.

    Attributes:
        text: The words that answer the question.
        document: The document, as it was given.
        start: The start of the answer, in characters of the document.
        end: The end of the answer, in characters of the document.
        score: Softmax over the candidates of all documents that were read last; in [0, 1].
        confidence: Calibrated probability that the document answers the question and that this is the answer; None for
            a model without calibration.
        sentence: The sentence that contains the answer, on one line.
    """

    text: str
    document: Any
    start: int
    end: int
    score: float
    confidence: float | None
    sentence: str


class DocumentAnswerer(RunnableSerializable[dict[str, Any], list[DocumentAnswer]]):  # type: ignore[misc]
    """Find the exact words that answer a question in documents: a LangChain runnable.

    The input is a mapping with `question` (or `query`) and `documents`; other keys are ignored. The output is a list of
    `DocumentAnswer`, the best first. It is empty if no document contains an answer. `ainvoke` works in a thread.

    Args:
        model: A model folder, the name of a model that is installed or on the Hub, or a loaded `QuestionAnswerer`; by
            default the embedded model. All
            components that name the same model share one in memory.
        budget: The cost of a prediction: a share in (0, 1], `full`, `balanced` or `fast`.
        top_k: How many answers to give, at most, over all documents.
        max_latency_ms: The time limit in milliseconds, without the loading of the model. To keep it, the model predicts
            on fewer documents, from the first on, but at least one.
        min_confidence: Give only answers of at least this confidence.
        name: The name of the runnable in traces.

    Raises:
        TypeError: The model is of another type.
        ValueError: An option is out of range (including `BudgetError`).

    Example:
        >>> from langchain_core.documents import Document
        >>> from dynamic_tinybert.langchain import DocumentAnswerer
        >>> documents = [Document("It was built in 1889."), Document("The tower stands in Paris.")]
        >>> answers = DocumentAnswerer().invoke({"question": "Where is the tower?", "documents": documents})
        >>> answers[0]["text"], answers[0]["start"]
        ('Paris', 20)
    """

    __module__ = "dynamic_tinybert.langchain"  # the public path, by which a saved or pickled one is found

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: str | QuestionAnswerer | None = None
    budget: float | str = "full"
    top_k: int = 3
    max_latency_ms: float | None = None
    min_confidence: float | None = None

    def __init__(
        self,
        *,
        model: Model | Path = None,
        budget: float | str = "full",
        top_k: int = 3,
        max_latency_ms: float | None = None,
        min_confidence: float | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            **checked(model, budget=budget, top_k=top_k, max_latency_ms=max_latency_ms, min_confidence=min_confidence),
            name=name,
        )

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Return that LangChain can save it, unless its model is a loaded one."""
        return True

    def invoke(
        self, input: Mapping[str, Any], config: "RunnableConfig | None" = None, **options: Any
    ) -> list[DocumentAnswer]:
        """Find the answers.

        Args:
            input: `question` (or `query`), a string, and `documents`: LangChain's documents, strings, or objects or
                mappings with a `text`, `page_content` or `content`.
            config: LangChain's: callbacks, tags and so on.
            options: `budget`, `top_k`, `max_latency_ms`, `min_confidence` for this call, as `bind` gives them.

        Raises:
            TypeError: The input, the question or a document is of another type.
            ValueError: A key is missing, the question is empty, or an option is out of range.
        """
        answers: list[DocumentAnswer] = self._call_with_config(self._answers, input, config, **options)
        return answers

    async def ainvoke(
        self, input: Mapping[str, Any], config: "RunnableConfig | None" = None, **options: Any
    ) -> list[DocumentAnswer]:
        """Find the answers in a thread: see `invoke`."""
        answers: list[DocumentAnswer] = await self._acall_with_config(self._async_answers, input, config, **options)
        return answers

    def with_retriever(self, retriever: Any) -> Runnable[str, list[DocumentAnswer]]:
        """Return a runnable that takes a question, retrieves documents, and finds the answers in them.

        Args:
            retriever: A retriever, or another runnable or function from a question to documents.
        """
        chain: Runnable[str, list[DocumentAnswer]] = {
            "question": RunnablePassthrough(),
            "documents": retriever,
        } | self
        return chain

    def _answers(self, input: Mapping[str, Any], **options: Any) -> list[DocumentAnswer]:
        question, documents = _question_and_documents(input)
        found = find_answers(question, documents, options_of(self, **options), name="documents")
        return [
            DocumentAnswer(
                text=one.text,
                document=one.passage,
                start=one.start,
                end=one.end,
                score=one.score,
                confidence=one.confidence,
                sentence=one.sentence,
            )
            for one in found
        ]

    async def _async_answers(self, input: Mapping[str, Any], **options: Any) -> list[DocumentAnswer]:
        answers: list[DocumentAnswer] = await run_in_executor(None, self._answers, input, **options)
        return answers


class AnswerCompressor(BaseDocumentCompressor):  # type: ignore[misc]
    """Reduce retrieved documents to the parts that answer the query: a compressor for `ContextualCompressionRetriever`.

    Each document that it returns is a part of one that it was given, and has its metadata and its id, and in addition
    `answer`, `answer_start`, `answer_end` (in characters of the document that was given), `answer_score`,
    `answer_confidence`, `answer_sentence` (on one line), and `content_start`, where its `page_content` starts in the
    document that was given. The best comes first. No part is returned twice, so there can be fewer than `top_k`.

    Args:
        content: The `page_content`: the `sentence` that contains the answer, as it is in the document; the `answer`;
            or the whole `document`.
        model: See `DocumentAnswerer`.
        budget: See `DocumentAnswerer`.
        top_k: How many answers to look for.
        max_latency_ms: See `DocumentAnswerer`.
        min_confidence: See `DocumentAnswerer`.

    Raises:
        TypeError: The model is of another type.
        ValueError: An option is out of range (including `BudgetError`).

    Example:
        >>> from langchain_core.documents import Document
        >>> from dynamic_tinybert.langchain import AnswerCompressor
        >>> documents = [Document("It is tall. The tower stands in Paris.", metadata={"page": 7})]
        >>> found = AnswerCompressor().compress_documents(documents, "Where is the tower?")[0]
        >>> found.page_content, found.metadata["answer"], found.metadata["page"]
        ('The tower stands in Paris.', 'Paris', 7)
    """

    __module__ = "dynamic_tinybert.langchain"

    model_config = ConfigDict(arbitrary_types_allowed=True)

    content: Literal["sentence", "answer", "document"] = "sentence"
    model: str | QuestionAnswerer | None = None
    budget: float | str = "full"
    top_k: int = 3
    max_latency_ms: float | None = None
    min_confidence: float | None = None

    def __init__(
        self,
        *,
        content: Literal["sentence", "answer", "document"] = "sentence",
        model: Model | Path = None,
        budget: float | str = "full",
        top_k: int = 3,
        max_latency_ms: float | None = None,
        min_confidence: float | None = None,
    ) -> None:
        if content not in _CONTENTS:
            raise ValueError(f"content must be one of {', '.join(_CONTENTS)}, not {content!r:.50}")
        super().__init__(
            content=content,
            **checked(model, budget=budget, top_k=top_k, max_latency_ms=max_latency_ms, min_confidence=min_confidence),
        )

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: "Callbacks | None" = None
    ) -> Sequence[Document]:
        """Find the parts. `acompress_documents` does so in a thread.

        Args:
            documents: The documents that were retrieved.
            query: The query.
            callbacks: LangChain's; unused.

        Raises:
            TypeError: The query is not a string, or a document is not LangChain's.
            ValueError: The query is empty.
        """
        for document in documents:
            if not isinstance(document, Document):
                raise TypeError(f"documents must be a list of LangChain's documents, not of {type(document).__name__}")
        parts: dict[tuple[int, int, int], Document] = {}
        for one in find_answers(query, documents, options_of(self), name="documents"):
            start, end = self._part(one)
            if (one.number, start, end) not in parts:
                parts[one.number, start, end] = Document(
                    one.passage.page_content[start:end],
                    id=one.passage.id,
                    metadata={**one.passage.metadata, **metadata_of(one), "content_start": start},
                )
        return list(parts.values())

    def _part(self, found: PassageAnswer) -> tuple[int, int]:
        text = found.passage.page_content
        if self.content == "answer":
            return found.start, found.end
        return (0, len(text)) if self.content == "document" else find_sentence(text, found.start, found.end)


def _question_and_documents(input: Mapping[str, Any]) -> tuple[str, Sequence[Any]]:
    """Take a question and documents out of the input of a runnable."""
    if not isinstance(input, Mapping):
        raise TypeError(f"the input must be a mapping with a question and documents, not {type(input).__name__}")
    question = input.get("question", input.get("query"))
    for name, value in (("question", question), ("documents", input.get("documents"))):
        if value is None:
            raise ValueError(f"the input has no {name}: give {{'question': ..., 'documents': [...]}}")
    assert question is not None
    return question, input["documents"]
