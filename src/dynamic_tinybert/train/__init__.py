"""Training: from base weights and SQuAD to a model folder. Needs the extra `train`.

A recipe says what is done: `recipe`. `run` does it, stage by stage: `stages`, each a small subclass of transformers'
Trainer (`trainer`) whose `losses` are the method. `model` is the student; `dropping` its drop-and-restore.
"""

from dynamic_tinybert.train.dropping import DynamicOutput
from dynamic_tinybert.train.errors import TrainingError
from dynamic_tinybert.train.model import DynamicBertForQuestionAnswering, DynamicMPNetForQuestionAnswering
from dynamic_tinybert.train.output import result_path
from dynamic_tinybert.train.preflight import check_recipe
from dynamic_tinybert.train.progress import Reporter
from dynamic_tinybert.train.recipe import Recipe, dump_recipe, find_recipe, read_recipe
from dynamic_tinybert.train.run import train

__all__ = [
    "DynamicBertForQuestionAnswering",
    "DynamicMPNetForQuestionAnswering",
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
