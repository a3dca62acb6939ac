"""The components for LangChain: in its own runners, beside `ask_passages`, and by themselves."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="needs langchain-core: pip install 'dynamic-tinybert[langchain]'")

from langchain_core.callbacks import BaseCallbackHandler, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.load import dumpd, dumps, loads
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import ConfigurableField, RunnableLambda, RunnableSequence

from dynamic_tinybert import ModelFolderError, QuestionAnswerer, ask_passages
from dynamic_tinybert.compat.answering import open_model
from dynamic_tinybert.langchain import AnswerCompressor, DocumentAnswerer
from support.frameworks import QUESTION, TEXTS, UNICODE, WRONG_OPTIONS, asked, held, no_network, one_line, places

pytestmark = pytest.mark.frameworks


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    no_network(monkeypatch)


@pytest.fixture(scope="module")
def answerer(qa: QuestionAnswerer) -> DocumentAnswerer:
    return DocumentAnswerer(model=qa)


class Fixed(BaseRetriever):
    """A retriever that finds what it was given."""

    documents: list[Document]

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        return list(self.documents)


def documents(*texts: str) -> list[Document]:
    return [Document(text, id=f"d{n}", metadata={"page": n, "start": "mine"}) for n, text in enumerate(texts or TEXTS)]


def given(*texts: str, question: str = QUESTION) -> dict[str, Any]:
    return {"question": question, "documents": documents(*texts)}


# The runnable


def test_an_answer_has_its_document_and_place(answerer: DocumentAnswerer) -> None:
    asked_for = given()
    best = answerer.invoke(asked_for)[0]
    assert best["text"] == "Paris"
    assert best["document"] is asked_for["documents"][1]
    assert best["document"].page_content[best["start"] : best["end"]] == "Paris"
    assert best["sentence"] == "The tower stands in Paris, on the Champ de Mars."
    assert type(best["score"]) is type(best["confidence"]) is float
    assert 0 < best["confidence"] < 1


def test_the_input_may_call_it_a_query_and_have_other_keys(answerer: DocumentAnswerer) -> None:
    same = {"query": QUESTION, "documents": TEXTS, "chat_history": []}
    assert [a["text"] for a in answerer.invoke(same)] == [a["text"] for a in answerer.invoke(given())]
    assert answerer.invoke({**same, "documents": [{"content": TEXTS[1]}]})[0]["document"] == {"content": TEXTS[1]}


def test_it_is_a_step_of_a_sequence(answerer: DocumentAnswerer) -> None:
    chain = RunnableLambda(lambda question: given(question=question)) | answerer | (lambda answers: answers[0]["text"])
    assert isinstance(chain, RunnableSequence)
    assert chain.invoke(QUESTION) == "Paris"
    assert chain.batch([QUESTION, "What is made of milk?"]) == ["Paris", "Cheese"]


def test_it_is_composed_with_any_retriever(answerer: DocumentAnswerer) -> None:
    for retriever in (Fixed(documents=documents()), lambda query: documents(), RunnableLambda(lambda _: documents())):
        chain = answerer.with_retriever(retriever)
        assert chain.invoke(QUESTION)[0]["text"] == "Paris"
        assert asyncio.run(chain.ainvoke(QUESTION))[0]["document"].metadata["page"] == 1
    assert answerer.with_retriever(Fixed(documents=[])).invoke(QUESTION) == []


def test_asynchronous_calls_leave_the_event_loop_free(
    answerer: DocumentAnswerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def both() -> Any:
        tasks = asyncio.gather(answerer.ainvoke(given()), *[answerer.abatch([given()])])
        await asyncio.sleep(0.05)
        assert not tasks.done()
        let_go.set()
        return await tasks

    with held(monkeypatch) as let_go:
        one, (other,) = asyncio.run(both())
    assert one[0]["text"] == other[0]["text"] == "Paris"


class Trace(BaseCallbackHandler):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_chain_start(self, serialized: Any, inputs: Any, **options: Any) -> None:
        self.seen.append((options["name"], inputs["question"]))

    def on_chain_end(self, outputs: Any, **_: Any) -> None:
        self.seen.append(outputs[0]["text"])

    def on_chain_error(self, error: BaseException, **_: Any) -> None:
        self.seen.append(type(error))


def test_callbacks_see_it(qa: QuestionAnswerer) -> None:
    trace, answerer = Trace(), DocumentAnswerer(model=qa, name="reader")
    answerer.invoke(given(), {"callbacks": [trace]})
    asyncio.run(answerer.ainvoke(given(), {"callbacks": [trace]}))
    with pytest.raises(ValueError, match="empty"):
        answerer.invoke(given(question=" "), {"callbacks": [trace], "run_name": "other"})
    assert trace.seen == [("reader", QUESTION), "Paris"] * 2 + [("other", " "), *trace.seen[-1:]]
    assert issubclass(trace.seen[-1], ValueError)


def test_events_are_streamed(answerer: DocumentAnswerer) -> None:
    async def events() -> list[str]:
        return [event["event"] async for event in answerer.astream_events(given(), version="v2")]

    first, *_, last = asyncio.run(events())
    assert (first, last) == ("on_chain_start", "on_chain_end")


def test_schemas_can_be_made(answerer: DocumentAnswerer) -> None:
    assert answerer.get_input_schema().model_json_schema()
    assert "confidence" in json.dumps(answerer.get_output_schema().model_json_schema())


def test_options_of_a_call(answerer: DocumentAnswerer) -> None:
    assert len(answerer.invoke(given(), top_k=1)) == 1
    assert answerer.bind(min_confidence=1.0).invoke(given()) == []
    with pytest.raises(TypeError, match="bugdet"):
        answerer.invoke(given(), bugdet="fast")
    with pytest.raises(ValueError, match="a budget must be"):
        answerer.invoke(given(), budget=7)


def test_fields_can_be_configured_for_each_call(qa: QuestionAnswerer) -> None:
    chain = DocumentAnswerer(model=qa).configurable_fields(top_k=ConfigurableField(id="top_k"))
    assert len(chain.with_config(configurable={"top_k": 1}).invoke(given())) == 1
    assert len(chain.invoke(given())) > 1


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"budget": "fast", "top_k": 5}], ids=["default", "fast"])
def test_answers_are_those_of_ask_passages(qa: QuestionAnswerer, options: dict[str, Any]) -> None:
    answerer, top_k = DocumentAnswerer(model=qa, **options), options.get("top_k", 3)
    for question, texts in asked():
        found = answerer.invoke(given(*texts, question=question))
        same = ask_passages(question, texts, qa=qa, top_k=top_k, budget=options.get("budget", "full"))
        assert [
            (
                a["text"],
                a["document"].metadata["page"],
                a["start"],
                a["end"],
                a["score"],
                a["confidence"],
                a["sentence"],
            )
            for a in found
        ] == places(same)
        for one in found:
            assert one["document"].page_content[one["start"] : one["end"]] == one["text"]


# The compressor


def test_a_retriever_that_compresses_gives_sentences(qa: QuestionAnswerer) -> None:
    retrievers = pytest.importorskip("langchain_classic.retrievers")
    compressor = AnswerCompressor(model=qa)
    retriever = retrievers.ContextualCompressionRetriever(
        base_compressor=compressor, base_retriever=Fixed(documents=documents())
    )
    best = retriever.invoke(QUESTION)[0]
    assert best.page_content == "The tower stands in Paris, on the Champ de Mars."
    assert (best.id, best.metadata["page"], best.metadata["start"]) == ("d1", 1, "mine")
    assert asyncio.run(retriever.ainvoke(QUESTION)) == retriever.invoke(QUESTION)
    nothing = retrievers.ContextualCompressionRetriever(base_compressor=compressor, base_retriever=Fixed(documents=[]))
    assert nothing.invoke(QUESTION) == []
    answerer = DocumentAnswerer(model=qa)
    assert answerer.with_retriever(retriever).invoke(QUESTION)[0]["text"] == "Paris"


@pytest.mark.parametrize("content", ["sentence", "answer", "document"])
def test_what_a_compressed_document_contains(qa: QuestionAnswerer, content: Any) -> None:
    originals = documents()
    before = copy.deepcopy(originals)
    found = AnswerCompressor(content=content, model=qa, top_k=9).compress_documents(originals, QUESTION)
    assert originals == before
    parts = set()
    for one in found:
        text = TEXTS[one.metadata["page"]]
        start, end, begin = (one.metadata[key] for key in ("answer_start", "answer_end", "content_start"))
        assert text[start:end] == one.metadata["answer"]
        assert text[begin : begin + len(one.page_content)] == one.page_content
        assert one.page_content[start - begin : end - begin] == one.metadata["answer"]
        assert one.metadata["answer_sentence"] in " ".join(text.split())
        parts.add((one.metadata["page"], begin, len(one.page_content)))
    assert len(parts) == len(found)
    assert found[0].page_content == {"sentence": TEXTS[1][12:60], "answer": "Paris", "document": TEXTS[1]}[content]
    json.dumps(dumpd(found))


@pytest.mark.slow
def test_compressed_documents_have_the_answers_of_ask_passages(qa: QuestionAnswerer) -> None:
    compressor = AnswerCompressor(content="answer", model=qa, budget="balanced")
    keys = ("answer", "page", "answer_start", "answer_end", "answer_score", "answer_confidence", "answer_sentence")
    for question, texts in asked():
        found = compressor.compress_documents(documents(*texts), question)
        same = ask_passages(question, texts, qa=qa, top_k=3, budget="balanced")
        assert [tuple(one.metadata[key] for key in keys) for one in found] == places(same)


def test_compressing_leaves_the_event_loop_free(qa: QuestionAnswerer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def both() -> Any:
        task = asyncio.ensure_future(AnswerCompressor(model=qa).acompress_documents(documents(), QUESTION))
        await asyncio.sleep(0.05)
        assert not task.done()
        let_go.set()
        return await task

    with held(monkeypatch) as let_go:
        assert asyncio.run(both())[0].metadata["answer"] == "Paris"


# Edges


@pytest.mark.parametrize("text", UNICODE.values(), ids=UNICODE)
def test_offsets_are_exact_in_any_unicode(qa: QuestionAnswerer, answerer: DocumentAnswerer, text: str) -> None:
    found = answerer.invoke(given(text))
    assert found
    assert all(text[one["start"] : one["end"]] == one["text"] for one in found)
    for part in AnswerCompressor(model=qa).compress_documents(documents(text), QUESTION):
        begin = part.metadata["content_start"]
        assert text[begin : begin + len(part.page_content)] == part.page_content
        assert part.metadata["answer"] in part.page_content


def test_nothing_to_find(qa: QuestionAnswerer, answerer: DocumentAnswerer) -> None:
    assert answerer.invoke({"question": QUESTION, "documents": []}) == []
    assert answerer.invoke(given("", " \n")) == []
    assert AnswerCompressor(model=qa).compress_documents([], QUESTION) == []
    assert AnswerCompressor(model=qa).compress_documents(documents(""), QUESTION) == []
    assert AnswerCompressor(model=qa, min_confidence=1).compress_documents(documents(), QUESTION) == []
    least = answerer.invoke(given())[0]["confidence"]
    assert least
    assert len(answerer.invoke(given(), min_confidence=least)) == 1


@pytest.mark.slow
def test_many_documents(answerer: DocumentAnswerer) -> None:
    texts = [f"Entry {n}: the mill of Brook has {n} wheels." for n in range(100)]
    texts[71] = TEXTS[1]
    assert answerer.invoke(given(*texts))[0]["document"].metadata["page"] == 71
    hurried = answerer.invoke(given(*texts[71:], *texts), max_latency_ms=0.01)
    assert hurried[0]["document"].metadata["page"] == 0


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        (QUESTION, TypeError, "the input must be a mapping with a question and documents, not str"),
        ({"documents": TEXTS}, ValueError, "the input has no question: give"),
        ({"question": QUESTION}, ValueError, "the input has no documents: give"),
        ({"question": 7, "documents": TEXTS}, TypeError, "question"),
        ({"question": " ", "documents": []}, ValueError, "the question is empty"),
        ({"question": QUESTION, "documents": "text"}, TypeError, "documents must be a list of documents, not str"),
        ({"question": QUESTION, "documents": Document("x")}, TypeError, "must be a list of documents, not Document"),
        ({"question": QUESTION, "documents": [7]}, TypeError, "a passage must be a string, or have .* not int"),
    ],
)
def test_a_wrong_input_gives_one_line(answerer: DocumentAnswerer, value: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said) as raised:
        answerer.invoke(value)
    one_line(raised)


def test_a_compressor_wants_documents_of_langchain(qa: QuestionAnswerer) -> None:
    for value, name in ((["text"], "of str"), ("text", "of str"), ([None], "of NoneType")):
        with pytest.raises(TypeError, match=f"documents must be a list of LangChain's documents, not {name}") as raised:
            AnswerCompressor(model=qa).compress_documents(value, QUESTION)
        one_line(raised)


@pytest.mark.parametrize("component", [DocumentAnswerer, AnswerCompressor])
@pytest.mark.parametrize(("options", "error", "said"), WRONG_OPTIONS)
def test_a_wrong_option_gives_one_line(component: Any, options: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said) as raised:
        component(**options)
    one_line(raised)


def test_wrong_contents_give_one_line() -> None:
    with pytest.raises(ValueError, match="content must be one of sentence, answer, document, not 'span'") as raised:
        AnswerCompressor(content="span")  # type: ignore[arg-type]
    one_line(raised)


def test_a_confidence_needs_a_calibration(tiny: QuestionAnswerer) -> None:
    with pytest.raises(ValueError, match="min_confidence needs a model with a calibration") as raised:
        DocumentAnswerer(model=tiny, min_confidence=0.1).invoke(given())
    one_line(raised)
    assert DocumentAnswerer(model=tiny).invoke(given())[0]["confidence"] is None


# Saved and shared


def test_a_model_is_loaded_at_the_first_call_and_shared(tiny_folder: Path) -> None:
    missing = DocumentAnswerer(model="/nowhere/model")
    with pytest.raises(ModelFolderError):
        missing.invoke(given())
    first, second = DocumentAnswerer(model=tiny_folder), AnswerCompressor(model=str(tiny_folder))
    assert first.model == second.model == str(tiny_folder)
    assert open_model(first.model) is open_model(second.model)
    assert first.invoke(given())


def same_answers(one: DocumentAnswerer, other: DocumentAnswerer) -> bool:
    return bool(one.invoke(given()) == other.invoke(given()))


def test_it_can_be_pickled_and_copied(qa: QuestionAnswerer) -> None:
    for model in (None, qa):
        answerer = DocumentAnswerer(model=model, top_k=2, budget=0.7, min_confidence=0.01)
        for other in (pickle.loads(pickle.dumps(answerer)), copy.deepcopy(answerer), answerer.model_copy()):
            assert (other.top_k, other.budget) == (2, 0.7)
            assert same_answers(other, answerer)
    compressor = pickle.loads(pickle.dumps(AnswerCompressor(content="answer")))
    assert compressor.compress_documents(documents(), QUESTION)[0].page_content == "Paris"


@pytest.mark.filterwarnings("ignore:The function .loads. is in beta")
def test_a_chain_is_saved_as_json_and_loaded(tiny_folder: Path) -> None:
    answerer = DocumentAnswerer(model=tiny_folder, top_k=2, max_latency_ms=500)
    saved = dumps(answerer)
    assert json.loads(saved)["id"] == ["dynamic_tinybert", "langchain", "DocumentAnswerer"]
    loaded = loads(saved, valid_namespaces=["dynamic_tinybert"], allowed_objects=[DocumentAnswerer])
    assert loaded == answerer
    compressor = AnswerCompressor(model=tiny_folder, content="answer", min_confidence=0.5)
    assert AnswerCompressor.model_validate_json(compressor.model_dump_json()) == compressor
