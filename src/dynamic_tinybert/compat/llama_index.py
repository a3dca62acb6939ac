"""A node postprocessor and a response synthesizer for LlamaIndex: exact answers, without a language model."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dynamic_tinybert.compat.answering import Model, checked, find_answers, metadata_of, options_of
from dynamic_tinybert.corpus import PassageAnswer
from dynamic_tinybert.files import extra
from dynamic_tinybert.qa import QuestionAnswerer

with extra("llama-index", "dynamic_tinybert.llama_index"):
    from llama_index.core.base.response.schema import Response
    from llama_index.core.bridge.pydantic import ConfigDict
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.callbacks.schema import CBEventType, EventPayload
    from llama_index.core.instrumentation import get_dispatcher
    from llama_index.core.instrumentation.events.synthesis import SynthesizeEndEvent, SynthesizeStartEvent
    from llama_index.core.llms import MockLLM
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.response_synthesizers import BaseSynthesizer
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

__all__ = ["AnswerRerank", "AnswerSynthesizer"]


# A quoted annotation is one that the site, which has no LlamaIndex, could not evaluate.
_dispatcher = get_dispatcher(__name__)


class AnswerRerank(BaseNodePostprocessor):  # type: ignore[misc]
    """Rank nodes by the answer that they contain, and put the answer into their metadata: a node postprocessor.

    It returns the `top_k` nodes with the best answers, as copies. Their `score` is that of the answer. Their metadata
    has, in addition, `answer`, `answer_start` and `answer_end` (in characters of the node's text), `answer_score`,
    `answer_confidence` and `answer_sentence`. These keys are hidden from language models and embeddings. Of nodes with
    the same text, the first stays.

    Args:
        model: A model folder, the name of a model that is installed or on the Hub, or a loaded `QuestionAnswerer`; by
            default the embedded model. All
            components that name the same model share one in memory.
        budget: The cost of a prediction: a share in (0, 1], `full`, `balanced` or `fast`.
        top_k: How many nodes to return, at most.
        max_latency_ms: The time limit in milliseconds, without the loading of the model. To keep it, the model predicts
            on fewer nodes, from the first on, but at least one.
        min_confidence: Return only nodes with an answer of at least this confidence.
        callback_manager: LlamaIndex's.

    Raises:
        TypeError: The model is of another type.
        ValueError: An option is out of range (including `BudgetError`).

    Example:
        >>> from llama_index.core.schema import NodeWithScore, TextNode
        >>> from dynamic_tinybert.llama_index import AnswerRerank
        >>> texts = ["It was built in 1889.", "The tower stands in Paris."]
        >>> nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
        >>> best = AnswerRerank().postprocess_nodes(nodes, query_str="Where is the tower?")[0]
        >>> best.text, best.metadata["answer"]
        ('The tower stands in Paris.', 'Paris')
    """

    __module__ = "dynamic_tinybert.llama_index"  # the public path, by which a pickled one is found

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
        callback_manager: "CallbackManager | None" = None,
    ) -> None:
        super().__init__(
            **checked(model, budget=budget, top_k=top_k, max_latency_ms=max_latency_ms, min_confidence=min_confidence),
            callback_manager=callback_manager or CallbackManager(),
        )

    @classmethod
    def class_name(cls) -> str:
        """Return the name by which LlamaIndex saves it."""
        return "DynamicTinyBertAnswerRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: "QueryBundle | None" = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("AnswerRerank needs the query: give query_str or query_bundle")
        # Less than the best answer of its node is no answer: so there is one for each node.
        options = options_of(self)
        found = find_answers(_question(query_bundle), _texts(nodes), options, name="nodes", score_threshold=1.0)
        best = {one.number: one for one in reversed(found)}  # of equal answers, the first
        return [_with_answer(nodes[one.number], one) for one in found if best[one.number] is one]


class AnswerSynthesizer(BaseSynthesizer):  # type: ignore[misc]
    """Respond with the exact words of a node that answer the query: a response synthesizer without a language model.

    The response is the best answer. `source_nodes` has a copy of a node for each answer, the best first, with the same
    score and metadata as `AnswerRerank` gives; `metadata` has these by node. Without an answer, the response is
    `empty_response`, and there are no source nodes.

    Args:
        model: See `AnswerRerank`.
        budget: See `AnswerRerank`.
        top_k: How many answers to give as source nodes, at most.
        max_latency_ms: See `AnswerRerank`.
        min_confidence: Respond only with an answer of at least this confidence.
        empty_response: The response without an answer; by default LlamaIndex's `Empty Response`.
        callback_manager: LlamaIndex's.

    Raises:
        TypeError: The model is of another type.
        ValueError: An option is out of range (including `BudgetError`).

    Example:
        >>> from llama_index.core.schema import NodeWithScore, TextNode
        >>> from dynamic_tinybert.llama_index import AnswerSynthesizer
        >>> nodes = [NodeWithScore(node=TextNode(text="The tower stands in Paris."))]
        >>> response = AnswerSynthesizer().synthesize("Where is the tower?", nodes)
        >>> str(response), response.source_nodes[0].metadata["answer_start"]
        ('Paris', 20)
    """

    __module__ = "dynamic_tinybert.llama_index"

    def __init__(
        self,
        *,
        model: Model | Path = None,
        budget: float | str = "full",
        top_k: int = 1,
        max_latency_ms: float | None = None,
        min_confidence: float | None = None,
        empty_response: str | None = None,
        callback_manager: "CallbackManager | None" = None,
    ) -> None:
        options = checked(
            model, budget=budget, top_k=top_k, max_latency_ms=max_latency_ms, min_confidence=min_confidence
        )
        # Without an LLM, the base class takes that of the settings, by default OpenAI's. This one is never called.
        super().__init__(llm=MockLLM(), callback_manager=callback_manager)
        self._empty_response = "Empty Response" if empty_response is None else empty_response
        for option, value in options.items():
            setattr(self, option, value)

    def synthesize(
        self,
        query: "str | QueryBundle",
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **response_kwargs: Any,
    ) -> Response:
        """Respond to a query from nodes.

        Args:
            query: The query.
            nodes: The nodes.
            additional_source_nodes: Nodes to add to the source nodes.
            response_kwargs: LlamaIndex's; unused.

        Raises:
            TypeError: The query or a node is of another type.
            ValueError: The query is empty.
        """
        with self._callback_manager.event(CBEventType.SYNTHESIZE, payload=_begin(query)) as event:
            response = self._response(query, nodes, additional_source_nodes)
            event.on_end(payload=_end(query, response))
        return response

    async def asynthesize(
        self,
        query: "str | QueryBundle",
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **response_kwargs: Any,
    ) -> Response:
        """Respond to a query from nodes, in a thread: see `synthesize`."""
        with self._callback_manager.event(CBEventType.SYNTHESIZE, payload=_begin(query)) as event:
            response = await asyncio.to_thread(self._response, query, nodes, additional_source_nodes)
            event.on_end(payload=_end(query, response))
        return response

    def get_response(self, query_str: str, text_chunks: Sequence[str], **response_kwargs: Any) -> str:
        """Return the best answer from texts, or `empty_response`."""
        found = find_answers(query_str, text_chunks, options_of(self), name="text_chunks")
        return found[0].text if found else self._empty_response

    async def aget_response(self, query_str: str, text_chunks: Sequence[str], **response_kwargs: Any) -> str:
        """Return the best answer from texts, or `empty_response`, in a thread."""
        return await asyncio.to_thread(self.get_response, query_str, text_chunks)

    def _get_prompts(self) -> dict[str, Any]:
        return {}

    def _update_prompts(self, prompts: dict[str, Any]) -> None:
        pass

    def _response(
        self, query: "str | QueryBundle", nodes: list[NodeWithScore], additional: Sequence[NodeWithScore] | None
    ) -> Response:
        found = find_answers(_question(query), _texts(nodes), options_of(self), name="nodes")
        sources = [_with_answer(nodes[one.number], one) for one in found]
        return Response(
            found[0].text if found else self._empty_response,
            source_nodes=[*sources, *(additional or ())],
            metadata={source.node.node_id: source.node.metadata for source in reversed(sources)},
        )


def _question(query: "str | QueryBundle") -> str:
    question = query.query_str if isinstance(query, QueryBundle) else query
    if not isinstance(question, str):
        raise TypeError(f"the query must be a string or a QueryBundle, not {type(question).__name__}")
    return question


def _texts(nodes: Sequence[NodeWithScore]) -> list[str]:
    """Return the texts of nodes as they are, without metadata; a node without text has an empty one."""
    if isinstance(nodes, (str, bytes)) or not isinstance(nodes, Sequence):
        raise TypeError(f"nodes must be a list of NodeWithScore, not {type(nodes).__name__}")
    for node in nodes:
        if not isinstance(node, NodeWithScore):
            raise TypeError(f"nodes must be a list of NodeWithScore, not of {type(node).__name__}")
    return [str(node.node.get_content(metadata_mode=MetadataMode.NONE) or "") for node in nodes]


def _with_answer(found: NodeWithScore, answer: PassageAnswer) -> NodeWithScore:
    """Return a copy of a node with an answer in its metadata: the node itself may belong to an index."""
    node, new = found.node, metadata_of(answer)
    copy = node.model_copy(
        update={
            "metadata": {**node.metadata, **new},
            "excluded_llm_metadata_keys": [*dict.fromkeys([*node.excluded_llm_metadata_keys, *new])],
            "excluded_embed_metadata_keys": [*dict.fromkeys([*node.excluded_embed_metadata_keys, *new])],
        }
    )
    return NodeWithScore(node=copy, score=answer.score)


def _begin(query: "str | QueryBundle") -> dict[Any, Any]:
    payload = {EventPayload.QUERY_STR: _question(query)}
    _dispatcher.event(SynthesizeStartEvent(query=query))
    return payload


def _end(query: "str | QueryBundle", response: Response) -> dict[Any, Any]:
    _dispatcher.event(SynthesizeEndEvent(query=query, response=response))
    return {EventPayload.RESPONSE: response}
