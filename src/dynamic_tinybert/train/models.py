"""Loading teachers and students."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModelForQuestionAnswering, BertConfig
from transformers.utils import logging

from dynamic_tinybert.folder import EMBEDDED, ModelFolderError, open_folder
from dynamic_tinybert.folder.architectures import tensor_table
from dynamic_tinybert.shape import ModelShape
from dynamic_tinybert.train.dropping import set_voters, voters_of
from dynamic_tinybert.train.errors import TrainingError
from dynamic_tinybert.train.features import Batch
from dynamic_tinybert.train.model import DynamicBertForQuestionAnswering
from dynamic_tinybert.train.vocabulary import Vocabulary, check_exists

_SCALE = ".weight.scale"  # ends the name of the scales of a tensor that is stored in INT8
_BERT_TO_MPNET = {
    "attention.self.query": "attention.attn.q",
    "attention.self.key": "attention.attn.k",
    "attention.self.value": "attention.attn.v",
    "attention.output.dense": "attention.attn.o",
    "attention.output.LayerNorm": "attention.LayerNorm",
    "intermediate.dense": "intermediate.dense",
    "output.dense": "output.dense",
    "output.LayerNorm": "output.LayerNorm",
}


class Inputs:
    """Feeds a model from features that were made with the student's tokenizer.

    Args:
        model: A question-answering model of transformers.
        ids: The model's id of each of the student's, `[student's vocabulary]`; none if they are the same.
    """

    def __init__(self, model: Any, ids: Tensor | None = None) -> None:
        self._ids = ids
        self._types = "token_type_ids" in inspect.signature(model.forward).parameters

    def __call__(self, batch: Batch) -> Batch:
        """Return what to call the model with."""
        ids = batch["input_ids"]
        if self._ids is not None:
            self._ids = self._ids.to(ids.device)
            ids = self._ids[ids]
        fed = {"input_ids": ids, "attention_mask": batch["attention_mask"]}
        if self._types:
            fed["token_type_ids"] = batch["token_type_ids"]
        return fed


class Teacher:
    """A fine-tuned model, frozen.

    Args:
        model: A model folder, or a name on the Hub.
        student: The vocabulary that features are made with.
        bf16: Whether to compute in bfloat16; transformers does so for what is trained alone.
    """

    def __init__(self, model: str | Path, student: Vocabulary, *, bf16: bool = False) -> None:
        self.name = str(model)
        self._bf16 = bf16
        self.model = load_model(model).eval().requires_grad_(False)
        self.inputs = Inputs(self.model, Vocabulary(model).map_from(student))
        self.layers: int = self.model.config.num_hidden_layers
        self.hidden: int = self.model.config.hidden_size

    def __call__(self, batch: Batch, *, output_hidden_states: bool = False) -> Any:
        """Read a batch, without gradients: transformers' output, logits `[batch, tokens]`."""
        device = batch["input_ids"].device
        if self.model.device != device:
            self.model.to(device)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self._bf16):
            return self.model(**self.inputs(batch), output_hidden_states=output_hidden_states)


def shape_of(config: Any) -> ModelShape:
    """The sizes of an encoder that are counted in multiply-accumulates, by transformers' configuration."""
    return ModelShape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        feed_forward=getattr(config, "intermediate_size", None) or config.hidden_dim,
        vocabulary=config.vocab_size,
        positions=config.max_position_embeddings - (2 if config.model_type in ("mpnet", "roberta") else 0),
        voters=voters_of(config),
    )


def read_config(model: str | Path) -> Any:
    """Read the configuration of a model.

    Raises:
        TrainingError: There is none, or it names voters that there are not.
    """
    check_exists(model)
    try:
        config = AutoConfig.from_pretrained(model)
    except Exception as error:  # transformers raises what comes from below
        raise TrainingError(f"there is no model at {model}: {_first_line(error)}") from None
    try:
        voters_of(config)
    except ValueError as error:
        raise TrainingError(f"{model}: {error}: choose another model") from None
    return config


def check_float(model: str | Path) -> None:
    """Check that the weights of a folder are not stored in INT8, as `export` can write them.

    Raises:
        TrainingError: They are. transformers would load the integers, without their scales.
    """
    for file in Path(model).glob("*.safetensors") if Path(model).is_dir() else ():
        try:
            with safe_open(file, "pt") as weights:
                quantized = any(name.endswith(_SCALE) for name in weights.keys())  # noqa: SIM118
        except (OSError, SafetensorError):
            continue  # loading says what is wrong with it
        if quantized:
            raise _quantized(model)


def load_model(model: str | Path) -> Any:
    """Load a model for question answering in float32, whatever its architecture; a head that it lacks is new.

    Raises:
        TrainingError: It cannot be loaded.
    """
    return _load(AutoModelForQuestionAnswering, model, read_config(model))


def load_student(model: str | Path) -> Any:
    """Load a BERT to be trained, in float32, from a folder of transformers or of ours, the embedded one too.

    Returns:
        A `DynamicBertForQuestionAnswering`.

    Raises:
        TrainingError: It cannot be loaded, or is no BERT.
    """
    if str(model) == EMBEDDED or "dynamic_tinybert" in read_config(model).to_dict():
        return _from_folder(model)
    config = read_config(model)
    if config.model_type != "bert":
        raise TrainingError(
            f"a student is a BERT, and {model} is a checkpoint of another architecture, {config.model_type}"
        )
    return _load(DynamicBertForQuestionAnswering, model, config)


