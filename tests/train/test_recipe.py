"""Recipes are read strictly: what they say is done, and what is not understood is one line that says where."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dynamic_tinybert.train import Recipe, TrainingError, read_recipe
from dynamic_tinybert.train.features import FeatureSettings
from dynamic_tinybert.train.recipe import dump_recipe
from dynamic_tinybert.train.settings import LengthDropStage, TeacherStage

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))

WHOLE: dict[str, Any] = {
    "name": "small",
    "data": {"train": "train.json", "select": "select.txt", "confirm": "confirm.txt"},
    "student": {"checkpoint": "embedded"},
    "stages": [
        {"stage": "teacher", "model": "bert-base-uncased", "epochs": 2},
        {"stage": "intermediate", "epochs": 20},
        {"stage": "prediction", "minutes": 5},
        {"stage": "lengthdrop", "epochs": 1},
    ],
}


def write(folder: Path, value: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value), "utf-8")
    return path


def edited(**changes: Any) -> dict[str, Any]:
    """The whole recipe with other values at places, as `data__limit=3`; `...` takes one away."""
    value = copy.deepcopy(WHOLE)
    for place, new in changes.items():
        at: Any = value
        *path, last = place.split("__")
        for part in path:
            at = at[int(part[1:])] if part[0] == "n" and part[1:].isdecimal() else at[part]
        if new is ...:
            del at[last]
        else:
            at[last] = new
    return value


def refused(path: Path, *changes: str) -> str:
    with pytest.raises(TrainingError) as error:
        read_recipe(path, changes)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 500
    assert "pydantic" not in message.lower()
    return message


def test_a_whole_recipe(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, WHOLE))
    assert recipe.name == "small"
    assert recipe.stage_names() == ["teacher", "intermediate", "prediction", "lengthdrop"]
    teacher, _, prediction, drop = recipe.stages
    assert isinstance(teacher, TeacherStage)
    assert isinstance(drop, LengthDropStage)
    assert (teacher.epochs, teacher.minutes, prediction.epochs, prediction.minutes) == (2, None, None, 5)
    assert teacher.retentions == (1.0,)
    assert drop.retentions == (1.0, 0.8)
    settings = recipe.data.features(7)
    assert settings == FeatureSettings(seed=7)


def test_data_make_features_as_they_say(tmp_path: Path) -> None:
    own = {
        "answers": "first", "impossible": 0.25, "max_seq_len": 200, "doc_stride": 50, "max_question_len": 32,
        "articles": 0.1, "article_lengths": [64, 200], "distractors": 0.2, "typed": 0.3, "layout": 0.4,
    }  # fmt: skip
    recipe = read_recipe(write(tmp_path, edited(data=WHOLE["data"] | own)))
    assert recipe.data.features(0) == FeatureSettings(seed=0, **own | {"article_lengths": (64, 200)})


@pytest.mark.parametrize(("name", "asks"), [("impossible", True), ("distractors", True), ("articles", False)])
def test_data_say_whether_questions_without_an_answer_are_made(name: str, asks: bool, tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, WHOLE), [f"data.{name}=0.1"])
    assert recipe.data.without_answer == asks
    assert not read_recipe(write(tmp_path, WHOLE)).data.without_answer


def test_numbers_may_be_written_as_people_write_them(tmp_path: Path) -> None:
    text = yaml.safe_dump(WHOLE).replace("epochs: 20", "epochs: 20\n  learning_rate: 3e-5")
    assert read_recipe(write(tmp_path, text)).stages[1].learning_rate == 3e-5


def test_what_is_written_down_is_read_back(tmp_path: Path) -> None:
    value = edited(stages__n2__temperature=2.0, student={"teacher_layers": [1, 3, 5]}, description="Ä, 東京: yes\nno")
    recipe = read_recipe(write(tmp_path, value))
    text = dump_recipe(recipe)
    assert read_recipe(write(tmp_path, text)) == recipe
    assert "learning_rate" in text  # defaults are spelled out
    assert dump_recipe(read_recipe(write(tmp_path, text))) == text


def test_a_recipe_cannot_be_changed() -> None:
    recipe = Recipe.model_validate(WHOLE)
    with pytest.raises(ValueError, match="frozen"):
        recipe.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_the_recipes_that_come_along_are_valid(path: Path, tmp_path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.description
    assert read_recipe(write(tmp_path, dump_recipe(recipe))) == recipe
    if recipe.student is None:
        assert all(isinstance(stage, TeacherStage) for stage in recipe.stages)


# What is refused.

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a misspelled key": ({"sutdent": {}}, "sutdent: there is no such key; did you mean student?"),
    "of the data": ({"data__doc_strid": 3}, "data.doc_strid: there is no such key; did you mean doc_stride?"),
    "of the student": (
        {"student__chekpoint": "x"},
        "student.chekpoint: there is no such key; did you mean checkpoint?",
    ),
    "of a stage": (
        {"stages__n1__learning_rat": 1},
        "stages.1.learning_rat: there is no such key; did you mean learning_rate?",
    ),
    "of one kind of stage": (
        {"stages__n3__lenght_drop": 0.1},
        "stages.3.lenght_drop: there is no such key; did you mean length_drop?",
    ),
    "of another kind of stage": ({"stages__n0__length_drop": 0.1}, "stages.0.length_drop: there is no such key"),
    "a key like nothing": ({"zzz": 1}, "zzz: there is no such key"),
    "an unknown stage": (
        {"stages__n2__stage": "predict"},
        "stages.2: there is no stage 'predict'; there are 'teacher'",
    ),
    "a stage that says none": ({"stages__n2__stage": ...}, "stages.2: has no stage"),
    "a stage that is text": ({"stages": ["teacher"]}, "stages.0: "),
    "no name": ({"name": ...}, "name: is missing"),
    "no data": ({"data": ...}, "data: is missing"),
    "no train": ({"data__train": ...}, "data.train: is missing"),
    "no select": ({"data__select": ...}, "data.select: is missing"),
    "no stages": ({"stages": ...}, "stages: is missing"),
    "stages of nothing": ({"stages": []}, "stages: "),
    "stages of none": ({"stages": None}, "stages: "),
    "no model": ({"stages__n0__model": ...}, "stages.0.model: is missing"),
    "both measures": ({"stages__n0__minutes": 2}, "stages.0: give either epochs or minutes"),
    "neither measure": ({"stages__n0__epochs": ...}, "stages.0: give either epochs or minutes"),
    "no epochs": ({"stages__n0__epochs": 0}, "stages.0.epochs: "),
    "epochs below 0": ({"stages__n0__epochs": -1}, "stages.0.epochs: "),
    "endless epochs": ({"stages__n0__epochs": float("inf")}, "stages.0.epochs: "),
    "endless minutes": ({"stages__n2__minutes": float("inf")}, "stages.2.minutes: "),
    "minutes that are none": ({"stages__n2__minutes": float("nan")}, "stages.2.minutes: "),
    "minutes in words": ({"stages__n2__minutes": "ten"}, "stages.2.minutes: .*'ten'"),
    "a batch of none": ({"stages__n0__batch_size": 0}, "stages.0.batch_size: .*, not 0"),
    "a batch of a half": ({"stages__n0__batch_size": 0.5}, "stages.0.batch_size: .*, not 0.5"),
    "a great learning rate": ({"stages__n0__learning_rate": 3}, "stages.0.learning_rate: "),
    "a warm-up of all": ({"stages__n0__warmup": 1}, "stages.0.warmup: "),
    "an endless temperature": ({"stages__n2__temperature": float("inf")}, "stages.2.temperature: "),
    "a share above 1": ({"data__impossible": 1.5}, "data.impossible: "),
    "distractors below 0": ({"data__distractors": -0.1}, "data.distractors: "),
    "a layout above 1": ({"data__layout": 2}, "data.layout: "),
    "a single length of articles": ({"data__article_lengths": [128]}, "data.article_lengths"),
    "lengths of articles in the wrong order": (
        {"data": WHOLE["data"] | {"articles": 0.1, "article_lengths": [300, 200]}},
        "data: article_lengths begins with 300, more than 200: put the shorter first",
    ),
    "articles longer than windows": (
        {"data": WHOLE["data"] | {"articles": 0.1, "max_seq_len": 256}},
        "data: article_lengths goes up to 384 tokens: it is at most max_seq_len, 256",
    ),
    "labels above 1": ({"stages__n2__labels": 1.01}, "stages.2.labels: "),
    "a drop of all": ({"stages__n3__length_drop": 1}, "stages.3.length_drop: "),
    "a retention of 0": ({"stages__n3__retentions": [1.0, 0]}, "stages.3.retentions.1: "),
    "no retentions": ({"stages__n3__retentions": []}, "stages.3: retentions must begin with 1.0, the full model"),
    "full left out": ({"stages__n3__retentions": [0.8]}, "stages.3: retentions must begin with 1.0, the full model"),
    "an unknown rule": ({"stages__n3__rule": "double"}, "stages.3.rule: .*'double'"),
    "a full share above 1": ({"stages__n3__full": 1.5}, "stages.3.full: "),
    "layers that are always whole": ({"stages__n3__whole": 1}, "stages.3.whole: "),
    "a significance below 0": ({"stages__n3__significance": -0.1}, "stages.3.significance: "),
    "unknown voters": ({"student__voters": "text"}, "student.voters: .*'text'"),
    "a dropout of all": ({"student__dropout": 1}, "student.dropout: "),
    "an unknown match": ({"stages__n1__match": "values"}, "stages.1.match: .*'values'"),
    "an unknown choice of answers": ({"data__answers": "some"}, "data.answers: .*'some'"),
    "an unknown precision": ({"stages__n0__precision": "fp16"}, "stages.0.precision: "),
    "a short window": ({"data__max_seq_len": 3}, "data.max_seq_len: "),
    "a limit of 0": ({"data__limit": 0}, "data.limit: "),
    "a name of a path": ({"name": "../up"}, "name: "),
    "a name of the folder above": ({"name": ".."}, "name: "),
    "a stage's name of a path": ({"stages__n0__name": "a/b"}, "stages.0.name: "),
    "a stage's name of the folder above": ({"stages__n0__name": ".."}, "stages.0.name: "),
    "a hidden name": ({"stages__n0__name": ".a"}, "stages.0.name: "),
    "a seed below 0": ({"seed": -1}, "seed: "),
    "a seed too great": ({"seed": 2**32}, "seed: "),
    "a seed of a half": ({"seed": 0.5}, "seed: "),
    "a student that nothing trains": (
        {"stages": WHOLE["stages"][:1]},
        "no stage trains the student: add one, for example lengthdrop, or leave student out",
    ),
    "no student": ({"student": ...}, "the stage intermediate trains a student, but the recipe has no student"),
    "a student of nothing": ({"student": {}}, "student: give either checkpoint or teacher_layers"),
    "a student of both": (
        {"student": {"checkpoint": "embedded", "teacher_layers": "every_second"}},
        "student: give either checkpoint or teacher_layers",
    ),
    "a student of layers below 0": ({"student": {"teacher_layers": [-1]}}, "student.teacher_layers"),
    "a student of layers in words": ({"student": {"teacher_layers": "every_third"}}, "student.teacher_layers"),
    "two stages of one name": (
        {"stages__n1__name": "prediction"},
        "two stages have one name: give them names",
    ),
    "data that are a list": ({"data": []}, "data: "),
    "a key that is not text": ({"data": {1: 2}}, "data"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_understood_is_one_line_that_says_where(name: str, tmp_path: Path) -> None:
    changes, says = WRONG[name]
    path = write(tmp_path, edited(**changes))
    message = refused(path)
    assert message.startswith(f"{path}: ")
    assert re.search(says, message), message


@pytest.mark.parametrize(
    "stages",
    [
        [{"stage": "intermediate", "epochs": 1}],
        [{"stage": "intermediate", "epochs": 1}, {"stage": "teacher", "model": "x", "epochs": 1}],
        [{"stage": "lengthdrop", "epochs": 1, "learn_from": "teacher"}],
    ],
)
def test_a_stage_that_needs_a_teacher_has_one_before_it(stages: list[dict[str, Any]], tmp_path: Path) -> None:
    message = refused(write(tmp_path, edited(stages=stages)))
    assert "needs a teacher: a teacher stage before it, or teacher: FOLDER" in message
    stages[0]["teacher"] = "some/folder"
    read_recipe(write(tmp_path, edited(stages=stages)))
    del stages[0]["teacher"]
    read_recipe(write(tmp_path, edited(stages=stages, teacher="some/folder")))


def test_stored_logits_are_a_teacher_but_not_of_what_is_inside(tmp_path: Path) -> None:
    stage = {"stage": "lengthdrop", "epochs": 1, "learn_from": "teacher", "logits": "logits.npz"}
    read_recipe(write(tmp_path, edited(stages=[stage])))


def test_logits_have_a_teacher_or_are_converted_and_then_teach(tmp_path: Path) -> None:
    stage, learner = {"stage": "logits"}, {"stage": "lengthdrop", "epochs": 1, "learn_from": "teacher"}
    message = refused(write(tmp_path, edited(stages=[stage, learner])))
    assert "the stage logits needs a teacher: teachers: [FOLDER], or a teacher stage before it" in message
    read_recipe(write(tmp_path, edited(stages=[stage, learner], teacher="some/folder")))
    for source in ({"teachers": ["some/folder", "other/folder"]}, {"start": "logits.npz"}):
        assert read_recipe(write(tmp_path, edited(stages=[{**stage, **source}, learner]))).trains
        alone = read_recipe(write(tmp_path, edited(stages=[{**stage, **source}], student=...)))
        assert not alone.trains
    inside = {"stage": "intermediate", "epochs": 1}
    message = refused(write(tmp_path, edited(stages=[{**stage, "teachers": ["some/folder"]}, inside])))
    assert "the stage intermediate needs a teacher" in message


def test_a_stage_of_logits_has_no_settings_of_learning(tmp_path: Path) -> None:
    stage = {"stage": "logits", "teachers": ["some/folder"]}
    message = refused(write(tmp_path, edited(stages=[{**stage, "epochs": 1}])))
    assert message.endswith("stages.0.epochs: there is no such key")
    message = refused(write(tmp_path, edited(stages=[{**stage, "teacher": "some/folder"}])))
    assert message.endswith("stages.0.teacher: there is no such key; did you mean teachers?")
    message = refused(write(tmp_path, edited(stages=[{**stage, "keep": 0}])))
    assert "stages.0.keep" in message


def test_labels_alone_need_no_teacher(tmp_path: Path) -> None:
    for kind in ("prediction", "lengthdrop"):
        read_recipe(write(tmp_path, edited(stages=[{"stage": kind, "epochs": 1}])))


def test_a_student_of_layers_needs_a_teacher(tmp_path: Path) -> None:
    layers = {"student": {"teacher_layers": "every_second"}}
    own = {"stage": "prediction", "epochs": 1}
    assert "teacher_layers needs a teacher" in refused(write(tmp_path, edited(**layers, stages=[own])))
    teacher = {"stage": "teacher", "model": "x", "epochs": 1}
    assert "teacher_layers needs a teacher" in refused(write(tmp_path, edited(**layers, stages=[own, teacher])))
    assert "teacher_layers needs a teacher" in refused(write(tmp_path, edited(**layers, stages=[teacher])))
    read_recipe(write(tmp_path, edited(**layers, stages=[teacher, own])))
    read_recipe(write(tmp_path, edited(**layers, stages=[own | {"teacher": "x"}])))


def test_significance_heads_need_a_stage_that_teaches_them(tmp_path: Path) -> None:
    student = {"checkpoint": "embedded", "significance_head": True}
    stages = [{"stage": "lengthdrop", "epochs": 1}]
    says = "significance_head: true needs a stage lengthdrop with significance above 0"
    assert says in refused(write(tmp_path, edited(student=student, stages=stages)))
    stages[0]["significance"] = 0.5
    assert read_recipe(write(tmp_path, edited(student=student, stages=stages))).student.significance_head
    read_recipe(write(tmp_path, edited(student={**student, "significance_head": False}, stages=stages[:1])))


def test_a_teacher_alone_is_a_recipe(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, edited(student=..., stages=WHOLE["stages"][:1])))
    assert recipe.student is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: [", "is not YAML"),
        ("a: b: c", "is not YAML"),
        ("\tname: x", "is not YAML"),
        ("name: !!python/object:os.system x", "is not YAML"),
        ("name: 2020-13-45", "is not YAML"),
        ("seed: 0b_", "is not YAML"),
        ("[" * 3000, "is not YAML"),
        ("", "is not a recipe"),
        ("just words", "is not a recipe"),
        ("- stage: teacher", "is not a recipe"),
        ("3", "is not a recipe"),
        ("{}", "is missing"),
    ],
)
def test_what_is_no_recipe(text: str, says: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    assert says in refused(path)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """Or one of the two would be read, and nobody would know which."""
    text = yaml.safe_dump(WHOLE).replace("epochs: 20", "epochs: 20\n  batch_size: 8\n  batch_size: 16")
    assert "batch_size" in refused(write(tmp_path, text))


def test_what_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refused(tmp_path / "nowhere.yaml")
    assert "cannot be read: Is a directory" in refused(tmp_path)
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: caf\xe9".encode("latin-1"))
    assert "is not YAML" in refused(path)


# Changes.


def test_changes(tmp_path: Path) -> None:
    path = write(tmp_path, edited(stages__n3__name="drop"))
    recipe = read_recipe(
        path,
        [
            "data.limit=1000",
            "name=other",
            "stages.teacher.batch_size=8",
            "stages.1.learning_rate=1e-4",
            "stages.drop.retentions=[1.0, 0.5]",
            "student.checkpoint=a=b",
            "seed=3",
            "data.dev=dev.json",
        ],
    )
    assert recipe.data.limit == 1000
    assert recipe.name == "other"
    assert recipe.stages[0].batch_size == 8
    assert recipe.stages[1].learning_rate == 1e-4
    assert recipe.stages[3].retentions == (1.0, 0.5)
    assert recipe.student is not None
    assert recipe.student.checkpoint == "a=b"
    assert recipe.seed == 3
    assert recipe.data.dev == Path("dev.json")
    assert read_recipe(path).data.limit is None


def test_a_change_of_the_measure_replaces_the_other(tmp_path: Path) -> None:
    path = write(tmp_path, WHOLE)
    recipe = read_recipe(path, ["stages.teacher.minutes=4", "stages.prediction.epochs=2"])
    assert (recipe.stages[0].epochs, recipe.stages[0].minutes) == (None, 4)
    assert (recipe.stages[2].epochs, recipe.stages[2].minutes) == (2, None)
    assert "give either epochs or minutes" in refused(path, "stages.teacher.epochs=null")


def test_a_change_can_add_a_part(tmp_path: Path) -> None:
    path = write(tmp_path, edited(student=...))
    recipe = read_recipe(path, ["student.checkpoint=embedded"])
    assert recipe.student is not None
    assert recipe.student.checkpoint == "embedded"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("data.limit", "a change must be KEY=VALUE"),
        ("=3", "a change must be KEY=VALUE"),
        ("data..limit=3", "a change must be KEY=VALUE"),
        ("data.=3", "a change must be KEY=VALUE"),
        ("", "a change must be KEY=VALUE"),
        ("data.limt=3", "data.limt: there is no such key; did you mean limit?"),
        ("dta.limit=3", "dta: there is no such key; did you mean data?"),
        ("data.limit=many", "data.limit: "),
        ("data.limit=[", "is not a YAML value"),
        ("data.limit=2020-13-45", "is not a YAML value"),
        ("stages.techer.epochs=3", "there is no stage 'techer'; there are teacher, intermediate"),
        ("stages.4.epochs=3", "there is no stage '4'"),
        ("stages.-1.epochs=3", "there is no stage '-1'"),
        ("stages.teacher=3", "name a setting of the stage, for example stages.teacher.minutes=4"),
        ("name.x=3", "'x' is not a setting of a recipe"),
        ("data.limit.x=3", "data.limit"),
    ],
)
def test_a_change_that_makes_no_sense_is_one_line(change: str, says: str, tmp_path: Path) -> None:
    assert says in refused(write(tmp_path, WHOLE), change)


def test_a_change_of_a_recipe_without_stages(tmp_path: Path) -> None:
    refused(write(tmp_path, edited(stages=...)), "stages.teacher.epochs=3")
    refused(write(tmp_path, edited(stages=None)), "stages.teacher.epochs=3")
    refused(write(tmp_path, edited(stages=["x", 3])), "stages.teacher.epochs=3")
