"""The app with its middleware: what a client sends, and what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra: pip install 'dynamic-tinybert[serve]'")

from pydantic import BaseModel, TypeAdapter
from starlette.types import ASGIApp

from dynamic_tinybert import __version__
from dynamic_tinybert.corpus import Corpus
from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.serve import Stopping, create_app, wrap
from dynamic_tinybert.serve.engine.costs import Costs
from dynamic_tinybert.serve.http import logs, schemas
from dynamic_tinybert.serve.http.problems import ProblemBody
from support.engines import Reply, Running, running, send
from support.waiting import eventually

pytestmark = [pytest.mark.serve, pytest.mark.filterwarnings("ignore:.*cut to max_question_len")]

QUESTION = "Where is the tower?"
TOWER = "The tower stands in Paris, on the Champ de Mars. It was built in 1889."
LONG = TOWER + " Other sentences of a report stand here, and say nothing of it." * 25
ASKED = {"question": QUESTION, "text": TOWER}


class Service:
    """An app with its middleware, whose engine runs."""

    def __init__(self, running: Running) -> None:
        self.engine, self.held, self.is_idle = running.engine, running.held, running.is_idle
        self.stopping = Stopping()
        self.fastapi = create_app(self.engine, running.options, self.stopping)
        self.app: ASGIApp = wrap(self.fastapi, running.options, self.stopping)

    def send(self, path: str, asked: Any = None, **more: Any) -> Reply:
        return asyncio.run(send(self.app, path, asked, **more))

    def ask(self, **asked: Any) -> dict[str, Any]:
        """Ask; the response is as it is described, and no field is there that is not."""
        reply = self.send("/answer", asked)
        assert reply.status == 200, reply.body
        return checked(reply, schemas.AnswerResponse)

    def result(self, **asked: Any) -> dict[str, Any]:
        (result,) = self.ask(**asked)["results"]
        return result

    def metric(self, name: str, **labels: str) -> float:
        return self.engine.metrics.registry.get_sample_value(f"dynamic_tinybert_{name}", labels) or 0.0


def checked(reply: Reply, model: type[BaseModel]) -> Any:
    """The content of a response that is as `model` says, and has nothing more."""
    content = reply.json()
    assert reply.headers["content-type"].startswith("application/")
    assert reply.headers["x-request-id"]
    told = model.model_validate(content, strict=True, extra="forbid").model_dump(mode="json")
    assert without_defaults(told) == without_defaults(content)
    return content


def without_defaults(value: Any) -> Any:
    """JSON without what is null."""
    if isinstance(value, dict):
        return {name: without_defaults(item) for name, item in value.items() if item is not None}
    return [without_defaults(item) for item in value] if isinstance(value, list) else value


def problem(reply: Reply, status: int, code: str) -> dict[str, Any]:
    """A problem of the one shape that all have."""
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/problem+json"
    content: dict[str, Any] = checked(reply, ProblemBody)
    assert (content["type"], content["status"], content["code"]) == ("about:blank", status, code)
    assert content["title"]
    assert content["detail"]
    assert "\n" not in content["detail"]
    assert content["request_id"] == reply.headers["x-request-id"]
    assert ("errors" in content) <= (status == 422)
    return content


@contextlib.contextmanager
def serving(qa: QuestionAnswerer, **options: Any) -> Iterator[Service]:
    with running(qa, **options) as engine:
        yield Service(engine)


@pytest.fixture(scope="module")
def service(qa: QuestionAnswerer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The embedded model and an index."""
    directory = tmp_path_factory.mktemp("index")
    corpus = Corpus(directory, qa=qa, passage_size=300)
    corpus.put("cities/paris", "😀 Of cities. " * 40 + "\n\n" + TOWER, title="Paris")
    corpus.put("cities/berlin", "The Brandenburg Gate stands in Berlin.")
    with serving(qa) as service:
        service.engine.corpora["docs"] = Corpus(directory, qa=service.engine.qa)
        yield service


@pytest.fixture
def small(tiny: QuestionAnswerer) -> Iterator[Service]:
    """The tiny model, which a test may hold."""
    with serving(tiny) as service:
        yield service


# Answers


def test_a_question_is_answered(service: Service, qa: QuestionAnswerer) -> None:
    response = service.ask(**ASKED)
    (result,) = response["results"]
    (answer,) = result["answers"]
    same = qa(QUESTION, TOWER)
    assert (answer["text"], answer["start"], answer["end"]) == (same.text, same.start, same.end) == ("Paris", 20, 25)
    for name in ("score", "logit", "confidence"):
        assert answer[name] == pytest.approx(getattr(same, name), abs=1e-4)
    assert response["model"] == "embedded"
    assert (result["configuration"], result["share"], result["windows"]) == ("full", 1.0, 1)
    assert (result["macs"], result["bert_base_macs"]) == (same.spent.macs, same.spent.bert_base_macs)
    assert min(result["queue_ms"], result["read_ms"]) >= 0
    assert response["total_ms"] >= result["queue_ms"]
    assert result["tokens"] is None


