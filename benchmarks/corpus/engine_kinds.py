"""The engines that `engines.py` compares, behind one protocol.

Their packages are imported where they are needed: a process that measures one engine is without the rest.
"""

from __future__ import annotations

import datetime
import re
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

TOP = 20  # passages that a search returns

# As tantivy has them (and Lucene had).
STOP_WORDS = frozenset(
    {
        *("a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not"),
        *("of", "on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was"),
        *("will", "with"),
    }
)


class Passage(NamedTuple):
    document: int
    part: int
    text: str


class Engine(Protocol):
    """An index in a folder, which is made if it is not there."""

    def __init__(self, folder: Path) -> None: ...

    def add(self, passages: Sequence[Passage]) -> None:
        """Add documents that are new, in one transaction."""

    def replace(self, passages: Sequence[Passage]) -> None:
        """Put documents in place of what has their numbers, in one transaction."""

    def refresh(self) -> None:
        """Let this process find, by the index, what has been written."""

    def settle(self) -> None:
        """Do what the engine advises after much adding, and clean up."""

    def search(self, question: str) -> list[Passage]: ...

    def keys(self) -> list[tuple[int, int]]:
        """Document and part of every passage."""


class Tantivy:
    def __init__(self, folder: Path) -> None:
        import tantivy

        self._tantivy = tantivy
        builder = tantivy.SchemaBuilder()
        builder.add_unsigned_field("document", stored=True, indexed=True, fast=True)
        builder.add_unsigned_field("part", stored=True, fast=True)
        builder.add_text_field("text", stored=True, tokenizer_name="english", index_option="freq")
        self._schema = builder.build()
        filters = tantivy.Filter
        analyzer = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
        for one in (filters.remove_long(40), filters.lowercase(), filters.ascii_fold(), filters.stopword("english")):
            analyzer = analyzer.filter(one)
        self._analyzer = analyzer.filter(filters.stemmer("english")).build()
        folder.mkdir(parents=True, exist_ok=True)
        self._index = tantivy.Index(self._schema, str(folder))
        self._index.register_tokenizer("english", self._analyzer)
        self._searcher = self._index.searcher()
        self._writer: Any = None

    def add(self, passages: Sequence[Passage]) -> None:
        self._write(passages, ())

    def replace(self, passages: Sequence[Passage]) -> None:
        self._write(passages, {x.document for x in passages})

    def _write(self, passages: Sequence[Passage], replaced: Iterable[int]) -> None:
        if self._writer is None:
            self._writer = self._index.writer()
        for document in replaced:
            # By query, which knows the field's type: by term, as of 0.27.0, it deletes nothing where that is unsigned.
            same = self._tantivy.Query.term_query(self._schema, "document", document, "basic")
            self._writer.delete_documents_by_query(same)
        for x in passages:
            self._writer.add_document(self._tantivy.Document.from_dict(x._asdict(), self._schema))
        self._writer.commit()

    def refresh(self) -> None:
        self._index.reload()
        self._searcher = self._index.searcher()

    def settle(self) -> None:
        if self._writer is None:
            self._writer = self._index.writer()
        self._writer.wait_merging_threads()  # after which it is of no use
        self._writer = self._index.writer()
        self._writer.garbage_collect_files()
        self._writer = None
        self.refresh()

    def search(self, question: str) -> list[Passage]:
        query = self._tantivy.Query
        words = [query.term_query(self._schema, "text", x, "freq") for x in self._analyzer.analyze(question)]
        return self._read(query.boolean_query([(self._tantivy.Occur.Should, word) for word in words]), TOP)

    def _read(self, query: Any, limit: int) -> list[Passage]:
        hits = self._searcher.search(query, limit, count=False).hits  # to count, it would have to score every passage
        found = [self._searcher.doc(address) for _, address in hits]
        rows: list[Any] = [[x.get_first(name) for name in Passage._fields] for x in found]
        return [Passage(*row) for row in rows]

    def keys(self) -> list[tuple[int, int]]:
        limit = max(1, self._searcher.num_docs)
        return [(x.document, x.part) for x in self._read(self._tantivy.Query.all_query(), limit)]


