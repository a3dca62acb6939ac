"""The base of all stages: transformers' Trainer with our features, schedule and evaluation."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import broadcast_object_list
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from dynamic_tinybert.answer import LogitsError
from dynamic_tinybert.train.arithmetic import InBfloat16, return_freed_memory, speed_up_dropout, uses_bf16
from dynamic_tinybert.train.averaging import WeightMean
from dynamic_tinybert.train.batches import LengthGrouped, TokenBatches
from dynamic_tinybert.train.dropping import HEAD
from dynamic_tinybert.train.errors import TrainingError
from dynamic_tinybert.train.features import Batch, Feature, collate
from dynamic_tinybert.train.models import Inputs
from dynamic_tinybert.train.schedule import Clock, cooling, learning_rate_at
from dynamic_tinybert.train.settings import LengthDropStage, Stage

_ENDLESS = 10_000  # epochs of a stage that the clock ends
_NEVER = 10**9  # steps
_AVERAGE = "average.safetensors"  # in a checkpoint
_AVERAGED = 10  # steps between weights that are averaged
_SPREAD = 22.0  # F1: standard deviation of one question's difference between two runs; 18 to 25 were measured
_MEMORY_STEPS = 50  # steps between looks at the memory that the process holds
_LOOK = 10  # steps between checks that the loss is finite, on a GPU

Select = Callable[[], "dict[str, float]"]


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """What a stage needs besides its model and settings.

    Attributes:
        folder: The folder of the checkpoints.
        features: The features to train on.
        pad: The id of [PAD].
        inputs: Prepares the model's inputs.
        select: Evaluates the current model; returns figures by name, with `f1`.
        asked: The number of questions that `select` asks.
        seed: The seed of the order, of dropout and of sub-models.
        elapsed: Seconds spent on the stage before.
        callbacks: Callbacks that show progress.
    """

    folder: Path
    features: Sequence[Feature]
    pad: int
    inputs: Inputs
    select: Select
    asked: int
    seed: int
    elapsed: float = 0.0
    callbacks: Sequence[TrainerCallback] = ()


class _ReturnMemory(TrainerCallback):  # type: ignore[misc]
    """Keep a long run from filling the machine's memory."""

    def on_step_end(self, _args: TrainingArguments, state: TrainerState, _control: Any, **_: Any) -> None:
        if state.global_step % _MEMORY_STEPS == 0:
            return_freed_memory()


class _SetEpoch(TrainerCallback):  # type: ignore[misc]
    """Tell the sampler which epoch begins.

    The data loader does so too, but not if several processes resume in the middle of an epoch: the sampler is then
    wrapped once more than the loader expects.
    """

    def __init__(self, sampler: LengthGrouped | TokenBatches) -> None:
        self._sampler = sampler

    def on_epoch_begin(self, _args: TrainingArguments, state: TrainerState, _control: Any, **_: Any) -> None:
        self._sampler.set_epoch(int(state.epoch or 0))


class _Average(TrainerCallback):  # type: ignore[misc]
    def __init__(self, trainer: StageTrainer) -> None:
        self._trainer = trainer

    def on_step_end(self, _args: TrainingArguments, state: TrainerState, _control: Any, **_: Any) -> None:
        trainer = self._trainer
        if state.global_step % _AVERAGED == 0 and cooling(trainer.done(), trainer.stage.schedule):
            trainer.mean.add()