def test_a_context_is_a_text(service: Service) -> None:
    named = service.ask(question=QUESTION, context=TOWER)
    assert named["results"][0]["answers"] == service.ask(question=QUESTION, text=TOWER)["results"][0]["answers"]
    problem(service.send("/answer", {**ASKED, "context": TOWER}), 422, "invalid_request")
    many = service.ask(question=QUESTION, context=[TOWER, "It stands in Rome."])
    assert [result["answers"][0]["text"] for result in many["results"]] == ["Paris", "Rome"]


@pytest.mark.parametrize(
    "options",
    [
        {"budget": "balanced"},
        {"budget": "fast"},
        {"budget": 0.5},
        {"budget": 1},
        {"budget": None},
        {"top_k": 4},
        {"max_seq_len": 128, "doc_stride": 20},
        {"max_seq_len": 128},
        {"max_question_len": 3},
        {"max_answer_len": 1, "top_k": 3},
        {"handle_impossible_answer": True},
        {"handle_impossible_answer": True, "no_answer_threshold": -1000.0},
        {"handle_impossible_answer": True, "no_answer_threshold": 1000, "top_k": 2},
    ],
)
def test_an_option_is_that_of_the_package(service: Service, qa: QuestionAnswerer, options: dict[str, Any]) -> None:
    result = service.result(question=QUESTION, text=LONG, **options)
    expected = qa(QUESTION, LONG, **{"top_k": 1, **options, "budget": options.get("budget") or "full"})
    told = [(answer["text"], answer["start"], answer["end"]) for answer in result["answers"]]
    assert told == [(answer.text, answer.start, answer.end) for answer in expected]
    logits = [answer["logit"] for answer in result["answers"]]
    assert logits == pytest.approx([answer.logit for answer in expected], abs=1e-4)
    spent = expected[0].spent
    assert (result["configuration"], result["windows"], result["macs"]) == (
        spent.configuration,
        spent.windows,
        spent.macs,
    )


def test_a_whole_number_may_have_a_point(service: Service) -> None:
    """JSON has one kind of number, and some languages write all of them so."""
    options = {"top_k": 3, "max_answer_len": 20, "max_seq_len": 128, "budget": 1}
    results = [
        service.result(**ASKED, **{name: kind(value) for name, value in options.items()}) for kind in (int, float)
    ]
    assert results[0]["answers"] == results[1]["answers"]
    assert len(results[0]["answers"]) == 2
    everything = service.result(**ASKED, **options, score_threshold=0)["answers"]
    assert len(everything) == 3
    assert everything[:2] == results[0]["answers"]
    bare = service.result(**ASKED, top_k=3, align_to_words=False, score_threshold=0)["answers"]
    assert len(bare) == 3


QUESTIONS = [QUESTION, "When was it built?"]
TEXTS = [TOWER, "The gate stands in Berlin. It was built in 1791."]


@pytest.mark.parametrize(
    ("question", "text", "pairs"),
    [
        (QUESTION, [TOWER], [(QUESTION, TOWER)]),
        ([QUESTION], TOWER, [(QUESTION, TOWER)]),
        (QUESTIONS, TOWER, [(question, TOWER) for question in QUESTIONS]),
        (QUESTION, TEXTS, [(QUESTION, text) for text in TEXTS]),
        (QUESTIONS, TEXTS, list(zip(QUESTIONS, TEXTS, strict=True))),
        (QUESTIONS[:1], TEXTS[:1], [(QUESTION, TOWER)]),
        ([QUESTION] * 3, TOWER, [(QUESTION, TOWER)] * 3),
    ],
)
def test_many_are_answered_in_order(
    service: Service, qa: QuestionAnswerer, question: Any, text: Any, pairs: list[tuple[str, str]]
) -> None:
    results = service.ask(question=question, text=text)["results"]
    assert [result["answers"][0]["text"] for result in results] == [qa(*pair).text for pair in pairs]


@pytest.mark.parametrize(
    ("question", "text"),
    [(QUESTIONS, TEXTS[:1]), (QUESTIONS[:1], TEXTS), ([], TOWER), (QUESTION, []), ([], []), (QUESTIONS, [TOWER] * 3)],
)
def test_lists_that_do_not_go_together_are_refused(service: Service, question: Any, text: Any) -> None:
    problem(service.send("/answer", {"question": question, "text": text}), 422, "invalid_request")


@pytest.mark.parametrize("text", ["", " \n", "\u200b"])
def test_a_text_without_words_has_no_answers(service: Service, text: str) -> None:
    first, second = service.ask(question=QUESTION, text=[text, TOWER])["results"]
    assert first["answers"] == []
    assert first["windows"] == 0
    assert second["answers"][0]["text"] == "Paris"


def test_an_index_is_asked(service: Service) -> None:
    results = service.ask(question=[QUESTION, "Where does the gate stand?", "Xyzzy?"], index="docs", top_k=2)["results"]
    paris, berlin = results[0]["answers"][0], results[1]["answers"][0]
    assert (paris["text"], paris["document"], paris["title"]) == ("Paris", "cities/paris", "Paris")
    assert (berlin["text"], berlin["document"], berlin["title"]) == ("Berlin", "cities/berlin", "")
    corpus = service.engine.corpora["docs"]
    for answer in (paris, berlin):
        assert corpus.text(answer["document"])[answer["start"] : answer["end"]] == answer["text"]
        within = answer["start"] - answer["passage_start"]
        assert answer["passage"][within:].startswith(answer["text"])
        assert answer["retrieval"] > 0
    assert paris["passage_start"] > 0
    assert results[2]["answers"] == []
    assert results[0]["windows"] >= 1
    assert service.result(question=QUESTION, index="docs", budget=0.4)["share"] <= 0.4001


