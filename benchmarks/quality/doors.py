"""Ask the same questions of the same documents through every door, and count the answers that equal those of Corpus.

  batch        `dynamic-tinybert batch --index`, a process
  ask          `dynamic-tinybert ask --index`, a process for each of the first questions
  HTTP         `dynamic-tinybert serve --index`, asked at /answer
  MCP          `dynamic-tinybert mcp --index`, asked by the SDK's client over standard input and output, for one answer
  passages     ask_passages, with the passages that the index finds
  LangChain    DocumentAnswerer behind a retriever of the same passages, in a chain
  LlamaIndex   AnswerSynthesizer in a query engine over a retriever of the same passages

The documents are the paragraphs of SQuAD's articles. An answer is equal if it has the same text, document and place. A
door whose packages are not installed is left out, and said so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks import common
from benchmarks.serve.serving import fetch, serve
from dynamic_tinybert import QuestionAnswerer, ask_passages
from dynamic_tinybert.corpus import Corpus, Passage
from dynamic_tinybert.model import Precision
from dynamic_tinybert.squad import paragraphs_of, read_squad

_SEED = 11
_COMMAND = [sys.executable, "-m", "dynamic_tinybert"]
_PRECISION: Precision = "fp32"
_SINGLE = 20  # questions that a process of its own answers
_RETRIEVED = 20
_NEEDS = {"LangChain": "langchain_core", "LlamaIndex": "llama_index", "MCP": "mcp", "HTTP": "fastapi"}

Found: TypeAlias = tuple[str, str, int]
"""The text of an answer, its document and its start; a text of "" means that there is none."""
Door: TypeAlias = Callable[[Corpus, Sequence[str]], list[Found]]


def main() -> None:
    args = parse()
    say = common.Progress()
    data = read_squad(args.data)
    articles = paragraphs_of(data.questions)
    titles = random.Random(_SEED).sample(sorted(articles), min(args.articles, len(articles)))
    asked = [question.question for question in data.questions if question.title in titles]
    asked = random.Random(_SEED).sample(asked, min(args.questions, len(asked)))
    with tempfile.TemporaryDirectory() as scratch:
        qa = QuestionAnswerer(precision=_PRECISION)
        corpus = Corpus(Path(scratch, "index"), qa=qa)
        texts = [(f"{title}/{i}", title, text) for title in titles for i, text in enumerate(articles[title])]
        corpus.put_many(texts)
        say("Corpus")
        expected = [_found(corpus(question)) for question in asked]
        rows = []
        for name, door in DOORS.items():
            if name in _NEEDS and importlib.util.find_spec(_NEEDS[name]) is None:
                rows.append((name, "not installed", ""))
                continue
            say(name)
            questions = asked[:_SINGLE] if name == "ask" else asked
            found = door(corpus, questions)
            equal = [one == other for one, other in zip(found, expected, strict=False)]
            rows.append((name, str(len(questions)), str(sum(equal))))
            for question, one, other in zip(questions, found, expected, strict=False):
                if one != other:
                    print(f"{name}: {question!r}: {one} instead of {other}", file=sys.stderr)
    page = f"""# The same answers through every door

{common.heading("onnxruntime", "tantivy")}

{len(asked)} questions of SQuAD dev, asked of the {len(texts):,} paragraphs of {len(titles)} of its articles, at the
full budget in {_PRECISION}. Equal: the same text, document and place as the answer of `Corpus`.

{common.table(("door", "questions", "equal"), rows)}

