"""The components for LlamaIndex: in its query engines, beside `ask_passages`, and by themselves."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_index.core", reason="needs llama-index-core: pip install 'dynamic-tinybert[llama-index]'")

from llama_index.core import MockEmbedding, SummaryIndex, VectorStoreIndex
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import Document, ImageNode, MetadataMode, NodeWithScore, QueryBundle, TextNode

from dynamic_tinybert import QuestionAnswerer, ask_passages
from dynamic_tinybert.compat.answering import open_model
from dynamic_tinybert.llama_index import AnswerRerank, AnswerSynthesizer
from support.frameworks import QUESTION, TEXTS, UNICODE, WRONG_OPTIONS, asked, held, no_network, one_line, places

pytestmark = pytest.mark.frameworks

KEYS = ("answer", "page", "answer_start", "answer_end", "answer_score", "answer_confidence", "answer_sentence")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    no_network(monkeypatch)


@pytest.fixture(scope="module")
def rerank(qa: QuestionAnswerer) -> AnswerRerank:
    return AnswerRerank(model=qa)


@pytest.fixture(scope="module")
def synthesizer(qa: QuestionAnswerer) -> AnswerSynthesizer:
    return AnswerSynthesizer(model=qa)


def texts_as_nodes(*texts: str) -> list[TextNode]:
    return [TextNode(text=text, id_=f"n{n}", metadata={"page": n}) for n, text in enumerate(texts or TEXTS)]


def nodes(*texts: str) -> list[NodeWithScore]:
    return [NodeWithScore(node=node, score=0.5) for node in texts_as_nodes(*texts)]


def read(found: NodeWithScore) -> tuple[Any, ...]:
    """The answer in the metadata of a node, which must be at its place."""
    text, metadata = found.node.get_content(metadata_mode=MetadataMode.NONE), found.node.metadata
    assert text[metadata["answer_start"] : metadata["answer_end"]] == metadata["answer"]
    assert found.score == metadata["answer_score"]
    return tuple(metadata[key] for key in KEYS)


# In query engines


def test_a_query_engine_answers_verbatim(synthesizer: AnswerSynthesizer) -> None:
    engine = RetrieverQueryEngine(SummaryIndex(texts_as_nodes()).as_retriever(), response_synthesizer=synthesizer)
    response = engine.query(QUESTION)
    assert str(response) == "Paris"
    (source,) = response.source_nodes
    assert (source.node_id, source.node.get_content()) == ("n1", TEXTS[1])
    assert read(source)[:2] == ("Paris", 1)
    assert response.metadata == {"n1": source.metadata}
    assert asyncio.run(engine.aquery(QUESTION)) == response


def test_an_index_of_vectors_makes_such_an_engine(qa: QuestionAnswerer, monkeypatch: pytest.MonkeyPatch) -> None:
    index = VectorStoreIndex(texts_as_nodes(), embed_model=MockEmbedding(embed_dim=4))
    synthesizer, rerank = AnswerSynthesizer(model=qa, top_k=2), AnswerRerank(model=qa, top_k=2)
    retriever = index.as_retriever(similarity_top_k=3)
    engine = RetrieverQueryEngine(retriever, synthesizer, node_postprocessors=[rerank])
    for response in (engine.query(QUESTION), asyncio.run(engine.aquery(QUESTION))):
        assert str(response) == "Paris"
        assert read(response.source_nodes[0])[:2] == ("Paris", 1)
        assert len(response.source_nodes) == 2
    stored = retriever.retrieve(QUESTION)
    assert all("answer" not in found.metadata for found in stored)


def test_handlers_see_the_synthesis(qa: QuestionAnswerer) -> None:
    seen = LlamaDebugHandler(print_trace_on_end=False)
    synthesizer = AnswerSynthesizer(model=qa, callback_manager=CallbackManager([seen]))
    RetrieverQueryEngine(SummaryIndex(texts_as_nodes()).as_retriever(), synthesizer).query(QUESTION)
    ((begin, end),) = seen.get_event_pairs(CBEventType.SYNTHESIZE)
    assert begin.payload["query_str"] == QUESTION
    assert str(end.payload["response"]) == "Paris"


# The postprocessor


def test_nodes_are_ranked_by_their_answers(rerank: AnswerRerank) -> None:
    given = nodes()
    before = copy.deepcopy(given)
    found = rerank.postprocess_nodes(given, query_str=QUESTION)
    assert given == before
    assert read(found[0])[:2] == ("Paris", 1)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert len({one.node_id for one in found}) == len(found) <= 3
    assert rerank.postprocess_nodes(given, query_bundle=QueryBundle(QUESTION)) == found
    assert asyncio.run(rerank.apostprocess_nodes(given, query_str=QUESTION)) == found


def test_a_language_model_does_not_see_the_answer(rerank: AnswerRerank) -> None:
    given = nodes()
    best = rerank.postprocess_nodes(given, query_str=QUESTION)[0].node
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        assert best.get_content(metadata_mode=mode) == given[1].node.get_content(metadata_mode=mode)
    json.dumps(best.to_dict())


@pytest.mark.slow
def test_ranked_nodes_have_the_answers_of_ask_passages(qa: QuestionAnswerer) -> None:
    rerank = AnswerRerank(model=qa, budget="fast", top_k=4)
    for question, texts in asked():
        same = ask_passages(question, texts, qa=qa, budget="fast", top_k=4, score_threshold=1.0)
        assert [read(one) for one in rerank.postprocess_nodes(nodes(*texts), query_str=question)] == places(same)


@pytest.mark.slow
def test_responses_are_the_answers_of_ask_passages(qa: QuestionAnswerer) -> None:
    synthesizer = AnswerSynthesizer(model=qa, top_k=3)
    for question, texts in asked():
        response = synthesizer.synthesize(question, nodes(*texts))
        same = ask_passages(question, texts, qa=qa, top_k=3)
        assert [read(one) for one in response.source_nodes] == places(same)
        assert str(response) == same[0].text


# The synthesizer


def test_a_response_has_a_source_for_each_answer(qa: QuestionAnswerer) -> None:
    extra = NodeWithScore(node=TextNode(text="more"))
    response = AnswerSynthesizer(model=qa, top_k=4).synthesize(QUESTION, nodes(), additional_source_nodes=[extra])
    *sources, last = response.source_nodes
    assert last is extra
    assert response.metadata
    assert {source.node_id for source in sources} == {*response.metadata}
    for source in reversed(sources):
        read(source)
    best = {source.node_id: source.metadata for source in reversed(sources)}
    assert response.metadata == best


def test_texts_alone_give_a_response(synthesizer: AnswerSynthesizer) -> None:
    assert synthesizer.get_response(QUESTION, TEXTS) == "Paris"
    assert asyncio.run(synthesizer.aget_response(QUESTION, TEXTS)) == "Paris"
    assert synthesizer.get_response(QUESTION, []) == "Empty Response"


def test_asynchronous_calls_leave_the_event_loop_free(
    rerank: AnswerRerank, synthesizer: AnswerSynthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def both() -> Any:
        tasks = asyncio.gather(
            rerank.apostprocess_nodes(nodes(), query_str=QUESTION),
            synthesizer.asynthesize(QUESTION, nodes()),
            synthesizer.aget_response(QUESTION, TEXTS),
        )
        await asyncio.sleep(0.05)
        assert not tasks.done()
        let_go.set()
        return await tasks

    with held(monkeypatch) as let_go:
        ranked, response, text = asyncio.run(both())
    assert ranked[0].metadata["answer"] == str(response) == text == "Paris"


# Edges


@pytest.mark.parametrize("text", UNICODE.values(), ids=UNICODE)
def test_offsets_are_exact_in_any_unicode(rerank: AnswerRerank, synthesizer: AnswerSynthesizer, text: str) -> None:
    for found in (
        rerank.postprocess_nodes(nodes(text), query_str=QUESTION),
        synthesizer.synthesize(QUESTION, nodes(text)),
    ):
        sources = found if isinstance(found, list) else found.source_nodes
        assert sources
        for one in sources:
            read(one)


def test_nothing_to_find(qa: QuestionAnswerer, rerank: AnswerRerank, synthesizer: AnswerSynthesizer) -> None:
    assert rerank.postprocess_nodes([], query_str=QUESTION) == []
    assert rerank.postprocess_nodes(nodes("", " \n"), query_str=QUESTION) == []
    assert AnswerRerank(model=qa, min_confidence=1).postprocess_nodes(nodes(), query_str=QUESTION) == []
    for response in (synthesizer.synthesize(QUESTION, []), synthesizer.synthesize(QUESTION, nodes(""))):
        assert (str(response), response.source_nodes, response.metadata) == ("Empty Response", [], {})
    strict = AnswerSynthesizer(model=qa, min_confidence=1, empty_response="I do not know")
    assert str(strict.synthesize(QUESTION, nodes())) == "I do not know"
    assert str(AnswerSynthesizer(model=qa, empty_response="").synthesize(QUESTION, [])) == ""


def test_nodes_without_text_and_nodes_of_other_kinds(rerank: AnswerRerank) -> None:
    others = [
        NodeWithScore(node=ImageNode(image_url="x")),
        NodeWithScore(node=Document(text=TEXTS[1], metadata={"page": 9})),
    ]
    (found,) = rerank.postprocess_nodes(others, query_str=QUESTION)
    assert isinstance(found.node, Document)
    assert read(found)[:2] == ("Paris", 9)


@pytest.mark.slow
def test_many_nodes(qa: QuestionAnswerer, rerank: AnswerRerank) -> None:
    texts = [f"Entry {n}: the mill of Brook has {n} wheels." for n in range(100)]
    texts[71] = TEXTS[1]
    assert read(rerank.postprocess_nodes(nodes(*texts), query_str=QUESTION)[0])[1] == 71
    hurried = AnswerRerank(model=qa, max_latency_ms=0.01)
    assert [read(one)[1] for one in hurried.postprocess_nodes(nodes(*texts), query_str=QUESTION)] == [0]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("text", "nodes must be a list of NodeWithScore, not str"),
        (["text"], "nodes must be a list of NodeWithScore, not of str"),
        ([TextNode(text="text")], "nodes must be a list of NodeWithScore, not of TextNode"),
        (None, "nodes must be a list of NodeWithScore, not NoneType"),
    ],
)
def test_wrong_nodes_give_one_line(rerank: AnswerRerank, synthesizer: AnswerSynthesizer, value: Any, said: str) -> None:
    for call in (
        lambda: rerank.postprocess_nodes(value, query_str=QUESTION),
        lambda: synthesizer.synthesize(QUESTION, value),
    ):
        with pytest.raises(TypeError, match=said) as raised:
            call()
        one_line(raised)


def test_a_wrong_query_gives_one_line(rerank: AnswerRerank, synthesizer: AnswerSynthesizer) -> None:
    for call, error, said in [
        (lambda: rerank.postprocess_nodes(nodes()), ValueError, "AnswerRerank needs the query"),
        (lambda: rerank.postprocess_nodes(nodes(), query_str=" "), ValueError, "the question is empty"),
        (lambda: synthesizer.synthesize("", nodes()), ValueError, "the question is empty"),
        (lambda: synthesizer.synthesize(7, nodes()), TypeError, "the query must be a string or a QueryBundle, not int"),
        (lambda: synthesizer.get_response(QUESTION, "text"), TypeError, "must be a list of text_chunks, not str"),
    ]:
        with pytest.raises(error, match=said) as raised:
            call()
        one_line(raised)


@pytest.mark.parametrize("component", [AnswerRerank, AnswerSynthesizer])
@pytest.mark.parametrize(("options", "error", "said"), WRONG_OPTIONS)
def test_a_wrong_option_gives_one_line(component: Any, options: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said) as raised:
        component(**options)
    one_line(raised)


def test_a_confidence_needs_a_calibration(tiny: QuestionAnswerer) -> None:
    with pytest.raises(ValueError, match="min_confidence needs a model with a calibration"):
        AnswerRerank(model=tiny, min_confidence=0.1).postprocess_nodes(nodes(), query_str=QUESTION)
    found, *_ = AnswerRerank(model=tiny).postprocess_nodes(nodes(), query_str=QUESTION)
    assert found.metadata["answer_confidence"] is None


# Saved and shared


def test_models_are_shared(tiny_folder: Path) -> None:
    rerank, synthesizer = AnswerRerank(model=tiny_folder), AnswerSynthesizer(model=str(tiny_folder))
    assert rerank.model == synthesizer.model == str(tiny_folder)
    assert open_model(rerank.model) is open_model(synthesizer.model)
    assert rerank.postprocess_nodes(nodes(), query_str=QUESTION)


def test_they_can_be_pickled_and_saved(qa: QuestionAnswerer, tiny_folder: Path) -> None:
    for model in (None, qa):
        rerank = pickle.loads(pickle.dumps(AnswerRerank(model=model, top_k=2, budget=0.7)))
        assert (rerank.top_k, rerank.budget) == (2, 0.7)
        assert read(rerank.postprocess_nodes(nodes(), query_str=QUESTION)[0])[0] == "Paris"
        synthesizer = pickle.loads(pickle.dumps(AnswerSynthesizer(model=model, min_confidence=0.01)))
        assert synthesizer.min_confidence == 0.01
        assert str(synthesizer.synthesize(QUESTION, nodes())) == "Paris"
    rerank = AnswerRerank(model=tiny_folder, top_k=2, max_latency_ms=500)
    assert AnswerRerank.from_json(rerank.to_json()).to_dict() == rerank.to_dict()