def test_layers_are_told(service: Service, qa: QuestionAnswerer) -> None:
    tokens = service.result(**ASKED, explain=True, budget=0.5)["tokens"]
    assert {len(column) for column in tokens.values()} == {len(tokens["start"])}
    words = [TOWER[start:end] for start, end in zip(tokens["start"], tokens["end"], strict=True)]
    assert "".join(words) == TOWER.replace(" ", "")
    assert 0 <= min(tokens["layers"]) < max(tokens["layers"]) == qa.shape.layers
    assert set(service.result(**ASKED, explain=True)["tokens"]["layers"]) == {qa.shape.layers}


@pytest.mark.parametrize(
    "text",
    [
        "😀😀 " + TOWER,
        "e\u0301te\u0301, 👩‍👩‍👧‍👦 family. " + TOWER,
        "المدينة القديمة \u202eabc\u202c. " + TOWER,
        "\U0001d4af\U00010348 東京。" + TOWER,
        "\x00\x07 control\r\n" + TOWER,
        "\ufeff\u2028\u2029\u0085 " + TOWER,
        "Z" + "\u0301" * 500 + " " + TOWER,
    ],
)
def test_offsets_are_in_code_points_of_the_text_as_given(service: Service, qa: QuestionAnswerer, text: str) -> None:
    answers = service.result(question=QUESTION, text=text, top_k=3)["answers"]
    assert answers
    assert all(text[answer["start"] : answer["end"]] == answer["text"] for answer in answers)
    assert [answer["text"] for answer in answers] == [answer.text for answer in qa(QUESTION, text, top_k=3)]


@pytest.mark.parametrize("encode", [lambda text: json.dumps(text, ensure_ascii=False), json.dumps])
def test_json_may_be_escaped_or_not(service: Service, encode: Callable[[str], str]) -> None:
    text = "😀 Où? " + TOWER
    body = f'{{"question": {encode("Où est-elle 😀?")}, "text": {encode(text)}}}'.encode()
    (result,) = checked(service.send("/answer", body=body), schemas.AnswerResponse)["results"]
    (answer,) = result["answers"]
    assert text[answer["start"] : answer["end"]] == answer["text"]


@pytest.mark.parametrize("where", ["question", "text", "index"])
def test_half_a_surrogate_pair_is_refused_in_a_line(service: Service, where: str) -> None:
    asked = {"question": "Where?", **({"index": "x"} if where == "index" else {"text": "x"}), where: "a\ud800"}
    told = problem(service.send("/answer", asked), 422, "invalid_request")
    assert [error["field"] for error in told["errors"]] == [where]
    asked = {"question": ["Where?", "a\udfff"], "text": "x"}
    told = problem(service.send("/answer", asked), 422, "invalid_request")
    assert [error["field"] for error in told["errors"]] == ["question.1"]


def test_a_huge_text_is_read_to_its_end(small: Service, tiny: QuestionAnswerer) -> None:
    text = "Words of a report that goes on. " * 3000 + TOWER
    result = small.result(question=QUESTION, text=text, budget=0.3, explain=True)
    expected = tiny(QUESTION, text, budget=0.3)
    assert result["windows"] == expected.spent.windows > 50
    assert result["answers"][0]["text"] == expected.text
    assert result["tokens"]["end"][-1] == len(text)
    assert eventually(small.is_idle)