def set_dropout(model: Any, dropout: float) -> None:
    """Set the dropout of a BERT, of states and of attention, in its modules and in its configuration."""
    model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = dropout
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout


def student_from_teacher(teacher: Any, layers: list[int], ids: Tensor | None) -> DynamicBertForQuestionAnswering:
    """Make a BERT of a teacher's embeddings and some of its layers, as TinyBERT6L of every second one.

    Args:
        teacher: A fine-tuned BERT or MPNet for question answering.
        layers: Which of its layers, from 0.
        ids: The teacher's id of each of the student's; none if they are the same.

    Raises:
        TrainingError: The teacher is of another architecture, or has no such layer.
    """
    config, kind = teacher.config, teacher.config.model_type
    if kind not in ("bert", "mpnet"):
        raise TrainingError(
            f"a student takes layers from a BERT or an MPNet, not from a {kind} model: give a checkpoint"
        )
    if not layers or not all(0 <= layer < config.num_hidden_layers for layer in layers):
        raise TrainingError(f"the teacher has layers 0 to {config.num_hidden_layers - 1}, not {layers}")
    weights = teacher.state_dict()
    offset = 2 if kind == "mpnet" else 0  # its positions begin after the padding index
    words = weights[f"{kind}.embeddings.word_embeddings.weight"]
    if ids is not None:
        words = words[ids.to(words.device).clamp(min=0)]
    student = DynamicBertForQuestionAnswering(
        BertConfig(
            vocab_size=len(words),
            num_hidden_layers=len(layers),
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_attention_heads=config.num_attention_heads,
            hidden_act=config.hidden_act,
            layer_norm_eps=config.layer_norm_eps,
            type_vocab_size=getattr(config, "type_vocab_size", 2),
            hidden_dropout_prob=config.hidden_dropout_prob,
            attention_probs_dropout_prob=config.attention_probs_dropout_prob,
            max_position_embeddings=config.max_position_embeddings - offset,
        )
    )
    set_voters(student.config, voters_of(config))
    made = student.state_dict()
    table = "bert.embeddings.token_type_embeddings.weight"
    made["bert.embeddings.word_embeddings.weight"] = words
    made["bert.embeddings.position_embeddings.weight"] = weights[f"{kind}.embeddings.position_embeddings.weight"][
        offset:
    ]
    made[table] = weights[table] if kind == "bert" else torch.zeros_like(made[table])
    for part in ("weight", "bias"):
        made[f"bert.embeddings.LayerNorm.{part}"] = weights[f"{kind}.embeddings.LayerNorm.{part}"]
        made[f"qa_outputs.{part}"] = weights[f"qa_outputs.{part}"]
        for number, layer in enumerate(layers):
            for bert, mpnet in _BERT_TO_MPNET.items():
                theirs = bert if kind == "bert" else mpnet
                made[f"bert.encoder.layer.{number}.{bert}.{part}"] = weights[
                    f"{kind}.encoder.layer.{layer}.{theirs}.{part}"
                ]
    student.load_state_dict({name: value.clone() for name, value in made.items()})
    return student


def _load(kind: Any, model: str | Path, config: Any) -> Any:
    """Load a model, and see that all of it but a head came from its weights: transformers makes up what is missing."""
    try:
        with _quiet():
            loaded, found = kind.from_pretrained(
                model, config=config, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True
            )
    except Exception as error:  # transformers raises what comes from below
        raise TrainingError(f"{model} cannot be loaded for question answering: {_first_line(error)}") from None
    if any(name.endswith(_SCALE) for name in found["unexpected_keys"]):
        raise _quantized(model)
    if other := sorted(name for name, *_ in found["mismatched_keys"]):
        raise TrainingError(f"{model} is damaged: {other[0]} in its weights is not of the size that config.json says")
    if lost := sorted(name for name in found["missing_keys"] if name.startswith(f"{loaded.base_model_prefix}.")):
        raise TrainingError(f"{model} is damaged: its weights lack {len(lost)} of its tensors, as {lost[0]}")
    if wild := [name for name, value in loaded.named_parameters() if not bool(value.isfinite().all())]:
        raise TrainingError(f"{model} is damaged: {wild[0]} holds NaN or infinity")
    return loaded


def _quantized(model: str | Path) -> TrainingError:
    return TrainingError(
        f"the weights of {model} are stored in INT8, and training reads float32: dynamic-tinybert export {model} "
        "FOLDER writes them so"
    )


def _from_folder(model: str | Path) -> Any:
    try:
        folder = open_folder(str(model))
        known = {key: value for key, value in folder.config.items() if key not in ("dynamic_tinybert", "architectures")}
        student = DynamicBertForQuestionAnswering(BertConfig(**known)).float()
        set_voters(student.config, folder.shape.voters)
        weights = {theirs: torch.from_numpy(folder.weights[ours]) for ours, theirs, _ in tensor_table(folder.shape)}
    except ModelFolderError as error:
        raise TrainingError(str(error)) from None
    student.load_state_dict(weights)
    return student


class _quiet:
    """Keeps transformers from reporting that a head is new, and from drawing bars."""

    def __enter__(self) -> None:
        self._level, self._bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        logging.set_verbosity(self._level)
        if self._bar:
            logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