What differs, differs by design. MCP gives no answer where the confidence is too low, and says so in its note; its other
answers are equal. ask_passages and the components know the order of the passages, but not their BM25 scores, which a
corpus adds (see [passages](../corpus/passages.md)).
"""
    common.write_page(page, args.output)


def parse() -> argparse.Namespace:
    parser = common.argument_parser(__doc__)
    common.add_data(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="[default: standard output alone]")
    common.add_counts(parser, questions=(300, "questions"), articles=(20, "articles"))
    return parser.parse_args()


def _found(answer: Any) -> Found:
    return (answer.text, answer.document if answer.text else "", answer.start if answer.text else -1)


def _retrieve(corpus: Corpus, question: str) -> list[Passage]:
    return [hit.passage for hit in corpus.find(question, _RETRIEVED)]


def _placed(text: str, passage: Passage | None, start: int) -> Found:
    """Return an answer in a passage, at its place in the document."""
    return (text, passage.document, passage.start + start) if passage and text else ("", "", -1)


def _of_json(answers: Sequence[dict[str, Any]]) -> Found:
    best = next(iter(answers), None)
    return (best["text"], best["document"], best["start"]) if best and best["text"] else ("", "", -1)


# The doors.


def by_batch(corpus: Corpus, questions: Sequence[str]) -> list[Found]:
    lines = "".join(json.dumps({"id": str(i), "question": question}) + "\n" for i, question in enumerate(questions))
    command = [*_COMMAND, "batch", "-", "--index", str(corpus.directory), "--out", "-", "--precision", _PRECISION]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    rows = {row["id"]: row for row in map(json.loads, done.stdout.splitlines())}
    return [_of_json(rows[str(i)].get("answers", [rows[str(i)]])) for i in range(len(questions))]


def by_ask(corpus: Corpus, questions: Sequence[str]) -> list[Found]:
    found = []
    for question in questions:
        command = [*_COMMAND, "ask", question, "--index", str(corpus.directory), "--json", "--precision", _PRECISION]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found.append(_of_json([json.loads(line) for line in done.stdout.splitlines()]))
    return found


def by_http(corpus: Corpus, questions: Sequence[str]) -> list[Found]:
    options = ["--index", f"docs={corpus.directory}", "--precision", _PRECISION, "--slo-ms", "0"]
    found = []
    with tempfile.TemporaryDirectory() as scratch, serve(options, Path(scratch, "log")) as server:
        for question in questions:
            body = json.dumps({"question": question, "index": "docs"}).encode()
            (result,) = json.loads(fetch(server.port, "/answer", body).body)["results"]
            found.append(_of_json(result["answers"]))
    return found


def by_mcp(corpus: Corpus, questions: Sequence[str]) -> list[Found]:
    import anyio
    from mcp import Client, StdioServerParameters

    arguments = [*_COMMAND[1:], "mcp", "--index", f"docs={corpus.directory}", "--precision", _PRECISION]

    async def use() -> list[Found]:
        async with Client(StdioServerParameters(command=_COMMAND[0], args=arguments, env=dict(os.environ))) as client:
            replies = [await client.call_tool("ask", {"question": question, "top_k": 1}) for question in questions]
        return [_of_json(reply.structured_content["answers"]) for reply in replies]

    return anyio.run(use)


def by_passages(corpus: Corpus, questions: Sequence[str]) -> list[Found]:
    found = []
    for question in questions:
        answer = ask_passages(question, _retrieve(corpus, question), qa=corpus.qa)
        found.append(_placed(answer.text, answer.passage, answer.start))
    return found


def by_langchain(corpus: Corpus, questions: Sequence[str]) -> list[Found]:
    from langchain_core.documents import Document

    from dynamic_tinybert.langchain import DocumentAnswerer

    def retrieve(question: str) -> list[Document]:
        return [Document(one.text, metadata={"passage": one}) for one in _retrieve(corpus, question)]

    chain = DocumentAnswerer(model=corpus.qa, top_k=1).with_retriever(retrieve)
    replies = [next(iter(chain.invoke(question)), None) for question in questions]
    return [
        _placed(one["text"], one["document"].metadata["passage"], one["start"]) if one else ("", "", -1)
        for one in replies
    ]


def by_llama_index(corpus: Corpus, questions: Sequence[str]) -> list[Found]:
    from llama_index.core.query_engine import RetrieverQueryEngine
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import NodeWithScore, TextNode

    from dynamic_tinybert.llama_index import AnswerSynthesizer

    passages: dict[str, Passage] = {}

    class Retriever(BaseRetriever):  # type: ignore[misc]
        def _retrieve(self, query_bundle: Any) -> list[NodeWithScore]:
            passages.clear()
            passages.update((str(i), one) for i, one in enumerate(_retrieve(corpus, query_bundle.query_str)))
            return [NodeWithScore(node=TextNode(id_=i, text=one.text)) for i, one in passages.items()]

    engine = RetrieverQueryEngine(Retriever(), response_synthesizer=AnswerSynthesizer(model=corpus.qa, top_k=1))
    found = []
    for question in questions:
        response = engine.query(question)
        sources = response.source_nodes
        place = sources[0].metadata["answer_start"] if sources else -1
        found.append(_placed(str(response), passages[sources[0].node_id], place) if sources else ("", "", -1))
    return found


DOORS: dict[str, Door] = {
    "batch": by_batch,
    "ask": by_ask,
    "HTTP": by_http,
    "MCP": by_mcp,
    "passages": by_passages,
    "LangChain": by_langchain,
    "LlamaIndex": by_llama_index,
}

if __name__ == "__main__":
    main()