# What is refused


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"question": None}, "question"),
        ({"question": 7}, "question"),
        ({"question": ""}, "question"),
        ({"question": ["Who?", ""]}, "question.1"),
        ({"question": ["Who?", 7]}, "question.1"),
        ({"question": {"a": "b"}}, "question"),
        ({"question": "  \n"}, "body"),
        ({"text": 7}, "text"),
        ({"text": ["x", None]}, "text.1"),
        ({"text": None}, "body"),
        ({"index": "docs"}, "body"),
        ({"index": 7}, "index"),
        ({"text": None, "index": "docs", "explain": True}, "body"),
        ({"text": None, "index": "docs", "handle_impossible_answer": True}, "body"),
        ({"budget": 0}, "budget"),
        ({"budget": 1.1}, "budget"),
        ({"budget": -1}, "budget"),
        ({"budget": "cheap"}, "budget"),
        ({"budget": "0.5"}, "budget"),
        ({"budget": True}, "budget"),
        ({"budget": [0.5]}, "budget"),
        ({"budget": math.nan}, "budget"),
        ({"budget": 10**400}, "budget"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": 101}, "top_k"),
        ({"top_k": 1.5}, "top_k"),
        ({"top_k": "1"}, "top_k"),
        ({"top_k": True}, "top_k"),
        ({"top_k": None}, "top_k"),
        ({"top_k": 10**400}, "top_k"),
        ({"max_latency_ms": 0}, "max_latency_ms"),
        ({"max_latency_ms": -5}, "max_latency_ms"),
        ({"max_latency_ms": math.inf}, "max_latency_ms"),
        ({"max_latency_ms": math.nan}, "max_latency_ms"),
        ({"max_latency_ms": "50"}, "max_latency_ms"),
        ({"handle_impossible_answer": "yes"}, "handle_impossible_answer"),
        ({"handle_impossible_answer": 1}, "handle_impossible_answer"),
        ({"no_answer_threshold": 1}, "body"),
        ({"handle_impossible_answer": True, "no_answer_threshold": math.nan}, "no_answer_threshold"),
        ({"max_seq_len": 0}, "max_seq_len"),
        ({"doc_stride": -1}, "doc_stride"),
        ({"max_question_len": 0}, "max_question_len"),
        ({"max_answer_len": 0}, "max_answer_len"),
        ({"explain": None}, "explain"),
        ({"max_seq_len": 20}, None),
        ({"max_seq_len": 9999}, None),
        ({"doc_stride": 500}, None),
        ({"max_question_len": 400}, None),
        ({"questoin": "Who?"}, "questoin"),
        ({"question": "\u200b"}, None),
    ],
)
def test_what_is_wrong_with_a_field_is_told(service: Service, change: dict[str, Any], field: str | None) -> None:
    told = problem(service.send("/answer", {**ASKED, **change}), 422, "invalid_request")
    if field is None:
        assert "errors" not in told
    else:
        assert [error["field"] for error in told["errors"]] == [field]
        assert told["errors"][0]["message"]
    assert eventually(service.is_idle)


def test_every_wrong_field_is_told(service: Service) -> None:
    asked = {"question": 7, "text": 8, "budget": 2, "top_k": 0, "unknown": 1}
    told = problem(service.send("/answer", asked), 422, "invalid_request")
    assert {error["field"] for error in told["errors"]} == set(asked)
    told = problem(service.send("/answer", {}), 422, "invalid_request")
    assert [error["field"] for error in told["errors"]] == ["question"]


@pytest.mark.parametrize(
    ("path", "more", "status", "code"),
    [
        ("/nothing", {}, 404, "not_found"),
        ("/nothing", {"asked": ASKED}, 404, "not_found"),
        ("/answer", {}, 405, "method_not_allowed"),
        ("/answer", {"method": "DELETE"}, 405, "method_not_allowed"),
        ("/info", {"asked": ASKED}, 405, "method_not_allowed"),
        ("/answer", {"asked": {"question": "Who?", "index": "nowhere"}}, 404, "not_found"),
        ("/answer", {"body": b"{"}, 400, "invalid_request"),
        ("/answer", {"body": b'{"question": "\xff", "text": "x"}'}, 400, "invalid_request"),
        ("/answer", {"body": b'{"question": ' + b"[" * 100_000}, 400, "invalid_request"),
        ("/answer", {"body": b'{"top_k": ' + b"9" * 10_000 + b"}"}, 400, "invalid_request"),
        ("/answer", {"body": b""}, 422, "invalid_request"),
        ("/answer", {"body": b"[]"}, 422, "invalid_request"),
        ("/answer", {"body": b"null"}, 422, "invalid_request"),
        ("/answer", {"body": b"x=1", "headers": {"content-type": "text/plain"}}, 415, "unsupported_media_type"),
        ("/answer", {"asked": ASKED, "headers": {"content-type": "text/plain"}}, 415, "unsupported_media_type"),
        ("/answer", {"asked": ASKED, "headers": {"content-encoding": "gzip"}}, 415, "unsupported_media_type"),
        ("/answer", {"asked": ASKED, "headers": {"host": "elsewhere.example"}}, 421, "forbidden_host"),
    ],
)
def test_every_refusal_has_the_one_shape(
    service: Service, path: str, more: dict[str, Any], status: int, code: str
) -> None:
    told = problem(service.send(path, **more), status, code)
    assert service.send(path, **{**more, "headers": {**more.get("headers", {}), "x-request-id": "mine"}}).json() == {
        **told,
        "request_id": "mine",
    }


@pytest.mark.parametrize("path", ["/answer", "/health", "/info", "/metrics", "/openapi.json"])
def test_another_method_is_told_the_right_one(service: Service, path: str) -> None:
    reply = service.send(path, method="PUT")
    problem(reply, 405, "method_not_allowed")
    assert set(reply.headers["allow"].split(", ")) - {"HEAD"} == {"POST" if path == "/answer" else "GET"}


