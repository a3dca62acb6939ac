"""A haystack pipeline: BM25 finds the paragraphs of examples/*.txt that matter, and the reader finds the answers there.

Needs the extra haystack: pip install '.[haystack]'
"""

from __future__ import annotations

import json
import os
from pathlib import Path

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")  # haystack reports each run of a pipeline otherwise

from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.document_stores.in_memory import InMemoryDocumentStore

from dynamic_tinybert.haystack import ExtractiveReader

HERE = Path(__file__).parent


def main() -> None:
    store = InMemoryDocumentStore()
    for file in sorted(HERE.glob("*.txt")):
        paragraphs = file.read_text("utf-8").split("\n\n")
        store.write_documents([Document(content=text, meta={"file": file.name}) for text in paragraphs])
    pipeline = Pipeline()
    pipeline.add_component("retriever", InMemoryBM25Retriever(store, top_k=3))
    pipeline.add_component("reader", ExtractiveReader(top_k=1))
    pipeline.connect("retriever.documents", "reader.documents")
    for item in json.loads((HERE / "questions.json").read_text("utf-8")):
        query = item["question"]
        found = pipeline.run({"retriever": {"query": query}, "reader": {"query": query}})
        print(f"\n{query}")
        for answer in found["reader"]["answers"]:
            where = f"   {answer.document.meta['file']}" if answer.document else ""
            print(f"  {answer.score:.2f}  {answer.data or '(none of these)'}{where}")


if __name__ == "__main__":
    main()
