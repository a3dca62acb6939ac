"""Reading SQuAD files and prediction files, and every way in which they can be wrong."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynamic_tinybert.squad import Question, SquadError, SquadFile, read_predictions, read_squad
from support.data import SQUAD, needs_squad

RECIPES = Path(__file__).parents[2] / "recipes"


def qa(id_: str, *answers: tuple[str, int], **more: Any) -> dict[str, Any]:
    listed = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": id_, "question": f"Question {id_}?", "answers": listed, **more}


def article(title: str, context: str, *qas: dict[str, Any]) -> dict[str, Any]:
    return {"title": title, "paragraphs": [{"context": context, "qas": list(qas)}]}


def document(version: str = "1.1") -> dict[str, Any]:
    return {
        "version": version,
        "data": [
            article(
                "Zürich", "Zürich liegt an der Limmat. 東京は大きい。", qa("a", ("Limmat", 20), ("der Limmat", 16))
            ),
            article("Oil", "Oil rose in 1973.", qa("b", ("1973", 12)), qa("c", ("Oil", 0))),
            article("Tokyo", "Tokyo is big.", qa("d", ("big", 9))),
        ],
    }


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def ids(data: SquadFile) -> list[str]:
    return [question.id for question in data.questions]


def test_questions_come_in_order_with_all_that_belongs_to_them(tmp_path: Path) -> None:
    data = read_squad(write(tmp_path / "dev.json", document()))
    assert data.version == "1.1"
    assert not data.has_impossible
    assert ids(data) == ["a", "b", "c", "d"]
    assert data.questions[0] == Question(
        id="a",
        title="Zürich",
        question="Question a?",
        context="Zürich liegt an der Limmat. 東京は大きい。",
        answers=("Limmat", "der Limmat"),
        answer_starts=(20, 16),
        impossible=False,
    )


def test_gzip_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.json.gz", document())
    zipped = tmp_path / "zipped.json"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_squad(zipped) == read_squad(plain) == read_squad(str(plain))


def test_a_byte_order_mark_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    path.write_text(json.dumps(document()), encoding="utf-8-sig")
    assert len(read_squad(path).questions) == 4


def test_answer_start_and_title_may_be_absent(tmp_path: Path) -> None:
    value = document()
    del value["data"][0]["title"]
    first, second = value["data"][0]["paragraphs"][0]["qas"][0]["answers"]
    del first["answer_start"]
    second["answer_start"] = None
    question = read_squad(write(tmp_path / "dev.json", value)).questions[0]
    assert question.title == ""
    assert question.answers == ("Limmat", "der Limmat")
    assert question.answer_starts == (None, None)


def test_the_version_is_2_if_the_file_says_v2(tmp_path: Path) -> None:
    value = document("v2.0")
    value["data"][2]["paragraphs"][0]["qas"].append(qa("e"))
    data = read_squad(write(tmp_path / "dev.json", value))
    assert data.version == "2.0"
    assert data.has_impossible
    assert [question.impossible for question in data.questions] == [False, False, False, False, True]
    assert data.questions[-1].answers == ()
    assert data.questions[-1].answer_starts == ()


def test_the_version_is_2_if_any_question_is_marked_even_one_not_kept(tmp_path: Path) -> None:
    value = document()
    del value["version"]
    value["data"][2]["paragraphs"][0]["qas"].append(qa("e", is_impossible=True))
    data = read_squad(write(tmp_path / "dev.json", value), limit=1)
    assert data.version == "2.0"
    assert not data.has_impossible


def test_whether_a_question_is_impossible_is_what_the_file_says(tmp_path: Path) -> None:
    value = document("v2.0")
    value["data"][1]["paragraphs"][0]["qas"] = [
        qa("b", ("1973", 12), is_impossible=True),
        qa("c", is_impossible=False),
    ]
    data = read_squad(write(tmp_path / "dev.json", value), titles=["Oil"])
    assert [question.impossible for question in data.questions] == [True, False]


@pytest.mark.parametrize("version", ["v2.0", "2.0", "2", 2.0, 2])
def test_questions_of_2_may_have_no_answers_and_ids_may_be_numbers(tmp_path: Path, version: Any) -> None:
    value = document()
    value["version"] = version
    value["data"][1]["paragraphs"][0]["qas"] = [
        {"id": 1, "question": "With an answer?", "answers": [{"text": "1973", "answer_start": 12}], "is_impossible": 0},
        {"id": 2, "question": "Null?", "answers": None, "is_impossible": 1},
        {"id": 3, "question": "Missing?"},
        {"id": 4, "question": "Empty?", "answers": []},
    ]
    data = read_squad(write(tmp_path / "dev.json", value), titles=["Oil"])
    assert data.version == "2.0"
    assert ids(data) == ["1", "2", "3", "4"]
    assert [question.impossible for question in data.questions] == [False, True, True, True]


def test_missing_answers_of_1_are_told(tmp_path: Path) -> None:
    value = document()
    value["data"][1]["paragraphs"][0]["qas"] = [{"id": "x", "question": "Missing?", "answers": None}]
    message = complaint(read_squad, write(tmp_path / "dev.json", value))
    assert message == "data[1].paragraphs[0].qas[0] has 'answers', but it is not a list"


@pytest.mark.parametrize(
    ("limit", "titles", "expected"),
    [
        (1, None, ["a"]),
        (3, None, ["a", "b", "c"]),
        (99, None, ["a", "b", "c", "d"]),
        (None, {"Tokyo", "Oil"}, ["b", "c", "d"]),
        (None, ["Oil", "Atlantis"], ["b", "c"]),
        (2, ("Tokyo", "Oil"), ["b", "c"]),
    ],
)
def test_selection(tmp_path: Path, limit: int | None, titles: Any, expected: list[str]) -> None:
    assert ids(read_squad(write(tmp_path / "dev.json", document()), limit=limit, titles=titles)) == expected


def complaint(read: Callable[..., object], path: Path, **options: Any) -> str:
    """What `read` complains of, without the file's name, which must come first; always one line."""
    with pytest.raises(SquadError) as caught:
        read(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("read", [read_squad, read_predictions])
def test_files_that_cannot_be_read(tmp_path: Path, read: Callable[..., object]) -> None:
    assert "No such file" in complaint(read, tmp_path / "absent.json")
    assert complaint(read, tmp_path).startswith("cannot be read: ")


@pytest.mark.parametrize("read", [read_squad, read_predictions])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is not JSON: "),
        (b"id,answer\n", "is not JSON: "),
        (b'{"data": [', "is not JSON: "),
        (b"[" * 100_000, "is not JSON: "),
        ('{"é": "é"}'.encode("latin-1"), "is not UTF-8: "),
        (gzip.compress(b'{"data": []}' * 99, mtime=0)[:-12], "is a damaged gzip file: "),
        (gzip.compress(b'{"data": []}' * 99, mtime=0)[:10] + b"\xff" * 40, "is a damaged gzip file: "),
        (b"\x1f\x8b no gzip after all", "is a damaged gzip file: "),
        (b"[]", "the top level is not an object"),
    ],
)
def test_contents_that_are_no_json_object(
    tmp_path: Path, read: Callable[..., object], content: bytes, expected: str
) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    assert complaint(read, path).startswith(expected)