class StageTrainer(Trainer):  # type: ignore[misc]
    """Train a stage. A subclass defines the loss: `stage_loss`.

    Args:
        model: The model to train.
        stage: The settings of the stage.
        context: The context of the stage.

    Attributes:
        by_f1: Whether to keep the checkpoint with the greatest F1; otherwise the last one is kept, for a stage that
            does not train the span head.
        of_mean: The figures of the mean of weights, after `learn`; None if a checkpoint was kept.

    Raises:
        TrainingError: (while training) The loss is NaN or infinite.
    """

    by_f1 = True
    loss_is_scaled_for_ga = False  # a loss is the mean of its batch
    lr_scheduler: Any
    _finite: Tensor | None = None
    of_mean: dict[str, float] | None = None
    control: Any

    def __init__(self, model: Any, stage: Stage, context: StageContext) -> None:
        self.stage = stage
        self.context = context
        self.clock = Clock(
            limit=None if stage.minutes is None else stage.minutes * 60,
            every=None if stage.checkpoint_steps else stage.checkpoint_minutes * 60,
            elapsed=context.elapsed,
        )
        items = list(enumerate(context.features))
        heads = [weight for name, weight in model.named_parameters() if HEAD in name]
        taught = isinstance(stage, LengthDropStage) and stage.significance > 0
        for head in heads:
            head.requires_grad_(taught)
        arguments = _arguments(stage, context, _leaves_weights_out(stage, heads=taught and bool(heads)))
        self._sampler = _sampler(stage, context, arguments.process_index, max(1, arguments.world_size))
        arguments.logging_steps = _logging_steps(stage, len(self._sampler))
        self._bfloat16 = arguments.bf16 and arguments.device.type == "cpu" and arguments.world_size == 1
        speed_up_dropout(model)
        model.eager = self._bfloat16  # only `DropAndRestore` models use it
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=items,
            eval_dataset=items,
            data_collator=functools.partial(collate, pad_id=context.pad),
            callbacks=[self.clock, _SetEpoch(self._sampler), _ReturnMemory(), *context.callbacks],
        )
        self.mean = WeightMean(model)
        if stage.average:
            self.add_callback(_Average(self))
        self.model_accepts_loss_kwargs = False  # for older versions of transformers
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)

    def stage_loss(self, model: Any, batch: Batch) -> Tensor:
        """Return the loss of a batch, the mean over its features.

        Args:
            model: The model to call; it is wrapped if the run is distributed.
            batch: See `features.collate`.
        """
        raise NotImplementedError

    def learn(self, checkpoint: Path | None) -> None:
        """Train to the end, from a checkpoint if there is one; then load the weights that are kept into the model."""
        if checkpoint is not None:
            state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
            timed = self.clock.limit is not None
            if self.clock.done() >= 1 if timed else state.global_step >= state.max_steps:
                # Training is done, but transformers would do one more step if the last epoch is incomplete.
                self.state = state
                self.state.best_model_checkpoint = str(self.context.folder / f"checkpoint-{state.best_global_step}")
                self._load_best_model()
                self.mean.load(checkpoint / _AVERAGE)
                self._choose_average()
                return
            self.mean.load(checkpoint / _AVERAGE)
        with warnings.catch_warnings():
            # Older versions of transformers have no other option.
            warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
            self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        self._choose_average()
        # accelerate replaced the model's forward by one that computes in this stage's precision. Remove it, since later
        # stages and the final measurement set their own. Remove accelerate's mark too: it would not wrap a marked model
        # again, and the next stage would always train in float32.
        for name in ("forward", "_original_forward", "_is_accelerate_prepared"):
            self.model.__dict__.pop(name, None)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the weights of a checkpoint and the mean of weights so far."""
        super().save_model(output_dir, _internal_call=_internal_call)
        if output_dir is not None and self.is_world_process_zero():
            self.mean.save(Path(output_dir) / _AVERAGE)

    def _choose_average(self) -> None:
        """Use the mean of the weights, unless the best checkpoint, which the model holds now, is clearly better.

        Afterwards, `mean` holds the weights that are not used.

        The best of many evaluations is overestimated, since it is chosen for its figure; the mean is evaluated once. So
        it may be worse by one standard error of a difference, after a rule of Breiman et al. (1984) for trees.
        """
        if not self.mean.count:
            return
        best = self.state.best_metric
        self.mean.swap()
        found = self.evaluate()
        if best is not None and found["eval_score"] < best - _SPREAD / math.sqrt(max(1, self.context.asked)):
            self.mean.swap()
        else:
            self.of_mean = found

    def figures(self) -> dict[str, float]:
        """Return the figures on `select` of the weights that `learn` kept, with the names that `select` gives."""
        rows = [row for row in self.state.log_history if "eval_f1" in row]
        kept = self.of_mean or max(rows, key=lambda row: float(row["eval_score"]))
        return {key[5:]: float(kept[key]) for key in kept if key.startswith("eval_") and key != "eval_score"}

    def done(self) -> float:
        """Return the share of the stage that is done, in [0, 1]."""
        if self.clock.limit is not None:
            return self.clock.done()
        return float(self.state.global_step / max(self.state.max_steps, 1))

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Compute the stage's loss; raise an error if it is NaN or infinite."""
        loss = self.stage_loss(InBfloat16(model) if self._bfloat16 else model, inputs)
        if isinstance(self._sampler, TokenBatches):  # each feature has the same weight in batches of any size
            loss = loss * (len(inputs["input_ids"]) * self._sampler.total / len(self.context.features))
        finite = torch.isfinite(loss.detach())
        self._finite = finite if self._finite is None else self._finite & finite
        # Reading a number from a GPU waits for it, so on a GPU this happens only every few steps.
        if (loss.device.type == "cpu" or self.state.global_step % _LOOK == 0) and not bool(self._finite):
            raise TrainingError(
                f"the loss is NaN or infinite at step {self.state.global_step + 1}: lower learning_rate, or set "
                "precision: fp32; the last checkpoint is as it was"
            )
        return (loss, None) if return_outputs else loss

    def get_decay_parameter_names(self, model: Any) -> list[str]:
        """Return the names of the weights that decay: matrices, without those of norms."""
        names: list[str] = super().get_decay_parameter_names(model)
        return [name for name in names if model.get_parameter(name).ndim > 1]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Make the learning rate follow the share of the stage that is done, in steps or in time."""
        if self.lr_scheduler is None:

            def factor(step: int) -> float:
                timed = self.clock.limit is not None
                done = self.clock.done() if timed else step / num_training_steps
                return learning_rate_at(done, self.stage.warmup, self.stage.schedule)

            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, factor)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Evaluate on the questions of `select` in the first process, with the same code as for answering."""
        if self._finite is not None and not bool(self._finite):
            raise TrainingError(
                f"the loss became NaN or infinite before step {self.state.global_step}: lower learning_rate, or set "
                "precision: fp32; the last checkpoint is as it was"
            )
        found: list[Any] = [None]
        if self.is_world_process_zero():
            try:
                figures = self.context.select()
            except LogitsError:
                raise TrainingError(
                    f"the model's logits are NaN or infinite at step {self.state.global_step}: lower learning_rate, or "
                    "set precision: fp32; the last checkpoint is as it was"
                ) from None
            figures["score"] = figures["f1"] if self.by_f1 else float(self.state.global_step)
            found = [{f"{metric_key_prefix}_{name}": value for name, value in figures.items()}]
        if self.args.world_size > 1:
            broadcast_object_list(found)
        metrics: dict[str, float] = found[0]
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def get_train_dataloader(self) -> Any:
        """Make the data loader; transformers does not support batches by tokens."""
        if isinstance(self._sampler, LengthGrouped):
            return super().get_train_dataloader()
        pin = self.args.dataloader_pin_memory
        loader = DataLoader(
            self.train_dataset, batch_sampler=self._sampler, collate_fn=self.data_collator, pin_memory=pin
        )
        if self.args.world_size == 1:
            return self.accelerator.prepare(loader)
        # The sampler has divided the batches already.
        return prepare_data_loader(
            loader, self.accelerator.device, num_processes=1, process_index=0, put_on_device=True
        )

    def _get_train_sampler(self, *_: Any) -> LengthGrouped | TokenBatches:
        return self._sampler


