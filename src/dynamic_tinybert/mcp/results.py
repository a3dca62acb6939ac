"""The structured results of the tools. A client gets their JSON schemas."""

from __future__ import annotations

from pydantic import BaseModel, Field

_DOCUMENT = "The name of the document, as the other tools take it."
_INDEX = "The name of the index that contains the document."
_TITLE = "The title of the document; may be empty."
_PAGE = "The page, from 1; only of a PDF."


class QuotedAnswer(BaseModel):
    """An answer: words of a document, and where they are."""

    text: str = Field(description="The answer: the document's own words, from `start` to `end`.")
    sentence: str = Field(description="The sentence that contains the answer.")
    document: str = Field(description=_DOCUMENT)
    title: str = Field(description=_TITLE)
    index: str = Field(description=_INDEX)
    page: int | None = Field(None, description=_PAGE)
    start: int = Field(description="Where the answer starts, in characters of the document's text.")
    end: int = Field(description="Where the answer ends.")
    confidence: float | None = Field(
        None, description="The probability that this answers the question; null if the model is not calibrated."
    )


class Answers(BaseModel):
    """The result of `ask`."""

    answers: list[QuotedAnswer] = Field(
        description="The best first; empty if the documents do not seem to answer the question."
    )
    note: str | None = Field(None, description="What to know about the answers, for example why there is none.")


class FoundPassage(BaseModel):
    """A passage that shares words with a question."""

    document: str = Field(description=_DOCUMENT)
    title: str = Field(description=_TITLE)
    index: str = Field(description=_INDEX)
    page: int | None = Field(None, description=_PAGE)
    start: int = Field(description="Where the passage starts, in characters of the document's text.")
    end: int = Field(description="Where the passage ends.")
    text: str = Field(description="The passage, word for word.")
    score: float = Field(description="The BM25 score; more is better. It ranks the passages of one index.")


class Passages(BaseModel):
    """The result of `find`."""

    passages: list[FoundPassage] = Field(description="The best first; empty if no document has a word of the question.")


class ListedDocument(BaseModel):
    """A document, without its text."""

    name: str = Field(description=_DOCUMENT)
    title: str = Field(description=_TITLE)
    characters: int = Field(description="The length of its text.")
    index: str = Field(description=_INDEX)


class Documents(BaseModel):
    """The result of `list`."""

    documents: list[ListedDocument]
    total: int = Field(description="The number of all documents.")
    next_offset: int | None = Field(None, description="The `offset` of the next part; null at the end.")


class DocumentPart(BaseModel):
    """The result of `read`."""

    document: str = Field(description=_DOCUMENT)
    title: str = Field(description=_TITLE)
    index: str = Field(description=_INDEX)
    start: int = Field(description="Where this part starts, in characters of the document's text.")
    end: int = Field(description="Where this part ends.")
    text: str = Field(description="This part of the text, word for word; empty if `start` is after its end.")
    characters: int = Field(description="The length of the whole text.")
    next_start: int | None = Field(None, description="The `start` of the next part; null at the end of the text.")