def break_at(value: Any, *steps: str | int, to: Any = None) -> None:
    """Set the member at the end of `steps`, or delete it where `to` is None."""
    for step in steps[:-1]:
        value = value[step]
    if to is None:
        del value[steps[-1]]
    else:
        value[steps[-1]] = to


PARAGRAPH = ("data", 1, "paragraphs", 0)
QA = (*PARAGRAPH, "qas", 1)
IN_PARAGRAPH = "data[1].paragraphs[0]"
IN_QA = f"{IN_PARAGRAPH}.qas[1]"


@pytest.mark.parametrize(
    ("steps", "to", "expected"),
    [
        (("data",), None, "the top level has no 'data'"),
        (("data",), {}, "the top level has 'data', but it is not a list"),
        (("data", 1), "x", "data[1] is not an object"),
        (("data", 1, "title"), 7, "data[1] has 'title', but it is not a string"),
        (("data", 1, "paragraphs"), None, "data[1] has no 'paragraphs'"),
        (PARAGRAPH, [], f"{IN_PARAGRAPH} is not an object"),
        ((*PARAGRAPH, "context"), None, f"{IN_PARAGRAPH} has no 'context'"),
        ((*PARAGRAPH, "qas"), None, f"{IN_PARAGRAPH} has no 'qas'"),
        (QA, "x", f"{IN_QA} is not an object"),
        ((*QA, "id"), None, f"{IN_QA} has no 'id'"),
        ((*QA, "id"), 7.5, f"{IN_QA} has 'id', but it is not a string"),
        ((*QA, "id"), ["a"], f"{IN_QA} has 'id', but it is not a string"),
        ((*QA, "id"), True, f"{IN_QA} has 'id', but it is not an integer"),
        ((*QA, "question"), " \t", f"{IN_QA} has an empty question (id 'c')"),
        ((*QA, "question"), None, f"{IN_QA} has no 'question'"),
        ((*QA, "answers"), None, f"{IN_QA} has no 'answers'"),
        ((*QA, "answers"), {"text": ["Oil"]}, f"{IN_QA} has 'answers', but it is not a list"),
        ((*QA, "answers"), [], f"{IN_QA} has no answer, which SQuAD 1.1 requires"),
        ((*QA, "answers", 0), "Oil", f"{IN_QA}.answers[0] is not an object"),
        ((*QA, "answers", 0, "text"), None, f"{IN_QA}.answers[0] has no 'text'"),
        ((*QA, "answers", 0, "answer_start"), "0", f"{IN_QA}.answers[0] has 'answer_start', but it is not an integer"),
        ((*QA, "answers", 0, "answer_start"), True, f"{IN_QA}.answers[0] has 'answer_start', but it is not an integer"),
        ((*QA, "is_impossible"), 2, f"{IN_QA} has 'is_impossible', but it is not true or false"),
        ((*QA, "is_impossible"), "no", f"{IN_QA} has 'is_impossible', but it is not true or false"),
        ((*QA, "id"), "a", f"{IN_QA} has the id 'a' of an earlier question"),
        (("data",), [], "no questions"),
        (("data",), [article("Oil", "Oil.")], "no questions"),
    ],
)
def test_what_is_not_squad_says_where(tmp_path: Path, steps: tuple[str | int, ...], to: Any, expected: str) -> None:
    value = document()
    break_at(value, *steps, to=to)
    assert complaint(read_squad, write(tmp_path / "dev.json", value)) == expected