def _sampler(stage: Stage, context: StageContext, process: int, processes: int) -> LengthGrouped | TokenBatches:
    lengths = [len(feature) for feature in context.features]
    if stage.batch_tokens is not None:
        return TokenBatches(lengths, stage.batch_tokens, context.seed, process=process, processes=processes)
    return LengthGrouped(lengths, stage.batch_size * stage.accumulate * processes, context.seed)


def _arguments(stage: Stage, context: StageContext, leaves_out: bool) -> TrainingArguments:
    every = stage.checkpoint_steps or _NEVER
    arguments = TrainingArguments(
        output_dir=str(context.folder),
        use_cpu=PartialState().device.type == "cpu",  # otherwise transformers refuses bfloat16 on a CPU
        per_device_train_batch_size=stage.batch_size,
        gradient_accumulation_steps=stage.accumulate,
        learning_rate=stage.learning_rate,
        weight_decay=stage.weight_decay,
        max_grad_norm=stage.max_grad_norm,
        num_train_epochs=stage.epochs if stage.epochs is not None else _ENDLESS,
        bf16=uses_bf16(stage),
        seed=context.seed,
        data_seed=context.seed,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="score",
        greater_is_better=True,
        logging_strategy="steps",
        logging_first_step=True,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        label_names=[],
        report_to=[],
        disable_tqdm=True,
        ddp_find_unused_parameters=leaves_out,
        ddp_broadcast_buffers=False,
    )
    # One process uses one device: with several, each would get only a part of a batch, and hooks would get nothing.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _leaves_weights_out(stage: Stage, *, heads: bool) -> bool:
    """Return whether some weights get no gradient at some steps; distributed training must know this.

    In a step of the sandwich rule, all layers run and vote in the smallest sub-model.
    """
    return isinstance(stage, LengthDropStage) and stage.rule == "single" and (stage.layer_drop > 0 or heads)


def _logging_steps(stage: Stage, samples: int) -> int:
    """Return the steps between two points of the curve: about 200 points in all, or every 10 steps with `minutes`.

    Args:
        stage: The settings of the stage.
        samples: The length of the sampler: batches of an epoch with `batch_tokens`, otherwise features.
    """
    if stage.epochs is None:
        return 10
    of_a_step = stage.accumulate if stage.batch_tokens is not None else stage.batch_size * stage.accumulate
    return max(1, round(stage.epochs * math.ceil(samples / of_a_step) / 200))
