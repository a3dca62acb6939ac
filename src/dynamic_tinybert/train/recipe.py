"""Read recipes: YAML files that describe training runs; unknown keys are errors."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from dynamic_tinybert.files import shipped_recipes
from dynamic_tinybert.train.errors import TrainingError
from dynamic_tinybert.train.settings import (
    AnyStage,
    Data,
    IntermediateStage,
    LengthDropStage,
    LogitsStage,
    PredictionStage,
    Strict,
    Student,
    StudentStage,
    TeacherStage,
)


class Recipe(Strict):
    """A recipe: the description of a training run.

    Attributes:
        name: The name of the model.
        description: A description of the model, for its card.
        license: The licence of the model, for its card.
        data: The data.
        teacher: A fine-tuned model, a folder or a name on the Hub, for stages that name no teacher and have no
            `teacher` stage before them.
        student: What the student starts from; None if the recipe trains only a teacher.
        stages: The stages, in order.
        seed: The seed of everything that is random.
    """

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    description: str = ""
    license: str = "apache-2.0"
    data: Data
    teacher: str | None = None
    student: Student | None = None
    stages: Annotated[tuple[AnyStage, ...], Field(min_length=1)]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        taught, stored_before = self.teacher is not None, False
        for stage in self.stages:
            if isinstance(stage, TeacherStage):
                taught = True
                continue
            if isinstance(stage, LogitsStage):
                if not (taught or stage.teachers or stage.start):
                    raise ValueError(
                        "the stage logits needs a teacher: teachers: [FOLDER], or a teacher stage before it"
                    )
                stored_before = True
                continue
            if self.student is None:
                raise ValueError(f"the stage {stage.stage} trains a student, but the recipe has no student")
            has_teacher = taught or stage.teacher is not None
            stored = stored_before or getattr(stage, "logits", None) is not None
            if not has_teacher and isinstance(stage, IntermediateStage):
                raise ValueError(
                    "the stage intermediate needs a teacher: a teacher stage before it, or teacher: FOLDER"
                )
            if not has_teacher and isinstance(stage, LengthDropStage) and stage.learn_from == "teacher" and not stored:
                raise ValueError("learn_from: teacher needs a teacher: a teacher stage before it, or teacher: FOLDER")
        if self.student is not None and self.student.teacher_layers is not None:
            first = next((s for s in self.stages if isinstance(s, StudentStage)), None)
            before = (
                any(isinstance(s, TeacherStage) for s in self.stages[: self.stages.index(first)]) if first else False
            )
            if first is None or not (before or first.teacher or self.teacher):
                raise ValueError(
                    "teacher_layers needs a teacher: a teacher stage first, or teacher: FOLDER in the next"
                )
        trained = {type(stage) for stage in self.stages} - {LogitsStage}
        if self.student is not None and trained == {TeacherStage}:
            raise ValueError("no stage trains the student: add one, for example lengthdrop, or leave student out")
        taught_heads = any(isinstance(stage, LengthDropStage) and stage.significance > 0 for stage in self.stages)
        if self.student is not None and self.student.significance_head and not taught_heads:
            raise ValueError(
                "significance_head: true needs a stage lengthdrop with significance above 0, which teaches the heads"
            )
        names = self.stage_names()
        if len(set(names)) != len(names):
            raise ValueError("two stages have one name: give them names")
        return self

    @property
    def trains(self) -> bool:
        """Whether the recipe trains a model: it has stages other than `logits`."""
        return not all(isinstance(stage, LogitsStage) for stage in self.stages)

    def stage_names(self) -> list[str]:
        """Return the names of the stages, in order."""
        return [stage.name or stage.stage for stage in self.stages]


def models_of(stage: AnyStage) -> tuple[str, ...]:
    """Return the models that a stage names: the teachers that it learns from, or the model that it makes a teacher."""
    if isinstance(stage, LogitsStage):
        return stage.teachers
    named = stage.model if isinstance(stage, TeacherStage) else stage.teacher
    return () if named is None else (named,)


def first_teacher(recipe: Recipe) -> str | None:
    """Return the model that a student takes layers from: the one that its first stage names, or the last before it."""
    teacher = recipe.teacher
    for stage in recipe.stages:
        if isinstance(stage, TeacherStage):
            teacher = stage.model
        elif isinstance(stage, StudentStage):
            return stage.teacher or teacher
    return teacher


def read_recipe(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: A YAML file. Its data are looked for relative to the working folder, then relative to the recipe's folder.
        changes: Settings to change, as `data.limit=1000` or `stages.teacher.minutes=4`. A stage is named by its name or
            its number, from 0.

    Raises:
        TrainingError: The recipe cannot be read or is not valid; the message says in one line where.
    """
    try:
        value = yaml.load(Path(path).read_text("utf-8"), _Loader)
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date with month 13 is a ValueError
        raise TrainingError(f"{path}: is not YAML: {error}") from None
    if not isinstance(value, dict):
        raise TrainingError(f"{path}: is not a recipe: it has no name, data and stages")
    for change in changes:
        _change(value, change)
    _place(value, Path(path).parent)
    try:
        return Recipe.model_validate(value)
    except ValidationError as error:
        raise TrainingError(f"{path}: {_explain(error)}") from None