def test_faults_are_found_outside_the_selection_too(tmp_path: Path) -> None:
    value = document()
    break_at(value, *QA, "question")
    assert complaint(read_squad, write(tmp_path / "dev.json", value), limit=1) == f"{IN_QA} has no 'question'"


def test_selections_that_select_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "dev.json", document())
    assert complaint(read_squad, path, limit=0) == "the limit must be at least 1, not 0"
    assert complaint(read_squad, path, limit=-3) == "the limit must be at least 1, not -3"
    assert complaint(read_squad, path, titles=["Atlantis"]) == "no questions under the given titles"


def test_predictions_plain_and_gzipped(tmp_path: Path) -> None:
    predictions = {"a": "東京 “Zürich”", "b": ""}
    plain = write(tmp_path / "plain.json", predictions)
    zipped = tmp_path / "zipped"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_predictions(plain) == read_predictions(zipped) == predictions


def test_predictions_must_be_strings(tmp_path: Path) -> None:
    path = write(tmp_path / "predictions.json", {"a": "fine", "b": ["no"]})
    assert complaint(read_predictions, path) == "the top level has 'b', but it is not a string"


@pytest.mark.slow
@needs_squad
def test_the_dev_sets_are_read_whole() -> None:
    one, two = read_squad(SQUAD / "dev-v1.1.json.gz"), read_squad(SQUAD / "dev-v2.0.json.gz")
    assert (one.version, len(one.questions), sum(len(q.answers) for q in one.questions)) == ("1.1", 10_570, 34_726)
    assert (two.version, len(two.questions), sum(q.impossible for q in two.questions)) == ("2.0", 11_873, 5_945)
    for question in (*one.questions, *two.questions):
        for text, start in zip(question.answers, question.answer_starts, strict=True):
            assert start is not None
            assert question.context.startswith(text, start)


@pytest.mark.slow
@needs_squad
def test_the_held_out_articles_can_be_selected() -> None:
    titles = (RECIPES / "heldout-select.txt").read_text(encoding="utf-8").split()
    data = read_squad(SQUAD / "train-v1.1.json.gz", titles=titles)
    assert len(data.questions) == 5_248
    assert {question.title for question in data.questions} == set(titles)