class LanceDB:
    def __init__(self, folder: Path) -> None:
        import lancedb
        import pyarrow
        from lancedb.index import FTS, BTree
        from lancedb.query import MatchQuery

        self._match, self._pyarrow = MatchQuery, pyarrow
        self._text_index = FTS(with_position=False, stem=True, remove_stop_words=True, ascii_folding=True)
        self._document_index = BTree()
        number = pyarrow.int64()
        self._schema = pyarrow.schema([("document", number), ("part", number), ("text", pyarrow.string())])
        self._table = lancedb.connect(folder).create_table("passages", schema=self._schema, exist_ok=True)

    def add(self, passages: Sequence[Passage]) -> None:
        self._table.add(self._rows(passages))

    def replace(self, passages: Sequence[Passage]) -> None:
        documents = ", ".join(str(x) for x in sorted({x.document for x in passages}))
        merge = self._table.merge_insert(["document", "part"])
        merge = merge.when_matched_update_all().when_not_matched_insert_all()
        merge.when_not_matched_by_source_delete(f"document IN ({documents})").execute(self._rows(passages))

    def _rows(self, passages: Sequence[Passage]) -> Any:
        return self._pyarrow.table(list(zip(*passages, strict=True)), schema=self._schema)

    def refresh(self) -> None:
        if not self._table.list_indices():
            self._table.create_index("document", config=self._document_index)
            self._table.create_index("text", config=self._text_index)
        else:
            self._table.optimize()

    def settle(self) -> None:
        self.refresh()
        self._table.optimize(cleanup_older_than=datetime.timedelta(milliseconds=1), delete_unverified=True)

    def search(self, question: str) -> list[Passage]:
        found = self._table.search(self._match(question, "text")).select([*Passage._fields, "_score"]).limit(TOP)
        columns = found.to_arrow().to_pydict()
        return list(map(Passage, *(columns[name] for name in Passage._fields)))

    def keys(self) -> list[tuple[int, int]]:
        columns = self._table.search().select(["document", "part"]).to_arrow().to_pydict()
        return list(zip(columns["document"], columns["part"], strict=True))


class SQLite:
    _SCHEMA = """
        CREATE TABLE IF NOT EXISTS passages (
            id INTEGER PRIMARY KEY, document INTEGER NOT NULL, part INTEGER NOT NULL, text TEXT NOT NULL,
            UNIQUE (document, part)
        );
        CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(
            text, content='passages', content_rowid='id', tokenize='porter unicode61 remove_diacritics 2'
        );
    """
    _SEARCH = """
        SELECT document, part, text
        FROM (SELECT rowid, rank FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?) AS found
        JOIN passages ON passages.id = found.rowid ORDER BY found.rank
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(folder / "passages.sqlite", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA cache_size = -64000")  # KiB
        self._connection.executescript(self._SCHEMA)

    def add(self, passages: Sequence[Passage]) -> None:
        self._write(passages, ())

    def replace(self, passages: Sequence[Passage]) -> None:
        self._write(passages, {x.document for x in passages})

    def _write(self, passages: Sequence[Passage], replaced: Iterable[int]) -> None:
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        for document in replaced:
            old = run("SELECT id, text FROM passages WHERE document = ?", (document,)).fetchall()
            self._connection.executemany("INSERT INTO words(words, rowid, text) VALUES ('delete', ?, ?)", old)
            run("DELETE FROM passages WHERE document = ?", (document,))
        for x in passages:
            row = run("INSERT INTO passages(document, part, text) VALUES (?, ?, ?)", x).lastrowid
            run("INSERT INTO words(rowid, text) VALUES (?, ?)", (row, x.text))
        run("COMMIT")

    def refresh(self) -> None:
        """Nothing: what is committed is found."""

    def settle(self) -> None:
        self._connection.execute("INSERT INTO words(words) VALUES ('optimize')")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def search(self, question: str) -> list[Passage]:
        words = [word for word in re.findall(r"\w+", question) if word.lower() not in STOP_WORDS]
        query = " OR ".join(f'"{word}"' for word in words)
        return [Passage(*row) for row in self._connection.execute(self._SEARCH, (query, TOP))]

    def keys(self) -> list[tuple[int, int]]:
        # 1: compared with the passages, too; it raises an error if they do not agree.
        self._connection.execute("INSERT INTO words(words, rank) VALUES ('integrity-check', 1)")
        return self._connection.execute("SELECT document, part FROM passages").fetchall()


ENGINES: dict[str, type[Engine]] = {"tantivy": Tantivy, "LanceDB": LanceDB, "SQLite FTS5": SQLite}
