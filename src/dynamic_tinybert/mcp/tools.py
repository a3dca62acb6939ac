"""The tools: their names, what they tell a model about themselves, and their arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import anyio
import anyio.to_thread
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp_types import ToolAnnotations
from pydantic import Field

from dynamic_tinybert.errors import DynamicTinyBertError, one_line
from dynamic_tinybert.mcp.library import Library
from dynamic_tinybert.mcp.results import Answers, DocumentPart, Documents, Passages

_T = TypeVar("_T")

LONGEST_PART = 20_000
"""The most characters that `read` returns."""

_THREADS = 4  # calls that work at the same time; the others wait, and so does nothing else
_MOST_THREADS = 16  # with those whose calls were cancelled
_POLL_S = 0.05
_READ_ONLY = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)

_Question: TypeAlias = Annotated[
    str,
    Field(
        max_length=2000,
        description="One question in a full sentence, in the words that the documents are likely to use.",
    ),
]
_Budget: TypeAlias = Annotated[
    Literal["full", "balanced", "fast"] | Annotated[float, Field(gt=0, le=1)],
    Field(description="Accuracy against time: full, balanced, fast, or a share of the full model's cost in (0, 1]."),
]
_Name: TypeAlias = Annotated[str, Field(max_length=2000, description="The name of a document, as `list` gives it.")]
_Index: TypeAlias = Annotated[
    str | None, Field(max_length=200, description="The name of one index; by default all indexes.")
]
_From: TypeAlias = Annotated[int, Field(ge=0, description="How many documents to leave out at the beginning.")]


def make_tools(library: Library) -> list[Tool]:
    """Return the tools that work on the documents of a library."""
    limiter = anyio.CapacityLimiter(_THREADS)
    working: set[object] = set()  # a mark for each thread; its changes are atomic

    async def run(work: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
        """Work in a thread, so that the server answers other requests meanwhile.

        A call that is cancelled before it has a thread never gets one. After that, it is not waited for: its thread
        works to the end, and a new call gets a place. So the number of threads that work has a limit of its own.
        """

        def call() -> _T:
            if len(working) >= _MOST_THREADS:
                raise ToolError("the server still works on calls that were cancelled: ask again in a moment")
            mark = object()
            working.add(mark)
            try:
                return work(*arguments, **options)
            finally:
                working.discard(mark)

        while not library.ready:
            await anyio.sleep(_POLL_S)
        try:
            return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=limiter)
        except DynamicTinyBertError as error:
            raise ToolError(one_line(error)) from None

    async def ask(
        question: _Question,
        top_k: Annotated[int, Field(ge=1, le=10, description="The most answers to give.")] = 3,
        budget: _Budget = "full",
        document: Annotated[
            str | None, Field(max_length=2000, description="Answer from this document only; by default from all.")
        ] = None,
        index: _Index = None,
    ) -> Answers:
        """Answer a question with exact quotes from the user's own documents, each with its source.

        Use this first for a question of fact (who, what, when, where, how many) that the documents may answer. Each
        answer is a short span of a document, word for word, with the sentence around it, the document, the page of a
        PDF, and the place in the text, so that you can cite it. Nothing is generated: an answer cannot be invented, but
        it can be the wrong span, so check it against its sentence and its confidence. If no answer is likely enough,
        the list is empty and `note` says so: then tell the user, or try other words. Ask one thing at a time: it does
        not summarize, compare, count or calculate. For more context, call `read` with the document and a start.
        """
        return await run(library.ask, question, top_k=top_k, budget=budget, document=document, index=index)

    async def find(
        question: _Question,
        k: Annotated[int, Field(ge=1, le=50, description="The most passages to give.")] = 5,
        index: _Index = None,
    ) -> Passages:
        """Find the passages of the user's documents that share the most telling words with a question or with keywords.

        Use this if you need more than a short answer (a description, an argument, a comparison), or if `ask` found
        nothing. It gives whole passages of up to about 1,200 characters, word for word, with document, place and
        score. It searches by words (BM25), not by meaning: try synonyms.
        """
        return await run(library.find, question, k=k, index=index)

    async def list_documents(
        offset: _From = 0,
        limit: Annotated[int, Field(ge=1, le=500, description="The most documents to give.")] = 100,
        index: _Index = None,
    ) -> Documents:
        """List the user's documents: names, titles and lengths.

        Use this to learn what there is, or the exact name of a document for `ask` and `read`. If `next_offset` is not
        null, there are more documents: call it again with this `offset`.
        """
        return await run(library.documents, offset=offset, limit=limit, index=index)

    async def read(
        document: _Name,
        start: Annotated[int, Field(ge=0, description="Where to start, in characters of the text.")] = 0,
        length: Annotated[int, Field(ge=1, le=LONGEST_PART, description="The most characters to give.")] = 4000,
        index: _Index = None,
    ) -> DocumentPart:
        """Read a part of a document, word for word.

        Use this to see what stands around an answer or a passage: give its document, and a `start` a little before
        its own. If `next_start` is not null, the text goes on there.
        """
        return await run(library.read, document, start=start, length=length, index=index)

    return [
        _tool(ask, "ask", "Ask the documents"),
        _tool(find, "find", "Find passages"),
        _tool(list_documents, "list", "List the documents"),
        _tool(read, "read", "Read a document"),
    ]


def _tool(call: Callable[..., Any], name: str, title: str) -> Tool:
    description = " ".join((call.__doc__ or "").split())
    tool = Tool.from_function(
        call, name=name, title=title, description=description, annotations=_READ_ONLY, structured_output=True
    )
    tool.parameters["additionalProperties"] = False
    return tool
