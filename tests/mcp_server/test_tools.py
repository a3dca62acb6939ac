"""Each tool, asked by the SDK's own client in the same process."""

from __future__ import annotations

import json
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import jsonschema
import pytest
from mcp import Client

from dynamic_tinybert.corpus import Corpus
from dynamic_tinybert.mcp import Library, RequestError, Shelf, create_server
from dynamic_tinybert.mcp.library import _page
from dynamic_tinybert.qa import QuestionAnswerer

TOOLS = ["ask", "find", "list", "read"]
Call = Callable[..., dict[str, Any]]


@pytest.fixture
def library(index: Path, documents: Path, qa: QuestionAnswerer) -> Library:
    return Library([Shelf("docs", Corpus(index), root=f"{documents.parent}/")], lambda: qa)


def with_client(library: Library, use: Callable[[Client], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with Client(create_server(library)) as client:
            return await use(client)

    return anyio.run(run)


def result(library: Library, tool: str, **arguments: Any) -> dict[str, Any]:
    """The structured result of a call; it follows the tool's schema, and is in the text too."""

    async def use(client: Client) -> dict[str, Any]:
        schemas = {each.name: each.output_schema for each in (await client.list_tools()).tools}
        got = await client.call_tool(tool, arguments)
        assert not got.is_error, got.content
        content: dict[str, Any] = got.structured_content
        jsonschema.validate(content, schemas[tool])
        assert json.loads(got.content[0].text) == content
        return content

    return with_client(library, use)


def error(library: Library, tool: str, **arguments: Any) -> str:
    """The one line of a call that fails."""
    got = with_client(library, lambda client: client.call_tool(tool, arguments))
    assert got.is_error
    assert got.structured_content is None
    (content,) = got.content
    line: str = content.text
    assert line
    assert "\n" not in line
    assert len(line) <= 500
    return line


# What the server says about itself


def test_tools_say_that_they_only_read(library: Library) -> None:
    tools = with_client(library, lambda client: client.list_tools()).tools
    assert [tool.name for tool in tools] == TOOLS
    for tool in tools:
        hints = tool.annotations
        assert (hints.read_only_hint, hints.destructive_hint) == (True, False)
        assert (hints.idempotent_hint, hints.open_world_hint) == (True, False)
        assert tool.title
        assert len(tool.description) > 100
        assert tool.output_schema["type"] == "object"
        assert tool.input_schema["additionalProperties"] is False
        assert all(argument["description"] for argument in tool.input_schema["properties"].values())


def test_server_has_instructions_and_no_trace_of_the_machine(library: Library, index: Path) -> None:
    async def use(client: Client) -> str:
        tools = await client.list_tools()
        return f"{client.instructions} {tools.model_dump_json()}"

    told = with_client(library, use)
    assert "cite" in told
    assert str(index) not in told


# ask


def test_ask_quotes_the_document(library: Library, documents: Path) -> None:
    answers = result(library, "ask", question="In which city does the tower stand?")["answers"]
    best = answers[0]
    text = (documents / "tower.txt").read_text("utf-8")
    assert (best["text"], best["document"], best["index"]) == ("Paris", "documents/tower.txt", "docs")
    assert text[best["start"] : best["end"]] == "Paris"
    assert best["sentence"] == "The tower stands in Paris, on the Champ de Mars."
    assert 0.05 <= best["confidence"] <= 1
    assert best["page"] is None


def test_a_record_that_is_named_as_a_pdf_has_no_page(tmp_path: Path) -> None:
    """Records of what somebody extracted are often named after their files."""
    (tmp_path / "rows.jsonl").write_text(json.dumps({"id": "manual.pdf", "text": "A ferry.\fIt costs 12 crowns."}))
    corpus = Corpus(tmp_path / "index")
    corpus.add(tmp_path / "rows.jsonl")
    assert _page(corpus, str(tmp_path / "rows.jsonl#manual.pdf"), 15) is None


def test_ask_gives_the_page_of_a_pdf(library: Library) -> None:
    best = result(library, "ask", question="When does the warranty of the lamp end?", top_k=1)["answers"][0]
    assert (best["text"], best["document"], best["page"]) == ("after three years", "documents/manual.pdf", 2)
    part = result(library, "read", document=best["document"], start=best["start"], length=best["end"] - best["start"])
    assert part["text"] == best["text"]


@pytest.mark.parametrize("budget", ["full", "balanced", "fast", 0.5, "0.5"])
def test_ask_takes_each_kind_of_budget(library: Library, budget: object) -> None:
    answers = result(library, "ask", question="In which city does the tower stand?", budget=budget)["answers"]
    assert answers[0]["text"] == "Paris"


def test_ask_of_one_document_answers_from_it_alone(library: Library) -> None:
    question = "In which year was it built?"
    for document in ("documents/tower.txt", "documents/brücke.txt"):
        got = result(library, "ask", question=question, document=document, top_k=10)
        assert {answer["document"] for answer in got["answers"]} <= {document}
    got = result(library, "ask", question=question, document="documents/tower.txt", top_k=1)
    assert got["answers"][0]["text"] == "1889"


def test_ask_of_a_long_document_finds_its_best_passages(qa: QuestionAnswerer, tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "index", passage_size=100)
    filler = "".join(f"Paragraph number {number} says nothing at all about it.\n\n" for number in range(200))
    corpus.put("long", filler + "The tower stands in Paris.\n\n" + filler)
    corpus.put("other", "The tower stands in Rome.")
    library = Library([Shelf("docs", corpus)], lambda: qa)
    (best,) = result(library, "ask", question="Where does the tower stand?", document="long", top_k=1)["answers"]
    assert best["text"] == "Paris"
    assert corpus.text("long")[best["start"] : best["end"]] == "Paris"


def test_ask_of_one_document_does_not_depend_on_the_others(qa: QuestionAnswerer, tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "index", passage_size=100)
    corpus.put_many((f"other/{i}", "", "Where is the tower? The tower of the city.") for i in range(2300))
    filler = "".join(f"Paragraph number {number} says nothing at all about it.\n\n" for number in range(100))
    corpus.put("long", filler + "The tower stands in Paris.")
    library = Library([Shelf("docs", corpus)], lambda: qa)
    (best,) = result(library, "ask", question="Where is the tower?", document="long", top_k=1)["answers"]
    assert best["text"] == "Paris"


@pytest.mark.parametrize("question", ["How many moons does Jupiter have?", "xyzzy?", "?", "🤷" * 500])
def test_ask_without_an_answer_says_so_in_a_note(library: Library, question: str) -> None:
    got = result(library, "ask", question=question)
    assert got["answers"] == []
    assert "do not seem to answer" in got["note"]


def test_ask_does_not_load_the_model_if_no_word_is_found(index: Path) -> None:
    def load() -> QuestionAnswerer:
        raise AssertionError

    library = Library([Shelf("docs", Corpus(index))], load)
    assert result(library, "ask", question="xyzzy")["answers"] == []
    assert result(library, "find", question="tower")["passages"]


def test_ask_without_a_calibrated_model_warns(index: Path, tiny: QuestionAnswerer) -> None:
    got = result(Library([Shelf("docs", Corpus(index))], lambda: tiny), "ask", question="Where is the tower?")
    assert got["answers"]
    assert {answer["confidence"] for answer in got["answers"]} == {None}
    assert "check" in got["note"]


def test_ask_works_in_unicode(library: Library) -> None:
    got = result(library, "ask", question="Wann wurde die Brücke über die Önz gebaut?", document="documents/brücke.txt")
    part = result(library, "read", document="documents/brücke.txt", length=20_000)["text"]
    for answer in got["answers"]:
        assert part[answer["start"] : answer["end"]] == answer["text"]
    assert "🌉 Она" in part


# find


def test_find_gives_passages(library: Library, documents: Path) -> None:
    found = result(library, "find", question="warranty lamp", k=3)["passages"]
    assert found[0]["document"] == "documents/manual.pdf"
    assert "warranty" in found[0]["text"]
    assert found == sorted(found, key=lambda each: -each["score"])
    text = (documents / "tower.txt").read_text("utf-8")
    for passage in result(library, "find", question="repainted", k=50)["passages"]:
        assert text[passage["start"] : passage["end"]] == passage["text"]


def test_find_without_a_shared_word_is_empty(library: Library) -> None:
    assert result(library, "find", question="xyzzy") == {"passages": []}


def test_find_gives_a_very_long_passage_in_part(qa: QuestionAnswerer, tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "index", passage_size=100_000)
    corpus.put("long", "tower " * 10_000)
    (passage,) = result(Library([Shelf("docs", corpus)], lambda: qa), "find", question="tower")["passages"]
    assert (passage["start"], passage["end"], len(passage["text"])) == (0, 5000, 5000)


# list


def test_list_has_pages(library: Library) -> None:
    names, offset = [], 0
    while offset is not None:
        part = result(library, "list", offset=offset, limit=2)
        assert part["total"] == 3
        names += [document["name"] for document in part["documents"]]
        offset = part["next_offset"]
    assert names == ["documents/brücke.txt", "documents/manual.pdf", "documents/tower.txt"]
    assert result(library, "list", offset=10**30) == {"documents": [], "total": 3, "next_offset": None}


# read


def test_read_gives_the_whole_text_in_parts(library: Library, documents: Path) -> None:
    text, start = "", 0
    while start is not None:
        part = result(library, "read", document="documents/tower.txt", start=start, length=777)
        assert part["end"] - part["start"] == len(part["text"])
        text, start = text + part["text"], part["next_start"]
    assert text == (documents / "tower.txt").read_text("utf-8")
    assert part["characters"] == len(text)


def test_read_after_the_end_is_empty(library: Library) -> None:
    part = result(library, "read", document="documents/tower.txt", start=10**30)
    assert (part["text"], part["next_start"]) == ("", None)


def test_read_takes_the_full_name_too(library: Library, documents: Path) -> None:
    assert result(library, "read", document=str(documents / "tower.txt"))["document"] == "documents/tower.txt"


# Several indexes


def test_two_indexes_share_the_answers(qa: QuestionAnswerer, tmp_path: Path) -> None:
    shelves = []
    for name, city in (("old", "Rome"), ("new", "Paris")):
        corpus = Corpus(tmp_path / name)
        corpus.put("tower", f"The tower stands in the city of {city}.")
        shelves.append(Shelf(name, corpus))
    library = Library(shelves, lambda: qa)
    question = "In which city does the tower stand?"
    answers = result(library, "ask", question=question)["answers"]
    assert {(answer["index"], answer["text"]) for answer in answers} >= {("old", "Rome"), ("new", "Paris")}
    assert [answer["confidence"] for answer in answers] == sorted((a["confidence"] for a in answers), reverse=True)
    for index, city in (("old", "Rome"), ("new", "Paris")):
        assert result(library, "ask", question=question, index=index)["answers"][0]["text"] == city
        assert city in result(library, "ask", question=question, index=index, document="tower")["answers"][0]["text"]
        assert city in result(library, "read", document="tower", index=index)["text"]
        assert result(library, "list", index=index)["total"] == 1
    assert [each["index"] for each in result(library, "list")["documents"]] == ["old", "new"]
    assert result(library, "list", offset=1)["documents"][0]["index"] == "new"
    assert {each["index"] for each in result(library, "find", question=question)["passages"]} == {"old", "new"}
    assert error(library, "find", question=question, index="x") == "there is no index 'x': the indexes are old, new"


def test_find_gives_the_best_of_each_index(qa: QuestionAnswerer, tmp_path: Path) -> None:
    """Scores of BM25 depend on how often a word is in an index, so they say nothing between indexes."""
    small, large = Corpus(tmp_path / "small"), Corpus(tmp_path / "large")
    small.put("crane", "The harbour crane of Port Ellis was built by Ada Lind.")
    large.put_many((str(i), "", "Ellis likes music." if i < 8 else f"Report {i} on cattle.") for i in range(200))
    library = Library([Shelf("large", large), Shelf("small", small)], lambda: qa)
    found = result(library, "find", question="Who built the harbour crane of Port Ellis?", k=3)["passages"]
    assert "small" in [passage["index"] for passage in found[:2]]


def test_an_index_without_confidence_is_ranked_too(qa: QuestionAnswerer, tmp_path: Path) -> None:
    bare = QuestionAnswerer.from_reader(qa.reader, qa.shape, qa.table, name="bare")
    chat, facts = Corpus(tmp_path / "chat"), Corpus(tmp_path / "facts")
    chat.put("a", "Who built it? My brother asked about the tower in the city yesterday, of course.")
    facts.put("b", "The tower was built by Gustave Eiffel.")
    for shelves in ([Shelf("chat", chat), Shelf("facts", facts)], [Shelf("facts", facts), Shelf("chat", chat)]):
        answers = result(Library(shelves, lambda: bare), "ask", question="Who built the tower?", top_k=1)["answers"]
        assert answers[0]["text"] == "Gustave Eiffel"


# Errors


@pytest.mark.parametrize(
    "name", ["x", "../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "documents", "~", "", "\0", "x" * 2000]
)
def test_unknown_document_says_to_list(library: Library, name: str) -> None:
    for tool, arguments in (("read", {}), ("ask", {"question": "Who is root?"})):
        line = error(library, tool, document=name, **arguments)
        assert line.startswith("there is no document ")
        assert line.endswith("`list` gives the names of all documents")


@pytest.mark.parametrize(
    ("tool", "arguments", "names"),
    [
        ("ask", {}, "question"),
        ("ask", {"question": "Where?", "top_k": 11}, "top_k"),
        ("ask", {"question": "Where?", "top_k": 10**400}, "top_k"),
        ("ask", {"question": "Where?", "budget": 0}, "budget"),
        ("ask", {"question": "Where?", "budget": "cheap"}, "budget"),
        ("ask", {"question": "x" * 2001}, "question"),
        ("ask", {"question": ["x"]}, "question"),
        ("find", {"question": "Where?", "k": 51}, "k"),
        ("list", {"offset": -1}, "offset"),
        ("list", {"limit": 501}, "limit"),
        ("read", {"document": "x" * 2001}, "document"),
        ("read", {"document": "x", "length": 20_001}, "length"),
        ("read", {"document": "x", "length": 10**30}, "length"),
        ("read", {"document": "x", "start": -1}, "start"),
    ],
)
def test_wrong_argument_is_named(library: Library, tool: str, arguments: dict[str, Any], names: str) -> None:
    assert error(library, tool, **arguments).startswith(f"{names}: ")


def test_unknown_argument_or_tool_is_an_error(library: Library) -> None:
    assert error(library, "list", path="/etc") == "list has no argument 'path': it has index, limit, offset"
    assert error(library, "write") == "there is no tool 'write': the tools are ask, find, list, read"


@pytest.mark.parametrize("tool", ["ask", "find"])
def test_empty_question_is_an_error(library: Library, tool: str) -> None:
    assert error(library, tool, question=" \n") == "the question is empty"


def test_errors_tell_no_path(tmp_path: Path, qa: QuestionAnswerer, caplog: pytest.LogCaptureFixture) -> None:
    library = Library([Shelf("docs", Corpus(tmp_path / "gone"))], lambda: qa)
    for tool, arguments in (("list", {}), ("find", {"question": "Where?"}), ("read", {"document": "x"})):
        assert error(library, tool, **arguments) == "the index 'docs' cannot be used: the server's log says why"
        assert str(tmp_path) in caplog.text


def test_failure_of_the_server_is_only_in_the_log(index: Path, caplog: pytest.LogCaptureFixture) -> None:
    def load() -> QuestionAnswerer:
        raise RuntimeError("secret")

    library = Library([Shelf("docs", Corpus(index))], load)
    assert error(library, "ask", question="Where is the tower?") == "the server failed: its log says why"
    assert "secret" in caplog.text


def test_model_that_cannot_be_loaded_is_an_error(index: Path) -> None:
    def load() -> QuestionAnswerer:
        raise RequestError("the model cannot be loaded")

    library = Library([Shelf("docs", Corpus(index))], load)
    assert error(library, "ask", question="Where is the tower?") == "the model cannot be loaded"


# Work in threads


def test_calls_that_wait_for_the_files_take_no_threads(index: Path, qa: QuestionAnswerer) -> None:
    complete = threading.Event()
    shelf = Shelf("docs", Corpus(index), wait=complete.wait, ready=complete.is_set)  # type: ignore[arg-type]

    async def use(client: Client) -> None:
        before = threading.active_count()
        async with anyio.create_task_group() as calls:
            for _ in range(50):
                calls.start_soon(client.call_tool, "list", {})
            await anyio.sleep(0.3)
            assert threading.active_count() <= before + 4
            complete.set()

    with_client(Library([shelf], lambda: qa), use)


def test_cancelled_call_leaves_the_server_usable(index: Path, qa: QuestionAnswerer) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def load() -> QuestionAnswerer:
        begun.set()
        go_on.wait(20)
        return qa

    async def use(client: Client) -> None:
        question = {"question": "In which city does the tower stand?"}
        with anyio.move_on_after(0.2) as scope:
            await client.call_tool("ask", question)
        assert scope.cancelled_caught
        assert begun.is_set()
        with anyio.fail_after(10):  # another call works while the first one still does
            assert (await client.call_tool("list", {})).structured_content["total"] == 3
        go_on.set()
        with anyio.fail_after(20):
            assert (await client.call_tool("ask", question)).structured_content["answers"][0]["text"] == "Paris"

    with_client(Library([Shelf("docs", Corpus(index))], load), use)


def test_many_cancelled_calls_take_a_limited_number_of_threads(index: Path, qa: QuestionAnswerer) -> None:
    go_on = threading.Event()

    def load() -> QuestionAnswerer:
        go_on.wait(60)
        return qa

    async def use(client: Client) -> None:
        question = {"question": "In which city does the tower stand?"}
        before = threading.active_count()
        for _ in range(10):
            with anyio.move_on_after(0.2):
                async with anyio.create_task_group() as calls:
                    for _ in range(4):
                        calls.start_soon(client.call_tool, "ask", question)
        assert 4 < threading.active_count() - before <= 20
        refused = await client.call_tool("list", {})
        assert refused.is_error
        assert "still works on calls that were cancelled" in refused.content[0].text
        go_on.set()
        with anyio.fail_after(20):
            while (answered := await client.call_tool("ask", question)).is_error:
                await anyio.sleep(0.05)
        assert answered.structured_content["answers"][0]["text"] == "Paris"

    with_client(Library([Shelf("docs", Corpus(index))], load), use)


def test_tools_change_nothing(library: Library, index: Path) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {str(f): (f.stat().st_size, f.stat().st_mtime_ns) for f in index.rglob("*") if f.is_file()}

    before = state()
    result(library, "ask", question="In which city does the tower stand?")
    result(library, "find", question="tower")
    result(library, "list")
    result(library, "read", document="documents/tower.txt")
    assert state() == before
