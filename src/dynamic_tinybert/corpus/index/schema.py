"""The fields of an index in tantivy, and how they hold passages and sources."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import tantivy

from dynamic_tinybert.corpus.index.protocol import Passage, Source

TOKENIZER = "dynamic-tinybert-words"
"""The name under which the analyzer is registered with the engine."""

_BYTES = {"title", "text", "record"}
_SOURCE = {one.name for one in fields(Source)}


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    for field in ("version", "document"):
        builder.add_text_field(field, stored=True, tokenizer_name="raw", index_option="basic")
    for field in ("source", "mark"):
        builder.add_text_field(field, tokenizer_name="raw", index_option="basic")
    builder.add_text_field("words", tokenizer_name=TOKENIZER, index_option="freq")
    for field in ("title", "text", "record"):  # stored, but not searched
        builder.add_bytes_field(field, stored=True)
    builder.add_unsigned_field("number", stored=True, fast=True)
    builder.add_unsigned_field("start", stored=True)
    return builder.build()


SCHEMA = _schema()
"""The fields. `segments` knows that five of them are text."""


def term(field: str, value: str) -> tantivy.Query:
    """Return a query for the documents of the engine with this value in a field."""
    return tantivy.Query.term_query(SCHEMA, field, value, "basic")


def all_of(searcher: tantivy.Searcher, query: tantivy.Query, order: str | None = None) -> Iterator[tantivy.DocAddress]:
    """Return the addresses of all documents of the engine that match a query."""
    most = max(1, searcher.num_docs)
    hits = searcher.search(query, most, count=False, order_by_field=order, order=tantivy.Order.Asc).hits
    return (address for _, address in hits)


def sources_of(searcher: tantivy.Searcher, query: tantivy.Query | None = None) -> Iterator[Source]:
    """Return the sources whose records match a query, each in its last revision."""
    found: dict[str, Source] = {}
    for address in all_of(searcher, query or term("mark", "record")):
        record = json.loads(bytes(searcher.doc(address).get_first("record") or b""))
        source = Source(**{name: value for name, value in record.items() if name in _SOURCE})
        if source.version not in found or source.revision > found[source.version].revision:
            found[source.version] = source
    return iter(found.values())


def document_of(fields: Mapping[str, Any]) -> tantivy.Document:
    """Make a document of the engine from fields."""
    document = tantivy.Document()
    for name, value in fields.items():
        if name in _BYTES:
            document.add_bytes(name, value.encode())
        elif isinstance(value, int):
            document.add_unsigned(name, value)
        else:
            for text in [value] if isinstance(value, str) else value:
                document.add_text(name, text)
    return document


def passage_of(stored: tantivy.Document) -> Passage:
    """Make a passage from a document of the engine."""
    return Passage(
        document=stored.get_first("document") or "",
        title=bytes(stored.get_first("title") or b"").decode(),
        number=stored.get_first("number") or 0,
        start=stored.get_first("start") or 0,
        text=bytes(stored.get_first("text") or b"").decode(),
    )