def test_limits_are_the_servers_own(tiny: QuestionAnswerer) -> None:
    limits = {
        "max_body_bytes": 2000,
        "max_text_characters": 100,
        "max_question_characters": 20,
        "max_questions": 3,
        "max_waiting": 5,
        "max_batch_tokens": 300,
        "timeout_ms": 12345.0,
    }
    with serving(tiny, **limits) as service:
        told = checked(service.send("/info"), schemas.Info)["limits"]
        assert {name: told[name] for name in limits} == limits
        for asked, field in [
            ({"question": "q" * 21, "text": "x"}, "question"),
            ({"question": ["Who?", "q" * 21], "text": "x"}, "question.1"),
            ({"question": "Who?", "text": "x" * 101}, "text"),
            ({"question": "Who?", "text": ["x", "x" * 101]}, "text.1"),
            ({"question": ["Who?"] * 4, "text": "x"}, "question"),
            ({"question": "Who?", "text": ["x"] * 4}, "text"),
        ]:
            content = problem(service.send("/answer", asked), 422, "invalid_request")
            assert [error["field"] for error in content["errors"]] == [field]
        problem(service.send("/answer", {**ASKED, "text": "x" * 3000}), 413, "too_large")
        assert len(service.ask(question=["q" * 20] * 3, text="😀" * 100)["results"]) == 3
        document = service.send("/openapi.json").body.decode()
        assert '"maxLength":100' in document
        assert '"maxItems":3' in document


def test_what_goes_wrong_inside_stays_inside(small: Service, caplog: pytest.LogCaptureFixture) -> None:
    def fails(ids: Any, logits: Any) -> Any:
        raise RuntimeError("a secret of the inside")

    small.held.fault = fails
    reply = small.send("/answer", ASKED)
    problem(reply, 500, "internal")
    assert b"secret" not in reply.body
    small.held.fault = lambda ids, logits: logits._replace(end=np.full_like(logits.end, np.inf))
    problem(small.send("/answer", ASKED), 500, "internal")
    assert small.metric("given_up_questions_total", reason="error") == 2
    small.held.fault = lambda ids, logits: logits
    small.ask(**ASKED)
    assert eventually(small.is_idle)


def test_while_it_stops_nothing_new_is_taken_in(small: Service) -> None:
    assert checked(small.send("/health"), schemas.Health) == {"status": "ok"}
    small.stopping.set()
    reply = small.send("/health")
    assert (reply.status, checked(reply, schemas.Health)) == (503, {"status": "stopping"})
    reply = small.send("/answer", ASKED)
    problem(reply, 503, "stopping")
    assert int(reply.headers["retry-after"]) >= 1


def test_what_the_engine_leaves_unanswered_is_told(small: Service) -> None:
    async def ask() -> Reply:
        small.held.go.clear()
        answering = asyncio.ensure_future(send(small.app, "/answer", {**ASKED, "text": [TOWER] * 60}))
        await asyncio.to_thread(small.held.wait_until_it_reads)
        stopping = asyncio.ensure_future(asyncio.to_thread(small.engine.stop))
        reply = await answering
        small.held.go.set()
        await stopping
        return reply

    reply = asyncio.run(ask())
    problem(reply, 503, "stopping")
    assert small.engine.metrics.totals() == {"accepted": 60, "answered": 0, "refused": 0, "given_up": 60}
    assert small.engine.open == 0


# Too much, too late, and gone


def test_what_is_too_much_is_refused_at_once(tiny: QuestionAnswerer) -> None:
    with serving(tiny, max_waiting=3) as service:

        async def ask() -> None:
            service.held.go.clear()
            waiting = [asyncio.ensure_future(send(service.app, "/answer", ASKED)) for _ in range(2)]
            waiting.append(asyncio.ensure_future(send(service.app, "/answer", {**ASKED, "text": LONG})))
            await until(lambda: service.engine.open == 3)
            for asked in (ASKED, {**ASKED, "question": [QUESTION] * 3}):
                reply = await send(service.app, "/answer", asked)
                problem(reply, 429, "too_busy")
                assert int(reply.headers["retry-after"]) >= 1
            assert (await send(service.app, "/health")).status == 200
            assert not any(task.done() for task in waiting)
            service.held.go.set()
            assert [reply.status for reply in await asyncio.gather(*waiting)] == [200] * 3
            assert (await send(service.app, "/answer", ASKED)).status == 200

        asyncio.run(ask())
        assert service.engine.metrics.totals() == {"accepted": 4, "answered": 4, "refused": 4, "given_up": 0}
        assert service.metric("refused_questions_total", reason="waiting") == 4
        assert eventually(service.is_idle)


def test_what_would_wait_too_long_is_refused_with_how_long(tiny: QuestionAnswerer) -> None:
    with serving(tiny, slo_ms=200, min_budget=0.5, measured=lambda s, c: Costs(s, c, pace=1e-3)) as service:

        async def ask() -> None:
            service.held.go.clear()
            first = asyncio.ensure_future(send(service.app, "/answer", ASKED))
            await asyncio.to_thread(service.held.wait_until_it_reads)
            reply = await send(service.app, "/answer", ASKED)
            problem(reply, 429, "too_busy")
            assert int(reply.headers["retry-after"]) > 1
            service.held.go.set()
            assert (await first).status == 200

        asyncio.run(ask())
        assert service.metric("refused_questions_total", reason="objective") == 1


