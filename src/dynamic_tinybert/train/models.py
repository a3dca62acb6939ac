"""Load teachers and students."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForQuestionAnswering, BertConfig
from transformers.utils import logging

from dynamic_tinybert.errors import one_line
from dynamic_tinybert.folder import EMBEDDED, ModelFolderError, open_folder, tensor_table
from dynamic_tinybert.model import ModelShape, Modern, Significance
from dynamic_tinybert.train.dropping import HEAD, set_significance, significance_of
from dynamic_tinybert.train.errors import TrainingError
from dynamic_tinybert.train.features import Batch
from dynamic_tinybert.train.model import (
    DynamicBertForQuestionAnswering,
    DynamicModernBertForQuestionAnswering,
    DynamicMPNetForQuestionAnswering,
)
from dynamic_tinybert.train.vocabulary import Vocabulary, check_exists

STUDENTS: Final[dict[str, Any]] = {
    "bert": DynamicBertForQuestionAnswering,
    "mpnet": DynamicMPNetForQuestionAnswering,
    "modernbert": DynamicModernBertForQuestionAnswering,
}
"""The classes of students, by `model_type`."""

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
_DROPOUTS = {"modernbert": ("attention_dropout", "embedding_dropout", "mlp_dropout", "classifier_dropout")}
_USUAL_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")


class Inputs:
    """Prepare a model's inputs from features that were made with the student's tokenizer.

    Args:
        model: A question-answering model of transformers.
        ids: The model's id for each id of the student, `[student's vocabulary]`; None if they are the same.
    """

    def __init__(self, model: Any, ids: Tensor | None = None) -> None:
        self._ids = ids
        self._types = "token_type_ids" in inspect.signature(model.forward).parameters

    def __call__(self, batch: Batch) -> Batch:
        """Return the keyword arguments to call the model with."""
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
        bf16: Whether to compute in bfloat16; transformers does so only for the model that is trained.
    """

    def __init__(self, model: str | Path, student: Vocabulary, *, bf16: bool = False) -> None:
        self.name = str(model)
        self._bf16 = bf16
        self.model = load_model(model).eval().requires_grad_(False)
        self.inputs = Inputs(self.model, Vocabulary(model).map_from(student))
        self.layers: int = self.model.config.num_hidden_layers
        self.hidden: int = self.model.config.hidden_size

    def __call__(self, batch: Batch, *, output_hidden_states: bool = False) -> Any:
        """Predict a batch without gradients; return the output of transformers, logits `[batch, tokens]`."""
        device = batch["input_ids"].device
        if self.model.device != device:
            self.model.to(device)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self._bf16):
            return self.model(**self.inputs(batch), output_hidden_states=output_hidden_states)


def shape_of(config: Any) -> ModelShape:
    """Return the shape of an encoder from a configuration of transformers."""
    voters, head = significance_of(config)
    return ModelShape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        feed_forward=getattr(config, "intermediate_size", None) or config.hidden_dim,
        vocabulary=config.vocab_size,
        positions=config.max_position_embeddings - (2 if config.model_type in ("mpnet", "roberta") else 0),
        significance=voters,
        significance_head=head,
        modern=_modern_of(config) if config.model_type == "modernbert" else None,
    )


def _modern_of(config: Any) -> Modern:
    types = config.layer_types
    return Modern(
        bases=tuple(float(config.rope_parameters[kind]["rope_theta"]) for kind in types),
        local=tuple(kind == "sliding_attention" for kind in types),
        reach=config.local_attention // 2,
    )


def read_config(model: str | Path) -> Any:
    """Read the configuration of a model.

    Raises:
        TrainingError: There is no configuration, or it names an unknown rule of significance.
    """
    check_exists(model)
    try:
        config = AutoConfig.from_pretrained(model)
    except Exception as error:  # transformers passes on errors of any type
        raise TrainingError(f"there is no model at {model}: {one_line(error)}") from None
    try:
        significance_of(config)
    except ValueError as error:
        raise TrainingError(f"{model}: {error}: choose another model") from None
    return config


def load_model(model: str | Path) -> Any:
    """Load a model for question answering in float32, of any architecture.

    If it has no question-answering head, a new one is made. INT8 weights of this package are supported.

    Raises:
        TrainingError: The model cannot be loaded.
    """
    config = read_config(model)
    if _is_int8(config):
        loaded = _from_folder(model, AutoModelForQuestionAnswering.from_config)
    else:
        loaded = _load(AutoModelForQuestionAnswering, model, config)
    set_significance(loaded.config, significance_of(loaded.config)[0], head=False)  # which transformers does not load
    return loaded


def load_student(model: str | Path) -> Any:
    """Load a BERT, an MPNet or a ModernBERT as a student, in float32, from a folder of transformers or of this package.

    Args:
        model: The folder, a name on the Hub, or `embedded`.

    Returns:
        A model of `STUDENTS`.

    Raises:
        TrainingError: It cannot be loaded, or has another architecture.
    """
    if str(model) == EMBEDDED:
        return _from_folder(model, DynamicBertForQuestionAnswering)
    config = read_config(model)
    check_student(model, config)
    kind = STUDENTS[config.model_type]
    return _from_folder(model, kind) if "dynamic_tinybert" in config.to_dict() else _load(kind, model, config)


def check_student(model: str | Path, config: Any) -> None:
    """Check by its configuration that a model can be a student.

    Raises:
        TrainingError: It cannot.
    """
    if config.model_type not in STUDENTS:
        raise TrainingError(
            f"a student must be a BERT, an MPNet or a ModernBERT, and {model} is a checkpoint of another architecture, "
            f"{config.model_type}: give another checkpoint"
        )


def check_voters(config: Any, voters: Significance | None) -> None:
    """Check that a rule of significance suits a student's architecture; None is the rule of its configuration.

    Raises:
        TrainingError: It does not: with local attention, most tokens are not within reach of the question.
    """
    local = config.model_type == "modernbert" and "sliding_attention" in config.layer_types
    if local and (voters or significance_of(config)[0]) == "question":
        raise TrainingError("voters: question does not suit a ModernBERT, whose attention is local: set voters: all")


def set_dropout(model: Any, dropout: float) -> None:
    """Set a student's dropout of states and of attention, in its modules and its configuration."""
    for name in _DROPOUTS.get(model.config.model_type, _USUAL_DROPOUTS):
        setattr(model.config, name, dropout)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
        elif isinstance(getattr(module, "out_drop", None), torch.nn.Module):  # ModernBERT's attention
            module.attention_dropout, module.out_drop = dropout, torch.nn.Dropout(dropout)


def form_of(form: str | None, teacher: Any) -> str:
    """Return the architecture of a student that takes layers from a teacher, given by its configuration.

    By default it is a BERT, or a ModernBERT if the teacher is one.
    """
    return form or ("modernbert" if teacher.model_type == "modernbert" else "bert")


def student_from_teacher(teacher: Any, layers: list[int], ids: Tensor | None, form: str = "bert") -> Any:
    """Make a student from a teacher's embeddings, head and some of its layers, as TinyBERT6L from every second layer.

    It votes as the teacher does, but has no significance heads.

    Args:
        teacher: A fine-tuned BERT, MPNet or ModernBERT for question answering.
        layers: The numbers of the layers to take, from 0.
        ids: The teacher's id for each id of the student; None if they are the same. It is used for `bert` only: other
            students have the teacher's ids.
        form: `bert`; or `mpnet`, which keeps the distance bias of an MPNet teacher; or `modernbert`, for a ModernBERT
            teacher.

    Returns:
        A model of `STUDENTS`.

    Raises:
        TrainingError: The teacher has another architecture, or has no such layer.
    """
    check_layers(teacher.config, layers, form)
    student = _bert_of(teacher, layers, ids) if form == "bert" else _same_of(teacher, layers)
    student.set_significance(significance_of(teacher.config)[0], head=False)
    return student


def check_layers(teacher: Any, layers: list[int], form: str) -> None:
    """Check by the teacher's configuration that a student of a form can take these layers.

    Raises:
        TrainingError: The teacher has another architecture, or has no such layer.
    """
    kind = teacher.model_type
    if kind not in STUDENTS:
        raise TrainingError(
            f"a student takes layers from a BERT, an MPNet or a ModernBERT, not from a {kind} model: give a checkpoint"
        )
    if form == "mpnet" != kind and kind != "modernbert":
        raise TrainingError(
            f"a student in the form of MPNet takes layers from an MPNet, not from a {kind} model: set student.form: "
            "bert, or give an MPNet teacher"
        )
    if (form == "modernbert") != (kind == "modernbert"):
        raise TrainingError(
            f"a student in the form of {form} takes no layers from a {kind} model: leave student.form out, or give "
            "another teacher"
        )
    if not layers or not all(0 <= layer < teacher.num_hidden_layers for layer in layers):
        raise TrainingError(f"the teacher has layers 0 to {teacher.num_hidden_layers - 1}, not {layers}")


def _same_of(teacher: Any, layers: list[int]) -> Any:
    """Make a student of the teacher's own architecture."""
    config, kind = copy.deepcopy(teacher.config), teacher.config.model_type
    config.num_hidden_layers = len(layers)
    if kind == "modernbert":
        config.layer_types = [config.layer_types[layer] for layer in layers]
    student = STUDENTS[kind](config)
    weights = teacher.state_dict()
    start = "mpnet.encoder.layer." if kind == "mpnet" else "model.layers."

    def theirs(name: str) -> str:
        if not name.startswith(start):
            return name
        number, _, rest = name.removeprefix(start).partition(".")
        return f"{start}{layers[int(number)]}.{rest}"

    student.load_state_dict({name: _weight(weights, theirs(name), name, student) for name in student.state_dict()})
    return student


def _weight(weights: dict[str, Tensor], theirs: str, name: str, student: Any) -> Tensor:
    """Return a copy of the teacher's weight; the student's own if the teacher's first layer has no such norm."""
    return (weights[theirs] if theirs in weights else student.state_dict()[name]).clone()


def _bert_of(teacher: Any, layers: list[int], ids: Tensor | None) -> DynamicBertForQuestionAnswering:
    config, kind = teacher.config, teacher.config.model_type
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
    """Load a model; check that only its head may be new, since transformers silently initializes missing weights."""
    try:
        with _quiet():
            loaded, found = kind.from_pretrained(
                model, config=config, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True
            )
    except Exception as error:  # transformers passes on errors of any type
        raise TrainingError(f"{model} cannot be loaded for question answering: {one_line(error)}") from None
    if other := sorted(name for name, *_ in found["mismatched_keys"]):
        raise TrainingError(f"{model} is damaged: {other[0]} in its weights is not of the size that config.json says")
    if lost := sorted(name for name in found["missing_keys"] if name.startswith(f"{loaded.base_model_prefix}.")):
        raise TrainingError(f"{model} is damaged: its weights lack {len(lost)} of its tensors, as {lost[0]}")
    if wild := [name for name, value in loaded.named_parameters() if not bool(value.isfinite().all())]:
        raise TrainingError(f"{model} is damaged: {wild[0]} holds NaN or infinity")
    return loaded


def _is_int8(config: Any) -> bool:
    ours = getattr(config, "dynamic_tinybert", None)
    return isinstance(ours, dict) and ours.get("weights") == "int8"


def _from_folder(model: str | Path, make: Any) -> Any:
    """Load a model from a folder of this package; `make` makes the model from a configuration."""
    ours = ("dynamic_tinybert", "architectures", "model_type")
    try:
        folder = open_folder(str(model))
        known = {key: value for key, value in folder.config.items() if key not in ours}
        config = AutoConfig.for_model(folder.kind, **known)
        set_significance(config, folder.shape.significance, folder.shape.significance_head)
        loaded = make(config).float()
        table = tensor_table(folder.shape, folder.kind)
        weights = {theirs: torch.from_numpy(folder.weights[ours]) for ours, theirs, _ in table}
    except ModelFolderError as error:
        raise TrainingError(str(error)) from None
    there = loaded.state_dict()  # a model of transformers has no significance heads
    loaded.load_state_dict({name: weight for name, weight in weights.items() if HEAD not in name or name in there})
    return loaded


class _quiet:
    """Keep transformers from reporting a new head and from drawing progress bars."""

    def __enter__(self) -> None:
        self._level, self._bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        logging.set_verbosity(self._level)
        if self._bar:
            logging.enable_progress_bar()
