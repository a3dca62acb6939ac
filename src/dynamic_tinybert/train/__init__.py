"""Train a model folder from base weights and SQuAD. This needs the extra `train`.

A recipe (`recipe`) says what to do. `run` runs its stages (`stages`), each a small subclass of transformers' Trainer
(`trainer`) with its own loss (`losses`). `model` has the student, `dropping` its drop-and-restore.
"""

from dynamic_tinybert.files import extra

with extra("train", "training"):
    from dynamic_tinybert.train.dropping import DynamicOutput
    from dynamic_tinybert.train.errors import TrainingError
    from dynamic_tinybert.train.model import (
        DynamicBertForQuestionAnswering,
        DynamicModernBertForQuestionAnswering,
        DynamicMPNetForQuestionAnswering,
    )
    from dynamic_tinybert.train.output import result_path
    from dynamic_tinybert.train.preflight import check_recipe
    from dynamic_tinybert.train.progress import Reporter
    from dynamic_tinybert.train.recipe import Recipe, dump_recipe, find_recipe, read_recipe
    from dynamic_tinybert.train.run import train

__all__ = [
    "DynamicBertForQuestionAnswering",
    "DynamicMPNetForQuestionAnswering",
    "DynamicModernBertForQuestionAnswering",
    "DynamicOutput",
    "Recipe",
    "Reporter",
    "TrainingError",
    "check_recipe",
    "dump_recipe",
    "find_recipe",
    "read_recipe",
    "result_path",
    "train",
]