@pytest.mark.parametrize(("options", "asked"), [({"timeout_ms": 30.0}, {}), ({}, {"max_latency_ms": 30})])
@pytest.mark.parametrize("of_index", [False, True])
def test_what_comes_too_late_is_given_up(
    tiny: QuestionAnswerer, tmp_path: Path, options: dict[str, Any], asked: dict[str, Any], of_index: bool
) -> None:
    with serving(tiny, **options) as service:
        Corpus(tmp_path / "index", qa=tiny).put("tower", TOWER)
        service.engine.corpora["docs"] = Corpus(tmp_path / "index", qa=service.engine.qa)
        source = {"index": "docs"} if of_index else {"text": LONG}
        service.held.go.clear()
        reply = service.send("/answer", {"question": QUESTIONS, **source, **asked})
        problem(reply, 504, "deadline_exceeded")
        assert service.engine.open == 0
        assert service.metric("given_up_questions_total", reason="deadline") == 2
        assert service.metric("requests_total", status="504") == 1
        service.held.go.set()
        assert eventually(service.is_idle)


def test_an_index_that_is_gone_is_told_and_may_come_back(tiny: QuestionAnswerer, tmp_path: Path) -> None:
    with serving(tiny) as service:
        asked = {"question": QUESTION, "index": "docs"}
        Corpus(tmp_path / "index", qa=tiny).put("tower", TOWER)
        service.engine.corpora["docs"] = Corpus(tmp_path / "index", qa=service.engine.qa)
        assert service.ask(**asked)["results"][0]["answers"]
        (tmp_path / "index").rename(tmp_path / "elsewhere")
        gone = service.send("/answer", asked)
        problem(gone, 503, "index_unavailable")
        assert gone.headers["retry-after"] == "5"
        assert str(tmp_path) not in gone.body.decode()  # the log says which
        assert service.send("/info").json()["indexes"][0]["documents"] is None
        (tmp_path / "elsewhere").rename(tmp_path / "index")
        assert service.ask(**asked)["results"][0]["answers"]
        assert service.metric("requests_total", status="503") == 1


