"""Which files are read, how options differ, and what is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dynamic_tinybert.corpus.formats import KINDS, Reading, is_readable
from support.formats import PLAIN, Read, unreadable, write


def test_kinds_are_told_by_the_end_of_the_name() -> None:
    for name in ("a.txt", "a.TXT", "dir/b.rst", "c.md", "d.Markdown", "e.htm", "e.HTML", "f.xhtml", "g.PDF", "h.docx"):
        assert is_readable(Path(name))
    for name in ("a", "txt", ".txt", "a.doc", "a.txt.gz", "a.py", "a.json", "a.txt~", ""):
        assert not is_readable(Path(name))
    assert {".jsonl", ".ndjson"} <= KINDS.keys()


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    why = unreadable(write(tmp_path / "a.exe", "text"))
    assert ".docx" in why
    assert ".txt" in why


@pytest.mark.parametrize("suffix", sorted(KINDS))
def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(FileNotFoundError):
        Read(tmp_path / f"absent{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(OSError, match="folder"):
        Read(tmp_path / f"folder{suffix}")


@pytest.mark.parametrize(("suffix", "package"), [(".html", "inscriptis"), (".docx", "mammoth"), (".pdf", "pypdfium2")])
def test_a_package_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, package: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)  # type: ignore[arg-type]
    with pytest.raises(ImportError) as caught:
        Read(write(tmp_path / f"a{suffix}", "<p>text"))
    assert (caught.value.name or "").startswith(package)


# Options


def test_options_have_a_signature_that_tells_them_apart() -> None:
    readings = [
        PLAIN,
        Reading(text_field="body"),
        Reading(title_field="body"),
        Reading(id_field="body"),
        Reading(encoding="latin-1"),
        Reading(encoding="cp1252"),
        Reading(text_field="a b", title_field="c"),
        Reading(text_field="a", title_field="b c"),
    ]
    lines = Path("a.jsonl")
    assert len({reading.signature(lines) for reading in readings}) == len(readings)
    assert all(len(reading.signature(lines)) < 100 for reading in readings)
    for path in (Path("a.txt"), lines):
        assert Reading().signature(path) == Reading(encoding="UTF8").signature(path)
        assert Reading(encoding="latin1").signature(path) == Reading(encoding="ISO-8859-1").signature(path)


def test_main_content_matters_to_html_alone() -> None:
    main = Reading(html="main")
    for name, matters in (("a.html", True), ("a.XHTML", True), ("a.txt", False), ("a.jsonl", False), ("a.pdf", False)):
        assert (PLAIN.signature(Path(name)) != main.signature(Path(name))) == matters
    with pytest.raises(ValueError, match="all or main can be read, not 'body'"):
        Reading(html="body")  # type: ignore[arg-type]


def test_options_that_do_not_matter_to_a_file_leave_its_signature_alone() -> None:
    other = Reading(text_field="body", title_field="name", id_field="key")
    for name in ("a.txt", "a.md", "a.HTML", "a.pdf", "a.docx"):
        assert PLAIN.signature(Path(name)) == other.signature(Path(name))
    for name, matters in (("a.txt", True), ("a.html", True), ("a.PDF", False), ("a.docx", False)):
        assert (PLAIN.signature(Path(name)) != Reading(encoding="latin-1").signature(Path(name))) == matters


@pytest.mark.parametrize("encoding", ["", "nonsense", "utf-9", "hex", "rot13", "undefined", "a\0b"])
def test_an_encoding_that_is_none_is_refused(encoding: str) -> None:
    with pytest.raises(ValueError, match="encoding"):
        Reading(encoding=encoding)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "Títle line"),
        ("a.md", "# Títle"),
        ("a.jsonl", '{"text": "Títle"}\n'),
        ("a.html", "<p>Títle</p>"),
    ],
)
def test_a_named_encoding_is_for_files_that_are_not_utf_8(tmp_path: Path, name: str, content: str) -> None:
    texts = [
        [text for *_, text in Read(write(tmp_path / f"{number}{name}", data), Reading(encoding="latin-1")).documents]
        for number, data in enumerate((content.encode(), content.encode("latin-1")))
    ]
    assert texts[0] == texts[1]
    assert "Títle" in texts[0][0]
