"""JSON Lines: records, fields, and lines that are broken."""

from __future__ import annotations

import codecs
import json
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from dynamic_tinybert.corpus.formats import Reading, jsonl, read
from support.formats import PLAIN, TEXT, Read, unreadable, write


def lines(path: Path, *records: Any) -> Path:
    """Write records, or lines as they stand where they are strings."""
    written = [record if isinstance(record, str) else json.dumps(record, ensure_ascii=False) for record in records]
    return write(path, "\n".join(written))


def test_each_record_of_json_lines_is_a_document(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "a.jsonl",
        {"id": "tower", "title": "The\n tower", "text": TEXT},
        {"id": 17, "text": ""},
        "",
        "  \r",
        {"text": "no id"},
        {"id": None, "title": None, "text": "none"},
        {"id": "", "title": 1984, "text": "empty"},
        {"id": 1.5, "text": "\u2028 東京 😀", "more": [1, {"x": None}]},
    )
    done = Read(path)
    assert done.complaints == []
    assert done.documents == [
        ("tower", "The tower", TEXT),
        ("17", "", ""),
        ("5", "", "no id"),
        ("6", "", "none"),
        ("7", "1984", "empty"),
        ("1.5", "", "\u2028 東京 😀"),
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.JSONL"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_line_ends_and_marks_are_no_obstacle(tmp_path: Path, name: str, end: bytes) -> None:
    record = '{"text": "Été"}'
    for content in (record.encode() + end, codecs.BOM_UTF8 + record.encode() + end, record.encode("utf-16")):
        assert Read(write(tmp_path / name, content)).documents == [("1", "", "Été")]


def test_json_lines_without_records_have_no_documents(tmp_path: Path) -> None:
    for content in ("", "\n\n", "\ufeff", " \r\n"):
        done = Read(write(tmp_path / "a.jsonl", content))
        assert (done.documents, done.complaints) == ([], [])


def test_fields_are_named_and_may_be_nested(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "a.jsonl",
        {"doc": {"body": {"text": "nested"}, "name": "N"}, "key": {"id": 1}},
        {"doc.body.text": "literal", "doc": {"body": {"text": "nested"}}, "key.id": "2"},
        {"doc": {"body.text": "half"}, "key": {"id": "3"}},
        {"doc": "no object"},
        {"doc": {"body": [1]}},
    )
    done = Read(path, Reading(text_field="doc.body.text", title_field="doc.name", id_field="key.id"))
    assert done.documents == [("1", "N", "nested"), ("2", "", "literal"), ("3", "", "half")]
    assert done.complaints == [f"line {number}: has no text in 'doc.body.text'" for number in (4, 5)]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "is not JSON: Expecting property name enclosed in double quotes (character 2)"),
        ("text", "is not JSON: Expecting value (character 1)"),
        ('{"text": "a"} {"text": "b"}', "is not JSON: Extra data (character 15)"),
        ('{"text": "a\tb"}', "is not JSON: Invalid control character at (character 12)"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"text": "a", "id": ' + "1" * 5000 + "}", "holds a number of too many digits"),
        ("[]", "is not a JSON object"),
        ('"text"', "is not a JSON object"),
        ("null", "is not a JSON object"),
        ("{}", "has no text in 'text'"),
        ('{"text": null}', "has no text in 'text'"),
        ('{"text": ["a"]}', "has no text in 'text'"),
        ('{"text": "a", "id": ["a"]}', "has neither a string nor a number in 'id'"),
        ('{"text": "a", "id": true}', "has neither a string nor a number in 'id'"),
        ('{"text": "a", "title": {}}', "has neither a string nor a number in 'title'"),
        (r'{"text": "a \ud83d b"}', "has half a character (a lone surrogate)"),
        (r'{"text": "a", "id": "\udc00"}', "has half a character (a lone surrogate)"),
        (r'{"text": "a", "title": "\udc00"}', "has half a character (a lone surrogate)"),
    ],
)
def test_broken_records_are_complained_of_and_the_others_read(tmp_path: Path, line: str, why: str) -> None:
    if "1" * 5000 in line and not hasattr(sys, "set_int_max_str_digits"):
        pytest.skip("this Python reads integers of any length")
    done = Read(lines(tmp_path / "a.jsonl", {"text": "first"}, line, {"text": "third"}))
    assert done.documents == [("1", "", "first"), ("3", "", "third")]
    assert len(done.complaints) == 1
    assert done.complaints[0].startswith(f"line 2: {why}")


def test_a_nul_byte_costs_its_line_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b'{"text": "one"}\n{"text": "t\0wo"}\n{"text": "three"}\n')
    done = Read(path)
    assert [text for _, _, text in done.documents] == ["one", "three"]
    (line,) = done.complaints
    assert line.startswith("line 2: is not JSON")


def test_lines_in_another_encoding_are_complained_of_unless_it_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b'{"text": "a"}\n{"text": "caf\xe9"}\n{"text": "c"}\n')
    done = Read(path)
    assert done.documents == [("1", "", "a"), ("3", "", "c")]
    assert done.complaints == ["line 2: is not text in UTF-8"]
    assert Read(path, Reading(encoding="latin-1")).documents[1] == ("2", "", "café")


def test_escaped_pairs_of_surrogates_are_characters(tmp_path: Path) -> None:
    assert Read(write(tmp_path / "a.jsonl", r'{"text": "\ud83d\ude00"}')).documents == [("1", "", "😀")]


def test_a_line_that_is_too_long_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "_LONGEST_LINE", 1000)
    long = {"text": "a" * 1000}
    done = Read(lines(tmp_path / "a.jsonl", {"text": "a" * 900}, long, {"text": "c"}, long))
    assert [id_ for id_, _, _ in done.documents] == ["1", "3"]
    assert done.complaints == [f"line {number}: is longer than 1,000 characters" for number in (2, 4)]


@pytest.mark.long
def test_a_line_that_is_too_long_is_never_held_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "')
        for _ in range(160):
            file.write(b"a" * (1 << 20))
        file.write(b'"}\n{"text": "b"}\n')
    tracemalloc.start()
    try:
        done = Read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert done.documents == [("2", "", "b")]
    assert len(done.complaints) == 1
    assert peak < 80 << 20


def test_complaints_are_warnings_unless_they_are_taken(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="line 1: is not JSON"):
        assert len(list(read(write(tmp_path / "a.jsonl", '{\n{"text": "a"}'), PLAIN))) == 1


def test_json_lines_whose_records_are_all_broken_are_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", "{", "", {"body": "a"})
    assert unreadable(path) == "has no record that can be read, out of 2"
    assert Read(path, Reading(text_field="body")).complaints == [
        "line 1: is not JSON: Expecting property name enclosed in double quotes (character 2)"
    ]
