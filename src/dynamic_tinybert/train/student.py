"""Make the student that a recipe begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dynamic_tinybert.train.models import form_of, load_model, load_student, set_dropout, student_from_teacher
from dynamic_tinybert.train.settings import Student
from dynamic_tinybert.train.vocabulary import Vocabulary


def make_student(student: Student, teacher: str | Path | None, vocabulary: Vocabulary, *, stored: bool) -> Any:
    """Make a student from its settings.

    Args:
        student: The settings.
        teacher: The model that it takes layers from, if the settings name `teacher_layers`.
        vocabulary: The vocabulary that features are made with.
        stored: Whether the first stage learns from stored logits; if so, dropout is 0 unless the settings give it.
    """
    if student.checkpoint is not None:
        model = load_student(student.checkpoint)
    else:
        assert teacher is not None
        whole = load_model(teacher)
        layers, ids = student_layers(student, whole.config), Vocabulary(teacher).map_from(vocabulary)
        model = student_from_teacher(whole, layers, ids, form_of(student.form, whole.config))
    model.set_significance(student.voters, student.significance_head)
    if student.dropout is not None or stored:
        set_dropout(model, student.dropout or 0.0)
    return model


def student_layers(student: Student, teacher: Any) -> list[int]:
    """Return the numbers of the teacher's layers that a student takes, by the teacher's configuration."""
    if student.teacher_layers == "every_second":
        return list(range(1, teacher.num_hidden_layers, 2))
    return list(student.teacher_layers or ())
