"""`ask_files`: a question of files and folders, without an index."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dynamic_tinybert import CorpusError, FileAnswer, QuestionAnswerer, ask_files
from dynamic_tinybert.corpus import Reading, UnreadableError, read_documents
from support.formats import pdf

QUESTION = "Where is the tower?"
TEXT = "The river is wide there. The tower stands in\nParis, and is tall. It was built in 1889."


def test_the_best_answer_of_several_files_with_its_document_and_sentence(qa: QuestionAnswerer, tmp_path: Path) -> None:
    (tmp_path / "cheese.txt").write_text("Cheese is made of milk.")
    (tmp_path / "tower.txt").write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    answer = ask_files(QUESTION, [tmp_path / "cheese.txt", str(tmp_path / "tower.txt")], qa=qa)
    assert isinstance(answer, FileAnswer)
    assert (answer.text, answer.document, answer.page) == ("Paris", str(tmp_path / "tower.txt"), None)
    assert answer.sentence == "The tower stands in Paris, and is tall."
    assert TEXT[answer.start : answer.end] == "Paris"
    alone = qa(QUESTION, TEXT)
    assert (answer.score, answer.logit, answer.confidence) == (alone.score, alone.logit, alone.confidence)
    assert ask_files(QUESTION, tmp_path / "tower.txt", qa=qa) == answer
    ranked = ask_files(QUESTION, [tmp_path], qa=qa, top_k=3, score_threshold=0)
    assert len(ranked) == 3
    assert ranked[0].text == "Paris"
    assert [a.confidence for a in ranked] == sorted((a.confidence for a in ranked), reverse=True, key=float)


def test_a_pdf_has_pages(qa: QuestionAnswerer, tmp_path: Path) -> None:
    pytest.importorskip("pypdfium2")
    (tmp_path / "a.PDF").write_bytes(pdf(["Nothing is here.", "The tower stands\nin Paris."]))
    answer = ask_files(QUESTION, tmp_path / "a.PDF", qa=qa)
    assert (answer.text, answer.page, answer.to_dict()["page"]) == ("Paris", 2, 2)


def test_no_answer_has_neither_page_nor_sentence(qa: QuestionAnswerer, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(" \n")
    answer = ask_files(QUESTION, tmp_path / "empty.txt", qa=qa)
    assert (answer.text, answer.sentence, answer.page, answer.confidence) == ("", "", None, 0.0)
    assert ask_files(QUESTION, tmp_path / "empty.txt", qa=qa, top_k=2) == []


def test_what_cannot_be_read_is_an_error_if_it_was_named_and_skipped_in_a_folder(
    qa: QuestionAnswerer, tmp_path: Path
) -> None:
    pytest.importorskip("pypdfium2")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7 no more")
    (tmp_path / "picture.txt").write_bytes(b"\x89PNG")
    with pytest.raises(UnreadableError, match=r"broken\.pdf is a broken PDF"):
        ask_files(QUESTION, tmp_path / "broken.pdf", qa=qa)
    with pytest.raises(UnreadableError, match=r"picture\.txt is not text but a PNG picture"):
        ask_files(QUESTION, tmp_path / "picture.txt", qa=qa)
    with pytest.raises(CorpusError, match="there is no document in an empty list"):
        ask_files(QUESTION, [], qa=qa)
    with pytest.raises(FileNotFoundError):
        ask_files(QUESTION, tmp_path / "none.txt", qa=qa)
    lines: list[str] = []
    with pytest.raises(CorpusError, match="there is no document in "):
        ask_files(QUESTION, tmp_path, qa=qa, skipped=lines.append)
    assert [line.partition(": ")[0] for line in sorted(lines)] == [
        str(tmp_path / "broken.pdf"),
        str(tmp_path / "picture.txt"),
    ]


def test_a_link_to_itself_costs_no_folder(qa: QuestionAnswerer, tmp_path: Path) -> None:
    (tmp_path / "tower.txt").write_text(TEXT)
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    (tmp_path / "loop").symlink_to("loop")
    lines: list[str] = []
    assert ask_files(QUESTION, tmp_path, qa=qa, skipped=lines.append).text == "Paris"
    assert len(lines) == 1


def test_records_of_json_lines_are_documents(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"id": "ä", "text": "Käse 🧀"}\n{"id": 2, "text": "b"}\n', "utf-8")
    assert [(d.name, d.text) for d in read_documents([tmp_path / "r.jsonl"])] == [
        (f"{tmp_path / 'r.jsonl'}#ä", "Käse 🧀"),
        (f"{tmp_path / 'r.jsonl'}#2", "b"),
    ]


def test_many_broken_records_are_told_in_a_few_lines(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"text": "a"}\n' + "[]\n" * 1000, "utf-8")
    lines: list[str] = []
    assert [d.text for d in read_documents([tmp_path], skipped=lines.append)] == ["a"]
    assert len(lines) == 11
    assert lines[-1].endswith("990 more like these")


@pytest.mark.skipif(not os.path.exists("/proc/self/pagemap"), reason="Linux")
@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".log", ".html"])
def test_files_of_holes_and_files_without_end_are_refused(tmp_path: Path, suffix: str) -> None:
    if suffix == ".html":
        pytest.importorskip("inscriptis")
    with (tmp_path / f"holes{suffix}").open("wb") as file:
        file.truncate(1 << 40)
    (tmp_path / f"endless{suffix}").symlink_to("/proc/self/pagemap")
    with pytest.raises(UnreadableError, match="NUL"):
        read_documents([tmp_path / f"holes{suffix}"])
    with pytest.raises((UnreadableError, PermissionError)):
        read_documents([tmp_path / f"endless{suffix}"], skipped=lambda line: None)


def test_options_and_the_question_are_checked_before_anything_is_read(tmp_path: Path, qa: QuestionAnswerer) -> None:
    missing = tmp_path / "missing.txt"
    with pytest.raises(TypeError, match="foo"):
        ask_files(QUESTION, missing, qa=qa, foo=2)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="top_k"):
        ask_files(QUESTION, missing, qa=qa, top_k=0)
    with pytest.raises(ValueError, match=r"the question is empty$"):
        ask_files(" ", missing, qa=qa)
    (tmp_path / "some.txt").write_text("It is in Paris.")
    with pytest.raises(ValueError, match=r"the question is empty$"):
        ask_files("\u200b", tmp_path / "some.txt", qa=qa)


def test_a_named_file_is_read_in_the_encoding_that_its_folder_is(qa: QuestionAnswerer, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("The café was opened by Renée Dupré in 1931.".encode("latin-1"))
    for given in (path, tmp_path):
        found = ask_files("Who opened the café?", given, qa=qa, reading=Reading(encoding="latin-1"))
        assert found.text == "Renée Dupré"
    path.write_bytes("Le café".encode("utf-16-le"))
    with pytest.raises(UnreadableError, match=r"a\.txt is not text: it contains NUL bytes"):
        ask_files("Who opened the café?", path, qa=qa, reading=Reading(encoding="latin-1"))
