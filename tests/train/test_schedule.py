"""When a stage saves and ends: by the clock, by steps; and where one that was killed goes on."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainerControl, TrainerState

import dynamic_tinybert.train.schedule as room
from dynamic_tinybert.train import TrainingError
from dynamic_tinybert.train.schedule import Clock, Schedule, check_disk, last_checkpoint, learning_rate_at
from support.clock import Time

ARGS = SimpleNamespace(world_size=1)

# The learning rate.


@pytest.mark.parametrize(
    ("done", "warmup", "wanted"),
    [
        (0.0, 0.1, 0.0),
        (0.05, 0.1, 0.5),
        (0.1, 0.1, 1.0),
        (0.55, 0.1, 0.5),
        (1.0, 0.1, 0.0),
        (1.01, 0.1, 0.0),
        (0.0, 0.0, 1.0),
        (0.25, 0.0, 0.75),
        (1.0, 0.0, 0.0),
        (0.45, 0.9, 0.5),
        (0.95, 0.9, 0.5),
    ],
)
def test_the_learning_rate_rises_in_a_line_and_falls_in_one(done: float, warmup: float, wanted: float) -> None:
    assert learning_rate_at(done, warmup) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("done", "warmup", "wanted"),
    [
        (0.05, 0.1, 0.5), (0.1, 0.1, 1.0), (0.4, 0.1, 1.0), (2 / 3, 0.1, 1.0), (5 / 6, 0.1, 0.5), (1.0, 0.1, 0.0),
        (1.2, 0.0, 0.0), (0.95, 0.9, 0.5),
    ],
)  # fmt: skip
def test_a_plateau_stays_and_falls_in_the_last_third(done: float, warmup: float, wanted: float) -> None:
    assert learning_rate_at(done, warmup, "plateau") == pytest.approx(wanted)


@given(st.floats(0, 1.5), st.floats(0, 0.99), st.sampled_from(["linear", "plateau"]))
def test_the_learning_rate_is_never_out_of_range(done: float, warmup: float, schedule: Schedule) -> None:
    assert 0 <= learning_rate_at(done, warmup, schedule) <= 1


# The clock.


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    fake = Time()
    monkeypatch.setattr(room.time, "monotonic", fake.monotonic)
    return fake


def step(clock: Clock, time: Time, seconds: float, *, number: int = 1, most: int = 10**9) -> TrainerControl:
    """A step that takes so long: what the clock says is due at its end."""
    control = TrainerControl()
    state = TrainerState(global_step=number, max_steps=most)
    clock.on_step_begin(ARGS, state, control)
    time.now += seconds
    return clock.on_step_end(ARGS, state, control)


def due(control: TrainerControl) -> tuple[bool, bool, bool]:
    return control.should_evaluate, control.should_save, control.should_training_stop


def test_a_stage_ends_after_its_time(time: Time) -> None:
    clock = Clock(limit=100, every=None)
    time.now += 1e6  # what passes before training is not counted
    clock.on_train_begin(ARGS, TrainerState(), TrainerControl())
    assert [due(step(clock, time, 30)) for _ in range(4)] == [(False, False, False)] * 4
    assert clock.elapsed == 90
    assert clock.done() == 0.9
    assert due(step(clock, time, 1)) == (True, True, True)
    assert clock.done() == 1.0


def test_without_a_limit_it_never_ends(time: Time) -> None:
    clock = Clock(limit=None, every=None)
    clock.on_train_begin(ARGS, TrainerState(), TrainerControl())
    step(clock, time, 1e9)
    assert due(step(clock, time, 1e9)) == (False, False, False)
    assert clock.done() == 0.0


def test_it_asks_for_checkpoints_now_and_then(time: Time) -> None:
    clock = Clock(limit=None, every=60)
    clock.on_train_begin(ARGS, TrainerState(), TrainerControl())
    asked = [due(step(clock, time, 25))[:2] for _ in range(9)]
    # It looks at 0, 25, 50, 75, ..., and counts from the step after it has saved.
    at = [i * 25 for i, (evaluate, save) in enumerate(asked) if evaluate and save]
    assert at == [75, 175]
    assert all(evaluate == save for evaluate, save in asked)


def test_the_time_of_an_evaluation_counts(time: Time) -> None:
    clock = Clock(limit=100, every=60)
    clock.on_train_begin(ARGS, TrainerState(), TrainerControl())
    step(clock, time, 61)
    assert due(step(clock, time, 0)) == (True, True, False)
    time.now += 50  # it evaluates and saves
    assert due(step(clock, time, 0)) == (True, True, True)


def test_evaluations_that_take_long_leave_time_to_learn(time: Time) -> None:
    clock = Clock(limit=None, every=60)
    clock.on_train_begin(ARGS, TrainerState(), TrainerControl())
    asked = []
    for _ in range(12):
        asked.append(due(step(clock, time, 20))[0])
        time.now += 100 * asked[-1]  # an evaluation takes longer than the time from one to the next
    assert not any(a and b for a, b in itertools.pairwise(asked))


def test_at_the_last_step_it_asks_for_a_checkpoint(time: Time) -> None:
    clock = Clock(limit=None, every=None)
    clock.on_train_begin(ARGS, TrainerState(), TrainerControl())
    assert due(step(clock, time, 1, number=4, most=5)) == (False, False, False)
    assert due(step(clock, time, 1, number=5, most=5))[:2] == (True, True)


def test_a_resumed_stage_has_what_is_left_of_its_time(time: Time) -> None:
    first = Clock(limit=100, every=None)
    first.on_train_begin(ARGS, TrainerState(), TrainerControl())
    step(first, time, 70)
    elapsed = first.state()["attributes"]["elapsed"]
    assert elapsed == 70
    time.now += 1e6  # the night between
    second = Clock(limit=100, every=50, elapsed=elapsed)
    time.now += 500  # loading
    second.on_train_begin(ARGS, TrainerState(), TrainerControl())
    assert second.done() == 0.7
    assert due(step(second, time, 29)) == (False, False, False)
    assert due(step(second, time, 2)) == (False, False, False)
    assert due(step(second, time, 0)) == (True, True, True)
    assert second.state()["attributes"]["elapsed"] == 101


def test_a_state_is_kept_in_a_checkpoint_as_json(time: Time) -> None:
    clock = Clock(limit=100, every=None, elapsed=12.5)
    clock.on_train_begin(ARGS, TrainerState(), TrainerControl())
    time.now += 1
    assert json.loads(json.dumps(clock.state())) == {"args": {}, "attributes": {"elapsed": 13.5}}


# Checkpoints.


def checkpoint(folder: Path, number: int, state: Any = ...) -> Path:
    """A checkpoint; a state that is no text is written as JSON, and None is none at all."""
    path = folder / f"checkpoint-{number}"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"weights")
    if state is ...:
        state = {"global_step": number, "stateful_callbacks": {"Clock": {"attributes": {"elapsed": number * 1.5}}}}
    if state is not None:
        text = state if isinstance(state, str) else json.dumps(state)
        (path / "trainer_state.json").write_text(text, "utf-8")
    return path


WHOLE = json.dumps({"global_step": 3, "stateful_callbacks": {"Clock": {"attributes": {"elapsed": 7.0}}}})


def test_the_last_whole_checkpoint_is_taken(tmp_path: Path) -> None:
    for number in (2, 10, 9, 100):
        checkpoint(tmp_path, number)
    assert last_checkpoint(tmp_path) == (tmp_path / "checkpoint-100", 150.0)
    assert len(list(tmp_path.iterdir())) == 4  # whole ones stay


@pytest.mark.parametrize(
    "state",
    [
        None,
        "",
        WHOLE[: len(WHOLE) // 2],
        WHOLE[:-1],
        "[]",
        "3",
        "null",
        "{}",
        '{"stateful_callbacks": {}}',
        "\x00" * 50,
    ],
)
def test_one_that_was_being_written_is_taken_away(state: str | None, tmp_path: Path) -> None:
    checkpoint(tmp_path, 5)
    broken = checkpoint(tmp_path, 10, state)
    other = checkpoint(tmp_path, 12, None)
    assert last_checkpoint(tmp_path) == (tmp_path / "checkpoint-5", 7.5)
    assert not broken.exists()
    assert not other.exists()


def test_a_state_that_is_no_text_is_broken(tmp_path: Path) -> None:
    checkpoint(tmp_path, 5)
    broken = checkpoint(tmp_path, 10)
    (broken / "trainer_state.json").write_bytes(b"\xff\xfe{}")
    assert last_checkpoint(tmp_path)[0] == tmp_path / "checkpoint-5"
    assert not broken.exists()


def test_broken_ones_alone_are_none(tmp_path: Path) -> None:
    checkpoint(tmp_path, 10, "")
    assert last_checkpoint(tmp_path) == (None, 0.0)
    assert not list(tmp_path.iterdir())


def test_nothing_is_none(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) == (None, 0.0)
    assert last_checkpoint(tmp_path / "nowhere") == (None, 0.0)


def test_what_is_no_checkpoint_is_left_alone(tmp_path: Path) -> None:
    checkpoint(tmp_path, 5)
    for name in ("checkpoint-best", "checkpoint-", "checkpoint-7.tmp", "runs"):
        (tmp_path / name).mkdir()
    assert last_checkpoint(tmp_path) == (tmp_path / "checkpoint-5", 7.5)
    assert len(list(tmp_path.iterdir())) == 5


def test_the_state_is_the_last_thing_that_transformers_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a whole checkpoint is told by; another order would make half a checkpoint pass for a whole one."""
    torch = pytest.importorskip("torch")
    from transformers import Trainer, TrainingArguments

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x: Any) -> dict[str, Any]:
            return {"loss": (self.weight * x).sum()}

    written: list[str] = []
    args = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        save_steps=2,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    items = [{"x": torch.ones(1)}] * 16
    trainer = Trainer(model=Model(), args=args, train_dataset=items, callbacks=[Clock(None, None)])
    monkeypatch.setattr(trainer, "evaluate", lambda **_: {})
    original = TrainerState.save_to_json

    def save(self: TrainerState, path: str) -> None:
        written.extend(sorted(file.name for file in Path(path).parent.iterdir()))
        original(self, path)

    monkeypatch.setattr(TrainerState, "save_to_json", save)
    trainer.train()
    folder = tmp_path / "checkpoint-2"
    assert sorted([*written, "trainer_state.json"]) == sorted(file.name for file in folder.iterdir())
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth"} <= set(written)
    found, elapsed = last_checkpoint(tmp_path)
    assert found == folder
    assert 0 <= elapsed < 60


# The disk.


def test_a_disk_that_is_too_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(total=10**12, used=0, free=5 * 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    check_disk(tmp_path, 5 * 10**9)
    with pytest.raises(TrainingError, match=r"has 5\.0 GB free, and checkpoints will need 7\.2 GB") as error:
        check_disk(tmp_path, 7_200_000_000)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_disk_with_room(tmp_path: Path) -> None:
    check_disk(tmp_path, 0)
    with pytest.raises(TrainingError):
        check_disk(tmp_path, 10**30)
    assert math.isfinite(shutil.disk_usage(tmp_path).free)
