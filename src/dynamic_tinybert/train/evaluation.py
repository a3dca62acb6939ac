"""Evaluate a model in training with the same code and metric as `evaluate`, but with PyTorch instead of the runtime."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dynamic_tinybert.evaluation import Evaluation, evaluate
from dynamic_tinybert.inference import Reader, TextTokenizer
from dynamic_tinybert.model import ConfigTable, LengthConfig
from dynamic_tinybert.qa import Progress, QuestionAnswerer
from dynamic_tinybert.runtime import Logits, Precision
from dynamic_tinybert.squad import SquadFile
from dynamic_tinybert.train.models import Inputs, shape_of


class TorchRuntime:
    """Run a PyTorch model in place of `Runtime`.

    Args:
        model: A question-answering model of transformers.
        inputs: Prepares the model's inputs.
        bf16: Whether to use automatic mixed precision in bfloat16.
    """

    precision: Precision = "fp32"

    def __init__(self, model: Any, inputs: Inputs, *, bf16: bool = False) -> None:
        self.shape = shape_of(model.config)
        self.batch_tokens = 32768 if model.device.type == "cuda" else 1024
        self._model = model
        self._inputs = inputs
        self._bf16 = bf16

    def run(
        self,
        input_ids: npt.NDArray[np.int64],
        token_type_ids: npt.NDArray[np.int64],
        attention_mask: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
    ) -> Logits:
        """Run a batch: see `Runtime.run`. Only a `DropAndRestore` model can drop tokens."""
        device = self._model.device
        arrays = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        fed = self._inputs({name: torch.from_numpy(array).to(device) for name, array in arrays.items()})
        dropped = bool((lengths < attention_mask.sum(1, keepdims=True)).any())
        options = {"length_config": torch.from_numpy(lengths).to(device)} if dropped else {}
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self._bf16):
            found = self._model(**fed, **options)
        passed = np.where(attention_mask == 1, lengths.shape[1], 0)
        if dropped:
            passed = found.layers_passed.cpu().numpy()
        return Logits(found.start_logits.float().cpu().numpy(), found.end_logits.float().cpu().numpy(), passed)


def answerer(model: Any, inputs: Inputs, tokenizer: TextTokenizer, *, bf16: bool = False) -> QuestionAnswerer:
    """Make a `QuestionAnswerer` of a model in training; the model is put into evaluation mode."""
    model.eval()
    runtime = TorchRuntime(model, inputs, bf16=bf16)
    table = ConfigTable.read(runtime.shape, None)
    return QuestionAnswerer.from_reader(Reader(tokenizer, runtime), runtime.shape, table, name=model.config.model_type)


def measure(qa: QuestionAnswerer, data: SquadFile, retentions: Sequence[float] = (1.0,)) -> dict[str, float]:
    """Measure a model at uniform length configurations.

    Args:
        qa: The model.
        data: The questions.
        retentions: The retentions of the configurations; 1 is `full`.

    Returns:
        In percent: `f1`, the mean F1 over the configurations; `exact_match` and `full_f1` of the first configuration;
        and `f1_at_R` of each other retention R.
    """
    found: dict[str, float] = {}
    scores = []
    for retention in retentions:
        result = evaluate_at(qa, data, LengthConfig.uniform(qa.shape.layers, retention))
        scores.append(result.scores.f1)
        if len(scores) == 1:
            found |= {"exact_match": result.scores.exact_match, "full_f1": result.scores.f1}
        else:
            found[f"f1_at_{retention:g}"] = result.scores.f1
    return {"f1": sum(scores) / len(scores), **found}


def evaluate_at(
    qa: QuestionAnswerer, data: SquadFile, config: LengthConfig, *, progress: Progress | None = None
) -> Evaluation:
    """Call `evaluate` at a length configuration, without warnings about questions that are too long."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return evaluate(qa, data, budget=config, progress=progress)