def find_recipe(name: str) -> Path:
    """Find a recipe: a file, or a recipe of this package by its name.

    Raises:
        TrainingError: There is no such recipe.
    """
    path = Path(name)
    if path.is_file() or path.suffix:
        return path
    shipped = shipped_recipes()
    if name not in shipped:
        raise TrainingError(f"there is no recipe {name!r}: give a YAML file, or one of {', '.join(sorted(shipped))}")
    return shipped[name]


def dump_recipe(recipe: Recipe) -> str:
    """Return a recipe as YAML, with all defaults."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """A YAML loader that refuses duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Make a dictionary; raise an error for a duplicate key."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _place(value: dict[str, Any], folder: Path) -> None:
    """Make data paths relative to the recipe's folder if they exist there, but not in the working folder."""
    data = value.get("data")
    if not isinstance(data, dict):
        return
    for key, given in list(data.items()):
        if key in ("train", "select", "confirm", "dev") and isinstance(given, str) and given:
            beside = folder / given
            if not Path(given).exists() and beside.exists():
                data[key] = str(beside)


def _change(value: dict[str, Any], change: str) -> None:
    key, given, text = change.partition("=")
    parts = key.split(".")
    if not given or not all(parts):
        raise TrainingError(f"a change must be KEY=VALUE, for example data.limit=1000, not {change!r}")
    at: Any = value
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        if isinstance(at, list):
            names = [stage.get("name") or stage.get("stage") if isinstance(stage, dict) else None for stage in at]
            if part not in names and not (part.isdecimal() and int(part) < len(at)):
                raise TrainingError(f"{change}: there is no stage {part!r}; there are {', '.join(map(str, names))}")
            number = names.index(part) if part in names else int(part)
            if not following:
                raise TrainingError(f"{change}: name a setting of the stage, for example stages.{part}.minutes=4")
            at = at[number]
        elif not isinstance(at, dict):
            raise TrainingError(f"{change}: {part!r} is not a setting of a recipe")
        elif following:
            at = at.setdefault(part, {})
        else:
            try:
                at[part] = yaml.safe_load(text)
            except (yaml.YAMLError, ValueError, RecursionError):
                raise TrainingError(f"{change}: {text!r} is not a YAML value") from None
            other = {"minutes": "epochs", "epochs": "minutes"}.get(part)
            if other in at and at[part] is not None and parts[0] == "stages":
                del at[other]


def _explain(error: ValidationError) -> str:
    """Describe the first error of pydantic in one line."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    if len(place) > 2 and place[0] == "stages":  # pydantic names the kind of stage after its number
        del place[2]
    where = ".".join(place)
    if first["type"] == "extra_forbidden":
        key = str(first["loc"][-1])
        near = difflib.get_close_matches(key, sorted(_keys(first["loc"])), 1)
        return f"{where}: there is no such key" + (f"; did you mean {near[0]}?" if near else "")
    if first["type"] == "missing":
        return f"{where}: is missing"
    if first["type"] == "union_tag_invalid":
        found, known = first["ctx"]["tag"], first["ctx"]["expected_tags"]
        return f"{where}: there is no stage {found!r}; there are {known}"
    if first["type"] == "union_tag_not_found":
        return f"{where}: has no stage: write, for example, stage: teacher"
    message = first["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(first["input"], (Mapping, BaseModel)) else f", not {first['input']!r:.60}"
    return f"{where + ': ' if where else ''}{message}{shown}"


def _keys(place: tuple[int | str, ...]) -> set[str]:
    """Return the keys that are known at the place of an unknown key."""
    kinds: dict[str, type[Strict]] = {
        "teacher": TeacherStage,
        "logits": LogitsStage,
        "intermediate": IntermediateStage,
        "prediction": PredictionStage,
        "lengthdrop": LengthDropStage,
    }
    parts: dict[str, type[Strict]] = {"data": Data, "student": Student}
    if len(place) == 1:
        return set(Recipe.model_fields)
    if place[0] == "stages":
        return set(kinds[str(place[2])].model_fields)
    return set(parts[str(place[0])].model_fields)