def test_a_library_that_panics_is_a_failure_of_one_request(
    tiny: QuestionAnswerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PanicException(BaseException):
        """As pyo3 raises it."""

    def panics(*_: object, **__: object) -> None:
        raise PanicException("index out of bounds")

    with serving(tiny) as service:
        corpus = Corpus("nowhere", qa=service.engine.qa)
        monkeypatch.setattr(Corpus, "__call__", panics)
        service.engine.corpora["docs"] = corpus
        problem(service.send("/answer", {"question": QUESTION, "index": "docs"}), 500, "internal")
        assert service.ask(question=QUESTION, text=TOWER)["results"]


@pytest.mark.parametrize("of_index", [False, True])
def test_a_client_that_leaves_takes_its_questions_along(tiny: QuestionAnswerer, tmp_path: Path, of_index: bool) -> None:
    with serving(tiny) as service:
        Corpus(tmp_path / "index", qa=tiny).put("tower", TOWER)
        service.engine.corpora["docs"] = Corpus(tmp_path / "index", qa=service.engine.qa)

        async def ask() -> None:
            service.held.go.clear()
            leaves = asyncio.Event()
            source = {"index": "docs"} if of_index else {"text": LONG}
            asked = {"question": [QUESTION] * 8, **source}
            gone = asyncio.ensure_future(send(service.app, "/answer", asked, leaves=leaves))
            await asyncio.to_thread(service.held.wait_until_it_reads)
            assert service.engine.open == 8
            leaves.set()
            await gone
            assert service.engine.open == 0
            staying = asyncio.ensure_future(send(service.app, "/answer", ASKED))
            await until(lambda: service.engine.open == 1)
            service.held.go.set()
            assert (await staying).status == 200

        asyncio.run(ask())
        assert service.metric("given_up_questions_total", reason="client") == 8
        assert service.engine.metrics.totals()["answered"] == 1
        assert eventually(service.is_idle)


async def until(what: Callable[[], Any]) -> None:
    assert await asyncio.to_thread(eventually, what)


# What it tells of itself


def test_the_model_and_what_it_offers_are_told(service: Service, qa: QuestionAnswerer) -> None:
    info = checked(service.send("/info"), schemas.Info)
    assert info["version"] == __version__
    assert info["model"]["name"] == "embedded"
    assert (info["model"]["layers"], info["model"]["hidden"]) == (qa.shape.layers, qa.shape.hidden)
    assert info["model"]["calibrated"] is True
    assert info["model"]["precision"] == qa.reader.runtime.precision
    assert info["measured_on"] == qa.table.measured_on
    assert [row["name"] for row in info["configurations"]] == [choice.name for choice in qa.table.choices]
    assert all(len(row["fractions"]) == qa.shape.layers for row in info["configurations"])
    for name, bought in info["budgets"].items():
        assert bought == qa.table.select(qa.shape, name).name
        assert service.result(**ASKED, budget=name)["configuration"] == bought
    for row in info["configurations"][::6]:  # a share that is told buys what it is told of, or better
        got = service.result(**ASKED, budget=row["share"])["share"]
        assert got <= row["share"]
    assert info["indexes"][0]["name"] == "docs"
    assert info["indexes"][0]["documents"] == 2
    assert info["indexes"][0]["passages"] >= 3
    assert info["load_control"] is None


def test_load_control_is_told(qa: QuestionAnswerer) -> None:
    with serving(qa, slo_ms=150, min_budget=0.5, budget="balanced") as service:
        control = checked(service.send("/info"), schemas.Info)["load_control"]
        floor = next(c for c in qa.table.choices if c.name == "search-0.56")
        assert control == {"slo_ms": 150, "min_share": pytest.approx(floor.share, abs=1e-4), "configuration": "full"}
        assert service.result(**ASKED)["configuration"] == qa.table.select(qa.shape, "balanced").name
        assert service.metric("objective_seconds") == 0.15


def test_an_index_that_is_lost_is_told(tiny: QuestionAnswerer, tmp_path: Path) -> None:
    with serving(tiny) as service:
        service.engine.corpora["lost"] = Corpus(tmp_path / "nothing", qa=service.engine.qa)
        info = checked(service.send("/info"), schemas.Info)
        assert info["indexes"] == [{"name": "lost", "documents": None, "passages": None}]
        assert info["model"]["calibrated"] is False
        assert info["measured_on"] is None


def test_metrics_move(small: Service) -> None:
    def read() -> dict[str, float]:
        reply = small.send("/metrics")
        assert reply.status == 200
        assert reply.headers["content-type"].startswith("text/plain; version=")
        lines = [line for line in reply.body.decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    prefix = "dynamic_tinybert_"
    before = read()
    small.ask(question=QUESTIONS, text=[TOWER, LONG])
    problem(small.send("/answer", {"question": QUESTION, "index": "nowhere"}), 404, "not_found")
    problem(small.send("/answer", {"question": QUESTION}), 422, "invalid_request")
    problem(small.send("/answer"), 405, "method_not_allowed")
    after = read()
    for name, more in {
        'requests_total{status="200"}': 1,
        'requests_total{status="404"}': 1,
        'requests_total{status="405"}': 1,
        'requests_total{status="422"}': 1,
        "accepted_questions_total": 2,
        'answered_questions_total{configuration="full"}': 2,
        "request_seconds_count": 1,
        "queue_seconds_count": 2,
        "share_count": 2,
        "share_sum": 2,
        "open_requests": 0,
        "waiting_questions": 0,
    }.items():
        assert after[prefix + name] - before.get(prefix + name, 0) == more, name
    assert after[prefix + "batch_seconds_count"] >= 2
    assert after[prefix + "batch_tokens_sum"] > 100
    assert after[prefix + "present_share"] == 1
    assert after[prefix + "objective_seconds"] == 0
    assert small.engine.metrics.totals() == {"accepted": 2, "answered": 2, "refused": 0, "given_up": 0}


def test_what_waits_is_among_the_metrics(small: Service) -> None:
    async def ask() -> None:
        small.held.go.clear()
        answering = asyncio.ensure_future(send(small.app, "/answer", {**ASKED, "question": QUESTIONS}))
        await until(lambda: small.engine.open == 2)
        text = (await send(small.app, "/metrics")).body.decode()
        assert "\ndynamic_tinybert_waiting_questions 2.0\n" in text
        assert "\ndynamic_tinybert_open_requests 1.0\n" in text
        small.held.go.set()
        await answering

    asyncio.run(ask())


def test_the_page_is_there(service: Service) -> None:
    reply = service.send("/")
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in reply.headers["content-security-policy"]
    for name, kind in {"/page.css": "text/css", "/page.js": "text/javascript"}.items():
        reply = service.send(name)
        assert (reply.status, reply.headers["content-type"].split(";")[0]) == (200, kind)
        assert service.send(name, method="HEAD").status == 200


# OpenAPI


def document(service: Service) -> dict[str, Any]:
    reply = service.send("/openapi.json")
    assert reply.status == 200
    content: dict[str, Any] = reply.json()
    return content


def test_every_example_runs(service: Service) -> None:
    content = document(service)["paths"]["/answer"]["post"]["requestBody"]["content"]["application/json"]
    assert len(content["examples"]) >= 3
    for name, example in content["examples"].items():
        assert example["summary"], name
        results = service.ask(**example["value"])["results"]
        assert all(result["answers"] for result in results), name
        assert {result["answers"][0]["text"] for result in results} <= {"Paris", "1889"}


def test_every_route_and_every_error_is_described(service: Service) -> None:
    paths = document(service)["paths"]
    assert set(paths) == {"/answer", "/health", "/info", "/metrics", "/place", "/place.png"}
    assert set(paths["/place.png"]["get"]["responses"]["200"]["content"]) == {"image/png"}
    responses = paths["/answer"]["post"]["responses"]
    assert {"200", "400", "404", "408", "413", "415", "422", "429", "500", "503", "504"} <= set(responses)
    for status, response in responses.items():
        kind = "application/json" if status == "200" else "application/problem+json"
        assert set(response["content"]) == {kind}
    for operations in paths.values():
        for operation in operations.values():
            assert operation["summary"]
            assert operation["operationId"]


def test_every_field_is_described(service: Service) -> None:
    schema = document(service)["components"]["schemas"]
    fields = schema["AnswerRequest"]["properties"]
    assert set(fields) == set(schemas.AnswerRequest.model_fields)
    assert all(field.get("description") for field in fields.values()), fields
    assert schema["AnswerRequest"]["additionalProperties"] is False
    TypeAdapter(dict[str, Any]).validate_python(schema)


# Keys


def test_keys_are_asked_for(tiny: QuestionAnswerer) -> None:
    with serving(tiny, api_keys=("correct horse", "other")) as service:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": ""}, {"authorization": "Basic b3RoZXI="}):
            reply = service.send("/answer", ASKED, headers=headers)
            problem(reply, 401, "unauthorized")
            assert reply.headers["www-authenticate"].startswith("Bearer")
            assert service.engine.metrics.totals()["accepted"] == 0
        for path in ("/info", "/metrics", "/nothing"):
            problem(service.send(path), 401, "unauthorized")
            assert service.send(path, headers={"x-api-key": "other"}).status != 401
        for path in ("/", "/health", "/openapi.json"):
            assert service.send(path).status == 200
        for headers in ({"authorization": "Bearer correct horse"}, {"x-api-key": "other"}):
            assert service.send("/answer", ASKED, headers=headers).status == 200
        assert "401" in document(service)["paths"]["/answer"]["post"]["responses"]


# Logs


@contextlib.contextmanager
def logged(text: bool = False) -> Iterator[Callable[[], str]]:
    """All that is logged meanwhile, as the server writes it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.Formatter(text=text))
    root, ours = logging.getLogger(), logging.getLogger("dynamic_tinybert")
    levels = root.level, ours.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    ours.setLevel(logging.DEBUG)
    try:
        yield stream.getvalue
    finally:
        root.removeHandler(handler)
        root.setLevel(levels[0])
        ours.setLevel(levels[1])


def test_no_text_of_a_user_is_logged(tiny: QuestionAnswerer) -> None:
    canary = "Quetzalcoatlus"

    def fails(ids: Any, logits: Any) -> Any:
        raise RuntimeError(f"cannot read {canary}")

    with serving(tiny) as service, logged() as log:
        ok = {"question": f"Where is {canary}?", "text": f"The {canary} flies."}
        sent: list[tuple[Any, Mapping[str, Any]]] = [
            (ok, {}),
            ({**ok, "question": [canary] * 2}, {}),
            ({**ok, "budget": canary}, {}),
            ({**ok, "top_k": canary}, {}),
            ({**ok, "max_seq_len": 3}, {}),
            ({**ok, canary: canary}, {}),
            ({"question": canary, "index": canary}, {}),
            ({"question": canary + "\ud800", "text": canary}, {}),
            ({**ok, "question": canary * 200}, {}),
            (None, {"body": f'{{"question": "{canary}'.encode()}),
            (None, {"body": canary.encode(), "headers": {"content-type": "text/plain"}}),
            (ok, {"headers": {"authorization": f"Bearer {canary}", "cookie": canary, "x-request-id": f"{canary}!"}}),
            (ok, {"headers": {"host": canary}}),
        ]
        statuses = [service.send(f"/answer?q={canary}", asked, **more).status for asked, more in sent]
        service.held.fault = fails
        statuses.append(service.send("/answer", ok).status)
        lines = [json.loads(line) for line in log().splitlines()]
        assert canary not in log()
    requests = [line for line in lines if line["message"] == "request"]
    assert [line["status"] for line in requests] == statuses
    assert {200, 400, 404, 415, 421, 422, 500} == set(statuses)
    first = requests[0]
    assert (first["questions"], first["characters"], first["windows"]) == (1, len(ok["text"]), 1)
    assert first["configurations"] == ["full"]
    assert (first["method"], first["path"], first["client_gone"]) == ("POST", "/answer", False)


def test_texts_are_logged_where_that_is_asked_for(tiny: QuestionAnswerer) -> None:
    with serving(tiny, log_text=True) as service, logged(text=True) as log:
        service.ask(question=["Where?", "Who?"], text="The Quetzalcoatlus flies.")
        (line,) = (json.loads(line) for line in log().splitlines() if '"request"' in line)
    assert (line["question"], line["text"]) == (["Where?", "Who?"], "The Quetzalcoatlus flies.")


# At the limits


def test_texts_of_very_many_windows_are_refused(small: Service) -> None:
    """Windows that hardly move on would fill the memory."""
    asked = {"question": "a " * 64, "text": "a " * 20_000, "doc_stride": 316}
    told = problem(small.send("/answer", asked), 413, "too_large")
    assert "windows" in told["detail"]


def test_texts_that_are_too_long_together_are_refused(small: Service) -> None:
    asked = {"question": ["What?"] * 64, "text": "x" * 100_000}
    problem(small.send("/answer", asked), 413, "too_large")


def test_a_path_is_not_mended_by_a_redirect(small: Service) -> None:
    problem(small.send("/answer/", {"question": "What?", "text": "x"}), 404, "not_found")


def test_long_rankings_are_refused(small: Service) -> None:
    asked = {"question": "What?", "text": "It is this.", "top_k": 100, "max_answer_len": 100}
    problem(small.send("/answer", asked), 422, "invalid_request")


def test_a_list_to_an_index_ends_with_its_first_error(service: Service) -> None:
    asked = {"question": ["\x01", *["Where is the tower?"] * 20], "index": "docs"}
    problem(service.send("/answer", asked), 422, "invalid_request")
    assert eventually(service.is_idle)
